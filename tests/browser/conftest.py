"""A browser, and one whole Rolekeep with its sandboxes for all tests of this folder; without Chromium they say so and skip."""
import itertools
import os
import shutil
import sys
from urllib.parse import urlsplit

import pytest

from infra.local.demo import GUILD
from infra.local.smoke import Instance
from infra.local.walker import GOOD_CARD, Sandboxes, wait_for

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
SECONDS = 15
WATCH = "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"


@pytest.fixture(scope="session")
def chromium():
    """Yield a running Chromium, by CHROMIUM, else as Debian installs it; skip loudly when there is none."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "NO CHROMIUM: the member's page is NOT tested. Install it (as root on Debian: infra/local/chromium.sh), or set CHROMIUM"
        print(f"\n{'!' * 100}\n{reason}\n{'!' * 100}", file=sys.__stderr__, flush=True)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def instance(chromium, tmp_path_factory):
    """Yield a running product with its sandboxes and the demo data."""
    with Instance(tmp_path_factory.mktemp("rolekeep")) as running:
        yield running


@pytest.fixture
def sandbox(instance):
    """Yield the controls of the sandboxes; faults that a test ordered are gone after it."""
    controls = Sandboxes(instance.stripe_url, instance.discord_url, instance.paypal_url)
    yield controls
    for order in (controls.stripe, controls.discord, controls.paypal):
        order("DELETE", "/faults")


@pytest.fixture
def visit(chromium, instance, sandbox):
    """Answer with a function that opens a browser of its own for a Visitor; what its console said is judged at the end."""
    visitors = []

    def opened(**settings):
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 900}, "locale": "en-GB",
                                          "timezone_id": "Europe/Berlin", **settings})
        visitors.append(Visitor(context, instance, sandbox))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.context.close()
    assert [line for visitor in visitors for line in visitor.complaints()] == []


class Visitor:
    """Somebody with a browser. `expected` are the refusals (HTTP status) that the test provokes on purpose."""

    _numbers = itertools.count(930000000000000101)

    def __init__(self, context, instance, sandbox):
        self.context, self.instance, self.sandbox, self.user, self.expected = context, instance, sandbox, None, {401}
        self._said = []
        context.set_default_timeout(SECONDS * 1000)
        context.add_init_script(WATCH)
        self.page = context.new_page()
        self.page.on("console", lambda message: self._said.append((message.type, message.text, message.location.get("url") or "")))
        self.page.on("pageerror", lambda error: self._said.append(("error", f"uncaught: {error}", instance.url)))

    def complaints(self):
        """Errors and warnings of our own pages, save those that the browser prints for an expected refusal."""
        return [text for kind, text, url in self._said if kind in ("error", "warning") and url.startswith(self.instance.url)
                and not any(f"the server responded with a status of {status} " in text for status in self.expected)]

    def open(self, path="/profile"):
        """The page at that path of the product is shown, with what it has to say."""
        self.page.goto(self.instance.url + path)
        self.page.wait_for_selector("h1")
        return self.page

    def sign_in(self, name="Fay", *, joined=True):
        """Signed in by way of the consent page as a new Discord user of that name, who is in the demo server."""
        self.user = str(next(self._numbers))
        self.sandbox.discord("PUT", f"/users/{self.user}", {"username": f"user{self.user[-3:]}", "global_name": name})
        if joined:
            self.sandbox.join(GUILD, self.user)
        return self.consent()

    def consent(self):
        """The page as this user sees it after “Sign in with Discord”."""
        self.open().get_by_role("link", name="Sign in with Discord").click()
        self.page.locator(f"input[value='{self.user}']").check()
        self.page.get_by_role("button", name="Authorize").click()
        self.page.wait_for_url(f"{self.instance.url}/profile")
        self.page.get_by_role("heading", level=1, name="Your subscriptions").wait_for()
        return self.page

    def buy(self, offer="Supporter"):
        """The offer is bought with a good card, and the browser is back on the page."""
        self.page.get_by_role("button", name=f"Buy {offer}").click()
        self.page.get_by_label("Email").fill(f"user{self.user}@example.org")
        self.page.get_by_label("Card number").fill(GOOD_CARD)
        self.page.get_by_role("button", name="Pay and subscribe").click()
        self.page.wait_for_url(f"{self.instance.url}/profile**")

    def approve(self):
        """Agreed on PayPal's page, and the browser is back on ours."""
        self.page.get_by_label("Email of your PayPal account").fill(f"user{self.user}@example.org")
        self.page.get_by_role("button", name="Agree & Subscribe").click()
        self.page.wait_for_url(f"{self.instance.url}/profile**")

    def bought(self, offer="Supporter", *, paypal=False):
        """Signed in, the offer bought and its role held, as the page says; answers the subscription's id."""
        self.sign_in()
        if paypal:
            self.page.get_by_role("button", name=f"Buy {offer} with PayPal").click()
            self.approve()
        else:
            self.buy(offer)
        self.page.get_by_text("Your payment is confirmed and you hold").wait_for()
        return self.page.locator(".card[id^=card-]").first.get_attribute("id").removeprefix("card-")

    def profile(self):
        """What the API tells this member."""
        return self.context.request.get(f"{self.instance.url}/api/v1/profile").json()

    def holds(self, role):
        """Discord shows that role within seconds."""
        return wait_for(lambda: role in (self.sandbox.roles(GUILD, self.user) or ()), SECONDS, f"role {role} is held")

    def tab_to(self, locator, most=60):
        """The keyboard's focus is on that element, reached by Tab alone."""
        for _ in range(most):
            if locator.evaluate("element => element === document.activeElement"):
                return locator
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {locator}")

    @property
    def path(self):
        return urlsplit(self.page.url).path + ("?" + urlsplit(self.page.url).query if urlsplit(self.page.url).query else "")
