"""PayPal in process: the server sells through it, members buy and change things there, and what it tells is taken in."""
import json

from infra.local.sandbox.paypal import MERCHANT
from tests.usecases.product import ADA, GOLD, SERVER, SILVER

MONTH = {"interval_unit": "MONTH", "interval_count": 1}
OWNER = "959999999999999999"


class PayPal:
    """The merchant `id` at PayPal, whose plans the server sells, beside what it sells through Stripe."""

    def __init__(self, product, *, id=MERCHANT.id, bound=True):
        self.product, self.id, self.account, self._plans, self._heard = product, id, product.paypal.accounts[id], {}, 0
        if bound:
            self.bind()

    def bind(self, server=SERVER):
        """The account is connected to the server, without asking PayPal about its webhooks."""
        from chalicelib.store import accounts, servers
        accounts.bind(self.id, server=server, owner=OWNER, at=int(self.product.time.at), why="connected")
        servers.use_account(server, self.id)

    def at_paypal(self, method, path, wish=None, *, status=None):
        """The answer of PayPal's API, as the account."""
        answered, answer = self.product.paypal.call(method, path, wish, account=self.id)
        assert answered == status if status else answered < 300, answer
        return answer

    def plan(self, amount, *, cycles=(), regular=None, name=None, total=0, **preferences):
        """The id of a plan for so many cents a month (`regular` another frequency), after other `cycles`."""
        key = name or (amount, str(cycles), str(regular), total, str(preferences))
        if key not in self._plans:
            made = self.at_paypal("POST", "/v1/catalogs/products", {"name": f"For {amount}", "type": "DIGITAL"})["id"]
            cycle = {"tenure_type": "REGULAR", "sequence": len(cycles) + 1, "total_cycles": total, "frequency": regular or MONTH,
                     "pricing_scheme": {"fixed_price": {"value": f"{amount / 100:.2f}", "currency_code": "EUR"}}}
            self._plans[key] = self.at_paypal("POST", "/v1/billing/plans", {
                "product_id": made, "name": f"For {amount}", "billing_cycles": [*cycles, cycle],
                "payment_preferences": {"payment_failure_threshold": 2, **preferences}})["id"]
        return self._plans[key]

    def price(self, amount, **plan):
        """A plan in an offer's form."""
        return {"account": self.id, "id": self.plan(amount, **plan), "amount": amount, "currency": "eur", "interval": "month"}

    def sells(self, *, trial=None, plan=None, **policies):
        """The server sells gold and silver through Stripe and PayPal."""
        cycles = () if trial is None else ({"tenure_type": "TRIAL", "sequence": 1, "total_cycles": 1,
                                            "frequency": {"interval_unit": "DAY", "interval_count": trial}},)
        self.product.sells(SERVER, **{
            name: ([role], [self.product.price(amount), self.price(amount, cycles=cycles, **(plan or {}))], policies)
            for name, amount, role in (("gold", 500, GOLD), ("silver", 300, SILVER))})
        self.bind()
        return self

    def begins(self, offer="gold", user=ADA):
        """The record at PayPal of a subscription that waits for the buyer's approval, begun by a click here."""
        from chalicelib import checkout, ports
        url = checkout.start(user=user, server_id=SERVER, offer_id=offer, processor="paypal", deadline=ports.wall() + 25)
        return self.of(url)

    def of(self, url):
        """The record whose approval page has this address."""
        return next(sub for sub in self.account.world.all("subscription") if sub["ba_token"] in url)

    def order(self, method, path, wish=None):
        """What a control call of the sandbox answers."""
        status, _, content = self.product.paypal.handle(method, f"/_sandbox/{path}", {}, json.dumps(wish or {}).encode())
        assert status < 300, content
        return json.loads(content) if content else None

    def approves(self, sub, email="ada@canary.example"):
        """The buyer agrees on PayPal's page."""
        return self.order("POST", f"subscriptions/{sub['id']}/approve", {"email": email})["id"]

    def acts(self, name, action, by="buyer"):
        """Somebody suspends, activates or cancels it on PayPal's own pages."""
        return self.order("POST", f"subscriptions/{name}/{action}", {"by": by})

    def fails(self, name, funding="failing"):
        """The buyer's money cannot be had from now on, or can be again (`good`)."""
        self.order("PATCH", f"subscriptions/{name}", {"funding": funding})

    def buys(self, offer="gold", user=ADA):
        """The member has bought the offer; nothing of it has been delivered. Answers the subscription's id."""
        return self.approves(self.begins(offer, user))

    def holder(self, offer="gold", user=ADA):
        """The id of a subscription whose roles the member holds, with nothing left to do."""
        name = self.buys(offer, user)
        self.hears()
        return name

    def sub(self, name):
        """The record at PayPal."""
        return self.account.world.find("subscription", name)

    def sale(self, name, number=-1):
        """One of the subscription's sales, the newest one."""
        return [sale for sale in self.account.world.all("sale") if sale["billing_agreement_id"] == name][number]

    def events(self, kind=None):
        """What PayPal has told, oldest first."""
        return [event for event in self.account.world.all("event") if kind in (None, event["event_type"])]

    def take_in(self, event, **more):
        """The event is in the queue, as the intake puts it there."""
        from chalicelib.gateways import queues
        from chalicelib.intake import thin_paypal
        if message := thin_paypal(event, self.id):
            queues.send(queues.PAYPAL_EVENTS, message | more)

    def hears(self):
        """Every event that is new since the last time has been taken in, and all messages worked on."""
        told = self.events()
        for event in told[self._heard:]:
            self.take_in(event)
        self._heard = len(told)
        return self.product.work()

    def forgets(self):
        """What PayPal has told until now never arrives."""
        self._heard = len(self.events())

    def key(self, name):
        return f"paypal:{self.id}:{name}"

    def clicks(self, name, when="period_end", user=ADA):
        """The receipt of a click on cancel."""
        from chalicelib import cancel, ports
        return cancel.cancel(user=user, subscription_id=name, reason=None, comment=None, when=when, deadline=ports.wall() + 60)

    def undoes(self, name, user=ADA):
        """Where PayPal asks the member to approve the offer anew."""
        from chalicelib import cancel, ports
        return cancel.undo(user=user, subscription_id=name, deadline=ports.wall() + 60)["url"]

    def shows(self, name, user=ADA):
        """The subscription as the member's profile shows it."""
        return self.product.subscription(name, user)
