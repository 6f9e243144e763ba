"""A zygote: an interpreter that imports packages once and is then forked from.

    started --import--> serving --fork--> (still serving)
                           |        \\--> an instance, or the zygote of another node
                           \\--worker hangs up--> gone

The loop that takes requests and forks is native code, `ol_zygote_serve`: it comes back to Python
only when there is something to import, or in a child. Python dirties nothing between two forks.
"""

import gc
import os
import sys
from ctypes import PyDLL, byref, c_char_p, c_size_t, create_string_buffer
from time import perf_counter_ns

from . import context, failure, instance, plain, uniqueness, wsgi

# What children need is imported here, once.
PRELOADED = (context, plain, wsgi)

LIBRARY = "/proc/self/fd/4"
TEXT_BYTES_MAX = 64 << 10
FAILED = 1

# What `ol_zygote_serve` answers.
END = 0
INSTANCE = 1
IMPORT = 2

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
    library.ol_zygote_imported.argtypes = (c_char_p, c_size_t)
    library.ol_zygote_import_failed.argtypes = (c_char_p, c_size_t, c_char_p, c_size_t)
    text = create_string_buffer(TEXT_BYTES_MAX)
    length = c_size_t()
    for name in SINGLE_THREAD:
        os.environ[name] = "1"
    gc.disable()
    while True:
        instance.flush()
        work = library.ol_zygote_serve(text, c_size_t(TEXT_BYTES_MAX), byref(length))
        if work == INSTANCE:
            become_instance(text.raw[: length.value])
        elif work == IMPORT:
            import_asked(library, text.raw[: length.value])
        else:
            os._exit(-work if work < 0 else END)


def become_instance(environment):
    """In the child, with everything of the sandbox done."""
    settle_environment(environment)
    uniqueness.renew()
    gc.enable()
    instance.run()


def settle_environment(joined):
    """The instance sees what the worker gave it and nothing of the zygote."""
    os.environ.clear()
    if joined:
        for setting in joined.split(b"\0"):
            name, _, value = setting.partition(b"=")
            os.environ[os.fsdecode(name)] = os.fsdecode(value)


def import_asked(library, text):
    """Imports modules and tells the worker what each took, or ends with the first that fails."""
    modules, _, paths = text.partition(b"\0\0")
    modules = [name.decode() for name in modules.split(b"\0") if name]
    for path in reversed([os.fsdecode(path) for path in paths.split(b"\0") if path]):
        if path not in sys.path:
            sys.path.insert(0, path)
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
    instance.flush()
    # What lives now stays, and stays out of every child's collections: they would write to it.
    gc.collect()
    gc.freeze()
    joined = "\0".join(told).encode()
    if library.ol_zygote_imported(joined, len(joined)) < 0:
        os._exit(FAILED)
