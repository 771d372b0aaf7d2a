"""Several items in one Stripe subscription, and switching plans: by the API, in the portal, now and at the period end."""
import pytest

from stripe_account import DAY, DECLINED, FAILS_LATER, JAN_31, WORKS, Account

HOUR = 3600
FEB_28, MAR_31 = 1772280000, 1774958400  # noon, as JAN_31


@pytest.fixture
def account():
    return Account()


def entries(sub):
    """[(price, start, end)] of the items."""
    return [(e["price"]["id"], e["current_period_start"], e["current_period_end"]) for e in sub["items"]["data"]]


def ends(sub):
    return [e["current_period_end"] for e in sub["items"]["data"]]


def lines(invoice):
    return [(line["pricing"]["price_details"]["price"], line["amount"]) for line in invoice["lines"]["data"]]


def switch(account, sub, price, expect=200, **more):
    return account.api("POST", f"/v1/subscriptions/{sub['id']}", {
        "items[0][id]": sub["items"]["data"][0]["id"], "items[0][price]": price, **more}, expect=expect)


def before(event):
    return event["data"]["previous_attributes"]


# several items

def test_checkout_sells_several_prices_in_one_subscription(account):
    gold, extra = account.price(), account.price(unit_amount=200)
    account.offer = gold
    session = account.checkout(**{"line_items[1][price]": extra, "line_items[1][quantity]": 1})
    assert session["amount_total"] == 700 and "2.00 EUR per month" in account.page("GET", session["url"])[2]
    account.page("POST", session["url"], {"email": "a@b.c", "number": WORKS})
    sub, = account.api("GET", "/v1/subscriptions")["data"]
    assert entries(sub) == [(gold, JAN_31, FEB_28), (extra, JAN_31, FEB_28)] and sub["items"]["total_count"] == 2
    first = account.invoice(sub["latest_invoice"])
    assert lines(first) == [(gold, 500), (extra, 200)] and first["amount_paid"] == 700
    account.clock.move_to(FEB_28 + HOUR)
    assert lines(account.invoices(sub)[-1]) == [(gold, 500), (extra, 200)] and ends(account.sub(sub["id"])) == [MAR_31, MAR_31]


def test_checkout_refuses_prices_of_different_intervals_and_the_same_price_twice(account):
    month, year = account.price(), account.price("year")
    wish = {"mode": "subscription", "success_url": "http://a.test/", "line_items[0][price]": month}
    assert "different billing intervals" in account.refused("POST", "/v1/checkout/sessions", {**wish, "line_items[1][price]": year})["message"]
    account.refused("POST", "/v1/checkout/sessions", {**wish, "line_items[1][price]": month})


def test_items_of_different_intervals_each_have_their_own_period_and_bill(account):
    month, year = account.price(), account.price("year", unit_amount=5000)
    sub = account.subscribe(month, year)
    first_year = ends(sub)[1]
    assert entries(sub)[0] == (month, JAN_31, FEB_28) and first_year == JAN_31 + 365 * DAY
    assert lines(account.invoice(sub["latest_invoice"])) == [(month, 500), (year, 5000)]
    account.clock.move_to(FEB_28 + HOUR)
    renewed = account.sub(sub["id"])
    assert ends(renewed) == [MAR_31, first_year] and lines(account.invoice(renewed["latest_invoice"])) == [(month, 500)]
    account.clock.move_to(first_year + HOUR)
    assert lines(account.invoices(sub)[-1]) == [(month, 500), (year, 5000)]  # both ends fall together again
    assert len(account.invoices(sub)) == 13


def test_only_a_flexible_subscription_mixes_intervals(account):
    month, year = account.price(), account.price("year")
    error = account.subscribe(month, year, expect=400, **{"billing_mode[type]": "classic"})["error"]
    assert "Found mismatch in interval field" in error["message"]
    account.subscribe(month, expect=400, **{"items[0][quantity]": 2})
    account.subscribe(account.price(currency="usd"), month, expect=400)


@pytest.mark.parametrize("wish, place", [({"cancel_at": "min_period_end"}, 0), ({"cancel_at": "max_period_end"}, 1),
                                         ({"cancel_at_period_end": True}, 0)])
def test_a_cancellation_at_the_end_means_the_earliest_end_unless_said_otherwise(account, wish, place):
    sub = account.subscribe(account.price(), account.price(interval="month", **{"recurring[interval_count]": 3}))
    end = ends(sub)[place]
    account.api("POST", f"/v1/subscriptions/{sub['id']}", wish)
    account.clock.move_to(end - 1)
    assert account.sub(sub["id"])["status"] == "active"
    account.clock.advance(1)
    assert (account.sub(sub["id"])["status"], account.sub(sub["id"])["ended_at"]) == ("canceled", end)


def test_one_unpaid_bill_makes_the_whole_subscription_past_due(account):
    sub = account.subscribe(account.price(), account.price("year"))
    account.control("POST", f"customers/{sub['customer']}/card", {"number": FAILS_LATER})
    account.clock.move_to(FEB_28 + HOUR)
    late = account.sub(sub["id"])
    assert late["status"] == "past_due" and ends(late) == [MAR_31, ends(sub)[1]]


# switching now

def test_a_switch_changes_the_price_of_the_item_at_once_and_prorates_on_the_next_bill(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    account.clock.advance(14 * DAY)
    switched = switch(account, sub, silver)
    assert entries(switched) == [(silver, JAN_31, FEB_28)] and switched["items"]["data"][0]["id"] == sub["items"]["data"][0]["id"]
    changed = before(account.events("customer.subscription.updated")[-1])
    assert set(changed) == {"items"} and changed["items"]["data"][0]["price"]["id"] == account.offer
    assert len(account.invoices(sub)) == 1
    account.clock.move_to(FEB_28 + HOUR)
    bill = account.invoices(sub)[-1]
    assert lines(bill) == [(silver, 300), (account.offer, -250), (silver, 150)] and bill["amount_paid"] == 200
    proration = bill["lines"]["data"][1]
    assert proration["parent"]["invoice_item_details"]["proration"] is True and proration["period"] == {"start": JAN_31 + 14 * DAY, "end": FEB_28}
    account.clock.move_to(MAR_31 + HOUR)
    assert lines(account.invoices(sub)[-1]) == [(silver, 300)]


@pytest.mark.parametrize("behavior, bills", [("none", [[500]]), ("always_invoice", [[500], [-250, 1000]])])
def test_prorations_can_be_left_out_or_billed_at_once(account, behavior, bills):
    sub = account.buy()
    account.clock.advance(14 * DAY)
    switch(account, sub, account.price(unit_amount=2000), proration_behavior=behavior)
    assert [[amount for _, amount in lines(i)] for i in account.invoices(sub)] == bills
    assert all(i["status"] == "paid" for i in account.invoices(sub))


def test_a_switch_to_another_interval_begins_a_new_period_and_bills_it_now(account):
    sub, year = account.buy(), account.price("year", unit_amount=5000)
    account.clock.advance(14 * DAY)
    switched = switch(account, sub, year)
    now = JAN_31 + 14 * DAY
    assert entries(switched) == [(year, now, now + 365 * DAY)] and switched["billing_cycle_anchor"] == now
    bill = account.invoice(switched["latest_invoice"])
    assert (bill["billing_reason"], bill["status"], lines(bill)) == ("subscription_update", "paid", [(year, 5000), (account.offer, -250)])


def test_a_switch_that_cannot_be_paid_is_past_due_or_refused(account):
    sub, year = account.buy(), account.price("year", unit_amount=5000)
    account.control("POST", f"customers/{sub['customer']}/card", {"number": FAILS_LATER})
    switch(account, sub, year, expect=402, payment_behavior="error_if_incomplete")
    assert entries(account.sub(sub["id"])) == entries(sub)
    assert switch(account, sub, year)["status"] == "past_due"


def test_items_are_added_and_taken_away(account):
    sub, extra = account.buy(), account.price(unit_amount=200)
    path = f"/v1/subscriptions/{sub['id']}"
    more = account.api("POST", path, {"items[0][price]": extra, "proration_behavior": "none"})
    assert [key for key, *_ in entries(more)] == [account.offer, extra] and ends(more) == [FEB_28, FEB_28]
    fewer = account.api("POST", path, {"items[0][id]": more["items"]["data"][0]["id"], "items[0][deleted]": True, "proration_behavior": "none"})
    assert [key for key, *_ in entries(fewer)] == [extra]
    account.refused("POST", path, {"items[0][id]": fewer["items"]["data"][0]["id"], "items[0][deleted]": True})
    account.refused("POST", path, {"items[0][id]": "si_other", "items[0][price]": extra})
    account.refused("POST", path, {"items[0][price]": extra})
    account.refused("POST", path, {"items[0][id]": fewer["items"]["data"][0]["id"], "items[0][price]": "price_none"}, status=404)


def test_a_switch_during_a_trial_costs_nothing_and_leaves_the_trial(account):
    sub, year = account.trial(14), account.price("year")
    switched = switch(account, sub, year)
    assert entries(switched) == [(year, JAN_31, sub["trial_end"])] and len(account.invoices(sub)) == 1


# switching at the period end

def test_a_switch_at_the_period_end_is_a_schedule_and_comes_with_the_new_period(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    planned = account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})
    assert entries(planned) == entries(sub) and planned["schedule"]
    assert before(account.events("customer.subscription.updated")[-1]) == {"schedule": None}
    schedule = account.api("GET", f"/v1/subscription_schedules/{planned['schedule']}")
    assert [(p["start_date"], p["end_date"], p["items"][0]["price"]) for p in schedule["phases"]] == [
        (JAN_31, FEB_28, account.offer), (FEB_28, MAR_31, silver)]
    assert (schedule["status"], schedule["subscription"], schedule["current_phase"]["end_date"]) == ("active", sub["id"], FEB_28)
    account.clock.move_to(FEB_28 - 1)
    assert entries(account.sub(sub["id"])) == entries(sub)
    account.clock.advance(1)
    switched = account.sub(sub["id"])
    assert entries(switched) == [(silver, FEB_28, MAR_31)] and lines(account.invoice(switched["latest_invoice"])) == [(silver, 300)]
    assert set(before(account.events("customer.subscription.updated")[-1])) == {"items", "latest_invoice"}
    account.clock.move_to(MAR_31)
    free = account.sub(sub["id"])
    assert free["schedule"] is None and entries(free)[0][0] == silver
    over = account.api("GET", f"/v1/subscription_schedules/{planned['schedule']}")
    assert (over["status"], over["released_subscription"], over["subscription"], over["released_at"]) == ("released", sub["id"], None, MAR_31)
    assert account.types("subscription_schedule") == [f"subscription_schedule.{what}" for what in ("created", "updated", "released")]


def test_a_plan_of_another_interval_is_anchored_where_it_begins(account):
    sub, year = account.buy(), account.price("year")
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": year, "when": "period_end"})
    account.clock.move_to(FEB_28 + HOUR)
    switched = account.sub(sub["id"])
    assert entries(switched) == [(year, FEB_28, FEB_28 + 365 * DAY)] and switched["billing_cycle_anchor"] == FEB_28


def test_a_scheduled_subscription_is_cancelled_only_once_its_schedule_is_released(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    key = account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})["schedule"]
    path = f"/v1/subscriptions/{sub['id']}"
    for wish in ({"cancel_at_period_end": True}, {"cancel_at": "min_period_end"}, {"cancel_at": ""}):
        assert "managed by the subscription schedule" in account.refused("POST", path, wish)["message"]
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"}, expect=400)
    assert account.api("POST", f"/v1/subscription_schedules/{key}/release")["status"] == "released"
    account.refused("POST", f"/v1/subscription_schedules/{key}/release")
    account.api("POST", path, {"cancel_at_period_end": True})
    account.clock.move_to(FEB_28)
    assert account.sub(sub["id"])["status"] == "canceled" and entries(account.sub(sub["id"]))[0][0] == account.offer


def test_cancelling_now_cancels_the_schedule_and_the_portal_releases_it(account):
    silver = account.price(unit_amount=300)
    now, later = account.buy(), account.buy()
    keys = [account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})["schedule"] for sub in (now, later)]
    account.api("DELETE", f"/v1/subscriptions/{now['id']}")
    account.page("POST", f"{account.portal(later['customer'])['url']}/subscriptions/{later['id']}/cancel")
    assert [account.api("GET", f"/v1/subscription_schedules/{key}")["status"] for key in keys] == ["canceled", "released"]
    assert account.sub(later["id"])["cancel_at"] == FEB_28


def test_the_order_to_renew_brings_the_planned_switch_too(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})
    account.clock.advance(3 * DAY)
    for _ in range(2):
        renewed = account.control("POST", f"subscriptions/{sub['id']}/renew")
        assert entries(renewed)[0][0] == silver
    assert renewed["schedule"] is None


def test_a_switch_made_meanwhile_does_not_undo_the_planned_one(account):
    sub, silver, tin = account.buy(), account.price(unit_amount=300), account.price(unit_amount=100)
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})
    assert entries(switch(account, sub, tin))[0][0] == tin
    account.clock.move_to(FEB_28)
    assert entries(account.sub(sub["id"]))[0][0] == silver


def test_months_later_a_planned_switch_has_happened_at_its_time(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "period_end"})
    account.clock.advance(200 * DAY)
    assert [lines(i)[0] for i in account.invoices(sub)][:3] == [(account.offer, 500), (silver, 300), (silver, 300)]
    assert account.sub(sub["id"])["schedule"] is None
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"when": "later"}, expect=404)
    account.control("POST", f"subscriptions/{sub['id']}/switch", {"price": silver, "when": "later"}, expect=400)


# the portal

def offering(account, *prices, conditions=(), **more):
    products = {f"features[subscription_update][products][{place}][{name}]": value for place, price in enumerate(prices)
                for name, value in (("product", account.api("GET", f"/v1/prices/{price}")["product"]), ("prices][0", price))}
    return account.configuration(**{
        "features[subscription_update][enabled]": True, "features[subscription_update][default_allowed_updates][0]": "price", **products,
        **{f"features[subscription_update][schedule_at_period_end][conditions][{n}][type]": c for n, c in enumerate(conditions)}, **more})


def test_the_portal_switches_to_what_the_configuration_offers_and_nothing_else(account):
    sub, silver, hidden = account.buy(), account.price(unit_amount=300), account.price(unit_amount=1)
    url = account.portal(sub["customer"], offering(account, account.offer, silver, old := account.price(active=False)))["url"]
    here = f"{url}/subscriptions/{sub['id']}/update"
    assert "Update plan" in account.page("GET", url)[2] and "3.00 EUR" in account.page("GET", here)[2]
    assert [account.page("POST", here, {"price": price})[0] for price in (hidden, old, account.offer)] == [404] * 3
    assert account.page("POST", here, {"price": silver})[0] == 303
    assert entries(account.sub(sub["id"])) == [(silver, JAN_31, FEB_28)]
    off = account.portal(sub["customer"])["url"]
    assert "Update plan" not in account.page("GET", off)[2]
    assert account.page("POST", f"{off}/subscriptions/{sub['id']}/update", {"price": account.offer})[0] == 404


@pytest.mark.parametrize("conditions, wish, later", [
    (["decreasing_item_amount"], {"unit_amount": 300}, True), (["decreasing_item_amount"], {"unit_amount": 900}, False),
    (["shortening_interval"], {"recurring[interval]": "week", "unit_amount": 900}, True), ([], {"unit_amount": 300}, False)])
def test_the_portal_plans_the_switch_when_its_conditions_say_so(account, conditions, wish, later):
    sub, other = account.buy(), account.price(**wish)
    url = account.portal(sub["customer"], offering(account, other, conditions=conditions))["url"]
    account.page("POST", f"{url}/subscriptions/{sub['id']}/update", {"price": other})
    after = account.sub(sub["id"])
    assert (entries(after)[0][0] == account.offer, bool(after["schedule"])) == (later, later)
    assert ("The plan changes on" in account.page("GET", url)[2]) is later
    if later:
        account.clock.move_to(FEB_28)
        assert entries(account.sub(sub["id"]))[0][0] == other


@pytest.mark.parametrize("behavior, status", [("end_trial", "active"), ("continue_trial", "trialing")])
def test_a_switch_in_the_portal_ends_a_trial_or_not(account, behavior, status):
    sub, silver = account.trial(14), account.price(unit_amount=300)
    made = offering(account, silver, **{"features[subscription_update][trial_update_behavior]": behavior})
    account.page("POST", f"{account.portal(sub['customer'], made)['url']}/subscriptions/{sub['id']}/update", {"price": silver})
    assert account.sub(sub["id"])["status"] == status


def test_an_update_flow_leads_to_the_page_and_is_refused_when_it_cannot_be(account):
    sub, silver = account.buy(), account.price(unit_amount=300)
    made, flow = offering(account, silver), {"flow_data[type]": "subscription_update", "flow_data[subscription_update][subscription]": sub["id"]}
    url = account.portal(sub["customer"], made, **flow)["url"]
    assert account.page("GET", url)[1]["Location"].endswith(f"/subscriptions/{sub['id']}/update")
    account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True})
    account.refused("POST", "/v1/billing_portal/sessions", {"customer": sub["customer"], "configuration": made["id"], **flow})
    account.refused("POST", "/v1/billing_portal/sessions", {"customer": sub["customer"], "configuration": account.configuration()["id"], **flow})


def test_a_declined_card_at_checkout_of_several_prices_leaves_nothing_behind(account):
    session = account.checkout(**{"line_items[1][price]": account.price()})
    assert account.page("POST", session["url"], {"email": "a@b.c", "number": DECLINED})[0] == 402
    assert account.types("customer") == []
