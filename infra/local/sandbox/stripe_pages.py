"""Stripe's hosted pages: Checkout, the billing portal, and the page of an open invoice.

All are plain HTML forms, so a browser and a plain HTTP client do the same. The URL is the only credential, as at Stripe.

    Checkout        GET url; POST url  email=, number=            303 to success_url | 402 declined | 200 the bank asks
                    POST url           authenticate=succeed|fail  what the owner of the card answered
    portal          GET url            the page, or the flow the session was made for
                    GET|POST url/subscriptions/{id}/cancel        reason=, comment=
                    POST url/subscriptions/{id}/renew             (Don't cancel)
                    GET|POST url/subscriptions/{id}/update        price=    (Update plan)
                    GET|POST url/payment-method                   number=   303 | 402 declined
                    GET|POST url/details                          email=, name=
    invoice         GET hosted_invoice_url; POST it  number= (empty: the card on file), or authenticate=succeed|fail
"""
import re
from html import escape

from .http import redirect
from .stripe_billing import CardDeclined, item_end
from .stripe_html import alert, authentication, card_field, choice, day, field, form, gone, link, money, page, price_text, table
from .stripe_plan_pages import PlanPages
from .stripe_trials import wish as trial_wish

REASON_TEXT = {"too_expensive": "It's too expensive", "missing_features": "I need more features", "unused": "I don't use it enough",
               "switched_service": "I found an alternative", "customer_service": "Customer service was less than expected",
               "too_complex": "Ease of use was less than expected", "low_quality": "Quality was less than expected",
               "other": "Other reason"}


class Pages:
    """Answers for the hosted pages of one sandbox."""

    def __init__(self, sandbox):
        self.sandbox, self.world = sandbox, sandbox.world
        self.plans = PlanPages(self)
        self._routes = [(re.compile(pattern + "$"), call) for pattern, call in (
            (r"/", self.overview),
            (r"/c/pay/([^/]+)", self.checkout),
            (r"/p/session/([^/]+)", self.portal),
            (r"/p/session/([^/]+)/subscriptions/([^/]+)/cancel", self.cancel),
            (r"/p/session/([^/]+)/subscriptions/([^/]+)/renew", self.renew),
            (r"/p/session/([^/]+)/subscriptions/([^/]+)/update", self.plans.update),
            (r"/p/session/([^/]+)/payment-method", self.payment_method),
            (r"/p/session/([^/]+)/details", self.details),
            (r"/i/([^/]+)/([^/]+?)(?:/pdf)?", self.invoice),
        )]

    def answer(self, request):
        """The page, or 404."""
        for pattern, call in self._routes:
            match = pattern.match(request.path)
            if match and request.method in ("GET", "POST"):
                return call(request, *match.groups())
        return gone("There is no such page in this sandbox.")

    def overview(self, request):
        """What this account has, for whoever opens the sandbox's address; `?account=acct_…` shows a connected one."""
        chosen = self.sandbox.accounts.connected.get(request.query.get("account"))
        if chosen and chosen is not self.sandbox:
            return chosen.pages.overview(request)
        world = self.world
        subs = [(s["id"], world.find("customer", s["customer"])["email"] or s["customer"], s["status"],
                 "ends" if s["cancel_at"] or s["cancel_at_period_end"] else "renews", day(s["cancel_at"] or item_end(s) or 0))
                for s in reversed(list(world.all("subscription")))]
        events = [(day(e["created"]), e["type"], ", ".join(str(a["status"]) for a in world.state["attempts"].get(e["id"], [])) or "not yet sent")
                  for e in list(world.all("event"))[:-26:-1]]
        return page("Stripe sandbox", f"<p>Its clock shows {day(world.now)}. Orders: <a href='/_sandbox/'>/_sandbox/</a></p>",
                    "<h2>Subscriptions</h2>", table(subs), "<h2>Latest events, and what the endpoint answered</h2>", table(events))

    # Checkout

    def checkout(self, request, key):
        """The payment page; a paid session sends the buyer on, a completed or expired one cannot be paid."""
        session = self.world.state["objects"]["checkout.session"].get(key)
        if session is None or session["status"] == "expired":
            return gone("This checkout session has expired or never was.")
        if session["status"] == "complete":
            return page("All done here", "<p>This checkout session has been completed. Nothing was charged again.</p>", status=409)
        if session["mode"] == "payment":
            return self.sandbox.purchases.answer(request, session)
        if request.method == "GET":
            return self._checkout_page(session)
        form_fields = request.form()
        if "authenticate" in form_fields:
            return self._authenticate(session, form_fields["authenticate"])
        email = (self._customer_of(session) or {}).get("email") or session["customer_email"] or form_fields.get("email", "").strip()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
            return self._checkout_page(session, "Please enter your email address.", status=400)
        try:
            completed = self._complete(session, email, form_fields.get("number", ""))
        except CardDeclined as declined:
            return self._checkout_page(session, str(declined), status=402)
        return self._completed(session) if completed else authentication(f"/c/pay/{session['id']}")

    def _completed(self, session):
        return redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))

    def _customer_of(self, session):
        return self.world.find("customer", session["customer"]) if session["customer"] else None

    def _complete(self, session, email, number):
        """Whether the session is complete now; not yet when the bank asks the owner of the card first."""
        inside, needed = self.world.inside(session["id"]), self._card_needed(session)
        customer = self._customer_of(session) or self.world.state["objects"]["customer"].get(inside.get("customer"))
        if customer is None:
            if needed and not inside["trial"]:
                self.sandbox.billing.check_chargeable(number)  # a declined first payment leaves no customer behind
            customer = self.sandbox.api.create_customer({"email": email})
        sub = self._waiting(session)
        if sub is None:
            sub = self._begin(inside, customer, number if needed else None)
        else:  # the same subscription, tried with this card
            self.sandbox.billing.use_card(customer, self.sandbox.billing.attach(customer, number))
            self.sandbox.billing.pay(self.world.find("invoice", sub["latest_invoice"]))
        inside |= {"customer": customer["id"], "email": email, "waiting": sub["id"]}
        return self._conclude(session, sub)

    def _begin(self, inside, customer, number):
        ends, _ = trial_wish(inside["trial"], self.world.now)
        return self.sandbox.billing.begin([self.world.find("price", key) for key in inside["prices"]], customer=customer, number=number,
                                          metadata=inside["metadata"], mode=inside["mode"], trial_end=ends, missing=inside["missing"])

    def _waiting(self, session):
        """The incomplete subscription that the session began and may still complete, or None."""
        sub = self.world.state["objects"]["subscription"].get(self.world.inside(session["id"]).get("waiting"))
        return sub if sub and sub["status"] == "incomplete" else None

    def _conclude(self, session, sub):
        if sub["status"] == "incomplete":
            if not self.sandbox.billing.beginnings.needs_action(self.world.find("invoice", sub["latest_invoice"])):
                raise CardDeclined("generic_decline")
            return False
        inside = self.world.inside(session["id"])
        with self.world.changing(session):
            session |= {"status": "complete", "payment_status": "no_payment_required" if sub["status"] == "trialing" else "paid",
                        "customer": inside["customer"], "subscription": sub["id"], "invoice": sub["latest_invoice"], "url": None,
                        "customer_details": {"address": None, "business_name": None, "email": inside["email"], "individual_name": None,
                                             "name": None, "phone": None, "tax_exempt": "none", "tax_ids": []}}
        self.world.emit("checkout.session.completed", session)
        return True

    def _authenticate(self, session, answer):
        """What comes after the owner of the card told the bank yes ("succeed") or no."""
        sub = self._waiting(session)
        if sub is None:
            return self._checkout_page(session, "This payment is no longer open. Please try again.", status=402)
        self.sandbox.billing.beginnings.authenticate(self.world.find("invoice", sub["latest_invoice"]), "succeed" if answer == "succeed" else "decline")
        try:
            self._conclude(session, sub)
        except CardDeclined:
            return self._checkout_page(session, "We are unable to authenticate your payment method. Please choose a different one.", status=402)
        return self._completed(session)

    def _card_needed(self, session):
        return session["payment_method_collection"] == "always" or bool(session["amount_total"])

    def _checkout_page(self, session, problem="", status=200):
        inside = self.world.state["inside"][session["id"]]
        prices = [self.world.find("price", key) for key in inside["prices"]]
        products = [self.world.find("product", price["product"]) for price in prices]
        known = (self._customer_of(session) or {}).get("email") or session["customer_email"]
        who = f"<p>{escape(known)}</p>" if known else field("Email", "email", kind="email")
        back = link(session["cancel_url"], "Cancel", name="cancel") if session["cancel_url"] else ""
        ends, _ = trial_wish(inside["trial"], self.world.now)
        terms = [f"<p>{escape(product['description'] or '')}</p><p><b>{price_text(price)}</b></p>" for product, price in zip(products, prices, strict=True)]
        return page(f"Subscribe to {' and '.join(product['name'] for product in products)}", *terms,
                    f"<p>Free until {day(ends)}</p>" if ends else "", alert(problem),
                    form(f"/c/pay/{session['id']}", "Start trial and subscribe" if ends else "Pay and subscribe", who,
                         card_field() if self._card_needed(session) else "", name="pay"), back, status=status)

    # the billing portal

    def visit(self, token):
        """(session, its configuration, its customer), or Nones when the link is dead."""
        session = self.sandbox.portal.visit(token)
        if session is None:
            return None, None, None
        return (session, self.world.find("billing_portal.configuration", session["configuration"]),
                self.world.find("customer", session["customer"]))

    def portal(self, request, token):
        """The portal's home, or straight the flow that the session was made for."""
        session, configuration, customer = self.visit(token)
        if session is None:
            return gone("Your portal link has expired. Go back to the site you came from and open it again.")
        flow, home = session["flow"], f"/p/session/{token}"
        if flow and not self.world.inside(session["id"])["done"]:
            return redirect(home + "/payment-method" if flow["type"] == "payment_method_update"
                            else f"{home}/subscriptions/{flow[flow['type']]['subscription']}/{flow['type'].removeprefix('subscription_')}")
        features, profile = configuration["features"], configuration["business_profile"]
        parts = [f"<p>{escape(profile['headline'])}</p>" if profile["headline"] else ""]
        parts += [self._subscription_part(sub, home, features) for sub in self.sandbox.billing.subscriptions_of(customer)]
        parts += [self._card_part(customer, home, features), self._details_part(customer, home, features), self._invoices_part(customer, features)]
        parts += self._links(session, profile)
        return page("Billing", *parts)

    def _links(self, session, profile):
        return [link(url, text, name=name) for url, text, name in (
            (session["return_url"], "Return to the site you came from", "return"),
            (profile["terms_of_service_url"], "Terms", "terms"), (profile["privacy_policy_url"], "Privacy", "privacy")) if url]

    def _subscription_part(self, sub, home, features):
        prices, here = [entry["price"] for entry in sub["items"]["data"]], f"{home}/subscriptions/{sub['id']}"
        names = " and ".join(self.world.find("product", price["product"])["name"] for price in prices)
        ending = sub["cancel_at"] or (item_end(sub) if sub["cancel_at_period_end"] else None)
        if ending:
            text, act = f"Cancels on {day(ending)}", form(here + "/renew", "Don't cancel", quiet=True, name=f"renew-{sub['id']}")
        else:
            text = {"active": f"Renews on {day(item_end(sub))}", "trialing": f"Trial until {day(item_end(sub))}"}.get(
                sub["status"], sub["status"].replace("_", " ").capitalize())
            act = link(here + "/cancel", "Cancel subscription", name=f"cancel-{sub['id']}") if features["subscription_cancel"]["enabled"] else ""
        return (f"<section id='{sub['id']}'><h2>{escape(names)}</h2>{''.join(f'<p>{price_text(price)}</p>' for price in prices)}"
                f"<p>{escape(text)}</p>{self.plans.part(sub, here, features)}{act}</section>")

    def _card_part(self, customer, home, features):
        if not features["payment_method_update"]["enabled"]:
            return ""
        subs = self.sandbox.billing.subscriptions_of(customer)
        key = customer["invoice_settings"]["default_payment_method"] or next((s["default_payment_method"] for s in subs), None)
        card = self.world.find("payment_method", key)["card"] if key else None
        shown = f"{card['brand']} ending in {card['last4']}" if card else "none"
        return f"<section><h2>Payment method</h2><p>{escape(shown)}</p>{link(home + '/payment-method', 'Change payment method', name='payment-method')}</section>"

    def _details_part(self, customer, home, features):
        if not features["customer_update"]["enabled"]:
            return ""
        shown = " · ".join(filter(None, (customer["name"], customer["email"])))
        return f"<section><h2>Billing information</h2><p>{escape(shown)}</p>{link(home + '/details', 'Update information', name='details')}</section>"

    def _invoices_part(self, customer, features):
        if not features["invoice_history"]["enabled"]:
            return ""
        rows = [f"<tr><td>{day(i['created'])}</td><td>{money(i['total'], i['currency'])}</td><td>{escape(i['status'])}</td>"
                f"<td><a href='{escape(i['hosted_invoice_url'])}'>{escape(i['number'])}</a></td></tr>"
                for i in reversed(list(self.world.all("invoice"))) if i["customer"] == customer["id"] and i["hosted_invoice_url"]]
        return f"<section><h2>Invoice history</h2><table>{''.join(rows)}</table></section>"

    def cancel(self, request, token, key):
        """Asks whether to cancel (and why, when the configuration says so), and does it as the configuration says."""
        session, configuration, customer = self.visit(token)
        sub = self.own(customer, key)
        if session is None or sub is None or not configuration["features"]["subscription_cancel"]["enabled"]:
            return gone("This subscription cannot be cancelled here.")
        rules, home = configuration["features"]["subscription_cancel"], f"/p/session/{token}"
        if sub["cancel_at_period_end"] or sub["cancel_at"]:
            return redirect(self.after(session, home))
        if request.method == "GET":
            return self._cancel_page(sub, rules, home, session)
        answers, reason = request.form(), rules["cancellation_reason"]
        feedback = answers.get("reason") if reason["enabled"] and answers.get("reason") in reason["options"] else None
        details = {"feedback": feedback, "comment": (answers.get("comment") or None) if reason["enabled"] else None}
        self.sandbox.billing.portal_cancel(sub, mode=rules["mode"], details=details)
        return redirect(self.after(session, home, done=True))

    def own(self, customer, key):
        """The subscription of the customer with that id, or None."""
        return next((s for s in self.sandbox.billing.subscriptions_of(customer) if s["id"] == key), None) if customer else None

    def _cancel_page(self, sub, rules, home, session):
        fields = []
        if rules["cancellation_reason"]["enabled"]:
            fields = [choice("Why do you cancel? (you need not say)", "reason",
                             [(o, REASON_TEXT.get(o, o)) for o in rules["cancellation_reason"]["options"]]),
                      field("Anything else?", "comment", required=False)]
        when = "now" if rules["mode"] == "immediately" else f"on {day(item_end(sub))}"
        back = link(session["return_url"], "Go back", name="return") if session["flow"] and session["return_url"] else link(home, "Go back")
        return page("Cancel your subscription", f"<p>It will end {when}.</p>",
                    form(f"{home}/subscriptions/{sub['id']}/cancel", "Cancel subscription", *fields, name="cancel"), back)

    def renew(self, request, token, key):
        """Takes back a cancellation that is still to come (Stripe's Don't cancel button)."""
        session, _, customer = self.visit(token)
        sub = self.own(customer, key)
        if sub is None or request.method != "POST":
            return gone("This subscription cannot be renewed here.")
        self.sandbox.billing.unschedule(sub)
        return redirect(f"/p/session/{token}")

    def payment_method(self, request, token):
        """Changes the card for everything the customer has; what is open is then tried again."""
        session, configuration, customer = self.visit(token)
        if session is None or not configuration["features"]["payment_method_update"]["enabled"]:
            return gone("The payment method cannot be changed here.")
        home = f"/p/session/{token}"
        back = session["return_url"] if session["flow"] and session["return_url"] else home
        problem = ""
        if request.method == "POST":
            try:
                self._replace_card(customer, request.form().get("number", ""))
                return redirect(self.after(session, home, done=True))
            except CardDeclined as declined:
                problem = str(declined)
        return page("Payment method", alert(problem), form(home + "/payment-method", "Save card", card_field(), name="card"),
                    link(back, "Go back", name="return"), status=402 if problem else 200)

    def _replace_card(self, customer, number):
        billing = self.sandbox.billing
        billing.use_card(customer, billing.attach(customer, number, asked=True))
        for sub in billing.subscriptions_of(customer):
            for invoice in billing.open_invoices(sub):
                billing.pay(invoice)

    def details(self, request, token):
        """Changes the customer's name and e-mail address, as far as the configuration allows."""
        session, configuration, customer = self.visit(token)
        rules = configuration["features"]["customer_update"] if session else {"enabled": False}
        if not rules["enabled"]:
            return gone("Billing information cannot be changed here.")
        allowed = [name for name in ("name", "email") if name in rules["allowed_updates"]]
        home = f"/p/session/{token}"
        if request.method == "POST":
            given = request.form()
            with self.world.changing(customer, "customer.updated"):
                customer |= {name: given[name].strip() or None for name in allowed if name in given}
            return redirect(home)
        fields = [field(name.capitalize(), name, value=customer[name], required=False) for name in allowed]
        return page("Billing information", form(home + "/details", "Save", *fields, name="details"), link(home, "Go back"))

    def after(self, session, home, *, done=False):
        """Where to go after something was done: what the flow says, else the portal's home."""
        if done:
            self.world.inside(session["id"])["done"] = True
        after = (session["flow"] or {}).get("after_completion") or {"type": "portal_homepage"}
        return after["redirect"]["return_url"] if after["type"] == "redirect" else home

    # an invoice

    def invoice(self, request, account, token):
        """The page of one invoice, where an open one can be paid with the card on file or another."""
        url = f"/i/{account}/{token}"
        found = next((i for i in self.world.all("invoice") if (i["hosted_invoice_url"] or "").endswith(url)), None)
        if found is None:
            return gone("There is no such invoice.")
        problem, answers = "", request.form() if request.method == "POST" else {}
        if "authenticate" in answers and self.sandbox.billing.beginnings.needs_action(found):
            paid = self.sandbox.billing.beginnings.authenticate(found, "succeed" if answers["authenticate"] == "succeed" else "decline")
            problem = "" if paid else "We are unable to authenticate your payment method."
        elif request.method == "POST" and found["status"] == "open":
            problem = self._pay(found, answers.get("number", "").strip())
            if problem and self.sandbox.billing.beginnings.needs_action(found):
                return authentication(url)
        shown = (f"<p>{money(found['total'], found['currency'])}, {escape(found['status'])}</p>"
                 f"<p>For {day(found['lines']['data'][0]['period']['start'])} to {day(found['lines']['data'][0]['period']['end'])}</p>")
        pay = form(url, "Pay", field("Card number (empty: the card on file)", "number", required=False), name="pay") if found["status"] == "open" else ""
        return page(f"Invoice {found['number']}", shown, alert(problem), pay, status=402 if problem else 200)

    def _pay(self, invoice, number):
        billing, customer = self.sandbox.billing, self.world.find("customer", invoice["customer"])
        try:
            if number:
                billing.use_card(customer, billing.attach(customer, number))
            return "" if billing.pay(invoice) else "Your card was declined."
        except CardDeclined as declined:
            return str(declined)
