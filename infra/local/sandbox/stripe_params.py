"""What a request to Stripe says: form bodies un-nested, typed and checked against the official schema, refused like Stripe."""
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl

from .stripe_lists import REQUESTS

SCHEMA = Path(__file__).with_name("specs") / "stripe.schema.json"
API_VERSION = "2026-10-28.endive"

# Strings that may be emptied ("" unsets them). Stripe says parameter_invalid_empty for others; which ones may be is an assumption.
EMPTY_ALLOWED = {"headline", "privacy_policy_url", "terms_of_service_url", "default_return_url", "comment", "description",
                 "name", "email", "phone", "nickname"}


class Refusal(Exception):
    """An answer other than 2xx, in Stripe's shape {"error": {type, message, code?, param?}}."""

    def __init__(self, status, message, *, code=None, param=None, kind="invalid_request_error", **more):
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": message, **more}
        if code:
            self.error |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
        if param:
            self.error["param"] = param


def missing(param):
    """A required parameter is not there."""
    return Refusal(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def no_such(what, key, param="id"):
    """An id that this account does not have."""
    return Refusal(404, f"No such {what}: '{key}'", code="resource_missing", param=param)


@cache
def schema():
    """The trimmed official schema: {"requests", "responses", "$defs"}."""
    return json.loads(SCHEMA.read_text("utf-8"))


def nested(pairs):
    """{"a": {"b": {"0": "c"}}} of the pairs ("a[b][0]", "c"): lists stay objects with number keys until a schema is seen."""
    top = {}
    for name, value in pairs:
        keys = [name.split("[", 1)[0], *re.findall(r"\[([^\[\]]*)\]", name)]
        here = top
        for key in keys[:-1]:
            here = here.setdefault(key or str(len(here)), {})
            if not isinstance(here, dict):
                raise Refusal(400, f"Invalid object: {name}", param=name)
        here[keys[-1] or str(len(here))] = value
    return top


def read(operation, text, *, understood):
    """The typed parameters of `operation` ("POST /v1/prices") from a form-encoded text.

    Refusal for what Stripe refuses; also, with the code `sandbox_not_implemented`, for what Stripe knows and this
    sandbox does not carry out: `understood` names the leaves it does ("metadata", "line_items[price]").
    """
    pairs = parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="replace")
    rules = schema()["requests"].get(operation) or REQUESTS.get(operation) or {
        "type": "object", "additionalProperties": False,
        "properties": {"expand": {"type": "array", "items": {"type": "string"}}}}
    params = typed(rules, nested(pairs))
    for name, _ in pairs:
        plain = re.sub(r"\[\d*\]", "", name)
        if not any(plain == known or plain.startswith(known + "[") for known in (*understood, "expand")):
            raise Refusal(400, f"Stripe has the parameter {plain}, but this sandbox does not carry it out.",
                          code="sandbox_not_implemented", param=plain)
    return params


def typed(rules, value, at=""):
    """`value` (strings and objects of strings) turned into what `rules` (JSON Schema) say, or a Refusal naming the place."""
    if "$ref" in rules:
        return typed(schema()["$defs"][rules["$ref"].rsplit("/", 1)[-1]], value, at)
    if "anyOf" in rules:
        return _any_of(rules["anyOf"], value, at)
    if "enum" in rules:
        if value not in rules["enum"]:
            raise Refusal(400, f"Invalid {at}: must be one of {_listed(rules['enum'])}", param=at)
        return value
    return _TYPES.get(rules.get("type"), lambda rules, value, at: value)(rules, value, at)


def _any_of(choices, value, at):
    refusals = []
    for choice in choices:
        if choice == {"type": "object"}:  # the typing of a metadata hash as "any object" beside "object of strings"
            continue
        try:
            return typed(choice, value, at)
        except Refusal as refusal:
            refusals.append(refusal)
    raise next((refusal for refusal in refusals if "code" in refusal.error), refusals[-1])


def _object(rules, value, at):
    if not isinstance(value, dict):
        if value == "" and not rules.get("required"):
            return {}
        raise Refusal(400, f"Invalid object{': ' + at if at else ''}", param=at)
    known, open_ended = rules.get("properties", {}), rules.get("additionalProperties", True)
    unknown = [_place(at, key) for key in value if key not in known]
    if unknown and open_ended is False:
        many = "s" if len(unknown) > 1 else ""
        raise Refusal(400, f"Received unknown parameter{many}: {', '.join(unknown)}", code="parameter_unknown", param=unknown[0])
    for key in rules.get("required", []):
        if key not in value:
            raise missing(_place(at, key))
        if value[key] == "":
            raise _empty(_place(at, key))
    free = open_ended if isinstance(open_ended, dict) else {}
    return {key: typed(known.get(key, free), inner, _place(at, key)) for key, inner in value.items()}


def _empty(at):
    return Refusal(400, f"You passed an empty string for '{at}'. We assume empty values are an attempt to unset a field; however '{at}' "
                        f"cannot be unset. You should remove '{at}' from your request or supply a non-empty value.",
                   code="parameter_invalid_empty", param=at)


def _array(rules, value, at):
    if value == "":
        return []
    if not isinstance(value, dict) or not all(key.isdecimal() for key in value):
        raise Refusal(400, "Invalid array", param=at)
    return [typed(rules.get("items", {}), value[key], _place(at, key)) for key in sorted(value, key=int)]


def _string(rules, value, at):
    if not isinstance(value, str):
        raise Refusal(400, f"Invalid string: {json.dumps(value)}", param=at)
    last = at.rsplit("[", 1)[-1].rstrip("]")
    if value == "" and last not in EMPTY_ALLOWED and "metadata[" not in at:
        raise _empty(at)
    if len(value) > 5000 or ("metadata[" in at and len(value) > 500):
        raise Refusal(400, f"Invalid string: {value[:20]}...; must be at most {500 if 'metadata[' in at else 5000} characters", param=at)
    return value


def _integer(rules, value, at):
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,18}", value):
        raise Refusal(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=at)
    return int(value)


def _number(rules, value, at):
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,15}(\.\d{1,12})?", value):
        raise Refusal(400, f"Invalid decimal: {value}", param=at)
    return float(value)


def _boolean(rules, value, at):
    if value not in ("true", "false"):
        raise Refusal(400, f"Invalid boolean: {value}", param=at)
    return value == "true"


_TYPES = {"object": _object, "array": _array, "string": _string, "integer": _integer, "number": _number, "boolean": _boolean}


def _place(at, key):
    return f"{at}[{key}]" if at else key


def _listed(values):
    shown = [str(value) for value in values if value != ""] or ["an empty string"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + ", or " + shown[-1]


def http_url(value, param):
    """`value`, when it is an absolute http(s) URL; url_invalid otherwise."""
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", value):
        raise Refusal(400, "Not a valid URL", code="url_invalid", param=param)
    return value
