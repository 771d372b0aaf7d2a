"""The life of subscriptions and invoices in the Stripe sandbox: begin, renew, fail, recover, end. Sources: docs/sandbox-stripe-notes.md."""
import calendar
import copy
from datetime import datetime, timedelta, timezone

from . import stripe_objects as objects
from .stripe_payments import Payments

LIVE = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")
OVER = ("canceled", "incomplete_expired")
DAY = 86400

# Stripe's test cards (docs.stripe.com/testing): what attaching and what charging one answers; None means it works.
DECLINES = {
    "4242424242424242": (None, None), "5555555555554444": (None, None), "378282246310005": (None, None),
    "4000056655665556": (None, None),
    "4000000000000341": (None, "generic_decline"),
    "4000000000000002": ("generic_decline", "generic_decline"),
    "4000000000009995": ("insufficient_funds", "insufficient_funds"),
    "4000000000000069": ("expired_card", "expired_card"),
}


class CardDeclined(Exception):
    """The card was refused; `.code` is Stripe's decline code and the text is what the buyer reads."""

    WORDS = {"insufficient_funds": "Your card has insufficient funds.", "expired_card": "Your card has expired.",
             "test_mode_live_card": "Your card was declined. Your request was in test mode, but used a non test card."}

    def __init__(self, code):
        super().__init__(self.WORDS.get(code, "Your card was declined."))
        self.code = code


def period_end(anchor, count, recurring):
    """The instant `count` periods after `anchor` (epoch seconds): Jan 31 gives Feb 28, Mar 31, Apr 30, in UTC like Stripe."""
    count *= recurring["interval_count"]
    at = datetime.fromtimestamp(anchor, timezone.utc)
    if recurring["interval"] in ("day", "week"):
        return int((at + timedelta(days=count * (7 if recurring["interval"] == "week" else 1))).timestamp())
    months = at.year * 12 + at.month - 1 + count * (12 if recurring["interval"] == "year" else 1)
    year, month = divmod(months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())


def next_end(sub, start):
    """The end of the period that begins at `start`, counted from the subscription's anchor."""
    recurring, anchor, count = sub["items"]["data"][0]["price"]["recurring"], sub["billing_cycle_anchor"], 1
    while period_end(anchor, count, recurring) <= start:
        count += 1
    return period_end(anchor, count, recurring)


def item_end(sub):
    """The earliest period end of the subscription's items; None when an order by hand took them all away."""
    ends = (item.get("current_period_end") for item in sub["items"]["data"])
    return min((end for end in ends if end is not None), default=None)


class Billing:
    """All changes to subscriptions, invoices and cards. Each method happens at `world.now` and emits Stripe's events."""

    def __init__(self, world):
        self.world, self.payments = world, Payments(world)

    # cards

    def attach(self, customer, number):
        """`number` is a card on file of `customer` (its id is returned), or CardDeclined."""
        number = "".join(number.split())
        attaching, _ = DECLINES.get(number, ("test_mode_live_card", None))
        if attaching:
            raise CardDeclined(attaching)
        method = objects.payment_method(number, key="pm_1" + self.world.draw(23), now=self.world.now,
                                        customer_id=customer["id"], email=customer["email"], fingerprint=self.world.draw(16))
        self.world.state["cards"][method["id"]] = number
        return self.world.add(method, "payment_method.attached")["id"]

    def use_card(self, customer, method_id):
        """`method_id` pays for everything that `customer` has."""
        with self.world.changing(customer, "customer.updated"):
            customer["invoice_settings"]["default_payment_method"] = method_id
        for sub in self.subscriptions_of(customer):
            with self.world.changing(sub, "customer.subscription.updated"):
                sub["default_payment_method"] = method_id

    def subscriptions_of(self, customer):
        """The customer's subscriptions that have not ended, oldest first."""
        return [s for s in self.world.all("subscription") if s["customer"] == customer["id"] and s["status"] not in OVER]

    def _decline(self, sub_or_invoice, outcome=None):
        customer = self.world.find("customer", sub_or_invoice["customer"])
        if outcome:
            return None if outcome == "succeed" else "generic_decline"
        method = sub_or_invoice.get("default_payment_method") or customer["invoice_settings"]["default_payment_method"]
        return DECLINES[self.world.state["cards"][method]][1] if method else "missing_payment_method"

    # begin

    def check_chargeable(self, number):
        """CardDeclined when a charge to this card would be declined."""
        refused = next((why for why in DECLINES.get("".join(number.split()), ("test_mode_live_card",)) if why), None)
        if refused:
            raise CardDeclined(refused)

    def begin(self, price, *, customer, number, metadata, mode):
        """A paid subscription to `price` (its object is returned), or CardDeclined and nothing has begun."""
        self.check_chargeable(number)
        world, now = self.world, self.world.now
        method = self.attach(customer, number)
        with world.changing(customer, "customer.updated"):
            customer["currency"] = price["currency"]
        sub = objects.subscription(copy.deepcopy(price), key="sub_1" + world.draw(23), item_key="si_" + world.draw(14), now=now,
                                   period_end=period_end(now, 1, price["recurring"]), customer_id=customer["id"],
                                   mode=mode or world.options.billing_mode, metadata=metadata)
        invoice = self._draft(sub, "subscription_create", paid_period=(now, now))
        sub["latest_invoice"] = invoice["id"]
        world.add(sub, "customer.subscription.created")
        self._finalize(invoice)
        with world.changing(sub, "customer.subscription.updated"):
            sub["default_payment_method"] = method
            self._mark_paid(invoice)
            sub["status"] = "active"
        return sub

    # invoices

    def _draft(self, sub, why, *, paid_period):
        world, entry = self.world, sub["items"]["data"][0]
        invoice = objects.invoice(
            sub, key="in_1" + world.draw(23), line_key="il_1" + world.draw(23), now=world.now, why=why,
            period=(entry["current_period_start"], entry["current_period_end"]), paid_period=paid_period,
            customer_object=world.find("customer", sub["customer"]), account_name="Rolekeep sandbox")
        return world.add(invoice, "invoice.created")

    def _finalize(self, invoice):
        customer = self.world.find("customer", invoice["customer"])
        url = f"{self.world.public_url()}/i/{self.world.account}/test_{self.world.draw(40)}"
        self.world.inside(invoice["id"])["url"] = url
        with self.world.changing(invoice, "invoice.finalized"):
            invoice |= {"status": "open", "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}",
                        "automatically_finalizes_at": None, "effective_at": self.world.now,
                        "hosted_invoice_url": url, "invoice_pdf": url + "/pdf"}
            invoice["status_transitions"]["finalized_at"] = self.world.now
        with self.world.changing(customer):
            customer["next_invoice_sequence"] += 1
        self.payments.requested(invoice)

    def _mark_paid(self, invoice):
        self.payments.paid(invoice)
        with self.world.changing(invoice):
            invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0, "attempted": True,
                        "attempt_count": invoice["attempt_count"] + 1, "next_payment_attempt": None, "auto_advance": False}
            invoice["status_transitions"]["paid_at"] = self.world.now
        self.world.emit("invoice.paid", invoice)
        self.world.emit("invoice.payment_succeeded", invoice)

    def subscription_of(self, invoice):
        """The subscription that `invoice` is for."""
        return self.world.find("subscription", invoice["parent"]["subscription_details"]["subscription"])

    def open_invoices(self, sub):
        """The unpaid, finalized invoices of `sub`, oldest first."""
        return [i for i in self.world.all("invoice") if i["status"] == "open" and self.subscription_of(i) is sub]

    def pay(self, invoice, outcome=None):
        """One attempt to pay an open invoice with the card on file, or with `outcome` ("succeed" | "decline"). True: paid."""
        sub = self.subscription_of(invoice)
        why = self._decline({**invoice, "default_payment_method": sub["default_payment_method"]}, outcome)
        self.world.changed = True
        if why is None:
            self._mark_paid(invoice)
            self._recover(sub)
        else:
            self.payments.declined(invoice, why)
            self._fail(sub, invoice)
        return why is None

    def _recover(self, sub):
        latest = self.world.find("invoice", sub["latest_invoice"])
        if sub["status"] in ("past_due", "unpaid") and latest["status"] == "paid":
            with self.world.changing(sub, "customer.subscription.updated"):
                sub["status"] = "active"
        self._delinquent(sub)

    def _delinquent(self, sub):
        customer = self.world.find("customer", sub["customer"])
        owes = any(i["status"] == "open" and i["attempted"] and i["customer"] == customer["id"] for i in self.world.all("invoice"))
        with self.world.changing(customer, "customer.updated"):
            customer["delinquent"] = owes

    def _fail(self, sub, invoice):
        tries, waits = invoice["attempt_count"] + 1, self.world.options.retry_days
        retrying = sub["status"] not in OVER and sub["status"] != "unpaid" and invoice["auto_advance"] and tries <= len(waits)
        with self.world.changing(invoice):
            invoice |= {"attempted": True, "attempt_count": tries,
                        "next_payment_attempt": self.world.now + waits[tries - 1] * DAY if retrying else None}
        self.world.emit("invoice.payment_failed", invoice)
        if sub["status"] == "active":
            with self.world.changing(sub, "customer.subscription.updated"):
                sub["status"] = "past_due"
        self._delinquent(sub)
        if not retrying and sub["status"] == "past_due":
            self._give_up(sub, invoice)

    def _give_up(self, sub, invoice):
        with self.world.changing(invoice, "invoice.updated"):
            invoice["auto_advance"] = False
        if self.world.options.final_failure == "cancel":
            return self.end(sub, reason="payment_failed")
        with self.world.changing(sub, "customer.subscription.updated"):
            sub["status"] = "unpaid"

    # renew

    def renew(self, sub, outcome=None):
        """The item has its next period and a draft invoice for it, as at every period end.

        With `outcome` the draft is finalized and tried at once; without, `Options.draft_seconds` later.
        """
        entry = sub["items"]["data"][0]
        before = (entry["current_period_start"], entry["current_period_end"])
        with self.world.changing(sub, "customer.subscription.updated"):
            for each in sub["items"]["data"]:
                each["current_period_start"] = entry["current_period_end"] if each is not entry else before[1]
                each["current_period_end"] = next_end(sub, before[1])
            invoice = self._draft(sub, "subscription_cycle", paid_period=before)
            sub["latest_invoice"] = invoice["id"]
        with self.world.changing(invoice):
            if sub["status"] == "unpaid":  # Stripe leaves these as drafts for the owner to deal with
                invoice["auto_advance"] = False
            else:
                invoice["automatically_finalizes_at"] = self.world.now + self.world.options.draft_seconds
        if outcome:
            self.finalize_and_pay(invoice, outcome)

    def finalize_and_pay(self, invoice, outcome=None):
        """The draft is open, and one attempt to pay it was made."""
        self._finalize(invoice)
        self.pay(invoice, outcome)

    def renew_now(self, sub, outcome):
        """The current period ended this instant, which is the new anchor, and the renewal had `outcome`."""
        with self.world.changing(sub):
            sub["billing_cycle_anchor"] = self.world.now
            for each in sub["items"]["data"]:
                each["current_period_end"] = self.world.now
            if sub["cancel_at"] is not None:
                sub["cancel_at"] = self.world.now
        if sub["cancel_at_period_end"] or sub["cancel_at"] is not None:
            return self.end(sub, reason="cancellation_requested")
        return self.renew(sub, outcome)

    # end

    def schedule_end(self, sub, *, flag, cancel_at, details=None, event="customer.subscription.updated"):
        """`sub` is going to end: by the flag, at `cancel_at`, or both; `details` {comment, feedback} are noted."""
        same = (sub["cancel_at_period_end"], sub["cancel_at"]) == (flag, cancel_at)
        with self.world.changing(sub, event):
            sub |= {"cancel_at_period_end": flag, "cancel_at": cancel_at}
            sub["canceled_at"] = sub["canceled_at"] if same else self.world.now
            sub["cancellation_details"] |= {**(details or {}), "reason": "cancellation_requested"}

    def unschedule(self, sub, *, flag=False, cancel_at=None, event="customer.subscription.updated"):
        """What is left of the schedule is `flag` and `cancel_at`; with neither, `sub` is as if never cancelled."""
        with self.world.changing(sub, event):
            sub |= {"cancel_at_period_end": flag, "cancel_at": cancel_at}
            if not flag and cancel_at is None:
                sub |= {"canceled_at": None, "cancellation_details": objects.no_cancellation()}

    def portal_cancel(self, sub, *, mode, details):
        """What the cancel button of the billing portal does: docs.stripe.com/billing/subscriptions/billing-mode/compare for the two forms."""
        if mode == "immediately":
            return self.end(sub, reason="cancellation_requested", details=details)
        flexible = sub["billing_mode"]["type"] == "flexible"
        return self.schedule_end(sub, flag=not flexible, cancel_at=item_end(sub), details=details)

    def end(self, sub, *, reason, details=None):
        """`sub` is canceled; its drafts and open invoices are no longer collected. customer.subscription.deleted tells."""
        with self.world.changing(sub):
            sub |= {"status": "canceled", "ended_at": self.world.now, "canceled_at": sub["canceled_at"] or self.world.now}
            sub["cancellation_details"] |= {**(details or {}), "reason": reason}
        self.world.emit("customer.subscription.deleted", sub)
        for invoice in self.world.all("invoice"):
            if invoice["status"] in ("draft", "open") and self.subscription_of(invoice) is sub:
                with self.world.changing(invoice, "invoice.updated"):
                    invoice |= {"auto_advance": False, "next_payment_attempt": None, "automatically_finalizes_at": None}

    # time

    def due(self):
        """Everything that time alone will do, as (instant, rank, id, what); ends come before renewals of one instant."""
        for sub in self.world.all("subscription"):
            if sub["status"] in ("active", "past_due", "unpaid") and item_end(sub) is not None:
                scheduled = sub["cancel_at"] if sub["cancel_at"] is not None else item_end(sub) if sub["cancel_at_period_end"] else None
                if scheduled is not None and scheduled <= item_end(sub):
                    yield scheduled, 0, sub["id"], self._end_on_time
                else:
                    yield item_end(sub), 1, sub["id"], self._renew_on_time
        for invoice in self.world.all("invoice"):
            if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
                yield invoice["automatically_finalizes_at"], 2, invoice["id"], self._finalize_on_time
            elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
                yield invoice["next_payment_attempt"], 3, invoice["id"], self._pay_on_time
        for session in self.world.all("checkout.session"):
            if session["status"] == "open":
                yield session["expires_at"], 4, session["id"], self._expire_on_time

    def _end_on_time(self, key):
        sub = self.world.find("subscription", key)
        self.end(sub, reason=sub["cancellation_details"]["reason"] or "cancellation_requested")

    def _renew_on_time(self, key):
        self.renew(self.world.find("subscription", key))

    def _finalize_on_time(self, key):
        self.finalize_and_pay(self.world.find("invoice", key))

    def _pay_on_time(self, key):
        self.pay(self.world.find("invoice", key))

    def _expire_on_time(self, key):
        with self.world.changing(self.world.find("checkout.session", key)) as session:
            session |= {"status": "expired", "url": None}
        self.world.emit("checkout.session.expired", session)
