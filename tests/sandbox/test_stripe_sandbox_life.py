"""The life of a subscription in the Stripe sandbox, on its clock: renew, fail, recover, cancel, undo, end."""
from datetime import datetime, timezone

import pytest

from stripe_account import DAY, DECLINED, FAILS_LATER, WORKS, Account

HOUR = 3600


@pytest.fixture
def account():
    return Account()


def day(epoch):
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%d %H:%M")


def end_of(sub):
    return sub["items"]["data"][0]["current_period_end"]


def to(account, instant):
    account.clock.move_to(instant)


def set_card(account, sub, number):
    account.control("POST", f"customers/{sub['customer']}/card", {"number": number})


def state(sub):
    return sub["status"], sub["cancel_at_period_end"], sub["cancel_at"]


# renewal

def test_months_are_counted_from_the_anchor_so_the_31st_comes_back(account):
    # Rows: fault 49
    sub = account.buy()
    seen = []
    for _ in range(4):
        seen.append(day(end_of(sub)))
        to(account, end_of(sub))
        sub = account.sub(sub["id"])
    assert seen == ["2026-02-28 12:00", "2026-03-31 12:00", "2026-04-30 12:00", "2026-05-31 12:00"]


def test_a_leap_day_comes_back_in_leap_years_only():
    # Rows: fault 49
    account = Account(start=1709208000)  # 2024-02-29T12:00:00Z
    account.offer = account.price("year")
    sub = account.buy()
    ends = []
    for _ in range(4):
        ends.append(day(end_of(sub))[:10])
        to(account, end_of(sub))
        sub = account.sub(sub["id"])
    assert ends == ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


@pytest.mark.parametrize("interval, count, end", [("day", 10, "2026-02-10 12:00"), ("week", 2, "2026-02-14 12:00"),
                                                  ("month", 3, "2026-04-30 12:00")])
def test_intervals_are_counted_in_their_own_unit(account, interval, count, end):
    account.offer = account.price(interval, **{"recurring[interval_count]": count})
    assert day(end_of(account.buy())) == end


def test_a_renewal_advances_the_period_at_once_and_is_paid_an_hour_later(account):
    sub = account.buy()
    to(account, end_of(sub))
    renewed = account.sub(sub["id"])
    assert renewed["status"] == "active" and renewed["items"]["data"][0]["current_period_start"] == end_of(sub)
    draft = account.api("GET", "/v1/invoices", {"subscription": sub["id"], "status": "draft"})["data"][0]
    assert draft["id"] == renewed["latest_invoice"] != sub["latest_invoice"]
    account.clock.advance(HOUR)
    paid = account.api("GET", f"/v1/invoices/{draft['id']}")
    assert (paid["status"], paid["billing_reason"]) == ("paid", "subscription_cycle")
    assert paid["lines"]["data"][0]["period"]["end"] == end_of(renewed)
    assert paid["period_end"] == end_of(sub)  # the invoice's own period is the one before


def test_one_move_of_the_clock_rolls_several_periods_in_time_order(account):
    first = account.buy()
    account.buy()
    to(account, "2026-06-15T00:00:00Z")
    assert day(end_of(account.sub(first["id"]))) == "2026-06-30 12:00"
    paid = [e for e in account.events("invoice.paid") if e["data"]["object"]["billing_reason"] == "subscription_cycle"]
    instants = [e["created"] for e in account.events()]
    assert len(paid) == 8 and instants == sorted(instants)
    assert [day(e["created"]) for e in paid[::2]] == ["2026-02-28 13:00", "2026-03-31 13:00", "2026-04-30 13:00", "2026-05-31 13:00"]


def test_an_update_event_says_what_was_before(account):
    sub = account.buy()
    to(account, end_of(sub))
    event = account.events("customer.subscription.updated")[-1]
    before = event["data"]["previous_attributes"]
    assert before["items"]["data"][0]["current_period_end"] == end_of(sub) and before["latest_invoice"] == sub["latest_invoice"]
    assert set(before) == {"items", "latest_invoice"} and event["request"] == {"id": None, "idempotency_key": None}


def test_an_event_of_a_request_names_the_request(account):
    sub = account.buy()
    account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True}, Idempotency_Key="intent-7")
    request = account.events("customer.subscription.updated")[-1]["request"]
    assert request["idempotency_key"] == "intent-7" and request["id"].startswith("req_")


# failure

def test_a_failed_renewal_is_past_due_with_the_period_already_advanced(account):
    sub = account.buy()
    set_card(account, sub, FAILS_LATER)
    to(account, end_of(sub) + HOUR)
    late = account.sub(sub["id"])
    assert late["status"] == "past_due" and late["items"]["data"][0]["current_period_start"] == end_of(sub)
    invoice = account.api("GET", "/v1/invoices", {"subscription": sub["id"], "status": "open"})["data"][0]
    assert invoice["next_payment_attempt"] == end_of(sub) + HOUR + 3 * DAY and invoice["attempt_count"] == 1
    assert account.api("GET", f"/v1/customers/{sub['customer']}")["delinquent"] is True
    assert "invoice.payment_failed" in account.types("invoice")


@pytest.mark.parametrize("setting, status, last", [("cancel", "canceled", "customer.subscription.deleted"),
                                                   ("unpaid", "unpaid", "customer.subscription.updated")])
def test_after_retries_on_3_5_and_7_days_it_is_over(setting, status, last):
    account = Account(final_failure=setting)
    sub = account.buy()
    set_card(account, sub, FAILS_LATER)
    to(account, end_of(sub) + HOUR + 15 * DAY - 1)
    assert account.sub(sub["id"])["status"] == "past_due"
    account.clock.advance(1)
    over = account.sub(sub["id"])
    failures = [e["created"] - end_of(sub) - HOUR for e in account.events("invoice.payment_failed")]
    assert over["status"] == status and failures == [0, 3 * DAY, 8 * DAY, 15 * DAY]
    assert account.types("customer.subscription")[-1] == last
    if setting == "cancel":
        assert over["cancellation_details"]["reason"] == "payment_failed" and over["ended_at"] == end_of(sub) + HOUR + 15 * DAY


def test_an_unpaid_subscription_only_collects_drafts_until_somebody_pays():
    account = Account(final_failure="unpaid")
    sub = account.buy()
    set_card(account, sub, FAILS_LATER)
    to(account, end_of(sub) + 40 * DAY)
    drafts = account.api("GET", "/v1/invoices", {"subscription": sub["id"], "status": "draft"})["data"]
    assert account.sub(sub["id"])["status"] == "unpaid" and len(drafts) == 1 and drafts[0]["auto_advance"] is False


@pytest.mark.parametrize("road", ["retry", "portal", "invoice page", "next retry", "api"])
def test_paying_recovers(account, road):
    sub = account.buy()
    set_card(account, sub, FAILS_LATER)
    to(account, end_of(sub) + HOUR)
    invoice = account.api("GET", "/v1/invoices", {"subscription": sub["id"], "status": "open"})["data"][0]
    if road == "portal":
        url = account.portal(sub["customer"])["url"]
        assert account.page("POST", url + "/payment-method", {"number": WORKS})[0] == 303
    elif road == "invoice page":
        assert account.page("POST", invoice["hosted_invoice_url"], {"number": ""})[0] == 402
        assert account.page("POST", invoice["hosted_invoice_url"], {"number": WORKS})[0] == 200
    elif road == "retry":
        account.control("POST", f"subscriptions/{sub['id']}/retry", {"outcome": "decline"})
        assert account.sub(sub["id"])["status"] == "past_due"
        account.control("POST", f"subscriptions/{sub['id']}/retry", {"outcome": "succeed"})
    else:
        set_card(account, sub, WORKS)
        assert account.sub(sub["id"])["status"] == "past_due"
        account.clock.advance(3 * DAY) if road == "next retry" else account.api("POST", f"/v1/invoices/{invoice['id']}/pay")
    assert account.sub(sub["id"])["status"] == "active"
    assert account.api("GET", f"/v1/invoices/{invoice['id']}")["status"] == "paid"
    assert account.api("GET", f"/v1/customers/{sub['customer']}")["delinquent"] is False
    assert account.events("customer.subscription.updated")[-1]["data"]["previous_attributes"] == {"status": "past_due"}


def test_the_control_call_ends_the_period_now_with_the_outcome_asked_for(account):
    sub = account.buy()
    account.clock.advance(3 * DAY)
    renewed = account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "succeed"})
    assert renewed["status"] == "active" and renewed["items"]["data"][0]["current_period_start"] == int(account.clock.now())
    late = account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    assert late["status"] == "past_due"


# scheduled cancellation, in both forms

@pytest.mark.parametrize("options, flag, has_cancel_at", [
    ({"billing_mode": "flexible"}, True, False),
    ({"billing_mode": "flexible", "flag_sets_cancel_at": True}, True, True),
    ({"billing_mode": "classic"}, True, True)])
def test_a_cancel_by_api_sets_the_flag(options, flag, has_cancel_at):
    account = Account(**options)
    sub = account.buy()
    set_to = account.api("POST", f"/v1/subscriptions/{sub['id']}", {
        "cancel_at_period_end": True, "cancellation_details[feedback]": "unused", "cancellation_details[comment]": "bye"})
    assert state(set_to) == ("active", flag, end_of(sub) if has_cancel_at else None)
    assert set_to["cancellation_details"] == {"comment": "bye", "feedback": "unused", "reason": "cancellation_requested"}
    undone = account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": False})
    assert state(undone) == ("active", False, None) and undone["canceled_at"] is None
    assert undone["cancellation_details"] == {"comment": None, "feedback": None, "reason": None}


@pytest.mark.parametrize("mode, form", [("flexible", (False, True)), ("classic", (True, True))])
def test_a_cancel_in_the_portal_has_the_form_of_the_billing_mode(mode, form):
    account = Account(billing_mode=mode)
    sub = account.buy()
    url = account.portal(sub["customer"])["url"]
    status, _, text = account.page("GET", f"{url}/subscriptions/{sub['id']}/cancel")
    assert status == 200 and "too_expensive" in text and "28 February 2026" in text
    assert account.page("POST", f"{url}/subscriptions/{sub['id']}/cancel", {"reason": "too_expensive", "comment": "hm"})[0] == 303
    ending = account.sub(sub["id"])
    assert state(ending) == ("active", form[0], end_of(sub) if form[1] else None)
    assert ending["cancellation_details"]["feedback"] == "too_expensive"
    assert "Don't cancel" in account.page("GET", url)[2]
    assert account.page("POST", f"{url}/subscriptions/{sub['id']}/renew")[0] == 303
    assert state(account.sub(sub["id"])) == ("active", False, None)


def test_the_flag_does_not_undo_a_cancel_at_of_a_flexible_subscription_but_an_empty_cancel_at_does(account):
    sub = account.buy()
    path = f"/v1/subscriptions/{sub['id']}"
    account.page("POST", f"{account.portal(sub['customer'])['url']}/subscriptions/{sub['id']}/cancel")
    assert state(account.api("POST", path, {"cancel_at_period_end": False})) == ("active", False, end_of(sub))
    assert state(account.api("POST", path, {"cancel_at": ""})) == ("active", False, None)
    account.api("POST", path, {"cancel_at_period_end": True})
    assert state(account.api("POST", path, {"cancel_at": ""})) == ("active", True, None)


@pytest.mark.parametrize("params", [{"cancel_at_period_end": True, "cancel_at": "min_period_end"},
                                    {"cancel_at_period_end": False, "cancel_at": ""}])
def test_flag_and_cancel_at_in_one_request_are_refused(account, params):
    sub = account.buy()
    error = account.refused("POST", f"/v1/subscriptions/{sub['id']}", params)
    assert error["message"] == "You may only specify one of these parameters: cancel_at, cancel_at_period_end."
    assert account.sub(sub["id"]) == sub


def test_cancel_at_takes_an_instant_in_the_future_or_a_word_for_the_period_end(account):
    sub = account.buy()
    path = f"/v1/subscriptions/{sub['id']}"
    account.refused("POST", path, {"cancel_at": int(account.clock.now())})
    account.refused("POST", path, {"cancel_at": "soon"})
    assert account.api("POST", path, {"cancel_at": "min_period_end"})["cancel_at"] == end_of(sub)
    later = end_of(sub) + 5 * DAY
    account.api("POST", path, {"cancel_at": later})
    to(account, later)
    assert account.sub(sub["id"])["ended_at"] == later


@pytest.mark.parametrize("mode", ["flexible", "classic"])
@pytest.mark.parametrize("channel", ["api", "portal"])
def test_a_scheduled_cancel_ends_at_the_period_end_not_a_second_earlier_and_bills_no_more(mode, channel):
    account = Account(billing_mode=mode)
    sub = account.buy()
    if channel == "api":
        account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True})
    else:
        account.page("POST", f"{account.portal(sub['customer'])['url']}/subscriptions/{sub['id']}/cancel")
    to(account, end_of(sub) - 1)
    assert account.sub(sub["id"])["status"] == "active"
    account.clock.advance(1)
    over = account.sub(sub["id"])
    assert (over["status"], over["ended_at"], end_of(over)) == ("canceled", end_of(sub), end_of(sub))
    assert over["cancellation_details"]["reason"] == "cancellation_requested"
    account.clock.advance(90 * DAY)
    assert len(account.api("GET", "/v1/invoices", {"subscription": sub["id"]})["data"]) == 1
    assert account.types("customer.subscription")[-1] == "customer.subscription.deleted"


# cancellation now

def test_a_deleted_subscription_has_ended_and_its_open_invoice_is_not_collected(account):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    over = account.api("DELETE", f"/v1/subscriptions/{sub['id']}", {"cancellation_details[comment]": "enough"})
    assert (over["status"], over["ended_at"]) == ("canceled", int(account.clock.now()))
    assert over["cancellation_details"] == {"comment": "enough", "feedback": None, "reason": "cancellation_requested"}
    account.clock.advance(60 * DAY)
    invoice = account.api("GET", "/v1/invoices", {"subscription": sub["id"], "status": "open"})["data"][0]
    assert (invoice["auto_advance"], invoice["next_payment_attempt"], invoice["attempt_count"]) == (False, None, 1)


def test_a_canceled_subscription_can_be_read_but_neither_changed_nor_canceled_again(account):
    sub = account.buy()
    path = f"/v1/subscriptions/{sub['id']}"
    account.api("DELETE", path)
    assert account.sub(sub["id"])["status"] == "canceled"
    assert account.refused("DELETE", path, status=404)["code"] == "resource_missing"
    error = account.refused("POST", path, {"cancel_at_period_end": False})
    assert error["message"] == "A canceled subscription can only update its cancellation_details and metadata."
    assert account.api("POST", path, {"metadata[note]": "late"})["metadata"]["note"] == "late"
    assert account.types("customer.subscription").count("customer.subscription.deleted") == 1


def test_metadata_is_merged_and_emptied_like_stripes(account):
    sub = account.buy()
    path = f"/v1/subscriptions/{sub['id']}"
    assert account.api("POST", path, {"metadata[a]": "1"})["metadata"] == {"rolekeep_intent": "intent_1", "a": "1"}
    assert account.events("customer.subscription.updated")[-1]["data"]["previous_attributes"] == {"metadata": {"a": None}}
    assert account.api("POST", path, {"metadata[a]": ""})["metadata"] == {"rolekeep_intent": "intent_1"}
    assert account.api("POST", path, {"metadata": ""})["metadata"] == {}


# the portal page

def test_the_portal_shows_only_what_the_configuration_allows(account):
    sub = account.buy()
    full = account.page("GET", account.portal(sub["customer"])["url"])[2]
    for words in ("Cancel subscription", "Change payment method", "Invoice history", "Update information", "https://owner.test/terms",
                  "http://shop.test/profile", "visa ending in 4242", "Gold &lt;b&gt;", "paid"):
        assert words in full
    bare = account.api("POST", "/v1/billing_portal/configurations", {"features[invoice_history][enabled]": False})
    url = account.portal(sub["customer"], bare)["url"]
    text = account.page("GET", url)[2]
    for words in ("Cancel subscription", "Change payment method", "Invoice history", "Update information", "owner.test"):
        assert words not in text
    assert account.page("POST", f"{url}/subscriptions/{sub['id']}/cancel")[0] == 404
    assert account.page("POST", f"{url}/payment-method", {"number": WORKS})[0] == 404
    assert account.sub(sub["id"]) == sub


def test_the_portal_cancels_at_once_when_the_configuration_says_so_and_asks_no_reason_when_it_says_not(account):
    sub = account.buy()
    now = account.configuration(**{"features[subscription_cancel][mode]": "immediately",
                                   "features[subscription_cancel][cancellation_reason][enabled]": False})
    url = account.portal(sub["customer"], now)["url"]
    assert "Why do you cancel" not in account.page("GET", f"{url}/subscriptions/{sub['id']}/cancel")[2]
    account.page("POST", f"{url}/subscriptions/{sub['id']}/cancel", {"reason": "too_expensive"})
    over = account.sub(sub["id"])
    assert (over["status"], over["cancellation_details"]["feedback"]) == ("canceled", None)


def test_one_customers_portal_does_not_reach_anothers_subscription(account):
    mine, other = account.buy(), account.buy()
    url = account.portal(mine["customer"])["url"]
    assert other["id"] not in account.page("GET", url)[2]
    assert account.page("POST", f"{url}/subscriptions/{other['id']}/cancel")[0] == 404
    assert account.sub(other["id"])["cancel_at"] is None


def test_a_portal_url_dies_unvisited_after_five_minutes_and_an_hour_after_its_last_visit(account):
    customer = account.buy()["customer"]
    unused, used = account.portal(customer)["url"], account.portal(customer)["url"]
    account.clock.advance(299)
    assert account.page("GET", used)[0] == 200
    account.clock.advance(1)
    assert account.page("GET", unused)[0] == 404
    account.clock.advance(HOUR - 2)
    assert account.page("GET", used)[0] == 200
    account.clock.advance(HOUR)
    assert account.page("GET", used)[0] == 404


def test_a_flow_leads_straight_to_its_page_and_back_where_it_says(account):
    sub = account.buy()
    session = account.portal(sub["customer"], **{
        "flow_data[type]": "subscription_cancel", "flow_data[subscription_cancel][subscription]": sub["id"],
        "flow_data[after_completion][type]": "redirect",
        "flow_data[after_completion][redirect][return_url]": "http://shop.test/cancelled"})
    status, headers, _ = account.page("GET", session["url"])
    assert status == 303 and headers["Location"].endswith(f"/subscriptions/{sub['id']}/cancel")
    status, headers, _ = account.page("POST", headers["Location"])
    assert (status, headers["Location"]) == (303, "http://shop.test/cancelled")
    assert account.sub(sub["id"])["cancel_at"] == end_of(sub)


def test_a_card_that_cannot_even_be_saved_changes_nothing_in_the_portal(account):
    sub = account.buy()
    url = account.portal(sub["customer"])["url"] + "/payment-method"
    status, _, text = account.page("POST", url, {"number": DECLINED})
    assert status == 402 and "declined" in text and account.sub(sub["id"]) == sub
    assert account.page("POST", url, {"number": FAILS_LATER})[0] == 303
    changed = account.events("customer.updated")[-1]
    assert set(changed["data"]["previous_attributes"]["invoice_settings"]) == {"default_payment_method"}


def test_billing_information_is_changed_as_far_as_allowed(account):
    sub = account.buy()
    url = account.portal(sub["customer"])["url"] + "/details"
    assert account.page("POST", url, {"email": "new@example.com", "name": "Not allowed"})[0] == 303
    customer = account.api("GET", f"/v1/customers/{sub['customer']}")
    assert (customer["email"], customer["name"]) == ("new@example.com", None)


def test_a_subscription_can_be_forced_into_any_state(account):
    sub = account.buy()
    account.control("PATCH", f"subscriptions/{sub['id']}", {"status": "paused", "metadata": {}})
    event = account.events("customer.subscription.updated")[-1]
    assert event["data"]["previous_attributes"]["status"] == "active" and event["data"]["object"]["status"] == "paused"
    account.control("PATCH", f"subscriptions/{sub['id']}", {"stat": "x"}, expect=400)


def test_a_subscription_forced_out_of_shape_does_not_stop_the_clock(account):
    odd, other = account.buy(), account.buy()
    account.control("PATCH", f"subscriptions/{odd['id']}", {"items": {"object": "list", "data": [], "has_more": False, "url": "/"}})
    account.clock.advance(40 * DAY)
    assert end_of(account.sub(other["id"])) > end_of(other)


def test_the_front_page_and_the_list_of_orders_are_there(account):
    sub = account.buy()
    account.sandbox.deliveries.pump()
    status, _, text = account.page("GET", "http://stripe.test/")
    assert status == 200 and sub["id"] in text and "checkout.session.completed" in text
    assert "POST subscriptions/{id}/renew" in account.control("GET", "")["calls"]
