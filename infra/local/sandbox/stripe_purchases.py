"""Checkout in payment mode: one-time purchases, paid at once by card or days later by bank debit (docs.stripe.com/api/checkout/sessions)."""
import re
from html import escape

from . import stripe_objects, stripe_payment_objects as objects
from .http import redirect
from .stripe_billing import CardDeclined
from .stripe_html import alert, card_field, choice, field, form, link, money, page
from .stripe_params import Refusal, http_url, missing

NAMES = {"card": "Card", "sepa_debit": "Bank debit (takes days)"}
METHODS = tuple(NAMES)


class Purchases:
    """One-time purchases of one account. `new_customer(params)` makes a customer as POST /v1/customers does."""

    def __init__(self, world, billing, new_customer):
        self.world, self.billing, self.payments, self._new_customer = world, billing, billing.payments, new_customer

    # the API

    def create(self, params):
        """An open session in payment mode, or a Refusal."""
        for name in ("success_url", "cancel_url"):
            if name in params:
                http_url(params[name], name)
        if "subscription_data" in params:
            raise Refusal(400, "You can not pass `subscription_data` in `payment` mode.", param="subscription_data")
        lines = [self._line(line, place) for place, line in enumerate(params["line_items"])]
        if len({line["currency"] for line in lines}) != 1:
            raise Refusal(400, "All prices on a Checkout Session must be expected to match currency.", param="line_items")
        methods = params.get("allowed_payment_method_types") or (METHODS if lines[0]["currency"] == "eur" else METHODS[:1])
        self._check(params, methods)
        key, total = "cs_test_a1" + self.world.draw(56), sum(line["amount_total"] for line in lines)
        session = stripe_objects.checkout_session(params, key=key, now=self.world.now, url=f"{self.world.public_url()}/c/pay/{key}",
                                                  price_object=lines[0]["price"])
        session |= {"mode": "payment", "amount_subtotal": total, "amount_total": total, "payment_method_types": list(methods),
                    "payment_method_collection": None if total else "if_required", "payment_status": "unpaid" if total else "no_payment_required",
                    "customer_creation": None if "customer" in params else params.get("customer_creation", "if_required"),
                    "invoice_creation": {"enabled": False, "invoice_data": {
                        "account_tax_ids": None, "custom_fields": None, "description": None, "footer": None, "issuer": None, "metadata": {},
                        "rendering_options": None}}}
        data = params.get("payment_intent_data", {})
        self.world.inside(key).update(line_items=lines, metadata=data.get("metadata") or {}, description=data.get("description"))
        return self.world.add(session)

    def _line(self, line, place):
        at = f"line_items[{place}][price]"
        if "price" not in line:
            raise missing(at)
        price = self.world.find("price", line["price"], at)
        if price["type"] != "one_time":
            raise Refusal(400, "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only "
                               "one-time prices.", param=at)
        if not price["active"]:
            raise Refusal(400, "The price specified is inactive. This field only accepts active prices.", param=at)
        return objects.line_item(price, self.world.find("product", price["product"]), line.get("quantity", 1), key="li_1" + self.world.draw(23))

    def _check(self, params, methods):
        if set(methods) - set(METHODS):
            raise Refusal(400, f"This sandbox has the payment methods {', '.join(METHODS)} only.", code="sandbox_not_implemented",
                          param="allowed_payment_method_types")
        if "customer" in params:
            self.world.find("customer", params["customer"], "customer")
            for other in ("customer_email", "customer_creation"):
                if other in params:
                    raise Refusal(400, f"You may only specify one of these parameters: customer, {other}.")
        ends = params.get("expires_at", self.world.now + 86400)
        if not self.world.now + 1800 <= ends <= self.world.now + 86400:
            raise Refusal(400, "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout Session creation.",
                          param="expires_at")

    # the hosted page

    def answer(self, request, session):
        """The payment page of an open session; a POST pays with `number`, or by bank debit with method=sepa_debit."""
        if request.method == "GET":
            return self._page(session)
        given = request.form()
        known = self.world.find("customer", session["customer"]) if session["customer"] else None
        email = (known or {}).get("email") or session["customer_email"] or given.get("email", "").strip()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
            return self._page(session, "Please enter your email address.", status=400)
        method = given.get("method") or "card"
        if method not in session["payment_method_types"]:
            return self._page(session, "This payment method is not offered.", status=400)
        try:
            self._pay(session, email, method, given.get("number", ""))
        except CardDeclined as declined:
            return self._page(session, str(declined), status=402)
        return redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))

    def _pay(self, session, email, method, number):
        if session["payment_status"] == "no_payment_required":
            return self._complete(session, email, {})
        if method == "card":
            return self._pay_by_card(session, email, number)
        debit = self.world.add(objects.bank_debit(key="pm_1" + self.world.draw(23), now=self.world.now, email=email))
        self._know(session, email)
        self.payments.begin_debit(self._intent(session), debit)
        return self._complete(session, email, {})

    def _pay_by_card(self, session, email, number):
        """Paid and complete, or CardDeclined with the session still open; a refused card leaves a failed charge behind."""
        number, refused = "".join(number.split()), None
        try:
            self.billing.check_chargeable(number)
        except CardDeclined as declined:
            if declined.code == "test_mode_live_card":  # no card at all
                raise
            refused = declined
        card = stripe_objects.payment_method(number, key="pm_1" + self.world.draw(23), now=self.world.now, customer_id=None, email=email,
                                             fingerprint=self.world.draw(16))
        self.world.state["cards"][card["id"]] = number
        self.world.add(card)
        if not refused:
            self._know(session, email)
        self.payments.attempt(self._intent(session), card, refused and refused.code)
        if refused:
            raise refused
        self._complete(session, email, {"payment_status": "paid"})

    def _know(self, session, email):
        """The buyer is a customer, if the session wants one whoever buys."""
        if session["customer"] is None and session["customer_creation"] == "always":
            with self.world.changing(session):
                session["customer"] = self._new_customer({"email": email})["id"]

    def _intent(self, session):
        """The payment intent of the session, made at the first attempt to pay it."""
        if session["payment_intent"]:
            with self.world.changing(self.world.find("payment_intent", session["payment_intent"])) as intent:
                intent["customer"] = session["customer"]
            return intent
        inside = self.world.inside(session["id"])
        intent = self.payments.intend(amount=session["amount_total"], currency=session["currency"], customer=session["customer"],
                                      description=inside["description"], metadata=inside["metadata"], methods=session["payment_method_types"])
        with self.world.changing(session):
            session["payment_intent"] = intent["id"]
        return intent

    def _complete(self, session, email, paid):
        self._know(session, email)
        with self.world.changing(session):
            session |= {"status": "complete", "url": None, **paid, "customer_details": {
                "address": None, "business_name": None, "email": email, "individual_name": None, "name": None, "phone": None,
                "tax_exempt": "none", "tax_ids": []}}
        self.world.emit("checkout.session.completed", session)

    def _page(self, session, problem="", status=200):
        lines = self.world.state["inside"][session["id"]]["line_items"]
        shown = "".join(f"<p>{line['quantity']} × {escape(line['description'])}: <b>{money(line['amount_total'], line['currency'])}</b></p>"
                        for line in lines)
        known = (self.world.find("customer", session["customer"]) if session["customer"] else {}).get("email") or session["customer_email"]
        who = f"<p>{escape(known)}</p>" if known else field("Email", "email", kind="email")
        url, free = f"/c/pay/{session['id']}", session["payment_status"] == "no_payment_required"
        ways = [(name, NAMES[name]) for name in session["payment_method_types"]]
        how = [card_field(), choice("Pay by (empty: card)", "method", ways) if len(ways) > 1 else ""]
        back = link(session["cancel_url"], "Cancel", name="cancel") if session["cancel_url"] else ""
        return page(f"Pay {lines[0]['description']}", shown, alert(problem),
                    form(url, "Pay", who, *([] if free else how), name="pay"), back, status=status)

    # the bank's answer

    def settle(self, intent, outcome):
        """The bank has answered for a debit under way: "succeed" or "decline"; the session's buyer hears of it."""
        self.payments.settle(intent, outcome)
        session = next((s for s in self.world.all("checkout.session") if s["payment_intent"] == intent["id"]), None)
        if session is None:
            return
        if outcome == "succeed":
            with self.world.changing(session):
                session["payment_status"] = "paid"
        self.world.emit(f"checkout.session.async_payment_{'succeeded' if outcome == 'succeed' else 'failed'}", session)

    def due(self):
        """The debits that the bank will have paid by then, as Billing.due."""
        for intent in self.world.all("payment_intent"):
            if intent["status"] == "processing":
                yield self.world.state["inside"][intent["id"]]["settles"], 5, intent["id"], self._settle_on_time

    def _settle_on_time(self, key):
        self.settle(self.world.find("payment_intent", key), "succeed")
