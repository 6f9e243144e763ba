"""Compiles a function's files, without running any of them.

Standard input lists their paths, a line each, below the directory whose descriptor is the first
argument. The n-th becomes n.pyc in the present directory. What is no valid Python is left out: the
call that imports it says what is wrong with it. A file is compiled once for its content, so the
interpreter need not look whether it has changed.
"""

import sys
from _frozen_importlib_external import _code_to_hash_pyc
from _imp import source_hash
from importlib.util import _RAW_MAGIC_NUMBER
from posix import O_CREAT, O_EXCL, O_RDONLY, O_WRONLY, open as open_at

FILE_BYTES_MAX = 16 << 20

directory = int(sys.argv[1])
for number, line in enumerate(sys.stdin.buffer):
    path = line.rstrip(b"\n")
    try:
        with open(open_at(path, O_RDONLY, dir_fd=directory), "rb") as file:
            source = file.read(FILE_BYTES_MAX + 1)
        if len(source) > FILE_BYTES_MAX:
            continue
        name = "/handler/" + path.decode()
        code = compile(source, name, "exec", dont_inherit=True)
        made = _code_to_hash_pyc(code, source_hash(_RAW_MAGIC_NUMBER, source), False)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        continue
    with open(open_at("%d.pyc" % number, O_WRONLY | O_CREAT | O_EXCL, 0o600), "wb") as file:
        file.write(made)
print("tag", sys.implementation.cache_tag)
