"""An instance: one process that serves the calls of one function, one at a time.

    born --(settings, descriptors)--> importing --> serving --(worker hangs up)--> gone
                                              \\--> refusing: every call gets the same failure

The process ends when the worker hangs up, when user code ends it, and never because user code
raised something. A child that user code forks and that comes back here ends quietly: the
connection is the parent's.
"""

import mmap
import os
import sys
from time import monotonic_ns

from . import failure, frames, handler, paths

# Where the function's code and its packages are; OL_HANDLER and OL_PACKAGES (with a colon between
# several) say otherwise.
HANDLER_DIRECTORY = "/handler"
PACKAGES_DIRECTORY = "/packages"

# Where the standard library is, as the interpreter found it.
STANDARD_PATH = []

# Where the worker puts the connection and the shared page.
CONNECTION = 3
SEEN = 4
# Where the connection is kept, out of the way of programs that close or reuse the small numbers,
# and below the number from which on a process needs a longer table of them.
CONNECTION_KEPT = 60

SEEN_BYTES = 4096
IMPORTING = 1
SERVING = 2

# Exit statuses, for the worker's account of a death.
EXIT_DONE = 0
EXIT_CONNECTION_LOST = 70


class Seen:
    """The page shared with the worker: how many calls user code has met, since when, and where
    the instance is."""

    def __init__(self, descriptor):
        if descriptor < 0:
            self._words = memoryview(bytearray(24)).cast("Q")
            return
        self._words = memoryview(mmap.mmap(descriptor, SEEN_BYTES)).cast("Q")
        os.close(descriptor)

    def phase(self, phase):
        self._words[2] = phase

    def counter(self):
        """What is called just before user code gets a call."""
        words = self._words
        count = words[0]

        def seen():
            nonlocal count
            count += 1
            words[1] = monotonic_ns()
            words[0] = count

        return seen


class Fork:
    """Whether this process is a child that user code forked."""

    def __init__(self, connection):
        self.connection = connection
        self.is_child = False
        os.register_at_fork(after_in_child=self.entered)

    def entered(self):
        self.is_child = True
        self.connection.close()


def start(connection_number=CONNECTION, seen_number=SEEN):
    """An instance in an interpreter of its own. Does not return."""
    settle_streams()
    settle_main()
    move_away(int(connection_number))
    connection = frames.Connection(CONNECTION_KEPT)
    run(connection, int(seen_number), dict(os.environ))


def run(connection, seen_number, settings):
    """Serves until the worker hangs up. Does not return."""
    status = EXIT_DONE
    try:
        fork = Fork(connection)
        seen = Seen(seen_number)
        settle_paths(settings)
        try:
            serve(connection, seen, settings)
        except frames.WorkerGone:
            pass
        except BaseException as error:
            status = EXIT_CONNECTION_LOST
            if fork.is_child:
                status = exit_status(error)
            elif not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                failure.log_error("the connection to the worker is lost", error)
    finally:
        flush()
        os._exit(status)


def serve(connection, seen, settings):
    """Imports the function, then answers calls."""
    seen.phase(IMPORTING)
    server = None
    try:
        kind, target = handler.load(handler_directory(settings), settings)
        if kind == "asgi":
            from . import asgi

            server = asgi.start(target)
    except BaseException as error:
        refusal = import_failure(error)
        seen.phase(SERVING)
        return serve_calls(connection, lambda call: connection.send(refusal))
    flush()
    seen.phase(SERVING)
    counter = seen.counter()
    if server is not None:
        return server.serve(connection, counter, flush)
    if kind == "wsgi":
        from . import wsgi

        return serve_calls(connection, wsgi.server(connection, counter, target))
    from . import plain

    serve_calls(connection, plain.server(connection, counter, target))


def handler_directory(settings):
    return settings.get("OL_HANDLER", HANDLER_DIRECTORY)


def import_failure(error):
    """The frame that answers every call of a function that cannot be imported."""
    text = failure.traceback_text(error)
    detail = failure.describe(error)
    code = frames.IMPORT_FAILED
    if isinstance(error, handler.EntryMissing):
        code, detail, text = frames.ENTRY_MISSING, str(error), ""
    elif type(error).__name__ == "StartupFailed":
        text = str(error)
        detail = text.strip().rpartition("\n")[2]
    failure.log(text or detail + "\n")
    return frames.failure_frame(code, detail, text, tainted=True)


def serve_calls(connection, answer):
    """Reads calls and answers them, one after the other, for ever."""
    while True:
        try:
            call = connection.read_call()
        except frames.WorkerGone:
            raise
        except BaseException as error:
            # A signal handler or a timer of the function struck between two calls; or the
            # connection is broken, which asking it anything shows.
            connection.check()
            failure.log_error("between two calls", error)
            continue
        answer(call)
        flush()


def flush():
    """What the function printed goes to its log before the next call."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        pass


def exit_status(error):
    """Of a child of the function that came back here instead of exiting."""
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    code = getattr(error, "code", None)
    return code & 0xFF if isinstance(code, int) else int(code is not None)


def move_away(number):
    """The connection under a number nobody guesses, closed in every program executed."""
    os.dup2(number, CONNECTION_KEPT, inheritable=False)
    if number != CONNECTION_KEPT:
        os.close(number)


def settle_streams():
    """Lines of output leave as they are written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(
                encoding="utf-8", errors="backslashreplace", line_buffering=True
            )


def settle_paths(settings):
    """The function's own code first, then what was installed for it, then the standard library."""
    packages = settings.get("OL_PACKAGES", PACKAGES_DIRECTORY).split(":")
    sys.path[:] = [handler_directory(settings), *packages, *STANDARD_PATH]
    for directory in packages:
        paths.process(directory)


def forget_directories():
    """What was seen in directories holds for the standard library only: a child has others under
    the same names, and times tell nothing, since many are made within one tick of the clock."""
    seen = sys.path_importer_cache
    standard = tuple(path for path in STANDARD_PATH if path)
    for path in [path for path in seen if not path.startswith(standard)]:
        invalidate = getattr(seen[path], "invalidate_caches", None)
        if invalidate is None:
            del seen[path]
        else:
            invalidate()


def settle_main():
    """An empty __main__: nothing that looks at it (pickle, multiprocessing) meets the runtime."""
    sys.modules["__main__"] = type(sys)("__main__")


def settle_interpreter():
    """What the site module would have done and functions rely on: exit() and quit(). And a crash
    in native code shows in the log where it happened."""
    import _sitebuiltins
    import builtins
    import faulthandler

    if sys.stderr is not None:
        faulthandler.enable()

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    STANDARD_PATH[:] = sys.path
