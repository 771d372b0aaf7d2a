"""Roles bought with PayPal, over HTTP: its signed deliveries in any order, twice, late or never verified; and both processors side by side."""
import base64
import json

import pytest
import requests

from infra.local.run import PAYPAL
from infra.local.walker import wait_for
from tests.api.test_connected_accounts import operate
from tests.api.town import is_problem
from tests.instance import compact, quiet

OWNER = "950000000000000001"
HERE = f"/webhooks/paypal/{PAYPAL.id}"
_plans = {}


@pytest.fixture
def shop(town):
    """Yield the town; it sells what it sells through PayPal too, and its owner lets everything end at once. Afterwards nobody has connected the account."""
    offers = town.register()
    for offer in offers.values():
        price = offer["prices"][0]
        offer["cancel_now"] = True
        offer["prices"] = [price, {**price, "account": PAYPAL.id, "id": plan(town, price["amount"])}]
    town.register(offers=offers, accounts=["operator", PAYPAL.id])
    accounts = town.operator.table("servers")
    accounts.put_item(Item={"server_id": "account", "kind": PAYPAL.id, "owner_id": OWNER, "servers": {town.id}, "state": "connected", "since": 1, "why": "connected"})
    yield town
    town.sandbox.paypal("POST", "/certificates", {"kind": "good"})
    accounts.delete_item(Key={"server_id": "account", "kind": PAYPAL.id})


def plan(town, amount):
    """The id of a monthly plan in euros, one for each amount and instance."""
    if (town.instance.url, amount) not in _plans:
        _plans[town.instance.url, amount] = town.sandbox.paypal("POST", "/plans", {"name": f"For {amount}", "price": f"{amount / 100:.2f}", "threshold": 1})["id"]
    return _plans[town.instance.url, amount]


def approves(town, member, offer="gold"):
    """The id of a subscription that the member has approved at PayPal; we may not have heard of it."""
    member.buy_with_paypal(town.id, offer)
    return next(sub["id"] for sub in reversed(town.sandbox.paypal("GET", "/subscriptions")["subscriptions"]) if sub["status"] == "ACTIVE")


def holder(town, offer="gold"):
    """A member who has bought the offer with PayPal and holds its roles; `subscription_id` is what they bought."""
    member = town.person()
    member.subscription_id = approves(town, member, offer)
    town.holds(member.user_id, *(town.roles[n] for n in {"gold": [1], "silver": [2], "both": [1, 2]}[offer]))
    return member


def told(town, key):
    """The events about the subscription or its sales, oldest first, with their attempts."""
    return [event for event in town.sandbox.paypal("GET", "/events")["events"] if key in (event["resource"].get("id"), event["resource"].get("billing_agreement_id"))]


def act(town, key, action, **wish):
    """Something happens to it on PayPal's own pages."""
    town.sandbox.paypal("POST", f"/subscriptions/{key}/{action}", wish)


def test_the_operators_command_connects_the_account_and_then_it_sells(shop):
    shop.operator.table("servers").delete_item(Key={"server_id": "account", "kind": PAYPAL.id})
    member = shop.person()
    assert is_problem(member.post("/api/v1/checkout-sessions", {"server_id": shop.id, "offer_id": "gold", "processor": "paypal"}), 409)["type"].endswith("account-disconnected")
    assert ["stripe"] == next(server for server in member.servers() if server["id"] == shop.id)["offers"][0]["processors"], "and it is not offered"
    code, said = operate(shop, "connect", shop.id, PAYPAL.id, "--owner", shop.owner)
    assert (code, said.get("state"), said.get("servers")) == (0, "connected", [shop.id]), said
    buyer = holder(shop)
    assert buyer.subscription(buyer.subscription_id)["processor"] == "paypal"


@pytest.mark.parametrize("order", ["reverse", "shuffle"])
def test_fault_3_T12_the_events_of_a_whole_life_in_any_order_and_twice_end_as_paypal_says(shop, order):
    alive, over = shop.person(), shop.person()
    shop.sandbox.paypal("POST", "/faults", {"webhook": ".", "do": "hold", "times": None})
    keys = [approves(shop, member) for member in (alive, over)]
    for key in keys:
        act(shop, key, "suspend")
        act(shop, key, "activate")
        act(shop, key, "renew", outcome="succeed")
    sale = shop.sandbox.paypal("GET", f"/subscriptions/{keys[1]}/sales")["sales"][-1]["id"]
    shop.sandbox.paypal("POST", f"/sales/{sale}/refund")
    act(shop, keys[1], "cancel", by="merchant")
    assert min(len(told(shop, key)) for key in keys) >= 5 and shop.role_calls(alive.user_id) == []
    shop.sandbox.paypal("DELETE", "/faults")
    assert shop.sandbox.paypal("POST", "/release", {"order": order})["released"] >= 10
    for event in told(shop, keys[0]) + told(shop, keys[1]):
        shop.sandbox.paypal("POST", f"/events/{event['id']}/resend")
    shop.holds(alive.user_id, shop.gold)
    wait_for(lambda: [s["state"] for s in over.subscriptions() if s["id"] == keys[1]] == ["on_hold"], 10, lambda: f"it is known: {over.subscriptions()}")
    wait_for(lambda: not any(event["waiting"] for event in shop.sandbox.paypal("GET", "/events")["events"]), 10, "everything has arrived")
    quiet(shop.operator)
    assert shop.sandbox.roles(shop.id, over.user_id) == set() and shop.sandbox.roles(shop.id, alive.user_id) == {shop.gold}
    assert shop.role_calls(alive.user_id) == [("PUT", shop.gold, 204)] and shop.dead() == []


def test_faults_1_2_every_event_twice_and_late_gives_the_role_once(shop):
    shop.sandbox.paypal("POST", "/faults", {"webhook": "SALE", "do": "delay", "seconds": 1, "times": None})
    shop.sandbox.paypal("POST", "/faults", {"webhook": "SUBSCRIPTION", "do": "duplicate", "times": None})
    member = holder(shop)
    wait_for(lambda: all(event["attempts"] and not event["waiting"] for event in told(shop, member.subscription_id)), 10, "all have arrived")
    quiet(shop.operator)
    assert shop.role_calls(member.user_id) == [("PUT", shop.gold, 204)]


def test_fault_27_while_the_certificates_cannot_be_had_deliveries_are_hints_and_what_they_lead_to_is_read_and_right(shop):
    shop.sandbox.paypal("POST", "/certificates", {"kind": "html"})
    before = shop.instance.log().count("intake_unverified")
    member = holder(shop)
    act(shop, member.subscription_id, "cancel")
    wait_for(lambda: member.subscription(member.subscription_id)["state"] == "ending", 10, "the cancellation is known")
    assert shop.instance.log().count("intake_unverified") >= before + 2, "and somebody is told"
    assert shop.sandbox.roles(shop.id, member.user_id) == {shop.gold}


def test_A5_a_forged_delivery_about_somebody_elses_subscription_changes_nothing_whether_it_is_refused_or_taken_as_a_hint(shop):
    victim = holder(shop)
    quiet(shop.operator)
    row = victim.subscription(victim.subscription_id)
    body = compact({"id": "WH-FORGED", "event_type": "BILLING.SUBSCRIPTION.CANCELLED", "resource_type": "subscription", "resource": {
        "id": victim.subscription_id, "status": "CANCELLED", "custom_id": "somebody-elses", "plan_id": "P-NONE", "status_update_time": "2026-01-01T00:00:00Z"}})
    good = told(shop, victim.subscription_id)[-1]
    headers = shop.sandbox.paypal("POST", "/sign", {"body": base64.b64encode(json.dumps(good).encode()).decode(), "webhook_id": PAYPAL.webhook_ids[0]})["headers"]
    address = headers["PAYPAL-CERT-URL"]
    with requests.Session() as session:
        session.trust_env = False
        is_problem(session.post(shop.instance.url + HERE, data=body, headers=headers, timeout=10), 400)
        hint = session.post(shop.instance.url + HERE, data=body, headers=headers | {"PAYPAL-CERT-URL": address + "00"}, timeout=10)
    assert hint.json() == {"received": True, "queued": True}
    quiet(shop.operator)
    assert shop.sandbox.roles(shop.id, victim.user_id) == {shop.gold} and shop.role_calls(victim.user_id) == [("PUT", shop.gold, 204)]
    now = victim.subscription(victim.subscription_id)
    assert {k: v for k, v in now.items() if k != "as_of"} == {k: v for k, v in row.items() if k != "as_of"}


def test_T35_I7_two_members_and_both_processors_each_ends_alone_and_a_role_paid_twice_goes_with_the_last(shop):
    first, second = shop.buyer("gold"), holder(shop)
    both = approves(shop, first, "both")
    shop.holds(first.user_id, shop.gold, shop.silver)
    assert {one["processor"] for one in first.subscriptions() if "manage" in one["actions"]} == {"stripe", "paypal"}
    shop.sandbox.stripe("POST", f"/subscriptions/{first.subscription_id}/renew", {"outcome": "succeed"})
    assert first.cancel(first.subscription_id, now=True)["read_back"] == "canceled"
    wait_for(lambda: first.subscription(first.subscription_id)["state"] == "ended", 5, "the end is known")
    quiet(shop.operator)
    assert shop.sandbox.roles(shop.id, first.user_id) == {shop.gold, shop.silver}
    for act_ in ("cancel", "undo", "portal-session"):
        is_problem(first.post(f"/api/v1/subscriptions/{second.subscription_id}/{act_}", {}), 404)
    assert first.cancel(both, now=True)["next_charge"] == "none"
    shop.holds(first.user_id)
    assert shop.sandbox.roles(shop.id, second.user_id) == {shop.gold} and second.subscription(second.subscription_id)["state"] == "active"
    assert [call[0] for call in shop.role_calls(second.user_id)] == ["PUT"]
