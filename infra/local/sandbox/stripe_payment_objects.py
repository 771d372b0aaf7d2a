"""Payments, and money that goes back, in Stripe's shape at API version 2026-10-28.endive, as they are when new.

charge, refund and dispute: specs/stripe.schema.json. payment_intent, invoice_payment, item, balance_transaction and
application: the classes of the SDK (stripe 16.1.0).
"""


def payment_intent(*, key, secret, now, amount, currency, customer, description, metadata, methods):
    """A payment that nobody has tried to make yet."""
    return {
        "id": key, "object": "payment_intent", "amount": amount, "amount_capturable": 0, "amount_details": {"tip": {}},
        "amount_received": 0, "application": None, "application_fee_amount": None, "automatic_payment_methods": None,
        "canceled_at": None, "cancellation_reason": None, "capture_method": "automatic", "client_secret": f"{key}_secret_{secret}",
        "confirmation_method": "automatic", "created": now, "currency": currency, "customer": customer, "customer_account": None,
        "description": description, "excluded_payment_method_types": None, "last_payment_error": None, "latest_charge": None,
        "livemode": False, "metadata": dict(metadata), "next_action": None, "on_behalf_of": None, "payment_method": None,
        "payment_method_configuration_details": None, "payment_method_options": {}, "payment_method_types": list(methods),
        "processing": None, "receipt_email": None, "review": None, "setup_future_usage": None, "shipping": None, "source": None,
        "statement_descriptor": None, "statement_descriptor_suffix": None, "status": "requires_payment_method",
        "transfer_data": None, "transfer_group": None}


def charge(intent, *, key, now, method, receipt):
    """One attempt to make the payment of `intent` with `method` (a payment_method, or None), succeeded so far as this says.

    It names no invoice: that field is gone (docs.stripe.com/changelog/basil/2025-03-31).
    """
    return {
        "id": key, "object": "charge", "amount": intent["amount"], "amount_captured": intent["amount"], "amount_refunded": 0,
        "application": None, "application_fee": None, "application_fee_amount": None, "balance_transaction": "txn_3" + key[4:],
        "billing_details": method["billing_details"] if method else _nobody(), "calculated_statement_descriptor": "ROLEKEEP SANDBOX",
        "captured": True, "created": now, "currency": intent["currency"], "customer": intent["customer"],
        "description": intent["description"], "disputed": False, "failure_balance_transaction": None, "failure_code": None,
        "failure_message": None, "fraud_details": {}, "livemode": False, "metadata": dict(intent["metadata"]), "on_behalf_of": None,
        "outcome": {"advice_code": None, "network_advice_code": None, "network_decline_code": None, "network_status": "approved_by_network",
                    "reason": None, "risk_level": "normal", "seller_message": "Payment complete.", "type": "authorized"},
        "paid": True, "payment_intent": intent["id"], "payment_method": method and method["id"],
        "payment_method_details": method and _details(method, intent["amount"]), "radar_options": {}, "receipt_email": None,
        "receipt_number": None, "receipt_url": receipt, "refunded": False, "review": None, "shipping": None, "source": None,
        "source_transfer": None, "statement_descriptor": None, "statement_descriptor_suffix": None, "status": "succeeded",
        "transfer_data": None, "transfer_group": None}


def _nobody():
    return {"address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")),
            "email": None, "name": None, "phone": None, "tax_id": None}


def _details(method, amount):
    if method["type"] != "card":
        return {"type": method["type"], method["type"]: {**method[method["type"]], "expected_debit_date": None, "mandate": None}}
    card = method["card"]
    shown = {name: card[name] for name in ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "regulated_status")}
    unavailable = {"status": "unavailable"}
    return {"type": "card", "card": {
        **shown, "amount_authorized": amount, "authorization_code": None, "extended_authorization": {"status": "disabled"},
        "incremental_authorization": unavailable, "installments": None, "mandate": None, "multicapture": unavailable, "network": card["brand"],
        "network_token": {"used": False}, "network_transaction_id": None, "overcapture": {"maximum_amount_capturable": amount, **unavailable},
        "three_d_secure": None, "wallet": None}}


def bank_debit(*, key, now, email):
    """A SEPA direct debit as a payment_method: it takes days until the bank says yes or no."""
    return {
        "id": key, "object": "payment_method", "allow_redisplay": "limited", "created": now, "customer": None, "customer_account": None,
        "livemode": False, "metadata": {}, "type": "sepa_debit", "billing_details": {**_nobody(), "email": email},
        "sepa_debit": {"bank_code": "37040044", "branch_code": "", "country": "DE", "fingerprint": key[4:20],
                       "last4": "3000", "generated_from": {"charge": None, "setup_attempt": None}}}


def invoice_payment(invoice, intent, *, key, now):
    """What says that `intent` is to pay `invoice`: the only way from a payment to its invoice."""
    return {
        "id": key, "object": "invoice_payment", "amount_paid": None, "amount_requested": invoice["amount_due"], "created": now,
        "currency": invoice["currency"], "invoice": invoice["id"], "is_default": True, "livemode": False,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"}, "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None}}


def line_item(price, product, quantity, *, key):
    """One line of a Checkout session."""
    amount = (price["unit_amount"] or 0) * quantity
    return {
        "id": key, "object": "item", "adjustable_quantity": None, "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0,
        "amount_total": amount, "currency": price["currency"], "description": product["name"], "metadata": {}, "price": price,
        "quantity": quantity}


def refund(charge_object, *, key, now, amount, reason, metadata):
    """Money on its way back: at once for a card, pending for a bank debit."""
    card = (charge_object["payment_method_details"] or {"type": "card"})["type"] == "card"
    details = {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"} \
        if card else {"sepa_debit": {}, "type": "sepa_debit"}
    return {
        "id": key, "object": "refund", "amount": amount, "balance_transaction": "txn_3" + key[4:], "charge": charge_object["id"],
        "created": now, "currency": charge_object["currency"], "customer": charge_object["customer"], "customer_account": None,
        "destination_details": details, "metadata": dict(metadata), "payment_intent": charge_object["payment_intent"],
        "payment_method": charge_object["payment_method"], "pending_reason": None if card else "processing", "reason": reason,
        "receipt_number": None, "source_transfer_reversal": None, "status": "succeeded" if card else "pending", "transfer_reversal": None}


_EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_communication", "customer_email_address", "customer_name", "customer_purchase_ip", "customer_signature",
    "duplicate_charge_documentation", "duplicate_charge_explanation", "duplicate_charge_id", "product_description", "receipt",
    "refund_policy", "refund_policy_disclosure", "refund_refusal_explanation", "service_date", "service_documentation",
    "shipping_address", "shipping_carrier", "shipping_date", "shipping_documentation", "shipping_tracking_number",
    "uncategorized_file", "uncategorized_text")


def dispute(charge_object, *, key, now, amount, reason, status):
    """A dispute of the charge in `status`, no money moved yet; a status that begins with warning_ is an inquiry."""
    details = charge_object["payment_method_details"] or {}
    kind = "inquiry" if status.startswith("warning_") else "chargeback"
    card = {"brand": details["card"]["brand"], "case_type": kind, "network": details["card"]["network"],
            "network_reason_code": "10.4"} if details.get("type") == "card" else None
    return {
        "id": key, "object": "dispute", "amount": amount, "balance_transactions": [], "charge": charge_object["id"], "created": now,
        "currency": charge_object["currency"], "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {"due_by": now + 9 * 86400, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False,
                             "submission_count": 0, "submission_method": "not_submitted"},
        "intended_submission_method": None, "is_charge_refundable": kind == "inquiry", "livemode": False, "metadata": {},
        "network_reason_code": "10.4", "payment_intent": charge_object["payment_intent"],
        "payment_method_details": {"card": card, "type": "card"} if card else None, "reason": reason, "status": status}


def balance_transaction(dispute_object, *, key, now, amount):
    """`amount` of the dispute left the account's balance (negative) or came back."""
    return {
        "id": key, "object": "balance_transaction", "amount": amount, "available_on": now, "balance_type": "payments", "created": now,
        "currency": dispute_object["currency"], "description": f"Chargeback {'withdrawal' if amount < 0 else 'reversal'} for {dispute_object['charge']}",
        "exchange_rate": None, "fee": 0, "fee_details": [], "net": amount, "reporting_category": "dispute" if amount < 0 else "dispute_reversal",
        "source": dispute_object["id"], "status": "available", "type": "adjustment"}


def application(key):
    """The platform's Connect application, as a connected account's events name it."""
    return {"id": key, "object": "application", "name": "Rolekeep sandbox"}
