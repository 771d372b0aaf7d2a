"""PayPal's webhooks from outside: the sandbox signs and delivers them over HTTP, and the product asks its PayPal host for the certificate."""
import base64
import http.client
import json

import pytest
import requests

from infra.local.run import PAYPAL
from infra.local.walker import wait_for
from tests.api.test_intake import exactly
from tests.api.town import is_problem

HERE, WEBHOOK = f"/webhooks/paypal/{PAYPAL.id}", PAYPAL.webhook_ids[0]
CERTIFICATES = "/v1/notifications/certs/"


class Sender:
    """PayPal's signature over any bytes, and who posts them."""

    def __init__(self, instance, sandbox, operator):
        self.instance, self.sandbox, self.operator, self.made = instance, sandbox, operator, 0

    def event(self, name, kind="BILLING.SUBSCRIPTION.UPDATED", **fields):
        """An event about the subscription `name`, as raw bytes."""
        self.made += 1
        return json.dumps({"id": f"WH-TEST-{self.made}", "event_version": "1.0", "event_type": kind, "resource_type": "subscription",
                           "resource": {"id": name, "note": "ä 1.0 /"}, **fields}, ensure_ascii=False, separators=(",", ":")).encode()

    def headers(self, body, webhook=WEBHOOK):
        """The headers with which PayPal would send these bytes now."""
        return self.sandbox.paypal("POST", "/sign", {"body": base64.b64encode(body).decode(), "webhook_id": webhook})["headers"]

    def post(self, body, headers):
        """What the product answers to them."""
        with requests.Session() as session:
            session.trust_env = False
            return session.post(self.instance.url + HERE, data=body, headers=headers, timeout=15, allow_redirects=False)

    def asked(self, prefix):
        """The ends of the paths with that beginning that the product has asked PayPal for."""
        return [one["path"].removeprefix(prefix) for one in self.sandbox.paypal("GET", "/requests")["requests"] if one["path"].startswith(prefix)]

    def known(self, name):
        """Whether the worker has got a message about it: nobody has connected this account here, so it is parked."""
        return name in str(self.operator.parked(PAYPAL.id))


@pytest.fixture
def paypal(instance, sandbox, operator):
    """Yield PayPal as a sender; afterwards it signs with its good certificate again. (Six new addresses a minute are asked for: few are made.)"""
    sandbox.paypal("DELETE", "/requests")
    yield Sender(instance, sandbox, operator)
    sandbox.paypal("DELETE", "/faults")
    sandbox.paypal("POST", "/certificates", {"kind": "good"})


def test_an_event_that_PayPal_delivers_is_verified_with_its_certificate_and_reaches_the_worker(paypal, sandbox):
    sandbox.paypal("POST", "/certificates", {"kind": "new"})
    sandbox.paypal("POST", "/emit", {"event_type": "BILLING.SUBSCRIPTION.UPDATED", "resource": {"id": "I-DELIVERED1"}})
    wait_for(lambda: paypal.known("I-DELIVERED1"), 10, "the worker has it")
    assert len(paypal.asked(CERTIFICATES)) == 1
    event = sandbox.paypal("GET", "/events")["events"][-1]
    assert [one["status"] for one in event["attempts"]] == [200] and event["waiting"] == []


@pytest.mark.parametrize("kind", ["html", "slow", "other_root"])
def test_faults_27_28_an_event_that_cannot_be_verified_is_taken_as_a_hint_and_somebody_is_told(paypal, sandbox, instance, kind):
    sandbox.paypal("POST", "/certificates", {"kind": kind})
    before = instance.log().count("intake_unverified")
    sandbox.paypal("POST", "/emit", {"event_type": "BILLING.SUBSCRIPTION.UPDATED", "resource": {"id": "I-HINT"}})
    wait_for(lambda: sandbox.paypal("GET", "/events")["events"][-1]["attempts"], 10, "it is delivered")
    assert sandbox.paypal("GET", "/events")["events"][-1]["attempts"][0]["status"] == 200
    assert instance.log().count("intake_unverified") == before + 1


def test_A5_A6_A7_what_is_refused_is_400_and_nothing_is_asked_of_PayPal(paypal):
    body = paypal.event("I-FORGED")
    right = paypal.headers(body)
    wrong = {
        "address": right | {"PAYPAL-CERT-URL": "http://169.254.169.254/latest/meta-data/"}, "host": right | {"PAYPAL-CERT-URL": "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1"},
        "path": right | {"PAYPAL-CERT-URL": right["PAYPAL-CERT-URL"].replace("CERT-", "..%2fCERT-")}, "algorithm": right | {"PAYPAL-AUTH-ALGO": "SHA1withRSA"},
        "no signature": {name: value for name, value in right.items() if name != "PAYPAL-TRANSMISSION-SIG"}, "age": right | {"PAYPAL-TRANSMISSION-TIME": "2026-01-01T00:00:00Z"}}
    answers = {name: paypal.post(body, headers) for name, headers in wrong.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(wrong, 400)
    assert len({answer.text for answer in answers.values()}) == 1 and is_problem(answers["age"], 400)["type"].endswith("bad-signature")
    assert paypal.asked(CERTIFICATES) == []
    is_problem(paypal.post(body, paypal.headers(body, "5RK00000000000002")), 400)


def test_T45_the_signature_is_over_the_raw_bytes_as_they_come_over_HTTP(paypal):
    body = paypal.event("I-FORGED")
    headers = paypal.headers(body)
    for other in (json.dumps(json.loads(body)).encode(), b"\xef\xbb\xbf" + body, body + b"\r\n", body.replace("ä".encode(), b"\\u00e4"), b"", body[:-1], base64.b64encode(body)):
        is_problem(paypal.post(other, headers), 400)
    for kind in ("application/json", "application/octet-stream", "text/plain; charset=utf-8"):
        other = paypal.event(f"I-BYTES{len(kind)}")
        assert paypal.post(other, paypal.headers(other) | {"Content-Type": kind}).json() == {"received": True, "queued": True}, kind
        wait_for(lambda name=f"I-BYTES{len(kind)}": paypal.known(name), 10, "the worker has it")
    assert not paypal.known("I-FORGED")


def test_A11_A12_too_large_is_413_chunked_411_and_a_packed_body_is_never_unpacked(paypal, instance):
    import gzip
    body = paypal.event("I-FORGED")
    is_problem(paypal.post(body + b" " * 256 * 1024, paypal.headers(body)), 413)
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
    connection.request("POST", HERE, body=iter([body]), encode_chunked=True, headers=paypal.headers(body) | {"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 411
    connection.close()
    packed = gzip.compress(body)
    is_problem(paypal.post(packed, paypal.headers(packed) | {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}), 400)
    for odd in (b"[" * 100_000, b'{"event_type":NaN}', b'{"event_type":"A","event_type":"B"}', b"7"):
        is_problem(paypal.post(odd, paypal.headers(odd)), 400)


def test_A13_any_other_method_or_spelling_of_the_address_is_the_404_of_an_unknown_path(paypal, instance):
    body = paypal.event("I-FORGED")
    headers = paypal.headers(body)
    unknown = exactly(instance, "GET", "/nowhere", b"", {})
    tried = [(method, HERE) for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")]
    tried += [("POST", path) for path in (
        f"{HERE}/", f"/{HERE}", HERE.replace("/paypal/", "//paypal/"), HERE.lower(), HERE.replace("paypal", "PayPal"), "/webhooks/paypal", "/webhooks/paypal/", "/webhooks/paypal/operator",
        "/webhooks/paypal/ANTHERMERCH22", f"{HERE}x", f"{HERE}/x", f"{HERE}%2f", f"/x/..{HERE}", f"{HERE};x", f"{HERE}%00", "/webhooks/stripe/RKEEPSANDBX22")]
    assert unknown[:2] == (404, "application/problem+json")
    assert {(method, path): exactly(instance, method, path, body, headers) for method, path in tried} == dict.fromkeys(tried, unknown)
    assert paypal.asked(CERTIFICATES) == []
