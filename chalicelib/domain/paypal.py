"""What PayPal says of a subscription and of what was paid, in the normal form.

Shapes: the official Subscriptions v1, Payments v1 and Disputes v1 specifications. Its own words stay out of everything else.
PayPal says until when something is paid only while it is active and paid: `next_billing_time` is gone after a cancellation,
moves on although a payment failed, and has been seen in the past during a trial (github.com/paypal/paypal-checkout-components
issue 1336). So it is remembered (`domain.subscription.remembering`), and only what was never read is worked out: by the plan's
own calendar, never as 30 days.
"""
from calendar import monthrange
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chalicelib.domain.holds import BACK
from chalicelib.domain.money import smallest
from chalicelib.domain.subscription import DAY, RUNNING_OUT, SUSPENDED, Item, Subscription, Unreadable

_WAITING, _OVER = ("APPROVAL_PENDING", "APPROVED"), ("CANCELLED", "EXPIRED")
_STATUSES = (*_WAITING, "ACTIVE", "SUSPENDED", *_OVER)
_TRIAL_SHORT = 30 * 3_600   # so much shorter than its days a trial may be: PayPal counts them in Pacific time, to ten o'clock UTC
_SOON = 3_600           # what begins within the hour has begun: clocks differ, and approving takes a while

PAID = "PAYMENT.SALE.COMPLETED"     # of a sale nothing else is good news

# What a webhook must tell us of (developer.paypal.com/docs/subscriptions/reference/webhooks, …/disputes/webhooks).
EVENTS = (*(f"BILLING.SUBSCRIPTION.{what}" for what in ("ACTIVATED", "UPDATED", "EXPIRED", "CANCELLED", "SUSPENDED", "PAYMENT.FAILED")),
          *(f"PAYMENT.SALE.{what}" for what in ("COMPLETED", "REFUNDED", "REVERSED")),
          *(f"CUSTOMER.DISPUTE.{what}" for what in ("CREATED", "UPDATED", "RESOLVED")))

_GONE, _THERE = ("refunded", "reversed", "denied"), ("completed", "pending")    # of a sale; `reversed` is in events only, not in the file
_LOST, _WON = ("RESOLVED_BUYER_FAVOUR", "ACCEPTED"), ("RESOLVED_SELLER_FAVOUR", "RESOLVED_WITH_PAYOUT", "CANCELED_BY_BUYER", "DENIED", "NONE", None)
_OPEN = ("OPEN", "WAITING_FOR_BUYER_RESPONSE", "WAITING_FOR_SELLER_RESPONSE", "UNDER_REVIEW")


def approved(answer):
    """False for a subscription object (a dict) that the buyer has not approved yet: nobody pays anything. Raises Unreadable."""
    if answer.get("status") not in _STATUSES:
        raise Unreadable("a status that is not known")
    return answer["status"] not in _WAITING


def from_paypal(key, answer, *, read_at):
    """The normal form of a PayPal subscription object (a dict) with its plan inside. Raises Unreadable.

    Active: active, trialing, or past_due while payments fail; suspended; incomplete until it is approved; ended: running_out, with
    its end still to be remembered.
    """
    try:
        if answer["id"] != key.rsplit(":", 1)[1]:
            raise Unreadable("the answer is another subscription's")
        if not approved(answer):
            return Subscription(key=key, status="incomplete", read_at=read_at)
        return _read(key, _Facts(answer, read_at), read_at)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, StopIteration) as error:
        raise Unreadable(f"a subscription of an unknown shape ({type(error).__name__})") from None


def _read(key, facts, read_at):
    if facts.status in _OVER:
        status = RUNNING_OUT
    elif facts.status == "SUSPENDED":
        status = SUSPENDED
    elif facts.failing:
        status = "incomplete" if facts.never_paid else "past_due"
    else:
        status = "trialing" if facts.on_trial else "active"
    good = status in ("active", "trialing")
    until = facts.next_payment if good else facts.paid_until
    start = facts.paid_at or facts.begun if good or status == RUNNING_OUT else facts.paid_until or facts.begun
    begins = facts.begun if status != RUNNING_OUT and facts.begun > read_at + _SOON else None
    return Subscription(
        key=key, status=status, customer=facts.payer, read_at=read_at, paid_at=facts.paid_at, starts_at=begins,
        items=(Item(facts.plan, start, until or start, charged=facts.charged),),
        cancel_at=until if good and facts.last_cycle else None,
        paid_through=None if begins else facts.covered if good else until if status == RUNNING_OUT else None,
        ended_at=facts.since if facts.status in _OVER else None)


class _Facts:
    """What a subscription object says, in instants."""

    def __init__(self, answer, read_at):
        self._read_at, self._cycles = read_at, sorted(answer["plan"]["billing_cycles"], key=lambda cycle: cycle["sequence"])
        self._billing = answer.get("billing_info") or {}
        self.status, self.plan = answer["status"], answer["plan_id"]
        self.payer = (answer.get("subscriber") or {}).get("payer_id") or ""
        self._made = instant(answer["create_time"])
        self.begun = max(self._made, instant(answer.get("start_time") or answer["create_time"]))
        changed = answer.get("status_update_time")     # it moves with each payment too, but not any more once it has ended
        self.since = instant(changed) if changed else self.begun
        self.charged = _charged(self._regular, answer.get("quantity") or "1", overridden=answer.get("plan_overridden") is True)
        paid = self._billing.get("last_payment")
        self.paid_at = instant(paid["time"]) if paid else None
        if self.paid_at is not None and self.paid_at < self.begun - DAY:
            self.paid_at = None     # so long before it begins only the plan's set-up fee is paid, and that is for no period
        following = self._billing.get("next_billing_time")
        self._following = instant(following) if following else None

    @property
    def _regular(self):
        return next(cycle for cycle in self._cycles if cycle["tenure_type"] == "REGULAR")

    @property
    def failing(self):
        """True while a payment is owed: failures are counted until one succeeds, and one that is tried again is not counted yet.

        Whether the time of the next try is over says nothing: the try itself may come an hour later.
        """
        failed = self._billing.get("last_failed_payment")
        again = failed and failed.get("next_payment_retry_time")
        return self._billing.get("failed_payments_count", 0) > 0 or bool(again and (self.paid_at is None or instant(failed["time"]) > self.paid_at))

    @property
    def never_paid(self):
        """True when it was to be paid at once and nothing ever was: there is no grace before the first payment."""
        return self.paid_at is None and self.begun <= self._made + _SOON and self._trial_end <= self.begun

    @property
    def _trial_end(self):
        """When the plan's free trials are over, by their own cycles; the beginning when it has none."""
        end = self.begun
        for cycle in self._cycles:
            if cycle["tenure_type"] == "TRIAL" and not _costs(cycle):
                end = after(end, cycle, times=cycle.get("total_cycles", 1))
        return end

    def paid_by(self, moment):
        """The end of the period that a payment at that instant is for, by the cycle that ran then: a trial that costs something is paid run by run."""
        end = self.begun
        for cycle in self._cycles:
            if cycle["tenure_type"] == "TRIAL":
                end = after(end, cycle, times=cycle.get("total_cycles", 1))
                if _costs(cycle) and moment < end - _TRIAL_SHORT:
                    return after(moment, cycle)
        return after(moment, self._regular)

    @property
    def on_trial(self):
        return max(self.begun, self._read_at) < self._trial_end

    @property
    def last_cycle(self):
        """True when all payments of a plan with so many of them have been made: it ends by itself."""
        done = [run for run in self._billing.get("cycle_executions") or () if run["tenure_type"] == "REGULAR"]
        return self._following is None and any(run.get("total_cycles") and run.get("cycles_remaining") == 0 for run in done)

    @property
    def paid_until(self):
        """The end of what was paid, worked out from the last payment or the trial; None when there was neither.

        PayPal charges at ten o'clock (UTC) of a day of its own, not at the hour of the purchase: so as not to be early, to the day's end.
        """
        if self.paid_at is None and self.status in _OVER and self.since < self.begun:
            return None     # cancelled before it began, so its trial never did either
        if self._trial_end > max(self.begun, self.paid_at or 0):
            end = self._trial_end
        elif self.paid_at is None:
            return None
        else:
            end = self.paid_by(self.paid_at)
        return -(-end // DAY) * DAY

    @property
    def covered(self):
        """While it is active: the end of what is paid, which is when the next payment is due; but before any was booked only a trial is."""
        return self.next_payment if self.on_trial or self.paid_at is not None else self.paid_until

    @property
    def next_payment(self):
        """While it is active and paid: when the next payment is due, which is the end of what is paid."""
        if self.begun > self._read_at + _SOON:
            return self.begun
        if self.on_trial:   # the time told is to the hour, but it may be a lie
            told = self._following is not None and self._following > max(self.begun + _SOON, self._trial_end - _TRIAL_SHORT)
            return self._following if told else self._trial_end
        if self._following is not None and self._following > (self.paid_at or self.begun):
            return self._following
        return self.paid_until or after(self.begun, self._regular)


def _costs(cycle):
    """True for a cycle whose runs are paid."""
    scheme = cycle.get("pricing_scheme") or {}
    price = scheme.get("fixed_price")
    return bool(scheme) if price is None else smallest(price["value"], price["currency_code"].lower()) > 0


def misfit(plan, price):
    """Why PayPal's plan object (a dict) is not what the offer's price says: status, price, fee or tax; None when it is. Raises Unreadable.

    What the buyer pays must be what the offer told: PayPal adds a set-up fee with the approval, and taxes on top where they are not inside.
    """
    try:
        wishes, taxes = plan.get("payment_preferences") or {}, plan.get("taxes") or {}
        regular = next(cycle for cycle in plan["billing_cycles"] if cycle["tenure_type"] == "REGULAR")
        if plan["status"] != "ACTIVE":
            return "status"
        if _charged(regular, "1", overridden=False) != price.charged:
            return "price"
        if (fee := wishes.get("setup_fee")) and smallest(fee["value"], fee["currency_code"].lower()) > 0:
            return "fee"
        return "tax" if taxes and taxes.get("inclusive") is False and float(taxes["percentage"]) > 0 else None
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise Unreadable(f"a plan of an unknown shape ({type(error).__name__})") from None


def free_trial(plan):
    """True when a subscription to the plan (an object that `misfit` could read) begins with something for nothing."""
    return any(cycle["tenure_type"] == "TRIAL" and not _costs(cycle) for cycle in plan["billing_cycles"])


def _charged(cycle, quantity, *, overridden):
    """What each regular period costs, in the form of an offer's price; another form for what no offer can have."""
    price = (cycle.get("pricing_scheme") or {}).get("fixed_price")
    if price is None:
        return "by volume"
    currency = price["currency_code"].lower()
    return f"{smallest(price['value'], currency) * int(quantity)} {currency}{' overridden' if overridden else ''}"


def after(moment, cycle, *, times=1):
    """The instant at which so many of the plan's cycles are over: by the calendar, a day that a month has not being the next one's first.

    PayPal's own rule (its help on recurring payments: the 29th, 30th and 31st).
    """
    frequency = cycle["frequency"]
    unit, count = frequency["interval_unit"], int(frequency.get("interval_count", 1)) * times
    start = datetime.fromtimestamp(moment, UTC)
    if unit in ("DAY", "WEEK"):
        return int((start + timedelta(days=count * (7 if unit == "WEEK" else 1))).timestamp())
    if unit not in ("MONTH", "YEAR"):
        raise ValueError("a unit of time that is not known")
    months = start.year * 12 + start.month - 1 + count * (12 if unit == "YEAR" else 1)
    year, month = divmod(months, 12)
    if start.day > monthrange(year, month + 1)[1]:
        year, month, start = *divmod(months + 1, 12), start.replace(day=1)
    return int(start.replace(year=year, month=month + 1).timestamp())


def instant(text):
    """Seconds since the epoch of an RFC 3339 text; fractions are dropped. Raises ValueError, also for years before 1970."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or moment.timestamp() <= 0:
        raise ValueError("not an instant")
    return int(moment.timestamp())


def period_end(sale, answer, *, read_at):
    """The end of the period that a sale (a dict) of this subscription object paid for. Raises Unreadable."""
    try:
        facts, paid = _Facts(answer, read_at), instant(sale["create_time"])
        end = facts._trial_end if paid < facts._trial_end else facts.paid_by(paid)
        if facts.paid_at is not None and facts.paid_at > paid + _SOON:  # the next one has been paid since: there this period ended
            return min(end, facts.paid_at)
        following, spare = facts._following, min(7 * DAY, (end - paid) // 2)
        if following and paid < following <= end + spare:
            return following
        return -(-end // DAY) * DAY if facts.status in _OVER else end   # not before access ends by `paid_until`
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, StopIteration) as error:
        raise Unreadable(f"a sale or subscription of an unknown shape ({type(error).__name__})") from None


def hold_from_paypal(hold, sale, disputes, *, read_at):
    """The hold as PayPal's sale object (a dict) and its disputes, (status, outcome code) each, show it. Raises Unreadable.

    A sale says that a part of it went back, not how much: then `refunded` is the least it can be. One that was reversed or
    denied is money that is not there, like a refund.
    """
    try:
        if sale["id"] != hold.key.rsplit(":", 1)[1]:
            raise Unreadable("the answer is another sale's")
        state, amount = sale["state"], smallest(sale["amount"]["total"], sale["amount"]["currency"].lower())
        if state not in (*_GONE, *_THERE, "partially_refunded"):
            raise Unreadable("a state of a sale that is not known")
        refunded = amount if state in _GONE else 1 if state == "partially_refunded" else 0
        said = _dispute(disputes)
        if state in ("reversed", "denied") and said in ("", "over"):    # a dispute that was won comes before the money does
            said = BACK
        return replace(hold, amount=amount, refunded=refunded, dispute=said, read_at=read_at, unread_since=0)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"a sale of an unknown shape ({type(error).__name__})") from None


def _dispute(disputes):
    """open, lost, over or "" of the disputes of one sale. PayPal keeps the money back from the first stage on, inquiries included."""
    said = []
    for status, outcome in disputes:
        if status in _OPEN:
            said.append("open")
        elif status != "RESOLVED" or outcome not in (*_LOST, *_WON):
            raise Unreadable("a dispute whose status or outcome is not known")
        else:
            said.append("lost" if outcome in _LOST else "over")
    return next((word for word in ("open", "lost", "over") if word in said), "")
