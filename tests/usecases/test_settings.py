"""The environment: what is missing, a placeholder or dangerous is refused by name, and never shown."""
import os
import subprocess
import sys

import pytest

from chalicelib import settings
from infra.local import aws
from tests.usecases.product import ENVIRONMENT

PAYPAL = f"RKEEPSANDBX22:{'canaryA1_-' * 8}:{'canaryB2_-' * 8}:4CANARY0000000017"
OTHER_PAYPAL = f"ANTHERMERCH22:{'canaryC1_-' * 8}:{'canaryD2_-' * 8}:5CANARY0000000017"
ROOT = "-----BEGIN CERTIFICATE-----\n" + "canary00" * 20 + "\n-----END CERTIFICATE-----\n"
LIVE = {**ENVIRONMENT, "STAGE": "prod", "STRIPE_API_BASE": "", "DISCORD_API_BASE": "", "DISCORD_AUTHORIZE_URL": "", "DISCORD_CLIENT_SECRET": "f4kW-canary-secret-of-discord",
        "DISCORD_BOT_TOKEN": "MTA.canary.token-of-the-bot", "PAYPAL_ACCOUNTS": "", "PAYPAL_ENVIRONMENT": "", "PAYPAL_API_BASE": "", "PAYPAL_WEB_BASE": "", "PAYPAL_CERT_BASE": "",
        "PAYPAL_TRUST_ROOT": ""}
OPTIONAL = {"STAGE", "STRIPE_CONNECT_WEBHOOK_SECRET", "STRIPE_API_BASE", "DISCORD_API_BASE", "DISCORD_AUTHORIZE_URL", "CLOCK_URL", *(name for name in LIVE if name.startswith("PAYPAL_"))}


@pytest.fixture
def read(monkeypatch):
    """Reads the settings from exactly these values."""
    def from_(values):
        for name in LIVE:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        settings.get.cache_clear()
        return settings.get()

    yield from_
    settings.get.cache_clear()


def test_the_right_ones_are_read_in_both_kinds_of_stage(read):
    assert read(ENVIRONMENT).live is False and read(LIVE).live is True
    assert read(LIVE).stripe_api_base == "https://api.stripe.com" and read(LIVE).discord_api_base == "https://discord.com/api/v10"
    assert read({**LIVE, "STRIPE_WEBHOOK_SECRET": "whsec_theNewOne0000000000,whsec_theOldOne0000000000"}).stripe_webhook_secrets == (
        "whsec_theNewOne0000000000", "whsec_theOldOne0000000000")


def test_fault_50_A1_each_endpoint_has_secrets_of_its_own_several_while_rotating_and_none_is_in_both(read):
    assert read({**LIVE, "STRIPE_CONNECT_WEBHOOK_SECRET": ""}).stripe_connect_webhook_secrets == ()
    assert read({**LIVE, "STRIPE_CONNECT_WEBHOOK_SECRET": "whsec_theNewOne0000000000,whsec_theOldOne0000000000"}).stripe_connect_webhook_secrets == (
        "whsec_theNewOne0000000000", "whsec_theOldOne0000000000")
    for both in (LIVE["STRIPE_WEBHOOK_SECRET"], f"whsec_another00000000000,{LIVE['STRIPE_WEBHOOK_SECRET']}"):
        with pytest.raises(settings.BadSetting, match="STRIPE_CONNECT_WEBHOOK_SECRET") as refused:
            read({**LIVE, "STRIPE_CONNECT_WEBHOOK_SECRET": both})
        assert LIVE["STRIPE_WEBHOOK_SECRET"] not in str(refused.value)


def test_fault_50_A8_paypal_is_off_by_default_and_each_account_has_its_own_credentials_and_webhooks(read):
    off = read(LIVE)
    assert (off.paypal_accounts, off.paypal_environment, off.paypal_cert_base, off.paypal_trust_root) == ({}, "", "", "")
    on = read({**LIVE, "PAYPAL_ACCOUNTS": f"{PAYPAL}+6CANARY0000000017,{OTHER_PAYPAL}", "PAYPAL_ENVIRONMENT": "sandbox"})
    assert (on.paypal_environment, on.paypal_api_base, on.paypal_web_base) == ("sandbox", "https://api-m.sandbox.paypal.com", "https://www.sandbox.paypal.com")
    assert on.paypal_accounts == {
        "RKEEPSANDBX22": settings.PayPalAccount("RKEEPSANDBX22", "canaryA1_-" * 8, "canaryB2_-" * 8, ("4CANARY0000000017", "6CANARY0000000017")),
        "ANTHERMERCH22": settings.PayPalAccount("ANTHERMERCH22", "canaryC1_-" * 8, "canaryD2_-" * 8, ("5CANARY0000000017",))}
    real = read({**LIVE, "STRIPE_API_KEY": "sk_live_canary0000000000", "PAYPAL_ACCOUNTS": PAYPAL, "PAYPAL_ENVIRONMENT": "live"})
    assert (real.paypal_api_base, real.paypal_web_base) == ("https://api-m.paypal.com", "https://www.paypal.com")


@pytest.mark.parametrize("key, environment", [("sk_test_canary0000000000", "live"), ("sk_live_canary0000000000", "sandbox"), ("sk_test_canary0000000000", ""), ("sk_live_canary0000000000", "")])
def test_A8_sandbox_and_live_are_never_mixed(read, key, environment):
    with pytest.raises(settings.BadSetting, match="PAYPAL_ENVIRONMENT"):
        read({**LIVE, "STRIPE_API_KEY": key, "PAYPAL_ACCOUNTS": PAYPAL, "PAYPAL_ENVIRONMENT": environment})


def test_a_sandbox_of_paypal_may_stand_in_in_the_local_stage_only(read):
    stand_ins = {"PAYPAL_API_BASE": "http://127.0.0.1:5", "PAYPAL_WEB_BASE": "http://127.0.0.1:5", "PAYPAL_CERT_BASE": "http://127.0.0.1:5", "PAYPAL_TRUST_ROOT": ROOT}
    local = read({**ENVIRONMENT, **stand_ins, "PAYPAL_ACCOUNTS": PAYPAL, "PAYPAL_ENVIRONMENT": "sandbox"})
    assert {local.paypal_api_base, local.paypal_web_base, local.paypal_cert_base} == {"http://127.0.0.1:5"} and local.paypal_trust_root == ROOT
    with pytest.raises(settings.BadSetting, match="PAYPAL_TRUST_ROOT"):
        read({**ENVIRONMENT, "PAYPAL_TRUST_ROOT": "canary"})
    for name, value in stand_ins.items():
        with pytest.raises(settings.BadSetting, match=name):
            read({**LIVE, name: value})


def test_what_is_secret_is_not_in_the_text_of_the_settings(read):
    shown = repr(read({**ENVIRONMENT, "PAYPAL_ACCOUNTS": PAYPAL, "PAYPAL_ENVIRONMENT": "sandbox", "PAYPAL_TRUST_ROOT": ROOT}))
    shown += repr(settings.get().paypal_accounts)
    secrets = ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_CONNECT_WEBHOOK_SECRET", "DISCORD_CLIENT_SECRET", "DISCORD_BOT_TOKEN")
    assert not [name for name in secrets if ENVIRONMENT[name] in shown] and "canary" not in shown and "local" in shown


PLACEHOLDERS = ("", " ", "None", "null", "changeme", "placeholder", "x", "\t" * 20, " " * 20)
REFUSED = [(name, value) for name in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "DISCORD_CLIENT_ID", "DISCORD_CLIENT_SECRET", "DISCORD_BOT_TOKEN", "PUBLIC_URL") for value in PLACEHOLDERS]
REFUSED += [("STRIPE_WEBHOOK_SECRET", value) for value in (
    "whsec_", "whsec_short", " whsec_canary0000000000000", "whsec_canary0000000000000 ", "whsec_canary0000000000000\n", "sk_test_canary00000000000", "whsec_canary0000000000000,", ",whsec_canary0000000000000",
    "whsec_canary0000000000000, whsec_canary0000000000001", "whsec_canary0000000000000,None", "WHSEC_canary0000000000000")]
REFUSED += [("STRIPE_CONNECT_WEBHOOK_SECRET", value) for value in (" ", "None", "changeme", "whsec_canary", "whsec_canary0000000000000,", ",", "whsec_canary0000000000000\n")]
REFUSED += [("STRIPE_API_KEY", value) for value in ("pk_test_canary0000000000", "sk_test_", "whsec_canary0000000000000", "sk_canary0000000000", " sk_test_canary0000000000", "sk_test_canary0000000000\n")]
REFUSED += [("DISCORD_CLIENT_ID", value) for value in ("12", "1" * 21, "canary", "١" * 18, "123456789012345678 ")]
REFUSED += [("DISCORD_CLIENT_SECRET", " canary-secret-of-discord"), ("DISCORD_BOT_TOKEN", "canary-token-of-the-bot\n"), ("DISCORD_BOT_TOKEN", "canary-token-é-of-the-bot")]
REFUSED += [("PUBLIC_URL", value) for value in ("http://canary.example", "canary.example", "https://", "javascript:canary", "https://canary.example?x=1", "ftp://canary.example")]
REFUSED += [("STRIPE_API_BASE", "http://canary.example"), ("STRIPE_API_BASE", "https://api.stripe.com.canary.example"), ("DISCORD_API_BASE", "https://canary.example/api/v10"),
            ("DISCORD_AUTHORIZE_URL", "https://canary.example"), ("CLOCK_URL", "http://canary.example/clock")]
REFUSED += [("PAYPAL_ACCOUNTS", value) for value in (
    " ", "None", "changeme", "RKEEPSANDBX22", PAYPAL + ",", "," + PAYPAL, PAYPAL + " ", PAYPAL + "\n", PAYPAL + "+", PAYPAL + "+5canary", PAYPAL.lower(), PAYPAL.replace("RKEEPSANDBX22", "RKEEPSANDBX1O"),
    PAYPAL.replace("RKEEPSANDBX22", "RKEEPSANDBX2"), PAYPAL.replace("RKEEPSANDBX22", "RKEEPSANDBX222"), PAYPAL.replace("RKEEPSANDBX22", "paypal:RKEEPSANDBX22"), PAYPAL.rpartition(":")[0],
    PAYPAL.replace(":4CANARY", ":canary:4CANARY"), PAYPAL.replace("A1_-", "A1_+"), PAYPAL.replace("B2_-", "B2=-"), PAYPAL.replace("canaryA1_-", ""), PAYPAL + "+6CANARY0000000017" * 4,
    f"{PAYPAL},{PAYPAL.replace('4CANARY', '6CANARY')}", f"{PAYPAL},{OTHER_PAYPAL.replace('5CANARY', '4CANARY')}", f"{PAYPAL}+4CANARY0000000017", f"{PAYPAL}, {OTHER_PAYPAL}", f"{PAYPAL};{OTHER_PAYPAL}")]
REFUSED += [("PAYPAL_ENVIRONMENT", value) for value in ("canary", "Live", "test", "sandbox ", "live\n")]
REFUSED += [("PAYPAL_API_BASE", "http://canary.example"), ("PAYPAL_API_BASE", "https://api-m.paypal.com.canary.example"), ("PAYPAL_WEB_BASE", "https://canary.example"),
            ("PAYPAL_CERT_BASE", "https://canary.example"), ("PAYPAL_CERT_BASE", "https://api.paypal.com/canary"), ("PAYPAL_TRUST_ROOT", ROOT), ("PAYPAL_TRUST_ROOT", "canary")]


@pytest.mark.parametrize("name, value", REFUSED)
def test_fault_51_A15_T44_a_missing_placeholder_or_odd_value_is_refused_by_its_name_only(read, name, value):
    with pytest.raises(settings.BadSetting) as refused:
        read({**LIVE, name: value})
    assert name in str(refused.value) and "canary" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(set(LIVE) - OPTIONAL))
def test_fault_51_an_absent_value_is_refused(read, name):
    with pytest.raises(settings.BadSetting, match=name):
        read({key: value for key, value in LIVE.items() if key != name})


@pytest.mark.parametrize("stage", ["", "Prod", "prod-eu", "prod eu", "../x", "1prod", "p" * 17, "prod\n"])
def test_a_stage_that_would_make_odd_table_names_is_refused(read, stage):
    with pytest.raises(settings.BadSetting, match="STAGE"):
        read({**LIVE, "STAGE": stage})


def test_A15_without_settings_the_intake_takes_nothing_and_tells_nothing(product, call, monkeypatch):
    body = b'{"object":"event","type":"ping"}'
    for value in ("", "None", "whsec_canary"):
        monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", value)
        settings.get.cache_clear()
        with product.counted() as seen:
            answer = call("POST", "/webhooks/stripe/operator", {"Stripe-Signature": "t=1,v1=" + "0" * 64}, body)
        assert answer.status == 500 and "WHSEC" not in answer.text.upper() and "Traceback" not in answer.text and seen.aws == []
    settings.get.cache_clear()


def test_importing_the_app_needs_no_setting_no_aws_and_nothing_heavy():
    """Packaging imports it, and every cold start of the intake does."""
    # Rows: fault 63
    code = ("import sys, app; heavy = {'stripe', 'boto3', 'botocore', 'pynamodb', 'requests', 'aws_lambda_powertools'} & set(sys.modules); "
            "assert not heavy, heavy; import chalicelib.intake; print(sorted({'stripe', 'pynamodb', 'requests'} & set(sys.modules)))")
    run = subprocess.run([sys.executable, "-c", code], cwd=aws.ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
