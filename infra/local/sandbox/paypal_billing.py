"""Subscriptions of a merchant at PayPal over time: payments by the calendar, retries, suspension, the end.

Rules: developer.paypal.com/docs/subscriptions (payment failures, pause and resume) and answers of real PayPal, each named in
docs/sandbox-paypal-notes.md. A subscription is a record of our own; paypal_subscriptions.py shows it in PayPal's form.
"""
from datetime import date, datetime, timezone
from decimal import Decimal

from .paypal_calendar import DAY, after, charged_at, pacific_day
from .paypal_errors import unprocessable
from .paypal_terms import current, price_of
from .paypal_world import iso

RETRIES, RETRY_AFTER = 2, 5 * DAY
SUMMARIES = {"CREATED": "Subscription created", "ACTIVATED": "Subscription activated", "RE-ACTIVATED": "Subscription reactivated",
             "UPDATED": "Subscription updated", "SUSPENDED": "Subscription suspended", "CANCELLED": "Subscription cancelled",
             "EXPIRED": "Subscription expired", "PAYMENT.FAILED": "Payment failed for subscription"}


class CannotPay(Exception):
    """The buyer's source of money refused the first payment; the subscription still waits for an approval."""


class Billing:
    """Moves subscriptions on. `sales` takes the money; `show(record, event)` gives PayPal's form of a record."""

    def __init__(self, world, sales, show):
        self.world, self.sales, self.show = world, sales, show

    def due(self):
        """(instant, order, subscription id, what happens then) for each subscription that time alone will change."""
        for sub in self.world.all("subscription"):
            if sub["status"] == "APPROVAL_PENDING":
                yield sub["created"] + self.world.options.unapproved, 0, sub["id"], self.vanish
            elif sub["status"] == "ACTIVE" and sub["due"] is not None:
                yield sub["due"], 1, sub["id"], self.bill

    def tell(self, sub, kind):
        """The event BILLING.SUBSCRIPTION.<kind> is sent."""
        self.world.changed = True
        self.world.emit(f"BILLING.SUBSCRIPTION.{kind}", self.show(sub, event=True), "subscription", "2.0", SUMMARIES[kind])

    def vanish(self, key):
        """Nobody approved it: there is no such subscription."""
        del self.world.state["objects"]["subscription"][key]
        self.world.changed = True

    # the beginning

    def approve(self, sub, payer):
        """The buyer agreed: the subscription is ACTIVE, and what is due now is paid. CannotPay leaves it as it was."""
        now, cycle = self.world.now, current(sub)
        begins, fee = sub["start"] <= now, Decimal(sub["terms"]["fee"])
        owed_now = price_of(sub, cycle) if begins else Decimal(0)
        if sub["funding"] == "failing" and (owed_now or (fee and sub["terms"]["fee_action"] == "CANCEL")):
            raise CannotPay
        sub |= {"status": "ACTIVE", "payer": payer, "created": now, "approved": now, "day": str(pacific_day(sub["start"]))}
        self._touch(sub)
        self._schedule(sub, max(sub["start"], now))
        first = self.world.options.first
        if first == "unpaid":
            self.tell(sub, "ACTIVATED")
        paid = self._pay_at_approval(sub, fee, begins, told=first != "activated")
        if first != "unpaid":
            self.tell(sub, "ACTIVATED")
        for sale in paid if first == "activated" else ():
            self.sales.tell_completed(sale)
        self._end_if_over(sub)

    def _pay_at_approval(self, sub, fee, begins, *, told):
        paid = []
        if fee and sub["funding"] == "failing":
            sub["outstanding"] = str(fee)
        elif fee:
            paid.append(self._take(sub, fee, told=told))
        if begins:
            cycle = current(sub)
            if price_of(sub, cycle):
                paid.append(self._take(sub, price_of(sub, cycle), told=told))
            self._complete(sub, cycle)
        return paid

    # a cycle

    def bill(self, key):
        """The payment that is due has been tried; a free cycle just begins."""
        sub = self.world.find("subscription", key)
        cycle = current(sub)
        price = price_of(sub, cycle)
        amount = price + (Decimal(sub["outstanding"]) if sub["terms"]["auto_bill"] else 0)
        if amount == 0:
            self._complete(sub, cycle)
        elif sub["funding"] == "good":
            self._paid(sub, cycle, amount)
        else:
            self._failed(sub, cycle, amount)
        self._end_if_over(sub)

    def _paid(self, sub, cycle, amount):
        if sub["terms"]["auto_bill"]:
            sub["outstanding"] = "0"
        sub |= {"failed": 0, "failing": None}
        sale = self._take(sub, amount, told=False)
        self._complete(sub, cycle)
        self.sales.tell_completed(sale)

    def _failed(self, sub, cycle, amount):
        """Retried every five days, twice at most and only before the next cycle; then it counts, and so does the cycle."""
        sub["tries"] += 1
        following = charged_at(after(date.fromisoformat(sub["day"]), cycle["unit"], cycle["count"]))
        retry = sub["slot"] + sub["tries"] * RETRY_AFTER
        again = sub["tries"] <= RETRIES and retry < following
        sub["failing"] = {"amount": str(amount), "at": self.world.now, "retry": retry if again else None}
        self._touch(sub)
        if again:
            sub["due"] = retry + self.world.options.run_delay
            return self.tell(sub, "PAYMENT.FAILED")
        sub["failed"] += 1
        sub["outstanding"] = str(Decimal(sub["outstanding"]) + price_of(sub, cycle))
        self._complete(sub, cycle)
        self.tell(sub, "PAYMENT.FAILED")
        if current(sub) and 0 < sub["terms"]["threshold"] <= sub["failed"]:
            self._suspend(sub, "threshold")
        return None

    def _take(self, sub, amount, *, told):
        sale = self.sales.take(sub, amount)
        sub["paid"] = {"amount": str(amount), "at": self.world.now}
        self._touch(sub)
        if told:
            self.sales.tell_completed(sale)
        return sale

    def _complete(self, sub, cycle):
        """The cycle has run; the next one is due when this one's time is over, if there is one."""
        sub["done"][str(cycle["sequence"])] += 1
        sub["day"] = str(after(date.fromisoformat(sub["day"]), cycle["unit"], cycle["count"]))
        self._schedule(sub, charged_at(date.fromisoformat(sub["day"])) if current(sub) else None)

    def _schedule(self, sub, slot):
        sub |= {"slot": slot, "due": None if slot is None else slot + self.world.options.run_delay, "tries": 0}
        self.world.changed = True

    def _end_if_over(self, sub):
        if sub["status"] == "ACTIVE" and current(sub) is None:
            self._become(sub, "EXPIRED", "EXPIRED")

    # what people do

    def suspend(self, sub, by, note=None):
        """SUSPENDED by "merchant" or "buyer"; Refusal when it is not ACTIVE."""
        if sub["status"] != "ACTIVE":
            raise _wrong_status("suspend", "active")
        self._suspend(sub, by, note)

    def _suspend(self, sub, by, note=None):
        sub |= {"due": None, "suspended_by": by, "note": note}
        self._become(sub, "SUSPENDED", "SUSPENDED")

    def activate(self, sub, by, note=None):
        """ACTIVE again; a payment whose day has passed meanwhile is due today. Refusal when it is not SUSPENDED, or not by one who may end that."""
        if sub["status"] != "SUSPENDED":
            raise _wrong_status("activate", "suspended")
        if sub["suspended_by"] == "threshold" and Decimal(sub["outstanding"]) > 0:
            raise unprocessable("SUBSCRIPTION_CANNOT_BE_ACTIVATED", "Subscription cannot be activated after payment failure threshold has reached.")
        if by == "buyer" and sub["suspended_by"] != "buyer":
            raise unprocessable("SUBSCRIPTION_CANNOT_BE_ACTIVATED", "This subscription should be activated by the merchant.")
        now, options = self.world.now, self.world.options
        late = sub["slot"] <= now
        if late:
            today = datetime.fromtimestamp(now, timezone.utc).date()
            sub["day"] = str(today)
            self._schedule(sub, charged_at(today))
            sub["due"] = max(sub["due"], now + options.after_activation)
        else:
            self._schedule(sub, sub["slot"])
        sub |= {"suspended_by": None, "note": note}
        self._become(sub, "ACTIVE", options.reactivated.removeprefix("BILLING.SUBSCRIPTION."))

    def cancel(self, sub, note=None):
        """CANCELLED for good; Refusal unless it is ACTIVE or SUSPENDED."""
        if sub["status"] not in ("ACTIVE", "SUSPENDED"):
            raise _wrong_status("cancel", "active or suspended")
        sub |= {"due": None, "note": note}
        self._become(sub, "CANCELLED", "CANCELLED")

    def capture(self, sub, amount):
        """The sale of a part of the outstanding balance; CannotPay when the buyer's money is not to be had."""
        if sub["funding"] == "failing":
            raise CannotPay
        rest = Decimal(sub["outstanding"]) - amount
        sub["outstanding"] = str(rest)
        if rest == 0:
            sub |= {"failed": 0, "failing": None}
        return self._take(sub, amount, told=True)

    def _become(self, sub, status, event):
        sub["status"] = status
        self._touch(sub)
        self.tell(sub, event)

    def _touch(self, sub):
        sub |= {"status_at": self.world.now, "updated": self.world.now}
        self.world.changed = True


def _wrong_status(action, wanted):
    return unprocessable("SUBSCRIPTION_STATUS_INVALID",
                         f"Invalid subscription status for {action} action; subscription status should be {wanted}.")


def final_payment(sub):
    """The instant of the last payment of a finite subscription, or None."""
    cycles = sub["terms"]["cycles"]
    if cycles[-1]["total"] == 0 or current(sub) is None:
        return None
    day, runs = date.fromisoformat(sub["day"]), [(c, c["total"] - sub["done"][str(c["sequence"])]) for c in cycles]
    left = [c for c, times in runs for _ in range(times)]
    for cycle in left[:-1]:
        day = after(day, cycle["unit"], cycle["count"])
    return charged_at(day)


def shown_next(sub, now, options):
    """next_billing_time as PayPal shows it now, or None: only ACTIVE ones have it, and it may lie."""
    if sub["status"] != "ACTIVE" or sub["slot"] is None:
        return None
    if sub["lie"]:
        return sub["lie"]
    in_trial = sub["terms"]["cycles"][0]["tenure"] == "TRIAL" and now < sub["approved"] + options.trial_lie
    return iso(sub["start"] if in_trial else sub["slot"])
