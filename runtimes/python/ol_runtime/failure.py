"""Exceptions of user code as the worker is told of them."""

import sys

RUNTIME_DIRECTORY = __file__.rpartition("/")[0] + "/"


def describe(error):
    """One line: class and message. Never raises, whatever the exception's own methods do."""
    name = type(error).__qualname__
    module = type(error).__module__
    if module not in ("builtins", "__main__"):
        name = "%s.%s" % (module, name)
    try:
        message = str(error)
    except BaseException:
        message = "<an exception whose message cannot be had>"
    first, _, more = message.strip().partition("\n")
    if more and not first:
        first = more
    return "%s: %s" % (name, first) if first else name


def user_trace(trace):
    """The part of a traceback that begins with user code."""
    while trace is not None and is_runtime(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def is_runtime(filename):
    return filename.startswith((RUNTIME_DIRECTORY, "<frozen importlib"))


def traceback_text(error):
    """What Python would print, without the frames of the runtime. Never raises."""
    try:
        import traceback

        trace = user_trace(error.__traceback__)
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as second:
        return "%s\n(no traceback: %s)\n" % (describe(error), describe(second))


def log(text):
    """To the function's log, whatever has become of sys.stderr."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BaseException:
        pass


def log_error(what, error):
    log("%s: %s\n%s" % (what, describe(error), traceback_text(error)))
