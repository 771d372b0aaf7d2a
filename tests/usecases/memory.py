"""Tables and queues in memory in the embedded AWS's place: for what takes thousands of calls."""
import boto3

from infra.local import aws
from tests.worlds.dynamo import World
from tests.worlds.sqs import Queues

BEGIN = 1_801_094_400.0      # 28 January 2027, so that months of 31 and of 28 days end in it


class Memory:
    """The embedded AWS's clients over tables and queues in memory."""

    def __init__(self, ports):
        self.tables, self.queues = World.from_resources(aws.resources("local")), Queues.from_resources(aws.resources("local"), now=ports.wall)
        self._clients = {}

    def client(self, name):
        if name not in self._clients:
            self._clients[name] = boto3.client(name, region_name=aws.REGION)
        return self._clients[name]

    def waiting(self):
        """The bodies in the work queues, to be had now or later."""
        return [one.body for name, inner in self.queues.messages.items() if not name.endswith("-dlq") for one in inner.values()]

    def dead(self):
        """The bodies in the dead-letter queues."""
        return [one.body for name, inner in self.queues.messages.items() if name.endswith("-dlq") for one in inner.values()]
