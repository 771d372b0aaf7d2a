"""The product in process: the embedded AWS, both sandboxes without sockets, a wall clock that tests move, and every call counted."""
import contextlib
import io
import json
import time
from collections import Counter
from urllib.parse import urlsplit

import requests
from botocore.client import BaseClient
from requests.adapters import BaseAdapter

from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.discord import SANDBOX_APP, DiscordSandbox
from infra.local.sandbox.http import NoAnswer
from infra.local.sandbox.paypal import MERCHANT, PayPalSandbox
from infra.local.sandbox.stripe import Endpoint, StripeSandbox
from infra.local.sandbox.stripe_webhooks import signature
from infra.local.walker import GOOD_CARD, Browser

PORTAL, STRIPE, DISCORD, PAYPAL = "https://portal.test", "http://stripe.test", "http://discord.test", "http://paypal.test"
KEY, SECRET, CONNECT_SECRET = "sk_test_0000000000000000", "whsec_0000000000000000", "whsec_connect0000000000"
SERVER, OTHER_SERVER = "940000000000000001", "940000000000001001"
GOLD, SILVER, FOREIGN = "941000000000000001", "941000000000000002", "941000000000000003"
ADA, BEN = "950000000000000001", "950000000000000002"
DAY = 86_400
ENVIRONMENT = {
    "STAGE": "local", "PUBLIC_URL": PORTAL, "STRIPE_API_BASE": STRIPE, "STRIPE_API_KEY": KEY, "STRIPE_WEBHOOK_SECRET": SECRET, "STRIPE_CONNECT_WEBHOOK_SECRET": CONNECT_SECRET,
    "DISCORD_API_BASE": f"{DISCORD}/api/v10", "DISCORD_AUTHORIZE_URL": f"{DISCORD}/oauth2/authorize", "DISCORD_CLIENT_ID": SANDBOX_APP["client_id"],
    "DISCORD_CLIENT_SECRET": SANDBOX_APP["client_secret"], "DISCORD_BOT_TOKEN": SANDBOX_APP["bot_token"], "CLOCK_URL": "",
    "PAYPAL_ACCOUNTS": f"{MERCHANT.id}:{MERCHANT.client_id}:{MERCHANT.secret}:{MERCHANT.webhook_ids[0]}", "PAYPAL_ENVIRONMENT": "sandbox",
    "PAYPAL_API_BASE": PAYPAL, "PAYPAL_WEB_BASE": PAYPAL}


class Time:
    """The product's ports: a wall clock that stands where a test puts it, beside the sandboxes' clock."""

    def __init__(self):
        self.at, self.clock = float(int(time.time())), None

    def wall(self):
        return self.at

    def offset(self):
        return int(self.clock.offset)

    def token(self, size=16):
        import secrets
        return secrets.token_urlsafe(size)

    def below(self, n):
        return 0

    def sleep(self, seconds):
        self.passes(seconds)

    def passes(self, seconds):
        """Both clocks are so much further on."""
        self.at += seconds


class Seen:
    """The calls made inside a `counted` block, in order."""

    def __init__(self):
        self.aws, self.http = [], []

    def dynamodb(self):
        """{operation and table: how often}, e.g. {"UpdateItem members": 3}."""
        return dict(Counter(f"{operation} {table}" for service, operation, table in self.aws if service == "dynamodb"))

    def sqs(self):
        """{operation: how often}."""
        return dict(Counter(operation for service, operation, _ in self.aws if service == "sqs"))

    def stripe(self):
        """[method and path of Stripe's API]."""
        return [f"{method} {path}" for base, method, path in self.http if base == STRIPE]

    def paypal(self):
        """[method and path of PayPal's API]."""
        return [f"{method} {path}" for base, method, path in self.http if base == PAYPAL]

    def discord(self):
        """[method and path of Discord's API, without the version]."""
        return [f"{method} {path.removeprefix('/api/v10')}" for base, method, path in self.http if base == DISCORD]


class Wire(BaseAdapter):
    """Carries requests to a sandbox in this process, as bytes, and tells `heard` of each."""

    def __init__(self, base, handle, heard):
        super().__init__()
        self.base, self.handle, self.heard, self.down = base, handle, heard, None

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        """The sandbox's answer; a connection that ends without one raises what requests raises."""
        parts = urlsplit(request.url)
        self.heard(self.base, request, parts.path)
        if self.down:
            raise self.down
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        try:
            status, headers, content = self.handle(request.method, parts.path + (f"?{parts.query}" if parts.query else ""), dict(request.headers), body)
        except NoAnswer as lost:
            raise (requests.ReadTimeout if lost.why == "timeout" else requests.ConnectionError)(("aborted", lost)) from None
        answer = requests.Response()
        answer.status_code, answer._content, answer.url, answer.request = status, content, request.url, request
        answer._content_consumed, answer.raw = True, io.BytesIO(content)    # for who reads in parts
        answer.headers = requests.structures.CaseInsensitiveDict(headers)
        answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
        if "Set-Cookie" in answer.headers:
            from requests.cookies import extract_cookies_to_jar
            answer.raw = _Raw(answer.headers)
            extract_cookies_to_jar(answer.cookies, request, answer.raw)
        return answer

    def close(self):
        pass


class _Raw:
    """As much of a urllib3 response as the cookie jar of requests reads."""

    def __init__(self, headers):
        from email.message import Message
        message = Message()
        message["Set-Cookie"] = headers["Set-Cookie"]
        self._original_response = type("Original", (), {"msg": message})()


class Product:
    """Everything around the product, and what happens to it. Use inside `running`."""

    def __init__(self, aws, ports, post=lambda url, headers, body: 200):
        self.aws, self.time, self._seen, self.sent = aws, ports, [], []
        self.time.clock = self.clock = SandboxClock(wall=ports.wall)
        self.stripe = StripeSandbox(clock=self.clock, endpoints=[Endpoint(f"{PORTAL}/webhooks/stripe/operator", (SECRET,))], public_url=STRIPE, api_keys=(KEY,),
                                    post=post)
        self.discord = DiscordSandbox(clock=self.clock, app={"redirect_uris": [f"{PORTAL}/auth/discord/callback"]})
        self.paypal = PayPalSandbox(clock=self.clock, public_url=PAYPAL)
        self.wires = {PAYPAL: Wire(PAYPAL, self.paypal.handle, self._heard), STRIPE: Wire(STRIPE, self.stripe.handle, self._heard), DISCORD: Wire(DISCORD, self.discord.handle, self._heard)}
        self.prices, self._heard_events = {}, 0
        self._browser = Browser()
        self._mount(self._browser.session)

    def _mount(self, session):
        for base, wire in self.wires.items():
            session.mount(base, wire)

    def _heard(self, base, request, path):
        self.sent.append((base, request))
        for seen in self._seen:
            seen.http.append((base, request.method, path))

    @contextlib.contextmanager
    def counted(self):
        """Yield a Seen that fills with every call made inside the block."""
        seen = Seen()
        self._seen.append(seen)
        before = BaseClient._make_api_call

        def counting(client, operation, params):
            table = params.get("TableName") or "+".join(params.get("RequestItems", {})) or params.get("QueueUrl", "").rsplit("/", 1)[-1]
            seen.aws.append((client._service_model.service_name, operation, table.removeprefix("rolekeep-local-")))
            return before(client, operation, params)

        BaseClient._make_api_call = counting
        try:
            yield seen
        finally:
            BaseClient._make_api_call = before
            self._seen.remove(seen)

    # The world

    def furnish(self, server=SERVER):
        """The server sells gold (500), silver (300) and both (700); it stands in Discord with Ada and Ben in it."""
        from chalicelib.store import servers
        self.control("PUT", f"/guilds/{server}", {"name": "Pixel", "owner_id": "959999999999999999", "roles": [
            {"id": role, "name": role} for role in (GOLD, SILVER, FOREIGN)]})
        for user in (ADA, BEN):
            self.control("PUT", f"/users/{user}", {"username": user, "global_name": f"Canary {user}"})
            self.control("PUT", f"/guilds/{server}/members/{user}")
        servers.write(server, {"name": "Pixel", "accounts": ["operator"], "terms_url": "https://pixel.example/terms", "role_names": {GOLD: "Gold"}, "offers": {
            name: {"name": name, "roles": list(roles), "prices": [self.price(amount)]}
            for name, amount, roles in (("gold", 500, [GOLD]), ("silver", 300, [SILVER]), ("both", 700, [GOLD, SILVER]))}})

    def price(self, amount, interval="month", days=None):
        """A price in an offer's form, made at Stripe once; `interval` may be "once", for `days` or for good."""
        if (amount, interval) not in self.prices:
            product = self.stripe.call("POST", "/v1/products", {"name": f"For {amount}"})[1]["id"]
            self.prices[amount, interval] = self.stripe.call("POST", "/v1/prices", {
                "product": product, "unit_amount": amount, "currency": "eur", **({} if interval == "once" else {"recurring[interval]": interval})})[1]["id"]
        return {"account": "operator", "id": self.prices[amount, interval], "amount": amount, "currency": "eur", "interval": interval,
                **({"days": days} if days else {})}

    def sells(self, server=SERVER, **offers):
        """The server sells these offers instead of what it sold: {name: (roles, prices, policies)}."""
        from chalicelib.store import servers
        servers.write(server, {"name": "Pixel", "accounts": ["operator"], "terms_url": "https://pixel.example/terms", "role_names": {GOLD: "Gold"}, "offers": {
            name: {"name": name, "roles": list(roles), "prices": prices, **policies} for name, (roles, prices, policies) in offers.items()}})

    def control(self, method, path, body=None):
        """What the Discord sandbox's control call answers."""
        _, _, content = self.discord.handle(method, f"/_sandbox{path}", {}, json.dumps(body).encode() if body is not None else b"")
        return json.loads(content) if content else None

    def order(self, where, **fault):
        """A fault of one of the sandboxes is in force."""
        {"stripe": self.stripe, "discord": self.discord, "paypal": self.paypal}[where].front.faults.order(fault)

    def shown(self, user=ADA, server=SERVER):
        """The roles that Discord shows."""
        return set(next(m["roles"] for m in self.control("GET", f"/guilds/{server}")["members"] if m["id"] == user))

    def advance(self, seconds):
        """The business clock is further on, the wall clock is not; Stripe has done what fell due."""
        self.clock.advance(seconds)

    # What people do

    def pays(self, url):
        """Somebody pays at the Checkout page with that address; answers the subscription's id."""
        page = self._browser.open(url)
        form = page.form("Subscribe" if page.has_button("Subscribe") else "Pay")
        self._browser.session.post(form["action"], data={**form["fields"], **({"email": "ada@canary.example"} if "email" in form["fields"] else {}),
                                                          "number": GOOD_CARD}, allow_redirects=False)
        session = self.stripe.world.find("checkout.session", url.rsplit("/", 1)[1].partition("#")[0])
        return session["id"] if session["mode"] == "payment" else session["subscription"]

    def buys(self, offer="gold", user=ADA, server=SERVER):
        """The member has bought the offer through us; nothing has been delivered. Answers the subscription's id."""
        from chalicelib import checkout, ports
        return self.pays(checkout.start(user=user, server_id=server, offer_id=offer, deadline=ports.wall() + 25))

    def holder(self, offer="gold", user=ADA, server=SERVER):
        """The id of a subscription whose roles the member holds, with nothing left to do."""
        key = self.buys(offer, user, server)
        self.tell(key)
        self.work()
        return key

    def ends(self, key):
        """Stripe has ended the subscription."""
        self.stripe.call("DELETE", f"/v1/subscriptions/{key}")

    # Messages

    def events(self, key):
        """Stripe's events about the subscription itself, oldest first."""
        return [event for event in self.stripe.world.all("event") if event["data"]["object"].get("id") == key]

    def hears(self):
        """Every event of Stripe's that is new since the last time has been taken in, and all messages worked on."""
        events = list(self.stripe.world.all("event"))
        for event in events[self._heard_events:]:
            self.take_in(event)
        self._heard_events = len(events)
        return self.work()

    def order_stripe(self, method, path, body=None):
        """What a control call of the Stripe sandbox answers."""
        status, _, content = self.stripe.handle(method, f"/_sandbox/{path}", {}, json.dumps(body or {}).encode())
        assert status < 300, content
        return json.loads(content) if content else None

    def subscription(self, key, user=ADA, server=SERVER):
        """The subscription or purchase as the member's profile shows it."""
        from chalicelib import profile
        from chalicelib.store.sessions import Member
        shown = profile.profile("secret", Member(user, "Ada"))
        return next(sub for one in shown["servers"] if one["id"] == server for sub in one["subscriptions"] if sub["id"] == key)

    def tell(self, key, times=1):
        """The newest event about the subscription has been taken in so many times."""
        for _ in range(times):
            self.take_in(self.events(key)[-1])

    def take_in(self, event):
        """What the intake answers to this event, signed."""
        from chalicelib import intake
        body = json.dumps(event).encode()
        return intake.stripe(body, signature(body, (SECRET,), self.time.at))

    def messages(self, queue):
        """The SQS records, as Lambda gets them, that are to be had now; they are taken off the queue."""
        sqs, found = self.aws.client("sqs"), []
        url = sqs.get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]
        while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for one in got:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            found += [{"messageId": one["MessageId"], "body": one["Body"]} for one in got]
        return found

    def delayed(self, queue):
        """How many messages wait, delayed."""
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]
        name = "ApproximateNumberOfMessagesDelayed"
        return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def work(self, *, seconds=60):
        """All messages that are to be had have been worked on; answers how many failed."""
        from chalicelib import worker
        failed = 0
        for queue, handle in (("stripe-events", worker.stripe_event), ("paypal-events", worker.paypal_event), ("members", worker.member)):
            failed += len(worker.run(self.messages(queue), handle=handle, remaining=lambda: seconds)["batchItemFailures"])
        return failed

    def sweep(self):
        """The due sweep has run, and what it sent has been worked on; answers how many it sent."""
        from chalicelib import sweep
        sent = sweep.due(remaining=lambda: 60, limit=60)
        self.work()
        return sent

    def row(self, user=ADA, server=SERVER):
        """The membership."""
        from chalicelib.store import members
        return members.read(user, server)

    def signed_in(self, user=ADA):
        """(secret, CSRF token) of a new web session."""
        from chalicelib import signin
        from chalicelib.store import sessions
        secret = f"secret-of-{user}-{self.time.token()}"
        sessions.create(secret=secret, user=user, name="Ada", wall=self.time.at)
        return secret, signin.csrf_token(secret)


def key_of(subscription):
    """The key under which we know an operator's subscription."""
    return f"stripe:operator:{subscription}"
