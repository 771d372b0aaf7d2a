"""A process of the bench's own: it says what happens in JSON lines on its standard output, and ends when its input does."""
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading

from infra.local.aws import ROOT

WITHIN = 30     # seconds for an answer


class Silent(Exception):
    """A child did not say what was waited for; its log says more."""


class Child:
    """`python -m <module>` with these settings in its environment; `ready` is the first thing that it says.

    `heard` is called with everything it says unasked (from a thread of ours).
    """

    def __init__(self, module, settings, *, log, heard=lambda said: None):
        self._module, self._heard, self._answers = module, heard, queue.Queue()
        self._log = open(pathlib.Path(log), "ab")
        self._process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env={**os.environ, **settings}, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ready = self._next()

    def ask(self, word):
        """What the child answers to this word."""
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._next()

    def stop(self):
        """The process has ended."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()
        self._log.close()

    def _read(self):
        for line in self._process.stdout:
            said = json.loads(line)
            if "unasked" in said:
                self._heard(said["unasked"])
            else:
                self._answers.put(said)
        self._answers.put(None)

    def _next(self):
        try:
            said = self._answers.get(timeout=WITHIN)
        except queue.Empty:
            said = None
        if said is None:
            raise Silent(f"{self._module} said nothing more")
        return said


class Voice:
    """The child's side: standard output is for `say` alone, whatever else is printed goes to standard error."""

    def __init__(self):
        self._out, sys.stdout, self._lock = sys.stdout, sys.stderr, threading.Lock()

    def say(self, what):
        """The parent hears `what`."""
        with self._lock:
            print(json.dumps(what), file=self._out, flush=True)

    def answer(self, replies):
        """Every word of the parent is answered by the function of that name, until the parent is gone, however it went."""
        for line in sys.stdin:
            self.say(replies[line.strip()]())
