"""PayPal's hosted pages: the approval of a subscription, and a buyer's automatic payments.

All are plain HTML forms, so a browser and a plain HTTP client do the same. Who the buyer is, is the e-mail that was typed.

    approval    GET  /webapps/billing/subscriptions?ba_token=BA-…
                POST the same  email=, funding=good|failing           303 to return_url | 402 the money cannot be had
    payments    GET  /myaccount/autopay/                              the list, or the sign-in
                POST /myaccount/autopay/sign-in  email=
                POST /myaccount/autopay/{I-…}/cancel | suspend | activate | funding   funding=good|failing
"""
import re
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, unquote, urlencode, urlsplit

from . import page_parts
from .clock import to_epoch
from .http import redirect
from .page_parts import alert, day, field, form, link, table
from .paypal_billing import CannotPay
from .paypal_errors import Refusal
from .paypal_payers import payer_of
from .paypal_terms import current, price_of

COOKIE = "paypal_sandbox_buyer"
AUTOPAY = "/myaccount/autopay/"
FUNDING = (("good", "Bank account (works)"), ("failing", "Card without money (payments fail)"))


def page(title, *parts, status=200):
    """An HTML page of PayPal's; `parts` are ready HTML."""
    return page_parts.page(title, *parts, banner="PayPal sandbox: no money moves", status=status)


def gone(text):
    """The page of a link that leads nowhere."""
    return page("Things don't appear to be working at the moment", f"<p>{escape(text)}</p>", status=404)


class Pages:
    """Answers for the hosted pages of all merchants."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def answer(self, request):
        """The page, or 404."""
        if request.method not in ("GET", "POST"):
            return gone("There is no such page in this sandbox.")
        if request.path == "/webapps/billing/subscriptions":
            return self.approval(request)
        if request.path.startswith(AUTOPAY.rstrip("/")):
            return self.autopay(request)
        return self.overview() if request.path == "/" else gone("There is no such page in this sandbox.")

    def overview(self):
        """What the merchants have, for whoever opens the sandbox's address."""
        parts = [f"<p>Its clock shows {day(self.sandbox.clock.now())}. Orders: <a href='/_sandbox/'>/_sandbox/</a>. "
                 f"A buyer's <a href='{AUTOPAY}'>automatic payments</a></p>"]
        for account in self.sandbox.accounts.values():
            world = account.world
            subs = [(sub["id"], sub["payer"] or "nobody yet", sub["status"], self._next(account, sub)) for sub in reversed(list(world.all("subscription")))]
            events = [(day(to_epoch(e["create_time"])), e["event_type"],
                       ", ".join(str(a["status"]) for a in world.whole["attempts"].get(e["id"], [])) or "not yet sent")
                      for e in list(world.all("event"))[:-16:-1]]
            parts += [f"<h2>{escape(account.merchant.name)} ({escape(account.merchant.id)})</h2>", table(subs), "<h3>Latest events</h3>", table(events)]
        return page("PayPal sandbox", *parts)

    @staticmethod
    def _next(account, sub):
        following = account.subscriptions.shown(sub).get("billing_info", {}).get("next_billing_time")
        return f"next payment {day(to_epoch(following))}" if following else ""

    def _subscription(self, wanted):
        """(account, record) of the first subscription for which `wanted` holds, or Nones."""
        return next(((account, sub) for account in self.sandbox.accounts.values() for sub in account.world.all("subscription") if wanted(sub)),
                    (None, None))

    # approval

    def approval(self, request):
        """The page on which the buyer agrees; an agreed one cannot be agreed to again."""
        token = request.query.get("ba_token", "")
        account, sub = self._subscription(lambda one: one["ba_token"] == token)
        if sub is None:
            return gone("This agreement has expired or never was. Return to the merchant and try again.")
        if sub["status"] != "APPROVAL_PENDING":
            return page("You already agreed to this", "<p>Nothing was charged again.</p>", status=409)
        if request.method == "GET":
            return self._approval_page(account, sub)
        given = request.form()
        email = given.get("email", "").strip()
        if payer_of(self.sandbox.kept_state, email) is None:
            return self._approval_page(account, sub, "Please enter your email address.", status=400)
        sub["funding"] = "failing" if given.get("funding") == "failing" else "good"
        try:
            account.billing.approve(sub, email)
        except CannotPay:
            return self._approval_page(account, sub, "We couldn't charge your source of money. Please choose another one.", status=402)
        if not sub["return_url"]:
            return page("You're subscribed", "<p>You can close this page.</p>")
        return redirect(_with_ids(sub["return_url"], sub))

    def _approval_page(self, account, sub, problem="", status=200):
        seller = sub["brand"] or account.merchant.name
        terms = "".join(f"<li>{escape(_cycle_text(sub, cycle))}</li>" for cycle in sub["terms"]["cycles"])
        fee = f"<p>Set-up fee: {escape(_money(sub['terms']['fee'], sub))}, today</p>" if float(sub["terms"]["fee"]) else ""
        starts = f"<p id=starts>Starts on {day(sub['start'])}. Nothing is charged before that.</p>" if sub["start"] > account.world.now else ""
        back = link(_with_ids(sub["cancel_url"], sub), f"Cancel and return to {seller}", name="cancel") if sub["cancel_url"] else ""
        return page(f"Subscribe to {sub['terms']['name']}", f"<p>Merchant: <b id=merchant>{escape(seller)}</b></p>",
                    f"<p>{escape(sub['terms']['description'] or '')}</p><ul>{terms}</ul>{fee}{starts}", alert(problem),
                    form(f"/webapps/billing/subscriptions?{urlencode({'ba_token': sub['ba_token']})}", "Agree & Subscribe",
                         field("Email of your PayPal account", "email", kind="email", value=sub["asked_email"] or ""),
                         _funding_field(sub), name="approve"), back, status=status)

    # automatic payments

    def autopay(self, request):
        """A buyer's automatic payments, and what to do with one of them."""
        email = _signed_in(request)
        rest = request.path.removeprefix(AUTOPAY.rstrip("/")).strip("/")
        if rest == "sign-in" and request.method == "POST":
            return self._sign_in(request)
        if email is None:
            return self._sign_in_page()
        if not rest:
            return self._list(email)
        key, _, action = rest.partition("/")
        account, sub = self._subscription(lambda one: one["id"] == key and one["payer"] == email)
        if sub is None or request.method != "POST" or action not in ("cancel", "suspend", "activate", "funding"):
            return gone("You have no such automatic payment.")
        return self._act(account, sub, action, request)

    def _sign_in(self, request):
        email = request.form().get("email", "").strip()
        if payer_of(self.sandbox.kept_state, email) is None:
            return self._sign_in_page("Please enter your email address.", status=400)
        answer = redirect(AUTOPAY)
        answer.headers["Set-Cookie"] = f"{COOKIE}={quote(email)}; Path=/; HttpOnly; SameSite=Lax"
        return answer

    @staticmethod
    def _sign_in_page(problem="", status=200):
        return page("Log in to PayPal", alert(problem), form(f"{AUTOPAY}sign-in", "Log In", field("Email", "email", kind="email"), name="sign-in"), status=status)

    def _act(self, account, sub, action, request):
        try:
            if action == "funding":
                sub["funding"] = "failing" if request.form().get("funding") == "failing" else "good"
                account.world.changed = True
            elif action == "cancel":
                account.billing.cancel(sub)
            else:
                getattr(account.billing, action)(sub, "buyer")
        except Refusal as refusal:
            return self._list(sub["payer"], refusal.body["details"][0]["description"], status=409)
        return redirect(AUTOPAY)

    def _list(self, email, problem="", status=200):
        found = [(account, sub) for account in self.sandbox.accounts.values() for sub in account.world.all("subscription") if sub["payer"] == email]
        sections = [self._section(account, sub) for account, sub in reversed(found)] or ["<p>You have no automatic payments.</p>"]
        return page("Automatic payments", f"<p id=buyer>{escape(email)}</p>", alert(problem), *sections,
                    form(f"{AUTOPAY}sign-in", "Log in as somebody else", field("Email", "email", kind="email"), quiet=True, name="sign-in"), status=status)

    def _section(self, account, sub):
        key, here = sub["id"], f"{AUTOPAY}{sub['id']}"
        doing = {"ACTIVE": ("suspend",), "SUSPENDED": ("activate",)}.get(sub["status"], ())
        forms = [form(f"{here}/{action}", f"{action.capitalize()} automatic payment", quiet=True, name=f"{action}-{key}") for action in doing]
        if doing:
            forms += [form(f"{here}/cancel", "Cancel automatic payment", name=f"cancel-{key}"),
                      form(f"{here}/funding", "Change source of money", _funding_field(sub, key), quiet=True, name=f"funding-{key}")]
        cycle = current(sub)
        price = f"<p>{escape(_cycle_text(sub, cycle))}</p>" if cycle else ""
        return (f"<section id='{escape(key)}'><h2>{escape(sub['brand'] or account.merchant.name)}</h2><p>{escape(sub['terms']['name'])}</p>{price}"
                f"<p class=status>{escape(sub['status'].capitalize())}</p><p>{escape(self._next(account, sub))}</p>{''.join(forms)}</section>")


def _signed_in(request):
    try:
        kept = SimpleCookie(request.headers.get("cookie") or "").get(COOKIE)
    except CookieError:
        return None
    return unquote(kept.value) if kept else None


def _with_ids(url, sub):
    """The merchant's URL with what PayPal appends."""
    parts = urlsplit(url)
    added = urlencode({"subscription_id": sub["id"], "ba_token": sub["ba_token"], "token": sub["token"]})
    return parts._replace(query="&".join(filter(None, (parts.query, added)))).geturl()


def _funding_field(sub, key=""):
    chosen = "".join(f"<option value={value}{' selected' if sub['funding'] == value else ''}>{escape(text)}</option>" for value, text in FUNDING)
    name = re.sub(r"[^\w-]", "", f"funding-source{key and '-'}{key}")
    return f"<label for='{name}'>Pay with</label><select id='{name}' name=funding>{chosen}</select>"


def _money(amount, sub):
    return f"{float(amount):.2f} {sub['terms']['currency']}"


def _cycle_text(sub, cycle):
    """5.00 EUR every month, 12 times."""
    unit, count = cycle["unit"].lower(), cycle["count"]
    price = price_of(sub, cycle)
    every = f"every {unit}" if count == 1 else f"every {count} {unit}s"
    times = f", {cycle['total']} time{'s' if cycle['total'] > 1 else ''}" if cycle["total"] else ""
    return f"{_money(price, sub) if price else 'Free'} {every}{times}" + (" (trial)" if cycle["tenure"] == "TRIAL" else "")
