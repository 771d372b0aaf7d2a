"""Objects held to the classes that Stripe generates for its SDK: for what the official schema file of this project leaves out."""
from collections.abc import Mapping
from functools import cache
from typing import ForwardRef, List, Literal, Union, get_args, get_origin

from stripe import Account, Application, BalanceTransaction, InvoicePayment, LineItem, PaymentIntent, PaymentMethod, StripeObject

NONE = type(None)
CLASSES = {"payment_intent": PaymentIntent, "invoice_payment": InvoicePayment, "account": Account, "item": LineItem, "application": Application,
           "balance_transaction": BalanceTransaction, "payment_method": PaymentMethod}


def misfits(cls, obj, at=""):
    """[(place, rule)] of what the annotations of `cls` say against the JSON object: unknown fields, missing required ones, wrong types."""
    if not isinstance(obj, Mapping):
        return [(at, "type: object")]
    fields = _fields(cls)
    found = [(_place(at, name), "there is no such field") for name in obj if name not in fields]
    for name, hint in fields.items():
        if name in obj:
            found += _against(hint, obj[name], _place(at, name))
        elif NONE not in get_args(hint):
            found.append((at, f"{name} is missing"))
    return found


def words(cls, seen=None):
    """Every string that the annotations of `cls` list, also those of the objects inside."""
    seen = set() if seen is None else seen
    if cls in seen:
        return set()
    seen.add(cls)
    return set().union(*(_words_of(hint, seen) for hint in _fields(cls).values()))


def _words_of(hint, seen):
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, StripeObject):
        return words(hint, seen)
    return set().union(*(_words_of(each, seen) for each in get_args(hint)))


@cache
def _fields(cls):
    return {name: hint for each in cls.__mro__ if issubclass(each, StripeObject) and each is not StripeObject
            for name, hint in vars(each).get("__annotations__", {}).items() if not name.startswith(("_", "OBJECT"))}


def _place(at, name):
    return f"{at}/{name}" if at else name


def _against(hint, value, at):
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Union:
        tries = [_against(each, value, at) for each in inner]
        return [] if [] in tries else min(tries, key=len)
    if hint is NONE:
        return [] if value is None else [(at, "type: null")]
    if kind is Literal:
        return [] if value in inner else [(at, "enum")]
    if kind in (list, List):
        return [problem for n, each in enumerate(value) for problem in _against(inner[0], each, f"{at}/{n}")] \
            if isinstance(value, list) else [(at, "type: array")]
    if isinstance(hint, type) and issubclass(hint, StripeObject):
        return misfits(hint, value, at)
    if isinstance(hint, type):
        right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
        return [] if right else [(at, f"type: {hint.__name__}")]
    if isinstance(hint, ForwardRef):  # another resource, checked as such where it is known
        return [] if isinstance(value, Mapping) else [(at, f"type: {hint.__forward_arg__}")]
    name = getattr(kind or hint, "__name__", str(kind or hint))
    if name == "UntypedStripeObject":
        return [] if isinstance(value, Mapping) else [(at, "type: object")]
    if name == "ListObject":
        return [] if isinstance(value, Mapping) and value.get("object") == "list" else [(at, "type: list")]
    raise AssertionError(f"{at}: what is {hint!r}?")
