"""The API's operations on subscriptions beyond cancelling: create, switch, trial, pause, resume; on schedules and invoices."""
from . import stripe_items as items
from .stripe_invoices import Invoices
from .stripe_params import Refusal, missing
from .stripe_trials import wish as trial_wish

CREATES = ("customer", "items[price]", "items[quantity]", "metadata", "default_payment_method", "payment_behavior", "billing_mode[type]",
           "trial_period_days", "trial_end", "trial_settings[end_behavior][missing_payment_method]", "off_session")
UPDATES = ("items[id]", "items[price]", "items[quantity]", "items[deleted]", "proration_behavior", "payment_behavior", "off_session",
           "pause_collection", "trial_end", "trial_settings[end_behavior][missing_payment_method]")
BEHAVIORS = ("allow_incomplete", "error_if_incomplete")  # what an update may do when its payment fails; the rest is not carried out
WHILE_INCOMPLETE = {"metadata", "default_payment_method", "expand"}


class Subscriptions:
    """Carries out those operations; `check` and `change` are the parts of an update that are not about cancelling."""

    def __init__(self, api):
        self.api, self.world, self.billing = api, api.world, api.billing
        self.invoices = Invoices(api.world, api.billing)

    def routes(self):
        """(operation, what carries it out, *understood parameters) of each."""
        return [
            ("POST /v1/subscriptions", self.create, *CREATES),
            ("POST /v1/subscriptions/{subscription}/pause", self.pause, "type"),
            ("POST /v1/subscriptions/{subscription}/resume", self.resume, "billing_cycle_anchor[type]", "payment_behavior", "proration_behavior"),
            ("GET /v1/subscription_schedules/{schedule}", self.api.get("subscription_schedule", "schedule")),
            ("POST /v1/subscription_schedules/{schedule}/release", self.release),
            ("POST /v1/invoices/{id}/finalize", self.invoices.finalize),
            ("POST /v1/invoices/{id}/void", self.invoices.void),
            ("POST /v1/invoices/{id}/mark_uncollectible", self.invoices.mark_uncollectible),
        ]

    # begin

    def create(self, params):
        """POST /v1/subscriptions: active, trialing, or incomplete, as payment_behavior says what a failed first payment leaves."""
        customer, prices, method = self._buyer(params), self._prices(params), params.get("default_payment_method")
        ends, without = trial_wish(params, self.world.now)
        given = {"metadata": params.get("metadata") or {}, "mode": params.get("billing_mode", {}).get("type"), "trial_end": ends, "missing": without}
        behavior = params.get("payment_behavior", "allow_incomplete")
        if behavior == "pending_if_incomplete":
            raise Refusal(400, "You cannot create a subscription with payment_behavior pending_if_incomplete.", param="payment_behavior")
        if behavior == "default_incomplete":
            return self._unpaid(prices, customer, method, given)
        why = None if ends or not any(p["unit_amount"] for p in prices) else self.billing.why_declined(
            {"customer": customer["id"], "default_payment_method": method})
        if why == "missing_payment_method":
            raise Refusal(400, "This customer has no attached payment source or default payment method. Please consider adding a default "
                               "payment method.", code="resource_missing")
        if why and behavior == "error_if_incomplete":
            raise Refusal(402, "Your card was declined.", code="card_declined", kind="card_error", decline_code=why)
        return self.billing.beginnings.begin(prices, customer=customer, method=method, **given)

    def _unpaid(self, prices, customer, method, given):
        sub, invoice = self.billing.beginnings.create(prices, customer=customer, method=method, **given)
        if not invoice["amount_due"]:
            self.billing.pay(invoice)
        return sub

    def _buyer(self, params):
        if "customer" not in params:
            raise missing("customer")
        customer, method = self.world.find("customer", params["customer"], "customer"), params.get("default_payment_method")
        if method and self.world.find("payment_method", method, "default_payment_method")["customer"] != customer["id"]:
            raise Refusal(400, f"The customer does not have a payment method with the ID {method}.", param="default_payment_method")
        return customer

    def _prices(self, params):
        wishes = params.get("items")
        if not wishes or any("price" not in wish for wish in wishes):
            raise missing("items" if not wishes else "items[0][price]")
        if any(wish.get("quantity", 1) != 1 for wish in wishes):
            raise Refusal(400, "This sandbox sells quantity 1.", code="sandbox_not_implemented", param="items[quantity]")
        prices = [self.world.find("price", wish["price"], f"items[{place}][price]") for place, wish in enumerate(wishes)]
        mode = params.get("billing_mode", {}).get("type") or self.world.options.billing_mode
        items.check_together(prices, flexible=mode == "flexible")
        return prices

    # change

    def check(self, sub, params):
        """Refusal for an update that cannot be, before anything has changed."""
        if sub["status"] == "incomplete" and params.keys() - WHILE_INCOMPLETE:
            raise Refusal(400, "A subscription with the status `incomplete` can only update its metadata and payment method.")
        if sub["schedule"] and {"cancel_at", "cancel_at_period_end"} & params.keys():
            raise Refusal(400, f"The subscription is managed by the subscription schedule `{sub['schedule']}`, and updating any cancelation "
                               "behavior directly is not allowed. Please update the schedule instead.")
        if params.get("payment_behavior", BEHAVIORS[0]) not in BEHAVIORS:
            raise Refusal(400, "This sandbox has no pending updates.", code="sandbox_not_implemented", param="payment_behavior")
        if params.get("pause_collection"):
            self.billing.pauses.check(params["pause_collection"])
        if "trial_end" in params:
            if sub["status"] != "trialing":
                raise Refusal(400, "This sandbox gives no trial to a subscription that has begun.", code="sandbox_not_implemented", param="trial_end")
            trial_wish({"trial_end": params["trial_end"]}, self.world.now)
        if "items" in params:
            self._check_switch(sub, params)

    def _check_switch(self, sub, params):
        if sub["status"] == "paused":
            raise Refusal(400, "This sandbox switches no paused subscription.", code="sandbox_not_implemented", param="items")
        self.billing.plans.check(sub, params["items"])
        if params.get("payment_behavior") == "error_if_incomplete" and self.billing.why_declined(sub):
            raise Refusal(402, "Your card was declined.", code="card_declined", kind="card_error", decline_code="generic_decline")

    def change(self, sub, params):
        """`sub` with those parts of an update; what is to be done once its event is out, a list of functions."""
        later = []
        if "pause_collection" in params:
            self.billing.pauses.set_collection(sub, params["pause_collection"], event=None)
        if "trial_settings" in params:
            sub["trial_settings"]["end_behavior"] |= params["trial_settings"]["end_behavior"]
        if "items" in params:
            invoice = self.billing.plans.change(sub, params["items"], params.get("proration_behavior", "create_prorations"))
            if invoice is not None:
                later.append(lambda: self.billing.collect(sub, invoice, at_once=True))
        if params.get("trial_end") == "now":
            later.append(lambda: self.billing.trials.finish_now(sub))
        elif "trial_end" in params:
            self.billing.trials.set_end(sub, params["trial_end"])
            later.append(lambda: self.billing.trials.announce_if_near(sub))
        return later

    # pause and resume, schedules

    def pause(self, params, key):
        """POST /v1/subscriptions/{id}/pause."""
        sub = self.world.find("subscription", key)
        self.billing.pauses.pause(sub)
        return sub

    def resume(self, params, key):
        """POST /v1/subscriptions/{id}/resume; it is still paused while its resumption invoice is open."""
        sub = self.world.find("subscription", key)
        self.billing.pauses.resume(sub, anchor=params.get("billing_cycle_anchor", {}).get("type", "now"),
                                   proration=params.get("proration_behavior", "create_prorations"),
                                   on_success=params.get("payment_behavior") == "resume_on_payment_success")
        return sub

    def release(self, params, key):
        """POST /v1/subscription_schedules/{id}/release."""
        schedule = self.world.find("subscription_schedule", key, "schedule")
        if schedule["status"] != "active":
            raise Refusal(400, f"You cannot release a subscription schedule that is currently in the `{schedule['status']}` status.")
        self.billing.plans.release(self.world.find("subscription", schedule["subscription"]))
        return schedule
