"""The PayPal sandbox's certificates: a root, an issuer and a signer made at the first start, served as PEM; broken ones on order.

PayPal serves a chain at /v1/notifications/certs/CERT-…, to anybody. The keys open nothing but this sandbox.
"""
import base64
import datetime
import functools

from .http import BadControl, NoAnswer, redirect, text_answer
from .paypal_world import draw

PATH = "/v1/notifications/certs/"
NAME, LIVE_NAME = "messageverificationcerts.sandbox.paypal.com", "messageverificationcerts.paypal.com"
ROOT, ISSUER = "Rolekeep sandbox root", "Rolekeep sandbox issuer"
YEAR = 365     # days
HTML = "<!DOCTYPE html><html><head><title>PayPal</title></head><body>We'll be back soon.</body></html>"
LARGEST = 64 * 1024
# How the address answers when it is no chain at all, and what else can be wrong with the chain.
ANSWERS = {"html": lambda: text_answer(HTML, kind="text/html"), "missing": lambda: text_answer("", 404), "error": lambda: text_answer("", 503)}
KINDS = ("good", "new", "leaf_only", "expired", "not_yet", "wrong_name", "other_environment", "self_signed", "other_root", "authority", "weak", "other_key",
         "oversized", "redirect", "slow", *ANSWERS)


class Certificates:
    """`whole` is the sandbox's state, `wall` the wall clock, `url(path)` an address of this PayPal, `changed()` tells that it must be saved."""

    def __init__(self, whole, *, wall, url, changed):
        self._whole, self._wall, self._url, self._changed = whole, wall, url, changed

    @property
    def root(self):
        """The root that the product is to trust, as PEM text."""
        return self._kept["root"]

    def sign(self, message):
        """(address of the certificate, signature in base64) of the bytes, by whoever signs now."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256
        signer = self._signer()
        made = _key(signer["key"]).sign(message, PKCS1v15(), SHA256())
        return self._url(PATH + signer["name"]), base64.b64encode(made).decode()

    def verifies(self, address, message, signature):
        """Whether the signature is by the certificate at that address of ours."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256
        found = self._kept["served"].get(address.removeprefix(self._url(PATH)))
        if found is None:
            return False
        try:
            x509.load_pem_x509_certificate(found["pem"].encode()).public_key().verify(base64.b64decode(signature), message, PKCS1v15(), SHA256())
            return True
        except (InvalidSignature, ValueError):
            return False

    def answer(self, path):
        """What somebody gets who asks for a certificate."""
        found = self._kept["served"].get(path.removeprefix(PATH))
        if found is None:
            return text_answer("", 404)
        if found["kind"] in ANSWERS:
            return ANSWERS[found["kind"]]()
        if found["kind"] == "slow":
            raise NoAnswer("timeout", 10.0)
        if found["kind"] == "redirect":
            return redirect(self._url(PATH + self._kept["good"]), 302)
        text = found["pem"] + "\n" * LARGEST if found["kind"] == "oversized" else found["pem"]
        return text_answer(text, kind="application/x-x509-ca-cert")

    def order(self, kind):
        """From now on events are signed with a certificate of that kind, at a new address; answers it.

        `new` is a good one, as when PayPal changes its own; `good` the last good one again, where it was.
        """
        if kind not in KINDS:
            raise BadControl(f"'kind' must be one of {', '.join(KINDS)}")
        kept = self._kept
        self._changed()
        if kind == "good":
            kept["now"] = kept["good"]
            return self._url(PATH + kept["good"])
        key = kept["signer_key"]
        name = "CERT-" + "-".join(draw(self._whole, 8, "0123456789abcdef") for _ in range(3))
        kept["served"][name] = {"name": name, "kind": kind, "key": _text(_rsa(1024)) if kind == "weak" else key}
        kept["served"][name]["pem"] = self._chain(kind, _key(kept["served"][name]["key"]))
        kept["now"], kept["good"] = name, name if kind == "new" else kept.get("good")
        return self._url(PATH + name)

    @property
    def _kept(self):
        if "certificates" not in self._whole:
            root, issuer, long = _fast_key(), _fast_key(), {"authority": True, "now": self._wall() - 86_400, "days": 20 * YEAR}
            root_made = _made(ROOT, root.public_key(), issuer=(ROOT, root), **long)
            issuer_made = _made(ISSUER, issuer.public_key(), issuer=(ROOT, root), **long)
            self._whole["certificates"] = {"root": _text(root_made), "issuer": _text(issuer_made), "issuer_key": _text(issuer),
                                           "signer_key": _text(_rsa(2048)), "served": {}, "now": None, "until": self._wall() + YEAR * 86_400}
            self.order("new")
        return self._whole["certificates"]

    def _signer(self):
        kept = self._kept
        if kept["served"][kept["now"]]["kind"] == "new" and self._wall() > kept["until"] - 86_400:  # PayPal changes its certificate, and its address
            kept["until"] = self._wall() + YEAR * 86_400
            self.order("new")
        return kept["served"][kept["now"]]

    def _chain(self, kind, key):
        now, kept = self._wall(), self._whole["certificates"]
        issuer, others = (ISSUER, _key(kept["issuer_key"])), kept["issuer"]
        begins, days = {"expired": (now - 40 * 86_400, 39), "not_yet": (now + 86_400, 30)}.get(kind, (now - 3_600, YEAR))
        name = {"wrong_name": "messageverificationcerts.paypal.com.evil.example", "other_environment": LIVE_NAME}.get(kind, NAME)
        if kind == "other_key":
            key = _rsa(2048)
        if kind == "self_signed":
            issuer, others = (NAME, key), ""
        if kind == "other_root":
            other = _fast_key()
            issuer = "Somebody's authority", other
            others = _text(_made(issuer[0], other.public_key(), issuer=issuer, authority=True, now=now, days=YEAR))
        leaf = _made(name, key.public_key(), issuer=issuer, now=begins, days=days, authority=kind == "authority", names=(name,))
        return _text(leaf) + ("" if kind == "leaf_only" else others)


def _made(name, public_key, *, issuer, now, days, authority=False, names=()):
    """A certificate of `public_key` in that name by the issuer (name, private key), from `now` on."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    begins = datetime.datetime.fromtimestamp(int(now), datetime.timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(_named(name)).issuer_name(_named(issuer[0])).public_key(public_key)
               .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(begins + datetime.timedelta(days=days))
               .add_extension(x509.BasicConstraints(authority, None), critical=True)
               .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
               .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False)
               .add_extension(x509.KeyUsage(not authority, False, not authority, False, False, authority, authority, False, False), critical=True))
    if names:
        builder = (builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
                   .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False))
    return builder.sign(issuer[1], SHA256())


def _named(name):
    from cryptography import x509
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _rsa(bits):
    from cryptography.hazmat.primitives.asymmetric import rsa
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _fast_key():
    """A key on P-256: authorities may have one, and it is made at once."""
    from cryptography.hazmat.primitives.asymmetric import ec
    return ec.generate_private_key(ec.SECP256R1())


def _text(thing):
    """PEM of a certificate or private key."""
    from cryptography.hazmat.primitives import serialization
    if hasattr(thing, "private_bytes"):
        return thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return thing.public_bytes(serialization.Encoding.PEM).decode()


@functools.lru_cache(maxsize=64)
def _key(text):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    return load_pem_private_key(text.encode(), None)
