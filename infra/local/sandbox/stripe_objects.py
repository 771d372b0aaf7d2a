"""Stripe's objects at API version 2026-10-28.endive, as they are when new (shapes: specs/stripe.schema.json)."""


def price(params, *, key, now):
    """A price; `params` as in POST /v1/prices."""
    recurring = params.get("recurring")
    amount = params.get("unit_amount")
    return {
        "id": key, "object": "price", "active": params.get("active", True), "billing_scheme": "per_unit", "created": now,
        "currency": params["currency"].lower(), "custom_unit_amount": None, "livemode": False,
        "lookup_key": params.get("lookup_key"), "metadata": params.get("metadata") or {}, "nickname": params.get("nickname"),
        "product": params["product"],
        "recurring": recurring and {"interval": recurring["interval"], "interval_count": recurring.get("interval_count", 1),
                                    "meter": None, "trial_period_days": None, "usage_type": "licensed"},
        "tax_behavior": "unspecified", "tiers_mode": None, "transform_quantity": None,
        "type": "recurring" if recurring else "one_time", "unit_amount": amount, "unit_amount_decimal": str(amount)}


def product(params, *, key, now):
    """A product; `params` as in POST /v1/products."""
    return {
        "id": key, "object": "product", "active": params.get("active", True), "created": now, "default_price": None,
        "description": params.get("description") or None, "images": [], "livemode": False, "marketing_features": [],
        "metadata": params.get("metadata") or {}, "name": params["name"], "package_dimensions": None, "shippable": None,
        "statement_descriptor": None, "tax_code": None, "type": "service", "unit_label": None, "updated": now, "url": None}


def customer(params, *, key, now, prefix):
    """A customer; `params` as in POST /v1/customers."""
    return {
        "id": key, "object": "customer", "address": None, "balance": 0, "created": now, "currency": None, "default_source": None,
        "delinquent": False, "description": params.get("description") or None, "discount": None,
        "email": params.get("email") or None, "invoice_prefix": prefix,
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
        "livemode": False, "metadata": params.get("metadata") or {}, "name": params.get("name") or None,
        "next_invoice_sequence": 1, "phone": params.get("phone") or None, "preferred_locales": [], "shipping": None,
        "tax_exempt": "none", "test_clock": None}


def payment_method(number, *, key, now, customer_id, email, fingerprint):
    """A card on file; only its last four digits are in the object."""
    brand = {"5": "mastercard", "3": "amex"}.get(number[0], "visa")
    return {
        "id": key, "object": "payment_method", "allow_redisplay": "limited", "created": now, "customer": customer_id,
        "customer_account": None, "livemode": False, "metadata": {}, "type": "card",
        "billing_details": {"address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")),
                            "email": email, "name": None, "phone": None, "tax_id": None},
        "card": {"brand": brand, "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
                 "country": "US", "display_brand": brand, "exp_month": 12, "exp_year": 2034, "fingerprint": fingerprint,
                 "funding": "credit", "generated_from": None, "last4": number[-4:],
                 "networks": {"available": [brand], "preferred": None}, "regulated_status": "unregulated",
                 "three_d_secure_usage": {"supported": True}, "wallet": None}}


def subscription(price_object, *, key, item_key, now, period_end, customer_id, mode, metadata):
    """A subscription to one price whose first invoice is not yet paid (status incomplete)."""
    flexible = {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": None}
    return {
        "id": key, "object": "subscription", "application": None, "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now, "billing_cycle_anchor_config": None,
        "billing_mode": flexible if mode == "flexible" else {"flexible": None, "type": "classic"},
        "billing_schedules": [], "billing_thresholds": None, "cancel_at": None, "cancel_at_period_end": False,
        "canceled_at": None, "cancellation_details": no_cancellation(), "collection_method": "charge_automatically",
        "created": now, "currency": price_object["currency"], "customer": customer_id, "customer_account": None,
        "days_until_due": None, "default_payment_method": None, "default_source": None, "default_tax_rates": [],
        "description": None, "discounts": [], "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "custom_fields": None, "description": None, "footer": None,
                             "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [item(price_object, key=item_key, subscription=key, now=now, period_end=period_end)],
                  "has_more": False, "total_count": 1, "url": f"/v1/subscription_items?subscription={key}"},
        "latest_invoice": None, "livemode": False, "managed_payments": {"enabled": False}, "metadata": metadata,
        "next_pending_invoice_item_invoice": None, "on_behalf_of": None, "pause_collection": None,
        "payment_settings": {"payment_method_options": None, "payment_method_types": ["card"], "save_default_payment_method": "off"},
        "pending_invoice_item_interval": None, "pending_setup_intent": None, "pending_update": None, "presentment_details": None,
        "schedule": None, "start_date": now, "status": "incomplete", "test_clock": None, "transfer_data": None,
        "trial_end": None, "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}}, "trial_start": None}


def item(price_object, *, key, subscription, now, period_end):
    """A subscription item; since 2025-03-31.basil the period is here and not on the subscription (docs.stripe.com/changelog/basil/2025-03-31)."""
    recurring = price_object["recurring"]
    return {
        "id": key, "object": "subscription_item", "billing_thresholds": None, "created": now, "current_period_end": period_end,
        "current_period_start": now, "discounts": [], "metadata": {},
        "plan": {"id": price_object["id"], "object": "plan", "active": price_object["active"], "amount": price_object["unit_amount"],
                 "amount_decimal": price_object["unit_amount_decimal"], "billing_scheme": "per_unit",
                 "created": price_object["created"], "currency": price_object["currency"], "interval": recurring["interval"],
                 "interval_count": recurring["interval_count"], "livemode": False, "metadata": {}, "meter": None,
                 "nickname": None, "product": price_object["product"], "tiers_mode": None, "transform_usage": None,
                 "trial_period_days": None, "usage_type": "licensed"},
        "price": price_object, "quantity": 1, "subscription": subscription, "tax_rates": []}


def no_cancellation():
    """cancellation_details of a subscription that nobody cancels."""
    return {"comment": None, "feedback": None, "reason": None}


def invoice(sub, *, key, line_key, now, why, period, customer_object, account_name, paid_period):
    """A draft invoice for the one item of `sub`: `period` is what the line pays for, `paid_period` the invoice's own."""
    entry = sub["items"]["data"][0]
    amount = (entry["price"]["unit_amount"] or 0) * (entry["quantity"] or 1)
    return {
        "id": key, "object": "invoice", "account_country": "US", "account_name": account_name, "account_tax_ids": None,
        "amount_due": amount, "amount_overpaid": 0, "amount_paid": 0, "amount_remaining": amount, "amount_shipping": 0,
        "application": None, "attempt_count": 0, "attempted": False, "auto_advance": True,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None},
        "automatically_finalizes_at": None, "billing_reason": why, "collection_method": "charge_automatically", "created": now,
        "currency": sub["currency"], "custom_fields": None, "customer": sub["customer"], "customer_account": None,
        "customer_address": None, "customer_email": customer_object["email"], "customer_name": customer_object["name"],
        "customer_phone": None, "customer_shipping": None, "customer_tax_exempt": "none", "customer_tax_ids": [],
        "default_payment_method": None, "default_source": None, "default_tax_rates": [], "description": None, "discounts": [],
        "due_date": None, "effective_at": None, "ending_balance": None, "footer": None, "from_invoice": None,
        "hosted_invoice_url": None, "invoice_pdf": None, "issuer": {"type": "self"}, "last_finalization_error": None,
        "latest_revision": None,
        "lines": {"object": "list", "data": [line(sub, entry, key=line_key, invoice_key=key, amount=amount, period=period)],
                  "has_more": False, "total_count": 1, "url": f"/v1/invoices/{key}/lines"},
        "livemode": False, "metadata": {}, "next_payment_attempt": None, "number": None, "on_behalf_of": None,
        "parent": {"quote_details": None, "type": "subscription_details",
                   "subscription_details": {"metadata": dict(sub["metadata"]), "subscription": sub["id"]}},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": paid_period[1], "period_start": paid_period[0], "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": None, "rendering": None, "shipping_cost": None,
        "shipping_details": None, "starting_balance": 0, "statement_descriptor": None, "status": "draft",
        "status_transitions": {"finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None},
        "subtotal": amount, "subtotal_excluding_tax": amount, "test_clock": None, "total": amount, "total_discount_amounts": [],
        "total_excluding_tax": amount, "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": None}


def line(sub, entry, *, key, invoice_key, amount, period):
    price_object = entry["price"]
    return {
        "id": key, "object": "line_item", "amount": amount, "currency": sub["currency"],
        "description": f"1 × {price_object['product']} (at {amount / 100:.2f} {sub['currency'].upper()})",
        "discount_amounts": [], "discountable": True, "discounts": [], "invoice": invoice_key, "livemode": False,
        "metadata": dict(sub["metadata"]),
        "parent": {"invoice_item_details": None, "type": "subscription_item_details",
                   "subscription_item_details": {"invoice_item": None, "proration": False, "subscription": sub["id"],
                                                 "proration_details": {"credited_items": None}, "subscription_item": entry["id"]}},
        "period": {"end": period[1], "start": period[0]}, "pretax_credit_amounts": [],
        "pricing": {"price_details": {"price": price_object["id"], "product": price_object["product"]}, "type": "price_details",
                    "unit_amount_decimal": price_object["unit_amount_decimal"]},
        "quantity": entry["quantity"], "subscription": sub["id"], "subtotal": amount, "taxes": []}


def checkout_session(params, *, key, now, url, price_object):
    """An open Checkout session in subscription mode; `params` as in POST /v1/checkout/sessions."""
    amount = price_object["unit_amount"] or 0
    return {
        "id": key, "object": "checkout.session", "adaptive_pricing": None, "after_expiration": None,
        "allow_promotion_codes": None, "amount_subtotal": amount, "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None, "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"), "client_secret": None, "collected_information": None,
        "consent": None, "consent_collection": None, "created": now, "currency": price_object["currency"],
        "currency_conversion": None, "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer": params.get("customer"), "customer_account": None,
        "customer_creation": None if params.get("customer") else "always", "customer_details": None,
        "customer_email": params.get("customer_email"), "discounts": [], "expires_at": params.get("expires_at", now + 86400),
        "invoice": None, "invoice_creation": None, "livemode": False, "locale": params.get("locale"),
        "metadata": params.get("metadata") or {}, "mode": "subscription", "origin_context": None, "payment_intent": None,
        "payment_link": None, "payment_method_collection": "always", "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}}, "payment_method_types": ["card"],
        "payment_status": "unpaid", "permissions": None, "phone_number_collection": {"enabled": False}, "recovered_from": None,
        "saved_payment_method_options": {"allow_redisplay_filters": ["always"], "payment_method_remove": "disabled",
                                         "payment_method_save": None},
        "setup_intent": None, "shipping_address_collection": None, "shipping_cost": None, "shipping_options": [],
        "status": "open", "submit_type": None, "subscription": None, "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0}, "ui_mode": "hosted_page", "url": url,
        "wallet_options": None}


def account(key, *, created, name):
    """What GET /v1/account shows of a plain account (the class Account of the SDK, stripe 16.1.0)."""
    names = ("statement_descriptor_prefix", "statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji")
    return {
        "id": key, "object": "account", "business_profile": {"name": name, "support_email": None, "url": None}, "business_type": None,
        "capabilities": {"card_payments": "active", "transfers": "active"}, "charges_enabled": True,
        "controller": {"type": "account"}, "country": "US", "created": created, "default_currency": "usd",
        "details_submitted": True, "email": "owner@example.com", "metadata": {}, "payouts_enabled": True,
        "settings": {"branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
                     "card_payments": {"decline_on": {"avs_failure": False, "cvc_failure": False}, **dict.fromkeys(names)},
                     "payments": dict.fromkeys(("statement_descriptor", "statement_descriptor_kana", "statement_descriptor_kanji", *names[1:])),
                     "dashboard": {"display_name": name, "timezone": "Etc/UTC"}},
        "type": "standard"}
