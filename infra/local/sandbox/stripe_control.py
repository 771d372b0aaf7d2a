"""Orders to the Stripe sandbox under /_sandbox/ beyond those both sandboxes share (clock, requests, faults)."""
from .control_calls import ControlCalls
from .http import Answer, BadControl, json_answer
from .stripe_billing import OVER, CardDeclined
from .stripe_life_control import LifeOrders, outcome_in
from .stripe_params import no_such
from .stripe_webhooks import Endpoint


class Control(ControlCalls):
    """The control calls; each returns an Answer. Bad orders raise BadControl (400), unknown ids Stripe's 404."""

    def __init__(self, sandbox):
        self.sandbox, self.world = sandbox, sandbox.world
        super().__init__((
            ("GET", "events", self.events),
            ("POST", r"events/([^/]+)/resend", self.resend),
            ("POST", "release", self.release),
            ("POST", r"subscriptions/([^/]+)/renew", self.renew),
            ("POST", r"subscriptions/([^/]+)/retry", self.retry),
            ("PATCH", r"subscriptions/([^/]+)", self.patch),
            ("POST", r"customers/([^/]+)/card", self.card),
            ("POST", "emit", self.emit),
            ("POST", "fail", self.fail),
            ("POST", "portal_configurations", self.dashboard_configuration),
            ("GET", "endpoints", self.show_endpoints),
            ("PUT", "endpoints", self.set_endpoints),
            *LifeOrders(sandbox, self.live).routes(),
            *sandbox.orders(),
        ), options=sandbox.world.options)

    def events(self, wish):
        """Every event with its delivery attempts [{at, status, url}] (status 0: no answer) and what is still waiting."""
        state = self.world.state
        waiting = {}
        for item in self.world.waiting():
            waiting.setdefault(item["event"], []).append({"url": item["url"], "held": item["held"], "tries": item["tries"]})
        return json_answer({"events": [{**event, "attempts": state["attempts"].get(event["id"], []), "waiting": waiting.get(event["id"], [])}
                                       for event in self.world.all("event")]})

    def resend(self, wish, key):
        return json_answer({"resent": self.sandbox.deliveries.resend(self.world.find("event", key))})

    def release(self, wish):
        order = wish.get("order", "as_made")
        if order not in ("as_made", "reverse", "shuffle"):
            raise BadControl("'order' must be as_made, reverse or shuffle")
        return json_answer({"released": self.sandbox.deliveries.release(order)})

    def renew(self, wish, key):
        """The subscription after its current period ended now and the renewal had the outcome."""
        sub = self.live(key)
        if sub["status"] in ("incomplete", "paused"):
            raise BadControl(f"{key} is {sub['status']}: it does not renew")
        self.sandbox.billing.renew_now(sub, outcome_in(wish))
        return json_answer(sub)

    def retry(self, wish, key):
        """The subscription after the next payment attempt on its newest open invoice was made now."""
        sub = self.live(key)
        invoices = self.sandbox.billing.open_invoices(sub)
        if not invoices:
            raise BadControl(f"{key} has no open invoice")
        self.sandbox.billing.pay(invoices[-1], outcome_in(wish, default=None))
        return json_answer(sub)

    def patch(self, wish, key):
        """The subscription with top-level fields set by force (a status, metadata, items ...) and the event of that change."""
        sub = self.world.find("subscription", key)
        unknown = wish.keys() - sub.keys()
        if unknown:
            raise BadControl(f"a subscription has no {sorted(unknown)}")
        self.sandbox.brought_in(wish)
        with self.world.changing(sub, "customer.subscription.updated"):
            sub.update(wish)
        return json_answer(sub)

    def card(self, wish, key):
        """The customer pays with this test card from now on; nothing is charged yet."""
        customer = self.world.find("customer", key)
        try:
            method = self.sandbox.billing.attach(customer, str(wish.get("number", "")))
        except CardDeclined as declined:
            return json_answer({"error": str(declined), "decline_code": declined.code}, 402)
        self.sandbox.billing.use_card(customer, method)
        return json_answer({"payment_method": method})

    def emit(self, wish):
        """An event of any type with any object, signed and delivered like the others."""
        if not isinstance(wish.get("type"), str) or "object" not in wish:
            raise BadControl('send {"type": text, "object": anything, "previous_attributes"?: object, "livemode"?: true}')
        self.sandbox.brought_in(wish)
        return json_answer(self.world.emit(wish["type"], wish["object"], wish.get("previous_attributes"),
                                           livemode=wish.get("livemode") is True), 201)

    def fail(self, wish):
        """The next matching API requests end in a 500 from inside Stripe, before or after they took effect (remembered by key)."""
        if wish.get("when") not in ("before", "after"):
            raise BadControl("'when' must be before or after")
        self.sandbox.fail_next(wish.get("path", ""), method=wish.get("method"), when=wish["when"], times=wish.get("times", 1))
        return Answer(204)

    def dashboard_configuration(self, wish):
        """The default portal configuration after the owner saved it in the Dashboard; {"id": ...} edits any configuration."""
        key = wish.pop("id", None)
        default = next((c for c in self.world.all("billing_portal.configuration") if c["is_default"]), None)
        if key is None and default is None:
            return json_answer(self.sandbox.portal.create(wish, is_default=True), 201)
        return json_answer(self.sandbox.portal.update(key or default["id"], wish))

    def show_endpoints(self, wish):
        return json_answer({"endpoints": [{"url": e.url, "enabled_events": e.enabled_events, "connect": e.connect} for e in self.sandbox.deliveries.endpoints]})

    def set_endpoints(self, wish):
        """The endpoints are these until the next start: {"endpoints": [{"url", "secrets": [...], "enabled_events"?, "connect"?}]}."""
        try:
            fresh = [Endpoint(e["url"], tuple(e["secrets"]), tuple(e.get("enabled_events", ("*",))), e.get("connect") is True)
                     for e in wish["endpoints"]]
        except (KeyError, TypeError):
            raise BadControl('send {"endpoints": [{"url": text, "secrets": [text]}]}') from None
        self.sandbox.deliveries.endpoints[:] = fresh
        return self.show_endpoints(wish)

    def live(self, key):
        """The subscription, which has not ended; Stripe's 404 otherwise."""
        sub = self.world.find("subscription", key)
        if sub["status"] in OVER:
            raise no_such("subscription", key)
        return sub
