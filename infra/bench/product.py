"""`python -m infra.bench.product`: the API and the queue functions in one process, each call of a function timed.

It says {"url"}; to "meters" it answers {function: {"cpu": [seconds], "wall": [seconds], "records": n}} since it was asked
last, once everything that came in has been worked on. CPU is that of the function's own thread, from the Lambda event to
the answer: the HTTP server and the poller before it stand for services of AWS and are not counted.
"""
import importlib
import threading
import time

import boto3

from infra.bench.child import WITHIN, Voice
from infra.local import functions, pollers, web
from infra.local.permissions import API

POLLERS = 8


class Meters:
    """What the calls of each function took, and how many webhooks the queue has taken and given back."""

    def __init__(self):
        self._changed, self._taken, self._worked, self._read = threading.Condition(), 0, 0, {}

    def timed(self, call, *, name, records):
        """`call`, measured: `name` and `records` work out from its arguments whose time it is, and for how many records."""
        def measured(*args, **kwargs):
            wall, cpu = time.monotonic(), time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._add(name(*args), time.thread_time() - cpu, time.monotonic() - wall, records(*args))
        return measured

    def _add(self, name, cpu, wall, records):
        with self._changed:
            meter = self._read.setdefault(name, {"cpu": [], "wall": [], "records": 0})
            meter["cpu"].append(cpu)
            meter["wall"].append(wall)
            meter["records"] += records
            self._worked += records
            self._changed.notify_all()

    def took(self):
        """One more record is in the queue."""
        with self._changed:
            self._taken += 1

    def settled(self):
        """The meters since the last time, when as many records have been worked on as were put into the queue."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._worked >= self._taken, WITHIN - 5):
                raise TimeoutError(f"{self._taken - self._worked} records were not worked on")
            read, self._read = self._read, {}
        return read


def main():
    """Serve until standard input ends."""
    voice, meters, poke = Voice(), Meters(), threading.Semaphore(0)
    app = importlib.import_module("app").app
    functions.Function.invoke = meters.timed(
        functions.Function.invoke, name=lambda function, event: function.name, records=lambda function, event: len(event["Records"]))
    handle = meters.timed(web.Gateway.handle_request, name=lambda *_: API, records=lambda *_: 0)

    def handled(gateway, method, path, headers, body):
        answer = handle(gateway, method, path, headers, body)
        if path.startswith("/webhooks/"):
            meters.took()
            poke.release()
        return answer

    # The embedded queue answers a waiting poller after up to 100 ms; one that is told at once waits for nothing that is not ours.
    web.Gateway.handle_request = handled
    _start_pollers(app, poke)
    voice.say({"url": web.WebServer(app).url})
    voice.answer({"meters": meters.settled})


def _start_pollers(app, poke):
    """Eight pollers take from the webhooks' queue, each when it is told that there is something."""
    sqs = boto3.client("sqs")
    [function] = [each for each in functions.queue_functions(app) if each.queue.endswith("stripe-events")]

    def run(poller):
        while poke.acquire():
            poller.poll_once()

    for _ in range(POLLERS):
        poller = pollers.Poller(function, sqs, threads=0)
        threading.Thread(target=run, args=(poller,), daemon=True).start()


if __name__ == "__main__":
    main()
