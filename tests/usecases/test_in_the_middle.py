"""Discord changes in the middle of a round of ours: between two calls, just before the one that it concerns."""
import pytest

from tests.usecases.product import ADA, DAY, FOREIGN, GOLD, SERVER, SILVER
from tests.usecases.test_looking import LEASE

MEMBER = f"/guilds/{SERVER}/members/{ADA}"
PUT, DELETE = {"method": "PUT", "path": "/roles/"}, {"method": "DELETE", "path": "/roles/"}


def told(product, key):
    """The newest event of the subscription has been worked on; answers what was asked of Discord."""
    product.tell(key)
    with product.counted() as seen:
        assert product.work() == 0, "nothing comes back as failed"
    return seen.discord()


def answered(product):
    """The status of Discord's newest answer."""
    return product.discord.front.log[-1]["status"]


def restored(product):
    """The member has pressed the button, and it has been worked on."""
    from chalicelib import restore
    restore.restore(user=ADA, server_id=SERVER)
    assert product.work() == 0


def closed(product):
    """Why Discord is closed for the server or for all: a list."""
    from chalicelib.store import servers
    return [one.why for one in servers.read(SERVER)[1]]


@pytest.mark.parametrize("do", ["member_leaves", "member_banned"])
def test_fault_35_who_is_gone_just_before_the_grant_holds_nothing_and_gets_it_after_coming_back(product, do):
    key = product.buys("both")
    product.order("discord", **PUT, do=do)
    assert len(told(product, key)) == 1, "the second role is not asked for: nobody is there"
    row = product.row()
    assert {role.state for role in row.roles.values()} <= {"absent"} and row.lease is None and row.requested == row.done and row.due_at
    product.control("DELETE", f"/guilds/{SERVER}/bans/{ADA}")
    product.control("PUT", MEMBER)
    product.time.passes(60)
    restored(product)
    assert product.shown() == {GOLD, SILVER} and {product.row().roles[role].state for role in (GOLD, SILVER)} == {"held"}


@pytest.mark.parametrize("do", ["member_leaves", "member_banned"])
def test_fault_35_who_is_gone_just_before_the_strip_is_done_and_asks_for_no_more_work(product, do):
    key = product.holder()
    product.ends(key)
    product.order("discord", **DELETE, do=do)
    assert len(told(product, key)) == 1 and answered(product) == 404
    row = product.row()
    assert row.roles[GOLD].state == "absent" and row.due_at is None and row.lease is None


def test_fault_34_a_role_that_is_deleted_just_before_its_grant_is_blocked_and_the_other_one_is_given(product):
    key = product.buys("both")
    product.order("discord", **PUT, do="role_deleted")
    asked = told(product, key)
    assert len(asked) == 2
    gone, left = asked[0].rsplit("/", 1)[1], asked[1].rsplit("/", 1)[1]
    row = product.row()
    assert product.shown() == {left} and row.roles[left].state == "held"
    assert row.roles[gone].block.why == "role_deleted" and row.requested == row.done and row.due_at > product.time.at
    with product.counted() as seen:
        product.tell(key)
        product.work()
    assert seen.discord() == [], "and not tried again at every event"


def test_fault_34_a_role_that_is_deleted_just_before_its_strip_is_done(product):
    key = product.holder("both")
    product.ends(key)
    product.order("discord", **DELETE, do="role_deleted")
    assert len(told(product, key)) == 2 and [call["status"] for call in list(product.discord.front.log)[-2:]] == [404, 204]
    assert product.shown() == set() and product.row().due_at is None
    assert {product.row().roles[role].state for role in (GOLD, SILVER)} == {"absent"}


def test_fault_36_I12_a_bot_that_is_removed_between_two_grants_keeps_the_first_and_stops_the_server_until_it_is_back(product):
    key = product.buys("both")
    product.order("discord", **PUT, do="bot_removed", nth=2)
    assert len(told(product, key)) == 2
    first = product.shown()
    assert len(first) == 1 and closed(product) == ["no_access"]
    row = product.row()
    assert row.roles[next(iter(first))].state == "held" and row.lease is None and row.due_at
    assert told(product, key) == [], "closed"
    product.control("PUT", f"/guilds/{SERVER}/bot", {})
    product.time.passes(3_700)
    product.sweep()
    assert product.shown() == {GOLD, SILVER}


def test_fault_36_a_bot_that_is_removed_just_before_the_strip_strips_when_it_is_back_and_never_says_done_before(product):
    key = product.holder()
    product.ends(key)
    product.order("discord", **DELETE, do="bot_removed")
    told(product, key)
    assert product.shown() == {GOLD} and product.row().roles[GOLD].state == "may" and closed(product) == ["no_access"]
    product.control("PUT", f"/guilds/{SERVER}/bot", {})
    product.time.passes(3_700)
    product.sweep()
    assert product.shown() == set() and product.row().roles[GOLD].state == "absent"


@pytest.mark.parametrize("as_json", [False, True])
def test_fault_31_I12_a_ban_of_our_address_between_two_grants_is_met_once_and_waited_out(product, as_json):
    key = product.buys("both")
    product.order("discord", **PUT, do="ban", nth=2, seconds=5 * DAY, status=403, as_json=as_json)
    assert len(told(product, key)) == 2 and len(product.shown()) == 1 and closed(product) == ["banned"]
    assert told(product, key) == []
    product.control("DELETE", "/ban")
    product.time.passes(700)
    product.sweep()
    assert product.shown() == {GOLD, SILVER}


def test_I8_a_role_by_hand_and_a_strip_in_the_middle_of_which_the_member_comes_and_goes_leave_no_trace(product):
    """Somebody who left and came back holds nothing of ours; what was given by hand meanwhile stays."""
    key = product.holder()
    product.ends(key)
    product.order("discord", **DELETE, do="member_leaves")
    told(product, key)
    assert answered(product) == 404
    product.control("PUT", MEMBER)
    product.control("PUT", f"{MEMBER}/roles/{FOREIGN}")
    product.time.passes(LEASE)
    restored(product)
    assert product.shown() == {FOREIGN}


# Time-outs after the effect

def test_fault_14_I6_a_cancel_that_times_out_after_its_effect_is_read_back_and_made_once(product):
    from tests.usecases.test_clicks import clicks
    key = product.holder()
    product.order("stripe", method="POST", path=f"/v1/subscriptions/{key}", do="timeout_after_effect")
    with product.counted() as seen:
        receipt = clicks(key)
    assert receipt["next_charge"] == "none" and receipt["already"] is False
    assert [call for call in seen.stripe() if call.startswith("POST")] == [f"POST /v1/subscriptions/{key}"]
    assert sum("cancel_at_period_end" in (event["data"].get("previous_attributes") or {}) for event in product.events(key)) == 1


def test_fault_14_I6_a_checkout_that_times_out_after_its_effect_starts_none_that_nobody_knows(product):
    """The member is told to try again; the session nobody has seen the address of is never paid."""
    from chalicelib import checkout
    from chalicelib.problem import Problem
    product.order("stripe", method="POST", path="/v1/checkout/sessions", do="timeout_after_effect")
    with pytest.raises(Problem) as told_so:
        checkout.start(user=ADA, server_id=SERVER, offer_id="gold", deadline=product.time.at + 25)
    assert told_so.value.status == 503
    product.holder()
    assert product.shown() == {GOLD}
