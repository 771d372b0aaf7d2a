"""One running Rolekeep as a process of its own, for tests that meet it over HTTP only; and what an operator can do beside it."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import boto3

from infra.local import aws
from infra.local.walker import Sandboxes

READY_WITHIN = 60
QUEUES = ("stripe-events", "paypal-events", "members")


class Instance:
    """A started `python -m infra.local.run` on free ports; `with Instance(folder) as it:` it is ready inside.

    `settings` go into its environment (DEMO, SPEED …). `url`, `stripe_url`, `discord_url`, `aws_url`, `paypal_url` are its parts.
    """

    def __init__(self, folder, **settings):
        self.folder, self._settings, self._process = pathlib.Path(folder), settings, None
        self.port = aws.free_port(5)
        self.url, self.stripe_url, self.discord_url, self.aws_url, self.paypal_url = (f"http://127.0.0.1:{self.port + n}" for n in range(5))

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.run"], cwd=aws.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "DEMO": "0", **self._settings, "PORT": str(self.port), "STATE_FOLDER": str(self.folder)})
        late = threading.Timer(READY_WITHIN, self._process.kill)
        late.start()
        line = self._process.stdout.readline()
        late.cancel()
        if line != f"Rolekeep is ready: {self.url}\n":
            self._process.kill()
            raise RuntimeError(f"it did not get ready: {line}{self._process.stdout.read()}")
        return self

    def __exit__(self, *_):
        running = self._process.poll() is None
        found = self.violations() if running else []
        self._end(running)
        assert found == [], "the product and the sandboxes keep to the official specifications"

    def _end(self, running):
        if running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()

    def log(self):
        """Everything that the instance has printed or logged so far."""
        return (self.folder / "rolekeep.log").read_text("utf-8", "replace")

    def violations(self):
        """What did not hold to the official specifications so far: the product's requests, the sandboxes' answers and events."""
        return [one for ask in (self.sandboxes().stripe, self.sandboxes().discord, self.sandboxes().paypal) for one in ask("GET", "/violations")["violations"]]

    def sandboxes(self):
        """The controls of the sandboxes."""
        return Sandboxes(self.stripe_url, self.discord_url, self.paypal_url)


class Operator:
    """Who may look into the tables and queues of an Instance, and write a server's settings, as an operator does by hand."""

    def __init__(self, instance):
        session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=aws.REGION)
        self._dynamodb = session.resource("dynamodb", endpoint_url=instance.aws_url)
        self._sqs = session.client("sqs", endpoint_url=instance.aws_url)
        self.poison = 0     # how many messages were sent that can only end in a dead-letter queue

    def table(self, name):
        """The table of that short name."""
        return self._dynamodb.Table(f"rolekeep-local-{name}")

    def rows(self, name):
        """Every row of a table."""
        return self.table(name).scan(ConsistentRead=True)["Items"]

    def write_server(self, server_id, settings):
        """The product knows the server, with these settings and offers."""
        self.table("servers").put_item(Item={"server_id": server_id, "kind": "settings", "settings": settings})
        self.table("servers").put_item(Item={"server_id": "directory", "kind": server_id})

    def parked(self, account="operator"):
        """The parked events of an account, as ledger rows."""
        return [row for row in self.rows("ledger") if row["subject"] == f"parked#{account}"]

    def membership(self, user, server):
        """The membership row, or None."""
        return self.table("members").get_item(Key={"user_id": user, "server_id": server}, ConsistentRead=True).get("Item")

    def send(self, queue, body):
        """The text is in the queue."""
        self._sqs.send_message(QueueUrl=self._url(queue), MessageBody=body)

    def waiting(self, queue, *, which=("", "NotVisible")):
        """How many messages the queue holds: to be had and in flight; `which` may say `Delayed`."""
        names = [f"ApproximateNumberOfMessages{one}" for one in which]
        found = self._sqs.get_queue_attributes(QueueUrl=self._url(queue), AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def dead(self):
        """The bodies in the dead-letter queues, as texts; they stay there."""
        return [body for queue in QUEUES for body in self._peek(f"{queue}-dlq")]

    def _peek(self, queue):
        found = {}
        for _ in range(20):
            got = self._sqs.receive_message(QueueUrl=self._url(queue), MaxNumberOfMessages=10, VisibilityTimeout=0)
            fresh = {one["MessageId"]: one["Body"] for one in got.get("Messages", [])}
            if not fresh.keys() - found.keys():
                break
            found |= fresh
        return list(found.values())

    def _url(self, queue):
        return self._sqs.get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]


def quiet(operator, *, seconds=15):
    """Nothing but poison has been to be had from the work queues, or in flight, for a moment: what was set off is done or delayed."""
    end, calm = time.monotonic() + seconds, 0
    while calm < 2:
        poison = operator.poison - sum(operator.waiting(f"{queue}-dlq") for queue in QUEUES)
        calm = calm + 1 if sum(operator.waiting(queue) for queue in QUEUES) <= max(poison, 0) else 0
        if time.monotonic() > end:
            raise AssertionError("the queues do not get empty")
        time.sleep(0.05)


def compact(value):
    """`value` as JSON bytes."""
    return json.dumps(value, separators=(",", ":")).encode()
