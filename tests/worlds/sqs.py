"""A small SQS in memory: standard queues on a clock that is given, at the same seam as the DynamoDB world.

    world = Queues.from_resources(aws.resources("local"), now=clock)
    with installed(tables, world):
        ...

At least once: a message that nobody deletes is visible again after its time-out, with its count of receives; after
`maxReceiveCount` it is in the dead-letter queue. Messages come in the order in which they became visible (Amazon promises
none); ids and receipt handles are numbers, so that runs repeat exactly.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace

from tests.worlds.seam import Failure

LARGEST = 1024 * 1024
_ACCOUNT, _REGION = "000000000000", "us-east-1"
_OK = {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}
_OLD = "AWS.SimpleQueueService."     # the codes that SQS has used since its query protocol


@dataclass(frozen=True)
class Message:
    """A message in a queue; `visible_at` and `sent_at` on the world's clock."""
    id: str
    body: str
    sent_at: float
    visible_at: float
    attributes: dict = field(default_factory=dict)
    system: dict = field(default_factory=dict)
    receives: int = 0
    first_at: float = 0
    receipt: str | None = None


@dataclass(frozen=True)
class _Queue:
    name: str
    visibility: int = 30
    delay: int = 0
    retention: int = 345_600
    most_receives: int | None = None
    dead_letters: str | None = None


class Queues:
    """`messages` {queue name: {message id: Message}}; `calls` counts round trips by operation."""

    service = "sqs"

    def __init__(self, *, now=lambda: 0):
        self.now, self.queues, self.messages, self.calls, self.made = now, {}, {}, Counter(), 0

    @classmethod
    def from_resources(cls, resources, *, now=lambda: 0):
        """A world with every queue of CloudFormation resources: {logical id: {"Type", "Properties"}}."""
        world = cls(now=now)
        for one in resources.values():
            if one["Type"] == "AWS::SQS::Queue":
                properties = one["Properties"]
                policy = dict(properties.get("RedrivePolicy") or {})
                if policy:
                    logical_id = policy["deadLetterTargetArn"]["Fn::GetAtt"][0]
                    policy["deadLetterTargetArn"] = _arn(resources[logical_id]["Properties"]["QueueName"])
                attributes = {name: str(value) for name, value in properties.items() if isinstance(value, int)}
                world.call("CreateQueue", {"QueueName": properties["QueueName"],
                                           "Attributes": attributes | {"RedrivePolicy": json.dumps(policy)}})
        world.calls.clear()
        return world

    def call(self, operation, params):
        """The answer to one API call, as botocore's clients return it; Failure with the service's error code."""
        self.calls[operation] += 1
        answer = getattr(self, "_" + operation, self._unknown)(params) or {}
        return answer | {"ResponseMetadata": _OK.copy()}

    def snapshot(self):
        """Every message, to be given to `restore` any number of times."""
        return {name: dict(inner) for name, inner in self.messages.items()}, self.made

    def restore(self, snapshot):
        """The messages are those of the snapshot again; call counts begin at zero."""
        messages, self.made = snapshot
        self.messages = {name: dict(inner) for name, inner in messages.items()}
        self.calls.clear()

    def fingerprint(self):
        """A hash of all messages; equal contents give equal ones within one process."""
        return hash(tuple((name, one.id, one.body, one.visible_at, one.receives)
                          for name, inner in self.messages.items() for one in inner.values()))

    def _unknown(self, params):
        raise Failure("InvalidAction", "this operation is not part of the world")

    def _queue(self, params):
        name = params["QueueUrl"].rsplit("/", 1)[1]
        if name not in self.queues:
            raise _no_queue()
        queue, messages = self.queues[name], self.messages[name]
        for one in [one for one in messages.values() if one.sent_at + queue.retention <= self.now()]:
            del messages[one.id]
        return queue, messages

    def _CreateQueue(self, params):
        name, given = params["QueueName"], params.get("Attributes") or {}
        policy = json.loads(given.get("RedrivePolicy") or "{}")
        self.queues[name] = _Queue(
            name, visibility=int(given.get("VisibilityTimeout", 30)), delay=int(given.get("DelaySeconds", 0)),
            retention=int(given.get("MessageRetentionPeriod", 345_600)),
            most_receives=int(policy["maxReceiveCount"]) if policy else None,
            dead_letters=policy["deadLetterTargetArn"].rsplit(":", 1)[1] if policy else None)
        self.messages.setdefault(name, {})
        return {"QueueUrl": _url(name)}

    def _GetQueueUrl(self, params):
        if params["QueueName"] not in self.queues:
            raise _no_queue()
        return {"QueueUrl": _url(params["QueueName"])}

    def _GetQueueAttributes(self, params):
        queue, messages = self._queue(params)
        now = self.now()
        waiting = [one for one in messages.values() if one.visible_at > now]
        flying = [one for one in waiting if one.receives]
        numbers = {"ApproximateNumberOfMessages": len(messages) - len(waiting),
                   "ApproximateNumberOfMessagesNotVisible": len(flying),
                   "ApproximateNumberOfMessagesDelayed": len(waiting) - len(flying),
                   "VisibilityTimeout": queue.visibility, "MessageRetentionPeriod": queue.retention,
                   "QueueArn": _arn(queue.name)}
        wanted = params.get("AttributeNames") or ()
        return {"Attributes": {name: str(value) for name, value in numbers.items() if "All" in wanted or name in wanted}}

    def _SendMessage(self, params):
        queue, messages = self._queue(params)
        body, delay = params["MessageBody"], params.get("DelaySeconds")
        if not body:
            raise Failure("MissingParameter", "The request must contain the parameter MessageBody.")
        if len(body.encode()) > LARGEST:
            raise Failure("InvalidParameterValue", f"One or more parameters are invalid. Reason: Message must be shorter "
                                                   f"than {LARGEST} bytes.")
        if not 0 <= (delay or 0) <= 900:
            raise Failure("InvalidParameterValue", f"Value {delay} for parameter DelaySeconds is invalid.")
        self.made += 1
        now = self.now()
        group = {"MessageGroupId": params["MessageGroupId"]} if params.get("MessageGroupId") else {}
        one = Message(f"message-{self.made}", body, now, now + (queue.delay if delay is None else delay),
                      dict(params.get("MessageAttributes") or {}), group)
        messages[one.id] = one
        return {"MessageId": one.id, "MD5OfMessageBody": _md5(body)}

    def _SendMessageBatch(self, params):
        return self._batch(params, self._SendMessage)

    def _DeleteMessageBatch(self, params):
        return self._batch(params, self._DeleteMessage)

    def _batch(self, params, one):
        self._queue(params)
        entries = params["Entries"]
        if not entries:
            raise _refused("EmptyBatchRequest", "The batch request doesn't contain any entries.")
        if len(entries) > 10:
            raise _refused("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.")
        if len({entry["Id"] for entry in entries}) != len(entries):
            raise _refused("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
        done, failed = [], []
        for entry in entries:
            try:
                done.append({"Id": entry["Id"], **(one({"QueueUrl": params["QueueUrl"], **entry}) or {})})
            except Failure as failure:
                failed.append({"Id": entry["Id"], "Code": failure.code, "Message": failure.message, "SenderFault": True})
        return {"Successful": done, **({"Failed": failed} if failed else {})}

    def _ReceiveMessage(self, params):
        queue, messages = self._queue(params)
        most, now = params.get("MaxNumberOfMessages") or 1, self.now()
        if not 1 <= most <= 10:
            raise Failure("InvalidParameterValue", f"Value {most} for parameter MaxNumberOfMessages is invalid. Reason: "
                                                   "Must be between 1 and 10, if provided.")
        hidden = params.get("VisibilityTimeout")
        received = []
        for one in sorted(messages.values(), key=lambda one: one.visible_at):
            if one.visible_at > now or len(received) == most:
                break
            if queue.most_receives and one.receives >= queue.most_receives:
                self._bury(queue, messages.pop(one.id))
                continue
            taken = replace(one, receives=one.receives + 1, receipt=f"{one.id}#{one.receives + 1}",
                            visible_at=now + (queue.visibility if hidden is None else hidden),
                            first_at=one.first_at or now)
            messages[one.id] = taken
            received.append(_delivered(taken))
        return {"Messages": received} if received else {}

    def _bury(self, queue, message):
        dead = replace(message, visible_at=self.now(), receives=0, receipt=None)
        self.messages[queue.dead_letters][message.id] = dead

    def _DeleteMessage(self, params):
        _, messages = self._queue(params)
        message_id = _message_of(params["ReceiptHandle"])
        # An older receipt of a message that was received again deletes nothing.
        if message_id in messages and messages[message_id].receipt == params["ReceiptHandle"]:
            del messages[message_id]

    def _ChangeMessageVisibility(self, params):
        _, messages = self._queue(params)
        one = messages.get(_message_of(params["ReceiptHandle"]))
        if one is None or one.visible_at <= self.now():
            raise _refused("MessageNotInflight", "The specified message isn't in flight.")
        messages[one.id] = replace(one, visible_at=self.now() + params["VisibilityTimeout"])

    def _ChangeMessageVisibilityBatch(self, params):
        return self._batch(params, self._ChangeMessageVisibility)


def _no_queue():
    return Failure(_OLD + "NonExistentQueue", "The specified queue does not exist.", kind="QueueDoesNotExist")


def _refused(kind, message):
    return Failure(_OLD + kind, message, kind=kind)


def _message_of(receipt):
    if "#" not in receipt:
        raise Failure("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid receipt handle.')
    return receipt.split("#")[0]


def _delivered(one):
    milliseconds = {"SentTimestamp": one.sent_at, "ApproximateFirstReceiveTimestamp": one.first_at}
    return {"MessageId": one.id, "ReceiptHandle": one.receipt, "Body": one.body, "MD5OfBody": _md5(one.body),
            "Attributes": {"ApproximateReceiveCount": str(one.receives), **one.system,
                           **{name: str(int(value * 1000)) for name, value in milliseconds.items()}},
            **({"MessageAttributes": one.attributes} if one.attributes else {})}


def _md5(body):
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def _url(name):
    return f"http://queues.test/{_ACCOUNT}/{name}"


def _arn(name):
    return f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{name}"
