"""What `make package` leaves for CloudFormation, read back: the mistakes that lose events or open doors are not in it."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest
from chalice.app import SQSEventConfig
from chalice.utils import to_cfn_resource_name

import app as product
from chalicelib import settings
from chalicelib.problem import not_found
from infra import package
from infra.local.aws import ROOT
from infra.local.deployed import SANDBOX_SETTINGS
from tests.packaged import CANARIES, STAGE

QUEUE_FUNCTIONS = [source.name for source in product.app.event_sources if isinstance(source, SQSEventConfig)]
FUNCTIONS = ["APIHandler", *(to_cfn_resource_name(source.name) for source in product.app.event_sources)]


@pytest.fixture(scope="session")
def members_of_the_zip(built):
    with zipfile.ZipFile(built / "deployment.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith(("app", "chalicelib/", "__pycache__/"))}


def of_type(template, kind):
    found = {name: each for name, each in template["Resources"].items() if each["Type"] == kind}
    assert found
    return found


def event_source(template, function_name):
    """The (function, properties of its one SQS event) of a function of app.py."""
    function = template["Resources"][to_cfn_resource_name(function_name)]
    [event] = function["Properties"]["Events"].values()
    assert event["Type"] == "SQS"
    return function, event["Properties"]


def queue_behind(template, function_name):
    """The (logical id, properties) of the queue that a function of app.py listens to."""
    _, source = event_source(template, function_name)
    name = source["Queue"]["Fn::Sub"].rsplit(":", 1)[1]
    [(logical_id, queue)] = [(logical_id, each["Properties"]) for logical_id, each in of_type(template, "AWS::SQS::Queue").items()
                             if each["Properties"]["QueueName"] == name]
    return logical_id, queue


def test_app_py_listens_to_queues():
    assert len(QUEUE_FUNCTIONS) >= 2


@pytest.mark.parametrize("name", QUEUE_FUNCTIONS)
def test_only_the_failed_messages_of_a_batch_come_again(template, name):
    # Rows: fault 11
    _, source = event_source(template, name)
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize("name", QUEUE_FUNCTIONS)
def test_a_poisoned_message_ends_in_a_dead_letter_queue_that_keeps_it_longer(template, name):
    _, queue = queue_behind(template, name)
    policy = queue["RedrivePolicy"]
    assert policy["maxReceiveCount"] >= 5
    logical_id, attribute = policy["deadLetterTargetArn"]["Fn::GetAtt"]
    dead_letters = template["Resources"][logical_id]
    assert (dead_letters["Type"], attribute) == ("AWS::SQS::Queue", "Arn")
    assert dead_letters["Properties"]["QueueName"] == f"{queue['QueueName']}-dlq"
    assert dead_letters["Properties"]["MessageRetentionPeriod"] == 1_209_600 > queue["MessageRetentionPeriod"]
    assert "RedrivePolicy" not in dead_letters["Properties"]


@pytest.mark.parametrize("name", QUEUE_FUNCTIONS)
def test_a_message_stays_hidden_for_six_times_the_functions_limit(template, name):
    # Rows: fault 13
    function, _ = event_source(template, name)
    _, queue = queue_behind(template, name)
    assert queue["VisibilityTimeout"] >= 6 * function["Properties"]["Timeout"]


@pytest.mark.parametrize("name", QUEUE_FUNCTIONS)
def test_the_event_source_is_made_after_its_queue(template, name):
    function, _ = event_source(template, name)
    logical_id, _ = queue_behind(template, name)
    assert logical_id in function["DependsOn"]


def test_every_queue_is_listened_to_or_a_dead_letter_queue(template):
    names = {each["Properties"]["QueueName"] for each in of_type(template, "AWS::SQS::Queue").values()}
    heard = {queue_behind(template, name)[1]["QueueName"] for name in QUEUE_FUNCTIONS}
    assert names == heard | {f"{name}-dlq" for name in heard}


def test_messages_are_encrypted_at_rest(template):
    assert all(each["Properties"]["SqsManagedSseEnabled"] is True for each in of_type(template, "AWS::SQS::Queue").values())


def test_tables_survive_mistakes_and_cost_nothing_idle(template):
    tables = of_type(template, "AWS::DynamoDB::Table")
    assert {each["Properties"]["TableName"] for each in tables.values()} == {
        f"rolekeep-{STAGE}-{name}" for name in ("members", "links", "servers", "ledger", "sessions")}
    for table in tables.values():
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
        assert properties["SSESpecification"]["SSEEnabled"] is True
        assert properties["DeletionProtectionEnabled"] is True
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"


def test_every_schedule_of_the_app_is_there(template):
    schedules = {event["Properties"]["Schedule"] for function in of_type(template, "AWS::Serverless::Function").values()
                 for event in function["Properties"].get("Events", {}).values() if event["Type"] == "Schedule"}
    assert schedules == {source.schedule_expression.to_string() for source in product.app.event_sources
                         if hasattr(source, "schedule_expression")} != set()


def test_the_limits_are_those_that_the_product_counts_with(template):
    for name in FUNCTIONS:
        limit = settings.WEB_SECONDS if name == "APIHandler" else settings.WORKER_SECONDS
        assert template["Resources"][name]["Properties"]["Timeout"] == limit


def statements(template):
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for policy in role["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_no_policy_has_a_wildcard_and_each_names_one_of_our_own_resources(template):
    for role, statement in statements(template):
        assert statement["Effect"] == "Allow" and not {"NotAction", "NotResource"} & set(statement)
        for action in as_list(statement["Action"]):
            assert re.fullmatch(r"(dynamodb|sqs|logs):[A-Za-z]+", action), (role, action)
        for resource in as_list(statement["Resource"]):
            named = resource.get("Fn::GetAtt", [None])[0] or re.match(r"\$\{(\w+)\.Arn}/index/\w+$", resource["Fn::Sub"])[1]
            assert named in template["Resources"], (role, resource)


def test_each_function_has_a_role_of_its_own_and_reads_its_own_queue_only(template):
    roles = [json.dumps(template["Resources"][name]["Properties"]["Role"]) for name in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    readers = {}
    for role, statement in statements(template):
        if "sqs:ReceiveMessage" in as_list(statement["Action"]):
            readers.setdefault(role, []).extend(each["Fn::GetAtt"][0] for each in as_list(statement["Resource"]))
    assert readers == {
        f"{to_cfn_resource_name(name)}Role": [queue_behind(template, name)[0]] for name in QUEUE_FUNCTIONS}


def test_logs_are_not_kept_for_ever_and_each_function_writes_to_its_own(template):
    for name in FUNCTIONS:
        group = template["Resources"][name]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert group == f"{name}Logs"
        assert template["Resources"][group]["Properties"]["RetentionInDays"] <= 30


def test_an_unknown_address_is_a_404_problem_and_no_refusal_echoes_the_request(template):
    answers = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["x-amazon-apigateway-gateway-responses"]
    missing = answers["MISSING_AUTHENTICATION_TOKEN"]
    assert missing["statusCode"] == 404
    assert json.loads(missing["responseTemplates"]["application/json"]) == not_found().body()
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "REQUEST_TOO_LARGE", "THROTTLED"} <= set(answers)
    for answer in answers.values():
        assert answer["responseParameters"]["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert "$" not in answer["responseTemplates"]["application/json"]


def test_the_api_answers_under_one_stage_only_and_as_cloudformation_will_read_it(template, monkeypatch):
    from samtranslator.translator.transform import transform

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    policies = type("NoPolicies", (), {"load": lambda self: {}})()
    shown = json.loads(json.dumps(template).replace("./deployment.zip", "s3://bucket/key"))
    expanded = transform(shown, {}, policies)["Resources"].values()
    named = [each["Properties"].get("StageName") for each in expanded if each["Type"] in ("AWS::ApiGateway::Deployment", "AWS::ApiGateway::Stage")]
    assert sorted(filter(None, named)) == ["portal"], "SAM adds a second one, Stage, unless it is told the version of the definition"


def test_D11_no_stage_shows_what_went_wrong_inside():
    assert product.app.debug is False
    assert "debug" not in (ROOT / ".chalice" / "config.json").read_text().lower()


def test_D12_no_worker_reads_sessions_and_only_the_api_its_own_worker_and_the_schedules_send_to_a_queue(template):
    touched = {}
    for role, statement in statements(template):
        for resource in as_list(statement["Resource"]):
            if "Fn::GetAtt" in resource:
                touched.setdefault(resource["Fn::GetAtt"][0], set()).add(role)
    assert touched["SessionsTable"] == {"ApiHandlerRole"}
    assert touched["StripeEventsQueue"] == {"ApiHandlerRole", "StripeEventsRole", "ParkedEventsRole", "SentEventsRole"}
    assert touched["PaypalEventsQueue"] == {"ApiHandlerRole", "PaypalEventsRole", "ParkedEventsRole", "SentEventsRole"}
    assert touched["MembersQueue"] == {"ApiHandlerRole", "DueSweepRole", "MembersRole", "ParkedEventsRole"}


def test_every_setting_without_a_default_reaches_every_function(template):
    for name in FUNCTIONS:
        variables = template["Resources"][name]["Properties"]["Environment"]["Variables"]
        assert variables["STAGE"] == STAGE
        for setting in package.PARAMETERS:
            assert variables[setting]["Ref"] in template["Parameters"]
        assert not {"CLOCK_URL", "AWS_ENDPOINT_URL", "STRIPE_API_BASE", "DISCORD_API_BASE"} & set(variables)


def test_every_setting_that_the_product_reads_is_a_parameter_or_names_a_sandbox():
    read = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', (ROOT / "chalicelib" / "settings.py").read_text()))
    assert read - set(SANDBOX_SETTINGS) == set(package.PARAMETERS)


def test_secrets_are_parameters_that_are_never_shown_and_no_value_is_in_the_package(template, built, members_of_the_zip):
    for setting in CANARIES:
        parameter = template["Parameters"][package.parameter(setting)]
        assert parameter["NoEcho"] is True
        assert "Default" not in parameter
    everything = (built / "sam.json").read_bytes() + b"".join(members_of_the_zip.values())
    for value in CANARIES.values():
        assert value.encode() not in everything
    assert not re.search(rb"(sk|rk)_live_[A-Za-z0-9]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY", everything)


def test_our_modules_are_compiled_into_the_package_and_lambda_trusts_the_bytecode(members_of_the_zip):
    sources = [path.relative_to(ROOT) for path in [ROOT / "app.py", *(ROOT / "chalicelib").rglob("*.py")]]
    assert len(sources) > 10
    for source in sources:
        assert str(source) in members_of_the_zip
        bytecode = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        flags = int.from_bytes(members_of_the_zip[str(bytecode)][4:8], "little")
        assert flags == 0b01, "hash-based and unchecked: anything else makes Lambda look at the source again"


def test_the_pages_are_in_the_package_and_nothing_of_infra_or_tests_is(built, members_of_the_zip):
    for path in (ROOT / "chalicelib" / "web").iterdir():
        assert f"chalicelib/web/{path.name}" in members_of_the_zip
    with zipfile.ZipFile(built / "deployment.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith(("infra/", "tests/", ".local/", "ministack/", "pytest/"))]
    assert (built / "deployment.zip").stat().st_size < 50_000_000


def test_lambda_runs_the_python_that_compiled(template):
    for name in FUNCTIONS:
        assert template["Resources"][name]["Properties"]["Runtime"] == f"python{sys.version_info.major}.{sys.version_info.minor}"


def test_cfn_lint_finds_nothing(built):
    lint = pathlib.Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([lint, built / "sam.json"], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_function_that_the_merge_does_not_meet_is_refused():
    with pytest.raises(SystemExit, match="no Renamed of Chalice's"):
        package.check({"Resources": {"Renamed": {"Properties": {}}}})
    with pytest.raises(SystemExit, match="no event JobsEvent of Chalice's"):
        package.check({"Resources": {"Jobs": {"Type": "x", "Properties": {"Events": {"JobsEvent": {"Properties": {}}}}}}})


def test_the_local_stage_and_unknown_stages_cannot_be_packaged():
    for arguments in ([], ["local"], ["production"], ["prod", "a", "b"]):
        with pytest.raises(SystemExit, match="Which stage"):
            package.main(arguments)
