"""What Stripe told nobody: its own list of events is followed, of the operator's account and of every connected one."""
import json

import pytest

from chalicelib import ports, sent_events
from chalicelib.domain.ids import OPERATOR
from chalicelib.store import accounts
from infra.local.sandbox.stripe_webhooks import Endpoint
from tests.usecases import deaths
from tests.usecases.paypal import kept, put_back
from tests.usecases.product import CONNECT_SECRET, DAY, GOLD, OTHER_SERVER, PORTAL, SECRET, SILVER, STRIPE
from tests.usecases.shop import Shop

A, B, HOUR = "acct_1ShopA", "acct_1ShopB", 3_600
LIST = "/v1/events"


class Post:
    """Carries Stripe's deliveries to the intake; while it is `down`, none arrives and Stripe gives up."""

    def __init__(self):
        self.down = False

    def __call__(self, url, headers, body):
        from chalicelib import intake
        if self.down:
            return 503
        endpoint = intake.CONNECT if url.endswith("connect") else OPERATOR
        intake.stripe(body, headers["Stripe-Signature"], endpoint=endpoint)
        return 200


@pytest.fixture
def post():
    return Post()


@pytest.fixture
def product(made, without_paypal, post):
    """Yield the product in memory, with both endpoints registered at Stripe."""
    product = made(post)
    product.stripe.deliveries.endpoints = [Endpoint(f"{PORTAL}/webhooks/stripe/operator", (SECRET,)), Endpoint(f"{PORTAL}/webhooks/stripe/connect", (CONNECT_SECRET,), connect=True)]
    yield product
    assert product.stripe.front.contract.violations.as_json()["violations"] == []


@pytest.fixture
def without_paypal(clients, monkeypatch):
    """There are Stripe accounts only."""
    from chalicelib import settings
    monkeypatch.delenv("PAYPAL_ACCOUNTS")
    monkeypatch.delenv("PAYPAL_ENVIRONMENT")
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def delivers(product):
    """Everything that Stripe has to tell has been tried until it arrived or was given up, and what arrived has been worked on."""
    for _ in range(12):
        product.stripe.deliveries.pump()
        product.time.passes(301)
    assert product.stripe.deliveries.waiting == []
    return product.work()


def follows(seconds=60, limit=60):
    return sent_events.run(remaining=seconds if callable(seconds) else lambda: seconds, limit=limit)


def followed(product):
    """All that has happened was heard, and the lists have been read until now."""
    delivers(product)
    follows()
    product.work()
    product.advance(HOUR)
    follows()
    product.messages("stripe-events")
    product.advance(HOUR)


def listed(seen):
    return seen.stripe().count(f"GET {LIST}")


def unheard(product, post, what):
    """Stripe has done this, and its deliveries have failed until it gave them up."""
    post.down = True
    what()
    delivers(product)
    post.down = False


def charge(world):
    return list(world.all("charge"))[-1]["id"]


CHANGES = {
    "ended": (lambda product, key: product.ends(key), "ended"),
    "refunded": (lambda product, key: product.stripe.call("POST", "/v1/refunds", {"charge": charge(product.stripe.world)}), "on_hold"),
    "disputed": (lambda product, key: product.order_stripe("POST", f"charges/{charge(product.stripe.world)}/dispute"), "on_hold"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_fault_52_what_stripe_gave_up_is_found_within_the_hour_before_any_daily_look(product, post, what):
    act, state = CHANGES[what]
    key = product.holder()
    followed(product)
    unheard(product, post, lambda: act(product, key))
    assert product.shown() == {GOLD}, "nobody was told"
    done = follows()
    assert done["sent"] >= 1 and done["failed"] == 0 and done["accounts"] == 1
    product.work()
    assert product.shown() == set() and product.subscription(key)["state"] == state


@pytest.mark.parametrize("what", ["bought", "refunded"])
def test_fault_52_what_was_made_while_the_endpoint_was_disabled_is_found_although_stripe_failed_to_deliver_nothing(product, what):
    before = product.holder() if what == "refunded" else None
    followed(product)
    endpoints, product.stripe.deliveries.endpoints = product.stripe.deliveries.endpoints, []
    if before:
        CHANGES["refunded"][0](product, before)
    else:
        product.buys("silver")
    assert product.stripe.deliveries.waiting == []
    product.stripe.deliveries.endpoints = endpoints
    follows()
    product.work()
    assert product.shown() == (set() if before else {SILVER})


def test_fault_52_of_a_connected_account_too_asked_at_that_account_and_named_by_it(product, post):
    shop = Shop(product, A)
    shop.furnish()
    key = shop.holder()
    followed(product)
    unheard(product, post, lambda: shop.ends(key))
    product.sent.clear()
    assert follows()["accounts"] == 2
    messages = product.messages("stripe-events")
    assert messages and {json.loads(one["body"])["account"] for one in messages} == {A}
    asked = [request.headers.get("Stripe-Account") for base, request in product.sent if base == STRIPE]
    assert asked == [A] * 2 + [None] * 2
    from chalicelib import worker
    worker.run(messages, handle=worker.stripe_event, remaining=lambda: 60)
    assert product.shown() == set()


def test_I7_an_account_that_says_its_events_are_somebody_else_s_is_believed_for_itself_alone(product):
    for claim in (None, A, "acct_1Victim", "operator", 5):
        event = {"id": "evt_1", "object": "event", "type": "customer.subscription.deleted", "livemode": False, "data": {"object": {"id": "sub_somebodys"}}, "account": claim}
        assert sent_events._message(event, A)["account"] == A and sent_events._message(event, OPERATOR)["account"] == OPERATOR
    for odd in ({}, {"type": 5}, {"type": "charge.refunded"}, {"type": "charge.refunded", "livemode": False, "data": {"object": {"id": ["x"]}}}, {"type": "customer.subscription.updated", "livemode": True}):
        assert sent_events._message(odd, OPERATOR) is None


def test_an_hour_in_which_nothing_failed_is_two_questions_an_account_and_sends_nothing(product):
    shop = Shop(product, A)
    shop.furnish()
    shop.holder()
    followed(product)
    shop.at_stripe("POST", f"/v1/subscriptions/{next(iter(product.row().subs)).rsplit(':', 1)[1]}", {"cancel_at_period_end": True})
    delivers(product)
    with product.counted() as seen:
        assert follows() == {"accounts": 2, "sent": 0, "failed": 0}
    assert seen.stripe() == [f"GET {LIST}"] * 4 and seen.sqs() == {}
    assert seen.dynamodb() == {"Query servers": 1, "GetItem servers": 2, "UpdateItem servers": 2}


def test_fault_52_the_first_time_three_days_are_read_and_after_an_outage_of_months_as_much_as_stripe_keeps(product):
    with product.counted() as seen:
        follows()
    assert listed(seen) == 3 * 2 and seen.dynamodb() == {"Query servers": 1, "GetItem servers": 1, "UpdateItem servers": 3}
    product.advance(100 * DAY)
    product.stripe.front.log.clear()
    with product.counted() as seen:
        assert follows()["failed"] == 0
    assert listed(seen) == 29 * 2 and accounts.sent_until(OPERATOR) == ports.now()
    assert f"{ports.now() - 29 * DAY - 1_800}" in next(entry for entry in product.stripe.front.log if entry["path"] == LIST)["query"]


def test_each_question_names_no_more_types_than_stripe_takes_and_together_all_that_concern_us(product):
    from chalicelib.intake import STRIPE_TYPES
    asked = [kind for question in sent_events._QUESTIONS for kind in question["types"]]
    assert all(len(question["types"]) <= 20 for question in sent_events._QUESTIONS)
    assert sorted(asked) == sorted(set(STRIPE_TYPES) - {"account.application.deauthorized"})


def test_fault_52_I1_a_crash_at_any_call_before_the_cursor_moves_loses_nothing(product, post):
    key = product.holder()
    followed(product)
    unheard(product, post, lambda: product.ends(key))
    before = kept(product)
    for nth in range(1, deaths.STEPS):
        put_back(product, before)
        if not deaths.died(follows, nth):
            break
        product.messages("stripe-events")       # whatever was sent by the one that died is lost as well
        assert accounts.sent_until(OPERATOR) == ports.now() or follows()["sent"] >= 1, nth
    assert nth > 5


@pytest.mark.parametrize("fault", [{"do": "answer", "status": 503, "body": {}}, {"do": "answer", "status": 200, "body": "<html>"}, {"do": "timeout"}, {"do": "answer", "status": 429, "body": {}},
                                   {"do": "answer", "status": 200, "body": {"object": "list", "data": 5}}, {"do": "answer", "status": 200, "body": {"object": "list", "data": [], "has_more": True}}])
def test_fault_26_52_an_outage_in_the_middle_moves_the_cursor_no_further(product, post, fault):
    key = product.holder()
    followed(product)
    product.advance(3 * DAY)
    unheard(product, post, lambda: product.ends(key))
    product.order("stripe", path=LIST, nth=4, times=None, **fault)     # the second question of the second window
    before = accounts.sent_until(OPERATOR)
    assert follows()["failed"] == 1 and accounts.sent_until(OPERATOR) == before + DAY
    product.stripe.front.faults.clear()
    with product.counted() as seen:
        assert follows()["failed"] == 0
    assert listed(seen) <= 3 * 2 and accounts.sent_until(OPERATOR) == ports.now(), "it goes on where it stopped"
    product.work()
    assert product.shown() == set()


def test_of_three_accounts_the_one_that_fails_keeps_the_others_from_nothing(product, post):
    Shop(product, A).furnish(OTHER_SERVER)
    shop = Shop(product, B)
    shop.furnish()
    key = shop.holder()
    followed(product)
    unheard(product, post, lambda: shop.ends(key))
    product.order("stripe", path=LIST, nth=1, times=1, do="answer", status=500, body={})     # A is first
    assert follows() == {"accounts": 3, "sent": 1, "failed": 1}
    assert accounts.sent_until(A) < accounts.sent_until(B) == accounts.sent_until(OPERATOR) == ports.now()


def test_several_pages_are_read_to_the_end_and_one_that_leads_round_in_a_circle_is_left(product, post):
    product.holder()
    followed(product)
    paid = product.stripe.world.find("charge", charge(product.stripe.world))
    for number in range(230):
        product.stripe.world.emit("charge.refunded", paid | {"id": f"ch_{number}"})
    with product.counted() as seen:
        assert follows()["sent"] == 230
    assert listed(seen) == 1 + 3
    product.advance(HOUR)
    product.order("stripe", path=LIST, times=None, do="answer", status=200, body={"object": "list", "url": LIST, "has_more": True, "data": [{"id": "evt_1", "object": "event"}]})
    with product.counted() as seen:
        assert follows()["failed"] == 1
    assert listed(seen) == 2
    product.stripe.front.contract.violations.clear()    # an event of nothing but its id is in no specification


def test_fault_53_52_an_account_that_was_disconnected_without_our_hearing_of_it_is_flagged_and_asked_no_more(product, post):
    shop = Shop(product, A)
    shop.furnish()
    shop.holder()
    followed(product)
    unheard(product, post, lambda: shop.order("POST", f"accounts/{A}/disconnect"))
    assert follows() == {"accounts": 2, "sent": 0, "failed": 1}
    assert accounts.read(A).state == accounts.DISCONNECTED and accounts.read(A).why == "sent_events" and product.shown() == {GOLD}
    product.advance(HOUR)
    with product.counted() as seen:
        assert follows()["accounts"] == 1
    assert listed(seen) == 2


def test_when_time_runs_out_the_cursor_stands_where_was_read_and_the_next_run_goes_on(product):
    product.stripe.front._sleep = product.time.passes
    product.order("stripe", path=LIST, times=None, do="delay", seconds=4)
    assert follows(lambda: 11.0) == {"accounts": 0, "sent": 0, "failed": 0}
    reached = []
    for _ in range(4):
        end = product.time.at + 30
        assert follows(lambda end=end: end - product.time.at)["failed"] == 0
        reached.append(accounts.sent_until(OPERATOR) or 0)
    assert reached == sorted(reached) and len(set(reached)) > 1 and reached[-1] > ports.now() - 600



def test_the_scheduled_function_runs_it_within_its_own_policy_an_account_that_is_gone_included(product, post):
    import app
    from infra.local import permissions
    from infra.local.functions import scheduled_functions
    from infra.local.scheduler import scheduled_event
    shop = Shop(product, A)
    shop.furnish(OTHER_SERVER)
    key = product.holder()
    followed(product)
    unheard(product, post, lambda: (product.ends(key), shop.order("POST", f"accounts/{A}/disconnect")))
    function, = [one for one in scheduled_functions(app.app) if one.name == "sent_events"]
    end = permissions.enforce("local")
    try:
        assert function.invoke(scheduled_event(function.name)) == (None, None)
    finally:
        end()
    assert accounts.read(A).state == accounts.DISCONNECTED and accounts.sent_until(OPERATOR) == ports.now()
    product.work()
    assert product.shown() == set()
