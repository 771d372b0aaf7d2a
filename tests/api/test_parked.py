"""Events that cannot be used yet: never a role, never lost; kept where somebody is told, and usable once what they lacked is there."""
import time

import pytest

from infra.local.walker import wait_for
from tests.api.town import api, bought_at_stripe, price
from tests.instance import quiet


def parked(town, key, account="operator"):
    """Why the product has parked something about this subscription."""
    return sorted(row["data"]["why"] for row in town.operator.parked(account) if key in str(row))


def intent_of(town, member, offer="gold"):
    """The checkout intent of a purchase that this member has begun and not paid."""
    before = {row["id"] for row in town.operator.rows("links")}
    member.call("POST", "/api/v1/checkout-sessions", {"server_id": town.id, "offer_id": offer})
    made, = [row["id"] for row in town.operator.rows("links") if row["id"] not in before and row["id"].startswith("intent:")]
    return made.removeprefix("intent:")


def is_parked(town, key, why):
    """Waits until the subscription is parked for that reason, and for that one only."""
    wait_for(lambda: parked(town, key), 5, "the event is parked")
    quiet(town.operator)
    assert parked(town, key) == [why], "once, however many events there were"
    assert not [row for row in town.operator.rows("members") if key in str(row)]
    assert key not in str(town.operator.dead())


@pytest.mark.parametrize("claim", [None, "nobody-ever-made-this-intent", "short", "intent of spaces and #|/"])
def test_fault_10_T36_A10_a_subscription_that_nobody_here_began_is_parked(town, claim):
    is_parked(town, bought_at_stripe(town.instance, intent=claim), "unknown_link")


def test_C9_A10_an_intent_that_another_subscription_has_claimed_gives_nothing_to_a_second_one(town):
    member, thief = town.person(), town.person()
    intent = intent_of(town, member)
    first = bought_at_stripe(town.instance, intent=intent)
    town.holds(member.user_id, town.gold)
    second = bought_at_stripe(town.instance, 300, intent=intent)
    is_parked(town, second, "intent_claimed")
    town.holds(member.user_id, town.gold)
    assert town.sandbox.roles(town.id, thief.user_id) == set()
    assert [one["id"] for one in member.subscriptions(town.id)] == [first]


def test_I7_A9_an_event_of_another_account_is_parked_whatever_intent_it_names(town, stripe):
    member = town.person()
    intent = intent_of(town, member)
    event = stripe.event("customer.subscription.created", {"id": "sub_1OfAnotherAccount", "object": "subscription", "status": "active",
                                                           "metadata": {"rolekeep_intent": intent}}, account="acct_1Another")
    assert stripe.sends(event).status_code == 200
    wait_for(lambda: parked(town, "sub_1OfAnotherAccount", "acct_1Another"), 5, "it is parked")
    assert parked(town, "sub_1OfAnotherAccount", "acct_1Another") == ["unknown_account"]
    assert member.subscriptions() == [] and town.role_calls(member.user_id) == []


def test_I7_A10_an_intent_made_for_another_accounts_money_is_not_bought_with_ours(town):
    member = town.person()
    intent = intent_of(town, member)
    row = town.operator.table("links").get_item(Key={"id": f"intent:{intent}"})["Item"]
    town.operator.table("links").put_item(Item={**row, "account": "acct_1Another"})
    is_parked(town, bought_at_stripe(town.instance, intent=intent), "other_account")
    assert town.role_calls(member.user_id) == []


def test_fault_10_T36_an_unmapped_price_gives_no_role_is_parked_once_and_gives_it_once_it_is_mapped(town, stripe):
    member = town.person()
    key = bought_at_stripe(town.instance, 999, intent=intent_of(town, member))
    wait_for(lambda: parked(town, key), 5, "it is parked")
    quiet(town.operator)
    assert parked(town, key) == ["unmapped_price"]
    shown = member.subscription(key)
    assert (shown["status"], shown["offer"], shown["role_ids"]) == ("active", None, []) and "cancel" in shown["actions"], "who pays can always stop"
    assert town.role_calls(member.user_id) == []
    offers = town.register()
    offers["gold"]["prices"].append({"account": "operator", "id": price(town.instance, 999), "amount": 999, "currency": "eur", "interval": "month"})
    town.register(offers=offers)
    town.sandbox.advance(86_400)
    town.holds(member.user_id, town.gold)
    assert member.subscription(key)["offer"]["id"] == "gold"


def test_a_price_mapped_in_another_server_only_gives_nothing_here_and_nothing_there(town, instance, operator, sandbox):
    from tests.api.town import Town
    elsewhere, member = Town(instance, operator, sandbox), town.person()
    offers = elsewhere.register()
    offers["gold"]["prices"] = [{"account": "operator", "id": price(instance, 888), "amount": 888, "currency": "eur", "interval": "month"}]
    elsewhere.register(offers=offers)
    key = bought_at_stripe(instance, 888, intent=intent_of(town, member))
    wait_for(lambda: parked(town, key), 5, "it is parked")
    quiet(operator)
    sandbox.join(elsewhere.id, member.user_id)
    assert town.role_calls(member.user_id) == elsewhere.role_calls(member.user_id) == []


def test_a_mapping_that_goes_away_is_not_a_loss_that_stays_it_comes_back_with_the_mapping(town):
    member = town.buyer()
    offers = town.register()
    town.register(offers={name: offer for name, offer in offers.items() if name != "gold"})
    town.sandbox.renew(member.subscription_id)
    wait_for(lambda: parked(town, member.subscription_id), 5, "the price without offer is told")
    town.register()
    town.sandbox.renew(member.subscription_id)
    town.holds(member.user_id, town.gold)


def test_fault_54_an_event_about_a_subscription_that_stripe_does_not_know_changes_nothing_and_comes_again(town, stripe):
    key = f"sub_1Unknown{int(time.time())}"
    assert stripe.sends(stripe.event("customer.subscription.deleted", {"id": key, "object": "subscription"})).status_code == 200
    wait_for(lambda: any(one["path"].endswith(key) for one in town.sandbox.stripe("GET", "/requests")["requests"]), 5, "Stripe was asked")
    wait_for(lambda: town.operator.waiting("stripe-events", which=["Delayed"]), 5, "the message waits, delayed")
    assert parked(town, key) == [] and key not in str(town.operator.dead())


def test_identifying_while_stripe_is_down_waits_and_fills_no_dead_letters(town):
    member = town.person()
    town.sandbox.stripe("POST", "/faults", {"method": "GET", "path": r"^/v1/subscriptions/", "do": "answer", "status": 503, "times": 2, "body": "<html>"})
    town.sandbox.stripe("POST", "/faults", {"webhook": r"^(?!invoice\.paid)", "do": "drop", "times": None})
    member.buy(town.id, "gold")
    wait_for(lambda: town.operator.waiting("stripe-events", which=["Delayed"]), 5, "the message waits, delayed")
    assert town.role_calls(member.user_id) == [] and town.dead() == []
    town.sandbox.stripe("DELETE", "/faults")
    town.sandbox.stripe("POST", f"/events/{next(e['id'] for e in reversed(town.sandbox.events()) if e['type'] == 'invoice.paid')}/resend", {})
    town.holds(member.user_id, town.gold)


def test_a_purchase_stays_findable_by_its_link_when_its_intent_is_gone(town):
    """Intents are kept for 60 days, links for as long as the subscription."""
    member = town.buyer()
    for row in town.operator.rows("links"):
        if row.get("user_id") == member.user_id and row["id"].startswith("intent:"):
            assert row["ttl"] - row["made_at"] >= 45 * 86_400 and row["claimed_by"] == f"stripe:operator:{member.subscription_id}"
            town.operator.table("links").delete_item(Key={"id": row["id"]})
    api(town.instance, "DELETE", f"/v1/subscriptions/{member.subscription_id}", {})
    town.holds(member.user_id)
