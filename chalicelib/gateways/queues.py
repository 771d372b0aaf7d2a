"""SQS: thin messages (ASCII JSON under 4 KB, schema `v`), one at a time or ten in a batch; and the dead letters of each queue."""
import contextlib
import functools
import json
from dataclasses import dataclass, field

from chalicelib import settings
from chalicelib.domain.ids import PAYPAL, processor_of

STRIPE_EVENTS, PAYPAL_EVENTS, MEMBERS = "stripe-events", "paypal-events", "members"
QUEUES = (STRIPE_EVENTS, PAYPAL_EVENTS, MEMBERS)
MESSAGE_VERSION = 2     # 2: kind and id instead of `subscription`; workers take the version before as well
LONGEST_DELAY = 900
BATCH = 10
HIDDEN_SECONDS = 420    # a dead letter that somebody looks at is to be had by nobody else: longer than any command takes
_LARGEST = 4_096


def events_of(account):
    """The queue of the events of this account's processor."""
    return PAYPAL_EVENTS if processor_of(account) == PAYPAL else STRIPE_EVENTS


class NotSent(Exception):
    """SQS did not take the message, or not surely: whoever asked must be told no."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that failed until SQS put it aside; `sent_at` when it was first sent (wall clock, seconds), `group` for fair queues."""
    id: str
    body: str = field(repr=False)
    sent_at: int
    group: str | None
    receipt: str = field(repr=False)


@functools.cache
def _client():
    from botocore.config import Config
    from botocore.session import get_session
    return get_session().create_client("sqs", config=Config(
        connect_timeout=1, read_timeout=3, retries={"max_attempts": 3, "mode": "standard"}))


@functools.cache
def _url(queue):
    return _client().get_queue_url(QueueName=settings.resource(queue))["QueueUrl"]


def send(queue, message, *, delay=0, group=None):
    """The message is in the queue. Raises NotSent. `delay` in seconds, at most 900; `group` for fair queues."""
    _put(queue, _body(message), delay, group)


def _put(queue, body, delay, group):
    from botocore.exceptions import BotoCoreError, ClientError
    extra = {"MessageGroupId": group} if group else {}
    try:
        _client().send_message(QueueUrl=_url(queue), MessageBody=body, DelaySeconds=min(delay, LONGEST_DELAY), **extra)
    except (BotoCoreError, ClientError) as error:
        raise NotSent(type(error).__name__) from None


def send_all(queue, messages):
    """Every (message, group) is in the queue, ten to a call. Raises NotSent when one is not; the others may be."""
    from botocore.exceptions import BotoCoreError, ClientError
    for start in range(0, len(messages), BATCH):
        entries = [{"Id": str(n), "MessageBody": _body(message), "MessageGroupId": group}
                   for n, (message, group) in enumerate(messages[start:start + BATCH])]
        try:
            answer = _client().send_message_batch(QueueUrl=_url(queue), Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise NotSent(type(error).__name__) from None
        if answer.get("Failed"):
            raise NotSent("part of a batch")


def _body(message):
    body = json.dumps({"v": MESSAGE_VERSION, **message}, ensure_ascii=True, separators=(",", ":"))
    if len(body) > _LARGEST:
        raise ValueError("a message over 4 KB")
    return body


def depth(queue):
    """{dead, waiting, under_way, delayed}: about how many messages there are; SQS counts roughly."""
    dead, live = (_client().get_queue_attributes(QueueUrl=_url(name), AttributeNames=list(_COUNTS.values()))["Attributes"]
                  for name in (_dead(queue), queue))
    return {"dead": sum(int(dead[name]) for name in _COUNTS.values())} | {word: int(live[name]) for word, name in _COUNTS.items()}


_COUNTS = {"waiting": "ApproximateNumberOfMessages", "under_way": "ApproximateNumberOfMessagesNotVisible", "delayed": "ApproximateNumberOfMessagesDelayed"}


def _dead(queue):
    return f"{queue}-dlq"


def dead_letters(queue):
    """Up to ten dead letters of the queue that nobody else gets for `HIDDEN_SECONDS`; none when there is none to be had."""
    got = _client().receive_message(
        QueueUrl=_url(_dead(queue)), MaxNumberOfMessages=BATCH, VisibilityTimeout=HIDDEN_SECONDS, MessageSystemAttributeNames=["SentTimestamp", "MessageGroupId"],
        WaitTimeSeconds=1)  # with a wait all of SQS's servers are asked; without, some, and none found would not mean that there is none
    return [DeadLetter(one["MessageId"], one["Body"], int(said.get("SentTimestamp", 0)) // 1000, said.get("MessageGroupId"), one["ReceiptHandle"])
            for one in got.get("Messages", ()) for said in [one.get("Attributes", {})]]


def send_again(queue, letter):
    """The dead letter's body, as it is, is in the queue once more; it is still among the dead letters too. Raises NotSent."""
    _put(queue, letter.body, 0, letter.group)


def forget(queue, letter):
    """The dead letter is gone."""
    _client().delete_message(QueueUrl=_url(_dead(queue)), ReceiptHandle=letter.receipt)


def put_back(queue, letters):
    """These dead letters are to be had again by whoever asks; those for which SQS does not take it are so after `HIDDEN_SECONDS`."""
    from botocore.exceptions import BotoCoreError, ClientError
    for start in range(0, len(letters), BATCH):
        entries = [{"Id": str(n), "ReceiptHandle": one.receipt, "VisibilityTimeout": 0} for n, one in enumerate(letters[start:start + BATCH])]
        with contextlib.suppress(BotoCoreError, ClientError):
            _client().change_message_visibility_batch(QueueUrl=_url(_dead(queue)), Entries=entries)
