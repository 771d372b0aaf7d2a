"""Which strips nothing proves, what a switch lets through, and what waiting leaves in the row."""
from dataclasses import replace

import pytest

from chalicelib.domain import brakes
from chalicelib.domain import plan as rules
from chalicelib.domain.brakes import GRANTS, STRIPS, Brakes
from chalicelib.domain.holds import Hold
from chalicelib.domain.offers import Offer, Price, Server
from chalicelib.domain.plan import ABSENT, GRANT, HELD, MAY, STRIP, Block, Plan, Role
from chalicelib.domain.subscription import BOUGHT, DAY, RUNNING_OUT, Item, Subscription

NOW = 1_800_000_000
GOLD, SILVER = "300000000000000001", "300000000000000002"
SERVER = Server("200000000000000001", "Guild", offers=(
    Offer("gold", "Gold", (GOLD,), (Price("operator", "price_gold", 500, "eur", "month"),)),
    Offer("silver", "Silver", (SILVER,), (Price("operator", "price_silver", 300, "eur", "month"),)),
    Offer("pass", "Pass", (GOLD,), (Price("operator", "price_pass", 900, "eur", "once", days=30),))))
LIVES = Subscription("stripe:operator:sub_live", "active", items=(Item("price_silver", NOW - DAY, NOW + 20 * DAY),), read_at=NOW - DAY)


def sub(status="active", price="price_gold", **fields):
    """A gold subscription or purchase as it was read a day ago."""
    key = "stripe:operator:cs_test_1" if price == "price_pass" else "stripe:operator:sub_1"
    end = None if price == "price_pass" else NOW + 20 * DAY
    return Subscription(key, status, items=(Item(price, fields.pop("start", NOW - 10 * DAY), end),), read_at=NOW - DAY, **fields)


def offers(**changes):
    """The server, with its gold and pass offers changed."""
    return replace(SERVER, offers=tuple(replace(one, **changes) if one.id != "silver" else one for one in SERVER.offers))


def in_doubt(before, after, *, server=SERVER, holds=({}, {}), beside=LIVES):
    """Whether the strip of gold is doubtful when this subscription was known so, is read so now, and another one lives."""
    knew = {one.key: one for one in (before, beside) if one}
    read = {one.key: replace(one, read_at=NOW) for one in (after, beside) if one}
    roles = brakes.proven({GOLD: Role(HELD)}, (knew, holds[0]), (read, holds[1]), server, NOW)
    assert GOLD not in rules.wanted(read.values(), holds[1].values(), server, NOW), "it is to be taken"
    return brakes.doubtful((GOLD,), roles, read.values(), [], NOW) == (GOLD,)


REFUNDED = {"ch_1": Hold("stripe:operator:ch_1", "stripe:operator:cs_test_1", amount=900, refunded=900)}
DISPUTED = {"ch_1": Hold("stripe:operator:ch_1", "stripe:operator:sub_1", dispute="open")}


@pytest.mark.parametrize("case", [
    {"before": sub(), "after": sub("canceled", ended_at=NOW)}, {"before": sub(), "after": sub("unpaid")}, {"before": sub(), "after": sub("paused")},
    {"before": sub(cancel_at=NOW), "after": sub(cancel_at=NOW)},
    {"before": sub("past_due", start=NOW - 7 * DAY), "after": sub("past_due", start=NOW - 7 * DAY)},
    {"before": sub(RUNNING_OUT, cancel_at=NOW), "after": sub(RUNNING_OUT, cancel_at=NOW)},
    {"before": sub(BOUGHT, "price_pass", start=NOW - 30 * DAY), "after": sub(BOUGHT, "price_pass", start=NOW - 30 * DAY)},
    {"before": sub(BOUGHT, "price_pass"), "after": sub(BOUGHT, "price_pass"), "holds": ({}, REFUNDED)},
    {"before": sub(), "after": sub(), "holds": ({"ch_1": Hold("stripe:operator:ch_1", "stripe:operator:sub_1")}, DISPUTED)},
    {"before": sub(), "after": sub(price="price_silver")},
], ids=["canceled", "unpaid", "paused", "announced end", "end of grace", "run out", "days over", "refunded", "disputed", "switched"])
def test_fault_55_I3_what_the_processor_says_or_announced_proves_a_strip_though_another_subscription_lives(case):
    assert not in_doubt(**case)


@pytest.mark.parametrize("case", [
    {"server": replace(SERVER, offers=())}, {"server": replace(SERVER, accounts=("acct_1Other",))}, {"server": offers(roles=(SILVER,))},
    {"before": sub("past_due", start=NOW - 3 * DAY), "after": sub("past_due", start=NOW - 3 * DAY), "server": offers(grace_days=1)},
    {"before": sub(BOUGHT, "price_pass", start=NOW - 40 * DAY), "after": sub(BOUGHT, "price_pass", start=NOW - 40 * DAY)},
    {"holds": (DISPUTED, DISPUTED)}, {"after": sub(price="price_unknown")},
    {"before": sub("canceled"), "after": sub("canceled")},
], ids=["no offers", "account unbound", "another role", "less grace", "fewer days", "dispute policy", "unmapped price", "ended long ago"])
def test_fault_55_I3_what_only_a_change_of_settings_explains_is_doubtful(case):
    assert in_doubt(**{"before": sub(), "after": sub(), **case})


def test_fault_55_where_nothing_that_was_bought_could_give_anything_the_settings_do_not_matter():
    nothing = replace(SERVER, offers=())
    ended = sub("canceled")
    assert not in_doubt(ended, ended, server=nothing, beside=None), "whatever an offer said, it would give nothing"
    assert brakes.doubtful((GOLD,), {GOLD: Role(HELD)}, [ended], [sub()], NOW) == (GOLD,), "what could not be read says nothing"
    assert brakes.doubtful((GOLD,), {GOLD: Role(HELD)}, [], [], NOW) == (GOLD,), "nor does absence"


def test_fault_55_a_tenth_but_five_at_least():
    assert [brakes.limit(holders) for holders in (0, 9, 50, 60, 1_000)] == [5, 5, 5, 6, 100]


def test_a_proof_is_forgotten_when_the_role_is_wanted_again_or_gone():
    known = {GOLD: Role(HELD, proven=True), SILVER: Role(MAY, proven=True)}
    assert rules.tidy(known, {GOLD: None}) == {GOLD: Role(HELD), SILVER: Role(MAY, proven=True)}
    assert rules.done(known, SILVER, STRIP)[SILVER] == Role(ABSENT) and rules.seen(known, set())[GOLD] == Role(ABSENT)
    assert rules.refused(known, SILVER, STRIP, "missing_permissions", before=known, now=NOW, definite=True)[SILVER].proven


@pytest.mark.parametrize("off, may, waits", [
    ((), Plan((GOLD,), (SILVER,)), {}),
    ((STRIPS,), Plan((GOLD,), ()), {SILVER: (STRIP, "strips_off")}),
    ((GRANTS,), Plan((), ()), {GOLD: (GRANT, "grants_off"), SILVER: (STRIP, "grants_off")}),
    ((STRIPS, GRANTS), Plan((), ()), {GOLD: (GRANT, "grants_off"), SILVER: (STRIP, "strips_off")})])
def test_a_switch_holds_back_its_own_calls_and_strips_wait_for_a_grant_that_does(off, may, waits):
    assert brakes.switched(Plan((GOLD,), (SILVER,)), frozenset(off)) == (may, waits)


def test_with_grants_off_who_is_to_get_nothing_loses_what_has_ended():
    assert brakes.switched(Plan((), (SILVER,)), frozenset({GRANTS})) == (Plan((), (SILVER,)), {})


def test_what_waits_keeps_its_state_knows_since_when_and_is_judged_anew_every_time():
    roles = brakes.waiting({GOLD: Role(HELD)}, {GOLD: (STRIP, "guarded")}, until=NOW + 60, now=NOW)
    assert roles[GOLD] == Role(HELD, Block(STRIP, "guarded", NOW + 60, tried=NOW)) and brakes.held_back(roles) == "guarded"
    later = brakes.waiting(roles, {GOLD: (STRIP, "guarded")}, until=NOW + 90, now=NOW + 30)
    assert later[GOLD].block == Block(STRIP, "guarded", NOW + 90, tried=NOW)
    assert rules.plan(roles, {}, set(), now=NOW + 1).strips == (GOLD,) and rules.tidy(roles, {}) == roles
    assert rules.tidy(roles, {GOLD: None}) == {GOLD: Role(HELD)}


def test_the_guard_is_lifted_and_tripped_for_a_time():
    brake = Brakes(blocked_until=NOW + 60, lifted_until=NOW + 30)
    assert (brake.lifted(NOW), brake.lifted(NOW + 30), brake.blocked(NOW), brake.blocked(NOW + 60)) == (True, False, NOW + 60, None)
