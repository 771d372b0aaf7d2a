"""What PayPal says, in the normal form: every status, what is paid until when, and what it costs."""
from datetime import UTC, datetime

import pytest

from chalicelib.domain import paypal as rules
from chalicelib.domain import plan
from chalicelib.domain.holds import Hold
from chalicelib.domain.money import shown, smallest
from chalicelib.domain.offers import Price
from chalicelib.domain.paypal import after, from_paypal, hold_from_paypal, instant, period_end
from chalicelib.domain.subscription import GIVEN_UP, Item, Subscription, Terms, Unreadable, access, from_facts, remembering

KEY = "paypal:RKEEPSANDBX22:I-ABC"
DAY = 86_400


def at(text):
    return instant(text + ("T10:00:00Z" if "T" not in text else ""))


PAID, NEXT, NOW = at("2026-01-10"), at("2026-02-10"), at("2026-01-20")


def iso(moment):
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cycle(tenure="REGULAR", unit="MONTH", count=1, *, sequence=1, total=0, price="5.00", currency="EUR"):
    priced = {"pricing_scheme": {"fixed_price": {"value": price, "currency_code": currency}}} if price else {}
    return {"tenure_type": tenure, "sequence": sequence, "total_cycles": total, "frequency": {"interval_unit": unit, "interval_count": count}, **priced}


def answer(status="ACTIVE", *, paid=PAID, following=NEXT, cycles=None, billing=None, begun=PAID, since=PAID, **more):
    said = {"outstanding_balance": {"value": "0", "currency_code": "EUR"}, "failed_payments_count": 0,
            **({"last_payment": {"amount": {"value": "5.00", "currency_code": "EUR"}, "time": iso(paid)}} if paid else {}),
            **({"next_billing_time": iso(following)} if following else {}), **(billing or {})}
    return {"id": "I-ABC", "status": status, "plan_id": "P-GOLD", "create_time": iso(begun), "start_time": iso(begun), "quantity": "1",
            "status_update_time": iso(since), "subscriber": {"payer_id": "PAYERPAYER234"}, "billing_info": said,
            "plan": {"billing_cycles": cycles or [cycle()]}} | more


def read(*given, now=NOW, **more):
    return from_paypal(KEY, answer(*given, **more), read_at=now)


def test_an_active_one_is_paid_through_to_its_next_payment():
    sub = read()
    assert (sub.status, sub.paid_through, sub.paid_at, sub.customer) == ("active", NEXT, PAID, "PAYERPAYER234")
    assert sub.items == (Item("P-GOLD", PAID, NEXT, charged="500 eur"),) and not sub.terminal and not sub.scheduled
    assert from_facts(KEY, sub.facts()) == sub


@pytest.mark.parametrize("status", ["APPROVAL_PENDING", "APPROVED"])
def test_what_nobody_has_approved_gives_nothing_and_needs_no_plan(status):
    assert read(status, plan=None, billing_info=None).status == "incomplete"


@pytest.mark.parametrize("status", ["PAUSED", "", None, "active"])
def test_I3_a_status_that_is_not_known_is_unreadable(status):
    with pytest.raises(Unreadable):
        read(status)


@pytest.mark.parametrize("broken", [
    {"id": "I-OTHER"}, {"plan": None}, {"plan": {}}, {"plan": {"billing_cycles": []}}, {"plan_id": None, "plan": {"billing_cycles": [{}]}}, {"create_time": "yesterday"},
    {"create_time": "0001-01-01T00:00:00Z"}, {"create_time": "2026-01-10T10:00:00"}, {"quantity": "many"}, {"billing_info": [1]},
    {"plan": {"billing_cycles": [cycle(unit="FORTNIGHT")]}}, {"plan": {"billing_cycles": [cycle(price="five")]}}])
def test_I3_fault_49_an_answer_that_lacks_what_decides_is_unreadable(broken):
    with pytest.raises(Unreadable):
        read("CANCELLED", **broken)


# Until when

@pytest.mark.parametrize("start, unit, count, end", [
    ("2026-01-31", "MONTH", 1, "2026-03-01"), ("2028-01-31", "MONTH", 1, "2028-03-01"), ("2026-01-31", "MONTH", 3, "2026-05-01"), ("2026-11-30", "MONTH", 1, "2026-12-30"), ("2026-12-31", "MONTH", 2, "2027-03-01"), ("2026-12-15", "MONTH", 1, "2027-01-15"),
    ("2028-02-29", "YEAR", 1, "2029-03-01"), ("2026-03-28", "WEEK", 2, "2026-04-11"), ("2026-10-24", "DAY", 2, "2026-10-26")])
def test_fault_49_a_cycle_is_of_the_calendar_and_never_thirty_days(start, unit, count, end):
    assert after(at(start), cycle(unit=unit, count=count)) == at(end)


def test_T33_a_cancelled_one_runs_to_what_was_remembered_and_is_over_then():
    gone = answer("CANCELLED", following=None, since=NOW)
    kept = remembering(read(), from_paypal(KEY, gone, read_at=NOW))
    assert (kept.status, kept.cancel_at, kept.scheduled_end, kept.ended_at) == ("running_out", NEXT, NEXT, None)
    assert kept.terminal and kept.scheduled and not kept.ended
    late = remembering(kept, from_paypal(KEY, gone, read_at=NEXT))
    assert (late.status, late.ended, late.scheduled) == ("canceled", True, False)


def test_T34_one_that_was_never_read_before_runs_to_the_end_of_the_day_on_which_its_cycle_ends():
    kept = remembering(Subscription(key=KEY), read("CANCELLED", following=None))
    assert kept.status == "running_out" and kept.cancel_at == at("2026-02-11T00:00:00Z")


@pytest.mark.parametrize("known, fixed, end", [
    (NEXT, None, "2026-03-11T00:00:00Z"), (NEXT, NEXT, "2026-03-11T00:00:00Z"),                 # both are older than the last payment
    (NEXT, at("2026-03-10"), "2026-03-10"), (at("2026-03-10"), None, "2026-03-10"), (None, at("2026-03-10"), "2026-03-10")])
def test_a_remembered_end_of_before_the_last_payment_does_not_count(known, fixed, end):
    found = read("CANCELLED", paid=NEXT + 1800, following=None, now=NEXT + DAY)
    assert remembering(Subscription(key=KEY, paid_through=known), found, fixed=fixed).cancel_at == at(end)


def test_what_was_given_up_is_over_only_when_it_is_cancelled():
    assert remembering(read(), read("CANCELLED", following=None), fixed=GIVEN_UP).status == "canceled"
    assert remembering(read(), read(), fixed=GIVEN_UP).status == "active"


@pytest.mark.parametrize("days, over", [(1, False), (4, True)])
def test_cancelled_before_any_payment_was_booked_gives_nothing_and_is_still_read_for_three_days(days, over):
    """An end that was announced while nothing had been paid is no paid end; it is one when the payment is booked after all."""
    early = remembering(read(paid=None), read("CANCELLED", paid=None, following=None, since=NOW, now=NOW + days * DAY))
    assert (early.status, early.ended, plan.over(early, None, NOW + days * DAY)) == ("canceled", True, over)
    booked = remembering(early, read("CANCELLED", following=None, since=NOW, now=NOW + days * DAY))
    assert (booked.status, booked.cancel_at) == ("running_out", at("2026-02-11T00:00:00Z")), "by the calendar, to the day's end: what was announced was not paid"


@pytest.mark.parametrize("trial", [False, True])
def test_C13_cancelled_before_it_began_gives_nothing_and_no_trial(trial):
    cycles = [*([cycle("TRIAL", "DAY", 7, total=1, price=None)] if trial else []), cycle(sequence=2)]
    waits = read(paid=None, following=NEXT, begun=NEXT, create_time=iso(PAID), cycles=cycles)
    gone = read("CANCELLED", paid=None, following=None, begun=NEXT, create_time=iso(PAID), since=NOW, cycles=cycles)
    assert remembering(waits, gone).status == "canceled"
    halted = remembering(waits, read("SUSPENDED", paid=None, following=None, begun=NEXT, create_time=iso(PAID), since=NOW, cycles=cycles))
    assert halted.starts_at == NEXT and not access(halted, halted.items[0], terms=Terms(grace_days=7), now=NOW).stands


@pytest.mark.parametrize("lie", [None, PAID, PAID - DAY])
def test_fault_46_a_trial_ends_by_its_own_cycle_whatever_next_billing_time_says(lie):
    cycles = [cycle("TRIAL", "DAY", 7, total=1, price=None), cycle(sequence=2)]
    sub = read(paid=None, following=lie, cycles=cycles, now=PAID + DAY)
    assert (sub.status, sub.paid_through) == ("trialing", PAID + 7 * DAY)
    assert read(paid=None, following=PAID + 6 * DAY, cycles=cycles, now=PAID + DAY).paid_through == PAID + 6 * DAY     # PayPal's days are Pacific ones
    gone = remembering(sub, read("CANCELLED", paid=None, following=None, cycles=cycles, now=PAID + 2 * DAY))
    assert (gone.status, gone.cancel_at) == ("running_out", PAID + 7 * DAY)
    assert remembering(Subscription(key=KEY), read("CANCELLED", paid=None, following=None, cycles=cycles, now=PAID + 2 * DAY)).cancel_at >= PAID + 7 * DAY


def test_free_trials_after_each_other_are_one_trial_and_one_that_costs_something_is_paid_after_it():
    cycles = [cycle("TRIAL", "WEEK", 1, total=2, price=None), cycle("TRIAL", "MONTH", 1, sequence=2, total=1, price="1.00"), cycle(sequence=3)]
    sub = read(following=None, cycles=cycles, now=PAID + DAY)
    assert (sub.status, sub.paid_through) == ("trialing", at("2026-01-24")) and sub.items[0].charged == "500 eur"


def test_without_a_next_payment_the_last_one_s_period_counts_and_a_finished_plan_is_scheduled_to_end():
    runs = {"cycle_executions": [{"tenure_type": "REGULAR", "sequence": 1, "cycles_completed": 2, "cycles_remaining": 0, "total_cycles": 2}]}
    sub = read(following=None, cycles=[cycle(total=2)], billing=runs)
    assert sub.scheduled and sub.scheduled_end == sub.paid_through == at("2026-02-11T00:00:00Z")
    assert read(following=None).paid_through == at("2026-02-11T00:00:00Z") and not read(following=None).scheduled


def test_what_begins_later_says_when_and_is_paid_through_nothing():
    sub = read(paid=None, following=NEXT, begun=NEXT, create_time=iso(PAID))
    assert (sub.status, sub.starts_at, sub.paid_through, sub.items[0].end) == ("active", NEXT, None, NEXT)
    assert read(paid=None, following=NEXT, begun=NEXT, create_time=iso(PAID), now=NEXT).starts_at is None


# Not paid

@pytest.mark.parametrize("billing, status", [
    ({"failed_payments_count": 1}, "past_due"),
    ({"last_failed_payment": {"time": iso(NEXT), "next_payment_retry_time": iso(NEXT + 5 * DAY)}}, "past_due"),
    ({"last_failed_payment": {"time": iso(NEXT), "next_payment_retry_time": iso(NEXT + DAY - 60)}}, "past_due"),      # the try is late
    ({"last_failed_payment": {"time": iso(NEXT)}}, "active"),                  # nothing is tried again and nothing is counted
    ({"last_failed_payment": {"time": iso(PAID - DAY), "next_payment_retry_time": iso(NEXT + 5 * DAY)}}, "active"),   # paid since
    ({"outstanding_balance": {"value": "5.00", "currency_code": "EUR"}}, "active")])
def test_fault_44_past_due_is_what_paypal_counts_or_tries_again(billing, status):
    assert read(billing=billing, now=NEXT + DAY, following=NEXT + 28 * DAY).status == status


def test_fault_44_a_failure_counts_from_the_end_of_what_was_paid_however_far_next_billing_time_moves_on():
    failing = read(billing={"failed_payments_count": 1}, following=NEXT + 59 * DAY, now=NEXT + 40 * DAY)
    assert remembering(read(), failing).unpaid_since == NEXT
    assert remembering(remembering(read(), failing), failing).unpaid_since == NEXT
    assert remembering(Subscription(key=KEY), failing).unpaid_since == at("2026-02-11T00:00:00Z")


def test_suspended_runs_from_the_end_of_what_was_paid_and_activation_begins_afresh():
    waits = remembering(read(), read("SUSPENDED", following=None, since=NOW))
    assert (waits.status, waits.unpaid_since, waits.paid_through, waits.terminal) == ("suspended", NEXT, NEXT, False)
    again = remembering(waits, read(paid=NEXT + 20 * DAY, following=NEXT + 48 * DAY, now=NEXT + 21 * DAY))
    assert (again.status, again.unpaid_since) == ("active", None)


# What it costs

@pytest.mark.parametrize("more, charged", [
    ({}, "500 eur"), ({"cycles": [cycle(price="5.0")]}, "500 eur"), ({"cycles": [cycle(price="500", currency="JPY")]}, "500 jpy"),
    ({"quantity": "2"}, "1000 eur"), ({"plan_overridden": True}, "500 eur overridden"), ({"cycles": [cycle(price="0.01")]}, "1 eur"),
    ({"cycles": [cycle(price=None)]}, "by volume")])
def test_C10_what_is_charged_is_told_in_the_form_of_an_offer_s_price(more, charged):
    assert read(**more).items[0].charged == charged


@pytest.mark.parametrize("text", ["", "five", "5.001", "-1", None, "NaN"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError):
        smallest(text, "eur")
    assert shown(smallest("10.0", "eur"), "eur") == "10.00 EUR"


# Sales, refunds, disputes

SALE = {"id": "SALE0000000000001", "state": "completed", "amount": {"total": "5.00", "currency": "EUR"}, "create_time": iso(PAID)}
HOLD = Hold("paypal:RKEEPSANDBX22:SALE0000000000001", KEY, NEXT)


@pytest.mark.parametrize("state, refunded", [("completed", 0), ("pending", 0), ("partially_refunded", 1), ("refunded", 500), ("reversed", 500), ("denied", 500)])
def test_fault_42_every_state_of_a_sale(state, refunded):
    found = hold_from_paypal(HOLD, SALE | {"state": state}, [], read_at=NOW)
    back = state in ("reversed", "denied")
    assert (found.amount, found.refunded, found.dispute, found.until) == (500, refunded, "back" if back else "", NEXT)
    assert found.asked_again(NOW) is back and not found.asked_again(NEXT), "nobody tells when a reversal is taken back"
    assert hold_from_paypal(HOLD, SALE | {"state": state}, [("RESOLVED", "ACCEPTED")], read_at=NOW).dispute == "lost"


@pytest.mark.parametrize("broken", [{"state": "lost"}, {"id": "OTHER000000000000"}, {"amount": {"value": "5.00"}}, {"amount": None}])
def test_I3_a_sale_that_cannot_be_read_says_nothing(broken):
    with pytest.raises(Unreadable):
        hold_from_paypal(HOLD, SALE | broken, [], read_at=NOW)


@pytest.mark.parametrize("disputes, word", [
    ([], ""), ([("OPEN", None)], "open"), ([("WAITING_FOR_SELLER_RESPONSE", None)], "open"), ([("UNDER_REVIEW", "NONE")], "open"),
    *(([("RESOLVED", code)], "lost") for code in ("RESOLVED_BUYER_FAVOUR", "ACCEPTED")),
    *(([("RESOLVED", code)], "over") for code in ("RESOLVED_SELLER_FAVOUR", "RESOLVED_WITH_PAYOUT", "CANCELED_BY_BUYER", "DENIED", "NONE", None)),
    ([("RESOLVED", "RESOLVED_BUYER_FAVOUR"), ("OPEN", None)], "open"), ([("RESOLVED", "DENIED"), ("RESOLVED", "ACCEPTED")], "lost")])
def test_fault_43_every_outcome_of_a_dispute(disputes, word):
    assert hold_from_paypal(HOLD, SALE, disputes, read_at=NOW).dispute == word


@pytest.mark.parametrize("dispute", [("OTHER", None), (None, None), ("RESOLVED", "SPLIT")])
def test_I3_a_dispute_that_is_not_understood_says_nothing(dispute):
    with pytest.raises(Unreadable):
        hold_from_paypal(HOLD, SALE, [dispute], read_at=NOW)


def test_a_sale_pays_for_one_period_of_its_own():
    assert period_end(SALE, answer(), read_at=NOW) == NEXT
    assert period_end(SALE, answer(following=NEXT + 28 * DAY), read_at=NEXT + DAY) == NEXT     # an older one: by the calendar
    assert period_end(SALE, answer("CANCELLED", following=None), read_at=NOW) == at("2026-02-11T00:00:00Z")     # not before access ends
    with pytest.raises(Unreadable):
        period_end(SALE | {"create_time": None}, answer(), read_at=NOW)


@pytest.mark.parametrize("unit, paid, later, end", [
    ("WEEK", "2026-01-10", "2026-01-17T10:30:00Z", "2026-01-17"), ("DAY", "2026-01-10", "2026-01-15T10:30:00Z", "2026-01-11"), ("MONTH", "2026-01-10", "2026-02-10T10:30:00Z", "2026-02-10"),
    ("MONTH", "2026-01-15", "2026-02-10T10:30:00Z", "2026-02-10T10:30:00Z")])     # five days late, so the next one came earlier than a month afterwards
def test_fault_42_a_refund_of_an_earlier_period_never_reaches_into_the_one_that_was_paid_since(unit, paid, later, end):
    one, now = cycle(unit=unit), at(later) + 3_600
    said = answer(paid=at(later), following=after(at(later) - 1_800, one), cycles=[one])
    assert period_end(SALE | {"create_time": iso(at(paid))}, said, read_at=now) == at(end)
    assert period_end(SALE | {"create_time": iso(at(later))}, said, read_at=now) == after(at(later) - 1_800, one)


@pytest.mark.parametrize("unit", ["DAY", "WEEK", "MONTH", "YEAR"])
def test_a_remembered_end_is_kept_to_the_second_for_plans_of_every_length(unit):
    one, paid = cycle(unit=unit), PAID + 1_800
    end = after(PAID, one)
    known, more = read(paid=paid, following=end, cycles=[one], now=paid + 60), {"paid": paid, "following": None, "cycles": [one], "now": paid + 120}
    assert known.paid_through == end and remembering(known, read("CANCELLED", **more)).cancel_at == end
    assert remembering(known, read("SUSPENDED", **more)).unpaid_since == end
    assert remembering(known, read("CANCELLED", **more | {"paid": end + 1_800, "now": end + 3_600})).cancel_at >= after(end, one)


PRICE = Price("RKEEPSANDBX22", "P-GOLD", 500, "eur", "month")


def planned(*cycles, **more):
    return {"status": "ACTIVE", "billing_cycles": list(cycles) or [cycle()], "payment_preferences": {"setup_fee": {"value": "0.0", "currency_code": "EUR"}}} | more


@pytest.mark.parametrize("made, why", [
    (planned(), None), (planned(payment_preferences=None), None), (planned(taxes={"percentage": "19", "inclusive": True}), None), (planned(status="INACTIVE"), "status"),
    (planned(cycle(price="5.01")), "price"), (planned(cycle(currency="USD")), "price"), (planned(cycle(price=None)), "price"),
    (planned(payment_preferences={"setup_fee": {"value": "1.00", "currency_code": "EUR"}}), "fee"), (planned(taxes={"percentage": "19", "inclusive": False}), "tax")])
def test_C10_a_plan_is_what_the_offer_says_or_it_is_not_sold(made, why):
    assert rules.misfit(made, PRICE) == why


@pytest.mark.parametrize("broken", [{"billing_cycles": None}, {"billing_cycles": []}, {"billing_cycles": [1]}, {"status": None, "billing_cycles": [{}]},
                                    {"taxes": {"percentage": "many", "inclusive": False}}])
def test_a_plan_that_cannot_be_read_is_not_sold(broken):
    with pytest.raises(Unreadable):
        rules.misfit(planned() | broken, PRICE)


def test_C13_a_trial_that_costs_something_is_no_free_one():
    assert rules.free_trial(planned(cycle("TRIAL", "DAY", 7, total=1, price=None), cycle(sequence=2)))
    assert not rules.free_trial(planned(cycle("TRIAL", "DAY", 7, total=1, price="1.00"), cycle(sequence=2))) and not rules.free_trial(planned())


def test_what_a_webhook_must_tell_of_is_what_the_intake_takes():
    from chalicelib.intake import _PAYPAL_CONCERNS
    assert set(rules.EVENTS) < set(_PAYPAL_CONCERNS)


def test_fault_44_45_what_is_announced_before_any_payment_is_booked_is_not_paid_and_its_failure_has_no_grace_or_after_an_undo_the_grace_only():
    active = remembering(None, read(paid=None, now=PAID + 3_600))
    assert (active.status, active.paid_through, active.items[0].end) == ("active", None, NEXT)
    assert remembering(active, read(paid=None, now=PAID + DAY, billing={"failed_payments_count": 1})).status == "incomplete"
    later = {"create_time": iso(PAID - 5 * DAY)}
    active = remembering(None, read(paid=None, now=PAID + 3_600, **later))
    failed = remembering(active, read(paid=None, now=PAID + DAY, billing={"failed_payments_count": 1}, **later))
    assert access(failed, failed.items[0], terms=Terms(grace_days=7), now=PAID + 7 * DAY - 1).stands
    assert not access(failed, failed.items[0], terms=Terms(grace_days=7), now=PAID + 7 * DAY).stands


def test_C13_a_trial_that_costs_something_is_paid_run_by_run_and_not_all_at_once():
    cycles = [cycle("TRIAL", price="1.00", total=3), cycle(sequence=2)]
    active = remembering(None, read(cycles=cycles))
    assert (active.status, active.paid_through) == ("active", NEXT)
    assert remembering(active, read("CANCELLED", cycles=cycles, following=None, since=NOW)).cancel_at == NEXT
    assert remembering(None, read("CANCELLED", cycles=cycles, following=None, since=NOW)).cancel_at == at("2026-02-11T00:00:00Z")
    assert remembering(None, read("CANCELLED", cycles=cycles, paid=at("2026-04-10"), following=None, since=at("2026-04-12"), now=at("2026-04-12"))).cancel_at == at("2026-05-11T00:00:00Z")
    once = [cycle("TRIAL", price="1.00", count=3, total=1), cycle(sequence=2)]
    assert remembering(None, read("CANCELLED", cycles=once, following=None, since=NOW)).cancel_at == at("2026-04-11T00:00:00Z")


@pytest.mark.parametrize("state", ["reversed", "denied"])
def test_fault_43_a_dispute_that_was_won_is_asked_about_until_the_money_is_back_too(state):
    hold = Hold(f"{KEY[:-5]}SALE12345", KEY, NEXT)
    sale = {"id": "SALE12345", "state": state, "amount": {"total": "5.00", "currency": "EUR"}}
    won = hold_from_paypal(hold, sale, [("RESOLVED", "RESOLVED_SELLER_FAVOUR")], read_at=NOW)
    assert won.asked_again(NOW) and not won.asked_again(NEXT)
    assert not hold_from_paypal(hold, sale | {"state": "completed"}, [("RESOLVED", "RESOLVED_SELLER_FAVOUR")], read_at=NOW).asked_again(NOW)


def test_C13_a_set_up_fee_that_is_paid_at_the_approval_of_what_begins_later_pays_for_no_period():
    later = {"begun": NEXT, "create_time": iso(PAID), "paid": PAID}
    waits = remembering(None, read(**later, since=PAID))
    assert (waits.starts_at, waits.paid_through, waits.paid_at) == (NEXT, None, None)
    assert remembering(waits, read("CANCELLED", **later, following=None, since=NOW)).status == "canceled"
    begun = remembering(waits, read(**later, now=NEXT + 60, following=at("2026-03-10")))
    assert (begun.status, begun.paid_through) == ("active", None)
