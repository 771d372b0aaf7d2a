"""The PayPal sandbox's API: tokens, the wall between merchants, plans, subscriptions and how their requests are refused."""
import base64
import json

import pytest

from infra.local.sandbox import spec
from infra.local.sandbox.paypal import MERCHANT
from infra.local.sandbox.paypal_world import Merchant
from tests.sandbox.paypal_account import ADA, Shop, link

OTHER = Merchant("RKEEPSANDBX33", "AY" + "other-client__" * 5 + "x" * 8, "EO" + "other-secret__" * 5 + "x" * 8, name="Lantern Café",
                 webhook_ids=("5RK00000000000002",))


@pytest.fixture
def shop():
    return Shop()


def token(shop, name=MERCHANT.client_id, secret=MERCHANT.secret, body=b"grant_type=client_credentials"):
    basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
    status, headers, answer = shop.sandbox.handle("POST", "/v1/oauth2/token", {
        "Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}, body)
    return status, json.loads(answer)


def asked(shop, bearer, path="/v1/billing/plans"):
    status, headers, answer = shop.sandbox.handle("GET", path, {"Authorization": f"Bearer {bearer}"})
    return status, json.loads(answer)


# tokens

def test_a_token_lives_nine_hours_of_the_wall_clock_and_is_given_again_meanwhile(shop):
    status, first = token(shop)
    assert (status, first["token_type"], first["expires_in"]) == (200, "Bearer", 32400)
    shop.days(400)                                              # the sandbox clock means nothing to it
    assert asked(shop, first["access_token"])[0] == 200
    shop.wall += 3600
    assert token(shop)[1]["access_token"] == first["access_token"] and token(shop)[1]["expires_in"] == 28800
    shop.wall += 28801
    assert asked(shop, first["access_token"]) == (401, {"error": "invalid_token", "error_description": "Token signature verification failed"})
    assert token(shop)[1]["access_token"] != first["access_token"]


def test_wrong_credentials_a_missing_token_and_a_revoked_one_are_401_in_paypals_forms(shop):
    assert token(shop, secret="wrong") == (401, {"error": "invalid_client", "error_description": "Client Authentication failed"})
    assert token(shop, body=b"grant_type=password")[1]["error"] == "unsupported_grant_type"
    status, _, answer = shop.sandbox.handle("GET", "/v1/billing/plans", {})
    assert status == 401 and json.loads(answer)["name"] == "AUTHENTICATION_FAILURE" and len(json.loads(answer)["debug_id"]) == 13
    good = token(shop)[1]["access_token"]
    shop.control("DELETE", "tokens")
    assert asked(shop, good)[1]["error"] == "invalid_token"


def test_one_merchants_token_sees_nothing_of_another():
    shop = Shop(accounts=(MERCHANT, OTHER))
    key = shop.buy()
    sale = shop.sales(key)[0]
    for path in (f"/v1/billing/subscriptions/{key}", f"/v1/payments/sale/{sale}", f"/v1/billing/plans/{shop.sub(key)['plan_id']}"):
        assert shop.api("GET", path)
        refused = shop.api("GET", path, account=OTHER.id, expect=404)
        assert "INVALID_RESOURCE_ID" in json.dumps(refused)
    assert shop.issue("POST", f"/v1/billing/subscriptions/{key}/cancel", {"reason": "x"}, 404, account=OTHER.id) == "INVALID_RESOURCE_ID"
    assert shop.api("GET", "/v1/billing/plans", account=OTHER.id)["plans"] == []
    assert shop.sub(key)["status"] == "ACTIVE"


def test_a_merchant_that_was_added_is_there_after_a_restart_with_its_own_credentials(tmp_path):
    shop = Shop(state_file=tmp_path / "paypal.json")
    shop.control("POST", "merchants", {"id": OTHER.id, "client_id": OTHER.client_id, "secret": OTHER.secret, "name": OTHER.name})
    again = Shop(state_file=tmp_path / "paypal.json")
    assert token(again, OTHER.client_id, OTHER.secret)[0] == 200
    assert [one["id"] for one in again.control("GET", "merchants")["merchants"]] == [MERCHANT.id, OTHER.id]
    plan = again.control("POST", f"plans?merchant={OTHER.id}", {"name": "Regular", "price": "3"})
    assert again.api("GET", f"/v1/billing/plans/{plan['id']}", account=OTHER.id)["name"] == "Regular"
    assert again.issue("GET", f"/v1/billing/plans/{plan['id']}", status=404) == "INVALID_RESOURCE_ID"


# plans

def test_a_plan_is_made_over_the_api_with_trials_set_up_fee_and_threshold(shop):
    product = shop.api("POST", "/v1/catalogs/products", {"name": "Gold", "type": "SERVICE"}, expect=201)
    made = shop.api("POST", "/v1/billing/plans", {
        "product_id": product["id"], "name": "Gold", "billing_cycles": [
            {"frequency": {"interval_unit": "WEEK", "interval_count": 2}, "tenure_type": "TRIAL", "sequence": 1, "total_cycles": 1},
            {"frequency": {"interval_unit": "MONTH"}, "tenure_type": "REGULAR", "sequence": 2, "total_cycles": 12,
             "pricing_scheme": {"fixed_price": {"value": "9.90", "currency_code": "USD"}}}],
        "payment_preferences": {"payment_failure_threshold": 2, "setup_fee": {"value": "1", "currency_code": "USD"}}}, expect=201)
    assert "billing_cycles" not in made                          # minimal unless a representation is preferred
    plan = shop.api("GET", f"/v1/billing/plans/{made['id']}")
    assert [c["pricing_scheme"]["fixed_price"]["value"] for c in plan["billing_cycles"]] == ["0.0", "9.9"]
    assert plan["payment_preferences"]["setup_fee"] == {"currency_code": "USD", "value": "1.0"}
    shop.api("POST", f"/v1/billing/plans/{plan['id']}/deactivate", expect=204)
    assert shop.issue("POST", f"/v1/billing/plans/{plan['id']}/deactivate") == "PLAN_STATUS_INVALID"
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": plan["id"]}) == "PLAN_STATUS_INVALID"
    shop.api("POST", f"/v1/billing/plans/{plan['id']}/activate", expect=204)
    assert shop.types("BILLING.PLAN") == ["BILLING.PLAN.CREATED", "BILLING.PLAN.DEACTIVATED", "BILLING.PLAN.ACTIVATED"]


REGULAR = {"frequency": {"interval_unit": "MONTH"}, "tenure_type": "REGULAR", "sequence": 1, "total_cycles": 0,
           "pricing_scheme": {"fixed_price": {"value": "5", "currency_code": "EUR"}}}
TRIAL = {"frequency": {"interval_unit": "WEEK"}, "tenure_type": "TRIAL", "sequence": 1, "total_cycles": 1}
DOLLARS = {"pricing_scheme": {"fixed_price": {"value": "1", "currency_code": "USD"}}}


@pytest.mark.parametrize(("status", "issue", "cycles"), [
    (422, "MISSING_REGULAR_BILLING_CYCLE", [TRIAL]), (422, "MULTIPLE_REGULAR_BILLING_CYCLES_NOT_SUPPORTED", [REGULAR, {**REGULAR, "sequence": 2}]),
    (422, "INVALID_BILLING_CYCLE_SEQUENCE", [{**REGULAR, "sequence": 2}]), (422, "INVALID_BILLING_CYCLE_SEQUENCE", [REGULAR, {**TRIAL, "sequence": 2}]),
    (422, "INVALID_TRIAL_BILLING_TOTAL_CYCLES", [{**TRIAL, "total_cycles": 0}, {**REGULAR, "sequence": 2}]),
    (422, "MULTIPLE_FREE_TRIAL_BILLING_CYCLES_NOT_SUPPORTED", [TRIAL, {**TRIAL, "sequence": 2}, {**REGULAR, "sequence": 3}]),
    (422, "CURRENCY_MISMATCH", [{**TRIAL, **DOLLARS}, {**REGULAR, "sequence": 2}]),
    (400, "INVALID_PARAMETER_VALUE", [{**REGULAR, "pricing_scheme": {"fixed_price": {"value": "0", "currency_code": "EUR"}}}])])
def test_a_plan_whose_cycles_do_not_go_together_is_refused(shop, status, issue, cycles):
    product = shop.api("POST", "/v1/catalogs/products", {"name": "Gold", "type": "SERVICE"}, expect=201)["id"]
    wish = {"product_id": product, "name": "Gold", "billing_cycles": cycles, "payment_preferences": {}}
    assert shop.issue("POST", "/v1/billing/plans", wish, status) == issue and shop.types("PLAN") == []


# subscriptions

def test_a_new_subscription_waits_for_its_approval_without_billing_info(shop):
    sub = shop.create()
    assert sub["status"] == "APPROVAL_PENDING" and sub["custom_id"] == "intent_1" and sub["start_time"] == sub["create_time"]
    assert not {"billing_info", "subscriber", "update_time", "status_update_time"} & sub.keys()
    assert [one["rel"] for one in sub["links"]] == ["edit", "self", "approve"]
    minimal = shop.api("POST", "/v1/billing/subscriptions", {"plan_id": sub["plan_id"]}, expect=201)
    assert set(minimal) == {"id", "status", "create_time", "links"}
    for action in ("cancel", "suspend", "activate"):
        assert shop.issue("POST", f"/v1/billing/subscriptions/{sub['id']}/{action}", {"reason": "x"}) == "SUBSCRIPTION_STATUS_INVALID"


def test_one_that_nobody_approves_is_gone_after_some_hours(shop):
    sub = shop.create()
    shop.clock.advance(3 * 3600 - 1)
    assert shop.sub(sub["id"])["status"] == "APPROVAL_PENDING"
    shop.clock.advance(1)
    assert shop.issue("GET", f"/v1/billing/subscriptions/{sub['id']}", status=404) == "INVALID_RESOURCE_ID"
    assert shop.page("GET", link(sub, "approve"))[0] == 404


def test_a_request_id_makes_one_subscription_for_72_hours(shop):
    plan = shop.plan()
    first = shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan}, expect=201, paypal_request_id="r1")
    assert shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan}, expect=200, paypal_request_id="r1")["id"] == first["id"]
    assert shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan}, expect=201, paypal_request_id="r2")["id"] != first["id"]
    shop.control("POST", f"subscriptions/{first['id']}/approve", {"email": ADA})
    shop.wall += 72 * 3600 + 1
    assert shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan}, expect=201, paypal_request_id="r1")["id"] != first["id"]


def test_fields_decide_whether_the_plan_and_the_last_failed_payment_are_there(shop):
    key = shop.buy()
    assert "plan" not in shop.sub(key, "last_failed_payment") and "last_failed_payment" not in shop.info(key)
    plan = shop.sub(key, "last_failed_payment,plan")["plan"]
    assert not {"id", "status"} & plan.keys() and plan["billing_cycles"][0]["pricing_scheme"]["fixed_price"]["value"] == "5.0"
    shop.control("POST", f"subscriptions/{key}/renew", {"outcome": "decline"})
    assert "last_failed_payment" not in shop.sub(key, "plan")["billing_info"]
    assert shop.info(key)["last_failed_payment"]["reason_code"] == "PAYMENT_DENIED"


def test_overrides_change_the_price_and_are_told(shop):
    override = {"billing_cycles": [{"sequence": 1, "pricing_scheme": {"fixed_price": {"value": "0.01", "currency_code": "EUR"}}}]}
    plan = shop.plan()
    sub = shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan, "plan": override}, expect=201, prefer="return=representation")
    key = sub["id"]
    assert sub["plan_overridden"] and sub["plan_id"] == plan
    shop.control("POST", f"subscriptions/{key}/approve", {"email": ADA})
    assert shop.info(key)["last_payment"]["amount"] == {"currency_code": "EUR", "value": "0.01"}
    wrong = {"billing_cycles": [{"sequence": 1, "pricing_scheme": {"fixed_price": {"value": "1", "currency_code": "USD"}}}]}
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": plan, "plan": wrong}) == "CURRENCY_MISMATCH"
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": plan, "plan": {"billing_cycles": [{"sequence": 9}]}}) == "INVALID_BILLING_CYCLE_SEQUENCE"


def test_quantity_multiplies_the_price_where_the_plan_knows_it(shop):
    plan = shop.plan(quantity_supported=True)
    sub = shop.api("POST", "/v1/billing/subscriptions", {"plan_id": plan, "quantity": "3"}, expect=201)
    shop.control("POST", f"subscriptions/{sub['id']}/approve", {"email": ADA})
    assert shop.info(sub["id"])["last_payment"]["amount"]["value"] == "15.0"
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": shop.plan(), "quantity": "3"}) == "SUBSCRIPTION_CANNOT_HAVE_QUANTITY"


def test_bodies_are_refused_in_paypals_words_and_noted_as_violations_of_the_request(shop):
    key = shop.buy()
    with spec.watched() as found:
        for path, body, issue in (("", {}, "MISSING_REQUIRED_PARAMETER"), ("", {"plan_id": "P-1", "start_time": "soon"}, "INVALID_PARAMETER_SYNTAX"),
                                  ("", {"plan_id": shop._plan, "custom_id": "x" * 128}, "INVALID_STRING_MAX_LENGTH"),
                                  (f"/{key}/cancel", {"reason": "x" * 129}, "INVALID_STRING_MAX_LENGTH"), (f"/{key}/cancel", {}, "MISSING_REQUIRED_PARAMETER"),
                                  (f"/{key}/cancel", None, "MISSING_REQUEST_BODY")):
            assert shop.issue("POST", "/v1/billing/subscriptions" + path, body, 400) == issue
        assert {(one["side"], one["place"]) for one in found} == {("request", place) for place in ("", "start_time", "custom_id", "reason", "body")}
    past = {"plan_id": shop._plan, "start_time": "2026-01-31T11:59:59Z"}
    assert shop.issue("POST", "/v1/billing/subscriptions", past, 400) == "INVALID_PARAMETER_VALUE"
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": "P-NOBODY"}, 404) == "INVALID_RESOURCE_ID"
    assert shop.sub(key)["status"] == "ACTIVE"


@pytest.mark.parametrize(("path", "query", "field", "issue"), [
    ("/v1/billing/plans", {"page_size": "many"}, "page_size", "INVALID_PARAMETER_SYNTAX"), ("/v1/billing/plans", {"page_size": 21}, "page_size", "INVALID_PARAMETER_SYNTAX"),
    ("/v1/billing/subscriptions/{key}/transactions", {"start_time": "2026-01-01T00:00:00Z"}, "end_time", "MISSING_REQUIRED_PARAMETER"),
    ("/v1/billing/subscriptions/{key}/transactions", {"start_time": "2026-02-31T00:00:00Z", "end_time": "2026-03-01T00:00:00Z"}, "start_time", "INVALID_PARAMETER_SYNTAX"),
    ("/v1/customer/disputes", {"update_time_after": "2026-02-30T00:00:00Z"}, "update_time_after", "INVALID_PARAMETER_SYNTAX")])
def test_a_query_that_breaks_the_file_or_names_a_day_that_is_not_is_refused(shop, path, query, field, issue):
    key = shop.buy()
    shop.control("POST", f"sales/{shop.sales(key)[0]}/dispute")
    refused = shop.api("GET", path.format(key=key), query, expect=400)["details"][0]
    assert (refused["field"], refused["issue"], refused["location"]) == (field, issue, "query")


def test_a_start_on_a_day_that_is_not_is_refused(shop):
    assert shop.issue("POST", "/v1/billing/subscriptions", {"plan_id": shop.plan(), "start_time": "2027-02-30T10:00:00Z"}, 400) == "INVALID_PARAMETER_SYNTAX"


def test_cancel_takes_the_next_payment_away_for_good_and_comes_once(shop):
    key = shop.buy()
    assert shop.info(key)["next_billing_time"] == "2026-03-01T10:00:00Z"      # the 31st, which February has not
    shop.api("POST", f"/v1/billing/subscriptions/{key}/cancel", {"reason": "member asked"}, expect=204)
    sub = shop.sub(key)
    assert sub["status"] == "CANCELLED" and "next_billing_time" not in sub["billing_info"] and [one["rel"] for one in sub["links"]] == ["self"]
    event = shop.events("CANCELLED")[-1]
    assert event["resource_type"] == "subscription" and "next_billing_time" not in event["resource"]["billing_info"]
    for action in ("cancel", "suspend", "activate"):
        assert shop.issue("POST", f"/v1/billing/subscriptions/{key}/{action}", {"reason": "x"}) == "SUBSCRIPTION_STATUS_INVALID"
    shop.days(100)
    assert len(shop.sales(key)) == 1


def test_transactions_are_the_sales_between_two_instants(shop):
    key = shop.buy()
    shop.days(30)
    window = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-02-01T00:00:00Z"}
    found = shop.api("GET", f"/v1/billing/subscriptions/{key}/transactions", window)["transactions"]
    assert [(one["id"], one["status"], one["payer_email"]) for one in found] == [(shop.sales(key)[0], "COMPLETED", ADA)]
    assert len(shop.sales(key)) == 2


def test_everything_survives_a_restart(tmp_path):
    shop = Shop(state_file=tmp_path / "paypal.json")
    key = shop.buy()
    again = Shop(state_file=tmp_path / "paypal.json")
    assert again.sub(key) == shop.sub(key)
    again.days(30)
    assert len(again.sales(key)) == 2


def test_faults_are_ordered_by_path_as_for_the_other_sandboxes(shop):
    key = shop.buy()
    shop.control("POST", "faults", {"path": "/cancel$", "do": "answer", "status": 429, "body": {"name": "RATE_LIMIT_REACHED"}})
    assert shop.api("POST", f"/v1/billing/subscriptions/{key}/cancel", {"reason": "x"}, expect=429) == {"name": "RATE_LIMIT_REACHED"}
    shop.control("POST", "faults", {"path": "/cancel$", "do": "timeout_after_effect"})
    with pytest.raises(ConnectionError):
        shop.sandbox.call("POST", f"/v1/billing/subscriptions/{key}/cancel", {"reason": "x"})
    assert shop.sub(key)["status"] == "CANCELLED"


def test_the_request_log_holds_no_secrets(shop):
    token(shop)
    shop.buy()
    log = json.dumps(shop.control("GET", "requests"))
    assert not any(secret in log for secret in (MERCHANT.secret, MERCHANT.client_id, "A21AA", ADA))
