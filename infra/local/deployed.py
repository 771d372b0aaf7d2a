"""What `make package` leaves, deployed as a CloudFormation stack into the embedded AWS, and how browsers reach it there.

It is as strict as MiniStack can be made: each function acts under its own role (AUTH), gets the template's environment
and nothing of ours, and runs on a bare interpreter, so that what the package lacks is missing.
"""

import copy
import json
import os
import pathlib
import shutil
import stat
import sys
import tempfile
import threading
import zipfile
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, WaiterError
from requests.adapters import HTTPAdapter

from infra.local import aws, permissions
from infra.local.aws import CannotStart, EmbeddedAws
from infra.package import parameter

STAGE = "local"     # the only stage whose settings may name other addresses than the real ones
SANDBOX_SETTINGS = ("STRIPE_API_BASE", "DISCORD_API_BASE", "DISCORD_AUTHORIZE_URL", "CLOCK_URL", "PAYPAL_API_BASE", "PAYPAL_WEB_BASE",
                    "PAYPAL_CERT_BASE", "PAYPAL_TRUST_ROOT")    # refused in live stages
STACK = "rolekeep-rehearsal"
BUCKET, CODE, TEMPLATE = "rehearsal", "deployment.zip", "out.json"
MEMORY, ROOM = pathlib.Path("/dev/shm"), 512_000_000
UNKNOWN_ADDRESS = "https://example.invalid"     # docs/packaging.md: the first deploy does not know its address yet


def rehearsed(template, *, stage, settings):
    """The packaged template of `stage` as it is deployed here. These are all the differences from a real deploy:

    the code's place (as `aws cloudformation package` writes it), the stage's name, and settings that name sandboxes.
    """
    text = json.dumps(template).replace(f"rolekeep-{stage}-", f"rolekeep-{STAGE}-").replace(f"/rolekeep/{stage}/", f"/rolekeep/{STAGE}/")
    changed = json.loads(text)
    for function in _of_type(changed, "AWS::Serverless::Function"):
        function["CodeUri"] = {"Bucket": BUCKET, "Key": CODE}
        function["Environment"]["Variables"].update(settings, STAGE=STAGE)
    return changed


def stage_of(template):
    """The stage that a template was packaged for."""
    [stage] = {each["Environment"]["Variables"]["STAGE"] for each in _of_type(template, "AWS::Serverless::Function")}
    return stage


def _of_type(template, kind):
    return [each["Properties"] for each in template["Resources"].values() if each["Type"] == kind]


def _memory():
    """A folder in memory that has room for what a package unpacks to, or None: on a slow disk 6,600 files take seven seconds."""
    try:
        return str(MEMORY) if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM else None
    except OSError:
        return None


class DeployedAws(EmbeddedAws):
    """An embedded AWS with nothing in it yet, that asks every caller for permission; schedules fire `speed` times as often."""

    _module = "infra.local.deployed"

    def __init__(self, *, speed=1.0):
        super().__init__(stage=STAGE)
        self._speed, self._scratch_in = speed, _memory()

    def create_resources(self):
        """CloudFormation makes them."""

    def _surroundings(self):
        """Functions inherit this: none of our settings may stand in for one that the template lacks."""
        python = self._folder / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
        python.chmod(stat.S_IRWXU)
        return {"PATH": os.environ["PATH"], "AUTH": "true", "FUNCTIONS_PYTHON": str(python), "SCHEDULE_SPEED": str(self._speed)}

    @property
    def bare_python(self):
        """The interpreter of the functions: Python and its own library, no site-packages."""
        return self._folder / "python"


class Stack:
    """The packaged application in `folder`, deployed twice as docs/packaging.md says: then `url` is where browsers reach it.

    `settings` are the product's, by their names. Those that the template takes are given as parameters; of the others only
    the ones that name sandboxes arrive: a setting that the template forgot is missing, as on AWS.
    """

    def __init__(self, server, folder, settings):
        self._server, self._folder, self.url = server, pathlib.Path(folder), None
        template = json.loads((self._folder / "sam.json").read_text())
        self._given = {name: value for name, value in settings.items() if parameter(name) in template["Parameters"]}
        sandboxes = {name: settings[name] for name in SANDBOX_SETTINGS if name in settings}
        self.template = rehearsed(template, stage=stage_of(template), settings=sandboxes)
        self._cloudformation = server.client("cloudformation")

    def deploy(self):
        """The stack stands and knows its own address; `url` is set. CannotStart with what CloudFormation said."""
        s3 = self._server.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.upload_file(str(self._folder / CODE), BUCKET, CODE)
        s3.put_object(Bucket=BUCKET, Key=TEMPLATE, Body=json.dumps(self.template).encode())
        self._change("CREATE", {**self._given, "PUBLIC_URL": UNKNOWN_ADDRESS})
        self.url = self.outputs()["EndpointURL"].rstrip("/")
        # An update keeps what is not given anew, secrets above all.
        self._change("UPDATE", {**dict.fromkeys(self._given), "PUBLIC_URL": self.url})
        self._answer_for_the_gateway()

    def outputs(self):
        """{name: value} of the stack's outputs."""
        [stack] = self._cloudformation.describe_stacks(StackName=STACK)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def resource(self, logical_id):
        """The physical id of one resource."""
        found = self._cloudformation.describe_stack_resource(StackName=STACK, LogicalResourceId=logical_id)
        return found["StackResourceDetail"]["PhysicalResourceId"]

    def _change(self, kind, values):
        """By a change set, as `aws cloudformation deploy` does it; a value of None stays what it was."""
        parameters = [{"ParameterKey": parameter(name), **({"UsePreviousValue": True} if value is None else {"ParameterValue": value})}
                      for name, value in values.items()]
        change, name = self._cloudformation, f"rehearsal-{kind.lower()}"
        try:
            change.create_change_set(
                StackName=STACK, ChangeSetName=name, ChangeSetType=kind, Capabilities=["CAPABILITY_IAM"], Parameters=parameters,
                TemplateURL=f"{self._server.endpoint}/{BUCKET}/{TEMPLATE}")
            change.get_waiter("change_set_create_complete").wait(StackName=STACK, ChangeSetName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            change.execute_change_set(StackName=STACK, ChangeSetName=name)
            change.get_waiter(f"stack_{kind.lower()}_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        except (ClientError, WaiterError) as problem:
            raise CannotStart(f"CloudFormation ({kind.lower()}): {problem}\n{self._said()}") from problem

    def _said(self):
        """What went wrong, as the stack's events have it."""
        try:
            events = self._cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
        except ClientError:
            return ""
        return "\n".join(f"{each['LogicalResourceId']}: {each['ResourceStatusReason']}" for each in events
                         if "FAILED" in each["ResourceStatus"] and each.get("ResourceStatusReason"))

    def _answer_for_the_gateway(self):
        """MiniStack does not read API Gateway's own answers from the API's definition; it takes them one by one."""
        gateway, [api] = self._server.client("apigateway"), _of_type(self.template, "AWS::Serverless::Api")
        answers = copy.deepcopy(api["DefinitionBody"]["x-amazon-apigateway-gateway-responses"])
        for kind, answer in answers.items():
            if "statusCode" in answer:
                answer["statusCode"] = str(answer["statusCode"])
            gateway.put_gateway_response(restApiId=self.resource("RestAPI"), responseType=kind, **answer)
        gateway.create_deployment(restApiId=self.resource("RestAPI"), stageName=api["StageName"])


class AsDeployed(HTTPAdapter):
    """A browser's way to https://<api>.execute-api…/<stage>/…: what name service and TLS do on the Internet is done here.

    Whoever sends a request sees the real address: cookies, redirects and relative links follow from that one.
    """

    def __init__(self, endpoint):
        super().__init__()
        self._endpoint = endpoint

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        return self.poolmanager.connection_from_url(self._endpoint)

    def cert_verify(self, conn, url, verify, cert):
        """There is no certificate on this machine."""

    def request_url(self, request, proxies):
        return local_address(self._endpoint, request.url).removeprefix(self._endpoint)


def local_address(endpoint, url):
    """Where an address of the deployed API is answered on this machine."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{endpoint}/_aws/execute-api/{parts.hostname.split('.')[0]}{parts.path}{query}"


def _serve():
    """MiniStack, made stricter where it is kinder than AWS, and freed of what would only be waited for."""
    from ministack.core import iam_actions
    from ministack.services import eventbridge

    speed, seconds = float(os.environ["SCHEDULE_SPEED"]), eventbridge._parse_rate_seconds
    eventbridge._parse_rate_seconds = lambda expression: (seconds(expression) or 0) / speed or None
    eventbridge._SCHEDULER_TICK_INTERVAL = 1
    iam_actions.extract_iam_action = _as_aws_names_it(iam_actions.extract_iam_action)
    sys.executable = os.environ["FUNCTIONS_PYTHON"]
    zipfile.ZipFile.extractall = _unpacked_once(zipfile.ZipFile.extractall)
    aws.serve()


def _as_aws_names_it(action_of):
    """SQS has no permission of its own for a batch, but MiniStack asks for one (AWS's Service Authorization Reference)."""
    def named(service, *request):
        service_name, _, operation = (action_of(service, *request) or "").partition(":")
        if service == "sqs":
            operation = permissions.ACTIONS.get(operation, operation)
        return f"{service_name}:{operation}" if operation else None
    return named


def _unpacked_once(extract):
    """Functions share what is unpacked of the same package: they only read it, and 6,600 files take seconds each time."""
    unpacked, one_at_a_time = {}, threading.Lock()

    def extractall(archive, path, *args, **kwargs):
        path = pathlib.Path(path)
        if path.name != "code":     # only MiniStack's workers unpack into a folder of this name
            return extract(archive, path, *args, **kwargs)
        with one_at_a_time:
            contents = tuple((each.filename, each.CRC) for each in archive.infolist())
            if contents not in unpacked:
                unpacked[contents] = tempfile.mkdtemp(prefix="task-")
                extract(archive, unpacked[contents])
        path.rmdir()
        path.symlink_to(unpacked[contents])
    return extractall


if __name__ == "__main__":
    _serve()
