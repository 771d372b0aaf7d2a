"""`python -m infra.local.rehearsal [FOLDER]`: what `make package` left in FOLDER (build/prod), deployed and walked through.

The stack stands in the embedded AWS (deployed.py), Stripe and Discord are the sandboxes, and a member walks over the API's
real address, with the stage in every path. Prints each step with its time; ends with 1 at the first thing that is not as
it must be. SPEED (10): how many times as often as on AWS a schedule fires.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.gateways.queues import MESSAGE_VERSION
from infra.local import aws, demo
from infra.local.aws import CannotStart
from infra.local.demo import DORA, GUILD, SUPPORTER
from infra.local.deployed import AsDeployed, DeployedAws, Stack, local_address
from infra.local.run import PAYPAL, STRIPE_KEY, paypal_endpoints, paypal_settings, product_settings, webhook_endpoints
from infra.local.sandbox import discord, paypal, stripe
from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.http import serve
from infra.local.smoke import Walk
from infra.local.steps import answers, check, epoch, same, step
from infra.local.walker import WalkFailed, Walker, wait_for

ROLE_WITHIN = 30    # seconds: the first start of a function unpacks 60 MB and imports from it, several at once on two cores
FUNCTIONS = ("APIHandler", "StripeEvents", "PaypalEvents", "Members", "DueSweep")


def main(arguments):
    """0 when the whole rehearsal went as it must, else 1; nothing of it is left either way."""
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started must not outlive us
    folder = pathlib.Path(arguments[0]) if arguments else aws.ROOT / "build" / "prod"
    try:
        with Surroundings(folder, speed=float(os.environ.get("SPEED") or 10)) as around:
            Rehearsal(around).all()
    except (CannotStart, WalkFailed, BotoCoreError, ClientError, OSError, KeyError, IndexError, TypeError) as failure:
        print(f"\nFAILED: {type(failure).__name__}: {failure}", flush=True)
        return 1
    print(f"\nThe whole rehearsal went as it must, in {time.monotonic() - begun:.1f} s.", flush=True)
    return 0


class Surroundings:
    """An embedded AWS, the sandboxes and the deployed stack; inside `with` everything answers."""

    def __init__(self, folder, *, speed):
        self.server, self._parts = DeployedAws(speed=speed), contextlib.ExitStack()
        port = aws.free_port(3)
        self.stripe_url, self.discord_url, self.paypal_url = (f"http://{aws.HOST}:{port + n}" for n in range(3))
        self._folder, self._ports, self._clock = folder, (port, port + 1, port + 2), SandboxClock()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.print_logs()
        self._parts.close()

    @property
    def url(self):
        """The portal's address, as the stack tells it."""
        return self.stack.url

    def _start(self):
        check((self._folder / "sam.json").exists(), f"{self._folder} holds a package: `make package` makes it")
        self._parts.callback(self._stop)
        with step("1  an empty AWS that asks for permission starts"):
            self.server.start()
        at_paypal = paypal.serve(port=self._ports[2], clock=self._clock)   # before the stack: its root is one of the settings
        self._parts.callback(at_paypal.stop)
        settings = product_settings("", self.stripe_url, self.discord_url) | paypal_settings(self.paypal_url, at_paypal.sandbox.webhooks.certificates.root)
        settings.pop("PUBLIC_URL")
        with step("1  the package becomes a stack, and again once its address is known"):
            self.stack = Stack(self.server, self._folder, settings)
            self.stack.deploy()
        self._start_sandboxes()
        at_paypal.sandbox.webhooks.endpoints[:] = paypal_endpoints(local_address(self.server.endpoint, self.url))
        with step("1  demo server and offers, written as an operator does it"):
            aws.use(self.server.endpoint, "local")
            os.environ.update(settings, PUBLIC_URL=self.url)
            sandbox = Walker(self.url, self.stripe_url, self.discord_url).sandbox
            demo.furnish_discord(sandbox)
            demo.register_server(sandbox)

    def _stop(self):
        with step("-- everything is gone"):
            self.server.stop()

    def _start_sandboxes(self):
        """Stripe and Discord are told where the portal is, as an operator tells them after the first deploy."""
        world = discord.DiscordSandbox(clock=self._clock, app={"redirect_uris": [f"{self.url}/auth/discord/callback"]})
        self._parts.callback(serve(world.handle, self._ports[1]).stop)
        # Only here is the address another than the public one: the sandbox asks no name service.
        self._parts.callback(stripe.serve(
            port=self._ports[0], clock=self._clock, endpoints=webhook_endpoints(local_address(self.server.endpoint, self.url)),
            api_keys=(STRIPE_KEY,)).stop)

    def log_lines(self, function):
        """[message] in the log group of one function, oldest first."""
        logs, group = self.server.client("logs"), f"/rolekeep/local/{function}"
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]

    def print_logs(self, lines=8):
        """What the functions last said stands in the terminal."""
        for function in FUNCTIONS:
            with contextlib.suppress(Exception):
                said = [line for line in self.log_lines(function) if not line.startswith(("START", "END", "REPORT"))]
                print(f"\nThe end of {function}'s log:\n  " + "\n  ".join(said[-lines:]), flush=True)


class Rehearsal(Walk):
    """The steps, in order: of the walk that `make smoke` takes, those that show the packaging; and what only AWS does."""

    role_within = ROLE_WITHIN

    def all(self):
        """Every step."""
        for name in ("strict", "pages", "sign_in", "buy", "look", "manage", "cancel_and_undo", "batch", "schedule", "walls", "paypal", "logs",
                     "sign_out"):
            getattr(self, name)()

    def walker(self):
        """Another person with a browser of their own, for which the deployed address leads here."""
        walker = Walker(*self.urls, seconds=ROLE_WITHIN)
        walker.browser.session.mount(self.urls[0], AsDeployed(self.instance.server.endpoint))
        return walker

    def strict(self):
        with step("1  nothing hides a mistake: roles are enforced, functions see no package but their own"):
            server = self.instance.server
            same(self.get(f"{server.endpoint}/_ministack/health").json().get("auth"), "enabled", "the embedded AWS's permission checks")
            for module in ("chalice", "botocore", "requests", "cryptography"):
                importlib.import_module(module)     # here it is
                done = subprocess.run([server.bare_python, "-c", f"import {module}"], capture_output=True, check=False)
                check(b"ModuleNotFoundError" in done.stderr, f"the functions' interpreter does not bring {module} itself")
            same({each["Environment"]["Variables"]["PUBLIC_URL"] for each in self._functions()}, {self.urls[0]}, "the functions' PUBLIC_URL")
            self._may_be_called("APIHandler", by="apigateway.amazonaws.com", in_the_name_of=self.instance.stack.resource("RestAPI"))
            self._may_be_called("DueSweep", by="events.amazonaws.com", in_the_name_of=":rule/")

    def _may_be_called(self, function, *, by, in_the_name_of):
        """MiniStack calls functions without being permitted; AWS would answer 500, or fire into nothing."""
        policy = self.instance.server.client("lambda").get_policy(FunctionName=self.instance.stack.resource(function))["Policy"]
        statements = json.loads(policy)["Statement"]
        same([(each["Effect"], each["Action"], each["Principal"]) for each in statements],
             [("Allow", "lambda:InvokeFunction", {"Service": by})], f"who may call {function}")
        check(in_the_name_of in json.dumps(statements[0]["Condition"]), f"only our own calls {function}: {statements[0]['Condition']}")

    def _functions(self):
        names = [self.instance.stack.resource(name) for name in FUNCTIONS]
        return [self.instance.server.client("lambda").get_function_configuration(FunctionName=name) for name in names]

    def pages(self):
        with step("1  the page and everything it names, by relative links under the stage; unknown addresses are 404 problems"):
            page = self.dora.browser.open(self.urls[0] + "/")
            same(page.url, self.urls[0] + "/profile", "where / leads")
            self._page_is_whole(page.url)
            check(self.urls[0].endswith("/portal"), f"the stage is in the path: {self.urls[0]}")
            for path in ("/nothing", "/api/v1/nothing", "/assets/nothing.css"):
                answers(404, lambda path=path: self.dora.call("GET", path))
            answers(401, lambda: self.dora.call("GET", "/api/v1/profile"))
            answers(404, lambda: self.dora.call("GET", f"/api/v1/servers/{GUILD}/restore"))

    def cancel_and_undo(self):
        with step("6  cancel: a receipt; the role stays; undo; in Stripe's portal the same"):
            cookie = next(each for each in self.dora.browser.session.cookies if each.name.endswith("session"))
            same((cookie.name, cookie.secure, cookie.path), ("__Host-rolekeep-session", True, "/"), "the session's cookie")
            renews = epoch(self.shows(state="active")["renews_at"])
            self._cancelled(self.dora.cancel(self.sub, reason="too_expensive"), renews, already=False)
            self.shows(state="ending")
            self._undone(renews)
            page = self.dora.cancel_at_stripe(self.dora.portal_session(self.sub, "cancel"), self.sub)
            same(page.url, self.urls[0] + "/profile", "where Stripe's portal sends the member afterwards")
            self.shows(state="ending")
            self._undone(renews)

    def batch(self):
        with step("7  a batch with one bad message: the others are done, it alone comes again, and ends in the dead letters"):
            sqs, queue = self.instance.server.client("sqs"), self.instance.stack.resource("MembersQueue")
            self._drained(sqs, queue)
            sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})     # 360 s would be waited for five times
            self.sandbox.discord("DELETE", f"/guilds/{GUILD}/members/{DORA}/roles/{SUPPORTER}")
            look = json.dumps({"v": MESSAGE_VERSION, "user": DORA, "server": GUILD, "cause": "rehearsal", "look": True})
            bodies = [look, "not a message", look]
            with self._mapping_paused("Members"):
                sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": each} for n, each in enumerate(bodies)])
            self.holds(SUPPORTER)
            dead = self.instance.stack.resource("MembersDeadLetters")
            [letter] = wait_for(lambda: sqs.receive_message(
                QueueUrl=dead, MessageSystemAttributeNames=["All"]).get("Messages"), 40, "the bad message is among the dead letters")
            same(letter["Body"], "not a message", "the dead letter")
            self._drained(sqs, queue)
            failed = [json.loads(line) for line in self.instance.log_lines("Members") if "record_failed" in line]
            check(len(failed) >= 5, f"it was tried five times, not {len(failed)}")
            same({line["message_id"] for line in failed}, {letter["MessageId"]}, "the messages that failed")

    def _drained(self, sqs, queue):
        def left():
            found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
            return {name: int(found[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible", "Delayed")}
        wait_for(lambda: not any(left().values()), ROLE_WITHIN, lambda: f"the queue is empty, not {left()}")

    @contextlib.contextmanager
    def _mapping_paused(self, function):
        """What is sent meanwhile is one batch afterwards."""
        client = self.instance.server.client("lambda")
        [mapping] = client.list_event_source_mappings(FunctionName=self.instance.stack.resource(function))["EventSourceMappings"]
        same(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"], "what the event source asks the function for")
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        yield
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def schedule(self):
        with step("7  cancelled, and no webhook tells of the end: the schedule fires and the role is taken"):
            self.sandbox.stripe("POST", "/faults", {"webhook": "^customer\\.subscription\\.", "do": "drop", "times": None})
            end = epoch(self.dora.cancel(self.sub)["access_until"])
            self.shows(state="ending")
            self.holds(SUPPORTER)
            self.sandbox.move_to(end)
            self.holds()
            taken = [at for at in self.took_roles_at() if at >= end]
            same(len(taken), 1, "how often the role was taken after the end")
            self.shows(state="ended", renews_at=None)
            self.sandbox.stripe("DELETE", "/faults")

    def walls(self):
        with step("9  signatures over the bytes as API Gateway hands them on: bad, missing, old, future ones are 400"):
            self._signatures()

    def paypal(self):
        with step("9  PayPal delivers: the certificate chain is verified by the packaged library, and the event reaches its worker"):
            order = Walker(*self.urls[:3], self.instance.paypal_url).sandbox.paypal
            order("POST", "/emit", {"event_type": "BILLING.SUBSCRIPTION.UPDATED", "resource": {"id": "I-REHEARSAL"}})
            wait_for(lambda: order("GET", "/events")["events"][-1]["attempts"], ROLE_WITHIN, "PayPal has delivered")
            same(order("GET", "/events")["events"][-1]["attempts"][0]["status"], 200, "what the intake answered")
            table, key = self.instance.stack.resource("LedgerTable"), {":parked": {"S": f"parked#{PAYPAL.id}"}}
            wait_for(lambda: self.instance.server.client("dynamodb").query(
                TableName=table, KeyConditionExpression="subject = :parked", ExpressionAttributeValues=key)["Count"], ROLE_WITHIN,
                "the worker has it, and parks it: nobody has connected the account")
            same([line for line in self.instance.log_lines("APIHandler") if "intake_unverified" in line], [], "deliveries that could not be verified")

    def logs(self):
        with step("10 each function wrote to its own log, no error but the one made on purpose, no secret, no address of a session"):
            secrets = [value for name, value in os.environ.items() if name in (
                "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "DISCORD_CLIENT_SECRET", "DISCORD_BOT_TOKEN")] + [PAYPAL.secret]
            secrets += [each.value for each in self.dora.browser.session.cookies] + [self.instance.stripe_url]
            for function in FUNCTIONS:
                said = self.instance.log_lines(function)
                check(any(line.startswith("REPORT") for line in said), f"{function} ran and wrote to its log")
                wrong = [line for line in said if "Traceback" in line or '"level":"ERROR"' in line and "record_failed" not in line]
                same(wrong, [], f"errors in {function}'s log")
                leaked = [line for line in said for secret in secrets if secret in line]
                same(leaked, [], f"secrets in {function}'s log")

    def sign_out(self):
        with step("10 sign out: the cookie and the session are gone"):
            old = {each.name: each.value for each in self.dora.browser.session.cookies}
            self.dora.logout()
            same([each.name for each in self.dora.browser.session.cookies], [], "cookies after signing out")
            again = self.walker()
            answer = again.browser.session.get(self.urls[0] + "/api/v1/profile", cookies=old, timeout=ROLE_WITHIN)
            same(answer.status_code, 401, "the profile with the old cookie")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
