"""Holds: every policy against every state of a charge."""
import pytest

from chalicelib.domain import holds
from chalicelib.domain.holds import Hold
from chalicelib.domain.offers import Offer
from chalicelib.domain.subscription import Unreadable

KEY, REASON, NOW = "stripe:operator:ch_1", "stripe:operator:sub_1", 1_800_000_000


def charge(refunded=0, amount=500, **changes):
    return {"id": "ch_1", "amount": amount, "amount_refunded": refunded, "disputed": False} | changes


def read(refunded=0, *disputes, until=NOW + 100):
    return holds.from_stripe(Hold(KEY, REASON, until), charge(refunded), [{"status": status} for status in disputes], read_at=NOW)


def offer(**policies):
    return Offer("gold", "Gold", ("1",), (), **policies)


@pytest.mark.parametrize("policy, refunded, why", [
    ("full", 500, "refunded"), ("full", 499, None), ("full", 0, None), ("any", 1, "refunded"), ("any", 0, None), ("never", 500, None)])
def test_fault_42_a_refund_ends_access_by_the_offers_policy(policy, refunded, why):
    assert read(refunded).why(offer(refund=policy), NOW) == why


def test_fault_42_a_refund_takes_away_the_period_that_its_charge_paid_for_and_no_later_one():
    hold = read(500)
    assert hold.why(offer(), NOW + 99) == "refunded" and hold.why(offer(), NOW + 100) is None
    assert read(500, until=None).why(offer(), NOW + 10**9) == "refunded"


def test_a_charge_of_nothing_that_is_refunded_takes_nothing_away():
    nothing = holds.from_stripe(Hold(KEY, REASON), charge(0, amount=0), [], read_at=NOW)
    assert nothing.why(offer(), NOW) is None


@pytest.mark.parametrize("statuses, why", [
    ([], None), (["needs_response"], "disputed"), (["under_review"], "disputed"), (["won"], None), (["lost"], "charged_back"), (["prevented"], None),
    (["warning_needs_response"], None), (["warning_under_review"], None), (["warning_closed"], None),
    (["lost", "needs_response"], "disputed"), (["won", "lost"], "charged_back")])
def test_fault_43_T32_a_dispute_holds_while_open_and_for_good_when_lost(statuses, why):
    assert read(0, *statuses).why(offer(), NOW) == why
    assert read(0, *statuses).why(offer(dispute="ignore"), NOW) is None
    assert read(0, *statuses).unsettled is (why == "disputed")


@pytest.mark.parametrize("odd", [charge(id="ch_2"), charge(refunded=-1), charge(refunded=True), charge(amount="500"), {"id": "ch_1"}])
def test_a_charge_that_cannot_be_read_is_unknown(odd):
    with pytest.raises(Unreadable):
        holds.from_stripe(Hold(KEY, REASON), odd, [], read_at=NOW)


def test_a_dispute_status_that_is_not_known_is_unknown():
    with pytest.raises(Unreadable):
        read(0, "settled_by_coin_toss")


def test_a_hold_takes_nothing_from_another_reason():
    assert holds.held([read(500)], REASON, offer(), NOW) == "refunded"
    assert holds.held([read(500)], "stripe:operator:sub_2", offer(), NOW) is None
