"""The driver finds planted races, proves their repairs, counts its schedules right, and repeats itself exactly."""

import itertools
import json

import boto3
import pytest
import requests
from botocore.exceptions import ClientError, ReadTimeoutError
from jsonschema import Draft202012Validator

from infra.local import aws
from tests.worlds import gates
from tests.worlds.dynamo import World
from tests.worlds.gates import Choice, Clock, Scenario, explore, gated, replay
from tests.worlds.processors import DISCORD_BASE, STRIPE_BASE, Discord, Stripe

TABLE = {"TableName": "counters", "BillingMode": "PAY_PER_REQUEST", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
         "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}]}
KEY = {"id": {"S": "one"}}
ROLE = f"{DISCORD_BASE}/guilds/1/members/2/roles/3"
SPECS = aws.ROOT / "infra" / "local" / "sandbox" / "specs"


@pytest.fixture(scope="module")
def client():
    return boto3.session.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name=aws.REGION).client("dynamodb")


@pytest.fixture
def table():
    world, discord = World([TABLE]), Discord()
    world.call("PutItem", {"TableName": "counters", "Item": {**KEY, "n": {"N": "0"}}})
    discord.members.add(("1", "2"))
    with gated(aws=[world], http=[discord, Stripe()]):
        world.discord = discord
        yield world


def count(world):
    return int(world.item("counters", "one")["n"]["N"])


def read_then_write(client):
    seen = int(client.get_item(TableName="counters", Key=KEY)["Item"]["n"]["N"])
    client.put_item(TableName="counters", Item={**KEY, "n": {"N": str(seen + 1)}})


def compare_and_set(client):
    while True:
        seen = client.get_item(TableName="counters", Key=KEY)["Item"]["n"]
        try:
            return client.put_item(
                TableName="counters", Item={**KEY, "n": {"N": str(int(seen["N"]) + 1)}}, ConditionExpression="n = :seen",
                ExpressionAttributeValues={":seen": seen})["ResponseMetadata"]["HTTPStatusCode"]
        except client.exceptions.ConditionalCheckFailedException:
            pass


def two(table, work, **more):
    """Two workers that each add one to the counter."""
    def start(run):
        run.spawn("first", work)
        run.spawn("second", work)

    def judge(run):
        if count(table) != 2:
            yield f"counted {count(table)}"

    return Scenario("two additions", worlds=(table, table.discord), start=start, judge=judge, **more)


def test_a_lost_update_is_found_by_one_preemption_and_printed_readably(table, client):
    scenario = two(table, lambda: read_then_write(client))
    assert not explore(scenario, preemptions=0, crashes=0).violations
    report = explore(scenario, preemptions=1, crashes=0, stop_on_first=True)
    assert [str(one).split() for one in report.violations[0].schedule] == [
        ["first", "dynamodb", "GetItem", "counters", "one", "goes", "on"],
        ["second", "dynamodb", "GetItem", "counters", "one", "goes", "on"],
        ["second", "dynamodb", "PutItem", "counters", "goes", "on"],
        ["first", "dynamodb", "PutItem", "counters", "goes", "on"]]
    assert report.violations[0].problems == ["counted 1"] and "counted 1" in str(report)


def test_the_conditional_version_survives_every_interleaving(table, client):
    report = explore(two(table, lambda: compare_and_set(client)), preemptions=4, crashes=0)
    assert not report.violations, report
    assert report.pruned > 2


@pytest.mark.parametrize("preemptions, expected", [(0, 2), (1, 4), (2, 6), (3, 6)])
def test_every_interleaving_within_the_preemptions_is_run_once(table, client, preemptions, expected):
    report = explore(two(table, lambda: read_then_write(client)), preemptions=preemptions, crashes=0, prune=False)
    assert report.schedules == expected == interleavings([2, 2], preemptions)


def test_three_workers_are_interleaved_too(table, client):
    def start(run):
        for name in ("first", "second", "third"):
            run.spawn(name, lambda: read_then_write(client))

    scenario = Scenario("three", worlds=(table,), start=start)
    for preemptions in range(5):
        report = explore(scenario, preemptions=preemptions, crashes=0, prune=False)
        assert report.schedules == interleavings([2, 2, 2], preemptions)


def interleavings(lengths, preemptions):
    """How many orders of the workers' steps have at most so many switches away from a worker with steps left."""
    steps = [worker for worker, length in enumerate(lengths) for _ in range(length)]
    found = 0
    for order in set(itertools.permutations(steps)):
        left, switches = list(lengths), 0
        for worker, following in zip(order, (*order[1:], None)):
            left[worker] -= 1
            switches += following is not None and following != worker and left[worker] > 0
        found += switches <= preemptions
    return found


def test_a_worker_dies_before_its_first_call_and_after_each_write_and_while_it_is_on_its_way(table, client):
    def outcome(run):
        return next(choice.outcome for choice in reversed(run.schedule) if choice.outcome != gates.LANDS)

    ends = []
    scenario = Scenario("one", worlds=(table,), start=lambda run: run.spawn("only", lambda: read_then_write(client)),
                        judge=lambda run: ends.append((outcome(run), run.workers[0].unfinished, count(table))) or ())
    report = explore(scenario, crashes=1, prune=False)
    assert sorted(ends) == sorted([
        ("goes on", False, 1), ("dies before it", True, 0), ("dies after it", True, 1), ("dies, and it lands later", True, 1)])
    assert report.schedules == 4    # dying after the read would be the same as dying before it


def test_the_call_of_a_dead_worker_lands_after_the_others_have_worked(table):
    def start(run):
        run.spawn("old", lambda: requests.put(ROLE))
        run.spawn("new", lambda: requests.delete(ROLE))

    def judge(run):
        if table.discord.held and run.schedule[0].worker == "old" and not run.workers[1].dead:
            yield "the role was granted after it had been taken"

    scenario = Scenario("zombie", worlds=(table.discord,), start=start, judge=judge)
    assert not explore(scenario, preemptions=0, crashes=0).violations
    report = explore(scenario, preemptions=0, crashes=1, prune=False)
    assert {tuple(choice.outcome for choice in one.schedule) for one in report.violations} == {
        ("dies, and it lands later", "goes on", "lands now")}
    assert "old          discord PUT /guilds/1/members/2/roles/3" in str(report)


def test_no_block_of_a_dead_worker_reaches_a_world(table, client):
    tried = []

    def work():
        try:
            read_then_write(client)
        except Exception:
            tried.append("except")
            raise
        finally:
            tried.append("finally")
            client.put_item(TableName="counters", Item={**KEY, "n": {"N": "99"}})

    def judge(run):
        if run.workers[0].dead and count(table) == 99:
            yield "a dead worker wrote"

    report = explore(Scenario("finally", worlds=(table,), start=lambda run: run.spawn("only", work), judge=judge),
                     prune=False)
    died_at = [[choice for choice in one.schedule if choice.outcome.startswith("dies")] for one in report.violations]
    assert [(len(one.schedule), [choice.outcome for choice in died]) for one, died in zip(report.violations, died_at)] == [
        (3, ["dies after it"]), (4, ["dies, and it lands later"])]     # it had died in that very write
    assert "finally" in tried and "except" not in tried


@pytest.mark.parametrize("fault, seen, held_then, held_after", [
    (gates.TIME_OUT, requests.ReadTimeout, True, True), (gates.TIME_OUT_LATER, requests.ReadTimeout, False, True),
    (gates.UNREACHED, requests.ConnectTimeout, False, False), (gates.LIMITED, 429, False, False),
    (gates.FORBIDDEN, 403, False, False), (gates.BROKEN, 500, False, False), (gates.GOES, 204, True, True),
])
def test_an_ordered_fault_is_what_the_caller_sees(table, fault, seen, held_then, held_after):
    def work():
        try:
            return requests.put(ROLE).status_code, bool(table.discord.held)
        except requests.RequestException as error:
            return type(error), bool(table.discord.held)

    scenario = Scenario("fault", worlds=(table.discord,), start=lambda run: run.spawn("only", work), faults=lambda worker, label: [fault])
    run, _ = replay(scenario, [Choice("only", "discord PUT /guilds/1/members/2/roles/3", fault)])
    assert run.workers[0].result == (seen, held_then)
    assert explore(scenario, crashes=0, faults=1, prune=False).schedules == (1 if fault == gates.GOES else 2)
    held = []
    scenario.judge = lambda run: held.append(bool(table.discord.held)) or ()
    replay(scenario, run.schedule)
    assert held == [held_after]


def test_the_sdk_may_do_a_write_twice_or_give_up_on_it(table, client):
    def add(**more):
        return client.update_item(TableName="counters", Key=KEY, UpdateExpression="ADD n :one", ReturnValues="ALL_NEW",
                                  ExpressionAttributeValues={":one": {"N": "1"}, **more})["Attributes"]["n"]["N"]

    def ended(fault):
        scenario = Scenario("sdk", worlds=(table,), start=lambda run: run.spawn("only", add), faults=lambda worker, label: [fault])
        worker = replay(scenario, [Choice("only", "dynamodb UpdateItem counters one", fault)])[0].workers[0]
        return worker.result or type(worker.error)

    assert ended(gates.TWICE) == "2"
    assert ended(gates.TIME_OUT) is ReadTimeoutError
    assert issubclass(ended(gates.THROTTLED), ClientError)


def test_somebody_outside_and_the_clock_are_workers_that_never_die(table, client):
    clock, read_at = Clock(1_000), []

    def start(run):
        run.spawn("reader", lambda: client.get_item(TableName="counters", Key=KEY))
        run.spawn("world", lambda: run.step("an hour passes, and somebody comes", lambda: later(run)), mortal=False)

    def later(run):
        clock.now += 3_600
        run.spawn("visitor", lambda: read_at.append(clock.now))

    scenario = Scenario("clock", worlds=(table, clock), start=start, judge=lambda run: () if clock.now == 4_600 else ["lost"])
    report = explore(scenario, crashes=0, prune=False)
    assert report.schedules == 2 and not report.violations and read_at == [4_600] * 2
    assert clock.now == 1_000
    assert explore(scenario, crashes=1, prune=False).schedules == 2 + 2


def test_a_violation_replays_and_the_whole_exploration_repeats_exactly(table, client):
    scenario = two(table, lambda: read_then_write(client))
    first, second = explore(scenario), explore(scenario)
    assert [one.schedule for one in first.violations] == [one.schedule for one in second.violations]
    assert (first.schedules, first.pruned) == (second.schedules, second.pruned)
    for violation in first.violations:
        assert replay(scenario, violation.schedule)[1] == violation.problems
    with pytest.raises(LookupError):
        replay(two(table, lambda: compare_and_set(client)), [Choice("first", "dynamodb DeleteItem counters one", "goes on")])


def test_pruning_runs_less_and_finds_the_same(table, client):
    scenario = two(table, lambda: read_then_write(client))
    whole, pruned = explore(scenario, prune=False), explore(scenario)
    assert {tuple(one.problems) for one in whole.violations} == {tuple(one.problems) for one in pruned.violations} != set()
    assert pruned.schedules < whole.schedules / 2


def test_nothing_is_decided_at_quiet_calls(table, client):
    scenario = two(table, lambda: read_then_write(client), quiet=lambda label: "GetItem" in label)
    assert explore(scenario, crashes=0, prune=False).schedules == 2


def test_what_draws_from_outside_is_found_out(table, client):
    names = itertools.count()

    def work():
        client.get_item(TableName="counters", Key={"id": {"S": f"random-{next(names)}"}})
        client.get_item(TableName="counters", Key=KEY)

    with pytest.raises(AssertionError, match="not deterministic"):
        explore(two(table, work))


def test_each_worker_draws_its_own_texts():
    clock = Clock(5)
    ports, drawn = gates.Ports(clock), []

    def start(run):
        for name in ("first", "second"):
            run.spawn(name, lambda name=name: (run.step("a", lambda: None), drawn.append((name, ports.token(), ports.token()))))

    explore(Scenario("tokens", worlds=(clock,), start=start), crashes=0, prune=False)
    assert set(drawn) == {("first", "first-1", "first-2"), ("second", "second-1", "second-2")}


def test_a_snapshot_of_each_small_processor_brings_it_back():
    stripe, discord = Stripe(), Discord()
    stripe.add("sub_1", price="price_1", now=0)
    stripe.pay("sub_1", "ch_1", now=0)
    for world, change in ((stripe, lambda: stripe.change("sub_1", status="canceled")), (stripe, lambda: stripe.refund("ch_1", 500)),
                          (stripe, lambda: stripe.dispute("ch_1", "won")), (discord, lambda: discord.held.add(("1", "2", "3")))):
        kept, before = world.snapshot(), world.fingerprint()
        change()
        assert world.fingerprint() != before
        world.restore(kept)
        assert world.fingerprint() == before


def test_the_small_processors_answer_in_the_official_shapes():
    stripe, discord = Stripe(), Discord()
    discord.members.add(("1", "2"))
    discord.held.add(("1", "2", "3"))
    schema = json.loads((SPECS / "stripe.schema.json").read_text())
    for kind, answer in money_moved(stripe):
        assert not list(Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}).iter_errors(answer)), kind
    api = json.loads((SPECS / "discord.openapi.json").read_text())
    status, _, answer = discord.call("GET", "/api/v10/guilds/1/members/2")
    assert status == 200 and answer["roles"] == ["3"] and not list(Draft202012Validator(
        {"$ref": "#/components/schemas/GuildMemberResponse", "components": api["components"]}).iter_errors(answer))
    for status, _, answer in (discord.call("GET", "/api/v10/guilds/1/members/9"), gates._HTTP_FAULTS["discord"]["403"](None, None)):
        assert status in (403, 404) and not list(Draft202012Validator(
            {"$ref": "#/components/schemas/ErrorResponse", "components": api["components"]}).iter_errors(answer))


def money_moved(stripe):
    """(kind, answer) for each object of which there is an official shape here, after sales, a partial refund and a dispute."""
    stripe.add("sub_1", price="price_1", now=1_800_000_000)
    stripe.pay("sub_1", "ch_1", now=1_800_000_000)
    stripe.sell("cs_test_1", price="price_2", now=1_800_000_000, charge="ch_2")
    stripe.refund("ch_1", 200)
    stripe.dispute("ch_1", "needs_response")

    def get(path, query=""):
        status, _, answer = stripe.call("GET", f"/v1/{path}", query)
        assert status == 200
        return answer

    yield "subscription", get("subscriptions/sub_1")
    for charge in ("ch_1", "ch_2"):
        yield "charge", get(f"charges/{charge}")
    yield "invoice", get("invoices/in_ch_1")
    yield from (("dispute", dispute) for dispute in get("disputes", "charge=ch_1&limit=100")["data"])
    session = get("checkout/sessions/cs_test_1", "expand[0]=payment_intent.latest_charge&expand[1]=line_items")
    yield "checkout.session", session
    yield "charge", session["payment_intent"]["latest_charge"]
    yield "checkout.session", get("checkout/sessions/cs_test_1")


def test_the_small_stripe_names_what_was_paid_for_only_as_stripe_does():
    stripe = Stripe()
    assert [kind for kind, _ in money_moved(stripe)].count("dispute") == 1
    plain = stripe.call("GET", "/v1/checkout/sessions/cs_test_1")[2]
    assert plain["payment_intent"] == "pi_ch_2" and "line_items" not in plain
    charge = stripe.call("GET", "/v1/charges/ch_1")[2]
    assert (charge["amount_refunded"], charge["refunded"], charge["disputed"]) == (200, False, True) and "invoice" not in charge
    query = "payment[type]=payment_intent&payment[payment_intent]=" + charge["payment_intent"]
    payment, = stripe.call("GET", "/v1/invoice_payments", query)[2]["data"]
    invoice = stripe.call("GET", f"/v1/invoices/{payment['invoice']}")[2]
    assert invoice["parent"]["subscription_details"]["subscription"] == "sub_1"
    assert stripe.call("GET", "/v1/invoice_payments", query.replace("pi_ch_1", "pi_ch_2"))[2]["data"] == []
    assert stripe.call("GET", "/v1/disputes", "charge=ch_2")[2]["data"] == []
    assert stripe.call("GET", "/v1/payment_intents/pi_ch_2")[2]["latest_charge"] == "ch_2"


def test_a_call_to_anywhere_else_is_an_error():
    with gated(http=[Stripe()]), pytest.raises(AssertionError, match="no world"):
        requests.get("http://elsewhere.test/")
    with gated(http=[Stripe()]):
        assert requests.get(f"{STRIPE_BASE}/v1/subscriptions/sub_9").json()["error"]["code"] == "resource_missing"
