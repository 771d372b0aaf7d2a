"""The in-memory SQS answers as the embedded AWS does, as far as no time has to pass; time is tested on the world's clock.

Known differences: order (Amazon promises none; the world hands out what became visible first), no long polling, no FIFO, and a
receipt whose message was deleted, or received again since, deletes nothing (the embedded one refuses it, or deletes).
"""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local import aws
from tests.worlds.seam import installed
from tests.worlds.sqs import Queues


class Queue:
    """One of the two implementations with an empty queue `cases`, visibility 60 s, dead letters after two receives."""

    def __init__(self, client):
        self.client = client
        dead = client.create_queue(QueueName="cases-dlq")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.urls = {"cases-dlq": dead, "cases": client.create_queue(QueueName="cases", Attributes={
            "VisibilityTimeout": "60", "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})},
        )["QueueUrl"]}

    def call(self, operation, queue="cases", **params):
        answer = getattr(self.client, operation)(QueueUrl=self.urls[queue], **params)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    def send(self, body, **params):
        return self.call("send_message", MessageBody=body, **params)["MessageId"]

    def receive(self, queue="cases", **params):
        return self.call("receive_message", queue, MaxNumberOfMessages=10, AttributeNames=["All"], **params).get("Messages", [])

    def numbers(self):
        found = self.call("get_queue_attributes", AttributeNames=["All"])["Attributes"]
        return tuple(int(found[f"ApproximateNumberOfMessages{which}"]) for which in ("", "NotVisible", "Delayed"))


@pytest.fixture
def clock():
    return [1_000]


@pytest.fixture
def world(clock):
    client = boto3.session.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name=aws.REGION).client("sqs")
    with installed(Queues(now=lambda: clock[0])):
        yield Queue(client)


@pytest.fixture(params=["in memory", "embedded"])
def queue(request):
    if request.param == "in memory":
        yield request.getfixturevalue("world")
        return
    queue = Queue(request.getfixturevalue("embedded_aws").client("sqs"))
    yield queue
    for url in queue.urls.values():
        queue.client.delete_queue(QueueUrl=url)


def test_a_message_is_received_once_until_it_is_deleted(queue):
    sent = queue.send("hello", MessageGroupId="server")
    assert queue.numbers() == (1, 0, 0)
    (message,) = queue.receive()
    assert (message["MessageId"], message["Body"]) == (sent, "hello")
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert queue.receive() == [] and queue.numbers() == (0, 1, 0)
    queue.call("delete_message", ReceiptHandle=message["ReceiptHandle"])
    assert queue.numbers() == (0, 0, 0)


def test_a_failed_message_comes_again_and_then_goes_to_the_dead_letters(queue):
    queue.send("poison")
    for receive in (1, 2):
        (message,) = queue.receive()
        assert message["Attributes"]["ApproximateReceiveCount"] == str(receive)
        queue.call("change_message_visibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    assert queue.receive() == [] and queue.numbers() == (0, 0, 0)
    (message,) = queue.receive("cases-dlq")
    assert message["Body"] == "poison"


def test_batches_answer_entry_by_entry(queue):
    sent = queue.call("send_message_batch", Entries=[
        {"Id": "a", "MessageBody": "one"}, {"Id": "b", "MessageBody": "two", "DelaySeconds": 900}])
    assert [one["Id"] for one in sent["Successful"]] == ["a", "b"] and not sent.get("Failed")
    assert queue.numbers() == (1, 0, 1)
    (message,) = queue.receive()
    deleted = queue.call("delete_message_batch", Entries=[{"Id": "x", "ReceiptHandle": message["ReceiptHandle"]}])
    assert deleted["Successful"] == [{"Id": "x"}] and queue.numbers() == (0, 0, 1)


@pytest.mark.parametrize("operation, params, code", [
    ("send_message_batch", {"Entries": []}, "EmptyBatchRequest"),
    ("send_message_batch", {"Entries": [{"Id": str(n), "MessageBody": "x"} for n in range(11)]}, "TooManyEntriesInBatchRequest"),
    ("send_message_batch", {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2}, "BatchEntryIdsNotDistinct"),
    ("send_message", {"MessageBody": "x" * (1024 * 1024 + 1)}, "InvalidParameterValue"),
    ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
    ("delete_message", {"ReceiptHandle": "none-of-ours"}, "ReceiptHandleIsInvalid"),
])
def test_what_makes_no_sense_is_refused(queue, operation, params, code):
    with pytest.raises(ClientError, match=code):
        queue.call(operation, **params)


def test_an_unknown_queue_is_said_to_be_missing(queue):
    with pytest.raises(queue.client.exceptions.QueueDoesNotExist):
        queue.client.get_queue_url(QueueName="no-such-queue")


def test_time_brings_back_what_nobody_deleted_and_delivers_what_was_delayed(world, clock):
    world.send("now")
    world.send("later", DelaySeconds=30)
    (first,) = world.receive()
    clock[0] += 30
    assert [one["Body"] for one in world.receive()] == ["later"]
    clock[0] += 30
    (again,) = world.receive()
    assert (again["Body"], again["Attributes"]["ApproximateReceiveCount"]) == ("now", "2")
    world.call("delete_message", ReceiptHandle=first["ReceiptHandle"])
    clock[0] += 60
    assert [one["Body"] for one in world.receive()] == ["later"]    # "now" was received twice: it is buried
    clock[0] += 4 * 86_400
    assert world.receive() == [] and world.receive("cases-dlq") == []


def test_a_restored_world_holds_the_messages_of_its_snapshot():
    queues = Queues.from_resources(aws.resources("local"), now=lambda: 5)
    url = queues.call("GetQueueUrl", {"QueueName": "rolekeep-local-members"})["QueueUrl"]
    empty, before = queues.snapshot(), queues.fingerprint()
    queues.call("SendMessage", {"QueueUrl": url, "MessageBody": "x"})
    assert queues.fingerprint() != before and queues.queues["rolekeep-local-members"].most_receives == 5
    queues.restore(empty)
    assert queues.fingerprint() == before and not queues.calls
