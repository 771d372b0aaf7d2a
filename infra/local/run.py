"""`python -m infra.local.run`: Rolekeep and everything it talks to, on this machine, with no account anywhere.

Two processes. MiniStack is a child, because it saves its state only while it is being stopped and must be able to
outlive us for that (see aws.py). Everything else is threads of this process: the sandboxes keep their state in files
while they run (Discord's at each change, the others' within a second), so little is lost even when we are killed; one process
is one thing to start, stop, watch and profile, and no part can be left behind holding a port. The parts still meet over
HTTP only, as deployed.

Settings: PORT (8000; the four ports above it are used too), RESET=1 (forget what an earlier run kept), DEMO=0 (no
demo data), SPEED (30: a schedule of one minute fires every 2 s, a failed message comes again after a 30th of its
visibility timeout), STATE_FOLDER (.local/<PORT>).
"""

import contextlib
import importlib
import logging
import os
import pathlib
import shutil
import signal
import sys
import time

from infra.local import aws, permissions, pollers, scheduler, web
from infra.local.aws import CannotStart
from infra.local.sandbox import discord, paypal, stripe
from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.http import serve

PARTS = ("Rolekeep", "Stripe sandbox", "Discord sandbox", "embedded AWS", "PayPal sandbox")  # in the order of their ports
DEFAULT_PORT = 8000
# Not secrets: they open nothing but the sandboxes on this machine. Shapes as the product checks them.
STRIPE_KEY = "sk_test_sandboxOnThisMachine"
WEBHOOK_SECRET = "whsec_sandboxOnThisMachine"
CONNECT_WEBHOOK_SECRET = "whsec_sandboxConnectedAccounts"
PAYPAL = paypal.MERCHANT  # RKEEPSANDBX22, with its credentials and its webhook's id
log = logging.getLogger("local.run")


class Stopped(BaseException):
    """Somebody asked this process to end; no `except Exception` on the way may swallow it."""


class Instance:
    """One running Rolekeep with its surroundings. `with Instance(...) as it:` it is ready inside, saved after.

    `port`: the product's; the four after it belong to the sandboxes and to the embedded AWS. One per process: the
    product reads its settings once.
    """

    def __init__(self, *, port, folder, reset=False, demo=True, speed=30.0):
        self.port, self.folder, self.speed = port, pathlib.Path(folder), speed
        self.url, self.stripe_url, self.discord_url, self.aws_url, self.paypal_url = (
            f"http://{aws.HOST}:{port + n}" for n in range(len(PARTS)))
        self._demo, self._begun = demo, self.folder / "begun"
        self._fresh = reset or not self._begun.exists()
        self._parts = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(self, *_):
        self._parts.close()

    def died(self):
        """Answer whether a part without which nothing works has ended by itself."""
        return self._aws.died()

    def _start(self):
        """Start in the order of need; what is stopped is stopped in the reverse order, MiniStack last."""
        self._start_aws()
        self._start_sandboxes()
        aws.use(self.aws_url, "local")
        self._parts.callback(permissions.enforce("local"))
        os.environ.update(product_settings(self.url, self.stripe_url, self.discord_url), **self._paypal_settings)
        app = importlib.import_module("app").app
        self._start_workers(app)
        server = web.WebServer(app, port=self.port)
        self._parts.callback(server.stop)
        if self._fresh:
            self._seed()

    def _start_aws(self):
        for number, part in enumerate(PARTS):
            if part != "embedded AWS":  # which looks for itself
                aws.refuse_taken_port(self.port + number, part)
        self._aws = aws.EmbeddedAws(port=self.port + 3, stage="local", state_folder=self.folder / "aws")
        # Not `fresh` when the demo data was complete once; a start that was cut short begins again from nothing.
        self._aws.start(fresh=self._fresh)
        self._parts.callback(self._aws.stop)
        if self._fresh:
            self._begun.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "sandbox", ignore_errors=True)

    def _start_workers(self, app):
        running = [*pollers.start_pollers(app, self._aws.client("sqs"), speed=self.speed),
                   scheduler.Scheduler(app, speed=self.speed).start()]
        self._parts.callback(_stop_together, running)

    def _start_sandboxes(self):
        kept = self.folder / "sandbox"
        clock = SandboxClock(kept / "clock.json")
        world = discord.DiscordSandbox(clock=clock, path=kept / "discord.json", app={
            "redirect_uris": [f"{self.url}/auth/discord/callback"]})
        self._parts.callback(world.save)
        self._parts.callback(serve(world.handle, self.port + 2).stop)
        self._parts.callback(stripe.serve(
            port=self.port + 1, clock=clock, state_file=kept / "stripe.json", endpoints=webhook_endpoints(self.url),
            api_keys=(STRIPE_KEY,)).stop)
        running = paypal.serve(port=self.port + 4, clock=clock, state_file=kept / "paypal.json", endpoints=paypal_endpoints(self.url))
        self._parts.callback(running.stop)
        self._paypal_settings = paypal_settings(self.paypal_url, running.sandbox.webhooks.certificates.root)

    def _seed(self):
        """Demo data is there, and only then does the folder count as begun; CannotStart says why it is not."""
        if self._demo:
            from infra.local import demo  # the demo walks like a browser: nothing else here needs its parser

            try:
                demo.seed(self)
            except Exception as problem:
                log.exception("demo data")
                raise CannotStart(f"The demo data could not be made: {problem}\n{self.folder / 'rolekeep.log'} says "
                                  "more. The next start tries again; DEMO=0 starts without.") from problem
        self._begun.touch()


def product_settings(url, stripe_url, discord_url):
    """{setting: value} with which the product at `url` talks to the sandboxes at the other two."""
    return {
        "PUBLIC_URL": url,
        "STRIPE_API_BASE": stripe_url,
        "STRIPE_API_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_CONNECT_WEBHOOK_SECRET": CONNECT_WEBHOOK_SECRET,
        "DISCORD_API_BASE": f"{discord_url}/api/v10",
        "DISCORD_AUTHORIZE_URL": f"{discord_url}/oauth2/authorize",
        "DISCORD_CLIENT_ID": discord.SANDBOX_APP["client_id"],
        "DISCORD_CLIENT_SECRET": discord.SANDBOX_APP["client_secret"],
        "DISCORD_BOT_TOKEN": discord.SANDBOX_APP["bot_token"],
        "CLOCK_URL": f"{stripe_url}/_sandbox/clock",
    }


def webhook_endpoints(url):
    """Where the Stripe sandbox sends the events of the operator's own account, and those of connected ones."""
    return [stripe.Endpoint(f"{url}/webhooks/stripe/operator", (WEBHOOK_SECRET,)),
            stripe.Endpoint(f"{url}/webhooks/stripe/connect", (CONNECT_WEBHOOK_SECRET,), connect=True)]


def paypal_settings(paypal_url, trust_root):
    """{setting: value} with which the product sells through the demo merchant at the PayPal sandbox, whose certificates `trust_root` (PEM) vouches for."""
    return {
        "PAYPAL_ACCOUNTS": f"{PAYPAL.id}:{PAYPAL.client_id}:{PAYPAL.secret}:{'+'.join(PAYPAL.webhook_ids)}",
        "PAYPAL_ENVIRONMENT": "sandbox",
        "PAYPAL_API_BASE": paypal_url,
        "PAYPAL_WEB_BASE": paypal_url,
        "PAYPAL_CERT_BASE": paypal_url,
        "PAYPAL_TRUST_ROOT": trust_root,
    }


def paypal_endpoints(url):
    """Where the PayPal sandbox sends the events of its merchant."""
    return [paypal.Endpoint(f"{url}/webhooks/paypal/{PAYPAL.id}", PAYPAL.id, webhook_id) for webhook_id in PAYPAL.webhook_ids]


def _stop_together(running):
    for part in running:
        part.ask_to_stop()
    for part in running:
        part.join(70)  # a function may take a minute


def _stop_on(signal_number, _frame):
    signal.signal(signal_number, signal.SIG_DFL)  # the second one ends us at once; MiniStack still saves
    raise Stopped(signal.Signals(signal_number).name)


def _log_into(folder):
    """Everything the parts print or log goes to a file, so that the terminal shows what matters; answers its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rolekeep.log"
    if path.exists():
        path.replace(folder / "rolekeep.log.1")
    sys.stdout = open(path, "w", buffering=1)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for noisy in ("botocore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return path


def announce(instance, log_path, say):
    """Say that it is ready, in the line that scripts wait for, and where everything is."""
    say(f"Rolekeep is ready: {instance.url}")
    say(f"  Who holds which role (Discord sandbox):  {instance.discord_url}/")
    say(f"  Stripe sandbox:                          {instance.stripe_url}/")
    say(f"  PayPal sandbox:                          {instance.paypal_url}/")
    say(f"  Sandbox controls (clock, faults, ...):   {instance.stripe_url}/_sandbox/  {instance.discord_url}/_sandbox/  {instance.paypal_url}/_sandbox/")
    say(f"  Log and state:                           {log_path}")
    say("  Ctrl+C stops and saves; RESET=1 begins afresh.")


def main():
    """Run until SIGINT or SIGTERM; exit code 0 after a stop in good order, 1 when it could not start."""
    terminal = sys.stdout

    def say(text):
        print(text, file=terminal, flush=True)

    try:
        port = int(os.environ.get("PORT") or DEFAULT_PORT)
        speed = float(os.environ.get("SPEED") or 30)
    except ValueError:
        say("PORT and SPEED must be numbers.")
        return 1
    folder = pathlib.Path(os.environ.get("STATE_FOLDER") or aws.ROOT / ".local" / str(port))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _stop_on)
    try:
        log_path = _log_into(folder)
        with Instance(port=port, folder=folder, reset=os.environ.get("RESET") == "1",
                      demo=os.environ.get("DEMO") != "0", speed=speed) as instance:
            announce(instance, log_path, say)
            wait_for_the_end(instance)
    except CannotStart as reason:
        say(str(reason))
        return 1
    except Stopped:
        say("Stopped; everything is saved.")
    return 0


def wait_for_the_end(instance):
    """Return never: a signal raises Stopped, the death of a part CannotStart."""
    while not instance.died():
        time.sleep(0.5)
    raise CannotStart(f"The embedded AWS has ended by itself; {instance.folder / 'aws' / 'ministack.log'} may say why.")


if __name__ == "__main__":
    sys.exit(main())
