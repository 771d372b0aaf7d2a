"""A stateful Stripe: an account and those connected to it at API version 2026-10-28.endive, hosted pages, signed webhooks, a clock to move.

In process, without sockets or threads:

    sandbox = StripeSandbox(clock=SandboxClock(wall=...), post=lambda url, headers, body: 200, endpoints=[Endpoint(url, ("whsec_x",))])
    status, headers, body = sandbox.handle("POST", "/v1/products", {"Authorization": "Bearer " + KEY}, b"name=Gold")
    sandbox.clock.advance(31 * 86400)      # rolls every subscription, in time order
    sandbox.deliveries.pump()              # posts what is due
    sandbox.call("GET", "/v1/events", stripe_account="acct_1Shop")   # of a connected account

Over HTTP: `serve(...)`, or `python -m infra.local.sandbox.stripe --port 8001 --webhook URL --secret whsec_...`.
Where each shape comes from, and what is assumed: docs/sandbox-stripe-notes.md.
"""
import argparse
import copy
import json
import re
import secrets
import threading
from base64 import b64decode
from urllib.parse import urlencode

from . import http, spec
from .clock import SandboxClock
from .http import Answer
from .memory import Kept, Memory
from .running import Running
from .stripe_accounts import Accounts
from .stripe_includes import included
from .stripe_params import API_VERSION, Refusal, read
from .stripe_webhooks import Deliveries, Endpoint, post as post_over_http
from .stripe_world import Options, new_state

KEY = "sk_test_rolekeep_sandbox"
ACCOUNT = "acct_1RolekeepSandbox"
_BUSY = "req_AnotherIsInProgress"  # given without touching the world, whose lock the other request holds
KEYS_KEPT = 86400  # Stripe keeps idempotent results for at least 24 hours of real time (docs.stripe.com/api/idempotent_requests)


class StripeSandbox(Kept):
    """A Stripe account and the accounts connected to it. `handle` is the whole HTTP surface; the parts are public for tests.

    `clock` is a SandboxClock. `post(url, headers, body) -> status` delivers webhooks. `seed` fixes all ids. With
    `state_file` everything is kept across restarts. Safe to call from several threads: one lock, one change at a time.
    """

    def __init__(self, *, clock, endpoints=(), api_keys=(KEY,), account=ACCOUNT, state_file=None, seed="rolekeep",
                 post=post_over_http, options=None, public_url="http://127.0.0.1:8001"):
        self.clock, self.public_url = clock, public_url
        self.keys, self._memory = tuple(api_keys), Memory(state_file)
        self._lock, self._in_flight, self._ordered_failures = threading.RLock(), {}, []
        state = self._memory.read() or new_state(seed)
        self.contract = spec.StripeContract(self._operation_of, state.setdefault("foreign", []))
        self.front = http.Front(self._answer, clock=clock, secret_paths=r"^/(c|p|i)/", contract=self.contract)
        self.handle, self.faults = self.front.handle, self.front.faults
        self.accounts = Accounts(self, account, state, options or Options())
        self.world = self.accounts.own.world
        self.deliveries = Deliveries(self.world, endpoints, wall=clock.wall, faults=self.faults, lock=self._lock,
                                     post=self._checked(post))
        self.accounts.deliver_by(self.deliveries)
        clock.on_move(lambda before, after: self.roll())

    # the specification

    def _operation_of(self, method, path):
        return next((route.operation for route in self.accounts.own.api.routes if route.method == method and route.path.match(path)), None)

    def _checked(self, post):
        def checked(url, headers, body):
            self.contract.delivered(body)
            return post(url, headers, body)
        return checked

    def brought_in(self, wish):
        """A control call brought these values in: an open enum may hold them from now on, also after a restart."""
        with self._lock:
            self.world.state["foreign"] += sorted(spec.foreign_words(wish) - set(self.world.state["foreign"]))

    # time and memory

    def roll(self):
        """Everything that is due by now has happened, in time order, each at its own instant."""
        with self._lock:
            now = int(self.clock.now())
            while (next_one := min(((due, account) for account in self.accounts.all() for due in account.due()),
                                   key=lambda pair: pair[0][:3], default=None)) is not None and next_one[0][0] <= now:
                (instant, _, key, happens), account = next_one
                with account.world.at(instant):
                    happens(key)
            for account in self.accounts.all():
                account.world.forget()
            self.save()

    @property
    def changed(self):
        """Whether anything has happened since the last write."""
        return self.accounts.changed

    @changed.setter
    def changed(self, value):
        self.accounts.changed = value

    @property
    def kept_state(self):
        """What goes into the state file."""
        return self.world.state

    # requests

    def _answer(self, request):
        if request.path.startswith("/v1/"):
            return self._api(request)
        with self._lock:
            self.roll()
            try:
                if request.path.startswith("/_sandbox/"):
                    return self.accounts.ordered(request).control.answer(request)
                return self.accounts.shown(request.path).pages.answer(request)
            except Refusal as refusal:
                return http.json_answer({"error": refusal.error}, refusal.status)
            finally:
                self.save()

    def _api(self, request):
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        place = request.headers.get("stripe-account", self.world.account), key
        if key is not None and self._in_flight.setdefault(place, request) is not request:
            return _stripe_answer(409, {"error": _in_use(key).error}, _BUSY, request)
        try:
            with self._lock:
                self.roll()
                try:
                    return self._carry_out(request, key)
                finally:
                    self.save()
        finally:
            if self._in_flight.get(place) is request:
                del self._in_flight[place]

    def _carry_out(self, request, key):
        request_id = "req_" + self.world.draw(14, kept=False)
        try:
            account = self._authenticate(request)
            route, ids = account.api.find(request.method, request.path)
            text = _parameters(request)
            fingerprint = [request.method, request.path, text]
            stored = self._stored(account.world, key, fingerprint) if key is not None else None
            if stored:
                return _stripe_answer(stored["status"], stored["answer"], request_id, request,
                                      {"Idempotent-Replayed": "true", "Original-Request": stored["request_id"]})
            params = read(route.operation, text, understood=route.understood)
        except Refusal as refusal:  # never carried out, so not remembered under the key (docs.stripe.com/api/idempotent_requests)
            return _stripe_answer(refusal.status, {"error": refusal.error}, request_id, request)
        account.world.request = {"id": request_id, "idempotency_key": key}
        try:
            status, answer = self._perform(account, route, ids, params, request)
        finally:
            account.world.request = None
        if key is not None:
            account.world.changed = True
            account.world.state["idempotency"][key] = {"fingerprint": fingerprint, "status": status, "answer": copy.deepcopy(answer),
                                                       "request_id": request_id, "at": self.clock.wall()}
        return _stripe_answer(status, answer, request_id, request)

    def _perform(self, account, route, ids, params, request):
        failure = self._ordered_failure(request)
        if failure == "before":
            return 500, _broken()
        try:
            if route.operation == "POST /v1/checkout/sessions":
                account.refuse_charges()
            answer = expanded(account.world, route.carry_out(params, *ids), params.get("expand", []))
        except Refusal as refusal:
            return refusal.status, {"error": refusal.error}
        return (500, _broken()) if failure == "after" else (200, answer)

    def _stored(self, world, key, fingerprint):
        """The answer remembered under an idempotency key, or None; idempotency_error when it was for something else."""
        remembered, now = world.state["idempotency"], self.clock.wall()
        for old in [k for k, entry in remembered.items() if entry["at"] < now - KEYS_KEPT]:
            del remembered[old]
        stored = remembered.get(key)
        if stored is None or stored["fingerprint"] == fingerprint:
            return stored
        same = "parameters they were first used with" if stored["fingerprint"][:2] == fingerprint[:2] else \
            f"endpoint they were first used for ('{stored['fingerprint'][1]}')"
        raise Refusal(400, f"Keys for idempotent requests can only be used with the same {same}. Try using a key other than '{key}' if "
                           "you meant to execute a different request.", kind="idempotency_error")

    def _authenticate(self, request):
        """The account that the request is for, or the Refusal of a stranger."""
        given = request.headers.get("authorization", "")
        scheme, _, value = given.partition(" ")
        if scheme.lower() == "basic":
            value = b64decode(value, validate=False).decode("utf-8", "replace").partition(":")[0]
        if not value.strip():
            raise Refusal(401, "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
                               "auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
        if value not in self.keys:
            raise Refusal(401, f"Invalid API Key provided: {value[:8]}****{value[-4:]}")
        account = self.accounts.called(request)
        version = request.headers.get("stripe-version", API_VERSION)
        if version != API_VERSION:
            raise Refusal(400, f"This sandbox speaks {API_VERSION} only, not {version}.", code="sandbox_not_implemented")
        return account

    # order and ask, for tests in process

    def fail_next(self, path="", *, method=None, when="before", times=1):
        """The next API requests whose path matches end in a 500 inside Stripe, `when` before or after they took effect."""
        self._ordered_failures.append({"path": re.compile(path), "method": method, "when": when, "times": times})

    def _ordered_failure(self, request):
        for order in self._ordered_failures:
            if order["path"].search(request.path) and order["method"] in (None, request.method):
                order["times"] -= 1
                if order["times"] <= 0:
                    self._ordered_failures.remove(order)
                return order["when"]
        return None

    def call(self, method, path, params=(), **headers):
        """(status, parsed answer) of one API request in process; `params` are pairs or a flat mapping of form fields.

        Headers by name: `idempotency_key=`, `stripe_account="acct_…"`.
        """
        pairs = params.items() if hasattr(params, "items") else params
        text = urlencode([(name, str(value).lower() if isinstance(value, bool) else value) for name, value in pairs])
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        target = path if method == "POST" or not text else f"{path}?{text}"
        status, _, body = self.handle(method, target, {"Authorization": f"Bearer {self.keys[0]}", **named},
                                      text.encode() if method == "POST" else b"")
        return status, json.loads(body)


def expanded(world, answer, wishes):
    """A copy of the answer with the ids that `expand` names replaced by their objects."""
    answer = copy.deepcopy(answer)
    for wish in wishes:
        _expand(world, answer, wish.split("."), wish)
    return answer


def _expand(world, here, steps, wish):
    for each in here if isinstance(here, list) else [here]:
        if isinstance(each, dict) and steps[0] not in each:
            each |= included(world, each, steps[0])
        if not isinstance(each, dict) or steps[0] not in each:
            raise Refusal(400, f"This property cannot be expanded ({wish}).", param="expand")
        value = each[steps[0]]
        if isinstance(value, str):
            found = next((group[value] for group in world.state["objects"].values() if value in group), None)
            if found is None:
                raise Refusal(400, f"This property cannot be expanded ({wish}).", param="expand")
            value = each[steps[0]] = copy.deepcopy(found)
        if steps[1:] and value is not None:
            _expand(world, value, steps[1:], wish)


def _parameters(request):
    kind = request.headers.get("content-type", "application/x-www-form-urlencoded")
    if request.body and not kind.startswith("application/x-www-form-urlencoded"):
        raise Refusal(400, "Invalid request: this API takes form-encoded bodies (application/x-www-form-urlencoded).")
    body = request.body.decode("utf-8", "replace")
    return "&".join(part for part in (request.raw_query, body) if part)


def _in_use(key):
    return Refusal(409, "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
                        f"twice, and the other request is still going through): {key}. Please try again later.",
                   code="idempotency_key_in_use", kind="idempotency_error")


def _broken():
    return {"error": {"type": "api_error", "message": "An unknown error occurred"}}


def _stripe_answer(status, value, request_id, request, headers=None):
    value = {**value, "error": {**value["error"], "request_log_url": f"https://dashboard.stripe.com/test/logs/{request_id}"}} \
        if "error" in value else value
    echoed = {"Idempotency-Key": request.headers["idempotency-key"]} if "idempotency-key" in request.headers else {}
    return Answer(status, {"Content-Type": "application/json", "Request-Id": request_id, "Stripe-Version": API_VERSION,
                           "Cache-Control": "no-cache, no-store", **echoed, **(headers or {})}, json.dumps(value, indent=2).encode())


def serve(*, port=0, clock=None, state_file=None, **settings):
    """A Running sandbox on 127.0.0.1; fresh ids unless a state file or a seed says otherwise. `.url`, `.sandbox`, `.stop()`."""
    settings.setdefault("seed", secrets.token_hex(16))
    return Running(StripeSandbox(clock=clock or SandboxClock(), state_file=state_file, **settings), port, "stripe")


def main(arguments=None):
    """Runs the sandbox until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.sandbox.stripe", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--webhook", action="append", default=[], help="URL of a webhook endpoint (may be repeated)")
    parser.add_argument("--secret", action="append", default=[], help="its signing secret(s), comma-separated, in the same order")
    parser.add_argument("--connect-webhook", action="append", default=[], help="URL of a Connect endpoint: events of connected accounts")
    parser.add_argument("--connect-secret", action="append", default=[], help="its signing secret(s)")
    parser.add_argument("--key", action="append", help=f"accepted API keys (default {KEY})")
    parser.add_argument("--state", help="JSON file that keeps everything across restarts")
    parser.add_argument("--clock", help="JSON file of the shared clock")
    parser.add_argument("--billing-mode", choices=("flexible", "classic"), default="flexible")
    parser.add_argument("--final-failure", choices=("cancel", "unpaid"), default="cancel")
    given = parser.parse_args(arguments)
    endpoints = [Endpoint(url, tuple(secret.split(",")), connect=connect) for urls, held, connect in (
        (given.webhook, given.secret, False), (given.connect_webhook, given.connect_secret, True)) for url, secret in zip(urls, held, strict=True)]
    running = serve(port=given.port, clock=SandboxClock(given.clock), state_file=given.state, endpoints=endpoints,
                    api_keys=tuple(given.key or (KEY,)), options=Options(billing_mode=given.billing_mode, final_failure=given.final_failure))
    running.until_interrupted("Stripe")


if __name__ == "__main__":
    main()
