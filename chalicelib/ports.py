"""Time, ids and randomness come from here and from nowhere else, so that a simulation can own them.

Two clocks: the *wall clock* judges leases, web sessions, OAuth state and signature ages; the *business clock* judges
ends, grace and what is due. They are the same but for the sandbox's offset (`CLOCK_URL`, refused in live stages).
"""
import secrets
import time


class Ports:
    """The real sources. A simulation passes an object with the same five methods to `use`."""

    def wall(self):
        """The wall clock, in seconds since the epoch (float)."""
        return time.time()

    def offset(self):
        """How far the business clock is ahead of the wall clock, in seconds."""
        from chalicelib import settings
        if not settings.get().clock_url:
            return 0
        from chalicelib.gateways import sandbox_clock
        return sandbox_clock.offset()

    def token(self, size=16):
        """A fresh unguessable text of letters, digits, `-` and `_` made of `size` random bytes."""
        return secrets.token_urlsafe(size)

    def below(self, n):
        """A random whole number in [0, n), to spread retries."""
        return secrets.randbelow(n)

    def sleep(self, seconds):
        """So much time has passed."""
        time.sleep(seconds)


_current = Ports()


def use(ports):
    """From now on time, ids and randomness come from `ports`; the one used before is returned."""
    global _current
    before, _current = _current, ports
    return before


def wall():
    """The wall clock, in seconds since the epoch (float)."""
    return _current.wall()


def now():
    """The business clock, in whole seconds since the epoch."""
    return int(_current.wall() + _current.offset())


def token(size=16):
    """A fresh unguessable text made of `size` random bytes, safe in URLs."""
    return _current.token(size)


def below(n):
    """A random whole number in [0, n)."""
    return _current.below(n)


def sleep(seconds):
    """So much time has passed: for the operator's commands only, no function of the product sleeps."""
    _current.sleep(seconds)
