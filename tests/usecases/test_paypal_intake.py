"""PayPal's webhooks through API Gateway's shape into the queue: what becomes a message, what a hint, and what leaves no trace."""
import base64
import gzip
import io
import json

import pytest

from chalicelib import intake, log, settings
from chalicelib.gateways import paypal_certificates
from infra.local.sandbox.paypal import MERCHANT
from tests.usecases.paypal_signer import OTHER, OTHER_WEBHOOK, SUBSCRIPTION, Signer
from tests.usecases.test_paypal_signatures import collision

HERE = f"/webhooks/paypal/{MERCHANT.id}"
SALE, REFUND, DISPUTE = "8RS6210148826604N", "6YX43824R4443062K", "PP-D-4012"


@pytest.fixture
def signer(product, monkeypatch):
    """PayPal as a sender; the product knows two of its merchants and remembers no certificate and no hint."""
    from chalicelib.gateways import wire
    made = Signer(product.time)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()
    made.mount(wire.session())
    _forget()
    yield made
    settings.get.cache_clear()
    _forget()


def _forget():
    paypal_certificates.forget()
    paypal_certificates._roots.cache_clear()
    intake._hints.clear()


@pytest.fixture
def lines(monkeypatch):
    """Every line that is logged from now on, as a stream."""
    stream = io.StringIO()
    for handler in log._logger().handlers:
        if hasattr(handler, "stream"):
            monkeypatch.setattr(handler, "stream", stream)
    return stream


@pytest.fixture
def sends(call, signer):
    """Posts a signed event of these `fields` (or the raw `body`) and answers what came back; headers named are added or, None, left out."""
    def posted(event=None, *, at=HERE, body=None, webhook=None, **headers):
        given, raw = signer.delivery(event, body=body, **({"webhook": webhook} if webhook else {}))
        changed = given | {name.replace("_", "-"): value for name, value in headers.items()}
        return call("POST", at, {name: value for name, value in changed.items() if value is not None}, raw)
    return posted


def sent(product):
    """The messages that are in the queue now."""
    return [json.loads(one["body"]) for one in product.messages("paypal-events")]


def told(kind, resource):
    return {"id": "WH-1AB23456CD789012E-3FG45678HJ901234K", "event_version": "1.0", "event_type": kind, "resource": resource}


def test_a_genuine_event_is_one_thin_message_and_the_database_is_not_asked(product, signer, sends):
    sends()     # the queue's address is asked for once
    sent(product)
    paypal_certificates.forget()
    with product.counted() as seen:
        answer = sends(signer.event())
    assert (answer.status, answer.json()) == (200, {"received": True, "queued": True})
    assert seen.dynamodb() == {} and seen.sqs() == {"SendMessage": 1} and signer.sandbox.front.log[-1]["path"].startswith("/v1/notifications/certs/")
    assert sent(product) == [{"v": 2, "event": "WH-1AB23456CD789012E-3FG45678HJ901234K", "type": "BILLING.SUBSCRIPTION.ACTIVATED", "account": MERCHANT.id,
                              "kind": "subscription", "id": SUBSCRIPTION}]


CONCERNS = [
    *((f"BILLING.SUBSCRIPTION.{what}", {"id": SUBSCRIPTION}, ("subscription", SUBSCRIPTION)) for what in (
        "ACTIVATED", "UPDATED", "EXPIRED", "CANCELLED", "SUSPENDED", "RE-ACTIVATED", "PAYMENT.FAILED")),
    ("BILLING.SUBSCRIPTION.CANCELLED", {"id": SUBSCRIPTION, "state": "Cancelled", "plan": {}}, ("subscription", SUBSCRIPTION)),
    ("PAYMENT.SALE.COMPLETED", {"id": SALE, "billing_agreement_id": SUBSCRIPTION, "amount": {"total": "5.00", "currency": "EUR"}}, ("sale", SALE)),
    ("PAYMENT.SALE.PENDING", {"id": SALE}, ("sale", SALE)), ("PAYMENT.SALE.DENIED", {"id": SALE}, ("sale", SALE)),
    ("PAYMENT.SALE.REFUNDED", {"id": REFUND, "sale_id": SALE}, ("sale", SALE)), ("PAYMENT.SALE.REFUNDED", {"id": REFUND}, ("refund", REFUND)),
    ("PAYMENT.SALE.REVERSED", {"id": REFUND, "sale_id": SALE}, ("sale", SALE)), ("PAYMENT.SALE.REVERSED", {"id": REFUND}, ("refund", REFUND)),
    *((kind, {"dispute_id": DISPUTE, "disputed_transactions": [], "messages": []}, ("dispute", DISPUTE)) for kind in (
        "CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED", "CUSTOMER.DISPUTE.RESOLVED", "RISK.DISPUTE.CREATED")),
    ("CUSTOMER.DISPUTE.CREATED", {"id": DISPUTE}, ("dispute", DISPUTE)),
]


@pytest.mark.parametrize("kind, resource, expected", CONCERNS)
def test_every_event_that_concerns_us_becomes_its_kind_and_id(product, sends, kind, resource, expected):
    for more in ({"resource_type": "Agreement"}, {"resource_version": "2.0", "resource_type": "subscription"}):
        assert sends(told(kind, resource) | more).json() == {"received": True, "queued": True}
    assert [(one["kind"], one["id"], one["type"], "hint" in one) for one in sent(product)] == [(*expected, kind, False)] * 2


@pytest.mark.parametrize("kind, resource", [
    ("BILLING.SUBSCRIPTION.CREATED", {"id": SUBSCRIPTION}), ("PAYMENT.SALE.COMPLETED", {"id": SALE}), ("PAYMENT.SALE.COMPLETED", {"id": SALE, "billing_agreement_id": None}),
    ("PAYMENT.CAPTURE.COMPLETED", {"id": SALE}), ("CHECKOUT.ORDER.APPROVED", {"id": SALE}), ("BILLING.PLAN.CREATED", {"id": "P-1"}), ("BILLING.SUBSCRIPTION.NOT-YET-INVENTED", {"id": SUBSCRIPTION}),
    ("", {}), ("x" * 5_000, {"id": SUBSCRIPTION}), ("a\nb", None), ("billing.subscription.activated", {"id": SUBSCRIPTION}), ("CUSTOMER.DISPUTE.CREATED", {})])
def test_fault_10_T36_other_events_are_2xx_and_not_queued(product, sends, kind, resource):
    answer = sends(told(kind, resource))
    assert (answer.status, answer.json()) == (200, {"received": True, "queued": False}) and sent(product) == []


def test_A3_A7_A9_the_account_and_the_webhook_come_from_our_settings_by_the_address_alone(product, signer, sends):
    for at, webhook in ((HERE, OTHER_WEBHOOK), (f"/webhooks/paypal/{OTHER.id}", None)):
        answer = sends(signer.event(resource={"id": SUBSCRIPTION, "payee": OTHER.id}), at=at, webhook=webhook, X_Account=MERCHANT.id, X_Webhook_Id="5RK00000000000001", X_Debug="1")
        assert answer.status == 400
    assert sends(signer.event(), at=f"/webhooks/paypal/{OTHER.id}", webhook=OTHER_WEBHOOK).status == 200
    assert [one["account"] for one in sent(product)] == [OTHER.id]


def test_an_account_that_is_not_ours_is_the_404_of_an_unknown_one_before_anything_is_asked(signer, sends, call, monkeypatch):
    others = ("ANTHERMERCH23", "operator", "rkeepsandbx22", f"{MERCHANT.id}x", "acct_1", "..", "%00")
    answers = {at: sends(signer.event(), at=f"/webhooks/paypal/{at}") for at in others}
    assert {at: answer.status for at, answer in answers.items()} == dict.fromkeys(others, 404) and len({answer.text for answer in answers.values()}) == 1
    for name in ("PAYPAL_ACCOUNTS", "PAYPAL_ENVIRONMENT"):
        monkeypatch.setenv(name, "")
    settings.get.cache_clear()
    assert sends(signer.event()).status == 404 and signer.asked == []


def test_A1_A6_what_is_refused_is_one_answer_that_tells_nothing(product, signer, sends):
    answers = [sends(PAYPAL_AUTH_ALGO="none"), sends(PAYPAL_TRANSMISSION_SIG=None), sends(PAYPAL_CERT_URL="https://evil.example/x.pem"), sends(webhook=OTHER_WEBHOOK),
               sends(PAYPAL_TRANSMISSION_TIME="2020-01-01T00:00:00Z")]
    for kind in ("expired", "wrong_name", "self_signed"):
        signer.certificates.order(kind)
        answers.append(sends())
    assert {answer.status for answer in answers} == {400} and len({answer.text for answer in answers}) == 1
    assert answers[0].json()["type"].endswith("bad-signature") and sent(product) == []


def test_A8_an_event_of_the_other_environment_is_400_and_never_state(product, sends):
    for host in ("api.paypal.com", "api-m.paypal.com", "api.sandbox.paypal.com"):
        assert sends(PAYPAL_CERT_URL=f"https://{host}/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77").status == 400
    assert sent(product) == []


# Hints

@pytest.mark.parametrize("kind", ["html", "missing", "error", "slow", "oversized", "redirect", "other_root", "leaf_only"])
def test_faults_27_28_what_cannot_be_verified_is_a_hint_and_somebody_is_told(product, signer, sends, lines, kind):
    signer.certificates.order(kind)
    answer = sends(signer.event())
    assert (answer.status, answer.json()) == (200, {"received": True, "queued": True})
    assert [(one["kind"], one["id"], one["hint"]) for one in sent(product)] == [("subscription", SUBSCRIPTION, True)]
    alarm, = [json.loads(line) for line in lines.getvalue().splitlines() if "intake_unverified" in line]
    assert alarm["level"] == "WARNING" and alarm["why"]
    assert sends(told("PAYMENT.CAPTURE.COMPLETED", {"id": SALE})).json()["queued"] is False


def test_fault_27_A14_hints_are_sixty_a_minute_and_then_PayPal_is_asked_to_come_again_while_the_verified_go_on(product, signer, sends):
    good = signer.certificates.order("good")
    assert sends(PAYPAL_CERT_URL=good).status == 200
    signer.certificates.order("missing")
    answers = [sends().status for _ in range(intake.HINTS_A_MINUTE + 5)]
    assert answers == [200] * intake.HINTS_A_MINUTE + [503] * 5
    signer.certificates.order("good")
    assert sends().status == 200, "its own event is none of the sixty"
    assert len(sent(product)) == intake.HINTS_A_MINUTE + 2
    signer.certificates.order("missing")
    product.time.passes(61)
    assert sends().status == 200


# The body

def test_T45_another_body_with_the_same_CRC_32_changes_nothing_but_which_thing_is_looked_up(product, call, signer):
    headers, body = signer.delivery(told("PAYMENT.SALE.COMPLETED", {"id": SALE, "billing_agreement_id": SUBSCRIPTION, "state": "completed"}))
    forged = collision(body, json.dumps(told("BILLING.SUBSCRIPTION.ACTIVATED", {
        "id": "I-SOMEBODYELSE", "status": "ACTIVE", "custom_id": "950000000000000002", "billing_info": {"next_billing_time": "2099-01-01T00:00:00Z"}, "note": "@" * 12})).encode())
    assert call("POST", HERE, headers, body).status == call("POST", HERE, headers, forged).status == 200
    genuine, other = sent(product)
    assert genuine["id"] == SALE
    assert other == {"v": 2, "event": genuine["event"], "type": "BILLING.SUBSCRIPTION.ACTIVATED", "account": MERCHANT.id, "kind": "subscription", "id": "I-SOMEBODYELSE"}
    assert product.row() is None or product.row().subs == {}


def test_A2_T45_a_body_that_was_changed_is_400(product, call, signer):
    headers, body = signer.delivery()
    changed = [json.dumps(json.loads(body)).encode(), b"\xef\xbb\xbf" + body, body + b"\n", body.replace(b"{", b"{\r\n", 1), b"", body[:-1], base64.b64encode(body)]
    assert {call("POST", HERE, headers, one).status for one in changed} == {400} and sent(product) == []


def test_T45_a_body_that_API_Gateway_hands_over_in_base64_is_verified_as_it_came(product, call, signer):
    headers, body = signer.delivery()
    assert call("POST", HERE, headers | {"Content-Type": "application/octet-stream"}, body).status == 200
    assert call("POST", HERE, headers | {"Content-Type": "application/octet-stream"}, b"\xff" + body).status == 400
    assert len(sent(product)) == 1


ODD = {
    "empty": b"", "text": b"x", "list": b"[]", "number": b"7", "null": b"null", "deep": b"[" * 100_000, "deep objects": b'{"a":' * 50_000, "a huge number": b'{"event_type":' + b"9" * 5_000 + b"}",
    "NaN": b'{"event_type":NaN}', "infinity": b'{"event_type":"x","n":-Infinity}', "twice": b'{"event_type":"A","event_type":"BILLING.SUBSCRIPTION.ACTIVATED"}', "no type": b'{"id":"WH-1"}',
    "type is a list": b'{"event_type":["BILLING.SUBSCRIPTION.ACTIVATED"]}', "not UTF-8": b'{"event_type":"\xff"}', "cut": b'{"event_type":"BILLING', "Stripe's": b'{"object":"event","type":"invoice.paid"}',
    "the id twice": b'{"event_type":"BILLING.SUBSCRIPTION.ACTIVATED","id":"WH-1","resource":{"id":"I-A","id":"I-B"}}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=list(ODD))
def test_A11_signed_but_deep_huge_or_odd_JSON_is_400_and_never_500(product, sends, body):
    answer = sends(body=body, Content_Type="application/octet-stream")
    assert answer.status == 400 and "Traceback" not in answer.text and sent(product) == []


@pytest.mark.parametrize("fields", [
    {"resource": None}, {"resource": []}, {"resource": "I-1"}, {"id": None}, {"id": "evt_1"}, {"id": "WH-1#x"}, {"id": "WH-" + "1" * 200}, {"id": ["WH-1"]},
    *({"resource": {"id": odd}} for odd in ("", "sub_1", "i-1", "I-1#x", "I-1:x", "I-" + "A" * 60, "I-1\n", "I-١", "../I-1", 7, {"id": "I-1"}, ["I-1"], True, "\ud800")),
    *({"event_type": "PAYMENT.SALE.REFUNDED", "resource": {"sale_id": odd}} for odd in ("x", "8RS/6210148826604", ["8RS6210148826604N"], {"a": 1}, 7)),
    *({"event_type": "CUSTOMER.DISPUTE.CREATED", "resource": {"dispute_id": odd}} for odd in ("PP/1", "PP D", 7, [], {"id": 1}, "?x=1"))])
def test_A11_C17_fields_of_odd_shapes_or_odd_ids_are_400_or_ignored_and_not_queued(product, signer, sends, fields):
    answer = sends(body=json.dumps(signer.event() | fields).encode())
    assert answer.status == 400 or answer.json()["queued"] is False
    assert sent(product) == []


def test_A11_a_body_over_256_KiB_is_413_before_anything_is_asked_and_one_of_that_size_is_read(product, signer, sends):
    filled = json.dumps(signer.event() | {"filler": ""}).encode()
    for size, status in ((intake.LARGEST_BODY + 1, 413), (6_000_000, 413)):
        assert sends(body=filled[:-2] + b" " * (size - len(filled)) + filled[-2:]).status == status
    assert signer.asked == []
    assert sends(body=filled[:-2] + b" " * (intake.LARGEST_BODY - len(filled)) + filled[-2:]).status == 200


def test_A12_a_packed_body_is_never_unpacked_and_the_content_type_decides_nothing(product, signer, sends):
    packed = gzip.compress(json.dumps(signer.event()).encode())
    assert sends(body=packed, Content_Encoding="gzip", Content_Type="application/octet-stream").status == 400 and sent(product) == []
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", None):
        assert sends(Content_Type=kind).status == 200, kind


def test_I11_no_line_holds_a_body_a_signature_an_address_or_a_secret(signer, sends, lines):
    canary = signer.event(resource={"id": "I-CANARY", "subscriber": {"email_address": "canary@example.com"}})
    for kind in ("good", "missing", "expired", "other_root"):
        signer.certificates.order(kind)
        sends(canary)
    sends(canary, PAYPAL_CERT_URL="https://canary.example/x", PAYPAL_TRANSMISSION_ID="canary-transmission")
    sends(told("CANARY", {"id": "canary"}), PAYPAL_AUTH_ALGO="canary")
    text = lines.getvalue()
    assert "intake_refused" in text and "intake_unverified" in text
    assert "canary" not in text.lower() and MERCHANT.secret not in text and "CERT-" not in text and "http" not in text
