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
}
REASONS = ("subscription", "purchase")  # what a member may hold a role for, and what processors name it


def valid(kind, value):
    """True when `value` is a text of that kind: snowflake, subscription, purchase, charge, offer, event, intent or account."""
    return isinstance(value, str) and _PATTERNS[kind].fullmatch(value) is not None


def key(account, name):
    """The key of a subscription, a purchase or a charge at Stripe: processor, account and id, so that accounts never mix."""
    if not valid("account", account) or not any(valid(kind, name) for kind in (*REASONS, "charge")):
        raise ValueError("not an account and the id of a subscription, a purchase or a charge")
    return f"stripe:{account}:{name}"


def parse(key):
    """(processor, account, id) of a key made by `key`."""
    processor, account, name = key.split(":")
    return processor, account, name


def is_purchase(key):
    """True for the key of a one-time purchase."""
    return valid("purchase", parse(key)[2])
