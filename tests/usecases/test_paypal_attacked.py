"""PayPal attacked once more: what looks paid and is not, and what was paid and looks lost."""
from decimal import Decimal

import pytest

from chalicelib import checkout, ports
from chalicelib.problem import Problem
from chalicelib.view import iso
from tests.usecases.paypal import PayPal
from tests.usecases.product import ADA, DAY, GOLD, SERVER

HOUR = 3_600


@pytest.fixture
def paypal(product):
    """Yield PayPal, through which the server sells gold and silver too."""
    return PayPal(product).sells()


def test_fault_44_the_first_payment_of_one_that_goes_on_afterwards_fails_and_gives_the_grace_and_no_period(paypal):
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.clicks(name)
    new = paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.hears()
    paypal.fails(new)
    for hours in (-1, 0.1, 1, 12, 24, 30):     # also between its beginning and the payment that fails
        paypal.until(end + int(hours * HOUR))
        assert paypal.swept() == {GOLD}
    assert paypal.shows(new)["state"] == "grace"
    paypal.until(end + 7 * DAY - 1)
    assert paypal.swept() == {GOLD}
    paypal.until(end + 7 * DAY)
    assert paypal.swept() == set()


@pytest.mark.parametrize("heard", [True, False])
def test_fault_47_a_payment_that_is_booked_after_the_cancelled_period_has_run_out_buys_its_period(paypal, heard):
    """Who cancels in the last minute may find the payment under way."""
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.until(end - 60)
    paypal.clicks(name)
    paypal.product.work()
    assert paypal.product.row().subs[paypal.key(name)].status == "running_out"
    paypal.until(end)
    assert paypal.swept() == set() and paypal.shows(name)["state"] == "ended"
    paypal.product.advance(HOUR)
    paypal.account.billing._take(paypal.sub(name), Decimal("5.00"), told=True)
    if heard:
        paypal.hears()
    else:
        paypal.forgets()
        paypal.product.advance(DAY)
        paypal.swept()
    assert paypal.product.shown() == {GOLD} and paypal.shows(name)["state"] == "ending"
    paypal.until(paypal.product.row().subs[paypal.key(name)].cancel_at)
    assert paypal.swept() == set()


def test_what_ran_out_is_said_to_have_ended_when_it_did_also_once_it_was_read_again(paypal):
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.clicks(name)
    for days in (0, 1, 5):
        paypal.until(end + days * DAY)
        assert paypal.swept() == set()
        shown = paypal.shows(name)
        assert shown["state"] == "ended" and (shown["ended_at"] or shown["ends_at"]) == iso(end)
    assert paypal.product.row().due_at is None


def test_before_a_payment_is_booked_the_page_promises_no_paid_time_and_the_receipt_agrees(paypal):
    sub = paypal.begins()
    name = paypal.approves(sub)
    paypal.sub(name)["paid"] = None     # PayPal books the first payment some time after the approval
    paypal.hears()
    shown = paypal.shows(name)
    assert (shown["state"], shown["paid_until"]) == ("active", None) and paypal.product.shown() == {GOLD}
    assert paypal.clicks(name)["access_until"] is None
    other = paypal.holder("silver")
    assert paypal.shows(other)["paid_until"] == paypal.shows(other)["renews_at"]


def test_an_account_that_is_in_the_settings_no_more_sells_nothing_and_says_whom_to_ask(paypal, monkeypatch):
    from chalicelib import profile, settings
    name = paypal.holder()
    monkeypatch.setenv("PAYPAL_ACCOUNTS", "")
    settings.get.cache_clear()
    from chalicelib.gateways import paypal as gateway
    gateway._tokens.clear()
    assert all("paypal" not in offer["processors"] for server in profile.offers()["servers"] for offer in server["offers"])
    with pytest.raises(Problem, match="account-disconnected"):
        checkout.start(user=ADA, server_id=SERVER, offer_id="silver", processor="paypal", deadline=ports.wall() + 25)
    with pytest.raises(Problem, match="account-disconnected"):
        paypal.clicks(name)
    assert paypal.swept() == {GOLD}


def test_D15_who_is_being_erased_begins_nothing_anew(paypal):
    from chalicelib.store import members
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    row = paypal.product.row()
    members.request(user=ADA, server=SERVER, token="t", now=ports.now(), wall=ports.wall(), lease_seconds=120, cause="member:erase",
                    erase={"as": "nobody-nobody", "asked": ports.now()}, known=True)
    assert row.erased is None and paypal.product.row().erased
    with pytest.raises(Problem, match="being-erased"):
        paypal.undoes(name)
