"""Scheduled functions: their rate() fires as EventBridge would, but faster, so that nobody waits a minute for a sweep."""

import datetime
import logging
import threading
import uuid

from infra.local.aws import ACCOUNT, REGION
from infra.local.functions import scheduled_functions

log = logging.getLogger("local.scheduler")


def scheduled_event(name):
    """Answer the event that EventBridge sends for a rule of this name, made now."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"],
        "detail": {},
    }


class Scheduler:
    """One thread per schedule; each fires every `rate / speed` seconds, and never while its last run still goes on."""

    def __init__(self, app, *, speed=30.0):
        self._stopping = threading.Event()
        self.functions = scheduled_functions(app)
        self._threads = [
            threading.Thread(target=self._run, args=(each, each.every / speed), name=each.name, daemon=True)
            for each in self.functions]

    def start(self):
        """The first events come after one interval, as on AWS."""
        for thread in self._threads:
            thread.start()
        return self

    def ask_to_stop(self):
        """Nothing fires any more; `join` waits for what runs."""
        self._stopping.set()

    def join(self, timeout):
        """Wait until what runs is done, at most `timeout` seconds."""
        for thread in self._threads:
            thread.join(timeout)

    def _run(self, function, interval):
        while not self._stopping.wait(interval):
            function.invoke(scheduled_event(function.name))
