"""The Subscriptions API of one merchant at PayPal (/v1/billing/subscriptions), and the form in which it shows a subscription."""
from decimal import Decimal
from urllib.parse import urlencode

from .clock import to_epoch
from .paypal_billing import CannotPay, final_payment, shown_next
from .paypal_contract import body_of, instant
from .paypal_errors import malformed, not_found, unprocessable
from .paypal_money import v2
from .paypal_terms import agreed, shown
from .paypal_world import iso

PATH = "/v1/billing/subscriptions"
KEYS_KEPT = 72 * 3600   # PayPal-Request-Id is kept for 72 hours (the official file); by the wall clock, as retries go by it
ACTIONS = {"ACTIVE": ("cancel", "edit", "self", "suspend", "capture"), "SUSPENDED": ("cancel", "edit", "self", "activate", "capture"),
           "APPROVAL_PENDING": ("edit", "self", "approve")}
METHODS = {"edit": "PATCH", "self": "GET", "approve": "GET"}


class Subscriptions:
    """Carries out the calls; `billing` moves the records on."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    def routes(self):
        """(method, path in the official file, call)."""
        return [
            ("POST", PATH, self.create),
            ("GET", PATH + "/{id}", self.get),
            ("POST", PATH + "/{id}/suspend", self.suspend),
            ("POST", PATH + "/{id}/activate", self.activate),
            ("POST", PATH + "/{id}/cancel", self.cancel),
            ("POST", PATH + "/{id}/capture", self.capture),
            ("GET", PATH + "/{id}/transactions", self.transactions),
        ]

    def find(self, key):
        """The record; Refusal 404 otherwise."""
        sub = self.world.find("subscription", key)
        if sub is None:
            raise not_found()
        return sub

    def create(self, request):
        """201 with a subscription that waits for its approval; 200 with the same one for a PayPal-Request-Id seen before."""
        wish, key = body_of(request), request.headers.get("paypal-request-id")
        known, now = self.world.state["requests"], self.world.clock.wall()
        for old in [k for k, entry in known.items() if entry["at"] < now - KEYS_KEPT]:
            del known[old]
        before = self.world.find("subscription", known[key]["id"]) if key in known else None
        sub = before or self.make(wish)
        if key is not None and before is None:
            known[key] = {"id": sub["id"], "at": now}
        return 200 if before else 201, self._preferred(request, sub)

    def make(self, wish):
        """The new record, APPROVAL_PENDING, and its event."""
        plan = self.world.find("plan", wish["plan_id"])
        if plan is None:
            raise not_found()
        if plan["status"] != "ACTIVE":
            raise unprocessable("PLAN_STATUS_INVALID", "Invalid plan status for subscription creation; plan status should be active.")
        if "quantity" in wish and not plan["quantity_supported"]:
            raise unprocessable("SUBSCRIPTION_CANNOT_HAVE_QUANTITY", "Subscription can't have quantity as the plan does not support quantity.")
        context, now = wish.get("application_context") or {}, self.world.now
        terms = agreed(plan, wish.get("plan"))
        sub = self.world.add("subscription", {
            "id": f"I-{self.world.draw(12)}", "plan_id": plan["id"], "status": "APPROVAL_PENDING", "status_at": None, "note": None,
            "start": self._start(wish), "created": now, "updated": None, "approved": None, "quantity": wish.get("quantity", "1"),
            "custom_id": wish.get("custom_id"), "overridden": bool(wish.get("plan")), "terms": terms, "payer": None, "funding": "good",
            "asked_email": (wish.get("subscriber") or {}).get("email_address"), "ba_token": f"BA-{self.world.draw(17)}", "token": self.world.draw(17),
            "brand": context.get("brand_name"), "return_url": context.get("return_url"), "cancel_url": context.get("cancel_url"),
            "done": {str(cycle["sequence"]): 0 for cycle in terms["cycles"]}, "day": None, "slot": None, "due": None, "tries": 0,
            "outstanding": "0", "failed": 0, "paid": None, "failing": None, "suspended_by": None, "lie": None})
        self.billing.tell(sub, "CREATED")
        return sub

    def _start(self, wish):
        if "start_time" not in wish:
            return self.world.now
        start = instant(wish["start_time"], "/start_time")
        if start <= self.world.now:
            raise malformed("/start_time", "INVALID_PARAMETER_VALUE", "Start time must be a valid future date and time.")
        return start

    def get(self, request, key):
        """The subscription, with `fields` last_failed_payment and plan."""
        return 200, self.shown(self.find(key), fields=tuple((request.query.get("fields") or "").split(",")))

    def suspend(self, request, key):
        self.billing.suspend(self.find(key), "merchant", body_of(request)["reason"])
        return 204, None

    def activate(self, request, key):
        self.billing.activate(self.find(key), "merchant", body_of(request).get("reason"))
        return 204, None

    def cancel(self, request, key):
        self.billing.cancel(self.find(key), body_of(request)["reason"])
        return 204, None

    def capture(self, request, key):
        """200 with the transaction that took a part of the outstanding balance."""
        sub, wish = self.find(key), body_of(request)
        if sub["status"] not in ("ACTIVE", "SUSPENDED", "EXPIRED"):
            raise unprocessable("SUBSCRIPTION_STATUS_INVALID", "Invalid subscription status for capture action; subscription status should be "
                                "active or suspended or expired.")
        if wish["amount"]["currency_code"] != sub["terms"]["currency"]:
            raise unprocessable("CURRENCY_MISMATCH", "The currency code is different from the subscription's currency code.")
        if Decimal(sub["outstanding"]) == 0:
            raise unprocessable("ZERO_OUTSTANDING_BALANCE", "Current outstanding balance should be greater than zero.")
        if Decimal(wish["amount"]["value"]) > Decimal(sub["outstanding"]):
            raise unprocessable("AMOUNT_GREATER_THAN_OUTSTANDING_BALANCE",
                                "The capture amount can not be greater than the current outstanding balance.")
        try:
            return 200, self._transaction(self.billing.capture(sub, Decimal(wish["amount"]["value"])))
        except CannotPay:
            raise unprocessable("SUBSCRIBER_ACCOUNT_RESTRICTED", "Subscriber Account Restricted.") from None

    def transactions(self, request, key):
        """The sales of the subscription between start_time and end_time."""
        sub = self.find(key)
        since, until = (instant(request.query[name], name, "query") for name in ("start_time", "end_time"))
        found = [sale for sale in self.world.all("sale") if sale["billing_agreement_id"] == sub["id"] and since <= to_epoch(sale["create_time"]) <= until]
        here = self.world.url(f"{PATH}/{key}/transactions?{urlencode({'start_time': request.query['start_time'], 'end_time': request.query['end_time']})}")
        return 200, {"transactions": [self._transaction(sale) for sale in found], "links": [{"href": here, "rel": "SELF", "method": "GET"}]}

    # shapes

    def _preferred(self, request, sub):
        whole = self.shown(sub)
        if "return=representation" in (request.headers.get("prefer") or ""):
            return whole
        return {name: whole[name] for name in ("status", "id", "create_time", "links")}

    def shown(self, sub, *, fields=(), event=False):
        """The record in PayPal's form; `event`: as events carry it, with last_failed_payment when a payment failed last."""
        approved = sub["status"] != "APPROVAL_PENDING"
        changed = {"status_update_time": iso(sub["status_at"])} if approved else {}
        return {
            "status": sub["status"], **({"status_change_note": sub["note"]} if sub["note"] else {}), **changed,
            "id": sub["id"], "plan_id": sub["plan_id"], "start_time": iso(sub["start"]), "quantity": sub["quantity"],
            **({"shipping_amount": v2(0, sub["terms"]["currency"]), "subscriber": self._subscriber(sub),
                "billing_info": self._billing_info(sub, failing=event or "last_failed_payment" in fields)} if approved else {}),
            "create_time": iso(sub["created"]), **({"update_time": iso(sub["updated"])} if approved else {}),
            **({"custom_id": sub["custom_id"]} if sub["custom_id"] else {}), "plan_overridden": sub["overridden"],
            **({"plan": shown(sub["terms"])} if "plan" in fields else {}), "links": self._links(sub, event)}

    def _subscriber(self, sub):
        payer = self.world.whole["payers"][sub["payer"]]
        return {"email_address": sub["payer"], "payer_id": payer["payer_id"],
                "name": {"given_name": payer["given_name"], "surname": payer["surname"]}}

    def _billing_info(self, sub, *, failing):
        currency, options = sub["terms"]["currency"], self.world.options
        settled = self.world.now >= sub["approved"] + options.settles
        final, following = final_payment(sub), shown_next(sub, self.world.now, options)
        failed = sub["failing"] if failing else None
        return {
            "outstanding_balance": v2(sub["outstanding"], currency),
            "cycle_executions": [_execution(cycle, sub["done"][str(cycle["sequence"])] if settled else 0) for cycle in sub["terms"]["cycles"]],
            **({"last_payment": {"amount": v2(sub["paid"]["amount"], currency), "time": iso(sub["paid"]["at"])}} if sub["paid"] else {}),
            **({"next_billing_time": following} if following else {}),
            **({"final_payment_time": iso(final)} if final and sub["status"] == "ACTIVE" else {}), "failed_payments_count": sub["failed"],
            **({"last_failed_payment": {
                "amount": v2(failed["amount"], currency), "time": iso(failed["at"]), "reason_code": "PAYMENT_DENIED",
                **({"next_payment_retry_time": iso(failed["retry"])} if failed["retry"] else {})}} if failed else {})}

    def _links(self, sub, event):
        here = self.world.url(f"{PATH}/{sub['id']}")
        found = []
        for rel in ACTIONS.get(sub["status"], ("self",)):
            href = here if rel in ("self", "edit") else f"{here}/{rel}"
            if rel == "approve":
                href = self.world.url(f"/webapps/billing/subscriptions?ba_token={sub['ba_token']}")
            found.append({"href": href, "rel": rel, "method": METHODS.get(rel, "POST"), **({"encType": "application/json"} if event else {})})
        return found

    def _transaction(self, sale):
        payer, currency = self.world.whole["payers"][sale["inside"]["email"]], sale["amount"]["currency"]
        gross, kept = Decimal(sale["amount"]["total"]), Decimal(sale["transaction_fee"]["value"])
        status = {"completed": "COMPLETED", "pending": "PENDING", "denied": "DECLINED", "partially_refunded": "PARTIALLY_REFUNDED"}
        return {"status": status.get(sale["state"], "REFUNDED"), "id": sale["id"], "amount_with_breakdown": {
                    "gross_amount": v2(gross, currency), "fee_amount": v2(kept, currency), "net_amount": v2(gross - kept, currency)},
                "payer_name": {"given_name": payer["given_name"], "surname": payer["surname"]}, "payer_email": sale["inside"]["email"],
                "time": sale["create_time"]}


def _execution(cycle, done):
    return {"tenure_type": cycle["tenure"], "sequence": cycle["sequence"], "cycles_completed": done,
            "cycles_remaining": max(0, cycle["total"] - done), "current_pricing_scheme_version": cycle["version"], "total_cycles": cycle["total"]}
