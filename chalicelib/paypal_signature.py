"""Whether a webhook delivery is PayPal's, judged here without asking PayPal: valid, invalid, or unknown.

The scheme (developer.paypal.com/api/rest/webhooks/rest, "self verification"): RSA-SHA256, PKCS#1 v1.5, over
`transmission id|transmission time|webhook id|CRC-32 of the raw body as an unsigned decimal`, with the key of the certificate
that a header names. CRC-32 is no hash: whoever has one genuine delivery makes another body that passes. So a valid signature
says who calls, and nothing in the body is ever acted on.

*Unknown* is a delivery whose certificate is not to be had, or leads to no root that we know: it may be genuine. It is accepted
as a hint, because a hint costs one paced read of PayPal's own word at most, while refusing would lose every event on the day
PayPal changes its certificate authority. Who is wrong under the certificate's key is refused whatever the certificate.
"""
import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from datetime import datetime

from chalicelib import settings

ALGORITHM = "SHA256withRSA"     # fixed here: the header may only agree
OLDEST_SECONDS = 3 * 86_400 + 3_600     # PayPal tries again for three days (developer.paypal.com/api/rest/webhooks)
AHEAD_SECONDS = 300
# api.* is what real deliveries name; api-m.* is the host of the API today.
CERTIFICATE_HOSTS = {"live": ("api.paypal.com", "api-m.paypal.com"), "sandbox": ("api.sandbox.paypal.com", "api-m.sandbox.paypal.com")}
# PayPal's own Java SDK (SSLUtil.validateCertificateChain): the CN begins with messageverificationcerts and ends with .paypal.com.
CERTIFICATE_NAMES = {"live": "messageverificationcerts.paypal.com", "sandbox": "messageverificationcerts.sandbox.paypal.com"}

_CERTIFICATE_PATH = r"/v1/notifications/certs/[A-Za-z0-9_-]{1,100}"
# Lengths as in PayPal's own schema of verify-webhook-signature, where it has them. None holds a `|`: the parts cannot be shifted.
_HEADERS = {
    "paypal-transmission-id": re.compile(r"[A-Za-z0-9_-]{8,50}"),
    "paypal-transmission-time": re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"),
    "paypal-transmission-sig": re.compile(r"[A-Za-z0-9+/]{300,700}={0,2}"),     # 2048 to 4096 bits
    "paypal-cert-url": re.compile(r"[!-~]{1,500}"),
    "paypal-auth-algo": re.compile(re.escape(ALGORITHM)),
}


class Invalid(Exception):
    """The delivery is not PayPal's to this webhook. The text is a reason code for the log."""


class Unknown(Exception):
    """Whether it is PayPal's cannot be known, now. The text is a reason code for the log."""


@dataclass(frozen=True)
class Transmission:
    """What a delivery's headers say, in the right form: `at` in seconds since the epoch, `signature` bytes."""
    id: str
    time: str
    at: float
    signature: bytes
    cert_url: str


def verify(body, headers, *, webhook_ids, wall):
    """Nothing, when the delivery is PayPal's to one of these webhooks. Raises Invalid when it is not, Unknown when nobody can tell.

    `body` raw bytes, `headers` anything with `get`. The certificate's address is judged before anything is asked of anybody.
    """
    from chalicelib.gateways import paypal_certificates
    sent = transmission(headers, wall=wall)
    address = certificate_address(sent.cert_url)
    try:
        served = paypal_certificates.served(address, wall=wall)
    except paypal_certificates.NotHad as lacking:
        raise Unknown(str(lacking)) from None
    judge(sent, body, served, webhook_ids=webhook_ids, wall=wall)


def judge(sent, body, served, *, webhook_ids, wall):
    """As `verify`, once the certificate is there."""
    from chalicelib.gateways import paypal_certificates as certificates
    odd = certificates.odd(served, name=CERTIFICATE_NAMES[settings.get().paypal_environment], wall=wall)
    if odd:
        raise Invalid(odd)
    if not any(certificates.signed(served.leaf.public_key(), message(sent, one, body), sent.signature) for one in webhook_ids):
        raise Invalid("no_match")
    if not certificates.trusted(served, wall=wall):
        raise Unknown("unknown_root")


def transmission(headers, *, wall):
    """The Transmission of these headers. Raises Invalid: one is missing or of another form, or its time is not near."""
    given = {name: headers.get(name) for name in _HEADERS}
    for name, pattern in _HEADERS.items():
        if not isinstance(given[name], str) or not pattern.fullmatch(given[name]):
            raise Invalid(name.removeprefix("paypal-").replace("-", "_"))
    instant = _instant(given["paypal-transmission-time"])
    if not wall - OLDEST_SECONDS <= instant <= wall + AHEAD_SECONDS:
        raise Invalid("age")
    return Transmission(given["paypal-transmission-id"], given["paypal-transmission-time"], instant, _bytes(given["paypal-transmission-sig"]),
                        given["paypal-cert-url"])


def message(sent, webhook_id, body):
    """The bytes that PayPal signs for a delivery of the raw `body` to that webhook."""
    return f"{sent.id}|{sent.time}|{webhook_id}|{zlib.crc32(body)}".encode()


def certificate_address(text):
    """The address to fetch the certificate from, in its one spelling. Raises Invalid; asks nobody, resolves nothing.

    One pattern over the whole text, not a parsed URL: parsers differ in what they forgive. It leaves no room for userinfo,
    another port, a query, a fragment, dots, escapes or letters beyond ASCII.
    """
    known = settings.get()
    if known.paypal_cert_base:
        base, port = re.escape(known.paypal_cert_base), ""
    else:
        base, port = f"https://({'|'.join(map(re.escape, CERTIFICATE_HOSTS[known.paypal_environment]))})", "(:443)?"
    if not re.fullmatch(base + port + _CERTIFICATE_PATH, text):
        raise Invalid("certificate_address")
    return text if known.paypal_cert_base else text.replace(":443/", "/", 1)


def _instant(text):
    try:
        return datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)).timestamp()
    except ValueError:
        raise Invalid("transmission_time") from None


def _bytes(text):
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Invalid("transmission_sig") from None
