"""A PayPal merchant in process for tests: every answer is held to the official files by the sandbox itself."""
import json
from urllib.parse import parse_qs, urlencode, urlsplit

from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.paypal import MERCHANT, PayPalSandbox
from infra.local.sandbox.paypal_webhooks import Endpoint
from infra.local.sandbox.paypal_world import Options

JAN_31 = 1769860800  # 2026-01-31T12:00:00Z
DAY = 86400
HOOK = "http://product.test/webhooks/paypal/" + MERCHANT.id
ADA = "ada@example.com"


class Shop:
    """One merchant with a plan of 5.00 EUR a month, one webhook that notes what it gets, a wall clock that only the test moves."""

    def __init__(self, *, start=JAN_31, state_file=None, accounts=(MERCHANT,), **options):
        self.wall, self.received, self.cookie = start, [], ""
        self.clock = SandboxClock(wall=lambda: self.wall)
        self.sandbox = PayPalSandbox(clock=self.clock, accounts=accounts, state_file=state_file, options=Options(**options), post=self._receive,
                                     endpoints=[Endpoint(HOOK, MERCHANT.id, MERCHANT.webhook_ids[0])], public_url="http://paypal.test")
        self._plan = None

    def _receive(self, url, headers, body):
        self.received.append(json.loads(body))
        return 200

    def api(self, method, path, params=None, expect=200, **more):
        """The parsed answer of an API request, after checking its status."""
        status, answer = self.sandbox.call(method, path, params, **more)
        assert status == expect, answer
        return answer

    def issue(self, method, path, params=None, status=422, **more):
        """The issue of a request that must be refused."""
        return self.api(method, path, params, expect=status, **more)["details"][0]["issue"]

    def control(self, method, path, body=None, expect=(200, 201, 204)):
        """The parsed answer of a control call."""
        status, _, payload = self.sandbox.handle(method, "/_sandbox/" + path, {}, json.dumps(body).encode() if body is not None else b"")
        assert status in ((expect,) if isinstance(expect, int) else expect), payload
        return json.loads(payload or b"null")

    def page(self, method, url, **fields):
        """(status, headers, text) of a hosted page, as the browser of one buyer, who keeps the cookie."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        status, headers, body = self.sandbox.handle(method, target, {"Cookie": self.cookie}, urlencode(fields).encode() if method == "POST" else b"")
        self.cookie = headers.get("Set-Cookie", self.cookie).split(";")[0]
        return status, headers, body.decode()

    def plan(self, **wish):
        """The id of a new plan."""
        return self.control("POST", "plans", {"name": "Gold <b>", "price": "5.00", **wish})["id"]

    def create(self, plan=None, expect=201, **more):
        """The new subscription, which waits for its approval."""
        self._plan = plan or self._plan or self.plan()
        return self.api("POST", "/v1/billing/subscriptions", {
            "plan_id": self._plan, "custom_id": "intent_1", "application_context": {
                "return_url": "http://shop.test/ok?state=1", "cancel_url": "http://shop.test/no"}, **more},
            expect=expect, prefer="return=representation")

    def buy(self, email=ADA, **more):
        """The id of a subscription that was approved on PayPal's page."""
        sub = self.create(**more)
        status, headers, text = self.page("POST", link(sub, "approve"), email=email, funding="good")
        assert status == 303, text
        assert parse_qs(urlsplit(headers["Location"]).query)["subscription_id"] == [sub["id"]]
        return sub["id"]

    def sub(self, key, fields="last_failed_payment"):
        """The subscription as the API shows it."""
        return self.api("GET", f"/v1/billing/subscriptions/{key}", {"fields": fields})

    def info(self, key):
        """Its billing_info."""
        return self.sub(key)["billing_info"]

    def sales(self, key):
        """The ids of its sales, oldest first."""
        return [sale["id"] for sale in self.control("GET", f"subscriptions/{key}/sales")["sales"]]

    def events(self, kind=""):
        """Every event whose type contains `kind`, oldest first."""
        return [event for event in self.control("GET", "events")["events"] if kind in event["event_type"]]

    def types(self, kind=""):
        """Their types."""
        return [event["event_type"] for event in self.events(kind)]

    def days(self, days):
        """The clock is so many days on."""
        self.clock.advance(days * DAY)


def link(thing, rel):
    """The address of one of its links."""
    return next(one["href"] for one in thing["links"] if one["rel"] == rel)
