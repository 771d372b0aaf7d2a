"""The embedded AWS: what it holds, and that its state survives a stop, a crash of the runner and a second start."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from infra.local import aws

PUT_AND_BE_KILLED = """
import os, signal, sys
from infra.local import aws
server = aws.EmbeddedAws(port=int(sys.argv[2]), state_folder=sys.argv[1]).start()
server.client("dynamodb").put_item(TableName="rolekeep-local-links", Item={"id": {"S": "kept"}})
os.kill(os.getpid(), signal.SIGKILL)
"""


def ids_in_links(server):
    return [item["id"]["S"] for item in server.client("dynamodb").scan(TableName="rolekeep-local-links")["Items"]]


def test_every_declared_table_and_queue_exists_and_creating_them_again_keeps_their_contents(clean_tables):
    clean_tables.client("dynamodb").put_item(TableName="rolekeep-local-links", Item={"id": {"S": "one"}})
    clean_tables.create_resources()
    declared = [resource["Properties"] for resource in aws.resources("local").values()]
    assert set(clean_tables.client("dynamodb").list_tables()["TableNames"]) == {
        each["TableName"] for each in declared if "TableName" in each}
    assert {url.rsplit("/", 1)[1] for url in clean_tables.client("sqs").list_queues()["QueueUrls"]} == {
        each["QueueName"] for each in declared if "QueueName" in each}
    assert ids_in_links(clean_tables) == ["one"]


def test_a_clean_start_leaves_nothing_of_the_test_before(clean_tables):
    assert ids_in_links(clean_tables) == []
    clean_tables.client("dynamodb").put_item(TableName="rolekeep-local-links", Item={"id": {"S": "two"}})
    clean_tables.reset()
    assert ids_in_links(clean_tables) == []


def test_each_source_queue_hands_a_message_to_its_dead_letter_queue_after_five_receipts(clean_tables):
    sqs = clean_tables.client("sqs")
    for name in ("stripe-events", "members"):
        url = sqs.get_queue_url(QueueName=f"rolekeep-local-{name}")["QueueUrl"]
        policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
                            ["Attributes"]["RedrivePolicy"])
        assert policy["deadLetterTargetArn"].endswith(f":rolekeep-local-{name}-dlq")
        assert policy["maxReceiveCount"] == 5


def test_state_survives_a_stop_and_a_start(tmp_path):
    port = aws.free_port()  # the same one both times: MiniStack finds a queue by its URL, which names the port
    first = aws.EmbeddedAws(port=port, state_folder=tmp_path).start()
    try:
        first.client("dynamodb").put_item(TableName="rolekeep-local-links", Item={"id": {"S": "kept"}})
        url = first.client("sqs").get_queue_url(QueueName="rolekeep-local-members")["QueueUrl"]
        first.client("sqs").send_message(QueueUrl=url, MessageBody="waiting")
    finally:
        first.stop()
    second = aws.EmbeddedAws(port=port, state_folder=tmp_path).start()
    try:
        assert ids_in_links(second) == ["kept"]
        url = second.client("sqs").get_queue_url(QueueName="rolekeep-local-members")["QueueUrl"]
        received = second.client("sqs").receive_message(QueueUrl=url)
        assert [message["Body"] for message in received["Messages"]] == ["waiting"]
    finally:
        second.stop()


def test_state_survives_a_runner_that_is_killed(tmp_path):
    port = aws.free_port()
    run = subprocess.run([sys.executable, "-c", PUT_AND_BE_KILLED, str(tmp_path), str(port)], cwd=aws.ROOT)
    assert run.returncode == -signal.SIGKILL
    again = aws.EmbeddedAws(port=port, state_folder=tmp_path).start()
    try:
        assert ids_in_links(again) == ["kept"]
    finally:
        again.stop()


def test_a_taken_port_is_named():
    with contextlib.closing(socket.socket()) as other:
        other.bind((aws.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(aws.CannotStart, match=f"Port {port} .*already in use"):
            aws.EmbeddedAws(port=port).start()


def test_two_never_share_one_state_folder(tmp_path):
    first = aws.EmbeddedAws(state_folder=tmp_path).start()
    try:
        with pytest.raises(aws.CannotStart, match="still uses"):
            aws.EmbeddedAws(state_folder=tmp_path).start(timeout=0.2)
    finally:
        first.stop()


def test_no_profile_or_credential_of_the_person_who_runs_this_is_ever_used(monkeypatch):
    monkeypatch.setattr(os, "environ", {"AWS_PROFILE": "company", "AWS_SESSION_TOKEN": "theirs", "STAGE": "prod"})
    aws.use("http://127.0.0.1:1", "local")
    assert "AWS_PROFILE" not in os.environ and "AWS_SESSION_TOKEN" not in os.environ
    assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == os.environ["AWS_CONFIG_FILE"] == os.devnull
    assert os.environ["STAGE"] == "local"
