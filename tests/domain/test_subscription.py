"""What a Stripe subscription means: periods, both forms of a scheduled end, every status, grace."""
import pytest

from chalicelib.domain import subscription
from chalicelib.domain.subscription import DAY, Item, Subscription, Terms, Unreadable, access, deciding_invoice, from_checkout, from_facts, from_stripe, instants, remembering

KEY = "stripe:operator:sub_1"
NOW = 1_800_000_000


def answer(**changes):
    """A Stripe subscription with one item, its period on the item (API version 2026-10-28.endive)."""
    return {"id": "sub_1", "status": "active", "customer": "cus_1", "cancel_at": None, "cancel_at_period_end": False,
            "ended_at": None, "items": {"data": [{"price": {"id": "price_a"}, "current_period_start": NOW - DAY,
                                                  "current_period_end": NOW + 29 * DAY}]}} | changes


def sub(status="active", **changes):
    return Subscription(key=KEY, status=status, items=(Item("price_a", NOW - DAY, NOW + 29 * DAY),), **changes)


def given(one, *, now=NOW, terms=Terms(7)):
    return access(one, one.items[0], terms=terms, now=now)


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
    # Rows: fault 45
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
    assert not given(one, terms=Terms(0)).stands


def test_a_scheduled_end_before_the_end_of_grace_is_the_end():
    assert given(sub("past_due", cancel_at=NOW + 60)).until == NOW + 60


def test_a_terminal_subscription_is_not_scheduled_whatever_its_flags_say():
    assert not sub("canceled", cancel_at_period_end=True, cancel_at=NOW).scheduled


# Several items, paused collection


def line(item, end):
    return {"period": {"start": end - 30 * DAY, "end": end}, "parent": {"subscription_item_details": {"subscription_item": item}}}


def invoice(status, *lines, more=False):
    return {"id": "in_1", "status": status, "lines": {"data": list(lines), "has_more": more}}


def item(name, price, end, days=30):
    return {"id": name, "price": {"id": price}, "current_period_start": end - days * DAY, "current_period_end": end}


MONTHLY, YEARLY = item("si_m", "price_m", NOW + 29 * DAY), item("si_y", "price_y", NOW + 300 * DAY, 365)


def mixed(**changes):
    return answer(items={"data": [MONTHLY, YEARLY]}, latest_invoice="in_1", **changes)


def test_fault_44_T25_a_failed_renewal_of_one_item_leaves_the_other_paid_until_its_own_end():
    failed = mixed(status="past_due")
    assert deciding_invoice(failed) == "in_1"
    one = from_stripe(KEY, failed, read_at=NOW, invoice=invoice("open", line("si_m", NOW + 29 * DAY)))
    monthly, yearly = (access(one, each, terms=Terms(7), now=NOW) for each in one.items)
    assert (monthly.grace, monthly.until) == (True, MONTHLY["current_period_start"] + 7 * DAY)
    assert (yearly.stands, yearly.grace, yearly.renews) == (True, False, True)
    assert not access(one, one.items[0], terms=Terms(7), now=MONTHLY["current_period_start"] + 7 * DAY).stands


def test_nothing_more_is_asked_where_the_status_says_it_all():
    assert deciding_invoice(mixed()) is None and deciding_invoice(answer(status="past_due", latest_invoice="in_1")) is None
    for behavior in ("keep_as_draft", "mark_uncollectible"):
        assert deciding_invoice(answer(pause_collection={"behavior": behavior, "resumes_at": None}, latest_invoice="in_1")) is None


def test_fault_44_while_invoices_are_voided_what_was_paid_lasts_and_no_longer():
    paused = answer(pause_collection={"behavior": "void", "resumes_at": None}, latest_invoice={"id": "in_1"})
    paused["items"]["data"][0]["id"] = "si_1"
    assert deciding_invoice(paused) == "in_1"
    paid = from_stripe(KEY, paused, read_at=NOW, invoice=invoice("paid", line("si_1", NOW + 29 * DAY)))
    given_now = access(paid, paid.items[0], terms=Terms(7), now=NOW)
    assert (given_now.stands, given_now.until, given_now.renews) == (True, NOW + 29 * DAY, False)
    for status in ("draft", "void", "open", "uncollectible"):
        voided = from_stripe(KEY, paused, read_at=NOW, invoice=invoice(status, line("si_1", NOW + 29 * DAY)))
        assert not access(voided, voided.items[0], terms=Terms(7), now=NOW).stands


def test_paused_collection_of_services_that_go_on_changes_nothing():
    for behavior in ("keep_as_draft", "mark_uncollectible"):
        one = from_stripe(KEY, answer(pause_collection={"behavior": behavior, "resumes_at": None}), read_at=NOW)
        assert access(one, one.items[0], terms=Terms(7), now=NOW).renews


@pytest.mark.parametrize("odd", [invoice("open", line("si_m", NOW), more=True), {"status": "open"}, {"lines": {}}, 
                                 invoice("open", {"parent": line("si_m", NOW)["parent"]})])
def test_an_invoice_that_cannot_be_read_whole_is_unknown(odd):
    with pytest.raises(Unreadable):
        from_stripe(KEY, mixed(status="past_due"), read_at=NOW, invoice=odd)


def test_facts_of_the_version_before_are_read():
    # Rows: fault 61
    facts = sub("past_due").facts()
    for name in ("void", "charge", "troubled"):
        del facts[name]
    for each in facts["items"]:
        del each["paid"]
    assert from_facts(KEY, facts) == sub("past_due")


# Purchases

BOUGHT_KEY = "stripe:operator:cs_test_1"


def session(status="complete", payment="paid", intent="succeeded", **changes):
    charge = {"id": "ch_1", "created": NOW - 5, "amount_refunded": 0, "disputed": False}
    return {"id": "cs_test_1", "mode": "payment", "status": status, "payment_status": payment, "created": NOW - 60, "customer": "cus_1",
            "payment_intent": {"status": intent, "latest_charge": charge}, "line_items": {"has_more": False, "data": [{"price": {"id": "price_a"}}]}} | changes


def bought(**changes):
    return from_checkout(BOUGHT_KEY, session(**changes), read_at=NOW)


def test_a_lifetime_purchase_stands_for_good_and_does_not_renew():
    given_now = access(bought(), bought().items[0], terms=Terms(), now=NOW + 10_000 * DAY)
    assert (given_now.stands, given_now.until, given_now.renews) == (True, None, False)
    assert list(instants(bought(), terms=lambda item: Terms())) == []


def test_M10_a_purchase_of_some_days_ends_that_many_days_after_the_payment_to_the_second():
    # Rows: fault 49
    one, end = bought(), NOW - 5 + 30 * DAY
    assert access(one, one.items[0], terms=Terms(days=30), now=end - 1).stands
    assert not access(one, one.items[0], terms=Terms(days=30), now=end).stands
    assert list(instants(one, terms=lambda item: Terms(days=30))) == [end]


@pytest.mark.parametrize("shown, status", [
    ({}, "bought"), ({"payment": "no_payment_required", "payment_intent": None}, "bought"), ({"status": "open", "payment": "unpaid"}, "open"),
    ({"status": "expired", "payment": "unpaid"}, "expired"), ({"payment": "unpaid", "intent": "processing"}, "processing"),
    ({"payment": "unpaid", "intent": "requires_payment_method"}, "failed"), ({"payment": "unpaid", "intent": "canceled"}, "failed")])
def test_T30_only_a_payment_that_was_made_gives_access(shown, status):
    one = bought(**shown)
    assert one.status == status and access(one, one.items[0], terms=Terms(), now=NOW).stands is (status == "bought")
    assert one.terminal is (status in ("expired", "failed"))


def test_a_refund_or_dispute_of_a_purchase_shows_in_its_own_reading():
    assert not bought().troubled and bought().charge == "ch_1"
    for trouble in ({"amount_refunded": 1}, {"disputed": True}):
        charge = session()["payment_intent"]["latest_charge"] | trouble
        assert bought(payment_intent={"status": "succeeded", "latest_charge": charge}).troubled


@pytest.mark.parametrize("odd", [{"id": "cs_test_2"}, {"mode": "subscription"}, {"status": "new"}, {"payment": "maybe"}, {"line_items": None},
                                 {"line_items": {"has_more": True, "data": []}}, {"payment_intent": "pi_1"}])
def test_a_session_that_cannot_be_read_is_unknown(odd):
    with pytest.raises(Unreadable):
        bought(**odd)


def test_I4_grace_of_a_short_period_does_not_begin_anew_with_the_next_one():
    week = Subscription(key=KEY, status="past_due", items=(Item("price_a", NOW, NOW + 7 * DAY),))
    first = remembering(sub("active"), week)
    assert first.unpaid_since == NOW
    second = remembering(first, Subscription(key=KEY, status="past_due", items=(Item("price_a", NOW + 7 * DAY, NOW + 14 * DAY),)))
    assert access(second, second.items[0], terms=Terms(10), now=NOW + 9 * DAY).until == NOW + 10 * DAY
    assert NOW + 10 * DAY in list(instants(second, terms=lambda item: Terms(10)))
    assert remembering(second, sub("active")).unpaid_since is None and remembering(None, week).unpaid_since == NOW
