"""The smallest Stripe and Discord that a reconciliation needs, fast enough for thousands of runs, at requests' call seam.

Shapes are the official ones (test_gates.py checks them against infra/local/sandbox/specs); whoever wants behaviour beyond
a stored answer uses the sandboxes. Both are worlds: `snapshot`, `restore`, `fingerprint`, and `call(method, path)`.
"""

import contextlib
import json
import marshal
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from infra.local.sandbox import stripe_objects

STRIPE_BASE, DISCORD_BASE = "http://stripe.test", "http://discord.test/api/v10"
_JSON = {"Content-Type": "application/json"}


class Stripe:
    """Subscriptions as Stripe would answer them now; `change` is what happens at the processor."""

    base, service = STRIPE_BASE, "stripe"

    def __init__(self):
        self.subscriptions = {}

    def add(self, key, *, price, now, days=30, status="active", customer="cus_1", **fields):
        """There is a subscription `key` to the price, in a period that began `now` and lasts `days`."""
        bought = stripe_objects.price({"currency": "eur", "unit_amount": 500, "product": "prod_1", "recurring": {
            "interval": "month"}}, key=price, now=now)
        whole = stripe_objects.subscription(
            bought, key=key, item_key=f"si_{key}", now=now, period_end=now + days * 86_400, customer_id=customer,
            mode="flexible", metadata={}) | {"status": status, **fields}
        self.subscriptions[key] = _lean(whole)

    def change(self, key, **fields):
        """The subscription's top-level fields are these from now on."""
        self.subscriptions[key] = self.subscriptions[key] | fields

    def call(self, method, path):
        """(status, headers, JSON) of GET /v1/subscriptions/{id}."""
        found = self.subscriptions.get(path.rsplit("/", 1)[1]) if path.startswith("/v1/subscriptions/") else None
        if method != "GET" or found is None:
            return stripe_error(404, "invalid_request_error", "resource_missing")
        return 200, _JSON, found

    def snapshot(self):
        return dict(self.subscriptions)

    def restore(self, snapshot):
        self.subscriptions = dict(snapshot)

    def fingerprint(self):
        return fingerprint(self.subscriptions)


# Fields that the schema does not require and nobody here reads; the SDK spends most of its time on such.
_NOT_NEEDED = {"payment_settings", "trial_settings", "managed_payments", "cancellation_details", "recurring", "flexible"}


def _lean(whole):
    """The object without its null fields and those not needed: still valid, and a third of the work for the SDK."""
    if isinstance(whole, list):
        return [_lean(one) for one in whole]
    if not isinstance(whole, dict):
        return whole
    return {name: _lean(one) for name, one in whole.items() if one is not None and name not in _NOT_NEEDED}


def stripe_error(status, kind, code=None):
    """An error answer of Stripe's."""
    return status, _JSON, {"error": {"type": kind, "message": "as ordered", **({"code": code} if code else {})}}


class Discord:
    """Who is in which server and holds which role: sets of (server, user) and (server, user, role).

    `untouchable` {role: Discord error code} is what Discord refuses whoever asks: 50013 with 403, 10011 with 404.
    `stripped` are the roles that a call has ever taken from somebody who held them.
    """

    base, service = DISCORD_BASE, "discord"

    def __init__(self):
        self.members, self.held, self.untouchable, self.stripped = set(), set(), {}, set()

    def call(self, method, path):
        """(status, headers, JSON or None) of GET a member, or PUT and DELETE a role."""
        parts = path.removeprefix("/api/v10").strip("/").split("/")
        server, user = parts[1], parts[3]
        if (server, user) not in self.members:
            return discord_error(404, 10007, "Unknown Member")
        if method == "GET":
            return 200, _JSON, self._member(server, user)
        role = parts[5]
        if role in self.untouchable:
            code = self.untouchable[role]
            return discord_error(404 if code == 10011 else 403, code, "as ordered")
        if method == "PUT":
            self.held.add((server, user, role))
        elif (server, user, role) in self.held:
            self.held.remove((server, user, role))
            self.stripped.add((server, user, role))
        return 204, {}, None

    def leaves(self, server, user):
        """The user is not in the server any more, and so holds none of its roles."""
        self.members.discard((server, user))
        self.held = {one for one in self.held if one[:2] != (server, user)}

    def _member(self, server, user):
        roles = sorted(role for one, other, role in self.held if (one, other) == (server, user))
        account = {"id": user, "username": "somebody", "discriminator": "0", "global_name": None, "avatar": None,
                   "public_flags": 0, "flags": 0, "primary_guild": None}
        return {"user": account, "roles": roles, "avatar": None, "banner": None, "nick": None, "deaf": False, "mute": False,
                "joined_at": "2026-01-01T00:00:00+00:00", "premium_since": None, "flags": 0, "pending": False,
                "communication_disabled_until": None}

    def snapshot(self):
        return frozenset(self.members), frozenset(self.held), dict(self.untouchable), frozenset(self.stripped)

    def restore(self, snapshot):
        members, held, untouchable, stripped = snapshot
        self.members, self.held, self.untouchable, self.stripped = set(members), set(held), dict(untouchable), set(stripped)

    def fingerprint(self):
        return hash((frozenset(self.members), frozenset(self.held), tuple(self.untouchable.items()), frozenset(self.stripped)))


def discord_error(status, code, message):
    """An error answer of Discord's."""
    return status, _JSON, {"code": code, "message": message}


def discord_limited(seconds, *, everywhere=False):
    """A 429 of Discord's."""
    headers = {**_JSON, "Retry-After": str(seconds), "X-RateLimit-Scope": "global" if everywhere else "user"}
    return 429, headers, {"message": "You are being rate limited.", "retry_after": float(seconds), "global": everywhere}


def response(answer, request):
    """The requests.Response of (status, headers, JSON or None)."""
    status, headers, body = answer
    made = requests.Response()
    made.status_code, made.headers, made.request, made.url = status, CaseInsensitiveDict(headers), request, request.url
    made._content = b"" if body is None else json.dumps(body).encode()
    return made


@contextlib.contextmanager
def installed_http(*worlds, gate=None):
    """Requests to these worlds' base addresses go to them until the end of the block; any other address is an error.

    `gate(world, method, path, effect)` may stand around every call; `effect()` performs it once and returns
    (status, headers, JSON or None).
    """
    by_host, before = {urlsplit(world.base).netloc: world for world in worlds}, requests.Session.send

    def send(session, request, **settings):
        parts = urlsplit(request.url)
        world = by_host.get(parts.netloc)
        if world is None:
            raise AssertionError(f"a call to {parts.netloc}, where no world is")

        def effect():
            return world.call(request.method, parts.path)

        return response(effect() if gate is None else gate(world, request.method, parts.path, effect), request)

    requests.Session.send = send
    try:
        yield
    finally:
        requests.Session.send = before


def fingerprint(answer):
    """A hash of an answer, or of anything else that is made of plain values."""
    # Version 2 has no back references: those depend on who else holds an object, not on what it is.
    return hash(marshal.dumps(answer, 2))
