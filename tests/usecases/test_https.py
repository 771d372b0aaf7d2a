"""Over https, as deployed: cookies that no other host can set or read, addresses that no header can bend, and both secrets while rotating."""
import json
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.usecases.product import ADA, PORTAL


def signs_in(product, call, **headers):
    """(the answer of the login, the answer of the callback) of Ada's sign-in."""
    begun = call("GET", "/auth/discord/login", headers)
    query = dict(parse_qsl(urlsplit(begun.headers["Location"]).query))
    _, back, _ = product.discord.handle("POST", "/oauth2/authorize", {"Content-Type": "application/x-www-form-urlencoded"},
                                        urlencode({**query, "decision": "authorize", "user_id": ADA}).encode())
    cookie = begun.cookies[0].split(";")[0]
    return begun, call("GET", f"/auth/discord/callback?{urlsplit(back['Location']).query}", {"Cookie": cookie, **headers})


def test_B8_cookies_are_host_bound_secure_and_kept_from_scripts(product, call):
    begun, done = signs_in(product, call)
    for cookie in [*begun.cookies, *done.cookies]:
        assert cookie.startswith("__Host-rolekeep-") and {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; ")) and "Domain" not in cookie
    name, _, secret = done.cookies[0].split(";")[0].partition("=")
    assert call("GET", "/api/v1/profile", {"Cookie": f"{name}={secret}"}).json()["member"]["id"] == ADA
    for other in (f"rolekeep-session={secret}", f"__Secure-rolekeep-session={secret}", f"{name}={secret}; {name}=x"):
        assert call("GET", "/api/v1/profile", {"Cookie": other}).status == 401


def test_D9_no_header_of_the_request_bends_an_address(product, call):
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Forwarded": "host=evil.example", "Origin": PORTAL}
    begun, done = signs_in(product, call, **evil)
    assert dict(parse_qsl(urlsplit(begun.headers["Location"]).query))["redirect_uri"] == f"{PORTAL}/auth/discord/callback"
    assert done.headers["Location"] == f"{PORTAL}/profile" and call("GET", "/", evil).headers["Location"].startswith(PORTAL)
    key, (secret, csrf) = product.holder(), product.signed_in()
    answer = call("POST", f"/api/v1/subscriptions/{key}/portal-session", {**evil, "Cookie": f"__Host-rolekeep-session={secret}", "X-CSRF-Token": csrf, "Content-Type": "application/json"}, b"{}")
    assert answer.status == 201
    sent = [request.body for base, request in product.sent if request.path_url == "/v1/billing_portal/sessions"]
    assert "evil" not in str(sent) and urlencode({"return_url": f"{PORTAL}/profile"}) in str(sent)


@pytest.mark.parametrize("number", [0, 1])
def test_fault_50_T46_while_rotating_deliveries_of_both_secrets_are_queued(product, call, monkeypatch, number):
    from chalicelib import settings
    from infra.local.sandbox.stripe_webhooks import signature
    secrets = ["whsec_theNewOne000000000", "whsec_theOldOne000000000"]
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", ",".join(secrets))
    settings.get.cache_clear()
    body = json.dumps(product.events(product.buys())[-1]).encode()
    sent = {"Content-Type": "application/json"}
    assert call("POST", "/webhooks/stripe/operator", {**sent, "Stripe-Signature": signature(body, (secrets[number],), product.time.at)}, body).json()["queued"] is True
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", secrets[0])
    settings.get.cache_clear()
    again = call("POST", "/webhooks/stripe/operator", {**sent, "Stripe-Signature": signature(body, (secrets[number],), product.time.at)}, body)
    assert again.status == (200 if number == 0 else 400), "after the rotation the old one is refused"
    settings.get.cache_clear()
