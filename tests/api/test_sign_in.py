"""Signing in with Discord and the session that comes of it: what is not this browser's own, fresh, single sign-in is refused."""
import re
import time
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests

from infra.local.walker import Browser, Refused
from tests.api.town import Person, is_problem, never_logged

COOKIE = "rolekeep-session"     # on http; over https it is __Host-rolekeep-session, see tests/usecases


class Coming:
    """A browser on its way through the sign-in, step by step."""

    def __init__(self, instance):
        self.instance, self.browser = instance, Browser()
        self.session = self.browser.session

    def begins(self, **asked):
        """The browser knows Discord's address, with our state; `asked` is the query it came with."""
        answer = self.session.get(f"{self.instance.url}/auth/discord/login", params=asked, allow_redirects=False, timeout=5)
        assert answer.status_code == 302
        self.address, self.first_cookies = answer.headers["Location"], answer.headers.get("Set-Cookie", "")
        self.query = dict(parse_qsl(urlsplit(self.address).query))
        never_logged.update([self.query["state"], self.session.cookies["rolekeep-signin"]])
        return self

    def consents(self, user, *, button="Authorize"):
        """Discord wants to send the browser back with these parameters."""
        page = self.browser.open(self.address)
        form = page.form(button)
        data = {**form["fields"], "user_id": user} | {name: value for name, value, text in form["buttons"] if name and button.lower() in text.lower()}
        answer = self.session.post(form["action"], data=data, allow_redirects=False, timeout=5)
        self.back = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
        never_logged.update([self.back["code"]] if "code" in self.back else [])
        return self

    def arrives(self, **changed):
        """The answer of our callback to what Discord sent back, or to something else (None: left out)."""
        sent = {name: value for name, value in {**self.back, **changed}.items() if value is not None}
        return self.session.get(f"{self.instance.url}/auth/discord/callback", params=sent, allow_redirects=False, timeout=15)

    def is_signed_in(self):
        return self.session.get(f"{self.instance.url}/api/v1/profile", timeout=5).status_code == 200


@pytest.fixture
def coming(instance):
    """Makes browsers that begin to sign in."""
    return lambda: Coming(instance).begins()


def refused(answer):
    """Asserts that an answer of the callback made no session and repeats nothing of the request."""
    assert not any(f"{COOKIE}=" in cookie and f"{COOKIE}=;" not in cookie for cookie in _set_cookies(answer)), answer.headers
    assert answer.status_code == 400 or answer.status_code in (302, 303) and urlsplit(answer.headers["Location"]).path.endswith("/profile"), answer.status_code
    assert "canary" not in answer.text + answer.headers.get("Location", "")


def _set_cookies(answer):
    return answer.raw.headers.getlist("Set-Cookie")


def test_the_login_asks_discord_for_identify_alone_with_state_and_PKCE_and_no_address_of_the_request(instance, town):
    answer = requests.get(f"{instance.url}/auth/discord/login?next=//evil.example&redirect_uri=https://evil.example", allow_redirects=False, timeout=5, headers={
        "Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Referer": "https://evil.example"})
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert "evil" not in answer.headers["Location"] and answer.headers["Location"].startswith(f"{instance.discord_url}/oauth2/authorize?")
    assert query["scope"] == ["identify"] and query["response_type"] == ["code"] and query["redirect_uri"] == [f"{instance.url}/auth/discord/callback"]
    assert query["code_challenge_method"] == ["S256"] and len(query["code_challenge"][0]) == 43 and len(query["state"][0]) >= 43
    cookie, = _set_cookies(answer)
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_session_cookie_is_opaque_http_only_lasts_thirty_days_and_is_new_each_time(coming, town):
    user, values = town.newcomer(), set()
    for _ in range(2):
        answer = coming().consents(user).arrives()
        assert answer.status_code == 303 and urlsplit(answer.headers["Location"]).path == "/profile"
        session = next(cookie for cookie in _set_cookies(answer) if cookie.startswith(f"{COOKIE}="))
        assert {"HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={30 * 86_400}"} <= set(session.split("; "))
        assert any(cookie.startswith("rolekeep-signin=;") for cookie in _set_cookies(answer)), "the sign-in's own secret is over"
        values.add(SimpleCookie(session)[COOKIE].value)
    assert len(values) == 2 and all(len(value) >= 43 and user not in value for value in values)


def test_sessions_and_states_are_stored_under_hashes_only(coming, town, operator):
    here = coming()
    browser = here.session.cookies["rolekeep-signin"]
    begun = str(operator.rows("sessions"))
    assert here.query["state"] not in begun and browser not in begun
    here.consents(town.newcomer()).arrives()
    assert here.session.cookies[COOKIE] not in str(operator.rows("sessions"))


def test_B1_a_callback_without_a_state_with_a_foreign_one_or_in_another_browser_is_refused(coming, town):
    user = town.newcomer()
    for changed in ({"state": None}, {"state": ""}, {"state": "canary" * 8}, {"state": "x" * 5_000}, {"code": None}, {"code": ""}, {"code": "canary"},
                    {"code": "x" * 5_000}, {"state": "é"}, {"state": "\0"}):
        here = coming().consents(user)
        refused(here.arrives(**changed))
        assert not here.is_signed_in(), changed
    attacker, victim = coming().consents(user), coming()
    victim.back = attacker.back
    refused(victim.arrives())
    assert not victim.is_signed_in(), "login CSRF: the state belongs to the attacker's browser"
    without = coming().consents(user)
    without.session.cookies.clear()
    refused(without.arrives())


def test_B4_a_foreign_code_under_ones_own_state_is_refused_by_PKCE(coming, town):
    # Rows: B3
    attacker, victim = coming().consents(town.newcomer()), coming().consents(town.newcomer())
    refused(victim.arrives(code=attacker.back["code"]))
    assert not victim.is_signed_in()


def test_B2_a_state_and_a_code_work_once_and_never_again(coming, town):
    here = coming().consents(town.newcomer())
    secret = here.session.cookies["rolekeep-signin"]
    assert here.arrives().status_code == 303
    here.session.cookies.set("rolekeep-signin", secret)
    refused(here.arrives())
    again = coming()
    again.back = {"code": here.back["code"], "state": again.query["state"]}
    refused(again.arrives())
    assert not again.is_signed_in() and here.is_signed_in()


def test_B2_of_two_tabs_the_later_one_signs_in(coming, town):
    here, user = coming().consents(town.newcomer()), town.newcomer()
    first = here.back
    here.begins().consents(user)
    second, here.back = here.back, first
    refused(here.arrives())
    here.back = second
    assert here.arrives().status_code == 303 and here.is_signed_in()


def test_B1_a_sign_in_that_took_longer_than_ten_minutes_is_refused_and_the_business_clock_has_no_say(coming, town, sandbox, operator):
    here = coming().consents(town.newcomer())
    sandbox.advance(700)
    assert here.arrives().status_code == 303
    late = coming().consents(town.newcomer())
    for row in operator.rows("sessions"):
        if row["kind"] == "state":
            operator.table("sessions").put_item(Item={**row, "expires_at": int(time.time()) - 1})   # still there: TTL is lazy
    refused(late.arrives())
    assert not late.is_signed_in()


def test_B5_who_says_no_at_discord_is_not_signed_in_and_nothing_is_echoed(coming, town):
    here = coming().consents(town.newcomer(), button="Cancel")
    assert here.back["error"] == "access_denied"
    refused(here.arrives(error_description="<script>canary</script>"))
    assert not here.is_signed_in()


def test_B5_an_error_together_with_a_valid_code_makes_no_session(coming, town):
    here = coming().consents(town.newcomer())
    refused(here.arrives(error="access_denied", error_description="<script>canary</script>"))
    assert not here.is_signed_in()


def test_B6_whatever_address_the_request_names_the_sign_in_leads_to_our_own_page_only(coming, instance, town):
    user = town.newcomer()
    for evil in ("//evil.example", "/\\evil.example", "https:evil.example", "/%09/evil.example", "@evil.example", "/..//evil.example", "javascript:alert(1)"):
        here = coming()
        here.begins(next=evil, return_to=evil, redirect_uri=evil).consents(user)
        answer = here.arrives(next=evil, return_to=evil, redirect_uri=evil)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"{instance.url}/profile"), evil


def test_B10_an_email_that_is_the_same_as_a_buyers_makes_nobody_the_buyer(coming, town, sandbox):
    buyer, other = town.buyer(), town.newcomer()
    sandbox.discord("POST", "/faults", {"path": "/users/@me$", "do": "answer", "status": 200, "body": {
        "id": other, "username": "other", "email": f"user{buyer.user_id}@example.org", "verified": False}})
    here = coming().consents(other)
    assert here.arrives().status_code == 303
    profile = here.session.get(f"{town.instance.url}/api/v1/profile", timeout=5).json()
    assert profile["member"]["id"] == other and profile["servers"] == []


def test_B7_a_session_planted_before_the_sign_in_is_worth_nothing_after_it(coming, instance, town):
    planted = "planted-by-the-attacker-planted-by-the-attacker"
    here = coming()
    here.session.cookies.set(COOKIE, planted, domain="127.0.0.1", path="/")
    here.consents(town.newcomer()).arrives()
    assert here.is_signed_in() and here.session.cookies[COOKIE] != planted
    assert _profile(instance, f"{COOKIE}={planted}").status_code == 401


def test_B7_signing_in_again_ends_the_session_held_before(coming, instance, town):
    here = coming()
    here.consents(town.newcomer()).arrives()
    before = here.session.cookies[COOKIE]
    here.begins().consents(town.newcomer()).arrives()
    assert here.is_signed_in() and _profile(instance, f"{COOKIE}={before}").status_code == 401


def test_B8_signing_out_ends_the_session_on_the_server_and_clears_the_cookie(instance, town):
    person = town.person()
    kept = person.browser.session.cookies[COOKIE]
    answer = person.post("/auth/logout")
    assert answer.status_code == 204 and answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert any(re.match(rf"{COOKIE}=; .*Max-Age=0", cookie) for cookie in _set_cookies(answer))
    is_problem(_profile(instance, f"{COOKIE}={kept}"), 401)


def test_B8_forged_cut_doubled_or_odd_cookies_are_401(instance, town):
    person = town.person()
    right = person.browser.session.cookies[COOKIE]
    assert _profile(instance, f"other=1; {COOKIE}={right}").status_code == 200
    for header in ("", f"{COOKIE}=", f"{COOKIE}={right[:-1]}", f"{COOKIE}={right}x", f"{COOKIE}={right.swapcase()}", f"{COOKIE}={'x' * 5_000}", f"{COOKIE}={right}; {COOKIE}={right}",
                   f"{COOKIE}={right}; {COOKIE}=forged", f"{COOKIE}=forged; {COOKIE}={right}", f"__Host-{COOKIE}={right}", f"{COOKIE.upper()}={right}", f"{COOKIE}=state:{right}",
                   f"{COOKIE}=session:{right}", f"{COOKIE}=é", f"{COOKIE}=a\tb", "=", ";;;", f"{COOKIE}", f"{COOKIE}={right}; x={'y' * 9_000}"):
        is_problem(_profile(instance, header), 401)
    state = Coming(instance).begins()
    is_problem(_profile(instance, f"{COOKIE}={state.query['state']}"), 401)


def test_fault_21_B8_an_expired_session_is_401_though_its_row_is_still_there(instance, town, operator):
    person = town.person()
    for row in operator.rows("sessions"):
        if row.get("user_id") == person.user_id:
            operator.table("sessions").put_item(Item={**row, "expires_at": int(time.time()) - 1})
    with pytest.raises(Refused) as gone:
        person.profile()
    assert gone.value.status == 401


def test_sessions_live_by_the_wall_clock_a_moved_business_clock_signs_nobody_out(sandbox, town):
    person = town.person()
    sandbox.advance(3_600)
    person.profile()


def test_discord_down_while_signing_in_is_said_and_the_sign_in_can_begin_again(coming, town, sandbox):
    sandbox.discord("POST", "/faults", {"path": "/oauth2/token$", "do": "answer", "status": 503, "body": "<html>down</html>"})
    here = coming().consents(town.newcomer())
    answer = here.arrives()
    assert answer.status_code in (302, 303, 503) and not here.is_signed_in()
    assert here.begins().consents(town.people[-1]).arrives().status_code == 303


@pytest.mark.parametrize("told", [{"scope": "email"}, {"scope": "identify", "access_token": None}, {"scope": None}, [], "text", {}])
def test_B9_a_token_of_another_shape_or_scope_signs_nobody_in(coming, town, sandbox, told):
    body = {"access_token": "canary-token", "token_type": "Bearer", "expires_in": 1, **told} if isinstance(told, dict) else told
    sandbox.discord("POST", "/faults", {"path": "/oauth2/token$", "do": "answer", "status": 200, "body": body})
    here = coming().consents(town.newcomer())
    assert here.arrives().status_code in (302, 303, 400, 503) and not here.is_signed_in()


@pytest.mark.parametrize("me", [{"id": "0"}, {"id": 1}, {"id": None}, {"id": "٩٣٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠١"}, {"id": "1#2"}, [], "x", None])
def test_B9_C18_an_odd_user_from_discord_signs_nobody_in(coming, town, sandbox, me):
    sandbox.discord("POST", "/faults", {"path": "/users/@me$", "do": "answer", "status": 200, "body": {"username": "x", **me} if isinstance(me, dict) else me})
    here = coming().consents(town.newcomer())
    assert here.arrives().status_code in (302, 303, 400, 503) and not here.is_signed_in()


def test_D1_a_name_is_data_in_the_profile_whatever_it_holds(town, sandbox):
    user, name = town.newcomer(), "</script><img src=x>\u202e\r\nSet-Cookie: a=b"
    sandbox.discord("PUT", f"/users/{user}", {"username": "x", "global_name": name})
    person = Person(town)
    person.sign_in(user)
    answer = person.raw_get("/api/v1/profile")
    assert answer.json()["member"]["name"] == name and answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and "no-store" in answer.headers["Cache-Control"]


def _profile(instance, cookies):
    return requests.get(f"{instance.url}/api/v1/profile", headers={"Cookie": cookies.encode("utf-8")}, timeout=5)
