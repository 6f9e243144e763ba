"""app(environ, start_response), PEP 3333.

The head leaves with the first bytes of the body; the body is over when as many bytes have gone as
Content-Length said, or when the iterable ends. What comes after (its rest, its close()) runs while
the client already has its answer.
"""

import io
import sys

from . import failure, frames
from .frames import unquote

# The environ key of each header name met; bounded because clients choose the names.
KEYS = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
KEYS_MAX = 512

EMPTY_STATUSES = (204, 304)


def server(connection, seen, app):
    """What answers a call by calling `app`."""

    def answer(call):
        exchange = Exchange(connection, call.method == "HEAD")
        environ = make_environ(call, connection)
        seen()
        result = None
        try:
            result = app(environ, exchange.start_response)
            exchange.send_all(result)
        except BaseException as error:
            exchange.fail(error)
        exchange.end(result)

    return answer


class Exchange:
    """The answer to one call.

    waiting --start_response--> started --first bytes--> sending --last bytes--> sent
                                                    any --exception--> failed
    """

    def __init__(self, connection, is_head):
        self.connection = connection
        self.is_head = is_head
        self.status = None
        self.head = None
        # Bytes still to be sent by the word of Content-Length; None when it is not given.
        self.remaining = None
        self.head_sent = False
        self.over = False
        # The last frame promised an idle frame.
        self.busy = False

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.head is not None:
            raise AssertionError("start_response was called twice without exc_info")
        code = status[:3]
        if len(code) != 3 or not code.isdigit() or status[3:4] not in ("", " "):
            raise ValueError("%r is no status" % (status,))
        self.status = int(code)
        self.remaining = None
        encoded = []
        for name, value in headers:
            name = name.lower()
            if name == "content-length":
                self.remaining = int(value)
            encoded.append((name.encode("latin-1"), value.encode("latin-1")))
        self.head = frames.join_head(self.status, encoded)
        if self.is_head or self.status in EMPTY_STATUSES:
            self.remaining = 0
        return self.write

    def write(self, data):
        """Sends data, and before the first data the head. All of it may be the last."""
        if not isinstance(data, bytes):
            raise TypeError("the application must give bytes, not %s" % type(data).__name__)
        if self.head is None:
            raise AssertionError("data was written before start_response was called")
        if not data or self.over:
            return
        last = False
        if self.remaining is not None:
            data = data[: self.remaining]
            self.remaining -= len(data)
            last = self.remaining == 0
        self.emit(data, last, busy=last)

    def emit(self, data, last, busy):
        flags = (frames.LAST if last else 0) | (frames.BUSY if busy else 0)
        self.over = last
        self.busy = busy
        if self.head_sent:
            self.connection.data(data, flags)
        else:
            self.head_sent = True
            self.connection.answer(self.status, self.head, data, flags)

    def send_all(self, result):
        if type(result) in (list, tuple):
            # No code is behind it: joined, and the end of it is the end of the call.
            data = result[0] if len(result) == 1 else b"".join(result)
            if not isinstance(data, bytes):
                return self.write(data)
            if self.head is None:
                raise AssertionError("the application returned without calling start_response")
            if self.remaining is not None:
                data = data[: self.remaining]
            if not self.over:
                self.emit(data, last=True, busy=False)
            return
        for data in result:
            if self.head_sent and not self.over and self.connection.is_cancelled():
                break
            self.write(data)
        if self.head is None:
            raise AssertionError("the application returned without calling start_response")
        if not self.over:
            self.emit(b"", last=True, busy=hasattr(result, "close"))

    def fail(self, error):
        """User code raised. Only what the client does not have yet can become an error."""
        text = failure.traceback_text(error)
        failure.log(text)
        if not self.over:
            self.over = True
            detail = failure.describe(error)
            self.connection.failure(frames.FUNCTION_ERROR, detail, text)

    def end(self, result):
        """close() must be called, whatever has happened."""
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:
                failure.log_error("close() of the application's iterable", error)
        if self.busy:
            self.connection.idle()


def make_environ(call, connection):
    fields = call.fields
    environ = {
        "REQUEST_METHOD": fields[4],
        "SCRIPT_NAME": unquote(fields[5]),
        "PATH_INFO": unquote(fields[6]) or "/",
        "QUERY_STRING": fields[7],
        "SERVER_PROTOCOL": fields[3],
        "SERVER_SOFTWARE": "olworker",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": (
            io.BytesIO(call.first)
            if call.complete
            else io.BufferedReader(Input(connection, call.first), frames.BODY_BYTES)
        ),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "olworker.call_id": fields[0],
        "olworker.function": fields[1],
    }
    for name, value in call.headers:
        key = KEYS.get(name) or environ_key(name)
        if key is None:
            continue
        if key in environ:
            value = environ[key] + ("; " if name == "cookie" else ",") + value
        environ[key] = value
    set_addresses(environ, fields[8], fields[9])
    return environ


def environ_key(name):
    """None for a name with an underscore: it would pass for the one with a hyphen."""
    if "_" in name:
        return None
    key = "HTTP_" + name.upper().replace("-", "_")
    if len(KEYS) < KEYS_MAX:
        KEYS[name] = key
    return key


def set_addresses(environ, client, server):
    address, _, port = client.rpartition(":")
    environ["REMOTE_ADDR"] = address.strip("[]")
    if port:
        environ["REMOTE_PORT"] = port
    name, _, port = (server or environ.get("HTTP_HOST", "")).rpartition(":")
    if not port.isdigit():
        name, port = environ.get("HTTP_HOST", ""), "80"
    environ["SERVER_NAME"] = name.strip("[]") or "localhost"
    environ["SERVER_PORT"] = port


class Input(io.RawIOBase):
    """A body that is still arriving."""

    def __init__(self, connection, first):
        self._connection = connection
        self._piece = memoryview(first)

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._piece:
            self._piece = memoryview(self._connection.read_body())
            if self._connection.cancelled:
                raise ConnectionError("the client went away before the body was complete")
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


class FileWrapper:
    """Iterates over a file in blocks."""

    def __init__(self, file, block_bytes=frames.BODY_BYTES):
        self.file = file
        self.block_bytes = block_bytes
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.file.read(self.block_bytes)
        if not data:
            raise StopIteration
        return data
