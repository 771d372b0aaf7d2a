"""Amounts: whole numbers in the currency's smallest unit, as prices and charges are kept, and decimal texts, as people and PayPal write them."""
from decimal import Decimal, InvalidOperation

# docs.stripe.com/currencies; every other currency has two decimal places
_WITHOUT_CENTS = ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
_THREE_PLACES = ("bhd", "jod", "kwd", "omr", "tnd")


def places(currency):
    """How many decimal places an amount of this currency (lower case) has: none, two or three."""
    return 0 if currency in _WITHOUT_CENTS else 3 if currency in _THREE_PLACES else 2


def shown(amount, currency):
    """The amount as people read it, e.g. 5.00 EUR."""
    digits = places(currency)
    return f"{amount / 10 ** digits:.{digits}f} {currency.upper()}"


def smallest(text, currency):
    """The amount that a decimal text says ("5.00", "10.0"), in the smallest unit. Raises ValueError when it is none, or finer than that."""
    try:
        amount = Decimal(text).scaleb(places(currency))
        if amount != amount.to_integral_value() or amount < 0:
            raise ValueError("finer than the currency's smallest unit, or less than nothing")
        return int(amount)
    except (InvalidOperation, TypeError, OverflowError):
        raise ValueError("not an amount") from None
