"""Where the interpreter of a sandbox begins. The worker runs

    INTERPRETER -I -S -B -X utf8 start.py zygote [LIBRARY]
    INTERPRETER -I -S -B -X utf8 start.py instance [CONNECTION SEEN]

isolated from the environment and from site-packages, with 0 to 2 in place, and

    zygote     3 the control socket, 4 the native library (or its path in LIBRARY)
    instance   3 the connection, 4 the shared page (or the numbers given; no page: -1)
"""

import sys


def main(role, *arguments):
    import_path = list(sys.path)
    sys.path.insert(0, __file__.rpartition("/")[0] or ".")
    from ol_runtime import instance

    if role == "zygote":
        from ol_runtime import zygote

        entry = zygote.run
    elif role == "instance":
        entry = instance.start
    else:
        sys.exit("start.py: no role %r: zygote or instance" % role)
    sys.path[:] = import_path
    instance.settle_interpreter()
    entry(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
