"""A server of S3 on loopback that wants signed requests, for the test that starts it.

Prints one line of JSON when it is ready: its address and who may read. Then each line of standard
input is a key, a text, and how many objects: one of that key, or several whose keys are counted at
its `#`. Each is answered with a line.
"""

import json
import sys

import boto3
from moto import settings
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
address = "http://%s:%d" % (host, port)


def ask_signatures(wanted):
    """From now on, or no more."""
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if wanted else float("inf")


options = {
    "endpoint_url": address,
    "region_name": "us-east-1",
    "aws_access_key_id": "setup",
    "aws_secret_access_key": "setup",
}
s3, iam = boto3.client("s3", **options), boto3.client("iam", **options)
s3.create_bucket(Bucket="code")
iam.create_user(UserName="reader")
key = iam.create_access_key(UserName="reader")["AccessKey"]
allowed = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
ask_signatures(True)
print(json.dumps([address, key["AccessKeyId"], key["SecretAccessKey"]]), flush=True)
for line in sys.stdin:
    name, text, count = json.loads(line)
    ask_signatures(False)
    for number in range(count):
        s3.put_object(Bucket="code", Key=name.replace("#", str(number)), Body=text.encode())
    ask_signatures(True)
    print("put", flush=True)
