"""The due sweep: finds, pushes and sends, and does nothing else; in time, and beside another one."""
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib import sweep
from tests.usecases.product import ADA, GOLD, SERVER


def due_rows(product, count, *, late=5):
    """So many memberships without anything in them are due; their users, the one that is due longest first."""
    from chalicelib.store import members
    table, users = product.aws.client("dynamodb"), []
    for number in range(count):
        users.append(str(960_000_000_000_000_000 + number))
        table.put_item(TableName="rolekeep-local-members", Item={
            "user_id": {"S": users[-1]}, "server_id": {"S": SERVER}, "requested": {"N": "1"}, "done": {"N": "1"}, "roles": {"M": {}}, "subs": {"M": {}}, "checked_at": {"N": "1"},
            "due_shard": {"N": str(members.shard(users[-1], SERVER))}, "due_at": {"N": str(int(product.time.at) - late - count + number)}})
    return users


def sent(product):
    """The users whom the members queue has been told of."""
    import json
    return [json.loads(record["body"])["user"] for record in product.messages("members")]


def full():
    return 60


def test_everything_due_is_sent_once_however_many_pages_there_are(product, monkeypatch):
    monkeypatch.setattr(sweep, "PAGE", 3)
    users = due_rows(product, 60)
    assert sweep.due(remaining=full, limit=60) == 60
    assert sorted(sent(product)) == sorted(users)
    assert sweep.due(remaining=full, limit=60) == 0


def test_what_was_sent_is_due_again_when_nobody_has_worked_on_it_in_time(product):
    # Rows: fault 56, polar 8a57b28920
    due_rows(product, 3)
    sweep.due(remaining=full, limit=60)
    sent(product)
    product.time.passes(sweep.PUSH_SECONDS - 1)
    assert sweep.due(remaining=full, limit=60) == 0
    product.time.passes(1)
    assert sweep.due(remaining=full, limit=60) == 3


def test_fault_57_T18_overlapping_sweeps_send_each_member_once(product):
    # Rows: polar 90bae90384
    users = due_rows(product, 40)
    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: sweep.due(remaining=full, limit=60), range(3)))
    assert sum(counts) == 40 and sorted(sent(product)) == sorted(users)


def test_it_stops_at_four_fifths_of_its_time_and_the_next_tick_goes_on(product):
    # Rows: fault 56
    users = due_rows(product, 40)
    left = iter([60, 50, 40, 30, 20, 13, 11, 11, 11])
    first = sweep.due(remaining=lambda: next(left), limit=60)
    assert 0 < first < 40
    heard = sent(product)
    assert len(heard) == first
    assert sweep.due(remaining=full, limit=60) == 40 - first
    assert sorted(heard + sent(product)) == sorted(users)


def test_fault_56_no_partition_starves_when_time_is_always_short(product):
    users, heard = due_rows(product, 40), []
    for tick in range(12):
        product.time.below = lambda n, tick=tick: tick * 5 % n
        left = iter([60] * 6 + [11] * 40)
        sweep.due(remaining=lambda: next(left), limit=60)
        heard += sent(product)
    assert sorted(heard) == sorted(users), "it starts elsewhere each time"


def test_fault_64_a_queue_that_is_down_fails_the_tick_loudly_and_delays_by_one_push(product, monkeypatch):
    from chalicelib.gateways import queues
    due_rows(product, 5)

    def down(*_):
        raise queues.NotSent("x")

    with monkeypatch.context() as patch:
        patch.setattr(queues, "send_all", down)
        with pytest.raises(queues.NotSent):
            sweep.due(remaining=full, limit=60)
    product.time.passes(sweep.PUSH_SECONDS)
    assert sweep.due(remaining=full, limit=60) == 5


def test_it_neither_reads_nor_changes_anything_else_whatever_the_rows_hold(product):
    key = product.holder()
    product.ends(key)
    before = product.row()
    product.aws.client("dynamodb").update_item(TableName="rolekeep-local-members", Key={"user_id": {"S": ADA}, "server_id": {"S": SERVER}},
                                               UpdateExpression="SET due_at = :d", ExpressionAttributeValues={":d": {"N": "1"}})
    with product.counted() as seen:
        assert sweep.due(remaining=full, limit=60) == 1
    assert seen.http == [] and product.shown() == {GOLD}
    after = product.row()
    assert (after.requested, after.roles, after.subs, after.lease) == (before.requested, before.roles, before.subs, None)
    product.work()
    assert product.shown() == set()


def test_the_scheduled_function_runs_it(product):
    import app
    from infra.local.functions import scheduled_functions
    from infra.local.scheduler import scheduled_event
    due_rows(product, 2)
    function, = [one for one in scheduled_functions(app.app) if one.name == "due_sweep"]
    assert function.invoke(scheduled_event(function.name)) == (None, None) and len(sent(product)) == 2


def test_an_answer_that_says_part_of_a_batch_was_not_taken_is_no_success(product, monkeypatch):
    from chalicelib.gateways import queues
    monkeypatch.setattr(queues, "_client", lambda: type("Client", (), {"send_message_batch": lambda *_, **__: {"Successful": [], "Failed": [{"Id": "0"}]}})())
    with pytest.raises(queues.NotSent):
        queues.send_all("members", [({"user": ADA}, SERVER)])
