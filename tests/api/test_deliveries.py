"""Webhooks as they really come: twice, sixteen times at once, late, in any order, after the request, for dead subscriptions, and poisoned."""
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.local.walker import DECLINED_LATER, wait_for
from tests.api.town import api
from tests.instance import quiet


def hold(town, times=None):
    """Stripe's webhooks stay where they are until they are released."""
    town.sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "hold", "times": times})


def release(town, order="as_made"):
    """What was held is delivered in that order; answers how many those were."""
    town.sandbox.stripe("DELETE", "/faults")
    return town.sandbox.stripe("POST", "/release", {"order": order})["released"]


def deliveries(town, key):
    """The events about the subscription that concern the product, as Stripe would send them, oldest first."""
    found = []
    for event in town.sandbox.events():
        thing = event["data"]["object"]
        if key in (thing.get("id"), thing.get("subscription"), ((thing.get("parent") or {}).get("subscription_details") or {}).get("subscription")):
            found.append({name: value for name, value in event.items() if name not in ("attempts", "waiting")})
    return [event for event in found if event["type"].startswith(("checkout.session.", "customer.subscription.", "invoice.p"))]


def bought(town, member, offer="gold"):
    """The id of a subscription that the member bought while webhooks are held: we have not heard of it."""
    member.buy(town.id, offer)
    return next(event["data"]["object"]["id"] for event in reversed(town.sandbox.events()) if event["type"] == "customer.subscription.created")


def settled(town):
    """What was delivered has been worked on."""
    quiet(town.operator)


def ended(town, key):
    """Stripe has ended the subscription, and we have heard of it."""
    api(town.instance, "DELETE", f"/v1/subscriptions/{key}", {})


def test_fault_1_T1_the_same_event_sixteen_times_at_once_gives_the_role_once(town, stripe):
    # Rows: polar d9e7867438
    member = town.person()
    hold(town)
    key = bought(town, member)
    event = next(event for event in deliveries(town, key) if event["type"] == "customer.subscription.created")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: stripe.sends(event), range(16)))
    assert [answer.status_code for answer in answers] == [200] * 16
    town.holds(member.user_id, town.gold)
    settled(town)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204)]
    assert member.role(town.gold)["state"] == "held"
    row = town.operator.membership(member.user_id, town.id)
    assert row["requested"] == row["done"] == 16 and "lease" not in row and "causes" not in row
    assert release(town) and (settled(town) or town.role_calls(member.user_id)) == [("PUT", town.gold, 204)]


def test_fault_1_2_every_event_twice_and_three_events_for_one_change_give_the_role_once(town):
    member = town.person()
    town.sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "duplicate", "times": None})
    key = member.buys("gold")
    settled(town)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204)]
    assert len(deliveries(town, key)) >= 3
    audit = [row for row in town.operator.rows("ledger") if row["subject"] == f"member#{member.user_id}#{town.id}"]
    assert [row["outcome"] for row in audit] == [{town.gold: "grant done"}]


@pytest.mark.parametrize("order", ["reverse", "shuffle"])
def test_fault_3_T11_T12_the_events_of_a_purchase_in_any_order_give_the_role(town, order):
    # Rows: fault 5
    member = town.person()
    hold(town)
    bought(town, member)
    assert release(town, order) >= 3
    town.holds(member.user_id, town.gold)
    member.shows(town.gold, "held")


@pytest.mark.parametrize("seed", range(2))
def test_fault_3_T12_T20_a_whole_life_delivered_in_any_order_ends_as_stripe_says_now(town, stripe, seed):
    """Six changes; all their events come at the end, in an order of this seed, some of them at the same time."""
    member = town.person()
    hold(town)
    key, chance = bought(town, member), random.Random(seed)
    customer = town.sandbox.customer_of(key)
    town.sandbox.patch_subscription(key, cancel_at_period_end=True)
    town.sandbox.patch_subscription(key, cancel_at_period_end=False)
    town.sandbox.set_card(customer, DECLINED_LATER)
    town.sandbox.renew(key, "decline")
    alive = seed != 1
    if alive:
        town.sandbox.retry_payment(key, "succeed")
    else:
        ended(town, key)
    events = deliveries(town, key)
    chance.shuffle(events)
    assert len(events) >= 6
    with ThreadPoolExecutor(3) as pool:
        assert {answer.status_code for answer in pool.map(stripe.sends, events)} == {200}
    settled(town)
    shown = member.subscription(key)
    assert (shown["status"], shown["state"]) == (("active", "active") if alive else ("canceled", "ended"))
    assert town.sandbox.roles(town.id, member.user_id) == ({town.gold} if alive else set())
    assert town.role_calls(member.user_id) == ([("PUT", town.gold, 204)] if alive else [])


def test_fault_3_T12_a_life_whose_deliveries_arrive_shuffled_while_it_is_lived_ends_as_stripe_says(town):
    """Nothing is held: each event takes its own part of two seconds, so that they pass each other on the way."""
    town.sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "shuffle", "seconds": 2})
    member, other = town.person(), town.person()
    keys = [bought(town, one) for one in (member, other)]
    for key in keys:
        town.sandbox.renew(key)
        town.sandbox.patch_subscription(key, cancel_at_period_end=True)
        town.sandbox.patch_subscription(key, cancel_at_period_end=False)
    ended(town, keys[0])
    wait_for(lambda: all(not event["waiting"] for event in town.sandbox.events()), 10, "every event has arrived")
    arrived = [event["attempts"][0]["at"] for event in town.sandbox.events()[-10:]]
    assert arrived != sorted(arrived), "not in the order in which they were made"
    town.holds(other.user_id, town.gold)
    town.holds(member.user_id)
    settled(town)
    assert town.sandbox.roles(town.id, member.user_id) == set() and town.sandbox.roles(town.id, other.user_id) == {town.gold}
    assert town.dead() == []


def test_fault_6_T13_T20_old_events_after_the_end_revive_nothing(town, stripe):
    # Rows: T7, polar 0df445136c
    member = town.buyer()
    old = deliveries(town, member.subscription_id)
    ended(town, member.subscription_id)
    town.holds(member.user_id)
    for event in old:
        assert stripe.sends(event).status_code == 200
    settled(town)
    assert town.sandbox.roles(town.id, member.user_id) == set()
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204), ("DELETE", town.gold, 204)]
    assert member.subscription(member.subscription_id)["state"] == "ended"


def test_fault_6_old_events_of_a_first_subscription_leave_the_second_alone(town, stripe):
    member = town.buyer()
    old = deliveries(town, member.subscription_id)
    ended(town, member.subscription_id)
    town.holds(member.user_id)
    second = member.buys("gold")
    old += [event for event in deliveries(town, member.subscription_id) if event["type"] == "customer.subscription.deleted"]
    for event in reversed(old):
        stripe.sends(event)
    settled(town)
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold} and member.role(town.gold)["subscriptions"] == [second]


def test_fault_38_T27_T28_two_subscriptions_for_one_role_and_it_goes_with_the_last_one(town):
    member = town.buyer("gold")
    both = member.buys("both")
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold, town.silver}
    ended(town, member.subscription_id)
    wait_for(lambda: member.subscription(member.subscription_id)["state"] == "ended", 5, "the end is known")
    settled(town)
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold, town.silver}
    assert [call for call in town.role_calls(member.user_id) if call[0] == "DELETE"] == []
    ended(town, both)
    town.holds(member.user_id)


def test_T26_a_plan_switch_grants_the_new_role_before_it_takes_the_old_one(town):
    # Rows: fault 41, polar 311ade8ecb
    member = town.buyer("gold")
    raw = api(town.instance, "GET", f"/v1/subscriptions/{member.subscription_id}", {})
    items = raw["items"]
    other = town.operator.table("servers").get_item(Key={"server_id": town.id, "kind": "settings"})["Item"]["settings"]["offers"]["silver"]["prices"][0]["id"]
    items["data"][0]["price"]["id"] = other
    town.sandbox.patch_subscription(member.subscription_id, items=items)
    town.holds(member.user_id, town.silver)
    assert [call[:2] for call in town.role_calls(member.user_id)] == [("PUT", town.gold), ("PUT", town.silver), ("DELETE", town.gold)]


def test_T25_every_line_of_a_subscription_counts_not_the_first_alone(town):
    member = town.buyer("gold")
    items = api(town.instance, "GET", f"/v1/subscriptions/{member.subscription_id}", {})["items"]
    offers = town.operator.table("servers").get_item(Key={"server_id": town.id, "kind": "settings"})["Item"]["settings"]["offers"]
    second = json.loads(json.dumps(items["data"][0]))
    second["id"], second["price"]["id"] = "si_second", offers["silver"]["prices"][0]["id"]
    second["current_period_end"] += 86_400
    town.sandbox.patch_subscription(member.subscription_id, items={**items, "data": [second, items["data"][0]]})
    town.holds(member.user_id, town.gold, town.silver)


def test_T26_a_switch_to_a_price_that_no_offer_knows_is_parked_and_gives_nothing(town):
    # Rows: fault 41, C11
    member = town.buyer("gold")
    items = api(town.instance, "GET", f"/v1/subscriptions/{member.subscription_id}", {})["items"]
    items["data"][0]["price"]["id"] = "price_1Unmapped"
    town.sandbox.patch_subscription(member.subscription_id, items=items)
    town.holds(member.user_id)
    assert [row["data"]["price"] for row in town.operator.parked() if row["data"].get("user") == member.user_id] == ["price_1Unmapped"]


def test_fault_24_the_same_message_sent_again_within_five_minutes_is_worked_on_again(town):
    member = town.buyer()
    settled(town)
    before = town.operator.membership(member.user_id, town.id)["requested"]
    for _ in range(3):
        town.operator.send("members", json.dumps({"v": 1, "user": member.user_id, "server": town.id, "cause": "again"}))
        settled(town)
    row = town.operator.membership(member.user_id, town.id)
    assert row["requested"] == row["done"] == before + 3
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204)]


def test_fault_22_a_message_received_twice_at_once_does_no_harm(town):
    member = town.buyer()
    ended(town, member.subscription_id)
    for _ in range(10):
        town.operator.send("members", json.dumps({"v": 1, "user": member.user_id, "server": town.id, "cause": "twice"}))
    town.holds(member.user_id)
    settled(town)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204), ("DELETE", town.gold, 204)]


def test_T16_webhooks_that_come_before_the_checkout_has_sent_the_member_back_are_enough(town):
    """Nobody returns from Stripe's page: closing the tab after paying loses nothing."""
    member = town.person()
    url = member.call("POST", "/api/v1/checkout-sessions", {"server_id": town.id, "offer_id": "both"})["url"]
    page = member.browser.open(url)
    form = page.form("Subscribe")
    member.browser.session.post(form["action"], data={**form["fields"], "email": "closed@canary.example", "number": "4242424242424242"}, allow_redirects=False, timeout=10)
    town.holds(member.user_id, town.gold, town.silver)


def test_fault_35_who_left_and_cancelled_gets_nothing_on_coming_back(town):
    # Rows: polar 767f4841e6
    member = town.buyer()
    town.sandbox.leave(town.id, member.user_id)
    ended(town, member.subscription_id)
    wait_for(lambda: member.subscription(member.subscription_id)["state"] == "ended", 5, "the end is known")
    town.sandbox.join(town.id, member.user_id)
    settled(town)
    assert member.post(f"/api/v1/servers/{town.id}/restore").status_code == 202
    settled(town)
    assert town.sandbox.roles(town.id, member.user_id) == set()


def test_stripe_down_while_the_webhook_is_worked_on_strips_nobody_and_fills_no_dead_letters(town, stripe):
    """An outage on a webhook of a live subscription: unknown, kept, and right once Stripe answers again."""
    member = town.buyer()
    town.sandbox.stripe("POST", "/faults", {"method": "GET", "path": member.subscription_id, "do": "answer", "status": 404, "times": 1,
                                            "body": {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such subscription"}}})
    town.sandbox.stripe("POST", "/faults", {"method": "GET", "path": member.subscription_id, "do": "answer", "status": 401, "times": 1, "body": {"error": {}}})
    for event in deliveries(town, member.subscription_id)[-2:]:
        stripe.sends(event)
        settled(town)
    assert town.sandbox.stripe("GET", "/faults")["faults"] == []
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 204)]
    ended(town, member.subscription_id)
    town.holds(member.user_id)
    assert town.dead() == []
