"""Timeline, export and erase over HTTP, with the permissions that the functions have when deployed."""
from infra.local.walker import wait_for
from tests.api.town import is_problem
from tests.instance import quiet


def erase(person, **body):
    """The response to the request to erase everything about that person."""
    return person.browser.session.delete(f"{person.product_url}/api/v1/me", json={"confirm": True, **body}, timeout=20,
                                         headers={"X-CSRF-Token": person._csrf, "Content-Type": "application/json"})


def test_a_member_reads_their_timeline_takes_their_data_and_is_erased(town):
    member = town.buyer()
    key = member.subscription_id
    member.cancel(key)
    quiet(town.operator)
    told = member.raw_get(f"/api/v1/subscriptions/{key}/timeline").json()["entries"]
    assert [role["answer"] for one in told for role in one["roles"]] == ["done"] and {one["by"] for one in told} == {"stripe", "you"}
    assert member.raw_get(f"/api/v1/servers/{town.id}/timeline").json()["entries"] == told
    export = member.raw_get("/api/v1/me/export")
    assert export.headers["Content-Disposition"].startswith("attachment;") and [one["server"]["id"] for one in export.json()["memberships"]] == [town.id]
    assert "Gold in Town" in is_problem(erase(member, cancel_subscriptions=False), 409)["detail"]
    answer = erase(member, cancel_subscriptions=True)
    assert answer.status_code == 202 and "__Host-" not in str(answer.cookies) and answer.headers["Clear-Site-Data"], answer.text
    is_problem(member.raw_get("/api/v1/profile"), 401)
    town.holds(member.user_id)
    left = wait_for(lambda: (row := town.operator.membership(member.user_id, town.id)) and "requested" not in row and row, 10, "a tombstone is left")
    assert set(left) == {"user_id", "server_id", "erased", "ttl"}
    quiet(town.operator)
    assert not [row for row in town.operator.rows("ledger") if member.user_id in str(row)]
    assert town.visitor(member.user_id).profile()["servers"] == [] and town.dead() == []


def test_B_own_data_is_of_the_signed_in_member_only(town):
    member, other = town.buyer(), town.person()
    for path in (f"/api/v1/subscriptions/{member.subscription_id}/timeline", f"/api/v1/servers/{town.id}/timeline"):
        assert is_problem(other.raw_get(path), 404) == is_problem(other.raw_get("/api/v1/servers/1/timeline"), 404)
    assert member.user_id not in other.raw_get("/api/v1/me/export").text
    assert erase(other, cancel_subscriptions=True).status_code == 202
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold} and member.subscription(member.subscription_id)["state"] == "active"
