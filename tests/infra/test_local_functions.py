"""Queue functions and schedules run locally as Lambda runs them: failures come again, the rest is gone."""

import hashlib
import json
import threading
import time

import pytest
from chalice import Chalice, Rate
from chalice.app import EventSourceHandler

from infra.local import functions, pollers, scheduler

QUEUE = "rolekeep-local-members"


class Seen:
    """What the functions of `tiny_app` received, and what they shall do about it."""

    def __init__(self):
        self.batches, self.ticks, self.contexts = [], [], []
        self.answer = None
        self.middleware = 0


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def tiny_app(seen):
    app = Chalice(app_name="tiny")

    @app.middleware("all")
    def count(event, get_response):
        seen.middleware += 1
        return get_response(event)

    @app.on_sqs_message(queue=QUEUE, batch_size=10)
    def members(event):
        seen.batches.append(event.to_dict()["Records"])
        seen.contexts.append(event.context)
        return seen.answer(event) if seen.answer else None

    @app.schedule(Rate(1, unit=Rate.MINUTES))
    def due_sweep(event):
        seen.ticks.append(event.to_dict())

    return app


@pytest.fixture
def poller(tiny_app, clean_tables):
    [function] = functions.queue_functions(tiny_app)
    return pollers.Poller(function, clean_tables.client("sqs"), retry_after=0)


@pytest.fixture
def send(clean_tables):
    sqs = clean_tables.client("sqs")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    return lambda body, **more: sqs.send_message(QueueUrl=url, MessageBody=body, **more)["MessageId"]


def bodies(batch):
    return sorted(record["body"] for record in batch)


def fail(*texts):
    """A function that returns the records with these bodies as failed."""
    return lambda event: {"batchItemFailures": [
        {"itemIdentifier": record["messageId"]} for record in event.to_dict()["Records"] if record["body"] in texts]}


def waiting(aws_server, queue=QUEUE):
    sqs = aws_server.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], AttributeNames=["All"])
    return sum(int(found["Attributes"][name]) for name in (
        "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"))


def test_a_record_is_what_lambda_sends(poller, send, seen):
    message_id = send(json.dumps({"v": 1}), MessageAttributes={
        "cause": {"DataType": "String", "StringValue": "evt_1"}}, MessageGroupId="server-1")
    poller.poll_once()
    [[record]] = seen.batches
    assert record["messageId"] == message_id
    assert record["body"] == '{"v": 1}'
    assert record["receiptHandle"]
    assert record["md5OfBody"] == hashlib.md5(b'{"v": 1}').hexdigest()
    assert record["eventSource"] == "aws:sqs" and record["awsRegion"] == "us-east-1"
    assert record["eventSourceARN"] == f"arn:aws:sqs:us-east-1:000000000000:{QUEUE}"
    assert record["messageAttributes"] == {"cause": {
        "stringValue": "evt_1", "stringListValues": [], "binaryListValues": [], "dataType": "String"}}
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["attributes"]["MessageGroupId"] == "server-1"
    assert {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= set(record["attributes"])


def test_a_function_knows_how_much_time_it_has_left(poller, send, seen):
    send("a")
    poller.poll_once()
    [context] = seen.contexts
    assert 0 < context.get_remaining_time_in_millis() <= 60_000
    assert context.function_name == "members" and context.aws_request_id


def test_only_the_messages_that_failed_come_again(poller, send, seen, clean_tables):
    # Rows: fault 11
    for body in ("a", "b", "c"):
        send(body)
    seen.answer = fail("b")
    poller.poll_once()
    assert waiting(clean_tables) == 1
    seen.answer = None
    poller.poll_once()
    assert [bodies(batch) for batch in seen.batches] == [["a", "b", "c"], ["b"]]
    assert seen.batches[1][0]["attributes"]["ApproximateReceiveCount"] == "2"
    assert waiting(clean_tables) == 0


def test_after_an_exception_all_messages_come_again(poller, send, seen, clean_tables):
    for body in ("a", "b"):
        send(body)
    seen.answer = lambda event: 1 / 0
    poller.poll_once()
    assert waiting(clean_tables) == 2
    seen.answer = None
    poller.poll_once()
    assert [bodies(batch) for batch in seen.batches] == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize("failures", [[{"itemIdentifier": ""}], [{"itemIdentifier": None}], [{}], [{"id": "x"}],
                                      [{"itemIdentifier": "not-in-this-batch"}], ["x"]])
def test_a_failure_report_that_cannot_be_read_fails_the_whole_batch_as_on_lambda(
        poller, send, seen, clean_tables, failures):
    send("a")
    seen.answer = lambda event: {"batchItemFailures": failures}
    poller.poll_once()
    assert waiting(clean_tables) == 1


def test_a_message_that_fails_five_times_goes_to_the_dead_letter_queue(poller, send, seen, clean_tables):
    send("poison")
    seen.answer = fail("poison")
    for _ in range(7):
        poller.poll_once()
    assert len(seen.batches) == 5
    assert waiting(clean_tables) == 0
    assert waiting(clean_tables, f"{QUEUE}-dlq") == 1


def test_without_a_retry_time_a_failed_message_waits_for_the_visibility_timeout(tiny_app, seen, send, clean_tables):
    [function] = functions.queue_functions(tiny_app)
    as_on_aws = pollers.Poller(function, clean_tables.client("sqs"))
    send("a")
    seen.answer = fail("a")
    assert [as_on_aws.poll_once(), as_on_aws.poll_once()] == [1, 0]
    assert waiting(clean_tables) == 1


def test_running_pollers_hand_over_what_is_sent_and_stop_when_asked(tiny_app, seen, send, clean_tables):
    [running] = pollers.start_pollers(tiny_app, clean_tables.client("sqs"))
    send("a")
    deadline = time.monotonic() + 5
    while not seen.batches and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    running.ask_to_stop()
    running.join(5)
    assert bodies(seen.batches[0]) == ["a"]
    assert time.monotonic() - began < 4
    send("b")
    time.sleep(0.1)
    assert len(seen.batches) == 1


def test_two_first_calls_at_once_both_pass_through_the_middleware(tiny_app, seen, monkeypatch):
    [function] = functions.queue_functions(tiny_app)
    build = EventSourceHandler._build_middleware_handlers

    def build_slowly(*arguments, **named):
        time.sleep(0.02)
        return build(*arguments, **named)

    monkeypatch.setattr(EventSourceHandler, "_build_middleware_handlers", build_slowly)
    together = threading.Barrier(8)

    def call():
        together.wait()
        function.invoke({"Records": []})

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.middleware == len(seen.batches) == 8


def test_a_schedule_fires_again_and_again_with_the_event_of_eventbridge(tiny_app, seen):
    running = scheduler.Scheduler(tiny_app, speed=3000).start()  # one minute is 20 ms
    time.sleep(0.3)
    running.ask_to_stop()
    running.join(2)
    fired = len(seen.ticks)
    assert 5 <= fired <= 15
    assert seen.ticks[0]["source"] == "aws.events" and seen.ticks[0]["detail-type"] == "Scheduled Event"
    assert seen.ticks[0]["resources"] == ["arn:aws:events:us-east-1:000000000000:rule/due_sweep"]
    time.sleep(0.1)
    assert len(seen.ticks) == fired


@pytest.mark.parametrize(("expression", "seconds"), [
    (Rate(1, unit=Rate.MINUTES), 60), ("rate(6 hours)", 21600), (Rate(1, unit=Rate.DAYS), 86400), ("rate(5 minutes)", 300)])
def test_every_rate_is_understood(expression, seconds):
    app = Chalice(app_name="tiny")
    app.schedule(expression)(lambda event: None)
    assert [each.every for each in functions.scheduled_functions(app)] == [seconds]


def test_a_schedule_that_would_never_fire_locally_is_refused():
    app = Chalice(app_name="tiny")
    app.schedule("cron(0 3 * * ? *)")(lambda event: None)
    with pytest.raises(ValueError, match="only rate"):
        functions.scheduled_functions(app)
