"""A server that sells through a connected account, met over HTTP: its webhooks, its purchases, and what a disconnection changes."""
import hashlib
import hmac
import itertools
import json
import os
import subprocess
import sys
import time

import pytest
import requests

from infra.local import aws
from infra.local.run import CONNECT_WEBHOOK_SECRET, STRIPE_KEY, WEBHOOK_SECRET, paypal_settings
from infra.local.walker import wait_for
from tests.api.town import api, is_problem
from tests.instance import quiet

_numbers = itertools.count(1)


@pytest.fixture
def account(town):
    """Yield the id of a new connected account, through which the town sells gold, bound by the operator's command."""
    key = f"acct_1Town{town.id[-9:]}{next(_numbers)}"
    town.sandbox.stripe("POST", "/accounts", {"id": key})
    offers = town.register()
    offers["gold"]["prices"] = [{"account": key, "id": _price(town, key), "amount": 500, "currency": "eur", "interval": "month"}]
    town.register(offers=offers)
    assert operate(town, "connect", town.id, key, "--owner", town.owner)[1]["state"] == "connected"
    return key


def _price(town, account):
    product = api(town.instance, "POST", "/v1/products", {"name": "Gold"}, account=account)["id"]
    return api(town.instance, "POST", "/v1/prices", {"product": product, "unit_amount": 500, "currency": "eur", "recurring[interval]": "month"}, account=account)["id"]


def operate(town, *arguments):
    """(exit code, the last line) of the operator's command against the instance."""
    from tests.usecases.product import ENVIRONMENT
    environment = {**ENVIRONMENT, "PATH": os.environ["PATH"], "STRIPE_API_BASE": town.instance.stripe_url, "STRIPE_API_KEY": STRIPE_KEY, "AWS_ENDPOINT_URL": town.instance.aws_url,
                   "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": aws.REGION, "CLOCK_URL": f"{town.instance.stripe_url}/_sandbox/clock",
                   "PUBLIC_URL": town.instance.url, **paypal_settings(town.instance.paypal_url, town.sandbox.paypal("GET", "/certificates")["root"])}
    done = subprocess.run([sys.executable, "-m", "chalicelib.operate", *arguments], cwd=aws.ROOT, env=environment, text=True, capture_output=True, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def buyer(town):
    """Somebody who has bought gold and holds its role, with their subscription's id."""
    member = town.person()
    member.buy(town.id, "gold")
    town.holds(member.user_id, town.gold)
    return member, member.subscriptions(town.id)[0]["id"]


def test_a_purchase_through_a_connected_account_gives_the_role_and_its_cancellation_is_made_there(town, account):
    member, key = buyer(town)
    town.sandbox.stripe("DELETE", "/requests")
    assert member.cancel(key)["next_charge"] == "none"
    assert api(town.instance, "GET", f"/v1/subscriptions/{key}", {}, account=account)["cancel_at_period_end"] is True
    url = member.call("POST", f"/api/v1/subscriptions/{key}/portal-session", {})["url"]
    assert url.startswith(town.instance.stripe_url)


def test_fault_53_a_disconnected_account_takes_no_role_and_says_why_and_comes_back_by_the_operators_command(town, account):
    member, key = buyer(town)
    town.sandbox.stripe("POST", f"/accounts/{account}/disconnect", {})
    wait_for(lambda: member.subscription(key)["why"], 10, "the profile says why")
    assert member.subscription(key)["why"]["code"] == "account_disconnected" and member.subscription(key)["actions"] == []
    town.sandbox.advance(86_400)
    quiet(town.operator)
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold} and town.dead() == []
    code, said = operate(town, "connect", town.id, account, "--owner", town.owner)
    assert (code, said["type"]) == (1, "urn:rolekeep:problem:account-no-access"), "not connected at Stripe yet"
    town.sandbox.stripe("POST", f"/accounts/{account}/reconnect", {})
    code, said = operate(town, "connect", town.id, account, "--owner", town.owner)
    assert code == 0 and said["members_called"] >= 1
    assert member.subscription(key)["why"] is None and member.cancel(key)["next_charge"] == "none"


@pytest.mark.parametrize("endpoint, secret, status", [("connect", CONNECT_WEBHOOK_SECRET, 200), ("connect", WEBHOOK_SECRET, 400), ("operator", CONNECT_WEBHOOK_SECRET, 400)])
def test_fault_50_A1_each_endpoint_takes_its_own_secret_only(instance, endpoint, secret, status):
    body, at = b'{"id":"evt_1X","object":"event","type":"ping","livemode":false}', int(time.time())
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    answer = requests.post(f"{instance.url}/webhooks/stripe/{endpoint}", data=body, timeout=10, headers={"Content-Type": "application/json", "Stripe-Signature": f"t={at},v1={signed}"})
    assert answer.status_code == status
    if status == 400:
        is_problem(answer, 400)
