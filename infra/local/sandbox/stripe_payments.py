"""Payments in the Stripe sandbox: a payment intent for each invoice and one-time purchase, a charge for each attempt to pay it.

A charge names no invoice; invoice_payments lead from its payment intent there (docs.stripe.com/changelog/basil/2025-03-31/add-support-for-multiple-partial-payments-on-invoices).
"""
from . import stripe_payment_objects as objects

WORDS = {"insufficient_funds": "Your card has insufficient funds.", "expired_card": "Your card has expired."}


class Payments:
    """All payment intents, charges and invoice payments of one account. Each method happens at `world.now` and emits Stripe's events."""

    def __init__(self, world):
        self.world = world

    # intents and charges

    def intend(self, *, amount, currency, customer, description=None, metadata=(), methods=("card",)):
        """A new payment intent that nobody has tried to pay."""
        world = self.world
        return world.add(objects.payment_intent(
            key="pi_3" + world.draw(23), secret=world.draw(25), now=world.now, amount=amount, currency=currency, customer=customer,
            description=description, metadata=dict(metadata), methods=methods), "payment_intent.created")

    def attempt(self, intent, method, decline=None):
        """The charge of one attempt with a card: it succeeded, or was refused with the code `decline`."""
        charge = self._charge(intent, method)
        return self._refuse(intent, charge, decline) if decline else self._succeed(intent, charge)

    def begin_debit(self, intent, method):
        """The charge of a bank debit that is under way: pending, until `settle`."""
        charge = self._charge(intent, method)
        charge |= {"status": "pending", "paid": False, "captured": True, "balance_transaction": None}
        self.world.add(charge, "charge.pending")
        with self.world.changing(intent):
            intent |= {"status": "processing", "latest_charge": charge["id"], "payment_method": charge["payment_method"]}
        self.world.emit("payment_intent.processing", intent)
        self.world.inside(intent["id"])["settles"] = self.world.now + self.world.options.debit_days * 86400
        return charge

    def settle(self, intent, outcome):
        """The bank has answered: the pending charge of `intent` did "succeed" or "decline"."""
        charge = self.world.find("charge", intent["latest_charge"])
        self.world.inside(intent["id"])["settles"] = None
        if outcome == "decline":
            return self._refuse(intent, charge, "insufficient_funds")
        charge |= {"status": "succeeded", "paid": True, "balance_transaction": "txn_3" + charge["id"][4:]}
        return self._succeed(intent, charge)

    def _charge(self, intent, method):
        world, bank = self.world, method is not None and method["type"] != "card"
        return objects.charge(intent, key=("py_3" if bank else "ch_3") + world.draw(23), now=world.now, method=method,
                              receipt=f"{world.public_url()}/receipts/{world.account}/test_{world.draw(40)}")

    def _succeed(self, intent, charge):
        self.world.add(charge, "charge.succeeded")
        with self.world.changing(intent):
            intent |= {"status": "succeeded", "latest_charge": charge["id"], "amount_received": intent["amount"], "next_action": None,
                       "payment_method": charge["payment_method"], "last_payment_error": None}
        self.world.emit("payment_intent.succeeded", intent)
        return charge

    def _refuse(self, intent, charge, code):
        words = WORDS.get(code, "Your card was declined.")
        kind = "expired_card" if code == "expired_card" else "card_declined"
        charge |= {"status": "failed", "paid": False, "captured": False, "amount_captured": 0, "balance_transaction": None, "receipt_url": None,
                   "failure_code": kind, "failure_message": words,
                   "outcome": {**charge["outcome"], "network_status": "declined_by_network", "reason": code, "type": "issuer_declined",
                               "seller_message": "The bank did not return any further details with this decline."}}
        self.world.add(charge, "charge.failed")
        method = self.world.state["objects"]["payment_method"].get(charge["payment_method"])
        with self.world.changing(intent):
            intent |= {"status": "requires_payment_method", "latest_charge": charge["id"], "payment_method": None, "next_action": None,
                       "last_payment_error": {
                "charge": charge["id"], "code": kind, "decline_code": code, "message": words, "payment_method": method, "type": "card_error",
                "doc_url": f"https://stripe.com/docs/error-codes/{kind.replace('_', '-')}"}}
        self.world.emit("payment_intent.payment_failed", intent)
        return charge

    # invoices

    def requested(self, invoice):
        """The finalized invoice has a payment intent, unless nothing is due."""
        if invoice["amount_due"] <= 0:
            return
        why = {"subscription_create": "Subscription creation"}.get(invoice["billing_reason"], "Subscription update")
        intent = self.intend(amount=invoice["amount_due"], currency=invoice["currency"], customer=invoice["customer"], description=why)
        self.world.add(objects.invoice_payment(invoice, intent, key="inpay_1" + self.world.draw(23), now=self.world.now))

    def paid(self, invoice):
        """The payment of the invoice succeeded, now."""
        entry, intent = self._of(invoice)
        if entry is None:
            return
        self.attempt(intent, self._method(invoice))
        with self.world.changing(entry):
            entry |= {"status": "paid", "amount_paid": invoice["amount_due"]}
            entry["status_transitions"]["paid_at"] = self.world.now
        self.world.emit("invoice_payment.paid", entry)

    def declined(self, invoice, code):
        """An attempt to pay the invoice was refused. Without any card there was nothing to charge."""
        entry, intent = self._of(invoice)
        if entry is not None and code != "missing_payment_method":
            self.attempt(intent, self._method(invoice), code)

    def asked(self, invoice):
        """The bank wants to ask the owner of the card first; nothing was charged."""
        intent = self._of(invoice)[1]
        with self.world.changing(intent):
            intent |= {"status": "requires_action", "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}}}
        self.world.emit("payment_intent.requires_action", intent)

    def called_off(self, invoice):
        """The invoice is void, and nobody can pay it any more."""
        entry, intent = self._of(invoice)
        if entry is None:
            return
        with self.world.changing(intent):
            intent |= {"status": "canceled", "canceled_at": self.world.now, "cancellation_reason": "void_invoice", "next_action": None}
        self.world.emit("payment_intent.canceled", intent)
        with self.world.changing(entry):
            entry["status"] = "canceled"
            entry["status_transitions"]["canceled_at"] = self.world.now

    def _of(self, invoice):
        entry = next((p for p in self.world.all("invoice_payment") if p["invoice"] == invoice["id"] and p["status"] == "open"), None)
        return entry, entry and self.world.find("payment_intent", entry["payment"]["payment_intent"])

    def _method(self, invoice):
        sub = (invoice["parent"] or {}).get("subscription_details") or {}
        sub = self.world.state["objects"]["subscription"].get(sub.get("subscription"), {})
        customer = self.world.find("customer", invoice["customer"])
        key = sub.get("default_payment_method") or customer["invoice_settings"]["default_payment_method"]
        return self.world.find("payment_method", key) if key else None

    # found

    def charges_of_subscription(self, key):
        """Every charge for an invoice of the subscription, oldest first."""
        invoices = {i["id"] for i in self.world.all("invoice") if ((i["parent"] or {}).get("subscription_details") or {}).get("subscription") == key}
        intents = {p["payment"]["payment_intent"] for p in self.world.all("invoice_payment") if p["invoice"] in invoices}
        return [c for c in self.world.all("charge") if c["payment_intent"] in intents]

    def subscription_of_charge(self, charge):
        """The subscription whose invoice the charge paid, or None."""
        for entry in self.world.all("invoice_payment"):
            if entry["payment"]["payment_intent"] == charge["payment_intent"]:
                invoice = self.world.find("invoice", entry["invoice"])
                key = ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")
                return self.world.state["objects"]["subscription"].get(key)
        return None
