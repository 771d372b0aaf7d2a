"""Trials in the Stripe sandbox: how they are asked for, announced and ended (docs.stripe.com/billing/subscriptions/trials)."""
from .stripe_params import Refusal

DAY = 86400
ANNOUNCED = 3 * DAY  # customer.subscription.trial_will_end comes so long before, or at once when less is left (docs.stripe.com/api/events/types)


def wish(params, now, *, at=None, least=1):
    """(end of the trial or None, what to do without a payment method) that `params` ask for; `at` is the place of the parameters.

    `least`: seconds that trial_end must be ahead; Checkout wants two days (docs.stripe.com/payments/checkout/free-trials).
    """
    place = "{}" if at is None else at + "[{}]"
    missing = params.get("trial_settings", {}).get("end_behavior", {}).get("missing_payment_method", "create_invoice")
    days, end = params.get("trial_period_days"), params.get("trial_end")
    if days is not None and end is not None:
        raise Refusal(400, "You may only specify one of these parameters: trial_end, trial_period_days.")
    if days is not None and not 1 <= days <= 730:
        raise Refusal(400, "Invalid trial_period_days: must be between 1 and 730.", param=place.format("trial_period_days"))
    if isinstance(end, int) and end < now + least:
        raise Refusal(400, "Invalid timestamp: must be in the future." if least == 1 else "The `trial_end` date has to be at least 2 days in the future.",
                      param=place.format("trial_end"))
    return (now + days * DAY if days else end if end != "now" else None), missing


class Trials:
    """What happens to trialing subscriptions."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    def set_end(self, sub, end):
        """The trial, and with it the period of every item, ends at `end`, which is the anchor of all that follows."""
        sub |= {"status": "trialing", "trial_start": sub["trial_start"] or self.world.now, "trial_end": end, "billing_cycle_anchor": end}
        for entry in sub["items"]["data"]:
            entry["current_period_end"] = end
        if end - ANNOUNCED > self.world.now:
            self.world.inside(sub["id"])["announced"] = False

    def has_method(self, sub):
        """Whether anything could be charged for `sub`."""
        customer = self.world.find("customer", sub["customer"])
        return bool(sub["default_payment_method"] or customer["invoice_settings"]["default_payment_method"])

    def due(self, sub):
        """The announcement of the end, when it is still to come. The end itself is the end of the items' period."""
        if sub["status"] == "trialing" and sub["trial_end"] and not self.world.state["inside"].get(sub["id"], {}).get("announced"):
            yield sub["trial_end"] - ANNOUNCED, 7, sub["id"], self._announce_on_time

    def _announce_on_time(self, key):
        self.announce(self.world.find("subscription", key))

    def announce_if_near(self, sub):
        """The end of the trial has been announced when that should be so by now."""
        if sub["trial_end"] and sub["trial_end"] - ANNOUNCED <= self.world.now:
            self.announce(sub)

    def announce(self, sub):
        """customer.subscription.trial_will_end has been sent for this end of the trial."""
        if not self.world.state["inside"].get(sub["id"], {}).get("announced"):
            self.world.inside(sub["id"])["announced"] = True
            self.world.emit("customer.subscription.trial_will_end", sub)

    def finish(self, sub):
        """The trial is over: the first paid period has begun with a draft invoice, or what trial_settings say without a payment method."""
        missing = sub["trial_settings"]["end_behavior"]["missing_payment_method"]
        if self.has_method(sub) or missing == "create_invoice":
            return self.billing.renew(sub)
        if missing == "cancel":  # none of the reasons that Stripe lists fits, so there is none: assumption
            return self.billing.end(sub, reason=None)
        return self.billing.pauses.enter(sub, "trial_end_without_payment_method")

    def finish_now(self, sub, outcome=None):
        """The trial ended this instant, and what is due for the first period was tried at once."""
        self.announce(sub)
        missing = sub["trial_settings"]["end_behavior"]["missing_payment_method"]
        with self.world.changing(sub, "customer.subscription.updated"):
            sub |= {"trial_end": self.world.now, "billing_cycle_anchor": self.world.now}
            for entry in sub["items"]["data"]:
                entry["current_period_end"] = self.world.now
            invoice = self.billing.next_period(sub) if self.has_method(sub) or missing == "create_invoice" else None
        if invoice is None:
            return self.finish(sub)
        return self.billing.collect(sub, invoice, at_once=True, outcome=outcome)
