"""What a Stripe subscription means: periods, both forms of a scheduled end, every status, grace."""
import pytest

from chalicelib.domain import subscription
from chalicelib.domain.subscription import DAY, Item, Subscription, Unreadable, access, from_facts, from_stripe

KEY = "stripe:operator:sub_1"
NOW = 1_800_000_000


def answer(**changes):
    """A Stripe subscription with one item, its period on the item (API version 2026-10-28.endive)."""
    return {"id": "sub_1", "status": "active", "customer": "cus_1", "cancel_at": None, "cancel_at_period_end": False,
            "ended_at": None, "items": {"data": [{"price": {"id": "price_a"}, "current_period_start": NOW - DAY,
                                                  "current_period_end": NOW + 29 * DAY}]}} | changes


def sub(status="active", **changes):
    return Subscription(key=KEY, status=status, items=(Item("price_a", NOW - DAY, NOW + 29 * DAY),), **changes)


def given(one, *, now=NOW, grace_days=7):
    return access(one, one.items[0], grace_days=grace_days, now=now)


def test_T24_the_period_is_read_from_the_items():
    assert from_stripe(KEY, answer(), read_at=NOW).items == (Item("price_a", NOW - DAY, NOW + 29 * DAY),)


def test_T24_a_period_on_the_subscription_only_is_read_too():
    old = answer(items={"data": [{"price": {"id": "price_a"}}]}, current_period_start=NOW, current_period_end=NOW + DAY)
    assert from_stripe(KEY, old, read_at=NOW).items == (Item("price_a", NOW, NOW + DAY),)


def test_T24_the_items_period_wins_over_the_subscriptions():
    both = answer(current_period_start=1, current_period_end=2)
    assert from_stripe(KEY, both, read_at=NOW).items[0].end == NOW + 29 * DAY


@pytest.mark.parametrize("changes", [
    {"items": {"data": [{"price": {"id": "price_a"}}]}},
    {"items": {"data": []}},
    {"status": "frozen"},
    {"id": "sub_other"},
    {"customer": None, "items": None},
    {"cancel_at": "2026-01-01"},
    {"cancel_at": True},
    {"cancel_at": NOW * 1000},
], ids=["T24 no period anywhere", "no items", "unknown status", "another subscription", "no shape", "a text", "a boolean",
        "fault_49 milliseconds"])
def test_what_cannot_be_read_is_unreadable_and_never_a_guess(changes):
    with pytest.raises(Unreadable):
        from_stripe(KEY, answer(**changes), read_at=NOW)


def test_an_expanded_customer_is_its_id():
    assert from_stripe(KEY, answer(customer={"id": "cus_9"}), read_at=NOW).customer == "cus_9"


def test_T25_every_item_counts_not_only_the_first():
    items = [{"price": {"id": f"price_{n}"}, "current_period_start": NOW, "current_period_end": NOW + n * DAY} for n in (1, 2)]
    read = from_stripe(KEY, answer(items={"data": items}), read_at=NOW)
    assert [(item.price, item.end) for item in read.items] == [("price_1", NOW + DAY), ("price_2", NOW + 2 * DAY)]


def test_facts_come_back_as_the_same_subscription():
    one = from_stripe(KEY, answer(cancel_at=NOW + DAY), read_at=NOW)
    assert from_facts(KEY, one.facts() | {"a_later_version": 1}) == one


@pytest.mark.parametrize("status, stands", [
    ("active", True), ("trialing", True), ("past_due", True), ("incomplete", False), ("incomplete_expired", False),
    ("unpaid", False), ("canceled", False), ("paused", False), ("unread", False)])
def test_each_status_gives_access_or_not(status, stands):
    assert given(sub(status)).stands is stands
    assert set(subscription.STATUSES) == {"active", "trialing", "past_due", "incomplete", "incomplete_expired", "unpaid",
                                          "canceled", "paused"}


def test_an_active_subscription_renews_and_has_no_end():
    assert given(sub()).until is None


@pytest.mark.parametrize("form", [
    {"cancel_at": NOW + 29 * DAY, "cancel_at_period_end": True},
    {"cancel_at": NOW + 29 * DAY},
    {"cancel_at_period_end": True},
], ids=["classic", "T22 flexible: the instant alone", "the flag alone"])
def test_T21_a_scheduled_cancel_keeps_access_until_the_exact_end_in_each_form(form):
    one = sub(**form)
    assert one.scheduled and one.scheduled_end == NOW + 29 * DAY
    assert given(one, now=NOW + 29 * DAY - 1).stands
    assert not given(one, now=NOW + 29 * DAY).stands


def test_T23_no_form_left_means_it_goes_on():
    assert not sub().scheduled and sub().scheduled_end is None


def test_T25_the_flag_ends_at_the_earliest_of_several_period_ends():
    one = Subscription(key=KEY, status="active", cancel_at_period_end=True,
                       items=(Item("a", NOW, NOW + 9 * DAY), Item("b", NOW, NOW + 3 * DAY)))
    assert one.scheduled_end == NOW + 3 * DAY


def test_fault_44_grace_counts_from_the_start_of_the_unpaid_period():
    one = sub("past_due")
    start = one.items[0].start
    assert given(one, now=start + 7 * DAY - 1) == subscription.Access(True, start + 7 * DAY, grace=True)
    assert not given(one, now=start + 7 * DAY).stands
    assert not given(one, grace_days=0).stands


def test_a_scheduled_end_before_the_end_of_grace_is_the_end():
    assert given(sub("past_due", cancel_at=NOW + 60)).until == NOW + 60


def test_a_terminal_subscription_is_not_scheduled_whatever_its_flags_say():
    assert not sub("canceled", cancel_at_period_end=True, cancel_at=NOW).scheduled
