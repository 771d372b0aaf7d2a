"""Objects held to the classes that Stripe generates for its SDK: for what the official schema file of this project leaves out."""
from collections.abc import Mapping
from typing import ForwardRef, List, Literal, Union, get_args, get_origin

from stripe import StripeObject

NONE = type(None)


def misfits(cls, obj, at=None):
    """What the annotations of `cls` say against the JSON object: unknown fields, missing required ones, wrong types; [] when nothing."""
    at = at or cls.__name__
    if not isinstance(obj, Mapping):
        return [f"{at}: {obj!r} is no object"]
    fields = {name: hint for each in cls.__mro__ if issubclass(each, StripeObject) and each is not StripeObject
              for name, hint in vars(each).get("__annotations__", {}).items() if not name.startswith(("_", "OBJECT"))}
    found = [f"{at}.{name}: there is no such field" for name in obj if name not in fields]
    for name, hint in fields.items():
        if name in obj:
            found += _against(hint, obj[name], f"{at}.{name}")
        elif NONE not in get_args(hint):
            found.append(f"{at}.{name} is missing")
    return found


def _against(hint, value, at):
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Union:
        tries = [_against(each, value, at) for each in inner]
        return [] if [] in tries else min(tries, key=len)
    if hint is NONE:
        return [] if value is None else [f"{at}: {value!r} is not null"]
    if kind is Literal:
        return [] if value in inner else [f"{at}: {value!r} is not one of {inner}"]
    if kind in (list, List):
        return [problem for n, each in enumerate(value) for problem in _against(inner[0], each, f"{at}[{n}]")] \
            if isinstance(value, list) else [f"{at}: {value!r} is no list"]
    if isinstance(hint, type) and issubclass(hint, StripeObject):
        return misfits(hint, value, at)
    if isinstance(hint, type):
        right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
        return [] if right else [f"{at}: {value!r} is no {hint.__name__}"]
    if isinstance(hint, ForwardRef):  # another resource, checked as such where it is known
        return [] if isinstance(value, Mapping) else [f"{at}: {value!r} is no {hint.__forward_arg__}"]
    name = getattr(kind or hint, "__name__", str(kind or hint))
    if name == "UntypedStripeObject":
        return [] if isinstance(value, Mapping) else [f"{at}: {value!r} is no object"]
    if name == "ListObject":
        return [] if isinstance(value, Mapping) and value.get("object") == "list" else [f"{at}: {value!r} is no list"]
    raise AssertionError(f"{at}: what is {hint!r}?")
