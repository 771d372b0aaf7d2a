"""PayPal's hosted pages in the sandbox: the approval, and a buyer's automatic payments; and the sandbox behind a port."""
import json
import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from infra.local.sandbox import http, paypal
from infra.local.sandbox.paypal import MERCHANT
from infra.local.sandbox.paypal_webhooks import Endpoint
from tests.sandbox.paypal_account import ADA, Shop, link

NASTY = "<script>alert('x')</script>"


@pytest.fixture
def shop():
    return Shop()


# approval

def test_the_approval_page_shows_merchant_plan_price_and_start_and_escapes_them_all(shop):
    plan = shop.plan(name=f"Gold {NASTY}", trial_days=7, setup_fee="2")
    sub = shop.create(plan, start_time="2026-03-20T10:00:00Z", application_context={
        "brand_name": f"Pixel {NASTY}", "return_url": "http://shop.test/ok", "cancel_url": "javascript:alert(1)//"})
    status, headers, text = shop.page("GET", link(sub, "approve"))
    assert status == 200 and NASTY not in text and "<script" not in text and "javascript:" not in text
    for shown in ("Pixel &lt;script&gt;", "Gold &lt;script&gt;", "Free every 7 days, 1 time (trial)", "5.00 EUR every month", "Set-up fee: 2.00 EUR",
                  "Starts on 20 March 2026, 10:00 UTC"):
        assert shown in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_buyer_comes_back_with_what_paypal_appends_to_the_url(shop):
    sub = shop.create()
    status, headers, _ = shop.page("POST", link(sub, "approve"), email=ADA)
    back = urlsplit(headers["Location"])
    given = parse_qs(back.query)
    assert status == 303 and back._replace(query="").geturl() == "http://shop.test/ok"
    assert list(given) == ["state", "subscription_id", "ba_token", "token"] and given["subscription_id"] == [sub["id"]]
    assert given["ba_token"] == parse_qs(urlsplit(link(sub, "approve")).query)["ba_token"] and re.fullmatch(r"[A-Z0-9]{17}", given["token"][0])
    assert shop.sub(sub["id"])["subscriber"]["email_address"] == ADA
    assert shop.page("POST", link(sub, "approve"), email=ADA)[0] == 409 and len(shop.sales(sub["id"])) == 1


def test_one_who_cancels_comes_back_too_and_nothing_has_happened(shop):
    sub = shop.create()
    text = shop.page("GET", link(sub, "approve"))[2]
    back = re.search(r"<a href='([^']+)' id='cancel'", text)[1]
    assert back.startswith(f"http://shop.test/no?subscription_id={sub['id']}&amp;ba_token=BA-")
    assert shop.sub(sub["id"])["status"] == "APPROVAL_PENDING"


def test_a_source_of_money_that_fails_leaves_the_subscription_waiting(shop):
    sub = shop.create()
    status, _, text = shop.page("POST", link(sub, "approve"), email=ADA, funding="failing")
    assert status == 402 and "charge your source of money" in text
    assert shop.sub(sub["id"])["status"] == "APPROVAL_PENDING" and shop.types("ACTIVATED") == []
    assert shop.page("POST", link(sub, "approve"), email=ADA, funding="good")[0] == 303


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "a b@example.com"])
def test_one_without_an_email_cannot_agree(shop, email):
    sub = shop.create()
    assert shop.page("POST", link(sub, "approve"), email=email)[0] == 400
    assert shop.page("GET", "/webapps/billing/subscriptions?ba_token=BA-NOBODY")[0] == 404


# automatic payments

def act(shop, key, action, **fields):
    """What pressing the button of that form does: the status and the list after it."""
    text = shop.page("GET", "/myaccount/autopay/")[2]
    where = re.search(rf"<form method=post action='([^']+)' id='{action}-{key}'", text)[1]
    status = shop.page("POST", where, **fields)[0]
    return status, shop.page("GET", "/myaccount/autopay/")[2]


def test_a_buyer_signs_in_by_email_and_sees_their_own_payments_only(shop):
    mine, foreign = shop.buy(), shop.buy("bo@example.com")
    assert "Log in to PayPal" in shop.page("GET", "/myaccount/autopay/")[2]
    assert shop.page("POST", "/myaccount/autopay/sign-in", email="nobody")[0] == 400
    status, headers, _ = shop.page("POST", "/myaccount/autopay/sign-in", email=ADA)
    assert (status, headers["Location"]) == (303, "/myaccount/autopay/") and "HttpOnly" in headers["Set-Cookie"]
    text = shop.page("GET", "/myaccount/autopay")[2]
    assert mine in text and foreign not in text and "5.00 EUR every month" in text and "next payment 1 March 2026" in text and MERCHANT.name in text
    for action in ("cancel", "suspend", "funding"):
        assert shop.page("POST", f"/myaccount/autopay/{foreign}/{action}")[0] == 404
    assert shop.sub(foreign)["status"] == "ACTIVE"


def test_a_buyer_cancels_on_paypals_own_page(shop):
    key = shop.buy()
    shop.page("POST", "/myaccount/autopay/sign-in", email=ADA)
    status, text = act(shop, key, "cancel")
    assert status == 303 and "Cancelled" in text and f"cancel-{key}" not in text
    assert shop.sub(key)["status"] == "CANCELLED" and "status_change_note" not in shop.sub(key) and shop.types()[-1] == "BILLING.SUBSCRIPTION.CANCELLED"


def test_a_buyer_suspends_activates_and_changes_the_source_of_money(shop):
    key = shop.buy()
    shop.page("POST", "/myaccount/autopay/sign-in", email=ADA)
    assert "Suspended" in act(shop, key, "suspend")[1]
    assert "Active" in act(shop, key, "activate")[1]
    act(shop, key, "funding", funding="failing")
    assert shop.control("GET", f"subscriptions/{key}")["inside"]["funding"] == "failing"
    shop.days(30)
    assert shop.types()[-1] == "BILLING.SUBSCRIPTION.PAYMENT.FAILED"
    act(shop, key, "funding", funding="good")
    shop.days(5)
    assert shop.types()[-1] == "PAYMENT.SALE.COMPLETED"


def test_what_the_merchant_suspended_the_buyer_cannot_activate(shop):
    key = shop.buy()
    shop.control("POST", f"subscriptions/{key}/suspend", {"by": "merchant"})
    shop.page("POST", "/myaccount/autopay/sign-in", email=ADA)
    status, text = act(shop, key, "activate")
    assert status == 409 and "Suspended" in text


def test_the_overview_shows_every_merchant_and_escapes_what_it_shows(shop):
    shop.control("POST", "merchants", {"id": "RKEEPSANDBX33", "client_id": "c", "secret": "s", "name": NASTY})
    shop.buy()
    text = shop.page("GET", "/")[2]
    assert "RKEEPSANDBX33" in text and NASTY not in text and "BILLING.SUBSCRIPTION.ACTIVATED" in text


# behind a port

def test_over_http_with_plain_clients_from_the_token_to_the_renewal(tmp_path):
    got = []
    receiver = http.serve(lambda method, target, headers, body: (got.append(body), (200, {}, b""))[1])
    running = paypal.serve(state_file=tmp_path / "paypal.json",
                           endpoints=[Endpoint(f"{receiver.url}/webhooks/paypal/{MERCHANT.id}", MERCHANT.id, MERCHANT.webhook_ids[0])])
    try:
        api = requests.Session()
        api.trust_env = False
        granted = api.post(f"{running.url}/v1/oauth2/token", data={"grant_type": "client_credentials"}, auth=(MERCHANT.client_id, MERCHANT.secret), timeout=5).json()
        api.headers["Authorization"] = f"Bearer {granted['access_token']}"
        plan = api.post(f"{running.url}/_sandbox/plans", json={"name": "Gold", "price": "5"}, timeout=5).json()
        sub = api.post(f"{running.url}/v1/billing/subscriptions", json={"plan_id": plan["id"], "application_context": {
            "return_url": "http://127.0.0.1:9/ok", "cancel_url": "http://127.0.0.1:9/no"}}, timeout=5).json()
        approved = requests.post(link(sub, "approve"), data={"email": ADA}, allow_redirects=False, timeout=5)
        assert approved.status_code == 303 and approved.headers["Location"].startswith("http://127.0.0.1:9/ok?subscription_id=I-")
        api.post(f"{running.url}/_sandbox/clock", json={"advance": 32 * 86400}, timeout=5).raise_for_status()
        shown = api.get(f"{running.url}/v1/billing/subscriptions/{sub['id']}", timeout=5).json()
        assert shown["billing_info"]["cycle_executions"][0]["cycles_completed"] == 2
        assert api.post(f"{running.url}/v1/billing/subscriptions/{sub['id']}/cancel", json={"reason": "x"}, timeout=5).status_code == 204
        assert api.get(f"{running.url}/_sandbox/violations", timeout=5).json()["violations"] == []
        until = time.monotonic() + 10
        while "BILLING.SUBSCRIPTION.CANCELLED" not in {json.loads(body)["event_type"] for body in list(got)} and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        running.stop()
        receiver.stop()
    assert {"BILLING.SUBSCRIPTION.CANCELLED", "PAYMENT.SALE.COMPLETED"} <= {json.loads(body)["event_type"] for body in got}
    again = paypal.PayPalSandbox(clock=running.sandbox.clock, state_file=tmp_path / "paypal.json")
    assert again.call("GET", f"/v1/billing/subscriptions/{sub['id']}")[1]["status"] == "CANCELLED"
