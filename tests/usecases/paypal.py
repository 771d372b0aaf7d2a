"""PayPal in process: the server sells through it, members buy and change things there, and what it tells is taken in."""
import copy
import json

from infra.local.sandbox.paypal import MERCHANT, Merchant
from tests.usecases.product import ADA, GOLD, SERVER, SILVER

MONTH = {"interval_unit": "MONTH", "interval_count": 1}
OWNER = "959999999999999999"
SECOND = Merchant("RKEEPSANDBX33", "AZ" + "second-client__" * 5 + "YES", "EP" + "second-secret__" * 5 + "YES", webhook_ids=("5RK00000000000002",))


class PayPal:
    """The merchant `id` at PayPal, whose plans the server sells, beside what it sells through Stripe."""

    def __init__(self, product, *, id=MERCHANT.id, bound=True):
        self.product, self.id, self.account, self._plans, self._heard = product, id, product.paypal.accounts[id], {}, set()
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
        for event in [one for one in self.events() if one["id"] not in self._heard]:
            self.take_in(event)
        self.forgets()
        return self.product.work()

    def forgets(self):
        """What PayPal has told until now never arrives."""
        self._heard |= {event["id"] for event in self.events()}

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

    def ends(self, name):
        """The instant at which PayPal takes the next payment, or None."""
        from chalicelib.domain.paypal import instant
        following = self.at_paypal("GET", f"/v1/billing/subscriptions/{name}")["billing_info"].get("next_billing_time")
        return following and instant(following)

    def until(self, moment):
        """The clock stands at that instant; nothing is heard meanwhile."""
        self.product.advance(moment - int(self.product.clock.now()))
        self.forgets()

    def swept(self, user=ADA):
        """What Discord shows after a sweep."""
        self.product.sweep()
        return self.product.shown(user)

    def says(self, kind, resource):
        """An event of this type about this resource has been worked on, whether it ever happened or not; answers how many messages failed."""
        self._said = getattr(self, "_said", 0) + 1
        self.take_in({"id": f"WH-SAID{self._said}", "event_type": kind, "resource": resource})
        return self.product.work()

    def comes_again(self, times=1):
        """What waits in the queue, delayed, has been worked on, so many times."""
        for _ in range(times):
            self.product.time.passes(901)
            self.product.work()

    def asked(self):
        """[method and path] of what PayPal's API was asked until now."""
        return [f"{entry['method']} {entry['path']}" for entry in self.product.paypal.front.log]


def second_account(product, monkeypatch):
    """Another merchant at the same PayPal, whose credentials the product has as well; its plans are sold by nobody yet."""
    from chalicelib import settings
    monkeypatch.setenv("PAYPAL_ACCOUNTS", ",".join(f"{one.id}:{one.client_id}:{one.secret}:{one.webhook_ids[0]}" for one in (MERCHANT, SECOND)))
    settings.get.cache_clear()
    product.paypal.add_merchant({"id": SECOND.id, "client_id": SECOND.client_id, "secret": SECOND.secret, "webhook_ids": list(SECOND.webhook_ids)})
    return PayPal(product, id=SECOND.id, bound=False)


def kept(product):
    """Everything that the product and Discord keep, over tables in memory; `put_back` makes it so again."""
    return copy.deepcopy((vars(product.aws.tables), vars(product.aws.queues) | {"now": None}, product.discord.state))


def put_back(product, snapshot):
    tables, queues, discord = copy.deepcopy(snapshot)
    vars(product.aws.tables).update(tables)
    vars(product.aws.queues).update(queues | {"now": product.aws.queues.now})
    product.discord.state.clear()
    product.discord.state.update(discord)
    product.discord.limits._windows.clear()     # the clock stands still, and these calls were not made one after the other
