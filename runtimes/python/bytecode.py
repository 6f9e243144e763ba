"""Compiles a package once, for everybody who will import it. The worker runs

    INTERPRETER -I -S -B bytecode.py PACKAGE OUT

in a sandbox of its own: PACKAGE is seen where functions will see it and cannot be written to; OUT
gets files of the same shape, which the worker moves beside their sources. What is compiled is never
compared with its source again: neither ever changes.
"""

import importlib.machinery
import importlib.util
import os
import sys
from importlib._bootstrap_external import _code_to_hash_pyc

# Not imported by anybody who wants to get work done.
LEFT_OUT = ("tests", "test", "testing_data", "idlelib", "lib2to3")
# Others have work to do, too.
NICENESS = 10
PROCESSES_MAX = 4


def sources(root):
    for directory, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name not in LEFT_OUT and name != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                yield os.path.join(directory, name)


def compile_one(path, root, out):
    with open(path, "rb") as file:
        source = file.read()
    loader = importlib.machinery.SourceFileLoader("<compiled>", path)
    code = loader.source_to_code(source, path)
    bytecode = _code_to_hash_pyc(code, importlib.util.source_hash(source), False)
    place = out + importlib.util.cache_from_source(path)[len(root) :]
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as file:
        file.write(bytecode)


def compile_some(paths, root, out):
    for path in paths:
        try:
            compile_one(path, root, out)
        except Exception:
            # Templates, code for another Python: whoever imports it is told why it cannot be.
            pass


def main(root, out):
    os.nice(NICENESS)
    sys.setrecursionlimit(5000)
    paths = list(sources(root))
    count = min(PROCESSES_MAX, os.cpu_count() or 1, 1 + len(paths) // 50)
    children = []
    for number in range(count - 1):
        child = os.fork()
        if child == 0:
            compile_some(paths[number::count], root, out)
            os._exit(0)
        children.append(child)
    compile_some(paths[count - 1 :: count], root, out)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
