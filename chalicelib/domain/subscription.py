"""A subscription in its normal form, the same for every processor, and what it means at a given instant.

Instants are whole seconds since the epoch on the business clock.
"""
from dataclasses import asdict, dataclass

DAY = 86_400
UNREAD = "unread"

_PAID = ("active", "trialing")
_NO_ACCESS = ("incomplete", "incomplete_expired", "unpaid", "canceled", "paused")
_TERMINAL = ("canceled", "incomplete_expired")
STATUSES = (*_PAID, "past_due", *_NO_ACCESS)


class Unreadable(Exception):
    """A processor's answer lacks what a decision needs: the subscription counts as unknown and strips nothing."""


@dataclass(frozen=True)
class Item:
    """One line of a subscription: the price bought and the period it is paid for."""
    price: str
    start: int
    end: int


@dataclass(frozen=True)
class Subscription:
    """One processor subscription. `status` is the processor's word, or `unread` before the first read."""
    key: str
    status: str = UNREAD
    customer: str = ""
    items: tuple = ()
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    ended_at: int | None = None
    read_at: int = 0

    @property
    def id(self):
        return self.key.rsplit(":", 1)[1]

    @property
    def account(self):
        return self.key.split(":")[1]

    @property
    def terminal(self):
        """True when the processor will never bring it back, so it need not be read again."""
        return self.status in _TERMINAL

    @property
    def scheduled(self):
        """True when it will end by itself, in either of Stripe's two forms (flag, or an instant)."""
        return not self.terminal and (self.cancel_at_period_end or self.cancel_at is not None)

    @property
    def scheduled_end(self):
        """The announced end, or None: `cancel_at`, else the earliest period end when only the flag is set."""
        if not self.scheduled:
            return None
        return self.cancel_at if self.cancel_at is not None else min(item.end for item in self.items)

    def facts(self):
        """The form kept in the membership: a map of plain values, without the key."""
        facts = asdict(self)
        del facts["key"]
        facts["items"] = [asdict(item) for item in self.items]
        return facts


def from_facts(key, facts):
    """The subscription that `facts()` was made of; unknown fields of a newer version are left alone."""
    known = {name: facts[name] for name in Subscription.__dataclass_fields__ if name in facts}
    known["items"] = tuple(Item(price=i["price"], start=i["start"], end=i["end"]) for i in facts.get("items") or ())
    return Subscription(key=key, **known)


def from_stripe(key, answer, *, read_at):
    """The normal form of a Stripe subscription object (a dict).

    Periods are read from the items first, then from the top (facts of API versions before 2025-03-31.basil). Raises
    Unreadable for an unknown status or a subscription without periods: a guess there would strip somebody.
    """
    try:
        status = answer["status"]
        if answer["id"] != key.rsplit(":", 1)[1] or status not in STATUSES:
            raise Unreadable("the answer is another subscription's, or has a status that is not known")
        items = tuple(_stripe_item(item, answer) for item in answer["items"]["data"])
        if not items and status not in _NO_ACCESS:
            raise Unreadable("a live subscription without items")
        customer = answer["customer"]
        return Subscription(
            key=key, status=status, items=items, read_at=read_at,
            customer=customer["id"] if isinstance(customer, dict) else customer,
            cancel_at=_instant(answer.get("cancel_at")), cancel_at_period_end=bool(answer.get("cancel_at_period_end")),
            ended_at=_instant(answer.get("ended_at")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"a subscription of an unknown shape ({type(error).__name__})") from None


def _stripe_item(item, answer):
    start = item.get("current_period_start") or answer.get("current_period_start")
    end = item.get("current_period_end") or answer.get("current_period_end")
    if start is None or end is None:
        raise Unreadable("neither the item nor the subscription says when the period ends")
    return Item(price=item["price"]["id"], start=_instant(start), end=_instant(end))


def _instant(value):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**11:
        raise ValueError("not an instant in seconds")
    return value


@dataclass(frozen=True)
class Access:
    """What one item gives: whether it stands now, until when (None: it renews), and whether that is grace."""
    stands: bool
    until: int | None = None
    grace: bool = False


def access(sub, item, *, grace_days, now):
    """What this item of this subscription gives at `now`.

    active and trialing stand until the scheduled end, if there is one; past_due stands for the offer's grace, counted
    from the start of the item's period (Stripe moves the period on although the renewal is unpaid); nothing else stands.
    """
    if sub.status in _PAID:
        until, grace = sub.scheduled_end, False
    elif sub.status == "past_due":
        until, grace = item.start + grace_days * DAY, True
        if sub.scheduled_end is not None:
            until = min(until, sub.scheduled_end)
    else:
        return Access(stands=False)
    return Access(stands=until is None or now < until, until=until, grace=grace)


def instants(sub, *, grace_days):
    """Every instant at which this subscription's meaning may change by the clock alone: ends, period ends, grace ends.

    `grace_days` answers for an item how many days of grace its offer gives.
    """
    if sub.status not in (*_PAID, "past_due"):
        return
    for item in sub.items:
        yield item.end
        yield item.start + grace_days(item) * DAY
    if sub.scheduled_end is not None:
        yield sub.scheduled_end
