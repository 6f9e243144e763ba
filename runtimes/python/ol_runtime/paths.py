"""`.pth` files of installed packages: what the site module would do with them.

Each line is a directory to search, relative to the file, or begins with `import` and is executed.
The worker lists those there are, since a directory would have to be read to see that there are
none. What was done in a zygote is not done again in its children.
"""

import io
import sys
from posix import R_OK, access

from . import failure

LIST = ".ol-pth"

# Files done with, by name: all views of one package have the same.
_done = set()


def process(directory):
    """Does what the .pth files of a directory of packages say."""
    listed = "%s/%s" % (directory, LIST)
    if not access(listed, R_OK):
        return
    for name in read(listed):
        process_file(directory, name)


def read(path):
    with io.open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()


def process_file(directory, name):
    try:
        lines = read("%s/%s" % (directory, name))
    except OSError as error:
        return failure.log_error("reading %s" % name, error)
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith(("import ", "import\t")):
            if (name, line) not in _done:
                _done.add((name, line))
                execute(directory, name, line)
            continue
        path = line if line.startswith("/") else "%s/%s" % (directory, line)
        if path not in sys.path and access(path, R_OK):
            sys.path.insert(len(sys.path) and sys.path.index(directory) + 1, path)


def execute(directory, name, line):
    # Namespace packages of old look for the directory in the frame that executes them.
    sitedir = directory
    try:
        exec(line, {"sitedir": sitedir, "__name__": "site"})
    except Exception as error:
        failure.log_error("ignored in %s" % name, error)
