"""`python -m infra.local.run` as a newcomer meets it: ready, stopped, started again, and what it says when it cannot."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import boto3
import pytest
import requests

from infra.local import aws


class Run:
    """A started runner: its process, its ports, and the lines it has printed until it was ready."""

    def __init__(self, folder, port, **settings):
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.run"], cwd=aws.ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "PORT": str(port), "STATE_FOLDER": str(folder), "DEMO": "0", **settings})

    def until_ready(self):
        """Answer the seconds it took; the line must come, and be the first."""
        began = time.monotonic()
        line = self.process.stdout.readline()
        assert line == f"Rolekeep is ready: {self.url}\n", line + self.process.stdout.read()
        return time.monotonic() - began

    def stop(self, how=signal.SIGTERM):
        """Answer (exit code, what it still printed)."""
        self.process.send_signal(how)
        return self.end()

    def end(self):
        """Wait for the end; answer (exit code, what it still printed)."""
        text = self.process.stdout.read()  # not communicate(): that forgets what readline() has read ahead
        return self.process.wait(30), text

    def table(self):
        session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=aws.REGION)
        return session.resource("dynamodb", endpoint_url=f"http://127.0.0.1:{self.port + 3}").Table("rolekeep-local-links")


@pytest.fixture
def start(tmp_path):
    """Start runners in one state folder on one set of ports; none outlives the test."""
    started, port = [], aws.free_port(5)

    def one(**settings):
        started.append(Run(tmp_path, port, **settings))
        return started[-1]

    yield one
    for run in started:
        with contextlib.suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait()
        run.process.stdout.close()


def test_it_is_ready_in_time_says_where_everything_is_and_stops_in_good_order(start):
    run = start()
    assert run.until_ready() < 10
    assert requests.get(f"{run.url}/api/v1/profile", timeout=5).status_code == 401
    assert requests.get(f"{run.url}/nowhere", timeout=5).headers["Content-Type"] == "application/problem+json"
    code, text = run.stop(signal.SIGINT)
    assert code == 0
    assert all(f"http://127.0.0.1:{run.port + n}/" in text for n in (1, 2, 4))
    assert "Rolekeep is ready" not in text, "scripts wait for exactly one such line"
    assert not any(aws.port_is_taken(run.port + n) for n in range(5))


def test_everything_is_still_there_after_a_stop_a_kill_and_a_start_and_gone_after_a_reset(start):
    run = start()
    run.until_ready()
    run.table().put_item(Item={"id": "one"})
    clock = f"http://127.0.0.1:{run.port + 1}/_sandbox/clock"
    assert requests.post(clock, json={"advance": 3600}, timeout=5).json()["offset"] == 3600
    run.stop()

    run = start()
    run.until_ready()
    assert requests.get(clock, timeout=5).json()["offset"] == 3600
    run.table().put_item(Item={"id": "two"})
    run.stop(signal.SIGKILL)

    run = start()
    run.until_ready()
    assert {item["id"] for item in run.table().scan()["Items"]} == {"one", "two"}
    run.stop()

    run = start(RESET="1")
    run.until_ready()
    assert run.table().scan()["Items"] == []
    assert requests.get(clock, timeout=5).json()["offset"] == 0


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_a_taken_port_is_named_with_the_way_out(start, number):
    with contextlib.closing(socket.socket()) as other:
        port = aws.free_port(5)
        other.bind(("127.0.0.1", port + number))
        other.listen()
        run = start(PORT=str(port))
        code, text = run.end()
    assert code == 1
    assert f"Port {port + number} (" in text and "already in use" in text and "make run PORT=" in text
    assert "Traceback" not in text


def test_a_port_that_is_no_number_is_refused(start):
    run = start(PORT="eighty")
    assert run.end() == (1, "PORT and SPEED must be numbers.\n")
