"""What f(event, context) is told about its call."""

import time

from .frames import unquote


class Context:
    """Read-only facts about one call."""

    def __init__(self, call):
        self._call = call
        self._headers = None
        budget_ms = call.budget_ms
        # Seconds since 1970, as time.time() counts them; None without a limit.
        self.deadline = time.time() + budget_ms / 1000 if budget_ms else None

    def remaining_ms(self):
        """Milliseconds left until the call is ended; None without a limit."""
        if self.deadline is None:
            return None
        return max(0, int((self.deadline - time.time()) * 1000))

    @property
    def call_id(self):
        return self._call.fields[0]

    @property
    def function_name(self):
        return self._call.fields[1]

    @property
    def start(self):
        """How this instance came to be: "warm", "zygote" or "fresh"."""
        return self._call.fields[2]

    @property
    def method(self):
        return self._call.method

    @property
    def path(self):
        """What follows /run/NAME, decoded; at least a slash."""
        path = unquote(self._call.fields[6]) or "/"
        return path.encode("latin-1").decode("utf-8", "replace")

    @property
    def query(self):
        """What follows the question mark, as it came."""
        return self._call.fields[7]

    @property
    def headers(self):
        """Values by name in lower case; those of a repeated header joined by a comma."""
        if self._headers is None:
            headers = {}
            for name, value in self._call.headers:
                headers[name] = headers[name] + ", " + value if name in headers else value
            self._headers = headers
        return self._headers

    def __repr__(self):
        return "<Context of call %s to %s>" % (self.call_id, self.function_name)
