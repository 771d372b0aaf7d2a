"""The clock that all sandboxes share: wall time plus an offset that only grows."""
import threading
import time
from datetime import datetime, timezone

from . import statefile


class SandboxClock:
    """Business time for everything under `make run`. Kept in one small JSON file, so a restart does not turn it back.

    `wall` gives seconds since the epoch; a test or a simulation passes its own.
    """

    def __init__(self, path=None, *, wall=time.time):
        self._path, self._wall = path, wall
        self._offset = float(statefile.read(path, {"offset": 0})["offset"])
        self._listeners = []
        self._moving = threading.RLock()

    @property
    def offset(self):
        """Seconds that this clock is ahead of the wall clock."""
        return self._offset

    def wall(self):
        """The wall clock alone, in seconds since the epoch (for what a sandbox may not let a moved clock expire)."""
        return self._wall()

    def now(self):
        """Sandbox time, in seconds since the epoch."""
        return self._wall() + self._offset

    def on_move(self, listener):
        """`listener(before, after)` is called after each move, in the mover's thread, in order of registration."""
        self._listeners.append(listener)

    def advance(self, seconds):
        """The clock is `seconds` further on, and all listeners have been called. ValueError when backwards."""
        seconds = float(seconds)
        if not 0 <= seconds < 100 * 365 * 86400:  # also refuses NaN
            raise ValueError("the sandbox clock only moves forward, by less than 100 years")
        with self._moving:  # two moves at once would call listeners in the wrong order
            before = self.now()
            self._offset += seconds
            statefile.write(self._path, {"offset": self._offset})
            for listener in self._listeners:
                listener(before, before + seconds)

    def move_to(self, instant):
        """The clock shows `instant` (epoch seconds or ISO-8601) or later. ValueError when that has already passed."""
        with self._moving:
            self.advance(to_epoch(instant) - self.now())

    def as_json(self):
        """What GET /_sandbox/clock answers."""
        now = self.now()
        return {"offset": self._offset, "now": now, "iso": to_iso(now)}


def to_epoch(instant):
    """Seconds since the epoch of a number or of an ISO-8601 text; a text without a zone is UTC. ValueError otherwise."""
    if isinstance(instant, (int, float)) and not isinstance(instant, bool):
        return float(instant)
    if not isinstance(instant, str):
        raise ValueError("an instant is a number of seconds or an ISO-8601 text")
    at = datetime.fromisoformat(instant)
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def to_iso(epoch):
    """ISO-8601 in UTC with milliseconds and a Z."""
    text = datetime.fromtimestamp(epoch, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
