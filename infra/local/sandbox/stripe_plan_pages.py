"""The portal's page on which a customer switches the plan, as features.subscription_update of the configuration allows."""
from .http import redirect
from .stripe_html import choice, day, form, gone, link, page, price_text
from .stripe_billing import item_end
from .stripe_plans import shorter


class PlanPages:
    """The page, and the link that leads there."""

    def __init__(self, pages):
        self.pages, self.world, self.sandbox = pages, pages.world, pages.sandbox

    def part(self, sub, here, features):
        """The link in the portal, or nothing."""
        offered = self.offered(sub, features)
        planned = f"<p>The plan changes on {day(item_end(sub))}</p>" if sub["schedule"] else ""
        return planned + (link(here + "/update", "Update plan", name=f"update-{sub['id']}") if offered else "")

    def offered(self, sub, features):
        """The prices that `sub` may be switched to."""
        rules = features["subscription_update"]
        if not rules["enabled"] or "price" not in rules["default_allowed_updates"] or not self.sandbox.portal.updatable(sub):
            return []
        here = sub["items"]["data"][0]["price"]
        prices = [self.world.find("price", key) for entry in rules["products"] for key in entry["prices"]]
        return [p for p in prices if p["active"] and p["id"] != here["id"] and p["currency"] == here["currency"] and p["recurring"]]

    def update(self, request, token, key):
        """Asks which plan it should be, and switches to it: now, or at the period end when the configuration says so."""
        session, configuration, customer = self.pages.visit(token)
        sub = self.pages.own(customer, key)
        offered = self.offered(sub, configuration["features"]) if sub else []
        if not offered:
            return gone("This subscription cannot be updated here.")
        home = f"/p/session/{token}"
        if request.method == "POST":
            price = next((p for p in offered if p["id"] == request.form().get("price")), None)
            if price is None:
                return gone("This plan is not on offer.")
            self._switch(sub, price, configuration["features"]["subscription_update"])
            return redirect(self.pages.after(session, home, done=True))
        return page("Update your plan", form(f"{home}/subscriptions/{key}/update", "Update plan", choice("New plan", "price", [
            (p["id"], f"{self.world.find('product', p['product'])['name']}, {price_text(p)}") for p in offered]), name="update"), link(home, "Go back"))

    def _switch(self, sub, price, rules):
        billing, entry, trialing = self.sandbox.billing, sub["items"]["data"][0], sub["status"] == "trialing"
        holds = {"decreasing_item_amount": (price["unit_amount"] or 0) < (entry["price"]["unit_amount"] or 0),
                 "shortening_interval": shorter(price, entry["price"])}
        if any(holds[condition["type"]] for condition in rules["schedule_at_period_end"]["conditions"]):
            return billing.plans.schedule(sub, price)
        billing.plans.switch(sub, [{"id": entry["id"], "price": price["id"]}], proration=rules["proration_behavior"])
        if trialing and rules["trial_update_behavior"] == "end_trial":
            billing.trials.finish_now(sub)
        return None
