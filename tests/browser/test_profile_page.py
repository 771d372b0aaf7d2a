"""The member's page in a real browser, against the whole product: what a member sees, and what pressing things does."""
import re

from playwright.sync_api import expect

from infra.local.demo import BEN, CLEO, GUILD, SUPPORTER
from infra.local.walker import wait_for

NAME = '<b>Fay</b> <img src=x onerror="document.title=1">'


def subscription_events(sandbox, key):
    """The subscription's states as Stripe told them, newest last."""
    return [event["data"]["object"] for event in sandbox.events() if event["data"]["object"].get("id") == key]


def requests_to(visitor, fragment):
    """The POSTs of this page whose address has that in it, filled as they happen."""
    seen = []
    visitor.page.on("request", lambda sent: seen.append(sent.url) if sent.method == "POST" and fragment in sent.url else None)
    return seen


def card(page, key):
    return page.locator(f"#card-{key}")


# Seeing


def test_who_is_signed_out_sees_what_this_is_and_what_is_sold_and_nothing_else(visit):
    page = visit().open()
    expect(page.get_by_role("link", name="Sign in with Discord")).to_have_attribute("href", "auth/discord/login")
    expect(page.get_by_role("heading", name="Pixel Guild")).to_be_visible()
    expect(page.get_by_role("heading", name="Lantern Café")).to_be_visible()
    expect(page.locator(".shop .card")).to_have_count(4)
    expect(page.locator(".shop .card").nth(2)).to_contain_text("€90.00 once, for good")
    expect(page.locator(".shop .card").first).to_contain_text("€5.00 per month")
    expect(page.locator(".shop .card").last).to_contain_text("€3.00 per month")
    expect(page.get_by_role("button")).to_have_count(0)


def test_a_member_who_pays_nothing_sees_that_and_can_sign_out(visit):
    page = visit().sign_in(NAME)
    expect(page.locator("#who bdi")).to_have_text(NAME)   # as text: no markup came of it
    expect(page.get_by_role("heading", name="You have no subscriptions here yet.")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.", exact=True).first).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.reload()
    expect(page.get_by_role("link", name="Sign in with Discord")).to_be_visible()


def test_an_end_is_shown_in_the_members_zone_and_in_utc_and_is_the_instant_of_the_api(visit):
    visitor = visit(timezone_id="America/New_York")
    visitor.user = BEN
    page = visitor.consent()
    said = visitor.profile()["servers"][0]["subscriptions"][0]
    shown = page.locator(".card.is-ending time").first
    expect(shown).to_have_attribute("datetime", said["ends_at"])
    expect(shown).to_have_attribute("title", re.compile(r"\d\d:\d\d:\d\d UTC$"))
    expect(shown).to_have_text(re.compile(r"(EST|EDT|GMT-[45])$"))
    expect(page.locator(".card.is-ending .utc").first).to_contain_text(f"{said['ends_at'][11:16]} UTC")
    expect(page.locator(".card.is-ending")).to_contain_text("There is no further charge.")
    expect(page.locator(".shop .card").first).to_contain_text("Undo the cancellation above")


def test_a_failed_payment_shows_until_when_access_lasts_and_how_to_mend_it(visit):
    visitor = visit()
    visitor.user = CLEO
    page = visitor.consent()
    failed = page.locator(".card.is-grace")
    expect(failed).to_contain_text("Payment failed")
    expect(failed).to_contain_text(re.compile(r"You keep access until .* – in \d+ days"))
    failed.get_by_role("button", name="Change payment method").click()
    page.get_by_role("button", name="Save card").wait_for()   # Stripe's page, in the flow asked for


def test_who_refuses_at_discord_comes_to_a_page_that_leads_back(visit):
    visitor = visit()
    visitor.expected |= {400}
    page = visitor.open()
    page.get_by_role("link", name="Sign in with Discord").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="The sign-in did not work")).to_be_visible()
    page.get_by_role("link", name="Back to the portal").click()
    expect(page.get_by_role("link", name="Sign in with Discord")).to_be_visible()


# Buying


def test_a_purchase_is_confirmed_on_return_and_the_role_is_held(visit, sandbox):
    visitor = visit()
    page = visitor.sign_in()
    sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "delay", "seconds": 2, "times": 20})
    visitor.buy()
    expect(page.get_by_text("Your payment is being confirmed; your role appears within seconds.").first).to_be_visible()
    expect(page.get_by_text("Your payment is confirmed and you hold Supporter.").first).to_be_visible(timeout=20_000)
    assert visitor.holds(SUPPORTER) and visitor.path == "/profile"
    expect(page.locator(".roles li")).to_contain_text("Held")
    expect(page.locator(".card.is-active")).to_contain_text("Renews on")
    expect(page.locator(".shop .card").first).to_contain_text("You have this.")
    expect(page.get_by_role("button", name="Buy Supporter")).to_have_count(0)


# Cancelling


def test_a_member_cancels_and_undoes_by_keyboard_alone(visit, sandbox):
    visitor = visit()
    key = visitor.bought()
    page = visitor.page
    page.reload()
    page.wait_for_selector("h1")
    visitor.tab_to(page.get_by_role("button", name="Cancel: Supporter"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Cancel Supporter in Pixel Guild?")
    expect(dialog).to_contain_text("You keep access until")
    expect(dialog).to_contain_text("Roles that go then: Supporter.")
    visitor.tab_to(dialog.get_by_label("Why? (optional)"), most=2)
    page.keyboard.type("I do not")
    visitor.tab_to(dialog.get_by_label("Anything to add? (optional)"), most=2)
    page.keyboard.type("Thanks, it was fun.")
    visitor.tab_to(dialog.get_by_role("button", name="Cancel the subscription"), most=3)
    page.keyboard.press("Space")
    receipt = page.locator(f"#note-{key}")
    expect(receipt).to_be_focused()
    expect(receipt).to_contain_text("Next charge: none. Access until ")
    expect(receipt).to_contain_text("Receipt of ")
    expect(card(page, key)).to_contain_text("Ending")
    told = subscription_events(sandbox, key)[-1]
    assert told["cancel_at_period_end"] or told["cancel_at"]
    assert told["cancellation_details"] == {"comment": "Thanks, it was fun.", "feedback": "unused", "reason": "cancellation_requested"}
    visitor.tab_to(page.get_by_role("button", name="Undo the cancellation: Supporter"))
    page.keyboard.press("Enter")
    expect(receipt).to_contain_text("Your subscription goes on. Next charge: ")
    expect(receipt).to_be_focused()
    expect(card(page, key)).to_contain_text("Active")
    assert not subscription_events(sandbox, key)[-1]["cancel_at_period_end"]


def test_where_the_server_allows_it_the_dialog_offers_to_end_at_once_and_says_what_that_means(visit, sandbox):
    visitor = visit()
    key, page = visitor.bought("Backstage pass by card"), visitor.page
    page.reload()
    page.wait_for_selector("h1")
    assert page.locator(f"#cancel_now-{key}").count() == 0, "one button; the dialog asks"
    page.locator(f"#cancel-{key}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("At the end of the period that is paid")).to_be_checked()
    expect(dialog).to_contain_text("You keep access until")
    visitor.tab_to(dialog.get_by_label("At the end of the period that is paid"), most=3)
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_label("At once")).to_be_checked()
    expect(dialog).to_contain_text("Your access ends at once and nothing is refunded. You are not charged again. This cannot be undone.")
    expect(dialog).to_contain_text("Roles that go at once: VIP and Backstage.")
    expect(dialog).not_to_contain_text("You keep access until")
    dialog.get_by_role("button", name="End it now").click()
    receipt = page.locator(f"#note-{key}")
    expect(receipt).to_be_focused()
    expect(receipt).to_contain_text("Next charge: none. Access has ended. Nothing is refunded.")
    expect(card(page, key)).to_contain_text("Ended on ")
    assert subscription_events(sandbox, key)[-1]["status"] == "canceled"
    wait_for(lambda: sandbox.roles(GUILD, visitor.user) == set(), 10, "the roles are gone")


def test_what_is_cancelled_at_period_end_can_be_ended_at_once_with_a_button_of_its_own(visit, sandbox):
    visitor = visit()
    key, page = visitor.bought("Backstage pass by card"), visitor.page
    page.locator(f"#cancel-{key}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the subscription").click()
    expect(card(page, key)).to_contain_text("Ending")
    page.get_by_role("button", name="End it now: Backstage pass").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("radio")).to_have_count(0)
    expect(dialog).to_contain_text("nothing is refunded")
    dialog.get_by_role("button", name="End it now").click()
    expect(card(page, key)).to_contain_text("Ended on ")
    assert subscription_events(sandbox, key)[-1]["status"] == "canceled"


def test_escape_keeps_the_subscription_and_gives_the_focus_back(visit):
    visitor = visit()
    key = visitor.bought()
    sent = requests_to(visitor, "/cancel")
    button = visitor.page.locator(f"#cancel-{key}")
    button.click()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    assert sent == []


def test_pressing_twice_cancels_once(visit, sandbox):
    visitor = visit()
    key = visitor.bought()
    sent = requests_to(visitor, "/cancel")
    sandbox.stripe("POST", "/faults", {"method": "POST", "path": f"/v1/subscriptions/{key}", "do": "delay", "seconds": 2})
    visitor.page.locator(f"#cancel-{key}").click()
    go = visitor.page.get_by_role("dialog").locator("button[type=submit]")
    go.dblclick()
    expect(go).to_have_attribute("aria-disabled", "true")
    expect(visitor.page.locator(f"#note-{key}")).to_contain_text("Next charge: none.")
    assert len(sent) == 1


def test_a_refused_cancel_says_why_in_the_dialog_and_works_when_tried_again(visit, sandbox):
    visitor = visit()
    visitor.expected |= {503}
    key = visitor.bought()
    wish = {"method": "GET", "path": f"/v1/subscriptions/{key}", "do": "answer", "status": 403, "times": None,
            "body": {"error": {"type": "invalid_request_error", "message": "no"}}}
    sandbox.stripe("POST", "/faults", wish)
    visitor.page.locator(f"#cancel-{key}").click()
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel the subscription").click()
    refusal = dialog.get_by_role("alert")
    expect(refusal).to_contain_text("Stripe cannot be reached")
    expect(refusal).to_contain_text("What to do: Try again in a minute.")
    expect(refusal).to_be_focused()
    sandbox.stripe("DELETE", "/faults")
    dialog.get_by_role("button", name="Cancel the subscription").click()
    expect(visitor.page.locator(f"#note-{key}")).to_contain_text("Next charge: none.")


def test_a_cancellation_in_stripes_portal_shows_on_return_without_a_reload(visit):
    visitor = visit()
    key, page = visitor.bought(), visitor.page
    page.locator(f"#cancel-{key}").click()
    page.get_by_role("dialog").get_by_role("button", name="Or cancel in Stripe's portal").click()
    page.get_by_role("button", name="Cancel subscription").click()
    if not visitor.path.startswith("/profile"):
        page.get_by_role("link", name="Return").click()
    expect(card(page, key)).to_contain_text("Ending")


def test_an_owner_without_terms_blocks_the_portal_and_nothing_else(visit):
    visitor = visit()
    visitor.expected |= {409}
    key, page = visitor.bought(), visitor.page
    answer = {"title": "The billing portal is not set up yet", "status": 409, "detail": "Terms are missing.", "next": "Ask the owner."}
    page.route("**/portal-session", lambda route: route.fulfill(status=409, json=answer))
    page.locator(f"#manage-{key}").click()
    note = page.locator(f"#note-{key}")
    expect(note).to_contain_text("The billing portal is not set up yet")
    expect(note).to_contain_text("What to do: Ask the owner.")
    expect(note).to_be_focused()
    note.get_by_role("button", name="Close").click()
    expect(note).to_have_count(0)
    expect(page.locator(f"#manage-{key}")).to_be_focused()


# Roles


def test_restore_gives_back_a_role_that_was_taken_by_hand(visit, sandbox):
    visitor = visit()
    visitor.bought()
    sandbox.discord("DELETE", f"/guilds/{GUILD}/members/{visitor.user}/roles/{SUPPORTER}")
    visitor.page.wait_for_timeout(1_000)   # the page knows the new look by its time, which is told in seconds
    visitor.page.get_by_role("button", name="Restore my roles").click()
    expect(visitor.page.get_by_text("Done. You hold Supporter.")).to_be_visible(timeout=20_000)
    assert visitor.holds(SUPPORTER)


def test_who_is_not_in_the_server_sees_why_the_role_is_missing_and_what_to_do(visit, sandbox):
    visitor = visit()
    page = visitor.sign_in(joined=False)
    visitor.buy()
    expect(page.get_by_text("Discord does not take the role yet; below it says why.").first).to_be_visible(timeout=20_000)
    line = page.locator(".roles li")
    expect(line).to_contain_text("Blocked")
    expect(line).to_contain_text("You are not in this Discord server.")
    expect(line).to_contain_text("What to do: Join the server, then press “Restore my roles”.")
    sandbox.join(GUILD, visitor.user)
    page.get_by_role("button", name="Restore my roles").click()
    expect(page.get_by_text("Done. You hold Supporter.")).to_be_visible(timeout=20_000)
    expect(line).to_contain_text("Held")


# When something is amiss


def test_a_session_that_ends_meanwhile_leads_to_the_signed_out_page_with_a_word_about_it(visit):
    visitor = visit()
    page = visitor.sign_in()
    visitor.context.clear_cookies()
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("You are no longer signed in.").first).to_be_visible()
    expect(page.get_by_role("link", name="Sign in with Discord")).to_be_visible()
    expect(page.get_by_text("Fay")).to_have_count(0)


def test_offline_keeps_what_was_read_says_so_and_recovers_by_itself(visit):
    visitor = visit()
    page = visitor.sign_in()
    visitor.context.set_offline(True)
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_text("The portal cannot be reached").first).to_be_visible()
    expect(page.get_by_text("What you see below was read earlier.")).to_be_visible()
    expect(page.locator(".shop .card").first).to_be_visible()
    visitor.context.set_offline(False)
    expect(page.get_by_text("The portal cannot be reached")).to_have_count(0)
    visitor._said = [said for said in visitor._said if "ERR_INTERNET_DISCONNECTED" not in said[1]]


def test_a_profile_that_cannot_be_read_can_be_tried_again(visit):
    visitor = visit()
    visitor.expected |= {502}
    page = visitor.page
    page.route("**/api/v1/profile", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>"))
    visitor.open()
    expect(page.get_by_role("alert")).to_contain_text("The answer could not be understood.")
    page.unroute("**/api/v1/profile")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="Sign in with Discord")).to_be_visible()


def test_everything_works_below_a_stage_prefix(visit, instance):
    visitor = visit()
    page = visitor.sign_in()
    asked = []

    def without_prefix(route):
        asked.append(route.request.url)
        route.fulfill(response=route.fetch(url=route.request.url.replace("/prod/", "/", 1), max_redirects=0))

    page.route("**/prod/**", without_prefix)
    visitor.open("/prod/profile")
    page.get_by_role("heading", name="What you can buy").wait_for()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.", exact=True).first).to_be_visible()
    assert {f"{instance.url}/prod/{path}" for path in ("assets/portal.css", "api/v1/profile", "api/v1/servers", "auth/logout")} <= set(asked)
    assert page.get_by_role("link", name="Sign in with Discord").evaluate("a => a.href") == f"{instance.url}/prod/auth/discord/login"


# For everybody

LEVELS = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))"
SIDEWAYS = "() => document.documentElement.scrollWidth - innerWidth"
FAINT = """() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255]; };
  const faint = [];
  for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest('.unseen, noscript, [aria-disabled=true]')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push(walker.currentNode.data);
  }
  return faint;
}"""


def test_it_reads_well_light_and_dark_narrow_and_wide(visit):
    for user in (BEN, CLEO):
        visitor = visit(reduced_motion="reduce")
        visitor.user = user
        page = visitor.consent()
        page.get_by_role("heading", name="What you can buy").wait_for()
        for width, scheme in ((320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(SIDEWAYS) <= 0, f"{width} px scrolls sideways"
            assert page.evaluate(FAINT) == [], f"contrast below 4.5 in {scheme}"
            levels = page.evaluate(LEVELS)
            assert levels[0] == 1 and all(next_ - level <= 1 for level, next_ in zip(levels, levels[1:], strict=False)), levels
            ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
            assert len(ids) == len(set(ids))


def test_the_first_stop_of_the_keyboard_leads_past_the_header_and_focus_is_visible(visit):
    visitor = visit()
    page = visitor.sign_in()
    page.reload()
    page.wait_for_selector("h1")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#refresh")).to_be_focused()
    assert page.locator("#refresh").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"


def test_the_page_waits_for_the_role_only_so_long_and_then_says_what_holds(visit, sandbox):
    visitor = visit()
    page = visitor.sign_in()
    sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "hold", "times": None})
    page.clock.install()
    visitor.buy()
    slow = page.get_by_text("This takes longer than usual. Your purchase is not lost")
    for _ in range(14):   # the page's 20 seconds, without waiting for them
        expect(page.get_by_text("Your payment is being confirmed")).to_be_visible()
        page.clock.run_for(1500)
    expect(slow).to_be_visible()
    sandbox.stripe("DELETE", "/faults")
    sandbox.stripe("POST", "/release", {"order": "as_made"})
    wait_for(lambda: [role["state"] for server in visitor.profile()["servers"] for role in server["roles"]] == ["held"], 20, "the role is held after all")
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator(".roles li")).to_contain_text("Held")


def test_an_answer_that_comes_after_signing_out_is_not_shown(visit):
    visitor = visit()
    visitor.bought()
    page, held = visitor.page, []
    page.route("**/api/v1/profile", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="Restore my roles").click()
    while not held:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Sign out").click()
    goodbye = page.get_by_text("You are signed out.", exact=True).first
    expect(goodbye).to_be_visible()
    route, answer = held.pop()
    route.fulfill(response=answer)
    page.wait_for_timeout(2_000)   # time enough for the page to look again, if it did
    expect(goodbye).to_be_visible()
    assert held == []
