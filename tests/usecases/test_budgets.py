"""Round trips of each path, as counts: they are deterministic where times are not (the budgets of docs/architecture.md)."""
import math

from tests.usecases.product import ADA, BEN, DAY, GOLD, SERVER, SILVER

LOOKED_AT = {"GetItem links": 1, "BatchGetItem servers": 1}     # two reads


def told(product, key):
    """What the work on the newest event about a subscription costs."""
    product.tell(key)
    with product.counted() as seen:
        assert product.work() == 0
    return seen


def test_the_profile_is_one_get_one_query_and_one_batch_get_and_asks_no_processor(product, call):
    product.holder("gold")
    product.holder("silver")
    secret, _ = product.signed_in()
    with product.counted() as seen:
        answer = call("GET", "/api/v1/profile", headers={"Cookie": f"__Host-rolekeep-session={secret}"})
    assert answer.status == 200 and len(answer.json()["servers"][0]["subscriptions"]) == 2
    assert seen.dynamodb() == {"GetItem sessions": 1, "Query members": 1, "BatchGetItem servers": 1}
    assert seen.http == [] and seen.sqs() == {}


def test_the_profile_answers_while_stripe_and_discord_are_down(product, call):
    product.holder("gold")
    for wire in product.wires.values():
        wire.down = ConnectionError("down")
    secret, _ = product.signed_in()
    assert call("GET", "/api/v1/profile", headers={"Cookie": f"__Host-rolekeep-session={secret}"}).json()["servers"][0]["roles"][0]["state"] == "held"


def test_somebody_who_is_not_signed_in_costs_one_read_at_most(product, call):
    with product.counted() as seen:
        assert call("GET", "/api/v1/profile").status == 401
        assert call("GET", "/api/v1/profile", headers={"Cookie": "__Host-rolekeep-session=forged"}).status == 401
    assert seen.dynamodb() == {"GetItem sessions": 1}


def test_intake_touches_no_table_and_sends_one_message(product):
    key = product.buys()
    product.tell(key)   # the first one of a process also asks for the queue's address
    with product.counted() as seen:
        product.tell(key)
    assert (seen.dynamodb(), seen.sqs(), seen.http) == ({}, {"SendMessage": 1}, [])


def test_intake_of_what_does_not_concern_us_or_is_refused_sends_nothing(product):
    import pytest

    from chalicelib import intake
    from chalicelib.problem import Problem
    event = product.events(product.buys())[-1]
    with product.counted() as seen:
        product.take_in({**event, "type": "customer.updated"})
        product.take_in({**event, "livemode": True})
        for body, signature in ((b"{}", None), (b"{}", "t=1,v1=0"), (b"x" * 300_000, "t=1,v1=0")):
            with pytest.raises(Problem):
                intake.stripe(body, signature)
    assert (seen.dynamodb(), seen.sqs(), seen.http) == ({}, {}, [])


def test_the_first_webhook_of_a_purchase_identifies_it_once_and_changes_the_role_within_budget(product):
    key = product.buys()
    seen = told(product, key)
    assert product.shown() == {GOLD}
    assert seen.dynamodb() == {"GetItem links": 2, "UpdateItem links": 1, "PutItem links": 1,      # to identify it: intent, claim, link
                               "BatchGetItem servers": 1, "UpdateItem members": 3, "PutItem ledger": 1, "UpdateItem ledger": 1}
    assert seen.stripe() == [f"GET /v1/subscriptions/{key}"] * 2 and seen.discord() == [f"PUT /guilds/{SERVER}/members/{ADA}/roles/{GOLD}"]
    assert seen.sqs().get("SendMessage", 0) == 0


def test_a_webhook_that_changes_a_role_is_two_reads_three_membership_writes_two_ledger_writes_one_fetch_one_call(product):
    key = product.holder()
    product.ends(key)
    seen = told(product, key)
    assert product.shown() == set()
    assert seen.dynamodb() == {**LOOKED_AT, "UpdateItem members": 3, "PutItem ledger": 1, "UpdateItem ledger": 1}
    assert seen.stripe() == [f"GET /v1/subscriptions/{key}"] and seen.discord() == [f"DELETE /guilds/{SERVER}/members/{ADA}/roles/{GOLD}"]


def test_each_live_subscription_is_one_fetch_an_ended_one_none_and_each_changed_role_one_call(product):
    over = product.holder("gold")
    product.ends(over)
    told(product, over)
    first, second = product.holder("gold"), product.buys("both")
    seen = told(product, second)
    assert seen.discord() == [f"PUT /guilds/{SERVER}/members/{ADA}/roles/{SILVER}"]
    assert sorted(seen.stripe()) == sorted([f"GET /v1/subscriptions/{second}", f"GET /v1/subscriptions/{second}", f"GET /v1/subscriptions/{first}"])
    assert seen.dynamodb()["UpdateItem members"] == 3
    product.ends(second)
    seen = told(product, second)
    assert seen.discord() == [f"DELETE /guilds/{SERVER}/members/{ADA}/roles/{SILVER}"]
    assert sorted(seen.stripe()) == sorted([f"GET /v1/subscriptions/{first}"] * 2 + [f"GET /v1/subscriptions/{second}"]), "the earlier one again before a strip"
    assert seen.dynamodb() == {**LOOKED_AT, "UpdateItem members": 3, "PutItem ledger": 1, "UpdateItem ledger": 1}


def test_two_roles_of_one_purchase_share_the_writes(product):
    seen = told(product, product.buys("both"))
    assert sorted(seen.discord()) == [f"PUT /guilds/{SERVER}/members/{ADA}/roles/{role}" for role in (GOLD, SILVER)]
    assert seen.dynamodb()["UpdateItem members"] == 3 and seen.dynamodb()["PutItem ledger"] == seen.dynamodb()["UpdateItem ledger"] == 1


def test_fault_1_a_duplicate_webhook_is_two_reads_two_writes_and_no_call_of_discord(product):
    key = product.holder()
    seen = told(product, key)
    assert seen.dynamodb() == {**LOOKED_AT, "UpdateItem members": 2}
    assert seen.stripe() == [f"GET /v1/subscriptions/{key}"] and seen.discord() == []


def test_fault_1_sixteen_duplicates_one_after_the_other_cost_sixteen_times_that(product):
    # Rows: A4
    key = product.holder()
    product.tell(key, times=16)
    with product.counted() as seen:
        assert product.work() == 0
    assert seen.dynamodb() == {name: 16 * times for name, times in {**LOOKED_AT, "UpdateItem members": 2}.items()} and seen.discord() == []


def test_a_daily_look_with_nothing_changed_is_one_read_of_discord_and_two_writes(product):
    key = product.holder()
    product.advance(DAY)
    from chalicelib import sweep
    assert sweep.due(remaining=lambda: 60, limit=60) == 1
    with product.counted() as seen:
        product.work()
    assert seen.dynamodb() == {"BatchGetItem servers": 1, "UpdateItem members": 2}
    assert seen.stripe() == [f"GET /v1/subscriptions/{key}"] and seen.discord() == [f"GET /guilds/{SERVER}/members/{ADA}"]


def test_a_sweep_tick_with_nothing_due_is_sixteen_queries(product):
    from chalicelib import sweep
    product.holder()
    with product.counted() as seen:
        assert sweep.due(remaining=lambda: 60, limit=60) == 0
    assert (seen.dynamodb(), seen.sqs(), seen.http) == ({"Query members": 16}, {}, [])


def _due_rows(product, count):
    from chalicelib.store import members
    table = product.aws.client("dynamodb")
    for number in range(count):
        user = str(960_000_000_000_000_000 + number)
        table.put_item(TableName="rolekeep-local-members", Item={
            "user_id": {"S": user}, "server_id": {"S": SERVER}, "requested": {"N": "1"}, "done": {"N": "1"}, "roles": {"M": {}}, "subs": {"M": {}},
            "checked_at": {"N": "1"}, "due_shard": {"N": str(members.shard(user, SERVER))}, "due_at": {"N": str(int(product.time.at) - 5)}})


def test_a_sweep_tick_with_n_due_is_sixteen_queries_n_conditional_writes_and_a_batch_for_each_ten(product):
    from chalicelib import sweep
    for count in (1, 25):
        product.aws.reset()
        product.furnish()
        _due_rows(product, count)
        with product.counted() as seen:
            assert sweep.due(remaining=lambda: 60, limit=60) == count
        assert seen.dynamodb() == {"Query members": 16, "UpdateItem members": count}
        assert seen.sqs() == {"SendMessageBatch": math.ceil(count / 10)} and seen.http == []
        with product.counted() as seen:
            assert sweep.due(remaining=lambda: 60, limit=60) == 0, "what was sent is not sent again by the next tick"
        assert seen.dynamodb() == {"Query members": 16}


def test_a_click_on_cancel_is_two_reads_at_us_and_two_at_stripe_around_one_update(product, call):
    key = product.holder()
    secret, csrf = product.signed_in()
    with product.counted() as seen:
        answer = call("POST", f"/api/v1/subscriptions/{key}/cancel", body=b"{}", headers={
            "Cookie": f"__Host-rolekeep-session={secret}", "X-CSRF-Token": csrf, "Content-Type": "application/json"})
    assert answer.status == 200, answer.text
    assert seen.stripe() == [f"GET /v1/subscriptions/{key}", f"POST /v1/subscriptions/{key}", f"GET /v1/subscriptions/{key}", "GET /v1/invoices"]
    assert seen.discord() == [] and seen.sqs() == {"SendMessage": 1}
    reads = {name: times for name, times in seen.dynamodb().items() if name.split()[0] not in ("PutItem", "UpdateItem", "DeleteItem")}
    assert reads == {"GetItem sessions": 1, "Query members": 1, "BatchGetItem servers": 1}
    assert {name for name in seen.dynamodb() if name not in reads} == {"PutItem ledger", "DeleteItem ledger"}


def test_members_do_not_cost_each_other_anything(product):
    product.holder("gold", ADA)
    key = product.holder("gold", BEN)
    seen = told(product, key)
    assert seen.dynamodb() == {**LOOKED_AT, "UpdateItem members": 2} and seen.stripe() == [f"GET /v1/subscriptions/{key}"]
