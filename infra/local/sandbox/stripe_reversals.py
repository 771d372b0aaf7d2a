"""Money that goes back in the Stripe sandbox: refunds, full and partial, and disputes (docs.stripe.com/refunds, docs.stripe.com/disputes)."""
from . import stripe_payment_objects as objects
from .http import BadControl
from .stripe_billing import OVER
from .stripe_params import Refusal

INQUIRY = ("warning_needs_response", "warning_under_review", "warning_closed")
OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")
CLOSED = ("won", "lost", "warning_closed")
FAILURES = ("lost_or_stolen_card", "expired_or_canceled_card", "charge_for_pending_refund_disputed", "insufficient_funds", "declined",
            "merchant_request", "unknown")


class Reversals:
    """Refunds and disputes of one account. Each method happens at `world.now` and emits Stripe's events."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    # refunds

    def create(self, params):
        """A refund as POST /v1/refunds makes it; neither a subscription nor an invoice changes by it."""
        charge = self._to_refund(params)
        left = charge["amount"] - charge["amount_refunded"]
        amount = params.get("amount", left)
        if charge["status"] != "succeeded":
            raise Refusal(400, f"Charge {charge['id']} is {charge['status']}; it cannot be refunded.", param="charge")
        if self._holding(charge):
            raise Refusal(400, f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed", param="charge")
        if left == 0:
            raise Refusal(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded", param="charge")
        if amount < 1:
            raise Refusal(400, "Invalid positive integer", code="parameter_invalid_integer", param="amount")
        if amount > left:
            raise Refusal(400, f"Refund amount ({amount / 100:.2f}) is greater than unrefunded amount on charge ({left / 100:.2f})", param="amount")
        return self._refund(charge, amount, params)

    def _to_refund(self, params):
        if "charge" in params:
            return self.world.find("charge", params["charge"], "charge")
        if "payment_intent" not in params:
            raise Refusal(400, "One of the following params should be provided for this request: payment_intent or charge.")
        intent = self.world.find("payment_intent", params["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise Refusal(400, f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.", param="payment_intent")
        return self.world.find("charge", intent["latest_charge"])

    def _holding(self, charge):
        """Whether a dispute has taken the money already."""
        return any(d["charge"] == charge["id"] and d["status"] not in (*INQUIRY, "won") for d in self.world.all("dispute"))

    def _refund(self, charge, amount, params):
        world = self.world
        refund = world.add(objects.refund(charge, key="re_3" + world.draw(23), now=world.now, amount=amount, reason=params.get("reason"),
                                          metadata=params.get("metadata") or {}), "refund.created")
        self._count(charge, amount, "charge.refunded")
        if refund["status"] == "succeeded":  # the bank's reference comes in, in reality days later
            with world.changing(refund, "refund.updated"):
                refund["destination_details"]["card"] |= {"reference": "5333610000000000000001", "reference_status": "available"}
        return refund

    def _count(self, charge, amount, event=None):
        with self.world.changing(charge, event):
            charge["amount_refunded"] += amount
            charge["refunded"] = charge["amount_refunded"] == charge["amount"]

    def resolve(self, refund, *, failed, why="unknown"):
        """A refund came back to the account (`failed`; succeeded ones may still), or a pending one arrived."""
        if refund["status"] not in ("pending", "succeeded") or (not failed and refund["status"] == "succeeded"):
            raise BadControl(f"{refund['id']} is {refund['status']}")
        if failed:
            self._count(self.world.find("charge", refund["charge"]), -refund["amount"])
        changed = {"status": "failed", "failure_reason": why, "failure_balance_transaction": "txn_1" + self.world.draw(23)} if failed \
            else {"status": "succeeded"}
        with self.world.changing(refund, "refund.updated"):
            refund |= {**changed, "pending_reason": None}
        if failed:
            self.world.emit("refund.failed", refund)

    # disputes

    def dispute(self, charge, *, reason="fraudulent", amount=None, status="needs_response"):
        """The buyer's bank disputes the charge; an inquiry (warning_…) moves no money yet."""
        if charge["status"] != "succeeded":
            raise BadControl(f"{charge['id']} is {charge['status']}")
        if any(d["charge"] == charge["id"] and d["status"] in OPEN for d in self.world.all("dispute")):
            raise BadControl(f"{charge['id']} is disputed already")
        world = self.world
        dispute = objects.dispute(charge, key="du_1" + world.draw(23), now=world.now, amount=amount or charge["amount"], reason=reason, status=status)
        with world.changing(charge):
            charge["disputed"] = True
        world.add(dispute, "charge.dispute.created")
        if status not in INQUIRY:
            self._move_money(dispute, -dispute["amount"])
        self._punish(charge)
        return dispute

    def set_status(self, dispute, status):
        """The dispute is in `status`, with the money and the events that go with it. A closed one stays closed."""
        before = dispute["status"]
        if before in CLOSED or status not in (*OPEN, *CLOSED) or (before not in INQUIRY and status in INQUIRY) \
                or (before in INQUIRY and status in ("won", "lost")):
            raise BadControl(f"{dispute['id']} is {before} and cannot become {status}")
        with self.world.changing(dispute, None if status in CLOSED else "charge.dispute.updated"):
            dispute |= {"status": status, "is_charge_refundable": status in INQUIRY}
            if status in ("under_review", "warning_under_review"):
                dispute["evidence_details"] |= {"has_evidence": True, "submission_count": 1, "submission_method": "manual"}
            if before in INQUIRY and status not in INQUIRY and dispute["payment_method_details"]:
                dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
        if before in INQUIRY and status not in INQUIRY:
            self._move_money(dispute, -dispute["amount"])
        if status == "won":
            self._move_money(dispute, dispute["amount"])
        if status in CLOSED:
            self.world.emit("charge.dispute.closed", dispute)

    def _move_money(self, dispute, amount):
        with self.world.changing(dispute):
            dispute["balance_transactions"].append(objects.balance_transaction(
                dispute, key="txn_1" + self.world.draw(23), now=self.world.now, amount=amount))
        self.world.emit(f"charge.dispute.funds_{'withdrawn' if amount < 0 else 'reinstated'}", dispute)

    def _punish(self, charge):
        """The subscription that the charge paid for ends, now or at its period's end, where the account is set up so."""
        do, sub = self.world.options.on_dispute, self.billing.payments.subscription_of_charge(charge)
        if do == "nothing" or sub is None or sub["status"] in OVER:
            return
        if do == "cancel":
            self.billing.end(sub, reason="payment_disputed")
            return
        with self.world.changing(sub, "customer.subscription.updated"):
            self.billing.schedule_end(sub, flag=True, cancel_at=None, event=None)
            sub["cancellation_details"]["reason"] = "payment_disputed"
