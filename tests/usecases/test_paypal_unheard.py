"""What PayPal told nobody, and what nobody can verify: its own list of events is followed, and hints are only hints."""
import pytest

from chalicelib import intake, ports, sent_events
from chalicelib.problem import Problem
from chalicelib.store import accounts
from infra.local.sandbox.paypal_world import iso, iso_ms
from tests.usecases import deaths
from tests.usecases.paypal import PayPal, kept, put_back, second_account
from tests.usecases.product import BEN, DAY, GOLD, PAYPAL, STRIPE
from tests.usecases.shop import parked

HOUR = 3_600
LIST = "/v1/notifications/webhooks-events"


@pytest.fixture
def paypal(made):
    """Yield PayPal, through which the server sells gold and silver, over tables in memory."""
    paypal = PayPal(made(lambda url, headers, body: 200)).sells(cancel_now=True)
    yield paypal
    assert paypal.product.paypal.front.contract.violations.as_json()["violations"] == []


@pytest.fixture
def other(paypal, monkeypatch):
    """Yield a second merchant of ours."""
    from chalicelib import settings
    yield second_account(paypal.product, monkeypatch)
    settings.get.cache_clear()


def follows(seconds=60, limit=60):
    """What following the lists came to; time is told by `seconds`, a number or a function."""
    return sent_events.run(remaining=seconds if callable(seconds) else lambda: seconds, limit=limit)


def followed(paypal):
    """All that has happened was heard an hour ago, and the list has been read up to now."""
    paypal.product.advance(HOUR)
    follows()
    paypal.product.messages("paypal-events")


def listed(seen):
    return sum(call == f"GET {LIST}" for call in seen.paypal())


# The list of sent events

@pytest.mark.parametrize("what", ["cancel", "refund", "dispute", "suspend"])
def test_fault_52_T8_what_was_never_delivered_is_found_within_the_hour(paypal, what):
    product = paypal.product
    name = paypal.holder()
    sale = paypal.sale(name)["id"]
    followed(paypal)
    if what in ("cancel", "suspend"):
        paypal.acts(name, what)
    else:
        paypal.order("POST", f"sales/{sale}/{what}")
    paypal.forgets()
    product.advance(HOUR)
    assert follows() == {"accounts": 2, "sent": 1, "failed": 0}      # the other one is the operator's own, at Stripe
    product.work()
    assert paypal.shows(name)["state"] == {"cancel": "ending", "suspend": "grace"}.get(what, "on_hold")


def test_fault_52_the_first_time_three_days_are_read_and_a_purchase_of_which_nothing_was_heard_is_found(paypal):
    product = paypal.product
    early = paypal.buys("silver")
    product.messages("paypal-events")
    product.advance(4 * DAY)
    name = paypal.buys()
    paypal.forgets()
    with product.counted() as seen:
        assert follows()["sent"] == 2
    assert listed(seen) == 12 and seen.dynamodb() == {"Query servers": 1, "GetItem servers": 2, "UpdateItem servers": 12 + 3} and seen.paypal().count("POST /v1/oauth2/token") <= 1
    product.work()
    assert set(product.row().subs) == {paypal.key(name)} and product.shown() == {GOLD} and early


def test_an_hour_in_which_nothing_happened_is_one_question_and_what_was_read_is_read_again_for_half_an_hour_only(paypal):
    product = paypal.product
    followed(paypal)
    paypal.holder()
    product.advance(20 * 60)
    follows()
    product.work()
    product.advance(5 * 60)
    with product.counted() as seen:
        assert follows()["sent"] == 2
    assert listed(seen) == 1
    product.work()
    followed(paypal)
    product.advance(HOUR)
    with product.counted() as seen:
        assert follows() == {"accounts": 2, "sent": 0, "failed": 0}
    assert listed(seen) == 1 and seen.dynamodb() == {"Query servers": 1, "GetItem servers": 2, "UpdateItem servers": 2} and seen.sqs() == {}


def test_fault_48_our_clock_ten_minutes_ahead_of_paypal_s_and_a_list_that_lags_lose_nothing(paypal):
    product = paypal.product
    name = paypal.holder()
    followed(paypal)
    paypal.acts(name, "cancel")
    paypal.events("BILLING.SUBSCRIPTION.CANCELLED")[-1]["create_time"] = iso_ms(ports.now() - 900)     # made ten minutes behind our clock, and five before we asked
    paypal.forgets()
    product.advance(HOUR)
    follows()
    product.work()
    assert paypal.shows(name)["state"] == "ending"


def test_fault_52_I1_a_crash_at_any_call_before_the_cursor_moves_loses_nothing(paypal):
    product = paypal.product
    name = paypal.holder()
    followed(paypal)
    paypal.acts(name, "cancel")
    paypal.forgets()
    product.advance(HOUR)
    before = kept(product)
    for nth in range(1, deaths.STEPS):
        put_back(product, before)
        if not deaths.died(follows, nth):
            break
        product.messages("paypal-events")       # whatever was sent by the one that died is lost as well
        moved = accounts.sent_until(paypal.id) == ports.now()
        assert moved or follows()["sent"] >= 1, nth
    assert nth > 4


@pytest.mark.parametrize("fault", [{"do": "answer", "status": 503, "body": {}}, {"do": "answer", "status": 200, "body": "<html>"}, {"do": "timeout"},
                                   {"do": "answer", "status": 429, "body": {"name": "RATE_LIMIT_REACHED"}}, {"do": "answer", "status": 302, "body": "", "headers": {"Location": "https://evil.test/"}}])
def test_fault_27_52_an_outage_in_the_middle_of_the_list_moves_the_cursor_no_further(paypal, fault):
    product = paypal.product
    names = [paypal.buys() for _ in range(1)]
    product.advance(10 * HOUR)
    paypal.acts(names[0], "cancel")
    paypal.forgets()
    product.messages("paypal-events")
    product.order("paypal", path=LIST, nth=12, times=None, **fault)
    assert follows()["failed"] == 1
    assert accounts.sent_until(paypal.id) < ports.now() - 5 * HOUR
    product.paypal.front.faults.clear()
    product.advance(HOUR)
    with product.counted() as seen:
        assert follows()["failed"] == 0
    assert accounts.sent_until(paypal.id) == ports.now() and listed(seen) < 4, "it goes on where it stopped"
    product.work()
    assert paypal.shows(names[0])["state"] == "ending"


def test_several_pages_are_read_to_the_end_and_one_that_leads_round_in_a_circle_or_elsewhere_is_left(paypal):
    product = paypal.product
    follows()
    for number in range(230):
        paypal.account.world.emit("BILLING.SUBSCRIPTION.UPDATED", {"id": f"I-{number:012d}"}, "subscription")
    product.advance(HOUR)
    with product.counted() as seen:
        assert follows()["sent"] == 230
    assert listed(seen) == 3
    product.advance(HOUR)
    for link in (f"{PAYPAL}{LIST}?page_size=100", "@evil.test/x", "https://evil.test/v1/oauth2/token?x=1", 5, "http://[", f"//evil.test{LIST}?y"):
        product.order("paypal", path=LIST, times=None, do="answer", status=200, body={"events": [None, 5, {"event_type": 5}, {"event_type": "BILLING.SUBSCRIPTION.UPDATED"}],
                                                                                     "links": [None, {"rel": "next", "href": link}]})
        with product.counted() as seen:
            assert follows() == {"accounts": 2, "sent": 0, "failed": 1}
        assert {base for base, *_ in seen.http} <= {PAYPAL, STRIPE} and set(seen.paypal()) == {f"GET {LIST}"} and listed(seen) <= 3
        product.paypal.front.faults.clear()
    product.paypal.front.contract.violations.clear()    # what these links ask for is in no specification


def test_of_two_accounts_the_one_that_fails_keeps_the_other_from_nothing(paypal, other):
    product = paypal.product
    name = paypal.holder()
    followed(paypal)
    paypal.acts(name, "cancel")
    paypal.forgets()
    from chalicelib.gateways import paypal as gateway
    gateway._tokens.clear()
    product.advance(HOUR)
    product.time.below = lambda n: 1        # the second one is first
    product.order("paypal", path="/v1/oauth2/token", do="answer", status=500, body={})
    assert follows() == {"accounts": 3, "sent": 1, "failed": 1}
    product.work()
    assert paypal.shows(name)["state"] == "ending" and accounts.sent_until(other.id) < accounts.sent_until(paypal.id) == ports.now()


def test_when_time_runs_out_the_cursor_stands_where_was_read_and_the_next_run_goes_on(paypal, other):
    product = paypal.product
    product.paypal.front._sleep = product.time.passes
    product.order("paypal", path=LIST, times=None, do="delay", seconds=4)      # each page takes four seconds of the function's time
    assert follows(lambda: 11.0) == {"accounts": 0, "sent": 0, "failed": 0}
    reached = []
    for _ in range(20):
        end = product.time.at + 40
        assert follows(lambda end=end: end - product.time.at)["failed"] == 0
        reached.append((accounts.sent_until(paypal.id) or 0) + (accounts.sent_until(other.id) or 0))
        product.time.below = lambda n: len(reached) % n
    assert reached == sorted(reached) and len(set(reached)) > 3
    assert min(accounts.sent_until(other.id), accounts.sent_until(paypal.id)) > ports.now() - 600


def test_after_an_outage_of_months_only_as_much_is_asked_for_as_paypal_keeps(paypal):
    product = paypal.product
    follows()
    product.advance(100 * DAY)
    product.paypal.front.log.clear()
    assert follows()["failed"] == 0
    first = next(entry for entry in product.paypal.front.log if entry["path"] == LIST)
    assert f"start_time={iso(ports.now() - 29 * DAY - 1_800)}" in first["query"].replace("%3A", ":")


def test_two_runs_at_once_send_twice_and_move_the_cursor_once(paypal):
    product = paypal.product
    follows()
    product.advance(HOUR)
    before = accounts.sent_until(paypal.id)
    assert accounts.move_sent(paypal.id, before=before, until=ports.now()) and not accounts.move_sent(paypal.id, before=before, until=ports.now() + 5)
    assert accounts.sent_until(paypal.id) == ports.now()


# Hints

def hinted(paypal, name, kind="BILLING.SUBSCRIPTION.UPDATED", number=0, **resource):
    paypal.take_in({"id": f"WH-HINT{number}", "event_type": kind, "resource": {"id": name, **resource}}, hint=True)


def test_fault_27_a_hint_is_one_authenticated_read_and_what_is_true_comes_of_it(paypal):
    product = paypal.product
    name = paypal.holder()
    paypal.acts(name, "cancel")
    paypal.forgets()
    hinted(paypal, name, "BILLING.SUBSCRIPTION.ACTIVATED", status="ACTIVE", billing_info={"next_billing_time": "2099-01-01T00:00:00Z"})
    with product.counted() as seen:
        product.work()
    assert seen.paypal() == [f"GET /v1/billing/subscriptions/{name}"] and paypal.shows(name)["state"] == "ending"


@pytest.mark.parametrize("kind, name", [
    ("BILLING.SUBSCRIPTION.CANCELLED", "I-DOESNOTEXIST"), ("PAYMENT.SALE.REFUNDED", "NOSUCHSALE0000001"), ("CUSTOMER.DISPUTE.CREATED", "PP-R-NONE-1"),
    ("PAYMENT.SALE.REVERSED", "NOSUCHREFUND00001")])
def test_fault_27_a_hint_that_leads_nowhere_is_forgotten_and_never_parked(paypal, kind, name):
    product = paypal.product
    paypal.holder()
    before = product.row()
    waiting = product.delayed("paypal-events")
    hinted(paypal, name, kind, **({"sale_id": name} if "REFUNDED" in kind else {}))
    assert product.work() == 0
    assert product.row() == before and parked(paypal.id) == [] and product.delayed("paypal-events") == waiting


def test_fault_27_I7_a_forged_hint_for_somebody_else_s_subscription_changes_nothing_and_touches_nobody_else(paypal, other):
    product = paypal.product
    ada, ben = paypal.holder(), paypal.holder("silver", BEN)
    stranger = paypal.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": paypal.plan(500), "custom_id": "nothing-of-ours-000001"})["id"]
    paypal.approves(paypal.sub(stranger))
    paypal.forgets()
    sale = paypal.sale(stranger)["id"]
    before = kept(product)[2], product.row(), product.row(BEN).subs
    for number, (name, kind) in enumerate([(stranger, "BILLING.SUBSCRIPTION.CANCELLED"), (sale, "PAYMENT.SALE.REVERSED"), (sale, "PAYMENT.SALE.COMPLETED")]):
        hinted(paypal, name, kind, number, sale_id=sale, billing_agreement_id=stranger)
    other.take_in({"id": "WH-HINT9", "event_type": "BILLING.SUBSCRIPTION.CANCELLED", "resource": {"id": ada}}, hint=True)     # another account's endpoint
    assert product.work() == 0
    assert (kept(product)[2], product.row(), product.row(BEN).subs) == before and parked(paypal.id) == [] == parked(other.id) and ben


def test_a_hint_about_a_purchase_of_an_erased_member_is_true_all_the_same_and_somebody_is_told_that_money_was_taken(paypal):
    from chalicelib import worker
    product = paypal.product
    sub = paypal.begins()
    worker.member({"user": "950000000000000001", "server": "940000000000000001", "cause": "member:erase", "erase": True, "asked": ports.now() + 1}, deadline=ports.wall() + 60)
    name = paypal.approves(sub)
    paypal.forgets()
    hinted(paypal, name)
    assert product.work() == 0 and product.shown() == set() and parked(paypal.id) == ["paid_after_erase"]


def test_A14_fault_27_a_flood_of_hints_is_paced_and_leaves_the_real_events_and_the_other_account_working(paypal, other):
    product = paypal.product
    name = paypal.holder()
    for number in range(60):
        hinted(paypal, f"I-FLOOD{number:06d}", number=number)
    with product.counted() as seen:
        product.work()
    assert len(seen.paypal()) == accounts.HINTS_A_MINUTE
    paypal.acts(name, "suspend")
    paypal.hears()
    assert paypal.shows(name)["state"] == "grace"
    other.bind()
    other.take_in({"id": "WH-HINTB", "event_type": "BILLING.SUBSCRIPTION.UPDATED", "resource": {"id": name}}, hint=True)
    with product.counted() as seen:
        product.work()
    assert seen.paypal() == ["POST /v1/oauth2/token", f"GET /v1/billing/subscriptions/{name}"]
    paypal.comes_again(14)
    assert product.delayed("paypal-events") == 0 and parked(paypal.id) == [] and product.messages("paypal-events") == []


def test_A14_hints_of_a_minute_that_is_over_count_no_more_whoever_s_clock_it_was(paypal):
    wall = int(ports.wall()) // 60 * 60
    assert [accounts.take_hint(paypal.id, wall=wall) for _ in range(31)] == [True] * 30 + [False]
    assert accounts.take_hint(paypal.id, wall=wall + 60) and accounts.take_hint(paypal.id, wall=wall + 600)


def test_fault_27_while_paypal_is_down_a_hint_comes_twelve_times_and_is_forgotten_then(paypal):
    product = paypal.product
    paypal.holder()
    paypal.comes_again(3)
    product.order("paypal", path="/v1/billing/subscriptions/I-LATER", times=None, do="answer", status=503, body={})
    hinted(paypal, "I-LATER0000001")
    product.work()
    assert product.delayed("paypal-events") == 1
    paypal.comes_again(13)
    assert product.delayed("paypal-events") == 0 and parked(paypal.id) == []


@pytest.mark.parametrize("body, status", [(b"[" * 100_000, 400), (b'{"event_type":"X","event_type":"Y"}', 400), (b'{"event_type":"BILLING.SUBSCRIPTION.UPDATED","n":NaN}', 400),
                                          (b'{"event_type":"BILLING.SUBSCRIPTION.UPDATED","n":' + b"9" * 5_000 + b"}", 400), (b"x" * 300_000, 413), (b"", 400), (b"\xff\xfe", 400),
                                          (b'{"event_type":"BILLING.SUBSCRIPTION.UPDATED","id":"WH-1","resource":{"id":["I-1"]}}', 400),
                                          (b'{"event_type":"BILLING.SUBSCRIPTION.UPDATED","id":"WH-1","resource":{"id":"I-\\ud800"}}', 400)])
def test_A11_odd_bodies_are_refused_also_when_they_can_only_be_hints(paypal, monkeypatch, body, status):
    intake._hints.clear()
    monkeypatch.setattr(intake, "_paypal_verified", lambda *given: False)
    with pytest.raises(Problem) as refused:
        intake.paypal(body, {}, account=paypal.id)
    assert refused.value.status == status
