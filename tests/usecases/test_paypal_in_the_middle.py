"""PayPal and a click of ours in the middle of each other: deaths at every call, two clicks, renewals, webhooks that are quicker."""
from decimal import Decimal

import pytest

from chalicelib import checkout, ports, view
from chalicelib.gateways import paypal as gateway
from chalicelib.problem import Problem
from chalicelib.store import ledger
from tests.usecases import deaths
from tests.usecases.paypal import PayPal, kept, put_back
from tests.usecases.product import ADA, DAY, GOLD, SERVER

HOUR, LEASE = 3_600, 120


@pytest.fixture
def paypal(made):
    """Yield PayPal, through which the server sells gold and silver, over tables in memory."""
    paypal = PayPal(made(lambda url, headers, body: 200)).sells(cancel_now=True)
    yield paypal
    assert paypal.product.paypal.front.contract.violations.as_json()["violations"] == []


def lives(paypal, begin, act):
    """Yield (nth, what `begin` answered) after `act` of it died at its nth call, for every call that it makes, each on a member with nothing."""
    nothing = kept(paypal.product)
    for nth in range(1, deaths.STEPS):
        put_back(paypal.product, nothing)
        begun = begin()
        if not deaths.died(lambda begun=begun: act(begun), nth):
            assert nth > 5, "it made some calls"
            return
        yield nth, begun
    raise AssertionError("it never came to an end")


def later(paypal, seconds=LEASE + 10):
    """Both clocks are further on, and a sweep has run; nothing was delivered meanwhile."""
    paypal.product.messages("members")
    paypal.product.time.passes(seconds)
    return paypal.swept()


def money(paypal, name):
    return [(row.data["kind"], (row.outcome or {}).get("result")) for row in ledger.of(f"money#{paypal.key(name)}")]


def cancelled(paypal, name):
    return sum(event["resource"]["id"] == name for event in paypal.events("BILLING.SUBSCRIPTION.CANCELLED"))


# Deaths

def test_fault_12_14_I6_a_cancel_at_the_period_s_end_that_dies_at_any_call_loses_nobody_paid_time_and_the_next_click_goes_on(paypal):
    """It was renewed just before, and nobody heard of that."""
    def begin():
        name = paypal.holder()
        paypal.until(paypal.ends(name) + HOUR)
        begun.append(paypal.ends(name))
        return name

    begun = []
    for nth, name in lives(paypal, begin, paypal.clicks):
        gone, end = paypal.sub(name)["status"] == "CANCELLED", begun[-1]
        paypal.forgets()
        assert later(paypal) == {GOLD}, nth
        if gone:    # known by then where what was paid was stored, or within a day
            paypal.product.advance(DAY)
            assert paypal.swept() == {GOLD} and paypal.product.row().subs[paypal.key(name)].cancel_at == end, nth
        receipt = paypal.clicks(name)
        assert receipt["next_charge"] == "none" and receipt["access_until"] == view.iso(end), nth
        assert paypal.sub(name)["status"] == "CANCELLED" and cancelled(paypal, name) == 1, nth
        paypal.product.work()
        assert paypal.product.row().subs[paypal.key(name)].cancel_at == end and None not in [result for _, result in money(paypal, name)], nth
        paypal.until(end - 1)
        assert paypal.swept() == {GOLD}, nth
        paypal.until(end)
        assert paypal.swept() == set(), nth


def test_fault_12_14_I6_a_cancel_now_that_dies_at_any_call_is_finished_by_the_next_click(paypal):
    for nth, name in lives(paypal, paypal.holder, lambda name: paypal.clicks(name, "now")):
        paypal.forgets()
        assert later(paypal) in ({GOLD}, set()), nth
        receipt = paypal.clicks(name, "now")
        assert receipt["next_charge"] == "none" and receipt["access_until"] is None and cancelled(paypal, name) == 1, nth
        paypal.product.work()
        assert paypal.product.shown() == set() and None not in [result for _, result in money(paypal, name)], nth


def test_fault_12_an_undo_that_dies_at_any_call_charges_nobody_and_the_next_click_goes_on(paypal):
    def begin():
        name = paypal.holder()
        paypal.clicks(name)
        paypal.hears()
        return name

    for nth, name in lives(paypal, begin, paypal.undoes):
        assert later(paypal) == {GOLD}, nth
        new = paypal.approves(paypal.of(paypal.undoes(name)))
        paypal.hears()
        alive = [sub.id for sub in paypal.product.row().subs.values() if sub.status == "active"]
        assert alive == [new] and paypal.shows(new)["begins_at"] == paypal.shows(name)["ends_at"], nth
        assert [sub["status"] for sub in paypal.account.world.all("subscription") if sub["plan_id"] == paypal.plan(500) and sub["status"] == "ACTIVE"] == ["ACTIVE"], nth
        paypal.acts(new, "cancel")


def test_fault_12_a_checkout_that_dies_at_any_call_keeps_nobody_from_buying_and_charges_nobody(paypal):
    for nth, _ in lives(paypal, lambda: None, lambda _: paypal.begins()):
        name = paypal.holder()
        assert paypal.product.shown() == {GOLD} and list(paypal.product.row().subs) == [paypal.key(name)], nth
        paypal.comes_again(21)
        assert paypal.product.shown() == {GOLD} and list(paypal.product.row().subs) == [paypal.key(name)], nth


def test_fault_12_T3_T4_a_function_that_dies_at_any_call_of_an_event_is_made_good_by_redelivery_or_the_sweep(paypal):
    def hear(name):
        paypal.take_in(paypal.events("PAYMENT.SALE.REFUNDED")[-1])
        paypal.product.work()

    def begin():
        name = paypal.holder()
        paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
        return name

    for nth, name in lives(paypal, begin, hear):
        paypal.product.time.passes(LEASE + 10)
        paypal.take_in(paypal.events("PAYMENT.SALE.REFUNDED")[-1])
        paypal.product.work()
        paypal.product.advance(LEASE + 10)
        assert paypal.swept() == set() and paypal.product.row().lookups == frozenset(), nth


# At once

@pytest.fixture
def between(monkeypatch):
    """Answer a function: `act` happens just before the nth call of this function of the gateway."""
    def arranged(name, nth, act):
        calls, before, done = [], getattr(gateway, name), []

        def called(*args, **kwargs):
            calls.append(1)
            if len(calls) == nth:
                done.append(act())
            return before(*args, **kwargs)
        monkeypatch.setattr(gateway, name, called)
        return done
    return arranged


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("when", ["period_end", "now"])
def test_fault_47_T48_of_two_clicks_at_once_one_cancels_and_the_other_says_so(paypal, between, when, nth):
    name = paypal.holder()
    other = between("read_subscription", nth, lambda: paypal.clicks(name, when))
    first = paypal.clicks(name, when)
    assert [first["already"], other[0]["already"]] == [False, True] and first["access_until"] == other[0]["access_until"]
    assert cancelled(paypal, name) == 1 and money(paypal, name) == [({"period_end": "cancel_at_period_end", "now": "cancel_now"}[when], "done")]


def test_fault_47_a_click_on_cancel_now_while_the_other_kind_is_under_way_has_to_wait(paypal, between):
    name = paypal.holder()

    def too_early():
        with pytest.raises(Problem) as refused:
            paypal.clicks(name, "now")
        return refused.value.code
    told = between("cancel", 1, too_early)
    assert paypal.clicks(name)["next_charge"] == "none" and told == ["in-progress"]
    paypal.product.work()
    assert paypal.product.shown() == {GOLD}


def test_T16_T17_the_webhook_and_the_sweep_are_done_before_the_request_that_caused_them_is_answered(paypal, between):
    name = paypal.holder()
    end = paypal.ends(name)
    heard = between("read_subscription", 2, lambda: (paypal.hears(), paypal.product.advance(LEASE), paypal.swept()))
    receipt = paypal.clicks(name)
    assert heard and receipt["access_until"] == paypal.shows(name)["ends_at"] and not receipt["already"]
    assert paypal.product.row().subs[paypal.key(name)].cancel_at == end and paypal.product.shown() == {GOLD}


@pytest.mark.parametrize("heard", [False, True])
def test_fault_47_a_renewal_between_our_reading_and_our_cancelling_is_honoured(paypal, between, heard):
    name = paypal.holder()
    first = paypal.ends(name)

    def renewed():
        paypal.until(first + HOUR)
        assert len([sale for sale in paypal.account.world.all("sale") if sale["billing_agreement_id"] == name]) == 2
        if heard:
            paypal.says("PAYMENT.SALE.COMPLETED", {"id": paypal.sale(name)["id"], "billing_agreement_id": name})
        return paypal.ends(name)
    second = between("cancel", 1, renewed)
    receipt = paypal.clicks(name)
    from chalicelib.domain.paypal import instant
    assert second[0] <= instant(receipt["access_until"]) < second[0] + DAY
    paypal.hears()
    assert paypal.product.row().subs[paypal.key(name)].cancel_at >= second[0]
    paypal.until(second[0] - 1)
    assert paypal.swept() == {GOLD}


@pytest.mark.parametrize("heard", [True, False])
def test_fault_47_a_payment_that_was_under_way_when_it_was_cancelled_buys_its_period(paypal, heard):
    """PayPal charges some time after the instant it tells; who cancels in between has been charged all the same."""
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.until(end + 600)
    assert paypal.swept() == {GOLD}, "it is not paid yet, and not failed either"
    assert paypal.clicks(name)["access_until"] is None
    paypal.product.work()
    assert paypal.product.shown() == set()
    paypal.product.advance(900)
    paypal.account.billing._take(paypal.sub(name), Decimal("5.00"), told=True)
    if heard:
        paypal.hears()
    else:
        paypal.forgets()
        paypal.product.advance(DAY)
        paypal.swept()
    assert paypal.product.shown() == {GOLD} and paypal.shows(name)["state"] == "ending"
    assert 27 * DAY < paypal.product.row().subs[paypal.key(name)].cancel_at - end < 33 * DAY
    paypal.until(paypal.product.row().subs[paypal.key(name)].cancel_at)
    assert paypal.swept() == set()


def test_what_is_cancelled_is_read_for_three_days_more_and_then_left_alone(paypal):
    product = paypal.product
    name = paypal.holder()
    paypal.clicks(name, "now")
    paypal.hears()
    for _ in range(3):
        product.advance(DAY + 60)
        with product.counted() as seen:
            paypal.swept()
    assert f"GET /v1/billing/subscriptions/{name}" not in seen.paypal() and product.row().due_at is None
    with product.counted() as seen:
        paypal.says("BILLING.SUBSCRIPTION.CANCELLED", {"id": name})
    assert seen.paypal() == [] and product.shown() == set()


# What has not begun

def test_the_one_that_an_undo_made_can_be_cancelled_at_once_and_gives_not_a_day(paypal):
    paypal.sells(cancel_now=True)
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    end = paypal.product.row().subs[paypal.key(name)].cancel_at
    new = paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.hears()
    paypal.product.advance(60)
    receipt = paypal.clicks(new)
    assert receipt["next_charge"] == "none" and receipt["access_until"] is None and "will not begin" in receipt["text"]
    assert paypal.clicks(new, "now")["already"]
    paypal.hears()
    assert paypal.product.shown() == {GOLD} and paypal.shows(new)["state"] == "ended"
    paypal.until(end)
    assert paypal.swept() == set()


def test_C13_suspended_before_it_began_gives_no_grace(paypal):
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    end = paypal.product.row().subs[paypal.key(name)].cancel_at
    new = paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.until(end - 2 * HOUR)
    paypal.acts(new, "suspend")
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.says("BILLING.SUBSCRIPTION.SUSPENDED", {"id": new})
    paypal.says("PAYMENT.SALE.REFUNDED", {"id": "REFUND0000000001", "sale_id": paypal.sale(name)["id"]})
    assert paypal.product.shown() == set()


def test_buying_again_after_the_end_works_and_the_old_one_comes_to_nothing(paypal):
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    with pytest.raises(Problem) as still:
        checkout.start(user=ADA, server_id=SERVER, offer_id="gold", processor="paypal", deadline=ports.wall() + 25)
    assert still.value.code == "already-subscribed"
    paypal.until(paypal.product.row().subs[paypal.key(name)].cancel_at)
    paypal.swept()
    new = paypal.holder()
    assert paypal.product.shown() == {GOLD} and paypal.shows(new)["state"] == "active" and paypal.shows(name)["state"] == "ended"
