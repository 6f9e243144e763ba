"""app(scope, receive, send), ASGI 3 over HTTP, with lifespan.

One event loop runs from the import of the application to the end of the instance, so that tasks an
application leaves behind go on (until the instance is frozen or ended for want of calls). The
connection is one of the loop's descriptors.

A call is over when the application returns. If its answer is complete before that, the last frame
says that an idle frame follows; the last frame is held back until the next turn of the loop, so
that an application which returns at once costs one frame.
"""

import asyncio
from collections import deque

from . import failure, frames
from .frames import HEADER_BYTES, unquote

# Body bytes taken in ahead of the application; the rest waits in the socket.
AHEAD_BYTES_MAX = 256 << 10
# Answer bytes the socket did not take yet, above which send() waits.
BEHIND_BYTES_MAX = 256 << 10
# How long lifespan.shutdown may take once the worker has hung up.
SHUTDOWN_SEC = 5

ASGI_VERSION = {"version": "3.0", "spec_version": "2.3"}


class StartupFailed(Exception):
    """The application answered lifespan.startup with lifespan.startup.failed."""


def start(app):
    """The loop with the application's lifespan begun. Raises StartupFailed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    lifespan = Lifespan(app, loop)
    loop.run_until_complete(lifespan.startup())
    return Server(loop, lifespan, app)


class Lifespan:
    """The application's own beginning and end. One that does not know of them has none."""

    def __init__(self, app, loop):
        self.app = app
        self.loop = loop
        self.state = {}
        self.task = None
        self.startup_told = False
        self.started = loop.create_future()
        self.ending = loop.create_future()
        self.ended = loop.create_future()

    async def startup(self):
        self.task = self.loop.create_task(self.run())
        message = await self.started
        if message is not None:
            raise StartupFailed(message)

    async def run(self):
        scope = {"type": "lifespan", "asgi": ASGI_VERSION, "state": self.state}
        try:
            await self.app(scope, self.receive, self.send)
        except BaseException as error:
            # By the specification: an exception before an answer means "not supported".
            if self.started.done() and not self.ended.done():
                failure.log_error("lifespan of the application", error)
        finally:
            self.settle(self.started, None)
            self.settle(self.ended, None)

    async def receive(self):
        if not self.startup_told:
            self.startup_told = True
            return {"type": "lifespan.startup"}
        await self.ending
        return {"type": "lifespan.shutdown"}

    async def send(self, message):
        kind = message["type"]
        text = message.get("message", "")
        if kind == "lifespan.startup.complete":
            self.settle(self.started, None)
        elif kind == "lifespan.startup.failed":
            self.settle(self.started, text or "the application's startup failed")
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if text:
                failure.log("lifespan.shutdown: %s\n" % text)
            self.settle(self.ended, None)
        else:
            raise ValueError("%r is no message of a lifespan" % kind)

    @staticmethod
    def settle(future, result):
        if not future.done():
            future.set_result(result)

    async def shutdown(self):
        if self.task.done():
            return
        self.settle(self.ending, None)
        await asyncio.wait([self.ended], timeout=SHUTDOWN_SEC)


class Server:
    """The connection as a descriptor of the loop, and the one call that may be under way."""

    def __init__(self, loop, lifespan, app):
        self.loop = loop
        self.lifespan = lifespan
        self.app = app
        self.connection = None
        self.socket = None
        self.seen = None
        self.after_call = None
        self.exchange = None
        self.reading = False
        self.hung_up = False
        self.broken = None
        # Bytes the socket did not take, and who waits for them to go.
        self.behind = bytearray()
        self.drained = None

    def serve(self, connection, seen, after_call):
        """Serves calls until the worker hangs up."""
        self.connection = connection
        self.socket = connection.socket
        self.socket.setblocking(False)
        self.seen = seen
        self.after_call = after_call
        self.resume_reading()
        while not self.hung_up:
            try:
                self.loop.run_forever()
            except BaseException as error:
                # An exit or an interrupt out of a task or a signal handler of the application.
                failure.log_error("the application's event loop", error)
        if self.broken is not None:
            raise self.broken
        self.loop.run_until_complete(self.lifespan.shutdown())

    # Reading

    def resume_reading(self):
        if not self.reading and not self.hung_up:
            self.reading = True
            self.loop.add_reader(self.socket, self.on_readable)

    def pause_reading(self):
        if self.reading:
            self.reading = False
            self.loop.remove_reader(self.socket)

    def on_readable(self):
        connection = self.connection
        try:
            more = connection.receive_some()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            return self.hang_up(error)
        if not more:
            return self.hang_up()
        frame = connection.take_frame()
        while frame is not None:
            self.on_frame(*frame)
            frame = connection.take_frame()

    def on_frame(self, kind, flags, payload):
        exchange = self.exchange
        if kind == frames.CALL:
            self.exchange = exchange = Exchange(self, frames.call_of(payload, flags))
            self.seen()
            exchange.task = self.loop.create_task(exchange.run(self.app))
        elif exchange is None:
            # What is left of the call before.
            return
        elif kind == frames.BODY:
            exchange.on_body(payload, flags & frames.LAST)
        elif kind == frames.CANCEL:
            exchange.on_disconnect()

    def hang_up(self, error=None):
        self.pause_reading()
        self.hung_up = True
        self.broken = error
        if self.exchange is not None:
            self.exchange.on_disconnect()
        self.loop.stop()

    # Writing

    def send(self, frame):
        if not self.behind:
            try:
                sent = self.socket.send(frame)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                return self.hang_up(error)
            if sent == len(frame):
                return
            frame = memoryview(frame)[sent:]
            self.loop.add_writer(self.socket, self.on_writable)
        self.behind += frame

    def on_writable(self):
        try:
            sent = self.socket.send(memoryview(self.behind)[: frames.BODY_BYTES])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.behind.clear()
            self.loop.remove_writer(self.socket)
            return self.hang_up(error)
        del self.behind[:sent]
        if not self.behind:
            self.loop.remove_writer(self.socket)
        if self.drained is not None and len(self.behind) <= BEHIND_BYTES_MAX // 2:
            drained, self.drained = self.drained, None
            Lifespan.settle(drained, None)

    async def drain(self):
        while len(self.behind) > BEHIND_BYTES_MAX and not self.hung_up:
            if self.drained is None:
                self.drained = self.loop.create_future()
            await asyncio.shield(self.drained)

    def finish(self):
        """The call is over: the application has returned and its answer is out."""
        self.exchange = None
        self.resume_reading()
        self.after_call()


class Exchange:
    """One call of the application.

    waiting --response.start--> started --body(more)--> sending --body(last)--> complete
    """

    WAITING, STARTED, SENDING, COMPLETE = range(4)

    def __init__(self, server, call):
        self.server = server
        self.call = call
        self.task = None
        self.pieces = deque([call.first])
        self.pieces_bytes = len(call.first)
        self.body_complete = bool(call.complete)
        self.disconnected = False
        self.arrival = None
        self.state = self.WAITING
        self.status = None
        self.head = None
        self.bodyless = call.method == "HEAD"
        # The last bytes, held back for a turn of the loop.
        self.held = None
        self.busy = False

    async def run(self, app):
        error = None
        try:
            await app(make_scope(self), self.receive, self.send)
        except BaseException as raised:
            error = raised
        self.conclude(error)

    def conclude(self, error):
        if error is None and self.state != self.COMPLETE:
            error = RuntimeError("the application returned before its answer was complete")
        if self.state == self.COMPLETE:
            if error is not None:
                failure.log_error("the application, after its answer", error)
            if self.held is not None:
                self.emit(self.held, frames.LAST)
            elif self.busy:
                self.server.send(frames.HEADER.pack(0, frames.IDLE, 0, 0))
        else:
            text = failure.traceback_text(error)
            failure.log(text)
            detail = failure.describe(error)
            self.server.send(frames.failure_frame(frames.FUNCTION_ERROR, detail, text))
        self.state = self.COMPLETE
        self.held = None
        self.server.finish()

    # From the client

    def on_body(self, payload, last):
        self.body_complete = bool(last)
        self.pieces.append(payload)
        self.pieces_bytes += len(payload)
        if self.pieces_bytes > AHEAD_BYTES_MAX:
            self.server.pause_reading()
        self.wake()

    def on_disconnect(self):
        self.disconnected = True
        self.wake()

    def wake(self):
        if self.arrival is not None:
            Lifespan.settle(self.arrival, None)

    async def receive(self):
        """The body in pieces, then, once there is nothing to wait for, the disconnect."""
        while not self.disconnected and self.state != self.COMPLETE:
            if self.pieces:
                body = self.pieces.popleft()
                self.pieces_bytes -= len(body)
                if self.pieces_bytes <= AHEAD_BYTES_MAX // 2:
                    self.server.resume_reading()
                more = bool(self.pieces) or not self.body_complete
                if body or not more:
                    return {"type": "http.request", "body": body, "more_body": more}
                continue
            if self.arrival is None or self.arrival.done():
                self.arrival = self.server.loop.create_future()
            await asyncio.shield(self.arrival)
        return {"type": "http.disconnect"}

    # To the client

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.start" and self.state == self.WAITING:
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self.status = message["status"]
            self.head = frames.join_head(self.status, headers)
            self.bodyless = self.bodyless or self.status in (204, 304)
            self.state = self.STARTED
        elif kind == "http.response.body" and self.state in (self.STARTED, self.SENDING):
            body = b"" if self.bodyless else message.get("body", b"")
            if len(body) > frames.BODY_BYTES:
                body = await self.emit_long(body)
            if not message.get("more_body", False):
                self.hold(body)
            elif body:
                self.emit(body, 0)
            await self.server.drain()
        elif self.state != self.COMPLETE:
            raise RuntimeError("%r does not belong here" % kind)
        # What comes after a complete answer is ignored, as after a disconnect.

    async def emit_long(self, body):
        """Sends all but the last piece, which is returned."""
        view = memoryview(body)
        start = 0
        while len(view) - start > frames.BODY_BYTES:
            self.emit(view[start : start + frames.BODY_BYTES], 0)
            start += frames.BODY_BYTES
            await self.server.drain()
        return view[start:]

    def hold(self, body):
        self.held = body
        self.state = self.COMPLETE
        self.wake()
        self.server.loop.call_soon(self.flush_held)

    def flush_held(self):
        """The application has not returned at once: the client need not wait for it."""
        if self.held is not None:
            body, self.held = self.held, None
            self.busy = True
            self.emit(body, frames.LAST | frames.BUSY)

    def emit(self, body, flags):
        """One frame: a piece of the body, with the head if that has not gone yet."""
        if self.head is None:
            prefix = frames.HEADER.pack(len(body), frames.DATA, flags, 0)
        else:
            head, self.head = self.head, None
            length = 8 + len(head) + len(body)
            fixed = (length, frames.ANSWER, flags, 0, len(head), self.status, 0)
            prefix = frames.ANSWER_PREFIX.pack(*fixed) + head
            self.state = max(self.state, self.SENDING)
        self.server.send(b"".join((prefix, body)))


def make_scope(exchange):
    fields = exchange.call.fields
    path = unquote(fields[6]) or "/"
    return {
        "type": "http",
        "asgi": ASGI_VERSION,
        "http_version": fields[3].rpartition("/")[2],
        "method": fields[4],
        "scheme": "http",
        "path": path.encode("latin-1").decode("utf-8", "replace"),
        "raw_path": fields[6].encode("latin-1") or b"/",
        "query_string": fields[7].encode("latin-1"),
        "root_path": unquote(fields[5]).encode("latin-1").decode("utf-8", "replace"),
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in exchange.call.headers
        ],
        "client": address(fields[8]),
        "server": address(fields[9]),
        "state": exchange.server.lifespan.state.copy(),
        "extensions": {},
        "olworker.call_id": fields[0],
        "olworker.function": fields[1],
    }


def address(text):
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else None
