"""Which gateway speaks for a subscription, a purchase or what was paid: its key says it.

Both answer `read_subscription`, `read_hold`, `intent_of`, `paid_for` and `open_invoice` in the same forms.
"""
from chalicelib.domain import ids

NAMES = {ids.STRIPE: "Stripe", ids.PAYPAL: "PayPal"}


def of(key):
    """The gateway module for this key."""
    if ids.parse(key)[0] == ids.PAYPAL:
        from chalicelib.gateways import paypal
        return paypal
    from chalicelib.gateways import stripe
    return stripe


def name(key):
    """The processor's name as people know it."""
    return NAMES[ids.parse(key)[0]]
