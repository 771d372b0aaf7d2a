"""Connected accounts in the Stripe sandbox: a wall between them, one platform key, Connect endpoints, disconnecting."""
import json

import pytest

from infra.local.sandbox.stripe import ACCOUNT
from infra.local.sandbox.stripe_webhooks import Endpoint, signature
from stripe_account import DAY, HOOK, JAN_31, WORKS, Account, problems

SHOP, OTHER = "acct_1Shop", "acct_1Other"
CONNECT = "http://product.test/webhooks/stripe/connect"


def platform(**more):
    account = Account(endpoints=[Endpoint(HOOK, ("whsec_own",)), Endpoint(CONNECT, ("whsec_connect",), connect=True)], **more)
    for key in (SHOP, OTHER):
        account.control("POST", "accounts", {"id": key})
    return account


@pytest.fixture
def account():
    return platform()


def buy_at(account, key):
    """The subscription bought at the connected account, on the sandbox's own hosted page."""
    at = {"Stripe_Account": key}
    product = account.api("POST", "/v1/products", {"name": "Gold"}, **at)
    price = account.api("POST", "/v1/prices", {"product": product["id"], "currency": "eur", "unit_amount": 500, "recurring[interval]": "month"}, **at)
    session = account.api("POST", "/v1/checkout/sessions", {
        "mode": "subscription", "line_items[0][price]": price["id"], "success_url": "http://shop.test/ok"}, **at)
    assert account.page("POST", session["url"], {"email": "ada@example.com", "number": WORKS})[0] == 303
    done = account.api("GET", f"/v1/checkout/sessions/{session['id']}", **at)
    return account.api("GET", f"/v1/subscriptions/{done['subscription']}", **at)


def test_nothing_of_one_account_is_visible_in_another(account):
    sub = buy_at(account, SHOP)
    configuration = account.api("POST", "/v1/billing_portal/configurations", {"features[invoice_history][enabled]": True}, Stripe_Account=SHOP)
    charge = account.api("GET", "/v1/charges", Stripe_Account=SHOP)["data"][0]
    event = account.api("GET", "/v1/events", Stripe_Account=SHOP)["data"][0]
    for other in ({}, {"Stripe_Account": ACCOUNT}, {"Stripe_Account": OTHER}):
        for path in (f"/v1/subscriptions/{sub['id']}", f"/v1/customers/{sub['customer']}", f"/v1/invoices/{sub['latest_invoice']}",
                     f"/v1/prices/{sub['items']['data'][0]['price']['id']}", f"/v1/billing_portal/configurations/{configuration['id']}",
                     f"/v1/charges/{charge['id']}", f"/v1/payment_intents/{charge['payment_intent']}", f"/v1/events/{event['id']}"):
            assert account.refused("GET", path, status=404, **other)["code"] == "resource_missing"
        for path in ("/v1/subscriptions", "/v1/invoices", "/v1/charges", "/v1/billing_portal/configurations"):
            assert account.api("GET", path, **other)["data"] == []
        account.refused("POST", "/v1/billing_portal/sessions", {"customer": sub["customer"], "configuration": configuration["id"]}, status=404, **other)
    assert account.refused("DELETE", f"/v1/subscriptions/{sub['id']}", status=404, Stripe_Account=OTHER)
    assert sub["application"] == charge["application"] == "ca_RolekeepSandbox"


def test_an_idempotency_key_belongs_to_one_account(account):
    names = [account.api("POST", "/v1/products", {"name": name}, Idempotency_Key="k1", **at)["name"]
             for name, at in (("Gold", {"Stripe_Account": SHOP}), ("Tin", {}), ("Gold", {"Stripe_Account": SHOP}))]
    assert names == ["Gold", "Tin", "Gold"]
    assert [e["type"] for e in account.api("GET", "/v1/events", {"type": "product.created"}, Stripe_Account=SHOP)["data"]] == ["product.created"]


def test_events_of_connected_accounts_name_it_and_go_to_connect_endpoints_only(account):
    account.sandbox.deliveries.pump()
    account.got.clear(), account.received.clear()
    account.buy()
    buy_at(account, SHOP)
    account.sandbox.deliveries.pump()
    assert {(url, event.get("account")) for url, event in account.received} == {(HOOK, None), (CONNECT, SHOP)}
    for (headers, body), (url, event) in zip(account.got, account.received, strict=True):
        assert headers["Stripe-Signature"] == signature(body, ["whsec_own" if url == HOOK else "whsec_connect"], JAN_31)
        assert problems(event) == []


def test_each_account_type_says_who_controls_it_and_the_platform_reads_it(account):
    for kind, dashboard in (("express", "express"), ("custom", "none")):
        account.control("POST", "accounts", {"id": f"acct_1{kind}", "type": kind})
        shown = account.api("GET", f"/v1/accounts/acct_1{kind}")
        assert (shown["type"], shown["controller"]["stripe_dashboard"]["type"], shown["controller"]["is_controller"]) == (kind, dashboard, True)
    shown = account.api("GET", f"/v1/accounts/{SHOP}")
    assert (shown["id"], shown["type"], shown["charges_enabled"], shown["controller"]) == (SHOP, "standard", True, {"type": "account"})
    assert account.api("GET", "/v1/account", Stripe_Account=SHOP) == account.api("GET", f"/v1/accounts/{SHOP}", Stripe_Account=SHOP) == shown
    assert account.api("GET", f"/v1/accounts/{ACCOUNT}")["id"] == ACCOUNT
    for key, at in ((SHOP, {"Stripe_Account": OTHER}), ("acct_1Nobody", {})):
        assert account.refused("GET", f"/v1/accounts/{key}", status=403, **at)["code"] == "account_invalid"


def test_an_account_that_may_take_no_money_sells_nothing_and_tells_when_that_changes(account):
    account.control("PATCH", f"accounts/{SHOP}", {"charges_enabled": False, "capabilities": {"card_payments": "inactive"}})
    assert account.api("GET", f"/v1/accounts/{SHOP}")["charges_enabled"] is False
    told = account.control("GET", "events", Stripe_Account=SHOP)["events"][-1]
    assert (told["type"], told["account"], told["data"]["previous_attributes"]["charges_enabled"]) == ("account.updated", SHOP, True)
    assert problems(told) == []
    assert "cannot currently make charges" in account.refused("POST", "/v1/checkout/sessions", {"mode": "payment"}, Stripe_Account=SHOP)["message"]
    account.control("PATCH", f"accounts/{SHOP}", {"colour": "red"}, expect=400)


def test_a_disconnected_account_says_so_once_and_is_closed_to_the_platform_until_it_reconnects(account):
    sub = buy_at(account, SHOP)
    account.sandbox.deliveries.pump()
    account.received.clear()
    account.control("POST", f"accounts/{SHOP}/disconnect")
    for path, at in ((f"/v1/subscriptions/{sub['id']}", {"Stripe_Account": SHOP}), (f"/v1/accounts/{SHOP}", {})):
        error = account.refused("GET", path, status=403, **at)
        assert error["code"] == "account_invalid" and f"does not have access to account '{SHOP}'" in error["message"]
    account.clock.advance(40 * DAY)  # the subscription goes on, the platform does not hear of it
    account.sandbox.deliveries.pump()
    [(url, event)] = account.received
    assert (url, event["type"], event["account"], event["data"]["object"]["object"]) == (CONNECT, "account.application.deauthorized", SHOP, "application")
    assert problems(event) == [] and SHOP not in json.dumps(event["data"])
    account.control("POST", f"accounts/{SHOP}/disconnect", expect=400)
    account.control("POST", f"accounts/{SHOP}/reconnect")
    renewed = account.api("GET", f"/v1/subscriptions/{sub['id']}", Stripe_Account=SHOP)
    assert renewed["items"]["data"][0]["current_period_start"] == sub["items"]["data"][0]["current_period_end"]
    account.sandbox.deliveries.pump()
    assert [event["type"] for _, event in account.received][1:] == ["account.application.authorized"]


def test_control_calls_reach_the_account_that_the_header_names(account):
    sub = buy_at(account, SHOP)
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"}, expect=404)
    late = account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"}, Stripe_Account=SHOP)
    assert late["status"] == "past_due"
    account.control("PATCH", "options", {"final_failure": "unpaid"}, Stripe_Account=SHOP)
    assert account.control("GET", "options")["final_failure"] == "cancel"
    assert account.control("GET", "options", Stripe_Account=SHOP)["final_failure"] == "unpaid"
    assert "no account" in account.control("GET", "options", expect=400, Stripe_Account="acct_1Nobody")["error"]


def test_hosted_pages_find_their_account(account):
    sub = buy_at(account, SHOP)
    configuration = account.api("POST", "/v1/billing_portal/configurations", {
        "features[invoice_history][enabled]": True, "features[subscription_cancel][enabled]": True}, Stripe_Account=SHOP)
    portal = account.api("POST", "/v1/billing_portal/sessions", {"customer": sub["customer"], "configuration": configuration["id"]}, Stripe_Account=SHOP)
    status, _, text = account.page("GET", portal["url"])
    assert status == 200 and "Gold" in text
    invoice = account.api("GET", f"/v1/invoices/{sub['latest_invoice']}", Stripe_Account=SHOP)
    assert invoice["number"] in account.page("GET", invoice["hosted_invoice_url"])[2]
    assert account.page("POST", f"{portal['url']}/subscriptions/{sub['id']}/cancel")[0] == 303
    assert account.api("GET", f"/v1/subscriptions/{sub['id']}", Stripe_Account=SHOP)["cancel_at"]
    status, headers, body = account.sandbox.handle("GET", f"/?account={SHOP}")
    assert sub["id"] in body.decode() and sub["id"] not in account.page("GET", "http://stripe.test/")[2]


def test_time_passes_in_all_accounts_in_one_order(account):
    buy_at(account, SHOP)
    account.wall += 60
    account.buy()
    account.wall += 60
    buy_at(account, OTHER)
    account.sandbox.deliveries.pump()
    account.received.clear()
    account.clock.advance(65 * DAY)
    account.sandbox.deliveries.pump()
    renewals = [event.get("account") for _, event in account.received
                if event["type"] == "invoice.created" and event["data"]["object"]["billing_reason"] == "subscription_cycle"]
    assert renewals == [SHOP, None, OTHER] * 2


def test_a_restart_keeps_connected_accounts_their_undelivered_events_and_who_is_disconnected(tmp_path):
    before = platform(state_file=tmp_path / "stripe.json")
    sub = buy_at(before, SHOP)
    before.control("POST", f"accounts/{OTHER}/disconnect")
    waiting = len(before.sandbox.deliveries.waiting)
    after = Account(state_file=tmp_path / "stripe.json", endpoints=[Endpoint(CONNECT, ("whsec_connect",), connect=True)])
    assert after.api("GET", f"/v1/subscriptions/{sub['id']}", Stripe_Account=SHOP) == sub
    assert after.refused("GET", "/v1/account", status=403, Stripe_Account=OTHER)["code"] == "account_invalid"
    assert after.sandbox.deliveries.pump() == waiting and {event["account"] for _, event in after.received} == {SHOP, OTHER}
    attempts = after.control("GET", "events", Stripe_Account=SHOP)["events"][-1]["attempts"]
    assert [attempt["status"] for attempt in attempts] == [200]
    after.clock.advance(31 * DAY)
    assert after.api("GET", f"/v1/subscriptions/{sub['id']}", Stripe_Account=SHOP)["items"] != sub["items"]


def test_an_event_of_a_connected_account_is_sent_again_to_its_endpoint(account):
    buy_at(account, SHOP)
    account.sandbox.deliveries.pump()
    account.received.clear()
    event = account.control("GET", "events", Stripe_Account=SHOP)["events"][-1]
    account.control("POST", f"events/{event['id']}/resend", expect=404)
    assert account.control("POST", f"events/{event['id']}/resend", Stripe_Account=SHOP) == {"resent": 1}
    account.sandbox.deliveries.pump()
    assert [(url, e["id"]) for url, e in account.received] == [(CONNECT, event["id"])]


@pytest.mark.parametrize("body", [{"id": SHOP}, {"id": ACCOUNT}, {"type": "none"}, {"colour": "red"}])
def test_an_account_that_makes_no_sense_is_not_connected(account, body):
    account.control("POST", "accounts", body, expect=400)
    assert len(account.control("GET", "accounts")["accounts"]) == 2
