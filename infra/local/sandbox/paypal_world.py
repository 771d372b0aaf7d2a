"""The memory of the PayPal sandbox: merchants with their things, buyers, ids, the instant, and the events that changes make."""
import copy
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import takewhile

KINDS = ("product", "plan", "subscription", "sale", "refund", "dispute", "event")
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ACCOUNT_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"   # account ids have neither I, O, 0 nor 1 (account_id in the official file)
EVENTS_KEPT = 30 * 86400  # assumed: PayPal's list of events goes back 30 days


@dataclass(frozen=True)
class Merchant:
    """A PayPal business account and its one REST app, which has the webhooks with these ids."""

    id: str
    client_id: str = field(repr=False)
    secret: str = field(repr=False)
    name: str = "Rolekeep sandbox shop"
    webhook_ids: tuple = ()


@dataclass
class Options:
    """The guesses and moods of PayPal that a test may turn round; times in seconds.

    `run_delay`: between the time of a payment by the calendar (10:00 UTC) and the payment. `settles`: how long after an approval
    its first cycle is not counted yet. `trial_lie`: how long after the approval of a free trial next_billing_time shows the start.
    `first`: "activated" | "sale" | "unpaid", which event of an approval comes first, or ACTIVATED from before the payment.
    `reactivated`: the event type of an activation. `unapproved`: how long an approval is waited for. `after_activation`: between an
    activation with a payment overdue and that payment. `token_life`: of an access token, wall time.
    """

    run_delay: int = 1800
    settles: int = 60
    trial_lie: int = 0
    first: str = "activated"
    reactivated: str = "BILLING.SUBSCRIPTION.RE-ACTIVATED"
    unapproved: int = 3 * 3600
    after_activation: int = 3600
    token_life: int = 32400


def new_state(seed):
    """The empty memory; the same seed always gives the same ids."""
    return {"seed": seed, "drawn": 0, "merchants": {}, "payers": {}, "tokens": {}, "deliveries": [], "attempts": {}}


class World:
    """What one merchant has at PayPal. `whole` is the state of the sandbox, shared by all merchants; JSON all through.

    `deliver(event)` is called with each new event, if set. `changed` is True after each change until somebody saves it.
    """

    def __init__(self, whole, merchant, *, clock, public_url, options):
        self.whole, self.merchant, self.clock = whole, merchant, clock
        self.public_url, self.options = public_url, options
        self.state = whole["merchants"].setdefault(merchant.id, {"objects": {}, "requests": {}})
        for kind in KINDS:  # a state file may be older than a kind
            self.state["objects"].setdefault(kind, {})
        self.changed, self.deliver, self._at = True, None, None

    # time and ids

    @property
    def now(self):
        """The instant of what is happening, in whole seconds: the clock, or the due time of the transition under way."""
        return int(self.clock.now()) if self._at is None else self._at

    @contextmanager
    def at(self, instant):
        """Inside, everything happens at `instant`."""
        before, self._at = self._at, instant
        try:
            yield
        finally:
            self._at = before

    def draw(self, length, letters=LETTERS):
        """A text nobody has had before, from the seed and the count of draws."""
        self.changed = True
        return draw(self.whole, length, letters)

    def url(self, path):
        """The address of `path` at this PayPal."""
        return self.public_url() + path

    # things

    def all(self, kind):
        """Every object of `kind`, oldest first."""
        return self.state["objects"][kind].values()

    def find(self, kind, key):
        """The object, or None."""
        return self.state["objects"][kind].get(key)

    def add(self, kind, obj):
        """`obj` exists under its id."""
        self.state["objects"][kind][obj.get("id") or obj["dispute_id"]] = obj
        self.changed = True
        return obj

    def emit(self, event_type, resource, resource_type, resource_version=None, summary=""):
        """The event object, stored for GET /v1/notifications/webhooks-events and handed to `deliver`.

        Key order and the absence of resource_version for sales and disputes are those of real events (docs/sandbox-paypal-notes.md).
        """
        key = f"WH-{self.draw(17)}-{self.draw(17)}"
        here = self.url(f"/v1/notifications/webhooks-events/{key}")
        event = {
            "id": key, "event_version": "1.0", "create_time": iso_ms(self.now), "resource_type": resource_type,
            **({"resource_version": resource_version} if resource_version else {}), "event_type": event_type, "summary": summary,
            "resource": copy.deepcopy(resource),
            "links": [{"href": here, "rel": "self", "method": "GET"}, {"href": f"{here}/resend", "rel": "resend", "method": "POST"}]}
        self.add("event", event)
        if self.deliver:
            self.deliver(event)
        return event

    def forget(self):
        """Events after 30 days with nothing left to deliver are gone."""
        events, waiting = self.state["objects"]["event"], {item["event"] for item in self.whole["deliveries"]}
        old = iso_ms(self.now - EVENTS_KEPT)
        # Oldest first, and no further: there may be thousands, and every request comes here.
        for key in [k for k, _ in takewhile(lambda entry: entry[1]["create_time"] < old, events.items()) if k not in waiting]:
            del events[key]
            self.whole["attempts"].pop(key, None)
            self.changed = True


def draw(whole, length, letters=LETTERS):
    """A text of `letters` from the seed of the state `whole`, other than the ones before."""
    whole["drawn"] += 1
    number = int.from_bytes(hashlib.sha512(f"{whole['seed']}:{whole['drawn']}".encode()).digest(), "big")
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(letters))
        digits.append(letters[digit])
    return "".join(digits)


def iso(epoch):
    """2026-01-31T12:00:00Z."""
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_ms(epoch):
    """2026-01-31T12:00:00.000Z, as the create_time of events."""
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
