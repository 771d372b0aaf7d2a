"""A payment sandbox behind a port, with the thread that delivers its webhooks and keeps its state."""
import threading

from . import http
from .deliveries import Courier


class Running:
    """A sandbox (memory.Kept, with `deliveries` and `roll`) behind a port, delivering webhooks and keeping its state in the background.

    Whoever kills the process without `stop` loses what happened in the last second or so, no more: the courier looks at least
    twice a second, and writes unless it did so 0.25 s ago, or ten times what that write cost.
    """

    def __init__(self, sandbox, port, name):
        self.sandbox = sandbox
        self.server = http.serve(sandbox.handle, port)
        self.url = sandbox.public_url = self.server.url
        sandbox.saves_later = True
        self.courier = Courier(sandbox.deliveries, tick=sandbox.roll, save=lambda: sandbox.write(paced=True), name=name).start()

    def stop(self):
        """The port is free and everything is saved."""
        self.server.stop()
        self.courier.stop()
        self.sandbox.write()

    def until_interrupted(self, name):
        """Says where it is, and runs until Ctrl+C."""
        print(f"{name} sandbox at {self.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            self.stop()
