"""Two PayPal accounts, and connecting one: what one says is about its own members only, and each refusal says what to do."""
import json

import pytest

from chalicelib import checkout, connect, operate, ports
from chalicelib.gateways import paypal as gateway
from chalicelib.problem import Problem
from chalicelib.store import accounts, ledger, links, servers
from infra.local.sandbox.paypal import Endpoint
from tests.usecases.paypal import MERCHANT, OWNER, SECOND, PayPal, second_account
from tests.usecases.product import ADA, BEN, DAY, GOLD, OTHER_SERVER, PORTAL, SERVER, SILVER
from tests.usecases.shop import OLGA, OTTO, parked

HOUR = 3_600
ADDRESS = f"{PORTAL}/webhooks/paypal/{{}}"


@pytest.fixture
def product(made):
    """Yield the product over tables in memory."""
    product = made(lambda url, headers, body: 200)
    yield product
    assert product.paypal.front.contract.violations.as_json()["violations"] == []


@pytest.fixture
def paypal(product):
    """Yield PayPal, through which the server sells gold and silver."""
    return PayPal(product).sells()


@pytest.fixture
def other(product, monkeypatch):
    """Yield a second merchant of ours."""
    from chalicelib import settings
    yield second_account(product, monkeypatch)
    settings.get.cache_clear()


def everything(product):
    return product.row(), product.row(BEN), product.shown(), product.shown(BEN)


# The wall

@pytest.mark.parametrize("kind", ["BILLING.SUBSCRIPTION.CANCELLED", "PAYMENT.SALE.REFUNDED", "PAYMENT.SALE.REVERSED", "CUSTOMER.DISPUTE.CREATED", "PAYMENT.SALE.COMPLETED"])
def test_I7_A9_an_event_of_one_account_about_what_is_the_other_s_changes_nothing_and_is_parked(product, paypal, other, kind):
    other.bind()
    name = paypal.holder()
    sale = paypal.sale(name)["id"]
    dispute = paypal.order("POST", f"sales/{sale}/dispute")["dispute_id"]
    paypal.forgets()
    paypal.comes_again(2)
    before = everything(product)
    about = dispute if "DISPUTE" in kind else sale if "SALE" in kind else name
    other.says(kind, {"id": about, "dispute_id": about, "sale_id": about, "billing_agreement_id": name})
    other.comes_again(14)
    assert everything(product) == before and parked(other.id) == ["unknown_subscription"] and parked(paypal.id) == []


def test_I7_A10_the_other_account_s_subscription_with_an_intent_of_this_one_gives_nothing(product, paypal, other):
    other.bind()
    intent = paypal.begins()["custom_id"]
    forged = other.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": other.plan(1), "custom_id": intent})["id"]
    other.approves(other.sub(forged))
    other.hears()
    assert product.shown() == set() and parked(other.id) == ["other_account"] and links.of_subscription(other.key(forged)) is None


def test_I7_A10_the_same_plan_id_at_another_account_buys_nothing(product, paypal, other):
    """A plan's id is only unique at its own account, as far as anybody knows."""
    other.bind()
    intent = "intent_of_ours_0000002"
    links.make_intent(intent, user=ADA, server=SERVER, offer="gold", account=other.id, now=ports.now())
    mine = other.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": other.plan(500), "custom_id": intent})["id"]
    other.approves(other.sub(mine))
    other.order("PATCH", f"subscriptions/{mine}", {"plan_id": paypal.plan(500)})
    other.hears()
    assert product.shown() == set() and parked(other.id) == ["unmapped_price"]


def test_I7_an_account_that_is_not_bound_to_the_server_sells_nothing_there_and_an_intent_of_before_gives_nothing(product, paypal, other):
    product.sells(SERVER, gold=([GOLD], [other.price(500)], {}))
    with pytest.raises(Problem) as refused:
        other.begins()
    assert refused.value.status == 404
    accounts.bind(other.id, server=OTHER_SERVER, owner=OWNER, at=ports.now(), why="connected")
    intent = "intent_of_ours_0000003"
    links.make_intent(intent, user=ADA, server=SERVER, offer="gold", account=other.id, now=ports.now())
    mine = other.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": other.plan(500), "custom_id": intent})["id"]
    other.approves(other.sub(mine))
    other.hears()
    assert product.shown() == set() and parked(other.id) == ["other_account"]
    other.bind()
    from chalicelib import parked as releases
    releases.release(other.id, deadline=ports.wall() + 60)
    product.work()
    assert product.shown() == {GOLD} and parked(other.id) == []


def test_I7_an_event_of_an_account_nobody_connected_is_parked_and_asks_nobody(product, paypal, other):
    name = paypal.holder()
    with product.counted() as seen:
        other.says("BILLING.SUBSCRIPTION.CANCELLED", {"id": name})
        other.says("PAYMENT.SALE.REFUNDED", {"id": "REFUND0000000001", "sale_id": paypal.sale(name)["id"]})
    assert seen.paypal() == [] and parked(other.id) == ["unknown_account"] * 2 and product.shown() == {GOLD}


def test_I7_each_account_is_asked_with_its_own_credentials_also_when_the_other_s_are_refused(product, paypal, other):
    product.sells(SERVER, gold=([GOLD], [paypal.price(500)], {}), silver=([SILVER], [other.price(300)], {}))
    paypal.bind()
    other.bind()
    gold, silver = paypal.holder("gold"), other.holder("silver")
    assert product.shown() == {GOLD, SILVER}
    asked = {entry["path"].rsplit("/", 1)[1]: entry["status"] for entry in product.paypal.front.log if entry["method"] == "GET" and "/subscriptions/" in entry["path"]}
    assert asked[gold] == asked[silver] == 200
    gateway._tokens.clear()
    known = product.paypal.accounts[other.id].merchant
    product.paypal.accounts[other.id].merchant = type(known)(known.id, known.client_id, "changed" * 10, webhook_ids=known.webhook_ids)
    paypal.acts(gold, "cancel")
    other.acts(silver, "suspend")
    product.advance(40 * DAY)
    paypal.hears()
    assert paypal.swept() == {SILVER}, "what one account says is so; what the other cannot say strips nobody"


def test_fault_40_one_payer_for_two_members_and_one_member_with_two_payers(product, paypal, other):
    product.sells(SERVER, gold=([GOLD], [paypal.price(500)], {}), silver=([SILVER], [other.price(300)], {}))
    paypal.bind()
    other.bind()
    ada, ben = paypal.begins("gold", ADA), paypal.begins("gold", BEN)
    paypal.approves(ada, "shared@canary.example")
    paypal.approves(ben, "shared@canary.example")
    silver = other.begins("silver", ADA)
    other.approves(silver, "second@canary.example")
    paypal.hears()
    other.hears()
    assert product.shown(ADA) == {GOLD, SILVER} and product.shown(BEN) == {GOLD}
    paypal.acts(ben["id"], "cancel")
    paypal.hears()
    product.advance(33 * DAY)
    paypal.forgets()
    assert paypal.swept(BEN) == set() and product.shown(ADA) == {GOLD, SILVER}
    from chalicelib import profile
    from chalicelib.store.sessions import Member
    shown = json.dumps(profile.profile("secret", Member(BEN, "Ben")))
    assert "canary.example" not in shown and ada["id"] not in shown
    with pytest.raises(Problem):
        paypal.clicks(ada["id"], user=BEN)


# Connecting

@pytest.fixture
def hooked(product, paypal, other):
    """Yield the second merchant, whose webhook is there as it must be."""
    product.paypal.webhooks.endpoints.append(Endpoint(ADDRESS.format(SECOND.id), SECOND.id, SECOND.webhook_ids[0]))
    gateway._tokens.clear()
    return other


def connects(account=SECOND.id, *, server=SERVER, owner=OLGA, **more):
    return connect.connect(server_id=server, account=account, owner=owner, deadline=ports.wall() + 60, **more)


def refused(**more):
    with pytest.raises(Problem) as caught:
        connects(**more)
    assert caught.value.body()["next"] and accounts.read(more.get("account", SECOND.id)) is None
    return caught.value


def hook(product, **wish):
    was, = [one for one in product.paypal.webhooks.endpoints if one.merchant == SECOND.id]
    product.paypal.webhooks.endpoints[:] = [Endpoint(**{**vars(was), **wish})]


def test_a_paypal_account_is_connected_by_one_command_and_sells_at_once(product, paypal, hooked):
    said = connects()
    assert said["account"] == SECOND.id and said["state"] == "connected" and said["servers"] == [SERVER]
    assert connects()["since"] == said["since"], "doing it again changes nothing"
    product.sells(SERVER, gold=([GOLD], [hooked.price(500)], {}))
    servers.use_account(SERVER, SECOND.id)
    hooked.holder()
    assert product.shown() == {GOLD}
    assert [row.data["cause"] for row in ledger.of(f"account#{SECOND.id}")] == ["operator:connect"] * 2


def test_a_dry_run_only_checks(product, paypal, hooked, capsys):
    assert operate.main(["connect", SERVER, SECOND.id, "--owner", OLGA, "--dry-run"]) == 0
    assert accounts.read(SECOND.id) is None and SECOND.id not in servers.read(SERVER)[0].accounts


def test_without_credentials_here_it_cannot_be_connected(product, paypal):
    problem = refused(account="2222222222222")
    assert (problem.status, problem.code) == (409, "account-no-access") and "PAYPAL_ACCOUNTS" in problem.body()["next"]


@pytest.mark.parametrize("status, code", [(401, "account-no-access"), (403, "try-later"), (500, "try-later"), (429, "try-later")])
def test_what_paypal_answers_to_our_credentials_is_told(product, paypal, hooked, status, code):
    product.order("paypal", path="/v1/oauth2/token", do="answer", status=status, body={"error": "invalid_client"})
    problem = refused()
    assert problem.code == code and SECOND.secret not in str(problem.body()) and SECOND.client_id not in str(problem.body())


@pytest.mark.parametrize("status, code", [(404, "account-webhook"), (403, "account-no-access"), (503, "try-later"), (200, "try-later")])
def test_what_paypal_answers_about_the_webhook_is_told(product, paypal, hooked, status, code):
    product.order("paypal", path="/v1/notifications/webhooks/", do="answer", status=status, body="<html>" if status == 200 else {})
    problem = refused()
    assert problem.code == code
    if status == 404:
        assert ADDRESS.format(SECOND.id) in problem.body()["next"]


@pytest.mark.parametrize("wish", [{"url": "https://elsewhere.example/hook"}, {"url": ADDRESS.format(MERCHANT.id)}, {"url": ADDRESS.format(SECOND.id) + "/"}])
def test_a_webhook_that_leads_elsewhere_is_refused_with_the_right_address(product, paypal, hooked, wish):
    hook(product, **wish)
    problem = refused()
    assert problem.code == "account-webhook" and ADDRESS.format(SECOND.id) in problem.body()["next"]


def test_a_webhook_that_does_not_tell_of_everything_is_refused_with_what_is_missing(product, paypal, hooked):
    from chalicelib.domain.paypal import EVENTS
    hook(product, event_types=tuple(kind for kind in EVENTS if "DISPUTE" not in kind))
    problem = refused()
    assert problem.code == "account-webhook" and "CUSTOMER.DISPUTE.CREATED" in problem.body()["detail"] and "PAYMENT.SALE.REFUNDED" not in problem.detail
    hook(product, event_types=EVENTS)
    assert connects()["state"] == "connected"


def test_C8_the_account_of_another_owner_is_refused_before_anybody_is_asked_and_can_be_handed_over_with_all_its_servers(product, paypal, hooked):
    connects()
    product.furnish(OTHER_SERVER)
    with product.counted() as seen, pytest.raises(Problem) as taken:
        connects(owner=OTTO, server=OTHER_SERVER)
    assert taken.value.code == "account-taken" and seen.paypal() == []
    assert accounts.read(SECOND.id).owner == OLGA and SECOND.id not in servers.read(OTHER_SERVER)[0].accounts
    said = connects(owner=OTTO, server=OTHER_SERVER, transfer=True)
    assert said["owner"] == OTTO and said["servers"] == sorted([SERVER, OTHER_SERVER])


@pytest.mark.parametrize("account", ["rkeepsandbx33", "RKEEPSANDBX3", "RKEEPSANDBX0O", "RKEEPSANDBX33 ", "operator", "paypal:RKEEPSANDBX33", "", "RKEEPSANDBX33\n"])
def test_C17_what_is_no_merchant_id_is_refused(product, paypal, hooked, account):
    with pytest.raises(Problem) as caught:
        connects(account)
    assert caught.value.status == 400


def test_T36_what_waited_for_the_account_is_released_when_it_is_connected(product, paypal, hooked):
    product.sells(SERVER, gold=([GOLD], [hooked.price(500)], {}))
    intent = "intent_of_ours_0000004"
    links.make_intent(intent, user=ADA, server=SERVER, offer="gold", account=hooked.id, now=ports.now())
    name = hooked.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": hooked.plan(500), "custom_id": intent})["id"]
    hooked.approves(hooked.sub(name))
    hooked.hears()
    hooked.order("POST", f"sales/{hooked.sale(name)['id']}/dispute")
    hooked.hears()
    assert set(parked(hooked.id)) == {"unknown_account"} and product.shown() == set()
    waiting = len(parked(hooked.id))
    assert connects()["released"] == waiting
    product.work()
    assert parked(hooked.id) == [] and product.row().subs.keys() == {hooked.key(name)} and [one.dispute for one in product.row().holds.values()] == ["open"]
    assert product.shown() == set(), "its dispute counts as well"


def test_what_can_be_bought_at_an_account_that_is_off_says_so(product, paypal):
    accounts.disconnect(paypal.id, at=ports.now(), why="test")
    product.sells(SERVER, gold=([GOLD], [paypal.price(500)], {}))
    servers.use_account(SERVER, paypal.id)
    with pytest.raises(Problem) as off:
        checkout.start(user=ADA, server_id=SERVER, offer_id="gold", processor="paypal", deadline=ports.wall() + 25)
    assert off.value.code == "account-disconnected"
