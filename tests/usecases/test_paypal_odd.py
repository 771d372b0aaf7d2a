"""PayPal over the years and on bad days: odd answers, clocks, other plans and currencies, what it forgets; erasing; what a row grows to."""
import json

import pytest

from chalicelib import anonymise, cancel, checkout, erase, export, ports, timeline
from chalicelib.gateways import paypal as gateway
from chalicelib.problem import Problem
from chalicelib.store import ledger, links, members
from chalicelib.store.sessions import Member
from infra.local.sandbox.paypal import MERCHANT
from tests.usecases.paypal import PayPal
from tests.usecases.product import ADA, DAY, DISCORD, GOLD, SERVER
from tests.usecases.shop import parked

HOUR = 3_600


@pytest.fixture
def paypal(made):
    """Yield PayPal, through which the server sells gold and silver, over tables in memory."""
    paypal = PayPal(made(lambda url, headers, body: 200)).sells(cancel_now=True)
    yield paypal
    assert paypal.product.paypal.front.contract.violations.as_json()["violations"] == []


# Odd answers

ODD = {"HTML": "<html>maintenance</html>", "a list": [], "nothing": "", "a number": "5", "deep": "[" * 100_000, "many digits": '{"status":' + "9" * 5_000 + "}",
       "cut off": '{"id":"I-1","sta', "NaN": '{"status":NaN}', "another's": {"id": "I-OTHER", "status": "CANCELLED"}, "a new status": {"status": "EXPIRING"},
       "huge": '{"x":"' + "y" * 3_000_000 + '"}', "no plan": None, "a text as plan": None}


@pytest.mark.parametrize("what", ODD)
def test_I3_I10_fault_27_30_whatever_paypal_answers_instead_of_a_subscription_strips_nobody_and_fails_no_message(paypal, what):
    product = paypal.product
    name = paypal.holder()
    whole = paypal.at_paypal("GET", f"/v1/billing/subscriptions/{name}?fields=plan")
    odd = {"no plan": {key: value for key, value in whole.items() if key != "plan"}, "a text as plan": whole | {"plan": "P-1"}}
    body = odd.get(what, ODD[what])
    if isinstance(body, dict):
        body = {"id": name} | body
    product.order("paypal", method="GET", path="/v1/billing/subscriptions/", times=None, do="answer", status=200, body=body)
    assert paypal.says("BILLING.SUBSCRIPTION.CANCELLED", {"id": name}) == 0
    assert paypal.says("PAYMENT.SALE.COMPLETED", {"id": paypal.sale(name)["id"], "billing_agreement_id": name}) == 0
    product.advance(40 * DAY)
    assert paypal.swept() == {GOLD} and product.row().due_at > ports.now() and product.row().lease is None
    with pytest.raises(Problem) as later:
        paypal.clicks(name)
    assert later.value.status == 503 and ledger.of(f"money#{paypal.key(name)}") == []
    product.paypal.front.faults.clear()
    product.advance(2 * HOUR)
    assert paypal.swept() == {GOLD} and paypal.shows(name)["state"] == "active"


def test_I1_a_payment_of_a_subscription_that_can_never_be_read_does_not_go_round_for_ever(paypal):
    """An agreement of before there were plans, sold by a shop on the same account."""
    product = paypal.product
    name = paypal.buys()
    product.messages("paypal-events")
    paypal.forgets()
    paypal.comes_again(2)
    product.order("paypal", method="GET", path="/v1/billing/subscriptions/", times=None, do="answer", status=200, body={"id": name, "state": "Active"})
    paypal.says("PAYMENT.SALE.COMPLETED", {"id": paypal.sale(name)["id"], "billing_agreement_id": name})
    paypal.comes_again(14)
    assert product.delayed("paypal-events") == 0 and set(parked(paypal.id)) <= {"unknown_subscription"}
    product.paypal.front.faults.clear()
    product.advance(2 * DAY)
    from chalicelib import parked as releases
    releases.run(remaining=lambda: 60, limit=60)
    product.work()
    assert product.shown() == {GOLD}, "and is tried again now and then"


@pytest.mark.parametrize("fault", [{"do": "answer", "status": 302, "body": "", "headers": {"Location": f"{DISCORD}/steal"}}, {"do": "answer", "status": 429, "body": {}},
                                   {"do": "answer", "status": 200, "body": "<html>"}, {"do": "answer", "status": 500, "body": "<html>"}, {"do": "close"}, {"do": "timeout"}])
def test_I6_fault_14_a_cancel_that_is_answered_oddly_is_told_as_it_is_read_back(paypal, fault):
    product = paypal.product
    name = paypal.holder()
    product.order("paypal", method="POST", path="/cancel$", **fault)
    with product.counted() as seen, pytest.raises(Problem) as unsure:
        paypal.clicks(name)
    assert unsure.value.code == "not-confirmed" and paypal.sub(name)["status"] == "ACTIVE" and {base for base, *_ in seen.http} == {"http://paypal.test"}
    product.time.passes(61)
    assert paypal.clicks(name)["next_charge"] == "none" and paypal.sub(name)["status"] == "CANCELLED"


@pytest.mark.parametrize("answer", [{}, [], "<html>", {"access_token": None, "expires_in": 100}, {"access_token": 5, "expires_in": 100}, {"access_token": "", "expires_in": 100},
                                    {"access_token": "a\r\nX: y", "expires_in": 100}, {"access_token": "sch\u00f6n", "expires_in": 100}, {"access_token": "a b", "expires_in": 100},
                                    {"access_token": "x" * 5_000, "expires_in": 100}, {"access_token": "abc"}, {"access_token": "abc", "expires_in": "soon"},
                                    '{"access_token":"abc","expires_in":Infinity}', "[" * 100_000])
def test_fault_27_an_odd_token_is_no_token_and_is_not_kept(paypal, answer):
    product = paypal.product
    name = paypal.holder()
    gateway._tokens.clear()
    product.order("paypal", path="/v1/oauth2/token", times=None, do="answer", status=200, body=answer)
    with product.counted() as seen:
        assert paypal.says("BILLING.SUBSCRIPTION.UPDATED", {"id": name}) == 0
    assert seen.paypal() == ["POST /v1/oauth2/token"] and product.shown() == {GOLD} and gateway._tokens == {}
    product.paypal.front.faults.clear()
    product.advance(HOUR)
    assert paypal.swept() == {GOLD} and product.row().subs[paypal.key(name)].unread_since == 0


@pytest.mark.parametrize("lasts", [0, -5, 1, 60])
def test_a_token_that_lasts_no_time_is_used_once(paypal, lasts):
    name = paypal.holder()
    gateway._tokens.clear()
    token = paypal.product.paypal.tokens.for_merchant(MERCHANT.id)
    paypal.product.order("paypal", path="/v1/oauth2/token", times=None, do="answer", status=200, body={"access_token": token, "expires_in": lasts})
    for _ in range(2):
        with paypal.product.counted() as seen:
            paypal.says("BILLING.SUBSCRIPTION.UPDATED", {"id": name})
        assert seen.paypal().count("POST /v1/oauth2/token") == 1


@pytest.mark.parametrize("href", ["https://evil.test/webapps", "http://paypal.test.evil.test/x", "http://paypal.test@evil.test/x", "javascript:alert(1)", "http://[", 5, None, "//paypal.test/x", ""])
def test_a_buyer_is_sent_to_no_other_page_than_paypal_s(paypal, href):
    paypal.product.order("paypal", method="POST", path="/v1/billing/subscriptions$", do="answer", status=201, body={"id": "I-NEW000000001", "links": [{"rel": "approve", "href": href}]})
    with pytest.raises(Problem) as refused:
        checkout.start(user=ADA, server_id=SERVER, offer_id="gold", processor="paypal", deadline=ports.wall() + 25)
    assert refused.value.status == 503 and paypal.product.delayed("paypal-events") == 0


# Clocks

@pytest.mark.parametrize("skew", [-600, 600])
def test_fault_48_T19_paypal_s_clock_ten_minutes_off_moves_nothing_and_takes_nothing_early(paypal, skew):
    product = paypal.product
    product.clock._wall = lambda: product.time.at + skew
    name = paypal.holder()
    end = paypal.ends(name)
    assert product.shown() == {GOLD} and paypal.shows(name)["begins_at"] is None
    receipt = paypal.clicks(name)
    from chalicelib.domain.paypal import instant
    assert instant(receipt["access_until"]) == end
    paypal.hears()
    assert product.shown() == {GOLD} and product.row().subs[paypal.key(name)].cancel_at == end


def test_fault_44_while_a_failed_payment_waits_to_be_tried_again_nobody_gets_the_role_back_for_that(paypal):
    paypal.sells(grace_days=3)
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.fails(name)
    paypal.until(end + HOUR)
    paypal.swept()
    paypal.until(end + 5 * DAY + 600)       # the time that PayPal told has come; it tries half an hour later
    assert paypal.swept() == set()
    paypal.says("BILLING.SUBSCRIPTION.UPDATED", {"id": name})
    assert paypal.product.shown() == set() and paypal.shows(name)["status"] == "past_due"


# Other plans

@pytest.mark.parametrize("unit, count", [("DAY", 1), ("DAY", 3), ("WEEK", 1), ("MONTH", 3), ("YEAR", 1)])
def test_fault_46_49_plans_of_every_length_renew_and_run_out_to_the_second(paypal, unit, count):
    paypal.sells(plan={"regular": {"interval_unit": unit, "interval_count": count}})
    name = paypal.holder()
    for _ in range(3):
        paypal.until(paypal.ends(name) + HOUR)
        assert paypal.swept() == {GOLD}
    end = paypal.ends(name)
    receipt = paypal.clicks(name)
    from chalicelib.domain.paypal import instant
    assert instant(receipt["access_until"]) == end
    paypal.hears()
    paypal.until(end - 1)
    assert paypal.swept() == {GOLD} and paypal.product.row().subs[paypal.key(name)].cancel_at == end
    paypal.until(end)
    assert paypal.swept() == set()


def test_C10_a_plan_in_yen_has_no_cents(paypal):
    product = paypal.product
    made = paypal.at_paypal("POST", "/v1/catalogs/products", {"name": "Yen", "type": "DIGITAL"})["id"]
    plan = paypal.at_paypal("POST", "/v1/billing/plans", {"product_id": made, "name": "Yen", "payment_preferences": {}, "billing_cycles": [
        {"tenure_type": "REGULAR", "sequence": 1, "total_cycles": 0, "frequency": {"interval_unit": "MONTH", "interval_count": 1},
         "pricing_scheme": {"fixed_price": {"value": "500", "currency_code": "JPY"}}}]})["id"]
    price = {"account": paypal.id, "id": plan, "amount": 500, "currency": "jpy", "interval": "month"}
    product.sells(SERVER, gold=([GOLD], [price], {}))
    paypal.bind()
    name = paypal.holder()
    assert product.shown() == {GOLD} and paypal.shows(name)["price"]["amount"] == 500
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund", {"amount": "499"})
    paypal.hears()
    assert product.shown() == {GOLD}, "a part is no whole"
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.hears()
    assert product.shown() == set() and [hold.amount for hold in product.row().holds.values()] == [500]


# What PayPal forgets

@pytest.mark.parametrize("status", [404, 503])
def test_I4_fault_54_what_was_cancelled_long_ago_and_is_known_no_more_runs_to_its_end_and_not_a_second_longer(paypal, status):
    product = paypal.product
    paypal.sells(plan={"regular": {"interval_unit": "YEAR", "interval_count": 1}})
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    end = product.row().subs[paypal.key(name)].cancel_at
    product.order("paypal", method="GET", path="/v1/billing/subscriptions/", times=None, do="answer", status=status, body={})
    product.control("DELETE", f"/guilds/{SERVER}/members/{ADA}")
    product.advance(100 * DAY)
    product.sweep()
    product.control("PUT", f"/guilds/{SERVER}/members/{ADA}")
    product.advance(DAY + 60)
    assert paypal.swept() == {GOLD}, "who comes back is given what is paid, whatever PayPal still knows"
    paypal.until(end - 1)
    assert paypal.swept() == {GOLD}
    paypal.until(end)
    assert paypal.swept() == set()
    paypal.until(end + 4 * DAY)     # a payment that was under way may have been booked until then
    assert paypal.swept() == set() and product.row().due_at is None


def test_status_update_time_that_moves_with_every_payment_begins_no_grace_anew(paypal):
    paypal.sells(grace_days=7)
    name = paypal.holder()
    end = paypal.ends(name)
    paypal.fails(name)
    for day in range(1, 7):
        paypal.until(end + day * DAY)
        paypal.sub(name)["status_at"] = int(paypal.product.clock.now())
        assert paypal.swept() == {GOLD}
        assert paypal.product.row().subs[paypal.key(name)].unpaid_since == end
    paypal.until(end + 7 * DAY)
    assert paypal.swept() == set()


def test_what_is_sold_no_more_while_it_runs_out_is_parked_and_told(paypal):
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    paypal.product.sells(SERVER, silver=([GOLD], [paypal.price(300)], {}))
    paypal.bind()
    paypal.says("BILLING.SUBSCRIPTION.UPDATED", {"id": name})
    assert parked(paypal.id) == ["unmapped_price"]


# Erase and export

def erased(paypal):
    secret, _ = paypal.product.signed_in()
    erase.erase(user=ADA, secret=secret, cancel_subscriptions=True, confirm=True, deadline=ports.wall() + 60)
    paypal.product.work()
    paypal.product.time.passes(anonymise.FRESH_SECONDS + 5)
    paypal.swept()
    paypal.product.time.passes(130)
    paypal.swept()


@pytest.mark.parametrize("state", ["active", "running out", "suspended", "not begun", "failing"])
def test_D15_erased_means_cancelled_at_paypal_and_nothing_late_brings_it_back(paypal, state):
    product = paypal.product
    name = paypal.holder()
    if state in ("running out", "not begun"):
        paypal.clicks(name)
        paypal.hears()
    if state == "not begun":
        paypal.approves(paypal.of(paypal.undoes(name)))
        paypal.hears()
    if state == "suspended":
        paypal.acts(name, "suspend")
        paypal.hears()
    if state == "failing":
        paypal.fails(name)
        paypal.until(paypal.ends(name) + HOUR)
        paypal.swept()
    told = paypal.events()
    names = [paypal.key(sub["id"]) for sub in paypal.account.world.all("subscription")]
    erased(paypal)
    assert {sub["status"] for sub in paypal.account.world.all("subscription")} == {"CANCELLED"}
    assert product.row() is None and members.tombstone(ADA, SERVER) and product.shown() == set()
    for event in [*told, *paypal.events("BILLING.SUBSCRIPTION.CANCELLED")]:
        paypal.take_in(event)
        assert product.work() == 0
    product.advance(2 * DAY)
    paypal.comes_again(3)
    assert product.row() is None and paypal.swept() == set() and parked(paypal.id) == []
    assert all(links.of_subscription(key).user is None for key in names)
    assert all("actor" not in row.data for key in names for row in ledger.every(f"money#{key}"))


def test_D15_an_erase_that_paypal_does_not_confirm_erases_nothing(paypal):
    product = paypal.product
    name = paypal.holder()
    secret, _ = product.signed_in()
    product.order("paypal", method="POST", path="/cancel$", do="answer", status=503, body={})
    with pytest.raises(Problem) as refused:
        erase.erase(user=ADA, secret=secret, cancel_subscriptions=True, confirm=True, deadline=ports.wall() + 60)
    assert refused.value.status == 503 and product.row().erased is None and product.shown() == {GOLD} and paypal.sub(name)["status"] == "ACTIVE"


def test_D15_what_can_be_erased_at_a_disconnected_account_names_paypal_and_not_stripe(paypal):
    from chalicelib.store import accounts
    paypal.holder()
    accounts.disconnect(paypal.id, at=ports.now(), why="test")
    secret, _ = paypal.product.signed_in()
    with pytest.raises(Problem) as refused:
        erase.erase(user=ADA, secret=secret, cancel_subscriptions=True, confirm=True, deadline=ports.wall() + 60)
    said = json.dumps(refused.value.body())
    assert refused.value.code == "account-disconnected" and "PayPal" in said and "Stripe" not in said


def test_the_export_holds_what_is_kept_of_paypal_and_no_credentials(paypal):
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund", {"amount": "1.00"})
    paypal.hears()
    told = export.export(Member(ADA, "Ada"))
    one, = told["memberships"]
    assert [sub["key"] for sub in one["subscriptions"]] == [paypal.key(name)] and list(one["ends"]) == [paypal.key(name)] and len(one["holds"]) == 1
    said = json.dumps(told)
    assert MERCHANT.client_id not in said and MERCHANT.secret not in said and "A21AA" not in said and "canary.example" not in said


def test_the_timeline_tells_paypal_s_causes_in_plain_words(paypal):
    name = paypal.buys()
    paypal.says("BILLING.SUBSCRIPTION.ACTIVATED", {"id": name})
    for act, kind in (("suspend", "SUSPENDED"), ("activate", "RE-ACTIVATED")):
        paypal.product.advance(60)
        paypal.acts(name, act)
        paypal.says(f"BILLING.SUBSCRIPTION.{kind}", {"id": name})
    paypal.product.advance(60)
    paypal.clicks(name)
    paypal.product.work()
    told = [entry["what"] for entry in timeline.of_subscription(user=ADA, subscription_id=name)["entries"]]
    for words in ("PayPal told of an active subscription.", "PayPal told of a suspended subscription.", "PayPal told of a subscription that goes on.", "You cancelled at the end of the period."):
        assert any(words in what for what in told), words
    assert not any("Stripe" in what or name in what for what in told)


def test_a_receipt_speaks_of_paypal_only(paypal):
    name = paypal.holder()
    receipt = cancel.cancel(user=ADA, subscription_id=name, reason=None, comment=None, deadline=ports.wall() + 60)
    assert "Stripe" not in json.dumps(receipt)


# Growth

def size(product):
    """The bytes of Ada's row, about as DynamoDB counts them."""
    from tests.worlds.values import item_size
    item, = [item for key, item in product.aws.tables.tables["rolekeep-local-members"].items.items() if key[0] == ADA]
    return item_size(item)


def test_a_row_does_not_grow_over_three_years_of_renewals_with_failures_refunds_and_clicks_that_fail(paypal):
    product = paypal.product
    name = paypal.holder()
    small, sizes = size(product), []
    for month in range(36):
        if month % 6 == 5:
            paypal.fails(name)
            paypal.until(paypal.ends(name) + HOUR)
            paypal.swept()
            paypal.fails(name, "good")
            product.advance(5 * DAY)
        else:
            product.advance(paypal.ends(name) + HOUR - int(product.clock.now()))
        if month % 12 == 3:
            product.order("paypal", method="POST", path="/cancel$", do="answer", status=503, body={})
            with pytest.raises(Problem):
                paypal.clicks(name)
        paypal.hears()
        paypal.swept()
        sizes.append(size(product))
    row = product.row()
    assert product.shown() == {GOLD} and row.holds == {} and len(row.subs) == 1 and len(row.ends) <= 1 and row.causes == () and row.lookups == frozenset()
    assert max(sizes) < small + 600 and max(sizes) < 2_048
    keys = [key[0] for key in product.aws.tables.tables["rolekeep-local-links"].items]
    sales = sum(sale["billing_agreement_id"] == name for sale in paypal.account.world.all("sale"))
    assert len(keys) == sales + 3, "one link a payment, one of the subscription, one intent, the approval that was waited for"
