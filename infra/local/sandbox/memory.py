"""The state file of a payment sandbox, written so often that little is lost and so seldom that it costs little."""
import json
import threading
import time

from . import statefile

PACE = 0.25  # seconds between two writes while it runs behind a port
SHARE = 10   # and at least so many times what the last one cost (a month of 50 members: 40 ms), so that it takes a tenth of the time


class Memory:
    """One state file, or none (`path` None)."""

    def __init__(self, path):
        self._path, self._next = path, 0.0
        self._made, self._written, self._writing = 0, 0, threading.Lock()

    def read(self):
        """The state that was kept, or None."""
        return statefile.read(self._path, None)

    def due(self):
        """Whether a write now would keep to the pace."""
        return time.monotonic() >= self._next

    def text(self, state):
        """(number, the whole state as JSON text) for `write`. To be called under the sandbox's lock."""
        if self._path is None:
            return 0, ""
        began = time.thread_time()
        text = json.dumps(state, separators=(",", ":"))
        self._made += 1
        self._next = time.monotonic() + max(PACE, SHARE * (time.thread_time() - began))
        return self._made, text

    def write(self, number, text):
        """The file holds `text`, or a later one."""
        with self._writing:
            if number > self._written:
                self._written = number
                statefile.write_text(self._path, text)


class Kept:
    """A sandbox that keeps its state in a file. It has `_memory`, `_lock`, `kept_state`, and `changed`, which it sets and this clears."""

    saves_later = False     # True while a Courier writes

    def save(self):
        """The state file holds everything that has happened so far; or soon will, where a Courier writes it (`saves_later`)."""
        if not self.saves_later:
            self.write()

    def write(self, *, paced=False):
        """The state file holds everything that has happened so far; with `paced` only if the last write is long enough ago."""
        with self._lock:
            if not self.changed or (paced and not self._memory.due()):
                return
            self.changed = False
            number, text = self._memory.text(self.kept_state)
        self._memory.write(number, text)
