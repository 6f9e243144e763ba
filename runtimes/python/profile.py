"""Finds out what importing a package does. The worker runs

    INTERPRETER -I -S -B -X utf8 profile.py RESULT DEPENDENCIES MODULES

in a sandbox of its own, with the package and what it needs in /packages; both lists are joined by
commas. Each round is a fork of this bare interpreter: it imports the dependencies, then, measured,
the package. RESULT gets one JSON object.
"""

import gc
import json
import os
import signal
import sys
from time import perf_counter_ns

ROUNDS = 5
# Of one round; and of a child that should do nothing but end.
SECONDS_MAX = 60
CHILD_SECONDS_MAX = 5
IMPORTS_MAX = 400
# As zygotes have it.
SINGLE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def memory_kb():
    """Private and shared memory of this process."""
    private = shared = 0
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.startswith("Private_"):
                private += int(value.split()[0])
            elif name.startswith("Shared_"):
                shared += int(value.split()[0])
    return private, shared


def count(what):
    return len(os.listdir("/proc/self/" + what))


def works_in_a_child():
    """Whether a fork of what has been imported lives, collects its garbage and ends."""
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS_MAX)
        gc.collect()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def measure(dependencies, modules):
    for name in dependencies:
        try:
            __import__(name)
        except BaseException:
            # It is measured as far as it can be without.
            pass
    gc.collect()
    known = set(sys.modules)
    private, shared = memory_kb()
    descriptors, threads = count("fd"), count("task")
    begin = perf_counter_ns()
    failed = []
    for name in modules:
        try:
            __import__(name)
        except BaseException as error:
            failed.append("import %s: %s: %s" % (name, type(error).__name__, error))
    took = perf_counter_ns() - begin
    private_after, shared_after = memory_kb()
    new = sorted(name for name in sys.modules if name not in known)
    own = [name for name in new if name.partition(".")[0] in modules]
    found = {
        "import_ms": took / 1e6,
        "private_mb": max(0, private_after - private) / 1024,
        "shared_mb": max(0, shared_after - shared) / 1024,
        "threads": max(0, count("task") - threads),
        "open_files": max(0, count("fd") - descriptors),
        "imports": own[:IMPORTS_MAX],
        "failed": "; ".join(failed) if len(failed) == len(modules) and failed else "",
    }
    found["forks"] = works_in_a_child()
    return found


def one_round(dependencies, modules):
    """What a fork of this interpreter finds; none when it dies."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS_MAX)
        os.close(reader)
        # What packages print is nobody's business here.
        quiet = os.open("/dev/null", os.O_WRONLY)
        os.dup2(quiet, 1)
        found = json.dumps(measure(dependencies, modules)).encode()
        while found:
            found = found[os.write(writer, found) :]
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        return None
    return json.loads(text)


def median(values):
    return sorted(values)[len(values) // 2]


def verdict(found):
    if found["failed"]:
        return "it cannot be imported: " + found["failed"][:300]
    if found["threads"]:
        return "its import starts %d threads, which a fork does not have" % found["threads"]
    if not found["forks"]:
        return "a fork of an interpreter that has imported it dies"
    return ""


def profile(dependencies, modules):
    rounds = [found for found in (one_round(dependencies, modules) for _ in range(ROUNDS)) if found]
    if not rounds:
        why = "an interpreter that imports it dies"
        counts = ("import_ms", "private_mb", "shared_mb", "threads", "open_files")
        return dict({name: 0 for name in counts}, forks=False, why=why, imports=[])
    last = rounds[-1]
    result = {name: last[name] for name in ("threads", "open_files", "forks", "imports")}
    for name in ("import_ms", "private_mb", "shared_mb"):
        result[name] = round(median([found[name] for found in rounds]), 3)
    result["why"] = verdict(last)
    return result


def main(result, dependencies, modules):
    os.nice(10)
    for name in SINGLE_THREAD:
        os.environ[name] = "1"
    sys.path.insert(0, "/packages")
    dependencies, modules = (
        [name for name in joined.split(",") if name] for joined in (dependencies, modules)
    )
    found = profile(dependencies, modules)
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    # The script's own directory is no place to import from.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    main(*sys.argv[1:])
