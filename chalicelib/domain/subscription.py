"""A subscription or a one-time purchase in its normal form, the same for every processor, and what it means at an instant.

Instants are whole seconds since the epoch on the business clock.
"""
from dataclasses import asdict, dataclass, replace

DAY = 86_400
UNREAD = "unread"

_PAID = ("active", "trialing")
_NO_ACCESS = ("incomplete", "incomplete_expired", "unpaid", "canceled", "paused")
STATUSES = (*_PAID, "past_due", *_NO_ACCESS)
# Of a purchase: the Checkout Session is open or has expired, its payment is under way, has failed, or was made.
OPEN, EXPIRED, PROCESSING, FAILED, BOUGHT = "open", "expired", "processing", "failed", "bought"
# Of a PayPal subscription: payments have stopped but may begin again; it has ended for good, and what was paid runs out.
SUSPENDED, RUNNING_OUT = "suspended", "running_out"
_UNPAID = ("past_due", SUSPENDED)
_TERMINAL = ("canceled", "incomplete_expired", EXPIRED, FAILED, RUNNING_OUT)
GIVEN_UP = 0    # instead of an end: what was paid has been given up by cancelling at once
BOOKED_LATE = 3 * DAY   # so long after a cancellation PayPal may still book a payment that was under way


class Unreadable(Exception):
    """A processor's answer lacks what a decision needs: the subscription counts as unknown and strips nothing."""


@dataclass(frozen=True)
class Item:
    """One line of a subscription: the price bought and its current period; `paid` when that was asked (`deciding_invoice`).

    Of a purchase: `start` is the instant of the payment, `end` None (how long it lasts is the offer's to say). `charged`: what
    each period really costs, where the processor lets it differ from the price ("500 eur"; PayPal).
    """
    price: str
    start: int
    end: int | None
    paid: bool | None = None
    charged: str = ""


@dataclass(frozen=True)
class Subscription:
    """One processor subscription, or one purchase. `status` is the processor's word, or `unread` before the first read.

    `unpaid_since` is the start of the first period that was not paid, since it is past_due (see `remembering`). `void` is true while its owner provides no service: collection is paused and invoices are voided. `schedule` is the id of
    what manages its phases, such as a planned change of plan. Of a purchase: `charge`
    is the id of what was paid, `troubled` true when something of it was refunded or disputed. Of a PayPal subscription:
    `paid_at` is the last payment, `paid_through` the end of what is paid, as last read while it was (`remembering`); `starts_at` is set while it has not begun.
    """
    key: str
    status: str = UNREAD
    customer: str = ""
    items: tuple = ()
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    ended_at: int | None = None
    read_at: int = 0
    unpaid_since: int | None = None
    void: bool = False
    schedule: str = ""
    charge: str = ""
    troubled: bool = False
    paid_through: int | None = None
    paid_at: int | None = None
    starts_at: int | None = None
    unread_since: int = 0   # the first read in a row that failed; 0: the last one told something

    @property
    def id(self):
        return self.key.rsplit(":", 1)[1]

    @property
    def processor(self):
        return self.key.split(":")[0]

    @property
    def account(self):
        return self.key.split(":")[1]

    @property
    def terminal(self):
        """True when the processor will never bring it back, so it need not be read again."""
        return self.status in _TERMINAL

    @property
    def scheduled(self):
        """True when it will end by itself, in either of Stripe's two forms (flag, or an instant), or as PayPal's do."""
        return self.status == RUNNING_OUT or not self.terminal and (self.cancel_at_period_end or self.cancel_at is not None)

    @property
    def ended(self):
        """True when nothing of it is left: nothing is charged, and nothing that was paid runs on."""
        return self.terminal and self.status != RUNNING_OUT

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
    known["items"] = tuple(Item(i["price"], i["start"], i["end"], i.get("paid"), i.get("charged", "")) for i in facts.get("items") or ())
    return Subscription(key=key, **known)


def deciding_invoice(answer):
    """The id of the invoice that tells which items of a Stripe subscription object are paid; None when it says so itself.

    Asked only where the status does not tell: while invoices are voided the status stays active; and past_due says that one
    item is not paid, which leaves the others open when their periods differ. Raises Unreadable.
    """
    try:
        differ = len({item.get("current_period_end") for item in answer["items"]["data"]}) > 1
        if not _voids(answer) and not (answer["status"] == "past_due" and differ):
            return None
        invoice = answer["latest_invoice"]
        return invoice["id"] if isinstance(invoice, dict) else invoice
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"a subscription of an unknown shape ({type(error).__name__})") from None


def from_stripe(key, answer, *, read_at, invoice=None):
    """The normal form of a Stripe subscription object (a dict); `invoice` is the object that `deciding_invoice` names.

    Periods are read from the items first, then from the top (facts of API versions before 2025-03-31.basil). Raises
    Unreadable for an unknown status or a subscription without periods: a guess there would strip somebody.
    """
    try:
        status = answer["status"]
        if answer["id"] != key.rsplit(":", 1)[1] or status not in STATUSES:
            raise Unreadable("the answer is another subscription's, or has a status that is not known")
        items = tuple(_stripe_item(item, answer, invoice) for item in answer["items"]["data"])
        if not items and status not in _NO_ACCESS:
            raise Unreadable("a live subscription without items")
        return Subscription(
            key=key, status=status, items=items, read_at=read_at, customer=_id(answer["customer"]), void=_voids(answer),
            schedule=_id(answer.get("schedule")) or "",
            cancel_at=_instant(answer.get("cancel_at")), cancel_at_period_end=bool(answer.get("cancel_at_period_end")),
            ended_at=_instant(answer.get("ended_at")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"a subscription of an unknown shape ({type(error).__name__})") from None


def from_checkout(key, answer, *, read_at):
    """The normal form of what a Stripe Checkout Session in payment mode sold; `payment_intent.latest_charge` and `line_items`
    must be expanded in `answer` (a dict). Raises Unreadable.
    """
    try:
        if answer["id"] != key.rsplit(":", 1)[1] or answer["mode"] != "payment" or answer["line_items"]["has_more"]:
            raise Unreadable("the answer is another session's, or sold more than can be read")
        intent = answer.get("payment_intent") or {}
        charge = intent.get("latest_charge") or {}
        start = _instant(charge.get("created") or answer["created"])
        return Subscription(
            key=key, status=_checkout_status(answer, intent), customer=_id(answer.get("customer")) or "", read_at=read_at,
            items=tuple(Item(line["price"]["id"], start, None) for line in answer["line_items"]["data"]),
            charge=charge.get("id", ""), troubled=bool(charge.get("amount_refunded") or charge.get("disputed")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"a Checkout Session of an unknown shape ({type(error).__name__})") from None


def remembering(known, found, *, fixed=None):
    """`found`, freshly read, which knows from what was `known` before since when it has not been paid, or until when it is.

    The processor does not say the first: its periods go on while it tries again, so counting from the present one would begin the
    grace anew with each period of a weekly plan. PayPal forgets the second with the cancellation. `fixed`: the end that was read
    before a cancellation of ours, or GIVEN_UP.
    """
    if found.status == RUNNING_OUT:
        return _running_out(known, found, fixed)
    if found.status not in _UNPAID:
        return found
    if known is not None and _covers(known.paid_through, found):
        found = replace(found, paid_through=known.paid_through, items=tuple(replace(item, start=known.paid_through) for item in found.items))
    since = min((item.start for item in found.items if not item.paid), default=None)
    if known is not None and known.unpaid_since is not None and since is not None:
        since = min(since, known.unpaid_since)
    return replace(found, unpaid_since=since)


def _running_out(known, found, fixed):
    """What PayPal has ended, until the end that was remembered; worked out (`from_paypal`) only where nothing was."""
    ends = [end for end in (known and known.paid_through, fixed) if _covers(end, found)]
    unpaid = found.paid_through is None and (known is None or known.paid_at is None)    # an end was announced, and nothing came
    end = None if fixed == GIVEN_UP or unpaid else max(ends) if ends else found.paid_through
    if end is None or end <= found.read_at:
        return replace(found, status="canceled", ended_at=max(found.ended_at or 0, end or 0) or None, paid_through=end or known and known.paid_through)
    return replace(found, cancel_at=end, paid_through=end, ended_at=None)


def _covers(end, found):
    """True for a remembered end that the last payment is for: none was made since for a later period, of which nobody told us.

    A payment may come a little before the end of the period before it; a plan may be charged every day.
    """
    if not end or found.paid_at is None:
        return bool(end)
    return found.paid_at <= end - min(DAY, (found.items[0].end - found.paid_at) // 8)


def _checkout_status(answer, intent):
    """docs.stripe.com/api/checkout/sessions/object (status, payment_status); an asynchronous payment may still fail."""
    status, payment = answer["status"], answer["payment_status"]
    if status in (OPEN, EXPIRED):
        return status
    if status != "complete" or payment not in ("paid", "unpaid", "no_payment_required"):
        raise Unreadable("a Checkout Session with a status that is not known")
    if payment != "unpaid":
        return BOUGHT
    return FAILED if intent.get("status") in ("canceled", "requires_payment_method") else PROCESSING


def _voids(answer):
    """True while the owner provides no service: docs.stripe.com/billing/subscriptions/pause-payment; the other two behaviours
    (keep_as_draft, mark_uncollectible) are for services that go on, free of charge or paid later.
    """
    return (answer.get("pause_collection") or {}).get("behavior") == "void"


def _id(value):
    return value["id"] if isinstance(value, dict) else value


def _stripe_item(item, answer, invoice):
    start = item.get("current_period_start") or answer.get("current_period_start")
    end = item.get("current_period_end") or answer.get("current_period_end")
    if start is None or end is None:
        raise Unreadable("neither the item nor the subscription says when the period ends")
    paid = None if invoice is None else _pays(invoice, item, end)
    return Item(price=item["price"]["id"], start=_instant(start), end=_instant(end), paid=paid)


def _pays(invoice, item, end):
    """True when the item's current period is paid: this newest invoice is, or it is not for that period."""
    if invoice["status"] == "paid":
        return True
    if invoice["lines"]["has_more"]:
        raise Unreadable("an invoice with more lines than can be read")
    asked = [line["period"]["end"] for line in invoice["lines"]["data"]
             if ((line.get("parent") or {}).get("subscription_item_details") or {}).get("subscription_item") == item["id"]]
    return not any(until >= end for until in asked)


def _instant(value):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**11:
        raise ValueError("not an instant in seconds")
    return value


@dataclass(frozen=True)
class Terms:
    """What an offer says about a price of its own: days of grace after a failed payment; days that a purchase lasts, or None."""
    grace_days: int = 0
    days: int | None = None


@dataclass(frozen=True)
class Access:
    """What one item gives: whether it stands now, until when (None: no end is known), whether it renews, whether that is grace."""
    stands: bool
    until: int | None = None
    renews: bool = False
    grace: bool = False


def access(sub, item, *, terms, now):
    """What this item of this subscription gives at `now` on the offer's `terms`.

    active and trialing stand until the scheduled end, if there is one; while invoices are voided, until what was paid is over;
    past_due and suspended stand for the days of grace, counted from the start of the first unpaid period (Stripe moves the period on
    although the renewal is unpaid); what PayPal has ended stands to the end of what was paid, and what has not begun yet not at
    all; a purchase stands for its days, or for good; nothing else stands.
    """
    end, grace, renews = sub.scheduled_end, False, False
    if sub.starts_at is not None and now < sub.starts_at:
        return Access(stands=False)
    if sub.status == BOUGHT:
        end = item.start + terms.days * DAY if terms.days else None
    elif sub.status in _PAID and sub.void:
        if not item.paid:
            return Access(stands=False)
        end = _earlier(item.end, end)
    elif sub.status in (*_PAID, RUNNING_OUT) or sub.status == "past_due" and item.paid:
        renews = end is None
    elif sub.status in _UNPAID:
        end, grace = _earlier(_graced(sub, item) + terms.grace_days * DAY, end), True
    else:
        return Access(stands=False)
    return Access(stands=end is None or now < end, until=end, renews=renews, grace=grace)


def _graced(sub, item):
    return item.start if sub.unpaid_since is None else min(sub.unpaid_since, item.start)


def _earlier(one, other):
    return one if other is None else min(one, other)


def instants(sub, *, terms):
    """Every instant at which this subscription's meaning may change by the clock alone: ends, period ends, grace ends.

    `terms` answers for an item what its offer says.
    """
    if sub.status not in (*_PAID, *_UNPAID, BOUGHT, RUNNING_OUT):
        return
    if sub.starts_at is not None:
        yield sub.starts_at
    for item in sub.items:
        said = terms(item)
        if item.end is not None:
            yield item.end
            yield _graced(sub, item) + said.grace_days * DAY
        elif said.days:
            yield item.start + said.days * DAY
    if sub.scheduled_end is not None:
        yield sub.scheduled_end
