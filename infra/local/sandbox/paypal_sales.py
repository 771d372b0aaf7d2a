"""Sales of a merchant at PayPal in payments v1: what was paid, refunded, reversed. Shapes: docs/sandbox-paypal-notes.md."""
from decimal import Decimal, InvalidOperation

from . import paypal_money as money
from .paypal_contract import body_of
from .paypal_errors import Refusal, no_such_payment
from .paypal_world import iso


class Sales:
    """Takes money and gives it back; each sale and refund is kept in PayPal's own form, with `inside` for what PayPal does not show."""

    def __init__(self, world):
        self.world = world

    def routes(self):
        """(method, path in the official file, call)."""
        return [
            ("GET", "/v1/payments/sale/{sale_id}", lambda request, key: (200, shown(self.sale(key)))),
            ("POST", "/v1/payments/sale/{sale_id}/refund", self.refund_by_api),
            ("GET", "/v1/payments/refund/{refund_id}", lambda request, key: (200, shown(self.world.find("refund", key) or _lost()))),
        ]

    def sale(self, key):
        """The sale; Refusal 404 otherwise."""
        return self.world.find("sale", key) or _lost()

    def take(self, sub, amount):
        """The completed sale of `amount` for the subscription; nobody is told yet."""
        key, now, currency = self.world.draw(17), iso(self.world.now), sub["terms"]["currency"]
        here = self.world.url(f"/v1/payments/sale/{key}")
        return self.world.add("sale", {
            "billing_agreement_id": sub["id"], "amount": {**money.v1(amount, currency), "details": {"subtotal": money.plain(amount, currency)}},
            "payment_mode": "INSTANT_TRANSFER", "update_time": now, "create_time": now,
            "protection_eligibility_type": "ITEM_NOT_RECEIVED_ELIGIBLE,UNAUTHORIZED_PAYMENT_ELIGIBLE",
            "transaction_fee": money.fee(money.fee_of(amount), currency), "protection_eligibility": "ELIGIBLE",
            "links": [{"method": "GET", "rel": "self", "href": here}, {"method": "POST", "rel": "refund", "href": f"{here}/refund"}],
            "id": key, "state": "completed", "invoice_number": "",
            "inside": {"email": sub["payer"], "refunded": "0", "reversal": None}})

    def tell_completed(self, sale):
        """PAYMENT.SALE.COMPLETED is sent."""
        self._tell("COMPLETED", sale, f"Payment completed for {sale['amount']['currency']} {sale['amount']['total']} {sale['amount']['currency']}")

    def _tell(self, kind, resource, summary):
        self.world.changed = True
        self.world.emit(f"PAYMENT.SALE.{kind}", shown(resource), "sale", None, summary)

    # back to the buyer

    def refund_by_api(self, request, key):
        """201 with the detailed refund of POST /v1/payments/sale/{id}/refund; the whole rest when no amount is given."""
        sale, wish = self.sale(key), body_of(request)
        amount = wish.get("amount")
        if amount and amount["currency"] != sale["amount"]["currency"]:
            raise Refusal(400, "REFUND_CURRENCY_MISMATCH", "Currency of refund must be the same as the currency of the original payment.")
        try:
            wanted = Decimal(amount["total"]) if amount else None
        except InvalidOperation:
            raise Refusal(400, "VALIDATION_ERROR", "Invalid request - see details.", [
                {"field": "amount.total", "issue": "Must be numeric characters. May also contain decimal point."}]) from None
        refund = self.refund(sale, wanted, reason=wish.get("reason"))
        return 201, self._detailed(refund, sale)

    def refund(self, sale, amount=None, *, reason=None):
        """The completed refund of `amount`, or of what is left, with its event. Refusal when the sale cannot give that back."""
        left = Decimal(sale["amount"]["total"]) - Decimal(sale["inside"]["refunded"])
        if sale["state"] not in ("completed", "partially_refunded"):
            raise Refusal(400, "TRANSACTION_ALREADY_REFUNDED" if sale["state"] == "refunded" else "TRANSACTION_REFUSED",
                          "Transaction was already refunded." if sale["state"] == "refunded" else "The request was refused.")
        amount = left if amount is None else amount
        if not 0 < amount <= left:
            raise Refusal(400, "REFUND_EXCEEDED_TRANSACTION_AMOUNT", "Refund refused. Refund amount exceeds the original transaction amount.")
        refund = self._back(sale, amount, reason=reason)
        sale["inside"]["refunded"] = str(Decimal(sale["inside"]["refunded"]) + amount)
        self._set_state(sale, "refunded" if amount == left else "partially_refunded")
        currency = sale["amount"]["currency"]
        self._tell("REFUNDED", {**self._detailed(refund, sale), "refund_reason_code": "REFUND",
                                "refund_to_payer": money.fee(amount, currency), "invoice_number": ""},
                   f"A {money.plain(amount, currency)} {currency} sale payment was refunded")
        return refund

    def _back(self, sale, amount, *, reason=None):
        key, now = self.world.draw(17), iso(self.world.now)
        return self.world.add("refund", {
            "id": key, "create_time": now, "update_time": now, "amount": money.v1(amount, sale["amount"]["currency"]), "state": "completed",
            **({"reason": reason} if reason else {}), "sale_id": sale["id"], "links": [
                {"href": self.world.url(f"/v1/payments/refund/{key}"), "rel": "self", "method": "GET"},
                {"href": self.world.url(f"/v1/payments/sale/{sale['id']}"), "rel": "sale", "method": "GET"}]})

    def _detailed(self, refund, sale):
        """The refund with what POST answers beyond GET: what came back from whom, and how much of the sale in all."""
        currency, amount = sale["amount"]["currency"], refund["amount"]["total"]
        return {**refund, "refund_from_transaction_fee": money.fee(0, currency), "refund_from_received_amount": money.fee(amount, currency),
                "total_refunded_amount": money.fee(sale["inside"]["refunded"], currency)}

    def reverse(self, sale, *, names_sale=False):
        """The refund record of money that PayPal took back; PAYMENT.SALE.REVERSED in the old form, which names neither sale nor subscription, is sent."""
        left = Decimal(sale["amount"]["total"]) - Decimal(sale["inside"]["refunded"])
        refund = self._back(sale, -left)
        sale["inside"]["reversal"] = refund["id"]
        self._set_state(sale, "reversed")
        currency = sale["amount"]["currency"]
        resource = {"amount": {**refund["amount"], "details": {"subtotal": refund["amount"]["total"]}}, "id": refund["id"], "state": "completed",
                    "create_time": refund["create_time"], "links": refund["links"][:1], **({"sale_id": sale["id"]} if names_sale else {})}
        self._tell("REVERSED", resource, f"A $ {money.plain(left, currency)} {currency} sale payment was reversed")
        return refund

    def cancel_reversal(self, sale):
        """The money is the merchant's again. No event tells of it (assumed: the list of event types has none)."""
        refund = self.world.find("refund", sale["inside"]["reversal"])
        refund |= {"state": "cancelled", "update_time": iso(self.world.now)}
        sale["inside"]["reversal"] = None
        self._set_state(sale, "partially_refunded" if Decimal(sale["inside"]["refunded"]) else "completed")

    def change(self, sale, state):
        """The sale is pending, denied or completed after all, and the event says so."""
        self._set_state(sale, state)
        if state == "completed":
            return self.tell_completed(sale)
        currency, total = sale["amount"]["currency"], sale["amount"]["total"]
        text = f"Payment pending for {currency} {total} {currency}" if state == "pending" else f"A {currency} {total} {currency} sale payment was denied"
        return self._tell(state.upper(), sale, text)

    def _set_state(self, sale, state):
        sale |= {"state": state, "update_time": iso(self.world.now)}
        self.world.changed = True


def shown(thing):
    """A sale or refund as PayPal shows it."""
    return {name: value for name, value in thing.items() if name != "inside"}


def _lost():
    raise no_such_payment()
