"""The life of subscriptions and invoices in the Stripe sandbox: begin, renew, fail, recover, end. Sources: docs/sandbox-stripe-notes.md."""
from . import stripe_items as items
from . import stripe_objects as objects
from .stripe_begin import Begin
from .stripe_items import next_end
from .stripe_pauses import Pauses
from .stripe_payments import Payments
from .stripe_plans import Plans
from .stripe_trials import Trials

LIVE = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")
OVER = ("canceled", "incomplete_expired")
DAY = 86400
ACTION = "authentication_required"

# Stripe's test cards (docs.stripe.com/testing): what attaching and what charging one answers; None means it works.
DECLINES = {
    "4242424242424242": (None, None), "5555555555554444": (None, None), "378282246310005": (None, None),
    "4000056655665556": (None, None),
    "4000000000000341": (None, "generic_decline"),
    "4000000000000002": ("generic_decline", "generic_decline"),
    "4000000000009995": ("insufficient_funds", "insufficient_funds"),
    "4000000000000069": ("expired_card", "expired_card"),
    "4000002500003155": (None, ACTION),  # until its owner has been asked once
    "4000002760003184": (None, ACTION),  # every time
}


class CardDeclined(Exception):
    """The card was refused; `.code` is Stripe's decline code and the text is what the buyer reads."""

    WORDS = {"insufficient_funds": "Your card has insufficient funds.", "expired_card": "Your card has expired.",
             "test_mode_live_card": "Your card was declined. Your request was in test mode, but used a non test card."}

    def __init__(self, code):
        super().__init__(self.WORDS.get(code, "Your card was declined."))
        self.code = code


def item_end(sub):
    """The earliest period end of the subscription's items; None when an order by hand took them all away."""
    ends = (item.get("current_period_end") for item in sub["items"]["data"])
    return min((end for end in ends if end is not None), default=None)


class Billing:
    """All changes to subscriptions, invoices and cards. Each method happens at `world.now` and emits Stripe's events."""

    def __init__(self, world):
        self.world, self.payments = world, Payments(world)
        self.beginnings, self.trials = Begin(world, self), Trials(world, self)
        self.pauses, self.plans = Pauses(world, self), Plans(world, self)

    # cards

    def attach(self, customer, number, *, asked=False):
        """`number` is a card on file of `customer` (its id is returned), or CardDeclined. `asked`: its owner was, for later charges."""
        number = "".join(number.split())
        attaching, _ = DECLINES.get(number, ("test_mode_live_card", None))
        if attaching:
            raise CardDeclined(attaching)
        method = objects.payment_method(number, key="pm_1" + self.world.draw(23), now=self.world.now,
                                        customer_id=customer["id"], email=customer["email"], fingerprint=self.world.draw(16))
        self.world.state["cards"][method["id"]] = number
        if asked:
            self.authenticated(method["id"])
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

    def authenticated(self, method):
        """The owner of this card has been asked by the bank, and said yes."""
        self.world.inside(method)["authenticated"] = True

    def why_declined(self, sub_or_invoice, outcome=None):
        """Why a charge would be declined, None when it would not. `outcome` ("succeed" | "action" | "decline") is said beforehand."""
        if outcome:
            return {"succeed": None, "action": ACTION}.get(outcome, "generic_decline")
        customer = self.world.find("customer", sub_or_invoice["customer"])
        method = sub_or_invoice.get("default_payment_method") or customer["invoice_settings"]["default_payment_method"]
        number = self.world.state["cards"][method] if method else None
        why = DECLINES[number][1] if method else "missing_payment_method"
        known = number == "4000002500003155" and self.world.state["inside"].get(method, {}).get("authenticated")
        return None if why == ACTION and known else why

    # begin

    def check_chargeable(self, number):
        """CardDeclined when a charge to this card would be declined."""
        refused = next((why for why in DECLINES.get("".join(number.split()), ("test_mode_live_card",)) if why), None)
        if refused and refused != ACTION:
            raise CardDeclined(refused)

    def begin(self, prices, *, customer, number, **more):
        """A subscription to `prices` (its object is returned), or CardDeclined and nothing has begun.

        Without a `number` there is no card. With a trial the card is saved and not charged. `more`: see Begin.create.
        """
        if number and not more.get("trial_end"):
            self.check_chargeable(number)
        outcome = self.world.options.first_payment
        if outcome == "decline" and not more.get("trial_end"):
            raise CardDeclined("generic_decline")
        method = self.attach(customer, number, asked=bool(more.get("trial_end"))) if number else None
        return self.beginnings.begin(prices, customer=customer, method=method, outcome=None if outcome == "card" else outcome, **more)

    # invoices

    def draft(self, sub, why, *, paid_period, entries, free=False):
        """A draft invoice over a period of each of `entries` (over nothing when `free`), and over what was still to be billed."""
        world, entry = self.world, sub["items"]["data"][0]
        invoice = objects.invoice(
            sub, key="in_1" + world.draw(23), line_key="il_1" + world.draw(23), now=world.now, why=why,
            period=(entry["current_period_start"], entry["current_period_end"]), paid_period=paid_period,
            customer_object=world.find("customer", sub["customer"]), account_name="Rolekeep sandbox")
        items.fill(world, invoice, sub, entries, free=free)
        return world.add(invoice, "invoice.created")

    def finalize(self, invoice):
        """The draft is open, has a number and a page."""
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

    def mark_paid(self, invoice):
        """The invoice is paid."""
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
        """One attempt to pay an open invoice with the card on file, or with `outcome` (see why_declined). True: paid."""
        sub = self.subscription_of(invoice)
        why = self.why_declined({**invoice, "default_payment_method": sub["default_payment_method"]}, outcome) if invoice["amount_due"] else None
        self.world.changed = True
        if why is None:
            self.mark_paid(invoice)
            self.settled(invoice)
        else:
            self.fail(sub, invoice, why)
        return why is None

    def settled(self, invoice):
        """The subscription is what it is once `invoice` is paid, uncollectible or void.

        Active again when that is its newest one (docs.stripe.com/billing/subscriptions/overview: paid or uncollectible; void: assumption).
        """
        sub = self.subscription_of(invoice)
        latest = self.world.find("invoice", sub["latest_invoice"])
        closed = latest["status"] in ("paid", "uncollectible", "void")
        if sub["status"] == "incomplete" and latest is invoice and invoice["status"] != "paid":
            if invoice["status"] == "void":
                self.beginnings.expire(sub)
        elif sub["status"] in ("past_due", "unpaid", "incomplete") and closed:
            with self.world.changing(sub, "customer.subscription.updated"):
                sub["status"] = "active"
        if invoice["status"] == "void":
            self.pauses.forget(sub, invoice)
        else:
            self.pauses.after_attempt(sub, invoice, paid=True)
        self._delinquent(sub)

    def _delinquent(self, sub):
        customer = self.world.find("customer", sub["customer"])
        owes = any(i["status"] == "open" and i["attempted"] and i["customer"] == customer["id"] for i in self.world.all("invoice"))
        with self.world.changing(customer, "customer.updated"):
            customer["delinquent"] = owes

    def fail(self, sub, invoice, why):
        """The attempt failed: tried again later, or that was the last one. Authentication is asked for when that is why."""
        tries, waits = invoice["attempt_count"] + 1, self.world.options.retry_days
        retrying = sub["status"] not in (*OVER, "unpaid", "incomplete") and invoice["auto_advance"] and tries <= len(waits)
        self.world.inside(invoice["id"])["needs_action"] = why == ACTION
        if why == ACTION:
            self.payments.asked(invoice)
        else:
            self.payments.declined(invoice, why)
        with self.world.changing(invoice):
            invoice |= {"attempted": True, "attempt_count": tries,
                        "next_payment_attempt": self.world.now + waits[tries - 1] * DAY if retrying else None}
        self.world.emit("invoice.payment_failed", invoice)
        if why == ACTION:
            self.world.emit("invoice.payment_action_required", invoice)
        if sub["status"] == "active":
            with self.world.changing(sub, "customer.subscription.updated"):
                sub["status"] = "past_due"
        self._delinquent(sub)
        if not retrying and invoice["auto_advance"] and sub["status"] == "past_due":  # an invoice that only somebody's call tries ends nothing
            self._give_up(sub, invoice)
        self.pauses.after_attempt(sub, invoice, paid=False, over=not retrying)

    def _give_up(self, sub, invoice):
        with self.world.changing(invoice, "invoice.updated"):
            invoice["auto_advance"] = False
        if self.world.options.final_failure == "cancel":
            return self.end(sub, reason="payment_failed")
        with self.world.changing(sub, "customer.subscription.updated"):
            sub["status"] = "unpaid"

    # renew

    def renew(self, sub, outcome=None):
        """The items whose periods end first have their next ones and a draft invoice for them; a trial is over.

        With `outcome` the draft is finalized and tried at once; without, `Options.draft_seconds` later.
        """
        with self.world.changing(sub, "customer.subscription.updated"):
            invoice = self.next_period(sub)
        self.collect(sub, invoice, at_once=bool(outcome), outcome=outcome)

    def next_period(self, sub):
        """The draft invoice over the next period of what renews; the caller tells that `sub` changed."""
        entries = items.first_to_end(sub)
        before = (entries[0]["current_period_start"], entries[0]["current_period_end"])
        self.plans.begin_phase(sub)
        sub["status"] = "active" if sub["status"] == "trialing" else sub["status"]
        for entry in entries:
            entry["current_period_start"], entry["current_period_end"] = before[1], next_end(sub, before[1], entry)
        invoice = self.draft(sub, "subscription_cycle", paid_period=before, entries=entries)
        sub["latest_invoice"] = invoice["id"]
        return invoice

    def collect(self, sub, invoice, *, at_once, outcome=None):
        """The new draft is under way: tried `at_once` or later, or held when collecting is paused or the subscription unpaid."""
        if sub["pause_collection"]:
            return self.pauses.hold(sub, invoice)
        if sub["status"] == "unpaid":  # Stripe leaves these as drafts for the owner to deal with
            with self.world.changing(invoice):
                invoice["auto_advance"] = False
        elif at_once:
            self.finalize_and_pay(invoice, outcome)
        else:
            with self.world.changing(invoice):
                invoice["automatically_finalizes_at"] = self.world.now + self.world.options.draft_seconds
        return None

    def finalize_and_pay(self, invoice, outcome=None):
        """The draft is open, and one attempt to pay it was made."""
        self.finalize(invoice)
        self.pay(invoice, outcome)

    def renew_now(self, sub, outcome):
        """The current period ended this instant, which is the new anchor, and the renewal had `outcome`."""
        if sub["status"] == "trialing" and not sub["cancel_at_period_end"] and sub["cancel_at"] is None:
            return self.trials.finish_now(sub, outcome)
        self.plans.shorten_phase(sub)
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
        self.plans.release(sub)  # with a schedule the flag could not be set: assumption
        if mode == "immediately":
            return self.end(sub, reason="cancellation_requested", details=details)
        flexible = sub["billing_mode"]["type"] == "flexible"
        return self.schedule_end(sub, flag=not flexible, cancel_at=item_end(sub), details=details)

    def end(self, sub, *, reason, details=None):
        """`sub` is canceled; its drafts and open invoices are no longer collected. customer.subscription.deleted tells."""
        with self.world.changing(sub):
            sub |= {"status": "canceled", "ended_at": self.world.now, "canceled_at": sub["canceled_at"] or self.world.now}
            sub["cancellation_details"] |= {**(details or {}), "reason": reason}
        self.plans.ended(sub)
        self.world.emit("customer.subscription.deleted", sub)
        for invoice in self.world.all("invoice"):
            if invoice["status"] in ("draft", "open") and self.subscription_of(invoice) is sub:
                with self.world.changing(invoice, "invoice.updated"):
                    invoice |= {"auto_advance": False, "next_payment_attempt": None, "automatically_finalizes_at": None}

    # time

    def due(self):
        """Everything that time alone will do, as (instant, rank, id, what); ends come before renewals of one instant."""
        for sub in self.world.all("subscription"):
            for part in (self.beginnings, self.trials, self.pauses):
                yield from part.due(sub)
            if sub["status"] in ("trialing", "active", "past_due", "unpaid") and item_end(sub) is not None:
                scheduled = sub["cancel_at"] if sub["cancel_at"] is not None else item_end(sub) if sub["cancel_at_period_end"] else None
                if scheduled is not None and scheduled <= item_end(sub):
                    yield scheduled, 0, sub["id"], self.end_on_time
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

    def end_on_time(self, key):
        """The subscription has ended as it was scheduled to."""
        sub = self.world.find("subscription", key)
        self.end(sub, reason=sub["cancellation_details"]["reason"] or "cancellation_requested")

    def _renew_on_time(self, key):
        sub = self.world.find("subscription", key)
        return self.trials.finish(sub) if sub["status"] == "trialing" else self.renew(sub)

    def _finalize_on_time(self, key):
        self.finalize_and_pay(self.world.find("invoice", key))

    def _pay_on_time(self, key):
        self.pay(self.world.find("invoice", key))

    def _expire_on_time(self, key):
        with self.world.changing(self.world.find("checkout.session", key)) as session:
            session |= {"status": "expired", "url": None}
        self.world.emit("checkout.session.expired", session)
