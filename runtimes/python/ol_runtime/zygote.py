"""A zygote: an interpreter that imports packages once and is then forked from.

    started --import--> serving --fork--> (still serving)
                           |        \\--> an instance, or the zygote of another node
                           |         \\-> a standby --ordered--> an instance
                           \\--worker hangs up--> gone

The loop that takes requests and forks is native code, `ol_zygote_serve`: it comes back to Python
only when there is something to import, or in a child. Python dirties nothing between two forks.
"""

import _socket
import gc
import os
import posix
import sys
from ctypes import PyDLL, byref, c_char_p, c_size_t, c_uint32, create_string_buffer
from time import perf_counter_ns

from . import context, failure, forkhooks, frames, instance, plain, rehearsal, uniqueness, wsgi
from . import paths as pth

# What children need is imported here, once.
PRELOADED = (context, plain, wsgi)

LIBRARY = "/proc/self/fd/4"
TEXT_BYTES_MAX = 64 << 10
FAILED = 1

# What `ol_zygote_serve` answers.
END = 0
INSTANCE = 1
IMPORT = 2
STANDBY = 3

# Thread pools would make a zygote impossible to fork.
SINGLE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def run(library_path=LIBRARY):
    """Serves until the worker hangs up, or comes back as an instance. Does not return."""
    # PyDLL keeps the interpreter's lock, so that a child comes back holding it.
    library = PyDLL(library_path)
    library.ol_zygote_begin()
    library.ol_zygote_imported.argtypes = (c_char_p, c_size_t)
    library.ol_zygote_import_failed.argtypes = (c_char_p, c_size_t, c_char_p, c_size_t)
    library.ol_zygote_renew.argtypes = (c_size_t, c_size_t, c_size_t, c_uint32)
    text = create_string_buffer(TEXT_BYTES_MAX)
    capacity = c_size_t(TEXT_BYTES_MAX)
    length = c_size_t()
    hooks = forkhooks.Hooks()
    hooks.take_over()
    gc.disable()
    environment = dict(os.environ)
    instance.settle_streams()
    instance.settle_main()
    # The object for a descriptor that will be another in each child.
    instance.move_away(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM).detach())
    connection = frames.Connection(instance.CONNECTION_KEPT)
    while True:
        instance.flush()
        work = library.ol_zygote_serve(text, capacity, byref(length))
        if work == INSTANCE:
            hooks.at_births = False
            become_instance(connection, text[: length.value])
        elif work == IMPORT:
            os.environ.update(environment)
            import_asked(library, hooks, text[: length.value])
        elif work == STANDBY:
            # The pages that a child writes to are copied now, while nobody waits.
            rehearsal.rehearse(settle_environment, rounds=1)
        else:
            os._exit(-work if work < 0 else END)


def become_instance(connection, environment):
    """In the child, with everything of the sandbox done."""
    instance.move_away(instance.CONNECTION)
    settings = settle_environment(environment)
    forkhooks.settle_main_thread()
    uniqueness.renew()
    gc.enable()
    instance.run(connection, instance.SEEN, settings)


def settle_environment(joined):
    """The instance sees what the worker gave it and nothing of the zygote. Returns that."""
    # os.environ keeps bytes in a dict; through its own methods this would take twice as long.
    environ = os.environ._data
    for name in environ:
        posix.unsetenv(name)
    environ.clear()
    settings = {}
    if joined:
        for setting in joined.split(b"\0"):
            name, _, value = setting.partition(b"=")
            environ[name] = value
            posix.putenv(name, value)
            settings[name.decode("utf-8", "surrogateescape")] = value.decode(
                "utf-8", "surrogateescape"
            )
    return settings


def import_asked(library, hooks, text):
    """Imports modules and tells the worker what each took, or ends with the first that fails."""
    modules, _, paths = text.partition(b"\0\0")
    modules = [name.decode() for name in modules.split(b"\0") if name]
    directories = [os.fsdecode(path) for path in paths.split(b"\0") if path]
    for path in reversed(directories):
        if path not in sys.path:
            sys.path.insert(0, path)
    for name in SINGLE_THREAD:
        os.environ[name] = "1"
    for path in directories:
        pth.process(path)
    told = []
    for name in modules:
        started_ns = perf_counter_ns()
        try:
            __import__(name)
        except BaseException as error:
            last_lines = failure.traceback_text(error).encode("utf-8", "backslashreplace")
            name = name.encode()
            library.ol_zygote_import_failed(name, len(name), last_lines, len(last_lines))
            instance.flush()
            os._exit(FAILED)
        told += [name, str((perf_counter_ns() - started_ns) // 1000)]
    # Children have nothing to take out of it, then.
    os.environ.clear()
    hooks.leave_out(uniqueness.prepare(library.ol_zygote_renew))
    rehearsal.rehearse(settle_environment)
    instance.forget_directories()
    # What lives now stays, and stays out of every child's collections: they would write to it.
    gc.collect()
    gc.freeze()
    joined = "\0".join(told).encode()
    if library.ol_zygote_imported(joined, len(joined)) < 0:
        os._exit(FAILED)
