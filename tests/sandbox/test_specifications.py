"""The check that holds requests, answers and events to the official specifications sees what it is there for."""
import copy
import json

import pytest
from jsonschema import Draft202012Validator

from infra.local.sandbox import http, spec
from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.discord import DiscordSandbox
from infra.local.sandbox.stripe_params import schema
from tests.sandbox.paypal_account import Shop
from tests.sandbox.stripe_account import Account

GUILD, ADA, ROLE = "900000000000000001", "200000000000000002", "300000000000000001"
BOT = {"User-Agent": "DiscordBot (https://example.org, 1.0)", "Authorization": "Bot sandbox-bot-token"}
ROLE_PATH = f"/api/v10/guilds/{GUILD}/members/{ADA}/roles/{ROLE}"
SECRET = "sk_live_neverShown"


@pytest.fixture
def found():
    """Yield what is noted during the test, which expects it: the check that every test is under does not see it."""
    with spec.watched() as noted:
        yield noted


@pytest.fixture
def account(found):
    return Account()


@pytest.fixture
def discord(found):
    sandbox = DiscordSandbox(clock=SandboxClock(wall=lambda: 1_800_000_000.0))
    sandbox.world.put_user(ADA, {"username": "ada"})
    sandbox.world.put_guild(GUILD, {"owner_id": "200000000000000001", "roles": [{"id": ROLE, "name": "Gold"}]})
    sandbox.world.join(GUILD, ADA)
    return sandbox


def told(found, *fields):
    """The noted violations, cut down to these fields."""
    return [tuple(one[name] for name in fields or ("side", "operation", "place", "rule")) for one in found]


def violations(sandbox):
    return json.loads(sandbox.handle("GET", "/_sandbox/violations")[2])


# Stripe

def test_an_answer_with_a_missing_field_is_reported_with_place_and_rule(account, found):
    sub = account.buy()
    del account.sandbox.world.find("subscription", sub["id"])["items"]["data"][0]["current_period_end"]
    assert account.sandbox.call("GET", f"/v1/subscriptions/{sub['id']}")[0] == 200
    assert told(found) == [("answer", "GET /v1/subscriptions/{subscription}", "items/data/0", "current_period_end is missing")]
    account.sandbox.call("GET", "/v1/subscriptions", {"limit": 1})
    assert told(found)[1:] == [("answer", "GET /v1/subscriptions", "data/0/items/data/0", "current_period_end is missing")]


def test_an_event_is_held_to_the_schema_as_it_is_delivered_and_so_is_the_object_in_it(account, found):
    sub = account.buy()
    account.sandbox.deliveries.pump()
    assert account.got and found == []
    account.sandbox.world.emit("customer.subscription.updated", {**sub, "status": SECRET})
    account.sandbox.world.emit("customer.subscription.updated", {**sub, "customer": 1})["created"] = "soon"
    account.sandbox.deliveries.pump()
    assert told(found) == [("event", "customer.subscription.updated", "data/object/status", "enum"),
                           ("event", "customer.subscription.updated", "created", "type: integer"),
                           ("event", "customer.subscription.updated", "data/object/customer", "anyOf")]


@pytest.mark.parametrize("path, fields, place, rule", [
    ("/v1/customers", {"colour": SECRET}, "colour", "parameter_unknown"),
    ("/v1/products", {}, "name", "parameter_missing"),
    ("/v1/prices", {"currency": "eur", "product": "p", "unit_amount": SECRET}, "unit_amount", "parameter_invalid_integer"),
    ("/v1/checkout/sessions", {"mode": SECRET}, "mode", "Invalid mode"),
    ("/v1/checkout/sessions", {"mode": "subscription", "success_url": "https://a.test", "automatic_tax[enabled]": "true"}, "automatic_tax[enabled]", "sandbox_not_implemented"),
    ("/v1/nowhere", {}, "", "Unrecognized request URL")])
def test_a_request_with_an_unknown_or_mistyped_parameter_is_refused_and_reported(account, found, path, fields, place, rule):
    status, _ = account.sandbox.call("POST", path, fields)
    assert status in (400, 404) and told(found, "side", "place", "status") == [("request", place, status)]
    assert found[0]["rule"].startswith(rule) and SECRET not in json.dumps(violations(account.sandbox))


def test_a_request_that_only_comes_at_a_wrong_moment_is_no_violation(account, found):
    sub = account.buy()
    account.sandbox.call("DELETE", f"/v1/subscriptions/{sub['id']}")
    assert account.sandbox.call("DELETE", f"/v1/subscriptions/{sub['id']}")[0] == 404
    assert account.sandbox.call("POST", f"/v1/subscriptions/{sub['id']}", {"cancel_at_period_end": True})[0] == 400
    assert account.sandbox.call("GET", "/v1/subscriptions/sub_none")[0] == 404
    assert account.sandbox.call("GET", "/v1/account", Authorization="Bearer sk_test_wrong")[0] == 401
    assert found == []


def test_a_word_that_an_open_list_does_not_know_is_right_only_once_a_control_call_has_brought_it_in(account, found, tmp_path):
    before = Account(state_file=tmp_path / "stripe.json")
    sub = before.buy()
    with before.sandbox.world.changing(before.sandbox.world.find("subscription", sub["id"])) as stored:
        stored["status"] = "actve"
    before.sandbox.call("GET", f"/v1/subscriptions/{sub['id']}")
    assert told(found, "place", "rule") == [("status", "enum")]
    before.control("PATCH", f"subscriptions/{sub['id']}", {"status": "hibernating"})
    before.sandbox.call("GET", f"/v1/subscriptions/{sub['id']}")
    Account(state_file=tmp_path / "stripe.json").sandbox.call("GET", f"/v1/subscriptions/{sub['id']}")
    before.control("POST", "emit", {"type": "invoice.invented", "object": {"id": "x", "object": "x"}})
    before.sandbox.deliveries.pump()
    assert len(found) == 1


def test_an_object_of_another_kind_than_asked_for_a_broken_error_and_a_broken_list_are_reported(account, found):
    contract, request = account.sandbox.contract, http.Request("GET", "/v1/customers/cus_1", {}, http.Headers({}))
    headers = {"Request-Id": "req_1", "Content-Type": "application/json", "Stripe-Version": "x"}
    for status, body in ((200, account.buy()), (400, {"error": {"message": SECRET, "type": "oops"}}), (404, {"message": SECRET}),
                         (200, {"object": "list", "data": []}), (200, {"id": "cus_1"})):
        contract.answered(request, http.json_answer(body, status, headers))
    contract.answered(request, http.text_answer("<html>", 200, headers=headers))
    for body in ({"object": "list", "data": [{"id": "x", "object": "x"}], "url": "/v1/subscriptions"}, account.buy()):
        contract.answered(http.Request("GET", "/v1/subscriptions", {}, http.Headers({})), http.json_answer(body, 200, headers))
    contract.answered(request, http.Answer(400, {}, b'{"error": {"type": "api_error"}}'))
    assert told(found, "status", "place", "rule")[:8] == [
        (200, "object", "is not customer"), (400, "error/type", "enum"), (404, "", "error is missing"), (200, "object", "is not customer"),
        (200, "object", "is missing"), (200, "", "the body is not JSON"), (200, "", "has_more is missing"), (200, "data/0/object", "is not subscription")]
    assert told(found, "status", "place", "rule")[-4:] == [(200, "object", "is not list"), *(
        (400, "", f"header {name} is missing") for name in ("Request-Id", "Content-Type", "Stripe-Version"))]
    assert SECRET not in json.dumps(violations(account.sandbox))


def test_what_the_schema_leaves_out_is_held_to_the_sdks_classes_also_where_it_is_expanded(account, found):
    account.buy()
    method, payment = next(iter(account.sandbox.world.all("payment_method"))), next(iter(account.sandbox.world.all("payment_intent")))
    account.sandbox.call("GET", f"/v1/payment_methods/{method['id']}")
    assert found == []
    del method["billing_details"]
    method["card"]["colour"] = SECRET
    payment["amount"] = SECRET
    account.sandbox.call("GET", f"/v1/payment_methods/{method['id']}")
    assert sorted(told(found, "place", "rule")) == [("", "billing_details is missing"), ("card/colour", "there is no such field")]
    found.clear()
    session = {"object": "checkout.session", "payment_intent": {**payment, "latest_charge": {"object": "charge"}}}
    inside = [place for place, _ in account.sandbox.contract.problems(session)]
    assert "payment_intent/amount" in inside and inside.count("payment_intent/latest_charge") > 5


def test_what_a_shape_leaves_out_no_rule_of_the_schema_looks_at():
    keywords, seen = set(), set()

    def walk(rules):
        keywords.update(rules)
        for inner in [*rules.get("properties", {}).values(), *rules.get("anyOf", ()), *(rules[k] for k in ("items",) if k in rules)]:
            walk(inner)
        name = rules.get("$ref", "").rsplit("/", 1)[-1]
        if name and name not in seen:
            seen.add(name)
            walk(schema()["$defs"][name])

    for rules in schema()["responses"].values():
        walk(rules)
    free = {"x-open-enum", "x-stripe-object", "x-cut", "x-expandable", "description", "$comment"}
    assert keywords - free <= {"type", "anyOf", "$ref", "properties", "enum", "required", "items"}, "another rule may look at what `shape` drops"


def places(value, at=()):
    """Every place inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (*at, name)
        yield from places(each, (*at, name))


def test_the_check_by_shapes_says_of_every_way_to_spoil_a_subscription_what_the_plain_check_says(account):
    sub, contract = account.buy(), account.sandbox.contract
    plain = Draft202012Validator({**schema()["responses"]["subscription"], "$defs": schema()["$defs"]})
    spoiled = right = 0
    for number, (*above, name) in enumerate(places(sub)):
        for how in ("gone", (None, 5, "text", True, [], {})[number % 6]):
            other = copy.deepcopy(sub)
            holder = other
            for step in above:
                holder = holder[step]
            if how == "gone":
                del holder[name]
            else:
                holder[name] = how
            expected = plain.is_valid(other) or other.get("object") != "subscription"     # what it is, the operation says
            assert (contract.problems(other) == []) == expected, (above, name, how)
            spoiled, right = spoiled + (not expected), right + expected
    assert spoiled > 100 and right > 100, "both verdicts came up"


# Discord

def test_a_wrong_snowflake_is_refused_and_reported_and_one_in_an_answer_too(discord, found):
    for wrong in ("ada", "01", str(1 << 64)):
        assert discord.handle("GET", f"/api/v10/guilds/{GUILD}/members/{wrong}", BOT)[0] == 400
    assert told(found) == [("request", "GET /guilds/{guild_id}/members/{user_id}", "user_id", rule)
                           for rule in ("pattern: ^(0|[1-9][0-9]*)$", "pattern: ^(0|[1-9][0-9]*)$", "format: snowflake")]
    found.clear()
    discord.state["guilds"][GUILD]["members"][ADA] |= {"roles": ["gold", str(1 << 64)], "joined_at": "yesterday"}
    discord.handle("GET", f"/api/v10/guilds/{GUILD}/members/{ADA}", BOT)
    assert sorted(told(found, "side", "place", "rule")) == [("answer", "joined_at", "format: date-time"), ("answer", "roles/0", "pattern: ^(0|[1-9][0-9]*)$"),
                                                            ("answer", "roles/1", "format: snowflake")]


@pytest.mark.parametrize("method, target, headers, body, place, rule", [
    ("GET", "/api/v10/gateway", {}, b"", "", "there is no such operation"),
    ("PATCH", ROLE_PATH, {}, b"", "", "there is no such operation"),
    ("PUT", ROLE_PATH + "?reason=x", {}, b"", "reason", "there is no such query parameter"),
    ("GET", f"/api/v10/guilds/{GUILD}?with_counts=maybe", {}, b"", "with_counts", "type: boolean"),
    ("PUT", ROLE_PATH, {"Content-Type": "application/json"}, b"{}", "body", "there is no body here"),
    ("PUT", ROLE_PATH, {"X-Audit-Log-Reason": "für Ada"}, b"", "X-Audit-Log-Reason", "is not URL-encoded"),
    ("PUT", ROLE_PATH, {"X-Audit-Log-Reason": "100%"}, b"", "X-Audit-Log-Reason", "is not URL-encoded"),
    ("PUT", ROLE_PATH, {"X-Audit-Log-Reason": "%C3%A4" * 513}, b"", "X-Audit-Log-Reason", "1 to 512 characters"),
    ("POST", "/api/v10/oauth2/token", {"Content-Type": "application/json"}, b"{}", "content-type", "is not application/x-www-form-urlencoded")])
def test_a_request_that_discords_file_does_not_know_is_reported(discord, found, method, target, headers, body, place, rule):
    discord.handle(method, target, {**BOT, **headers}, body)
    assert told(found, "side", "place", "rule") == [("request", place, rule)]


def test_a_body_where_the_file_wants_one_is_held_to_its_content_type_and_schema():
    operation = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SnowflakeType"}}}}}

    def ask(kind, body):
        return list(spec._body(operation, http.Request("POST", "/", {}, http.Headers({"Content-Type": kind} if kind else {}), body)))

    assert ask("application/json; charset=utf-8", b'"5"') == []
    assert ask("application/json", b'"x"') == [("", "pattern: ^(0|[1-9][0-9]*)$")] and ask("application/json", b"{") == [("body", "is not JSON")]
    assert ask("text/plain", b"5") == ask(None, b"") == [("content-type", "is not application/json")]


def test_an_answer_of_another_status_body_or_without_rate_limit_headers_is_reported_and_cloudflares_is_not_discords(discord, found):
    request = http.Request("PUT", ROLE_PATH, {}, http.Headers(BOT))
    limits = dict.fromkeys(spec.RATE_LIMIT, "1")
    for answer in (http.Answer(200, limits), http.Answer(204, limits, b"{}"), http.Answer(204, {}), http.json_answer({"message": SECRET}, 404, limits),
                   http.json_answer({"retry_after": "soon", "global": False, "message": ""}, 429, limits)):
        discord.front.contract.answered(request, answer)
    assert told(found, "status", "place", "rule") == [
        (200, "", "there is no such status"), (204, "", "there is no body here"), *((204, "", f"header {name} is missing") for name in spec.RATE_LIMIT),
        (404, "", "code is missing"), (429, "retry_after", "type: number")]
    found.clear()
    discord.front.contract.answered(request, http.text_answer("error code: 1015", 429))
    discord.limits.begin_ban(60, status=403, as_json=True)
    assert discord.handle("PUT", ROLE_PATH, BOT)[0] == 403 and found == []


# Both

def test_violations_are_counted_once_each_listed_cleared_and_bounded(account, found):
    for _ in range(3):
        account.sandbox.call("POST", "/v1/customers", {"colour": "red"})
    assert violations(account.sandbox) == {"more": 0, "violations": [
        {"side": "request", "operation": "POST /v1/customers", "status": 400, "place": "colour", "rule": "parameter_unknown", "times": 3}]}
    for number in range(spec.KEPT + 5):
        account.sandbox.call("POST", "/v1/customers", {f"colour{number}": "red"})
    assert len(violations(account.sandbox)["violations"]) == spec.KEPT and violations(account.sandbox)["more"] == 6
    assert account.sandbox.handle("DELETE", "/_sandbox/violations")[0] == 204
    assert violations(account.sandbox) == {"more": 0, "violations": []}
    assert "GET|DELETE violations" in account.control("GET", "")["calls"]


def test_an_ordered_answer_stands_for_what_lies_between_and_is_not_judged_a_lost_one_is(account, discord, found):
    for sandbox, path in ((account.sandbox, "/v1/account"), (discord, ROLE_PATH)):
        sandbox.front.faults.order({"path": path, "do": "answer", "status": 502, "body": "<html>"})
        assert sandbox.handle("GET" if sandbox is account.sandbox else "PUT", path, BOT)[0] == 502
    assert found == []
    sub = account.buy()
    del account.sandbox.world.find("subscription", sub["id"])["created"]
    account.sandbox.front.faults.order({"path": "/v1/subscriptions", "do": "lose_answer"})
    with pytest.raises(http.NoAnswer):
        account.sandbox.call("GET", f"/v1/subscriptions/{sub['id']}")
    assert told(found, "place", "rule") == [("", "created is missing")]


# PayPal

@pytest.fixture
def shop(found):
    return Shop()


def test_a_paypal_answer_is_held_to_its_file_with_place_and_rule(shop, found):
    key = shop.buy()
    shop.sandbox.account().world.find("subscription", key)["failed"] = 1000
    shop.sandbox.account().world.find("subscription", key)["status"] = "PAUSED"
    assert shop.sandbox.call("GET", f"/v1/billing/subscriptions/{key}")[0] == 200
    assert ("answer", "GET /v1/billing/subscriptions/{id}", "status", "enum") in told(found)
    assert ("answer", "GET /v1/billing/subscriptions/{id}", "billing_info/failed_payments_count", "maximum: 999") in told(found)


@pytest.mark.parametrize(("method", "path", "params", "said"), [
    ("POST", "/v1/billing/subscriptions/I-1/stop", {}, ("POST of no known path", "", "there is no such operation")),
    ("GET", "/v1/billing/subscriptions/I-1", {"field": "plan"}, ("GET /v1/billing/subscriptions/{id}", "field", "there is no such query parameter")),
    ("POST", "/v1/billing/subscriptions/I-1/cancel", {"reason": 5}, ("POST /v1/billing/subscriptions/{id}/cancel", "reason", "type: string")),
    ("POST", "/v1/billing/subscriptions/I-1/cancel", None, ("POST /v1/billing/subscriptions/{id}/cancel", "body", "is missing")),
    ("POST", "/v1/notifications/verify-webhook-signature", {"auth_algo": "x"}, ("POST /v1/notifications/verify-webhook-signature", "", "cert_url is missing"))])
def test_a_paypal_request_that_breaks_its_file_is_noted(shop, found, method, path, params, said):
    shop.sandbox.call(method, path, params)
    assert ("request", *said) in told(found) and not [one for one in found if one["side"] == "answer"]


def test_a_paypal_request_that_is_no_json_or_a_token_request_that_is_no_form_is_noted(shop, found):
    shop.sandbox.handle("POST", "/v1/billing/subscriptions", {"Content-Type": "text/plain"}, b"{}")
    shop.sandbox.handle("POST", "/v1/oauth2/token", {"Content-Type": "application/json"}, b"{}")
    assert [(one["operation"], one["place"]) for one in found] == [("POST /v1/billing/subscriptions", "content-type"), ("POST /v1/oauth2/token", "content-type")]


def test_what_the_paypal_files_forbid_and_real_paypal_does_is_no_violation(shop, found):
    sale = shop.sales(shop.buy())[0]
    shop.control("POST", f"sales/{sale}/reverse")
    key = shop.control("POST", f"sales/{sale}/dispute")["dispute_id"]
    for path, params in ((f"/v1/payments/sale/{sale}", None), (f"/v1/customer/disputes/{key}", None),
                         ("/v1/customer/disputes", {"disputed_transaction_id": "NOBODY"})):
        assert shop.sandbox.call("GET", path, params)[0] == 200
    assert shop.sandbox.handle("GET", f"/v1/payments/sale/{sale}", {"Authorization": "Bearer wrong"})[0] == 401
    assert found == []
