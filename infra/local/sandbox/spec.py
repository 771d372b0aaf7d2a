"""Holds every request to a sandbox, every answer and every event to the official specifications beside this file.

A contract never stands in the way: what the real service refuses, the sandbox refuses by itself; here it is noted what
did not hold, where and by which rule, but no value, since values may be secrets. What the files do not describe, and where they
and reality part ways, is in docs/sandbox.md.
"""
import contextlib
import json
import re
import threading
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import extend

from . import stripe_sdk_types

SPECS = Path(__file__).with_name("specs")
KEPT = 200          # different violations; more are only counted
SHAPES_KEPT = 4096
_watchers = []


@contextlib.contextmanager
def watched():
    """Yield a list that fills with every violation that sandboxes in this process note meanwhile; of several, the innermost fills."""
    found = []
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers.remove(found)


class Violations:
    """What did not hold, each once and counted: {side: request | answer | event, operation, status, place, rule, times}."""

    def __init__(self):
        self._found, self._more, self._lock = {}, 0, threading.Lock()

    def note(self, side, operation, status, problems):
        """Each (place, rule) of `problems` is noted, and told to whoever watches."""
        for place, rule in problems:
            key = (side, operation, status, place, rule)
            if _watchers:
                _watchers[-1].append(dict(zip(("side", "operation", "status", "place", "rule"), key, strict=True)))
            with self._lock:
                if key in self._found or len(self._found) < KEPT:
                    self._found[key] = self._found.get(key, 0) + 1
                else:
                    self._more += 1

    def as_json(self):
        """What GET /_sandbox/violations answers."""
        with self._lock:
            return {"violations": [dict(zip(("side", "operation", "status", "place", "rule"), key, strict=True)) | {"times": times}
                                   for key, times in self._found.items()], "more": self._more}

    def clear(self):
        """Nothing has been noted."""
        with self._lock:
            self._found.clear()
            self._more = 0


# Rules

def broken_rules(validator, value):
    """[(place, rule)] of what `validator` says against `value`, at most ten; no value is quoted."""
    found = []
    for error in validator.iter_errors(value):
        found += _told(error)
        if len(found) >= 10:
            break
    return found[:10]


def _told(error):
    """One error as (place, rule): of several forms that do not fit, the one that came farthest is told."""
    while error.validator in ("anyOf", "oneOf") and error.context:
        nearest = max(error.context, key=lambda one: (len(one.absolute_path), one.validator not in ("type", "const", "enum")))
        if len(nearest.absolute_path) == len(error.absolute_path) and nearest.validator in ("type", "const", "enum"):
            break
        error = nearest
    place = "/".join(str(step) for step in error.absolute_path)
    if error.validator == "required":
        return [(place, f"{name} is missing") for name in error.validator_value if name not in error.instance]
    if error.validator in ("type", "format", "pattern", "maxLength", "minLength", "minimum", "maximum", "const"):
        return [(place, f"{error.validator}: {error.validator_value}")]
    return [(place, error.validator)]


formats = FormatChecker(formats=())


@formats.checks("snowflake")
def _is_snowflake(value):
    return not isinstance(value, str) or not value.isdecimal() or int(value) < 1 << 64   # the pattern says what is no number


@formats.checks("date-time", raises=ValueError)
def _is_instant(value):
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@cache
def document(name):
    """A specification that lies beside this file, parsed."""
    return json.loads((SPECS / name).read_text("utf-8"))


# Stripe

# How a refusal begins that says: this request is not one by the specification. Others (no such id, a wrong moment) are ordinary answers.
_NOT_BY_THE_SPECIFICATION = re.compile(
    r"Received unknown parameter|Missing required param|You passed an empty string|Invalid (?:object|array|string|integer|decimal|boolean|request)"
    r"|Invalid \S+: must be one of|Not a valid URL|Unrecognized request URL|Stripe has the parameter|This sandbox ")


class StripeContract:
    """Stripe's objects and errors by the official schema, and by the SDK's classes what that leaves out. `operation_of(method, path)` names the operation, or None.

    An open enum (`x-open-enum`) takes a value that the schema does not list only if `foreign` holds it: what a control
    call brought in, never what the sandbox made up. An object is checked once for each shape: the rules look at names, types and
    listed words only (a test holds them to that), so two objects that agree in those are both right or both wrong.
    """

    def __init__(self, operation_of, foreign=()):
        self.violations, self._operation_of, self._foreign = Violations(), operation_of, foreign
        self._known, self._words, self._words_for, self._lock = {}, frozenset(), None, threading.Lock()

    def asked(self, request):
        """Nothing: the sandbox reads requests by the schema (stripe_params.py), and its refusal is what is noted."""

    def answered(self, request, answer):
        """What this answer breaks, and what Stripe says that the request broke, is noted."""
        if not request.path.startswith("/v1/"):
            return
        operation = self._operation_of(request.method, request.path) or f"{request.method} of no known path"
        try:
            body = json.loads(answer.body)
        except ValueError:
            return self.violations.note("answer", operation, answer.status, [("", "the body is not JSON")])
        if answer.status >= 400:
            self._refused(operation, answer.status, body)
        problems = self._error_problems(body) if answer.status >= 400 else self._answer_problems(operation, body)
        problems += [("", f"header {name} is missing") for name in ("Request-Id", "Content-Type", "Stripe-Version") if name not in answer.headers]
        return self.violations.note("answer", operation, answer.status, problems)

    def _refused(self, operation, status, body):
        error = body.get("error", {}) if isinstance(body, dict) else {}
        said = _NOT_BY_THE_SPECIFICATION.match(str(error.get("message")))
        if said:
            self.violations.note("request", operation, status, [(error.get("param", ""), error.get("code") or said[0].split(": ")[0])])

    @staticmethod
    def _error_problems(body):
        return broken_rules(_stripe_error(), body)

    def _answer_problems(self, operation, body):
        kind, several = kind_of(operation), re.fullmatch(r"GET [^{]*s", operation)
        if not isinstance(body, dict) or "object" not in body:
            return [("object", "is missing")]
        if kind and body["object"] != ("list" if several else kind):
            return [("object", f"is not {'list' if several else kind}")]
        if body["object"] != "list":
            return self.problems(body)
        data = body["data"] if isinstance(body.get("data"), list) else []
        wrong = [(f"data/{number}/object", f"is not {kind}") for number, each in enumerate(data) if kind and each.get("object") != kind]
        return [*broken_rules(_stripe_list(), body), *wrong, *self.problems(body)]

    def delivered(self, body):
        """What the bytes of a webhook break is noted."""
        event = json.loads(body)
        self.violations.note("event", str(event.get("type")), None, self.problems(event))

    def problems(self, thing):
        """[(place, rule)] against an object and every one inside it: an event's, expanded ones, those of a list."""
        foreign = frozenset(self._foreign)
        with self._lock:
            if foreign != self._words_for:
                self._words, self._words_for = _listed_words() | foreign, foreign
                self._known.clear()
            key = shape(thing, self._words)
            if key not in self._known:
                if len(self._known) >= SHAPES_KEPT:
                    self._known.clear()
                self._known[key] = list(dict.fromkeys(_problems_in(thing, "", foreign)))
            return self._known[key]


def _problems_in(value, place, foreign):
    if isinstance(value, dict):
        kind = value.get("object") if isinstance(value.get("object"), str) else None
        if kind in document("stripe.schema.json")["responses"]:
            yield from ((_inside(place, at), rule) for at, rule in broken_rules(_stripe_object(kind, foreign), value))
        elif kind in stripe_sdk_types.CLASSES:
            yield from ((_inside(place, at), rule) for at, rule in stripe_sdk_types.misfits(stripe_sdk_types.CLASSES[kind], value)[:10])
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _problems_in(inner, _inside(place, str(name)), foreign)


def _inside(place, at):
    return "/".join(part for part in (place, at) if part)


def shape(value, words):
    """What the rules of Stripe's schema can tell apart of a JSON value: names, types, and the strings in `words`."""
    kind = type(value)
    if kind is str:
        return value if value in words else str
    if kind is dict:
        return tuple([(name, shape(inner, words)) for name, inner in value.items()])
    if kind is list:
        return frozenset([shape(inner, words) for inner in value])
    return int if kind is float and value.is_integer() else kind


def kind_of(operation):
    """The `object` that an operation answers with, or lists: GET /v1/checkout/sessions/{id} -> checkout.session; None when it is not plain."""
    method, path = operation.split(" ", 1)
    if not path.startswith("/v1/"):
        return None
    before, _, after = path[4:].partition("/{")
    if method == "GET" and "/" in after:
        return None
    return before.replace("/", ".").removesuffix("s")


def foreign_words(wish):
    """The strings anywhere in a JSON value that look like words of an enum."""
    if isinstance(wish, str):
        return {wish} if re.fullmatch(r"[a-z_.]{1,60}", wish) else set()
    inner = wish.values() if isinstance(wish, dict) else wish if isinstance(wish, list) else ()
    return set().union(*(foreign_words(each) for each in inner))


@cache
def _listed_words():
    """Every string that a rule lists: in the schema, and in the SDK's classes."""
    found = set().union(*(stripe_sdk_types.words(cls) for cls in stripe_sdk_types.CLASSES.values()), {"list"}, stripe_sdk_types.CLASSES)

    def walk(rules):
        if isinstance(rules, dict):
            found.update(word for word in rules.get("enum", ()) if isinstance(word, str))
            for inner in rules.values():
                walk(inner)
        elif isinstance(rules, list):
            for inner in rules:
                walk(inner)

    walk(document("stripe.schema.json")["$defs"])
    return frozenset(found.union(document("stripe.schema.json")["responses"]))


@cache
def _stripe_object(kind, foreign):
    def enum(validator, words, value, rules):
        if not (rules.get("x-open-enum") and isinstance(value, str) and value in foreign):
            yield from Draft202012Validator.VALIDATORS["enum"](validator, words, value, rules)

    defs = dict(document("stripe.schema.json")["$defs"])
    event = defs["event"]   # the file closes the list of event types; Stripe adds to it without a new version, as to the open ones
    defs["event"] = {**event, "properties": {**event["properties"], "type": {**event["properties"]["type"], "x-open-enum": True}}}
    return extend(Draft202012Validator, {"enum": enum})({**document("stripe.schema.json")["responses"][kind], "$defs": defs})


@cache
def _stripe_error():
    return Draft202012Validator(document("stripe.errors.json")["error"])


@cache
def _stripe_list():
    return Draft202012Validator(document("stripe.errors.json")["list"])


# Discord

RATE_LIMIT = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Reset-After", "X-RateLimit-Bucket")
FORM = "application/x-www-form-urlencoded"
OWN_RULES = {("POST", "/oauth2/token"), ("POST", "/oauth2/token/revoke")}   # not in the file: form-encoded, by Discord's documentation of OAuth2
REASON = re.compile(r"(?:[!-$&-~ ]|%[0-9A-Fa-f]{2})*")


class DiscordContract:
    """Discord's HTTP API by its OpenAPI file: path, method, parameters, body, content type, audit reason; status, headers and body of answers."""

    def __init__(self):
        self.violations = Violations()

    def asked(self, request):
        """What this request breaks is noted, before anything is done."""
        path = api_path(request.path)
        if path is None:
            return
        if (request.method, path) in OWN_RULES:
            wrong = [] if (request.headers.get("content-type") or "").startswith(FORM) else [("content-type", f"is not {FORM}")]
            return self.violations.note("request", f"{request.method} {path}", None, wrong)
        template, ids = template_of(path)
        operation = _operations(template).get(request.method) if template else None
        if operation is None:
            return self.violations.note("request", f"{request.method} {template or 'of no known path'}", None, [("", "there is no such operation")])
        wrong = [*_parameters(template, operation, ids, request), *_body(operation, request), *_reason(request)]
        return self.violations.note("request", f"{request.method} {template}", None, wrong)

    def answered(self, request, answer):
        """What this answer breaks is noted. What Cloudflare answers in Discord's place (no rate-limit headers) is not Discord's."""
        path = api_path(request.path)
        template = template_of(path)[0] if path else None
        operation = _operations(template).get(request.method) if template else None
        names = {name.lower() for name in answer.headers}
        edge = answer.status in (403, 429) and not any(name.startswith("x-ratelimit") for name in names)
        if operation is None or edge:
            return
        wrong = [("", f"header {name} is missing") for name in RATE_LIMIT if name.lower() not in names and "x-ratelimit-global" not in names]
        wrong += self._body(template, request.method, answer)
        self.violations.note("answer", f"{request.method} {template}", answer.status, wrong)

    @staticmethod
    def _body(template, method, answer):
        try:
            validator = _discord_answer(template, method, answer.status)
        except KeyError:
            return [("", "there is no such status")]
        if validator is None:
            return [("", "there is no body here")] if answer.body else []
        try:
            return broken_rules(validator, json.loads(answer.body))
        except ValueError:
            return [("", "the body is not JSON")]


def api_path(path):
    """The path behind the version, or None when it is not the API's."""
    found = re.fullmatch(r"/api(?:/v10)?(/.*)", path)
    return found and found[1]


def template_of(path):
    """(template, {name: value}) of the path in Discord's file, or (None, {})."""
    for template, pattern in _templates():
        found = pattern.fullmatch(path)
        if found:
            return template, {name: unquote(value) for name, value in found.groupdict().items()}
    return None, {}


@cache
def _templates():
    return [(template, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))) for template in document("discord.openapi.json")["paths"]]


@cache
def _operations(template):
    return {method.upper(): operation for method, operation in document("discord.openapi.json")["paths"][template].items() if method != "parameters"}


def _parameters(template, operation, ids, request):
    known = [*document("discord.openapi.json")["paths"][template].get("parameters", []), *operation.get("parameters", [])]
    given = {"path": ids, "query": dict(parse_qsl(request.raw_query, keep_blank_values=True))}
    for parameter in known:
        value = given.get(parameter["in"], {}).pop(parameter["name"], None)
        if value is None and parameter.get("required"):
            yield parameter["name"], f"is missing in the {parameter['in']}"
        elif value is not None:
            for _, rule in broken_rules(_discord_rules(json.dumps(parameter["schema"])), _plain(value)):
                yield parameter["name"], rule
    for name in given["query"]:
        yield name, "there is no such query parameter"


def _plain(value):
    """A query value: Discord takes true and false for booleans."""
    return {"true": True, "false": False}.get(value, value)


def _body(operation, request):
    wanted = operation.get("requestBody")
    if wanted is None:
        return [("body", "there is no body here")] if request.body else []
    kind = (request.headers.get("content-type") or "").partition(";")[0].strip()
    if kind not in wanted["content"]:
        return [("content-type", f"is not {' or '.join(wanted['content'])}")] if request.body or wanted.get("required") else []
    if kind != "application/json":
        return []
    try:
        return broken_rules(_discord_rules(json.dumps(wanted["content"][kind]["schema"])), json.loads(request.body))
    except ValueError:
        return [("body", "is not JSON")]


def _reason(request):
    """The audit-log reason is URL-encoded UTF-8 of 1 to 512 characters (Discord's documentation, resources/audit-log; the file is silent)."""
    reason = request.headers.get("x-audit-log-reason")
    if reason is None:
        return []
    if not REASON.fullmatch(reason):
        return [("X-Audit-Log-Reason", "is not URL-encoded")]
    return [] if 1 <= len(unquote(reason)) <= 512 else [("X-Audit-Log-Reason", "1 to 512 characters")]


@cache
def _components():
    """The file's components without what documentation and reality contradict: names such as NUMBER_TYPE_COERCE stand where it wants integers."""
    components = document("discord.openapi.json")["components"]
    return {**components, "schemas": {**components["schemas"], "ErrorDetails": {}}}


@cache
def _discord_rules(schema):
    return Draft202012Validator({**json.loads(schema), "components": _components()}, format_checker=formats)


@cache
def _discord_answer(template, method, status):
    """The validator of an answer's body, None when it has none; KeyError for a status the operation does not have."""
    answers = _operations(template)[method]["responses"]
    answer = answers.get(str(status)) or answers[f"{status // 100}XX"]
    if "$ref" in answer:
        answer = document("discord.openapi.json")["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    if "content" not in answer:
        return None
    components = _components()
    if status == 429:   # `code` is required there by the file alone: the documentation's own examples have none
        error = components["schemas"]["Error"]
        components = {**components, "schemas": {**components["schemas"], "Error": {**error, "required": [n for n in error["required"] if n != "code"]}}}
    return Draft202012Validator({**answer["content"]["application/json"]["schema"], "components": components}, format_checker=formats)
