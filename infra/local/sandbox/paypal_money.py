"""PayPal's two ways to write money: {value, currency_code} of the newer APIs, {total, currency} of payments v1. Amounts are Decimals."""
from decimal import ROUND_HALF_UP, Decimal

WHOLE = {"JPY", "HUF", "TWD"}   # PayPal takes no decimals of these (developer.paypal.com/reference/currency-codes)


def v2(amount, currency):
    """{"currency_code": "EUR", "value": "14.9"}: without trailing zeros, but with one decimal, as real subscriptions show it."""
    text = f"{Decimal(amount).normalize():f}"
    return {"currency_code": currency, "value": text if "." in text else f"{text}.0"}


def v1(amount, currency):
    """{"total": "14.90", "currency": "EUR"}."""
    return {"total": plain(amount, currency), "currency": currency}


def fee(amount, currency):
    """{"value": "0.72", "currency": "EUR"}, the form of fees and sums of refunds in payments v1."""
    return {"value": plain(amount, currency), "currency": currency}


def plain(amount, currency):
    """Two decimals, or none where the currency has none."""
    return str(Decimal(amount).quantize(Decimal(1) if currency in WHOLE else Decimal("0.01"), ROUND_HALF_UP))


def fee_of(amount):
    """What PayPal keeps of a payment: 2.9 % and 0.30 (assumed, nothing depends on it)."""
    return (Decimal(amount) * Decimal("0.029") + Decimal("0.30")).quantize(Decimal("0.01"), ROUND_HALF_UP)
