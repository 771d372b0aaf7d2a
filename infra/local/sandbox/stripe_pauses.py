"""The two pauses of Stripe: of collecting (pause_collection, the status stays) and of the subscription (status paused).

docs.stripe.com/billing/subscriptions/pause-payment, docs.stripe.com/billing/subscriptions/pause, docs.stripe.com/api/subscriptions/resume.
"""
from .stripe_begin import INCOMPLETE_FOR
from .stripe_invoices import void, write_off
from .stripe_items import first_end, next_end
from .stripe_params import Refusal

EXPIRES_AFTER = INCOMPLETE_FOR  # of an unpaid resumption invoice; Stripe says that it expires, not when: assumption


class Pauses:
    """Both pauses of subscriptions."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    def due(self, sub):
        """When collecting resumes by itself; when a resumption invoice that nobody paid is given up; the end of a paused subscription."""
        collection = sub["pause_collection"]
        if collection and collection.get("resumes_at"):
            yield collection["resumes_at"], -1, sub["id"], self._resume_collection_on_time
        resuming = self._resuming(sub)
        if sub["status"] == "paused" and resuming and not resuming["retries"]:
            yield resuming["at"] + EXPIRES_AFTER, 6, sub["id"], self._give_up_on_time
        if sub["status"] == "paused" and sub["cancel_at"] is not None:
            yield sub["cancel_at"], 0, sub["id"], self.billing.end_on_time

    # of collecting

    def check(self, wish):
        """Refusal when collecting cannot be paused like this."""
        if wish and wish.get("resumes_at") is not None and wish["resumes_at"] <= self.world.now:
            raise Refusal(400, "The `resumes_at` timestamp must be in the future.", param="pause_collection[resumes_at]")

    def set_collection(self, sub, wish, event="customer.subscription.updated"):
        """What `sub` bills from now on is voided, kept as a draft or written off, or ("" or None) collected again."""
        with self.world.changing(sub, event):
            sub["pause_collection"] = {"behavior": wish["behavior"], "resumes_at": wish.get("resumes_at")} if wish else None

    def _resume_collection_on_time(self, key):
        self.set_collection(self.world.find("subscription", key), None)

    def hold(self, sub, invoice):
        """The new invoice is dealt with as pause_collection says; nothing is tried."""
        behavior = sub["pause_collection"]["behavior"]
        with self.world.changing(invoice):
            invoice["auto_advance"] = False
        if behavior == "keep_as_draft":
            return
        self.billing.finalize(invoice)
        if behavior == "void":
            void(self.world, invoice)
        else:
            write_off(self.world, invoice, "subscription_paused")

    # of the subscription

    def pause(self, sub):
        """`sub` is paused on request: its items' periods end now (docs.stripe.com/billing/subscriptions/pause)."""
        if sub["billing_mode"]["type"] != "flexible":
            raise Refusal(400, "You can only pause subscriptions with `billing_mode` set to `flexible`.")
        if sub["schedule"]:
            raise Refusal(400, f"The subscription is managed by the subscription schedule `{sub['schedule']}`, and cannot be paused directly.")
        if sub["status"] not in ("active", "past_due"):
            raise Refusal(400, f"You cannot pause a subscription with the status `{sub['status']}`.")
        self.enter(sub, "pause_requested")

    def enter(self, sub, why):
        """`sub` is paused; `why` is the type in status_details."""
        with self.world.changing(sub, "customer.subscription.updated"):
            sub |= {"status": "paused", "status_details": {"paused": {
                "subscription": {"type": why}, "transitioned_at": self.world.now, "type": "subscription"}}}
            for entry in sub["items"]["data"]:
                entry["current_period_end"] = min(entry["current_period_end"], self.world.now)
        self.world.emit("customer.subscription.paused", sub)

    def resume(self, sub, *, anchor="now", proration="create_prorations", on_success=False, outcome=None):
        """A resumption invoice is open and must be paid (tried at once when `on_success`); `unchanged` without prorations needs none."""
        if sub["status"] != "paused":
            raise Refusal(400, f"You can only resume a paused subscription. This one has the status `{sub['status']}`.")
        if anchor == "unchanged":
            if proration != "none":
                raise Refusal(400, "This sandbox resumes with billing_cycle_anchor=unchanged only without prorations.",
                              code="sandbox_not_implemented", param="proration_behavior")
            return self._resumed(sub, "active", {e["id"]: (self.world.now, next_end(sub, self.world.now, e)) for e in sub["items"]["data"]})
        invoice = self._bill(sub, retries=on_success)
        if on_success or not invoice["amount_due"]:
            self.billing.pay(invoice, outcome)
        return None

    def _bill(self, sub, *, retries):
        self._give_up(sub)
        now = self.world.now
        entries = [{**entry, "current_period_start": now, "current_period_end": first_end(entry["price"], now)} for entry in sub["items"]["data"]]
        with self.world.changing(sub, "customer.subscription.updated"):
            invoice = self.billing.draft(sub, "subscription_update", paid_period=(now, now), entries=entries)
            sub["latest_invoice"] = invoice["id"]
        with self.world.changing(invoice):
            invoice["auto_advance"] = retries
        self.world.inside(sub["id"])["resuming"] = {"invoice": invoice["id"], "at": now, "retries": retries}
        self.billing.finalize(invoice)
        return invoice

    def _resuming(self, sub):
        return self.world.state["inside"].get(sub["id"], {}).get("resuming")

    def after_attempt(self, sub, invoice, *, paid, over=False):
        """A paused `sub` goes on when its resumption invoice was paid, and owes when the only attempt failed; `over`: no more attempts."""
        resuming = self._resuming(sub)
        if not resuming or resuming["invoice"] != invoice["id"] or sub["status"] != "paused":
            return
        if paid or not resuming["retries"]:
            at = resuming["at"]
            self._resumed(sub, "active" if paid else "past_due", {e["id"]: (at, first_end(e["price"], at)) for e in sub["items"]["data"]}, anchor=at)
        elif over:
            self._give_up(sub)

    def _resumed(self, sub, status, periods, anchor=None):
        self.world.inside(sub["id"]).pop("resuming", None)
        with self.world.changing(sub, "customer.subscription.updated"):
            sub |= {"status": status, "status_details": None, "billing_cycle_anchor": anchor or sub["billing_cycle_anchor"]}
            for entry in sub["items"]["data"]:
                entry["current_period_start"], entry["current_period_end"] = periods[entry["id"]]
        self.world.emit("customer.subscription.resumed", sub)

    def forget(self, sub, invoice):
        """The resumption that `invoice` was for, if any, is off; `sub` stays paused."""
        if (self._resuming(sub) or {}).get("invoice") == invoice["id"]:
            self.world.inside(sub["id"]).pop("resuming")

    def _give_up_on_time(self, key):
        self._give_up(self.world.find("subscription", key))

    def _give_up(self, sub):
        resuming = self._resuming(sub)
        if resuming:
            invoice = self.world.find("invoice", resuming["invoice"])
            self.forget(sub, invoice)
            if invoice["status"] == "open":
                void(self.world, invoice)
