"""Parked events: each is tried again now and then, released when what it lacked has appeared, and none keeps another waiting."""
import json

import pytest

from chalicelib import parked as use_case
from tests.usecases.product import ADA, BEN, GOLD, OTHER_SERVER, SERVER, SILVER, key_of
from tests.usecases.shop import Shop, parked

A, B = "acct_1ShopA", "acct_1ShopB"
DAY = 86_400


def tick(product, *, remaining=lambda: 60):
    """The schedule has fired; answers what it did."""
    return use_case.run(remaining=remaining, limit=60)


def message(key, **more):
    return {"v": 2, "event": "evt_1Test", "type": "customer.subscription.updated", "account": "operator", "kind": "subscription", "id": key, **more}


def kept(account, row_id):
    from chalicelib.store import ledger
    return ledger.parked_one(account, row_id)


def park(why, number, *, account="operator", at, **data):
    from chalicelib.store import ledger
    ledger.park(account=account, row_id=f"{why}:sub_1N{number}", at=at, data={"why": why, "message": message(f"sub_1N{number}", account=account), **data})


def unmapped(product):
    """Ada pays a price that no offer knows; answers the subscription's id."""
    from chalicelib.store import servers
    key = product.buys("gold")
    settings = servers.read(SERVER)[0]
    servers.write(SERVER, {"name": settings.name, "accounts": ["operator"], "offers": {}})
    product.tell(key)
    product.work()
    return key


def test_fault_10_an_unmapped_price_is_released_when_it_is_mapped_and_the_member_gets_the_role(product):
    key = unmapped(product)
    assert parked("operator") == ["unmapped_price"] and product.shown() == set()
    product.time.passes(600)
    assert tick(product) == {"looked": 1, "released": 0, "failed": 0}
    product.furnish()
    product.time.passes(3_600)
    assert tick(product)["released"] == 1
    product.work()
    assert product.shown() == {GOLD} and parked("operator") == []
    price = product.row().subs[key_of(key)].items[0].price
    closed = kept("operator", f"unmapped_price:{key_of(key)}:{price}")
    assert closed.outcome == {"result": "released", "by": "appeared", "at": int(product.time.at)}


def test_what_is_lacking_again_is_parked_again_with_an_alarm(product, caplog):
    key = unmapped(product)
    product.furnish()
    product.time.passes(600)
    tick(product)
    product.work()
    caplog.clear()
    from chalicelib.store import servers
    servers.write(SERVER, {"name": "Pixel", "accounts": ["operator"], "offers": {}})
    for _ in range(2):
        product.tell(key)
        product.work()
        assert parked("operator") == ["unmapped_price"] and [one.message for one in caplog.records].count("parked") == 1, "once"


@pytest.mark.parametrize("appears", ["intent", "link"])
def test_T36_an_unknown_link_is_released_when_the_link_or_the_intent_is_known(product, appears):
    from chalicelib.store import links
    key = product.buys()
    intent, = [row for row in rows(product, "links") if row["id"]["S"].startswith("intent:")]
    table = product.aws.client("dynamodb")
    table.delete_item(TableName="rolekeep-local-links", Key={"id": intent["id"]})
    product.tell(key)
    product.work()
    assert parked("operator") == ["unknown_link"] and product.shown() == set()
    product.time.passes(600)
    assert tick(product)["released"] == 0
    if appears == "intent":
        table.put_item(TableName="rolekeep-local-links", Item=intent)
    else:
        links.link_subscription(key_of(key), user=ADA, server=SERVER, offer="gold", account="operator", now=1)
    product.time.passes(1_200)
    assert tick(product)["released"] == 1
    product.work()
    assert product.shown() == {GOLD} and parked("operator") == []


def rows(product, table):
    return product.aws.client("dynamodb").scan(TableName=f"rolekeep-local-{table}", ConsistentRead=True)["Items"]


def test_an_account_that_is_connected_gets_what_was_parked_for_it_at_once(product):
    shop = Shop(product, A)
    shop.furnish()
    key = shop.buys()
    from chalicelib.store import accounts
    accounts.disconnect(A, at=1, why="test")
    shop.tell(key)
    product.work()
    assert parked(A) == ["unknown_account"] and product.shown() == set()
    assert shop.connect()["released"] == 1
    product.work()
    assert product.shown() == {GOLD} and parked(A) == []


def test_what_is_parked_for_an_account_that_nobody_knows_is_tried_too(product):
    park("unknown_account", 1, account=B, at=int(product.time.at) - 600)
    assert tick(product) == {"looked": 1, "released": 0, "failed": 0}
    assert [account for account, _ in use_case.everything()] == [B]


def test_an_intent_of_another_account_stays_and_is_released_when_the_binding_is_right(product):
    from chalicelib.store import accounts, links
    shop = Shop(product, A)
    shop.furnish()
    product.furnish(OTHER_SERVER)
    links.make_intent("intent-of-A-for-other-0000", user=ADA, server=OTHER_SERVER, offer="gold", account=A, now=int(product.time.at))
    park("other_account", 1, account=A, at=int(product.time.at) - 600, intent="intent-of-A-for-other-0000")
    assert tick(product)["released"] == 0
    assert shop.connect(OTHER_SERVER)["released"] == 1 and accounts.serves(A, OTHER_SERVER)


@pytest.mark.parametrize("why", ["intent_claimed", "wrong_endpoint"])
def test_what_a_person_must_judge_is_never_released_by_itself(product, why):
    from chalicelib.store import links
    park(why, 1, at=int(product.time.at) - 600, intent="x" * 24)
    links.link_subscription(key_of("sub_1N1"), user=ADA, server=SERVER, offer="gold", account="operator", now=1)
    assert tick(product) == {"looked": 1, "released": 0, "failed": 0} and product.messages("stripe-events") == []


def test_fault_54_an_unknown_subscription_is_asked_about_once_now_and_then_and_closed_when_it_is_known(product, caplog):
    key = product.buys()
    told = message(key, tries=12)
    from chalicelib import audit
    audit.park_event(told, "unknown_subscription", at=int(product.time.at))
    product.order("stripe", method="GET", path=key, do="answer", status=404, body={"error": {"type": "invalid_request_error"}})
    caplog.clear()
    product.time.passes(600)
    tick(product)
    assert product.work() == 0 and product.delayed("stripe-events") == 0, "asked once, not for two hours"
    assert parked("operator") == ["unknown_subscription"] and "parked" not in [one.message for one in caplog.records]
    product.time.passes(1_200)
    tick(product)
    product.work()
    assert product.shown() == {GOLD} and parked("operator") == ["unknown_subscription"]
    product.time.passes(3_600)
    assert tick(product)["released"] == 1 and parked("operator") == []


def test_a_parked_charge_is_released_when_what_it_paid_for_is_known_and_not_because_its_own_link_is(product):
    from chalicelib.store import ledger, links
    charge, paid = key_of("ch_1Paid"), key_of("sub_1Bought")
    told = message("ch_1Paid", kind="charge", type="charge.refunded")
    ledger.park(account="operator", row_id="unknown_link:ch_1Paid", at=int(product.time.at) - 600, data={"why": "unknown_link", "message": told})
    links.link_charge(charge, reason=paid, until=None, now=1)
    assert tick(product)["released"] == 0
    links.link_subscription(paid, user=ADA, server=SERVER, offer="gold", account="operator", now=1)
    product.time.passes(1_200)
    assert tick(product)["released"] == 1 and json.loads(product.messages("stripe-events")[0]["body"]) == told


def test_a_parked_charge_of_a_purchase_is_released_when_its_intent_is_claimed(product):
    from chalicelib.store import ledger, links
    intent = "intent-of-a-purchase-00000"
    links.make_intent(intent, user=ADA, server=SERVER, offer="gold", account="operator", now=int(product.time.at))
    ledger.park(account="operator", row_id="unknown_link:ch_1Paid", at=int(product.time.at) - 600, data={
        "why": "unknown_link", "message": message("ch_1Paid", kind="charge"), "intent": intent})
    assert tick(product)["released"] == 0
    links.claim_intent(intent, key_of("cs_test_a1Bought"))
    product.time.passes(1_200)
    assert tick(product)["released"] == 1


# Many, failing, at once, cut short


def test_ten_thousand_of_a_web_shop_neither_flood_nor_keep_anybody_waiting(product):
    """1,200 rows stand for them: more than two runs' worth, all due before the one that matters."""
    many, at = 1_200, int(product.time.at) - 10_000
    _put_many(product, many, at)
    key = unmapped(product)
    product.furnish()
    product.time.passes(600)
    with product.counted() as seen:
        first = tick(product)
    assert first["looked"] == use_case.MOST and first["released"] == 1, "the one that matters had its turn"
    assert seen.dynamodb()["Query ledger"] <= 16 + use_case.MOST / use_case.PAGE and seen.http == []
    product.work()
    assert product.shown() == {GOLD} and key
    looked = [tick(product)["looked"] for _ in range(3)]
    assert sum(looked) == many + 1 - use_case.MOST and looked[-1] == 0, "none twice before all were tried once"


def _put_many(product, many, at):
    from chalicelib.store import ledger
    table = product.aws.client("dynamodb")
    for start in range(0, many, 25):
        table.batch_write_item(RequestItems={"rolekeep-local-ledger": [{"PutRequest": {"Item": {
            "subject": {"S": "parked#operator"}, "id": {"S": f"unknown_link:sub_1W{n}"}, "kind": {"S": "parked"}, "at": {"N": str(at)},
            "data": {"M": {"why": {"S": "unknown_link"}, "message": {"M": {"id": {"S": f"sub_1W{n}"}, "account": {"S": "operator"}}}}},
            "parked_shard": {"N": str(ledger.parked_shard("operator", "unknown_link:x"))}, "look_at": {"N": str(at + n % 7)}}}} for n in range(start, min(start + 25, many))]})


def test_the_older_it_is_the_less_often_it_is_tried_but_once_a_day(product):
    from chalicelib.store import ledger
    from chalicelib.store.tables import Ledger
    park("unknown_link", 1, at=int(product.time.at))
    tried = [int(product.time.at)]
    while tried[-1] - tried[0] < 5 * DAY:
        due = next(iter(Ledger.query("parked#operator"))).look_at
        product.time.at = due - 1
        assert tick(product)["looked"] == 0
        product.time.at = due
        assert tick(product)["looked"] == 1
        tried.append(int(due))
    gaps = [later - earlier for earlier, later in zip(tried, tried[1:], strict=False)]
    assert gaps[:2] == [600, 600] and gaps == sorted(gaps) and gaps[-1] == DAY and len(tried) < 15
    assert ledger.parked_shard("operator", "unknown_link:a") == ledger.parked_shard("operator", "unknown_link:b")


def test_I10_T42_one_row_that_cannot_be_read_keeps_no_other_from_being_tried(product):
    from chalicelib.store import ledger
    at = int(product.time.at) - 600
    ledger.park(account="operator", row_id="unknown_link:broken", at=at, data={"why": "unknown_link"})
    ledger.park(account="operator", row_id="unmapped_price:broken", at=at, data={"why": "unmapped_price", "price": "p", "server": "x", "user": "y"})
    park("unknown_account", 1, account=B, at=at)
    assert tick(product) == {"looked": 3, "released": 0, "failed": 1}
    assert tick(product)["looked"] == 0, "it is due later, like any other"


def test_fault_57_two_ticks_at_once_try_each_row_once(product):
    from concurrent.futures import ThreadPoolExecutor
    for number in range(60):
        park("unknown_link", number, at=int(product.time.at) - 600)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: tick(product), range(3)))
    assert sum(one["looked"] for one in done) == 60


def test_it_stops_at_four_fifths_of_its_time_and_the_next_tick_goes_on(product):
    for number in range(30):
        park("unknown_link", number, at=int(product.time.at) - 600)
    left = iter([60, 40, 20, 11, 11])
    assert tick(product, remaining=lambda: next(left))["looked"] == 3
    assert tick(product)["looked"] == 27


def test_fault_12_a_crash_after_the_message_and_before_the_row_is_closed_only_repeats(product, monkeypatch):
    from chalicelib.store import ledger
    unmapped(product)
    product.furnish()
    product.time.passes(600)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "close_parked", lambda *_, **__: 1 / 0)
        assert tick(product)["failed"] == 1
    assert len(product.messages("members")) == 1 and parked("operator") == ["unmapped_price"]
    product.time.passes(1_200)
    assert tick(product)["released"] == 1 and len(product.messages("members")) == 1 and parked("operator") == []


def test_I1_a_worker_that_parks_it_again_before_the_row_is_closed_keeps_it_open(product, monkeypatch):
    """The message goes out before the row is closed: a quick worker must not be forgotten."""
    from chalicelib.gateways import queues
    unmapped(product)
    product.furnish()
    product.time.passes(600)
    send = queues.send

    def and_a_quick_worker(*args, **more):
        from chalicelib.store import servers
        send(*args, **more)
        servers.write(SERVER, {"name": "Pixel", "accounts": ["operator"], "offers": {}})     # the mapping goes away again
        product.work()

    with monkeypatch.context() as patch:
        patch.setattr(queues, "send", and_a_quick_worker)
        tick(product)
    assert parked("operator") == ["unmapped_price"]


def test_fault_64_a_queue_that_is_down_leaves_the_row_open(product, monkeypatch):
    from chalicelib.gateways import queues
    unmapped(product)
    product.furnish()
    product.time.passes(600)

    def down(*_, **__):
        raise queues.NotSent("x")

    with monkeypatch.context() as patch:
        patch.setattr(queues, "send", down)
        assert tick(product)["failed"] == 1
    assert parked("operator") == ["unmapped_price"]


def test_a_tick_with_nothing_parked_is_sixteen_queries(product):
    with product.counted() as seen:
        assert tick(product) == {"looked": 0, "released": 0, "failed": 0}
    assert (seen.dynamodb(), seen.sqs(), seen.http) == ({"Query ledger": 16}, {}, [])


def test_the_scheduled_function_runs_it_within_its_own_policy(product):
    import app
    from infra.local import permissions
    from infra.local.functions import scheduled_functions
    from infra.local.scheduler import scheduled_event
    unmapped(product)
    product.furnish()
    Shop(product, A).connect()
    at = int(product.time.at) - 600
    for number, why in enumerate(("unknown_link", "unknown_account", "other_account", "unknown_subscription")):
        park(why, number, account=A if "account" in why else "operator", at=at, intent="x" * 24)
    product.time.passes(600)
    function, = [one for one in scheduled_functions(app.app) if one.name == "parked_events"]
    end = permissions.enforce("local")
    try:
        assert function.invoke(scheduled_event(function.name)) == (None, None)
    finally:
        end()
    assert "unmapped_price" not in parked("operator"), "released under the role"
    assert sorted(json.loads(one["body"])["id"] for one in product.messages("stripe-events")) == ["sub_1N1", "sub_1N3"]


def test_released_by_hand_whatever_it_lacks_the_worker_judges_again(product):
    park("intent_claimed", 1, at=int(product.time.at))
    assert use_case.release_one("operator", "intent_claimed:sub_1N1", dry_run=True) and parked("operator") == ["intent_claimed"]
    assert use_case.release_one("operator", "intent_claimed:sub_1N1") and parked("operator") == []
    sent, = product.messages("stripe-events")
    assert json.loads(sent["body"]) == message("sub_1N1") and kept("operator", "intent_claimed:sub_1N1").outcome["by"] == "operator"
    assert use_case.release_one("operator", "intent_claimed:sub_1N1") is False and use_case.release_one("operator", "nothing") is False


def test_one_members_row_never_looks_at_another(product):
    product.holder(user=BEN, offer="silver")
    unmapped(product)
    product.furnish()
    product.time.passes(600)
    before = product.row(BEN)
    tick(product)
    product.work()
    assert product.row(BEN) == before and product.shown(BEN) == {SILVER} and product.shown(ADA) == {GOLD}
