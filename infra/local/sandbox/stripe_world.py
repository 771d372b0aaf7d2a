"""The memory of the Stripe sandbox: objects in Stripe's own shape, ids, the instant, and the events that changes make."""
import copy
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from .stripe_params import API_VERSION, no_such

KINDS = ("product", "price", "customer", "payment_method", "subscription", "invoice", "checkout.session",
         "billing_portal.configuration", "billing_portal.session", "event",
         "subscription_schedule", "payment_intent", "charge", "invoice_payment", "refund", "dispute")
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
EVENTS_KEPT = 30 * 86400  # GET /v1/events goes back 30 days (docs.stripe.com/webhooks/process-undelivered-events)


@dataclass
class Options:
    """What an account owner sets in Stripe's Dashboard, and the guesses that a test may turn round.

    `billing_mode`: of new subscriptions. `final_failure`: "cancel" | "unpaid", after the last of `retry_days` (days
    after the attempt before). `draft_seconds`: how long a renewal invoice stays a draft, its payment not yet tried.
    `flag_sets_cancel_at`: cancel_at_period_end=true on a flexible subscription sets cancel_at as well.
    `portal_unvisited`, `portal_idle`: seconds that a portal URL lives before its first visit, and after its last.
    `first_payment`: "card" decides, or "succeed" | "action" (the bank asks the owner) | "decline" for every Checkout.
    `debit_days`: how long a bank debit is under way. `on_dispute`: "nothing" | "cancel" | "cancel_at_period_end", what becomes
    of a subscription whose payment is disputed.
    """

    billing_mode: str = "flexible"
    final_failure: str = "cancel"
    retry_days: tuple = (3, 5, 7)
    draft_seconds: int = 3600
    flag_sets_cancel_at: bool = False
    portal_unvisited: int = 300
    portal_idle: int = 3600
    first_payment: str = "card"
    debit_days: int = 5
    on_dispute: str = "nothing"


def new_state(seed):
    """The empty memory of one account; the same seed always gives the same ids."""
    return {"seed": seed, "drawn": 0, "objects": {kind: {} for kind in KINDS}, "cards": {}, "inside": {},
            "deliveries": [], "attempts": {}, "idempotency": {}}


class World:
    """One Stripe account. `state` is JSON all through; `changed` is True after each change until somebody saves it.

    `application` is the platform's, None in the platform's own account. `waiting()` lists the deliveries of all accounts.
    """

    def __init__(self, state, *, clock, account, public_url, options, application=None, waiting=None):
        self.state, self._clock = state, clock
        self.account, self.public_url, self.options = account, public_url, options
        self.application, self.waiting = application, waiting or (lambda: self.state["deliveries"])
        self.changed, self.request = False, None
        for kind in KINDS:  # a state file may be older than a kind
            state["objects"].setdefault(kind, {})
        self.on_event = lambda event: None
        self._at = None

    @property
    def now(self):
        """The instant of what is happening, in whole seconds: the clock, or the due time of the transition under way."""
        return int(self._clock.now()) if self._at is None else self._at

    @contextmanager
    def at(self, instant):
        """Inside, everything happens at `instant`."""
        before, self._at = self._at, instant
        try:
            yield
        finally:
            self._at = before

    def draw(self, length=24, *, kept=True):
        """A text nobody has had before, from the seed and the count of draws; `kept`: it must not come again after a restart."""
        self.state["drawn"] += 1
        self.changed = self.changed or kept
        number = int.from_bytes(hashlib.sha512(f"{self.state['seed']}:{self.state['drawn']}".encode()).digest(), "big")
        digits = []
        for _ in range(length):
            number, digit = divmod(number, 62)
            digits.append(ALPHABET[digit])
        return "".join(digits)

    def all(self, kind):
        """Every object of `kind`, oldest first."""
        return self.state["objects"][kind].values()

    def find(self, kind, key, param="id"):
        """The object, or resource_missing as Stripe words it."""
        found = self.state["objects"][kind].get(key)
        if found is None:
            raise no_such(_SPOKEN.get(kind, kind), key, param)
        return found

    def inside(self, key):
        """What Stripe knows about an object and does not show."""
        self.changed = True
        return self.state["inside"].setdefault(key, {})

    def add(self, obj, event=None):
        """`obj` exists; `event` is emitted. In a connected account it says which application made it."""
        if self.application and "application" in obj and not obj.get("is_default"):
            obj["application"] = self.application
        self.state["objects"][obj["object"]][obj["id"]] = obj
        self.changed = True
        if event:
            self.emit(event, obj)
        return obj

    @contextmanager
    def changing(self, obj, event=None):
        """After the block, `event` with previous_attributes is emitted when it changed `obj`; an exception undoes it."""
        before = copy.deepcopy(obj)
        try:
            yield obj
        except BaseException:
            obj.clear()
            obj.update(before)
            raise
        previous = difference(before, obj)
        if previous:
            self.changed = True
            if event:
                self.emit(event, obj, previous)

    def emit(self, event_type, obj, previous=None, *, livemode=False):
        """An event at this API version, stored for GET /v1/events and handed to `on_event`."""
        data = {"object": copy.deepcopy(obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {"id": "evt_1" + self.draw(23), "object": "event", "api_version": API_VERSION, "created": self.now, "data": data,
                 "livemode": livemode, "pending_webhooks": 0, "request": self.request or {"id": None, "idempotency_key": None},
                 "type": event_type}
        if self.application:
            event["account"] = self.account
        self.add(event)
        self.on_event(event)
        return event

    def forget(self):
        """Portal sessions a day after they expired, and events after 30 days with nothing left to deliver, are gone."""
        sessions, inside = self.state["objects"]["billing_portal.session"], self.state["inside"]
        for key in [k for k in sessions if inside[k]["expires"] < self.now - 86400]:
            del sessions[key], inside[key]
            self.changed = True
        events, waiting = self.state["objects"]["event"], {item["event"] for item in self.waiting()}
        old = self.now - EVENTS_KEPT
        # Oldest first, and no further: there may be thousands, and every request comes here.
        for key in [k for k, _ in takewhile(lambda entry: entry[1]["created"] < old, events.items()) if k not in waiting]:
            del events[key]
            self.state["attempts"].pop(key, None)
            self.changed = True


_SPOKEN = {"checkout.session": "checkout session", "billing_portal.configuration": "configuration",
           "billing_portal.session": "session", "payment_method": "PaymentMethod"}


def difference(before, after):
    """What previous_attributes holds: the old values of what changed, hashes cut down to the keys that did, lists whole."""
    changed = {}
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        changed[key] = difference(old, new) if isinstance(old, dict) and isinstance(new, dict) else copy.deepcopy(old)
    return changed
