"""What Discord can answer besides yes: limits, outages, refusals, absent members, bans; and what is never touched."""
import json
import time
from datetime import datetime

import pytest

from infra.local.walker import wait_for
from tests.api.town import Town, api
from tests.instance import quiet

ROLE = r"/roles/\d+$"


def discord(town, do="answer", *, method="PUT", path=ROLE, **more):
    """The next call about this town's roles meets this."""
    town.sandbox.discord("POST", "/faults", {"method": method, "path": f"/guilds/{town.id}/members/.*{path}", "do": do, **more})


def ends(town, member):
    """Stripe has ended the member's subscription."""
    api(town.instance, "DELETE", f"/v1/subscriptions/{member.subscription_id}", {})


def out_of_reach(town, role):
    """The role stands above the bot's own: Discord answers 403 / 50013."""
    town.sandbox.discord("PATCH", f"/guilds/{town.id}/roles/{role}", {"position": 50})


def in_reach(town, role):
    """The bot may change the role again."""
    town.sandbox.discord("PATCH", f"/guilds/{town.id}/roles/{role}", {"position": 1})


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def next_door(instance, operator, sandbox):
    """Yield another server, which nothing of this may concern."""
    made = Town(instance, operator, sandbox)
    yield made
    made.close()


def test_T37_fault_29_a_429_closes_this_server_for_everybody_until_it_has_passed_and_no_other(town, next_door):
    first, second = town.person(), town.person()
    discord(town, status=429, headers={"Retry-After": "2", "X-RateLimit-Scope": "user", "X-RateLimit-Bucket": "b", "X-RateLimit-Remaining": "0"},
            body={"message": "You are being rate limited.", "retry_after": 1.7, "global": False})
    first.buy(town.id, "gold")
    wait_for(town.discord_calls, 5, "Discord has been asked")
    second.buy(town.id, "gold")
    assert next_door.buyer().role(next_door.gold)["state"] == "held", "the other server is served meanwhile"
    assert [call[3] for call in town.discord_calls()] == [429], "and this one waits"
    town.holds(first.user_id, town.gold)
    town.holds(second.user_id, town.gold)
    limited, *after = town.discord_calls()
    assert limited[3] == 429 and min(at(call[0]) for call in after) >= at(limited[0]) + 2
    assert sorted(call[3] for call in after) == [204, 204] and town.dead() == []


def test_T37_a_global_429_closes_every_server(town, next_door):
    # Rows: fault 29
    member, neighbour = town.person(), next_door.person()
    discord(town, status=429, headers={"Retry-After": "2", "X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"},
            body={"message": "You are being rate limited.", "retry_after": 2.0, "global": True})
    member.buy(town.id, "gold")
    wait_for(town.discord_calls, 5, "Discord has been asked")
    begun = at(town.discord_calls()[0][0])
    neighbour.buy(next_door.id, "gold")
    neighbour.shows(next_door.gold, "blocked")
    assert neighbour.role(next_door.gold)["why"]["code"] == "rate_limited" and next_door.discord_calls() == []
    next_door.holds(neighbour.user_id, next_door.gold, seconds=10)
    town.holds(member.user_id, town.gold)
    assert at(next_door.discord_calls()[0][0]) >= begun + 2 and town.dead() == next_door.dead() == []


@pytest.mark.parametrize("body", ["<html>502 Bad Gateway</html>", "", {"message": "internal", "code": 0}])
def test_fault_30_a_5xx_of_any_body_is_tried_again_by_itself(town, body):
    member = town.person()
    discord(town, status=502, body=body)
    member.buy(town.id, "gold")
    shown = member.shows(town.gold, "blocked")
    assert shown["why"]["code"] == "discord_unavailable" and shown["why"]["retry_at"]
    assert len(town.role_calls(member.user_id)) == 1
    town.sandbox.advance(61)
    town.holds(member.user_id, town.gold)
    assert member.shows(town.gold, "held")["why"] is None and town.dead() == []


def test_T38_fault_33_a_refused_strip_is_never_done_stays_visible_and_is_tried_until_it_is_allowed(town):
    member = town.buyer()
    out_of_reach(town, town.gold)
    ends(town, member)
    wait_for(lambda: len(town.role_calls(member.user_id)) == 2, 5, "the strip was tried")
    quiet(town.operator)
    assert town.role_calls(member.user_id)[1:] == [("DELETE", town.gold, 403)]
    shown = member.shows(town.gold, "ending")
    assert shown["why"]["code"] == "missing_permissions" and "above" in shown["why"]["text"] and shown["why"]["next"]
    row = town.operator.membership(member.user_id, town.id)
    assert row["roles"][town.gold]["state"] == "may" and row["due_at"] > town.sandbox.now() + 3_000 and "lease" not in row
    town.sandbox.advance(3_700)
    wait_for(lambda: len(town.role_calls(member.user_id)) == 3, 5, "the sweep has tried again")
    quiet(town.operator)
    assert len(town.role_calls(member.user_id)) == 3, "once, not in a loop"
    in_reach(town, town.gold)
    town.sandbox.advance(2 * 3_600 + 60)
    town.holds(member.user_id)
    member.shows(town.gold, None)
    assert town.operator.membership(member.user_id, town.id)["roles"][town.gold] == {"state": "absent"}
    assert town.dead() == []


def test_fault_33_a_refused_grant_is_blocked_with_the_fix_and_comes_with_restore_once_mended(town):
    # Rows: polar 4facda77c4
    member = town.person()
    out_of_reach(town, town.gold)
    member.buy(town.id, "gold")
    shown = member.shows(town.gold, "blocked")
    assert shown["why"]["code"] == "missing_permissions" and shown["actions"] == ["restore"]
    quiet(town.operator)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 403)]
    in_reach(town, town.gold)
    town.sandbox.advance(31)    # a refused role is not tried again at every click
    member.restore(town.id)
    town.holds(member.user_id, town.gold)
    member.shows(town.gold, "held")


def test_fault_33_one_refused_role_does_not_hold_up_the_other(town):
    member = town.person()
    out_of_reach(town, town.gold)
    member.buy(town.id, "both")
    town.holds(member.user_id, town.silver)
    wait_for(lambda: member.role_states(town.id) == {town.gold: "blocked", town.silver: "held"}, 5, lambda: member.role_states(town.id))


def test_T40_fault_34_a_role_that_was_deleted_is_said_and_not_tried_in_a_loop_and_its_strip_is_done(town):
    # Rows: polar 767f4841e6
    member, holder = town.person(), town.buyer()
    town.sandbox.discord("DELETE", f"/guilds/{town.id}/roles/{town.gold}")
    member.buy(town.id, "gold")
    assert member.shows(town.gold, "blocked")["why"]["code"] == "role_deleted"
    ends(town, holder)
    holder.shows(town.gold, None)
    quiet(town.operator)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 404)]
    assert town.role_calls(holder.user_id) == [("PUT", town.gold, 204), ("DELETE", town.gold, 404)]
    assert town.operator.membership(holder.user_id, town.id)["roles"][town.gold]["state"] == "absent" and town.dead() == []


def test_T40_everyone_as_a_role_for_sale_is_an_admin_error_and_no_loop(town):
    # Rows: fault 34, polar #4009
    offers = town.register()
    offers["gold"]["roles"] = [town.id]
    town.register(offers=offers)
    member = town.person()
    member.buy(town.id, "gold")
    assert member.shows(town.id, "blocked")["why"]["code"] == "role_deleted"
    quiet(town.operator)
    assert len(town.role_calls(member.user_id)) == 1


def test_T39_fault_35_who_is_not_in_the_server_waits_and_gets_the_role_with_restore_after_joining(town):
    member = town.person()
    town.sandbox.leave(town.id, member.user_id)
    member.buy(town.id, "gold")
    shown = member.shows(town.gold, "blocked")
    assert shown["why"]["code"] == "not_in_server" and "Restore" in shown["why"]["next"]
    quiet(town.operator)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, 404)]
    town.sandbox.join(town.id, member.user_id)
    town.sandbox.advance(5)     # who has just been looked at waits a moment
    member.restore(town.id)
    town.holds(member.user_id, town.gold)
    member.shows(town.gold, "held")
    assert town.dead() == []


def test_T39_fault_35_of_members_who_left_one_renews_and_is_back_within_a_daily_look_one_ends_and_is_done(town):
    renews, over = town.buyer(), town.buyer()
    for member in (renews, over):
        town.sandbox.leave(town.id, member.user_id)
    ends(town, over)
    wait_for(lambda: over.subscription(over.subscription_id)["state"] == "ended", 5, "the end is known")
    quiet(town.operator)
    assert town.role_calls(over.user_id)[1:] in ([], [("DELETE", town.gold, 404)])
    over.shows(town.gold, None)
    assert "due_at" not in town.operator.membership(over.user_id, town.id), "nothing is wanted or held: no more work"
    town.sandbox.renew(renews.subscription_id)
    for member in (renews, over):
        town.sandbox.join(town.id, member.user_id)
    town.sandbox.advance(86_400)
    town.holds(renews.user_id, town.gold)
    quiet(town.operator)
    assert town.sandbox.roles(town.id, over.user_id) == set() and town.dead() == []


def test_fault_36_I12_a_kicked_bot_stops_the_server_after_one_call_and_a_new_invitation_resumes(town, next_door):
    members = [town.person() for _ in range(3)]
    town.sandbox.discord("DELETE", f"/guilds/{town.id}/bot")
    members[0].buy(town.id, "gold")
    assert members[0].shows(town.gold, "blocked")["why"]["code"] == "no_access"
    for member in members[1:]:
        member.buy(town.id, "gold")
        assert member.shows(town.gold, "blocked")["why"]["code"] == "no_access"
    assert next_door.buyer().role(next_door.gold)["state"] == "held"
    quiet(town.operator)
    assert [call[3] for call in town.discord_calls()] == [403], "not its members one by one"
    assert all(member.subscription(member.subscriptions(town.id)[0]["id"])["state"] == "active" for member in members), "the billing side goes on"
    town.sandbox.discord("PUT", f"/guilds/{town.id}/bot", {})
    reopened(town, town.id)
    town.sandbox.advance(3_700)
    for member in members:
        town.holds(member.user_id, town.gold)
    assert town.dead() == []


def reopened(town, scope):
    """As if the time for which Discord is closed had passed: that runs by the wall clock."""
    item = town.operator.table("servers").get_item(Key={"server_id": scope, "kind": "discord"})["Item"]
    assert item["closed_until"] > time.time()
    town.operator.table("servers").put_item(Item={**item, "closed_until": int(time.time()) - 1})


def test_fault_32_I12_a_401_is_one_call_and_then_none_anywhere_until_the_token_changes(town, next_door):
    member, neighbour = town.person(), next_door.person()
    sandbox, token = town.sandbox, "sandbox-bot-token"
    sandbox.discord("PUT", "/bot-token", {"bot_token": "another-token-entirely"})
    sandbox.discord("DELETE", "/requests")
    try:
        member.buy(town.id, "gold")
        shown = member.shows(town.gold, "blocked")
        assert shown["why"]["code"] == "bad_token" and "operator" in shown["why"]["text"] + shown["why"]["next"]
        neighbour.buy(next_door.id, "silver")
        neighbour.shows(next_door.silver, "blocked")
        sandbox.advance(3_700)
        member.restore(town.id)
        time.sleep(1)
        quiet(town.operator)
        calls = [one for one in sandbox.discord("GET", "/requests")["requests"] if "/guilds/" in one["path"]]
        assert [one["status"] for one in calls] == [401], calls
    finally:
        sandbox.discord("PUT", "/bot-token", {"bot_token": token})
        town.operator.table("servers").delete_item(Key={"server_id": "everywhere", "kind": "discord"})
    sandbox.advance(3_700)
    town.holds(member.user_id, town.gold)
    next_door.holds(neighbour.user_id, next_door.silver)
    assert town.dead() == next_door.dead() == []


def of_all(town):
    """Discord's requests about any server: whoever was due first makes the one call."""
    return [one for one in town.sandbox.discord("GET", "/requests")["requests"] if "/guilds/" in one["path"]]


def test_fault_31_I12_a_ban_of_our_address_without_retry_after_is_one_call_in_ten_minutes(town, next_door):
    member, neighbour = town.person(), next_door.person()
    town.sandbox.discord("PUT", "/ban", {"seconds": 5_000, "status": 403, "as_json": True})
    town.sandbox.discord("DELETE", "/requests")
    try:
        member.buy(town.id, "gold")
        assert member.shows(town.gold, "blocked")["why"]["code"] == "banned"
        neighbour.buy(next_door.id, "silver")
        neighbour.shows(next_door.silver, "blocked")
        town.sandbox.advance(700)
        time.sleep(1)
        quiet(town.operator)
        assert len(of_all(town)) == 1
        reopened(town, "everywhere")
        town.sandbox.advance(700)
        wait_for(lambda: len(of_all(town)) == 2, 8, "one probe")
        time.sleep(1)
        quiet(town.operator)
        assert len(of_all(town)) == 2, "and only one"
    finally:
        town.sandbox.discord("DELETE", "/ban")
        reopened(town, "everywhere")
    town.sandbox.advance(700)
    town.holds(member.user_id, town.gold, seconds=10)
    next_door.holds(neighbour.user_id, next_door.silver, seconds=10)
    assert town.dead() == next_door.dead() == []


def test_T41_I8_foreign_roles_and_people_are_never_touched(town):
    member, bystander = town.person(), town.newcomer()
    for user in (member.user_id, bystander):
        town.sandbox.discord("PUT", f"/guilds/{town.id}/members/{user}/roles/{town.foreign}")
    town.sandbox.discord("PUT", f"/guilds/{town.id}/members/{bystander}/roles/{town.gold}")
    member.subscription_id = member.buys("both")
    town.sandbox.discord("PUT", f"/guilds/{town.id}/members/{member.user_id}/roles/{town.roles[0]}")
    ends(town, member)
    town.holds(member.user_id, town.foreign, town.roles[0])
    member.restore(town.id)
    quiet(town.operator)
    assert town.sandbox.roles(town.id, member.user_id) == {town.foreign, town.roles[0]}
    assert town.sandbox.roles(town.id, bystander) == {town.foreign, town.gold}
    assert {(one["method"], one["path"].rsplit("/", 2)[1]) for one in town.sandbox.discord("GET", "/requests")["requests"]
            if one["path"].startswith(f"/api/v10/guilds/{town.id}") and one["method"] != "GET"} == {("PUT", "roles"), ("DELETE", "roles")}, "one role a call"


def test_fault_37_a_role_taken_by_hand_comes_back_with_restore_or_a_daily_look(town):
    member, patient = town.buyer(), town.buyer()
    for one in (member, patient):
        town.sandbox.discord("DELETE", f"/guilds/{town.id}/members/{one.user_id}/roles/{town.gold}")
    member.restore(town.id)
    town.holds(member.user_id, town.gold)
    assert town.sandbox.roles(town.id, patient.user_id) == set()
    town.sandbox.advance(86_400)
    town.holds(patient.user_id, town.gold)


def test_T43_an_answer_lost_after_discord_applied_it_leaves_the_role_and_calls_no_second_time_at_once(town):
    """What comes after the lease is in tests/usecases: it takes two minutes of wall clock."""
    member = town.person()
    discord(town, "lose_answer")
    member.buy(town.id, "gold")
    town.holds(member.user_id, town.gold)
    quiet(town.operator)
    assert town.role_calls(member.user_id) == [("PUT", town.gold, None)]
    assert member.role(town.gold)["state"] == "pending"
    row = town.operator.membership(member.user_id, town.id)
    assert row["roles"][town.gold]["state"] == "may" and row["lease"]["until"] > time.time() + 60 and row["due_at"] <= town.sandbox.now() + 121


def test_fault_23_one_slow_member_does_not_hold_up_the_others(town):
    slow, others = town.person(), [town.person() for _ in range(2)]
    town.sandbox.discord("POST", "/faults", {"method": "PUT", "path": f"/members/{slow.user_id}/", "do": "delay", "seconds": 3})
    slow.buy(town.id, "gold")
    for member in others:
        member.buys("gold")
    assert town.sandbox.roles(town.id, slow.user_id) == set(), "two members bought and hold the role meanwhile"
    town.holds(slow.user_id, town.gold)


def test_every_role_change_says_why_in_the_guilds_audit_log(town):
    member = town.buyer()
    entry, = town.sandbox.discord("GET", f"/audit-log/{town.id}")["audit_log_entries"]
    assert entry["reason"].startswith("Rolekeep: evt_") and entry["target_id"] == member.user_id
    assert json.dumps(entry).isascii()
