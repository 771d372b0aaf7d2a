"""Stripe's billing portal from the member's side: our own configuration, made once, kept as it must be, and never in anybody's way for long."""
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest

from infra.local.walker import wait_for
from tests.api.town import is_problem


def configurations(town, method="POST"):
    """The requests of the product that made, changed or read portal configurations: [(path, status, body)]."""
    return [(one["path"], one["status"], one["body"]) for one in town.sandbox.stripe("GET", "/requests")["requests"]
            if one["path"].startswith("/v1/billing_portal/configurations") and one["method"] == method]


@pytest.fixture
def member(town):
    """A member who pays; the request log begins after that."""
    buyer = town.buyer()
    town.sandbox.stripe("DELETE", "/requests")
    return buyer


def opens(member, **body):
    return member.post(f"/api/v1/subscriptions/{member.subscription_id}/portal-session", body)


def test_the_first_session_makes_our_own_configuration_and_the_next_ones_use_it(town, member):
    for body in ({}, {"flow": "payment_method"}, {"flow": "cancel"}):
        answer = opens(member, **body)
        assert answer.status_code == 201 and answer.json()["url"].startswith(town.instance.stripe_url)
        assert answer.headers["Cache-Control"] == "no-store"
    (path, status, body), = configurations(town)
    assert (path, status) == ("/v1/billing_portal/configurations", 200)
    for wish in ("features[subscription_update][enabled]=false", "features[subscription_pause][enabled]=false", "features[subscription_cancel][mode]=at_period_end",
                 "features[subscription_cancel][proration_behavior]=none", "business_profile[terms_of_service_url]=https://town.example/terms"):
        assert wish in unquote(body), wish


def test_two_first_sessions_at_once_use_one_configuration(town, member):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: opens(member), range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    settings = town.operator.table("servers").get_item(Key={"server_id": town.id, "kind": "settings"})["Item"]["settings"]
    used = {one["body"].split("configuration=")[1].split("&")[0] for one in town.sandbox.stripe("GET", "/requests")["requests"] if one["path"] == "/v1/billing_portal/sessions"}
    assert used == {settings["portal_configurations"]["operator"]}


def test_drift_of_the_configuration_is_mended_before_the_session(town, member):
    opens(member)
    key = town.operator.table("servers").get_item(Key={"server_id": town.id, "kind": "settings"})["Item"]["settings"]["portal_configurations"]["operator"]
    for change in ({"features": {"subscription_cancel": {"enabled": True, "mode": "immediately"}}}, {"active": False},
                   {"business_profile": {"terms_of_service_url": "https://evil.example/"}}):
        town.sandbox.stripe("POST", "/portal_configurations", {"id": key, **change})
        town.sandbox.stripe("DELETE", "/requests")
        assert opens(member).status_code == 201, change
        assert [path for path, _, _ in configurations(town)] == [f"/v1/billing_portal/configurations/{key}"], change
        town.sandbox.stripe("DELETE", "/requests")
        assert opens(member).status_code == 201 and configurations(town) == [], "once mended it is left alone"


def test_without_the_owners_terms_the_portal_is_409_and_says_what_works_all_the_same(town, member):
    town.register(terms_url="")
    assert "Cancel" in is_problem(opens(member), 409)["next"]
    assert member.cancel(member.subscription_id)["next_charge"] == "none"


def test_a_500_of_stripe_does_not_close_the_portal_of_the_server_for_a_day(town, member):
    town.sandbox.stripe("POST", "/fail", {"path": r"^/v1/billing_portal/configurations$", "method": "POST", "when": "before"})
    is_problem(opens(member), 503)
    assert opens(member).status_code == 201, "Stripe keeps a 500 under its idempotency key for a day"


@pytest.mark.parametrize("do", ["close", "lose_answer"])
def test_fault_14_a_lost_answer_at_any_call_is_503_and_the_next_click_works(town, member, do):
    for path in (r"^/v1/billing_portal/configurations$", r"^/v1/billing_portal/sessions$"):
        town.sandbox.stripe("POST", "/faults", {"method": "POST", "path": path, "do": do})
        assert is_problem(opens(member), 503)["next"]
        assert opens(member).status_code == 201, path


def test_a_configuration_that_vanished_is_made_anew_and_an_outage_makes_no_second_one(town, member):
    opens(member)
    for status, made in ((500, 0), (401, 0), (404, 1)):
        town.sandbox.stripe("DELETE", "/requests")
        town.sandbox.stripe("POST", "/faults", {"method": "GET", "path": r"^/v1/billing_portal/configurations/", "do": "answer", "status": status,
                                                "body": {"error": {"type": "invalid_request_error", "message": "x"}}})
        answer = opens(member)
        assert answer.status_code == (201 if made else 503)
        assert len([path for path, _, _ in configurations(town) if path == "/v1/billing_portal/configurations"]) == made


def test_a_cancel_link_for_what_already_ends_is_409(member):
    member.cancel(member.subscription_id)
    wait_for(lambda: member.subscription(member.subscription_id)["cancel_scheduled"], 5, "the profile shows it")
    is_problem(opens(member, flow="cancel"), 409)
    assert opens(member).status_code == 201
