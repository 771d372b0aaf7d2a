"""Logs keep quiet: one schema, no secret, no personal data, whatever goes wrong and wherever."""
import io
import json

import pytest

from tests.usecases.product import ADA, BEN, DISCORD, GOLD, KEY, SECRET, SERVER, STRIPE

CANARY = "canary-4f1c9b"


@pytest.fixture
def lines(product):
    """Yields a function that answers the log lines since the beginning of the test, parsed, and what they say as one text."""
    from chalicelib import log
    logger = log._logger()
    streams = [handler for handler in logger.handlers if hasattr(handler, "stream")]
    before, written = [handler.stream for handler in streams], io.StringIO()
    for handler in streams:
        handler.stream = written

    def read():
        return [json.loads(line) for line in written.getvalue().splitlines()]

    read.text = written.getvalue
    yield read
    for handler, stream in zip(streams, before):
        handler.stream = stream


def headers(product, user=ADA):
    secret, csrf = product.signed_in(user)
    return {"Cookie": f"__Host-rolekeep-session={secret}", "X-CSRF-Token": csrf, "Content-Type": "application/json"}


def quiet(product, lines, *more):
    """Asserts that nothing of what must never be logged was."""
    from chalicelib import settings
    config = settings.get()
    secrets = [KEY, SECRET, config.discord_bot_token, config.discord_client_secret, CANARY, "Canary", "@canary", ADA, BEN, "checkout.stripe", "/p/session", *more]
    assert [one for one in secrets if one in lines.text()] == [], lines.text()


def test_I11_D8_a_whole_life_says_what_happened_by_hashes_and_words_only(product, call, lines):
    # Rows: C5
    with_ada = headers(product)
    url = json.loads(call("POST", "/api/v1/checkout-sessions", with_ada, json.dumps({"server_id": SERVER, "offer_id": "gold"}).encode()).text)["url"]
    key = product.pays(url)
    product.tell(key)
    product.work()
    portal = call("POST", f"/api/v1/subscriptions/{key}/portal-session", with_ada, b"{}").json()["url"]
    assert call("POST", f"/api/v1/subscriptions/{key}/cancel", with_ada, json.dumps({"reason": "other", "comment": CANARY}).encode()).status == 200
    product.work()
    product.ends(key)
    product.tell(key)
    product.work()
    assert product.shown() == set() and {line["message"] for line in lines()} >= {"reconciled"}
    quiet(product, lines, portal, portal.rsplit("/", 1)[1], url.rsplit("/", 1)[1], with_ada["Cookie"].split("=")[1], with_ada["X-CSRF-Token"])


ROUTES = [("GET", "/api/v1/profile", b""), ("GET", "/api/v1/servers", b""), ("POST", "/api/v1/checkout-sessions", b'{"server_id":"%s","offer_id":"gold"}' % SERVER.encode()),
          ("POST", "/api/v1/subscriptions/{key}/portal-session", b"{}"), ("POST", "/api/v1/subscriptions/{key}/cancel", b"{}"), ("POST", "/api/v1/subscriptions/{key}/undo", b"{}"),
          ("POST", f"/api/v1/servers/{SERVER}/restore", b"{}"), ("GET", "/api/v1/subscriptions/{key}/timeline", b""), ("GET", f"/api/v1/servers/{SERVER}/timeline", b""),
          ("POST", "/auth/logout", b"{}"), ("GET", "/auth/discord/login", b""), ("GET", f"/auth/discord/callback?code={CANARY}&state={CANARY}", b"")]


@pytest.mark.parametrize("where", ["chalicelib.store.sessions.digest", "chalicelib.ports.wall", "chalicelib.signin.csrf_token", "chalicelib.store.members.of_user", "chalicelib.store.servers.read"])
def test_D8_D11_an_exception_anywhere_tells_the_caller_nothing_and_the_log_its_type_and_place(product, call, lines, monkeypatch, where):
    key, sent = product.holder(), headers(product)

    def breaks(*args, **kwargs):
        raise RuntimeError(f"{CANARY} {args} {kwargs}")

    module, _, name = where.rpartition(".")
    monkeypatch.setattr(__import__(module, fromlist=[name]), name, breaks)
    failed = 0
    for method, path, body in ROUTES:
        answer = call(method, path.format(key=key), {**sent, "Cookie": sent["Cookie"] + f"; __Host-rolekeep-signin={CANARY}"}, body or None)
        if answer.status == 500:
            failed += 1
            assert CANARY not in answer.text and "RuntimeError" not in answer.text and answer.headers["Content-Type"] == "application/problem+json"
    assert failed >= 2
    assert [line for line in lines() if line["message"] == "view_failed" and line["error"].startswith("RuntimeError at ") and ".py:" in line["error"]]
    quiet(product, lines)


def test_D8_processors_that_quote_secrets_in_their_errors_are_not_quoted_by_us(product, call, lines):
    key, sent = product.holder(), headers(product)
    for status in (400, 401, 402, 403, 404, 409, 429, 500):
        product.order("stripe", path="/v1/", do="answer", status=status, body={"error": {"type": "api_error", "code": CANARY, "message": f"Invalid API Key provided: {KEY} of {CANARY}", "param": CANARY}}, times=2)
        product.order("discord", path="/roles/", do="answer", status=status, headers={"X-Canary": CANARY}, body={"message": CANARY, "code": 50_000 + status})
        for method, path, body in ROUTES[2:6]:
            assert CANARY not in call(method, path.format(key=key), sent, body).text
        product.tell(key)
        product.work()
        product.stripe.faults.clear()
        product.discord.front.faults.clear()
    for wire in product.wires.values():
        wire.down = ConnectionError(f"http://{CANARY}:{KEY}@{STRIPE} {DISCORD}")
    call("POST", f"/api/v1/subscriptions/{key}/cancel", sent, b"{}")
    product.tell(key)
    product.work()
    quiet(product, lines)


def test_D7_what_comes_from_outside_is_one_field_of_one_line_cut_short(product, lines):
    event = product.events(product.buys())[-1]
    product.take_in({**event, "type": '\n{"level":"ERROR","message":"forged"}\x1b[31m' + "x" * 100_000})
    product.take_in({**event, "type": "\ud800\uffff"})
    found = lines()
    assert len(found) == len(lines.text().splitlines()) and "forged" not in {line["message"] for line in found}
    assert all(len(value) <= 200 for line in found for value in line.values() if isinstance(value, str)) and "\x1b" not in lines.text()


def test_the_schema_is_closed_a_field_outside_it_is_an_error_of_ours(product, lines):
    from chalicelib import log
    for name in ("email", "token", "url", "name", "user_id", "body", "ip"):
        with pytest.raises(ValueError, match=name):
            log.info("x", **{name: CANARY})
    log.info("a_message", user=ADA, server=SERVER, why="y" * 1_000, count=3)
    line, = lines()
    assert set(line) == {"level", "message", "timestamp", "service", "server", "why", "count", "subject"} and len(line["why"]) == 200 and line["count"] == 3
    quiet(product, lines)


def test_I9_each_role_change_has_a_row_with_cause_evidence_and_answer_before_it_is_made(product, monkeypatch):
    from chalicelib.gateways import discord
    from chalicelib.store import ledger
    subject, seen = ledger.member_subject(ADA, SERVER), []
    grant = discord.grant
    monkeypatch.setattr(discord, "grant", lambda **given: (seen.append([(row.data["grants"], row.outcome) for row in ledger.of(subject)]), grant(**given))[1])
    key = product.holder()
    assert seen == [[([GOLD], None)]], "it stood there, open, before the call"
    row, = ledger.of(subject)
    assert row.outcome == {GOLD: "grant done"} and row.data["cause"].startswith("evt_") and key in str(row.data["evidence"]) and "active" in str(row.data["evidence"])
