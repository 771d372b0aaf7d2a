"""`python -m infra.package STAGE`: build/STAGE/ holds sam.json and deployment.zip, ready for CloudFormation.

Chalice makes the package; what Chalice cannot say is merged into its template, made here from what app.py declares: the
tables and queues, partial batch failures, secrets as parameters, log groups, and API Gateway's own answers. Then
everything in the zip is compiled: Lambda's disk is read-only, so without that each cold start compiles it all again.
"""

import compileall
import importlib
import json
import os
import pathlib
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile

from chalice.utils import to_cfn_resource_name

from chalicelib.problem import Problem, not_found, too_large
from infra.local.aws import ROOT, resources
from infra.local.functions import queue_functions

LOG_DAYS = 30
PACKAGED = (".chalice", "chalicelib", "app.py", "requirements.txt")
API = "APIHandler"  # Chalice's name for the function behind the API
_PAYPAL_ACCOUNT = "[2-9A-HJ-NP-Z]{13}:[A-Za-z0-9_-]+:[A-Za-z0-9_-]+:[A-Z0-9]{17}([+][A-Z0-9]{17})*"
# What the product's settings are called, the CloudFormation parameter for each, and whether it is a secret.
PARAMETERS = {
    "PUBLIC_URL": {"AllowedPattern": "https://[a-z0-9.-]+(/[a-zA-Z0-9._-]+)*",
                   "Description": "Where browsers reach the portal, without a slash at the end"},
    "DISCORD_CLIENT_ID": {"AllowedPattern": "[0-9]{17,20}", "Description": "The Discord application's id"},
    "DISCORD_CLIENT_SECRET": {"NoEcho": True, "MinLength": 16, "Description": "The Discord application's OAuth2 secret"},
    "DISCORD_BOT_TOKEN": {"NoEcho": True, "MinLength": 16, "Description": "The token of the bot that grants roles"},
    "STRIPE_API_KEY": {"NoEcho": True, "AllowedPattern": "(sk|rk)_(test|live)_[A-Za-z0-9]+",
                       "Description": "A Stripe key, best a restricted one"},
    "STRIPE_WEBHOOK_SECRET": {"NoEcho": True, "AllowedPattern": "whsec_.{16,}(,whsec_.{16,})*",
                              "Description": "The endpoint's signing secret; two with a comma while rotating"},
    "STRIPE_CONNECT_WEBHOOK_SECRET": {"NoEcho": True, "Default": "", "AllowedPattern": "(whsec_.{16,}(,whsec_.{16,})*)?",
                                      "Description": "The same for the endpoint of connected accounts; empty: there is none"},
    "PAYPAL_ACCOUNTS": {"NoEcho": True, "Default": "", "AllowedPattern": f"({_PAYPAL_ACCOUNT}(,{_PAYPAL_ACCOUNT})*)?",
                        "Description": "merchant id:client id:secret:webhook id of each PayPal account, with commas; empty: there is none"},
    "PAYPAL_ENVIRONMENT": {"Default": "", "AllowedValues": ["", "live", "sandbox"],
                           "Description": "Which PayPal the accounts are of; of the kind of the Stripe key"},
}


def merge_template(app, stage):
    """Answer what is merged into Chalice's template for this app: {"Parameters", "Resources"}."""
    functions = [API, *(to_cfn_resource_name(name) for name in _worker_names(app))]
    merged = {name: _function(name) for name in functions}
    declared = resources(stage)
    for function in queue_functions(app):
        name = to_cfn_resource_name(function.name)
        merged[name] = _with_queue(merged[name], function, declared)
    merged.update({f"{name}Logs": _log_group(name, stage) for name in functions})
    # Without its version SAM adds a second stage, "Stage", under which everything would answer too.
    merged["RestAPI"] = {"Properties": {"OpenApiVersion": "2.0", "DefinitionBody": {
        "x-amazon-apigateway-gateway-responses": _gateway_responses()}}}
    return {
        "Parameters": {parameter(name): {"Type": "String", **facts} for name, facts in PARAMETERS.items()},
        "Resources": {**declared, **merged},
    }


def _worker_names(app):
    return [source.name for source in app.event_sources] + [each.name for each in app.pure_lambda_functions]


def _function(name):
    # Chalice's default would let Lambda make a log group that is kept for ever.
    return {"Properties": {
        "LoggingConfig": {"LogGroup": {"Ref": f"{name}Logs"}},
        "Environment": {"Variables": {setting: {"Ref": parameter(setting)} for setting in PARAMETERS}},
    }}


def _with_queue(function, queue_function, declared):
    """The event source waits for its queue, and a failed message comes again without the rest of its batch.

    Without FunctionResponseTypes Lambda ignores the list of failures and deletes the whole batch.
    """
    [queue] = [logical_id for logical_id, resource in declared.items()
               if resource["Properties"].get("QueueName") == queue_function.queue]
    event = to_cfn_resource_name(f"{queue_function.name}-sqs-event-source")
    failures = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    return {"DependsOn": [queue], "Properties": {**function["Properties"], "Events": {event: {"Properties": failures}}}}


def _log_group(name, stage):
    return {"Type": "AWS::Logs::LogGroup", "Properties": {
        "LogGroupName": f"/rolekeep/{stage}/{name}", "RetentionInDays": LOG_DAYS}}


def parameter(setting):
    return "".join(word.capitalize() for word in setting.split("_"))


def _gateway_responses():
    """API Gateway's own refusals, as the problems that the product answers; an unknown address is a 404, not a 403."""
    refused = Problem(403, "refused", "The request was refused", "It is not one that this service takes.")
    failed = Problem(500, "failed", "Something failed", "The service did not answer.", "Try again in a minute.")
    busy = Problem(429, "busy", "Too many requests", "The service is busy.", "Try again in a minute.")
    return {
        "MISSING_AUTHENTICATION_TOKEN": _gateway_response(not_found(), status=True),
        "REQUEST_TOO_LARGE": _gateway_response(too_large(), status=True),
        "THROTTLED": _gateway_response(busy, status=True),
        "DEFAULT_4XX": _gateway_response(refused, status=False),
        "DEFAULT_5XX": _gateway_response(failed, status=False),
    }


def _gateway_response(problem, *, status):
    """`status=False` keeps the status of each case, which the body then does not repeat."""
    body = {key: value for key, value in problem.body().items() if status or key != "status"}
    return {
        **({"statusCode": problem.status} if status else {}),
        "responseParameters": {
            "gatewayresponse.header.Content-Type": "'application/problem+json'",
            "gatewayresponse.header.Cache-Control": "'no-store'"},
        "responseTemplates": {"application/json": json.dumps(body, separators=(",", ":"))},  # letter by letter as the product answers
    }


def load_app(stage):
    """Answer the Chalice app as it is in this stage; importing it needs neither AWS nor a secret."""
    os.environ["STAGE"] = stage
    return importlib.import_module("app").app


def package(stage, target):
    """`target` holds sam.json and deployment.zip of this stage, whole or not at all."""
    merge = merge_template(load_app(stage), stage)
    with tempfile.TemporaryDirectory(prefix="rolekeep-package-") as scratch:
        built, project = pathlib.Path(scratch) / "built", _copied(pathlib.Path(scratch) / "project")
        merge_file = pathlib.Path(scratch) / "merge.json"
        merge_file.write_text(json.dumps(merge))
        _run_chalice("package", "--stage", stage, "--merge-template", str(merge_file), str(built), cwd=project)
        check(json.loads((built / "sam.json").read_text()))
        compile_into(built / "deployment.zip")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, target)


def _copied(project):
    """What is packaged, and nothing else: Chalice names its package by a hash over the folder, bytecode that somebody is writing
    there included, and keeps it beside; two that package at once would write into each other's file.
    """
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "deployments"))
        else:
            shutil.copy(ROOT / name, project / name)
    return project


def _run_chalice(*arguments, cwd):
    # Chalice asks for a region although the template leaves it open; no credential is used or needed.
    environment = {"AWS_DEFAULT_REGION": "us-east-1", **os.environ}
    code = "import sys; from chalice.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"chalice {arguments[0]} failed:\n{done.stdout}")


def check(template):
    """Refuse what the merge may break without a word: SystemExit when a merged name met nothing of Chalice's."""
    for name, resource in template["Resources"].items():
        if "Type" not in resource:
            raise SystemExit(f"The template has no {name} of Chalice's to merge into: was a function renamed?")
        for event, facts in resource["Properties"].get("Events", {}).items():
            if "Type" not in facts:
                raise SystemExit(f"{name} has no event {event} of Chalice's to merge into.")


def compile_into(archive):
    """The zip holds the bytecode of every module beside its source; equal sources give an equal zip."""
    with tempfile.TemporaryDirectory(prefix="rolekeep-compile-") as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        for stale in list(pathlib.Path(folder).rglob("__pycache__")):
            shutil.rmtree(stale)
        # Unchecked: Lambda need not look at the source. Files that do not compile (templates, tests) stay source.
        compileall.compile_dir(folder, quiet=2, stripdir=folder, prependdir="/var/task", workers=1,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(pathlib.Path(folder).rglob("*")):
                if path.is_file():
                    _add(packed, path, str(path.relative_to(folder)))


def _add(packed, path, name):
    entry = zipfile.ZipInfo(name)  # its fixed date makes the zip depend on the contents only
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    packed.writestr(entry, path.read_bytes())


def main(arguments):
    """Package the stage named on the command line into build/<stage>, or the folder named after it."""
    stages = json.loads((ROOT / ".chalice" / "config.json").read_text())["stages"]
    if not 1 <= len(arguments) <= 2 or arguments[0] not in stages:
        raise SystemExit(f"Which stage? One of: {', '.join(stages)}")
    target = pathlib.Path(arguments[1]) if arguments[1:] else ROOT / "build" / arguments[0]
    package(arguments[0], target)
    size = (target / "deployment.zip").stat().st_size / 1e6
    print(f"{target}: sam.json, deployment.zip ({size:.1f} MB, Python {sys.version_info.major}.{sys.version_info.minor})")


if __name__ == "__main__":
    main(sys.argv[1:])
