"""The embedded AWS: MiniStack as a child process on 127.0.0.1, with the tables and queues of infra/resources.json.

MiniStack runs in a process of its own because it keeps its state in memory and saves it only while it is being
stopped in good order (SIGTERM): a process of its own can outlive a killed runner for the two seconds this takes.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import runpy
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESOURCES = ROOT / "infra" / "resources.json"
HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"


class CannotStart(Exception):
    """Says, in words for the person at the terminal, why the embedded AWS or another part did not start."""


def resources(stage):
    """Answer the CloudFormation resources of one stage: {logical id: {"Type", "Properties", ...}}."""
    return json.loads(string.Template(RESOURCES.read_text()).substitute(STAGE=stage))


def environment(endpoint):
    """Answer the settings that point every AWS SDK of a process at the embedded AWS and at nothing else.

    The files are named so that no profile, credential or region of the person who runs this can ever be used.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


REMOVED_SETTINGS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_DYNAMODB",
                    "AWS_ENDPOINT_URL_SQS", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


def use(endpoint, stage):
    """Point this process, and the children it starts from now on, at the embedded AWS."""
    for name in REMOVED_SETTINGS:
        os.environ.pop(name, None)
    os.environ.update(environment(endpoint), STAGE=stage)


def port_is_taken(port):
    """Answer whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def refuse_taken_port(port, part):
    """Raise CannotStart, with the way out, when somebody listens on a port that a part needs."""
    if port_is_taken(port):
        raise CannotStart(f"Port {port} ({part}) is already in use. End what uses it (another Rolekeep?), "
                          "or use other ports: make run PORT=8100")


def free_port(count=1):
    """Answer a port that nobody listens on at this moment, nor on the `count - 1` after it."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        if port + count < 65536 and not any(port_is_taken(port + n) for n in range(count)):
            return port


class EmbeddedAws:
    """One MiniStack process; `endpoint` is its URL, `stage` the stage whose tables and queues it holds.

    With a `state_folder` its contents are kept there over a stop and a start, without one they are lost on stop.
    """

    _module = "infra.local.aws"  # what its process runs
    _scratch_in = None  # where what is not kept lies meanwhile; None: where temporary files lie on this machine

    def __init__(self, *, port=None, stage="local", state_folder=None):
        self.port = port or free_port()
        self.stage = stage
        self.endpoint = f"http://{HOST}:{self.port}"
        self._state_folder = pathlib.Path(state_folder) if state_folder else None
        self._scratch = None
        self._process = None
        self._log = None
        self._clients = {}

    def start(self, *, fresh=False, timeout=20.0):
        """Return once MiniStack answers and the tables and queues exist; raises CannotStart with the reason.

        With `fresh` what an earlier run kept is forgotten.
        """
        lock = self._locked_folder(timeout)
        try:
            refuse_taken_port(self.port, "embedded AWS")
            if fresh:
                shutil.rmtree(self._folder / "state", ignore_errors=True)
            self._spawn(lock)
        finally:
            os.close(lock)
        self._await_answer(timeout)
        self.create_resources()
        return self

    def stop(self, *, timeout=20.0):
        """Return once MiniStack has saved its state and ended; harmless when it does not run."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._log.close()
        self._process = None
        if self._scratch is not None:
            self._scratch.cleanup()

    def reset(self):
        """Empty everything and create the tables and queues anew (about 30 ms)."""
        request = urllib.request.Request(f"{self.endpoint}/_ministack/reset", method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass
        self.create_resources()

    def died(self):
        """Answer whether MiniStack has ended although nobody stopped it."""
        return self._process is not None and self._process.poll() is not None

    def client(self, service):
        """Answer the boto3 client of one service of this embedded AWS, made once (about 50 ms)."""
        if service not in self._clients:
            import boto3

            self._clients[service] = boto3.session.Session(
                aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION,
            ).client(service, endpoint_url=self.endpoint)
        return self._clients[service]

    def create_resources(self):
        """Make the tables and queues of infra/resources.json exist; what exists already keeps its contents."""
        declared = resources(self.stage)
        for resource in declared.values():
            if resource["Type"] == "AWS::DynamoDB::Table":
                _create_table(self.client("dynamodb"), resource["Properties"])
        # A queue names its dead-letter queue, so the ones that name none come first.
        queues = [r["Properties"] for r in declared.values() if r["Type"] == "AWS::SQS::Queue"]
        for properties in sorted(queues, key=lambda each: "RedrivePolicy" in each):
            _create_queue(self.client("sqs"), properties, declared)

    def _locked_folder(self, timeout):
        """Answer an open file whose lock MiniStack will inherit, so that two never write into one folder.

        A killed runner's MiniStack holds the lock until it has saved: the next start waits for that.
        """
        if self._state_folder is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rolekeep-aws-", dir=self._scratch_in)
            self._folder = pathlib.Path(self._scratch.name)
        else:
            self._folder = self._state_folder
            self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise CannotStart(f"Another embedded AWS still uses {self._folder}; stop it first.") from None
                time.sleep(0.05)

    def _spawn(self, lock):
        self._log = open(self._folder / "ministack.log", "ab")
        settings = self._surroundings()
        settings.update(
            BIND_HOST=HOST, GATEWAY_PORT=str(self.port), STATE_DIR=str(self._folder / "state"),
            PERSIST_STATE="0" if self._state_folder is None else "1", TMPDIR=str(self._folder), LOG_LEVEL="WARNING",
            MINISTACK_REGION=REGION, MINISTACK_ACCOUNT_ID=ACCOUNT, SFTP_ENABLED="0", IOT_MTLS_ENABLED="0",
        )
        # A session of its own: Ctrl+C in the terminal reaches the runner, which then stops MiniStack last.
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module], cwd=ROOT, env=settings, pass_fds=(lock,),
            stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True,
        )

    def _surroundings(self):
        """Answer the environment that MiniStack is started in, before its own settings are added."""
        return {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}

    def _await_answer(self, timeout):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not self.died():
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2):
                    return
            time.sleep(0.02)
        log = self._folder / "ministack.log"
        last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        self.stop()
        raise CannotStart(f"The embedded AWS did not start on port {self.port}. Its last words ({log}):\n{last_lines}")


def _create_table(client, properties):
    wanted = {key: properties[key] for key in (
        "TableName", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode") if key in properties}
    try:
        client.create_table(**wanted)
    except client.exceptions.ResourceInUseException:
        return
    if "TimeToLiveSpecification" in properties:
        client.update_time_to_live(
            TableName=properties["TableName"], TimeToLiveSpecification=properties["TimeToLiveSpecification"])


QUEUE_ATTRIBUTES = ("VisibilityTimeout", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "DelaySeconds")


def _create_queue(client, properties, declared):
    attributes = {key: str(properties[key]) for key in QUEUE_ATTRIBUTES if key in properties}
    if "RedrivePolicy" in properties:
        logical_id = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        name = declared[logical_id]["Properties"]["QueueName"]
        attributes["RedrivePolicy"] = json.dumps(
            {**properties["RedrivePolicy"], "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"})
    try:
        client.create_queue(QueueName=properties["QueueName"], Attributes=attributes)
    except client.exceptions.QueueNameExists:  # kept from an earlier run, with other attributes
        url = client.get_queue_url(QueueName=properties["QueueName"])["QueueUrl"]
        client.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def _stop_when_orphaned():
    """Ask this process to stop in good order as soon as the one that started it is gone, however it went.

    The other end of our standard input closes with the runner, even when that is killed with SIGKILL.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def serve():
    """This process is MiniStack until it is told to stop, or whoever started it is gone."""
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    sys.argv = ["ministack"]
    runpy.run_module("ministack", run_name="__main__")


if __name__ == "__main__":
    serve()
