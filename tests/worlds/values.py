"""DynamoDB attribute values: `{"S": "text"}`, `{"N": "12.5"}`, `{"M": {...}}` and so on, in one canonical form.

Canonical means that two values are equal for DynamoDB exactly when they are equal for Python: numbers are written in one
way ("1.0" becomes "1"), sets are sorted, and every container is a fresh one that nobody else holds.
Source of the rules: Amazon DynamoDB developer guide, "Supported data types and naming rules" and "Constraints".
"""

from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache

ITEM_BYTES = 400 * 1024
DEPTH = 32
_EXACT = Context(prec=200)


class Invalid(Exception):
    """A request that DynamoDB answers with ValidationException; the text is its message."""


@lru_cache(maxsize=4096)
def _rare_number(text):
    try:
        number = Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        raise Invalid(f"The parameter cannot be converted to a numeric value: {text}") from None
    if not number.is_finite():
        raise Invalid(f"The parameter cannot be converted to a numeric value: {text}")
    number = number.normalize(_EXACT)
    if number == 0:
        return "0"
    if len(number.as_tuple().digits) > 38:
        raise Invalid("Attempting to store more than 38 significant digits in a Number")
    if number.adjusted() > 125:
        raise Invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
    if number.adjusted() < -130:
        raise Invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
    return format(number, "f")


def number_text(text):
    """The one way to write this number; Invalid when it is none, or too long or too large for DynamoDB."""
    if type(text) is str and text.isascii() and text.isdigit() and text[0] != "0" and len(text) < 39:
        return text
    if type(text) is not str:
        raise Invalid(f"Invalid type for parameter, value: {text!r}, type: {type(text)}, valid types: <class 'str'>")
    return _rare_number(text)


@lru_cache(maxsize=4096)
def number(text):
    """The number as something Python compares and adds exactly: an int where it is whole, else a Decimal."""
    return Decimal(text) if "." in text else int(text)


def _text(value, depth):
    if type(value) is not str:
        raise Invalid(f"Invalid type for parameter, value: {value!r}, type: {type(value)}, valid types: <class 'str'>")
    return value


def _binary(value, depth):
    return bytes(getattr(value, "value", value))


def _bool(value, depth):
    if type(value) is not bool:
        raise Invalid(f"Invalid type for parameter, value: {value!r}, type: {type(value)}, valid types: <class 'bool'>")
    return value


def _null(value, depth):
    if value is not True:
        raise Invalid("One or more parameter values were invalid: Null attribute value types must have the value of true")
    return True


def _map(value, depth):
    return {name: canonical(inner, depth + 1) for name, inner in value.items()}


def _list(value, depth):
    return [canonical(inner, depth + 1) for inner in value]


def _set_of(one):
    def of(value, depth):
        members = sorted((one(member, depth) for member in value), key=number if one is _number else None)
        if not members:
            raise Invalid("One or more parameter values were invalid: An number set  may not be empty" if one is _number
                          else "One or more parameter values were invalid: An string set  may not be empty")
        if len(set(members)) != len(members):
            raise Invalid(f"One or more parameter values were invalid: Input collection {members} contains duplicates.")
        return members
    return of


def _number(value, depth):
    return number_text(value)


_TYPES = {"S": _text, "N": _number, "B": _binary, "BOOL": _bool, "NULL": _null, "M": _map, "L": _list,
          "SS": _set_of(_text), "NS": _set_of(_number), "BS": _set_of(_binary)}


def canonical(value, depth=0):
    """The same attribute value in canonical form, sharing nothing with the one given; Invalid when it is none."""
    try:
        ((tag, inner),) = value.items()
        one = _TYPES[tag]
    except (AttributeError, ValueError, KeyError):
        raise Invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes") from None
    if tag == "S" and type(inner) is str:
        return {"S": inner}
    if depth > DEPTH:
        raise Invalid("Nesting Levels have exceeded supported limits")
    return {tag: one(inner, depth)}


def size(value):
    """What this attribute value counts against the 400 KB of an item, in bytes."""
    ((tag, inner),) = value.items()
    if tag == "S":
        return len(inner.encode())
    if tag == "N":
        return len(inner.strip("-").replace(".", "").strip("0")) // 2 + 2
    if tag == "B":
        return len(inner)
    if tag == "M":
        return 3 + sum(1 + len(name.encode()) + size(one) for name, one in inner.items())
    if tag == "L":
        return 3 + sum(1 + size(one) for one in inner)
    if tag in ("SS", "NS", "BS"):
        return sum(size({tag[0]: one}) for one in inner)
    return 1


def item_size(item):
    """Bytes of an item: names and values."""
    return sum(len(name.encode()) + size(value) for name, value in item.items())


def comparable(value):
    """(type, something Python orders as DynamoDB does) of an S, N or B; None for what has no order."""
    ((tag, inner),) = value.items()
    if tag == "N":
        return tag, number(inner)
    return (tag, inner) if tag in ("S", "B") else None


def plus(left, right, sign):
    """left + right or left - right of two N values; Invalid when one is no number."""
    if "N" not in left or "N" not in right:
        raise Invalid("An operand in the update expression has an incorrect data type")
    one, two = number(left["N"]), number(right["N"])
    return {"N": number_text(str(one + sign * two) if type(one) is type(two) is int
                             else format(_EXACT.add(Decimal(one), sign * Decimal(two)), "f"))}
