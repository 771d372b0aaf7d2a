"""What becomes of an open invoice other than being paid: void, uncollectible (docs.stripe.com/invoicing/integration/workflow-transitions)."""
from .stripe_params import Refusal
from .stripe_payments import Payments


def void(world, invoice):
    """The invoice is void and will not be collected; invoice.voided tells."""
    Payments(world).called_off(invoice)
    _close(world, invoice, "void", "voided_at", "invoice.voided")


def write_off(world, invoice, reason):
    """The invoice is uncollectible (it can still be paid or voided), for that reason of status_details."""
    _close(world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible",
           status_details={"uncollectible": {"reason": reason}})


def _close(world, invoice, status, when, event, **more):
    with world.changing(invoice, event):
        invoice |= {"status": status, "auto_advance": False, "next_payment_attempt": None, "automatically_finalizes_at": None, **more}
        invoice["status_transitions"][when] = world.now


class Invoices:
    """The operations on one invoice that the API has beside paying it."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    def void(self, params, key):
        """POST /v1/invoices/{id}/void: what a void newest invoice does to the subscription is assumed."""
        invoice = self._one_of(key, ("open", "uncollectible"), "You can only void an invoice that is open or uncollectible.")
        void(self.world, invoice)
        self.billing.settled(invoice)
        return invoice

    def mark_uncollectible(self, params, key):
        """POST /v1/invoices/{id}/mark_uncollectible."""
        invoice = self._one_of(key, ("open",), "You can only mark an open invoice as uncollectible.")
        write_off(self.world, invoice, "user_forgiven")
        self.billing.settled(invoice)
        return invoice

    def finalize(self, params, key):
        """POST /v1/invoices/{id}/finalize: a draft is open; nothing is tried yet."""
        invoice = self._one_of(key, ("draft",), "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
        self.billing.finalize(invoice)
        return invoice

    def _one_of(self, key, statuses, words):
        invoice = self.world.find("invoice", key, "invoice")
        if invoice["status"] not in statuses:
            raise Refusal(400, words, code="invoice_not_editable" if invoice["status"] == "draft" else None)
        return invoice
