"""A zygote's dress rehearsal: the way of a child, gone often enough before the first fork.

CPython rewrites the code it runs until it has settled on the fastest form, and fills caches and
free lists as it goes. Settled in the zygote, that is shared; settled in each child, it costs every
one of them the copies of the pages it is written to.
"""

import _socket
import marshal
import os
import sys

from . import forkhooks, frames, handler, instance, plain, uniqueness

ROUNDS = 40
HEAD = ("id", "f", "zygote", "HTTP/1.1", "POST", "/run/f", "/", "", "", "", "host", "h")


def rehearse(settle_environment, rounds=ROUNDS):
    """Everything but the sandbox and the end."""
    kept = dict(os.environ), sys.path[:], sys.argv
    for _ in range(rounds):
        settings = settle_environment(b"OL_FUNCTION=f\0OL_PACKAGES=/p\0OL_ENTRY_FILE=rehearsed.py")
        forkhooks.settle_main_thread()
        uniqueness.renew()
        instance.settle_paths(settings)
        rehearse_calls(settings)
    os.environ.clear()
    os.environ.update(kept[0])
    sys.path[:], sys.argv = kept[1:]


def rehearse_calls(settings):
    worker, ours = _socket.socketpair()
    connection = frames.Connection(ours.detach())
    seen = instance.Seen(-1)
    seen.phase(instance.IMPORTING)
    rehearse_reading()
    kind, function = handler.load(__file__.rpartition("/")[0], settings)
    del sys.modules[function.__module__]
    answer = plain.server(connection, seen.counter(), function)
    head = "\0".join(HEAD).encode()
    body = b'{"a": [1, "b", null]}'
    length = frames.CALL_FIXED.size + len(head) + len(body)
    prefix = frames.CALL_PREFIX.pack(length, frames.CALL, frames.LAST, 0, len(head), 1000)
    for _ in range(2):
        worker.send(prefix + head + body)
        answer(connection.read_call())
        instance.flush()
        worker.recv(4096)
    connection.close()
    worker.close()


def rehearse_reading():
    """Byte code, as functions have it."""
    code = compile("def f(event):\n    return event\n", "f.py", "exec")
    file = os.memfd_create("rehearsal")
    os.write(file, handler.COMPILED_HEAD + bytes(8) + marshal.dumps(code))
    exec(handler.read_compiled("/proc/self/fd/%d" % file), {})
    os.close(file)
