"""From a webhook's first byte to the change of the role at Discord, and the profile: times and CPU of the product alone."""
import http.client
import queue
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from infra.bench.lines import percentile
from infra.bench.town import SERVER
from infra.local.permissions import API

MILLI = 1000
WITHIN = 20     # seconds for a role to change
CONNECTIONS = (1, 8)


class Shown:
    """What Discord was told of roles, as it happens: `at(user)` waits for the next change of that person's role."""

    def __init__(self):
        self._changes = {}

    def heard(self, change):
        """To be called for each change that the fakes tell of."""
        self.of(change["user"]).put((change["shown"], change["at"]))

    def of(self, user):
        """This person's changes, as a queue of (shown, instant)."""
        return self._changes.setdefault(user, queue.Queue())

    def at(self, user, shown):
        """The instant (monotonic clock) at which the role was shown, or shown no more."""
        told, instant = self.of(user).get(timeout=WITHIN)
        if told != shown:
            raise RuntimeError(f"the role of {user} changed the wrong way")
        return instant


class Crowd:
    """Members whose subscriptions change status together; `town` is the bench's, `product` the measured process."""

    def __init__(self, town, product, shown, people):
        self.town, self.product, self.shown, self._active = town, product, shown, True
        self.bought = {}
        for user in [town.somebody() for _ in range(people)]:
            self.bought[user] = town.buys(user)
            self._through(user, town.webhook(self.bought[user]), shown=True)
        product.ask("meters")

    def round(self, connections):
        """One event for everybody: (seconds from webhook to role for each, meters of the product)."""
        self._active = not self._active
        status = "active" if self._active else "unpaid"
        waiting = queue.SimpleQueue()
        for user, bought in self.bought.items():
            waiting.put((user, self.town.webhook(self.town.becomes(bought, status))))
        with ThreadPoolExecutor(connections) as pool:
            done = [pool.submit(self._work, waiting) for _ in range(connections)]
        return [sample for each in done for sample in each.result()], self.product.ask("meters")

    def _work(self, waiting):
        """One connection: the next event when the role of the one before has changed."""
        samples, connection = [], _connection(self.product)
        try:
            while True:
                user, webhook = waiting.get_nowait()
                samples.append(self._through(user, webhook, shown=self._active, connection=connection))
        except queue.Empty:
            connection.close()
            return samples

    def _through(self, user, webhook, *, shown, connection=None):
        path, headers, body = webhook
        connection = connection or _connection(self.product)
        began = time.monotonic()
        _ask(connection, "POST", path, headers, body)
        return self.shown.at(user, shown) - began


def _connection(product):
    return http.client.HTTPConnection(urlsplit(product.ready["url"]).netloc, timeout=WITHIN)


def _ask(connection, method, path, headers, body=None):
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {text[:300]}")


class Bare:
    """What the same machine needs for nothing but a call of DynamoDB: the yardstick of every time here."""

    def __init__(self, town, user):
        self._client, self._user = town.aws.client("dynamodb"), user
        self.gets, self.cpu, self.trios = [], [], []

    def get(self, times):
        """So many single reads of a membership have been timed."""
        for _ in range(times):
            began, cpu = time.monotonic(), time.thread_time()
            self._get()
            self.gets.append(time.monotonic() - began)
            self.cpu.append(time.thread_time() - cpu)

    def profile_reads(self):
        """The three reads of a profile have been timed, with nothing around them."""
        began = time.monotonic()
        self._get()
        self._client.query(TableName="rolekeep-local-members", ConsistentRead=True, KeyConditionExpression="user_id = :user",
                           ExpressionAttributeValues={":user": {"S": self._user}})
        self._client.batch_get_item(RequestItems={"rolekeep-local-servers": {"Keys": [
            {"server_id": {"S": server}, "kind": {"S": kind}}
            for server, kind in ((SERVER, "settings"), (SERVER, "discord"), ("everywhere", "discord"))]}})
        self.trios.append(time.monotonic() - began)

    def _get(self):
        self._client.get_item(TableName="rolekeep-local-members", ConsistentRead=True,
                              Key={"user_id": {"S": self._user}, "server_id": {"S": SERVER}})


def measure(town, product, shown, lines, *, people, rounds, profiles, until):
    """The times are said: of bare reads, of a profile, and from webhook to role at 1 and at 8 connections.

    Bare reads are timed before each round, so that they see the machine in the state in which the product saw it.
    """
    crowd = Crowd(town, product, shown, people)
    bare = Bare(town, next(iter(crowd.bought)))
    seen = {connections: ([], []) for connections in CONNECTIONS}
    for number in range(rounds):
        if number and time.monotonic() > until:
            break
        for connections, (samples, meters) in seen.items():
            bare.get(20)
            took, read = crowd.round(connections)
            samples += took
            meters.append(read)
    opened = _profiles(crowd, bare, profiles)
    _say_bare(bare, lines)
    _say_profile(*opened, lines)
    for connections, (samples, meters) in seen.items():
        _say_events(f"webhook_to_role.{connections}_connection{'s' * (connections > 1)}", samples, meters, lines)


def _profiles(crowd, bare, times):
    headers, connection = crowd.town.signed_in(next(iter(crowd.bought))), _connection(crowd.product)
    walls = []
    for _ in range(times):
        began = time.monotonic()
        _ask(connection, "GET", "/api/v1/profile", headers)
        walls.append(time.monotonic() - began)
        bare.profile_reads()
    connection.close()
    return walls, crowd.product.ask("meters")[API]


def _say_bare(bare, lines):
    lines.say("bare.get_item.p50", statistics.median(bare.gets) * MILLI, "ms")
    lines.say("bare.get_item.cpu", statistics.mean(bare.cpu) * MILLI, "ms")
    lines.say("bare.profile_reads.p50", statistics.median(bare.trios) * MILLI, "ms")


def _say_profile(walls, meter, lines):
    lines.say("profile.p50", percentile(walls, 0.5) * MILLI, "ms", reference="bare.profile_reads.p50")
    lines.say("profile.cpu", statistics.mean(meter["cpu"]) * MILLI, "ms", reference="bare.get_item.cpu")


def _say_events(name, samples, meters, lines):
    """`meters`: those of each round. CPU is everything that the two functions burnt, per event."""
    for share in (0.5, 0.99):
        lines.say(f"{name}.p{share * 100:.0f}", percentile(samples, share) * MILLI, "ms", reference="bare.get_item.p50")
    total = 0
    for part, function in (("intake", API), ("worker", "stripe_events")):
        calls = [wall for meter in meters for wall in meter[function]["wall"]]
        cpu = sum(sum(meter[function]["cpu"]) for meter in meters) / len(samples)
        total += cpu
        lines.say(f"{name}.{part}_p50", percentile(calls, 0.5) * MILLI, "ms", reference="bare.get_item.p50")
        lines.say(f"{name}.{part}_cpu", cpu * MILLI, "ms", reference="bare.get_item.cpu")
    lines.say(f"{name}.cpu_per_event", total * MILLI, "ms", reference="bare.get_item.cpu")
