"""Holds every request to the PayPal sandbox and every answer it gives to PayPal's official files, and refuses bodies as PayPal does.

What the files do not describe, and where they and reality part ways, is in docs/sandbox.md.
"""
import copy
import json
import re
from functools import cache
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator

from .clock import to_epoch
from .paypal_errors import NOT_WELL_FORMED, Refusal
from .spec import FORM, Violations, broken_rules, document, formats

FILES = tuple(f"paypal.{name}.json" for name in ("subscriptions", "products", "payments", "disputes", "webhooks"))
OWN_RULES = ("/v1/oauth2/token",)                # not in the files: form-encoded
UNCHECKED = ("/v1/notifications/certs/",)        # not in the files: certificates as PEM
# How PayPal names what a body breaks (the 400 lists of the official files).
ISSUES = {"required": ("MISSING_REQUIRED_PARAMETER", "A required field is missing."),
          "maxLength": ("INVALID_STRING_MAX_LENGTH", "The value of a field is too long."),
          "minLength": ("INVALID_PARAMETER_SYNTAX", "The value of a field does not conform to the expected format."),
          "pattern": ("INVALID_PARAMETER_SYNTAX", "The value of a field does not conform to the expected format."),
          "minimum": ("INVALID_INTEGER_MIN_VALUE", "The integer value of a field is too small."),
          "maximum": ("INVALID_INTEGER_MAX_VALUE", "The integer value of a field is too large.")}
MISSING, UNKNOWN = "is missing in the query", "there is no such query parameter"
OTHER_ISSUE = ("INVALID_PARAMETER_VALUE", "The value of a field is invalid.")


class PayPalContract:
    """Path, method, query, content type and body of requests; status, headers and body of answers."""

    def __init__(self):
        self.violations = Violations()

    def asked(self, request):
        """What this request breaks is noted, before anything is done."""
        if not request.path.startswith(("/v1/", "/v2/")) or request.path.startswith(UNCHECKED):
            return None
        if request.path in OWN_RULES:
            wrong = [] if (request.headers.get("content-type") or "").startswith(FORM) else [("content-type", f"is not {FORM}")]
            return self.violations.note("request", f"{request.method} {request.path}", None, wrong)
        found = operation_of(request.method, request.path)
        if found is None:
            return self.violations.note("request", f"{request.method} of no known path", None, [("", "there is no such operation")])
        name, template, operation = found
        wrong = [*_query(name, operation, request), *_body(name, operation, request)]
        return self.violations.note("request", f"{request.method} {template}", None, wrong)

    def answered(self, request, answer):
        """What this answer breaks is noted."""
        found = operation_of(request.method, request.path)
        if found is None or request.path in OWN_RULES:
            return
        name, template, operation = found
        names = {header.lower() for header in answer.headers}
        wrong = [] if "paypal-debug-id" in names else [("", "header PayPal-Debug-Id is missing")]
        self.violations.note("answer", f"{request.method} {template}", answer.status, wrong + _answer(name, template, request.method, answer))


def body_of(request):
    """The JSON body of a request as its operation wants it; Refusal 400 in PayPal's words otherwise."""
    name, _, operation = operation_of(request.method, request.path)
    schema = _body_schema(name, operation)
    if not request.body:
        if schema is not None and "required" in _resolved(name, schema):
            raise _refused([{"location": "body", "issue": "MISSING_REQUEST_BODY", "description": "Request body is missing."}])
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "INVALID_REQUEST", NOT_WELL_FORMED, [
            {"field": "/", "location": "body", "issue": "MALFORMED_REQUEST_JSON", "description": "The request JSON is not well formed."}])
    if schema is not None:
        details = [detail for error in _rules(name, json.dumps(schema)).iter_errors(body) for detail in _details(error)]
        if details:
            raise _refused(details)
    return body


def check_query(request):
    """Refusal 400 when a query parameter that the operation has is missing or wrong; PayPal does not mind others."""
    found = operation_of(request.method, request.path)
    wrong = [(name, rule) for name, rule in _query(found[0], found[2], request) if rule != UNKNOWN] if found else []
    if wrong:
        raise _refused([{"field": name, "location": "query", **dict(zip(("issue", "description"), ISSUES["required"] if rule == MISSING else ISSUES["pattern"],
                                                                        strict=True))} for name, rule in wrong])


def instant(text, field, location="body"):
    """The seconds since the epoch of an instant that the schema let through; Refusal 400 when there is no such day."""
    try:
        return int(to_epoch(text))
    except ValueError:
        issue, description = ISSUES["pattern"]
        raise _refused([{"field": field, "location": location, "issue": issue, "description": description}]) from None


def _refused(details):
    return Refusal(400, "INVALID_REQUEST", NOT_WELL_FORMED, details[:10])


def _details(error):
    issue, description = ISSUES.get(error.validator, OTHER_ISSUE)
    place = "".join(f"/{step}" for step in error.absolute_path)
    missing = [f"/{name}" for name in error.validator_value if name not in error.instance] if error.validator == "required" else [""]
    return [{"field": place + one, "location": "body", "issue": issue, "description": description} for one in missing]


# the files

def operation_of(method, path):
    """(file, path template, operation) of a request, or None."""
    for name, template, pattern, operations in _operations():
        if pattern.fullmatch(path) and method.lower() in operations:
            return name, template, operations[method.lower()]
    return None


@cache
def _operations():
    return [(name, template, re.compile(re.sub(r"\{\w+\}", "[^/]+", template)), operations)
            for name in FILES for template, operations in document(name)["paths"].items()]


def _resolved(name, thing):
    """What a $ref into the components stands for; anything else as it is."""
    while "$ref" in thing:
        _, _, kind, key = thing["$ref"].split("/", 3)
        thing = _components(name)[kind][key]
    return thing


@cache
def _components(name):
    """The file's components without what real PayPal contradicts; docs/sandbox.md lists each."""
    components = copy.deepcopy(document(name)["components"])
    schemas = components["schemas"]
    for owner, field in (("dispute", "messages"), ("transaction_info", "items"), ("dispute_search", "items")):
        if owner in schemas and name == "paypal.disputes.json":
            schemas[owner]["properties"][field].pop("minItems")
    if "sale" in schemas:
        schemas["sale"]["required"].remove("parent_payment")
        schemas["sale"]["properties"]["state"]["enum"].append("reversed")
    return components


@cache
def _rules(name, schema):
    return Draft202012Validator({**json.loads(schema), "components": _components(name)}, format_checker=formats)


def _query(name, operation, request):
    known = {p["name"]: p for p in (_resolved(name, each) for each in operation.get("parameters", ())) if p["in"] == "query"}
    given = dict(parse_qsl(request.raw_query, keep_blank_values=True))
    for parameter in known.values():
        if parameter["name"] in given:
            value = _typed(given[parameter["name"]], _resolved(name, parameter["schema"]).get("type"))
            yield from ((parameter["name"], rule) for _, rule in broken_rules(_rules(name, json.dumps(parameter["schema"])), value))
        elif parameter.get("required"):
            yield parameter["name"], MISSING
    for unknown in given.keys() - known.keys():
        yield unknown, UNKNOWN


def _typed(text, kind):
    if kind == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


def _body_schema(name, operation):
    wanted = operation.get("requestBody")
    return _resolved(name, wanted)["content"]["application/json"]["schema"] if wanted else None


def _body(name, operation, request):
    schema = _body_schema(name, operation)
    if not request.body:
        return [("body", "is missing")] if schema and "required" in _resolved(name, schema) else []
    if schema is None:
        return [("body", "there is no body here")] if request.body.strip() not in (b"", b"{}") else []
    if not (request.headers.get("content-type") or "").startswith("application/json"):
        return [("content-type", "is not application/json")]
    try:
        return broken_rules(_rules(name, json.dumps(schema)), json.loads(request.body))
    except ValueError:
        return [("body", "is not JSON")]


def _answer(name, template, method, answer):
    responses = document(name)["paths"][template][method.lower()]["responses"]
    response = responses.get(str(answer.status), responses["default"] if answer.status >= 400 else None)
    if response is None:
        return [("", "there is no such status")]
    response = _resolved(name, response)
    if "content" not in response:
        return [("", "there is no body here")] if answer.body else []
    try:
        body = json.loads(answer.body)
    except ValueError:
        return [("", "the body is not JSON")]
    if answer.status == 401 and set(body) == {"error", "error_description"}:   # the OAuth server's own form, which the files do not have
        return []
    return broken_rules(_rules(name, json.dumps(response["content"]["application/json"]["schema"])), body)
