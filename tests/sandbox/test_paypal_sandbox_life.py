"""What time does to subscriptions in the PayPal sandbox: the calendar, trials, failed payments, suspension, the end."""
from datetime import date

import pytest

from infra.local.sandbox.clock import to_epoch
from infra.local.sandbox.paypal_calendar import after, charged_at, pacific_day
from infra.local.sandbox.paypal_world import iso
from tests.sandbox.paypal_account import Shop


def paid(shop, key):
    """The instants of its sales."""
    return [sale["create_time"] for sale in shop.control("GET", f"subscriptions/{key}/sales")["sales"]]


def done(shop, key):
    """The cycles completed, in their sequence."""
    return [cycle["cycles_completed"] for cycle in shop.info(key)["cycle_executions"]]


# the calendar

@pytest.mark.parametrize(("day", "unit", "count", "days"), [
    ("2025-07-31", "MONTH", 1, ["2025-08-31", "2025-10-01", "2025-11-01"]),      # PayPal's own examples
    ("2025-12-30", "MONTH", 1, ["2026-01-30", "2026-03-01", "2026-04-01"]),
    ("2026-01-29", "MONTH", 1, ["2026-03-01", "2026-04-01"]),
    ("2028-02-29", "YEAR", 1, ["2029-03-01", "2030-03-01"]),
    ("2026-11-15", "MONTH", 3, ["2027-02-15", "2027-05-15"]),
    ("2026-12-23", "WEEK", 2, ["2027-01-06"]), ("2026-02-28", "DAY", 1, ["2026-03-01"])])
def test_a_day_that_the_month_has_not_becomes_the_first_of_the_next_and_stays_it(day, unit, count, days):
    found, at = [], date.fromisoformat(day)
    for _ in days:
        at = after(at, unit, count)
        found.append(str(at))
    assert found == days


@pytest.mark.parametrize(("start", "count", "unit", "charged"), [      # start_time and next_billing_time of real subscriptions
    ("2023-09-09T05:58:41Z", 14, "DAY", "2023-09-22T10:00:00Z"), ("2023-09-08T07:15:10Z", 14, "DAY", "2023-09-22T10:00:00Z"),
    ("2023-04-28T02:16:58Z", 14, "DAY", "2023-05-11T10:00:00Z"), ("2023-03-22T22:38:03Z", 1, "MONTH", "2023-04-22T10:00:00Z"),
    ("2023-04-10T22:40:00Z", 1, "DAY", "2023-04-11T10:00:00Z"), ("2024-03-13T12:56:14Z", 1, "YEAR", "2025-03-13T10:00:00Z")])
def test_charges_fall_on_ten_utc_of_a_day_reckoned_in_pacific_time(start, count, unit, charged):
    assert iso(charged_at(after(pacific_day(to_epoch(start)), unit, count))) == charged


@pytest.mark.parametrize(("instant", "day"), [
    ("2026-03-08T07:30:00Z", "2026-03-07"), ("2026-03-09T07:30:00Z", "2026-03-09"),     # summer time begins on 8 March 2026, 10:00 UTC
    ("2026-11-01T07:30:00Z", "2026-11-01"), ("2026-11-02T07:30:00Z", "2026-11-01")])    # and ends on 1 November, 9:00 UTC
def test_the_pacific_day_knows_summer_time(instant, day):
    assert str(pacific_day(to_epoch(instant))) == day


def test_the_first_payment_is_at_once_and_the_others_by_the_calendar():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy()
    assert shop.types()[-3:] == ["BILLING.SUBSCRIPTION.CREATED", "BILLING.SUBSCRIPTION.ACTIVATED", "PAYMENT.SALE.COMPLETED"]
    assert shop.info(key)["next_billing_time"] == "2026-02-15T10:00:00Z" and shop.info(key)["last_payment"]["time"] == "2026-01-15T12:00:00Z"
    shop.days(65)
    assert paid(shop, key) == ["2026-01-15T12:00:00Z", "2026-02-15T10:30:00Z", "2026-03-15T10:30:00Z"]
    assert shop.info(key)["next_billing_time"] == "2026-04-15T10:00:00Z" and done(shop, key) == [3]
    times = [(e["event_type"], e["create_time"]) for e in shop.events("SALE")]
    assert times[-1] == ("PAYMENT.SALE.COMPLETED", "2026-03-15T10:30:00.000Z")


def test_no_cycle_is_counted_right_after_the_first_payment():
    shop = Shop()
    key = shop.buy()
    assert done(shop, key) == [0] and "last_payment" in shop.info(key)
    shop.clock.advance(60)
    assert done(shop, key) == [1]


def test_next_billing_time_has_passed_while_the_payment_is_being_made():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy()
    shop.clock.move_to("2026-02-15T10:10:00Z")
    assert shop.info(key)["next_billing_time"] == "2026-02-15T10:00:00Z" and len(paid(shop, key)) == 1


@pytest.mark.parametrize(("first", "order"), [
    ("activated", ["BILLING.SUBSCRIPTION.ACTIVATED", "PAYMENT.SALE.COMPLETED"]), ("sale", ["PAYMENT.SALE.COMPLETED", "BILLING.SUBSCRIPTION.ACTIVATED"]),
    ("unpaid", ["BILLING.SUBSCRIPTION.ACTIVATED", "PAYMENT.SALE.COMPLETED"])])
def test_the_first_sale_may_be_told_before_the_activation_or_an_activation_from_before_the_payment(first, order):
    shop = Shop(first=first)
    key = shop.buy()
    assert shop.types()[-2:] == order
    told = shop.events("ACTIVATED")[-1]["resource"]["billing_info"]
    assert ("last_payment" in told) is (first != "unpaid") and "last_payment" in shop.info(key)
    assert (told["next_billing_time"] == shop.sub(key)["start_time"]) is (first == "unpaid")


# trials and starts to come

def test_a_free_trial_costs_nothing_until_its_end():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy(plan=shop.plan(trial_days=14))
    shop.clock.advance(60)
    assert (done(shop, key), paid(shop, key)) == ([1, 0], []) and "last_payment" not in shop.info(key)
    assert shop.info(key)["next_billing_time"] == "2026-01-29T10:00:00Z"
    shop.days(15)
    assert (done(shop, key), paid(shop, key)) == ([1, 1], ["2026-01-29T10:30:00Z"])


def test_a_priced_trial_and_a_set_up_fee_are_paid_at_the_approval():
    shop = Shop()
    key = shop.buy(plan=shop.plan(trial_days=7, trial_price="1.00", setup_fee="2.50"))
    totals = [sale["amount"]["total"] for sale in shop.control("GET", f"subscriptions/{key}/sales")["sales"]]
    assert totals == ["2.50", "1.00"]
    shop.days(8)
    assert shop.info(key)["last_payment"]["amount"]["value"] == "5.0"


def test_next_billing_time_lies_on_order_during_a_trial_and_whenever_it_is_told_to():
    shop = Shop(trial_lie=600)
    key = shop.buy(plan=shop.plan(trial_days=14))
    assert shop.info(key)["next_billing_time"] == shop.sub(key)["start_time"]
    assert shop.events("ACTIVATED")[-1]["resource"]["billing_info"]["next_billing_time"] == shop.sub(key)["start_time"]
    shop.clock.advance(600)
    assert shop.info(key)["next_billing_time"] == "2026-02-14T10:00:00Z"
    shop.control("PATCH", f"subscriptions/{key}", {"next_billing_time": "2026-01-01T00:00:00Z"})
    assert shop.info(key)["next_billing_time"] == "2026-01-01T00:00:00Z"
    shop.control("PATCH", f"subscriptions/{key}", {"next_billing_time": None})
    shop.days(15)
    assert len(paid(shop, key)) == 1


def test_a_start_to_come_is_active_at_once_and_paid_then():
    shop = Shop()
    key = shop.buy(start_time="2026-02-20T10:00:00Z")
    assert (shop.sub(key)["status"], paid(shop, key), done(shop, key)) == ("ACTIVE", [], [0])
    assert shop.info(key)["next_billing_time"] == shop.sub(key)["start_time"] == "2026-02-20T10:00:00Z"
    shop.days(21)
    assert paid(shop, key) == ["2026-02-20T10:30:00Z"] and shop.info(key)["next_billing_time"] == "2026-03-20T10:00:00Z"


# payments that fail

def failing(**wish):
    """A shop at noon of 15 January and a subscription whose next payment, on 15 February, fails."""
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy(plan=shop.plan(**wish))
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "failing"})
    shop.clock.move_to("2026-02-15T12:00:00Z")
    return shop, key


def test_a_failed_payment_leaves_it_active_with_a_past_next_billing_time_and_is_tried_again_after_five_days():
    shop, key = failing()
    info = shop.info(key)
    assert shop.sub(key)["status"] == "ACTIVE" and info["next_billing_time"] == "2026-02-15T10:00:00Z" and info["failed_payments_count"] == 0
    assert info["last_failed_payment"] == {"amount": {"currency_code": "EUR", "value": "5.0"}, "time": "2026-02-15T10:30:00Z",
                                           "reason_code": "PAYMENT_DENIED", "next_payment_retry_time": "2026-02-20T10:00:00Z"}
    event = shop.events("PAYMENT.FAILED")[-1]
    assert event["event_type"] == "BILLING.SUBSCRIPTION.PAYMENT.FAILED" and event["resource"]["status"] == "ACTIVE"
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "good"})
    shop.clock.move_to("2026-02-20T12:00:00Z")
    assert paid(shop, key)[-1] == "2026-02-20T10:30:00Z" and shop.info(key)["next_billing_time"] == "2026-03-15T10:00:00Z"
    assert shop.types()[-1] == "PAYMENT.SALE.COMPLETED" and "last_failed_payment" not in shop.info(key)


def test_after_two_retries_the_cycle_counts_as_failed_and_its_price_is_added_to_the_next():
    shop, key = failing()
    shop.clock.move_to("2026-02-25T12:00:00Z")
    info = shop.info(key)
    assert (info["failed_payments_count"], info["outstanding_balance"]["value"], shop.sub(key)["status"]) == (1, "5.0", "ACTIVE")
    assert info["next_billing_time"] == "2026-03-15T10:00:00Z" and done(shop, key) == [2]      # the failed cycle counts as completed, too
    assert len(shop.types("PAYMENT.FAILED")) == 3 and "next_payment_retry_time" not in info["last_failed_payment"]
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "good"})
    shop.clock.move_to("2026-03-15T12:00:00Z")
    info = shop.info(key)
    assert (info["last_payment"]["amount"]["value"], info["outstanding_balance"]["value"], info["failed_payments_count"]) == ("10.0", "0.0", 0)


def test_at_the_threshold_it_is_suspended_and_only_what_is_owed_makes_it_active_again():
    shop, key = failing(threshold=1)
    shop.clock.move_to("2026-02-25T12:00:00Z")
    assert shop.types()[-2:] == ["BILLING.SUBSCRIPTION.PAYMENT.FAILED", "BILLING.SUBSCRIPTION.SUSPENDED"]
    assert shop.sub(key)["status"] == "SUSPENDED" and "next_billing_time" not in shop.info(key)
    path = f"/v1/billing/subscriptions/{key}"
    assert shop.issue("POST", f"{path}/activate", {"reason": "x"}) == "SUBSCRIPTION_CANNOT_BE_ACTIVATED"
    capture = {"note": "owed", "capture_type": "OUTSTANDING_BALANCE", "amount": {"currency_code": "EUR", "value": "5"}}
    assert shop.issue("POST", f"{path}/capture", capture) == "SUBSCRIBER_ACCOUNT_RESTRICTED"
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "good"})
    assert shop.api("POST", f"{path}/capture", capture)["status"] == "COMPLETED"
    assert shop.issue("POST", f"{path}/capture", capture) == "ZERO_OUTSTANDING_BALANCE"
    shop.api("POST", f"{path}/activate", {"reason": "paid"}, expect=204)
    assert shop.types()[-1] == "BILLING.SUBSCRIPTION.RE-ACTIVATED" and shop.info(key)["next_billing_time"] == "2026-03-15T10:00:00Z"


def test_a_threshold_of_two_takes_two_failed_cycles_in_a_row():
    shop, key = failing(threshold=2)
    shop.clock.move_to("2026-03-15T12:00:00Z")
    assert shop.sub(key)["status"] == "ACTIVE"
    shop.clock.move_to("2026-03-25T12:00:00Z")
    assert shop.sub(key)["status"] == "SUSPENDED" and shop.info(key)["outstanding_balance"]["value"] == "10.0"


def test_a_cycle_too_short_for_retries_fails_at_once():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy(plan=shop.plan(interval="DAY", threshold=2))
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "failing"})
    shop.clock.move_to("2026-01-16T12:00:00Z")
    assert shop.info(key)["failed_payments_count"] == 1
    shop.days(1)
    assert shop.sub(key)["status"] == "SUSPENDED"


def test_without_auto_bill_what_is_owed_stays_owed():
    shop, key = failing(auto_bill=False)
    shop.clock.move_to("2026-02-25T12:00:00Z")
    shop.control("PATCH", f"subscriptions/{key}", {"funding": "good"})
    shop.clock.move_to("2026-03-15T12:00:00Z")
    info = shop.info(key)
    assert (info["last_payment"]["amount"]["value"], info["outstanding_balance"]["value"], info["failed_payments_count"]) == ("5.0", "5.0", 0)


# suspended by people, and active again

@pytest.mark.parametrize("by", ["buyer", "merchant"])
def test_one_that_was_suspended_and_activated_before_its_day_is_billed_on_it(by):
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy()
    shop.control("POST", f"subscriptions/{key}/suspend", {"by": by})
    assert shop.sub(key)["status"] == "SUSPENDED" and shop.types()[-1] == "BILLING.SUBSCRIPTION.SUSPENDED"
    assert [one["rel"] for one in shop.sub(key)["links"]] == ["cancel", "edit", "self", "activate", "capture"]
    shop.days(3)
    shop.control("POST", f"subscriptions/{key}/activate", {"by": by})
    assert shop.info(key)["next_billing_time"] == "2026-02-15T10:00:00Z"


def test_one_that_was_suspended_over_its_day_is_billed_soon_after_its_activation_and_from_then_on():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy()
    shop.api("POST", f"/v1/billing/subscriptions/{key}/suspend", {"reason": "x"}, expect=204)
    shop.clock.move_to("2026-03-20T12:00:00Z")
    assert len(paid(shop, key)) == 1
    shop.api("POST", f"/v1/billing/subscriptions/{key}/activate", {"reason": "x"}, expect=204)
    assert shop.info(key)["next_billing_time"] == "2026-03-20T10:00:00Z"                # today, which has passed
    shop.clock.advance(3600)
    assert paid(shop, key)[-1] == "2026-03-20T13:00:00Z" and shop.info(key)["next_billing_time"] == "2026-04-20T10:00:00Z"


def test_a_buyer_cannot_activate_what_the_merchant_suspended_and_the_event_of_an_activation_may_be_the_newer_one():
    shop = Shop(reactivated="BILLING.SUBSCRIPTION.ACTIVATED")
    key = shop.buy()
    shop.control("POST", f"subscriptions/{key}/suspend", {"by": "merchant"})
    shop.control("POST", f"subscriptions/{key}/activate", {"by": "buyer"}, expect=422)
    shop.control("POST", f"subscriptions/{key}/activate", {"by": "merchant"})
    assert shop.types()[-1] == "BILLING.SUBSCRIPTION.ACTIVATED"


def test_a_suspended_one_can_be_cancelled():
    shop = Shop()
    key = shop.buy()
    shop.control("POST", f"subscriptions/{key}/suspend", {"by": "buyer"})
    shop.control("POST", f"subscriptions/{key}/cancel", {"by": "buyer"})
    assert shop.sub(key)["status"] == "CANCELLED"


# the end

def test_a_finite_one_expires_at_its_last_payment_though_the_time_has_just_been_paid():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy(plan=shop.plan(cycles=3))
    shop.clock.advance(60)
    info = shop.info(key)
    assert info["final_payment_time"] == "2026-03-15T10:00:00Z" and info["cycle_executions"][0]["cycles_remaining"] == 2
    shop.clock.move_to("2026-03-15T12:00:00Z")
    sub = shop.sub(key)
    assert sub["status"] == "EXPIRED" and sub["billing_info"]["last_payment"]["time"] == "2026-03-15T10:30:00Z"
    assert not {"next_billing_time", "final_payment_time"} & sub["billing_info"].keys()
    assert shop.types()[-2:] == ["PAYMENT.SALE.COMPLETED", "BILLING.SUBSCRIPTION.EXPIRED"]
    shop.days(100)
    assert len(paid(shop, key)) == 3


def test_one_of_a_single_cycle_expires_with_its_approval():
    shop = Shop()
    key = shop.buy(plan=shop.plan(cycles=1))
    assert shop.sub(key)["status"] == "EXPIRED"
    assert shop.types()[-3:] == ["BILLING.SUBSCRIPTION.ACTIVATED", "PAYMENT.SALE.COMPLETED", "BILLING.SUBSCRIPTION.EXPIRED"]


def test_renew_and_retry_on_order():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    key = shop.buy()
    shop.days(5)
    assert shop.control("POST", f"subscriptions/{key}/renew", {"outcome": "succeed"})["billing_info"]["next_billing_time"] == "2026-02-20T10:00:00Z"
    assert shop.control("POST", f"subscriptions/{key}/renew", {"outcome": "decline"})["billing_info"]["last_failed_payment"]
    recovered = shop.control("POST", f"subscriptions/{key}/retry", {"outcome": "succeed"})
    assert recovered["billing_info"]["next_billing_time"] == "2026-02-20T10:00:00Z" and len(paid(shop, key)) == 3
    shop.control("POST", f"subscriptions/{key}/retry", expect=400)


def test_many_subscriptions_roll_in_time_order_each_event_at_its_own_instant():
    shop = Shop(start=to_epoch("2026-01-15T12:00:00Z"))
    first = shop.buy()
    shop.days(5)
    second = shop.buy("bo@example.com")
    shop.days(40)
    told = [(e["create_time"], e["resource"]["billing_agreement_id"]) for e in shop.events("SALE")][-2:]
    assert told == [("2026-02-15T10:30:00.000Z", first), ("2026-02-20T10:30:00.000Z", second)]
