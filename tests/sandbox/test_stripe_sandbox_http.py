"""The Stripe sandbox behind a port, walked with Stripe's own SDK and a plain HTTP client; webhooks come over HTTP too."""
import json
import re
import time

import pytest
import requests
import stripe

from infra.local.sandbox import http
from infra.local.sandbox import stripe as sandboxes
from infra.local.sandbox.memory import PACE
from infra.local.sandbox.stripe_webhooks import Endpoint
from infra.local.walker import ASKED_CARD, Sandboxes, Walker

SECRET = "whsec_http"


class Receiver:
    """A webhook endpoint that verifies each delivery with the SDK and notes it."""

    def __init__(self):
        self.events, self.refused = [], 0
        self.server = http.serve(self._take)
        self.url = self.server.url + "/webhooks/stripe/operator"

    def _take(self, method, target, headers, body):
        try:
            self.events.append(stripe.Webhook.construct_event(body, http.Headers(headers)["stripe-signature"], SECRET))
        except stripe.SignatureVerificationError:
            self.refused += 1
            return 400, {}, b""
        return 200, {}, b""

    def wait_for(self, event_type, where=lambda obj: True):
        """The first such event; AssertionError after five seconds."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for event in list(self.events):
                if event.type == event_type and where(event.data.object):
                    return event
            time.sleep(0.01)
        raise AssertionError(f"no {event_type} among {[e.type for e in self.events]}")


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.stop()


@pytest.fixture
def running(receiver, tmp_path):
    running = sandboxes.serve(endpoints=[Endpoint(receiver.url, (SECRET,))], state_file=tmp_path / "stripe.json")
    yield running
    running.stop()


def move_clock(running, **wish):
    return requests.post(running.url + "/_sandbox/clock", json=wish, timeout=5).json()["now"]


def buy(client, price):
    session = client.v1.checkout.sessions.create({
        "mode": "subscription", "line_items": [{"price": price.id, "quantity": 1}], "client_reference_id": "intent_1",
        "subscription_data": {"metadata": {"rolekeep_intent": "intent_1"}},
        "success_url": "http://127.0.0.1:9/ok?session={CHECKOUT_SESSION_ID}", "cancel_url": "http://127.0.0.1:9/no"})
    paid = requests.post(session.url, data={"email": "ada@example.com", "number": "4242424242424242"}, allow_redirects=False, timeout=5)
    assert (paid.status_code, paid.headers["Location"]) == (303, f"http://127.0.0.1:9/ok?session={session.id}")
    return client.v1.subscriptions.retrieve(client.v1.checkout.sessions.retrieve(session.id).subscription)


def open_portal(client, sub):
    configuration = client.v1.billing_portal.configurations.create({
        "business_profile": {"terms_of_service_url": "https://owner.test/terms"}, "default_return_url": "http://127.0.0.1:9/profile",
        "features": {"payment_method_update": {"enabled": True}, "invoice_history": {"enabled": True},
                     "subscription_cancel": {"enabled": True, "mode": "at_period_end",
                                             "cancellation_reason": {"enabled": True, "options": ["unused", "other"]}},
                     "subscription_update": {"enabled": False}, "subscription_pause": {"enabled": False}}})
    return client.v1.billing_portal.sessions.create({"customer": sub.customer, "configuration": configuration.id})


def submit(browser, url, form_id, **fields):
    """What a browser does on pressing the button of the form: the address of the page it ends on."""
    page = browser.get(url, timeout=5)
    action = re.search(rf"<form method=post action='([^']+)' id='{form_id}'", page.text).group(1)
    return browser.post(requests.compat.urljoin(page.url, action), data=fields, timeout=5).url


def test_a_member_buys_cancels_undoes_renews_fails_and_recovers(receiver, running):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=0)
    product = client.v1.products.create({"name": "Gold"})
    price = client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 500, "recurring": {"interval": "month"}})
    sub = buy(client, price)
    assert sub.status == "active" and sub.metadata.rolekeep_intent == "intent_1"
    assert receiver.wait_for("checkout.session.completed").data.object.subscription == sub.id
    receiver.wait_for("customer.subscription.updated", lambda s: s.status == "active")

    browser, portal = requests.Session(), open_portal(client, sub)
    cancel = f"{portal.url}/subscriptions/{sub.id}/cancel"
    assert submit(browser, cancel, "cancel", reason="unused") == portal.url
    period_end = sub["items"].data[0].current_period_end
    receiver.wait_for("customer.subscription.updated", lambda s: s.cancel_at == period_end and not s.cancel_at_period_end)
    submit(browser, portal.url, f"renew-{sub.id}")
    assert client.v1.subscriptions.retrieve(sub.id).cancel_at is None
    ending = client.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True}, {"idempotency_key": "intent-1"})
    assert ending.cancel_at_period_end
    assert not client.v1.subscriptions.update(sub.id, {"cancel_at_period_end": False}).cancel_at_period_end

    move_clock(running, to=period_end + 3600)
    assert client.v1.subscriptions.retrieve(sub.id)["items"].data[0].current_period_start == period_end
    receiver.wait_for("invoice.paid", lambda i: i.billing_reason == "subscription_cycle")

    requests.post(f"{running.url}/_sandbox/customers/{sub.customer}/card", json={"number": "4000000000000341"}, timeout=5).raise_for_status()
    requests.post(f"{running.url}/_sandbox/subscriptions/{sub.id}/renew", json={"outcome": "decline"}, timeout=5).raise_for_status()
    assert client.v1.subscriptions.retrieve(sub.id).status == "past_due"
    receiver.wait_for("invoice.payment_failed")
    submit(browser, open_portal(client, sub).url + "/payment-method", "card", number="4242 4242 4242 4242")
    assert client.v1.subscriptions.retrieve(sub.id).status == "active"
    receiver.wait_for("customer.updated", lambda c: not c.delinquent)

    assert client.v1.subscriptions.cancel(sub.id).status == "canceled"
    receiver.wait_for("customer.subscription.deleted")
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription"):
        client.v1.subscriptions.cancel(sub.id)
    assert receiver.refused == 0


def test_the_sdk_and_the_walker_lead_a_subscription_through_its_states(receiver, running):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=0)
    people = Sandboxes(running.url, running.url)
    product = client.v1.products.create({"name": "Gold"})
    month, year = (client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 500, "recurring": {"interval": interval}})
                   for interval in ("month", "year"))
    customer = client.v1.customers.create({"email": "bo@example.com"})
    people.set_card(customer.id, "4242424242424242")
    sub = client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": month.id}, {"price": year.id}], "trial_period_days": 5})
    assert (sub.status, len(sub["items"].data)) == ("trialing", 2)
    people.advance(5 * 86400)
    receiver.wait_for("customer.subscription.trial_will_end")
    client.v1.subscriptions.update(sub.id, {"pause_collection": {"behavior": "void"}})
    assert people.pause_collection(sub.id, None)["pause_collection"] is None
    client.v1.subscriptions.update(sub.id, {"items": [{"id": sub["items"].data[1].id, "deleted": True}], "proration_behavior": "none"})
    planned = people.switch_plan(sub.id, year.id, "period_end")
    schedule = client.v1.subscription_schedules.retrieve(planned["schedule"])
    assert schedule.phases[1]["items"][0].price == year.id
    assert client.v1.subscription_schedules.release(schedule.id).status == "released"
    assert client.v1.subscriptions.pause(sub.id).status == "paused"
    receiver.wait_for("customer.subscription.paused")
    assert client.v1.subscriptions.resume(sub.id, {"payment_behavior": "resume_on_payment_success"}).status == "active"
    receiver.wait_for("customer.subscription.resumed")
    people.renew(sub.id, "action")
    people.authenticate(sub.id)
    people.renew(sub.id, "decline")
    people.close_invoice(client.v1.subscriptions.retrieve(sub.id).latest_invoice, "mark_uncollectible")
    assert client.v1.subscriptions.retrieve(sub.id).status == "active" and receiver.refused == 0


def test_a_browser_answers_the_bank_and_switches_the_plan(running):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=0)
    product = client.v1.products.create({"name": "Gold"})
    gold, tin = (client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": amount, "recurring": {"interval": "month"}})
                 for amount in (500, 100))
    session = client.v1.checkout.sessions.create({"mode": "subscription", "line_items": [{"price": gold.id}], "success_url": running.url})
    walker = Walker(running.url, running.url, running.url)
    asked = walker.browser.submit(walker.browser.open(session.url), button="Subscribe", number=ASKED_CARD, email="ada@example.com")
    assert walker.answer_bank(asked).text.startswith("Stripe sandbox")
    sub = client.v1.subscriptions.retrieve(client.v1.checkout.sessions.retrieve(session.id).subscription)
    offering = client.v1.billing_portal.configurations.create({"features": {"subscription_update": {
        "enabled": True, "default_allowed_updates": ["price"], "products": [{"product": product.id, "prices": [gold.id, tin.id]}],
        "schedule_at_period_end": {"conditions": [{"type": "decreasing_item_amount"}]}}}})
    portal = client.v1.billing_portal.sessions.create({"customer": sub.customer, "configuration": offering.id})
    assert "The plan changes on" in walker.switch_at_stripe(portal.url, sub.id, tin.id).text
    walker.sandbox.move_to(sub["items"].data[0].current_period_end)
    assert client.v1.subscriptions.retrieve(sub.id)["items"].data[0].price.id == tin.id


def test_undelivered_events_are_delivered_after_a_restart(tmp_path, receiver):
    state = tmp_path / "stripe.json"
    first = sandboxes.serve(state_file=state, endpoints=[Endpoint("http://127.0.0.1:9/nobody", (SECRET,))])
    requests.post(first.url + "/_sandbox/emit", json={"type": "a.b", "object": {"id": "x", "object": "x"}}, timeout=5).raise_for_status()
    first.stop()
    kept = json.loads(state.read_text())
    assert len(kept["deliveries"]) == 1
    kept["deliveries"][0] |= {"url": receiver.url, "due": 0}
    state.write_text(json.dumps(kept))
    second = sandboxes.serve(state_file=state, endpoints=[Endpoint(receiver.url, (SECRET,))])
    receiver.wait_for("a.b")
    second.stop()


def test_the_sdk_survives_a_lost_answer_by_its_idempotency_key(running):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=2)
    requests.post(running.url + "/_sandbox/faults", json={"method": "POST", "path": "^/v1/products", "do": "lose_answer"}, timeout=5)
    client.v1.products.create({"name": "Gold"})
    assert len(client.v1.events.list({"type": "product.created"}).data) == 1


def test_held_events_are_delivered_in_the_order_of_their_release(running, receiver):
    kinds = ["charge.captured", "charge.expired", "charge.failed", "charge.pending"]
    requests.post(running.url + "/_sandbox/faults", json={"webhook": "^charge", "do": "hold", "times": 4}, timeout=5)
    for kind in kinds:
        requests.post(running.url + "/_sandbox/emit", json={"type": kind, "object": {"id": "x", "object": "x"}}, timeout=5)
    assert requests.post(running.url + "/_sandbox/release", json={"order": "reverse"}, timeout=5).json() == {"released": 4}
    receiver.wait_for("charge.captured")
    assert [event.type for event in receiver.events] == kinds[::-1]


def test_the_next_transition_happens_by_itself_when_its_time_comes(running, receiver):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url})
    product = client.v1.products.create({"name": "Gold"})
    price = client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 500, "recurring": {"interval": "day"}})
    sub = buy(client, price)
    move_clock(running, to=sub["items"].data[0].current_period_end - 0.5)
    receiver.wait_for("invoice.created", lambda i: i.billing_reason == "subscription_cycle")


def test_a_burst_is_written_a_few_times_a_second_and_all_of_it_is_kept_without_a_stop(running, tmp_path):
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url})
    files, state, began = set(), tmp_path / "stripe.json", time.monotonic()
    for number in range(60):
        last = client.v1.products.create({"name": f"Gold {number}"}).id
        files.add(state.stat().st_mtime_ns if state.exists() else None)
    writes = (time.monotonic() - began) / PACE + 2
    assert len(files) <= writes
    until = time.monotonic() + 5
    while last not in state.read_text():
        assert time.monotonic() < until, "the last change was never written"
        time.sleep(0.01)


def test_a_connected_account_is_reached_with_the_sdk_and_told_of_at_its_own_endpoint(receiver, running):
    control = running.url + "/_sandbox"
    requests.put(control + "/endpoints", timeout=5, json={"endpoints": [{"url": receiver.url, "secrets": [SECRET], "connect": True}]}).raise_for_status()
    assert requests.post(control + "/accounts", json={"id": "acct_1Shop"}, timeout=5).status_code == 201
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=0)
    at = {"stripe_account": "acct_1Shop"}
    product = client.v1.products.create({"name": "Once"}, at)
    price = client.v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 900}, at)
    session = client.v1.checkout.sessions.create({"mode": "payment", "line_items": [{"price": price.id, "quantity": 2}],
                                                  "success_url": "http://127.0.0.1:9/ok"}, at)
    browser = requests.Session()
    browser.post(session.url, data={"email": "a@b.c", "number": "4242424242424242"}, allow_redirects=False, timeout=5)
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent.latest_charge", "line_items"]}, at)
    assert done.payment_status == "paid" and done.line_items.data[0].quantity == 2
    refund = client.v1.refunds.create({"charge": done.payment_intent.latest_charge.id}, at)
    assert client.v1.charges.retrieve(refund.charge, {}, at).refunded
    assert receiver.wait_for("charge.refunded").account == "acct_1Shop"
    with pytest.raises(stripe.InvalidRequestError, match="No such charge"):
        client.v1.charges.retrieve(refund.charge)
    requests.post(control + "/accounts/acct_1Shop/disconnect", timeout=5).raise_for_status()
    gone = receiver.wait_for("account.application.deauthorized")
    assert gone.account == "acct_1Shop" and gone.data.object.object == "application"
    with pytest.raises(stripe.PermissionError, match="Application access may have been revoked"):
        client.v1.accounts.retrieve("acct_1Shop")


def test_a_tests_walker_pays_refunds_disputes_and_settles_in_a_connected_account(running):
    walker = Walker("http://127.0.0.1:9", running.url, "http://127.0.0.1:9")
    town = walker.sandbox
    shop = town.connect_account(type="express")
    client, at = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url}, max_network_retries=0), {"stripe_account": shop}
    price = client.v1.prices.create({"product": client.v1.products.create({"name": "Once"}, at).id, "currency": "eur", "unit_amount": 900}, at)

    def sell(**how):
        session = client.v1.checkout.sessions.create({"mode": "payment", "line_items": [{"price": price.id}], "success_url": running.url}, at)
        walker.pay(session.url, **how)
        return session.id, town.charges(session.id, account=shop)[0]

    refund = town.refund(sell()[1]["id"], 100, account=shop)
    assert refund["amount"] == 100 and town.fail_refund(refund["id"], account=shop)["status"] == "failed"
    dispute = town.dispute(sell()[1]["id"], account=shop, reason="general")
    assert town.close_dispute(dispute["id"], "won", account=shop)["status"] == "won"
    session, charge = sell(method="sepa_debit")
    assert charge["status"] == "pending" and town.settle(charge["payment_intent"], account=shop)["status"] == "succeeded"
    assert town.events(account=shop)[-1]["type"] == "checkout.session.async_payment_succeeded"
    assert not town.change_account(shop, charges_enabled=False)["charges_enabled"]
    assert not town.disconnect_account(shop)["linked"] and town.reconnect_account(shop)["linked"]
    assert client.v1.checkout.sessions.retrieve(session, {}, at).payment_status == "paid"


def test_what_happened_right_before_a_stop_is_kept(tmp_path):
    state = tmp_path / "stripe.json"
    running = sandboxes.serve(state_file=state)
    client = stripe.StripeClient(sandboxes.KEY, base_addresses={"api": running.url})
    made = [client.v1.products.create({"name": "Gold"}).id for _ in range(5)]
    running.stop()
    assert set(json.loads(state.read_text())["objects"]["product"]) == set(made)
