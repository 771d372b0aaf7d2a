"""The member's page where PayPal is the processor: bought, shown, managed, cancelled and gone on with, in a real browser."""
import re

import pytest
from playwright.sync_api import expect

from infra.local.demo import ADA, ADA_AT_PAYPAL, GUILD
from infra.local.walker import wait_for
from tests.browser.test_profile_page import FAINT, SIDEWAYS, card

NARROW = {"viewport": {"width": 375, "height": 800}, "color_scheme": "dark", "reduced_motion": "reduce"}
NAME = "Backstage pass"


def reads_well(page):
    """Nothing scrolls sideways and nothing is faint."""
    assert page.evaluate(SIDEWAYS) <= 0 and page.evaluate(FAINT) == []


@pytest.fixture
def member(visit):
    """Yield somebody on a narrow, dark screen who has bought an offer with PayPal; `key` is the subscription's id."""
    visitor = visit(**NARROW)
    visitor.key = visitor.bought(NAME, paypal=True)
    return visitor


def test_an_offer_is_bought_with_either_and_what_is_paid_through_both_is_managed_at_each(visit):
    visitor = visit()
    page = visitor.sign_in()
    offer = page.locator(".shop .card", has_text=NAME)
    expect(offer.get_by_role("button")).to_have_text(["Buy by card", "Buy with PayPal"])
    expect(page.locator(".shop .card", has_text="Keeps the lights on").get_by_role("button")).to_have_text(["Buy"])
    visitor = visit(**NARROW)
    visitor.user = ADA
    page = visitor.consent()
    reads_well(page)
    expect(page.get_by_role("button", name=re.compile("^Manage"))).to_have_text(["Manage at PayPal", "Manage billing"])
    expect(page.locator(".card", has_text="paid through PayPal")).to_contain_text("Renews on ")
    page.get_by_role("button", name="Manage at PayPal").click()
    page.get_by_label("Email").fill(ADA_AT_PAYPAL)
    page.get_by_role("button", name="Log In").click()
    expect(page.get_by_role("heading", name="Automatic payments")).to_be_visible()
    expect(page.locator("section")).to_contain_text(NAME)


def test_before_the_click_the_dialog_says_that_paypal_takes_nothing_back_and_going_on_is_a_new_approval(member, sandbox):
    page, key = member.page, member.key
    page.locator(f"#cancel-{key}").click()
    dialog = page.get_by_role("dialog", name=f"Cancel {NAME} in Pixel Guild?")
    expect(dialog).to_contain_text("You keep access until")
    expect(dialog).to_contain_text("PayPal cannot take a cancellation back: to go on after all, you approve a new subscription there, which begins, and is charged, when this one ends.")
    expect(dialog).not_to_contain_text("you can undo this")
    expect(dialog.get_by_role("button", name="Or cancel at PayPal")).to_be_visible()
    reads_well(page)
    dialog.get_by_label("At once").check()
    expect(dialog).to_contain_text("This cannot be undone.")
    dialog.get_by_label("At the end of the period that is paid").check()
    dialog.get_by_role("button", name="Cancel the subscription").click()
    expect(page.locator(f"#note-{key}")).to_contain_text("Next charge: none. Access until ")
    expect(card(page, key)).to_contain_text("To go on after that, approve it anew at PayPal: nothing is charged before.")
    assert sandbox.paypal("GET", f"/subscriptions/{key}")["status"] == "CANCELLED"
    page.get_by_role("button", name=f"Go on afterwards: {NAME}").click()
    expect(page.get_by_text(re.compile("Starts on .* Nothing is charged before that."))).to_be_visible()
    member.approve()
    expect(page.get_by_text("Done. It goes on when what you have paid for ends; nothing is charged before.").first).to_be_visible()
    assert member.path == "/profile"
    new = page.locator(".card", has_text="Begins later")
    expect(new).to_contain_text("Nothing is charged before.")
    expect(page.get_by_role("button", name="Go on afterwards")).to_have_count(0)
    expect(page.locator(".roles li").first).to_contain_text("for as long as the subscription renews")
    expect(page.locator(".shop .card", has_text=NAME)).to_contain_text("You have this.")
    reads_well(page)
    new.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text("It will not begin, and nothing is charged for it.")
    expect(page.get_by_role("dialog").get_by_role("radio")).to_have_count(0)
    page.get_by_role("dialog").get_by_role("button", name="Cancel the subscription").click()
    expect(page.get_by_text("Next charge: none. It will not begin.").first).to_be_visible()
    expect(page.get_by_role("button", name=f"Go on afterwards: {NAME}")).to_be_visible()


def test_what_is_cancelled_or_suspended_at_paypal_shows_on_return_without_a_reload(member, sandbox):
    page, key = member.page, member.key
    page.get_by_role("button", name="Manage at PayPal").click()
    page.get_by_label("Email").fill(f"user{member.user}@example.org")
    page.get_by_role("button", name="Log In").click()
    page.locator(f"#suspend-{key} button").click()
    page.get_by_text("Suspended", exact=True).wait_for()
    page.goto(f"{member.instance.url}/profile")
    expect(card(page, key).locator(".badge")).to_have_text("Suspended")
    expect(card(page, key)).to_contain_text("Payments are suspended at PayPal. You keep access until ")
    expect(page.locator(".shop .card", has_text=NAME)).to_contain_text("its payments are suspended")
    page.locator(f"#cancel-{key}").click()
    expect(page.get_by_role("dialog")).to_contain_text("You keep access until ")    # what is paid, without the grace
    reads_well(page)
    page.keyboard.press("Escape")
    sale = sandbox.paypal("GET", f"/subscriptions/{key}/sales")["sales"][0]["id"]
    sandbox.paypal("POST", f"/sales/{sale}/dispute", {})
    wait_for(lambda: sandbox.roles(GUILD, member.user) == set(), 10, "the roles are gone")
    page.get_by_role("button", name="Refresh").click()
    expect(card(page, key).locator(".badge")).to_have_text(re.compile("On hold|Suspended"))
    expect(card(page, key)).to_contain_text("A dispute about the payment is open.")
    reads_well(page)
