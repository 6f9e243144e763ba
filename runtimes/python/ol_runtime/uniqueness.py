"""What siblings of one zygote must not share: the state of everything that makes up numbers.

Done in each child right after the fork, for what the zygote has imported; nothing is imported
here. The hash seed and the layout of the address space stay shared: the worker makes new zygotes
from time to time, and a function may ask for a fresh interpreter.

Two of them are tables of a Mersenne Twister, the state behind `random.random()` and
`numpy.random.rand()`. Their own ways to a new seed take a quarter of a millisecond each, so that
native code writes random numbers over the tables instead. Where a table lies is CPython's and
numpy's affair: what is found there must be what they say their state is, or else they are reseeded
their own way.
"""

import os
import sys
from ctypes import c_uint32, sizeof


# What there is to do in a child, looked up in the zygote.
_prepared = []


def prepare(renew_natively):
    """Looks up once what is loaded and has such state, and has native code renew what it can.

    Returns the fork hooks that are not needed because of that.
    """
    _prepared[:] = [
        (sys.modules[name], renew_module)
        for name, renew_module in RENEWED
        if sys.modules.get(name) is not None
    ]
    not_needed = []
    random = sys.modules.get("random")
    shared = getattr(random, "_inst", None)
    if shared is not None and tell_table(renew_natively, *table_of_random(shared)):
        # A second value of the last pair that gauss() drew.
        shared.gauss_next = None
        not_needed.append(shared.seed)
    mtrand = sys.modules.get("numpy.random.mtrand")
    if mtrand is not None:
        renew_numpy(mtrand)
        if tell_table(renew_natively, *table_of_numpy(mtrand)):
            _prepared.remove((mtrand, renew_numpy))
    return not_needed


def tell_table(renew_natively, address, words, index_address, index):
    """Whether native code renews it: only if what lies there is what it should be."""
    if not address:
        return False
    found = (c_uint32 * MERSENNE_WORDS).from_address(address)
    if tuple(found) != tuple(words) or c_uint32.from_address(index_address).value != index:
        return False
    return renew_natively(address, sizeof(found), index_address, MERSENNE_WORDS) == 0


NO_TABLE = (0, (), 0, 0)


def table_of_random(generator):
    """struct { PyObject_HEAD; int index; uint32_t state[624]; }"""
    try:
        kind = type(generator).__mro__[1]
        _, state, _ = generator.getstate()
        index_address = id(generator) + object.__basicsize__
        bytes_min = object.__basicsize__ + 4 * len(state)
        if kind.__module__ != "_random" or kind.__basicsize__ < bytes_min:
            return NO_TABLE
        return index_address + 4, state[:-1], index_address, state[-1]
    except Exception:
        return NO_TABLE


def table_of_numpy(module):
    """struct { uint32_t key[624]; int pos; }"""
    try:
        generator = module._rand._bit_generator
        if type(generator).__name__ != "MT19937":
            return NO_TABLE
        address = generator.ctypes.state_address
        _, key, index, *_ = module.get_state()
        return address, key.tolist(), address + 4 * MERSENNE_WORDS, index
    except Exception:
        return NO_TABLE


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
