"""Ids from outside: what they look like. Everything else is refused before it reaches a key."""
import re

_PATTERNS = {
    "snowflake": re.compile(r"[1-9][0-9]{16,18}"),
    "subscription": re.compile(r"sub_[A-Za-z0-9]{1,250}"),
    "offer": re.compile(r"[a-z0-9][a-z0-9-]{0,39}"),
    "event": re.compile(r"evt_[A-Za-z0-9_]{1,250}"),
    "intent": re.compile(r"[A-Za-z0-9_-]{20,64}"),
    "account": re.compile(r"operator|acct_[A-Za-z0-9]{1,100}"),
}


def valid(kind, value):
    """True when `value` is a text of that kind: snowflake, subscription, offer, event, intent or account."""
    return isinstance(value, str) and _PATTERNS[kind].fullmatch(value) is not None


def subscription_key(processor, account, subscription):
    """The key of a subscription in links and memberships: processor, account and id, so that accounts never mix."""
    if processor != "stripe" or not valid("account", account) or not valid("subscription", subscription):
        raise ValueError("not a subscription's processor, account and id")
    return f"{processor}:{account}:{subscription}"


def parse_subscription_key(key):
    """(processor, account, id) of a key made by `subscription_key`."""
    processor, account, subscription = key.split(":")
    return processor, account, subscription
