"""The operator's command: JSON lines, exit codes, an audit row for each act, nothing changed by a dry run."""
import json
import os
import subprocess
import sys

import pytest

from chalicelib import operate
from infra.local import aws
from tests.usecases.product import ADA, GOLD, SERVER, key_of
from tests.usecases.shop import OLGA, OTTO, Shop, parked

A = "acct_1ShopA"


@pytest.fixture
def command(product, capsys):
    """Runs the command: (exit code, the lines it said)."""
    def run(*arguments):
        capsys.readouterr()
        code = operate.main(arguments)
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"service":"rolekeep"' not in line]
    return run


def rows(product):
    """Everything in the tables that a command might change."""
    client = product.aws.client("dynamodb")
    return [client.scan(TableName=f"rolekeep-local-{table}", ConsistentRead=True)["Items"] for table in ("servers", "ledger", "links", "members")]


def test_connect_says_what_is_so_now_and_a_dry_run_changes_nothing(product, command):
    Shop(product, A)
    before = rows(product)
    assert command("connect", SERVER, A, "--owner", OLGA, "--dry-run") == (0, [{"account": A, "server": SERVER, "owner": OLGA, "before": None, "dry_run": True}])
    assert rows(product) == before
    code, (said,) = command("connect", SERVER, A, "--owner", OLGA)
    assert code == 0 and said["state"] == "connected" and said["servers"] == [SERVER] and said["dry_run"] is False
    assert command("accounts")[1] == [{"account": A, "owner": OLGA, "servers": [SERVER], "state": "connected", "since": said["since"], "why": "connected"}]


def test_a_refusal_is_a_problem_in_one_line_and_exit_code_1(product, command):
    Shop(product, A, type="express")
    code, (said,) = command("connect", SERVER, A, "--owner", OLGA)
    assert code == 1 and said["type"].endswith("account-type") and said["next"]
    assert command("connect", "1", A, "--owner", OLGA)[0] == 1


def test_C8_another_owner_is_refused_and_a_transfer_is_asked_for_by_name(product, command):
    Shop(product, A)
    assert command("connect", SERVER, A, "--owner", OLGA)[0] == 0
    assert command("connect", SERVER, A, "--owner", OTTO)[0] == 1
    code, (said,) = command("connect", SERVER, A, "--owner", OTTO, "--transfer")
    assert code == 0 and said["owner"] == OTTO


@pytest.mark.parametrize("arguments", [[], ["connect"], ["connect", SERVER, A], ["parked"], ["parked", "drop"], ["strip", "everybody"], ["accounts", "--dry"]])
def test_what_is_not_understood_is_exit_code_2(product, command, arguments):
    with pytest.raises(SystemExit) as left:
        command(*arguments)
    assert left.value.code == 2


def test_parked_rows_are_listed_and_released_and_a_dry_run_only_counts(product, command):
    from chalicelib.store import ledger, links
    key = product.buys()
    intent, = [row for row in rows(product)[2] if row["id"]["S"].startswith("intent:")]
    product.aws.client("dynamodb").delete_item(TableName="rolekeep-local-links", Key={"id": intent["id"]})
    product.tell(key)
    product.work()
    code, (said,) = command("parked", "list")
    assert code == 0 and (said["account"], said["id"], said["why"]) == ("operator", f"unknown_link:{key}", "unknown_link")
    assert command("parked", "list", "--account", A) == (0, [])
    assert command("parked", "release") == (0, [{"looked": 1, "released": 0, "failed": 0, "left": False, "dry_run": False}])
    links.link_subscription(key_of(key), user=ADA, server=SERVER, offer="gold", account="operator", now=1)
    before = rows(product)
    assert command("parked", "release", "--dry-run")[1][0]["released"] == 1 and command("parked", "release", said["id"], "--dry-run")[1] == [{"released": 1, "dry_run": True}]
    assert rows(product) == before and product.messages("stripe-events") == []
    assert command("parked", "release", said["id"]) == (0, [{"released": 1, "dry_run": False}])
    product.work()
    assert product.shown() == {GOLD} and parked("operator") == []
    act = ledger.of("account#operator")[0]
    assert act.data == {"cause": "operator:release", "parked": said["id"]} and act.outcome == {"result": "done"}
    assert command("parked", "release", said["id"])[0] == 1, "there is nothing of that name any more"


def test_it_runs_from_a_shell_with_nothing_but_the_stages_environment_and_logs_go_elsewhere(product):
    from chalicelib.store import ledger
    ledger.park(account="operator", row_id="unknown_link:broken", at=1, data={"why": "unknown_link"})
    done = subprocess.run([sys.executable, "-m", "chalicelib.operate", "parked", "release"], cwd=aws.ROOT, env=dict(os.environ), text=True, capture_output=True, timeout=60)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"looked": 1, "released": 0, "failed": 1, "left": False, "dry_run": False}), done.stderr
    assert "parked_failed" in done.stderr


def test_fault_60_dead_letters_are_shown_given_back_and_thrown_away_in_the_embedded_aws_too(product, command):
    product.tell(product.buys())
    body = product.messages("stripe-events")[0]["body"]
    sqs = product.aws.client("sqs")
    url = sqs.get_queue_url(QueueName="rolekeep-local-stripe-events-dlq")["QueueUrl"]
    for text in (body, "poison"):
        sqs.send_message(QueueUrl=url, MessageBody=text)
    assert command("dlq", "list", "stripe-events")[1][0]["dead"] == 2
    for _ in range(2):
        _, shown = command("dlq", "show", "stripe-events")
        assert sorted(map(str, (one["message"] for one in shown))) == sorted(map(str, (json.loads(body), {"unreadable": 6})))
    poison = next(one["id"] for one in shown if "unreadable" in one["message"])
    assert command("dlq", "discard", "stripe-events", poison)[0] == 0
    assert command("dlq", "redrive", "stripe-events", "--rate", "50") == (0, [
        {"queue": "stripe-events", "found": 1, "done": 1, "failed": 0, "left": False, "dry_run": False}])
    assert command("dlq", "list", "stripe-events")[1][0]["dead"] == 0 and product.work() == 0 and product.shown() == {GOLD}
