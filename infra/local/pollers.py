"""Queue functions, as Lambda's SQS event source calls them: batches in, `batchItemFailures` out, the rest deleted.

Source: "Using Lambda with Amazon SQS" and "Implementing partial batch responses" in the AWS Lambda guide.
"""

import logging
import threading

from infra.local.aws import REGION
from infra.local.functions import queue_functions

LONG_POLL = 1  # seconds; also how long a stop may take
THREADS_PER_QUEUE = 2  # Lambda runs several at once: what cannot stand that shall show here
log = logging.getLogger("local.pollers")


class Poller:
    """Threads that hand the messages of one queue to one function until they are stopped.

    Messages that failed come back after `retry_after` seconds; None leaves that to the queue's visibility timeout,
    as AWS does. A function that raises has failed for its whole batch.
    """

    def __init__(self, function, sqs, *, retry_after=None, threads=THREADS_PER_QUEUE):
        self.function = function
        self._sqs = sqs
        self._url = sqs.get_queue_url(QueueName=function.queue)["QueueUrl"]
        self._arn = sqs.get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self._retry_after = retry_after
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"{function.name}-{n}", daemon=True) for n in range(threads)]

    def start(self):
        """Messages are handed over from now on."""
        for thread in self._threads:
            thread.start()
        return self

    def ask_to_stop(self):
        """No thread begins another batch; `join` waits for the ones that run."""
        self._stopping.set()

    def join(self, timeout):
        """Wait until the batches that run are done, at most `timeout` seconds."""
        for thread in self._threads:
            thread.join(timeout)

    def poll_once(self, *, wait=0):
        """Hand over at most one batch; answer how many messages were in it."""
        messages = self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=min(self.function.batch_size, 10), WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"]).get("Messages", [])
        if messages:
            self._settle(messages, self._failed(messages))
        return len(messages)

    def _run(self):
        while not self._stopping.is_set():
            try:
                self.poll_once(wait=LONG_POLL)
            except Exception as problem:  # the queue is out of reach: what was received becomes visible again
                if not self._stopping.wait(1):
                    log.warning("queue %s: %s", self.function.queue, problem)

    def _failed(self, messages):
        """Answer the ids of the messages that must come again."""
        ids = {message["MessageId"] for message in messages}
        result, problem = self.function.invoke({"Records": [self._record(message) for message in messages]})
        if problem is not None:
            return ids
        failures = (result or {}).get("batchItemFailures") or [] if isinstance(result, dict) else []
        named = [failure.get("itemIdentifier") if isinstance(failure, dict) else None for failure in failures]
        if not ids.issuperset(named):  # Lambda then treats the whole batch as failed
            log.error("function %s named a message that was not in its batch: %r", self.function.name, named)
            return ids
        return set(named)

    def _settle(self, messages, failed):
        done = [each for each in messages if each["MessageId"] not in failed]
        if done:
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=_entries(done))
        if failed and self._retry_after is not None:
            again = [each for each in messages if each["MessageId"] in failed]
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url, Entries=_entries(again, VisibilityTimeout=int(self._retry_after)))

    def _record(self, message):
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": dict(message["Attributes"]),
            "messageAttributes": {
                name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": REGION,
        }


def start_pollers(app, sqs, *, speed=1.0):
    """Answer running Pollers, one for each queue function that the app declares.

    A failed message comes again after its queue's visibility timeout divided by `speed`.
    """
    return [Poller(function, sqs, retry_after=_visibility(function, sqs) / speed).start()
            for function in queue_functions(app)]


def _visibility(function, sqs):
    url = sqs.get_queue_url(QueueName=function.queue)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    return int(found["Attributes"]["VisibilityTimeout"])


def _entries(messages, **also):
    return [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], **also} for n, message in enumerate(messages)]


def _attribute(value):
    record = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        record["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        record["binaryValue"] = value["BinaryValue"]
    return record
