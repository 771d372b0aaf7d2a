"""A Stripe account in process for tests: every API answer and every event is held to the official schema, or to the SDK's classes."""
import json
from urllib.parse import urlencode, urlsplit

from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.spec import StripeContract
from infra.local.sandbox.stripe import StripeSandbox
from infra.local.sandbox.stripe_webhooks import Endpoint
from infra.local.sandbox.stripe_world import Options

JAN_31 = 1769860800  # 2026-01-31T12:00:00Z
DAY = 86400
HOOK = "http://product.test/webhooks/stripe/operator"
SECRETS = ("whsec_one", "whsec_two")
WORKS, FAILS_LATER, DECLINED = "4242424242424242", "4000000000000341", "4000000000000002"
ASKS = "4000002500003155"  # the bank asks its owner once


def problems(obj):
    """What the official schema or the SDK's class says against an API answer, a list of them, or an event; [] when nothing."""
    return StripeContract(None).problems(obj)


class Account:
    """One product with one monthly price, one webhook endpoint that notes what it gets, a wall clock that only `tick` moves."""

    def __init__(self, *, start=JAN_31, state_file=None, clock_file=None, endpoints=None, **options):
        self.wall, self.got, self.received, self.answers = start, [], [], []
        self.clock = SandboxClock(clock_file, wall=lambda: self.wall)
        self.sandbox = StripeSandbox(
            clock=self.clock, state_file=state_file, post=self._receive, options=Options(**options), public_url="http://stripe.test",
            endpoints=[Endpoint(HOOK, SECRETS)] if endpoints is None else endpoints)
        self.offer = None

    def _receive(self, url, headers, body):
        status = self.answers.pop(0) if self.answers else 200
        self.got.append((headers, body))
        self.received.append((url, json.loads(body)))
        return status

    def api(self, method, path, params=(), expect=200, **headers):
        """The parsed answer, after checking its status and its shape."""
        status, answer = self.sandbox.call(method, path, params, **headers)
        assert status == expect, answer
        assert problems(answer) == []
        return answer

    def refused(self, method, path, params=(), status=400, **headers):
        """The error of a request that must be refused."""
        return self.api(method, path, params, expect=status, **headers)["error"]

    def page(self, method, url, fields=()):
        """(status, headers, text) of a hosted page."""
        parts = urlsplit(url)
        status, headers, body = self.sandbox.handle(method, parts.path, {}, urlencode(fields).encode() if method == "POST" else b"")
        return status, headers, body.decode()

    def control(self, method, path, body=None, expect=(200, 201, 204), **headers):
        """The parsed answer of a control call."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, _, payload = self.sandbox.handle(method, "/_sandbox/" + path, named, json.dumps(body).encode() if body is not None else b"")
        assert status in ((expect,) if isinstance(expect, int) else expect), payload
        return json.loads(payload or b"null")

    def price(self, interval="month", **more):
        """The id of a new price."""
        product = self.api("POST", "/v1/products", {"name": "Gold <b>"})
        return self.api("POST", "/v1/prices", {"product": product["id"], "currency": "eur", "unit_amount": 500,
                                               "recurring[interval]": interval, **more})["id"]

    def checkout(self, **more):
        """An open Checkout session."""
        self.offer = self.offer or self.price()
        return self.api("POST", "/v1/checkout/sessions", {
            "mode": "subscription", "line_items[0][price]": self.offer, "line_items[0][quantity]": 1, "client_reference_id": "intent_1",
            "subscription_data[metadata][rolekeep_intent]": "intent_1", "success_url": "http://shop.test/ok?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "http://shop.test/no", **more})

    def buy(self, number=WORKS, **more):
        """The subscription that a completed Checkout made."""
        session = self.checkout(**more)
        status, _, text = self.page("POST", session["url"], {"email": "ada@example.com", "number": number})
        assert status == 303, text
        return self.sub(self.api("GET", f"/v1/checkout/sessions/{session['id']}")["subscription"])

    def trial(self, days=14, number=WORKS, **more):
        """The trialing subscription that a completed Checkout made; `number` None: without a card."""
        more |= {"payment_method_collection": "if_required"} if number is None else {}
        return self.buy(number or "", **{"subscription_data[trial_period_days]": days, **more})

    def customer(self, number=WORKS):
        """The id of a new customer, who pays with that card."""
        key = self.api("POST", "/v1/customers", {"email": "bo@example.com"})["id"]
        if number:
            self.control("POST", f"customers/{key}/card", {"number": number})
        return key

    def subscribe(self, *prices, customer=None, expect=200, **more):
        """The subscription that POST /v1/subscriptions made (or its error)."""
        items = {f"items[{place}][price]": price for place, price in enumerate(prices)}
        return self.api("POST", "/v1/subscriptions", {"customer": customer or self.customer(), **items, **more}, expect=expect)

    def invoice(self, key):
        """The invoice as the API shows it."""
        return self.api("GET", f"/v1/invoices/{key}")

    def invoices(self, sub, **more):
        """The subscription's invoices, oldest first."""
        return self.api("GET", "/v1/invoices", {"subscription": sub["id"], "limit": 100, **more})["data"][::-1]

    def sub(self, key):
        """The subscription as the API shows it."""
        return self.api("GET", f"/v1/subscriptions/{key}")

    def configuration(self, **more):
        """A portal configuration with everything on."""
        return self.api("POST", "/v1/billing_portal/configurations", {
            "business_profile[terms_of_service_url]": "https://owner.test/terms", "features[customer_update][enabled]": True,
            "features[customer_update][allowed_updates][0]": "email", "features[invoice_history][enabled]": True,
            "features[payment_method_update][enabled]": True, "features[subscription_cancel][enabled]": True,
            "features[subscription_cancel][mode]": "at_period_end",
            "features[subscription_cancel][cancellation_reason][enabled]": True,
            "features[subscription_cancel][cancellation_reason][options][0]": "too_expensive",
            "features[subscription_pause][enabled]": False, **more})

    def portal(self, customer, configuration=None, **more):
        """A portal session."""
        configuration = configuration or self.configuration()
        return self.api("POST", "/v1/billing_portal/sessions", {
            "customer": customer, "configuration": configuration["id"], "return_url": "http://shop.test/profile", **more})

    def events(self, prefix=""):
        """Every event whose type begins so, oldest first, each checked against the schema."""
        found = [e for e in self.control("GET", "events")["events"] if e["type"].startswith(prefix)]
        assert [problem for event in found for problem in problems(event)] == []
        return found

    def types(self, prefix=""):
        """Their types."""
        return [event["type"] for event in self.events(prefix)]
