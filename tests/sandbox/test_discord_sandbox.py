"""The Discord sandbox: its rules are Discord's, and its answers keep to Discord's own OpenAPI file."""
import base64
import copy
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import jsonschema
import pytest
import requests

from infra.local.sandbox import discord, http
from infra.local.sandbox.clock import SandboxClock

GUILD, OTHER = "900000000000000001", "900000000000000009"
OWNER, ADA, BEN = "200000000000000001", "200000000000000002", "200000000000000003"
SUPPORTER, VIP, STAFF = "300000000000000001", "300000000000000002", "300000000000000003"
CALLBACK = "http://127.0.0.1:8000/auth/discord/callback"
AGENT = {"User-Agent": "DiscordBot (https://example.org, 1.0)"}
SPEC = json.loads((Path(discord.__file__).parent / "specs" / "discord.openapi.json").read_text("utf-8"))


def answer_schema(path, method, status):
    """The schema of an answer, or None when it has no body; the parts that documentation and reality contradict left out."""
    answers = SPEC["paths"][path][method.lower()]["responses"]
    answer = answers[str(status)] if str(status) in answers else answers["4XX"]
    if "$ref" in answer:
        answer = SPEC["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    if "content" not in answer:
        return None
    components = copy.deepcopy(SPEC["components"])
    if status == 429:
        components["schemas"]["Error"]["required"].remove("code")  # the documentation's own examples have none
    components["schemas"]["ErrorDetails"] = {}  # the file says integers where reality has names such as NUMBER_TYPE_COERCE
    return {**answer["content"]["application/json"]["schema"], "components": components}


class Client:
    """Calls the sandbox in process, as the bot unless told otherwise, and checks each answer against the specification."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def __call__(self, method, path, *, headers=None, body=b""):
        headers = {**AGENT, "Authorization": f"Bot {self.sandbox.app['bot_token']}", **(headers or {})}
        status, out, payload = self.sandbox.handle(method, "/api/v10" + path, headers, body)
        template = self.template(path)
        if template and method.lower() in SPEC["paths"][template] and not (status == 403 and b"network" in payload):
            schema = answer_schema(template, method, status)
            assert (schema is None) == (payload == b"")
            if schema:
                jsonschema.Draft202012Validator(schema).validate(json.loads(payload))
            for header in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Reset-After", "X-RateLimit-Bucket"):
                assert header in out or status == 429
        return status, out, json.loads(payload) if payload[:1] in (b"{", b"[") else payload.decode()

    @staticmethod
    def template(path):
        return next((t for t in SPEC["paths"] if re.fullmatch(re.sub(r"\{.*?\}", "[^/]+", t), path)), None)

    def error(self, method, path, **rest):
        status, _, body = self(method, path, **rest)
        return status, body["code"]

    def control(self, method, path, body=None):
        status, _, payload = self.sandbox.handle(method, "/_sandbox" + path, {}, json.dumps(body).encode() if body is not None else b"")
        return json.loads(payload) if payload else status

    def holds(self, user):
        return next((m["roles"] for m in self.control("GET", f"/guilds/{GUILD}")["members"] if m["id"] == user), None)


class Wall:
    def __init__(self):
        self.at = 1_800_000_000.0

    def __call__(self):
        return self.at


def new_sandbox(wall, path=None, **rest):
    secrets = iter(f"secret-{n}" for n in range(10_000))
    return discord.DiscordSandbox(clock=SandboxClock(wall=wall), path=path, app={"redirect_uris": [CALLBACK]},
                                  new_secret=lambda: next(secrets), **rest)


def furnish(client):
    for user, name in ((OWNER, "Olga"), (ADA, "Ada"), (BEN, "Ben")):
        client.control("PUT", f"/users/{user}", {"username": name.lower(), "global_name": name})
    client.control("PUT", f"/guilds/{GUILD}", {"name": "Pixel Guild", "owner_id": OWNER, "roles": [
        {"id": SUPPORTER, "name": "Supporter"}, {"id": VIP, "name": "VIP"}]})
    client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def client(wall):
    client = Client(new_sandbox(wall))
    furnish(client)
    return client


def role(user=ADA, role_id=SUPPORTER, guild=GUILD):
    return f"/guilds/{guild}/members/{user}/roles/{role_id}"


# Roles

def test_a_role_is_given_and_taken_and_doing_it_again_changes_nothing(client):
    reason = {"X-Audit-Log-Reason": "paid%20for%3A%20sub_1"}
    assert [client("PUT", role(), headers=reason)[0] for _ in range(2)] == [204, 204]
    assert client.holds(ADA) == [SUPPORTER] == client("GET", f"/guilds/{GUILD}/members/{ADA}")[2]["roles"]
    assert [client("DELETE", role())[0] for _ in range(2)] == [204, 204]
    assert client.holds(ADA) == []
    log = client.control("GET", f"/audit-log/{GUILD}")["audit_log_entries"]
    assert [(e["changes"][0]["key"], e["reason"], e["user_id"]) for e in log] == [
        ("$add", "paid for: sub_1", client.sandbox.app["bot_id"]), ("$remove", None, client.sandbox.app["bot_id"])]


def test_an_audit_reason_of_more_than_512_characters_is_refused(client):
    assert client.error("PUT", role(), headers={"X-Audit-Log-Reason": "%C3%A4" * 513}) == (400, 50035)
    assert client("PUT", role(), headers={"X-Audit-Log-Reason": "%C3%A4" * 512})[0] == 204


def test_fault_33_a_role_above_or_beside_the_bots_or_managed_or_without_permission_is_50013(client):
    top = client.control("GET", f"/guilds/{GUILD}")["bot"]["top_position"]
    client.control("PATCH", f"/guilds/{GUILD}/roles/{SUPPORTER}", {"position": top})
    assert client.error("PUT", role()) == (403, 50013)
    client.control("PATCH", f"/guilds/{GUILD}/roles/{SUPPORTER}", {"position": 1, "managed": True})
    assert client.error("PUT", role()) == (403, 50013)
    client.control("PATCH", f"/guilds/{GUILD}/roles/{SUPPORTER}", {"managed": False})
    client.control("PUT", f"/guilds/{GUILD}/bot", {"permissions": 0})
    assert client.error("PUT", role()) == (403, 50013)
    client.control("PUT", f"/guilds/{GUILD}/bot")
    assert client("PUT", role())[0] == 204


def test_fault_34_an_unknown_or_deleted_role_and_everyone_are_10011(client):
    assert client.error("PUT", role(role_id="399999999999999999")) == (404, 10011)
    assert client.error("PUT", role(role_id=GUILD)) == (404, 10011)
    client("PUT", role())
    client.control("DELETE", f"/guilds/{GUILD}/roles/{SUPPORTER}")
    assert client.holds(ADA) == [] and client.error("DELETE", role()) == (404, 10011)


def test_fault_35_who_left_or_was_banned_is_10007_and_comes_back_without_roles(client):
    client("PUT", role())
    client.control("DELETE", f"/guilds/{GUILD}/members/{ADA}")
    assert client.error("PUT", role()) == client.error("GET", f"/guilds/{GUILD}/members/{ADA}") == (404, 10007)
    client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")
    assert client.holds(ADA) == []
    client.control("PUT", f"/guilds/{GUILD}/bans/{ADA}")
    assert client.error("PUT", role()) == (404, 10007)
    assert client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")["code"] == 40007
    client.control("DELETE", f"/guilds/{GUILD}/bans/{ADA}")
    assert len(client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")["members"]) == 3
    assert client.error("GET", f"/guilds/{GUILD}/members/123") == (404, 10013)


def test_fault_36_a_kicked_bot_is_50001_and_a_deleted_guild_10004(client):
    client.control("DELETE", f"/guilds/{GUILD}/bot")
    for method, path in (("PUT", role()), ("GET", f"/guilds/{GUILD}"), ("GET", f"/guilds/{GUILD}/roles")):
        assert client.error(method, path) == (403, 50001)
    client.control("PUT", f"/guilds/{GUILD}/bot")
    assert client("PUT", role())[0] == 204
    client.control("DELETE", f"/guilds/{GUILD}")
    assert client.error("PUT", role()) == client.error("GET", f"/guilds/{OTHER}") == (404, 10004)


def test_fault_37_a_role_given_or_taken_by_hand_is_in_the_audit_log_as_the_owners(client):
    client.control("PUT", f"/guilds/{GUILD}/roles/{STAFF}", {"name": "Moderator"})
    client.control("PUT", f"/guilds/{GUILD}/members/{ADA}/roles/{STAFF}")
    client.control("PUT", f"/guilds/{GUILD}/members/{ADA}/roles/{SUPPORTER}")
    client.control("DELETE", f"/guilds/{GUILD}/members/{ADA}/roles/{SUPPORTER}")
    assert client.holds(ADA) == [STAFF]
    assert {e["user_id"] for e in client.control("GET", f"/audit-log/{GUILD}")["audit_log_entries"]} == {OWNER}


def test_a_new_role_stands_below_the_bots_own(client):
    view = client.control("PUT", f"/guilds/{GUILD}/roles/{STAFF}", {"name": "Moderator"})
    place = {r["name"]: r["position"] for r in view["roles"]}
    assert place["@everyone"] < place["Supporter"] < place["VIP"] < place["Moderator"] < place["Rolekeep"] == view["bot"]["top_position"]


def test_a_guild_its_roles_and_the_bot_itself_can_be_read(client):
    assert client("GET", f"/guilds/{GUILD}")[2]["name"] == "Pixel Guild"
    assert {r["name"] for r in client("GET", f"/guilds/{GUILD}/roles")[2]} == {"@everyone", "Supporter", "VIP", "Rolekeep"}
    assert client("GET", "/users/@me")[2]["bot"] is True


# Who may call

def test_fault_32_a_reset_bot_token_is_401(client):
    old = client.sandbox.app["bot_token"]
    client.control("PUT", "/bot-token", {"bot_token": "fresh"})
    stale = {"Authorization": f"Bot {old}"}
    assert client("PUT", role(), headers=stale)[0::2] == (401, {"message": "401: Unauthorized", "code": 0})
    assert client("PUT", role(), headers={"Authorization": "Bot fresh"})[0] == 204


def test_a_user_agent_that_is_no_discord_bots_is_40333(client):
    for agent in ("python-requests/2.32", "", "DiscordBot"):
        assert client.error("GET", "/users/@me", headers={"User-Agent": agent}) == (403, 40333)


def test_what_is_no_snowflake_is_a_form_error(client):
    status, _, body = client("GET", f"/guilds/{GUILD}/members/ada")
    assert (status, body["code"], body["errors"]["user_id"]["_errors"][0]["code"]) == (400, 50035, "NUMBER_TYPE_COERCE")
    for odd in ("-1", "01", "1" * 21, "%2e", "1e3"):
        assert client.error("PUT", role(role_id=odd)) == (400, 50035)


def test_unknown_paths_and_methods_are_discords_404_and_405(client):
    assert client.error("GET", "/gateway") == (404, 0)
    assert client.error("PATCH", role()) == (405, 0)


# In the middle

def strikes(client, do, *calls, **more):
    """The statuses of these calls with such a fault ordered for the second one that changes a role."""
    client.sandbox.front.faults.order({"path": "/roles/", "do": do, "nth": 2, **more})
    return [client(*call)[0] for call in calls]


def test_a_member_leaves_or_is_banned_just_before_the_nth_call(client):
    both = ("PUT", role()), ("PUT", role(role_id=VIP))
    assert strikes(client, "member_leaves", *both) == [204, 404] and client.holds(ADA) is None
    client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")
    assert strikes(client, "member_banned", *both) == [204, 404]
    assert client.control("PUT", f"/guilds/{GUILD}/members/{ADA}")["code"] == 40007


def test_the_role_itself_or_another_one_is_deleted_just_before_the_nth_call(client):
    both = ("PUT", role()), ("PUT", role(role_id=VIP))
    assert strikes(client, "role_deleted", *both) == [204, 404] and client.holds(ADA) == [SUPPORTER]
    client.control("PUT", f"/guilds/{GUILD}/roles/{VIP}", {"name": "VIP"})
    assert strikes(client, "role_deleted", *both, role_id=SUPPORTER) == [204, 204] and client.holds(ADA) == [VIP]
    assert strikes(client, "role_deleted", *both, role_id=SUPPORTER) == [404, 204], "what is gone already stays gone"


def test_the_bot_is_removed_just_before_the_nth_call(client):
    assert strikes(client, "bot_removed", ("PUT", role()), ("DELETE", role()), ("PUT", role())) == [204, 403, 403]
    assert client.holds(ADA) == [SUPPORTER] and client.control("GET", f"/guilds/{GUILD}")["bot"]["in_guild"] is False


def test_a_ban_of_our_address_begins_just_before_the_nth_call(client, wall):
    client.sandbox.front.faults.order({"path": "/roles/", "do": "ban", "nth": 2, "status": 403, "seconds": 60})
    assert client("PUT", role())[0] == 204
    for _ in range(2):
        status, headers, body = client.sandbox.handle("DELETE", "/api/v10" + role(), AGENT, b"")
        assert (status, body) == (403, b"error code: 1015") and "Retry-After" not in headers
    assert client.holds(ADA) == [SUPPORTER]
    wall.at += 61
    assert client("DELETE", role())[0] == 204


# Limits

def test_fault_29_a_full_bucket_is_429_for_its_guild_alone_until_it_resets(wall):
    client = Client(new_sandbox(wall, limits={"role_change": (2, 10.0)}))
    furnish(client)
    client.control("PUT", f"/guilds/{OTHER}", {"name": "Other", "owner_id": OWNER, "roles": [{"id": VIP, "name": "VIP"}]})
    client.control("PUT", f"/guilds/{OTHER}/members/{ADA}")
    assert [client("PUT", role())[1]["X-RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    wall.at += 2.5
    status, headers, body = client("PUT", role())
    assert (status, body["retry_after"], body["global"]) == (429, 7.5, False) and isinstance(body["retry_after"], float)
    assert (headers["Retry-After"], headers["X-RateLimit-Scope"], headers["X-RateLimit-Reset-After"]) == ("8", "user", "7.500")
    assert client("PUT", role(role_id=VIP, guild=OTHER))[0] == 204
    wall.at += 7.5
    assert client("PUT", role())[0] == 204


def test_the_global_limit_closes_everything(wall):
    client = Client(new_sandbox(wall, limits={"global": (1, 1.0)}))
    furnish(client)
    assert client("PUT", role())[0] == 204
    status, headers, body = client("GET", f"/guilds/{GUILD}")
    assert (status, body["global"], headers["X-RateLimit-Scope"], headers["X-RateLimit-Global"]) == (429, True, "global", "true")


def test_fault_31_an_ordered_ban_answers_for_discord_until_it_ends(client, wall):
    client.control("PUT", "/ban", {"seconds": 60, "status": 403})
    status, headers, body = client.sandbox.handle("PUT", "/api/v10" + role(), AGENT, b"")
    assert (status, body) == (403, b"error code: 1015") and not {"Retry-After", "X-RateLimit-Limit"} & set(headers)
    client.control("PUT", "/ban", {"seconds": 60, "as_json": True})
    assert json.loads(client.sandbox.handle("GET", "/api/v10/users/@me", AGENT, b"")[2])["code"] == 0
    assert client.sandbox.handle("GET", "/", {}, b"")[0] == 200  # people with browsers are not banned
    wall.at += 61
    assert client("PUT", role())[0] == 204


def test_more_than_10000_invalid_requests_in_ten_minutes_begin_a_ban(client, wall):
    client.sandbox.front.faults.order({"path": "/roles", "do": "answer", "status": 429, "times": 3,
                                       "headers": {"X-RateLimit-Scope": "shared"}, "body": {"retry_after": 1}})
    for _ in range(3):
        client.sandbox.handle("GET", f"/api/v10/guilds/{GUILD}/roles", AGENT, b"")
    assert client.control("GET", "/limits")["invalid_requests"] == 0  # shared ones do not count
    client.sandbox.limits._invalid = [wall.at - 599.0] * 10_000
    assert client.control("GET", "/limits")["ban"] is None
    assert client.error("PUT", role(), headers={"Authorization": "Bot wrong"}) == (401, 0)
    assert client.sandbox.handle("PUT", "/api/v10" + role(), AGENT, b"")[2] == b"error code: 1015"


# Signing in

def wish(**changes):
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    full = {"response_type": "code", "client_id": discord.SANDBOX_APP["client_id"], "redirect_uri": CALLBACK, "scope": "identify",
            "state": "a b&c", "code_challenge": challenge, "code_challenge_method": "S256", **changes}
    return {k: v for k, v in full.items() if v is not None}


def consent(client, *, decision="authorize", user=ADA, **changes):
    form = {**wish(**changes), "user_id": user, "decision": decision}
    status, headers, _ = client.sandbox.handle("POST", "/oauth2/authorize", {}, urlencode(form).encode())
    assert status == 303 and headers["Location"].startswith(CALLBACK + "?")
    return {k: v[0] for k, v in parse_qs(urlsplit(headers["Location"]).query).items()}


def exchange(client, *, headers=None, **changes):
    form = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": "v" * 43, **changes}
    app = client.sandbox.app
    basic = "Basic " + base64.b64encode(f"{app['client_id']}:{app['client_secret']}".encode()).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": basic, **(headers or {})}
    body = urlencode({k: v for k, v in form.items() if v is not None}).encode()
    status, _, answer = client("POST", "/oauth2/token", headers=headers, body=body)
    return status, answer


def test_a_consent_leads_to_a_token_that_says_who_signed_in(client):
    page = client.sandbox.handle("GET", "/oauth2/authorize?" + urlencode(wish()), {}, b"")[2].decode()
    assert 'name="user_id"' in page and "Ada" in page and "a b&amp;c" in page and "rolekeep</" not in page
    back = consent(client)
    assert (back["state"], back["iss"]) == ("a b&c", "https://discord.com")
    status, token = exchange(client, code=back["code"])
    assert (status, token["token_type"], token["scope"]) == (200, "Bearer", "identify")
    me = client("GET", "/users/@me", headers={"Authorization": f"Bearer {token['access_token']}"})[2]
    assert (me["id"], me["global_name"], "email" in me) == (ADA, "Ada", False)
    assert client.error("GET", f"/guilds/{GUILD}", headers={"Authorization": f"Bearer {token['access_token']}"}) == (401, 0)


def test_cancel_leads_back_with_access_denied_and_the_state(client):
    back = consent(client, decision="cancel")
    assert (back["error"], back["state"]) == ("access_denied", "a b&c") and "code" not in back


@pytest.mark.parametrize("changes", [
    {"client_id": "5"}, {"redirect_uri": CALLBACK + "/"}, {"redirect_uri": None}, {"response_type": "token"}, {"code_challenge_method": "plain"}])
def test_a_wrong_wish_is_an_error_page_and_never_redirects(client, changes):
    for method, body in (("GET", b""), ("POST", urlencode({**wish(**changes), "user_id": ADA, "decision": "authorize"}).encode())):
        status, headers, _ = client.sandbox.handle(method, "/oauth2/authorize?" + urlencode(wish(**changes)), {}, body)
        assert status == 400 and "Location" not in headers


def test_an_unknown_scope_leads_back_with_invalid_scope(client):
    assert consent(client, scope="identify everything")["error"] == "invalid_scope"


def test_a_code_works_once_soon_and_for_whom_it_was_made(client, wall):
    code = consent(client)["code"]
    assert exchange(client, code=code)[0] == 200
    assert exchange(client, code=code) == (400, {"error": "invalid_grant", "error_description": 'Invalid "code" in request.'})
    for wrong in ({"code_verifier": "w" * 43}, {"code_verifier": None}, {"redirect_uri": CALLBACK + "?"}):
        assert exchange(client, **{"code": consent(client)["code"], **wrong})[1]["error"] == "invalid_grant"
    late = consent(client)["code"]
    wall.at += 101
    assert exchange(client, code=late)[1]["error"] == "invalid_grant"
    assert exchange(client, code="x", headers={"Authorization": "Basic bm86bm8="}) == (401, {"error": "invalid_client"})
    assert exchange(client, code="x", headers={"Content-Type": "application/json"})[1]["error"] == "invalid_request"
    assert exchange(client, grant_type="password")[1]["error"] == "unsupported_grant_type"


def test_moving_the_sandbox_clock_does_not_expire_a_code(client):
    code = consent(client)["code"]
    client.sandbox.clock.advance(86400)
    assert exchange(client, code=code, headers={"Authorization": ""}, client_id=client.sandbox.app["client_id"],
                    client_secret=client.sandbox.app["client_secret"])[0] == 200


def test_revoking_one_token_ends_its_whole_authorization_and_a_week_ends_the_rest(client, wall):
    tokens = [exchange(client, code=consent(client)["code"])[1] for _ in range(2)]
    form = {"token": tokens[0]["refresh_token"], "client_id": client.sandbox.app["client_id"], "client_secret": client.sandbox.app["client_secret"]}
    status, _, _ = client("POST", "/oauth2/token/revoke", headers={"Authorization": "", "Content-Type": "application/x-www-form-urlencoded"},
                          body=urlencode(form).encode())
    bearers = [{"Authorization": f"Bearer {t['access_token']}"} for t in tokens]
    assert (status, [client("GET", "/users/@me", headers=b)[0] for b in bearers]) == (200, [401, 200])
    wall.at += 604800
    assert client.error("GET", "/users/@me", headers=bearers[1]) == (401, 0)


# The rest

def test_state_survives_a_restart(wall, tmp_path):
    client = Client(new_sandbox(wall, tmp_path / "discord.json"))
    furnish(client)
    client("PUT", role())
    code = consent(client)["code"]
    again = Client(new_sandbox(wall, tmp_path / "discord.json"))
    assert again.holds(ADA) == [SUPPORTER] and exchange(again, code=code)[0] == 200


def test_the_overview_shows_who_holds_what_and_its_buttons_work(client):
    client("PUT", role(), headers={"X-Audit-Log-Reason": "%3Cb%3E"})
    page = client.sandbox.handle("GET", "/", {}, b"")[2].decode()
    assert "Pixel Guild" in page and "holds" in page and "&lt;b&gt;" in page and "<b>&" not in page
    form = urlencode({"guild_id": GUILD, "user_id": ADA, "do": "leave"}).encode()
    assert client.sandbox.handle("POST", "/", {}, form)[0] == 303 and client.holds(ADA) is None
    form = urlencode({"guild_id": "7", "user_id": ADA, "do": "join"}).encode()
    assert client.sandbox.handle("POST", "/", {}, form)[0] == 303


def test_a_wrong_control_call_is_refused_with_the_reason(client):
    assert client.control("GET", "/guilds/7")["code"] == 10004
    assert client.control("PUT", f"/guilds/{GUILD}", {"roles": ["x"]})["error"]
    assert client.control("PUT", "/limits", {"nothing": [1, 1]})["error"]
    assert client.control("GET", "/nothing")["error"]
    assert "PUT guilds/{guild_id}/bans/{user_id}" in client.control("GET", "/")["calls"]


def test_over_http_it_is_the_same_sandbox(client):
    server = http.serve(client.sandbox.handle)
    try:
        page = requests.get(server.url + "/oauth2/authorize", params=wish(), timeout=5)
        assert page.status_code == 200 and "Content-Security" not in page.text
        put = requests.put(f"{server.url}/api/v10{role()}", headers={**AGENT, "Authorization": "Bot " + client.sandbox.app["bot_token"]}, timeout=5)
        assert put.status_code == 204 and client.holds(ADA) == [SUPPORTER]
        assert requests.get(f"{server.url}/_sandbox/guilds/{GUILD}", timeout=5).json()["name"] == "Pixel Guild"
        assert "sandbox-bot-token" not in requests.get(f"{server.url}/_sandbox/requests", timeout=5).text
    finally:
        server.stop()
