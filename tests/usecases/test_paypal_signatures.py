"""Whether a delivery is PayPal's: genuine vectors, a certificate chain of the sandbox's own, and servers that answer oddly."""
import base64
import json
import pathlib
import random
import socket
import threading
import time
import zlib
from datetime import datetime

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from chalicelib import paypal_signature, ports, settings
from chalicelib.gateways import paypal_certificates, wire
from chalicelib.paypal_signature import Invalid, Unknown
from infra.local.sandbox.paypal import MERCHANT
from tests.usecases.paypal_signer import NEXT_WEBHOOK, OTHER_WEBHOOK, PAYPAL, WEBHOOK, Signer, lower
from tests.usecases.product import ENVIRONMENT, Time

VECTORS = json.loads(pathlib.Path(__file__).with_name("paypal_vectors.json").read_text())
LIVE = {"STAGE": "prod", "STRIPE_API_BASE": "", "DISCORD_API_BASE": "", "DISCORD_AUTHORIZE_URL": "", "PAYPAL_API_BASE": "", "PAYPAL_WEB_BASE": "", "PAYPAL_CERT_BASE": "",
        "PAYPAL_TRUST_ROOT": ""}


@pytest.fixture
def signer(monkeypatch):
    """PayPal's sandbox, and a product that verifies against it over its own HTTP session; nothing is remembered of certificates."""
    moved = Time()
    made, before = Signer(moved), ports.use(moved)
    _use(monkeypatch, {**ENVIRONMENT, **made.environment()})
    wire.session.cache_clear()
    made.mount(wire.session())
    yield made
    ports.use(before)
    for cached in (settings.get, wire.session, paypal_certificates._roots):
        cached.cache_clear()
    paypal_certificates.forget()


def _use(monkeypatch, values):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for cached in (settings.get, paypal_certificates._roots):
        cached.cache_clear()
    paypal_certificates.forget()


def verdict(signer, headers, body, *, webhooks=(WEBHOOK,)):
    """valid, or the kind and the reason of the refusal."""
    try:
        paypal_signature.verify(body, lower(headers), webhook_ids=webhooks, wall=signer.time.at)
        return "valid"
    except (Invalid, Unknown) as other:
        return type(other).__name__, str(other)


# The scheme

@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_T45_A7_PayPals_own_signatures_are_right_and_each_broken_variant_is_not(signer, case):
    key = load_pem_public_key(VECTORS["public_key"].encode())
    at = datetime.fromisoformat(case["headers"]["PAYPAL-TRANSMISSION-TIME"]).timestamp()
    try:
        sent = paypal_signature.transmission(lower(case["headers"]), wall=at)
        right = paypal_certificates.signed(key, paypal_signature.message(sent, case["webhook_id"], case["body"].encode()), sent.signature)
    except Invalid:
        right = False
    assert right is case["expect_signature"]
    if "signed_message" in case:
        assert paypal_signature.message(sent, case["webhook_id"], case["body"].encode()) == case["signed_message"].encode()


def test_T45_what_PayPals_sandbox_signs_is_valid_whatever_bytes_it_is(signer):
    chance = random.Random(1)
    for _ in range(50):
        headers, body = signer.delivery(body=bytes(chance.randrange(256) for _ in range(chance.randrange(300))))
        assert verdict(signer, headers, body) == "valid"
    assert len(signer.asked) == 1


def test_T45_a_body_changed_in_any_way_is_invalid(signer):
    headers, body = signer.delivery()
    text = body.decode()
    others = [json.dumps(json.loads(body)).encode(), json.dumps(json.loads(body), separators=(",", ":")).encode(), b"\xef\xbb\xbf" + body, body + b"\n", body.replace(b"{", b"{\r\n", 1),
              b"", body[:-1], text.replace("ä", "\\u00e4").encode(), text.replace("1.0", "1").encode(), base64.b64encode(body)]
    for position in range(0, len(body), 7):
        others.append(body[:position] + bytes([body[position] ^ 1]) + body[position + 1:])
    assert {verdict(signer, headers, other) for other in others} == {("Invalid", "no_match")}


def test_A7_only_this_accounts_own_webhooks_count_two_while_one_is_being_replaced(signer):
    ours = settings.get().paypal_accounts[MERCHANT.id].webhook_ids
    assert ours == (WEBHOOK, NEXT_WEBHOOK)
    for webhook, expected in ((WEBHOOK, "valid"), (NEXT_WEBHOOK, "valid"), (OTHER_WEBHOOK, ("Invalid", "no_match")), ("WEBHOOKID", ("Invalid", "no_match")), ("", ("Invalid", "no_match"))):
        headers, body = signer.delivery(webhook=webhook)
        headers |= {"PAYPAL-WEBHOOK-ID": webhook, "webhook_id": webhook}
        assert verdict(signer, headers, body, webhooks=ours) == expected, webhook
    assert verdict(signer, *signer.delivery(), webhooks=()) == ("Invalid", "no_match")


SPOILT = {
    "PAYPAL-TRANSMISSION-ID": ["", " ", "x", "a" * 51, "a|b|c|d|e|f", "abcdefgh|2026-01-31T12:00:00Z", "1234567é", "abcdefgh\n"],
    "PAYPAL-TRANSMISSION-TIME": ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", "2026-01-31T12:00:61Z", "2026-01-31 12:00:00Z", "٢٠٢٦-01-31T12:00:00Z",
                                 "1769860800", "2026-01-31T12:00:00Z|", "2026-01-31T12:00:00+99:00", "2026-01-31T12:00:00." + "0" * 90 + "Z"],
    "PAYPAL-TRANSMISSION-SIG": ["", "%%%not-base64%%%", "A" * 299, "A" * 5_000, "A" * 341, "=" * 344, "A" * 340 + "\nAAA", "A" * 343 + "é", "null"],
    "PAYPAL-CERT-URL": ["", " ", "x" * 501, "https://api.paypal.com/é"],
    "PAYPAL-AUTH-ALGO": ["", "none", "None", "MD5", "MD5withRSA", "SHA1withRSA", "sha256withrsa", "SHA256withRSAandMGF1", "SHA256withECDSA", "SHA256withRSA ", "HS256", "SHA256withRSA,SHA1withRSA"],
}


@pytest.mark.parametrize("name", SPOILT)
def test_A6_A11_a_header_that_is_missing_empty_too_long_or_of_another_form_is_invalid_and_nobody_is_asked(signer, name):
    headers, body = signer.delivery()
    assert verdict(signer, {key: value for key, value in headers.items() if key != name}, body)[0] == "Invalid"
    for value in [*SPOILT[name], None, 7, ["x"]]:
        assert verdict(signer, headers | {name: value}, body)[0] == "Invalid", value
    assert signer.asked == signer.nowhere.asked == []


@pytest.mark.parametrize("passed, taken", [(-301, False), (-300, True), (0, True), (3 * 86_400, True), (3 * 86_400 + 3_600, True), (3 * 86_400 + 3_601, False), (400 * 86_400, False)])
def test_fault_7_A4_a_transmission_counts_for_three_days_and_an_hour_because_PayPal_tries_that_long(signer, passed, taken):
    headers, body = signer.delivery()
    signer.time.passes(passed)
    assert verdict(signer, headers, body) == ("valid" if taken else ("Invalid", "age"))


def test_a_time_with_another_offset_or_with_fractions_is_read_and_signed_as_it_stands(signer):
    now = datetime.fromtimestamp(signer.time.at, datetime.fromisoformat("2026-01-01T00:00:00+02:00").tzinfo)
    for text in (now.isoformat(), now.isoformat(timespec="milliseconds"), now.isoformat(timespec="microseconds").replace("+02:00", "000+02:00")):
        assert paypal_signature.transmission(lower(signer.delivery()[0] | {"PAYPAL-TRANSMISSION-TIME": text}), wall=signer.time.at).at == signer.time.at, text


# The address of the certificate

EVIL = [
    "http://169.254.169.254/latest/meta-data/", "https://evil.example/x.pem", "https://{host}.evil.com{path}", "https://{host}@evil.example{path}", "https://{host}:8443{path}",
    "https://{host}:80{path}", "https://{host}:0443{path}", "https://{host}:{path}", "http://{host}{path}", "HTTPS://{host}{path}", "https:{host}{path}", "https:///{host}{path}", "//{host}{path}",
    "https://user@{host}{path}", "https://user:password@{host}{path}", "https://:@{host}{path}", "https://evil.example#@{host}{path}", "https://evil.example\\@{host}{path}",
    "https://{host}\\.evil.example{path}", "https://{host}.{path}", "https://{upper}{path}", "https://аpi.paypal.com{path}", "https://xn--pi-7kc.paypal.com{path}", "https://paypal.com{path}",
    "https://www.paypal.com{path}", "https://messageverificationcerts.paypal.com{path}", "https://x.{host}{path}", "https://evilapi.paypal.com{path}", "https://api-m.paypal.com.{path}", "https://{host}{path}/",
    "https://{host}{path}/../../x", "https://{host}/v1/notifications/certs/../../payments/x", "https://{host}/v1/notifications/certs/%2e%2e%2fx", "https://{host}/v1/notifications/certs/CERT%2d1",
    "https://{host}/v1/notifications/certs/..%2f..", "https://{host}/v1/notifications/certs/", "https://{host}/v1/notifications/certs", "https://{host}/v1//notifications/certs/CERT-1",
    "https://{host}/v2/notifications/certs/CERT-1", "https://{host}/x/v1/notifications/certs/CERT-1", "https://{host}{path}?x=1", "https://{host}{path}?", "https://{host}{path}#", "https://{host}{path}#x",
    "https://{host}{path};x", "https://{host}{path}.pem", "https://{host}/v1/notifications/certs/" + "x" * 101, "https://{host}{path}\n", "\thttps://{host}{path}", " https://{host}{path}",
    "https://{host}{path} ", "https://{host}\t{path}", "https://127.0.0.1{path}", "https://[::1]{path}", "https://0x7f.1{path}", "file:///etc/passwd", "file://{host}{path}", "ftp://{host}{path}", "data:,x",
    "gopher://{host}{path}", "javascript:x", "{path}", "{host}{path}", "http://paypal.test{path}", "http://127.0.0.1:8004{path}",
]


@pytest.mark.parametrize("environment", ["live", "sandbox"])
def test_A5_an_address_that_is_not_exactly_PayPals_is_invalid_and_nobody_is_asked(signer, monkeypatch, environment):
    headers, body = signer.delivery()
    _use(monkeypatch, {**LIVE, "PAYPAL_ENVIRONMENT": environment, **({"STRIPE_API_KEY": "sk_live_0000000000000000"} if environment == "live" else {})})
    hosts = paypal_signature.CERTIFICATE_HOSTS
    others = [f"https://{host}/v1/notifications/certs/CERT-1" for host in hosts["sandbox" if environment == "live" else "live"]]
    tried = others + [text.format(host=host, upper=host.upper(), path="/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77") for text in EVIL for host in hosts[environment]]
    assert {url: verdict(signer, headers | {"PAYPAL-CERT-URL": url}, body)[0] for url in tried} == dict.fromkeys(tried, "Invalid")
    assert signer.asked == signer.nowhere.asked == []


@pytest.mark.parametrize("environment, host", [(kind, host) for kind, hosts in paypal_signature.CERTIFICATE_HOSTS.items() for host in hosts])
def test_A5_A8_each_environment_has_hosts_of_its_own_and_only_they_are_asked(signer, monkeypatch, environment, host):
    headers, body = signer.delivery()
    _use(monkeypatch, {**LIVE, "PAYPAL_ENVIRONMENT": environment, **({"STRIPE_API_KEY": "sk_live_0000000000000000"} if environment == "live" else {})})
    address = f"https://{host}/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
    for url in (address, address.replace(".com/", ".com:443/")):
        assert verdict(signer, headers | {"PAYPAL-CERT-URL": url}, body) == ("Unknown", "no_answer")
    assert signer.nowhere.asked == [address], "in one spelling, so it was asked once"


def test_A5_the_local_stage_takes_the_sandboxs_own_address_and_no_other(signer):
    headers, body = signer.delivery()
    for url in (headers["PAYPAL-CERT-URL"].replace(PAYPAL, "https://api.sandbox.paypal.com"), headers["PAYPAL-CERT-URL"].replace(PAYPAL, f"{PAYPAL}:443"),
                headers["PAYPAL-CERT-URL"].replace(PAYPAL, f"{PAYPAL}.evil.example"), headers["PAYPAL-CERT-URL"].replace("paypal.test", "paypalxtest")):
        assert verdict(signer, headers | {"PAYPAL-CERT-URL": url}, body) == ("Invalid", "certificate_address")
    assert signer.asked == signer.nowhere.asked == [] and verdict(signer, headers, body) == "valid"


# The certificate

INVALID = {"expired": "certificate_dates", "not_yet": "certificate_dates", "wrong_name": "certificate_name", "other_environment": "certificate_name", "self_signed": "certificate_kind",
           "authority": "certificate_kind", "weak": "certificate_key", "other_key": "no_match"}
UNKNOWN = {"html": "not_pem", "missing": "status_404", "error": "status_503", "redirect": "status_302", "oversized": "too_large", "slow": "timeout", "other_root": "unknown_root", "leaf_only": "unknown_root"}


@pytest.mark.parametrize("kind, why", INVALID.items())
def test_A6_a_certificate_of_another_name_self_signed_expired_or_weak_is_invalid_though_PayPals_host_serves_it(signer, kind, why):
    signer.certificates.order(kind)
    assert verdict(signer, *signer.delivery()) == ("Invalid", "transmission_sig" if kind == "weak" else why)
    signer.certificates.order("good")
    assert verdict(signer, *signer.delivery()) == "valid"


@pytest.mark.parametrize("kind, why", UNKNOWN.items())
def test_faults_27_28_a_certificate_that_is_not_to_be_had_or_of_a_new_authority_makes_it_unknown(signer, kind, why):
    signer.certificates.order(kind)
    assert verdict(signer, *signer.delivery()) == ("Unknown", why)
    assert len(signer.asked) == 1, "a redirect is not followed"
    signer.certificates.order("good")
    assert verdict(signer, *signer.delivery()) == "valid"


@pytest.mark.parametrize("kind", ["other_root", "leaf_only"])
def test_fault_28_what_is_wrong_under_the_certificates_key_is_invalid_whatever_its_authority(signer, kind):
    signer.certificates.order(kind)
    headers, body = signer.delivery()
    assert verdict(signer, headers, body + b" ") == verdict(signer, headers, body, webhooks=(OTHER_WEBHOOK,)) == ("Invalid", "no_match")


def test_A6_a_short_key_is_refused_by_the_certificate_too(signer):
    served = paypal_certificates.served(signer.certificates.order("weak"), wall=signer.time.at)
    assert paypal_certificates.odd(served, name="messageverificationcerts.sandbox.paypal.com", wall=signer.time.at) == "certificate_key"


def test_A6_a_kept_certificate_ends_when_it_ends(signer):
    headers, body = signer.delivery()
    assert verdict(signer, headers, body) == "valid"
    signer.time.passes(366 * 86_400)
    later = signer.sandbox.webhooks.signed(body, WEBHOOK)   # by the certificate of then
    at = later["PAYPAL-TRANSMISSION-TIME"]
    assert verdict(signer, later, body) == "valid"
    assert verdict(signer, headers | {"PAYPAL-TRANSMISSION-TIME": at}, body) == ("Invalid", "certificate_dates")


def test_the_public_roots_can_be_read_and_todays_of_PayPals_authority_is_among_them(signer, monkeypatch):
    import certifi
    _use(monkeypatch, LIVE)
    names = {one.subject.rfc4514_string() for one in paypal_certificates._loaded(pathlib.Path(certifi.where()).read_bytes())}
    assert len(names) > 100 and [name for name in names if "DigiCert Global Root G2" in name]
    assert verdict(signer, *signer.delivery())[0] == "Invalid", "and in a live stage the sandbox's address is none"


# Asking for it

def test_A5_it_is_asked_for_once_a_day_and_one_that_was_not_to_be_had_once_a_minute(signer):
    for _ in range(3):
        assert verdict(signer, *signer.delivery()) == "valid"
    assert len(signer.asked) == 1
    signer.time.passes(86_401)
    assert verdict(signer, *signer.delivery()) == "valid" and len(signer.asked) == 2
    signer.certificates.order("error")
    for _ in range(3):
        assert verdict(signer, *signer.delivery()) == ("Unknown", "status_503")
    assert len(signer.asked) == 3
    signer.time.passes(61)
    assert verdict(signer, *signer.delivery()) == ("Unknown", "status_503") and len(signer.asked) == 4


def test_A5_A14_forged_addresses_make_a_few_requests_a_minute_and_push_no_good_certificate_out(signer):
    good, body = signer.delivery()
    assert verdict(signer, good, body) == "valid"
    found = [verdict(signer, good | {"PAYPAL-CERT-URL": f"{PAYPAL}/v1/notifications/certs/CERT-{n}"}, body) for n in range(300)]
    assert found == [("Unknown", "status_404")] * 5 + [("Unknown", "too_many_addresses")] * 295 and len(signer.asked) == paypal_certificates.NEW_A_MINUTE
    assert verdict(signer, good, body) == "valid" and len(signer.asked) == paypal_certificates.NEW_A_MINUTE
    signer.time.passes(61)
    signer.certificates.order("new")
    assert verdict(signer, *signer.delivery()) == "valid", "a minute later there is room again"
    assert len(paypal_certificates._bad) <= paypal_certificates.FAILED and len(paypal_certificates._good) == 2


def test_a_burst_at_a_cold_start_asks_for_the_certificate_once(signer):
    deliveries, found = [signer.delivery() for _ in range(16)], []
    threads = [threading.Thread(target=lambda one=one: found.append(verdict(signer, *one))) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["valid"] * 16 and len(signer.asked) == 1


@pytest.fixture
def server(signer, monkeypatch):
    """A bare server in PayPal's place: `server(answer)` answers the next connection with what `answer(socket)` sends; yields the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    opened = []

    def serve(answer):
        def once():
            connection, _ = listening.accept()
            opened.append(connection)
            connection.recv(65_536)
            try:
                answer(connection)
            except OSError:
                pass    # the product has hung up
            connection.close()
        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        opened.append(thread)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    _use(monkeypatch, {"PAYPAL_CERT_BASE": f"http://127.0.0.1:{listening.getsockname()[1]}"})
    ports.use(ports.Ports())
    wire.session.cache_clear()
    serve.over = threading.Event()
    yield serve
    serve.over.set()
    listening.close()
    for one in opened:
        one.join(5) if isinstance(one, threading.Thread) else one.close()


def _asked(base):
    began = time.monotonic()
    with pytest.raises(paypal_certificates.NotHad) as lacking:
        paypal_certificates.served(f"{base}/v1/notifications/certs/CERT-1", wall=time.time())
    return str(lacking.value), time.monotonic() - began


def test_A5_a_server_that_drips_bytes_is_given_up_after_two_seconds_in_all(server):
    def drips(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not server.over.wait(0.1):
            connection.sendall(b"-")
    why, seconds = _asked(server(drips))
    assert why == "timeout" and seconds < paypal_certificates.SECONDS + 1


def test_A5_dripping_headers_are_no_way_round_it(server):
    def drips(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.over.wait(0.1):
            connection.sendall(b"X-Odd: x\r\n")
    why, seconds = _asked(server(drips))
    assert why == "timeout" and seconds < paypal_certificates.SECONDS + 1


def test_A5_an_endless_answer_is_read_to_64_KiB_and_no_further(server):
    sent = []

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(connection.send(b"x" * 65_536))
    why, _ = _asked(server(endless))
    assert why == "too_large" and sum(sent) < 20_000_000, "the rest filled buffers until we hung up"


def test_A12_a_packed_answer_is_not_unpacked(server):
    import gzip
    packed = gzip.compress(b"\n" * 60_000_000)
    why, _ = _asked(server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)))
    assert why == "encoded"


@pytest.mark.parametrize("framing", ["Content-Length", "chunked", "close"])
def test_a_right_certificate_is_read_however_its_end_is_told(signer, server, framing):
    pem = signer.sandbox.handle("GET", signer.certificates.order("good").removeprefix(PAYPAL))[2]
    told = {"Content-Length": b"Content-Length: %d\r\n\r\n" % len(pem) + pem, "close": b"\r\n" + pem,
            "chunked": b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (pem[:700], pem[700:701], pem[701:])) + b"0\r\n\r\n"}
    base = server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + told[framing]))
    assert len(paypal_certificates.served(f"{base}/v1/notifications/certs/CERT-1", wall=time.time()).others) == 1


def test_A5_a_redirect_to_inside_is_not_followed(server):
    why, _ = _asked(server(lambda connection: connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n")))
    assert why == "status_302"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\0" * 1_000,
                                     b"<html>-----BEGIN CERTIFICATE-----</html>", "é".encode() * 100])
def test_fault_28_what_is_no_certificate_is_not_to_be_had_and_no_error(server, content):
    why, _ = _asked(server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)))
    assert why == "not_pem"


def test_A5_hundreds_of_certificates_are_not_read(signer, server):
    many = (signer.certificates.root * 40).encode()
    why, _ = _asked(server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(many) + many)))
    assert why == "not_pem"


# CRC-32 is no hash

def collision(body, other):
    """`other` (it holds `@` twelve times in a row) with letters in their place that give it the CRC-32 of `body`.

    CRC-32 is linear over bits: each of the 48 bits that tell @ from A..O changes the sum by a pattern of its own; we solve for it.
    """
    start = other.index(b"@" * 12)
    wanted, basis = zlib.crc32(body) ^ zlib.crc32(other), {}
    for bit in range(48):
        flipped = bytearray(other)
        flipped[start + bit // 4] ^= 1 << bit % 4
        pattern, chosen = zlib.crc32(bytes(flipped)) ^ zlib.crc32(other), 1 << bit
        while pattern and pattern.bit_length() in basis:
            known, those = basis[pattern.bit_length()]
            pattern, chosen = pattern ^ known, chosen ^ those
        if pattern:
            basis[pattern.bit_length()] = pattern, chosen
    solution = 0
    while wanted:
        known, those = basis[wanted.bit_length()]
        wanted, solution = wanted ^ known, solution ^ those
    made = bytearray(other)
    for bit in range(48):
        made[start + bit // 4] ^= (solution >> bit & 1) << bit % 4
    return bytes(made)


def test_T45_another_body_with_the_same_CRC_32_passes_which_is_why_no_body_is_ever_acted_on(signer):
    headers, body = signer.delivery()
    forged = collision(body, json.dumps(signer.event(resource={"id": "I-SOMEBODYELSE", "note": "@" * 12})).encode())
    assert json.loads(forged)["resource"]["id"] == "I-SOMEBODYELSE" and zlib.crc32(forged) == zlib.crc32(body)
    assert verdict(signer, headers, forged) == "valid"
