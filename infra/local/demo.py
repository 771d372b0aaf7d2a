"""Demo data: two servers that sell roles, and members in different states, made by the roads that real ones take."""
from concurrent.futures import ThreadPoolExecutor

import requests

from infra.local.sandbox.paypal import MERCHANT
from infra.local.walker import DECLINED_LATER, Walker, wait_for

GUILD, CAFE = "910000000000000001", "910000000000000002"
CAFE_ACCOUNT, REGULAR = "acct_1LanternCafe", "920000000000000011"
PAYPAL_ACCOUNT, ADA_AT_PAYPAL = MERCHANT.id, "ada@example.org"
SUPPORTER, VIP, BACKSTAGE, MODERATOR = (f"92000000000000000{n}" for n in range(1, 5))
OLGA, MIKA, ADA, BEN, CLEO, DORA = (f"93000000000000000{n}" for n in range(1, 7))
PEOPLE = {OLGA: "Olga", MIKA: "Mika", ADA: "Ada", BEN: "Ben", CLEO: "Cleo", DORA: "Dora"}
ROLES = {SUPPORTER: "Supporter", VIP: "VIP", BACKSTAGE: "Backstage", MODERATOR: "Moderator"}
OFFERS = {  # prices in cents, a month unless it is paid once
    "supporter": {"name": "Supporter", "description": "Keeps the lights on. You get the Supporter role.",
                  "roles": [SUPPORTER], "amount": 500},
    "backstage": {"name": "Backstage pass", "description": "Behind the scenes, and the VIP lounge: two roles.",
                  "roles": [VIP, BACKSTAGE], "amount": 1200, "cancel_now": True, "grace_days": 14, "paypal": True},
    "founder": {"name": "Founder", "description": "Paid once: the Supporter role for good.", "roles": [SUPPORTER], "amount": 9000,
                "interval": "once"},
}


def seed(instance):
    """The server, its offers and its members are there: Ada active (at Stripe and PayPal), Ben cancelled at period end, Cleo past due, Dora new.

    `instance` has `url`, `stripe_url`, `discord_url` and `paypal_url`, and the product's settings are in this process's environment.
    """
    urls = instance.url, instance.stripe_url, instance.discord_url, instance.paypal_url
    walkers = {person: Walker(*urls) for person in (ADA, BEN, CLEO)}
    furnish_discord(walkers[ADA].sandbox)
    register_server(walkers[ADA].sandbox)
    open_cafe(walkers[ADA].sandbox, instance.stripe_url)
    with ThreadPoolExecutor(3) as pool:  # three people at once: the start stays short
        for done in [pool.submit(road, walkers[person]) for person, road in
                     ((ADA, _becomes_active), (BEN, _cancels), (CLEO, _misses_a_payment))]:
            done.result()


def furnish_discord(sandbox):
    """The guild stands in the Discord sandbox with its roles and people; Mika moderates, which is nobody's business but Olga's."""
    for user_id, name in PEOPLE.items():
        sandbox.discord("PUT", f"/users/{user_id}", {"username": name.lower(), "global_name": name})
    sandbox.discord("PUT", f"/guilds/{GUILD}", {"name": "Pixel Guild", "owner_id": OLGA, "roles": [
        {"id": role_id, "name": name} for role_id, name in ROLES.items()]})
    for user_id in PEOPLE:
        sandbox.join(GUILD, user_id)
    sandbox.discord("PUT", f"/guilds/{GUILD}/members/{MIKA}/roles/{MODERATOR}")


def register_server(sandbox):
    """The product knows the server and its offers, each with a price made at Stripe; where there is a PayPal sandbox, one with a plan there too.

    Written to the store, as an operator does it: owners have no page for it yet. The PayPal account is Olga's, connected as
    `python -m chalicelib.operate connect` does it.
    """
    from chalicelib import connect, ports, settings
    from chalicelib.store import servers

    key = settings.get().stripe_api_key
    offers = {}
    for order, (offer_id, offer) in enumerate(OFFERS.items()):
        interval = offer.get("interval", "month")
        price = make_price(sandbox.stripe_url, key, name=offer["name"], amount=offer["amount"], interval=interval)
        paid = [("operator", price)] + ([(PAYPAL_ACCOUNT, make_plan(sandbox, offer))] if sandbox.paypal_url and offer.get("paypal") else [])
        offers[offer_id] = {"name": offer["name"], "description": offer["description"], "roles": offer["roles"], "order": order,
                            **{policy: offer[policy] for policy in ("cancel_now", "grace_days") if policy in offer},
                            "prices": [{"account": account, "id": one, "amount": offer["amount"], "currency": "eur", "interval": interval}
                                       for account, one in paid]}
    servers.write(GUILD, {
        "name": "Pixel Guild", "offers": offers, "role_names": ROLES, "accounts": ["operator"],
        "terms_url": "https://pixel-guild.example/terms", "privacy_url": "https://pixel-guild.example/privacy"})
    if sandbox.paypal_url:
        connect.connect(server_id=GUILD, account=PAYPAL_ACCOUNT, owner=OLGA, deadline=ports.wall() + 60)


def make_plan(sandbox, offer):
    """The id of a new monthly plan at PayPal, which is suspended when a payment and its retries failed."""
    return sandbox.paypal("POST", "/plans", {"name": offer["name"], "price": f"{offer['amount'] / 100:.2f}", "threshold": 1})["id"]


def open_cafe(sandbox, stripe_url):
    """Dora's café sells one role through a Stripe account of its own, connected as `python -m chalicelib.operate connect` does it."""
    from chalicelib import connect, ports, settings
    from chalicelib.store import servers

    sandbox.discord("PUT", f"/guilds/{CAFE}", {"name": "Lantern Café", "owner_id": DORA, "roles": [{"id": REGULAR, "name": "Regular"}]})
    for user_id in (DORA, ADA):
        sandbox.join(CAFE, user_id)
    sandbox.stripe("POST", "/accounts", {"id": CAFE_ACCOUNT})
    price = make_price(stripe_url, settings.get().stripe_api_key, name="Regular", amount=300, account=CAFE_ACCOUNT)
    servers.write(CAFE, {
        "name": "Lantern Café", "role_names": {REGULAR: "Regular"}, "accounts": [CAFE_ACCOUNT], "terms_url": "https://lantern-cafe.example/terms",
        "offers": {"regular": {"name": "Regular", "description": "A seat by the window.", "roles": [REGULAR], "prices": [
            {"account": CAFE_ACCOUNT, "id": price, "amount": 300, "currency": "eur", "interval": "month"}]}}})
    connect.connect(server_id=CAFE, account=CAFE_ACCOUNT, owner=DORA, deadline=ports.wall() + 60)


def make_price(stripe_url, key, *, name, amount, interval="month", account=None):
    """The id of a new price in euros, with a product of its own; `interval` may be "once"; `account`: at a connected account."""
    def post(path, fields):
        headers = {"Authorization": f"Bearer {key}"} | ({"Stripe-Account": account} if account else {})
        answer = requests.post(stripe_url + path, data=fields, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()["id"]

    product = post("/v1/products", {"name": name})
    recurring = {} if interval == "once" else {"recurring[interval]": interval}
    return post("/v1/prices", {"product": product, "unit_amount": amount, "currency": "eur", **recurring})


def _joins_with(walker, person, offer_id):
    """The person signed in, bought the offer and holds its roles; answers the subscription's id."""
    walker.sign_in(person)
    walker.buy(GUILD, offer_id)
    wanted = set(OFFERS[offer_id]["roles"])
    wait_for(lambda: wanted <= walker.sandbox.roles(GUILD, person), 15, f"{PEOPLE[person]} holds the roles of {offer_id}")
    return wait_for(lambda: walker.subscriptions(GUILD), 10, f"the profile shows what {PEOPLE[person]} bought")[0]["id"]


def _becomes_active(walker):
    """Ada pays for one offer through each processor."""
    _joins_with(walker, ADA, "supporter")
    walker.paypal_email = ADA_AT_PAYPAL
    walker.buy_with_paypal(GUILD, "backstage")
    wait_for(lambda: set(OFFERS["backstage"]["roles"]) <= walker.sandbox.roles(GUILD, ADA), 15, "Ada holds what she bought with PayPal")


def _cancels(walker):
    walker.cancel(_joins_with(walker, BEN, "supporter"), reason="unused")


def _misses_a_payment(walker):
    subscription = _joins_with(walker, CLEO, "backstage")
    walker.sandbox.set_card(walker.sandbox.customer_of(subscription), DECLINED_LATER)
    walker.sandbox.renew(subscription, "decline")
    wait_for(lambda: walker.subscription(subscription)["state"] == "grace", 15, "Cleo's profile shows the failed payment")
