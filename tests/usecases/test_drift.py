"""As many members show a role as we gave it to: counted once a day and server, told with its cause, never acted upon."""
import json

import pytest

from chalicelib import drift, log, operate, ports
from chalicelib.domain.closed import BANNED, EVERYWHERE
from chalicelib.store import servers
from tests.usecases.product import ADA, BEN, GOLD, OTHER_SERVER, SERVER, SILVER


@pytest.fixture
def product(made):
    """Yield the product in memory."""
    return made(lambda url, headers, body: 200)


def counts(seconds=60):
    return drift.run(remaining=lambda: seconds, limit=60)


def gold(server=SERVER):
    """What is counted of the role Gold."""
    return next(one for one in drift.of_server(server, deadline=ports.wall() + 25) if one["role"] == GOLD)


def by_hand(product, verb, user, role=GOLD):
    product.discord.world.set_role((SERVER, user, role), add=verb == "gives", actor="959999999999999999")


def test_fault_37_what_agrees_is_silent_and_costs_one_call_of_discord_a_server_and_no_write(product):
    product.holder("both")
    product.furnish(OTHER_SERVER)
    with product.counted() as seen:
        assert counts() == {"servers": 2, "drifted": 0, "failed": 0}
    assert seen.discord() == [f"GET /guilds/{server}/roles/member-counts" for server in (SERVER, OTHER_SERVER)] and seen.stripe() == []
    assert seen.dynamodb() == {"Query servers": 1, "BatchGetItem servers": 2, "Query members": 2, "BatchGetItem members": 1}


@pytest.mark.parametrize("what, user, cause", [("gives", BEN, "given_elsewhere"), ("takes", ADA, "taken_elsewhere")])
def test_fault_37_I8_a_role_that_somebody_moved_by_hand_is_told_with_its_cause_and_left_alone(product, what, user, cause, monkeypatch):
    product.holder()
    by_hand(product, what, user)
    before = product.row()
    assert gold() == {"role": GOLD, "name": "Gold", "shown": 2 if what == "gives" else 0, "held": 1, "may": 0, "drift": 1, "cause": cause}
    told = []
    monkeypatch.setattr(log, "alarm", lambda message, **fields: told.append((message, fields)))
    assert counts() == {"servers": 1, "drifted": 1, "failed": 0} and told == [("drift", {"server": SERVER, "kind": cause, "count": 1})]
    assert product.row() == before and (product.shown(BEN) == {GOLD}) == (what == "gives")


def test_what_is_being_worked_on_or_was_refused_is_no_drift_either_way(product):
    from chalicelib.store import members
    key = product.holder()
    members.request(user=ADA, server=SERVER, token="t", now=ports.now(), wall=ports.wall(), lease_seconds=120, cause="evt_1")
    assert (gold()["may"], gold()["cause"]) == (1, None)
    by_hand(product, "takes", ADA)
    assert gold()["cause"] is None
    by_hand(product, "gives", ADA)
    product.time.passes(200)
    product.ends(key)
    product.order("discord", method="DELETE", path="/roles/", times=None, do="answer", status=403, body={"message": "no", "code": 50013})
    product.hears()
    assert (gold()["held"], gold()["may"], gold()["cause"]) == (0, 1, None)


@pytest.mark.parametrize("status, body, why", [(403, {"message": "no", "code": 50001}, "no_access"), (401, {"message": "no", "code": 0}, "bad_token"),
                                               (429, {"retry_after": 60.0, "global": False}, "rate_limited")])
def test_fault_36_I12_where_discord_says_no_everybody_waits_and_the_next_day_asks_again(product, status, body, why):
    product.order("discord", path="/member-counts", times=1, do="answer", status=status, body=body)
    assert counts() == {"servers": 1, "drifted": 0, "failed": 0}
    assert [one.why for one in servers.read(SERVER)[1]] == [why]
    with product.counted() as seen:
        counts()
    assert seen.discord() == []


def test_fault_31_after_a_ban_one_worker_probes_and_not_this(product):
    servers.close(EVERYWHERE, until=ports.wall() + 5, why=BANNED)
    product.time.passes(600)
    assert drift.of_server(SERVER, deadline=ports.wall() + 25) is None


@pytest.mark.parametrize("answer", [{"status": 503, "body": "<html>"}, {"status": 200, "body": "<html>"}, {"status": 200, "body": ["x"]}, {"status": 200, "body": {GOLD: "many"}}, {"status": 200, "body": {GOLD: -1}}])
def test_fault_30_what_is_no_count_tells_nothing(product, answer):
    product.holder()
    product.order("discord", path="/member-counts", times=None, do="answer", **answer)
    assert counts() == {"servers": 1, "drifted": 0, "failed": 0}
    product.discord.front.contract.violations.clear()   # such an answer is in no specification


def test_one_server_that_fails_keeps_the_others_from_nothing_and_time_is_kept(product, monkeypatch):
    product.furnish(OTHER_SERVER)
    read = servers.read
    monkeypatch.setattr(servers, "read", lambda server: read(server) if server != SERVER else 1 / 0)
    assert counts() == {"servers": 2, "drifted": 0, "failed": 1} and counts(11) == {"servers": 0, "drifted": 0, "failed": 0}


def test_the_operator_s_command_says_each_role_in_a_line_and_exit_code_1_while_discord_cannot_be_asked(product, capsys):
    product.holder()
    by_hand(product, "gives", BEN, SILVER)
    capsys.readouterr()
    assert operate.main(["drift", SERVER]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["role"], one["cause"]) for one in said] == [(GOLD, None), (SILVER, "given_elsewhere")]
    servers.close(SERVER, until=ports.wall() + 60, why="rate_limited")
    assert operate.main(["drift", SERVER]) == 1 and operate.main(["drift", "1"]) == 1


def test_the_scheduled_function_runs_it_within_its_own_policy_a_refusal_included(product, monkeypatch):
    import app
    from infra.local import permissions
    from infra.local.functions import scheduled_functions
    from infra.local.scheduler import scheduled_event
    product.holder()
    by_hand(product, "gives", BEN)
    told = []
    monkeypatch.setattr(log, "alarm", lambda message, **fields: told.append((message, fields.get("kind", fields.get("why")))))
    monkeypatch.setattr(log, "failure", lambda message, error, **fields: told.append((message, error)))
    function, = [one for one in scheduled_functions(app.app) if one.name == "role_counts"]
    end = permissions.enforce("local")
    try:
        assert function.invoke(scheduled_event(function.name)) == (None, None)
        product.order("discord", path="/member-counts", times=1, do="answer", status=403, body={"message": "no", "code": 50001})
        assert function.invoke(scheduled_event(function.name)) == (None, None)
    finally:
        end()
    assert told == [("drift", "given_elsewhere"), ("discord_closed", "no_access")]
