"""Webhook deliveries of the payment sandboxes: at least once, in no promised order, retried, faulted on order.

What differs between processors (whom an event goes to, how it is signed, how long it is tried) is in stripe_webhooks.py and
paypal_webhooks.py.
"""
import hashlib
import threading
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import requests

from .clock import to_iso

ANSWER_WITHIN = 20.0


def post(url, headers, body):
    """The status an endpoint answered, or 0 when it did not answer in time or at all. Redirects are not followed, as at Stripe and PayPal."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy of this machine's has no business between two local ports
        try:
            return session.post(url, data=body, headers=headers, timeout=ANSWER_WITHIN, allow_redirects=False).status_code
        except requests.RequestException:
            return 0


class Deliveries:
    """What is still to be delivered, kept in a world's state so that a restart loses nothing.

    `world` has `state["deliveries"]`, `draw(length)` and `changed`. `post(url, headers, body) -> status` (0: no answer) is
    injected; `pump` works without threads, `Courier` with them. `back_off`: the seconds after each failed attempt; then it is given up.
    Every method may be called from any thread; no lock is held while an endpoint is being called.

    A processor says: `targets(event)`, the endpoints that want it; `addressed(event, endpoint)`, the fields by which a delivery
    finds both again; `request(item)`, its (url, headers, body), or None when event or endpoint are there no more; `noted(item,
    entry)`, which keeps {at, status, url} of an attempt; `kind(event)`, its type; `delivered(item)`, what an event's success changes.
    """

    def __init__(self, world, *, wall, faults, lock, back_off, post=post):
        self.world, self._wall, self._faults, self._back_off = world, wall, faults, back_off
        self._lock, self._post, self._under_way = lock, post, set()
        self.woken = threading.Event()

    @property
    def waiting(self):
        """The deliveries still to be made, oldest first."""
        return self.world.state["deliveries"]

    def delivered(self, item):
        """The delivery was answered with 2xx."""

    def enqueue(self, event):
        """`event` will be posted to every endpoint that wants it, unless a fault order says otherwise. The order is returned."""
        targets = self.targets(event)
        order = self._faults.take("webhook", self.kind(event)) or {}
        do = order.get("do")
        if do in ("drop", "lose"):
            return order
        for endpoint in targets * (2 if do == "duplicate" else 1):
            wait = float(order.get("seconds", 5)) * (self._part() if do == "shuffle" else do == "delay")
            self._add(event, endpoint, held=do == "hold", due=self._wall() + wait)
        return order

    def _add(self, event, endpoint, *, due, held=False, line=None):
        self.waiting.append({"id": self.world.draw(12), "event": event["id"], **self.addressed(event, endpoint), "due": due,
                             "tries": 0, "held": held, "line": line})
        self.world.changed = True
        self.woken.set()

    def _part(self):
        """A number from 0 to 1, other than the last one, and the same again from the same seed."""
        return int(hashlib.sha256(self.world.draw(12).encode()).hexdigest()[:8], 16) / 2**32

    def resend(self, event):
        """The event is posted once more to every endpoint that wants it; how many those are."""
        with self._lock:
            targets = self.targets(event)
            for endpoint in targets:
                self._add(event, endpoint, due=self._wall())
            return len(targets)

    def release(self, order="as_made"):
        """Held deliveries go out one after the other, as_made, reverse or shuffle; how many those are."""
        with self._lock:
            held = [item for item in self.waiting if item["held"]]
            if order == "shuffle":
                held = [item for _, item in sorted(((self.world.draw(8), item) for item in held), key=lambda pair: pair[0])]
            elif order == "reverse":
                held.reverse()
            line = self.world.draw(8)
            rest = [item for item in self.waiting if not item["held"]]
            for item in held:
                item |= {"held": False, "due": self._wall(), "line": line}
            self.world.state["deliveries"] = rest + held
            self.world.changed = True
            self.woken.set()
            return len(held)

    def take_due(self):
        """Deliveries due now, the earliest due first, which nobody else will take until `attempt` is through with them."""
        with self._lock:
            now = self._wall()
            due = [item for item in self.waiting if not item["held"] and item["due"] <= now and item["id"] not in self._under_way]
            self._under_way |= {item["id"] for item in due}
            return sorted(due, key=lambda item: item["due"])

    def next_due(self):
        """The wall-clock instant of the earliest delivery that is not held, or None."""
        with self._lock:
            return min((item["due"] for item in self.waiting if not item["held"] and item["id"] not in self._under_way), default=None)

    def attempt(self, item):
        """One post; then the delivery is done, due again later, or given up. True when it was answered with 2xx."""
        status, request = 0, None
        try:
            with self._lock:
                request = self.request(item)
            if request is not None:  # an endpoint that is registered no more gets no retries
                status = self._post(*request)
        finally:
            with self._lock:
                self._settle(item, status, registered=request is not None)
        return 200 <= status < 300

    def _settle(self, item, status, *, registered):
        self._under_way.discard(item["id"])
        self.noted(item, {"at": to_iso(self._wall()), "status": status, "url": item["url"]})
        item["tries"] += 1
        item["line"] = None
        self.world.changed = True
        if 200 <= status < 300:
            self.delivered(item)
        elif registered and item["tries"] <= len(self._back_off):
            item["due"] = self._wall() + self._back_off[item["tries"] - 1]
            return
        self.waiting.remove(item)

    def pump(self, *, order="as_made", rounds=1000):
        """Everything due has been tried, one by one, also what those tries made due. The number of attempts."""
        made = 0
        for _ in range(rounds):
            due = self.take_due()
            if not due:
                break
            for item in reversed(due) if order == "reverse" else due:
                self.attempt(item)
                made += 1
        return made


class Courier:
    """A background thread that delivers what is due, several at once, and lets `tick` look at the clock twice a second."""

    def __init__(self, deliveries, *, tick, save, name="stripe"):
        self._deliveries, self._tick, self._save = deliveries, tick, save
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix=f"{name}-webhook")
        self._thread = threading.Thread(target=self._run, name=f"{name}-courier", daemon=True)

    def start(self):
        """Deliveries are being made."""
        self._thread.start()
        return self

    def stop(self):
        """No new delivery begins; those under way have at most their time-out."""
        self._stopping.set()
        self._deliveries.woken.set()
        self._thread.join(5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self):
        while not self._stopping.is_set():
            self._tick()
            lines = defaultdict(list)
            for item in self._deliveries.take_due():
                lines[item["line"] or item["id"]].append(item)
            for items in lines.values():
                self._pool.submit(self._deliver, items)
            self._save()
            self._deliveries.woken.wait(0.5)
            self._deliveries.woken.clear()

    def _deliver(self, items):
        for item in items:
            try:
                self._deliveries.attempt(item)
            except Exception:   # it is tried again like one without an answer; but somebody should see why
                traceback.print_exc()
        self._deliveries.woken.set()
