"""What is asked of PayPal before anybody is sent there: the plan, the trials that were had, the approval that still waits."""
import pytest

from chalicelib import checkout, ports
from chalicelib.problem import Problem
from tests.usecases.paypal import PayPal
from tests.usecases.product import ADA, GOLD, SERVER


@pytest.fixture
def paypal(product):
    """Yield PayPal, through which the server sells gold and silver too."""
    return PayPal(product).sells()


def address(offer="gold", user=ADA):
    return checkout.start(user=user, server_id=SERVER, offer_id=offer, processor="paypal", deadline=ports.wall() + 25)


def subscriptions(paypal):
    return [sub["id"] for sub in paypal.account.world.all("subscription")]


@pytest.mark.parametrize("bad", [{"setup_fee": {"value": "2.00", "currency_code": "EUR"}}, {"amount": 499}])
def test_C10_nobody_is_sent_to_pay_what_the_offer_does_not_say(product, paypal, bad):
    price = paypal.price(500, **({} if "amount" in bad else bad)) | ({"amount": 499} if "amount" in bad else {})
    product.sells(SERVER, gold=([GOLD], [product.price(500), price], {}))
    paypal.bind()
    with pytest.raises(Problem, match="plan-differs"):
        address()
    assert subscriptions(paypal) == []


def test_a_plan_that_paypal_does_not_know_is_not_sold_and_one_that_cannot_be_asked_for_is_tried_later(product, paypal):
    product.order("paypal", path="/v1/billing/plans/", do="answer", status=503, body={})
    with pytest.raises(Problem, match="try-later"):
        address()
    product.sells(SERVER, gold=([GOLD], [paypal.price(500) | {"id": "P-GONE"}], {}))
    paypal.bind()
    with pytest.raises(Problem, match="plan-differs"):
        address()


def test_C13_a_free_trial_is_had_once_however_often_somebody_cancels_goes_on_or_buys_again(product, paypal):
    paypal.sells(trial=7)
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    with pytest.raises(Problem, match="trial-used"):
        paypal.undoes(name)
    product.advance(9 * 86_400)
    paypal.hears()
    product.sweep()
    assert product.shown() == set()
    with pytest.raises(Problem, match="trial-used"):
        address()
    assert len(subscriptions(paypal)) == 1


def test_C13_who_had_the_trial_gets_the_offer_s_plan_without_one(product, paypal):
    trial = {"tenure_type": "TRIAL", "sequence": 1, "total_cycles": 1, "frequency": {"interval_unit": "DAY", "interval_count": 7}}
    product.sells(SERVER, gold=([GOLD], [paypal.price(500, cycles=(trial,)), paypal.price(500)], {}))
    paypal.bind()
    name = paypal.holder()
    assert paypal.sub(name)["plan_id"] == paypal.plan(500, cycles=(trial,))
    paypal.clicks(name)
    paypal.hears()
    new = paypal.of(paypal.undoes(name))
    assert new["plan_id"] == paypal.plan(500) and new["start"] == product.row().subs[paypal.key(name)].cancel_at


def test_C12_while_an_approval_waits_asking_again_leads_to_the_same_page_and_then_to_a_moment_s_patience(product, paypal):
    first = address()
    assert address() == first and len(subscriptions(paypal)) == 1
    assert address("silver") != first
    name = paypal.approves(paypal.of(first))
    with pytest.raises(Problem, match="being-confirmed"):
        address()
    paypal.hears()
    with pytest.raises(Problem, match="already-subscribed"):
        address()
    paypal.clicks(name)
    paypal.hears()
    again = paypal.undoes(name)
    assert paypal.undoes(name) == again != first
    paypal.approves(paypal.of(again))
    with pytest.raises(Problem, match="being-confirmed"):
        paypal.undoes(name)


def test_an_approval_that_paypal_has_forgotten_keeps_nobody_from_a_new_one(product, paypal):
    first = address()
    product.advance(3 * 3_600 + 60)
    assert address() != first
    product.order("paypal", method="GET", path="/v1/billing/subscriptions/", do="answer", status=503, body={})
    with pytest.raises(Problem, match="try-later"):
        address()


def test_who_has_approved_but_cannot_pay_has_no_role_and_buys_nothing_else_meanwhile(product, paypal):
    product.paypal.options.first = "unpaid"
    name = paypal.holder()
    sub = paypal.sub(name)
    sub |= {"paid": None, "failed": 1}
    product.advance(60)
    paypal.take_in(paypal.events("BILLING.SUBSCRIPTION.ACTIVATED")[-1])
    product.work()
    assert paypal.shows(name)["status"] == "incomplete" and product.shown() == set()
    with pytest.raises(Problem, match="already-subscribed"):
        address()
