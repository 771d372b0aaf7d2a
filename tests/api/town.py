"""A Discord server of a test's own, the people in it, and Stripe as the sender of webhooks; all over HTTP."""
import hashlib
import hmac
import itertools
import json
import time

import requests

from infra.local.run import STRIPE_KEY, WEBHOOK_SECRET
from infra.local.walker import GOOD_CARD, Browser, Walker, wait_for
from tests.instance import compact

_numbers = itertools.count(1)
_prices = {}
never_logged = set()     # every secret that the tests have met: cookies, tokens, states, codes, addresses of sessions
OFFERS = {"gold": (500, 1), "silver": (300, 2), "both": (700, 1, 2)}    # cents a month, and which of the server's roles


class Town:
    """A Discord server of its own, whose `roles` 1 and 2 are sold as OFFERS, and the people in it."""

    def __init__(self, instance, operator, sandbox):
        number = 940_000_000_000_000_000 + 1_000 * next(_numbers)
        self.instance, self.operator, self.sandbox, self.id = instance, operator, sandbox, str(number)
        self.roles = {n: str(number + 100 + n) for n in range(4)}   # 0 and 3 are not for sale
        self.gold, self.silver, self.foreign = self.roles[1], self.roles[2], self.roles[3]
        self.owner, self.people = str(number + 500), []
        sandbox.discord("PUT", f"/guilds/{self.id}", {"name": f"Town {number}", "owner_id": self.owner, "roles": [
            {"id": role, "name": f"Role {n}"} for n, role in self.roles.items()]})
        self.register()

    def register(self, **settings):
        """The product knows the server; `settings` replace the usual ones."""
        offers = {name: {"name": name.title(), "description": "", "roles": [self.roles[n] for n in roles], "prices": [
            {"account": "operator", "id": price(self.instance, amount), "amount": amount, "currency": "eur", "interval": "month"}]}
            for name, (amount, *roles) in OFFERS.items()}
        self.operator.write_server(self.id, {
            "name": "Town", "offers": offers, "role_names": {role: f"Role {n}" for n, role in self.roles.items()},
            "accounts": ["operator"], "terms_url": "https://town.example/terms", **settings})
        return offers

    def person(self):
        """A signed-in member of this server who has bought nothing."""
        return self.visitor(self.newcomer())

    def newcomer(self):
        """The id of somebody new in this server."""
        user = str(int(self.id) + 600 + len(self.people))
        self.sandbox.discord("PUT", f"/users/{user}", {"username": f"user{user}", "global_name": f"Canary-Name-{user}"})
        self.sandbox.join(self.id, user)
        self.people.append(user)
        return user

    def visitor(self, user):
        """A browser in which this user is signed in."""
        person = Person(self)
        person.sign_in(user)
        return person

    def buyer(self, offer="gold"):
        """A signed-in member who has bought the offer and holds its roles."""
        person = self.person()
        person.subscription_id = person.buys(offer)
        return person

    def role_calls(self, user, *, method=None, since=0):
        """What the product asked Discord to do with this user's roles: [(method, role, status)], oldest first."""
        start = f"/api/v10/guilds/{self.id}/members/{user}/roles/"
        return [(one["method"], one["path"].removeprefix(start), one["status"])
                for one in self.sandbox.discord("GET", "/requests")["requests"]
                if one["path"].startswith(start) and method in (None, one["method"])][since:]

    def discord_calls(self):
        """Every call about this server: [(at, method, path, status)]."""
        return [(one["at"], one["method"], one["path"], one["status"])
                for one in self.sandbox.discord("GET", "/requests")["requests"]
                if one["path"].startswith(f"/api/v10/guilds/{self.id}")]

    def holds(self, user, *roles, seconds=8):
        """Waits until the user holds exactly these roles in Discord."""
        wait_for(lambda: self.sandbox.roles(self.id, user) == set(roles), seconds,
                 lambda: f"{user} holds {set(roles)}, not {self.sandbox.roles(self.id, user)}")

    def dead(self):
        """What the dead-letter queues hold about this server's people."""
        keys = [*self.people, *(key for user in self.people for key in (self.operator.membership(user, self.id) or {}).get("subs", {}))]
        return [body for body in self.operator.dead() if any(key.rsplit(":", 1)[-1] in body for key in keys)]

    def close(self):
        """Nothing here is due any more: what the next test's moved clock sets off is its own."""
        for user in self.people:
            for key in (self.operator.membership(user, self.id) or {}).get("subs", {}):
                processor, account, name = key.split(":")
                if processor == "paypal":
                    if self.sandbox.paypal("GET", f"/subscriptions/{name}")["status"] in ("ACTIVE", "SUSPENDED"):
                        self.sandbox.paypal("POST", f"/subscriptions/{name}/cancel")
                    continue
                api(self.instance, "DELETE", f"/v1/subscriptions/{name}", {}, account=account)


class Person(Walker):
    """A Walker of one town, with what tests ask most."""

    def __init__(self, town):
        super().__init__(town.instance.url, town.instance.stripe_url, town.instance.discord_url, town.instance.paypal_url)
        self.town, self.subscription_id = town, None

    def sign_in(self, user_id):
        """As a Walker does; what must never be in a log is remembered."""
        profile = super().sign_in(user_id)
        never_logged.update([self._csrf, *(cookie.value for cookie in self.browser.session.cookies if cookie.value)])
        return profile

    def call(self, method, path, body=None, *, headers=None):
        """As a Walker does; an address that opens a session of the hosted pages is remembered."""
        answer = super().call(method, path, body, headers=headers)
        if isinstance(answer, dict) and answer.get("url"):
            never_logged.add(answer["url"].rsplit("/", 1)[1].partition("#")[0].rpartition("=")[2])
        return answer

    def buys(self, offer):
        """The id of the new subscription, once its roles are held in Discord and the profile says so."""
        before = {one["id"] for one in self.subscriptions(self.town.id)}
        self.buy(self.town.id, offer)
        found = wait_for(lambda: [one for one in self.subscriptions(self.town.id) if one["id"] not in before and one["offer"]
                                  and all(self.role_states(self.town.id).get(r) == "held" for r in one["role_ids"])],
                         10, lambda: f"the purchase is in the profile, which is {self.profile()}")
        return found[0]["id"]

    def post(self, path, body=None, *, raw=None, csrf=True, **headers):
        """The response to a POST with exactly these headers (`_` for `-`), whatever it is."""
        sent = {"Content-Type": "application/json", **({"X-CSRF-Token": self._csrf or ""} if csrf else {}),
                **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.browser.session.post(self.product_url + path, data=compact(body or {}) if raw is None else raw, timeout=15,
                                         headers={name: value for name, value in sent.items() if value is not None},
                                         allow_redirects=False)

    def raw_get(self, path, **headers):
        """The response to a GET, redirects not followed."""
        return self.browser.session.get(self.product_url + path, headers=headers, allow_redirects=False, timeout=15)

    def role(self, role):
        """One role of the profile, or None."""
        return next((one for server in self.profile()["servers"] if server["id"] == self.town.id
                     for one in server["roles"] if one["id"] == role), None)

    def shows(self, role, state, *, seconds=8):
        """Waits until the profile shows the role in that state; answers it (None for state None: not shown)."""
        wait_for(lambda: (found := self.role(role)) and found["state"] == state or found is None and state is None, seconds,
                 lambda: f"{role} is {state}, not {self.role(role)}")
        return self.role(role)


class Sender:
    """Signs events as Stripe does and posts them to the intake."""

    def __init__(self, instance):
        self.instance, self.url = instance, f"{instance.url}/webhooks/stripe/operator"
        self.session = requests.Session()
        self.session.trust_env = False

    def event(self, kind="customer.subscription.updated", thing=None, **fields):
        """An event of the shape that Stripe sends; `thing` is its object."""
        return {"id": f"evt_1{next(_numbers):023d}", "object": "event", "type": kind, "livemode": False, "created": int(time.time()),
                "api_version": "2026-10-28.endive", "data": {"object": thing or {"id": "sub_1Nobody", "object": "subscription"}}, **fields}

    def header(self, body, *, secret=WEBHOOK_SECRET, at=None, scheme="v1"):
        """The Stripe-Signature header over these bytes."""
        at = int(time.time()) if at is None else at
        right = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return f"t={at},{scheme}={right}"

    def post(self, body, signature=None, *, method="POST", url=None, **headers):
        """The answer to exactly these bytes under that signature; without one there is no such header."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Content-Type": "application/json; charset=utf-8", **named, **({"Stripe-Signature": signature} if signature is not None else {})}
        return self.session.request(method, url or self.url, data=body, headers=sent, timeout=15, allow_redirects=False)

    def sends(self, body, **signing):
        """The answer to a body that is signed rightly, or as `signing` says."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.post(body, self.header(body, **signing))


def api(instance, method, path, fields, *, account="operator"):
    """The JSON of a call of Stripe's API, made as the account's owner."""
    headers = {"Authorization": f"Bearer {STRIPE_KEY}"} | ({"Stripe-Account": account} if account != "operator" else {})
    answer = requests.request(method, instance.stripe_url + path, data=fields, headers=headers, timeout=10)
    return answer.json()


def price(instance, amount):
    """The id of a monthly price in euros, one for each amount and instance."""
    if (instance.url, amount) not in _prices:
        product = api(instance, "POST", "/v1/products", {"name": f"For {amount}"})["id"]
        _prices[instance.url, amount] = api(instance, "POST", "/v1/prices", {
            "product": product, "unit_amount": amount, "currency": "eur", "recurring[interval]": "month"})["id"]
    return _prices[instance.url, amount]


def is_problem(answer, status):
    """The problem document of an answer that is one of that status: its type, no stack, nothing of the request."""
    assert answer.status_code == status, (answer.status_code, answer.text[:300])
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and set(body) <= {"type", "title", "status", "detail", "next"}
    assert "Traceback" not in answer.text and ".py" not in answer.text
    return body



def bought_at_stripe(instance, amount=500, *, intent=None, who="stranger"):
    """The id of a subscription that somebody bought at Stripe's page, not through us; `intent` is the one that it claims."""
    session = api(instance, "POST", "/v1/checkout/sessions", {
        "mode": "subscription", "line_items[0][price]": price(instance, amount), "line_items[0][quantity]": 1,
        "success_url": "https://elsewhere.example/", "cancel_url": "https://elsewhere.example/", "client_reference_id": intent or "none",
        **({"subscription_data[metadata][rolekeep_intent]": intent} if intent else {})})
    browser = Browser()
    page = browser.open(session["url"])
    form = page.form("Subscribe")
    browser.session.post(form["action"], data={**form["fields"], "email": f"{who}@canary.example", "number": GOOD_CARD}, allow_redirects=False)
    return api(instance, "GET", f"/v1/checkout/sessions/{session['id']}", {})["subscription"]
