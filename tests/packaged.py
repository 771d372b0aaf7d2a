"""The package, built once for all the tests that read or deploy it: as a stranger's machine builds it, with no credential."""
import os
import subprocess
import sys

from infra.local.aws import ROOT

STAGE = "prod"
CANARIES = {name: f"{prefix}Canary0Canary0Canary0{number}" for number, (name, prefix) in enumerate({
    "STRIPE_API_KEY": "sk_test_", "STRIPE_WEBHOOK_SECRET": "whsec_", "DISCORD_CLIENT_SECRET": "discord",
    "DISCORD_BOT_TOKEN": "bot"}.items())}


def build(target):
    """`target` is what packaging leaves, made with no credential and no region; secrets lie about in the environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **CANARIES}
    # What pip was told about where packages come from holds here too.
    environment.update({key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.endswith("_proxy")})
    done = subprocess.run([sys.executable, "-m", "infra.package", STAGE, str(target)], cwd=ROOT, env=environment,
                          text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target
