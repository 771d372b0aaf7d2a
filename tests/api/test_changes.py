"""Every change a member can ask for: only from the portal's own page, only of what is theirs, only in the form that is documented."""
import json
import threading

import pytest

from infra.local.walker import Refused
from tests.api.town import Town, api, is_problem
from tests.instance import quiet

EVIL = "https://evil.example"


def changes(town, subscription):
    """(path, body) of every change there is."""
    return [("/api/v1/checkout-sessions", {"server_id": town.id, "offer_id": "silver"}), (f"/api/v1/subscriptions/{subscription}/portal-session", {}),
            (f"/api/v1/subscriptions/{subscription}/cancel", {}), (f"/api/v1/subscriptions/{subscription}/undo", {}),
            (f"/api/v1/servers/{town.id}/restore", {}), ("/auth/logout", {})]


@pytest.fixture(scope="module")
def street(instance, operator):
    """Yield a town for all tests that change nothing."""
    made = Town(instance, operator, instance.sandboxes())
    yield made
    made.close()


@pytest.fixture(scope="module")
def settled(street):
    """A member who holds a role by a subscription."""
    return street.buyer()


@pytest.fixture
def buyer(street, settled):
    """The same member, signed in anew: what one test does to the session is not the next one's."""
    person = street.visitor(settled.user_id)
    person.subscription_id = settled.subscription_id
    return person


def unchanged(town, buyer, since):
    """Asserts that neither Stripe nor Discord was asked for anything since, and that the member is still signed in."""
    assert buyer.subscription(buyer.subscription_id)["state"] == "active"
    calls = town.sandbox.stripe("GET", "/requests")["requests"]
    assert [one["path"] for one in calls if one["path"].startswith("/v1/") and one["method"] != "GET"] == since


def writes(town):
    return [one["path"] for one in town.sandbox.stripe("GET", "/requests")["requests"] if one["path"].startswith("/v1/") and one["method"] != "GET"]


def test_C1_nothing_changes_by_GET_or_any_other_method(street, buyer):
    before = writes(street)
    for path, _ in changes(street, buyer.subscription_id):
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = buyer.browser.session.request(method, buyer.product_url + path, headers={"X-CSRF-Token": buyer._csrf}, timeout=5)
            assert answer.status_code == 404, (method, path)
            assert "Access-Control-Allow-Origin" not in answer.headers
    unchanged(street, buyer, before)


def test_C1_D10_nothing_changes_from_another_site_or_without_this_sessions_token(street, buyer):
    other = street.person()
    before, wrong = writes(street), {}
    refusals = {
        "no token": dict(csrf=False), "empty token": dict(csrf=False, X_CSRF_Token=""), "another session's token": dict(csrf=False, X_CSRF_Token=other._csrf),
        "odd token": dict(csrf=False, X_CSRF_Token="é".encode()), "token twice as long": dict(csrf=False, X_CSRF_Token=buyer._csrf * 2),
        "foreign origin": dict(Origin=EVIL), "null origin": dict(Origin="null"), "origin of another port": dict(Origin="http://127.0.0.1:1"),
        "origin of a prefix": dict(Origin=buyer.product_url + ".evil.example"), "empty origin": dict(Origin=""),
        "cross-site": dict(Sec_Fetch_Site="cross-site"), "same-site": dict(Sec_Fetch_Site="same-site"), "odd site": dict(Sec_Fetch_Site="same-origin, cross-site"),
    }
    for name, headers in refusals.items():
        for path, body in changes(street, buyer.subscription_id):
            answer = buyer.post(path, body, **headers)
            if answer.status_code != 403 or "Access-Control-Allow-Origin" in answer.headers or EVIL in answer.text:
                wrong[name, path] = answer.status_code
    assert wrong == {}
    unchanged(street, buyer, before)


def test_C1_a_form_or_a_text_that_a_foreign_page_could_post_is_refused(street, buyer):
    before = writes(street)
    for path, _ in changes(street, buyer.subscription_id)[:-1]:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "", None):
            assert is_problem(buyer.post(path, raw=b"{}", Content_Type=kind), 415)
    unchanged(street, buyer, before)


def test_the_pages_own_headers_are_accepted(street, buyer):
    answer = buyer.post(f"/api/v1/servers/{street.id}/restore", {}, Origin=buyer.product_url, Sec_Fetch_Site="same-origin", Content_Type="Application/JSON; charset=utf-8")
    assert answer.status_code == 202


def test_who_is_not_signed_in_gets_401_whatever_else_is_wrong(street, buyer):
    buyer.browser.session.cookies.clear()
    for path, body in changes(street, buyer.subscription_id):
        is_problem(buyer.post(path, body), 401)
        is_problem(buyer.post(path, raw=b"[[[", csrf=False, Origin=EVIL), 401)
    is_problem(buyer.raw_get("/api/v1/profile"), 401)


def test_C2_T49_somebody_elses_subscription_is_byte_for_byte_a_subscription_that_does_not_exist(street, buyer):
    # Rows: C3
    other = street.buyer("silver")
    for change in ("portal-session", "cancel", "undo"):
        for body in ({}, {"flow": "cancel"} if change == "portal-session" else {}):
            answers = [other.post(f"/api/v1/subscriptions/{key}/{change}", body) for key in (buyer.subscription_id, "sub_1" + "0" * 23)]
            theirs, nobodys = ((one.status_code, one.content, {k: v for k, v in one.headers.items() if k != "Date"}) for one in answers)
            assert theirs == nobodys and is_problem(answers[0], 404)
    assert street.role_calls(buyer.user_id) == [("PUT", street.gold, 204)]
    assert buyer.subscription(buyer.subscription_id)["cancel_scheduled"] is False


def test_C2_C17_ids_that_only_look_like_ones_own_subscription_are_404_too(street, buyer):
    own = buyer.subscription_id
    for key in (own.lower(), own.upper(), own + "%23x", own + "%00", own + "%0a", own + "|x", own + "%2f", own + ".json", own + " ", "%20" + own, own[:-1], own + "x", "stripe:operator:" + own,
                own.replace("sub_", ""), "*", "%2a", "..", "%2e%2e", "sub_" + "1" * 3_000, "sub_%D9%A1%D9%A2", "sub_%ff", "%", own + "%"):
        answer = buyer.post(f"/api/v1/subscriptions/{key}/cancel", {})
        assert answer.status_code == 404, (key, answer.status_code)
    assert buyer.subscription(own)["cancel_scheduled"] is False


def test_C2_restore_in_a_foreign_or_unknown_or_oddly_named_server_is_404(street, buyer):
    stranger = street.person()
    bodies = set()
    for server in (street.id, "940000000999999999", "1", "0", street.id + "0" * 10, "0" + street.id, "+1", "-1", street.id + "%23", street.id + "%00", "%D9%A9" * 18, "directory", "everywhere",
                   street.id + "|" + street.id, street.id + "%2f", "null", "9" * 5_000):
        answer = stranger.post(f"/api/v1/servers/{server}/restore", {})
        assert answer.status_code == 404, (server, answer.status_code)
        bodies.add(answer.text)
    assert len(bodies) == 1
    quiet(street.operator)
    assert not [call for call in street.discord_calls() if stranger.user_id in call[2]]


def test_C4_C14_unknown_fields_are_refused_also_return_url_customer_and_status(street, buyer):
    # Rows: C3
    before = writes(street)
    for path, body in changes(street, buyer.subscription_id):
        for name, value in (("return_url", EVIL), ("customer", "cus_1"), ("configuration", "bpc_1"), ("status", "active"), ("role_id", street.foreign), ("user", "1"), ("tenant", "x"), ("", 1)):
            problem = is_problem(buyer.post(path, {**body, name: value}), 400)
            assert EVIL not in json.dumps(problem)
    unchanged(street, buyer, before)


def test_C4_the_portals_return_link_is_our_own_page_whatever_the_request_says(street, buyer, instance):
    # Rows: C5
    answer = buyer.post(f"/api/v1/subscriptions/{buyer.subscription_id}/portal-session?return_url={EVIL}", {}, X_Forwarded_Host="evil.example", Referer=EVIL)
    assert answer.status_code == 201 and answer.headers["Cache-Control"] == "no-store" and set(answer.json()) == {"url"}
    made = [one for one in street.sandbox.stripe("GET", "/requests")["requests"] if one["path"] == "/v1/billing_portal/sessions"][-1]
    assert f"return_url={instance.url}/profile".replace(":", "%3A").replace("/", "%2F") in made["body"] and "evil" not in made["body"]


NO_OBJECTS = (b"[]", b"null", b"1", b'"x"', b"{", b"[" * 15_000, b'{"a":' * 3_000, b"\xff", b'{"reason":' + b"9" * 5_000 + b"}", b"{}{}")


def test_A11_C15_a_body_that_is_no_JSON_object_is_400_and_never_500(street, buyer):
    for raw in NO_OBJECTS:
        for path, _ in changes(street, buyer.subscription_id):
            is_problem(buyer.post(path, raw=raw), 400)


def test_a_huge_body_of_a_change_is_413(street, buyer):
    for path, _ in changes(street, buyer.subscription_id):
        is_problem(buyer.post(path, raw=b'{"x":"%s"}' % (b"x" * 20_000)), 413)
        is_problem(buyer.post(path, raw=b"x" * 300_000), 413)


ODD_VALUES = (1, 1.5, True, [], ["x"], {}, {"a": 1}, "", "x" * 5_000, "\0", "\ud800", "é", "unused ", "UNUSED", "a\nb", "<script>", "١٢٣", "-1", "#", "|", "/")


def test_C15_C17_C18_fields_of_the_wrong_type_or_with_odd_text_are_400(street, buyer):
    before, wrong = writes(street), {}
    for value in ODD_VALUES:
        for path, body in ((f"/api/v1/subscriptions/{buyer.subscription_id}/cancel", {"reason": value}),
                           (f"/api/v1/subscriptions/{buyer.subscription_id}/portal-session", {"flow": value}),
                           ("/api/v1/checkout-sessions", {"server_id": value, "offer_id": "gold"}), ("/api/v1/checkout-sessions", {"server_id": street.id, "offer_id": value})):
            answer = buyer.post(path, body)
            if answer.status_code != 400:
                wrong[path.rsplit("/", 1)[1], repr(value)[:40]] = answer.status_code
    for comment in (1, [], {}, True, "x" * 501):
        if (answer := buyer.post(f"/api/v1/subscriptions/{buyer.subscription_id}/cancel", {"comment": comment})).status_code != 400:
            wrong["comment", repr(comment)[:40]] = answer.status_code
    assert wrong == {}
    unchanged(street, buyer, before)


def test_a_checkout_needs_both_fields_a_known_offer_and_a_server_that_sells(street, buyer):
    for body in ({}, {"server_id": street.id}, {"offer_id": "gold"}, {"server_id": None, "offer_id": None}):
        is_problem(buyer.post("/api/v1/checkout-sessions", body), 400)
    for body in ({"server_id": street.id, "offer_id": "nothing"}, {"server_id": "940000000999999999", "offer_id": "gold"}):
        is_problem(buyer.post("/api/v1/checkout-sessions", body), 404)
    is_problem(buyer.post("/api/v1/checkout-sessions", {"server_id": street.id, "offer_id": "gold"}), 409)


def test_a_comment_of_any_characters_reaches_stripe_as_it_is_or_is_refused_and_never_breaks(town):
    buyer = town.buyer()
    for comment, status in (("ä 😀 \u202e <script>&%#", 200), ("x" * 500, 200), ("\0", (200, 400)), ("\ud800", (200, 400))):
        answer = buyer.post(f"/api/v1/subscriptions/{buyer.subscription_id}/cancel", {"reason": "other", "comment": comment})
        assert answer.status_code in (status if isinstance(status, tuple) else (status,)), (comment, answer.text)
        if answer.status_code == 200:
            assert buyer.post(f"/api/v1/subscriptions/{buyer.subscription_id}/undo", {}).status_code == 200


def test_A13_unknown_paths_and_methods_are_the_404_problem_and_no_version_is_told(instance, town):
    person = town.person()
    for path in ("/nowhere", "/api", "/api/v1", "/api/v1/", "/api/v2/profile", "/profile/x.css", "/assets", "/assets/", "/assets/../settings.py", "/assets/..%2fsettings.py", "/assets/%2e%2e", "/assets/profile.html%00",
                 "/.env", "/.git/config", "/_sandbox/clock", "/auth/discord", "/api/v1/subscriptions", "/api/v1/servers/1"):
        answer = person.raw_get(path)
        assert is_problem(answer, 404)["type"].endswith("not-found"), path
        assert answer.headers["Cache-Control"] == "no-store" and not any(char.isdigit() for char in answer.headers.get("Server", ""))


def test_D1_D2_pages_and_answers_carry_the_headers_that_keep_scripts_frames_and_caches_out(town):
    person = town.person()
    for path in ("/profile", "/api/v1/profile", "/api/v1/servers"):
        headers = person.raw_get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy and "base-uri 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY" and headers["Referrer-Policy"] == "no-referrer"
    assert person.raw_get("/").headers["Location"].endswith("/profile")


def test_C9_the_intent_binds_the_purchase_to_who_began_it_not_to_who_pays(town):
    """Whoever pays a forwarded Checkout link buys it for the member who began it."""
    member, friend = town.person(), town.person()
    url = member.call("POST", "/api/v1/checkout-sessions", {"server_id": town.id, "offer_id": "gold"})["url"]
    page = friend.browser.open(url)
    friend.browser.submit(page, button="Subscribe", email="friend@canary.example", number="4242424242424242")
    town.holds(member.user_id, town.gold)
    assert friend.subscriptions() == [] and town.sandbox.roles(town.id, friend.user_id) == set()


def test_requests_at_once_in_many_sessions_never_see_each_other(town):
    people, wrong = [town.person() for _ in range(3)], []

    def looks(person):
        for _ in range(12):
            if (seen := person.profile()["member"]["id"]) != person.user_id:
                wrong.append((person.user_id, seen))

    threads = [threading.Thread(target=looks, args=(person,)) for person in people for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_member_of_two_servers_cancels_in_one_and_the_other_stays(town, instance, operator, sandbox):
    elsewhere = Town(instance, operator, sandbox)
    person = town.person()
    here = person.buys("gold")
    sandbox.join(elsewhere.id, person.user_id)
    elsewhere.people.append(person.user_id)
    person.buy(elsewhere.id, "gold")
    elsewhere.holds(person.user_id, elsewhere.gold)
    person.cancel(here)
    assert [one["cancel_scheduled"] for one in person.subscriptions(elsewhere.id)] == [False]
    api(instance, "DELETE", f"/v1/subscriptions/{here}", {})
    town.holds(person.user_id)
    assert sandbox.roles(elsewhere.id, person.user_id) == {elsewhere.gold}
    elsewhere.close()


def test_undo_of_what_ended_is_409_and_of_what_was_never_cancelled_says_already(town, instance):
    buyer = town.buyer()
    assert buyer.undo(buyer.subscription_id)["already"] is True
    api(instance, "DELETE", f"/v1/subscriptions/{buyer.subscription_id}", {})
    town.holds(buyer.user_id)
    for change in (buyer.undo, buyer.cancel):
        with pytest.raises(Refused) as ended:
            change(buyer.subscription_id)
        assert ended.value.status == 409
