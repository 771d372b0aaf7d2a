"""The certificates with which PayPal signs webhooks: fetched from PayPal's host, kept for a while, and judged.

Whoever calls has judged the address. `cryptography` is imported on first use: an account without PayPal never loads it.
"""
import functools
import re
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

import requests
import urllib3

from chalicelib import ports, settings
from chalicelib.gateways import wire

SECONDS = 2         # for everything, from the connection to the last byte
LARGEST = 64 * 1024
NEW_A_MINUTE = 6    # addresses asked for in a minute and process: forged ones must not make us hammer PayPal
KEPT, KEPT_SECONDS = 16, 86_400
FAILED, FAILED_SECONDS = 64, 60
SMALLEST_KEY = 2048
MOST_CERTIFICATES = 10

_lock, _fetching = threading.Lock(), threading.Lock()
_good, _bad, _asked = OrderedDict(), OrderedDict(), deque()   # address: (until, Served); address: (until, why); when


class NotHad(Exception):
    """There is no certificate to judge by, now: whether the delivery is genuine cannot be known."""


@dataclass(frozen=True)
class Served:
    """What the address holds: the signer's certificate, and the others beside it."""
    leaf: object
    others: tuple = ()


def served(address, *, wall):
    """The Served of a PayPal address that was judged right. Raises NotHad. `wall`: now, in seconds since the epoch.

    One address is asked for at a time: a burst of deliveries at a cold start costs one request.
    """
    found = _remembered(address, wall)
    if found is None and not _fetching.acquire(timeout=SECONDS):
        raise NotHad("busy")
    if found is None:
        try:
            found = _remembered(address, wall) or _asked_for(address, wall)
        finally:
            _fetching.release()
    return found


def forget():
    """Nothing is remembered of any address."""
    with _lock:
        for memory in (_good, _bad, _asked):
            memory.clear()


def odd(served, *, name, wall):
    """Why nobody with such a certificate is PayPal, as a code; None when nothing is wrong with it but, maybe, its issuer.

    It must be of that name (CN or a DNS name), in force, made for RSA with 2048 bits or more, no authority, and not signed by itself.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    leaf = served.leaf
    key = leaf.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < SMALLEST_KEY:
        return "certificate_key"
    if not leaf.not_valid_before_utc.timestamp() <= wall <= leaf.not_valid_after_utc.timestamp():
        return "certificate_dates"
    if name not in _names(leaf):
        return "certificate_name"
    if leaf.subject == leaf.issuer or _is_authority(leaf):
        return "certificate_kind"
    return None


def signed(key, message, signature):
    """True when the signature is that public key's over that message: RSA, PKCS#1 v1.5, SHA-256, and nothing else."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    try:
        key.verify(signature, message, PKCS1v15(), SHA256())
        return True
    except InvalidSignature:
        return False


def trusted(served, *, wall):
    """True when the certificates lead to a root that we trust.

    PayPal may serve its certificate without the one that issued it (its Java SDK demands PayPal's name of every certificate
    served), and may change its authority: that is not known to be wrong.
    """
    from datetime import datetime, timezone

    from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, VerificationError
    # The leaf was judged by `odd`; what TLS asks of it beside that is not asked of one that signs messages.
    rules = PolicyBuilder().store(_roots()).time(datetime.fromtimestamp(wall, timezone.utc).replace(tzinfo=None)).extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
    try:
        rules.build_client_verifier().verify(served.leaf, list(served.others))
        return True
    except VerificationError:
        return False


def _remembered(address, wall):
    with _lock:
        until, found = _good.get(address, (0, None))
        if wall < until:
            _good.move_to_end(address)
            return found
        until, why = _bad.get(address, (0, None))
        if wall < until:
            raise NotHad(why)
        return None


def _asked_for(address, wall):
    while _asked and _asked[0] <= wall - 60:
        _asked.popleft()
    if len(_asked) >= NEW_A_MINUTE:
        raise NotHad("too_many_addresses")
    _asked.append(wall)
    try:
        found = _parsed(_fetched(address))
    except NotHad as failure:
        _keep(_bad, address, (wall + FAILED_SECONDS, str(failure)), FAILED)
        raise
    _keep(_good, address, (wall + KEPT_SECONDS, found), KEPT)
    return found


def _keep(memory, address, entry, most):
    with _lock:
        memory[address] = entry
        memory.move_to_end(address)
        while len(memory) > most:
            memory.popitem(last=False)


def _fetched(address):
    """The bytes at the address. Raises NotHad, at the latest after SECONDS: whoever drips bytes passes every time-out of a socket."""
    result = []
    thread = threading.Thread(target=lambda: result.append(_get(address, ports.wall() + SECONDS)), daemon=True, name="paypal-certificate")
    thread.start()
    thread.join(SECONDS)
    if not result:
        raise NotHad("timeout")
    if isinstance(result[0], NotHad):
        raise result[0]
    return result[0]


def _get(address, end):
    """The bytes at the address, or the NotHad to raise."""
    try:
        # identity: 64 KiB of gzip are 64 MiB of text
        with wire.session().get(address, timeout=(SECONDS / 2, SECONDS / 2), allow_redirects=False, stream=True,
                                headers={"Accept-Encoding": "identity", "Accept": "application/x-pem-file, */*;q=0.5"}) as answer:
            if answer.status_code != 200:
                return NotHad(f"status_{answer.status_code}")
            if "content-encoding" in answer.headers:
                return NotHad("encoded")
            return _limited(answer, end)
    except Exception as error:  # the thread has nobody else to tell
        return NotHad("timeout" if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError) else "no_answer")


def _limited(answer, end):
    content = b""
    while part := answer.raw.read1(4_096):  # what is there, at most: `read` would wait until it has so much, however long
        content += part
        if len(content) > LARGEST:
            return NotHad("too_large")
        if ports.wall() > end:
            return NotHad("timeout")
    return content


def _parsed(content):
    """The Served in a PEM file: the signer's first, as in TLS. Raises NotHad."""
    from cryptography import x509
    if content.count(b"-----BEGIN CERTIFICATE-----") > MOST_CERTIFICATES:
        raise NotHad("not_pem")
    try:
        leaf, *others = x509.load_pem_x509_certificates(content)
        leaf.public_key()   # an unknown kind of key shows itself only here
        leaf.extensions
    except Exception as error:  # ValueError, UnsupportedAlgorithm and others, by version
        raise NotHad("not_pem") from error
    return Served(leaf, tuple(others))


def _names(leaf):
    from cryptography import x509
    names = {one.value for one in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    try:
        return names | set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return names


def _is_authority(leaf):
    from cryptography import x509
    try:
        return leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


@functools.cache
def _roots():
    """The public roots that requests trusts too, or the local stage's own."""
    import certifi
    from cryptography.x509.verification import Store
    own = settings.get().paypal_trust_root
    return Store(_loaded(own.encode() if own else open(certifi.where(), "rb").read()))


def _loaded(bundle):
    """Every certificate of the bundle that can be read: one odd root among a hundred is no reason to trust none."""
    import warnings

    from cryptography import x509
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # about serial numbers that RFC 5280 no longer allows
        for pem in re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle, re.DOTALL):
            try:
                found.append(x509.load_pem_x509_certificate(pem))
            except ValueError:
                continue
    return found
