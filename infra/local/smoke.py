"""`python -m infra.local.smoke`: the walk of a member through a fresh instance, black box, with nothing but HTTP.

Starts `infra.local.run` as a process of its own on free ports with a temporary state folder, walks, prints each step with
its time, and ends with 1 and a clear message at the first thing that is not as it must be. KEEP=1 leaves the folder.
"""
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from urllib.parse import urljoin

import requests

from infra.local import demo
from infra.local.demo import ADA, BACKSTAGE, BEN, CLEO, DORA, GUILD, MIKA, MODERATOR, OFFERS, SUPPORTER, VIP
from infra.local.smoke_paypal import PayPalWalk
from infra.local.steps import answers, check, epoch, same, step
from infra.local.walker import DECLINED_LATER, GOOD_CARD, WalkFailed, Walker, wait_for

ROOT = pathlib.Path(__file__).parents[2]
READY_WITHIN, ROLE_WITHIN, SWEEP_WITHIN = 60, 5, 20  # seconds
DAY = 86400


def main():
    """0 when the whole walk went as it must, else 1; the instance is stopped and its folder gone either way."""
    begun, folder = time.monotonic(), pathlib.Path(tempfile.mkdtemp(prefix="rolekeep-smoke-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the instance must not outlive us
    try:
        with Instance(folder) as instance:
            Walk(instance).all()
    except (WalkFailed, requests.RequestException, KeyError, IndexError, TypeError) as failure:
        print(f"\nFAILED: {type(failure).__name__}: {failure}", flush=True)
        print_tail(folder / "rolekeep.log")
        return 1
    finally:
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\nThe whole walk went as it must, in {time.monotonic() - begun:.1f} s.", flush=True)
    return 0


def print_tail(path, lines=25):
    """The end of the instance's log stands in the terminal: what it was doing when the walk failed."""
    if path.exists():
        print(f"\nThe end of {path.name}:\n  " + "\n  ".join(path.read_text("utf-8", "replace").splitlines()[-lines:]), flush=True)


class Instance:
    """A Rolekeep of its own: started, stopped and started again like a person does it, by signal."""

    def __init__(self, folder):
        self.folder, self.port, self._process = folder, five_free_ports(), None
        self.url, self.stripe_url, self.discord_url, self.paypal_url = (f"http://127.0.0.1:{self.port + n}" for n in (0, 1, 2, 4))

    def __enter__(self):
        with step("1  it starts and says that it is ready"):
            self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """It runs and has said so. WalkFailed with what it said instead."""
        env = {**os.environ, "PORT": str(self.port), "STATE_FOLDER": str(self.folder), "RESET": "0", "DEMO": "1"}
        self._process = subprocess.Popen([sys.executable, "-m", "infra.local.run"], cwd=ROOT, env=env, text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, deadline = [], time.monotonic() + READY_WITHIN
        os.set_blocking(self._process.stdout.fileno(), False)
        while time.monotonic() < deadline:
            line = self._process.stdout.readline()
            said += [line] if line else []
            if line.strip() == f"Rolekeep is ready: {self.url}":
                return
            if not line and self._process.poll() is not None:
                break
            if not line:
                time.sleep(0.02)
        raise WalkFailed(f"it did not get ready within {READY_WITHIN} s; it said:\n{''.join(said)[-3000:]}")

    def stop(self):
        """It has ended in good order and saved its state."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise WalkFailed("it did not end within 60 s of SIGTERM") from None
        if self._process:
            self._process.stdout.close()


def five_free_ports():
    """A port that is free with the four after it."""
    for port in range(18100 + os.getpid() % 500 * 5, 60000, 5):
        with contextlib.ExitStack() as stack:
            try:
                for n in range(5):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + n))
                return port
            except OSError:
                continue
    raise WalkFailed("there are no five free ports in a row")


class Walk:
    """The steps, in order; Dora walks, the others are there to be left alone."""

    role_within = ROLE_WITHIN  # seconds from a purchase or a click to what it changes

    def __init__(self, instance):
        self.instance = instance
        self.urls = instance.url, instance.stripe_url, instance.discord_url, instance.paypal_url
        self.dora = self.walker()
        self.sandbox = self.dora.sandbox
        self.sub = None

    def all(self):
        """Every step."""
        for name in ("ready", "sign_in", "buy", "look", "manage", "cancel_and_undo", "renew_fail_recover", "end_exactly",
                     "unheard_at_paypal", "leave_and_come_back", "switch_refund_dispute", "end_at_once_and_buy_once", "paypal", "walls", "specifications", "restart", "specifications"):
            getattr(self, name)()

    # Small words

    def walker(self):
        """Another person with a browser of their own."""
        return Walker(*self.urls)

    def get(self, url, **headers):
        """The answer to somebody whose browser holds nothing."""
        return self.walker().browser.session.get(url, headers=headers, timeout=30)

    def roles(self, user=DORA):
        return self.sandbox.roles(GUILD, user)

    def holds(self, *roles, user=DORA, seconds=None):
        wait_for(lambda: self.roles(user) == set(roles), seconds or self.role_within,
                 lambda: f"{demo.PEOPLE[user]} holds exactly {roles or 'nothing'}, not {self.roles(user)}")

    def roles_are(self, states, seconds=None):
        """The profile shows the roles of the server in these states."""
        def shown():
            return [r for s in self.dora.profile()["servers"] if s["id"] == GUILD for r in s["roles"]]
        wait_for(lambda: {r["id"]: r["state"] for r in shown()} == states, seconds or self.role_within,
                 lambda: f"the profile shows {states}, not {shown()}")

    def shows(self, seconds=None, sub=None, **wanted):
        """The profile shows the subscription with these values; answers it."""
        def found():
            shown = self.dora.subscription(sub or self.sub)
            return shown if all(shown[k] == v for k, v in wanted.items()) else None
        return wait_for(found, seconds or self.role_within,
                        lambda: f"the profile shows {wanted}, not {self.dora.subscription(sub or self.sub)}")

    def took_roles_at(self, user=DORA):
        """[instant] of each time somebody or something took a role from the user, by Discord's own audit log."""
        return [datetime.fromisoformat(e["at"]).timestamp() for e in self.sandbox.guild(GUILD)["audit"]
                if e["target_id"] == user and e["changes"][0]["key"] == "$remove"]

    # The steps

    def ready(self):
        with step("1  demo data: Ada active, Ben cancelled, Cleo past due; the public list; 404 and 401 are problem JSON"):
            self.holds(SUPPORTER, VIP, BACKSTAGE, user=ADA)
            self.holds(SUPPORTER, user=BEN)
            self.holds(VIP, BACKSTAGE, user=CLEO)
            offers = {o["id"]: o for s in self.dora.servers() if s["id"] == GUILD for o in s["offers"]}
            same({i: (o["price"], len(o["roles"])) for i, o in offers.items()}, {
                "supporter": ({"amount": 500, "currency": "eur", "interval": "month"}, 1),
                "backstage": ({"amount": 1200, "currency": "eur", "interval": "month"}, 2),
                "founder": ({"amount": 9000, "currency": "eur", "interval": "once", "days": None}, 1)}, "what is sold")
            answers(401, lambda: self.dora.call("GET", "/api/v1/profile"))
            answers(404, lambda: self.dora.call("GET", "/api/v1/nothing"))
            answers(404, lambda: self.dora.call("GET", "/nothing"))
            page = self.dora.browser.open(self.urls[0] + "/")
            same(page.url, self.urls[0] + "/profile", "where / leads")
            self._page_is_whole(page.url)

    def _page_is_whole(self, url):
        """Everything that the page names is there, and nothing of it comes from elsewhere."""
        html = self.get(url).text
        named = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', html)
        check(named, "the page names its style and script")
        for name in named:
            target = urljoin(url, name)
            check(target.startswith(self.urls[0] + "/"), f"{name} is the portal's own")
            same(self.get(target).status_code, 200, f"the status of {name}")

    def sign_in(self):
        with step("2  sign in with Discord: cancelling, a stolen state, then for real; 30 days; signing out ends it"):
            browser = self.dora.browser
            page = browser.open(self.urls[0] + "/auth/discord/login")
            with contextlib.suppress(WalkFailed):
                browser.submit(page, button="Cancel", user_id=DORA)
            answers(401, lambda: self.dora.call("GET", "/api/v1/profile"))
            self._stolen_state()
            same(self.dora.sign_in(DORA)["member"], {"id": DORA, "name": "Dora"}, "who is signed in")
            kept = [c for c in browser.session.cookies if c.expires and abs(c.expires - time.time() - 30 * DAY) < 300]
            check(len(kept) == 1 and kept[0].has_nonstandard_attr("HttpOnly"), "one HttpOnly cookie lasts 30 days")
            old = {"Cookie": f"{kept[0].name}={kept[0].value}"}
            same(self.get(self.urls[0] + "/api/v1/profile", **old).status_code, 200, "the cookie works")
            self.dora.logout()
            same(self.get(self.urls[0] + "/api/v1/profile", **old).status_code, 401, "the cookie after signing out")
            self.dora.sign_in(DORA)

    def _stolen_state(self):
        """A consent page that began in one browser ends in another: nobody is signed in."""
        thief, victim = self.walker(), self.walker()
        victim.browser.open(self.urls[0] + "/auth/discord/login")
        page = thief.browser.open(self.urls[0] + "/auth/discord/login")
        with contextlib.suppress(WalkFailed):
            victim.browser.submit(page, button="Authorize", user_id=DORA)
        answers(401, lambda: victim.call("GET", "/api/v1/profile"))

    def buy(self):
        with step(f"3  buy an offer at Stripe's page; the role is there within {self.role_within} s"):
            page = self.dora.buy(GUILD, "supporter")
            check(page.url.startswith(self.urls[0] + "/"), f"the buyer comes back to the portal, not {page.url}")
            self.holds(SUPPORTER)
            self.sub = wait_for(lambda: self.dora.subscriptions(GUILD), self.role_within, "the profile shows the subscription")[0]["id"]
            answers(409, lambda: self.dora.buy(GUILD, "supporter"))

    def look(self):
        with step("4  the profile: server, subscription, exact renewal, role held, what can be done"):
            shown = self.shows(status="active", state="active", ends_at=None, role_ids=[SUPPORTER])
            server = next(s for s in self.dora.profile()["servers"] if s["id"] == GUILD)
            same(server["name"], "Pixel Guild", "the server's name")
            month = epoch(shown["renews_at"]) - self.sandbox.now()
            check(27.9 * DAY < month <= 31 * DAY, f"it renews in a month, not in {month / DAY:.1f} days")
            same((shown["offer"], shown["price"]), ({"id": "supporter", "name": "Supporter"},
                 {"amount": 500, "currency": "eur", "interval": "month"}), "what was bought")
            check({"manage", "payment_method", "cancel"} <= set(shown["actions"]), f"what can be done: {shown['actions']}")
            self.roles_are({SUPPORTER: "held"})

    def manage(self):
        with step("5  manage: Stripe's billing portal on our own configuration; change the card; deep links; and back"):
            home = self.dora.browser.open(self.dora.portal_session(self.sub))
            check(home.url.startswith(self.urls[1] + "/"), f"the portal is at {home.url}")
            check("pixel-guild.example/terms" in home.link("Terms"), "the owner's own terms are linked")
            check(not any("switch" in text.lower() or "pause" in text.lower() for text, _ in home.links), "no plan switch, no pause")
            check(home.link("Return").startswith(self.urls[0] + "/"), f"the way back leads to the portal, not {home.link('Return')}")
            check("4444" in self.dora.change_card(home.url, "5555555555554444").text, "the new card is shown")
            page = self.dora.change_card(self.dora.portal_session(self.sub, "payment_method"), GOOD_CARD)
            check(page.url.startswith(self.urls[0] + "/"), f"the payment-method link comes back, not to {page.url}")
            page = self.dora.browser.open(self.dora.portal_session(self.sub, "cancel"))
            check(page.has_button("Cancel subscription"), "the cancel link leads to the cancel page")

    def cancel_and_undo(self):
        with step("6  cancel here: a receipt; the role stays; twice is once; undo"):
            renews = epoch(self.shows(state="active")["renews_at"])
            self._cancelled(self.dora.cancel(self.sub, reason="too_expensive"), renews, already=False)
            self._cancelled(self.dora.cancel(self.sub), renews, already=True)
            here = self.shows(state="ending")
            same(epoch(here["access_until"]), renews, "access lasts to the end of the paid period")
            self.holds(SUPPORTER)
            self._undone(renews)
        with step("6  cancel in Stripe's portal: the same result; undo here"):
            page = self.dora.cancel_at_stripe(self.dora.portal_session(self.sub, "cancel"), self.sub)
            check(page.url.startswith(self.urls[0] + "/"), f"the cancel link comes back, not to {page.url}")
            there = self.shows(state="ending")
            same(_without_times(there), _without_times(here), "cancelled there as cancelled here")
            self._undone(renews)
        with step("6  both of Stripe's forms of a scheduled cancel look the same and can be undone"):
            forms = {"flag": {"cancel_at_period_end": True, "cancel_at": None},
                     "instant": {"cancel_at_period_end": False, "cancel_at": int(renews)},
                     "both": {"cancel_at_period_end": True, "cancel_at": int(renews)}}
            for name, fields in forms.items():
                self.sandbox.patch_subscription(self.sub, **fields)
                same(_without_times(self.shows(state="ending")), _without_times(here), f"cancelled by {name}")
                self._undone(renews)

        with step("6  cancel what is past due: the receipt names the open invoice; undo"):
            cleo = self.walker()
            cleo.sign_in(CLEO)
            sub = cleo.subscriptions(GUILD)[0]
            same((sub["status"], sub["state"]), ("past_due", "grace"), "Cleo's subscription")
            invoice = cleo.cancel(sub["id"])["open_invoice"]
            same((invoice["amount"], invoice["currency"]), (1200, "eur"), "the open invoice on the receipt")
            check(invoice["number"] and invoice["url"].startswith(self.urls[1] + "/"), f"its number and page: {invoice}")
            cleo.undo(sub["id"])

    def _cancelled(self, receipt, until, *, already):
        same((receipt["subscription"], receipt["next_charge"], receipt["already"]), (self.sub, "none", already), "the receipt")
        same(epoch(receipt["access_until"]), until, "access until, on the receipt")
        check(not receipt["open_invoice"] and receipt["text"], "the receipt says it in words and names no open invoice")
        check(abs(epoch(receipt["at"]) - self.sandbox.now()) < 60, "the receipt is dated")

    def _undone(self, renews):
        receipt = self.dora.undo(self.sub)
        same((epoch(receipt["next_charge"]["at"]), receipt["access_until"], receipt["already"]), (renews, None, False), "the undo receipt")
        same(epoch(self.shows(state="active", ends_at=None)["renews_at"]), renews, "renewal after undo")
        self.holds(SUPPORTER)

    def renew_fail_recover(self):
        with step("7  the clock passes the period's end: it renews, the role stays"):
            renews = epoch(self.shows(state="active")["renews_at"])
            self.sandbox.move_to(renews + 2 * 3600)
            again = wait_for(lambda: self._renews_after(renews), SWEEP_WITHIN, "the profile shows the next renewal")
            self.holds(SUPPORTER)
        with step("7  a payment fails: grace with its end, the role stays; a new card mends it"):
            customer = self.sandbox.customer_of(self.sub)
            self.sandbox.set_card(customer, DECLINED_LATER)
            self.sandbox.move_to(again + 2 * 3600)
            shown = self.shows(SWEEP_WITHIN, status="past_due", state="grace")
            check(again < epoch(shown["access_until"]) < again + 31 * DAY, f"grace ends at {shown['access_until']}")
            self.holds(SUPPORTER)
            page = self.dora.change_card(self.dora.portal_session(self.sub, "payment_method"), GOOD_CARD)
            check(page.url.startswith(self.urls[0] + "/"), f"the payment-method link comes back, not to {page.url}")
            self.shows(SWEEP_WITHIN, status="active", state="active")
            wait_for(lambda: self._renews_after(again), SWEEP_WITHIN, "the profile shows the renewal that was paid late")
            self.holds(SUPPORTER)
            same(self.took_roles_at(), [], "role was taken in between")

    def _renews_after(self, instant):
        shown = self.dora.subscription(self.sub)
        at = shown["renews_at"] and epoch(shown["renews_at"])
        return at if at and at > instant else None

    def end_exactly(self):
        with step("7  others: Ben's cancelled subscription and Cleo's unpaid one have ended, Ada's goes on, Mika's role is hers"):
            self.holds(user=BEN, seconds=SWEEP_WITHIN)
            self.holds(user=CLEO, seconds=SWEEP_WITHIN)
            self.holds(SUPPORTER, VIP, BACKSTAGE, user=ADA)
            self.holds(MODERATOR, user=MIKA)
        with step("7  cancelled, and no webhook tells of the end: the sweep takes the role at the instant, not before"):
            end = epoch(self.dora.cancel(self.sub)["access_until"])
            self.sandbox.stripe("POST", "/faults", {"webhook": "^customer\\.subscription\\.", "do": "drop", "times": None})
            self.sandbox.move_to(end - 30)
            time.sleep(5)  # two or three sweeps
            check(self.sandbox.now() < end, "the pause was too long to tell")
            self.holds(SUPPORTER)
            self.sandbox.move_to(end)
            self.holds(seconds=SWEEP_WITHIN)
            taken = self.took_roles_at()
            check(len(taken) == 1 and taken[0] >= end, f"the role was taken once, {[t - end for t in taken]} s after the end")
            self.sandbox.stripe("DELETE", "/faults")
            self.shows(state="ended", renews_at=None)

    def leave_and_come_back(self):
        both = set(OFFERS["backstage"]["roles"])
        with step("8  buy the offer with two roles: webhooks twice and in reverse, Discord asks to wait; the roles come all the same"):
            self.sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "hold", "times": None})
            self.sandbox.discord("POST", "/faults", {
                "method": "PUT", "path": f"/roles/{VIP}$", "do": "answer", "status": 429, "headers": {"Retry-After": "2"},
                "body": {"message": "You are being rate limited.", "retry_after": 1.5, "global": False}})
            self.dora.buy(GUILD, "backstage")
            time.sleep(1)
            same(self.roles(), set(), "roles before any webhook came")
            self.sandbox.stripe("DELETE", "/faults")
            self.sandbox.stripe("POST", "/release", {"order": "reverse"})
            for event in self.sandbox.events()[-8:]:
                self.sandbox.stripe("POST", f"/events/{event['id']}/resend")
            self.holds(*both, seconds=SWEEP_WITHIN)
            calls = [r["status"] for r in self.sandbox.discord("GET", "/requests")["requests"]
                     if r["method"] == "PUT" and f"{DORA}/roles/{VIP}" in r["path"]]
            same(sorted(calls), [204, 429], "calls to Discord for the role that had to wait")
        with step("8  leave; come back; restore my roles"):
            self.sandbox.leave(GUILD, DORA)
            self.sandbox.join(GUILD, DORA)
            same(self.roles(), set(), "coming back brings no roles by itself")
            check(self.dora.restore(GUILD), "restore says what happens")
            self.holds(*both)
        with step("8  leave; restoring says why not; come back; without a click the roles are back within a daily look"):
            self.sandbox.leave(GUILD, DORA)
            self.dora.restore(GUILD)
            wait_for(lambda: set(self.dora.role_states(GUILD).items()) >= {(r, "blocked") for r in both}, SWEEP_WITHIN,
                     "the profile says that the roles are blocked")
            why = [r["why"] for s in self.dora.profile()["servers"] if s["id"] == GUILD for r in s["roles"] if r["id"] in both]
            check(all(w and w["code"] == "not_in_server" and w["text"] and w["next"] for w in why), f"and why: {why}")
            self.sandbox.join(GUILD, DORA)
            self.sandbox.advance(DAY)
            self.holds(*both, seconds=SWEEP_WITHIN)

    def switch_refund_dispute(self):
        both = set(OFFERS["backstage"]["roles"])
        sub = next(s["id"] for s in self.dora.subscriptions(GUILD) if s["state"] == "active")
        with step("8  a change of plan at Stripe: the other offer's role, and back"):
            mine, other = self.sandbox.price_of(sub), self.sandbox.price_of(self.sub)
            self.sandbox.switch_plan(sub, other)
            self.holds(SUPPORTER)
            self.sandbox.switch_plan(sub, mine)
            self.holds(*both)
        with step("8  a refund takes the roles, and gives them back when it fails; so does a dispute that is won"):
            charge = self.sandbox.charges(sub)[0]["id"]
            refund = self.sandbox.refund(charge)["id"]
            self.holds()
            self.shows(sub=sub, state="on_hold")
            self.sandbox.fail_refund(refund)
            self.holds(*both)
            dispute = self.sandbox.dispute(charge)["id"]
            self.holds()
            self.sandbox.close_dispute(dispute, "won")
            self.holds(*both)
            told = self.dora.timeline(sub)
            check(any("dispute" in entry["what"] for entry in told) and all(
                role["answer"] == "done" for entry in told[:2] for role in entry["roles"]), f"the timeline tells it: {told[:2]}")

    def end_at_once_and_buy_once(self):
        sub = next(s["id"] for s in self.dora.subscriptions(GUILD) if s["state"] == "active")
        with step("8  cancel at once, where the offer allows it: the roles go; then buy what is paid once, for good"):
            receipt = self.dora.cancel(sub, now=True)
            same((receipt["next_charge"], receipt["access_until"], receipt["read_back"]), ("none", None, "canceled"), "the receipt")
            self.holds()
            self.dora.buy(GUILD, "founder")
            self.holds(SUPPORTER)
            shown = wait_for(lambda: [s for s in self.dora.subscriptions(GUILD) if s["kind"] == "purchase" and s["state"] == "active"],
                             self.role_within, "the profile shows the purchase")[0]
            same((shown["renews_at"], shown["ends_at"], shown["price"]["interval"]), (None, None, "once"), "what was bought")
            answers(409, lambda: self.dora.buy(GUILD, "founder"))
            self.dora.buy(GUILD, "backstage")
            self.holds(SUPPORTER, *OFFERS["backstage"]["roles"])

    def unheard_at_paypal(self):
        """Somebody buys there and nobody is told: what comes of it takes a while, the walk goes on meanwhile."""
        self.through_paypal = PayPalWalk(self)
        self.through_paypal.unheard()

    def paypal(self):
        """The second processor, by people of its own."""
        self.through_paypal.all()

    def walls(self):
        with step("9  bad, missing, old, future signatures: 400; somebody else's subscription: 404; no token: 403; odd fields: 400"):
            self._signatures()
            for merchant, status in ((demo.PAYPAL_ACCOUNT, 400), (demo.PAYPAL_ACCOUNT[::-1], 404)):
                url = f"{self.urls[0]}/webhooks/paypal/{merchant}"
                same(self.walker().browser.session.post(url, json={"event_type": "SMOKE"}, timeout=10).status_code, status, f"an unsigned delivery for {merchant}")
            ada = self.walker()
            ada.sign_in(ADA)
            others = ada.subscriptions(GUILD)[0]["id"]
            for act in ("portal-session", "cancel", "undo"):
                refusals = [answers(404, lambda: self.dora.call("POST", f"/api/v1/subscriptions/{sub}/{act}", {}))
                            for sub in (others, "sub_doesNotExist")]
                same(refusals[0], refusals[1], "somebody else's subscription is like none")
            same(ada.subscription(others)["state"], "active", "Ada's subscription")
            answers(403, lambda: self.dora.call("POST", f"/api/v1/servers/{GUILD}/restore", {}, headers={"X-CSRF-Token": "0" * 64}))
            answers(400, lambda: self.dora.call("POST", f"/api/v1/servers/{GUILD}/restore", {"force": True}))
            answers(404, lambda: self.dora.call("GET", f"/api/v1/servers/{GUILD}/restore"))

    def _signatures(self):
        from infra.local.run import WEBHOOK_SECRET

        body = json.dumps({"id": "evt_smoke", "object": "event", "type": "smoke.test", "data": {"object": {}}}).encode()
        now = int(time.time())

        def signed(at, secret=WEBHOOK_SECRET, over=body):
            return f"t={at},v1=" + hmac.new(secret.encode(), f"{at}.".encode() + over, hashlib.sha256).hexdigest()

        for why, header in (("missing", None), ("bad", f"t={now},v1={'0' * 64}"), ("old", signed(now - 400)), ("future", signed(now + 400)),
                            ("of another secret", signed(now, "whsec_another")), ("over another body", signed(now, over=body + b" "))):
            headers = {"Content-Type": "application/json", **({"Stripe-Signature": header} if header else {})}
            url, session = self.urls[0] + "/webhooks/stripe/operator", self.walker().browser.session
            same(session.post(url, data=body, headers=headers, timeout=10).status_code, 400, f"a signature that is {why}")

    def specifications(self):
        with step("   every request, answer and event held to the official specifications"):
            same([ask("GET", "/violations")["violations"] for ask in (self.sandbox.stripe, self.sandbox.discord, self.sandbox.paypal)],
                 [[], [], []], "violations")

    def restart(self):
        with step("10 a restart: who is signed in, what is shown and who holds what stay as they were"):
            def told():
                profile = self.dora.profile()
                return {k: profile[k] for k in ("member", "csrf_token")}, [
                    (s["id"], [(r["id"], r["state"]) for r in s["roles"]], [_without_times(one) for one in s["subscriptions"]])
                    for s in profile["servers"]]
            before, held, offset = told(), self.roles(), self.sandbox.stripe("GET", "/clock")["offset"]
            self.instance.stop()
            self.instance.start()
            same(told(), before, "the profile after a restart")
            same(self.roles(), held, "the roles after a restart")
            check(self.sandbox.stripe("GET", "/clock")["offset"] >= offset, "the clock was not turned back")
        with step("10 and it goes on: a cancellation and its undoing work"):
            sub = next(s["id"] for s in self.dora.subscriptions(GUILD) if s["state"] == "active" and s["kind"] == "subscription")
            self.dora.cancel(sub)
            self.dora.undo(sub)
            self.through_paypal.goes_on()


def _without_times(shown):
    """A shown subscription without when it was read: that is the only thing that may differ."""
    return {k: v for k, v in shown.items() if k not in ("as_of", "as_of_note", "checked_at")}


if __name__ == "__main__":
    sys.exit(main())
