"""`make bench`: its lines are well formed, say what the architecture promises, and it leaves nothing behind."""

import io
import json
import os
import subprocess
import sys

import pytest

import app as product
from infra.bench import units
from infra.bench.lines import Lines, percentile
from infra.local.aws import ROOT

SERVICES = ("dynamodb", "sqs", "stripe", "discord")
LEDGER = "rolekeep-local-ledger"


@pytest.fixture(scope="module")
def ran(built, tmp_path_factory):
    """(the finished process of a tiny run, the folder in which its temporary files were)."""
    folder = tmp_path_factory.mktemp("bench")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name != "STAGE"}
    done = subprocess.run([sys.executable, "-m", "infra.bench", "--quick", "--package", str(built)], cwd=ROOT, text=True,
                          env=environment | {"TMPDIR": str(folder)}, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done, folder


@pytest.fixture(scope="module")
def said(ran):
    """{name: line} of the tiny run, in the order in which they came."""
    lines = [json.loads(line) for line in ran[0].stdout.splitlines()]
    named = {line["name"]: line for line in lines}
    assert len(named) == len(lines)
    return named


def promised():
    """{path: {service: round trips}}, from the table of docs/architecture.md."""
    lines = (ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines()
    begin = lines.index("| path | DynamoDB | SQS | Stripe | Discord | which |") + 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[begin:lines.index("", begin)]]
    return {path: dict(zip(SERVICES, map(int, counts), strict=True)) for path, *counts, _ in rows}


def named(path):
    return "path." + path.replace("→", "to").replace(",", "").replace(" ", "_").replace("__", "_")


def test_each_line_is_one_measurement_with_a_reference_that_came_before_it(said):
    before = {}
    for name, line in said.items():
        assert list(line) == ["name", "value", "unit", "reference", "ratio"], line
        assert line["unit"] in ("ms", "calls", "units") and type(line["value"]) in (int, float) and line["value"] >= 0, line
        reference = before[line["reference"]] if isinstance(line["reference"], str) else line["reference"]
        if reference:
            assert line["ratio"] == pytest.approx(line["value"] / reference, rel=0.01, abs=0.01), line
        else:
            assert line["ratio"] is None, line
        before[name] = line["value"]


def test_the_round_trips_are_those_that_the_architecture_promises(said):
    paths = promised()
    assert len(paths) == 8
    for path, counts in paths.items():
        measured = {service: said[f"{named(path)}.{service}"] for service in SERVICES}
        assert {service: line["value"] for service, line in measured.items()} == counts, path
        assert {service: line["reference"] for service, line in measured.items()} == counts, path
        assert said[f"{named(path)}.read_units"]["value"] + said[f"{named(path)}.write_units"]["value"] > 0 or path == "intake"


def test_every_function_of_the_app_has_a_cold_start_with_and_without_bytecode(said):
    functions = ["api_handler", *(source.name for source in product.app.event_sources)]
    measured = {tuple(name.split(".")[1:]) for name in said if name.startswith("cold_start.")}
    for function in functions:
        for variant in ("bytecode", "source"):
            for stage in ("import", "first_event", "cpu"):
                assert any((one[0], *one[2:]) == (function, stage, variant) for one in measured if len(one) == 4), function
    assert {("boto3_client", "bytecode"), ("boto3_client", "source")} <= measured


def test_times_are_there_for_one_and_for_eight_connections(said):
    for connections in ("1_connection", "8_connections"):
        for what in ("p50", "p99", "cpu_per_event"):
            assert said[f"webhook_to_role.{connections}.{what}"]["value"] > 0
        assert said[f"webhook_to_role.{connections}.p50"]["value"] <= said[f"webhook_to_role.{connections}.p99"]["value"]
    assert said["profile.p50"]["reference"] == "bare.profile_reads.p50"


def test_it_leaves_no_folder_behind_and_ends_well(ran):
    done, folder = ran
    assert list(folder.iterdir()) == []
    assert done.stderr.splitlines()[-1].endswith("done"), "the rest of what it has to say goes to standard error"


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed():
    hundred = list(range(1, 101))
    assert [percentile(hundred, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


def test_a_reference_of_zero_gives_no_ratio():
    out = io.StringIO()
    Lines(out).say("path.x.sqs", 0, "calls", reference=0)
    assert json.loads(out.getvalue()) == {"name": "path.x.sqs", "value": 0, "unit": "calls", "reference": 0, "ratio": None}


def test_an_item_is_as_large_as_its_names_and_values():
    assert units.size({"id": {"S": "é"}}) == 2 + 2
    assert units.size({"n": {"N": "-1230.50"}}) == 1 + 1 + 3 + 1
    assert units.size({"n": {"N": "0"}}) == 1 + 1
    assert units.size({"m": {"M": {"a": {"BOOL": True}, "b": {"L": [{"S": "xyz"}]}}}}) == 1 + 3 + 2 + (1 + 1) + (1 + 3 + 1 + 3)
    assert units.size({"s": {"SS": ["ab", "c"]}}) == 1 + 3


def test_a_read_is_billed_by_four_kilobytes_and_half_when_it_need_not_be_consistent():
    large = {"id": {"S": "x" * 5000}}
    assert units.of_call("GetItem", {"ConsistentRead": True}, {"Item": large}) == (2, 0)
    assert units.of_call("GetItem", {}, {"Item": large}) == (1, 0)
    assert units.of_call("GetItem", {"ConsistentRead": True}, {}) == (1, 0), "finding nothing is not free"
    assert units.of_call("Query", {}, {"Items": [large, large]}) == (1.5, 0), "a query is billed for the sum"
    assert units.of_call("Query", {}, {"Items": []}) == (0.5, 0)
    wanted = {"Keys": [{}, {}, {}], "ConsistentRead": True}
    assert units.of_call("BatchGetItem", {"RequestItems": {"t": wanted}}, {"Responses": {"t": [large]}}) == (2 + 1 + 1, 0)
    with pytest.raises(ValueError, match="Scan"):
        units.of_call("Scan", {}, {})


def test_the_embedded_aws_bills_writes_by_size_and_index(clean_tables):
    client = clean_tables.client("dynamodb")

    def cost(operation, **params):
        answer = getattr(client, operation)(**params, ReturnConsumedCapacity="INDEXES")
        return units.of_call({"put_item": "PutItem", "update_item": "UpdateItem", "delete_item": "DeleteItem"}[operation], params, answer)

    key = {"subject": {"S": "s"}, "id": {"S": "i"}}
    assert cost("put_item", TableName=LEDGER, Item=key) == (0, 1)
    assert cost("put_item", TableName=LEDGER, Item=key | {"text": {"S": "x" * 2100}}) == (0, 3)
    assert cost("delete_item", TableName=LEDGER, Key=key) == (0, 3), "the item as it was"
    member = {"user_id": {"S": "1"}, "server_id": {"S": "2"}}
    due = member | {"due_shard": {"N": "3"}, "due_at": {"N": "4"}}
    table = {"TableName": "rolekeep-local-members"}
    assert cost("put_item", **table, Item=due) == (0, 3), "the item, and an entry in each of two indexes"
    moved = {"UpdateExpression": "SET due_at = :later", "ExpressionAttributeValues": {":later": {"N": "5"}}}
    assert cost("update_item", **table, Key=member, **moved) == (0, 3), "an index entry removed and another written"
    counted = {"UpdateExpression": "SET requested = :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}
    assert cost("update_item", **table, Key=member, **counted) == (0, 1)
