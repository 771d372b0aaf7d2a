"""A connected Stripe account in process: what its owner does at Stripe and here, and the events that come of it."""
import json

from infra.local.sandbox.stripe_webhooks import signature
from infra.local.walker import GOOD_CARD
from tests.usecases.product import ADA, BEN, CONNECT_SECRET, FOREIGN, GOLD, SERVER, SILVER

OLGA, OTTO = "959999999999999991", "959999999999999992"


class Shop:
    """The connected account `id`, standing at Stripe as `wish` says."""

    def __init__(self, product, account, **wish):
        self.product, self.id, self._prices = product, account, {}
        self.order("POST", "accounts", {"id": account, **wish})

    def order(self, method, path, wish=None, **headers):
        """A control call of the Stripe sandbox."""
        status, _, content = self.product.stripe.handle(method, f"/_sandbox/{path}", headers, json.dumps(wish or {}).encode())
        assert status < 300, content
        return json.loads(content)

    def at_stripe(self, method, path, params=()):
        """The answer of Stripe's API, as the account."""
        status, answer = self.product.stripe.call(method, path, params, stripe_account=self.id)
        assert status < 300, answer
        return answer

    @property
    def world(self):
        return self.product.stripe.accounts.connected[self.id].world

    def price(self, amount):
        """A monthly price of this account in an offer's form."""
        if amount not in self._prices:
            made = self.at_stripe("POST", "/v1/products", {"name": f"For {amount}"})["id"]
            self._prices[amount] = self.at_stripe("POST", "/v1/prices", {
                "product": made, "unit_amount": amount, "currency": "eur", "recurring[interval]": "month"})["id"]
        return {"account": self.id, "id": self._prices[amount], "amount": amount, "currency": "eur", "interval": "month"}

    def furnish(self, server=SERVER, *, bound=True, owner=OLGA, accounts=("operator",), also=()):
        """The server, with Ada and Ben in it, sells gold, silver and both through this account (`also`: prices besides); connected."""
        self.product.control("PUT", f"/guilds/{server}", {"name": "Shop", "owner_id": owner, "roles": [
            {"id": role, "name": role} for role in (GOLD, SILVER, FOREIGN)]})
        for user in (ADA, BEN):
            self.product.control("PUT", f"/users/{user}", {"username": user, "global_name": user})
            self.product.control("PUT", f"/guilds/{server}/members/{user}")
        from chalicelib.store import servers
        servers.write(server, {"name": "Shop", "accounts": list(accounts), "terms_url": "https://shop.example/terms", "role_names": {}, "offers": {
            name: {"name": name, "roles": list(roles), "prices": [self.price(amount), *also]}
            for name, amount, roles in (("gold", 500, [GOLD]), ("silver", 300, [SILVER]), ("both", 700, [GOLD, SILVER]))}})
        return self.connect(server, owner=owner) if bound else None

    def connect(self, server=SERVER, *, owner=OLGA, **more):
        """What connecting it to the server answers."""
        from chalicelib import connect
        return connect.connect(server_id=server, account=self.id, owner=owner, deadline=self.product.time.at + 25, **more)

    def disconnect(self):
        """Its owner has taken our access away at Stripe, and we have been told and have worked on it."""
        self.order("POST", f"accounts/{self.id}/disconnect")
        self.take_in(self.events("account.application.deauthorized")[-1])
        self.product.work()

    def reconnect(self):
        """Its owner has given us access again, at Stripe only."""
        self.order("POST", f"accounts/{self.id}/reconnect")

    def buys(self, offer="gold", user=ADA, server=SERVER):
        """The member has bought the offer through us; nothing has been delivered. Answers the subscription's id."""
        from chalicelib import checkout, ports
        url = checkout.start(user=user, server_id=server, offer_id=offer, deadline=ports.wall() + 25)
        browser = self.product._browser
        form = browser.open(url).form("Subscribe")
        browser.session.post(form["action"], allow_redirects=False, data={
            **form["fields"], **({"email": "ada@canary.example"} if "email" in form["fields"] else {}), "number": GOOD_CARD})
        return list(self.world.all("subscription"))[-1]["id"]

    def holder(self, offer="gold", user=ADA, server=SERVER):
        """The id of a subscription whose roles the member holds, with nothing left to do."""
        key = self.buys(offer, user, server)
        self.tell(key)
        self.product.work()
        return key

    def ends(self, key):
        """Stripe has ended the subscription."""
        self.at_stripe("DELETE", f"/v1/subscriptions/{key}")

    def events(self, kind=None, about=None):
        """The account's events of this type, or about this object, oldest first."""
        return [event for event in self.world.all("event") if kind in (None, event["type"])
                and about in (None, event["data"]["object"].get("id"))]

    def take_in(self, event, *, secret=CONNECT_SECRET, endpoint="connect"):
        """What the intake answers to this event, signed."""
        from chalicelib import intake
        body = json.dumps(event).encode()
        return intake.stripe(body, signature(body, (secret,), self.product.time.at), endpoint=endpoint)

    def tell(self, key):
        """The newest event about the subscription has been taken in."""
        self.take_in(self.events(about=key)[-1])

    def key_of(self, subscription):
        return f"stripe:{self.id}:{subscription}"


def parked(account):
    """[why] of what is parked for the account, in order."""
    from chalicelib.store import ledger
    return sorted(entry.data["why"] for entry in ledger.parked(account))
