"""Wanted roles, the calls they need, what a refusal leaves behind, and when to look again."""
import pytest

from chalicelib.domain import plan as rules
from chalicelib.domain.holds import Hold
from chalicelib.domain.offers import Offer, Price, Server
from chalicelib.domain.plan import ABSENT, GRANT, HELD, MAY, STRIP, Block, Role
from chalicelib.domain.subscription import DAY, Item, Subscription

NOW = 1_800_000_000
VIP, BACK, OLD = "300000000000000001", "300000000000000002", "300000000000000003"


def price(name, account="operator"):
    return Price(account, f"price_{name}", 500, "eur", "month")


SERVER = Server("200000000000000001", "Guild", accounts=("operator", "acct_b"), offers=(
    Offer("gold", "Gold", (VIP,), (price("gold"), price("gold_year"))),
    Offer("all", "All", (VIP, BACK), (price("all"),), grace_days=3),
    Offer("other", "Other", (OLD,), (price("other", "acct_b"),))))


def sub(name="sub_1", bought="gold", status="active", account="operator", end=NOW + 20 * DAY, **changes):
    return Subscription(key=f"stripe:{account}:{name}", status=status, items=(Item(f"price_{bought}", NOW - DAY, end),), **changes)


def wanted(*subs, now=NOW):
    return rules.wanted(subs, (), SERVER, now)


def test_fault_38_T28_a_role_stays_while_one_reason_stands():
    both = wanted(sub("sub_1"), sub("sub_2", "all", cancel_at=NOW + DAY))
    assert set(both) == {VIP, BACK} and both[VIP].until is None and both[BACK].until == NOW + DAY
    assert set(both[VIP].sources) == {"stripe:operator:sub_1", "stripe:operator:sub_2"}
    after = wanted(sub("sub_1"), sub("sub_2", "all", cancel_at=NOW + DAY), now=NOW + DAY)
    assert set(after) == {VIP}


def test_the_longest_reason_decides_until_when():
    ends = wanted(sub("sub_1", cancel_at=NOW + 2 * DAY), sub("sub_2", cancel_at=NOW + DAY))
    assert ends[VIP].until == NOW + 2 * DAY


def test_an_unmapped_price_wants_nothing_and_is_named():
    strange = sub(bought="unmapped")
    assert wanted(strange) == {} and rules.unmapped([strange], SERVER) == [(strange, strange.items[0])]
    assert rules.unmapped([sub(bought="unmapped", status="canceled")], SERVER) == []


def test_I7_a_price_of_one_account_never_buys_what_another_sells():
    assert wanted(sub(bought="gold", account="acct_b")) == {}
    assert set(wanted(sub(bought="other", account="acct_b"))) == {OLD}
    assert wanted(sub(bought="gold", account="acct_stranger")) == {}


def test_T26_T27_both_roles_of_two_subscriptions_are_wanted():
    assert set(wanted(sub("sub_1"), sub("sub_2", "all"))) == {VIP, BACK}


def test_grants_what_is_wanted_and_strips_what_only_we_granted():
    known = {VIP: Role(HELD), BACK: Role(MAY), OLD: Role(ABSENT)}
    assert rules.plan(known, {}, set(), now=NOW) == rules.Plan((), (VIP, BACK))
    assert rules.plan(known, wanted(sub(bought="all")), set(), now=NOW) == rules.Plan((BACK,), ())


def test_T41_a_role_never_touched_is_never_stripped():
    assert rules.plan({}, {}, set(), now=NOW).touched == ()


def test_I3_what_an_unread_subscription_might_grant_is_kept():
    keeps = rules.kept([Subscription("stripe:operator:sub_9")], SERVER)
    assert keeps == {VIP, BACK}
    assert rules.plan({VIP: Role(HELD), OLD: Role(HELD)}, {}, keeps, now=NOW).strips == (OLD,)
    assert rules.kept([], SERVER) == set()


def test_whatever_is_about_to_be_touched_is_saved_as_may():
    known = {VIP: Role(HELD), OLD: Role(HELD)}
    saved = rules.saved(known, rules.Plan(grants=(BACK,), strips=(VIP,)))
    assert {role: one.state for role, one in saved.items()} == {VIP: MAY, BACK: MAY, OLD: HELD}


def test_T38_fault_33_a_refused_strip_stays_and_is_tried_again_later_and_later():
    known = {VIP: Role(MAY)}
    once = rules.refused(known, VIP, STRIP, "missing_permissions", before={VIP: Role(HELD)}, now=NOW, definite=True)
    assert once[VIP] == Role(MAY, Block(STRIP, "missing_permissions", NOW + 3600, 1, NOW))
    twice = rules.refused(once, VIP, STRIP, "missing_permissions", before=once, now=NOW, definite=True)
    assert twice[VIP].block.next == NOW + 7200
    for _ in range(40):
        twice = rules.refused(twice, VIP, STRIP, "missing_permissions", before=once, now=NOW, definite=True)
    assert twice[VIP].state == MAY and twice[VIP].block.next == NOW + DAY
    assert rules.plan(once, {}, set(), now=NOW).strips == () and rules.plan(once, {}, set(), now=NOW + 3600).strips == (VIP,)


@pytest.mark.parametrize("before, definite, state", [(ABSENT, True, ABSENT), (MAY, True, MAY), (HELD, True, MAY), (ABSENT, False, MAY)])
def test_a_refused_grant_stays_may_unless_nothing_of_ours_can_have_left_it(before, definite, state):
    after = rules.refused({VIP: Role(MAY)}, VIP, GRANT, "x", before={VIP: Role(before)}, now=NOW, definite=definite)
    assert after[VIP].state == state and after[VIP].block.verb == GRANT


def test_a_look_tries_blocked_roles_before_their_time():
    known = {VIP: Role(ABSENT, Block(GRANT, "role_deleted", NOW + DAY))}
    assert rules.plan(known, wanted(sub()), set(), now=NOW).touched == ()
    assert rules.plan(known, wanted(sub()), set(), now=NOW, forced=True).grants == (VIP,)


def test_I12_C16_a_look_does_not_try_what_was_refused_just_now_and_says_when_it_will():
    known = {VIP: Role(ABSENT, Block(GRANT, "missing_permissions", NOW + 3600, 1, NOW))}
    wants = wanted(sub())
    soon = rules.plan(known, wants, set(), now=NOW + 1, forced=True)
    assert soon.touched == () and rules.force_again(known, wants, soon) == NOW + 2
    later = rules.plan(known, wants, set(), now=NOW + 2, forced=True)
    assert later.grants == (VIP,) and rules.force_again(known, wants, later) is None
    assert [Block(GRANT, "x", NOW + DAY, tries, NOW).forced_from - NOW for tries in (1, 2, 5, 6, 99)] == [2, 4, 32, 60, 60]


def test_fault_35_a_member_who_left_holds_nothing_and_wanted_roles_wait():
    after = rules.gone({VIP: Role(HELD), OLD: Role(MAY)}, now=NOW, wanting={VIP: None})
    assert after == {VIP: Role(ABSENT, Block(GRANT, "not_in_server", NOW + DAY, tried=NOW)), OLD: Role(ABSENT)}
    assert rules.plan(after, wanted(sub()), set(), now=NOW + 60).touched == ()


def test_fault_37_a_look_finds_what_was_taken_by_hand_and_what_came_back():
    after = rules.seen({VIP: Role(HELD), BACK: Role(ABSENT), OLD: Role(MAY)}, {BACK})
    assert {role: one.state for role, one in after.items()} == {VIP: ABSENT, BACK: MAY, OLD: MAY}


def test_a_look_that_finds_the_member_ends_the_wait_of_a_rejoin():
    waiting = rules.gone({}, now=NOW, wanting=[VIP])
    assert rules.plan(rules.seen(waiting, frozenset()), wanted(sub()), set(), now=NOW).grants == (VIP,)


def test_blocks_that_no_longer_matter_are_forgotten():
    known = {VIP: Role(ABSENT, Block(GRANT, "x", NOW)), BACK: Role(MAY, Block(STRIP, "x", NOW))}
    tidied = rules.tidy(known, {})
    assert tidied[VIP] == Role(ABSENT) and tidied[BACK].block is not None
    assert rules.tidy(known, wanted(sub(bought="all")))[BACK].block is None


def due(*subs, roles=None, clock=NOW, retries=(), look_at=None, checked_at=NOW):
    return rules.due(subs, roles or {}, SERVER, clock=clock, retries=retries, look_at=look_at, checked_at=checked_at)


def test_due_is_the_next_end_the_next_retry_or_the_daily_look_whichever_is_first():
    assert due(sub()) == NOW + DAY                                      # the daily look
    assert due(sub(cancel_at=NOW + 60)) == NOW + 60                     # an announced end
    assert due(sub(end=NOW + 90)) == NOW + 90                           # a renewal that should be seen
    assert due(sub(), retries=[NOW + 120]) == NOW + 120
    assert due(sub(), look_at=NOW + 30) == NOW + 30
    assert due(sub(), roles={VIP: Role(MAY, Block(STRIP, "x", NOW + 40))}) == NOW + 40
    assert due(sub(status="past_due", bought="all")) == NOW + DAY       # grace of three days from a day ago, later than a look
    assert due(sub(status="past_due", bought="all"), checked_at=NOW + 5 * DAY) == NOW + 2 * DAY


def test_an_end_that_passed_since_the_clock_was_read_still_comes_out():
    assert due(sub(cancel_at=NOW + 1), clock=NOW) == NOW + 1
    assert due(sub(cancel_at=NOW), clock=NOW) == NOW + DAY              # judged already, by this very clock


def test_nothing_paid_wanted_or_held_is_never_due_again():
    assert due(sub(status="canceled"), roles={VIP: Role(ABSENT)}) is None
    assert due(sub(status="canceled"), roles={VIP: Role(HELD)}) == NOW + DAY
    assert due() is None


# Grant before strip


def test_fault_41_strips_wait_for_a_grant_that_an_outage_stopped_for_three_minutes_and_no_longer():
    for tries, strips in ((1, ()), (2, ()), (3, (OLD,))):
        roles = {VIP: Role(MAY, Block(GRANT, "discord_unavailable", NOW + 60, tries)), OLD: Role(HELD)}
        assert rules.plan(roles, wanted(sub()), set(), now=NOW).strips == strips
    refused = {VIP: Role(MAY, Block(GRANT, "missing_permissions", NOW + 60, 1)), OLD: Role(HELD)}
    assert rules.plan(refused, wanted(sub()), set(), now=NOW).strips == (OLD,), "an owner may leave that so for days"


# Purchases


def bought(name="cs_test_1", price="life", start=NOW - DAY):
    return Subscription(key=f"stripe:operator:{name}", status="bought", items=(Item(f"price_{price}", start, None),))


SHOP = Server("200000000000000001", "Guild", offers=(
    Offer("life", "Life", (VIP,), (Price("operator", "price_life", 9_000, "eur", "once"),)),
    Offer("pass", "Pass", (BACK,), (Price("operator", "price_pass", 400, "eur", "once", 30),)),
    Offer("gold", "Gold", (VIP,), (price("gold"),))))


def test_what_is_held_for_good_outlasts_what_renews_and_that_what_ends():
    life, renews, ends = bought(), sub(), sub("sub_2", cancel_at=NOW + DAY)
    assert rules.wanted([life, renews, ends], (), SHOP, NOW)[VIP].renews is False
    assert rules.wanted([renews, ends], (), SHOP, NOW)[VIP] == rules.Want(None, (ends.key, renews.key), renews=True)
    assert rules.wanted([ends], (), SHOP, NOW)[VIP].until == NOW + DAY


def test_a_purchase_is_over_when_its_days_are_and_one_for_good_or_unmapped_never():
    one = bought(price="pass")
    assert not rules.over(one, SHOP, NOW + 29 * DAY - 1) and rules.over(one, SHOP, NOW + 29 * DAY)
    assert not rules.over(bought(), SHOP, NOW + 10_000 * DAY) and not rules.over(bought(price="strange"), SHOP, NOW + 10_000 * DAY)
    assert rules.unmapped([bought(price="strange")], SHOP) == [(bought(price="strange"), bought(price="strange").items[0])]


def test_a_look_is_due_when_a_purchase_ends_and_when_a_hold_does_and_never_when_all_is_over():
    one = bought(price="pass")
    assert rules.due([one], {}, SHOP, clock=NOW + 29 * DAY - 5, checked_at=NOW + 29 * DAY - 5) == NOW + 29 * DAY
    assert rules.due([one], {}, SHOP, clock=NOW + 29 * DAY, checked_at=NOW) is None
    hold = Hold("stripe:operator:ch_1", one.key, NOW + 7, 400, 400)
    assert rules.due([one], {}, SHOP, clock=NOW, holds=[hold], checked_at=NOW) == NOW + 7
