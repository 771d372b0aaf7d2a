"""Refunds and disputes: found through what the charge paid for, held by the offer's policy, given back when it is over."""
import time

import pytest

from tests.usecases.product import ADA, DAY, GOLD, SILVER


@pytest.fixture
def holder(product):
    """(product, subscription id) of a member who holds gold."""
    key = product.holder()
    product.hears()
    return product, key


def charge_of(product, key, which=-1):
    """The charge that paid for the subscription's newest period, or an earlier one."""
    invoices = [i for i in product.stripe.world.all("invoice") if i["parent"]["subscription_details"]["subscription"] == key and i["status"] == "paid"]
    payment = next(p for p in product.stripe.world.all("invoice_payment") if p["invoice"] == invoices[which]["id"])
    return product.stripe.world.find("payment_intent", payment["payment"]["payment_intent"])["latest_charge"]


def refund(product, charge, **params):
    status, answer = product.stripe.call("POST", "/v1/refunds", {"charge": charge, **params})
    assert status == 200, answer
    return answer["id"]


def dispute(product, charge, **fields):
    return product.order_stripe("POST", f"charges/{charge}/dispute", fields)["id"]


def policies(product, **more):
    product.sells(gold=([GOLD], [product.price(500)], more), silver=([SILVER], [product.price(300)], {}))


def test_fault_42_T32_a_full_refund_of_the_current_period_ends_access_and_the_page_says_why(holder):
    product, key = holder
    refund(product, charge_of(product, key))
    product.hears()
    assert product.shown() == set()
    shown = product.subscription(key)
    assert shown["state"] == "on_hold" and "refunded" in shown["text"] and shown["access_until"] is None and "cancel" in shown["actions"]
    assert shown["renews_at"], "it goes on being charged, and the page says when"


def test_fault_42_a_partial_refund_changes_nothing_unless_the_offer_says_so(holder):
    product, key = holder
    refund(product, charge_of(product, key), amount=499)
    product.hears()
    assert product.shown() == {GOLD}
    policies(product, refund="any")
    product.advance(DAY)
    product.sweep()
    assert product.shown() == set()


def test_fault_42_an_offer_that_ignores_refunds_keeps_the_role(holder):
    product, key = holder
    policies(product, refund="never")
    refund(product, charge_of(product, key))
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_42_a_refund_of_an_earlier_period_leaves_the_paid_one_alone(holder):
    product, key = holder
    first = charge_of(product, key)
    product.advance(40 * DAY)
    product.hears()
    assert charge_of(product, key) != first
    refund(product, first)
    product.hears()
    assert product.shown() == {GOLD}


def test_a_refunded_member_has_the_role_again_with_the_next_paid_period(holder):
    product, key = holder
    refund(product, charge_of(product, key))
    product.hears()
    end = product.row().holds[f"stripe:operator:{charge_of(product, key)}"].until
    assert product.row().due_at <= end
    product.advance(end - product.clock.now() + 2 * 3_600)
    product.sweep()
    assert product.shown() == {GOLD}


def test_a_refund_that_fails_gives_the_role_back(holder):
    product, key = holder
    made = refund(product, charge_of(product, key))
    product.hears()
    assert product.shown() == set()
    product.order_stripe("POST", f"refunds/{made}/fail")
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_43_a_dispute_holds_while_open_and_the_role_is_back_when_it_is_won(holder):
    # Rows: polar 7f3d8f15a2
    product, key = holder
    opened = dispute(product, charge_of(product, key))
    product.hears()
    assert product.shown() == set() and "dispute" in product.subscription(key)["text"]
    product.order_stripe("PATCH", f"disputes/{opened}", {"status": "under_review"})
    product.hears()
    assert product.shown() == set()
    product.order_stripe("POST", f"disputes/{opened}/close", {"outcome": "won"})
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_43_a_lost_dispute_ends_access_for_good(holder):
    product, key = holder
    opened = dispute(product, charge_of(product, key))
    product.order_stripe("POST", f"disputes/{opened}/close", {"outcome": "lost"})
    product.hears()
    assert product.shown() == set() and "charged back" in product.subscription(key)["text"]
    product.advance(40 * DAY)
    product.hears()
    product.sweep()
    assert product.shown() == set()


def test_an_inquiry_takes_nothing_away_until_it_becomes_a_dispute(holder):
    product, key = holder
    opened = dispute(product, charge_of(product, key), status="warning_needs_response")
    product.hears()
    assert product.shown() == {GOLD}
    product.order_stripe("PATCH", f"disputes/{opened}", {"status": "needs_response"})
    product.hears()
    assert product.shown() == set()


def test_an_offer_that_ignores_disputes_keeps_the_role(holder):
    product, key = holder
    policies(product, dispute="ignore")
    dispute(product, charge_of(product, key))
    product.hears()
    assert product.shown() == {GOLD}


def test_fault_8_I2_a_won_dispute_is_found_by_the_daily_look_although_its_event_never_came(holder):
    product, key = holder
    opened = dispute(product, charge_of(product, key))
    product.hears()
    product.order_stripe("POST", f"disputes/{opened}/close", {"outcome": "won"})
    product.advance(DAY)
    product.sweep()
    assert product.shown() == {GOLD}


def test_fault_3_the_events_of_a_dispute_in_any_order_and_twice_end_alike(holder):
    product, key = holder
    opened = dispute(product, charge_of(product, key))
    product.order_stripe("POST", f"disputes/{opened}/close", {"outcome": "won"})
    events = [event for event in product.stripe.world.all("event") if event["type"].startswith("charge.dispute.")]
    assert len(events) >= 3
    for event in [*reversed(events), *events]:
        product.take_in(event)
        product.work()
    assert product.shown() == {GOLD}


@pytest.mark.parametrize("path, status", [("/v1/charges/", 401), ("/v1/charges/", 404), ("/v1/charges/", 500), ("/v1/disputes", 403), ("/v1/invoice_payments", 500),
                                          ("/v1/invoices/", 404)])
def test_I3_while_anything_about_a_charge_cannot_be_read_nothing_is_stripped(holder, path, status):
    product, key = holder
    dispute(product, charge_of(product, key))
    product.order("stripe", method="GET", path=path, do="answer", status=status, body={"error": {"type": "api_error", "message": "x"}}, times=None)
    assert product.hears() == 0 and product.shown() == {GOLD}
    assert product.delayed("stripe-events") or product.row().lookups    # somebody will ask again


def test_I1_a_charge_whose_purpose_could_not_be_asked_for_comes_again_by_itself(holder, monkeypatch):
    product, key = holder
    monkeypatch.setattr("chalicelib.gateways.queues.LONGEST_DELAY", 1)      # the emulator's own clock holds the message back: not for ten seconds
    refund(product, charge_of(product, key))
    product.order("stripe", method="GET", path="/v1/invoice_payments", do="answer", status=500, body={"error": {"type": "api_error", "message": "x"}}, times=None)
    product.take_in(next(event for event in product.stripe.world.all("event") if event["type"] == "charge.refunded"))
    assert product.work() == 0 and product.shown() == {GOLD} and product.delayed("stripe-events") == 1
    product.stripe.front.faults.clear()
    end = time.monotonic() + 20
    while product.shown() and time.monotonic() < end:
        product.work()
    assert product.shown() == set()


def test_a_charge_that_could_not_be_asked_about_stays_asked_for(holder):
    product, key = holder
    charge = charge_of(product, key)
    refund(product, charge)
    product.order("stripe", method="GET", path=f"/v1/charges/{charge}", do="answer", status=500, body={"error": {"type": "api_error", "message": "x"}}, times=None)
    from chalicelib.store import links
    links.link_charge(f"stripe:operator:{charge}", reason=f"stripe:operator:{key}", until=None, now=1)
    product.hears()
    assert product.row().lookups == {f"stripe:operator:{charge}"} and product.shown() == {GOLD}
    assert product.row().due_at <= product.clock.now() + 125
    product.stripe.front.faults.clear()
    product.advance(125)
    product.sweep()
    assert product.row().lookups == frozenset() and product.shown() == set()


def test_fault_12_a_request_for_a_charge_that_comes_while_another_is_worked_on_is_not_lost(holder):
    """Between the fetch and the save somebody asks about a charge: the round goes again, and asks."""
    from chalicelib import reconcile as mechanism
    from chalicelib.domain.holds import Hold
    product, key = holder
    charge = charge_of(product, key)
    hold = Hold(f"stripe:operator:{charge}", f"stripe:operator:{key}")
    refund(product, charge)
    asked = []
    fetch = mechanism._Round._fetch

    def fetched(self):
        fetch(self)
        if not asked:
            asked.append(1)
            mechanism.reconcile(mechanism.Look(ADA, product.row().server, "evt_late", hold=hold), deadline=self.deadline)

    mechanism._Round._fetch = fetched
    try:
        product.tell(key)
        product.work()
    finally:
        mechanism._Round._fetch = fetch
    assert product.shown() == set() and product.row().lookups == frozenset() and product.row().requested == product.row().done


def test_a_refund_heard_before_the_subscription_itself_finds_its_member(product):
    key = product.buys()
    refund(product, charge_of(product, key))
    for event in [e for e in product.stripe.world.all("event") if e["type"] == "charge.refunded"]:
        product.take_in(event)
    assert product.work() == 0
    assert product.shown() == set() and product.row().holds
    product.hears()
    assert product.shown() == set()


def test_a_refund_of_what_is_none_of_ours_is_taken_note_of_and_nothing_more(product):
    status, session = product.stripe.call("POST", "/v1/checkout/sessions", {
        "mode": "payment", "line_items[0][price]": product.price(400, "once")["id"], "line_items[0][quantity]": 1,
        "success_url": "https://elsewhere.example/", "cancel_url": "https://elsewhere.example/"})
    product.pays(session["url"])
    intent = product.stripe.world.find("checkout.session", session["id"])["payment_intent"]
    product.stripe.call("POST", "/v1/refunds", {"payment_intent": intent})
    for event in [e for e in product.stripe.world.all("event") if e["type"].startswith(("charge.refunded", "refund."))]:
        product.take_in(event)
    assert product.work() == 0 and product.messages("stripe-events") == [] and product.delayed("stripe-events") == 0


def test_O8_a_refunded_subscription_takes_only_its_own_roles(product):
    gold, both = product.holder("gold"), product.holder("both")
    refund(product, charge_of(product, both))
    product.hears()
    assert product.shown() == {GOLD}
    refund(product, charge_of(product, gold))
    product.hears()
    assert product.shown() == set()


def test_M13_the_timeline_tells_of_the_refund_what_was_decided_and_what_discord_answered(holder):
    from chalicelib import timeline
    product, key = holder
    product.time.passes(5)
    made = refund(product, charge_of(product, key))
    product.hears()
    product.time.passes(5)
    product.order_stripe("POST", f"refunds/{made}/fail")
    product.hears()
    entries = timeline.of_subscription(user=ADA, subscription_id=key)["entries"]
    back, gone = entries[0], entries[1]
    assert "nothing was refunded" in back["what"] and back["decision"] == "Give Gold, because of gold." and back["roles"][0]["answer"] == "done"
    assert "a payment was refunded in full" in gone["what"] and gone["decision"].startswith("Take Gold") and gone["roles"][0]["answer"] == "done"
