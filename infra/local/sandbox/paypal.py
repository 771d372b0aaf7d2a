"""A stateful PayPal: merchant accounts with subscriptions that live by the calendar, hosted pages, signed webhooks, a clock to move.

In process, without sockets or threads:

    sandbox = PayPalSandbox(clock=SandboxClock(wall=...), post=lambda url, headers, body: 200,
                            endpoints=[Endpoint(url, MERCHANT.id, MERCHANT.webhook_ids[0])])
    status, answer = sandbox.call("POST", "/v1/catalogs/products", {"name": "Gold", "type": "SERVICE"})   # authenticated
    sandbox.clock.advance(31 * 86400)      # rolls every subscription, in time order
    sandbox.deliveries.pump()              # posts what is due

Over HTTP: `serve(...)`, or `python -m infra.local.sandbox.paypal --port 8004 --webhook URL`.
Where each shape comes from, and what is assumed: docs/sandbox-paypal-notes.md.
"""
import argparse
import json
import re
import secrets
import threading
from urllib.parse import urlencode

from . import http
from .clock import SandboxClock
from .http import Answer
from .memory import Kept, Memory
from .paypal_billing import Billing
from .paypal_catalog import Catalog
from .paypal_contract import PayPalContract, check_query
from .paypal_control import Control
from .paypal_disputes import Disputes
from .paypal_errors import Refusal, not_found
from .paypal_pages import Pages
from .paypal_sales import Sales
from .paypal_subscriptions import Subscriptions
from .paypal_tokens import Tokens
from .paypal_webhooks import Endpoint, Webhooks, post as post_over_http
from .paypal_world import Merchant, Options, World, draw, new_state
from .running import Running

# Not secrets: they open nothing but this sandbox. Shapes as PayPal's.
MERCHANT = Merchant("RKEEPSANDBX22", "AZ" + "sandbox-client_" * 5 + "YES", "EP" + "sandbox-secret_" * 5 + "YES", webhook_ids=("5RK00000000000001",))


class Account:
    """One merchant: its world and everything that acts on it."""

    def __init__(self, sandbox, merchant):
        self.merchant = merchant
        self.world = World(sandbox.kept_state, merchant, clock=sandbox.clock, public_url=lambda: sandbox.public_url, options=sandbox.options)
        self.catalog, self.sales = Catalog(self.world), Sales(self.world)
        self.billing = Billing(self.world, self.sales, lambda sub, event: self.subscriptions.shown(sub, event=event))
        self.subscriptions = Subscriptions(self.world, self.billing)
        self.disputes = Disputes(self.world, self.sales)
        self.routes = [(method, re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), call) for part in (
            self.catalog, self.subscriptions, self.sales, self.disputes) for method, path, call in part.routes()]

    def hear(self, webhooks):
        """Its events are delivered, and its webhooks answered for, by `webhooks`."""
        webhooks.adopt(self.world)
        self.routes += [(method, re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), call) for method, path, call in webhooks.routes(self.world)]


class PayPalSandbox(Kept):
    """PayPal with some merchants. `handle` is the whole HTTP surface; the parts are public for tests.

    `clock` is a SandboxClock; `accounts` the Merchants; `endpoints` the webhooks of their apps, to which `post(url, headers, body) ->
    status` delivers. `seed` fixes all ids. With `state_file` everything is kept across restarts. Safe to call from several threads:
    one lock, one change at a time.
    """

    def __init__(self, *, clock, endpoints=(), accounts=(MERCHANT,), state_file=None, seed="rolekeep", post=post_over_http, options=None,
                 public_url="http://127.0.0.1:8004"):
        self.clock, self.public_url, self._memory, self._lock = clock, public_url, Memory(state_file), threading.RLock()
        self.kept_state, self.options = self._memory.read() or new_state(seed), options or Options()
        self.contract = PayPalContract()
        self.front = http.Front(self._answer, clock=clock, secret_paths=r"^/(v1/oauth2|webapps|myaccount)/", contract=self.contract,
                                webhook_faults=("lose",))
        self.handle, self.faults = self.front.handle, self.front.faults
        added = [Merchant(**{**entry["account"], "webhook_ids": tuple(entry["account"]["webhook_ids"])})
                 for entry in self.kept_state["merchants"].values() if "account" in entry]
        self.accounts = {merchant.id: Account(self, merchant) for merchant in (*accounts, *added)}
        self.tokens = Tokens(self.kept_state, self.accounts, wall=clock.wall, options=self.options)
        self.webhooks = Webhooks(self.kept_state, {key: account.world for key, account in self.accounts.items()}, endpoints, clock=clock,
                                 faults=self.faults, lock=self._lock, url=lambda path: self.public_url + path, post=post)
        self.deliveries = self.webhooks.deliveries
        for account in self.accounts.values():
            account.hear(self.webhooks)
        self.pages, self.control = Pages(self), Control(self, self.webhooks.orders())
        clock.on_move(lambda before, after: self.roll())

    def account(self, merchant_id=None):
        """The Account of that merchant, or of the first one."""
        return self.accounts[merchant_id] if merchant_id else next(iter(self.accounts.values()))

    def add_merchant(self, wish):
        """There is that merchant from now on, also after a restart; one that was there has these credentials."""
        merchant = Merchant(wish["id"], wish["client_id"], wish["secret"], wish.get("name", Merchant.name), tuple(wish.get("webhook_ids", ())))
        account = Account(self, merchant)
        account.world.state["account"] = {**vars(merchant), "webhook_ids": list(merchant.webhook_ids)}
        self.accounts[merchant.id] = account
        account.hear(self.webhooks)

    # time and memory

    @property
    def changed(self):
        """Whether anything has happened since the last write."""
        return any(account.world.changed for account in self.accounts.values())

    @changed.setter
    def changed(self, value):
        for account in self.accounts.values():
            account.world.changed = value

    def roll(self):
        """Everything that is due by now has happened, in time order, each at its own instant."""
        with self._lock:
            now = int(self.clock.now())
            while (next_one := min(((due, account) for account in self.accounts.values() for due in account.billing.due()),
                                   key=lambda pair: pair[0][:3], default=None)) is not None and next_one[0][0] <= now:
                (instant, _, key, happens), account = next_one
                with account.world.at(instant):
                    happens(key)
            for account in self.accounts.values():
                account.world.forget()
            self.save()

    # requests

    def _answer(self, request):
        certificate = self.webhooks.open(request)
        if certificate is not None:
            return certificate
        with self._lock:
            self.roll()
            try:
                return self._answer_now(request)
            except Refusal as refusal:
                return self._told(refusal.status, refusal.body)
            finally:
                self.save()

    def _answer_now(self, request):
        if request.path.startswith("/_sandbox/"):
            return self.control.answer(request)
        if request.path == "/v1/oauth2/token" and request.method == "POST":
            return self._told(200, self.tokens.grant(request))
        if not request.path.startswith(("/v1/", "/v2/")):
            return self.pages.answer(request)
        account = self.accounts[self.tokens.merchant(request)]
        for method, pattern, call in account.routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                check_query(request)
                return self._told(*call(request, *match.groups()))
        raise not_found()

    def _told(self, status, value):
        """An answer as PayPal sends it; errors carry their debug id in the body too, those of the OAuth server do not."""
        debug = draw(self.kept_state, 13, "0123456789abcdef")
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
        token = self.tokens.for_merchant(account or self.account().merchant.id)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        query = "?" + urlencode(params) if method == "GET" and params else ""
        body = b"" if method == "GET" or params is None else json.dumps(params).encode()
        status, _, answer = self.handle(method, path + query, {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **named}, body)
        return status, json.loads(answer) if answer else None


def serve(*, port=0, clock=None, state_file=None, **settings):
    """A Running sandbox on 127.0.0.1; fresh ids unless a state file or a seed says otherwise. `.url`, `.sandbox`, `.stop()`."""
    settings.setdefault("seed", secrets.token_hex(16))
    return Running(PayPalSandbox(clock=clock or SandboxClock(), state_file=state_file, **settings), port, "paypal")


def main(arguments=None):
    """Runs the sandbox until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.sandbox.paypal", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8004)
    parser.add_argument("--webhook", help=f"where the events of the merchant {MERCHANT.id} go, as webhook {MERCHANT.webhook_ids[0]}")
    parser.add_argument("--state", help="JSON file that keeps everything across restarts")
    parser.add_argument("--clock", help="JSON file of the shared clock")
    given = parser.parse_args(arguments)
    endpoints = [Endpoint(given.webhook, MERCHANT.id, MERCHANT.webhook_ids[0])] if given.webhook else []
    running = serve(port=given.port, clock=SandboxClock(given.clock), state_file=given.state, endpoints=endpoints)
    running.until_interrupted("PayPal")


if __name__ == "__main__":
    main()
