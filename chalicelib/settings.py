"""The environment, read and checked once on first use: a missing or placeholder value fails loudly, by its name only."""
import functools
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOCAL = "local"
STRIPE_API = "https://api.stripe.com"
DISCORD_API = "https://discord.com/api/v10"
DISCORD_AUTHORIZE = "https://discord.com/oauth2/authorize"
PAYPAL_API = {"live": "https://api-m.paypal.com", "sandbox": "https://api-m.sandbox.paypal.com"}
PAYPAL_WEB = {"live": "https://www.paypal.com", "sandbox": "https://www.sandbox.paypal.com"}

WORKER_SECONDS = 60     # the queue functions' limit; .chalice/config.json says the same, a test compares
WEB_SECONDS = 25        # the API function's limit
LEASE_SECONDS = WORKER_SECONDS + 60
SESSION_SECONDS = 30 * 86_400
SIGN_IN_SECONDS = 600

_STRIPE_KEY = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9]{8,250}")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]{16,250}")
_PAYPAL_ACCOUNT = re.compile(
    r"(?P<id>[2-9A-HJ-NP-Z]{13}):(?P<client_id>[A-Za-z0-9_-]{32,128}):(?P<secret>[A-Za-z0-9_-]{32,128})"
    r":(?P<webhook_ids>[A-Z0-9]{17}(\+[A-Z0-9]{17}){0,3})")
_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{100,8000}-----END CERTIFICATE-----\s*")


class BadSetting(Exception):
    """A setting is missing or unusable. The text names the setting and what it must be, never its value."""


@dataclass(frozen=True)
class PayPalAccount:
    """One PayPal business account: its merchant id, the REST app's credentials, and the ids of the webhook that points here."""
    id: str
    client_id: str = field(repr=False)
    secret: str = field(repr=False)
    webhook_ids: tuple      # two while one webhook is being replaced by another


@dataclass(frozen=True)
class Settings:
    """Everything the environment decides. `live` is false for the local stage only."""
    stage: str
    public_url: str
    stripe_api_base: str
    stripe_api_key: str = field(repr=False)
    stripe_webhook_secrets: tuple = field(repr=False)
    stripe_connect_webhook_secrets: tuple = field(repr=False)
    paypal_accounts: dict = field(repr=False)       # {merchant id: PayPalAccount}; empty where nobody sells through PayPal
    paypal_environment: str     # live or sandbox; empty without accounts
    paypal_api_base: str
    paypal_web_base: str
    paypal_cert_base: str       # empty: PayPal's own hosts
    paypal_trust_root: str = field(repr=False)      # PEM; empty: the public roots
    discord_api_base: str
    discord_authorize_url: str
    discord_client_id: str
    discord_client_secret: str = field(repr=False)
    discord_bot_token: str = field(repr=False)
    clock_url: str

    @property
    def live(self):
        return self.stage != LOCAL

    @property
    def secure(self):
        """True when browsers reach us over https: cookies are then Secure and `__Host-`."""
        return self.public_url.startswith("https://")

    @property
    def origin(self):
        """Scheme, host and port of the portal, as browsers send them in `Origin`."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def stripe_livemode(self):
        """True when the Stripe key is a live one; events of the other mode are not ours."""
        return "_live_" in self.stripe_api_key


def stage():
    """The stage that names tables and queues; needs no other setting, so packaging can ask."""
    name = os.environ.get("STAGE", LOCAL)
    if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", name):
        raise BadSetting("STAGE must be 1 to 16 lower-case letters and digits, beginning with a letter")
    return name


def resource(name):
    """The name of a table or queue in this stage: `rolekeep-<stage>-<name>`."""
    return f"rolekeep-{stage()}-{name}"


@functools.cache
def get():
    """The settings of this process. Raises BadSetting, naming the setting, when one is missing or not usable."""
    live = stage() != LOCAL
    own, connect = _webhook_secrets("STRIPE_WEBHOOK_SECRET"), _connect_webhook_secrets()
    if set(own) & set(connect):
        raise BadSetting("STRIPE_CONNECT_WEBHOOK_SECRET must not be a secret of STRIPE_WEBHOOK_SECRET: each endpoint has its own")
    key = _matching("STRIPE_API_KEY", _STRIPE_KEY, "a secret or restricted key (sk_… or rk_…)")
    return Settings(
        stage=stage(),
        public_url=_url("PUBLIC_URL", https=live),
        stripe_api_base=_fixed("STRIPE_API_BASE", STRIPE_API, live=live),
        stripe_api_key=key,
        stripe_webhook_secrets=own,
        stripe_connect_webhook_secrets=connect,
        **_paypal(live=live, real_money="_live_" in key),
        discord_api_base=_fixed("DISCORD_API_BASE", DISCORD_API, live=live),
        discord_authorize_url=_fixed("DISCORD_AUTHORIZE_URL", DISCORD_AUTHORIZE, live=live),
        discord_client_id=_matching("DISCORD_CLIENT_ID", re.compile(r"[0-9]{17,20}"), "the application's id"),
        discord_client_secret=_secret("DISCORD_CLIENT_SECRET"),
        discord_bot_token=_secret("DISCORD_BOT_TOKEN"),
        clock_url=_local_url("CLOCK_URL", "moves business time", live=live),
    )


def _secret(name):
    value = os.environ.get(name, "")
    if len(value) < 16 or value != value.strip() or not value.isascii() or value.lower() in ("changeme", "placeholder"):
        raise BadSetting(f"{name} is missing, too short, or a placeholder")
    return value


def _matching(name, pattern, what):
    value = os.environ.get(name, "")
    if not pattern.fullmatch(value):
        raise BadSetting(f"{name} must be {what}")
    return value


def _webhook_secrets(name):
    values = tuple(os.environ.get(name, "").split(","))
    if not all(_WEBHOOK_SECRET.fullmatch(value) for value in values):
        raise BadSetting(f"{name} must be one whsec_… secret, or several with commas while rotating")
    return values


def _connect_webhook_secrets():
    """Empty where nobody sells through a connected account: then there is no endpoint for their events."""
    return _webhook_secrets("STRIPE_CONNECT_WEBHOOK_SECRET") if os.environ.get("STRIPE_CONNECT_WEBHOOK_SECRET") else ()


def _paypal(*, live, real_money):
    """The fields of Settings that concern PayPal; `real_money` is true when the Stripe key is a live one."""
    accounts, environment = _paypal_accounts(), os.environ.get("PAYPAL_ENVIRONMENT", "")
    if environment not in (("live", "sandbox") if accounts else ("live", "sandbox", "")):
        raise BadSetting("PAYPAL_ENVIRONMENT must be live or sandbox")
    if accounts and (environment == "live") != real_money:
        raise BadSetting("PAYPAL_ENVIRONMENT must be of the same kind as STRIPE_API_KEY: live with a live key, sandbox with a test key")
    return {
        "paypal_accounts": accounts,
        "paypal_environment": environment if accounts else "",
        "paypal_api_base": _fixed("PAYPAL_API_BASE", PAYPAL_API[environment or "live"], live=live),
        "paypal_web_base": _fixed("PAYPAL_WEB_BASE", PAYPAL_WEB[environment or "live"], live=live),
        "paypal_cert_base": _local_url("PAYPAL_CERT_BASE", "tells whose certificates are believed", live=live),
        "paypal_trust_root": _trust_root(live=live),
    }


def _paypal_accounts():
    """{merchant id: PayPalAccount}; empty where nobody sells through PayPal: then there is no endpoint for its events."""
    value = os.environ.get("PAYPAL_ACCOUNTS", "")
    found = [_PAYPAL_ACCOUNT.fullmatch(entry) for entry in value.split(",")] if value else []
    if not all(found):
        raise BadSetting("PAYPAL_ACCOUNTS must be <merchant id>:<client id>:<secret>:<webhook id>[+<webhook id>], several with commas")
    made = [PayPalAccount(one["id"], one["client_id"], one["secret"], tuple(one["webhook_ids"].split("+"))) for one in found]
    webhooks = [webhook for one in made for webhook in one.webhook_ids]
    if len({one.id for one in made}) != len(made) or len(set(webhooks)) != len(webhooks):
        raise BadSetting("PAYPAL_ACCOUNTS must name each merchant id and each webhook id once: each account has its own")
    return {one.id: one for one in made}


def _trust_root(*, live):
    value = os.environ.get("PAYPAL_TRUST_ROOT", "")
    if value and live:
        raise BadSetting(f"PAYPAL_TRUST_ROOT tells whose certificates are believed and is refused in every stage but '{LOCAL}'")
    if value and not _PEM.fullmatch(value):
        raise BadSetting("PAYPAL_TRUST_ROOT must be one certificate in PEM form")
    return value


def _url(name, *, https):
    value = os.environ.get(name, "").rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in (("https",) if https else ("http", "https")) or not parts.hostname or parts.query:
        raise BadSetting(f"{name} must be an {'https' if https else 'http(s)'} address without a query")
    return value


def _fixed(name, default, *, live):
    """A sandbox may stand in for a processor in the local stage only."""
    if not os.environ.get(name):
        return default
    value = _url(name, https=False)
    if live and value != default:
        raise BadSetting(f"{name} must be {default} (or unset) in every stage but '{LOCAL}'")
    return value


def _local_url(name, what, *, live):
    """An address that only the local stage may have, or an empty text."""
    if not os.environ.get(name):
        return ""
    if live:
        raise BadSetting(f"{name} {what} and is refused in every stage but '{LOCAL}'")
    return _url(name, https=False)
