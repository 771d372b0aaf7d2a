"""Refunds, reversals and disputes at PayPal: by the offer's policy, heard of in any way or not at all."""
import pytest

from tests.usecases.paypal import PayPal
from tests.usecases.product import BEN, DAY, GOLD
from tests.usecases.shop import parked

HOUR = 3_600


@pytest.fixture
def paypal(made):
    """Yield PayPal, through which the server sells gold and silver, over tables in memory."""
    paypal = PayPal(made(lambda url, headers, body: 200)).sells()
    yield paypal
    assert paypal.product.paypal.front.contract.violations.as_json()["violations"] == []


def refunds(paypal, sale, **wish):
    paypal.order("POST", f"sales/{sale['id']}/refund", wish)
    assert paypal.hears() == 0


def disputes(paypal, sale, stage="CHARGEBACK"):
    return paypal.order("POST", f"sales/{sale['id']}/dispute", {"stage": stage})["dispute_id"]


def resolved(paypal, dispute, outcome, money=None):
    paypal.order("POST", f"disputes/{dispute}/resolve", {"outcome": outcome, "money": money})


def hold(paypal):
    one, = paypal.product.row().holds.values()
    return one


# Refunds

@pytest.mark.parametrize("policy, part, whole", [("full", True, False), ("any", False, False), ("never", True, True)])
def test_fault_42_T32_a_part_and_then_all_of_the_payment_goes_back_by_the_offer_s_policy(paypal, policy, part, whole):
    paypal.sells(refund=policy)
    name = paypal.holder()
    refunds(paypal, paypal.sale(name), amount="2.00")
    assert paypal.product.shown() == ({GOLD} if part else set())
    refunds(paypal, paypal.sale(name))
    assert paypal.product.shown() == ({GOLD} if whole else set())
    assert paypal.shows(name)["actions"] == ["manage", "cancel"], "what is refunded still renews, so it can be cancelled"


def test_fault_42_a_refund_of_an_earlier_month_takes_nothing_of_the_present_one_and_the_next_payment_ends_that_of_this_one(paypal):
    name = paypal.holder()
    paypal.until(paypal.ends(name) + HOUR)
    paypal.swept()
    refunds(paypal, paypal.sale(name, 0))
    assert paypal.product.shown() == {GOLD} and paypal.shows(name)["state"] == "active"
    refunds(paypal, paypal.sale(name))
    assert paypal.product.shown() == set() and paypal.shows(name)["state"] == "on_hold"
    paypal.until(paypal.ends(name) + HOUR)
    assert paypal.swept() == {GOLD}


@pytest.mark.parametrize("unit, earlier", [("WEEK", 7), ("DAY", 1)])
def test_fault_42_neither_of_plans_of_days_and_weeks(paypal, unit, earlier):
    paypal.sells(plan={"regular": {"interval_unit": unit, "interval_count": 1}})
    name = paypal.holder()
    paypal.until(paypal.ends(name) + HOUR)
    paypal.swept()
    refunds(paypal, paypal.sale(name, 0))
    assert paypal.product.shown() == {GOLD}


@pytest.mark.parametrize("heard", ["never", "late"])
def test_fault_42_a_refund_of_a_sale_nobody_told_us_of_leads_to_its_subscription_by_asking_paypal(paypal, heard):
    name = paypal.buys()
    paypal.says("BILLING.SUBSCRIPTION.ACTIVATED", {"id": name})
    completed = paypal.events("PAYMENT.SALE.COMPLETED")[-1]
    paypal.forgets()
    assert paypal.product.shown() == {GOLD}
    refunds(paypal, paypal.sale(name))
    assert paypal.product.shown() == set() and parked(paypal.id) == []
    if heard == "late":
        paypal.take_in(completed)
        paypal.product.work()
        assert paypal.product.shown() == set()
    assert hold(paypal).until == paypal.product.row().subs[paypal.key(name)].paid_through


def test_fault_42_a_refund_that_is_heard_before_the_purchase_itself_gives_nothing(paypal):
    name = paypal.buys()
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.take_in(paypal.events("PAYMENT.SALE.REFUNDED")[-1])
    paypal.product.work()
    assert paypal.product.shown() == set() and paypal.shows(name)["state"] == "on_hold"
    paypal.hears()
    assert paypal.product.shown() == set()


def test_fault_42_who_cancels_and_gets_the_money_back_has_no_hour_of_it_left_afterwards(paypal):
    """Never read while it was active, so its end is worked out, and rounded up: the hold lasts as long."""
    paypal.product.advance(14 * HOUR)
    name = paypal.buys()
    paypal.acts(name, "cancel")
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.hears()
    assert paypal.product.shown() == set() and hold(paypal).until >= paypal.product.row().subs[paypal.key(name)].cancel_at


# Reversals

@pytest.mark.parametrize("named", [False, True])
def test_fault_42_43_a_reversal_that_names_neither_sale_nor_subscription_takes_the_role_and_one_that_is_taken_back_gives_it_again_within_a_day(paypal, named):
    name = paypal.holder()
    sale = paypal.sale(name)["id"]
    paypal.order("POST", f"sales/{sale}/reverse", {"names_sale": named})
    told = paypal.events("PAYMENT.SALE.REVERSED")[-1]["resource"]
    assert "billing_agreement_id" not in told and ("sale_id" in told) is named
    paypal.hears()
    assert paypal.product.shown() == set() and parked(paypal.id) == []
    paypal.order("POST", f"sales/{sale}/cancel_reversal")
    paypal.forgets()
    paypal.product.advance(DAY + HOUR)
    assert paypal.swept() == {GOLD} and not hold(paypal).troubles


def test_a_reversal_of_a_period_that_is_over_is_asked_about_no_more(paypal):
    name = paypal.holder()
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/reverse")
    paypal.hears()
    paypal.until(paypal.ends(name) + HOUR)
    assert paypal.swept() == {GOLD}
    paypal.product.advance(DAY)
    with paypal.product.counted() as seen:
        paypal.product.sweep()
    assert not [call for call in seen.paypal() if "sale" in call or "dispute" in call]


@pytest.mark.parametrize("state, shown", [("pending", {GOLD}), ("denied", set())])
def test_a_payment_that_waits_gives_the_role_and_one_that_is_denied_takes_it_until_it_is_made_after_all(paypal, state, shown):
    name = paypal.holder()
    sale = paypal.sale(name)["id"]
    paypal.order("POST", f"sales/{sale}/{state}")
    paypal.hears()
    assert paypal.product.shown() == shown
    paypal.order("POST", f"sales/{sale}/completed")
    paypal.hears()
    assert paypal.product.shown() == {GOLD}


# Disputes

@pytest.mark.parametrize("stage", ["INQUIRY", "CHARGEBACK"])
@pytest.mark.parametrize("outcome, back", [("RESOLVED_BUYER_FAVOUR", False), ("ACCEPTED", False), ("RESOLVED_SELLER_FAVOUR", True), ("CANCELED_BY_BUYER", True),
                                           ("DENIED", True), ("NONE", True), ("RESOLVED_WITH_PAYOUT", True)])
def test_fault_43_T32_a_dispute_holds_while_it_is_open_and_ends_as_it_is_decided(paypal, stage, outcome, back):
    name = paypal.holder()
    dispute = disputes(paypal, paypal.sale(name), stage)
    paypal.hears()
    assert paypal.product.shown() == set() and paypal.shows(name)["state"] == "on_hold"
    paypal.order("PATCH", f"disputes/{dispute}", {"stage": "CHARGEBACK", "status": "UNDER_REVIEW"})
    paypal.hears()
    assert paypal.product.shown() == set()
    resolved(paypal, dispute, outcome)
    paypal.hears()
    assert paypal.product.shown() == ({GOLD} if back else set())
    paypal.until(paypal.ends(name) + HOUR)
    assert paypal.swept() == ({GOLD} if back else set()), "a lost one is lost for good, although it was paid again"


@pytest.mark.parametrize("money", ["refunded", "reversed"])
def test_fault_43_an_offer_that_ignores_disputes_still_does_not_give_what_was_paid_back(paypal, money):
    paypal.sells(dispute="ignore")
    name = paypal.holder()
    dispute = disputes(paypal, paypal.sale(name))
    paypal.hears()
    assert paypal.product.shown() == {GOLD}
    resolved(paypal, dispute, "RESOLVED_BUYER_FAVOUR", money)
    paypal.hears()
    assert paypal.product.shown() == set()


@pytest.mark.parametrize("outcome, shown", [("RESOLVED_SELLER_FAVOUR", {GOLD}), ("RESOLVED_BUYER_FAVOUR", set())])
def test_fault_43_52_a_dispute_that_was_decided_while_nobody_heard_is_found_by_the_daily_look(paypal, outcome, shown):
    name = paypal.holder()
    dispute = disputes(paypal, paypal.sale(name))
    paypal.hears()
    resolved(paypal, dispute, outcome)
    paypal.forgets()
    paypal.product.advance(DAY + HOUR)
    assert paypal.swept() == shown and not hold(paypal).unsettled


def test_fault_43_of_two_disputes_of_one_payment_the_open_one_counts(paypal):
    name = paypal.holder()
    first = disputes(paypal, paypal.sale(name))
    resolved(paypal, first, "CANCELED_BY_BUYER")
    second = disputes(paypal, paypal.sale(name))
    paypal.hears()
    assert paypal.product.shown() == set()
    resolved(paypal, second, "DENIED")
    paypal.hears()
    assert paypal.product.shown() == {GOLD}


@pytest.mark.parametrize("about", [{"disputed_transactions": []}, {"disputed_transactions": None}, {"disputed_transactions": [{}]}, {"disputed_transactions": ["x"]},
                                   {"disputed_transactions": {"seller_transaction_id": "X"}}, {}, {"dispute_id": "PP-OTHER", "disputed_transactions": []}])
def test_a_dispute_about_nothing_that_can_be_read_strips_nobody_and_comes_to_an_end(paypal, about):
    name = paypal.holder()
    product = paypal.product
    paypal.comes_again(2)
    waiting = product.delayed("paypal-events")
    product.order("paypal", path="/v1/customer/disputes/PP-R-ODD-1$", times=None, do="answer", status=200, body={"dispute_id": "PP-R-ODD-1", **about})
    assert paypal.says("CUSTOMER.DISPUTE.CREATED", {"dispute_id": "PP-R-ODD-1"}) == 0
    assert product.shown() == {GOLD} and paypal.shows(name)["state"] == "active" and product.row().holds == {}
    if isinstance(about.get("disputed_transactions"), list) and "dispute_id" not in about:
        assert product.delayed("paypal-events") == waiting, "an empty list is an answer"
    else:
        paypal.comes_again(14)
        assert product.delayed("paypal-events") == 0 and parked(paypal.id) == ["unknown_subscription"]


def test_fault_43_a_dispute_and_a_refund_of_a_sale_that_paid_for_no_subscription_concern_nobody(paypal):
    """Something that a shop on the same account sold."""
    name = paypal.holder()
    sale = paypal.account.world.find("sale", paypal.sale(name)["id"])
    other = paypal.account.world.add("sale", {**{key: value for key, value in sale.items() if key != "billing_agreement_id"}, "id": "SHOPSALE000000001"})
    product = paypal.product
    waiting = product.delayed("paypal-events")
    disputes(paypal, other)
    paypal.hears()
    refunds(paypal, other)
    assert product.shown() == {GOLD} and product.row().holds == {} and parked(paypal.id) == [] and product.delayed("paypal-events") == waiting


@pytest.mark.parametrize("path, body", [
    *((path, body) for path in ("/v1/payments/sale/", "/v1/customer/disputes$", "/v1/customer/disputes/") for body in ([], "<html>busy</html>", {"items": "none"})),
    ("/v1/payments/sale/", {"id": "OTHER", "state": "refunded"}), ("/v1/customer/disputes$", {"items": [{"status": "SETTLED"}]}),
    ("/v1/customer/disputes$", {"items": [{"status": "RESOLVED"}, {"dispute_id": 5}]}), ("/v1/customer/disputes/", {"status": "RESOLVED", "dispute_outcome": ["won"]}),
    ("/v1/customer/disputes/", {"status": "RESOLVED", "dispute_outcome": {"outcome_code": "SPLIT"}})])
def test_I3_fault_43_a_sale_or_a_dispute_that_cannot_be_read_strips_nobody_and_is_asked_again(paypal, path, body):
    name = paypal.holder()
    product = paypal.product
    dispute = disputes(paypal, paypal.sale(name))
    resolved(paypal, dispute, "RESOLVED_BUYER_FAVOUR")
    product.order("paypal", path=path, times=None, do="answer", status=200, body=body)
    assert paypal.hears() == 0
    assert product.shown() == {GOLD}
    product.paypal.front.faults.clear()
    product.advance(2 * HOUR)
    paypal.comes_again(3)
    paypal.swept()
    paypal.comes_again(3)
    assert product.shown() == set() and hold(paypal).dispute == "lost" and product.row().lookups == frozenset()


def test_I10_a_sale_that_can_never_be_read_holds_up_nobody_else(paypal):
    name = paypal.holder()
    other = paypal.holder(user=BEN)
    sale = paypal.sale(name)["id"]
    paypal.product.order("paypal", path=f"/v1/payments/sale/{sale}", times=None, do="answer", status=200, body={"id": sale, "state": "odd"})
    refunds(paypal, paypal.sale(name))
    refunds(paypal, paypal.sale(other))
    assert paypal.product.shown() == {GOLD} and paypal.product.shown(BEN) == set()
    paypal.acts(name, "cancel")
    paypal.hears()
    paypal.until(paypal.product.row().subs[paypal.key(name)].cancel_at)
    assert paypal.swept() == set(), "what cannot be read about a payment prolongs nothing"


def test_the_timeline_and_the_page_say_why(paypal):
    from chalicelib import timeline
    from tests.usecases.product import ADA
    name = paypal.holder()
    paypal.product.advance(60)
    dispute = disputes(paypal, paypal.sale(name))
    paypal.hears()
    paypal.product.advance(60)
    resolved(paypal, dispute, "RESOLVED_SELLER_FAVOUR")
    paypal.hears()
    paypal.product.advance(60)
    refunds(paypal, paypal.sale(name))
    told = timeline.of_subscription(user=ADA, subscription_id=name)["entries"]
    assert all(entry["by"] == "paypal" for entry in told)
    assert [entry["what"].partition(".")[0] for entry in told][:3] == ["PayPal told of a refund", "PayPal told that a dispute is over", "PayPal told of a dispute"]
    assert "refunded in full; its dispute is over" in told[0]["what"] and told[0]["decision"].startswith("Take Gold") and told[1]["decision"] == "Give Gold, because of gold."
