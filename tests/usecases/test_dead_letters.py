"""Dead letters: looked at without being touched, given back at a limited rate, thrown away with a record; nothing is ever lost."""
import json

import pytest

from chalicelib import operate, ports
from chalicelib.gateways import queues
from tests.usecases import deaths
from tests.usecases.product import ADA, BEN, GOLD, SERVER

SECRET_LIKE = "whsec_nobody_may_read_this_0000"
POISON = json.dumps({"v": 99, "event": "evt_odd", "kind": ["?"], "secret": SECRET_LIKE, "user": "\ud800" + "x" * 500})
FOREIGN = ["not JSON " + SECRET_LIKE, json.dumps([SECRET_LIKE]), POISON, "[" * 5_000]


@pytest.fixture
def product(made):
    """Yield the product in memory."""
    return made(lambda url, headers, body: 200)


@pytest.fixture
def command(capsys):
    """Runs the command: (exit code, the lines it said)."""
    def run(*arguments):
        capsys.readouterr()
        code = operate.main(arguments)
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return run


def fail(product, body, *, queue="stripe-events", group=None):
    """A message with this body has failed five times: it is a dead letter."""
    sqs = product.aws.client("sqs")
    sqs.send_message(QueueUrl=url(product, f"{queue}-dlq"), MessageBody=body, **({"MessageGroupId": group} if group else {}))


def url(product, queue):
    return product.aws.client("sqs").get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]


def unheard(product, user=ADA, offer="gold"):
    """A purchase whose only message is a dead letter; answers the message's text."""
    product.tell(product.buys(offer, user))
    body = product.messages("stripe-events")[0]["body"]
    fail(product, body)
    return body


def acts():
    """[(data, outcome)] of what an operator has done, newest first."""
    from chalicelib.store import ledger
    return [(entry.data, entry.outcome) for entry in ledger.of("account#operator")]


def test_fault_60_given_back_they_end_as_if_they_had_never_failed_and_keep_their_text_and_group(product, command):
    body = unheard(product)
    member = json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": "sweep", "of_a_newer_version": [1.5]})
    fail(product, member, queue="members", group=SERVER)
    assert command("dlq", "redrive", "stripe-events") == (0, [{"queue": "stripe-events", "found": 1, "done": 1, "failed": 0, "left": False, "dry_run": False}])
    command("dlq", "redrive", "members")
    given, = [one for one in product.aws.queues.messages["rolekeep-local-members"].values()]
    assert (given.body, given.system) == (member, {"MessageGroupId": SERVER}) and product.aws.dead() == []
    assert body in product.aws.waiting() and product.work() == 0 and product.shown() == {GOLD}


def test_a_list_counts_and_showing_them_leaves_them_all_to_be_had_at_once(product, command):
    body = json.loads(unheard(product))
    code, (first, *_others) = command("dlq", "list")
    assert code == 0 and [one["queue"] for one in (first, *_others)] == list(queues.QUEUES)
    assert first == {"queue": "stripe-events", "dead": 1, "waiting": 0, "under_way": 0, "delayed": 0}
    for _ in range(3):
        code, (shown,) = command("dlq", "show", "stripe-events")
        assert code == 0 and shown["message"] == body and shown["at"] == int(product.time.at)
    assert command("dlq", "show", "stripe-events", shown["id"])[1] == [shown] and command("dlq", "show", "stripe-events", "none-of-that-name")[0] == 1
    assert command("dlq", "list", "paypal-events")[1] == [{"queue": "paypal-events", "dead": 0, "waiting": 0, "under_way": 0, "delayed": 0}]


def test_fault_9_what_is_no_message_of_ours_is_shown_by_its_size_alone(product, command, capsys):
    for body in FOREIGN:
        fail(product, body)
    _, shown = command("dlq", "show", "stripe-events")
    assert [one["message"] for one in shown] == [{"unreadable": len(FOREIGN[0])}, {"unreadable": len(FOREIGN[1])}, {
        "v": 99, "event": "evt_odd", "user": "?" + "x" * 99, "others": 2}, {"unreadable": 5_000}]
    assert command("dlq", "discard", "stripe-events", "--all")[0] == 0 and product.aws.dead() == []
    assert SECRET_LIKE not in json.dumps([shown, [data for data, _ in acts()]])


def test_a_dry_run_changes_nothing_and_writes_no_audit_row(product, command):
    unheard(product)
    before, ledger = product.aws.dead(), len(acts())
    for arguments in (("redrive", "stripe-events"), ("discard", "stripe-events", "--all")):
        assert command("dlq", *arguments, "--dry-run") == (0, [{"queue": "stripe-events", "found": 1, "done": 0, "failed": 0, "left": False, "dry_run": True}])
        assert product.aws.dead() == before and product.aws.waiting() == [] and len(acts()) == ledger


def test_giving_back_leaves_one_audit_row_and_throwing_away_one_for_each_with_what_it_said(product, command):
    body = json.loads(unheard(product))
    command("dlq", "redrive", "stripe-events")
    (data, outcome), *_ = acts()
    assert data == {"cause": "operator:dlq_redrive", "queue": "stripe-events", "rate": 5}
    assert outcome == {"result": "done", "found": 1, "done": 1, "failed": 0, "left": False}
    fail(product, json.dumps(body))
    fail(product, json.dumps(body))
    _, shown = command("dlq", "show", "stripe-events")
    product.time.passes(5)
    assert command("dlq", "discard", "stripe-events", shown[0]["id"]) == (0, [
        {"queue": "stripe-events", "found": 1, "done": 1, "failed": 0, "left": False, "dry_run": False}])
    (data, outcome), *_ = acts()
    assert data == {"cause": "operator:dlq_discard", "queue": "stripe-events", "id": shown[0]["id"], "sent_at": shown[0]["at"], "message": body}
    assert outcome == {"result": "done"} and [one["id"] for one in command("dlq", "show", "stripe-events")[1]] == [shown[1]["id"]]
    assert command("dlq", "discard", "stripe-events", shown[0]["id"])[0] == 1, "there is nothing of that name any more"


def test_throwing_all_away_is_asked_for_by_name_and_what_is_not_understood_is_exit_code_2(product, command):
    unheard(product)
    assert command("dlq", "discard", "stripe-events")[0] == 1 and command("dlq", "redrive", "stripe-events", "--rate", "0")[0] == 1
    assert len(product.aws.dead()) == 1
    for arguments in (["dlq"], ["dlq", "redrive"], ["dlq", "show", "sessions"], ["dlq", "redrive", "members", "--rate", "many"], ["dlq", "show", "members", "--dry-run"]):
        with pytest.raises(SystemExit) as left:
            command(*arguments)
        assert left.value.code == 2


def test_fault_60_the_rate_is_kept_and_what_there_is_no_time_for_stays_and_is_to_be_had_at_once(product, command):
    for number in range(25):
        fail(product, json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": str(number)}), queue="members")
    began = ports.wall()
    assert command("dlq", "redrive", "members", "--rate", "10")[1][0]["done"] == 25
    assert ports.wall() - began == pytest.approx(2.5)
    for number in range(400):
        fail(product, json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": str(number)}), queue="members")
    code, (said,) = command("dlq", "redrive", "members", "--rate", "1")
    assert code == 0 and said["left"] is True and 300 <= said["done"] <= 302
    assert command("dlq", "redrive", "members", "--dry-run")[1][0]["found"] == 400 - said["done"]


def test_one_that_the_queue_does_not_take_stays_where_it_is_and_the_others_go(product, command, monkeypatch):
    for number in range(3):
        fail(product, json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": str(number)}), queue="members")
    put = queues._put

    def refusing(queue, body, delay, group):
        if '"1"' in body:
            raise queues.NotSent("ServiceUnavailable")
        put(queue, body, delay, group)

    monkeypatch.setattr(queues, "_put", refusing)
    code, (said,) = command("dlq", "redrive", "members")
    assert (code, said["done"], said["failed"]) == (1, 2, 1)
    assert [json.loads(body)["cause"] for body in product.aws.dead()] == ["1"] and command("dlq", "show", "members")[1], "it is to be had again at once"


@pytest.mark.parametrize("what", ["redrive", "discard"])
def test_fault_60_12_I1_a_crash_at_any_call_loses_no_message_and_the_next_run_finishes(product, command, what):
    bodies = [json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": str(number)}) for number in range(3)]
    for body in bodies:
        fail(product, body, queue="members")
    before = product.aws.tables.snapshot(), product.aws.queues.snapshot()
    arguments = ("dlq", what, "members", *(["--all"] if what == "discard" else []))
    for nth in range(1, deaths.STEPS):
        product.aws.tables.restore(before[0])
        product.aws.queues.restore(before[1])
        if not deaths.died(lambda: command(*arguments), nth):
            break
        recorded = [json.dumps(data["message"]) for data, _ in acts() if "message" in data]
        assert set(bodies) == {*product.aws.dead(), *product.aws.waiting(), *recorded}, nth
        product.time.passes(queues.HIDDEN_SECONDS)
        assert command(*arguments)[0] == 0 and product.aws.dead() == []
        assert set(product.aws.waiting()) == (set(bodies) if what == "redrive" else set()), nth
    assert nth > 6


def test_giving_back_costs_a_receive_for_ten_and_two_calls_each(product, command):
    for number in range(20):
        fail(product, json.dumps({"v": 2, "user": BEN, "server": SERVER, "cause": str(number)}), queue="members")
    command("dlq", "list")
    with product.counted() as seen:
        command("dlq", "redrive", "members", "--rate", "50")
    assert seen.sqs() == {"ReceiveMessage": 3, "SendMessage": 20, "DeleteMessage": 20} and seen.dynamodb() == {"PutItem ledger": 1, "UpdateItem ledger": 1}
