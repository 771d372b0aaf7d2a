"""Connected accounts: who may use which, what a disconnected one means, and the wall between what two of them sell."""
import json
import random

import pytest

from chalicelib.problem import Problem
from infra.local.sandbox.stripe_webhooks import signature
from tests.usecases.product import ADA, BEN, CONNECT_SECRET, DAY, GOLD, OTHER_SERVER, SECRET, SERVER, SILVER
from tests.usecases.shop import OLGA, OTTO, Shop, parked

A, B = "acct_1ShopA", "acct_1ShopB"


@pytest.fixture
def shop(product):
    """Yield a connected account through which SERVER sells."""
    made = Shop(product, A)
    made.furnish()
    return made


def settings_of(server=SERVER):
    from chalicelib.store import servers
    return servers.read(server)[0]


def account(name=A):
    from chalicelib.store import accounts
    return accounts.read(name)


def audits(name=A):
    from chalicelib.store import ledger
    return [entry for entry in ledger.of(f"account#{name}") if entry.kind == "audit"]


def now(product):
    return int(product.time.at + product.clock.offset)


# Intake by endpoint


def posted(call, product, endpoint, secrets, event=None):
    body = json.dumps(event or {"id": "evt_1X", "object": "event", "type": "ping"}).encode()
    return call("POST", f"/webhooks/stripe/{endpoint}", {"Stripe-Signature": signature(body, secrets, product.time.at), "Content-Type": "application/json"}, body)


def test_fault_50_A1_the_secret_of_one_endpoint_never_opens_the_other(product, call):
    assert posted(call, product, "operator", (SECRET,)).status == posted(call, product, "connect", (CONNECT_SECRET,)).status == 200
    assert posted(call, product, "operator", (CONNECT_SECRET,)).status == posted(call, product, "connect", (SECRET,)).status == 400
    assert posted(call, product, "connect", (SECRET, CONNECT_SECRET)).status == 200, "Stripe signs with each secret of the endpoint"


def test_fault_50_T46_while_rotating_both_secrets_open_the_connect_endpoint_and_the_old_one_no_longer_after(product, call, monkeypatch):
    from chalicelib import settings
    new = "whsec_theNewOne0000000000"
    for held, works in ((f"{new},{CONNECT_SECRET}", {new: 200, CONNECT_SECRET: 200}), (new, {new: 200, CONNECT_SECRET: 400})):
        monkeypatch.setenv("STRIPE_CONNECT_WEBHOOK_SECRET", held)
        settings.get.cache_clear()
        assert {secret: posted(call, product, "connect", (secret,)).status for secret in works} == works
    settings.get.cache_clear()


def test_without_a_secret_the_connect_endpoint_is_the_usual_404(product, call, monkeypatch):
    from chalicelib import problem, settings
    monkeypatch.setenv("STRIPE_CONNECT_WEBHOOK_SECRET", "")
    settings.get.cache_clear()
    answer = posted(call, product, "connect", (CONNECT_SECRET,))
    settings.get.cache_clear()
    assert answer.status == 404 and answer.json() == problem.not_found().body()


def test_A9_an_event_at_the_wrong_endpoint_never_becomes_state_whatever_it_names(product, shop):
    key = shop.holder()
    theirs = shop.events(about=key)[-1]
    own = {name: value for name, value in theirs.items() if name != "account"}
    before = product.row()
    with product.counted() as seen:
        assert shop.take_in(theirs, secret=SECRET, endpoint="operator")["queued"] and shop.take_in(own)["queued"]
    assert seen.dynamodb() == {} and seen.http == []
    with product.counted() as seen:
        assert product.work() == 0
    assert seen.http == [] and product.row() == before
    assert parked(A) == ["wrong_endpoint"] and parked("operator") == ["wrong_endpoint"]


@pytest.mark.parametrize("kind", ["customer.subscription.created", "account.application.deauthorized"])
def test_A9_an_event_of_an_account_that_nobody_connected_here_is_no_state(product, shop, kind):
    stranger = Shop(product, B)
    event = {**shop.events()[0], "id": "evt_1Stranger", "type": kind, "account": B, "data": {"object": {"id": "sub_1Stranger", "object": "subscription"}}}
    assert stranger.take_in(event)["queued"] and product.work() == 0
    assert parked(B) == (["unknown_account"] if kind.startswith("customer") else []) and account(B) is None and account(A).connected


# Connecting


def test_connecting_binds_the_account_to_the_server_once_and_what_rules_read_says_so(product):
    shop = Shop(product, A)
    answer = shop.furnish()
    assert answer == {"account": A, "owner": OLGA, "servers": [SERVER], "state": "connected", "since": now(product), "why": "connected", "server": SERVER,
                      "members_called": 0, "released": 0}
    assert settings_of().accounts == ("operator", A)
    product.time.passes(100)
    assert shop.connect() == answer and settings_of().accounts == ("operator", A), "again changes nothing"
    entry = audits()[-1]
    assert entry.data == {"cause": "operator:connect", "server": SERVER, "owner": OLGA, "before": ""} and entry.outcome == {"result": "done"}


@pytest.mark.parametrize("wish, why", [
    ({"type": "express"}, "account-type"), ({"type": "custom"}, "account-type"), ({"charges_enabled": False}, "account-charges"),
    ({"capabilities": {"card_payments": "pending"}}, "account-cards")])
def test_an_account_that_is_not_set_up_for_direct_charges_is_refused_with_the_reason_and_what_to_do(product, wish, why):
    shop = Shop(product, A, **wish)
    with pytest.raises(Problem) as refused:
        shop.furnish()
    assert (refused.value.status, refused.value.code) == (409, why) and refused.value.next_step and refused.value.detail
    assert account() is None and settings_of().accounts == ("operator",) and audits() == []


def test_an_account_that_is_not_connected_to_the_platform_at_stripe_is_refused(product):
    from chalicelib import connect
    with pytest.raises(Problem) as refused:
        connect.connect(server_id=SERVER, account="acct_1Nobody", owner=OLGA, deadline=product.time.at + 25)
    assert (refused.value.status, refused.value.code) == (409, "account-no-access") and "mode" in refused.value.detail and account("acct_1Nobody") is None


@pytest.mark.parametrize("fault", [{"do": "answer", "status": 503, "body": "<html>"}, {"do": "answer", "status": 401, "body": {"error": {}}}, {"do": "close"}, {"do": "timeout"}])
def test_while_stripe_does_not_say_nothing_is_connected_and_nothing_disconnected(product, shop, fault):
    product.order("stripe", method="GET", path="/v1/accounts/", times=None, **fault)
    with pytest.raises(Problem) as refused:
        shop.connect()
    assert refused.value.status == 503
    shop.order("POST", f"accounts/{A}/disconnect")
    shop.take_in(shop.events("account.application.deauthorized")[-1])
    assert product.work() == 0 and account().connected and product.delayed("stripe-events") == 1, "it comes again"


@pytest.mark.parametrize("server, name, owner", [("1", A, OLGA), (SERVER, "operator", OLGA), (SERVER, "acct_1|x", OLGA), (SERVER, A, "olga"), (None, A, OLGA)])
def test_C17_odd_ids_are_refused_before_anything_is_asked(product, server, name, owner):
    from chalicelib import connect
    with product.counted() as seen, pytest.raises(Problem) as refused:
        connect.connect(server_id=server, account=name, owner=owner, deadline=product.time.at + 25)
    assert refused.value.status == 400 and (seen.aws, seen.http) == ([], [])


def test_a_server_that_nobody_registered_is_not_found(shop):
    with pytest.raises(Problem) as refused:
        shop.connect(OTHER_SERVER)
    assert refused.value.status == 404 and account().servers == {SERVER}


def test_C8_an_account_serves_the_servers_of_one_owner_several_of_them_if_they_like(product, shop):
    product.furnish(OTHER_SERVER)
    with pytest.raises(Problem) as refused:
        shop.connect(OTHER_SERVER, owner=OTTO)
    assert (refused.value.status, refused.value.code) == (409, "account-taken") and settings_of(OTHER_SERVER).accounts == ("operator",)
    assert shop.connect(OTHER_SERVER)["servers"] == [SERVER, OTHER_SERVER] and settings_of(OTHER_SERVER).accounts == ("operator", A)


def test_C8_a_transfer_is_explicit_takes_all_servers_along_and_is_audited(product, shop):
    product.furnish(OTHER_SERVER)
    shop.connect(OTHER_SERVER)
    answer = shop.connect(SERVER, owner=OTTO, transfer=True)
    assert (answer["owner"], answer["servers"]) == (OTTO, [SERVER, OTHER_SERVER])
    assert any(entry.data["owner"] == OTTO and entry.data["before"] == OLGA for entry in audits())
    with pytest.raises(Problem):
        shop.connect(SERVER, owner=OLGA)


def test_C8_two_owners_who_connect_one_account_at_once_are_one_owner(product):
    from chalicelib.store import accounts
    from tests.usecases.test_store import at_once
    won = at_once(6, lambda n: accounts.bind(A, server=SERVER, owner=str(int(OLGA) + n % 2), at=1, why="x"))
    owners = {one.owner for one in won if one}
    assert len(owners) == 1 and account().owner in owners and {one.owner for one in won if one} == {account().owner}


def test_fault_12_a_crash_between_the_binding_and_the_settings_is_mended_by_doing_it_again(product, monkeypatch):
    from chalicelib.store import servers
    shop = Shop(product, A)
    with monkeypatch.context() as patch:
        patch.setattr(servers, "use_account", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop.furnish()
    assert settings_of().accounts == ("operator",) and account().servers == {SERVER} and audits()[-1].outcome["result"] == "failed"
    shop.connect()
    assert settings_of().accounts == ("operator", A)


# Selling through it


def test_a_purchase_through_a_connected_account_is_made_there_and_gives_the_role(product, shop):
    key = shop.holder()
    assert product.shown() == {GOLD} and list(product.row().subs) == [shop.key_of(key)]
    made = [request for base, request in product.sent if request.url.endswith("/v1/checkout/sessions")]
    assert [request.headers["Stripe-Account"] for request in made] == [A]
    shop.ends(key)
    shop.tell(key)
    product.work()
    assert product.shown() == set()


def test_the_first_price_whose_account_may_be_used_is_taken(product):
    shop = Shop(product, A)
    shop.furnish(bound=False, also=[product.price(500)])
    assert product.buys() and not list(shop.world.all("subscription")), "not connected here: the next price"
    shop.connect()
    assert shop.buys(user=BEN) in [one["id"] for one in shop.world.all("subscription")]
    shop.order("POST", f"accounts/{A}/disconnect")
    shop.take_in(shop.events("account.application.deauthorized")[-1])
    product.work()
    assert product.buys(server=SERVER, user=str(int(BEN) + 1)) and len(list(shop.world.all("subscription"))) == 1


def test_the_price_that_is_shown_is_one_that_the_server_may_use(product, call):
    shop = Shop(product, A)
    shop.furnish(bound=False, also=[product.price(700)])
    shown = {offer["id"]: offer["price"]["amount"] for offer in call("GET", "/api/v1/servers").json()["servers"][0]["offers"]}
    assert shown["gold"] == 700
    shop.connect()
    shown = {offer["id"]: offer["price"]["amount"] for offer in call("GET", "/api/v1/servers").json()["servers"][0]["offers"]}
    assert shown["gold"] == 500


def test_an_account_of_the_settings_that_is_bound_to_another_server_only_is_not_used(product, shop):
    shop.furnish(OTHER_SERVER, bound=False, accounts=("operator", A))
    with pytest.raises(Problem) as refused:
        shop.buys(server=OTHER_SERVER)
    assert refused.value.code == "account-disconnected"


def test_fault_53_what_only_a_disconnected_account_sells_cannot_be_bought_and_says_so(product, shop):
    shop.disconnect()
    with product.counted() as seen, pytest.raises(Problem) as refused:
        shop.buys()
    assert (refused.value.status, refused.value.code) == (409, "account-disconnected") and refused.value.next_step and seen.stripe() == []


def test_what_only_a_disconnected_account_sells_is_not_for_sale_in_the_public_list_for_one_read_more(product, shop, call):
    def listed():
        return [offer["id"] for server in call("GET", "/api/v1/servers").json()["servers"] for offer in server["offers"]]
    assert "gold" in listed()
    shop.disconnect()
    with product.counted() as seen:
        assert "gold" not in listed()
    assert seen.dynamodb() == {"Query servers": 1, "BatchGetItem servers": 2}


def test_a_customer_is_used_again_within_its_own_account_only(product):
    shop, other = Shop(product, A), Shop(product, B)
    shop.furnish()
    offers = {"gold": [shop.price(500)], "silver": [other.price(300)], "both": [shop.price(700)]}
    from chalicelib.store import servers
    servers.write(SERVER, {"name": "Shop", "accounts": ["operator", A], "offers": {name: {"name": name, "roles": [GOLD], "prices": prices} for name, prices in offers.items()}})
    other.connect()
    shop.holder("gold")
    product.sent.clear()
    other.buys("silver")
    shop.buys("both")
    first, second = [dict(pair.split("=") for pair in request.body.split("&")) for _, request in product.sent if request.url.endswith("/v1/checkout/sessions")]
    assert "customer" not in first and second["customer"] == product.row().subs[next(iter(product.row().subs))].customer


def portal(product, key):
    from chalicelib import portal
    return portal.open_session(user=ADA, subscription_id=key, flow=None, deadline=product.time.at + 25)


def test_the_portal_has_a_configuration_of_its_own_at_each_account(product):
    shop = Shop(product, A)
    shop.furnish()
    settings = settings_of()
    from chalicelib.store import servers
    servers.write(SERVER, {"name": "Shop", "accounts": ["operator", A], "terms_url": "https://shop.example/terms", "offers": {
        "gold": {"name": "gold", "roles": [GOLD], "prices": [shop.price(500)]}, "silver": {"name": "silver", "roles": [SILVER], "prices": [product.price(300)]}}})
    theirs, ours = shop.holder("gold"), product.holder("silver")
    assert portal(product, theirs) and portal(product, ours) and portal(product, theirs)
    made = settings_of().portal_configurations
    assert set(made) == {A, "operator"} and settings.portal_configurations == {}
    assert [one["id"] for one in shop.world.all("billing_portal.configuration")] == [made[A]]
    assert product.stripe.call("GET", f"/v1/billing_portal/configurations/{made['operator']}")[0] == 200


# Disconnected, or of the other mode


def test_I3_fault_53_a_disconnected_account_is_unknown_and_strips_nobody_while_its_waits_grow_to_an_hour(product, shop):
    key = shop.holder()
    shop.disconnect()
    assert not account().connected and account().why.startswith("evt_") and account().since == now(product)
    product.advance(40 * DAY)       # long past the paid period
    waits = []
    for _ in range(13):     # within a day: the daily look comes in between
        product.sweep()
        assert product.shown() == {GOLD}
        waits.append(product.row().due_at - now(product))
        product.time.passes(max(waits[-1], 6_000))
    assert waits[0] == 120 and waits == sorted(waits) and waits[-1] == 3_600 and len(set(waits)) >= 5
    assert product.row().subs[shop.key_of(key)].status == "active", "as it was last read"


def test_fault_53_a_member_of_a_disconnected_account_is_told_why_and_what_to_do(product, shop, call):
    key = shop.holder()
    shop.disconnect()
    secret, csrf = product.signed_in()
    signed = {"Cookie": f"__Host-rolekeep-session={secret}", "X-CSRF-Token": csrf, "Content-Type": "application/json"}
    with product.counted() as seen:
        shown, = call("GET", "/api/v1/profile", headers=signed).json()["servers"]
    assert seen.dynamodb() == {"GetItem sessions": 1, "Query members": 1, "BatchGetItem servers": 1} and seen.http == []
    sub, = shown["subscriptions"]
    assert sub["why"]["code"] == "account_disconnected" and sub["why"]["next"] and sub["actions"] == [] and shown["roles"][0]["state"] == "held"
    for what in ("cancel", "undo", "portal-session"):
        answer = call("POST", f"/api/v1/subscriptions/{key}/{what}", signed, b"{}")
        assert (answer.status, answer.json()["type"]) == (409, "urn:rolekeep:problem:account-disconnected") and "owner" in answer.json()["next"], what
    assert product.shown() == {GOLD}
    from chalicelib.store import ledger
    assert ledger.read_intent(shop.key_of(key)) is None, "nothing is left under way"


def test_a_subscription_of_a_connected_account_has_no_such_reason(product, shop, call):
    shop.holder()
    secret, _ = product.signed_in()
    sub, = call("GET", "/api/v1/profile", headers={"Cookie": f"__Host-rolekeep-session={secret}"}).json()["servers"][0]["subscriptions"]
    assert sub["why"] is None and "cancel" in sub["actions"]


def test_connected_again_the_members_are_called_at_once_and_what_has_ended_meanwhile_ends(product, shop):
    ada, ben = shop.holder(user=ADA), shop.holder(user=BEN)
    shop.disconnect()
    product.advance(DAY)
    product.sweep()
    from chalicelib.store import ledger
    product.time.passes(600)
    product.sweep()
    told = len(ledger.of(ledger.member_subject(BEN, SERVER)))
    assert product.row(BEN).subs[shop.key_of(ben)].unread_since
    shop.reconnect()
    shop.ends(ada)      # its owner did, while we were locked out
    assert not account().connected, "only connecting it here counts"
    assert shop.connect()["members_called"] == 2 and account().connected
    product.work()
    assert product.shown(ADA) == set() and product.shown(BEN) == {GOLD}
    assert product.row(BEN).subs[shop.key_of(ben)].unread_since == 0 and len(ledger.of(ledger.member_subject(BEN, SERVER))) == told, "nothing to tell Ben"


def test_fault_6_a_late_deauthorisation_of_an_account_that_is_connected_again_changes_nothing(product, shop):
    shop.disconnect()
    shop.reconnect()
    shop.connect()
    shop.take_in(shop.events("account.application.deauthorized")[-1])
    assert product.work() == 0 and account().connected


def test_a_disconnected_account_that_is_told_twice_was_disconnected_once(product, shop):
    shop.disconnect()
    since = account().since
    product.time.passes(60)
    shop.take_in(shop.events("account.application.deauthorized")[-1])
    product.work()
    assert account().since == since


def test_I3_fault_54_a_subscription_of_the_other_mode_is_unknown(product):
    key = product.holder()
    good = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]
    for mode in (True, None, "false"):
        product.order("stripe", method="GET", path=key, do="answer", status=200, body={**good, "status": "canceled", "livemode": mode})
        product.tell(key)
        product.work()
        assert product.shown() == {GOLD} and product.row().subs[f"stripe:operator:{key}"].status == "active"


# I7: the wall between two accounts


@pytest.fixture
def two(product):
    """Yield two shops, each with a server of its own and a buyer there: A with Ada, B with Ben."""
    shops = [Shop(product, A), Shop(product, B)]
    for shop, server, owner in zip(shops, (SERVER, OTHER_SERVER), (OLGA, OTTO), strict=True):
        shop.furnish(server, owner=owner)
    return shops


def everything(product):
    """Both members' rows and roles, without the counters of looks."""
    def row(user, server):
        found = product.row(user, server)
        return found and (found.roles, {key: sub.status for key, sub in found.subs.items()})
    return [(row(user, server), product.shown(user, server)) for user in (ADA, BEN) for server in (SERVER, OTHER_SERVER)]


def forged(event, **changes):
    """The event with another object: {"id": …, and so on}."""
    event = json.loads(json.dumps(event))
    event["data"]["object"] |= changes
    return {**event, "id": f"evt_1Forged{abs(hash(json.dumps(changes, sort_keys=True))) % 10**8}"}


def test_I7_A10_an_event_of_one_account_that_names_a_subscription_of_the_other_finds_nothing(product, two):
    a, b = two
    a.holder(user=ADA, server=SERVER)
    theirs = b.holder(user=BEN, server=OTHER_SERVER)
    before = everything(product)
    sample = a.events("customer.subscription.updated")[-1]
    assert a.take_in(forged(sample, id=theirs, status="canceled"))["queued"]
    product.sent.clear()
    assert product.work() == 0 and everything(product) == before
    assert all(request.headers.get("Stripe-Account") == A for base, request in product.sent if "/v1/" in request.url), "asked of its own account only"
    assert product.delayed("stripe-events") == 1, "A does not know it; B is never asked"


def test_I7_C9_an_intent_made_for_one_account_is_not_paid_with_a_subscription_of_the_other(product, two):
    from chalicelib.store import links
    a, b = two
    before = everything(product)
    links.make_intent("intent-of-B-for-Ben-000000", user=BEN, server=OTHER_SERVER, offer="gold", account=B, now=now(product))
    key = bought_by_hand(a, "intent-of-B-for-Ben-000000")
    a.tell(key)
    assert product.work() == 0 and parked(A) == ["other_account"] and everything(product) == before


def test_I7_A10_one_owners_two_accounts_in_one_server_do_not_pay_for_each_other_either(product):
    from chalicelib.store import links
    a, b = Shop(product, A), Shop(product, B)
    a.furnish()
    b.connect()
    links.make_intent("intent-of-B-in-one-server-0", user=ADA, server=SERVER, offer="gold", account=B, now=now(product))
    a.tell(bought_by_hand(a, "intent-of-B-in-one-server-0"))
    assert product.work() == 0 and parked(A) == ["other_account"] and product.shown() == set()


def test_I7_charges_of_one_account_hold_nothing_that_the_other_sold(product, two):
    """By the other's charge id; by an intent of the other's that the payment names; by a subscription that is not there."""
    a, b = two
    a.holder(user=ADA, server=SERVER)
    theirs = b.holder(user=BEN, server=OTHER_SERVER)
    before, held = everything(product), product.row(BEN, OTHER_SERVER).holds
    intent, = [row for row in links_of(product) if row.get("claimed_by") == b.key_of(theirs)]
    charge = {"object": "charge", "refunded": True, "amount_refunded": 500, "metadata": {"rolekeep_intent": intent["id"].removeprefix("intent:")}}
    a.take_in({**a.events()[0], "id": "evt_1ChargeOfB", "type": "charge.refunded", "data": {"object": charge | {"id": list(b.world.all("charge"))[-1]["id"]}}})
    paid = paid_once_by_hand(a, charge["metadata"]["rolekeep_intent"])
    a.at_stripe("POST", "/v1/refunds", {"charge": paid})
    a.take_in(a.events("charge.refunded")[-1])
    assert product.work() == 0 and everything(product) == before and product.row(BEN, OTHER_SERVER).holds == held
    assert parked(A) == ["other_account"], "the payment that names B's intent; B's charge is not known at A and asked about again"
    assert product.delayed("stripe-events") == 1


def links_of(product):
    return [{name: next(iter(value.values())) for name, value in row.items()}
            for row in product.aws.client("dynamodb").scan(TableName="rolekeep-local-links", ConsistentRead=True)["Items"]]


def paid_once_by_hand(shop, intent):
    """The id of a charge of a one-time payment that the account's owner has taken, with that intent in its metadata."""
    made = shop.at_stripe("POST", "/v1/products", {"name": "Once"})["id"]
    price = shop.at_stripe("POST", "/v1/prices", {"product": made, "unit_amount": 500, "currency": "eur"})["id"]
    session = shop.at_stripe("POST", "/v1/checkout/sessions", {
        "mode": "payment", "line_items[0][price]": price, "line_items[0][quantity]": 1, "success_url": "https://x.example/",
        "payment_intent_data[metadata][rolekeep_intent]": intent})
    browser = shop.product._browser
    form = next(iter(browser.open(session["url"]).forms))
    browser.session.post(form["action"], allow_redirects=False, data={**form["fields"], "email": "x@canary.example", "number": GOOD})
    return list(shop.world.all("charge"))[-1]["id"]


def test_I7_a_charge_of_an_account_that_nobody_connected_is_parked_and_never_asked_about(product, shop):
    stranger = Shop(product, B)
    event = {**shop.events()[0], "id": "evt_1Stranger", "type": "charge.refunded", "account": B, "data": {"object": {"id": "ch_1Stranger", "object": "charge"}}}
    assert stranger.take_in(event)["queued"]
    with product.counted() as seen:
        assert product.work() == 0
    assert seen.http == [] and parked(B) == ["unknown_account"]


def test_fault_53_a_charge_that_cannot_be_asked_about_is_not_asked_about_every_two_minutes_for_ever(product, shop):
    key = shop.holder()
    shop.at_stripe("POST", "/v1/refunds", {"charge": list(shop.world.all("charge"))[-1]["id"], "amount": 100})
    shop.take_in(shop.events("charge.refunded")[-1])
    product.order("stripe", method="GET", path="/v1/charges/", do="answer", status=403, body={"error": {}}, times=None)
    from chalicelib.store import links
    charge = f"stripe:{A}:{shop.events('charge.refunded')[-1]['data']['object']['id']}"
    links.link_charge(charge, reason=shop.key_of(key), until=None, now=1)
    product.work()
    waits = []
    for _ in range(13):     # within a day: the daily look comes in between
        waits.append(product.row().due_at - now(product))
        product.time.passes(max(waits[-1], 6_000))
        product.sweep()
    assert waits[0] == 120 and waits == sorted(waits) and waits[-1] == 3_600 and product.shown() == {GOLD}


def bought_by_hand(shop, intent, amount=500):
    """A subscription that the account's owner has made at Stripe, with that intent in its metadata."""
    session = shop.at_stripe("POST", "/v1/checkout/sessions", {
        "mode": "subscription", "line_items[0][price]": shop.price(amount)["id"], "line_items[0][quantity]": 1, "success_url": "https://x.example/",
        "subscription_data[metadata][rolekeep_intent]": intent})
    browser = shop.product._browser
    form = browser.open(session["url"]).form("Subscribe")
    browser.session.post(form["action"], allow_redirects=False, data={**form["fields"], "email": "x@canary.example", "number": GOOD})
    return list(shop.world.all("subscription"))[-1]["id"]


GOOD = "4242424242424242"


def test_I7_A10_an_intent_of_this_account_for_a_server_that_it_is_not_bound_to_gives_nothing(product, two):
    from chalicelib.store import links
    a, _ = two
    before = everything(product)
    links.make_intent("intent-of-A-for-B-server-00", user=BEN, server=OTHER_SERVER, offer="gold", account=A, now=now(product))
    a.tell(bought_by_hand(a, "intent-of-A-for-B-server-00"))
    assert product.work() == 0 and parked(A) == ["other_account"] and everything(product) == before


def test_I7_a_price_of_one_account_buys_nothing_in_the_others_server_whatever_its_settings_copy(product, two):
    from chalicelib.store import servers
    a, b = two
    servers.write(OTHER_SERVER, {"name": "B", "accounts": ["operator", B], "offers": {"gold": {"name": "gold", "roles": [SILVER], "prices": [b.price(500), a.price(500)]}}})
    server = settings_of(OTHER_SERVER)
    assert server.buying(A, a.price(500)["id"]) is None and server.buying(B, a.price(500)["id"]) is None
    assert server.roles_sold_through(A) == set()


@pytest.mark.parametrize("type_, object_", [
    ("invoice.paid", lambda key: {"id": "in_1X", "object": "invoice", "parent": {"subscription_details": {"subscription": key}}}),
    ("checkout.session.completed", lambda key: {"id": "cs_test_1X", "object": "checkout.session", "mode": "subscription", "subscription": key}),
    ("customer.subscription.deleted", lambda key: {"id": key, "object": "subscription", "status": "canceled"})])
def test_I7_every_kind_of_event_is_asked_of_the_account_it_came_from(product, two, type_, object_):
    a, b = two
    theirs = b.holder(user=BEN, server=OTHER_SERVER)
    before = everything(product)
    a.take_in({**a.events()[0], "id": "evt_1Other", "type": type_, "data": {"object": object_(theirs)}})
    product.work()
    assert everything(product) == before


def test_I7_the_member_of_one_server_cannot_touch_what_the_other_account_sells(product, two, call):
    a, b = two
    a.holder(user=ADA, server=SERVER)
    theirs = b.holder(user=BEN, server=OTHER_SERVER)
    secret, csrf = product.signed_in(ADA)
    product.sent.clear()
    for what in ("cancel", "undo", "portal-session"):
        answer = call("POST", f"/api/v1/subscriptions/{theirs}/{what}", {"Cookie": f"__Host-rolekeep-session={secret}", "X-CSRF-Token": csrf, "Content-Type": "application/json"}, b"{}")
        assert answer.status == 404
    assert product.sent == []


def test_I7_a_subscription_id_that_exists_at_both_accounts_is_two_subscriptions(product, two):
    """Stripe's ids are unique; a key that stood on that would be one forged id away from the wrong server."""
    from chalicelib.store import links
    a, b = two
    ours, theirs = a.holder(user=ADA, server=SERVER), b.holder(user=BEN, server=OTHER_SERVER)
    assert links.of_subscription(a.key_of(ours)).user == ADA and links.of_subscription(b.key_of(ours)) is None
    assert links.of_subscription(b.key_of(theirs)).server == OTHER_SERVER and links.of_subscription(f"stripe:operator:{theirs}") is None


@pytest.mark.parametrize("seed", range(4))
def test_fault_62_two_accounts_events_in_one_warm_process_in_any_order_end_as_each_alone(product, two, seed):
    a, b = two
    chance = random.Random(seed)
    bought = {shop.id: [shop.buys("gold", user, server), shop.buys("silver", user, server)] for shop, user, server in ((a, ADA, SERVER), (b, BEN, OTHER_SERVER))}
    a.ends(bought[A][0])
    b.ends(bought[B][1])
    both = [(shop, event) for shop in two for event in shop.events() if event["data"]["object"].get("id") in bought[shop.id]] * 2
    chance.shuffle(both)
    from chalicelib.gateways import stripe
    first = stripe._client()
    for chunk in [both[n:n + 3] for n in range(0, len(both), 3)]:
        for shop, event in chunk:
            shop.take_in(event)
        assert product.work() == 0
    assert stripe._client() is first, "one warm process"
    assert (product.shown(ADA, SERVER), product.shown(BEN, OTHER_SERVER)) == ({SILVER}, {GOLD})
    assert product.shown(ADA, OTHER_SERVER) == product.shown(BEN, SERVER) == set()
    asked = {(request.headers.get("Stripe-Account"), request.url.rsplit("/", 1)[1]) for base, request in product.sent if "/v1/subscriptions/" in request.url}
    assert asked == {(name, key) for name, keys in bought.items() for key in keys}
    assert parked(A) == parked(B) == []
