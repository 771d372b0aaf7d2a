"""Cold starts from the package: each function in a fresh interpreter, until it is imported and until its first event is done.

The package is what `make package` makes. Everything is measured in turns, with the bytecode in it and as if there were none, so
that what slows the machine slows the yardstick too.
"""
import json
import pathlib
import subprocess
import sys
import time
import zipfile

from infra.bench.town import SERVER, record
from infra.local.aws import ROOT
from infra.local.scheduler import scheduled_event

PROGRAM = pathlib.Path(__file__).with_name("cold_process.py")
YARDSTICK = "boto3_client"
VARIANTS = ("bytecode", "source")
WITHIN = 60     # seconds
_HINT = {"v": 2, "event": "WH-BENCH", "type": "BILLING.SUBSCRIPTION.UPDATED", "account": "RKEEPSANDBX22", "kind": "subscription", "id": "I-BENCH",
         "hint": True}


def unpacked(folder, made=None):
    """(where the package's code lies unpacked, its template); `made` is a package of before, else it is made now."""
    if made is None:
        made = folder / "package"
        # As a process of its own: it imports the app for the stage that it packages.
        done = subprocess.run([sys.executable, "-m", "infra.package", "prod", str(made)], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise RuntimeError(f"the package was not made:\n{done.stdout}")
    with zipfile.ZipFile(made / "deployment.zip") as archive:
        archive.extractall(folder / "task")
    return folder / "task", json.loads((made / "sam.json").read_text())


def handlers(template):
    """{the function as app.py names it: the handler that the template gives to Lambda}."""
    found = [each["Properties"]["Handler"] for each in template["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    return {"api_handler" if handler == "app.app" else handler.split(".")[1]: handler for handler in found}


class Firsts:
    """The first event of each function: something real, that can be repeated."""

    def __init__(self, town):
        self._town, self._user, self._active = town, town.somebody(), True
        self._bought = town.buys(self._user)
        town.tell(self._bought)
        self._headers = town.signed_in(self._user)

    def of(self, function):
        """[(what is measured, function that makes the event)]; KeyError for a function that nobody has thought of here."""
        return {
            "api_handler": [("webhook", lambda: self._town.api_event("POST", *self._town.webhook(self._bought))),
                            ("profile", lambda: self._town.api_event("GET", "/api/v1/profile", self._headers)),
                            ("page", lambda: self._town.api_event("GET", "/profile"))],
            "stripe_events": [("role_changed", self._role_changes)],
            "members": [("nothing_changed", self._nothing_changes)],
            "due_sweep": [("nothing_due", lambda: scheduled_event("due_sweep"))],
            "parked_events": [("nothing_parked", lambda: scheduled_event("parked_events"))],
            "paypal_events": [("hint_for_nobody", lambda: {"Records": [record(json.dumps(_HINT))]})],
            "role_counts": [("one_server", lambda: scheduled_event("role_counts"))],
            "sent_events": [("nothing_new", lambda: scheduled_event("sent_events"))],
        }[function]

    def _role_changes(self):
        """Each time the other way round, so that there is a role to change."""
        self._active = not self._active
        self._town.becomes(self._bought, "active" if self._active else "unpaid")
        return {"Records": [record(json.dumps({"v": 2, "event": "evt_bench", "type": "customer.subscription.updated",
                                               "account": "operator", "kind": "subscription", "id": self._bought["id"]}))]}

    def _nothing_changes(self):
        return {"Records": [record(json.dumps({"v": 2, "user": self._user, "server": SERVER, "cause": "sweep"}))]}


def measure(town, lines, *, folder, rounds, until, made=None, log):
    """Every function's cold start is said, beside that of a bare client: the quickest of so many, or of as many as fit `until`."""
    task, template = unpacked(folder, made)
    firsts = Firsts(town)
    starts = {(YARDSTICK, variant): ("boto3", lambda: None) for variant in VARIANTS}
    for function, handler in handlers(template).items():
        for what, event in firsts.of(function):
            starts |= {(f"{function}.{what}", variant): (handler, event) for variant in VARIANTS}
    took = {start: [] for start in starts}
    for number in range(rounds):
        if number and time.monotonic() > until:
            break
        for (name, variant), (handler, event) in starts.items():
            took[name, variant].append(_start(task, variant, handler, event(), log))
    town.records("stripe-events")
    for (name, variant), each in took.items():
        _say(lines, name, variant, each)


def _say(lines, name, variant, took):
    # The work is the same each time: what took longer than the quickest was held up by something else.
    total, imported, cpu = (min(one[what] for one in took) * 1000 for what in ("total", "import", "cpu"))
    yardstick, of_cpu = f"cold_start.{YARDSTICK}.{variant}", f"cold_start.{YARDSTICK}.cpu.{variant}"
    if name == YARDSTICK:
        lines.say(yardstick, total, "ms", reference=None if variant == VARIANTS[0] else f"cold_start.{YARDSTICK}.{VARIANTS[0]}")
        lines.say(of_cpu, cpu, "ms", reference=None if variant == VARIANTS[0] else f"cold_start.{YARDSTICK}.cpu.{VARIANTS[0]}")
        return
    lines.say(f"cold_start.{name}.import.{variant}", imported, "ms", reference=yardstick)
    lines.say(f"cold_start.{name}.first_event.{variant}", total, "ms", reference=yardstick)
    lines.say(f"cold_start.{name}.cpu.{variant}", cpu, "ms", reference=of_cpu)


def _start(task, variant, handler, event, log):
    done = subprocess.run([sys.executable, "-I", "-S", "-B", str(PROGRAM), str(task), variant, handler], text=True,
                          input=json.dumps(event), stdout=subprocess.PIPE, stderr=log, timeout=WITHIN)
    if done.returncode:
        raise RuntimeError(f"the cold start of {handler} failed; its last words are in the log")
    return json.loads(done.stdout)
