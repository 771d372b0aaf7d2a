"""Stripe's billing portal as the API sees it: configurations, and sessions with their bearer URLs (docs.stripe.com/api/customer_portal)."""
import copy

from .stripe_billing import OVER
from .stripe_params import Refusal, http_url, missing

REASONS = ["too_expensive", "missing_features", "switched_service", "unused", "other"]  # what the API picks when none are sent: assumption
FLOWS = ("payment_method_update", "subscription_cancel", "subscription_update")


def no_features():
    """The features of a configuration that switches nothing on."""
    return {
        "customer_update": {"allowed_updates": [], "enabled": False},
        "invoice_history": {"enabled": False},
        "payment_method_update": {"enabled": False, "payment_method_configuration": None},
        "subscription_cancel": {"cancellation_reason": {"enabled": False, "options": []}, "enabled": False,
                                "mode": "at_period_end", "proration_behavior": "none"},
        "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False},
        "subscription_update": {"billing_cycle_anchor": None, "default_allowed_updates": [], "enabled": False, "products": None,
                                "proration_behavior": "none", "schedule_at_period_end": {"conditions": []},
                                "trial_update_behavior": "end_trial"}}


class Portal:
    """Configurations and sessions of one account."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    # configurations

    def create(self, params, *, is_default=False):
        """A configuration as POST /v1/billing_portal/configurations makes it. The default one comes from the Dashboard only."""
        world, key = self.world, "bpc_1" + self.world.draw(23)
        configuration = {
            "id": key, "object": "billing_portal.configuration", "active": True, "application": None,
            "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
            "created": world.now, "default_return_url": None, "features": no_features(), "is_default": is_default,
            "livemode": False, "login_page": {"enabled": False, "url": None}, "metadata": {}, "name": None, "updated": world.now}
        self._apply(configuration, params)
        return world.add(configuration, "billing_portal.configuration.created")

    def update(self, key, params):
        """The configuration with what `params` says; what they do not name stays."""
        configuration = self.world.find("billing_portal.configuration", key, "configuration")
        if params.get("active") is False and configuration["is_default"]:
            raise Refusal(400, "You cannot deactivate the default configuration.", param="active")
        with self.world.changing(configuration, "billing_portal.configuration.updated"):
            self._apply(configuration, params)
            configuration["updated"] = self.world.now
        return configuration

    def _apply(self, configuration, params):
        fresh = copy.deepcopy(configuration)
        profile = params.get("business_profile", {})
        for name in ("privacy_policy_url", "terms_of_service_url"):
            if profile.get(name):
                http_url(profile[name], f"business_profile[{name}]")
        fresh["business_profile"] |= {name: value or None for name, value in profile.items()}
        if params.get("default_return_url"):
            http_url(params["default_return_url"], "default_return_url")
        for name in {"default_return_url", "name"} & params.keys():
            fresh[name] = params[name] or None
        fresh["active"] = params.get("active", fresh["active"])
        set_metadata(fresh, params)
        for name, wishes in params.get("features", {}).items():
            merge(fresh["features"][name], wishes)
        check_features(fresh["features"])
        if "login_page" in params:
            enabled = params["login_page"]["enabled"]
            fresh["login_page"] = {"enabled": enabled, "url": f"{self.world.public_url()}/p/login/test_{fresh['id'][5:]}" if enabled else None}
        configuration.update(fresh)

    # sessions

    def open(self, params):
        """A session as POST /v1/billing_portal/sessions makes it; its `url` lets anyone in who has it."""
        if "customer" not in params:
            raise missing("customer")
        customer = self.world.find("customer", params["customer"], "customer")
        configuration = self._configuration(params.get("configuration"))
        if params.get("return_url"):
            http_url(params["return_url"], "return_url")
        flow = self._flow(params.get("flow_data"), customer, configuration["features"])
        key, token = "bps_1" + self.world.draw(23), "test_" + self.world.draw(48)
        session = {
            "id": key, "object": "billing_portal.session", "configuration": configuration["id"], "created": self.world.now,
            "customer": customer["id"], "customer_account": None, "flow": flow, "livemode": False, "locale": params.get("locale"),
            "on_behalf_of": None, "return_url": params.get("return_url") or configuration["default_return_url"],
            "url": f"{self.world.public_url()}/p/session/{token}"}
        self.world.inside(key).update(token=token, expires=self.world.now + self.world.options.portal_unvisited, done=False)
        return self.world.add(session, "billing_portal.session.created")

    def _configuration(self, key):
        if key is None:
            default = next((c for c in self.world.all("billing_portal.configuration") if c["is_default"]), None)
            if default is None:
                raise Refusal(400, "No configuration provided and your test mode default configuration has not been created. "
                                   "Provide a configuration or create your default by saving your customer portal settings in test "
                                   "mode at https://dashboard.stripe.com/test/settings/billing/portal.")
            return default
        configuration = self.world.find("billing_portal.configuration", key, "configuration")
        if not configuration["active"]:
            raise Refusal(400, f"The configuration {key} is inactive and cannot be used to create portal sessions.", param="configuration")
        return configuration

    def _flow(self, wish, customer, features):
        if wish is None:
            return None
        kind = wish["type"]
        if kind not in FLOWS:
            raise Refusal(400, f"This sandbox has no portal flow {kind}.", code="sandbox_not_implemented", param="flow_data[type]")
        if not features[kind]["enabled"]:
            raise Refusal(400, f"The {kind} flow cannot be used because the {kind} feature in the portal configuration is disabled.",
                          param="flow_data[type]")
        after = wish.get("after_completion", {"type": "portal_homepage"})
        if after["type"] == "redirect":
            if "redirect" not in after:
                raise missing("flow_data[after_completion][redirect]")
            http_url(after["redirect"]["return_url"], "flow_data[after_completion][redirect][return_url]")
        flow = {"after_completion": {"hosted_confirmation": None, "redirect": None, **after}, "customer_update": None,
                "subscription_cancel": None, "subscription_pause": None, "subscription_update": None,
                "subscription_update_confirm": None, "type": kind}
        if kind == "subscription_cancel":
            flow["subscription_cancel"] = {"retention": None, "subscription": self._cancellable(wish, customer)}
        if kind == "subscription_update":
            sub, place = self._own(wish, customer, kind)
            if not self.updatable(sub):
                raise Refusal(400, f"The subscription {sub['id']} cannot be updated in the portal.", param=place)
            flow["subscription_update"] = {"subscription": sub["id"]}
        return flow

    @staticmethod
    def updatable(sub):
        """Whether the portal switches this subscription: one item, nothing planned for it already (support.stripe.com, configure-portal°)."""
        return (sub["status"] in ("active", "trialing") and len(sub["items"]["data"]) == 1 and not sub["schedule"]
                and not sub["cancel_at_period_end"] and sub["cancel_at"] is None)

    def _own(self, wish, customer, kind):
        if kind not in wish:
            raise missing(f"flow_data[{kind}]")
        place, key = f"flow_data[{kind}][subscription]", wish[kind]["subscription"]
        sub = self.world.find("subscription", key, place)
        if sub["customer"] != customer["id"]:
            raise Refusal(404, f"No such subscription: '{key}'", code="resource_missing", param=place)
        return sub, place

    def _cancellable(self, wish, customer):
        sub, place = self._own(wish, customer, "subscription_cancel")
        key = sub["id"]
        if sub["status"] in OVER or sub["cancel_at_period_end"] or sub["cancel_at"] is not None:
            raise Refusal(400, f"The subscription {key} cannot be canceled because it is already canceled or set to cancel.", param=place)
        return key

    # what the hosted page does

    def visit(self, token):
        """The session behind a bearer URL, alive for a while more; None when there is none or it has expired."""
        for session in self.world.all("billing_portal.session"):
            inside = self.world.state["inside"].get(session["id"], {})
            if inside.get("token") == token:
                if self.world.now >= inside["expires"]:
                    return None
                self.world.inside(session["id"])["expires"] = self.world.now + self.world.options.portal_idle
                return session
        return None


def merge(old, new):
    """`old` with the leaves of `new`: hashes are merged, lists and values replaced, "" empties a list."""
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            merge(old[name], value)
        else:
            old[name] = [] if value == "" else value


def set_metadata(obj, params):
    """Metadata as Stripe merges it: an empty value takes a key away, an empty hash all of them."""
    if "metadata" in params:
        wishes = params["metadata"]
        merged = {**obj["metadata"], **wishes} if wishes else {}
        obj["metadata"] = {name: value for name, value in merged.items() if value != ""}


def check_features(features):
    """Refusal when features contradict themselves; missing details are filled in as Stripe does (assumptions)."""
    cancel, reason = features["subscription_cancel"], features["subscription_cancel"]["cancellation_reason"]
    if cancel["proration_behavior"] == "always_invoice" or (cancel["proration_behavior"] != "none" and cancel["mode"] == "at_period_end"):
        raise Refusal(400, f"The proration_behavior {cancel['proration_behavior']} is not supported with mode {cancel['mode']}.",
                      param="features[subscription_cancel][proration_behavior]")
    if reason["enabled"] and not reason["options"]:
        reason["options"] = list(REASONS)
    update = features["subscription_update"]
    if update["enabled"]:
        for name in ("default_allowed_updates", "products"):
            if not update[name]:
                raise missing(f"features[subscription_update][{name}]")
        for entry in update["products"]:
            entry["adjustable_quantity"] = {"maximum": None, "minimum": 1, **entry.get("adjustable_quantity", {"enabled": False})}
    if features["customer_update"]["enabled"] and not features["customer_update"]["allowed_updates"]:
        raise missing("features[customer_update][allowed_updates]")
    for option in features["subscription_pause"]["duration"]["interval_options"]:
        option.setdefault("interval_count", 1)
