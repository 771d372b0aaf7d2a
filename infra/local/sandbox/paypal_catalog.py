"""Products and billing plans of a merchant at PayPal."""
from decimal import Decimal

from .paypal_contract import body_of
from .paypal_errors import malformed, not_found, unprocessable
from .paypal_money import v2
from .paypal_world import iso

PLAN_ACTIONS = {"activate": ("ACTIVE", "BILLING.PLAN.ACTIVATED"), "deactivate": ("INACTIVE", "BILLING.PLAN.DEACTIVATED")}


class Catalog:
    """Creates, shows and lists them."""

    def __init__(self, world):
        self.world = world

    def routes(self):
        """(method, path in the official file, call)."""
        return [
            ("POST", "/v1/catalogs/products", self.create_product),
            ("GET", "/v1/catalogs/products", self.products),
            ("GET", "/v1/catalogs/products/{product_id}", self.product),
            ("POST", "/v1/billing/plans", self.create_plan),
            ("GET", "/v1/billing/plans", self.plans),
            ("GET", "/v1/billing/plans/{id}", self.plan),
            ("POST", "/v1/billing/plans/{id}/activate", lambda request, key: self._switch(key, "activate")),
            ("POST", "/v1/billing/plans/{id}/deactivate", lambda request, key: self._switch(key, "deactivate")),
        ]

    # products

    def create_product(self, request):
        """201 with the product; its id may be the caller's own."""
        wish = body_of(request)
        return 201, self.make_product(wish)

    def make_product(self, wish):
        """The product of that name and type."""
        key = wish.get("id") or f"PROD-{self.world.draw(17)}"
        if self.world.find("product", key):
            raise unprocessable("DUPLICATE_RESOURCE_IDENTIFIER", "Identifier must be unique.")
        product = self.world.add("product", {
            "id": key, **{name: wish[name] for name in ("name", "description", "type", "category", "image_url", "home_url") if name in wish},
            "create_time": iso(self.world.now), "update_time": iso(self.world.now), "links": self._links("/v1/catalogs/products", key)})
        product.setdefault("type", "PHYSICAL")
        self.world.emit("CATALOG.PRODUCT.CREATED", product, "product", "2.0", "Product created.")
        return product

    def products(self, request):
        """A page of products."""
        return 200, self._page(request, "/v1/catalogs/products", "products", [
            {name: p[name] for name in ("id", "name", "description", "create_time", "links") if name in p} for p in self.world.all("product")])

    def product(self, request, key):
        return 200, self.world.find("product", key) or self._lost()

    # plans

    def create_plan(self, request):
        """201 with the plan, minimal unless a representation is preferred."""
        wish = body_of(request)
        if self.world.find("product", wish["product_id"]) is None:
            raise not_found()
        return 201, self._preferred(request, self.make_plan(wish))

    def make_plan(self, wish):
        """The plan; refused when its cycles make no sequence or its prices do not agree."""
        _check_cycles(wish["billing_cycles"])
        now, ordered = iso(self.world.now), sorted(wish["billing_cycles"], key=lambda c: c["sequence"])
        currency = ordered[-1]["pricing_scheme"]["fixed_price"]["currency_code"]
        cycles = [_cycle(cycle, currency, now) for cycle in ordered]
        wanted = wish.get("payment_preferences") or {}
        preferences = {"service_type": "PREPAID", "auto_bill_outstanding": wanted.get("auto_bill_outstanding", True),
                       "setup_fee": v2(wanted.get("setup_fee", {}).get("value", "0"), currency),
                       "setup_fee_failure_action": wanted.get("setup_fee_failure_action", "CANCEL"),
                       "payment_failure_threshold": wanted.get("payment_failure_threshold", 0)}
        key = f"P-{self.world.draw(24)}"
        plan = self.world.add("plan", {
            "id": key, "product_id": wish["product_id"], "name": wish["name"], "status": wish.get("status", "ACTIVE"),
            **({"description": wish["description"]} if wish.get("description") else {}), "usage_type": "LICENSED", "billing_cycles": cycles,
            "payment_preferences": preferences, "quantity_supported": wish.get("quantity_supported", False),
            "create_time": now, "update_time": now, "links": self._plan_links(key)})
        self.world.emit("BILLING.PLAN.CREATED", plan, "plan", "2.0", "A billing plan was created.")
        return plan

    def plans(self, request):
        """A page of plans, of one product if told so."""
        wanted = request.query.get("product_id")
        full = "representation" in (request.headers.get("prefer") or "")
        return 200, self._page(request, "/v1/billing/plans", "plans", [
            plan if full else {name: plan[name] for name in ("id", "product_id", "name", "status", "usage_type", "create_time", "links")}
            for plan in self.world.all("plan") if wanted in (None, plan["product_id"])])

    def plan(self, request, key):
        return 200, self.world.find("plan", key) or self._lost()

    def _switch(self, key, action):
        plan = self.world.find("plan", key) or self._lost()
        status, event = PLAN_ACTIONS[action]
        if plan["status"] == status:
            raise unprocessable("PLAN_STATUS_INVALID", f"Invalid plan status for {action} action; plan status should be "
                                f"{'either created or inactive' if action == 'activate' else 'active'}.")
        plan |= {"status": status, "update_time": iso(self.world.now)}
        self.world.changed = True
        self.world.emit(event, plan, "plan", "2.0", f"A billing plan was {action}d.")
        return 204, None

    # shapes

    @staticmethod
    def _lost():
        raise not_found()

    def _preferred(self, request, plan):
        if "representation" in (request.headers.get("prefer") or ""):
            return plan
        return {name: plan[name] for name in ("id", "product_id", "name", "status", "description", "usage_type", "create_time", "links") if name in plan}

    def _page(self, request, path, name, entries):
        size, number = int(request.query.get("page_size", 10)), int(request.query.get("page", 1))
        counted = request.query.get("total_required") == "true"
        totals = {"total_items": len(entries), "total_pages": -(-len(entries) // size)} if counted else {}
        here = self.world.url(f"{path}?page_size={size}&page=")
        links = [{"href": f"{here}{number}", "rel": "self", "method": "GET"}]
        if number * size < len(entries):
            links.append({"href": f"{here}{number + 1}", "rel": "next", "method": "GET"})
        return {name: entries[(number - 1) * size:number * size], **totals, "links": links}

    def _links(self, path, key):
        here = self.world.url(f"{path}/{key}")
        return [{"href": here, "rel": "self", "method": "GET"}, {"href": here, "rel": "edit", "method": "PATCH"}]

    def _plan_links(self, key):
        here = self.world.url(f"/v1/billing/plans/{key}")
        return [*self._links("/v1/billing/plans", key), {"href": f"{here}/deactivate", "rel": "deactivate", "method": "POST"}]


def _cycle(wish, currency, now):
    price = wish.get("pricing_scheme", {}).get("fixed_price") or {"value": "0", "currency_code": currency}
    return {"pricing_scheme": {"version": 1, "fixed_price": v2(price["value"], price["currency_code"]), "create_time": now, "update_time": now},
            "frequency": {"interval_unit": wish["frequency"]["interval_unit"], "interval_count": wish["frequency"].get("interval_count", 1)},
            "tenure_type": wish["tenure_type"], "sequence": wish["sequence"], "total_cycles": wish.get("total_cycles", 1)}


def _check_cycles(cycles):
    """At most two trials, one of them free, then one regular cycle with a price; all in one currency. Tiers are not spoken here."""
    ordered = sorted(cycles, key=lambda c: c["sequence"])
    kinds, trials = [c["tenure_type"] for c in ordered], [c for c in ordered if c["tenure_type"] == "TRIAL"]
    for wrong, issue, description in (
            ("REGULAR" not in kinds, "MISSING_REGULAR_BILLING_CYCLE", "Plan should have at least one regular billing cycle."),
            (kinds.count("REGULAR") > 1, "MULTIPLE_REGULAR_BILLING_CYCLES_NOT_SUPPORTED", "Only one regular billing cycle is allowed."),
            (len(trials) > 2, "MORE_THAN_TWO_TRIAL_BILLING_CYCLE_NOT_SUPPORTED", "Only two trial billing cycles are allowed."),
            (sum(not _price(c) for c in trials) > 1, "MULTIPLE_FREE_TRIAL_BILLING_CYCLES_NOT_SUPPORTED", "Only one free trial billing cycle is allowed."),
            ([c["sequence"] for c in ordered] != list(range(1, len(ordered) + 1)), "INVALID_BILLING_CYCLE_SEQUENCE",
             "Billing cycle sequence should start with `1` and be consecutive."),
            (kinds[-1] != "REGULAR", "INVALID_BILLING_CYCLE_SEQUENCE", "Trial Billing cycle should precede regular billing cycle."),
            (any(c.get("total_cycles", 1) == 0 for c in trials), "INVALID_TRIAL_BILLING_TOTAL_CYCLES", "Total cycles for trial billing must be greater than '0'."),
            (len({c["pricing_scheme"]["fixed_price"]["currency_code"] for c in ordered if c.get("pricing_scheme")}) > 1, "CURRENCY_MISMATCH",
             "All currency codes in the request should be of similar value.")):
        if wrong:
            raise unprocessable(issue, description)
    if not _price(ordered[-1]):
        raise malformed("/billing_cycles/0/pricing_scheme/fixed_price/value", "INVALID_PARAMETER_VALUE", "The value of a field is invalid.")


def _price(cycle):
    return Decimal(cycle.get("pricing_scheme", {}).get("fixed_price", {}).get("value", "0"))
