"""The smallest Stripe and Discord that a reconciliation needs, fast enough for thousands of runs, at requests' call seam.

Shapes are the official ones (test_gates.py checks them against infra/local/sandbox/specs); whoever wants behaviour beyond
a stored answer uses the sandboxes. Both are worlds: `snapshot`, `restore`, `fingerprint`, and `call(method, path)`.
"""

import contextlib
import json
import marshal
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from infra.local.sandbox import stripe_objects, stripe_payment_objects

STRIPE_BASE, DISCORD_BASE = "http://stripe.test", "http://discord.test/api/v10"
_JSON = {"Content-Type": "application/json"}


class Stripe:
    """What Stripe would answer now, by kind: {id: object}. The methods other than `call` are what happens at the processor.

    Objects are never changed in place: another one takes their place.
    """

    base, service = STRIPE_BASE, "stripe"

    def __init__(self):
        self.subscriptions, self.sessions, self.charges, self.disputes = {}, {}, {}, {}
        self.intents, self.invoices, self.invoice_payments = {}, {}, {}
        self._kinds = ("subscriptions", "sessions", "charges", "disputes", "intents", "invoices", "invoice_payments")

    def add(self, key, *, price, now, days=30, status="active", customer="cus_1", **fields):
        """There is a subscription `key` to the price, in a period that began `now` and lasts `days`."""
        whole = stripe_objects.subscription(
            _price(price, now, recurring={"interval": "month"}), key=key, item_key=f"si_{key}", now=now,
            period_end=now + days * 86_400, customer_id=customer, mode="flexible", metadata={}) | {"status": status, **fields}
        self.subscriptions[key] = _lean(whole)

    def sell(self, key, *, price, now, charge, metadata=None):
        """There is a Checkout Session `key` in payment mode that sold the price once; `charge` has paid it."""
        bought, metadata = _price(price, now), metadata or {}
        self._charge(charge, now=now, metadata=metadata)
        whole = stripe_objects.checkout_session(
            {"success_url": "https://example.com/", "metadata": metadata}, key=key, now=now, url=None, price_object=bought) | {
            "mode": "payment", "status": "complete", "payment_status": "paid", "payment_intent": f"pi_{charge}", "customer": "cus_1"}
        line = stripe_payment_objects.line_item(bought, {"name": "Pass"}, 1, key=f"li_{key}")
        self.sessions[key] = _lean(whole) | {"line_items": {
            "object": "list", "data": [_lean(line)], "has_more": False, "url": f"/v1/checkout/sessions/{key}/line_items"}}

    def pay(self, subscription, charge, *, now):
        """`charge` has paid the invoice for the subscription's current period."""
        sub, invoice = self.subscriptions[subscription], f"in_{charge}"
        item = sub["items"]["data"][0]
        self._charge(charge, now=now, metadata={})
        period = item["current_period_start"], item["current_period_end"]
        whole = stripe_objects.invoice(
            sub, key=invoice, line_key=f"il_{charge}", now=now, why="subscription_cycle", period=period, paid_period=period,
            customer_object={"email": None, "name": None}, account_name=None) | {"status": "paid"}
        self.invoices[invoice] = _lean(whole) | {"payment_settings": {}}
        self.invoice_payments[f"inpay_{charge}"] = _lean(stripe_payment_objects.invoice_payment(
            whole, self.intents[f"pi_{charge}"], key=f"inpay_{charge}", now=now)) | {"status": "paid"}

    def _charge(self, key, *, now, metadata):
        intent = stripe_payment_objects.payment_intent(
            key=f"pi_{key}", secret="secret", now=now, amount=500, currency="eur", customer="cus_1", description=None,
            metadata=metadata, methods=["card"]) | {"status": "succeeded", "latest_charge": key, "amount_received": 500}
        self.intents[f"pi_{key}"] = _lean(intent)
        self.charges[key] = _lean(stripe_payment_objects.charge(intent, key=key, now=now, method=None, receipt=None))

    def change(self, key, **fields):
        """The subscription's top-level fields are these from now on."""
        self.subscriptions[key] = self.subscriptions[key] | fields

    def refund(self, charge, amount):
        """So much of the charge is refunded now: more after a refund, less after one that failed."""
        found = self.charges[charge]
        self.charges[charge] = found | {"amount_refunded": amount, "refunded": amount == found["amount"]}

    def dispute(self, charge, status):
        """The charge's dispute is in this status; whatever becomes of it, the charge says `disputed` from its opening on."""
        found, key = self.charges[charge] | {"disputed": True}, f"du_{charge}"
        self.charges[charge] = found
        before = self.disputes.get(key) or _lean(stripe_payment_objects.dispute(
            {"payment_method_details": None, **found}, key=key, now=found["created"], amount=found["amount"], reason="fraudulent",
            status=status))
        self.disputes[key] = before | {"status": status}

    def call(self, method, path, query=""):
        """(status, headers, JSON) of a GET: one object, with what is asked to be expanded, or a list by one of its fields."""
        kind, _, name = path.removeprefix("/v1/").removeprefix("checkout/").partition("/")
        kind = {"payment_intents": "intents"}.get(kind, kind)
        asked = dict(parse_qsl(query))
        if method == "GET" and kind in ("disputes", "invoice_payments") and not name:
            return 200, _JSON, self._list(path, kind, asked)
        found = getattr(self, kind).get(name) if kind in self._kinds else None
        if method != "GET" or found is None:
            return stripe_error(404, "invalid_request_error", "resource_missing")
        return 200, _JSON, self._expanded(found, asked) if kind == "sessions" else found

    def _list(self, path, kind, asked):
        chosen = [one for one in getattr(self, kind).values() if
                  (one["charge"] == asked["charge"] if kind == "disputes" else
                   one["payment"] == {"type": asked["payment[type]"], "payment_intent": asked["payment[payment_intent]"]})]
        return {"object": "list", "data": chosen, "has_more": False, "url": path}

    def _expanded(self, session, asked):
        """A session shows its lines and the objects of its payment only to who asks for them (docs.stripe.com/api/expanding_objects)."""
        wished = {value for name, value in asked.items() if name.startswith("expand")}
        shown = {name: value for name, value in session.items() if name != "line_items" or name in wished}
        if "payment_intent.latest_charge" in wished:
            intent = self.intents[session["payment_intent"]]
            shown["payment_intent"] = intent | {"latest_charge": self.charges[intent["latest_charge"]]}
        return shown

    def snapshot(self):
        return [dict(getattr(self, kind)) for kind in self._kinds]

    def restore(self, snapshot):
        for kind, objects in zip(self._kinds, snapshot):
            setattr(self, kind, dict(objects))

    def fingerprint(self):
        return fingerprint([self.subscriptions, self.sessions, self.charges, self.disputes])    # the others follow from these


def _price(key, now, **recurring):
    return stripe_objects.price({"currency": "eur", "unit_amount": 500, "product": "prod_1", **recurring}, key=key, now=now)


# Fields that the schema does not require and nobody here reads; the SDK spends most of its time on such.
_NOT_NEEDED = {
    "payment_settings", "trial_settings", "managed_payments", "cancellation_details", "recurring", "flexible", "outcome", "radar_options",
    "fraud_details", "payment_method_options", "saved_payment_method_options", "phone_number_collection", "total_details", "tax_rates",
    "customer_tax_ids", "total_discount_amounts", "total_pretax_credit_amounts", "total_taxes", "taxes", "pricing",
    "pretax_credit_amounts", "discount_amounts", "discountable"}


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
    `stripped` are the roles that a call has ever taken from somebody who held them, `bare` who had none left by that.
    """

    base, service = DISCORD_BASE, "discord"

    def __init__(self):
        self.members, self.held, self.untouchable, self.stripped, self.bare = set(), set(), {}, set(), set()

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
            if not any(one[:2] == (server, user) for one in self.held):
                self.bare.add((server, user))
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
        return frozenset(self.members), frozenset(self.held), dict(self.untouchable), frozenset(self.stripped), frozenset(self.bare)

    def restore(self, snapshot):
        members, held, untouchable, stripped, bare = snapshot
        self.members, self.held, self.untouchable = set(members), set(held), dict(untouchable)
        self.stripped, self.bare = set(stripped), set(bare)

    def fingerprint(self):
        return hash((frozenset(self.members), frozenset(self.held), tuple(self.untouchable.items()), frozenset(self.stripped),
                     frozenset(self.bare)))


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
            return world.call(request.method, parts.path, *([parts.query] if parts.query else []))

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
