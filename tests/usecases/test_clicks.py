"""Two clicks on one subscription, put into each order that matters: the second runs at one call of the first."""
import pytest

from chalicelib import ports
from chalicelib.store import ledger
from tests.usecases.product import ADA


def clicks(key):
    from chalicelib import cancel
    return cancel.cancel(user=ADA, subscription_id=key, reason=None, comment=None, deadline=ports.wall() + 60)


@pytest.fixture
def second_click_at(monkeypatch):
    """Answer a function: the other click happens just before the nth read of Stripe by the first; its receipt comes back."""
    from chalicelib.gateways import stripe
    reads, receipts, read = [], [], stripe.read_subscription

    def arranged(nth, key):
        def reading(*args, **kwargs):
            reads.append(1)
            if len(reads) == nth:
                receipts.append(clicks(key))
            return read(*args, **kwargs)
        monkeypatch.setattr(stripe, "read_subscription", reading)
        return receipts
    return arranged


@pytest.mark.parametrize("nth", [1, 2], ids=["before the first one reads", "after the first one sent"])
def test_T48_I6_of_two_clicks_at_once_only_who_began_is_told_that_it_was_this_click(product, second_click_at, nth):
    # Rows: fault 47
    key = product.holder()
    other = second_click_at(nth, key)
    first = clicks(key)
    assert [first["already"], other[0]["already"]] == [False, True]
    assert first["access_until"] == other[0]["access_until"] and first["next_charge"] == "none"
    rows = ledger.of(f"money#stripe:operator:{key}")
    assert [(row.id == "open", row.outcome["result"]) for row in rows] == [(False, "done")]


def test_T48_a_click_on_what_is_cancelled_leaves_no_intent_and_says_already(product):
    key = product.holder()
    assert clicks(key)["already"] is False
    assert clicks(key)["already"] is True
    assert len(ledger.of(f"money#stripe:operator:{key}")) == 1
