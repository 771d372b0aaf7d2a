"""The timeline: event → decision → what Discord answered, complete, in plain words, and only one's own."""
import json

import pytest

from chalicelib.store import ledger
from tests.usecases.product import ADA, BEN, DAY, FOREIGN, GOLD, OTHER_SERVER, SERVER, key_of


@pytest.fixture
def timeline(call, product):
    """Answer a function: the whole answer to a timeline, asked for by that user."""
    def asked(what, query="", user=ADA):
        secret, _ = product.signed_in(user)
        return call("GET", f"/api/v1/{what}/timeline{query}", {"Cookie": f"__Host-rolekeep-session={secret}"})
    return asked


def rows():
    """The audit rows about Ada, newest first."""
    return ledger.of(ledger.member_subject(ADA, SERVER))


def click(product, key, change="cancel"):
    from chalicelib import cancel, ports
    more = {"reason": None, "comment": "CANARY-COMMENT"} if change == "cancel" else {}
    receipt = getattr(cancel, change)(user=ADA, subscription_id=key, deadline=ports.wall() + 60, **more)
    assert product.work() == 0
    return receipt


def entries(answer):
    assert answer.status == 200, answer.text
    return answer.json()["entries"]


# What is written

def test_I9_a_change_that_touches_no_role_is_one_row_closed_at_once_and_its_duplicates_are_none(product):
    key = product.holder()
    before = len(rows())
    product.time.passes(1)
    click(product, key)     # the scheduled end is learned by the message of the click
    product.tell(key, times=5)
    with product.counted() as seen:
        product.work()
    assert len(rows()) == before + 1 and "PutItem ledger" not in seen.dynamodb()
    assert rows()[0].outcome == {"result": "nothing_to_do"} and rows()[0].data["changed"] == [key_of(key)]
    assert rows()[0].data["evidence"][key_of(key)]["cancel_at_period_end"] or rows()[0].data["evidence"][key_of(key)]["cancel_at"]


def test_what_one_worker_learns_in_several_rounds_is_told_once(product, monkeypatch):
    from chalicelib.store import members
    key = product.holder()
    click(product, key)
    before, finish, asked = len(rows()), members.finish, []

    def finishing(*args, **kwargs):
        if len(asked) < 3:
            asked.append(members.request(user=ADA, server=SERVER, token="other", now=int(product.time.at), wall=product.time.at, lease_seconds=120, cause="sweep"))
        return finish(*args, **kwargs)

    monkeypatch.setattr(members, "finish", finishing)
    product.advance(31 * DAY)
    click(product, product.holder("silver"), "cancel")
    product.tell(key)
    product.work()
    told = [row for row in rows() if key_of(key) in row.data["changed"]]
    assert len(asked) == 3 and len(rows()) > before and sum(row.data["evidence"][key_of(key)]["status"] == "canceled" for row in told) == 1


def test_a_change_that_touches_no_role_costs_one_ledger_write_and_a_renewal_too(product):
    key = product.holder()
    product.advance(31 * DAY)
    product.tell(key)
    with product.counted() as seen:
        product.work()
    assert seen.dynamodb() == {"GetItem links": 1, "BatchGetItem servers": 1, "UpdateItem members": 2, "PutItem ledger": 1}
    assert rows()[0].data["changed"] == [key_of(key)] and len(rows()) == 2


def test_the_row_of_a_role_change_holds_its_cause_with_the_events_type_its_reasons_and_the_states_then(product):
    key = product.holder()
    granted = rows()[0]
    event = product.events(key)[-1]
    assert granted.data["cause"] == f"{event['id']} {event['type']}" and granted.data["why"] == {GOLD: [key_of(key)]}
    assert granted.data["evidence"][key_of(key)]["status"] == "active" and "cus_" not in str(granted.data)
    product.time.passes(1)
    product.ends(key)
    product.tell(key)
    product.work()
    taken = rows()[0]
    assert (taken.data["strips"], taken.data["why"], taken.outcome) == ([GOLD], {GOLD: [key_of(key)]}, {GOLD: "strip done"})
    assert taken.data["evidence"][key_of(key)]["status"] == "canceled" and taken.data["changed"] == [key_of(key)]


def test_a_type_that_does_not_look_like_one_is_not_carried(product):
    from chalicelib import worker
    key = product.holder()
    product.time.passes(1)
    product.ends(key)
    for kind in ("x" * 61, "\n", "customer subscription", 7, None, {"a": 1}):
        body = json.dumps({"v": 2, "event": "evt_1", "type": kind, "account": "operator", "kind": "subscription", "id": key})
        assert worker.run([{"messageId": "1", "body": body}], handle=worker.stripe_event, remaining=lambda: 60) == {"batchItemFailures": []}
    assert rows()[0].data["cause"] == "evt_1"


def test_what_is_learned_while_discord_is_closed_is_told_at_once_and_the_strip_when_it_is_made(product, timeline):
    key = product.holder()
    product.order("discord", path=f"/members/{ADA}/roles/", do="answer", status=429, headers={"Retry-After": "5"}, body={"retry_after": 5, "global": False})
    product.time.passes(1)
    product.ends(key)
    product.tell(key)
    product.work()
    assert rows()[0].outcome[GOLD].startswith("strip later")
    product.time.passes(6)
    product.sweep()
    last, before = entries(timeline(f"subscriptions/{key}"))[:2]
    assert before["roles"][0]["answer"].startswith("later: Discord asked us to slow down")
    assert last["roles"] == [{"id": GOLD, "name": "Gold", "verb": "strip", "answer": "done"}] and last["by"] == "stripe", "the sweep finished what the event began"


def test_a_role_that_somebody_took_by_hand_is_told_with_what_was_done_about_it(product, timeline):
    key = product.holder()
    product.control("DELETE", f"/guilds/{SERVER}/members/{ADA}/roles/{GOLD}")
    from chalicelib import restore
    product.time.passes(10)
    restore.restore(user=ADA, server_id=SERVER)
    product.work()
    first = entries(timeline(f"subscriptions/{key}"))[0]
    assert first["what"] == "You asked for your roles back. Discord did not show Gold." and first["by"] == "you"
    assert first["decision"] == "Give Gold, because of gold." and first["roles"][0]["answer"] == "done"


# What is shown

def test_a_life_is_told_newest_first_with_cause_decision_answer_and_who(product, timeline):
    key = product.holder()
    product.time.passes(5)
    click(product, key)
    product.time.passes(5)
    click(product, key, "undo")
    product.time.passes(5)
    product.ends(key)
    product.tell(key)
    product.work()
    told = entries(timeline(f"subscriptions/{key}"))
    assert (told[0]["by"], told[0]["decision"]) == ("stripe", "Take Gold, because of gold.")
    assert sorted((one["by"], one["decision"]) for one in told[1:-1]) == [     # within one second in any order
        *[("you", "Done, and read back from Stripe.")] * 2, *[("you", "Nothing had to change in Discord.")] * 2]
    assert (told[-1]["by"], told[-1]["decision"]) == ("stripe", "Give Gold, because of gold.")
    assert told[0]["what"].startswith("Stripe told that a subscription has ended. gold: Ended on ")
    assert told[0]["cause"].endswith(" customer.subscription.deleted") and told[0]["cause"].startswith("evt_")
    assert any(one["what"] == "You asked to cancel at the end of the period: gold." for one in told)
    assert any(one["what"].startswith("You cancelled at the end of the period. gold: Ends on ") for one in told)
    assert {"at", "what", "cause", "decision", "roles", "by"} == set(told[0])
    assert [one["at"] for one in told] == sorted((one["at"] for one in told), reverse=True)
    plain = json.dumps([(one["what"], one["decision"]) for one in told])
    assert key not in plain and ADA not in plain and GOLD not in plain and "CANARY-COMMENT" not in json.dumps(told)


def test_an_open_intent_is_told_as_under_way(product, timeline):
    key = product.holder()
    ledger.open_intent(key=key_of(key), at=int(product.time.at), data={"intent": "one", "kind": "cancel_now", "actor": "owner:1"})
    first = next(one for one in entries(timeline(f"subscriptions/{key}")) if one["cause"] == "cancel_now")
    assert (first["by"], first["what"]) == ("owner", "The server's owner asked to cancel at once: gold.") and first["decision"].startswith("Under way")


def test_a_price_that_no_offer_knows_is_told(product, timeline):
    from chalicelib.store import servers
    from chalicelib.store.tables import ServerItem
    key = product.holder()
    settings = ServerItem.get(SERVER, "settings").settings.as_dict()
    del settings["offers"]["gold"]
    product.time.passes(1)
    servers.write(SERVER, settings)
    product.tell(key)
    product.work()
    told = entries(timeline(f"subscriptions/{key}"))
    assert any(one["cause"] == "unmapped_price" and "operator has been told" in one["decision"] for one in told)
    assert any(one["decision"] == "Take Gold, because of Subscription." for one in told)


def test_a_timeline_of_one_subscription_leaves_the_others_out_and_that_of_the_server_has_all(product, timeline):
    gold, silver = product.holder("gold"), product.holder("silver")
    click(product, gold)
    [only] = entries(timeline(f"subscriptions/{silver}"))
    assert only["decision"].startswith("Give ") and only["decision"].endswith("because of silver.")
    everything = entries(timeline(f"servers/{SERVER}"))
    assert len(everything) == len(entries(timeline(f"subscriptions/{gold}"))) + len(entries(timeline(f"subscriptions/{silver}")))


def test_rows_of_an_older_version_are_shown_as_far_as_they_go(product, timeline):
    product.holder()
    ledger.open_audit(subject=ledger.member_subject(ADA, SERVER), row_id="000000000001-old", at=1, data={
        "cause": "evt_old", "causes": [], "grants": [GOLD], "strips": [FOREIGN], "evidence": {"stripe:operator:sub_1": "active read 1"}})
    last = entries(timeline(f"servers/{SERVER}"))[-1]
    assert last["decision"] == f"Give Gold. Take {FOREIGN}." and last["roles"][0]["answer"] == "not known: it was interrupted, and is done again"


# Pages

def test_pages_are_fifty_long_and_together_hold_everything_once(product, timeline):
    key = product.holder()
    for number in range(430):   # more than one page reads; most concern the server only
        ledger.open_audit(subject=ledger.member_subject(ADA, SERVER), row_id=f"{number + 10:012d}-x", at=number + 10, data={
            "cause": "sweep", "lost": [GOLD], "changed": [key_of(key)] if number % 20 == 0 else []}, outcome={"result": "nothing_to_do"})
    for number in range(60):
        ledger.close_intent(ledger.Entry(f"money#{key_of(key)}", "open", "intent", number * 7, {"intent": "same", "kind": "cancel_now", "actor": f"member:{ADA}"}, None),
                            at=1, outcome={"result": "done"})
    for what, size in ((f"servers/{SERVER}", 431 + 60), (f"subscriptions/{key}", 23 + 60)):
        found, query, pages = [], "", 0
        while True:
            answer = timeline(what, query).json()
            found += answer["entries"]
            pages += 1
            assert len(answer["entries"]) <= 50
            if not answer["next"]:
                break
            query = f"?before={answer['next']}"
        assert len(found) == size and [one["at"] for one in found] == sorted((one["at"] for one in found), reverse=True)
        assert pages <= size // 50 + 4


@pytest.mark.parametrize("query", ["?before=", "?before=x", "?before=000000000001", "?before=" + "9" * 300, "?after=1", "?before=000000000001-a&before=000000000002-b",
                                   "?before=000000000001-a&x=1", "?before=000000000001-%00", "?before=open"])
def test_a_cursor_that_is_not_one_of_ours_is_refused(product, timeline, query):
    key = product.holder()
    assert timeline(f"subscriptions/{key}", query).status == timeline(f"servers/{SERVER}", query).status == 400


# Whose

def test_D15_I7_a_timeline_is_ones_own_anybody_elses_is_not_there(product, timeline, call):
    key = product.holder()
    for what in (f"subscriptions/{key}", f"servers/{SERVER}"):
        assert timeline(what, user=BEN).status == 404 and call("GET", f"/api/v1/{what}/timeline").status == 401
    mine = timeline(f"servers/{SERVER}", user=BEN)
    assert mine.json() == timeline(f"servers/{OTHER_SERVER}", user=ADA).json() == timeline("servers/x", user=ADA).json()
    other = product.holder("gold", BEN)
    assert other not in timeline(f"servers/{SERVER}").text and BEN not in timeline(f"servers/{SERVER}").text


def test_a_timeline_is_a_get_three_queries_and_a_batch_get_and_asks_no_processor(product, timeline):
    key = product.holder()
    for wire in product.wires.values():
        wire.down = ConnectionError("down")
    secret_and_more = {"PutItem sessions": 1, "GetItem sessions": 1, "BatchGetItem servers": 1}
    with product.counted() as seen:
        timeline(f"subscriptions/{key}")
    assert seen.dynamodb() == {**secret_and_more, "Query members": 1, "Query ledger": 2} and seen.http == []
    with product.counted() as seen:
        timeline(f"servers/{SERVER}")
    assert seen.dynamodb() == {**secret_and_more, "GetItem members": 1, "Query ledger": 2} and seen.http == []
