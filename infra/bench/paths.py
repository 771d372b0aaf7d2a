"""What each path costs: round trips, held against what docs/architecture.md promises, and DynamoDB request units."""
import contextlib
import re
from collections import Counter

import requests
from botocore.client import BaseClient

from infra.bench import units
from infra.bench.town import SERVER
from infra.local.aws import ROOT
from infra.local.scheduler import scheduled_event

PROMISES = ROOT / "docs" / "architecture.md"
CALLS = ("dynamodb", "sqs", "stripe", "discord")
DUE = 25


class Spent:
    """What was spent inside a `counting` block: `calls` by service, read and write units."""

    def __init__(self):
        self.calls, self.reads, self.writes = Counter(), 0, 0


@contextlib.contextmanager
def counting(hosts):
    """Yield a Spent that fills with every call the product makes in this process; `hosts` {address: service}."""
    spent, before, sends = Spent(), BaseClient._make_api_call, requests.Session.send

    def call(client, operation, params):
        service = client.meta.service_model.service_name
        spent.calls[service] += 1
        if service != "dynamodb":
            return before(client, operation, params)
        answer = before(client, operation, {**params, "ReturnConsumedCapacity": "INDEXES"})
        read, written = units.of_call(operation, params, answer)
        spent.reads, spent.writes = spent.reads + read, spent.writes + written
        return answer

    def send(session, request, **settings):
        spent.calls[next(service for address, service in hosts.items() if request.url.startswith(address))] += 1
        return sends(session, request, **settings)

    BaseClient._make_api_call, requests.Session.send = call, send
    try:
        yield spent
    finally:
        BaseClient._make_api_call, requests.Session.send = before, sends


def promised():
    """{path: {service: round trips}} as the table in docs/architecture.md has it."""
    row = re.compile(r"^\| ([^|]+) " + r"\| (\d+) " * len(CALLS) + r"\|", re.MULTILINE)
    return {found[0]: dict(zip(CALLS, map(int, found[1:]), strict=True)) for found in row.findall(PROMISES.read_text("utf-8"))}


def measure(town, lines):
    """Every path has been walked once, and its costs are said."""
    known = promised()
    for path, spent in _walk(town):
        name = "path." + re.sub(r"\W+", "_", path.replace("→", "to").lower()).strip("_")
        for service in CALLS:
            lines.say(f"{name}.{service}", spent.calls[service], "calls", reference=known[path][service])
        lines.say(f"{name}.read_units", spent.reads, "units")
        lines.say(f"{name}.write_units", spent.writes, "units")


def _walk(town):
    """Each (path, Spent), one after the other. What a process does once (clients, queue addresses) has been done before."""
    hosts = {town.stripe_url: "stripe", town.sandbox.discord_url: "discord"}
    user = town.somebody()
    town.tell(town.buys(user))
    town.call("POST", f"/api/v1/servers/{SERVER}/restore", town.signed_in(user), b"{}")
    town.invoke("members", town.records("members"))

    def spent(call, *args):
        with counting(hosts) as seen:
            call(*args)
        return seen

    def worked():
        return spent(town.invoke, "stripe_events", town.records("stripe-events"))

    user = town.somebody()
    subscription = town.buys(user)
    yield "intake", spent(town.call, "POST", *town.webhook(subscription))
    yield "first webhook of a subscription", worked()
    town.call("POST", *town.webhook(subscription))
    yield "duplicate webhook, nothing changed", worked()
    town.call("POST", *town.webhook(town.becomes(subscription, "unpaid")))
    yield "webhook → role changed", worked()
    town.tell(town.becomes(subscription, "active"))
    yield "profile", spent(town.call, "GET", "/api/v1/profile", town.signed_in(user))
    yield "cancel", spent(town.call, "POST", f"/api/v1/subscriptions/{subscription['id']}/cancel", town.signed_in(user), b"{}")
    town.invoke("members", town.records("members"))
    yield "sweep tick, nothing due", spent(town.invoke, "due_sweep", scheduled_event("due_sweep"))
    _fall_due(town)
    yield f"sweep tick, {DUE} due", spent(town.invoke, "due_sweep", scheduled_event("due_sweep"))
    town.records("members")


def _fall_due(town):
    from chalicelib.store import members
    for number in range(DUE):
        user = str(973_000_000_000_000_000 + number)
        town.aws.client("dynamodb").put_item(TableName="rolekeep-local-members", Item={
            "user_id": {"S": user}, "server_id": {"S": SERVER}, "requested": {"N": "1"}, "done": {"N": "1"}, "roles": {"M": {}},
            "subs": {"M": {}}, "checked_at": {"N": "1"}, "due_shard": {"N": str(members.shard(user, SERVER))}, "due_at": {"N": "1"}})
