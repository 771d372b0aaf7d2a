"""Every state that a subscription can be in and the access it gives: trials, first payments, dunning, pauses, items, plan switches."""
import pytest

from infra.local.walker import DECLINED_LATER
from tests.usecases.product import ADA, DAY, DISCORD, GOLD, SERVER, SILVER

HOUR = 3_600


def intent(product, offer="gold"):
    """A checkout intent of Ada's, as checkout makes one."""
    from chalicelib.store import links
    name = product.time.token(24)
    links.make_intent(name, user=ADA, server=SERVER, offer=offer, account="operator", now=now(product))
    return name


def began(product, customer=None, **params):
    """The id of a subscription that was begun at Stripe with these parameters, for Ada."""
    customer = customer or with_card(product)
    status, answer = product.stripe.call("POST", "/v1/subscriptions", {"customer": customer, "metadata[rolekeep_intent]": intent(product), **params})
    assert status == 200, answer
    product.hears()
    return answer["id"]


def with_card(product, number="4242424242424242"):
    """The id of a new customer who has this card."""
    customer = product.stripe.call("POST", "/v1/customers", {"email": "ada@canary.example"})[1]["id"]
    product.order_stripe("POST", f"customers/{customer}/card", {"number": number})
    return customer


def now(product):
    return int(product.time.at + product.clock.offset)


def shows(product, key):
    return product.subscription(key)


def period(product, key, which=0):
    """(start, end) of the current period of one item."""
    item = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["items"]["data"][which]
    return item["current_period_start"], item["current_period_end"]


def misses(product, key):
    """The next renewal of the subscription has failed."""
    customer = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["customer"]
    product.order_stripe("POST", f"customers/{customer}/card", {"number": DECLINED_LATER})
    product.order_stripe("POST", f"subscriptions/{key}/renew", {"outcome": "decline"})
    product.hears()


def offers(product, **policies):
    product.sells(gold=([GOLD], [product.price(500)], policies), silver=([SILVER], [product.price(300), product.price(3_000, "year")], {}))


# Trials and first payments


def test_fault_45_T31_a_trial_gives_the_role_says_when_it_ends_and_goes_on_when_paid(product):
    key = began(product, **{"items[0][price]": product.prices[500, "month"], "trial_period_days": 7})
    assert product.shown() == {GOLD}
    shown = shows(product, key)
    assert shown["status"] == "trialing" and shown["text"].startswith("Free trial until") and shown["renews_at"]
    product.advance(7 * DAY + 2 * HOUR)
    product.hears()
    product.sweep()
    assert shows(product, key)["status"] == "active" and product.shown() == {GOLD}


@pytest.mark.parametrize("missing, status", [("pause", "paused"), ("cancel", "canceled")])
def test_fault_45_a_trial_that_ends_without_a_card_ends_the_access(product, missing, status):
    customer = product.stripe.call("POST", "/v1/customers", {"email": "ada@canary.example"})[1]["id"]
    key = began(product, customer, **{"items[0][price]": product.prices[500, "month"], "trial_period_days": 7,
                                      "trial_settings[end_behavior][missing_payment_method]": missing})
    assert product.shown() == {GOLD}
    product.advance(7 * DAY + 2 * HOUR)
    product.hears()
    assert shows(product, key)["status"] == status and product.shown() == set() and shows(product, key)["state"] == "ended"


def test_fault_45_a_trial_whose_first_charge_fails_has_grace_from_the_end_of_the_trial(product):
    offers(product, grace_days=2)
    key = began(product, with_card(product), **{"items[0][price]": product.prices[500, "month"], "trial_period_days": 7})
    product.order_stripe("POST", f"customers/{product.row().subs[f'stripe:operator:{key}'].customer}/card", {"number": DECLINED_LATER})
    _, trial_end = period(product, key)
    product.advance(7 * DAY + 2 * HOUR)
    product.hears()
    product.sweep()
    shown = shows(product, key)
    assert (shown["status"], shown["state"]) == ("past_due", "grace") and product.shown() == {GOLD}
    product.advance(trial_end + 2 * DAY - now(product))
    product.sweep()
    assert product.shown() == set()


def test_fault_45_T30_an_incomplete_subscription_gives_nothing_until_it_is_paid(product):
    product.order_stripe("PATCH", "options", {"first_payment": "action"})
    key = began(product, **{"items[0][price]": product.prices[500, "month"], "payment_behavior": "default_incomplete"})
    assert (shows(product, key)["status"], shows(product, key)["state"]) == ("incomplete", "pending") and product.shown() == set()
    product.order_stripe("POST", f"subscriptions/{key}/authenticate", {"outcome": "succeed"})
    product.hears()
    assert shows(product, key)["status"] == "active" and product.shown() == {GOLD}


def test_fault_45_T30_a_first_payment_that_is_never_made_ends_for_good_after_23_hours(product):
    product.order_stripe("PATCH", "options", {"first_payment": "action"})
    key = began(product, **{"items[0][price]": product.prices[500, "month"], "payment_behavior": "default_incomplete"})
    product.advance(24 * HOUR)
    product.hears()
    assert (shows(product, key)["status"], shows(product, key)["state"]) == ("incomplete_expired", "ended") and product.shown() == set()
    assert product.row().due_at is None


# Dunning


def test_fault_44_M11_grace_is_the_offers_and_its_end_is_shown_to_the_second(product):
    offers(product, grace_days=3)
    key = product.holder()
    misses(product, key)
    start, _ = period(product, key)
    shown = shows(product, key)
    from chalicelib import view
    assert (shown["state"], shown["access_until"]) == ("grace", view.iso(start + 3 * DAY)) and "payment_method" in shown["actions"]
    product.advance(start + 3 * DAY - 1 - now(product))
    product.sweep()
    assert product.shown() == {GOLD}
    product.advance(1)
    product.sweep()
    assert product.shown() == set() and shows(product, key)["state"] == "ended"


def test_fault_44_T29_recovery_within_grace_and_after_it(product):
    offers(product, grace_days=1)
    key = product.holder()
    misses(product, key)
    product.order_stripe("POST", f"subscriptions/{key}/retry", {"outcome": "succeed"})
    product.hears()
    assert shows(product, key)["state"] == "active" and product.shown() == {GOLD}
    misses(product, key)
    product.advance(2 * DAY)
    product.sweep()
    assert product.shown() == set()
    product.order_stripe("POST", f"subscriptions/{key}/retry", {"outcome": "succeed"})
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_44_T29_unpaid_after_the_last_try_gives_nothing_and_paying_brings_it_back(product):
    product.order_stripe("PATCH", "options", {"final_failure": "unpaid"})
    key = product.holder()
    misses(product, key)
    product.advance(20 * DAY)
    product.hears()
    product.sweep()
    assert shows(product, key)["status"] == "unpaid" and product.shown() == set()
    product.order_stripe("POST", f"subscriptions/{key}/retry", {"outcome": "succeed"})
    product.hears()
    assert shows(product, key)["status"] == "active" and product.shown() == {GOLD}


def test_polar_0df445136c_968f7d388b_a_late_event_of_dunning_never_revives_what_has_ended(product):
    key = product.holder()
    misses(product, key)
    failed = [event for event in product.stripe.world.all("event") if event["type"] == "invoice.payment_failed"][-1]
    product.ends(key)
    product.hears()
    assert product.shown() == set()
    product.take_in(failed)
    product.work()
    assert product.shown() == set() and shows(product, key)["status"] == "canceled"


def test_I4_a_weekly_plan_in_dunning_has_one_grace_and_not_a_new_one_every_week(product):
    product.order_stripe("PATCH", "options", {"retry_days": [6, 6, 6, 6]})
    product.sells(gold=([GOLD], [product.price(100, "week")], {"grace_days": 10}))
    key = product.holder()
    misses(product, key)
    since, _ = period(product, key)
    product.advance(since + 8 * DAY - now(product))
    product.hears()
    assert shows(product, key)["status"] == "past_due" and period(product, key)[0] > since and product.shown() == {GOLD}
    product.advance(since + 10 * DAY - 1 - now(product))
    product.sweep()
    assert product.shown() == {GOLD}
    product.advance(1)
    product.sweep()
    assert shows(product, key)["status"] == "past_due" and product.shown() == set()


# Pauses


def test_fault_44_collection_that_is_paused_for_services_that_go_on_changes_nothing(product):
    key = product.holder()
    for behavior in ("keep_as_draft", "mark_uncollectible"):
        product.order_stripe("POST", f"subscriptions/{key}/pause_collection", {"behavior": behavior})
        product.advance(31 * DAY)
        product.hears()
        product.sweep()
        assert shows(product, key)["status"] == "active" and product.shown() == {GOLD}


def test_fault_44_while_invoices_are_voided_access_lasts_as_long_as_it_was_paid_and_comes_back_with_the_service(product):
    key = product.holder()
    _, end = period(product, key)
    product.order_stripe("POST", f"subscriptions/{key}/pause_collection", {"behavior": "void"})
    product.hears()
    from chalicelib import view
    assert product.shown() == {GOLD} and shows(product, key)["access_until"] == view.iso(end)
    product.advance(end - 1 - now(product))
    product.sweep()
    assert product.shown() == {GOLD}
    product.advance(2 * HOUR)
    product.hears()
    product.sweep()
    assert shows(product, key)["status"] == "active" and shows(product, key)["state"] == "ended" and product.shown() == set()
    product.order_stripe("POST", f"subscriptions/{key}/pause_collection", {"behavior": None})
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_44_T30_a_paused_subscription_gives_nothing_and_a_resumed_one_all(product):
    key = product.holder()
    product.order_stripe("POST", f"subscriptions/{key}/pause")
    product.hears()
    assert shows(product, key)["status"] == "paused" and product.shown() == set() and shows(product, key)["state"] == "ended"
    product.order_stripe("POST", f"subscriptions/{key}/resume", {"outcome": "succeed"})
    product.hears()
    assert product.shown() == {GOLD}


# Several items


def test_T25_each_item_of_a_subscription_gives_its_own_roles_and_ends_with_its_own_period(product):
    offers(product, grace_days=3)
    key = began(product, **{"items[0][price]": product.prices[500, "month"], "items[1][price]": product.prices[3_000, "year"]})
    assert product.shown() == {GOLD, SILVER} and shows(product, key)["role_ids"] == sorted([GOLD, SILVER])
    misses(product, key)
    start, _ = period(product, key)
    assert shows(product, key)["status"] == "past_due" and product.shown() == {GOLD, SILVER}
    product.advance(start + 3 * DAY - now(product))
    product.sweep()
    assert product.shown() == {SILVER}, "the year is paid, the month is not"
    product.order_stripe("POST", f"subscriptions/{key}/retry", {"outcome": "succeed"})
    product.hears()
    assert product.shown() == {GOLD, SILVER}


# Plan switches


def calls(product):
    """[(method, role)] of the role changes that Discord was asked for, in order."""
    return [(request.method, request.path_url.rsplit("/", 1)[1]) for base, request in product.sent if base == DISCORD and request.method in ("PUT", "DELETE")]


def test_fault_41_T26_O7_a_switch_gives_the_new_role_before_it_takes_the_old_one(product):
    # Rows: polar 311ade8ecb
    offers(product)
    key = product.holder()
    product.sent.clear()
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[300, "month"]})
    product.hears()
    assert product.shown() == {SILVER} and calls(product) == [("PUT", SILVER), ("DELETE", GOLD)]
    assert shows(product, key)["offer"]["id"] == "silver"


def test_fault_41_O7_a_switch_at_the_end_of_the_period_takes_effect_then_and_not_before(product):
    offers(product)
    key = product.holder()
    _, end = period(product, key)
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[300, "month"], "when": "period_end"})
    product.hears()
    product.advance(end - 1 - now(product))
    product.sweep()
    assert product.shown() == {GOLD}
    product.advance(1)
    product.sweep()
    assert product.shown() == {SILVER}, "without any event"


def test_fault_41_while_discord_refuses_the_new_role_it_is_never_without_any(product):
    offers(product)
    key = product.holder()
    product.order("discord", method="PUT", path=f"/roles/{SILVER}", do="answer", status=503, body="<html>", times=None)
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[300, "month"]})
    product.hears()
    assert product.shown() == {GOLD}
    product.discord.front.faults.clear()
    product.advance(70)
    product.sweep()
    assert product.shown() == {SILVER}


def test_fault_41_I4_a_role_that_discord_never_gives_keeps_nobody_in_the_old_one(product):
    offers(product)
    key = product.holder()
    product.order("discord", method="PUT", path=f"/roles/{SILVER}", do="answer", status=503, body="<html>", times=None)
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[300, "month"]})
    product.hears()
    for seconds in (70, 130):
        assert product.shown() == {GOLD}, "two tries are waited for"
        product.advance(seconds)
        product.sweep()
    assert product.shown() == set(), "with the third the strip goes ahead"
    product.discord.front.faults.clear()
    product.advance(250)
    product.sweep()
    assert product.shown() == {SILVER}


def test_fault_10_C11_O7_a_switch_to_a_price_that_no_offer_knows_parks_takes_the_role_and_tells_everybody(product):
    from chalicelib.store import ledger
    product.sells(gold=([GOLD], [product.price(500)], {}))
    product.price(900)
    key = product.holder()
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[900, "month"]})
    product.hears()
    assert product.shown() == set()
    (parked,) = ledger.parked("operator")
    assert (parked.data["why"], parked.data["price"]) == ("unmapped_price", product.prices[900, "month"])
    shown = shows(product, key)
    assert shown["offer"] is None and "gives no role here" in shown["text"]
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[500, "month"]})
    product.hears()
    assert product.shown() == {GOLD}


@pytest.mark.parametrize("lost", [None, "release", "update"])
def test_M4_a_subscription_whose_change_of_plan_is_planned_can_be_cancelled_and_the_receipt_says_that_the_plan_is_dropped(product, lost):
    from chalicelib import cancel, ports
    from chalicelib.problem import Problem
    offers(product)
    key = product.holder()
    _, end = period(product, key)
    product.order_stripe("POST", f"subscriptions/{key}/switch", {"price": product.prices[300, "month"], "when": "period_end"})
    product.hears()
    if lost:    # no answer to the first try: the second goes on with it
        path = "/v1/subscription_schedules/" if lost == "release" else f"/v1/subscriptions/{key}$"
        product.order("stripe", method="POST", path=path, do="lose_answer", times=1)
    try:
        receipt = cancel.cancel(user=ADA, subscription_id=key, reason=None, comment=None, deadline=ports.wall() + 25)
    except Problem as unconfirmed:
        assert lost == "release" and unconfirmed.status == 503
        receipt = cancel.cancel(user=ADA, subscription_id=key, reason=None, comment=None, deadline=ports.wall() + 25)
    assert receipt["next_charge"] == "none" and "planned is dropped" in receipt["text"]
    product.hears()
    product.advance(end + HOUR - now(product))
    product.hears()
    product.sweep()
    assert shows(product, key)["status"] == "canceled" and product.shown() == set()
