"""What was packaged, deployed: a member's purchase walks through the deployed functions; and what the rehearsal changes for that."""
import copy
import subprocess
import sys

import pytest
import requests

from infra.local import deployed
from infra.local.aws import ROOT
from tests.packaged import STAGE

SANDBOXES = dict.fromkeys(deployed.SANDBOX_SETTINGS, "http://127.0.0.1:1")


def test_the_package_deploys_and_a_purchase_walks_through_the_deployed_functions(built):
    done = subprocess.run([sys.executable, "-m", "infra.local.rehearsal", str(built)], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The whole rehearsal went as it must" in done.stdout


def test_what_was_not_packaged_is_said_and_nothing_is_left_running(tmp_path):
    done = subprocess.run([sys.executable, "-m", "infra.local.rehearsal", str(tmp_path)], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert "make package" in done.stdout and "Traceback" not in done.stderr


def differences(left, right, path=()):
    """Yield (path, left, right) of each value that differs."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            yield from differences(left.get(key), right.get(key), (*path, key))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from differences(*pair, (*path, number))
    elif left != right:
        yield path, left, right


def test_the_rehearsal_changes_the_codes_place_the_stages_name_and_the_sandboxes_addresses_and_nothing_else(template):
    before = copy.deepcopy(template)
    changed = deployed.rehearsed(template, stage=STAGE, settings=SANDBOXES)
    assert template == before
    for path, left, right in differences(template, changed):
        if path[-1] == "CodeUri":
            assert right == {"Bucket": deployed.BUCKET, "Key": deployed.CODE}
        elif path[-2:-1] == ("Variables",):
            assert path[-1] == "STAGE" or left is None and SANDBOXES[path[-1]] == right
        else:
            assert isinstance(left, str) and left.replace(STAGE, "local") == right, path


def test_a_live_stage_does_not_become_one_by_its_name_alone(template):
    assert deployed.stage_of(template) == STAGE
    mixed = copy.deepcopy(template)
    mixed["Resources"]["Members"]["Properties"]["Environment"]["Variables"]["STAGE"] = "dev"
    with pytest.raises(ValueError):
        deployed.stage_of(mixed)


def test_a_browser_sees_the_real_address_and_asks_this_machine():
    url = "https://ab12cd34.execute-api.us-east-1.amazonaws.com/portal/profile?a=b%20c"
    assert deployed.local_address("http://127.0.0.1:9", url) == "http://127.0.0.1:9/_aws/execute-api/ab12cd34/portal/profile?a=b%20c"
    session = requests.Session()
    session.mount("https://", deployed.AsDeployed("http://127.0.0.1:9"))
    with pytest.raises(requests.ConnectionError, match="port=9"):
        session.get(url, timeout=2)
