"""Finds out what importing a package does. The worker runs

    INTERPRETER -I -S -B -X utf8 profile.py RESULT DEPENDENCIES MODULES

in a sandbox of its own, with the package and what it needs in /packages; both lists are joined by
commas. Each round is a fork of this bare interpreter: it imports the dependencies, then, measured,
the package. RESULT gets one JSON object.
"""

import _thread
import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
from time import perf_counter_ns

ROUNDS = 5
# Of one round; and of a child that should do nothing but end.
SECONDS_MAX = 60
CHILD_SECONDS_MAX = 5
IMPORTS_MAX = 400
# What is tried in a child, and how long it may wait for a lock.
ATTRIBUTES_MAX = 200
LOCK_SECONDS_MAX = 2
# Within what a pipe takes.
TROUBLE_BYTES_MAX = 32 << 10
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


def attributes(modules):
    """What the modules offer, asked for as a handler would: lazy ones are loaded by that."""
    for name in modules:
        module = sys.modules.get(name)
        listed = getattr(module, "__all__", None)
        if not isinstance(listed, (list, tuple)):
            listed = [word for word in dir(module) if not word.startswith("_")]
        for word in list(listed)[:ATTRIBUTES_MAX]:
            if isinstance(word, str):
                yield name, word


def refusals(modules):
    """Attributes that cannot be had, and why."""
    found = {}
    for name, word in attributes(modules):
        try:
            getattr(sys.modules[name], word)
        except BaseException as error:
            found[name + "." + word] = "%s: %s" % (type(error).__name__, error)
    return found


def locks(new):
    """Locks that modules of these names hold on to, in their globals and their classes."""
    kinds = (type(_thread.allocate_lock()), type(_thread.RLock()))
    for name in new:
        module = sys.modules.get(name)
        for word, value in list(getattr(module, "__dict__", {}).items()):
            inner = list(vars(value).items()) if isinstance(value, type) else []
            for lock in [value] + [below for _, below in inner]:
                if isinstance(lock, kinds):
                    yield name + "." + word, lock


def exercise(modules, new):
    """In a child: what a handler relies on. Returns what does not work, else nothing."""
    for name, lock in locks(new):
        if not lock.acquire(timeout=LOCK_SECONDS_MAX):
            return "the lock %s stays locked in a fork" % name
        lock.release()
    ran = []
    try:
        thread = threading.Thread(target=ran.append, args=(1,))
        thread.start()
        thread.join(LOCK_SECONDS_MAX)
        logging.getLogger("profile").debug("a child")
        importlib.import_module("this_module_is_nowhere")
    except ImportError:
        pass
    except BaseException as error:
        return "in a fork threads or imports fail: %s: %s" % (type(error).__name__, error)
    if not ran:
        return "threads do not run in a fork"
    refused = refusals(modules)
    gc.collect()
    # Refused to everybody is no matter of forks; who forks afterwards asks the same.
    return json.dumps(refused) if refused else ""


def trouble_in_a_child(modules, new):
    """What does not work in a fork of what has been imported; nothing when all does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS_MAX)
        os.close(reader)
        text = exercise(modules, new).encode("utf-8", "replace")[:TROUBLE_BYTES_MAX]
        os.write(writer, text)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "a fork of an interpreter that has imported it hangs"
    if status != 0:
        return "a fork of an interpreter that has imported it dies"
    if not said.startswith("{"):
        return said
    # The child went first, so nothing was loaded for it here.
    here = refusals(modules)
    for word, why in json.loads(said).items():
        if word not in here:
            return "%s does not work in a fork: %s" % (word, why)
    return ""


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
    found["trouble"] = trouble_in_a_child([name for name in modules if name in sys.modules], own)
    found["forks"] = not found["trouble"]
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
    """Why zygotes should not import it, and whether that is so for whoever imports it, too."""
    if found["threads"]:
        return "its import leaves %d threads, which a fork does not have" % found["threads"], True
    if found["open_files"]:
        why = "its import leaves %d files open, which a fork does not have"
        return why % found["open_files"], True
    if found["trouble"]:
        return found["trouble"][:300], True
    if found["failed"]:
        return "it cannot be imported: " + found["failed"][:300], False
    return "", False


def profile(dependencies, modules):
    rounds = [found for found in (one_round(dependencies, modules) for _ in range(ROUNDS)) if found]
    if not rounds:
        result = dict(threads=0, open_files=0, forks=False, imports=[])
        result.update(import_ms=0, private_mb=0, shared_mb=0)
        return dict(result, why="an interpreter that imports it dies", spreads=True)
    last = rounds[-1]
    result = {name: last[name] for name in ("threads", "open_files", "forks", "imports")}
    for name in ("import_ms", "private_mb", "shared_mb"):
        result[name] = round(median([found[name] for found in rounds]), 3)
    result["why"], result["spreads"] = verdict(last)
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
