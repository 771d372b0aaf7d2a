"""Webhooks of the Stripe sandbox: whom an event goes to, and how it is signed. How it gets there: deliveries.py."""
import hashlib
import hmac
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase

from . import deliveries
from .deliveries import Courier, post

__all__ = ["BACK_OFF", "Courier", "Deliveries", "Endpoint", "post", "signature"]
BACK_OFF = (1, 2, 4, 8, 15, 30, 60, 120, 300)  # seconds between attempts; Stripe's own take days (docs.stripe.com/webhooks)


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


class Deliveries(deliveries.Deliveries):
    """Stripe's deliveries. `world` is the platform's own; `worlds` all by their account."""

    def __init__(self, world, endpoints, *, wall, faults, lock, post=post):
        super().__init__(world, wall=wall, faults=faults, lock=lock, back_off=BACK_OFF, post=post)
        self.endpoints, self.worlds = list(endpoints), {world.account: world}

    def kind(self, event):
        return event["type"]

    def targets(self, event):
        return [endpoint for endpoint in self.endpoints if endpoint.wants(event)]

    def addressed(self, event, endpoint):
        return {"account": event.get("account"), "url": endpoint.url}

    def enqueue(self, event):
        """As in the neutral one; the event tells how many endpoints have not taken it yet."""
        event["pending_webhooks"] = len(self.targets(event))
        return super().enqueue(event)

    def request(self, item):
        event, endpoint = self._event(item), next((e for e in self.endpoints if e.url == item["url"]), None)
        if event is None or endpoint is None:
            return None
        body = json.dumps(event, indent=2, ensure_ascii=False).encode()
        return endpoint.url, _headers(body, endpoint, self._wall()), body

    def noted(self, item, entry):
        self._state_of(item)["attempts"].setdefault(item["event"], []).append(entry)

    def delivered(self, item):
        event = self._event(item)
        if event is not None:
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)

    def _event(self, item):
        return self._state_of(item)["objects"]["event"].get(item["event"])

    def _state_of(self, item):
        return self.worlds[item.get("account") or self.world.account].state


def _headers(body, endpoint, at):
    return {"Content-Type": "application/json; charset=utf-8", "Accept": "*/*; q=0.5, application/xml", "Cache-Control": "no-cache",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)", "Stripe-Signature": signature(body, endpoint.secrets, at)}
