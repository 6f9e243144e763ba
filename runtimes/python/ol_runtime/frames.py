"""The stream of frames between this process and the worker.

A frame is eight bytes (length, kind, flags, zero) and a payload; the worker's side of this is the
`wire` room, which also tells which frame may follow which. The worker is trusted: frames are taken
as they come. Heads are texts joined by NUL.
"""

import mmap
import _socket
from _struct import Struct

CALL = 0x01
BODY = 0x02
CANCEL = 0x03
ANSWER = 0x81
DATA = 0x82
FAILURE = 0x83
IDLE = 0x84

LAST = 1
BUSY = 2
TAINTED = 4

FUNCTION_ERROR = 1
BAD_EVENT = 2
IMPORT_FAILED = 3
ENTRY_MISSING = 4

HEADER = Struct("<IBBH")
CALL_PREFIX = Struct("<IBBHII")
CALL_FIXED = Struct("<II")
ANSWER_PREFIX = Struct("<IBBHIHH")
FAILURE_PREFIX = Struct("<IBBHHHI")

HEADER_BYTES = 8
# Holds the usual call, and a body frame of the usual length, in one receive.
BUFFER_BYTES = 160 << 10
# Straight from the kernel: pages that are never written to cost nothing, not even a zero.
BUFFER_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
# What is put into one body frame.
BODY_BYTES = 64 << 10
# Up to here copying head and body together is cheaper than sending them from where they are.
JOIN_BYTES = 16 << 10
ANSWER_HEAD_BYTES_MAX = 64 << 10
ANSWER_HEADERS_MAX = 256
DETAIL_BYTES_MAX = 4 << 10
TRACEBACK_BYTES_MAX = 48 << 10

PEEK = _socket.MSG_PEEK | _socket.MSG_DONTWAIT


class WorkerGone(Exception):
    """The other end is closed: there is nobody to serve."""


class BadAnswer(ValueError):
    """The function answers what HTTP cannot carry."""


def join_head(status, headers):
    """Names and values of an answer's head as they travel. Raises BadAnswer."""
    if not 200 <= status <= 999:
        raise BadAnswer("status %d is not one of a final answer (200 to 999)" % status)
    if not headers:
        return b""
    head = b"\0".join([text for header in headers for text in header])
    separators = 2 * len(headers) - 1
    if head.count(b"\0") != separators or b"\n" in head or b"\r" in head:
        raise BadAnswer("a header holds a line end or a NUL")
    if len(head) > ANSWER_HEAD_BYTES_MAX or len(headers) > ANSWER_HEADERS_MAX:
        raise BadAnswer(
            "the headers are more than %d bytes or %d lines"
            % (ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX)
        )
    return head


def failure_frame(code, detail, traceback, tainted=False):
    """A failure; texts too long are cut, the traceback at its beginning."""
    detail = detail.encode("utf-8", "backslashreplace")[:DETAIL_BYTES_MAX]
    detail = detail.decode("utf-8", "ignore").encode()
    traceback = traceback.encode("utf-8", "backslashreplace")
    if len(traceback) > TRACEBACK_BYTES_MAX:
        traceback = traceback[-TRACEBACK_BYTES_MAX:].decode("utf-8", "ignore").encode()
    length = FAILURE_PREFIX.size - HEADER_BYTES + len(detail) + len(traceback)
    flags = TAINTED if tainted else 0
    prefix = FAILURE_PREFIX.pack(length, FAILURE, flags, 0, code, 0, len(detail))
    return prefix + detail + traceback


class Call:
    """One call: its head, taken apart when somebody asks, and the way to its body."""

    __slots__ = ("budget_ms", "head", "first", "complete", "_fields")

    def __init__(self, budget_ms, head, first, complete):
        self.budget_ms = budget_ms
        self.head = head
        # The first bytes of the body; all of it when `complete`.
        self.first = first
        self.complete = complete
        self._fields = None

    @property
    def fields(self):
        """Call id, function, start, protocol, method, script name, path, query, client, server,
        then name and value of each header."""
        if self._fields is None:
            self._fields = self.head.decode("latin-1").split("\0")
        return self._fields

    @property
    def method(self):
        return self.fields[4]

    @property
    def headers(self):
        """Pairs of name (lower case) and value."""
        fields = self.fields
        return list(zip(fields[10::2], fields[11::2]))


def call_of(payload, flags):
    head_bytes, budget_ms = CALL_FIXED.unpack_from(payload)
    body_start = CALL_FIXED.size + head_bytes
    head = payload[CALL_FIXED.size : body_start]
    return Call(budget_ms, head, payload[body_start:], flags & LAST)


def unquote(text):
    """Percent-decoding of a path, as a latin-1 text: one character for each byte."""
    if "%" not in text:
        return text
    first, *parts = text.split("%")
    decoded = [first]
    for part in parts:
        try:
            decoded.append(chr(int(part[:2], 16)) if part[:2].isalnum() else "%" + part[:2])
        except ValueError:
            decoded.append("%" + part[:2])
        decoded.append(part[2:])
    return "".join(decoded)


class Connection:
    """The instance's end of the stream, blocking."""

    def __init__(self, descriptor):
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
        self.set_buffer(BUFFER_BYTES)
        # The call whose body may still be arriving.
        self.body_open = False
        self.cancelled = False

    def set_buffer(self, length):
        """A new buffer with nothing in it."""
        self.view = memoryview(mmap.mmap(-1, length, flags=BUFFER_FLAGS))
        self.start = 0
        self.end = 0

    def close(self):
        self.socket.close()

    def check(self):
        """Raises OSError when the descriptor is not our socket any more."""
        self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE)

    # Reading

    def receive_some(self):
        """Takes what has arrived; false when the worker has hung up."""
        if self.start == self.end:
            # The usual case: nothing is left over, and one receive brings one whole frame.
            self.start = 0
            self.end = self.socket.recv_into(self.view)
            return self.end
        received = self.socket.recv_into(self.view[self.end :])
        self.end += received
        return received

    def take_frame(self):
        """Kind, flags and a copy of the payload of the next frame, if it is here to its end."""
        start = self.start
        have = self.end - start
        if have < HEADER_BYTES:
            if have:
                self._make_room(HEADER_BYTES)
            return None
        length, kind, flags, _ = HEADER.unpack_from(self.view, start)
        length += HEADER_BYTES
        if have < length:
            self._make_room(length)
            return None
        end = self.start = start + length
        payload = bytes(self.view[start + HEADER_BYTES : end])
        if len(self.view) > BUFFER_BYTES and end == self.end:
            self.set_buffer(BUFFER_BYTES)
        return kind, flags, payload

    def _make_room(self, length):
        """Lets a frame of this length lie in the buffer as a whole."""
        if self.start + length <= len(self.view):
            return
        kept = bytes(self.view[self.start : self.end])
        if length > len(self.view):
            self.set_buffer(length)
        self.start, self.end = 0, len(kept)
        self.view[: self.end] = kept

    def read_frame(self):
        """The next frame, waited for."""
        frame = self.take_frame() if self.start != self.end else None
        while frame is None:
            if not self.receive_some():
                raise WorkerGone
            frame = self.take_frame()
        return frame

    def read_call(self):
        """The next call. What is left of the call before (its body, a cancel) is dropped."""
        self.cancelled = False
        call = self._read_small_call() if self.start == self.end else None
        while call is None:
            kind, flags, payload = self.read_frame()
            if kind == CALL:
                call = call_of(payload, flags)
        self.body_open = not call.complete
        return call

    def _read_small_call(self):
        """The usual case, as fast as can be: one receive brings one frame, the next call."""
        received = self.receive_some()
        if not received:
            raise WorkerGone
        view = self.view
        length, kind, flags, _, head_bytes, budget_ms = CALL_PREFIX.unpack_from(view)
        if kind != CALL or received != length + HEADER_BYTES:
            return None
        self.start = received
        body_start = CALL_PREFIX.size + head_bytes
        head = bytes(view[CALL_PREFIX.size : body_start])
        return Call(budget_ms, head, bytes(view[body_start:received]), flags & LAST)

    def read_body(self):
        """The next bytes of the body; empty when it is over, also when it was cut off."""
        while self.body_open:
            kind, flags, payload = self.read_frame()
            if kind == CANCEL:
                self.cancelled = True
                self.body_open = False
                return b""
            self.body_open = not flags & LAST
            if payload:
                return payload
        return b""

    def whole_body(self, call):
        if call.complete:
            return call.first
        pieces = [call.first]
        while True:
            piece = self.read_body()
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def is_cancelled(self):
        """Whether nobody waits for the answer any more, as far as can be seen without waiting.

        While the body is still arriving a cancel may lie behind it unseen.
        """
        if not self.cancelled and not self.body_open:
            # Calls are never pipelined: with the body done only a cancel can be here, or the end.
            if self.start == self.end:
                try:
                    self.socket.recv(1, PEEK)
                except BlockingIOError:
                    return False
            self.cancelled = True
        return self.cancelled

    # Writing

    def send(self, frame):
        self.socket.sendall(frame)

    def send_parts(self, header, payload):
        """One frame whose payload is sent from where it is."""
        sent = self.socket.sendmsg((header, payload))
        if sent == len(header) + len(payload):
            return
        if sent < len(header):
            self.socket.sendall(header[sent:])
            sent = len(header)
        self.socket.sendall(memoryview(payload)[sent - len(header) :])

    def answer(self, status, head, body=b"", flags=LAST):
        """The head of an answer with the first bytes of its body."""
        rest = None
        if len(body) > BODY_BYTES:
            rest = memoryview(body)[BODY_BYTES:]
            body = memoryview(body)[:BODY_BYTES]
        prefix = ANSWER_PREFIX.pack(
            8 + len(head) + len(body),
            ANSWER,
            flags if rest is None else 0,
            0,
            len(head),
            status,
            0,
        )
        if len(body) <= JOIN_BYTES:
            self.socket.sendall(b"".join((prefix, head, body)))
        else:
            self.send_parts(prefix + head, body)
        if rest is not None:
            self.data(rest, flags)

    def data(self, body, flags=0):
        """More of the body, or its end; any length."""
        start = 0
        length = len(body)
        while length - start > BODY_BYTES:
            piece = memoryview(body)[start : start + BODY_BYTES]
            self.send_parts(HEADER.pack(BODY_BYTES, DATA, 0, 0), piece)
            start += BODY_BYTES
        header = HEADER.pack(length - start, DATA, flags, 0)
        if start == length:
            self.socket.sendall(header)
        else:
            self.send_parts(header, memoryview(body)[start:])

    def failure(self, code, detail, traceback="", tainted=False):
        self.socket.sendall(failure_frame(code, detail, traceback, tainted))

    def idle(self, tainted=False):
        """User code that went on after the last frame of its answer is done."""
        self.socket.sendall(HEADER.pack(0, IDLE, TAINTED if tainted else 0, 0))
