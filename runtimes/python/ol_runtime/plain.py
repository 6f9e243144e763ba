"""f(event) and f(event, context): JSON in, JSON out.

A coroutine is awaited, a generator (or any other iterator, also an asynchronous one) is streamed:
texts and bytes as they are, everything else as one line of JSON each.
"""

from . import failure, frames, jsontext
from .context import Context
from .handler import wants_context

JSON_HEAD = b"content-type\0application/json"


def server(connection, seen, function):
    """What answers a call by calling `function`."""
    give_context = wants_context(function)
    decode = jsontext.decode
    encode = jsontext.encode
    runner = Runner()

    def answer(call):
        body = call.first if call.complete else connection.whole_body(call)
        try:
            event = decode(body) if body else {}
        except (ValueError, RecursionError) as error:
            return connection.failure(frames.BAD_EVENT, bad_event(error))
        if connection.cancelled:
            return connection.failure(frames.BAD_EVENT, "the body was cut off")
        context = Context(call) if give_context else None
        seen()
        try:
            result = function(event, context) if give_context else function(event)
            if hasattr(result, "__await__"):
                result = runner.run(result)
        except BaseException as error:
            return function_error(connection, error)
        try:
            text = encode(result)
        except BaseException as error:
            if is_stream(result):
                return stream(connection, call, result, runner)
            return function_error(connection, error, "returned what is no JSON: ")
        if len(text) <= frames.BODY_BYTES:
            return connection.answer(200, JSON_HEAD, text.encode())
        send_long(connection, text)

    return answer


def bad_event(error):
    return "the body is no JSON: %s (send JSON, or nothing for {})" % failure.describe(error)


def function_error(connection, error, what=""):
    """Tells the worker and the function's log."""
    text = failure.traceback_text(error)
    failure.log(text)
    detail = what + failure.describe(error)
    connection.failure(frames.FUNCTION_ERROR, detail, text)


def send_long(connection, text):
    """A result too long for one frame, encoded piece by piece. JSON is ASCII here."""
    head = b"%s\0content-length\0%d" % (JSON_HEAD, len(text))
    connection.answer(200, head, flags=0)
    for start in range(0, len(text), frames.BODY_BYTES):
        connection.data(text[start : start + frames.BODY_BYTES].encode())
    connection.data(b"", frames.LAST)


def is_stream(result):
    return hasattr(type(result), "__next__") or hasattr(type(result), "__anext__")


def stream(connection, call, result, runner):
    """Sends pieces as they are made."""
    started = False
    try:
        for piece in runner.iterate(result):
            kind, data = encode_piece(piece)
            if not data:
                continue
            if not started:
                started = True
                if call.method == "HEAD":
                    break
                connection.answer(200, b"content-type\0" + kind, data, flags=0)
            elif connection.is_cancelled():
                break
            else:
                connection.data(data)
    except BaseException as error:
        return function_error(connection, error)
    finally:
        close(result, runner)
    if started and call.method != "HEAD":
        connection.data(b"", frames.LAST)
    else:
        connection.answer(200, b"")


def encode_piece(piece):
    if isinstance(piece, str):
        return b"text/plain; charset=utf-8", piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return b"application/octet-stream", piece
    return b"application/x-ndjson", jsontext.encode(piece).encode() + b"\n"


def close(result, runner):
    """Lets a generator that was not exhausted clean up."""
    try:
        if hasattr(result, "aclose"):
            runner.run(result.aclose())
        elif hasattr(result, "close"):
            result.close()
    except BaseException as error:
        failure.log_error("closing the generator", error)


class Runner:
    """An event loop for coroutines, made when the first one comes."""

    def __init__(self):
        self._loop = None

    def run(self, awaitable):
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(as_coroutine(awaitable))

    def iterate(self, result):
        if hasattr(type(result), "__next__"):
            yield from result
            return
        while True:
            try:
                piece = self.run(result.__anext__())
            except StopAsyncIteration:
                return
            yield piece


async def as_coroutine(awaitable):
    return await awaitable
