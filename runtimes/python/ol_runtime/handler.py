"""Finds what a function's code offers to be called.

The code lies in one directory; settings name the entry or leave it to be found:

    OL_ENTRY_FILE   the file, f.py if unset
    OL_WSGI_ENTRY   the application: `module:name`, `file.py:name`, `module.name`, `module` (its
                    `app`) or `name` (in the entry file)
    OL_ASGI_ENTRY   likewise
    (none)          `app` if there is one, WSGI or ASGI by what it takes, else `f`
"""

import io
import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from posix import F_OK, access

ENTRY_FILES = ("f.py", "app.py", "main.py")
NAMED_ENTRIES = (("wsgi", "OL_WSGI_ENTRY"), ("asgi", "OL_ASGI_ENTRY"))

# Byte code of this interpreter that is not to be compared with its source: it was made from the
# very content that lies beside it.
COMPILED_HEAD = MAGIC_NUMBER + b"\1\0\0\0"
COMPILED_HEAD_BYTES = 16
COMPILED_ENDING = ".%s.pyc" % sys.implementation.cache_tag

# What a second argument with a default must be called to be given a context.
CONTEXT_NAMES = ("context", "ctx", "_context", "_ctx")

# Of code.co_flags.
COROUTINE = 0x80


class EntryMissing(Exception):
    """There is nothing to call: the message says what was looked for."""


def load(directory, settings):
    """The kind ("plain", "wsgi", "asgi") and the object to call.

    Raises EntryMissing, or whatever the code raises while it is imported.
    """
    file = settings.get("OL_ENTRY_FILE") or find_entry(directory)
    sys.argv = ["%s/%s" % (directory, file or "")]
    for kind, name in NAMED_ENTRIES:
        entry = settings.get(name)
        if entry:
            return kind, named_entry(directory, file, entry)
    if not file or not exists(directory, file):
        looked_for = file or " or ".join(ENTRY_FILES)
        raise EntryMissing("no entry file: %s is not there (set OL_ENTRY_FILE)" % looked_for)
    module = import_file(directory, file)
    app = getattr(module, "app", None)
    if callable(app):
        return ("asgi" if is_asgi(app) else "wsgi"), app
    function = getattr(module, "f", None)
    if callable(function):
        return "plain", function
    raise EntryMissing("%s defines neither f(event) nor app" % file)


def find_entry(directory):
    for file in ENTRY_FILES:
        if exists(directory, file):
            return file
    return None


def named_entry(directory, file, entry):
    """The application that OL_WSGI_ENTRY or OL_ASGI_ENTRY names."""
    where, name = split_entry(directory, file, entry)
    if where.endswith(".py"):
        if not exists(directory, where):
            raise EntryMissing("%s: no file %s" % (entry, where))
        module = import_file(directory, where)
    else:
        sys.path[:0] = [directory] if directory not in sys.path else []
        __import__(where)
        module = sys.modules[where]
    try:
        return attribute(module, name)
    except AttributeError:
        raise EntryMissing("%s: %s defines no %s" % (entry, where, name)) from None


def split_entry(directory, file, entry):
    """Which file or module, and what of it."""
    where, colon, name = entry.partition(":")
    if colon:
        return where or file or ENTRY_FILES[0], name or "app"
    if entry.endswith(".py") or module_exists(directory, entry):
        return entry, "app"
    where, dot, name = entry.rpartition(".")
    if dot and module_exists(directory, where):
        return where, name
    return file or ENTRY_FILES[0], entry


def exists(directory, path):
    return access("%s/%s" % (directory, path), F_OK)


def module_exists(directory, name):
    path = name.replace(".", "/")
    return exists(directory, path + ".py") or exists(directory, path + "/__init__.py")


def attribute(value, path):
    for name in path.split("."):
        value = getattr(value, name)
    return value


def import_file(directory, file):
    """Imports one file under its own name, whatever else of that name could be imported.

    A file in a subdirectory finds its neighbours, too.
    """
    path = "%s/%s" % (directory, file)
    folder, _, base = path.rpartition("/")
    name = base[:-3] if base.endswith(".py") else base
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == path:
        return loaded
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = sys.modules[name] = make_module(name, path)
    try:
        exec(code_of_file(module.__loader__, folder, path), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules.get(name, module)


def make_module(name, path):
    """What importlib makes, without its many steps: each would cost a forked child pages."""
    module = type(sys)(name)
    module.__loader__ = SourceFileLoader(name, path)
    module.__spec__ = ModuleSpec(name, module.__loader__, origin=path)
    module.__spec__.has_location = True
    module.__file__ = path
    module.__package__ = ""
    return module


def code_of_file(loader, folder, path):
    """Compiled before, if anybody has left it there; else compiled now, and not kept."""
    name = path[len(folder) + 1 : -3] if path.endswith(".py") else ""
    compiled = "%s/__pycache__/%s%s" % (folder, name, COMPILED_ENDING)
    if access(compiled, F_OK):
        return read_compiled(compiled) or loader.get_code(loader.name)
    with io.FileIO(path) as file:
        source = file.readall()
    return compile(source, path, "exec", dont_inherit=True)


def read_compiled(path):
    """What importlib does in many more steps; none where its care is needed."""
    with io.FileIO(path) as file:
        content = file.readall()
    if content[: len(COMPILED_HEAD)] != COMPILED_HEAD:
        return None
    return marshal.loads(memoryview(content)[COMPILED_HEAD_BYTES:])


def code_of(callable_object):
    """The Python function behind a callable, and how many of its arguments are given already.

    None for what is not written in Python.
    """
    given = 0
    found = callable_object
    # Wrappers may wrap wrappers, but not for ever.
    for _ in range(32):
        if type(found).__name__ == "partial" and hasattr(found, "func"):
            given += len(found.args)
            found = found.func
        elif hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        elif hasattr(found, "__func__") and hasattr(found, "__self__"):
            given += 1
            found = found.__func__
        elif hasattr(found, "__code__"):
            return found, given
        else:
            method = found.__init__ if isinstance(found, type) else type(found).__call__
            if not hasattr(method, "__code__"):
                return None, given
            given += 1
            found = method
    return None, given


def is_asgi(app):
    """A coroutine function, or what takes three arguments; WSGI takes two."""
    function, given = code_of(app)
    if function is None:
        return False
    code = function.__code__
    return bool(code.co_flags & COROUTINE) or code.co_argcount - given == 3


def wants_context(callable_object):
    """f(event, context) or f(event)."""
    function, given = code_of(callable_object)
    if function is None:
        return False
    code = function.__code__
    arguments = code.co_argcount - given
    required = arguments - len(function.__defaults__ or ())
    named = arguments >= 2 and code.co_varnames[given + 1] in CONTEXT_NAMES
    return required >= 2 or named
