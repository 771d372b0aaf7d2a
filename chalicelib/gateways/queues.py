"""SQS: thin messages (ASCII JSON under 4 KB, schema `v`), one at a time or ten in a batch."""
import functools
import json

from chalicelib import settings
from chalicelib.domain.ids import PAYPAL, processor_of

STRIPE_EVENTS, PAYPAL_EVENTS, MEMBERS = "stripe-events", "paypal-events", "members"
MESSAGE_VERSION = 2     # 2: kind and id instead of `subscription`; workers take the version before as well
LONGEST_DELAY = 900
BATCH = 10
_LARGEST = 4_096


def events_of(account):
    """The queue of the events of this account's processor."""
    return PAYPAL_EVENTS if processor_of(account) == PAYPAL else STRIPE_EVENTS


class NotSent(Exception):
    """SQS did not take the message, or not surely: whoever asked must be told no."""


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
    from botocore.exceptions import BotoCoreError, ClientError
    extra = {"MessageGroupId": group} if group else {}
    try:
        _client().send_message(QueueUrl=_url(queue), MessageBody=_body(message), DelaySeconds=min(delay, LONGEST_DELAY), **extra)
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
