"""Who the bench measures with: a server that sells one role, and members who have bought it, all by the product's own roads."""
import json
import time

from chalice.config import Config

from infra.local import demo, functions
from infra.local.run import STRIPE_KEY, WEBHOOK_SECRET
from infra.local.sandbox.discord import SANDBOX_APP
from infra.local.sandbox.stripe_webhooks import signature
from infra.local.walker import GOOD_CARD, Browser, Sandboxes
from infra.local.web import Gateway

PORTAL = "https://portal.example"   # over https, as deployed: cookies have their deployed names
SERVER, ROLE, OFFER = "970000000000000001", "971000000000000001", "supporter"
WEBHOOKS = "/webhooks/stripe/operator"
JSON = {"content-type": "application/json"}


def settings(stripe_url, discord_url):
    """The product's environment. There is no CLOCK_URL: the sandboxes' clock stands at real time, and deployed there is none."""
    return {
        "STAGE": "local", "PUBLIC_URL": PORTAL, "STRIPE_API_BASE": stripe_url, "STRIPE_API_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET, "DISCORD_API_BASE": f"{discord_url}/api/v10",
        "DISCORD_AUTHORIZE_URL": f"{discord_url}/oauth2/authorize", "DISCORD_CLIENT_ID": SANDBOX_APP["client_id"],
        "DISCORD_CLIENT_SECRET": SANDBOX_APP["client_secret"], "DISCORD_BOT_TOKEN": SANDBOX_APP["bot_token"]}


class Town:
    """The furnished server, and the product in this process, called as Lambda calls it. The environment is the product's."""

    def __init__(self, aws, stripe_url, discord_url):
        import app
        self.aws, self.stripe_url, self.sandbox = aws, stripe_url, Sandboxes(stripe_url, discord_url)
        self._gateway, self._browser, self._people, self._events = Gateway(app.app, Config()), Browser(), 0, 0
        self.functions = {each.name: each for each in functions.queue_functions(app.app) + functions.scheduled_functions(app.app)}
        self._furnish()

    def _furnish(self):
        from chalicelib.store import servers
        self.sandbox.discord("PUT", f"/guilds/{SERVER}", {
            "name": "Bench", "owner_id": "979999999999999999", "roles": [{"id": ROLE, "name": "Supporter"}]})
        price = demo.make_price(self.stripe_url, STRIPE_KEY, name="Supporter", amount=500)
        servers.write(SERVER, {
            "name": "Bench", "accounts": ["operator"], "terms_url": "https://bench.example/terms", "role_names": {ROLE: "Supporter"},
            "offers": {OFFER: {"name": "Supporter", "roles": [ROLE], "prices": [
                {"account": "operator", "id": price, "amount": 500, "currency": "eur", "interval": "month"}]}}})

    def somebody(self):
        """The id of a new person who is in the server."""
        self._people += 1
        user = str(972_000_000_000_000_000 + self._people)
        self.sandbox.discord("PUT", f"/users/{user}", {"username": f"user{user}", "global_name": f"Person {self._people}"})
        self.sandbox.join(SERVER, user)
        return user

    def buys(self, user):
        """The person has paid for the offer, and nothing has been delivered; answers the subscription as Stripe shows it."""
        from chalicelib import checkout, ports
        page = self._browser.open(checkout.start(user=user, server_id=SERVER, offer_id=OFFER, deadline=ports.wall() + 25))
        form = page.form("Subscribe")
        self._browser.session.post(form["action"], allow_redirects=False, timeout=15, data={
            **form["fields"], "email": f"user{user}@example.org", "number": GOOD_CARD})
        return next(event["data"]["object"] for event in reversed(self.sandbox.events())
                    if event["data"]["object"]["object"] == "subscription")

    def becomes(self, subscription, status):
        """The subscription, which Stripe now shows in this status."""
        return self.sandbox.patch_subscription(subscription["id"], status=status)

    def webhook(self, subscription):
        """(path, headers, body) of a signed delivery that tells of this subscription."""
        self._events += 1
        body = json.dumps({
            "id": f"evt_bench{self._events}", "object": "event", "type": "customer.subscription.updated", "livemode": False,
            "api_version": "2026-10-28.endive", "created": int(time.time()), "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None}, "data": {"object": subscription}}, indent=2).encode()
        return WEBHOOKS, JSON | {"stripe-signature": signature(body, (WEBHOOK_SECRET,), time.time())}, body

    def signed_in(self, user):
        """The headers of a signed-in browser's request that may change something."""
        from chalicelib import signin
        from chalicelib.store import sessions
        secret = f"secret-of-{user}"
        sessions.create(secret=secret, user=user, name="Person", wall=time.time())
        return JSON | {"cookie": f"__Host-rolekeep-session={secret}", "x-csrf-token": signin.csrf_token(secret), "origin": PORTAL}

    def call(self, method, path, headers=None, body=None):
        """The product's answer as API Gateway gives it; anything but success ends the bench."""
        answer = self._gateway.handle_request(method=method, path=path, headers=headers or {}, body=body)
        if answer["statusCode"] >= 400:
            raise RuntimeError(f"{method} {path} answered {answer['statusCode']}: {answer['body'][:300]}")
        return answer

    def api_event(self, method, path, headers=None, body=None):
        """What Lambda hands to the API's function for this request."""
        return self._gateway._generate_lambda_event(method, path, headers or {}, body)

    def invoke(self, name, event):
        """The function has done its work on the event; a failed record ends the bench."""
        result, problem = self.functions[name].invoke(event)
        if problem or (result or {}).get("batchItemFailures"):
            raise RuntimeError(f"the function {name} failed: {problem or result}")

    def records(self, queue):
        """The event of all messages that are to be had from the queue; they are taken off it."""
        sqs, found = self.aws.client("sqs"), []
        url = sqs.get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]
        while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for one in got:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            found += [record(one["Body"]) for one in got]
        return {"Records": found}

    def tell(self, subscription):
        """The webhook about the subscription has been taken in and worked on."""
        self.call("POST", *self.webhook(subscription))
        self.invoke("stripe_events", self.records("stripe-events"))


def record(body):
    """An SQS record as Lambda delivers it."""
    return {"messageId": "bench", "receiptHandle": "bench", "body": body, "attributes": {}, "messageAttributes": {}, "md5OfBody": "",
            "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:bench", "awsRegion": "us-east-1"}
