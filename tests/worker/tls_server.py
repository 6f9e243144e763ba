"""An HTTPS server on loopback for the files of a directory: CERTIFICATE KEY DIRECTORY.

Prints its port when it is ready, and ends with its standard input.
"""

import functools
import http.server
import ssl
import sys
import threading

certificate, key, directory = sys.argv[1:]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


handler = functools.partial(Quiet, directory=directory)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(
    server.socket, server_side=True, do_handshake_on_connect=False
)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
