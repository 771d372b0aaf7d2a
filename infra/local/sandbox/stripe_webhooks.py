"""Webhooks of the Stripe sandbox: signed, delivered at least once and in no promised order, retried, faulted on order."""
import hashlib
import hmac
import json
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase

import requests

from .clock import to_iso

BACK_OFF = (1, 2, 4, 8, 15, 30, 60, 120, 300)  # seconds between attempts; Stripe's own take days (docs.stripe.com/webhooks)
ANSWER_WITHIN = 20.0


@dataclass(frozen=True)
class Endpoint:
    """A registered webhook endpoint; with two secrets (while rotating) there are two v1 signatures.

    A Connect endpoint gets the events of connected accounts, any other those of the platform's own account.
    """

    url: str
    secrets: tuple
    enabled_events: tuple = ("*",)
    connect: bool = False

    def wants(self, event):
        """Whether the endpoint is subscribed to such an event of such an account."""
        return self.connect == ("account" in event) and any(fnmatchcase(event["type"], pattern) for pattern in self.enabled_events)


def signature(body, secrets, at):
    """The Stripe-Signature header over raw bytes, signed at `at` (wall clock, seconds) with each secret."""
    made = [hmac.new(secret.encode(), f"{int(at)}.".encode() + body, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={int(at)}", *(f"v1={one}" for one in made)])


def post(url, headers, body):
    """The status an endpoint answered, or 0 when it did not answer in time or at all. Redirects are not followed, as at Stripe."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy of this machine's has no business between two local ports
        try:
            return session.post(url, data=body, headers=headers, timeout=ANSWER_WITHIN, allow_redirects=False).status_code
        except requests.RequestException:
            return 0


class Deliveries:
    """What is still to be delivered, kept in the world's state so that a restart loses nothing.

    `world` is the platform's own; `worlds` all by their account. `post(url, headers, body) -> status` (0: no answer) is
    injected; `pump` works without threads, `Courier` with them.
    Every method may be called from any thread; no lock is held while an endpoint is being called.
    """

    def __init__(self, world, endpoints, *, wall, faults, lock, post=post):
        self.world, self.endpoints, self._wall, self._faults = world, list(endpoints), wall, faults
        self._lock, self._post, self._under_way = lock, post, set()
        self.worlds = {world.account: world}
        self.woken = threading.Event()

    @property
    def waiting(self):
        """The deliveries still to be made, oldest first."""
        return self.world.state["deliveries"]

    def enqueue(self, event):
        """`event` will be posted to every endpoint that wants it, unless a fault order says otherwise."""
        targets = [endpoint for endpoint in self.endpoints if endpoint.wants(event)]
        event["pending_webhooks"] = len(targets)
        order = self._faults.take("webhook", event["type"]) or {}
        do = order.get("do")
        if do == "drop":
            return
        for endpoint in targets * (2 if do == "duplicate" else 1):
            wait = float(order.get("seconds", 5)) * (self._part() if do == "shuffle" else do == "delay")
            self._add(event, endpoint.url, held=do == "hold", due=self._wall() + wait)

    def _add(self, event, url, *, due, held=False, line=None):
        self.waiting.append({"id": self.world.draw(12), "event": event["id"], "account": event.get("account"), "url": url, "due": due,
                             "tries": 0, "held": held, "line": line})
        self.world.changed = True
        self.woken.set()

    def _part(self):
        """A number from 0 to 1, other than the last one, and the same again from the same seed."""
        return int(hashlib.sha256(self.world.draw(12).encode()).hexdigest()[:8], 16) / 2**32

    def resend(self, event):
        """The event is posted once more to every endpoint that wants it; how many those are."""
        with self._lock:
            targets = [endpoint for endpoint in self.endpoints if endpoint.wants(event)]
            for endpoint in targets:
                self._add(event, endpoint.url, due=self._wall())
            return len(targets)

    def _state_of(self, item):
        return self.worlds[item.get("account") or self.world.account].state

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
        status = 0
        try:
            with self._lock:
                event = self._state_of(item)["objects"]["event"].get(item["event"])
                endpoint = next((e for e in self.endpoints if e.url == item["url"]), None)
                body = json.dumps(event, indent=2, ensure_ascii=False).encode()
            if event is not None and endpoint is not None:  # an endpoint that is registered no more gets no retries
                status = self._post(endpoint.url, _headers(body, endpoint, self._wall()), body)
        finally:
            with self._lock:
                self._settle(item, status, registered=endpoint is not None)
        return 200 <= status < 300

    def _settle(self, item, status, *, registered):
        self._under_way.discard(item["id"])
        self._state_of(item)["attempts"].setdefault(item["event"], []).append({"at": to_iso(self._wall()), "status": status, "url": item["url"]})
        item["tries"] += 1
        item["line"] = None
        self.world.changed = True
        if 200 <= status < 300:
            event = self._state_of(item)["objects"]["event"].get(item["event"])
            if event is not None:
                event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
        elif registered and item["tries"] <= len(BACK_OFF):
            item["due"] = self._wall() + BACK_OFF[item["tries"] - 1]
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


def _headers(body, endpoint, at):
    return {"Content-Type": "application/json; charset=utf-8", "Accept": "*/*; q=0.5, application/xml", "Cache-Control": "no-cache",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)", "Stripe-Signature": signature(body, endpoint.secrets, at)}


class Courier:
    """A background thread that delivers what is due, several at once, and lets `tick` look at the clock twice a second."""

    def __init__(self, deliveries, *, tick, save):
        self._deliveries, self._tick, self._save = deliveries, tick, save
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="stripe-webhook")
        self._thread = threading.Thread(target=self._run, name="stripe-courier", daemon=True)

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
            self._deliveries.attempt(item)
        self._deliveries.woken.set()
