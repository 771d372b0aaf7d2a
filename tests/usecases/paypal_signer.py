"""PayPal as the sender of webhooks, for tests of the verification: its sandbox's certificates behind the product's own HTTP session."""
import json

from requests.adapters import BaseAdapter

from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.paypal import MERCHANT, PayPalSandbox
from infra.local.sandbox.paypal_webhooks import Endpoint
from infra.local.sandbox.paypal_world import Merchant
from tests.usecases.product import PORTAL, Wire

PAYPAL = "http://paypal.test"
WEBHOOK, OTHER_WEBHOOK, NEXT_WEBHOOK = "5RK00000000000001", "6RK00000000000001", "7RK00000000000001"
OTHER = Merchant("ANTHERMERCH22", "B" * 80, "C" * 80)
SUBSCRIPTION = "I-BW452GLLEP1G"


class Nowhere(BaseAdapter):
    """Every address that is not a sandbox's: that it was asked at all is kept in `asked`, and it never answers."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def send(self, request, **_):
        self.asked.append(request.url)
        raise OSError("there is nothing")

    def close(self):
        pass


class Signer:
    """`sandbox` with two merchants; `delivery(...)` makes signed ones; `asked` are the certificates that the product asked for."""

    def __init__(self, time):
        self.time, self.asked, self.nowhere = time, [], Nowhere()
        self.sandbox = PayPalSandbox(clock=SandboxClock(wall=time.wall), accounts=(MERCHANT, OTHER), public_url=PAYPAL, post=lambda url, headers, body: 200, endpoints=(
            Endpoint(f"{PORTAL}/webhooks/paypal/{MERCHANT.id}", MERCHANT.id, WEBHOOK), Endpoint(f"{PORTAL}/webhooks/paypal/{OTHER.id}", OTHER.id, OTHER_WEBHOOK)))
        self.certificates = self.sandbox.webhooks.certificates

    def environment(self):
        """The product's settings for this PayPal."""
        return {
            "PAYPAL_ACCOUNTS": f"{MERCHANT.id}:{MERCHANT.client_id}:{MERCHANT.secret}:{WEBHOOK}+{NEXT_WEBHOOK},{OTHER.id}:{OTHER.client_id}:{OTHER.secret}:{OTHER_WEBHOOK}",
            "PAYPAL_ENVIRONMENT": "sandbox", "PAYPAL_API_BASE": PAYPAL, "PAYPAL_WEB_BASE": PAYPAL, "PAYPAL_CERT_BASE": PAYPAL,
            "PAYPAL_TRUST_ROOT": self.certificates.root}

    def mount(self, session):
        """The session reaches this PayPal, and nobody else."""
        for scheme in ("http://", "https://", "file:"):
            session.mount(scheme, self.nowhere)
        session.mount(PAYPAL, Wire(PAYPAL, self.sandbox.handle, lambda base, request, path: self.asked.append(path)))

    def delivery(self, event=None, *, webhook=WEBHOOK, body=None):
        """(headers, raw body) of an event as PayPal sends it, now."""
        body = json.dumps(event or self.event(), separators=(",", ":"), ensure_ascii=False).encode() if body is None else body
        return self.sandbox.webhooks.signed(body, webhook), body

    def event(self, kind="BILLING.SUBSCRIPTION.ACTIVATED", resource=None, key="WH-1AB23456CD789012E-3FG45678HJ901234K", **fields):
        """An event in PayPal's form."""
        return {"id": key, "event_version": "1.0", "create_time": "2026-01-31T12:00:00.000Z", "resource_type": "subscription", "event_type": kind,
                "summary": "Subscription activated", "resource": {"id": SUBSCRIPTION, "note": "ä 1.0 /"} if resource is None else resource, **fields}


def lower(headers):
    """As API Gateway's and Chalice's: names without regard to case."""
    return {name.lower(): value for name, value in headers.items()}
