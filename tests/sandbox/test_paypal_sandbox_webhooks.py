"""Webhooks of the PayPal sandbox: certificates, signatures, retries, what is lost, and PayPal's own list of what it sent."""
import base64
import json
import zlib

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.http import BadControl, NoAnswer
from infra.local.sandbox.paypal import MERCHANT, PayPalSandbox
from infra.local.sandbox.paypal_webhooks import BACK_OFF, Endpoint
from infra.local.sandbox.paypal_world import Merchant

JAN_31 = 1769860800
OTHER = Merchant("ANTHERMERCH22", "B" * 80, "C" * 80)
HOOK, WEBHOOK = "http://product.test/webhooks/paypal/RKEEPSANDBX22", "5RK00000000000001"


class PayPal:
    """A sandbox with two merchants, whose deliveries are kept in `got` as (headers, body) and answered from `answers`."""

    def __init__(self, endpoints=(Endpoint(HOOK, MERCHANT.id, WEBHOOK),), **settings):
        self.wall, self.got, self.answers = JAN_31, [], []
        self.clock = SandboxClock(wall=lambda: self.wall)
        self.sandbox = PayPalSandbox(clock=self.clock, endpoints=endpoints, accounts=(MERCHANT, OTHER), post=self._post, public_url="http://paypal.test", **settings)
        self.deliveries = self.sandbox.deliveries

    def _post(self, url, headers, body):
        self.got.append((headers, body))
        return self.answers.pop(0) if self.answers else 200

    def emits(self, kind="BILLING.SUBSCRIPTION.ACTIVATED", thing="I-BW452GLLEP1G", merchant=MERCHANT.id):
        """The new event."""
        return self.sandbox.accounts[merchant].world.emit(kind, {"id": thing, "note": "1.0 ä/"}, "subscription", "2.0", "It is so")

    def faults(self, **order):
        self.sandbox.faults.order(order)

    def get(self, path, merchant=MERCHANT.id, **query):
        return self.sandbox.call("GET", f"/v1/notifications/{path}", query, account=merchant)

    def pem(self, address):
        """(status, body) of a GET without a token."""
        status, headers, body = self.sandbox.handle("GET", address.removeprefix("http://paypal.test"))
        return status, body


@pytest.fixture
def paypal():
    return PayPal()


def message(headers, body, webhook=WEBHOOK):
    return f"{headers['PAYPAL-TRANSMISSION-ID']}|{headers['PAYPAL-TRANSMISSION-TIME']}|{webhook}|{zlib.crc32(body)}".encode()


def test_a_delivery_is_signed_as_PayPal_signs_with_a_certificate_that_leads_to_the_root(paypal):
    event = paypal.emits()
    assert paypal.deliveries.pump() == 1
    (headers, body), = paypal.got
    assert json.loads(body) == event and "ä".encode() in body and b'": ' not in body, "compact, not escaped, and without what only the API shows"
    assert {name for name in headers if name.startswith("PAYPAL-")} == {f"PAYPAL-{name}" for name in (
        "AUTH-ALGO", "AUTH-VERSION", "CERT-URL", "TRANSMISSION-ID", "TRANSMISSION-SIG", "TRANSMISSION-TIME")}
    assert (headers["PAYPAL-AUTH-ALGO"], headers["PAYPAL-AUTH-VERSION"], headers["PAYPAL-TRANSMISSION-TIME"]) == ("SHA256withRSA", "v2", "2026-01-31T12:00:00Z")
    status, pem = paypal.pem(headers["PAYPAL-CERT-URL"])
    leaf, issuer = x509.load_pem_x509_certificates(pem)
    root = x509.load_pem_x509_certificate(paypal.sandbox.webhooks.certificates.root.encode())
    signature = base64.b64decode(headers["PAYPAL-TRANSMISSION-SIG"])
    leaf.public_key().verify(signature, message(headers, body), PKCS1v15(), SHA256())
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    with pytest.raises(InvalidSignature):
        leaf.public_key().verify(signature, message(headers, body, "5RK00000000000002"), PKCS1v15(), SHA256())


def test_an_attempt_that_fails_comes_again_25_times_each_with_a_transmission_of_its_own(paypal):
    paypal.emits()
    paypal.answers = [500, 0, 302, 400] + [503] * 30
    while paypal.deliveries.waiting:
        paypal.deliveries.pump()
        paypal.wall = max(paypal.wall, paypal.deliveries.next_due() or 0)
    assert len(BACK_OFF) == 25 and len(paypal.got) == 26
    assert len({headers["PAYPAL-TRANSMISSION-ID"] for headers, _ in paypal.got}) == 26 and len({body for _, body in paypal.got}) == 1
    assert [one["status"] for one in paypal.get("webhooks-events")[1]["events"][0]["transmissions"]] == ["FAILURE"]


def test_the_transmission_time_is_the_wall_clocks_and_the_events_the_sandbox_clocks(paypal):
    paypal.clock.advance(40 * 86_400)
    paypal.emits()
    paypal.deliveries.pump()
    (headers, body), = paypal.got
    assert headers["PAYPAL-TRANSMISSION-TIME"] == "2026-01-31T12:00:00Z" and json.loads(body)["create_time"] == "2026-03-12T12:00:00.000Z"


def test_what_is_dropped_is_in_the_list_and_can_be_sent_again_and_what_is_lost_is_nowhere(paypal):
    paypal.faults(webhook="CANCELLED", do="drop")
    paypal.faults(webhook="SUSPENDED", do="lose")
    dropped, lost = paypal.emits("BILLING.SUBSCRIPTION.CANCELLED"), paypal.emits("BILLING.SUBSCRIPTION.SUSPENDED")
    assert paypal.deliveries.pump() == 0
    status, shown = paypal.get("webhooks-events")
    assert (status, [one["id"] for one in shown["events"]], shown["count"]) == (200, [dropped["id"]], 1)
    assert paypal.get(f"webhooks-events/{lost['id']}")[0] == 404
    assert paypal.sandbox.call("POST", f"/v1/notifications/webhooks-events/{dropped['id']}/resend", {})[0] == 202
    assert paypal.deliveries.pump() == 1 and json.loads(paypal.got[0][1])["id"] == dropped["id"]


def test_a_pending_event_is_not_sent_again(paypal):
    paypal.faults(webhook=".", do="hold")
    held = paypal.emits()
    status, shown = paypal.sandbox.call("POST", f"/v1/notifications/webhooks-events/{held['id']}/resend", {})
    assert (status, shown["transmissions"][0]["status"]) == (202, "PENDING") and len(paypal.deliveries.waiting) == 1
    assert paypal.deliveries.pump() == 0 and paypal.deliveries.release() == 1 and paypal.deliveries.pump() == 1


def test_deliveries_are_doubled_delayed_held_and_shuffled_on_order(paypal):
    paypal.faults(webhook="A", do="duplicate")
    paypal.emits("A")
    paypal.faults(webhook="B", do="delay", seconds=30)
    paypal.emits("B")
    assert paypal.deliveries.pump() == 2
    paypal.wall += 30
    assert paypal.deliveries.pump() == 1
    paypal.faults(webhook="C", do="hold", times=3)
    made = [paypal.emits("C")["id"] for _ in range(3)]
    assert paypal.deliveries.pump() == 0 and paypal.deliveries.release("reverse") == 3 and paypal.deliveries.pump() == 3
    assert [json.loads(body)["id"] for _, body in paypal.got[-3:]] == made[::-1]


def test_the_list_of_events_goes_by_time_type_and_thing_in_pages_that_only_the_link_leads_to(paypal):
    made = []
    for hour in range(25):
        paypal.wall = JAN_31 + hour * 3_600
        made.append(paypal.emits("PAYMENT.SALE.COMPLETED" if hour % 5 == 0 else "BILLING.SUBSCRIPTION.UPDATED", thing=f"I-{hour % 2}")["id"])
    status, page = paypal.get("webhooks-events")
    found = [one["id"] for one in page["events"]]
    assert (status, len(found), {link["rel"] for link in page["links"]}) == (200, 10, {"self", "next"}), "ten, when nobody says how many"
    while following := [link["href"] for link in page["links"] if link["rel"] == "next"]:
        page = paypal.sandbox.call("GET", following[0].removeprefix("http://paypal.test"))[1]
        found += [one["id"] for one in page["events"]]
    assert found == made[::-1], "all of them, the newest first"
    some = paypal.get("webhooks-events", start_time="2026-01-31T13:00:00Z", end_time="2026-01-31T15:00:00Z", page_size=300)[1]
    assert [one["id"] for one in some["events"]] == [made[3], made[2], made[1]]
    assert paypal.get("webhooks-events", event_type="PAYMENT.SALE.COMPLETED")[1]["count"] == 5
    assert paypal.get("webhooks-events", transaction_id="I-1", page_size=300)[1]["count"] == 12
    for query in ({"page_size": 0}, {"page_size": 301}, {"page_size": "x"}, {"start_time": "yesterday"}):
        assert paypal.get("webhooks-events", **query)[0] == 400


def test_no_merchant_sees_anothers_webhooks_or_events():
    paypal = PayPal(endpoints=(Endpoint(HOOK, MERCHANT.id, WEBHOOK), Endpoint("http://product.test/webhooks/paypal/ANTHERMERCH22", OTHER.id, "5RK00000000000002")))
    ours, theirs = paypal.emits(), paypal.emits(merchant=OTHER.id)
    assert [one["id"] for one in paypal.get("webhooks-events")[1]["events"]] == [ours["id"]]
    assert paypal.get(f"webhooks-events/{theirs['id']}")[0] == 404 and paypal.get("webhooks/5RK00000000000002")[0] == 404
    assert [one["id"] for one in paypal.get("webhooks")[1]["webhooks"]] == [WEBHOOK]
    status, shown = paypal.get(f"webhooks/{WEBHOOK}")
    assert (status, shown["url"], shown["event_types"]) == (200, HOOK, [{"name": "*", "description": "ALL"}])
    paypal.deliveries.pump()
    assert [json.loads(body)["id"] for _, body in paypal.got] == [ours["id"], theirs["id"]]
    assert paypal.sandbox.handle("GET", "/v1/notifications/webhooks")[0] == 401


def test_PayPal_verifies_the_exact_text_only_and_only_the_merchants_own_webhook(paypal):
    paypal.emits()
    paypal.deliveries.pump()
    (headers, body), = paypal.got
    fields = {name: headers[f"PAYPAL-{source}"] for name, source in (("auth_algo", "AUTH-ALGO"), ("cert_url", "CERT-URL"), ("transmission_id", "TRANSMISSION-ID"),
                                                                  ("transmission_sig", "TRANSMISSION-SIG"), ("transmission_time", "TRANSMISSION-TIME"))} | {"webhook_id": WEBHOOK}

    def asks(text, merchant=MERCHANT.id, **other):
        token = paypal.sandbox.tokens.for_merchant(merchant)
        asked = json.dumps(fields | other)[:-1].encode() + b', "webhook_event": ' + text + b"}"
        status, _, answer = paypal.sandbox.handle("POST", "/v1/notifications/verify-webhook-signature", {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json"}, asked)
        return status, json.loads(answer).get("verification_status")

    assert asks(body) == (200, "SUCCESS")
    assert asks(json.dumps(json.loads(body)).encode()) == (200, "FAILURE"), "read and written again is another text"
    assert asks(body, merchant=OTHER.id) == asks(body, auth_algo="SHA1withRSA") == asks(body, webhook_id="X") == (200, "FAILURE")
    assert asks(body, cert_url="https://evil.example/x.pem") == asks(body, transmission_id="b") == (200, "FAILURE")
    assert asks(b"7")[0] == asks(b"")[0] == 400


def test_a_certificate_of_each_kind_can_be_ordered_and_a_good_one_again(paypal):
    certificates, seen = paypal.sandbox.webhooks.certificates, {}
    for kind, status in (("html", 200), ("missing", 404), ("error", 503), ("redirect", 302), ("oversized", 200), ("leaf_only", 200), ("self_signed", 200), ("good", 200)):
        seen[kind] = paypal.pem(certificates.order(kind))
        assert seen[kind][0] == status, kind
    assert len(seen["oversized"][1]) > 64 * 1024 and seen["leaf_only"][1].count(b"BEGIN") == seen["self_signed"][1].count(b"BEGIN") == 1
    assert certificates.order("good") == certificates.order("good") != certificates.order("new") == certificates.order("good")
    with pytest.raises(NoAnswer):
        paypal.pem(certificates.order("slow"))
    with pytest.raises(BadControl):
        certificates.order("nonsense")
    assert paypal.pem("/v1/notifications/certs/CERT-1")[0] == 404


def test_certificates_and_what_is_to_be_delivered_survive_a_restart(tmp_path):
    before = PayPal(state_file=tmp_path / "paypal.json")
    event, root = before.emits(), before.sandbox.webhooks.certificates.root
    address = before.sandbox.webhooks.certificates.order("new")
    before.sandbox.save()
    after = PayPal(state_file=tmp_path / "paypal.json")
    assert after.sandbox.webhooks.certificates.root == root and after.deliveries.pump() == 1
    assert after.got[0][0]["PAYPAL-CERT-URL"] == address and json.loads(after.got[0][1]) == event


def test_before_a_certificate_ends_there_is_another_at_another_address(paypal):
    certificates = paypal.sandbox.webhooks.certificates
    first, _ = certificates.sign(b"x")
    paypal.wall += 364.5 * 86_400
    second, _ = certificates.sign(b"x")
    leaf = x509.load_pem_x509_certificates(paypal.pem(second)[1])[0]
    assert first != second and leaf.not_valid_after_utc.timestamp() > paypal.wall + 300 * 86_400
