"""The Stripe sandbox's API: shapes, refusals, idempotency, lists, Checkout and portal sessions."""
import json
import threading
from base64 import b64encode

import pytest

from infra.local.sandbox.stripe import ACCOUNT, KEY
from infra.local.sandbox.stripe_webhooks import Endpoint

from stripe_account import DAY, DECLINED, FAILS_LATER, HOOK, JAN_31, Account, problems


@pytest.fixture
def account():
    return Account()


def test_every_object_it_makes_is_one_by_the_official_schema(account):
    sub = account.buy()
    session = account.portal(sub["customer"], **{"flow_data[type]": "payment_method_update"})
    assert session["flow"]["type"] == "payment_method_update"
    account.clock.advance(40 * DAY)
    for path in ("/v1/subscriptions", "/v1/invoices", "/v1/events", "/v1/billing_portal/configurations"):
        assert account.api("GET", path, {"limit": 100})["data"]
    for kind in ("customer", "invoice.paid", "checkout", "billing_portal"):
        assert account.events(kind)
    account.api("GET", f"/v1/customers/{sub['customer']}")
    assert account.api("GET", "/v1/account")["id"] == ACCOUNT


def test_the_schema_check_of_these_tests_bites(account):
    sub = account.buy()
    del sub["items"]["data"][0]["current_period_end"]
    assert "current_period_end" in str(problems(sub))


@pytest.mark.parametrize("headers, status, words", [
    ({"Authorization": ""}, 401, "did not provide an API key"),
    ({"Authorization": "Bearer sk_test_wrong"}, 401, "Invalid API Key provided: sk_test_****rong"),
    ({"Stripe-Account": "acct_other"}, 403, "does not have access to account 'acct_other'"),
    ({"Stripe-Version": "2024-06-20"}, 400, "2026-10-28.endive only"),
])
def test_a_stranger_is_refused(account, headers, status, words):
    assert words in account.refused("GET", "/v1/account", status=status, **headers)["message"]


def test_its_own_account_id_and_basic_authentication_are_accepted(account):
    basic = "Basic " + b64encode(f"{KEY}:".encode()).decode()
    account.api("GET", "/v1/account", Authorization=basic, Stripe_Account=ACCOUNT)


@pytest.mark.parametrize("path, params, code, param", [
    ("/v1/products", {}, "parameter_missing", "name"),
    ("/v1/products", {"name": "x", "colour": "red"}, "parameter_unknown", "colour"),
    ("/v1/products", {"name": ""}, "parameter_invalid_empty", "name"),
    ("/v1/prices", {"currency": "eur", "product": "prod_x", "unit_amount": "5.5"}, "parameter_invalid_integer", "unit_amount"),
    ("/v1/prices", {"currency": "eur", "product": "prod_x", "unit_amount": 5}, "resource_missing", "product"),
    ("/v1/prices", {"currency": "eur", "product": "prod_x", "unit_amount": 5, "recurring[interval]": "eon"}, None, "recurring[interval]"),
    ("/v1/prices", {"currency": "eur", "tiers_mode": "volume"}, "sandbox_not_implemented", "tiers_mode"),
    ("/v1/billing_portal/configurations", {}, "parameter_missing", "features"),
    ("/v1/billing_portal/configurations", {"features[subscription_cancel][mode]": "at_period_end"}, "parameter_missing",
     "features[subscription_cancel][enabled]"),
    ("/v1/billing_portal/configurations", {"features[subscription_updates][enabled]": "true"}, "parameter_unknown",
     "features[subscription_updates]"),
    ("/v1/billing_portal/configurations", {"features[invoice_history][enabled]": "yes"}, None, "features[invoice_history][enabled]"),
    ("/v1/billing_portal/configurations", {"features[invoice_history][enabled]": "true", "default_return_url": "portal"}, "url_invalid",
     "default_return_url"),
    ("/v1/billing_portal/configurations", {"features[subscription_cancel][enabled]": "true",
                                           "features[subscription_cancel][proration_behavior]": "create_prorations"}, None,
     "features[subscription_cancel][proration_behavior]"),
    ("/v1/billing_portal/sessions", {"return_url": "http://a.test/"}, "parameter_missing", "customer"),
    ("/v1/billing_portal/sessions", {"customer": "cus_none"}, "resource_missing", "customer"),
    ("/v1/checkout/sessions", {"mode": "subscription", "success_url": "http://a.test"}, "parameter_missing", "line_items"),
    ("/v1/checkout/sessions", {"mode": "subscription", "success_url": "http://a.test", "line_items[0][price]": "price_none"},
     "resource_missing", "line_items[0][price]"),
    ("/v1/checkout/sessions", {"mode": "subscription", "allow_promotion_codes": "true"}, "sandbox_not_implemented", "allow_promotion_codes"),
])
def test_bad_parameters_are_refused_as_stripe_words_it(account, path, params, code, param):
    status, answer = account.sandbox.call("POST", path, params)
    assert status == (404 if code == "resource_missing" else 400)
    error = answer["error"]
    assert (error["type"], error.get("code"), error.get("param")) == ("invalid_request_error", code, param), error


def test_unknown_ids_urls_and_json_bodies_are_refused(account):
    error = account.refused("GET", "/v1/subscriptions/sub_none", status=404)
    assert (error["code"], error["param"], error["message"]) == ("resource_missing", "id", "No such subscription: 'sub_none'")
    assert "Unrecognized request URL (GET: /v1/payouts)" in account.refused("GET", "/v1/payouts", status=404)["message"]
    assert "form-encoded" in account.refused("POST", "/v1/products", {"name": "x"}, Content_Type="application/json")["message"]


def test_every_answer_has_a_request_id_and_the_version(account):
    ids = {account.sandbox.handle("GET", "/v1/account", {"Authorization": f"Bearer {KEY}"}, b"")[1]["Request-Id"] for _ in range(3)}
    assert len(ids) == 3 and all(one.startswith("req_") for one in ids)


# idempotency

def test_the_same_key_and_parameters_replay_the_answer_and_do_nothing_again(account):
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "k1"}
    first = account.sandbox.handle("POST", "/v1/products", headers, b"name=Gold")
    again = account.sandbox.handle("POST", "/v1/products", headers, b"name=Gold")
    assert "Idempotent-Replayed" not in first[1] and again[1]["Idempotent-Replayed"] == "true"
    assert first[2] == again[2] and account.types("product") == ["product.created"]


def test_the_same_key_with_other_parameters_or_another_path_is_refused(account):
    account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")
    assert account.refused("POST", "/v1/products", {"name": "Tin"}, Idempotency_Key="k1")["type"] == "idempotency_error"
    assert "endpoint" in account.refused("POST", "/v1/customers", {"name": "Gold"}, Idempotency_Key="k1")["message"]


def test_a_refusal_before_anything_was_carried_out_does_not_use_up_the_key(account):
    account.refused("POST", "/v1/products", {"nam": "Gold"}, Idempotency_Key="k1")
    account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")


@pytest.mark.parametrize("when, made", [("before", []), ("after", ["product.created"])])
def test_a_stored_500_is_replayed_whether_or_not_it_took_effect(account, when, made):
    account.control("POST", "fail", {"path": "^/v1/products", "when": when})
    for _ in range(2):
        error = account.refused("POST", "/v1/products", {"name": "Gold"}, status=500, Idempotency_Key="k1")
        assert error["type"] == "api_error"
    assert account.types("product") == made
    account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k2")


def test_a_key_in_use_by_another_request_is_a_conflict(account):
    inside, go_on, answers = threading.Event(), threading.Event(), []
    create = account.sandbox.world.add
    account.sandbox.world.add = lambda *given: (inside.set(), go_on.wait(5), create(*given))[2]

    def request():
        answers.append(account.sandbox.call("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1"))
    first = threading.Thread(target=request)
    first.start()
    assert inside.wait(5)
    request()
    go_on.set()
    first.join(5)
    assert [status for status, _ in answers] == [409, 200] and answers[0][1]["error"]["code"] == "idempotency_key_in_use"


def test_a_key_is_forgotten_after_a_day_of_wall_time_not_of_sandbox_time(account):
    first = account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")
    account.clock.advance(60 * DAY)
    assert account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")["id"] == first["id"]
    account.wall += DAY + 1
    assert account.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")["id"] != first["id"]


# lists and expansion

def test_lists_are_paged_newest_first(account):
    keys = [account.buy()["id"] for _ in range(5)][::-1]
    first = account.api("GET", "/v1/subscriptions", {"limit": 2})
    assert [s["id"] for s in first["data"]] == keys[:2] and first["has_more"] and first["url"] == "/v1/subscriptions"
    rest = account.api("GET", "/v1/subscriptions", {"limit": 3, "starting_after": keys[1]})
    assert [s["id"] for s in rest["data"]] == keys[2:] and not rest["has_more"]
    back = account.api("GET", "/v1/subscriptions", {"limit": 2, "ending_before": keys[3]})
    assert [s["id"] for s in back["data"]] == keys[1:3] and back["has_more"]
    account.refused("GET", "/v1/subscriptions", {"limit": 101})
    account.refused("GET", "/v1/subscriptions", {"starting_after": "sub_none"}, status=404)


def test_cancelled_subscriptions_are_listed_only_on_request(account):
    gone, here = account.buy(), account.buy()
    account.api("DELETE", f"/v1/subscriptions/{gone['id']}")
    listed = {status: [s["id"] for s in account.api("GET", "/v1/subscriptions", {"status": status} if status else ())["data"]]
              for status in (None, "all", "canceled", "active")}
    assert listed == {None: [here["id"]], "all": [here["id"], gone["id"]], "canceled": [gone["id"]], "active": [here["id"]]}


def test_ids_are_expanded_on_request_and_nothing_else_is(account):
    sub = account.buy()
    shown = account.api("GET", f"/v1/subscriptions/{sub['id']}", {"expand[]": "latest_invoice.customer"})
    assert shown["latest_invoice"]["customer"]["email"] == "ada@example.com"
    listed = account.api("GET", "/v1/subscriptions", {"expand[0]": "data.items.data.price.product"})
    assert listed["data"][0]["items"]["data"][0]["price"]["product"]["name"] == "Gold <b>"
    assert "cannot be expanded" in account.refused("GET", f"/v1/subscriptions/{sub['id']}", {"expand[]": "status"})["message"]


def test_events_are_listed_by_type_time_and_delivery(account):
    account.answers = [500]
    account.price()
    account.sandbox.deliveries.pump()
    failed = account.api("GET", "/v1/events", {"delivery_success": False})["data"]
    assert [e["type"] for e in failed] == ["product.created"] and failed[0]["pending_webhooks"] == 1
    assert [e["type"] for e in account.api("GET", "/v1/events", {"type": "price.*"})["data"]] == ["price.created"]
    assert account.api("GET", "/v1/events", {"created[gt]": JAN_31})["data"] == []
    assert len(account.api("GET", "/v1/events", {"types[0]": "price.created", "types[1]": "product.created"})["data"]) == 2


# Checkout

def test_checkout_sells_a_subscription_that_carries_the_intent(account):
    session = account.checkout()
    status, _, text = account.page("GET", session["url"])
    assert status == 200 and "Gold &lt;b&gt;" in text and "5.00 EUR per month" in text and "http://shop.test/no" in text
    status, headers, _ = account.page("POST", session["url"], {"email": "ada@example.com", "number": "4242 4242 4242 4242"})
    assert (status, headers["Location"]) == (303, f"http://shop.test/ok?session={session['id']}")
    done = account.api("GET", f"/v1/checkout/sessions/{session['id']}")
    assert (done["status"], done["payment_status"], done["client_reference_id"]) == ("complete", "paid", "intent_1")
    sub = account.sub(done["subscription"])
    assert (sub["status"], sub["metadata"], sub["billing_mode"]["type"]) == ("active", {"rolekeep_intent": "intent_1"}, "flexible")
    assert sub["items"]["data"][0]["current_period_end"] == 1772280000  # 2026-02-28T12:00:00Z
    assert "current_period_end" not in sub
    invoice = account.api("GET", f"/v1/invoices/{sub['latest_invoice']}")
    assert invoice["status"] == "paid" and invoice["parent"]["subscription_details"]["subscription"] == sub["id"]


def test_a_completed_session_cannot_be_completed_again(account):
    session = account.checkout()
    buyer = {"email": "ada@example.com", "number": "4242424242424242"}
    assert [account.page("POST", session["url"], buyer)[0] for _ in range(2)] == [303, 409]
    assert account.types("checkout") == ["checkout.session.completed"]
    assert len(account.api("GET", "/v1/subscriptions")["data"]) == 1


@pytest.mark.parametrize("number, words", [(DECLINED, "Your card was declined."), (FAILS_LATER, "Your card was declined."),
                                           ("4000000000009995", "insufficient funds"), ("1234", "non test card")])
def test_a_declined_card_leaves_the_session_open_and_nothing_behind(account, number, words):
    session = account.checkout()
    status, _, text = account.page("POST", session["url"], {"email": "ada@example.com", "number": number})
    assert status == 402 and words in text
    assert account.api("GET", f"/v1/checkout/sessions/{session['id']}")["status"] == "open"
    assert account.types("customer") == []


def test_a_session_expires_after_a_day(account):
    session = account.checkout()
    account.clock.advance(DAY - 1)
    assert account.page("GET", session["url"])[0] == 200
    account.clock.advance(1)
    assert account.page("POST", session["url"], {"email": "a@b.c", "number": "4242424242424242"})[0] == 404
    expired = account.api("GET", f"/v1/checkout/sessions/{session['id']}")
    assert expired["status"] == "expired" and account.types("checkout") == ["checkout.session.expired"]


def test_a_known_customer_buys_again_without_becoming_two(account):
    first = account.buy()
    second = account.buy(customer=first["customer"])
    assert second["customer"] == first["customer"] and account.types("customer.created") == ["customer.created"]


# portal configurations and sessions

def test_a_configuration_is_merged_field_by_field_and_tells(account):
    made = account.configuration(name="Rolekeep", **{"metadata[a]": "1", "metadata[b]": "2"})
    assert made["features"]["subscription_pause"] == {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False}
    assert not made["is_default"] and made["active"]
    account.clock.advance(60)
    changed = account.api("POST", f"/v1/billing_portal/configurations/{made['id']}", {
        "features[subscription_cancel][mode]": "immediately", "business_profile[terms_of_service_url]": "", "metadata[a]": ""})
    cancel = changed["features"]["subscription_cancel"]
    assert (cancel["mode"], cancel["enabled"], cancel["cancellation_reason"]["options"]) == ("immediately", True, ["too_expensive"])
    assert changed["business_profile"]["terms_of_service_url"] is None and changed["metadata"] == {"b": "2"}
    assert changed["updated"] == made["updated"] + 60
    created, updated = account.events("billing_portal.configuration")
    assert (created["type"], updated["type"]) == ("billing_portal.configuration.created", "billing_portal.configuration.updated")
    assert updated["data"]["previous_attributes"]["features"] == {"subscription_cancel": {"mode": "at_period_end"}}


def test_switching_plans_needs_products_and_what_may_change(account):
    error = account.refused("POST", "/v1/billing_portal/configurations", {"features[subscription_update][enabled]": True})
    assert error["param"] == "features[subscription_update][default_allowed_updates]"


def test_the_default_configuration_comes_from_the_dashboard_only(account):
    customer = account.api("POST", "/v1/customers", {"email": "a@b.c"})["id"]
    words = account.refused("POST", "/v1/billing_portal/sessions", {"customer": customer})["message"]
    assert words.startswith("No configuration provided")
    default = account.control("POST", "portal_configurations", {"features": {"subscription_update": {"enabled": False}}})
    assert default["is_default"] and problems(default) == []
    assert account.api("POST", "/v1/billing_portal/sessions", {"customer": customer})["configuration"] == default["id"]
    account.refused("POST", f"/v1/billing_portal/configurations/{default['id']}", {"active": False})
    drifted = account.control("POST", "portal_configurations", {"id": default["id"], "features": {"invoice_history": {"enabled": True}}})
    assert drifted["features"]["invoice_history"]["enabled"]


def test_a_session_needs_an_active_configuration_of_this_account(account):
    sub, made = account.buy(), account.configuration()
    account.refused("POST", "/v1/billing_portal/sessions", {"customer": sub["customer"], "configuration": "bpc_other"}, status=404)
    account.api("POST", f"/v1/billing_portal/configurations/{made['id']}", {"active": False})
    assert "inactive" in account.refused("POST", "/v1/billing_portal/sessions",
                                         {"customer": sub["customer"], "configuration": made["id"]})["message"]


def test_a_cancel_flow_is_refused_when_the_feature_is_off_or_the_subscription_is_not_the_customers(account):
    sub, other = account.buy(), account.buy()
    flow = {"flow_data[type]": "subscription_cancel", "flow_data[subscription_cancel][subscription]": sub["id"], "customer": sub["customer"]}
    off = account.configuration(**{"features[subscription_cancel][enabled]": False})["id"]
    assert "disabled" in account.refused("POST", "/v1/billing_portal/sessions", {**flow, "configuration": off})["message"]
    on = account.configuration()["id"]
    account.refused("POST", "/v1/billing_portal/sessions", {**flow, "configuration": on, "customer": other["customer"]}, status=404)
    account.api("POST", "/v1/billing_portal/sessions", {**flow, "configuration": on})
    account.api("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True})
    assert "already" in account.refused("POST", "/v1/billing_portal/sessions", {**flow, "configuration": on})["message"]


# memory

def test_a_restart_keeps_everything_also_undelivered_events_and_idempotent_answers(tmp_path):
    before = Account(state_file=tmp_path / "stripe.json", clock_file=tmp_path / "clock.json")
    sub = before.buy()
    product = before.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1")
    waiting = len(before.sandbox.deliveries.waiting)
    after = Account(state_file=tmp_path / "stripe.json", clock_file=tmp_path / "clock.json")
    assert after.sub(sub["id"]) == sub
    assert after.api("POST", "/v1/products", {"name": "Gold"}, Idempotency_Key="k1") == product
    assert after.sandbox.deliveries.pump() == waiting == len(after.got)
    after.clock.advance(31 * DAY)
    assert after.sub(sub["id"])["items"]["data"][0]["current_period_start"] == sub["items"]["data"][0]["current_period_end"]


def test_the_same_seed_and_the_same_acts_make_the_same_world():
    def world():
        account = Account()
        account.buy()
        account.clock.advance(70 * DAY)
        return json.dumps(account.sandbox.world.state)
    assert world() == world()


def test_an_endpoint_gets_only_what_it_is_subscribed_to():
    account = Account(endpoints=[Endpoint(HOOK, ("whsec_a",), ("customer.subscription.*",))])
    account.buy()
    account.sandbox.deliveries.pump()
    assert {json.loads(body)["type"] for _, body in account.got} == {"customer.subscription.created", "customer.subscription.updated"}
