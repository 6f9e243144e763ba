"""What siblings of one zygote must not share: the state of everything that makes up numbers.

Done in each child right after the fork. `random` reseeds itself by a hook of its own, and so does
OpenSSL when it sees another pid; the rest is looked up in what the zygote has imported, nothing is
imported here. The hash seed and the layout of the address space stay shared: the worker makes new
zygotes from time to time, and a function may ask for a fresh interpreter.
"""

import os
import sys


# What there is to do in a child, looked up in the zygote.
_prepared = []


def prepare():
    """Looks up once what is loaded and has such state."""
    _prepared[:] = [
        (sys.modules[name], renew_module)
        for name, renew_module in RENEWED
        if sys.modules.get(name) is not None
    ]


def renew():
    for module, renew_module in _prepared:
        try:
            renew_module(module)
        except Exception as error:
            from . import failure

            failure.log_error("new random state of %s" % module.__name__, error)


# The state of a Mersenne Twister.
MERSENNE_WORDS = 624


def renew_openssl(module):
    module.RAND_add(os.urandom(32), 32.0)


def renew_numpy(module):
    # The legacy generator behind numpy.random.rand(); what default_rng() makes is new anyway. Its
    # seed() would take three times as long as giving it a whole new state.
    words = sys.modules["numpy"].frombuffer(os.urandom(4 * MERSENNE_WORDS), dtype="uint32")
    module.set_state(("MT19937", words, MERSENNE_WORDS))


def renew_uuid(module):
    for name in ("_last_timestamp", "_last_timestamp_v7", "_last_counter_v7"):
        if hasattr(module, name):
            setattr(module, name, 0 if "counter" in name else None)


def renew_tempfile(module):
    # Names are made by a generator of its own, which compares pids; those repeat in sandboxes.
    module._name_sequence = None


def renew_multiprocessing(module):
    # The key that processes of one program know each other by.
    module.current_process()._config["authkey"] = module.AuthenticationString(os.urandom(32))


RENEWED = (
    ("_ssl", renew_openssl),
    ("numpy.random.mtrand", renew_numpy),
    ("uuid", renew_uuid),
    ("tempfile", renew_tempfile),
    ("multiprocessing.process", renew_multiprocessing),
)
