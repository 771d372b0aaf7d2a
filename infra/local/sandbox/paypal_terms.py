"""What a subscription was agreed to cost: the plan as it was, with the overrides of the request."""
from decimal import Decimal

from .paypal_errors import unprocessable
from .paypal_money import v2


def agreed(plan, wish=None):
    """The terms of a new subscription to `plan`, changed by the plan_override `wish`. Refusal when they do not go together."""
    cycles = [{"sequence": c["sequence"], "tenure": c["tenure_type"], "unit": c["frequency"]["interval_unit"],
               "count": c["frequency"]["interval_count"], "price": c["pricing_scheme"]["fixed_price"]["value"], "total": c["total_cycles"],
               "version": c["pricing_scheme"]["version"]} for c in plan["billing_cycles"]]
    currency = plan["billing_cycles"][-1]["pricing_scheme"]["fixed_price"]["currency_code"]
    preferences = dict(plan["payment_preferences"])
    for change in (wish or {}).get("billing_cycles", ()):
        _change(cycles, change, currency)
    wanted = (wish or {}).get("payment_preferences") or {}
    if "setup_fee" in wanted:
        _same(wanted["setup_fee"], currency)
    preferences |= wanted
    return {"product_id": plan["product_id"], "name": plan["name"], "description": plan.get("description"), "currency": currency, "cycles": cycles,
            "fee": preferences["setup_fee"]["value"], "fee_action": preferences["setup_fee_failure_action"],
            "threshold": preferences["payment_failure_threshold"], "auto_bill": preferences["auto_bill_outstanding"],
            "quantity_supported": plan["quantity_supported"]}


def _change(cycles, change, currency):
    cycle = next((c for c in cycles if c["sequence"] == change["sequence"]), None)
    if cycle is None:
        raise unprocessable("INVALID_BILLING_CYCLE_SEQUENCE", "The provided billing cycle sequence is not available.")
    price = change.get("pricing_scheme", {}).get("fixed_price")
    if price:
        _same(price, currency)
        cycle["price"] = price["value"]
    cycle["total"] = change.get("total_cycles", cycle["total"])


def _same(money, currency):
    if money["currency_code"] != currency:
        raise unprocessable("CURRENCY_MISMATCH", "The currency code is different from the plan's currency code.")


def shown(terms):
    """The `plan` of a subscription as GET shows it when asked: no id and no status, as in real answers."""
    currency = terms["currency"]
    return {
        "product_id": terms["product_id"], "name": terms["name"], **({"description": terms["description"]} if terms["description"] else {}),
        "billing_cycles": [{"pricing_scheme": {"fixed_price": v2(c["price"], currency)},
                            "frequency": {"interval_unit": c["unit"], "interval_count": c["count"]}, "tenure_type": c["tenure"],
                            "sequence": c["sequence"], "total_cycles": c["total"]} for c in terms["cycles"]],
        "payment_preferences": {"service_type": "PREPAID", "auto_bill_outstanding": terms["auto_bill"], "setup_fee": v2(terms["fee"], currency),
                                "setup_fee_failure_action": terms["fee_action"], "payment_failure_threshold": terms["threshold"]},
        "quantity_supported": terms["quantity_supported"]}


def current(sub):
    """The cycle that is billed next, or None when all have run."""
    return next((c for c in sub["terms"]["cycles"] if c["total"] == 0 or sub["done"][str(c["sequence"])] < c["total"]), None)


def price_of(sub, cycle):
    """What one run of the cycle costs."""
    return Decimal(cycle["price"]) * Decimal(sub["quantity"])
