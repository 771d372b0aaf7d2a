"""Every conditional write of the store, on both sides of its condition: who loses writes nothing and is told."""
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.usecases.product import ADA, BEN, DAY, GOLD, OTHER_SERVER, SERVER, SILVER, key_of

NOW, WALL, LEASE = 1_800_000_000, 1_700_000_000.5, 120
ONE, TWO = key_of("sub_1One"), key_of("sub_1Two")


@pytest.fixture
def members(product):
    from chalicelib.store import members
    return members


def requested(members, token="a", **more):
    """The row after a request of Ada's."""
    return members.request(**{"user": ADA, "server": SERVER, "token": token, "now": NOW, "wall": WALL, "lease_seconds": LEASE, "cause": "evt_1", **more})


def held():
    from chalicelib.domain.plan import HELD, Role
    return {GOLD: Role(HELD)}


def read_sub(key=ONE, **more):
    from chalicelib.domain.subscription import Item, Subscription
    return Subscription(key=key, **{"status": "active", "customer": "cus_1", "items": (Item("price_1", NOW, NOW + DAY),), "read_at": NOW, **more})


def at_once(times, work):
    """What so many threads answer that do this at the same time; each gets its number."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(work, range(times)))


# Requests


def test_the_first_request_makes_the_row_takes_the_lease_and_makes_it_due(members):
    row = requested(members, subscription=ONE, look=True)
    assert (row.requested, row.done, row.look, row.look_at, row.due_at) == (1, 0, True, None, NOW + LEASE)
    assert row.lease == {"token": "a", "until": int(WALL) + LEASE, "step": 0}
    assert row.subs[ONE].status == "unread" and row.causes == ("evt_1",) and row.roles == {}
    assert row == members.read(ADA, SERVER), "the write is the read"


def test_a_request_while_somebody_works_counts_brings_what_it_has_and_leaves_the_lease_alone(members):
    requested(members)
    row = requested(members, "b", wall=WALL + 50, now=NOW + 50, subscription=TWO, look=True, cause="member:restore")
    assert (row.requested, row.lease["token"], row.lease["until"]) == (2, "a", int(WALL) + LEASE)
    assert row.due_at == NOW + 50 + LEASE and TWO in row.subs and row.look and row.causes == ("evt_1", "member:restore")


def test_a_request_never_overwrites_what_is_known_of_a_subscription(members):
    row = requested(members, subscription=ONE)
    members.save(row, roles={}, facts=[read_sub()])
    assert requested(members, "b", subscription=ONE).subs[ONE].status == "active"


def test_a_request_makes_a_row_due_early_though_it_was_due_late(members):
    row = requested(members)
    members.finish(row, roles={}, facts=[], due_at=NOW + 30 * DAY, look_at=None, checked_at=NOW)
    assert requested(members, "b").due_at == NOW + LEASE


def test_T1_first_contacts_at_once_are_all_counted_and_one_has_the_lease(members):
    # Rows: polar d9e7867438
    rows = at_once(12, lambda n: requested(members, f"token-{n}", cause=f"evt_{n}", subscription=key_of(f"sub_1N{n}")))
    row = members.read(ADA, SERVER)
    assert row.requested == 12 and len(row.causes) == 12 and len(row.subs) == 12
    assert [n for n, one in enumerate(rows) if one.lease["token"] == f"token-{n}"] == [int(row.lease["token"].removeprefix("token-"))]
    assert sorted(one.requested for one in rows) == list(range(1, 13))


def test_a_hundred_subscriptions_fit_in_a_row_and_the_next_is_refused_loudly(members):
    for number in range(100):
        row = requested(members, subscription=key_of(f"sub_1N{number}"))
    assert len(row.subs) == 100
    with pytest.raises(members.TooMany):
        requested(members, subscription=key_of("sub_1N100"))
    after = requested(members, subscription=key_of("sub_1N7"))
    assert after.requested == 101 and len(after.subs) == 100, "a known one is as good as ever"


def test_creating_a_row_that_is_there_changes_nothing(members):
    row = requested(members, subscription=ONE)
    members.create(user=ADA, server=SERVER, now=NOW + 5)
    assert members.read(ADA, SERVER) == row


# The lease


def test_T5_an_expired_lease_is_taken_over_and_discord_is_looked_at_once_more_later(members):
    # Rows: polar 8a57b28920, polar 79d5aab981
    row = requested(members)
    took = members.take_over(row, token="b", now=NOW + 200, wall=WALL + 200, lease_seconds=LEASE)
    assert took.lease == {"token": "b", "until": int(WALL) + 200 + LEASE, "step": 0}
    assert (took.look_at, took.due_at, took.requested) == (NOW + 200 + LEASE, NOW + 200 + LEASE, 1)


def test_of_many_who_take_over_one_succeeds(members):
    row = requested(members)
    took = at_once(8, lambda n: members.take_over(row, token=f"t{n}", now=NOW, wall=WALL, lease_seconds=LEASE))
    assert sum(one is not None for one in took) == 1


def test_a_lease_that_changed_hands_or_is_gone_is_not_taken_over(members):
    row = requested(members)
    members.take_over(row, token="b", now=NOW, wall=WALL, lease_seconds=LEASE)
    assert members.take_over(row, token="c", now=NOW, wall=WALL, lease_seconds=LEASE) is None
    again = members.read(ADA, SERVER)
    members.pause(again, roles={}, facts=[], due_at=NOW)
    assert members.take_over(again, token="c", now=NOW, wall=WALL, lease_seconds=LEASE) is None
    assert members.read(ADA, SERVER).lease is None


def late_writes(members, row):
    """Every write of a worker, with a row that it read before."""
    return {"save": members.save(row, roles=held(), facts=[read_sub()]),
            "finish": members.finish(row, roles=held(), facts=[read_sub()], due_at=NOW, look_at=None, checked_at=NOW),
            "pause": members.pause(row, roles=held(), facts=[read_sub()], due_at=NOW)}


def test_fault_4_16_T5_I5_who_lost_the_lease_writes_nothing_at_all(members):
    row = requested(members)
    members.take_over(row, token="b", now=NOW, wall=WALL, lease_seconds=LEASE)
    before = members.read(ADA, SERVER)
    assert late_writes(members, row) == {"save": None, "finish": None, "pause": None}
    assert members.read(ADA, SERVER) == before


def test_I5_an_earlier_step_of_the_same_lease_writes_nothing(members):
    row = requested(members)
    saved = members.save(row, roles=held(), facts=[])
    assert saved.lease["step"] == 1 and saved.roles == held()
    assert late_writes(members, row) == {"save": None, "finish": None, "pause": None}
    assert members.read(ADA, SERVER) == saved


def test_I5_after_the_lease_is_gone_nothing_is_written(members):
    row = requested(members)
    assert members.finish(row, roles={}, facts=[], due_at=None, look_at=None, checked_at=NOW)
    before = members.read(ADA, SERVER)
    assert late_writes(members, row) == {"save": None, "finish": None, "pause": None}
    assert members.read(ADA, SERVER) == before


def test_a_finish_fails_when_somebody_requested_meanwhile_and_leaves_lease_and_look(members):
    # Rows: fault 18
    row = requested(members)
    requested(members, "b", look=True, subscription=TWO)
    assert members.finish(row, roles=held(), facts=[read_sub()], due_at=None, look_at=None, checked_at=NOW) is None
    now = members.read(ADA, SERVER)
    assert now.lease["token"] == "a" and now.look and now.roles == {} and now.done == 0 and TWO in now.subs


def test_a_finish_accounts_for_all_and_takes_away_lease_look_and_causes(members):
    row = requested(members, look=True, subscription=ONE)
    done = members.finish(row, roles=held(), facts=[read_sub()], due_at=NOW + 9, look_at=NOW + 8, checked_at=NOW + 7)
    assert (done.requested, done.done, done.lease, done.look, done.causes) == (1, 1, None, False, ())
    assert (done.due_at, done.look_at, done.checked_at, done.roles, done.subs[ONE]) == (NOW + 9, NOW + 8, NOW + 7, held(), read_sub())


def test_a_finish_writes_the_roles_even_if_they_equal_what_it_was_given(members):
    """A round may hold answers of Discord that are not stored yet: they must not be lost for looking unchanged."""
    from dataclasses import replace
    row = requested(members)
    done = members.finish(replace(row, roles=held()), roles=held(), facts=[], due_at=NOW, look_at=None, checked_at=NOW)
    assert done.roles == held()


def test_facts_go_into_single_entries_so_that_a_stub_added_meanwhile_survives(members):
    row = requested(members, subscription=ONE)
    requested(members, "b", subscription=TWO)
    saved = members.save(row, roles={}, facts=[read_sub()])
    assert saved.subs[ONE].status == "active" and saved.subs[TWO].status == "unread"
    paused = members.pause(saved, roles={}, facts=[read_sub(status="past_due")], due_at=NOW)
    assert paused.subs[ONE].status == "past_due" and TWO in paused.subs


def test_a_pause_gives_the_lease_back_and_leaves_every_request_unaccounted_for(members):
    row = requested(members, look=True)
    paused = members.pause(row, roles=held(), facts=[], due_at=NOW + 60)
    assert (paused.requested, paused.done, paused.lease, paused.look, paused.due_at, paused.roles) == (1, 0, None, True, NOW + 60, held())
    assert requested(members, "b").lease["token"] == "b"


# What is due


def test_a_row_is_found_when_due_earliest_first_and_not_before(members):
    row = requested(members)
    shard = zlib.crc32(f"{ADA}/{SERVER}".encode()) % 16
    assert members.due(shard, now=NOW + LEASE - 1, limit=10) == ([], None)
    assert members.due(shard, now=NOW + LEASE, limit=10)[0] == [(ADA, SERVER, NOW + LEASE)]
    members.finish(row, roles={}, facts=[], due_at=None, look_at=None, checked_at=NOW)
    assert members.due(shard, now=NOW + 400 * DAY, limit=10) == ([], None), "nothing wanted or held: in no index"


def test_what_is_due_comes_page_by_page_and_all_of_it(members, product):
    table = product.aws.client("dynamodb")
    for number in range(23):
        table.put_item(TableName="rolekeep-local-members", Item={
            "user_id": {"S": str(96 * 10**16 + number)}, "server_id": {"S": SERVER}, "requested": {"N": "1"}, "done": {"N": "1"}, "roles": {"M": {}}, "subs": {"M": {}},
            "checked_at": {"N": "1"}, "due_shard": {"N": "3"}, "due_at": {"N": str(NOW - number)}})
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        rows, cursor = members.due(3, now=NOW, limit=10, after=cursor)
        found, pages = found + rows, pages + 1
    assert [due for _, _, due in found] == sorted(NOW - n for n in range(23)) and pages == 3


def test_fault_57_T18_a_due_row_is_pushed_by_one_sweep_only_and_a_missing_one_is_not_made(members):
    # Rows: polar 90bae90384
    requested(members)
    assert sum(at_once(6, lambda n: members.push_due(ADA, SERVER, seen=NOW + LEASE, later=NOW + 500 + n))) == 1
    assert members.push_due(ADA, SERVER, seen=NOW + LEASE, later=NOW + 999) is False
    assert members.push_due(BEN, SERVER, seen=NOW, later=NOW + 1) is False and members.read(BEN, SERVER) is None


def test_a_user_has_one_row_per_server_and_nobody_elses(members):
    requested(members)
    requested(members, server=OTHER_SERVER)
    requested(members, user=BEN)
    assert {row.server for row in members.of_user(ADA)} == {SERVER, OTHER_SERVER} and members.of_user("9" * 18) == []


# Links


def test_C9_an_intent_is_claimed_by_one_subscription_and_again_by_the_same(product):
    from chalicelib.store import links
    links.make_intent("intent-of-ada-000000", user=ADA, server=SERVER, offer="gold", account="operator", now=NOW)
    won = at_once(6, lambda n: links.claim_intent("intent-of-ada-000000", key_of(f"sub_1N{n}")))
    assert sum(won) == 1
    winner = key_of(f"sub_1N{won.index(True)}")
    assert links.claim_intent("intent-of-ada-000000", winner) is True and links.of_intent("intent-of-ada-000000").claimed_by == winner
    assert links.claim_intent("an-intent-nobody-made", winner) is False and links.of_intent("an-intent-nobody-made") is None


def test_an_intent_is_kept_at_least_45_days_and_a_link_for_ever(product):
    from chalicelib.store import links
    links.make_intent("intent-of-ada-000000", user=ADA, server=SERVER, offer="gold", account="operator", now=NOW)
    links.link_subscription(ONE, user=ADA, server=SERVER, offer="gold", account="operator", now=NOW)
    rows = {row["id"]["S"]: row for row in product.aws.client("dynamodb").scan(TableName="rolekeep-local-links")["Items"]}
    assert int(rows["intent:intent-of-ada-000000"]["ttl"]["N"]) - NOW >= 45 * DAY and "ttl" not in rows[ONE]
    assert links.of_subscription(ONE).user == ADA and links.of_subscription(TWO) is None


# Servers and what closes them


def test_I12_a_closing_is_never_shortened_and_opens_only_as_it_was_read(product):
    from chalicelib.store import servers
    servers.close(SERVER, until=WALL + 100, why="rate_limited")
    servers.close(SERVER, until=WALL + 50, why="no_access")
    closed, = servers.read(SERVER)[1]
    assert (closed.scope, closed.until, closed.why) == (SERVER, WALL + 100, "rate_limited")
    servers.close(SERVER, until=WALL + 200, why="no_access")
    servers.reopen(closed)
    closed, = servers.read(SERVER)[1]
    assert (closed.until, closed.why) == (WALL + 200, "no_access")
    servers.reopen(closed)
    assert servers.read(SERVER)[1] == []


def test_what_closes_everything_is_read_with_every_server_in_one_call(product):
    from chalicelib.store import servers
    servers.close("everywhere", until=WALL, why="bad_token", token_mark="mark")
    with product.counted() as seen:
        server, closed = servers.read(SERVER)
    assert seen.dynamodb() == {"BatchGetItem servers": 1}
    assert server.id == SERVER and [(c.scope, c.why, c.token_mark) for c in closed] == [("everywhere", "bad_token", "mark")]
    assert servers.read(OTHER_SERVER)[0] is None and len(servers.read(OTHER_SERVER)[1]) == 1


def test_I12_of_many_who_want_to_probe_after_a_ban_one_may(product):
    from chalicelib.store import servers
    servers.close("everywhere", until=WALL, why="banned")
    closed, = servers.read(SERVER)[1]
    won = [one for one in at_once(8, lambda n: servers.claim_probe(closed, until=WALL + 600 + n)) if one]
    assert len(won) == 1 and servers.read(SERVER)[1] == won
    servers.reopen(closed)
    assert servers.read(SERVER)[1] == won, "an older reading opens nothing"


def test_a_portal_configuration_is_adopted_once(product):
    from chalicelib.store import servers
    for account in ("operator", "acct_1A"):
        won = at_once(4, lambda n, account=account: servers.adopt_portal_configuration(SERVER, account, f"bpc_{n}"))
        assert sum(won) == 1
        stored = servers.read(SERVER)[0].portal_configurations[account]
        assert stored == f"bpc_{won.index(True)}"
        assert servers.adopt_portal_configuration(SERVER, account, "bpc_new", instead_of="bpc_other") is False
        assert servers.adopt_portal_configuration(SERVER, account, "bpc_new", instead_of=stored) is True
    assert servers.read(SERVER)[0].portal_configurations == {"operator": "bpc_new", "acct_1A": "bpc_new"}


def test_the_one_portal_configuration_of_older_settings_is_the_operators(product):
    from chalicelib.store import servers
    servers.write(SERVER, {"name": "Pixel", "portal_configuration": "bpc_old"})
    assert servers.read(SERVER)[0].portal_configurations == {"operator": "bpc_old"}
    assert servers.adopt_portal_configuration(SERVER, "operator", "bpc_new") is False
    assert servers.adopt_portal_configuration(SERVER, "operator", "bpc_new", instead_of="bpc_other") is False
    assert servers.adopt_portal_configuration(SERVER, "operator", "bpc_new", instead_of="bpc_old") is True
    assert servers.read(SERVER)[0].portal_configurations == {"operator": "bpc_new"}


# The ledger


def test_I6_one_money_intent_of_a_subscription_is_open_at_a_time(product):
    # Rows: C12
    from chalicelib.store import ledger
    opened = at_once(6, lambda n: ledger.open_intent(key=ONE, at=NOW, data={"intent": f"i{n}", "kind": "cancel"}))
    assert sum(ours for _, ours in opened) == 1 and len({entry.data["intent"] for entry, _ in opened}) == 1
    entry = opened[0][0]
    for _ in range(2):
        ledger.close_intent(entry, at=NOW + 1, outcome={"result": "done"})
    assert ledger.read_intent(ONE) is None
    following, ours = ledger.open_intent(key=ONE, at=NOW + 2, data={"intent": "next", "kind": "cancel"})
    assert ours
    ledger.close_intent(entry, at=NOW + 3, outcome={"result": "done"})
    assert ledger.read_intent(ONE).data["intent"] == "next", "a late close of an earlier intent leaves the open one alone"
    assert [(row.data["intent"], row.outcome) for row in ledger.of(f"money#{ONE}") if row.id != "open"] == [(entry.data["intent"], {"result": "done", "at": NOW + 3})]


def test_I1_the_same_thing_is_parked_once(product):
    from chalicelib.store import ledger
    assert sum(at_once(6, lambda n: ledger.park(account="operator", row_id="unknown_link:sub_1", at=NOW + n, data={"n": n}))) == 1
    assert len(ledger.parked("operator")) == 1 and ledger.parked("acct_1Other") == []


def test_I9_an_audit_row_stands_open_until_it_is_closed(product):
    from chalicelib.store import ledger
    subject = ledger.member_subject(ADA, SERVER)
    ledger.open_audit(subject=subject, row_id="1", at=NOW, data={"grants": [GOLD]})
    assert ledger.of(subject)[0].outcome is None
    ledger.close_audit(subject=subject, row_id="1", outcome={GOLD: "grant done"})
    assert ledger.of(subject)[0].outcome == {GOLD: "grant done"} and ledger.of(subject)[0].data["grants"] == [GOLD]


# Sessions


def test_B2_a_state_is_taken_once_of_many_at_once(product):
    from chalicelib.store import sessions
    sessions.begin_sign_in(state="s", browser="b", verifier="v", wall=WALL)
    took = [one for one in at_once(8, lambda n: sessions.take_sign_in(state="s", wall=WALL)) if one]
    assert len(took) == 1 and took[0].verifier == "v" and took[0].browser == sessions.digest("b")


def test_fault_21_what_has_expired_is_absent_though_it_can_still_be_read(product):
    from chalicelib.store import sessions
    sessions.create(secret="x", user=ADA, name="Ada", wall=WALL)
    for passed, there in ((0, True), (30 * DAY - 1, True), (30 * DAY, False), (40 * DAY, False)):
        assert (sessions.read(secret="x", wall=WALL + passed) is not None) is there, passed
    for passed, there in ((599, True), (600, False), (DAY, False)):
        sessions.begin_sign_in(state="s", browser="b", verifier="v", wall=WALL)
        assert (sessions.take_sign_in(state="s", wall=WALL + passed) is not None) is there, passed
        assert sessions.take_sign_in(state="s", wall=WALL) is None, "used up either way"


def test_fault_21_a_lease_that_has_expired_is_one_that_somebody_may_take(product, members):
    """The row still shows it; reconcile judges by the wall clock."""
    from chalicelib.reconcile import Look, reconcile
    row = requested(members, now=int(product.time.at), wall=product.time.at)
    product.time.passes(LEASE - 1)
    assert reconcile(Look(ADA, SERVER, "evt_2"), deadline=product.time.at + 57) == "left"
    product.time.passes(2)
    assert reconcile(Look(ADA, SERVER, "evt_3"), deadline=product.time.at + 57) == "settled"
    assert members.read(ADA, SERVER).done == 3 and members.save(row, roles={}, facts=[]) is None


def test_a_session_and_a_state_are_not_taken_for_one_another(product):
    from chalicelib.store import sessions
    sessions.begin_sign_in(state="same", browser="b", verifier="v", wall=WALL)
    assert sessions.read(secret="same", wall=WALL) is None
    sessions.create(secret="other", user=ADA, name="Ada", wall=WALL)
    assert sessions.take_sign_in(state="other", wall=WALL) is None and sessions.read(secret="other", wall=WALL).user == ADA
    sessions.end(secret="other")
    sessions.end(secret="other")
    assert sessions.read(secret="other", wall=WALL) is None


# The connection


def test_all_models_share_one_botocore_client_with_short_time_outs(product):
    from chalicelib.store.tables import MODELS
    connections = {id(model._get_connection().connection) for model in MODELS}
    assert len(connections) == 1
    config = MODELS[0]._get_connection().connection.client._client_config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (1, 3, 3)


def test_no_call_is_spent_on_describing_tables(product, members):
    from chalicelib.store import ledger, links, sessions
    with product.counted() as seen:
        requested(members)
        members.read(ADA, SERVER), links.of_intent("x" * 20), sessions.read(secret="x", wall=WALL), ledger.read_intent(ONE)
    assert {name.split()[0] for name in seen.dynamodb()} == {"UpdateItem", "GetItem", "PutItem"} and len(seen.aws) <= 8, seen.aws


def test_fault_20_every_read_that_something_is_decided_by_is_consistent(product, members, monkeypatch):
    from botocore.client import BaseClient

    from chalicelib.store import ledger, links, servers, sessions
    requested(members)
    asked, before = [], BaseClient._make_api_call

    def noting(client, operation, params):
        asked.append((operation, params.get("ConsistentRead") or all(one.get("ConsistentRead") for one in params.get("RequestItems", {}).values()) and "RequestItems" in params))
        return before(client, operation, params)

    monkeypatch.setattr(BaseClient, "_make_api_call", noting)
    members.read(ADA, SERVER), members.of_user(ADA), links.of_intent("x" * 20), links.of_subscription(ONE), servers.read(SERVER)
    ledger.read_intent(ONE), ledger.parked("operator"), sessions.read(secret="x", wall=WALL)
    assert len(asked) == 8 and [one for one in asked if not one[1]] == []


def test_a_silver_role_is_stored_with_its_block_and_comes_back_the_same(product, members):
    from chalicelib.domain.plan import MAY, Block, Role
    roles = {SILVER: Role(MAY, Block("strip", "missing_permissions", NOW + 60, 3))}
    row = requested(members)
    assert members.pause(row, roles=roles, facts=[], due_at=NOW).roles == roles == members.read(ADA, SERVER).roles


def test_fault_55_of_sixteen_workers_at_once_five_are_counted_and_after_an_hour_five_more(product):
    from chalicelib.store import brakes
    now, asked = int(product.time.at), []

    def count(number, now=now):
        return brakes.count(SERVER, f"member-{number}", now=now, holders=lambda: asked.append(1) or 12)

    until = at_once(16, count)
    assert until.count(None) == 5 and set(until) == {None, now + 3_600} and asked
    assert count(until.index(None)) is None, "who is counted may try again"
    later = now + 3_600
    assert [count(number, later) for number in range(6)] == [None] * 5 + [later + 3_600]


def test_fault_55_who_holds_something_is_counted_of_one_server_and_no_further_than_asked(product):
    from chalicelib.store import members
    from chalicelib.store.tables import Membership
    for number in range(120):
        roles = {GOLD: {"state": ("held", "may", "absent")[number % 3]}, SILVER: {"state": "absent"}}
        Membership(f"97000000000000{number:04}", SERVER if number < 111 else OTHER_SERVER, requested=1, done=1, roles=roles, subs={}, checked_at=1).save()
    assert members.holders(SERVER, most=10_000) == 74 and members.holders(OTHER_SERVER, most=10_000) == 6
    assert members.holders(SERVER, most=30) <= 30
    assert {user: roles[GOLD].state for user, roles in members.roles_of_server(OTHER_SERVER)}["970000000000000119"] == "absent"
