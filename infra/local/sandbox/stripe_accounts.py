"""The accounts of the Stripe sandbox: the platform's own, and connected ones, each with objects of its own that no other sees.

A connected account is called with the platform's key and `Stripe-Account: acct_…` (docs.stripe.com/connect/authentication);
its charges are direct ones. Its events go to Connect endpoints only.
"""
import dataclasses

from . import stripe_objects, stripe_payments_api
from .http import BadControl, json_answer
from .stripe_api import Api
from .stripe_billing import Billing
from .stripe_control import Control
from .stripe_pages import Pages
from .stripe_params import Refusal
from .stripe_payment_objects import application
from .stripe_portal import Portal
from .stripe_purchases import Purchases
from .stripe_reversals import Reversals
from .stripe_world import World, new_state

APPLICATION = "ca_RolekeepSandbox"
FREE_TO_SET = ("business_profile", "business_type", "capabilities", "charges_enabled", "controller", "country", "default_currency",
               "details_submitted", "email", "metadata", "payouts_enabled", "settings", "type")
# Who pays Stripe's fees, bears losses, collects requirements, and what dashboard there is, by type (docs.stripe.com/connect/accounts).
CONTROLLERS = {
    "standard": ("account", "stripe", "stripe", "full"),
    "express": ("application_express", "application", "stripe", "express"),
    "custom": ("application_custom", "application", "application", "none"),
}


class Account:
    """One account: its world and everything that acts on it. `kept` is a connected one's entry in the state file, None for the own."""

    def __init__(self, accounts, key, state, kept=None):
        sandbox = accounts.sandbox
        self.accounts, self.key, self.kept = accounts, key, kept
        self.world = World(state, clock=sandbox.clock, account=key, public_url=lambda: sandbox.public_url, waiting=accounts.waiting,
                           options=dataclasses.replace(accounts.options) if kept else accounts.options, application=APPLICATION if kept else None)
        self.world.on_event = self._tell
        self.billing = Billing(self.world)
        self.reversals = Reversals(self.world, self.billing)
        self.portal = Portal(self.world, self.billing)
        self.api = Api(self.world, self.billing, self.portal)
        self.purchases = self.api.purchases = Purchases(self.world, self.billing, self.api.create_customer)
        self.api.routes += stripe_payments_api.routes(self)
        self.fail_next, self.brought_in = sandbox.fail_next, sandbox.brought_in
        self.deliveries = None  # set by Accounts, which they stand on
        self.pages, self.control = Pages(self), Control(self)

    @property
    def linked(self):
        """Whether the platform may call it and hears of it."""
        return self.kept is None or self.kept["linked"]

    def object(self):
        """The account in Stripe's shape."""
        return self.kept["account"] if self.kept else stripe_objects.account(self.key, created=1700000000, name="Rolekeep sandbox")

    def show(self, key):
        """What GET /v1/accounts/{key} answers to this account: itself, or a connected one that is linked to it."""
        other = self if key == self.key else None if self.kept else self.accounts.connected.get(key)
        if other is None or not other.linked:
            raise no_access(self.accounts.sandbox.keys[0], key)
        return other.object()

    def due(self):
        """Everything that time alone will do in this account, as Billing.due."""
        yield from self.billing.due()
        yield from self.purchases.due()

    def orders(self):
        """The control calls that this account adds to those in stripe_control."""
        return [*stripe_payments_api.orders(self), *self.accounts.orders()]

    def refuse_charges(self):
        """Refusal when the account may not take money."""
        if not self.object()["charges_enabled"]:
            raise Refusal(400, "Your account cannot currently make charges.")

    def _tell(self, event):
        if self.linked or event["type"] == "account.application.deauthorized":
            self.deliveries.enqueue(event)


class Accounts:
    """The own account and all connected ones of a sandbox. Its state: the own account's, with `connected` inside."""

    def __init__(self, sandbox, key, state, options):
        self.sandbox, self.state, self.options = sandbox, state, options
        self._kept = state.setdefault("connected", {})
        self.own = Account(self, key, state)
        self.connected = {name: Account(self, name, kept["state"], kept) for name, kept in self._kept.items()}

    def waiting(self):
        """The deliveries of all accounts."""
        return self.state["deliveries"]

    def deliver_by(self, deliveries):
        """The events of every account go out by `deliveries`."""
        for account in self.all():
            account.deliveries = deliveries
            deliveries.worlds[account.key] = account.world

    def all(self):
        """Every account, the own first, then as they were connected."""
        return [self.own, *self.connected.values()]

    @property
    def changed(self):
        """Whether there is something to save; setting it sets it everywhere."""
        return any(account.world.changed for account in self.all())

    @changed.setter
    def changed(self, value):
        for account in self.all():
            account.world.changed = value

    # who is meant

    def called(self, request):
        """The account that an API request names, or account_invalid."""
        name = request.headers.get("stripe-account")
        account = self.own if name in (None, self.own.key) else self.connected.get(name)
        if account is None or not account.linked:
            raise no_access(self.sandbox.keys[0], name)
        return account

    def ordered(self, request):
        """The account that a control call names; a disconnected one lives on. BadControl when there is none."""
        name = request.headers.get("stripe-account", self.own.key)
        account = self.own if name == self.own.key else self.connected.get(name)
        if account is None:
            raise BadControl(f"there is no account {name}")
        return account

    def shown(self, path):
        """The account whose hosted page `path` is: the page's address is the only credential."""
        parts = path.strip("/").split("/")
        if parts[0] == "i" and len(parts) > 1:
            return self.connected.get(parts[1], self.own)
        if len(parts) > 2:
            for account in self.connected.values():
                objects = account.world.state["objects"]
                if (parts[:2] == ["c", "pay"] and parts[2] in objects["checkout.session"]) or (parts[:2] == ["p", "session"] and any(
                        account.world.state["inside"].get(key, {}).get("token") == parts[2] for key in objects["billing_portal.session"])):
                    return account
        return self.own

    # control

    def orders(self):
        """The control calls about accounts: (method, path, call(wish, *ids))."""
        return [("GET", "accounts", self._list), ("POST", "accounts", self._connect), ("PATCH", r"accounts/([^/]+)", self._change),
                ("POST", r"accounts/([^/]+)/disconnect", self._disconnect), ("POST", r"accounts/([^/]+)/reconnect", self._reconnect)]

    def _list(self, wish):
        return json_answer({"accounts": [{**account.object(), "linked": account.linked} for account in self.connected.values()]})

    def _connect(self, wish):
        """A new connected account; what `wish` does not say is as for a standard account that is ready to take money."""
        _check(wish, "id")
        key = wish.pop("id", None) or "acct_1" + self.own.world.draw(15)
        if key == self.own.key or key in self.connected:
            raise BadControl(f"there is an account {key} already")
        kept = {"linked": True, "account": self._new(key, wish), "state": new_state(f"{self.state['seed']}:{key}")}
        self._kept[key] = kept
        account = self.connected[key] = Account(self, key, kept["state"], kept)
        self.deliver_by(self.own.deliveries)
        account.world.emit("account.application.authorized", application(APPLICATION))
        return json_answer(account.object(), 201)

    def _new(self, key, wish):
        kind = wish.get("type", "standard")
        if kind not in CONTROLLERS:
            raise BadControl(f"'type' must be one of {', '.join(CONTROLLERS)}")
        payer, losses, collects, dashboard = CONTROLLERS[kind]
        return {**stripe_objects.account(key, created=self.own.world.now, name=f"Shop {key[-4:]}"), "type": kind, "controller": {
            "fees": {"payer": payer}, "is_controller": kind != "standard", "losses": {"payments": losses}, "requirement_collection": collects,
            "stripe_dashboard": {"type": dashboard}, "type": "application"} if kind != "standard" else {"type": "account"}, **wish}

    def _found(self, key):
        if key not in self.connected:
            raise BadControl(f"there is no connected account {key}")
        return self.connected[key]

    def _change(self, wish, key):
        """The account's fields are as said; account.updated tells."""
        _check(wish)
        account = self._found(key)
        with account.world.changing(account.object(), "account.updated"):
            account.object().update(wish)
        return json_answer(account.object())

    def _disconnect(self, wish, key):
        """The account's owner has taken the platform's access away. The account lives on; the platform hears no more of it."""
        account = self._found(key)
        if not account.linked:
            raise BadControl(f"{key} is disconnected already")
        account.kept["linked"] = False
        account.world.emit("account.application.deauthorized", application(APPLICATION))
        return json_answer({**account.object(), "linked": False})

    def _reconnect(self, wish, key):
        account = self._found(key)
        if account.linked:
            raise BadControl(f"{key} is connected")
        account.kept["linked"] = True
        account.world.emit("account.application.authorized", application(APPLICATION))
        return json_answer({**account.object(), "linked": True})


def _check(wish, *more):
    unknown = wish.keys() - {*FREE_TO_SET, *more}
    if unknown:
        raise BadControl(f"an account has no {', '.join(sorted(unknown))} to set; known: {', '.join(FREE_TO_SET)}")


def no_access(api_key, name):
    """The account is not connected to the platform, or not any more."""
    return Refusal(403, f"The provided key '{api_key[:8]}****{api_key[-4:]}' does not have access to account '{name}' (or that account "
                        "does not exist). Application access may have been revoked.", code="account_invalid")
