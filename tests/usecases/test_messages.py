"""Queue messages: batches of which some fail, crashes at every call, outages while identifying, and queues that are down."""
import json

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError

from infra.local.functions import queue_functions
from tests.usecases.product import ADA, BEN, GOLD, SERVER, SILVER, key_of

LEASE = 120


def batch(*bodies):
    """A Lambda event of SQS records."""
    return {"Records": [{"messageId": f"m{n}", "receiptHandle": "r", "body": body if isinstance(body, str) else json.dumps(body), "attributes": {},
                         "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:0:q", "awsRegion": "us-east-1"}
                        for n, body in enumerate(bodies)]}


def function(name):
    """A queue function of the app as Lambda calls it: batch -> ids that failed. Nobody stops it."""
    import app
    found = next(one for one in queue_functions(app.app) if one.name == name)

    def invoke(event):
        result, problem = found.invoke(event)
        assert problem is None, problem
        return [one["itemIdentifier"] for one in result["batchItemFailures"]]

    return invoke


def look(user=ADA, **more):
    return {"v": 1, "user": user, "server": SERVER, "cause": "test", **more}


def told(key, event="evt_1Test", **more):
    return {"v": 2, "event": event, "type": "customer.subscription.updated", "account": "operator", "kind": "subscription", "id": key, **more}


# Batches


def test_fault_11_T9_of_a_batch_of_ten_the_poisoned_one_fails_and_nine_are_done_once(product):
    ada, ben = product.holder(user=ADA), product.holder(user=BEN)
    before = product.row(ADA).requested, product.row(BEN).requested
    invoke = function("stripe_events")
    records = [told(ada), told(ben), told(ada), "poison", told(ben), told(ada), told(ben), told(ada), told(ben), told(ada)]
    assert invoke(batch(*records)) == ["m3"]
    assert (product.row(ADA).requested, product.row(BEN).requested) == (before[0] + 5, before[1] + 4)
    assert invoke(batch("poison")) == ["m0"], "it comes again alone, and again fails alone"


POISON = ["", "null", "[]", "{}", "1", '"x"', "not JSON", "[" * 100_000, '{"v":0}', '{"v":2}', '{"v":"1"}', '{"v":[1]}', '{"v":null}', '{"v":1}', json.dumps(look("1")), json.dumps(look("1#2")),
          json.dumps(look(None)), json.dumps(look(["x"])), json.dumps(look("٩" * 18)), json.dumps(look(server="")), json.dumps(told("sub_1#x")), json.dumps(told(None)),
          json.dumps(told("sub_1", event="")), json.dumps(told("sub_1", account="acct_1|x")), json.dumps({"v": 1, "user": ADA}), "\\ud800", '{"v":1,"user":"\\ud800"}']


@pytest.mark.parametrize("name", ["stripe_events", "members"])
def test_fault_9_61_what_cannot_be_read_fails_alone_without_touching_anything(product, name):
    with product.counted() as seen:
        assert function(name)(batch(*POISON[:10])) == [f"m{n}" for n in range(10)]
        assert function(name)(batch(*POISON[10:])) == [f"m{n}" for n in range(len(POISON) - 10)]
    assert (seen.aws, seen.http) == ([], [])


def test_a_message_of_a_newer_producer_with_more_fields_is_understood(product):
    # Rows: fault 61
    product.holder()
    assert function("members")(batch({**look(), "invented_later": {"a": 1}})) == []


def test_T10_a_batch_without_time_starts_nothing_that_it_could_not_finish(product):
    from chalicelib import worker
    key, begun = product.holder(), []
    left = iter([60, 60, 40, 40, 29, 29, 29])
    records = [{"messageId": str(n), "body": json.dumps(told(key, f"evt_1N{n}"))} for n in range(5)]
    answer = worker.run(records, handle=lambda message, deadline: begun.append(message["event"]), remaining=lambda: next(left))
    assert begun == ["evt_1N0", "evt_1N1"] and [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["2", "3", "4"]


def test_a_worker_never_waits_in_its_function(product, monkeypatch):
    # Rows: T37
    import time
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))
    product.order("discord", method="PUT", path="/roles/", do="answer", status=429, headers={"Retry-After": "60"}, body={"retry_after": 60.0, "global": False})
    product.tell(product.buys())
    assert product.work() == 0 and product.row().due_at > product.time.at + 59


# Failing


class Breaks:
    """The n-th call to AWS or over HTTP made from now on raises, before it took effect or after."""

    def __init__(self, product, monkeypatch, number, after):
        self.left, self.after, self.label = number, after, None
        make = BaseClient._make_api_call
        monkeypatch.setattr(BaseClient, "_make_api_call", lambda client, operation, params: self._through(
            f"{operation} {params.get('TableName', '')}", lambda: make(client, operation, params)))
        for wire in product.wires.values():
            monkeypatch.setattr(wire, "handle", self._wrapped(wire.handle))

    def _wrapped(self, handle):
        return lambda method, target, headers, body: self._through(f"{method} {target}", lambda: handle(method, target, headers, body))

    def _through(self, label, call):
        self.left -= 1
        if self.left:
            return call()
        self.label = label
        if self.after:
            call()
        raise Crash(label)


class Crash(BaseException):
    """The function has died: no `except Exception` may go on."""


def dies_everywhere(product, monkeypatch, work, judge, begin):
    """`work` has died at its first call, before and after it, then at its second and so on; `judge` was right after each redelivery."""
    number, ended = 0, False
    while not ended:
        number += 1
        for after in (False, True):
            product.aws.reset()
            product.discord.state["guilds"].clear()
            product.furnish()
            subject = begin()
            with monkeypatch.context() as patch:
                breaks = Breaks(product, patch, number, after)
                try:
                    work(subject)
                    ended = True
                except Crash:
                    pass
            product.time.passes(LEASE + 241)   # the message comes again when its visibility time-out is over
            assert function("stripe_events")(batch(told(subject))) == []
            product.time.passes(LEASE + 1)
            product.sweep()
            judge(number, after, breaks.label)
    return number - 1


def test_fault_12_15_T3_T4_a_function_that_dies_at_any_call_of_a_purchase_is_made_good_by_redelivery(product, monkeypatch):
    def judge(number, after, label):
        row = product.row()
        assert product.shown() == {GOLD} and row.roles[GOLD].state == "held" and row.lease is None and row.requested == row.done, (number, after, label)

    calls = dies_everywhere(product, monkeypatch, lambda key: function("stripe_events")(batch(told(key))), judge, product.buys)
    assert calls == 13, "every call of the way was the last one once"


def test_fault_12_T4_a_function_that_dies_at_any_call_of_an_end_takes_the_role_once_redelivered(product, monkeypatch):
    def begin():
        key = product.holder()
        product.ends(key)
        return key

    def judge(number, after, label):
        row = product.row()
        assert product.shown() == set() and row.roles[GOLD].state == "absent" and row.lease is None and row.requested == row.done, (number, after, label)

    assert dies_everywhere(product, monkeypatch, lambda key: function("stripe_events")(batch(told(key))), judge, begin) == 9


@pytest.mark.parametrize("broken", ["UpdateItem", "BatchGetItem", "PutItem", "GetItem"])
def test_fault_17_T2_a_message_that_failed_on_dynamodb_is_returned_and_done_the_second_time(product, monkeypatch, broken):
    key = product.buys()
    make = BaseClient._make_api_call

    def throttled(client, operation, params):
        if operation == broken:
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "x"}}, operation)
        return make(client, operation, params)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", throttled)
        assert function("stripe_events")(batch(told(key))) == ["m0"]
    product.time.passes(360)
    assert function("stripe_events")(batch(told(key))) == [] and product.shown() == {GOLD}


# Queues that are down


@pytest.mark.parametrize("error", [EndpointConnectionError(endpoint_url="x"), ClientError({"Error": {"Code": "OverLimit", "Message": "canary"}}, "SendMessage"),
                                   ClientError({"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue", "Message": "canary"}}, "SendMessage")])
def test_fault_64_T6_a_webhook_that_cannot_be_queued_is_answered_5xx_so_that_it_comes_again(product, call, monkeypatch, error):
    from infra.local.sandbox.stripe_webhooks import signature
    from tests.usecases.product import SECRET
    body = json.dumps(product.events(product.buys())[-1]).encode()
    header = signature(body, (SECRET,), product.time.at)
    make = BaseClient._make_api_call

    def down(client, operation, params):
        if operation == "SendMessage":
            raise error
        return make(client, operation, params)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", down)
        answer = call("POST", "/webhooks/stripe/operator", {"Stripe-Signature": header, "Content-Type": "application/json"}, body)
    assert answer.status >= 500 and "canary" not in answer.text and product.messages("stripe-events") == []
    assert call("POST", "/webhooks/stripe/operator", {"Stripe-Signature": header, "Content-Type": "application/json"}, body).status == 200
    assert product.messages("stripe-events")


def test_fault_25_messages_are_thin_ascii_json_whatever_the_event_holds(product):
    event = product.events(product.buys())[-1]
    product.take_in({**event, "note": "\ud83d\ude00 \uffff ä" + "x" * 200_000, "id": "evt_" + "1" * 250})
    (record,) = product.messages("stripe-events")
    assert len(record["body"]) < 4_096 and record["body"].isascii() and set(json.loads(record["body"])) == {"v", "event", "type", "account", "kind", "id"}


def test_fault_61_a_message_of_the_version_before_is_understood(product):
    key = product.buys()
    before = {"v": 1, "event": "evt_1Before", "type": "customer.subscription.updated", "account": "operator", "subscription": key}
    assert function("stripe_events")(batch(before)) == [] and product.shown() == {GOLD}


# Identifying


def test_while_stripe_is_down_a_new_subscription_waits_as_one_delayed_message_and_nothing_fails(product):
    key = product.buys()
    product.order("stripe", method="GET", path="/v1/subscriptions/", do="answer", status=503, body="<html>", times=None)
    invoke = function("stripe_events")
    assert invoke(batch(told(key))) == []
    assert product.delayed("stripe-events") == 1 and product.row().requested == 0 and product.messages("stripe-events-dlq") == []


@pytest.mark.parametrize("do", [{"do": "answer", "status": 401, "body": {"error": {}}}, {"do": "answer", "status": 429, "body": {}}, {"do": "close"}, {"do": "timeout"},
                                {"do": "answer", "status": 200, "body": "<html>"}])
def test_fault_26_any_outage_while_identifying_waits_longer_each_time_and_is_never_given_up(product, monkeypatch, do):
    from chalicelib.gateways import queues
    sent = []
    monkeypatch.setattr(queues, "send", lambda queue, message, delay=0, group=None: sent.append((message, delay)))
    product.order("stripe", method="GET", path="/v1/subscriptions/", times=None, **do)
    message = told("sub_1Later")
    for _ in range(30):
        assert function("stripe_events")(batch(message)) == []
        message = sent[-1][0]
    delays = [delay for _, delay in sent]
    assert len(delays) == 30 and delays == sorted(delays) and delays[0] <= 10 and delays[-1] == 900
    assert message["id"] == "sub_1Later" and "parked" not in str(product.aws.client("dynamodb").scan(TableName="rolekeep-local-ledger")["Items"])


def test_I1_fault_54_a_subscription_that_stripe_does_not_know_for_hours_is_parked_and_leaves_the_queue(product, monkeypatch):
    from chalicelib.gateways import queues
    from chalicelib.store import ledger
    sent = []
    monkeypatch.setattr(queues, "send", lambda queue, message, delay=0, group=None: sent.append((message, delay)))
    message = told("sub_1Nowhere")
    for _ in range(40):
        function("stripe_events")(batch(message))
        if not sent:
            break
        message, delay = sent.pop()
    assert [entry.data["why"] for entry in ledger.parked("operator")] == ["unknown_subscription"] and message["tries"] >= 8


def test_a_wait_that_cannot_be_queued_leaves_the_message_in_the_queue(product, monkeypatch):
    from chalicelib.gateways import queues
    key = product.buys()
    product.order("stripe", method="GET", path="/v1/subscriptions/", do="answer", status=503, times=None)

    def down(*_, **__):
        raise queues.NotSent("x")

    monkeypatch.setattr(queues, "send", down)
    assert function("stripe_events")(batch(told(key))) == ["m0"]


def test_T5_a_link_written_before_a_crash_leads_the_redelivery_to_the_same_member(product):
    from chalicelib.store import links
    key = product.buys()
    product.tell(key)
    product.work()
    assert links.of_subscription(key_of(key)).user == ADA
    with product.counted() as seen:
        product.tell(key)
        product.work()
    assert seen.dynamodb()["GetItem links"] == 1 and "PutItem links" not in seen.dynamodb()


def test_an_event_of_a_subscription_of_two_lines_looks_at_the_one_member(product):
    product.tell(product.buys("both"))
    product.work()
    assert product.shown() == {GOLD, SILVER}
