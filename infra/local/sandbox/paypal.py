"""A stateful PayPal: merchant accounts with subscriptions that live by the calendar, hosted pages, a clock to move.

In process, without sockets or threads:

    sandbox = PayPalSandbox(clock=SandboxClock(wall=...))
    status, headers, body = sandbox.handle("POST", "/v1/oauth2/token", {"Authorization": "Basic ..."}, b"grant_type=client_credentials")
    status, answer = sandbox.call("POST", "/v1/catalogs/products", {"name": "Gold", "type": "SERVICE"})   # authenticated
    sandbox.clock.advance(31 * 86400)      # rolls every subscription, in time order

Where each shape comes from, and what is assumed: docs/sandbox-paypal-notes.md.
"""
import json
import re
import threading
from urllib.parse import urlencode

from . import http, statefile
from .http import Answer
from .paypal_billing import Billing
from .paypal_catalog import Catalog
from .paypal_contract import PayPalContract
from .paypal_errors import Refusal, not_found
from .paypal_sales import Sales
from .paypal_subscriptions import Subscriptions
from .paypal_tokens import Tokens
from .paypal_webhooks import Webhooks, post as post_over_http
from .paypal_world import Merchant, Options, World, draw, new_state

# Not secrets: they open nothing but this sandbox. Shapes as PayPal's.
MERCHANT = Merchant("RKEEPSANDBX22", "AZ" + "sandbox-client_" * 5 + "YES", "EP" + "sandbox-secret_" * 5 + "YES", webhook_ids=("5RK00000000000001",))


class Account:
    """One merchant: its world and everything that acts on it."""

    def __init__(self, sandbox, merchant):
        self.sandbox, self.merchant = sandbox, merchant
        self.world = World(sandbox.state, merchant, clock=sandbox.clock, public_url=lambda: sandbox.public_url, options=sandbox.options)
        self.sales = Sales(self.world)
        self.billing = Billing(self.world, self.sales, lambda sub, event: self.subscriptions.shown(sub, event=event))
        self.subscriptions = Subscriptions(self.world, self.billing)
        self.catalog = Catalog(self.world)
        self.routes = [*self.catalog.routes(), *self.subscriptions.routes(), *self.sales.routes()]

    def due(self):
        """(instant, order, key, happens) of everything that time alone will do."""
        yield from self.billing.due()


class PayPalSandbox:
    """PayPal with some merchants. `handle` is the whole HTTP surface; the parts are public for tests.

    `clock` is a SandboxClock; `accounts` the Merchants; `endpoints` their webhooks, called by `post(url, headers, body) -> status`. `seed`
    fixes all ids. With `state_file` everything is kept across restarts. Safe to call from several threads: one lock, one change at a time.
    """

    def __init__(self, *, clock, endpoints=(), accounts=(MERCHANT,), state_file=None, seed="rolekeep", options=None, post=post_over_http,
                 public_url="http://127.0.0.1:8004"):
        self.clock, self.public_url, self._path = clock, public_url, state_file
        self.state, self.options = statefile.read(state_file, None) or new_state(seed), options or Options()
        self._lock = threading.RLock()
        self.contract = PayPalContract()
        self.front = http.Front(self._answer, clock=clock, secret_paths=r"^/(v1/oauth2|webapps|myaccount)/", webhook_faults=("lose",), contract=self.contract)
        self.handle, self.faults = self.front.handle, self.front.faults
        self.accounts = {merchant.id: Account(self, merchant) for merchant in accounts}
        self.tokens = Tokens(self.state, {key: account.merchant for key, account in self.accounts.items()}, wall=clock.wall, options=self.options)
        self.webhooks = Webhooks(self.state, {key: account.world for key, account in self.accounts.items()}, endpoints, clock=clock, faults=self.faults,
                                 lock=self._lock, url=lambda path: self.public_url + path, post=post)
        self.deliveries = self.webhooks.deliveries
        for account in self.accounts.values():
            account.routes += self.webhooks.routes(account.world)
        clock.on_move(lambda before, after: self.roll())

    # time and memory

    def roll(self):
        """Everything that is due by now has happened, in time order, each at its own instant."""
        with self._lock:
            now = int(self.clock.now())
            while (next_one := min(((due, account) for account in self.accounts.values() for due in account.due()),
                                   key=lambda pair: pair[0][:3], default=None)) is not None and next_one[0][0] <= now:
                (instant, _, key, happens), account = next_one
                with account.world.at(instant):
                    happens(key)
            for account in self.accounts.values():
                account.world.forget()
            self.save()

    def save(self):
        """The state file holds everything that has happened so far."""
        if self._path and any(account.world.changed for account in self.accounts.values()):
            statefile.write(self._path, self.state)
        for account in self.accounts.values():
            account.world.changed = False

    # requests

    def _answer(self, request):
        with self._lock:
            self.roll()
            try:
                if (told := self.webhooks.open(request)) is not None:
                    return told
                if request.path == "/v1/oauth2/token" and request.method == "POST":
                    return self._told(200, self.tokens.grant(request))
                if request.path.startswith(("/v1/", "/v2/")):
                    return self._api(request)
                return http.text_answer("nothing here", 404)
            except Refusal as refusal:
                return self._told(refusal.status, refusal.body)
            finally:
                self.save()

    def _api(self, request):
        account = self.accounts[self.tokens.merchant(request)]
        for method, pattern, call in account.routes:
            match = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", pattern), request.path)
            if match and method == request.method:
                return self._told(*call(request, *match.groups()))
        raise not_found()

    def _told(self, status, value):
        """An answer as PayPal sends it; errors carry their debug id in the body too, those of the OAuth server do not."""
        debug = draw(self.state, 13, "0123456789abcdef")
        headers = {"Content-Type": "application/json", "Paypal-Debug-Id": debug, "Cache-Control": "max-age=0, no-cache, no-store, must-revalidate"}
        if value is None:
            return Answer(status, {name: text for name, text in headers.items() if name != "Content-Type"}, b"")
        if status >= 400 and "name" in value:
            value = {**value, "debug_id": debug}
        return Answer(status, headers, json.dumps(value).encode())

    # for tests in process

    def call(self, method, path, params=None, *, account=None, **headers):
        """(status, parsed answer or None) of one authenticated API request; `account` a merchant id (the first one).

        `params` go into the query of a GET, else into the JSON body. Headers by name: `paypal_request_id=`, `prefer=`.
        """
        token = self.tokens.for_merchant(account or next(iter(self.accounts)))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        query = "?" + urlencode(params) if method == "GET" and params else ""
        body = b"" if method == "GET" or params is None else json.dumps(params).encode()
        status, _, answer = self.handle(method, path + query, {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **named}, body)
        return status, json.loads(answer) if answer else None
