"""Orders to the PayPal sandbox under /_sandbox/ beyond those all sandboxes share (clock, requests, faults, violations).

An order about something with an id finds its merchant by that; others mean the merchant of `?merchant=…`, or the first one.
"""
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

from .clock import to_epoch
from .control_calls import ControlCalls
from .http import Answer, BadControl, json_answer
from .paypal_billing import CannotPay
from .paypal_calendar import pacific_day
from .paypal_disputes import OUTCOMES
from .paypal_errors import not_found
from .paypal_payers import payer_of
from .paypal_sales import shown
from .paypal_world import iso


class Control(ControlCalls):
    """The control calls. Bad orders raise BadControl (400), unknown ids and wrong moments PayPal's own refusals."""

    def __init__(self, sandbox, more=()):
        self.sandbox = sandbox
        super().__init__((
            ("POST", "emit", self.emit),
            ("GET", "merchants", self.merchants),
            ("POST", "merchants", self.add_merchant),
            ("DELETE", "tokens", self.revoke),
            ("GET", "plans", self.plans),
            ("POST", "plans", self.make_plan),
            ("GET", "subscriptions", self.subscriptions),
            ("GET", r"subscriptions/([^/]+)", self.subscription),
            ("PATCH", r"subscriptions/([^/]+)", self.change_subscription),
            ("POST", r"subscriptions/([^/]+)/approve", self.approve),
            ("POST", r"subscriptions/([^/]+)/(suspend|activate|cancel)", self.act),
            ("POST", r"subscriptions/([^/]+)/(renew|retry)", self.bill),
            ("POST", r"subscriptions/([^/]+)/capture", self.capture),
            ("GET", r"subscriptions/([^/]+)/sales", self.sales_of),
            ("POST", r"sales/([^/]+)/refund", self.refund),
            ("POST", r"sales/([^/]+)/(reverse|cancel_reversal)", self.reverse),
            ("POST", r"sales/([^/]+)/(pending|denied|completed)", self.change_sale),
            ("POST", r"sales/([^/]+)/dispute", self.dispute),
            ("GET", "disputes", self.disputes),
            ("PATCH", r"disputes/([^/]+)", self.change_dispute),
            ("POST", r"disputes/([^/]+)/resolve", self.resolve),
            *more,
        ), options=sandbox.options)
        self._merchant = None

    def answer(self, request):
        """What the control call answers; 404 for one there is not."""
        self._merchant = request.query.get("merchant")
        if self._merchant is not None and self._merchant not in self.sandbox.accounts:
            raise BadControl(f"no merchant {self._merchant}")
        return super().answer(request)

    @property
    def account(self):
        """The account that an order without an id means."""
        return self.sandbox.accounts[self._merchant] if self._merchant else next(iter(self.sandbox.accounts.values()))

    def _find(self, kind, key):
        """(account, thing) by its id among all merchants; PayPal's 404 otherwise."""
        for account in self.sandbox.accounts.values():
            if (thing := account.world.find(kind, key)) is not None:
                return account, thing
        raise not_found()

    # moods, merchants

    def emit(self, wish):
        """An event of any type with any resource, delivered like the others."""
        if not isinstance(wish.get("event_type"), str) or "resource" not in wish:
            raise BadControl('send {"event_type": text, "resource": anything, "resource_type"?: text, "resource_version"?: text, "summary"?: text}')
        return json_answer(self.account.world.emit(wish["event_type"], wish["resource"], wish.get("resource_type", "subscription"),
                                                   wish.get("resource_version"), wish.get("summary", "")), 201)

    def merchants(self, wish):
        return json_answer({"merchants": [{"id": account.merchant.id, "name": account.merchant.name, "webhook_ids": account.merchant.webhook_ids}
                                          for account in self.sandbox.accounts.values()]})

    def add_merchant(self, wish):
        """There is this merchant, with these credentials from now on: {"id", "client_id", "secret", "name"?, "webhook_ids"?}; also after a restart."""
        if not all(isinstance(wish.get(name), str) and wish[name] for name in ("id", "client_id", "secret")):
            raise BadControl('send {"id": text, "client_id": text, "secret": text, "name"?: text, "webhook_ids"?: [text]}')
        self.sandbox.add_merchant(wish)
        return self.merchants(wish)

    def revoke(self, wish):
        """No access token given so far is good any more."""
        self.sandbox.tokens.revoke()
        return Answer(204)

    # plans and subscriptions

    def plans(self, wish):
        return json_answer({"plans": list(self.account.world.all("plan"))})

    def make_plan(self, wish):
        """The plan: the body of POST /v1/billing/plans, or {"name", "price", "currency"?, "interval"?, "count"?, "cycles"?, "trial_days"?,
        "trial_price"?, "setup_fee"?, "threshold"?, "auto_bill"?}; a product is made for it if none is named."""
        catalog = self.account.catalog
        if "billing_cycles" not in wish:
            wish = _plan_body(wish)
        if "product_id" not in wish:
            wish["product_id"] = catalog.make_product({"name": wish["name"], "type": "SERVICE"})["id"]
        return json_answer(catalog.make_plan(wish), 201)

    def _told(self, account, sub):
        """A subscription as GET shows it with all fields, its merchant, and under `inside` what PayPal does not show."""
        inside = {name: sub[name] for name in ("funding", "slot", "due", "tries", "suspended_by", "lie", "ba_token")}
        for name in ("slot", "due"):
            inside[name] = inside[name] and iso(inside[name])
        return {**account.subscriptions.shown(sub, fields=("last_failed_payment", "plan")), "merchant": account.merchant.id, "inside": inside}

    def subscriptions(self, wish):
        """All subscriptions of every merchant, or of the one asked for, in any state."""
        accounts = [self.account] if self._merchant else self.sandbox.accounts.values()
        return json_answer({"subscriptions": [self._told(account, sub) for account in accounts for sub in account.world.all("subscription")]})

    def subscription(self, wish, key):
        return json_answer(self._told(*self._find("subscription", key)))

    def change_subscription(self, wish, key):
        """{"funding": "good" | "failing"}: the buyer's money from now on; {"next_billing_time": instant | null}: the lie it shows, or no more;
        {"custom_id", "plan_id", "quantity"}: by force. No event."""
        account, sub = self._find("subscription", key)
        if unknown := wish.keys() - {"funding", "next_billing_time", "custom_id", "plan_id", "quantity"}:
            raise BadControl(f"a subscription has no {sorted(unknown)} to change")
        if wish.get("funding", "good") not in ("good", "failing"):
            raise BadControl("'funding' must be good or failing")
        if "next_billing_time" in wish:
            lie = wish.pop("next_billing_time")
            sub["lie"] = None if lie is None else iso(_instant(lie))
        sub |= wish
        account.world.changed = True
        return json_answer(self._told(account, sub))

    def approve(self, wish, key):
        """The subscription after the buyer {"email"} agreed on PayPal's page, with {"funding"?}."""
        account, sub = self._find("subscription", key)
        email = str(wish.get("email", "ada@example.com"))
        if sub["status"] != "APPROVAL_PENDING" or payer_of(self.sandbox.kept_state, email) is None:
            raise BadControl(f"{key} is {sub['status']}, or that is no e-mail")
        sub["funding"] = wish.get("funding", "good")
        with _payable():
            account.billing.approve(sub, email)
        return json_answer(self._told(account, sub))

    def act(self, wish, key, action):
        """The subscription after the {"by": "buyer" | "merchant"} did that on PayPal's own pages, for the {"reason"?}."""
        account, sub = self._find("subscription", key)
        by = wish.get("by", "buyer")
        if by not in ("buyer", "merchant"):
            raise BadControl("'by' must be buyer or merchant")
        if action == "cancel":
            account.billing.cancel(sub, wish.get("reason"))
        else:
            getattr(account.billing, action)(sub, by, wish.get("reason"))
        return json_answer(self._told(account, sub))

    def bill(self, wish, key, kind):
        """The subscription after its next payment was tried now, with the {"outcome": "succeed" | "decline"} (none: as the buyer's money is).

        `renew`: the cycle is over now, and the next ones count from today; `retry`: a failed payment again, and the calendar stays."""
        account, sub = self._find("subscription", key)
        if sub["status"] != "ACTIVE" or sub["slot"] is None or (kind == "retry" and not sub["tries"]):
            raise BadControl(f"{key} is {sub['status']} and has nothing to {kind}")
        before, outcome = sub["funding"], wish.get("outcome")
        if outcome not in (None, "succeed", "decline"):
            raise BadControl("'outcome' must be succeed or decline")
        if kind == "renew":
            sub |= {"slot": account.world.now, "day": str(pacific_day(account.world.now)), "tries": 0}
        sub["funding"] = {"succeed": "good", "decline": "failing"}.get(outcome, before)
        account.billing.bill(key)
        sub["funding"] = before
        return json_answer(self._told(account, sub))

    def capture(self, wish, key):
        """The subscription after the merchant took the {"amount"?} (all) of what is outstanding."""
        account, sub = self._find("subscription", key)
        amount = _amount(wish, Decimal(sub["outstanding"]))
        if not 0 < amount <= Decimal(sub["outstanding"]):
            raise BadControl("that much is not outstanding")
        with _payable():
            account.billing.capture(sub, amount)
        return json_answer(self._told(account, sub))

    # sales

    def sales_of(self, wish, key):
        """The sales of the subscription, oldest first."""
        account, sub = self._find("subscription", key)
        return json_answer({"sales": [shown(sale) for sale in account.world.all("sale") if sale["billing_agreement_id"] == sub["id"]]})

    def refund(self, wish, key):
        """The sale after the merchant gave back the {"amount"?} (all that is left) on PayPal's own page."""
        account, sale = self._find("sale", key)
        refund = account.sales.refund(sale, _amount(wish, None), reason=wish.get("reason"))
        return json_answer({"refund": refund, "sale": shown(sale)})

    def reverse(self, wish, key, action):
        """The sale after PayPal took the money back, or gave it back again. {"names_sale": true}: the event carries sale_id, as newer ones."""
        account, sale = self._find("sale", key)
        wanted = ("completed", "partially_refunded", "pending") if action == "reverse" else ("reversed",)
        if sale["state"] not in wanted:
            raise BadControl(f"{key} is {sale['state']}")
        if action == "reverse":
            account.sales.reverse(sale, names_sale=wish.get("names_sale") is True)
        else:
            account.sales.cancel_reversal(sale)
        return json_answer({"sale": shown(sale), "refunds": [r for r in account.world.all("refund") if r["sale_id"] == key]})

    def change_sale(self, wish, key, state):
        """The sale after it turned out to be pending, denied, or completed after all; the event says so."""
        account, sale = self._find("sale", key)
        account.sales.change(sale, state)
        return json_answer({"sale": shown(sale)})

    # disputes

    def dispute(self, wish, key):
        """A dispute over the sale: {"reason"?, "stage"?: "INQUIRY" | "CHARGEBACK", "amount"?}."""
        account, sale = self._find("sale", key)
        if wish.get("stage", "INQUIRY") not in ("INQUIRY", "CHARGEBACK"):
            raise BadControl("'stage' must be INQUIRY or CHARGEBACK")
        amount = _amount(wish, None)
        return json_answer(account.disputes.open(sale, amount=None if amount is None else str(amount),
                                                 **{name: wish[name] for name in ("reason", "stage") if name in wish}), 201)

    def disputes(self, wish):
        return json_answer({"disputes": [dispute for account in self.sandbox.accounts.values() for dispute in account.world.all("dispute")]})

    def change_dispute(self, wish, key):
        """The dispute with another {"status"?}, or raised to another {"stage"?}."""
        account, dispute = self._open(key)
        account.disputes.change(dispute, wish.get("status"), wish.get("stage"))
        return json_answer(dispute)

    def resolve(self, wish, key):
        """The dispute with its {"outcome"}; {"money": "refunded" | "reversed" | null} says how the buyer got it back when it was lost."""
        account, dispute = self._open(key)
        if wish.get("outcome") not in OUTCOMES or wish.get("money", "refunded") not in ("refunded", "reversed", None):
            raise BadControl(f"'outcome' must be one of {', '.join(OUTCOMES)}; 'money' refunded, reversed or null")
        account.disputes.resolve(dispute, wish["outcome"], money=wish.get("money", "refunded"))
        return json_answer(dispute)

    def _open(self, key):
        account, dispute = self._find("dispute", key)
        if dispute["status"] == "RESOLVED":
            raise BadControl(f"{key} is resolved")
        return account, dispute


@contextmanager
def _payable():
    try:
        yield
    except CannotPay:
        raise BadControl("the buyer's money cannot be had") from None


def _amount(wish, default):
    try:
        return Decimal(str(wish["amount"])) if "amount" in wish else default
    except InvalidOperation:
        raise BadControl("'amount' is no amount of money") from None


def _instant(text):
    try:
        return int(to_epoch(text))
    except ValueError as wrong:
        raise BadControl(str(wrong)) from None


def _plan_body(wish):
    """The body of POST /v1/billing/plans for a short order."""
    currency = wish.get("currency", "EUR")

    def cycle(tenure, sequence, price, unit, count, total):
        return {"tenure_type": tenure, "sequence": sequence, "total_cycles": total, "frequency": {"interval_unit": unit, "interval_count": count},
                "pricing_scheme": {"fixed_price": {"value": str(price), "currency_code": currency}}}
    trial = [cycle("TRIAL", 1, wish.get("trial_price", "0"), "DAY", wish["trial_days"], 1)] if wish.get("trial_days") else []
    try:
        regular = cycle("REGULAR", len(trial) + 1, wish["price"], wish.get("interval", "MONTH"), wish.get("count", 1), wish.get("cycles", 0))
        return {"name": wish["name"], "billing_cycles": [*trial, regular], "payment_preferences": {
            "auto_bill_outstanding": wish.get("auto_bill", True), "payment_failure_threshold": wish.get("threshold", 0),
            "setup_fee": {"value": str(wish.get("setup_fee", "0")), "currency_code": currency}},
            "quantity_supported": wish.get("quantity_supported", False)}
    except KeyError as missing:
        raise BadControl(f"a plan needs {missing}") from None
