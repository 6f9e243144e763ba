"""What imported modules want done around a fork, kept by us instead of by the interpreter.

A zygote is forked while it has one thread, so that no lock is held by anybody and nothing needs
to be made anew because a thread is missing in the child. The hooks of `threading` and `logging` do
only that; they cost a birth a quarter of its time, and are left out of it. All others run
(`random` reseeds itself in one). When user code forks later, every hook runs, as the interpreter
would have run it.

    os.register_at_fork --> here --> one hook of ours, registered with the interpreter
"""

import os
import sys

from . import failure

# Modules whose hooks only serve threads that are not there.
FOR_THREADS_ONLY = ("threading", "logging")

_interpreter_register = os.register_at_fork


class Hooks:
    """All three kinds, in the order of registration, with whether they belong to a birth."""

    def __init__(self):
        # The fork is a birth: one of a zygote, in native code.
        self.at_births = True
        self._before = []
        self._in_parent = []
        self._in_child = []

    def take_over(self):
        """From now on modules register here."""
        _interpreter_register(
            before=lambda: self._run(reversed(self._before)),
            after_in_parent=lambda: self._run(self._in_parent),
            after_in_child=lambda: self._run(self._in_child),
        )
        os.register_at_fork = self.register

    def register(self, *, before=None, after_in_child=None, after_in_parent=None):
        hooks = (before, after_in_child, after_in_parent)
        if not any(hooks) or not all(hook is None or callable(hook) for hook in hooks):
            # Its own words for what is wrong.
            _interpreter_register(**{
                name: hook
                for name, hook in zip(("before", "after_in_child", "after_in_parent"), hooks)
                if hook is not None
            })
        module = getattr(after_in_child, "__module__", None)
        at_birth = module not in FOR_THREADS_ONLY
        for kind, hook in zip((self._before, self._in_child, self._in_parent), hooks):
            if hook is not None:
                kind.append((hook, at_birth))

    def leave_out(self, hooks):
        """These are not run at births: what they do is done otherwise."""
        for kind in (self._before, self._in_child, self._in_parent):
            kind[:] = [(hook, at_birth and hook not in hooks) for hook, at_birth in kind]

    def _run(self, kind):
        for hook, at_birth in kind:
            if at_birth or not self.at_births:
                try:
                    hook()
                except BaseException as error:
                    # There is nobody to catch it, and the next hook is due.
                    failure.log_error("ignored in fork hook %r" % hook, error)


def settle_main_thread():
    """The one thing of a left-out hook that can be seen: the thread's number in the system."""
    threading = sys.modules.get("threading")
    thread = getattr(threading, "_main_thread", None)
    if hasattr(thread, "_set_native_id"):
        thread._set_native_id()
