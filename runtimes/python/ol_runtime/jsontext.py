"""JSON without the json package: its C functions alone, half the time a call and a fresh
interpreter need for it.

Where they are missing or differ, the package serves. Stricter than the package: NaN and the
infinities are no JSON, in either direction.
"""

SPACE = " \t\n\r"


def refuse_constant(text):
    raise ValueError("%s is no JSON" % text)


def refuse_value(value):
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


class Settings:
    """What the C scanner looks up."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(refuse_constant)
    memo = {}


def make_fast():
    import _json

    scan = _json.make_scanner(Settings)
    quote = _json.encode_basestring_ascii

    def make_encoder():
        return _json.make_encoder(
            {}, refuse_value, quote, None, ": ", ", ", False, False, False
        )

    encoder = make_encoder()

    def decode(text):
        start = 0
        if text[0] in SPACE:
            start = len(text) - len(text.lstrip(SPACE))
        try:
            value, end = scan(text, start)
        except StopIteration as stop:
            raise ValueError("Expecting value: char %d" % stop.value) from None
        except SystemError:
            # To raise its own error the scanner needs the package: let that say what is wrong.
            return make_slow()[0](text)
        if end != len(text) and text[end:].strip(SPACE):
            raise ValueError("Extra data: char %d" % end)
        return value

    def encode(value):
        nonlocal encoder
        try:
            return "".join(encoder(value, 0))
        except BaseException:
            # It remembers where in a nested value it was.
            encoder = make_encoder()
            raise

    probe = {"a": [1, -2.5, True, None, "\u00e9\n"]}
    if decode(' {"a": [1, -2.5, true, null, "\u00e9\\n"]} ') != probe:
        raise ValueError
    if encode(probe) != '{"a": [1, -2.5, true, null, "\\u00e9\\n"]}':
        raise ValueError
    return decode, encode


def make_slow():
    import json

    decode = json.JSONDecoder(parse_constant=refuse_constant).decode
    encode = json.JSONEncoder(allow_nan=False).encode
    return decode, encode


try:
    decode_text, encode = make_fast()
except Exception:
    decode_text, encode = make_slow()


def decode(body):
    """The value of a body. Raises ValueError or RecursionError."""
    text = str(body, "utf-8")
    if text.startswith("\ufeff"):
        text = text[1:]
    if not text:
        raise ValueError("Expecting value: char 0")
    return decode_text(text)
