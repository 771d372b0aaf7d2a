"""Ids from outside: what they look like. Everything else is refused before it reaches a key."""
import re

OPERATOR = "operator"   # the operator's own Stripe account; every other account is a connected one, acct_…

_PATTERNS = {
    "snowflake": re.compile(r"[1-9][0-9]{16,18}"),
    "subscription": re.compile(r"sub_[A-Za-z0-9]{1,250}"),
    "purchase": re.compile(r"cs_(test|live)_[A-Za-z0-9]{1,250}"),   # a Checkout Session in payment mode
    "charge": re.compile(r"(ch|py)_[A-Za-z0-9]{1,250}"),
    "offer": re.compile(r"[a-z0-9][a-z0-9-]{0,39}"),
    "event": re.compile(r"evt_[A-Za-z0-9_]{1,250}"),
    "intent": re.compile(r"[A-Za-z0-9_-]{20,64}"),
    "account": re.compile(r"operator|acct_[A-Za-z0-9]{1,100}"),
    # PayPal's (developer.paypal.com: account_id of Subscriptions v1; the others are only ever seen, never specified)
    "merchant": re.compile(r"[2-9A-HJ-NP-Z]{13}"),
    "agreement": re.compile(r"I-[A-Z0-9]{1,50}"),   # a PayPal subscription; the older agreements have such ids too
    "sale": re.compile(r"[A-Z0-9]{8,40}"),
    "refund": re.compile(r"[A-Z0-9]{8,40}"),
    "dispute": re.compile(r"[A-Z0-9-]{4,100}"),
    "delivery": re.compile(r"WH-[A-Za-z0-9-]{1,100}|checkout"),     # a PayPal event, or our own question about a checkout
}
REASONS = ("subscription", "purchase")  # what a member may hold a role for, and what processors name it
STRIPE, PAYPAL = "stripe", "paypal"
# processor: what its accounts look like, and what may be named of them
_NAMED = {STRIPE: ("account", (*REASONS, "charge")), PAYPAL: ("merchant", ("agreement", "sale"))}


def valid(kind, value):
    """True when `value` is a text of that kind: snowflake, offer, intent; Stripe's subscription, purchase, charge, event,
    account; PayPal's agreement (a subscription), sale, refund, dispute, delivery (an event), merchant (an account).
    """
    return isinstance(value, str) and _PATTERNS[kind].fullmatch(value) is not None


def processor_of(account):
    """stripe or paypal, by what the account's id looks like."""
    return PAYPAL if valid("merchant", account) else STRIPE


def key(account, name):
    """The key of a subscription, a purchase or what was paid: processor, account and id, so that accounts never mix."""
    for processor, (whose, kinds) in _NAMED.items():
        if valid(whose, account) and any(valid(kind, name) for kind in kinds):
            return f"{processor}:{account}:{name}"
    raise ValueError("not an account and the id of a subscription, a purchase or a charge")


def parse(key):
    """(processor, account, id) of a key made by `key`."""
    processor, account, name = key.split(":")
    return processor, account, name


def is_purchase(key):
    """True for the key of a one-time purchase."""
    return valid("purchase", parse(key)[2])
