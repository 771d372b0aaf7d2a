"""How subscriptions begin in the Stripe sandbox: paid, on trial, or incomplete for at most 23 hours (docs.stripe.com/billing/subscriptions/overview)."""
import copy

from . import stripe_items as items
from . import stripe_objects as objects
from .stripe_invoices import void

INCOMPLETE_FOR = 23 * 3600


class Begin:
    """Beginnings, and what follows from a first payment that did not work at once."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    def create(self, prices, *, customer, metadata, mode, method=None, trial_end=None, missing="create_invoice"):
        """(subscription, its first invoice): incomplete with the invoice open, or trialing with one over nothing that is paid."""
        world, now = self.world, self.world.now
        with world.changing(customer, "customer.updated"):
            customer["currency"] = prices[0]["currency"]
        sub = objects.subscription(copy.deepcopy(prices[0]), key="sub_1" + world.draw(23), item_key="si_" + world.draw(14), now=now,
                                   period_end=items.first_end(prices[0], now), customer_id=customer["id"],
                                   mode=mode or world.options.billing_mode, metadata=metadata)
        for price in prices[1:]:
            items.add_item(world, sub, price, start=now, end=items.first_end(price, now))
        sub["default_payment_method"] = method
        sub["trial_settings"]["end_behavior"]["missing_payment_method"] = missing
        if trial_end:
            self.billing.trials.set_end(sub, trial_end)
        invoice = self.billing.draft(sub, "subscription_create", paid_period=(now, now), entries=sub["items"]["data"], free=bool(trial_end))
        sub["latest_invoice"] = invoice["id"]
        world.add(sub, "customer.subscription.created")
        self.billing.finalize(invoice)
        self.billing.trials.announce_if_near(sub)
        return sub, invoice

    def begin(self, prices, *, customer, method, outcome=None, **more):
        """The subscription after its first payment was tried with the card `method` (None: nothing is due yet, or no card)."""
        sub, invoice = self.create(prices, customer=customer, **more)
        why = self.billing.why_declined({**sub, "default_payment_method": method}, outcome) if invoice["amount_due"] else None
        with self.world.changing(sub, "customer.subscription.updated"):
            sub["default_payment_method"] = method
            if why is None:
                self.billing.mark_paid(invoice)
                sub["status"] = "active" if sub["status"] == "incomplete" else sub["status"]
        if why:
            self.billing.fail(sub, invoice, why)
        return sub

    def due(self, sub):
        """When an incomplete subscription has waited long enough."""
        if sub["status"] == "incomplete" and self.world.find("invoice", sub["latest_invoice"])["status"] == "open":
            yield sub["created"] + INCOMPLETE_FOR, 5, sub["id"], self._expire_on_time

    def _expire_on_time(self, key):
        sub = self.world.find("subscription", key)
        void(self.world, self.world.find("invoice", sub["latest_invoice"]))
        self.expire(sub)

    def expire(self, sub):
        """`sub` is incomplete_expired, which is for ever."""
        with self.world.changing(sub, "customer.subscription.updated"):
            sub |= {"status": "incomplete_expired", "ended_at": self.world.now}

    def authenticate(self, invoice, outcome="succeed"):
        """Whoever owns the card was asked by the bank and said yes ("succeed") or no; True: the invoice is paid."""
        sub = self.billing.subscription_of(invoice)
        customer = self.world.find("customer", sub["customer"])
        method = sub["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
        if outcome == "succeed" and method:
            self.billing.authenticated(method)
        return self.billing.pay(invoice, outcome)

    def needs_action(self, invoice):
        """Whether the last attempt to pay an open invoice asked for authentication."""
        return invoice["status"] == "open" and bool(self.world.state["inside"].get(invoice["id"], {}).get("needs_action"))
