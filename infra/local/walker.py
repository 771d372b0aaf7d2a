"""A black-box client: does what a member's browser does, and what people do in the sandboxes, over HTTP alone."""
import time
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import requests

GOOD_CARD, DECLINED_LATER = "4242424242424242", "4000000000000341"  # Stripe's test numbers; the second can be saved, charges fail
ASKED_CARD = "4000002500003155"  # the bank asks its owner before the first payment


class WalkFailed(Exception):
    """Something on the way was not as it must be; the text says what was asked, and what came."""


class Refused(WalkFailed):
    """The product answered a call with an error: its `status` and its problem document."""

    def __init__(self, method, path, status, problem):
        super().__init__(f"{method} {path} answered {status}: {problem.get('title')}: {problem.get('detail')}")
        self.status, self.problem = status, problem


class Page(HTMLParser):
    """An HTML page as a person sees it: `text`, `links` [(text, url)] and `forms` with their fields and buttons."""

    def __init__(self, response):
        super().__init__()
        self.url, self.status, self.links, self.forms, self._words = response.url, response.status_code, [], [], []
        self._form = self._open = self._hidden = None
        self.feed(response.text)
        self.text = " ".join(" ".join(self._words).split())

    def form(self, button=None, *, containing=""):
        """The form with a button of that text or value (without `button`: the first form) whose address contains `containing`."""
        for form in self.forms:
            if containing in form["action"] and (button is None or any(
                    button.lower() in (value or "").lower() or button.lower() in text.lower() for _, value, text in form["buttons"])):
                return form
        raise WalkFailed(f"{self.url} has no form with a button {button!r}: {self.text[:300]}")

    def has_button(self, text):
        """Whether some form has a button whose text contains `text`."""
        return any(text.lower() in shown.lower() for form in self.forms for _, _, shown in form["buttons"])

    def link(self, text, *, containing=""):
        """The address behind the first link whose text contains `text` and whose address contains `containing`."""
        for shown, url in self.links:
            if text.lower() in shown.lower() and containing in url:
                return url
        raise WalkFailed(f"{self.url} has no link {text!r}: {self.text[:300]}")

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("script", "style"):
            self._hidden = tag
        elif tag == "form":
            self._form = {"action": urljoin(self.url, attrs.get("action") or ""), "method": attrs.get("method", "get").lower(),
                          "fields": {}, "buttons": []}
            self.forms.append(self._form)
        elif tag == "a":
            self._open = self.links, [None, urljoin(self.url, attrs.get("href") or "")]
        elif self._form is not None:
            self._field(tag, attrs)

    def _field(self, tag, attrs):
        name, kind = attrs.get("name"), attrs.get("type", "text")
        if tag == "button" or (tag == "input" and kind == "submit"):
            button = [name, attrs.get("value"), attrs.get("value") or ""]
            self._form["buttons"].append(button)
            if tag == "button":
                self._open = None, [button]
        elif tag == "option" and self._form.get("select") and ("selected" in attrs or self._form["select"] not in self._form["fields"]):
            self._form["fields"][self._form["select"]] = attrs.get("value") or ""
        elif tag == "select":
            self._form["select"] = name
        elif tag in ("input", "textarea") and name and (kind not in ("radio", "checkbox") or "checked" in attrs):
            self._form["fields"][name] = attrs.get("value") or ""

    def handle_data(self, data):
        if self._hidden:
            return
        self._words.append(data)
        if self._open:
            where, thing = self._open
            if where is None:
                thing[0][2] += data
            else:
                thing[0] = (thing[0] or "") + data

    def handle_endtag(self, tag):
        if tag == self._hidden:
            self._hidden = None
        elif tag == "form":
            self._form = None
        elif tag in ("a", "button") and self._open:
            where, thing = self._open
            if where is not None:
                where.append((" ".join((thing[0] or "").split()), thing[1]))
            self._open = None


class Browser:
    """Opens pages, follows links and redirects, sends forms, keeps cookies."""

    def __init__(self, *, seconds=15):
        self._seconds, self.session = seconds, requests.Session()
        self.session.trust_env = False

    def open(self, url):
        """The page at `url`. WalkFailed when it is an error page."""
        return self._shown(self.session.get(url, timeout=self._seconds))

    def submit(self, page, *, button=None, containing="", **fields):
        """The page that comes after sending a form of `page` with that button pressed and these fields filled in."""
        form = page.form(button, containing=containing)
        data = {**form["fields"], **fields}
        for name, value, text in form["buttons"]:
            if name and (button is None or button.lower() in (value or "").lower() or button.lower() in text.lower()):
                data[name] = value or ""
                break
        key = "params" if form["method"] == "get" else "data"
        return self._shown(self.session.request(form["method"], form["action"], timeout=self._seconds, **{key: data}))

    @staticmethod
    def _shown(response):
        page = Page(response)
        if response.status_code >= 400:
            raise WalkFailed(f"{urlsplit(response.url).path} is an error page ({response.status_code}): {page.text[:300]}")
        return page


class Walker:
    """One person with a browser, and what this person does with the product and at the hosted pages."""

    def __init__(self, product_url, stripe_url, discord_url, paypal_url="", *, seconds=15):
        self.product_url, self.browser = product_url.rstrip("/"), Browser(seconds=seconds)
        self.sandbox = Sandboxes(stripe_url, discord_url, paypal_url, seconds=max(seconds, 60))
        self._seconds, self._csrf, self.user_id, self.paypal_email = seconds, None, None, None

    # The product

    def call(self, method, path, body=None, *, headers=None):
        """The JSON of one call, or None for an empty answer; a POST carries the CSRF token. Refused for an error status."""
        sent = {**({"X-CSRF-Token": self._csrf or ""} if method == "POST" else {}), **(headers or {})}
        response = self.browser.session.request(method, self.product_url + path, headers=sent, timeout=self._seconds,
                                                json=body if method == "POST" else None)
        if response.status_code >= 400:
            try:
                problem = response.json()
            except ValueError:
                problem = {"title": "no JSON", "detail": response.text[:200]}
            raise Refused(method, path, response.status_code, problem)
        return response.json() if response.content else None

    def sign_in(self, user_id):
        """This person is signed in as the Discord user, by way of the consent page."""
        page = self.browser.open(self.product_url + "/auth/discord/login")
        page = self.browser.submit(page, button="Authorize", user_id=user_id)
        if not page.url.startswith(self.product_url + "/"):
            raise WalkFailed(f"signing in ended at {page.url}")
        self.user_id, self.paypal_email = user_id, f"user{user_id}@example.org"
        profile = self.profile()
        if profile["member"]["id"] != user_id:
            raise WalkFailed(f"signed in as {profile['member']['id']} instead of {user_id}")
        return profile

    def profile(self):
        """What GET /api/v1/profile says; its CSRF token is used from now on."""
        profile = self.call("GET", "/api/v1/profile")
        self._csrf = profile["csrf_token"]
        return profile

    def servers(self):
        """The public list of servers and what they sell."""
        return self.call("GET", "/api/v1/servers")["servers"]

    def buy(self, server_id, offer_id, card=GOOD_CARD):
        """The offer is bought with that card at Stripe's page; answers the page that the buyer was sent back to."""
        return self.pay(self.begin(server_id, offer_id), card)

    def begin(self, server_id, offer_id, **processor):
        """The address of the hosted page where the offer is paid; `processor="paypal"`, or the offer's first one."""
        return self.call("POST", "/api/v1/checkout-sessions", {"server_id": server_id, "offer_id": offer_id, **processor})["url"]

    def buy_with_paypal(self, server_id, offer_id, **fields):
        """The offer is approved at PayPal's page (`funding="failing"`: with money that cannot be had); the page that comes after."""
        return self.approve(self.begin(server_id, offer_id, processor="paypal"), **fields)

    def approve(self, url, **fields):
        """The page that comes after agreeing on PayPal's page at `url`."""
        return self.browser.submit(self.browser.open(url), button="Agree & Subscribe", email=self.paypal_email, **fields)

    def automatic_payments(self, subscription):
        """PayPal's page of this person's automatic payments, as *Manage* opens it."""
        page = self.browser.open(self.portal_session(subscription))
        return self.browser.submit(page, button="Log In", email=self.paypal_email) if page.has_button("Log In") else page

    def at_paypal(self, subscription, button, **fields):
        """The page that comes after pressing that button beside the subscription on PayPal's page of automatic payments."""
        return self.browser.submit(self.automatic_payments(subscription), button=button, containing=f"/{subscription}/", **fields)

    def pay(self, url, card=GOOD_CARD, **fields):
        """Checkout at `url` is paid with that card (`method="sepa_debit"`: by bank debit, which takes days); the page that comes after."""
        page = self.browser.open(url)
        who = {"email": f"user{self.user_id}@example.org"} if "email" in page.form("Pay")["fields"] else {}
        return self.browser.submit(page, button="Pay", number=card, **who, **fields)

    def answer_bank(self, page, succeed=True):
        """The page that comes after telling the bank, on the page where it asks, that it is you who pays, or that it is not."""
        return self.browser.submit(page, button="Complete authentication" if succeed else "Fail authentication")

    def portal_session(self, subscription, flow=None):
        """The address of a Stripe billing-portal session; `flow`: None, "payment_method" or "cancel"."""
        body = {"flow": flow} if flow else {}
        return self.call("POST", f"/api/v1/subscriptions/{subscription}/portal-session", body)["url"]

    def change_card(self, url, card):
        """The card is changed in the billing portal at `url`; answers the page that comes after."""
        page = self.browser.open(url)
        if not page.has_button("Save card"):
            page = self.browser.open(page.link("payment method"))
        return self.browser.submit(page, button="Save card", number=card)

    def cancel_at_stripe(self, url, subscription):
        """The subscription is cancelled in the billing portal at `url`; answers the page that comes after."""
        page = self.browser.open(url)
        if not page.has_button("Cancel subscription"):
            page = self.browser.open(page.link("Cancel subscription", containing=subscription))
        return self.browser.submit(page, button="Cancel subscription")

    def switch_at_stripe(self, url, subscription, price):
        """The plan is switched to the price in the billing portal at `url`, now or at the period end as its owner has set it."""
        page = self.browser.open(self.browser.open(url).link("Update plan", containing=subscription))
        return self.browser.submit(page, button="Update plan", price=price)

    def cancel(self, subscription, reason=None, *, now=False):
        """The receipt of a cancellation at period end, or at once."""
        wish = ({"reason": reason} if reason else {}) | ({"when": "now"} if now else {})
        return self.call("POST", f"/api/v1/subscriptions/{subscription}/cancel", wish)["receipt"]

    def timeline(self, subscription):
        """The newest entries of what happened to a subscription."""
        return self.call("GET", f"/api/v1/subscriptions/{subscription}/timeline")["entries"]

    def undo(self, subscription):
        """The receipt of taking a cancellation back."""
        return self.call("POST", f"/api/v1/subscriptions/{subscription}/undo", {})["receipt"]

    def go_on(self, subscription):
        """The address at PayPal where it is approved anew, which is how a cancellation there is taken back."""
        return self.call("POST", f"/api/v1/subscriptions/{subscription}/undo", {})["url"]

    def restore(self, server_id):
        """The text that says that the roles are being looked at."""
        return self.call("POST", f"/api/v1/servers/{server_id}/restore", {})["text"]

    def logout(self):
        """This person is signed out."""
        self.call("POST", "/auth/logout", {})
        self._csrf = self.user_id = None

    # What the profile says, found quickly

    def subscriptions(self, server_id=None):
        """All subscriptions of the profile, or those in one server."""
        return [s for server in self.profile()["servers"] if server_id in (None, server["id"]) for s in server["subscriptions"]]

    def subscription(self, subscription):
        """One subscription of the profile; WalkFailed when it is not there."""
        for found in self.subscriptions():
            if found["id"] == subscription:
                return found
        raise WalkFailed(f"the profile does not show {subscription}")

    def role_states(self, server_id):
        """{role id: state} of one server in the profile."""
        return {r["id"]: r["state"] for server in self.profile()["servers"] if server["id"] == server_id for r in server["roles"]}


class Sandboxes:
    """What people do at Discord, Stripe and PayPal, what time it is, and what goes wrong: the control API of the sandboxes."""

    def __init__(self, stripe_url, discord_url, paypal_url="", *, seconds=60):
        self.stripe_url, self.discord_url, self.paypal_url = (url.rstrip("/") for url in (stripe_url, discord_url, paypal_url))
        self._session, self._seconds = requests.Session(), seconds
        self._session.trust_env = False

    def control(self, method, url, body=None, *, headers=None):
        """The JSON that a control call answers, or None. WalkFailed for an error status."""
        response = self._session.request(method, url, json=body, headers=headers, timeout=self._seconds)
        if response.status_code >= 400:
            raise WalkFailed(f"{method} {url} answered {response.status_code}: {response.text[:300]}")
        return response.json() if response.content else None

    def stripe(self, method, path, body=None, *, account=None):
        """A control call of the Stripe sandbox: `path` after /_sandbox; `account` is a connected account."""
        return self.control(method, f"{self.stripe_url}/_sandbox{path}", body, headers={"Stripe-Account": account} if account else None)

    def discord(self, method, path, body=None):
        """A control call of the Discord sandbox: `path` after /_sandbox."""
        return self.control(method, f"{self.discord_url}/_sandbox{path}", body)

    def paypal(self, method, path, body=None):
        """A control call of the PayPal sandbox: `path` after /_sandbox."""
        return self.control(method, f"{self.paypal_url}/_sandbox{path}", body)

    # Time

    def now(self):
        """Sandbox time in seconds since the epoch."""
        return self.stripe("GET", "/clock")["now"]

    def advance(self, seconds):
        """The clock of the sandboxes is so much further on, and Stripe and PayPal have done what fell due."""
        return self.stripe("POST", "/clock", {"advance": seconds})["now"]

    def move_to(self, instant):
        """The clock shows `instant` (epoch seconds or ISO-8601)."""
        return self.stripe("POST", "/clock", {"to": instant})["now"]

    # Stripe

    def renew(self, subscription, outcome="succeed", *, account=None):
        """The current period, or the trial, has ended and the bill had that outcome: "succeed", "decline" or "action" (the bank asks)."""
        return self.stripe("POST", f"/subscriptions/{subscription}/renew", {"outcome": outcome}, account=account)

    def retry_payment(self, subscription, outcome="succeed", *, account=None):
        """Stripe's next attempt to collect the open invoice had that outcome."""
        return self.stripe("POST", f"/subscriptions/{subscription}/retry", {"outcome": outcome}, account=account)

    def set_card(self, customer, number, *, account=None):
        """The customer pays with this test card from now on."""
        return self.stripe("POST", f"/customers/{customer}/card", {"number": number}, account=account)

    def patch_subscription(self, subscription, *, account=None, **fields):
        """Top-level fields of the subscription are set by force, with the event of that change."""
        return self.stripe("PATCH", f"/subscriptions/{subscription}", fields, account=account)

    def switch_plan(self, subscription, price, when="now", *, account=None):
        """The subscription sells the price "now", or from its "period_end" on (by a subscription schedule)."""
        return self.stripe("POST", f"/subscriptions/{subscription}/switch", {"price": price, "when": when}, account=account)

    def pause_collection(self, subscription, behavior="void", resumes_at=None, *, account=None):
        """Bills are held ("void", "keep_as_draft", "mark_uncollectible"), or with None collected again; the status stays."""
        return self.stripe("POST", f"/subscriptions/{subscription}/pause_collection", {"behavior": behavior, "resumes_at": resumes_at}, account=account)

    def pause(self, subscription, *, account=None):
        """The subscription is paused: its period ends now and nothing is billed."""
        return self.stripe("POST", f"/subscriptions/{subscription}/pause", account=account)

    def resume(self, subscription, outcome="succeed", *, account=None):
        """The paused subscription goes on, if the bill for its new period had the outcome "succeed"."""
        return self.stripe("POST", f"/subscriptions/{subscription}/resume", {"outcome": outcome}, account=account)

    def authenticate(self, subscription, outcome="succeed", *, account=None):
        """The owner of the card has answered the bank about the newest open invoice."""
        return self.stripe("POST", f"/subscriptions/{subscription}/authenticate", {"outcome": outcome}, account=account)

    def close_invoice(self, invoice, how="void", *, account=None):
        """The open invoice is closed without money: "void" or "mark_uncollectible"."""
        return self.stripe("POST", f"/invoices/{invoice}/{how}", account=account)

    def stripe_options(self, *, account=None, **options):
        """The Stripe account's options are these, e.g. first_payment="action", final_failure="unpaid"."""
        return self.stripe("PATCH", "/options", options, account=account)

    def events(self, *, account=None):
        """All events so far, with their delivery attempts."""
        return self.stripe("GET", "/events", account=account)["events"]

    def connect_account(self, key=None, **fields):
        """The id of a new connected account; `fields` as in stripe_accounts (type, charges_enabled, capabilities, controller …)."""
        return self.stripe("POST", "/accounts", {**({"id": key} if key else {}), **fields})["id"]

    def change_account(self, account, **fields):
        """Fields of the connected account are as said, with account.updated."""
        return self.stripe("PATCH", f"/accounts/{account}", fields)

    def disconnect_account(self, account):
        """The account's owner has taken the platform's access away."""
        return self.stripe("POST", f"/accounts/{account}/disconnect")

    def reconnect_account(self, account):
        """The platform may call the account again."""
        return self.stripe("POST", f"/accounts/{account}/reconnect")

    def charges(self, key, *, account=None):
        """The charges of a subscription (sub_…) or of a one-time purchase (cs_…), oldest first."""
        kind = "checkout_sessions" if key.startswith("cs_") else "subscriptions"
        return self.stripe("GET", f"/{kind}/{key}/charges", account=account)["charges"]

    def settle(self, payment_intent, outcome="succeed", *, account=None):
        """The bank has answered for a debit under way: "succeed" or "decline"."""
        return self.stripe("POST", f"/payment_intents/{payment_intent}/settle", {"outcome": outcome}, account=account)

    def refund(self, charge, amount=None, *, account=None):
        """The refund of the charge, whole or `amount` of it, as the owner makes it in the Dashboard."""
        return self.stripe("POST", f"/charges/{charge}/refund", {"amount": amount} if amount else {}, account=account)

    def fail_refund(self, refund, *, account=None):
        """The refund has failed: the money is back with the account."""
        return self.stripe("POST", f"/refunds/{refund}/fail", {}, account=account)

    def dispute(self, charge, *, account=None, **fields):
        """The dispute of the charge that its buyer's bank has opened; `fields`: reason, amount, status ("warning_needs_response": an inquiry)."""
        return self.stripe("POST", f"/charges/{charge}/dispute", fields, account=account)

    def close_dispute(self, dispute, outcome, *, account=None):
        """The dispute has ended: "won", "lost", or "warning_closed" for an inquiry."""
        return self.stripe("POST", f"/disputes/{dispute}/close", {"outcome": outcome}, account=account)

    def customer_of(self, subscription, *, account=None):
        """The Stripe customer who pays the subscription."""
        return self.last_told(subscription, account=account)["customer"]

    def price_of(self, subscription, *, account=None):
        """The Stripe price of the subscription's first item."""
        return self.last_told(subscription, account=account)["items"]["data"][0]["price"]["id"]

    def last_told(self, key, *, account=None):
        """The object of the newest event about it."""
        for event in reversed(self.events(account=account)):
            if event["data"]["object"].get("id") == key:
                return event["data"]["object"]
        raise WalkFailed(f"no event mentions {key}")

    # Discord

    def guild(self, guild_id):
        """The guild: roles, members with their role ids, bans, audit log."""
        return self.discord("GET", f"/guilds/{guild_id}")

    def roles(self, guild_id, user_id):
        """The set of role ids that the user holds in Discord; None when not in the guild."""
        return next((set(m["roles"]) for m in self.guild(guild_id)["members"] if m["id"] == user_id), None)

    def join(self, guild_id, user_id):
        """The user is in the guild."""
        self.discord("PUT", f"/guilds/{guild_id}/members/{user_id}")

    def leave(self, guild_id, user_id):
        """The user is not in the guild, and holds no role there."""
        self.discord("DELETE", f"/guilds/{guild_id}/members/{user_id}")


def wait_for(condition, seconds, what, *, every=0.1):
    """The first true answer of `condition()`. WalkFailed when there is none within so many seconds.

    `what` says what was waited for: a text, or a function that makes one when it has to be told.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise WalkFailed(f"after {seconds} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(every)
