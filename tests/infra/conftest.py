"""The package, made once for all tests that look into it."""

import os
import subprocess
import sys

import pytest

from infra.local.aws import ROOT
from tests.infra.packaged import CANARIES, STAGE


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder that packaging leaves, made with no credential and no region; secrets lie about in the environment."""
    target = tmp_path_factory.mktemp("package") / STAGE
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **CANARIES}
    # What pip was told about where packages come from holds here too.
    environment.update({key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.endswith("_proxy")})
    done = subprocess.run([sys.executable, "-m", "infra.package", STAGE, str(target)], cwd=ROOT, env=environment,
                          text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target
