"""The Lambda functions that an app declares beside its API: found in the Chalice app itself, none is named here."""

import logging
import threading
import traceback
from dataclasses import dataclass, field

from chalice.app import Rate, ScheduledEventConfig, SQSEventConfig
from chalice.local import LambdaContext

from chalicelib.settings import WORKER_SECONDS
from infra.local.permissions import acting_as

log = logging.getLogger("local.functions")


@dataclass
class Function:
    """One function: its name, what Lambda would call, and the queue (or the seconds between two events) behind it."""

    name: str
    handler: object
    queue: str = ""
    batch_size: int = 10
    every: float = 0.0
    _first: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def invoke(self, event):
        """Answer (what the function returned, None) or (None, the exception it raised).

        The function is told its limit and nothing stops it there: a thread cannot be ended from outside.
        """
        context = LambdaContext(self.name, 512, max_runtime_ms=WORKER_SECONDS * 1000)
        try:
            with acting_as(self.name):
                return self._handle(event, context), None
        except Exception as problem:
            log.error("function %s raised\n%s", self.name, traceback.format_exc())
            return None, problem

    def _handle(self, event, context):
        # Chalice builds the chain of middleware during the first call from a generator: two first calls at once would
        # leave one of them without any.
        if self.handler.handler is None:
            with self._first:
                return self.handler(event, context)
        return self.handler(event, context)


def queue_functions(app):
    """Answer a Function for each queue that the app listens to."""
    return [
        Function(source.name, app.handler_map[source.name], queue=_queue_name(source), batch_size=source.batch_size)
        for source in app.event_sources if isinstance(source, SQSEventConfig)]


def scheduled_functions(app):
    """Answer a Function for each schedule of the app; ValueError for one that cannot be fired locally."""
    return [
        Function(source.name, app.handler_map[source.name], every=_seconds(source.schedule_expression))
        for source in app.event_sources if isinstance(source, ScheduledEventConfig)]


def _queue_name(source):
    return source.queue or source.queue_arn.rsplit(":", 1)[1]


def _seconds(expression):
    text = expression.to_string() if isinstance(expression, Rate) else str(expression)
    words = text.removeprefix("rate(").removesuffix(")").split()
    unit = {"minute": 60, "hour": 3600, "day": 86400}.get(words[-1].removesuffix("s"))
    if not text.startswith("rate(") or unit is None:
        raise ValueError(f"{text}: only rate() schedules are fired locally")
    return int(words[0]) * unit
