"""The webhook intake from outside: what is not rightly signed, too large or odd is refused, and leaves no trace."""
import http.client
import json
import time

import pytest
import stripe as sdk

from infra.local.run import WEBHOOK_SECRET
from infra.local.walker import wait_for
from tests.api.town import bought_at_stripe, is_problem

LARGEST = 256 * 1024


@pytest.fixture
def subscription(instance, sandbox):
    """The id of a subscription at Stripe that nobody here began: an event of it is queued, looked up, and parked."""
    sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "drop", "times": 20})
    made = bought_at_stripe(instance)
    sandbox.stripe("DELETE", "/faults")
    sandbox.stripe("DELETE", "/requests")
    return made


def looked_up(sandbox):
    """The subscriptions that the product has asked Stripe about since the request log was cleared."""
    return {one["path"].rsplit("/", 1)[1] for one in sandbox.stripe("GET", "/requests")["requests"]
            if one["path"].startswith("/v1/subscriptions/")}


def body_of(stripe, subscription, **fields):
    """A well-formed event about the subscription, as bytes."""
    return json.dumps(stripe.event(thing={"id": subscription, "object": "subscription"}, **fields), indent=2).encode()


@pytest.fixture
def only_the_last_is_looked_up(stripe, sandbox, subscription):
    """At the end a right event is sent; when it has been looked up, nothing that the test made up has been: it was not queued."""
    yield
    assert stripe.sends(body_of(stripe, subscription)).json() == {"received": True, "queued": True}
    wait_for(lambda: subscription in looked_up(sandbox), 5, "the right event is looked up")
    assert [key for key in looked_up(sandbox) if len(key) != len(subscription)] == [], "ids of tests are shorter than Stripe's"


def test_fault_8_A1_a_bad_signature_is_400_and_nothing_is_parsed_or_queued(stripe, only_the_last_is_looked_up):
    body, now = body_of(stripe, "sub_1Forged"), int(time.time())
    right = stripe.header(body).partition("v1=")[2]
    headers = {
        "none": None, "empty": "", "no parts": "t", "no time": f"v1={right}", "odd time": f"t=abc,v1={right}",
        "v0 only": stripe.header(body, scheme="v0"), "v2": stripe.header(body, scheme="v2"),
        "wrong secret": stripe.header(body, secret="whsec_somebodyElses00000000"), "placeholder secret": stripe.header(body, secret="None"),
        "no secret": stripe.header(body, secret=""), "no signature": f"t={now}", "empty signature": f"t={now},v1=",
        "two times": f"t={now},{stripe.header(body)}", "the same time twice": f"t={now},t={now},v1={right}",
        "upper case": f"t={now},v1={right.upper()}", "cut": f"t={now},v1={right[:-1]}", "longer": f"t={now},v1={right}0",
        "not ASCII": f"t={now},v1={right[:-1]}é".encode("latin-1"), "unicode digits": f"t={''.join(chr(0x660 + int(c)) for c in str(now))},v1={right}".encode(),
        "negative": stripe.header(body, at=-now), "float": f"t={now}.0,v1={right}", "plus": f"t=+{now},v1={right}",
        "hex": f"t={hex(now)},v1={right}", "another separator": stripe.header(body).replace(",", ";"), "endless": "t=1," * 5_000,
    }
    answers = {name: stripe.post(body, header) for name, header in headers.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(headers, 400)
    assert len({answer.text for answer in answers.values()}) == 1, "one answer for all: it tells nothing"
    assert is_problem(answers["none"], 400)["type"].endswith("bad-signature")


def test_fault_7_A4_T47_a_signature_too_old_or_from_the_future_is_400_and_inside_the_tolerance_it_is_taken(stripe, subscription):
    body, now = body_of(stripe, subscription), int(time.time())
    for at in (now - 303, now - 86_400, now + 303, now + 365 * 86_400, 0, 10**11):
        is_problem(stripe.sends(body, at=at), 400)
    for at in (now - 295, now, now + 295):
        assert stripe.sends(body, at=at).status_code == 200


def test_A2_T45_a_body_that_was_changed_in_any_way_is_400(stripe, only_the_last_is_looked_up):
    body = body_of(stripe, "sub_1Forged", note="1.0 ä")
    signature = stripe.header(body)
    changed = {
        "serialised again": json.dumps(json.loads(body)).encode(), "BOM": b"\xef\xbb\xbf" + body, "CRLF": body.replace(b"\n", b"\r\n"),
        "white space": body + b"\n", "one byte": body.replace(b"sub_1Forged", b"sub_1forged"), "empty": b"", "cut": body[:-1],
        "unescaped": body.replace(b"\\u00e4", "ä".encode())}
    assert {name: stripe.post(one, signature).status_code for name, one in changed.items()} == dict.fromkeys(changed, 400)


def test_T45_the_SDK_takes_what_the_intake_takes(stripe, subscription):
    for body in (body_of(stripe, subscription), body_of(stripe, subscription, note="ä 😀 1.0").replace(b"\n", b"\r\n")):
        header = stripe.header(body)
        assert sdk.Webhook.construct_event(body, header, WEBHOOK_SECRET).id == json.loads(body)["id"]
        assert stripe.post(body, header).json() == {"received": True, "queued": True}


def test_fault_50_T46_a_delivery_signed_with_two_secrets_is_taken_when_one_is_ours(stripe, subscription):
    body = body_of(stripe, subscription)
    ours, other = stripe.header(body), stripe.header(body, secret="whsec_theNewOne000000000").split(",")[1]
    for header in (f"{ours},{other}", f"{ours.split(',')[0]},{other},{ours.split(',')[1]}", f"{ours},v0={'0' * 64}", ours.replace(",", ", ")):
        assert stripe.post(body, header).status_code == 200, header


def test_A3_no_header_of_the_request_chooses_the_secret_the_tenant_or_a_debug_mode(stripe, only_the_last_is_looked_up):
    wrong = "whsec_chosenByTheCaller00"
    body = body_of(stripe, "sub_1Forged")
    chosen = {"X_Stripe_Secret": wrong, "X_Webhook_Secret": wrong, "Stripe_Webhook_Secret": wrong, "X_Tenant": "other", "X_Debug": "true",
              "X_Forwarded_Host": "evil.example", "X_Algorithm": "none", "Stripe_Account": "acct_1Other", "X_HTTP_Method_Override": "GET"}
    answer = stripe.post(body, stripe.header(body, secret=wrong), **chosen)
    assert is_problem(answer, 400) == is_problem(stripe.post(body, stripe.header(body, secret=wrong)), 400)


def test_A11_a_body_over_256_KiB_is_413_and_one_of_that_size_is_read(stripe, subscription):
    frame = body_of(stripe, subscription, note="")
    fits = frame.replace(b'"note": ""', b'"note": "%s"' % (b"x" * (LARGEST - len(frame))))
    assert len(fits) == LARGEST and stripe.sends(fits).status_code == 200
    is_problem(stripe.sends(fits + b" "), 413)
    is_problem(stripe.sends(b"[" * (6 * 1024 * 1024)), 413)
    is_problem(stripe.post(b"x" * (LARGEST + 1), "t=1,v1=0"), 413)


ODD = {
    "empty": b"", "white space": b"  ", "text": b"hello", "array": b"[]", "string": b'"event"', "number": b"1", "null": b"null", "true": b"true",
    "deep arrays": b"[" * 100_000, "deep and closed": b"[" * 100_000 + b"]" * 100_000, "deep objects": b'{"a":' * 40_000,
    "many keys": b"{%s}" % b",".join(b'"%d":0' % n for n in range(20_000)), "long integer": b'{"object":"event","type":"x","n":%s}' % (b"9" * 5_000),
    "NaN": b'{"object":"event","type":"x","n":NaN}', "Infinity": b'{"object":"event","type":"x","n":Infinity}',
    "-Infinity": b'{"object":"event","type":"x","n":-Infinity}', "duplicate keys": b'{"object":"event","type":"x","type":"y"}',
    "duplicate keys inside": b'{"object":"event","type":"x","data":{"object":{},"object":{}}}', "BOM": b'\xef\xbb\xbf{"object":"event","type":"x"}',
    "not UTF-8": b'{"object":"event","type":"\xff"}', "UTF-16": '{"object":"event","type":"x"}'.encode("utf-16"), "control character": b'{"object":"event","type":"a\x00b"}',
    "no object": b'{"type":"x"}', "another object": b'{"object":"list","type":"x"}', "type is a list": b'{"object":"event","type":[]}',
    "trailing": b'{"object":"event","type":"x"}}', "comment": b'/**/{"object":"event","type":"x"}', "gzip": b"\x1f\x8b\x08\x00\x00",
}


@pytest.mark.parametrize("name", ODD)
def test_A11_T45_signed_but_deep_huge_or_odd_JSON_is_400_and_never_500(stripe, name):
    is_problem(stripe.sends(ODD[name]), 400)


def _odd_events(stripe):
    thing = {"id": "sub_1Odd", "object": "subscription"}
    for name, fields in {
            "no data": {"data": None}, "data is a list": {"data": []}, "object is a list": {"data": {"object": []}}, "object is a text": {"data": {"object": "sub_1"}},
            "no event id": {"id": None}, "odd event id": {"id": "evt_1#x"}, "event id of a surrogate": {"id": "evt_1\ud800"}, "long event id": {"id": "evt_" + "1" * 300},
            "odd account": {"account": "acct_1|x"}, "account is a list": {"account": ["acct_1"]}, "account is true": {"account": True}}.items():
        yield name, stripe.event(thing=thing, **fields)
    for name, key in {"hash": "sub_1#x", "pipe": "sub_1|x", "slash": "sub_1/x", "colon": "sub_1:x", "NUL": "sub_1\0", "line end": "sub_1\n", "space": " sub_1",
                      "surrogate": "sub_1\udfff", "digits": "sub_١٢٣", "long": "sub_" + "1" * 300, "no prefix": "1", "number": 1, "list": ["sub_1"]}.items():
        yield f"subscription id: {name}", stripe.event(thing={"id": key, "object": "subscription"})
    yield "invoice of a list", stripe.event("invoice.paid", {"subscription": ["sub_1"]})
    yield "invoice with an odd parent", stripe.event("invoice.paid", {"parent": ["x"]})


def test_A11_C17_events_with_fields_of_odd_shapes_or_odd_ids_are_400_and_not_queued(stripe, only_the_last_is_looked_up):
    answers = {name: stripe.sends(event).status_code for name, event in _odd_events(stripe)}
    assert answers == dict.fromkeys(answers, 400)


def test_fault_10_T36_unknown_event_types_are_2xx_and_nothing_is_queued(stripe, only_the_last_is_looked_up):
    for kind in ("customer.tax_id.created", "billing_portal.configuration.updated", "customer.subscription.not_yet_invented", "", "x" * 5_000, "a\nb", "\ud800"):
        answer = stripe.sends(stripe.event(kind, {"id": "sub_1Forged", "subscription": "sub_1Forged"}))
        assert (answer.status_code, answer.json()) == (200, {"received": True, "queued": False}), kind
    assert stripe.sends(stripe.event("checkout.session.completed", {"id": "cs_1", "mode": "setup", "subscription": None})).json()["queued"] is False
    assert stripe.sends(stripe.event("invoice.paid", {"id": "in_1", "parent": None})).json()["queued"] is False


def test_A8_T50_events_of_the_other_mode_are_2xx_and_change_nothing(stripe, only_the_last_is_looked_up):
    for mode in (True, None, "false", 0):
        answer = stripe.sends(stripe.event(thing={"id": "sub_1Forged"}, livemode=mode))
        assert (answer.status_code, answer.json()) == (200, {"received": True, "queued": False}), mode


def test_A13_any_other_method_or_spelling_of_the_address_is_the_404_of_an_unknown_path(stripe, instance):
    unknown = stripe.post(b"", url=f"{instance.url}/nowhere", method="GET")
    is_problem(unknown, 404)
    body = json.dumps(stripe.event("ping")).encode()
    tried = [(method, "/webhooks/stripe/operator") for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")]
    tried += [("POST", path) for path in (
        "/webhooks/stripe/operator/", "//webhooks/stripe/operator", "/webhooks//stripe/operator", "/webhooks/stripe/Operator", "/webhooks/stripe/%6fperator",
        "/webhooks/stripe", "/webhooks/stripe/other", "/webhooks/stripe/acct_1Shop", "/webhooks/stripe/Connect", "/webhooks/stripe/connect/", "/webhooks/stripe/operator/x", "/webhooks/stripe/operator%2f", "/webhooks/./stripe/operator",
        "/x/../webhooks/stripe/operator", "/webhooks/stripe/operator;x", "/webhooks/stripe/operator%00", "/webhooks/paypal/operator")]
    wrong = {}
    for method, path in tried:
        status, kind, text = exactly(instance, method, path, body, {"Stripe-Signature": stripe.header(body)})
        if (status, kind, text) != (404, "application/problem+json", unknown.text):
            wrong[method, path] = status, text[:80]
    assert wrong == {}
    assert stripe.session.head(stripe.url, timeout=5).status_code == 404


def exactly(instance, method, path, body, headers):
    """(status, content type, text) of a request whose path is sent letter by letter."""
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    result = answer.status, answer.headers["Content-Type"], answer.read().decode()
    connection.close()
    return result


def test_A12_a_chunked_body_is_411_and_a_packed_one_is_never_unpacked(stripe, instance, subscription):
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
    connection.request("POST", "/webhooks/stripe/operator", body=iter([b"{}"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (411, "application/problem+json")
    connection.close()
    import gzip
    body = gzip.compress(body_of(stripe, subscription))
    is_problem(stripe.post(body, stripe.header(body), Content_Encoding="gzip"), 400)


def test_a_body_that_API_Gateway_hands_over_as_bytes_is_verified_as_it_came(stripe, subscription):
    body = body_of(stripe, subscription)
    assert stripe.post(body, stripe.header(body), Content_Type="application/octet-stream").status_code == 200
    is_problem(stripe.post(b"\xff" + body, stripe.header(body), Content_Type="application/octet-stream"), 400)
