"""The operations of Stripe's API that the sandbox carries out: one small function each, and the table that routes to them."""
import re
from dataclasses import dataclass

from . import stripe_objects as objects
from .stripe_billing import OVER, item_end
from .stripe_items import check_together, last_end
from .stripe_params import Refusal, http_url, missing
from .stripe_portal import set_metadata
from .stripe_subscriptions import UPDATES, Subscriptions
from .stripe_trials import wish as trial_wish

CONFIGURATION = ("business_profile", "default_return_url", "features", "login_page", "metadata", "name")
LISTING = ("limit", "starting_after", "ending_before")


@dataclass(frozen=True)
class Route:
    """One operation: `operation` names it as the schema does; `understood` are the parameters the sandbox carries out."""

    method: str
    path: re.Pattern
    operation: str
    carry_out: object
    understood: tuple

    @classmethod
    def of(cls, operation, carry_out, *understood):
        """The route of "POST /v1/prices/{id}"."""
        method, path = operation.split(" ")
        pattern = re.compile(re.sub(r"\{\w+\}", r"([^/]+)", path) + "$")
        return cls(method, pattern, operation, carry_out, understood)


_route = Route.of


class Api:
    """Carries out API operations on one account: each method takes the ids of its path and the typed parameters."""

    def __init__(self, world, billing, portal):
        self.world, self.billing, self.portal = world, billing, portal
        self.subscriptions = Subscriptions(self)
        self.routes = [*_routes(self), *(Route.of(*route) for route in self.subscriptions.routes())]

    def find(self, method, path):
        """The route and its path ids. Refusal for a URL Stripe does not have, or that this sandbox does not."""
        for route in self.routes:
            match = route.path.match(path)
            if match and route.method == method:
                return route, match.groups()
        raise Refusal(404, f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
                           "https://support.stripe.com/.")

    def get(self, kind, param="id"):
        """The operation that shows one object of `kind`."""
        return lambda params, key: self.world.find(kind, key, param)

    # products, prices, customers

    def create_product(self, params):
        return self.world.add(objects.product(params, key="prod_" + self.world.draw(14), now=self.world.now), "product.created")

    def create_price(self, params):
        if "product" not in params:
            raise missing("product")
        if "unit_amount" not in params:
            raise missing("unit_amount")
        self.world.find("product", params["product"], "product")
        return self.world.add(objects.price(params, key="price_1" + self.world.draw(23), now=self.world.now), "price.created")

    def create_customer(self, params):
        world = self.world
        customer = objects.customer(params, key="cus_" + world.draw(14), now=world.now, prefix=world.draw(8).upper())
        return world.add(customer, "customer.created")

    def update_customer(self, params, key):
        customer = self.world.find("customer", key, "customer")
        method = params.get("invoice_settings", {}).get("default_payment_method")
        if method:
            self.world.find("payment_method", method, "invoice_settings[default_payment_method]")
        with self.world.changing(customer, "customer.updated"):
            customer |= {name: params[name] or None for name in ("email", "name", "phone", "description") if name in params}
            set_metadata(customer, params)
            if method:
                customer["invoice_settings"]["default_payment_method"] = method
        return customer

    # checkout

    def create_checkout(self, params):
        lines = params.get("line_items")
        for name in ("mode", "success_url", "line_items"):
            if not params.get(name):
                raise missing(name)
        if params["mode"] == "payment":
            return self.purchases.create(params)
        if params["mode"] != "subscription":
            raise Refusal(400, "This sandbox has no Checkout in setup mode.", code="sandbox_not_implemented", param="mode")
        for name in ("payment_intent_data", "customer_creation"):
            if name in params:
                raise Refusal(400, f"You can not pass `{name}` in `subscription` mode.", param=name)
        if params.get("allowed_payment_method_types", ["card"]) != ["card"]:
            raise Refusal(400, "This sandbox sells subscriptions by card only.", code="sandbox_not_implemented", param="allowed_payment_method_types")
        if any(line.get("quantity", 1) != 1 or "price" not in line for line in lines):
            raise Refusal(400, "This sandbox sells prices with quantity 1.", code="sandbox_not_implemented", param="line_items")
        prices = [self.world.find("price", line["price"], f"line_items[{place}][price]") for place, line in enumerate(lines)]
        for place, price in enumerate(prices):
            self._sellable(price, params, place)
        check_together(prices, flexible=True, mixed=False)
        for name in ("success_url", "cancel_url"):
            if name in params:
                http_url(params[name], name)
        key = "cs_test_a1" + self.world.draw(56)
        session = objects.checkout_session(params, key=key, now=self.world.now, url=f"{self.world.public_url()}/c/pay/{key}", price_object=prices[0])
        data = params.get("subscription_data", {})
        ends, without = trial_wish(data, self.world.now, at="subscription_data", least=2 * 86400)
        session |= dict.fromkeys(("amount_subtotal", "amount_total"), 0 if ends else sum(price["unit_amount"] or 0 for price in prices))
        session["payment_method_collection"] = params.get("payment_method_collection", "always")
        self.world.inside(key).update(prices=[price["id"] for price in prices], metadata=data.get("metadata") or {},
                                      mode=data.get("billing_mode", {}).get("type"), missing=without,
                                      trial={name: data[name] for name in ("trial_period_days", "trial_end") if name in data})
        return self.world.add(session)

    def _sellable(self, price, params, place=0):
        if price["type"] != "recurring":
            raise Refusal(400, "You must provide at least one recurring price in `subscription` mode when using prices.", param="line_items")
        if not price["active"]:
            raise Refusal(400, "The price specified is inactive. This field only accepts active prices.", param=f"line_items[{place}][price]")
        if "customer" in params:
            self.world.find("customer", params["customer"], "customer")
            if "customer_email" in params:
                raise Refusal(400, "You may only specify one of these parameters: customer, customer_email.")
        ends = params.get("expires_at", self.world.now + 86400)
        if not self.world.now + 1800 <= ends <= self.world.now + 86400:
            raise Refusal(400, "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout Session creation.",
                          param="expires_at")

    # subscriptions

    def list_subscriptions(self, params):
        wanted = params.get("status")
        shown = {"all": lambda s: True, "ended": lambda s: s["status"] in OVER, None: lambda s: s["status"] != "canceled"}
        chosen = shown.get(wanted, lambda s: s["status"] == wanted)
        return self.page("subscription", params, "/v1/subscriptions", lambda s: chosen(s)
                          and params.get("customer", s["customer"]) == s["customer"]
                          and ("price" not in params or any(i["price"]["id"] == params["price"] for i in s["items"]["data"])))

    def update_subscription(self, params, key):
        """What Stripe does with one update; a canceled one takes only cancellation_details and metadata."""
        sub = self.world.find("subscription", key)
        changes = params.keys() - {"expand"}
        if sub["status"] in OVER and changes - {"metadata", "cancellation_details"}:
            raise Refusal(400, "A canceled subscription can only update its cancellation_details and metadata.")
        if {"cancel_at", "cancel_at_period_end"} <= changes:
            raise Refusal(400, "You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
        self.subscriptions.check(sub, params)
        when = self._cancel_at(params["cancel_at"], sub) if "cancel_at" in params else None
        if params.get("default_payment_method"):
            method = self.world.find("payment_method", params["default_payment_method"], "default_payment_method")
            if method["customer"] != sub["customer"]:
                raise Refusal(400, f"The customer does not have a payment method with the ID {method['id']}.", param="default_payment_method")
        with self.world.changing(sub, "customer.subscription.updated"):
            self._change(sub, params, when)
            bills = self.subscriptions.change(sub, params)
        for bill in bills:
            bill()
        return sub

    def _change(self, sub, params, when):
        details = {name: value or None for name, value in params.get("cancellation_details", {}).items()}
        flexible = sub["billing_mode"]["type"] == "flexible"
        with self.world.changing(sub):
            set_metadata(sub, params)
            sub["cancellation_details"] |= details
            if "default_payment_method" in params:
                sub["default_payment_method"] = params["default_payment_method"]
            if params.get("cancel_at_period_end"):
                both = not flexible or self.world.options.flag_sets_cancel_at
                self.billing.schedule_end(sub, flag=True, cancel_at=item_end(sub) if both else None, details=details, event=None)
            elif "cancel_at_period_end" in params:  # a cancel_at of its own (the portal's on a flexible one) stays: assumption
                own = sub["cancel_at"] if not sub["cancel_at_period_end"] else None
                self.billing.unschedule(sub, flag=False, cancel_at=own, event=None)
            elif when is not None:
                self.billing.schedule_end(sub, flag=False, cancel_at=when, details=details, event=None)
            elif "cancel_at" in params:  # the flag is another setting and stays: assumption
                kept = sub["cancel_at"] if sub["cancel_at_period_end"] and not flexible else None
                self.billing.unschedule(sub, flag=sub["cancel_at_period_end"], cancel_at=kept, event=None)

    def _cancel_at(self, wish, sub):
        if wish == "":
            return None
        if isinstance(wish, str):
            return last_end(sub) if wish == "max_period_end" else item_end(sub)
        if wish <= self.world.now:
            raise Refusal(400, "The `cancel_at` timestamp must be in the future.", param="cancel_at")
        return wish

    def cancel_subscription(self, params, key):
        """Ended now. One that has ended already is, for this call, not there."""
        sub = self.world.find("subscription", key)
        if sub["status"] in OVER:
            raise Refusal(404, f"No such subscription: '{key}'", code="resource_missing", param="id")
        details = {name: value or None for name, value in params.get("cancellation_details", {}).items()}
        self.billing.end(sub, reason="cancellation_requested", details=details)
        return sub

    # invoices, events, lists

    def list_invoices(self, params):
        def chosen(invoice):
            return (params.get("status", invoice["status"]) == invoice["status"]
                    and params.get("customer", invoice["customer"]) == invoice["customer"]
                    and params.get("subscription") in (None, invoice["parent"]["subscription_details"]["subscription"]))
        if "subscription" in params:
            self.world.find("subscription", params["subscription"], "subscription")
        return self.page("invoice", params, "/v1/invoices", chosen)

    def pay_invoice(self, params, key):
        invoice = self.world.find("invoice", key, "invoice")
        if invoice["status"] not in ("open", "uncollectible"):
            raise Refusal(400, "Invoice is already paid" if invoice["status"] == "paid" else "This invoice can no longer be paid",
                          code="invoice_not_editable" if invoice["status"] == "draft" else None)
        if not self.billing.pay(invoice):
            raise Refusal(402, "Your card was declined.", code="card_declined", kind="card_error", decline_code="generic_decline")
        return invoice

    def list_events(self, params):
        if "type" in params and "types" in params:
            raise Refusal(400, "You may only specify one of these parameters: type, types.")
        if len(params.get("types", ())) > 20:
            raise Refusal(400, "You may only specify up to 20 types.", param="types")
        types = params.get("types") or ([params["type"]] if "type" in params else ["*"])
        pattern = re.compile("|".join(re.escape(t).replace(r"\*", ".*") for t in types))
        waiting = {item["event"] for item in self.world.waiting()} | self.failed_events()
        success = params.get("delivery_success")
        return self.page("event", params, "/v1/events", lambda e: pattern.fullmatch(e["type"]) and within(e["created"], params.get("created"))
                          and (success is None or success != (e["id"] in waiting)))

    def failed_events(self):
        """Ids of events that some endpoint never took."""
        def untaken(attempts):
            return {a["url"] for a in attempts} - {a["url"] for a in attempts if 200 <= a["status"] < 300}
        return {key for key, attempts in self.world.state["attempts"].items() if untaken(attempts)}

    def list_configurations(self, params):
        return self.page("billing_portal.configuration", params, "/v1/billing_portal/configurations",
                          lambda c: all(params.get(name, c[name]) == c[name] for name in ("active", "is_default")))

    def page(self, kind, params, url, chosen):
        """One page of a list, newest first."""
        limit = params.get("limit", 10)
        if not 1 <= limit <= 100:
            raise Refusal(400, "Invalid integer: limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
        found = [o for o in reversed(list(self.world.all(kind))) if chosen(o)]
        keys = [o["id"] for o in found]
        for name in ("starting_after", "ending_before"):
            if name in params and params[name] not in keys:
                self.world.find(kind, params[name], name)
        start, stop = 0, len(found)
        if "starting_after" in params:
            start = keys.index(params["starting_after"]) + 1 if params["starting_after"] in keys else stop
        if "ending_before" in params:
            stop = keys.index(params["ending_before"]) if params["ending_before"] in keys else 0
            start = max(start, stop - limit)
        page = found[start:stop][:limit]
        more = start > 0 if "ending_before" in params else stop - start > limit
        return {"object": "list", "data": page, "has_more": more, "url": url}


def within(instant, wish):
    """Whether `instant` is what `created` asks for: a number, or {gt, gte, lt, lte}."""
    if wish is None or isinstance(wish, int):
        return wish in (None, instant)
    return (instant > wish.get("gt", -1) and instant >= wish.get("gte", 0)
            and instant < wish.get("lt", 10**18) and instant <= wish.get("lte", 10**18))


def _routes(api):
    return [
        _route("POST /v1/products", api.create_product, "name", "description", "metadata", "active"),
        _route("GET /v1/products/{id}", api.get("product")),
        _route("POST /v1/prices", api.create_price, "currency", "unit_amount", "product", "recurring[interval]",
               "recurring[interval_count]", "metadata", "nickname", "lookup_key", "active"),
        _route("GET /v1/prices/{id}", api.get("price", "price")),
        _route("POST /v1/customers", api.create_customer, "email", "name", "description", "phone", "metadata"),
        _route("GET /v1/customers/{id}", api.get("customer")),
        _route("POST /v1/customers/{customer}", api.update_customer, "email", "name", "description", "phone", "metadata",
               "invoice_settings[default_payment_method]"),
        _route("POST /v1/checkout/sessions", api.create_checkout, "mode", "line_items[price]", "line_items[quantity]",
               "client_reference_id", "subscription_data[metadata]", "subscription_data[billing_mode][type]", "success_url",
               "cancel_url", "customer", "customer_email", "metadata", "expires_at", "locale", "payment_method_collection",
               "subscription_data[trial_period_days]", "subscription_data[trial_end]",
               "subscription_data[trial_settings][end_behavior][missing_payment_method]",
               "customer_creation", "allowed_payment_method_types", "payment_intent_data[metadata]", "payment_intent_data[description]"),
        _route("GET /v1/checkout/sessions/{id}", api.get("checkout.session", "session")),
        _route("GET /v1/subscriptions", api.list_subscriptions, *LISTING, "customer", "status", "price"),
        _route("GET /v1/subscriptions/{subscription}", api.get("subscription")),
        _route("POST /v1/subscriptions/{subscription}", api.update_subscription, "cancel_at", "cancel_at_period_end",
               "cancellation_details[comment]", "cancellation_details[feedback]", "metadata", "default_payment_method", *UPDATES),
        _route("DELETE /v1/subscriptions/{subscription}", api.cancel_subscription, "cancellation_details[comment]",
               "cancellation_details[feedback]"),
        _route("GET /v1/invoices", api.list_invoices, *LISTING, "subscription", "status", "customer"),
        _route("GET /v1/invoices/{id}", api.get("invoice")),
        _route("POST /v1/invoices/{id}/pay", api.pay_invoice),
        _route("GET /v1/payment_methods/{id}", api.get("payment_method", "payment_method")),
        _route("POST /v1/billing_portal/configurations", api.portal.create, *CONFIGURATION),
        _route("GET /v1/billing_portal/configurations", api.list_configurations, *LISTING, "active", "is_default"),
        _route("GET /v1/billing_portal/configurations/{configuration}", api.get("billing_portal.configuration", "configuration")),
        _route("POST /v1/billing_portal/configurations/{configuration}",
               lambda params, key: api.portal.update(key, params), *CONFIGURATION, "active"),
        _route("POST /v1/billing_portal/sessions", api.portal.open, "customer", "configuration", "return_url", "locale",
               "flow_data[type]", "flow_data[after_completion]", "flow_data[subscription_cancel][subscription]",
               "flow_data[subscription_update][subscription]"),
        _route("GET /v1/events", api.list_events, *LISTING, "type", "types", "created", "delivery_success"),
        _route("GET /v1/events/{id}", api.get("event")),
    ]
