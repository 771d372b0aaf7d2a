"""The states of a Stripe subscription beyond active and past due: trialing, incomplete, unpaid, paused, and collecting paused."""
import pytest

from stripe_account import ASKS, DAY, DECLINED, FAILS_LATER, JAN_31, WORKS, Account

HOUR = 3600


@pytest.fixture
def account():
    return Account()


def period(sub, place=0):
    entry = sub["items"]["data"][place]
    return entry["current_period_start"], entry["current_period_end"]


def to(account, instant):
    account.clock.move_to(instant)


def before(event):
    return event["data"]["previous_attributes"]


# trials

def test_a_trial_costs_nothing_and_is_the_period_of_the_item(account):
    sub = account.trial(14)
    ends = JAN_31 + 14 * DAY
    assert (sub["status"], sub["trial_start"], sub["trial_end"], period(sub)) == ("trialing", JAN_31, ends, (JAN_31, ends))
    assert sub["billing_cycle_anchor"] == ends and sub["default_payment_method"]
    invoice = account.invoice(sub["latest_invoice"])
    assert (invoice["status"], invoice["amount_due"], invoice["lines"]["data"][0]["period"]["end"]) == ("paid", 0, ends)
    session = account.api("GET", f"/v1/checkout/sessions/{account.events('checkout')[-1]['data']['object']['id']}")
    assert (session["payment_status"], session["amount_total"]) == ("no_payment_required", 0)
    assert account.events("customer.subscription.created")[0]["data"]["object"]["status"] == "trialing"


def test_a_trial_is_announced_three_days_before_and_becomes_active_with_a_bill_tried_an_hour_later(account):
    sub = account.trial(14)
    to(account, sub["trial_end"] - 3 * DAY - 1)
    assert account.types("customer.subscription.trial_will_end") == []
    account.clock.advance(1)
    told, = account.events("customer.subscription.trial_will_end")
    assert told["created"] == sub["trial_end"] - 3 * DAY and told["data"]["object"]["status"] == "trialing"
    to(account, sub["trial_end"])
    begun = account.sub(sub["id"])
    assert begun["status"] == "active" and period(begun) == (sub["trial_end"], 1773489600)  # 2026-03-14T12:00:00Z
    assert {"status", "items", "latest_invoice"} == set(before(account.events("customer.subscription.updated")[-1]))
    assert account.invoice(begun["latest_invoice"])["status"] == "draft"
    account.clock.advance(HOUR)
    paid = account.invoice(begun["latest_invoice"])
    assert (paid["status"], paid["billing_reason"], paid["amount_paid"]) == ("paid", "subscription_cycle", 500)
    assert account.types("customer.subscription.trial_will_end") == ["customer.subscription.trial_will_end"]


def test_a_trial_whose_first_bill_is_declined_is_past_due(account):
    sub = account.trial(14, number=FAILS_LATER)  # can be saved, cannot be charged
    to(account, sub["trial_end"] + HOUR)
    late = account.sub(sub["id"])
    assert late["status"] == "past_due" and period(late)[0] == sub["trial_end"]


@pytest.mark.parametrize("missing, status, event", [
    ("create_invoice", "past_due", "customer.subscription.updated"), ("pause", "paused", "customer.subscription.paused"),
    ("cancel", "canceled", "customer.subscription.deleted")])
def test_a_trial_without_a_card_ends_as_its_settings_say(account, missing, status, event):
    sub = account.trial(14, number=None, **{"subscription_data[trial_settings][end_behavior][missing_payment_method]": missing})
    assert sub["default_payment_method"] is None and sub["trial_settings"]["end_behavior"]["missing_payment_method"] == missing
    to(account, sub["trial_end"] + HOUR)
    over = account.sub(sub["id"])
    assert over["status"] == status and account.types("customer.subscription")[-1] == event
    if missing == "pause":
        assert over["status_details"]["paused"]["subscription"]["type"] == "trial_end_without_payment_method"
        account.clock.advance(90 * DAY)
        assert len(account.invoices(sub)) == 1 and account.sub(sub["id"]) == over


def test_a_trial_that_got_a_card_in_time_is_charged_whatever_its_settings_say(account):
    sub = account.trial(14, number=None, **{"subscription_data[trial_settings][end_behavior][missing_payment_method]": "cancel"})
    account.page("POST", account.portal(sub["customer"])["url"] + "/payment-method", {"number": WORKS})
    to(account, sub["trial_end"] + HOUR)
    assert account.sub(sub["id"])["status"] == "active" and account.invoices(sub)[-1]["status"] == "paid"


def test_a_trial_cancelled_before_its_end_ends_with_it_and_bills_nothing(account):
    sub = account.trial(14)
    account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True})
    to(account, sub["trial_end"] + HOUR)
    over = account.sub(sub["id"])
    assert (over["status"], over["ended_at"], len(account.invoices(sub))) == ("canceled", sub["trial_end"], 1)


def test_a_trial_can_be_ended_now_or_moved(account):
    sub = account.trial(14)
    path, later = f"/v1/subscriptions/{sub['id']}", sub["trial_end"] + 10 * DAY
    moved = account.api("POST", path, {"trial_end": later})
    assert (moved["trial_end"], moved["trial_start"], period(moved)[1]) == (later, JAN_31, later)
    account.clock.advance(DAY)
    assert account.types("customer.subscription.trial_will_end") == []
    account.api("POST", path, {"trial_end": JAN_31 + 3 * DAY})
    assert account.events("customer.subscription.trial_will_end")[0]["created"] == JAN_31 + DAY
    begun = account.api("POST", path, {"trial_end": "now"})
    assert (begun["status"], begun["trial_end"], period(begun)[0]) == ("active", JAN_31 + DAY, JAN_31 + DAY)
    assert account.invoice(begun["latest_invoice"])["status"] == "paid"
    assert before(account.events("customer.subscription.updated")[-1])["status"] == "trialing"
    assert account.types("customer.subscription.trial_will_end") == ["customer.subscription.trial_will_end"]
    assert account.refused("POST", path, {"trial_end": later})["code"] == "sandbox_not_implemented"


def test_a_trial_by_the_api_may_be_short_and_is_announced_at_once(account):
    sub = account.subscribe(account.price(), trial_period_days=2)
    assert sub["status"] == "trialing" and account.types("customer.subscription.trial_will_end")
    assert "2 days in the future" in account.refused("POST", "/v1/checkout/sessions", {
        "mode": "subscription", "line_items[0][price]": account.price(), "success_url": "http://shop.test/",
        "subscription_data[trial_end]": JAN_31 + DAY})["message"]
    for bad in ({"trial_period_days": 0}, {"trial_period_days": 731}, {"trial_end": JAN_31}, {"trial_period_days": 3, "trial_end": JAN_31 + 9 * DAY}):
        account.subscribe(account.price(), expect=400, **bad)


# incomplete

def test_a_card_whose_bank_asks_leaves_the_subscription_incomplete_until_its_owner_answers(account):
    session = account.checkout()
    status, _, text = account.page("POST", session["url"], {"email": "ada@example.com", "number": ASKS})
    assert status == 200 and "Complete authentication" in text
    sub, = account.api("GET", "/v1/subscriptions")["data"]
    first = account.invoice(sub["latest_invoice"])
    assert (sub["status"], first["status"], first["next_payment_attempt"]) == ("incomplete", "open", None)
    assert account.types("invoice.")[-2:] == ["invoice.payment_failed", "invoice.payment_action_required"]
    intent = account.events("payment_intent")[-1]["data"]["object"]
    assert (intent["status"], intent["latest_charge"], account.types("charge")) == ("requires_action", None, [])
    assert account.api("GET", f"/v1/checkout/sessions/{session['id']}")["status"] == "open"
    status, headers, _ = account.page("POST", session["url"], {"authenticate": "succeed"})
    assert (status, headers["Location"]) == (303, f"http://shop.test/ok?session={session['id']}")
    assert account.sub(sub["id"])["status"] == "active"
    assert before(account.events("customer.subscription.updated")[-1]) == {"status": "incomplete"}
    done = account.api("GET", f"/v1/checkout/sessions/{session['id']}")
    assert (done["status"], done["subscription"], done["payment_status"]) == ("complete", sub["id"], "paid")
    to(account, period(sub)[1] + HOUR)  # once asked, the bank lets renewals through
    assert account.invoices(sub)[-1]["status"] == "paid" and account.sub(sub["id"])["status"] == "active"


def test_whoever_fails_to_authenticate_may_try_another_card_in_the_same_session(account):
    session = account.checkout()
    account.page("POST", session["url"], {"email": "ada@example.com", "number": ASKS})
    status, _, text = account.page("POST", session["url"], {"authenticate": "fail"})
    assert status == 402 and "unable to authenticate" in text
    assert account.page("POST", session["url"], {"email": "ada@example.com", "number": WORKS})[0] == 303
    sub, = account.api("GET", "/v1/subscriptions")["data"]
    assert sub["status"] == "active" and account.types("customer.created") == ["customer.created"]


@pytest.mark.parametrize("road", ["order", "invoice page", "api", "portal"])
def test_an_incomplete_subscription_is_active_once_its_invoice_is_paid(account, road):
    sub = account.subscribe(account.price(), customer=account.customer(ASKS if road in ("order", "invoice page") else FAILS_LATER))
    assert sub["status"] == "incomplete"
    invoice = account.invoice(sub["latest_invoice"])
    account.clock.advance(23 * HOUR - 1)
    if road == "order":
        account.control("POST", f"subscriptions/{sub['id']}/authenticate", {"outcome": "decline"})
        assert account.sub(sub["id"])["status"] == "incomplete"
        account.control("POST", f"subscriptions/{sub['id']}/authenticate")
    elif road == "invoice page":
        status, _, text = account.page("POST", invoice["hosted_invoice_url"], {"number": ""})
        assert status == 200 and "Your bank asks" in text
        assert account.page("POST", invoice["hosted_invoice_url"], {"authenticate": "succeed"})[0] == 200
    elif road == "api":
        account.control("POST", f"customers/{sub['customer']}/card", {"number": WORKS})
        account.api("POST", f"/v1/invoices/{invoice['id']}/pay")
    else:
        account.page("POST", account.portal(sub["customer"])["url"] + "/payment-method", {"number": WORKS})
    account.clock.advance(DAY)
    assert account.sub(sub["id"])["status"] == "active" and account.invoice(invoice["id"])["status"] == "paid"


def test_an_incomplete_subscription_expires_after_23_hours_and_its_invoice_is_void(account):
    sub = account.subscribe(account.price(), customer=account.customer(FAILS_LATER))
    to(account, JAN_31 + 23 * HOUR - 1)
    assert account.sub(sub["id"])["status"] == "incomplete"
    account.clock.advance(1)
    over = account.sub(sub["id"])
    assert (over["status"], over["ended_at"]) == ("incomplete_expired", JAN_31 + 23 * HOUR)
    assert account.events("payment_intent")[-1]["data"]["object"]["cancellation_reason"] == "void_invoice"
    assert account.invoice(sub["latest_invoice"])["status"] == "void" and account.types()[-2:] == ["invoice.voided", "customer.subscription.updated"]
    account.clock.advance(90 * DAY)
    assert account.sub(sub["id"]) == over and len(account.invoices(sub)) == 1


def test_an_incomplete_subscription_takes_no_change_but_metadata(account):
    sub = account.subscribe(account.price(), customer=account.customer(FAILS_LATER))
    path = f"/v1/subscriptions/{sub['id']}"
    assert "incomplete" in account.refused("POST", path, {"cancel_at_period_end": True})["message"]
    assert account.api("POST", path, {"metadata[a]": "1"})["metadata"] == {"a": "1"}
    assert account.api("DELETE", path)["status"] == "canceled"


def test_payment_behavior_says_what_a_failed_first_payment_leaves(account):
    price, broke = account.price(), account.customer(FAILS_LATER)
    refused = account.subscribe(price, customer=broke, expect=402, payment_behavior="error_if_incomplete")["error"]
    assert refused["code"] == "card_declined" and account.types("customer.subscription") == []
    waits = account.subscribe(price, payment_behavior="default_incomplete")
    assert waits["status"] == "incomplete" and account.invoice(waits["latest_invoice"])["attempted"] is False
    account.subscribe(price, customer=account.customer(None), expect=400)


def test_the_first_payment_of_any_checkout_can_be_ordered_to_need_its_owner_or_to_fail(account):
    account.control("PATCH", "options", {"first_payment": "action"})
    session = account.checkout()
    assert "authentication" in account.page("POST", session["url"], {"email": "a@b.c", "number": WORKS})[2]
    account.control("PATCH", "options", {"first_payment": "decline"})
    assert account.page("POST", account.checkout()["url"], {"email": "a@b.c", "number": WORKS})[0] == 402


def test_a_renewal_that_needs_its_owner_is_past_due_and_says_so(account):
    sub = account.buy()
    account.control("POST", f"customers/{sub['customer']}/card", {"number": ASKS})
    to(account, period(sub)[1] + HOUR)
    assert account.sub(sub["id"])["status"] == "past_due"
    assert account.types("invoice.payment_action_required") == ["invoice.payment_action_required"]
    account.control("POST", f"subscriptions/{sub['id']}/authenticate")
    assert account.sub(sub["id"])["status"] == "active"


# unpaid, void, uncollectible

def test_an_unpaid_subscription_recovers_only_by_its_newest_invoice():
    account = Account(final_failure="unpaid")
    sub = account.buy()
    account.control("POST", f"customers/{sub['customer']}/card", {"number": FAILS_LATER})
    to(account, period(sub)[1] + 40 * DAY)
    old, newest = account.invoices(sub)[1:]
    assert account.sub(sub["id"])["status"] == "unpaid" and (old["status"], newest["status"]) == ("open", "draft")
    account.control("POST", f"customers/{sub['customer']}/card", {"number": WORKS})
    account.api("POST", f"/v1/invoices/{old['id']}/pay")
    assert account.sub(sub["id"])["status"] == "unpaid"
    assert account.refused("POST", f"/v1/invoices/{newest['id']}/pay")["code"] == "invoice_not_editable"
    assert account.api("POST", f"/v1/invoices/{newest['id']}/finalize")["status"] == "open"
    account.api("POST", f"/v1/invoices/{newest['id']}/pay")
    assert account.sub(sub["id"])["status"] == "active"
    assert before(account.events("customer.subscription.updated")[-1]) == {"status": "unpaid"}


@pytest.mark.parametrize("call, status, at, event", [("void", "void", "voided_at", "invoice.voided"),
                                                     ("mark_uncollectible", "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")])
def test_an_open_invoice_can_be_closed_without_money(account, call, status, at, event):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    late = account.invoices(sub)[-1]
    closed = account.api("POST", f"/v1/invoices/{late['id']}/{call}")
    assert (closed["status"], closed["status_transitions"][at], closed["next_payment_attempt"]) == (status, int(account.clock.now()), None)
    assert event in account.types("invoice") and account.sub(sub["id"])["status"] == "active"
    account.refused("POST", f"/v1/invoices/{account.invoices(sub)[0]['id']}/{call}")
    account.clock.advance(20 * DAY)
    assert account.invoice(late["id"])["attempt_count"] == 1


def test_an_uncollectible_invoice_can_still_be_paid_and_a_void_first_one_ends_the_subscription(account):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    written_off = account.control("POST", f"invoices/{account.invoices(sub)[-1]['id']}/mark_uncollectible")
    assert account.api("POST", f"/v1/invoices/{written_off['id']}/pay")["status"] == "paid"
    waits = account.subscribe(account.price(), payment_behavior="default_incomplete")
    account.api("POST", f"/v1/invoices/{waits['latest_invoice']}/void")
    assert account.sub(waits["id"])["status"] == "incomplete_expired"


# collecting paused

@pytest.mark.parametrize("behavior, status, event", [("void", "void", "invoice.voided"), ("keep_as_draft", "draft", "invoice.created"),
                                                     ("mark_uncollectible", "uncollectible", "invoice.marked_uncollectible")])
def test_paused_collection_leaves_the_status_and_renews_without_money(account, behavior, status, event):
    sub = account.buy()
    held = account.api("POST", f"/v1/subscriptions/{sub['id']}", {"pause_collection[behavior]": behavior})
    assert (held["status"], held["pause_collection"]) == ("active", {"behavior": behavior, "resumes_at": None})
    assert before(account.events("customer.subscription.updated")[-1]) == {"pause_collection": None}
    to(account, period(sub)[1] + 40 * DAY)
    later = account.sub(sub["id"])
    assert later["status"] == "active" and period(later)[0] > period(sub)[1]
    assert [i["status"] for i in account.invoices(sub)] == ["paid", status, status] and account.types("invoice")[-1] == event
    assert all(i["auto_advance"] is False for i in account.invoices(sub))
    resumed = account.api("POST", f"/v1/subscriptions/{sub['id']}", {"pause_collection": ""})
    assert resumed["pause_collection"] is None
    to(account, period(later)[1] + HOUR)
    assert account.invoices(sub)[-1]["status"] == "paid"


def test_collection_resumes_by_itself_when_it_was_said_to(account):
    sub = account.buy()
    until = period(sub)[1] + 5 * DAY
    assert account.control("POST", f"subscriptions/{sub['id']}/pause_collection", {"behavior": "void", "resumes_at": until})["pause_collection"]
    account.refused("POST", f"/v1/subscriptions/{sub['id']}", {"pause_collection[behavior]": "void", "pause_collection[resumes_at]": JAN_31})
    account.clock.advance(75 * DAY)
    assert account.sub(sub["id"])["pause_collection"] is None
    assert [i["status"] for i in account.invoices(sub)] == ["paid", "void", "paid"]
    ended = next(e for e in account.events("customer.subscription.updated") if "pause_collection" in before(e) and before(e)["pause_collection"])
    assert ended["created"] == until and before(ended)["pause_collection"] == {"behavior": "void", "resumes_at": until}


def test_a_bill_from_before_the_pause_is_still_retried(account):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    account.control("POST", f"subscriptions/{sub['id']}/pause_collection", {"behavior": "void"})
    account.clock.advance(3 * DAY)
    assert account.invoices(sub)[-1]["status"] == "paid" and account.sub(sub["id"])["status"] == "active"
    account.control("POST", f"subscriptions/{sub['id']}/pause_collection", {"behavior": None})
    account.control("POST", f"subscriptions/{sub['id']}/pause_collection", {"behavior": "stop"}, expect=400)


# paused

def test_a_paused_subscription_ends_its_period_now_and_bills_nothing(account):
    sub = account.buy()
    account.clock.advance(3 * DAY)
    paused = account.api("POST", f"/v1/subscriptions/{sub['id']}/pause")
    assert (paused["status"], period(paused)) == ("paused", (JAN_31, JAN_31 + 3 * DAY))
    assert paused["status_details"]["paused"]["subscription"]["type"] == "pause_requested"
    assert account.types("customer.subscription")[-2:] == ["customer.subscription.updated", "customer.subscription.paused"]
    account.clock.advance(90 * DAY)
    assert account.sub(sub["id"]) == paused and len(account.invoices(sub)) == 1
    assert "paused" in account.refused("POST", f"/v1/subscriptions/{sub['id']}/pause")["message"]


@pytest.mark.parametrize("number, status", [(WORKS, "active"), (FAILS_LATER, "past_due")])
def test_resuming_waits_for_the_one_attempt_to_pay_its_bill(account, number, status):
    sub = account.buy()
    account.api("POST", f"/v1/subscriptions/{sub['id']}/pause")
    account.control("POST", f"customers/{sub['customer']}/card", {"number": number})
    account.clock.advance(10 * DAY)
    waits = account.api("POST", f"/v1/subscriptions/{sub['id']}/resume")
    bill = account.invoice(waits["latest_invoice"])
    assert (waits["status"], bill["status"], bill["attempted"]) == ("paused", "open", False)
    account.api("POST", f"/v1/invoices/{bill['id']}/pay", expect=200 if number == WORKS else 402)
    resumed = account.sub(sub["id"])
    assert (resumed["status"], resumed["status_details"], resumed["billing_cycle_anchor"]) == (status, None, JAN_31 + 10 * DAY)
    assert period(resumed) == (JAN_31 + 10 * DAY, bill["lines"]["data"][0]["period"]["end"])
    assert "customer.subscription.resumed" in account.types("customer.subscription")


def test_resuming_on_success_tries_at_once_and_stays_paused_until_paid(account):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/pause")
    account.control("POST", f"customers/{sub['customer']}/card", {"number": FAILS_LATER})
    waits = account.api("POST", f"/v1/subscriptions/{sub['id']}/resume", {"payment_behavior": "resume_on_payment_success"})
    assert waits["status"] == "paused" and account.invoice(waits["latest_invoice"])["next_payment_attempt"] == JAN_31 + 3 * DAY
    account.control("POST", f"customers/{sub['customer']}/card", {"number": WORKS})
    account.clock.advance(3 * DAY)
    assert account.sub(sub["id"])["status"] == "active"
    account.control("POST", f"subscriptions/{sub['id']}/pause")
    assert account.control("POST", f"subscriptions/{sub['id']}/resume", {"outcome": "succeed"})["status"] == "active"


def test_a_resumption_that_nobody_pays_is_forgotten(account):
    sub = account.buy()
    account.api("POST", f"/v1/subscriptions/{sub['id']}/pause")
    bill = account.api("POST", f"/v1/subscriptions/{sub['id']}/resume")["latest_invoice"]
    account.clock.advance(DAY)
    assert account.invoice(bill)["status"] == "void" and account.sub(sub["id"])["status"] == "paused"
    bill = account.api("POST", f"/v1/subscriptions/{sub['id']}/resume")["latest_invoice"]
    account.api("POST", f"/v1/invoices/{bill}/void")
    assert account.sub(sub["id"])["status"] == "paused"
    unchanged = account.api("POST", f"/v1/subscriptions/{sub['id']}/resume", {"billing_cycle_anchor[type]": "unchanged", "proration_behavior": "none"})
    assert (unchanged["status"], period(unchanged)[1], unchanged["billing_cycle_anchor"]) == ("active", period(sub)[1], JAN_31)


def test_only_an_active_flexible_subscription_without_a_schedule_is_paused(account):
    classic = account.subscribe(account.price(), **{"billing_mode[type]": "classic"})
    trial, planned = account.trial(14), account.buy()
    account.control("POST", f"subscriptions/{planned['id']}/switch", {"price": account.price(unit_amount=100), "when": "period_end"})
    for sub in (classic, trial, planned):
        account.refused("POST", f"/v1/subscriptions/{sub['id']}/pause")
        account.refused("POST", f"/v1/subscriptions/{sub['id']}/resume")
        assert account.sub(sub["id"])["status"] == ("trialing" if sub is trial else "active")


def test_a_paused_subscription_that_was_to_end_ends(account):
    sub = account.buy()
    account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at": JAN_31 + 20 * DAY})
    account.api("POST", f"/v1/subscriptions/{sub['id']}/pause")
    account.clock.advance(40 * DAY)
    over = account.sub(sub["id"])
    assert (over["status"], over["ended_at"]) == ("canceled", JAN_31 + 20 * DAY)


@pytest.mark.parametrize("force", [{"status": "trialing"}, {"status": "incomplete"}, {"schedule": "sub_sched_none"},
                                   {"pause_collection": {"behavior": "void"}}])
def test_a_subscription_forced_into_such_a_state_does_not_stop_the_clock(account, force):
    odd, other = account.buy(), account.buy()
    account.clock.advance(2 * DAY)
    account.control("PATCH", f"subscriptions/{odd['id']}", force)
    account.clock.advance(40 * DAY)
    instants = [e["created"] for e in account.events()]
    assert instants == sorted(instants) and period(account.sub(other["id"]))[0] == period(other)[1]


# all at once

def test_months_in_one_jump_are_the_same_as_day_by_day_and_survive_restarts(tmp_path):
    def lived(step, **files):
        account = Account(**files)
        keys = [account.trial(14)["id"], account.trial(14, number=FAILS_LATER)["id"],
                account.subscribe(account.price(), customer=account.customer(FAILS_LATER))["id"], account.buy()["id"], account.buy()["id"]]
        account.control("POST", f"subscriptions/{keys[3]}/pause_collection", {"behavior": "void", "resumes_at": JAN_31 + 50 * DAY})
        account.control("POST", f"subscriptions/{keys[4]}/switch", {"price": account.price("year"), "when": "period_end"})
        until = account.clock.now() + 120 * DAY
        while account.clock.now() < until:
            account.clock.advance(step)
            account = Account(**files) if files else account
        return [(e["created"], e["type"], e["data"]["object"].get("status")) for e in account.events() if e["created"] > JAN_31 + 91 * DAY], [
            account.sub(key) for key in keys]
    one, days = lived(120 * DAY), lived(8 * DAY)
    assert one == days
    restarted = lived(40 * DAY, state_file=tmp_path / "stripe.json", clock_file=tmp_path / "clock.json")
    assert restarted == one


def test_a_declined_card_begins_no_trial(account):
    session = account.checkout(**{"subscription_data[trial_period_days]": 7})
    assert account.page("POST", session["url"], {"email": "a@b.c", "number": DECLINED})[0] == 402
    assert account.types("customer.subscription") == []
