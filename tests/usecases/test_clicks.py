"""Two clicks on one subscription, put into each order that matters: the second runs at one call of the first."""
import pytest

from chalicelib import ports
from chalicelib.problem import Problem
from chalicelib.store import ledger, servers
from tests.usecases import deaths
from tests.usecases.product import ADA, GOLD, SERVER


def clicks(key, when="period_end", **more):
    from chalicelib import cancel
    return cancel.cancel(user=ADA, subscription_id=key, reason=None, comment=None, deadline=ports.wall() + 60, when=when, **more)


def undoes(key):
    from chalicelib import cancel
    return cancel.undo(user=ADA, subscription_id=key, deadline=ports.wall() + 60)["receipt"]


def allow(product, **offers):
    """The owner lets these offers be cancelled at once, or not."""
    from chalicelib.store.tables import ServerItem
    item = ServerItem.get(SERVER, "settings")
    settings = item.settings.as_dict()
    for name, allowed in offers.items():
        settings["offers"][name]["cancel_now"] = allowed
    servers.write(SERVER, settings)


def refusal(work, status):
    """The problem that the work ends with."""
    with pytest.raises(Problem) as caught:
        work()
    assert caught.value.status == status, caught.value.code
    return caught.value


def money(key):
    """(is it open, its outcome's word) of each money intent of the subscription."""
    return [(row.id == "open", (row.outcome or {}).get("result")) for row in ledger.of(f"money#stripe:operator:{key}")]


def ended(product, key):
    """How many times Stripe has told that the subscription is over."""
    return sum(event["type"] == "customer.subscription.deleted" for event in product.events(key))


@pytest.fixture
def second_click_at(monkeypatch):
    """Answer a function: the other click happens just before the nth read of Stripe by the first; its receipt comes back.

    `more` is what the other click asks for.
    """
    from chalicelib.gateways import stripe
    reads, receipts, read = [], [], stripe.read_subscription

    def arranged(nth, key, *more, **and_more):
        def reading(*args, **kwargs):
            reads.append(1)
            if len(reads) == nth:
                receipts.append(clicks(key, *more, **and_more))
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


# At once

def test_where_every_offer_allows_it_a_cancel_now_ends_the_subscription_and_its_roles_and_refunds_nothing(product):
    # Rows: fault 46
    key = product.holder()
    allow(product, gold=True)
    receipt = clicks(key, "now")
    assert receipt["already"] is False and receipt["read_back"] == "canceled" and receipt["next_charge"] == "none"
    assert receipt["access_until"] is None and receipt["text"] == "Next charge: none. Access has ended. Nothing is refunded."
    assert product.work() == 0 and product.shown() == set() and ended(product, key) == 1
    assert money(key) == [(False, "done")]
    assert clicks(key, "now")["already"] is True and money(key) == [(False, "done")]


def test_a_cancel_now_is_refused_with_what_to_do_instead_where_the_offer_does_not_allow_it(product):
    key = product.holder()
    with product.counted() as seen:
        refused = refusal(lambda: clicks(key, "now"), 403)
    assert seen.http == [] and not any("ledger" in name for name in seen.dynamodb()), "nobody is asked for what is known"
    assert "end of the period" in refused.next_step and money(key) == [] and ended(product, key) == 0
    assert product.shown() == {GOLD} and clicks(key)["already"] is False


def test_a_plan_switched_meanwhile_to_one_that_may_not_end_at_once_is_judged_as_it_is_now(product):
    key = product.holder()
    allow(product, gold=True, silver=False)
    product.stripe.world.find("subscription", key)["items"]["data"][0]["price"] = product.stripe.world.find("price", product.prices[300, "month"])
    refusal(lambda: clicks(key, "now"), 403)
    assert money(key) == [] and ended(product, key) == 0


def test_a_subscription_that_is_scheduled_can_be_ended_at_once_and_undo_then_says_that_it_has_ended(product):
    key = product.holder()
    allow(product, gold=True)
    clicks(key)
    assert clicks(key, "now")["already"] is False and ended(product, key) == 1
    assert refusal(lambda: undoes(key), 409).code == "has-ended"
    assert refusal(lambda: clicks(key), 409).code == "has-ended"
    assert money(key) == [(False, "done")] * 2


@pytest.mark.parametrize("nth", [1, 2], ids=["before the first one reads", "after the first one sent"])
def test_I6_the_member_and_the_owner_at_once_make_one_intent_and_one_end_and_the_second_is_told(product, second_click_at, nth):
    key = product.holder()
    allow(product, gold=True)
    other = second_click_at(nth, key, "now", actor="owner:959999999999999999")
    first = clicks(key, "now")
    assert [first["already"], other[0]["already"]] == [False, True] and ended(product, key) == 1
    assert money(key) == [(False, "done")]
    [row] = ledger.of(f"money#stripe:operator:{key}")
    assert row.data["actor"] == f"member:{ADA}"


def test_a_cancel_now_waits_for_a_scheduled_one_that_is_under_way_and_the_other_way_round(product):
    key = product.holder()
    allow(product, gold=True)
    for kind, other in (("cancel_at_period_end", "now"), ("cancel_now", "period_end")):
        intent, _ = ledger.open_intent(key=f"stripe:operator:{key}", at=ports.now(), data={"intent": "other", "kind": kind, "actor": "member:1"})
        assert refusal(lambda other=other: clicks(key, other), 409).code == "in-progress"
        assert ledger.withdraw_intent(intent) and ended(product, key) == 0


@pytest.mark.parametrize("do", ["lose_answer", "close"])
def test_fault_14_a_cancel_now_whose_answer_is_lost_is_read_back_before_anything_is_repeated(product, do):
    # Rows: fault 46
    key = product.holder()
    allow(product, gold=True)
    product.order("stripe", method="DELETE", path="/v1/subscriptions/", do=do)
    if do == "close":   # it never arrived
        assert refusal(lambda: clicks(key, "now"), 503).code == "not-confirmed" and ended(product, key) == 0
        assert [row[0] for row in money(key)] == [True]
        assert clicks(key, "now")["already"] is True, "the click that began it may still be waiting"
    else:
        assert clicks(key, "now")["already"] is False
    assert ended(product, key) == 1 and money(key) == [(False, "done")]


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_I6_I9_whatever_call_a_cancel_dies_at_pressing_again_makes_one_end_and_leaves_no_intent_open(product, when):
    for nth in range(1, deaths.STEPS):
        product.aws.reset()
        product.furnish()
        key = product.holder()
        allow(product, gold=True)
        died = deaths.died(lambda key=key: clicks(key, when), nth)
        product.time.passes(61)
        receipt = clicks(key, when)
        assert receipt["next_charge"] == "none" and (when == "now") == (receipt["access_until"] is None)
        sub = product.stripe.world.find("subscription", key)
        assert (sub["status"] == "canceled") == (when == "now") and (when == "now" or sub["cancel_at_period_end"] or sub["cancel_at"])
        changes = [event for event in product.events(key) if event["type"] != "customer.subscription.created"]
        assert len(changes) <= 2 and ended(product, key) == (when == "now"), nth
        assert money(key) == [(False, "done")], nth
        if not died:
            break
    assert nth > 7 and not died
