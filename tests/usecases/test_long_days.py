"""What lasts: hours without Stripe, days of refusals, a month of failed payments, clocks that are wrong, messages that come a week late."""
import json

import pytest

from tests.usecases.product import ADA, BEN, DAY, GOLD, SERVER, SILVER, key_of

HOUR = 3_600
DECLINED_LATER, GOOD = "4000000000000341", "4242424242424242"


@pytest.fixture
def product(made):
    """Yield the product over tables and queues that live by the test's clock."""
    return made(lambda url, headers, body: 200)


def order(product, method, path, **body):
    """The Stripe sandbox has done this."""
    status, _, content = product.stripe.handle(method, f"/_sandbox{path}", {}, json.dumps(body).encode())
    assert status < 300, content
    return json.loads(content or "null")


def sub(product, key):
    return product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]


def passes(product, seconds, *, every, told=()):
    """So much time, the sweep at every step and, where asked for, Stripe's newest word about `told`; yields at each step."""
    for _ in range(0, int(seconds), every):
        product.time.passes(every)
        product.stripe.roll()
        for key in told:
            product.tell(key)
        product.work()
        product.sweep()
        yield


def test_fault_26_I3_six_hours_without_stripe_strip_nobody_ask_in_measure_and_then_everything_is_right(product):
    """One has ended, one goes on and one is bought, all during the outage."""
    ended, lives = product.holder(user=ADA), product.holder("silver", user=BEN)
    product.ends(ended)
    bought = product.buys("gold", user=BEN)
    product.order("stripe", method="GET", path="^/v1/subscriptions", do="answer", status=503, body="<html>", times=None)
    with product.counted() as seen:
        for key in (ended, lives, bought):
            product.tell(key)
        for _ in passes(product, 6 * HOUR, every=600):
            assert (product.shown(ADA), product.shown(BEN)) == ({GOLD}, {SILVER})
    assert len(seen.stripe()) <= 4 * 36 and seen.discord() == [], "no member is asked for more than once in two minutes"
    assert product.row(ADA).subs[key_of(ended)].status == "active", "what the profile shows, with the time of the last reading"
    product.stripe.faults.clear()
    for _ in passes(product, 1_200, every=300):
        pass
    assert (product.shown(ADA), product.shown(BEN)) == (set(), {GOLD, SILVER})
    assert product.messages("stripe-events-dlq") == product.messages("members-dlq") == []


def test_fault_33_T38_I12_three_days_of_a_refused_strip_are_few_calls_and_one_more_once_it_is_allowed(product):
    key = product.holder()
    product.control("PATCH", f"/guilds/{SERVER}/roles/{GOLD}", {"position": 50})
    product.ends(key)
    product.tell(key)
    with product.counted() as seen:
        product.work()
        for _ in passes(product, 3 * DAY, every=HOUR):
            assert product.shown() == {GOLD} and product.row().roles[GOLD].state == "may"
    strips = [call for call in seen.discord() if call.startswith("DELETE")]
    assert 5 <= len(strips) <= 9, strips
    product.control("PATCH", f"/guilds/{SERVER}/roles/{GOLD}", {"position": 1})
    for _ in passes(product, DAY, every=HOUR):
        pass
    assert product.shown() == set() and product.row().roles[GOLD].state == "absent"


@pytest.mark.parametrize("final", ["cancel", "unpaid"])
@pytest.mark.parametrize("heard", [True, False], ids=["told", "not told"])
def test_fault_44_T29_thirty_days_of_failed_payments_give_the_grace_and_not_an_hour_more_told_or_not(product, final, heard):
    """Stripe tries on days 3, 8 and 15 and then ends it, or leaves it unpaid. Polar #8325: until then it can recover."""
    product.stripe.world.options.final_failure = final
    key = product.holder()
    order(product, "POST", f"/customers/{sub(product, key)['customer']}/card", number=DECLINED_LATER)
    order(product, "POST", f"/subscriptions/{key}/renew", outcome="decline")
    product.tell(key)
    product.work()
    failed, statuses = int(product.time.at), {}
    for _ in passes(product, 29 * DAY, every=6 * HOUR, told=[key] if heard else []):
        assert product.shown() == ({GOLD} if product.time.at - failed < 7 * DAY else set())
        statuses.setdefault(sub(product, key)["status"], int(product.time.at - failed) // DAY)
    assert statuses == {"past_due": 0, "canceled" if final == "cancel" else "unpaid": 15}


def test_polar_d593f82096_894070e14a_who_pays_after_the_grace_has_the_role_again_and_no_trace_of_its_loss(product):
    key = product.holder()
    customer = sub(product, key)["customer"]
    order(product, "POST", f"/customers/{customer}/card", number=DECLINED_LATER)
    order(product, "POST", f"/subscriptions/{key}/renew", outcome="decline")
    for _ in passes(product, 10 * DAY, every=DAY, told=[key]):
        pass
    assert product.shown() == set()
    order(product, "POST", f"/customers/{customer}/card", number=GOOD)
    order(product, "POST", f"/subscriptions/{key}/retry", outcome="succeed")
    product.tell(key)
    product.work()
    assert product.shown() == {GOLD} and (product.row().roles[GOLD].state, product.row().roles[GOLD].block) == ("held", None)


def test_polar_968f7d388b_of_two_failed_invoices_paying_the_older_one_gives_nothing_back(product):
    product.stripe.world.options.final_failure = "unpaid"
    key = product.holder()
    order(product, "POST", f"/customers/{sub(product, key)['customer']}/card", number=DECLINED_LATER)
    order(product, "POST", f"/subscriptions/{key}/renew", outcome="decline")
    for _ in passes(product, 33 * DAY, every=DAY, told=[key]):     # unpaid, and the next period has begun
        pass
    order(product, "POST", f"/subscriptions/{key}/retry", outcome="succeed")
    product.tell(key)
    product.work()
    assert (sub(product, key)["status"], product.shown()) == ("unpaid", set())


def test_T31_fault_45_a_trial_that_becomes_paid_holds_the_role_throughout(product):
    """`trial_end` stays in the past for ever after: it is no end."""
    key, first = product.buys(), int(product.time.at)
    order(product, "PATCH", f"/subscriptions/{key}", status="trialing", trial_start=first, trial_end=sub(product, key)["items"]["data"][0]["current_period_end"])
    product.tell(key)
    product.work()
    assert product.shown() == {GOLD} and product.row().subs[key_of(key)].status == "trialing"
    for _ in passes(product, 40 * DAY, every=DAY, told=[key]):
        assert product.shown() == {GOLD}
    assert sub(product, key)["status"] == "active" and sub(product, key)["trial_end"] < product.time.at


@pytest.mark.parametrize("wrong", [-600, -300, 300, 600])
def test_fault_48_T19_a_clock_that_is_wrong_by_minutes_moves_an_end_by_as_much_and_nothing_else(product, monkeypatch, wrong):
    monkeypatch.setattr(product.time, "offset", lambda: int(product.clock.offset) + wrong)
    goes_on, ends = product.holder("gold", user=ADA), product.holder("silver", user=BEN)
    order(product, "PATCH", f"/subscriptions/{ends}", cancel_at_period_end=True)
    product.tell(ends)
    product.work()
    end = sub(product, ends)["items"]["data"][0]["current_period_end"]
    product.time.passes(end - 601 - product.time.at)
    for _ in passes(product, 1_800, every=30):
        assert product.shown(ADA) == {GOLD}, "no renewal is taken for an end"
        if product.time.at < end - max(wrong, 0):
            assert product.shown(BEN) == {SILVER}
    assert product.shown(BEN) == set() and product.row(ADA).subs[key_of(goes_on)].status == "active"


def test_fault_60_messages_out_of_the_dead_letters_a_week_later_and_in_reverse_end_right(product, monkeypatch):
    from chalicelib import worker
    from chalicelib.store import members
    ended, lives = product.buys(user=ADA), product.buys("silver", user=BEN)
    for key in (ended, lives):
        for event in product.events(key):
            product.take_in(event)
    with monkeypatch.context() as broken:
        broken.setattr(members, "request", lambda **_: 1 / 0)
        records = product.messages("stripe-events")
        failed = worker.run(records, handle=worker.stripe_event, remaining=lambda: 60)["batchItemFailures"]
    assert len(failed) == len(records) >= 4 and product.shown(ADA) == product.shown(BEN) == set()
    product.ends(ended)
    product.time.passes(7 * DAY)
    product.stripe.roll()
    assert worker.run(records[::-1], handle=worker.stripe_event, remaining=lambda: 60)["batchItemFailures"] == []
    assert (product.shown(ADA), product.shown(BEN)) == (set(), {SILVER})


def test_fault_65_a_log_that_cannot_be_written_holds_nothing_up(product):
    from chalicelib import log
    log._logger().setLevel("INFO")

    class Full:
        def write(self, _):
            raise OSError("no space left")

        flush = write

    handlers = [one for one in log._logger().handlers if hasattr(one, "stream")]
    before = [one.stream for one in handlers]
    try:
        for one in handlers:
            one.stream = Full()
        key = product.holder()
        assert product.shown() == {GOLD}
        product.ends(key)
        product.tell(key)
        assert product.work() == 0 and product.shown() == set()
    finally:
        for one, stream in zip(handlers, before, strict=True):
            one.stream = stream


def test_fault_40_one_customer_pays_for_two_members_and_one_member_is_two_customers(product):
    """The binding is the intent that a member began, whoever pays: no customer, name or e-mail says who somebody is."""
    gold, silver = product.holder("gold", user=ADA), product.holder("silver", user=ADA)
    bens = product.holder("gold", user=BEN)
    order(product, "PATCH", f"/subscriptions/{bens}", customer=sub(product, gold)["customer"])
    other = product.stripe.call("POST", "/v1/customers", {"email": "ada@canary.example"})[1]["id"]
    order(product, "PATCH", f"/subscriptions/{silver}", customer=other)
    for key in (silver, bens):
        product.tell(key)
    product.work()
    assert (product.shown(ADA), product.shown(BEN)) == ({GOLD, SILVER}, {GOLD})
    assert {one.customer for one in product.row(ADA).subs.values()} == {sub(product, gold)["customer"], other}
    product.ends(bens)
    product.tell(bens)
    product.work()
    assert (product.shown(ADA), product.shown(BEN)) == ({GOLD, SILVER}, set())


def test_T42_I10_one_row_that_cannot_be_read_in_a_sweep_of_five_hundred_leaves_the_others_done(product):
    from chalicelib import sweep, worker
    from chalicelib.store import members
    users = [str(980_000_000_000_000_000 + n) for n in range(500)]
    for user in users:
        members.create(user=user, server=SERVER, now=int(product.time.at) - 300)
        members.request(user=user, server=SERVER, token="gone", now=int(product.time.at) - 300, wall=product.time.at - 300, lease_seconds=1, cause="test")
    broken = users[250]
    product.aws.client("dynamodb").update_item(TableName="rolekeep-local-members", Key={"user_id": {"S": broken}, "server_id": {"S": SERVER}},
                                               UpdateExpression="SET checked_at = :odd", ExpressionAttributeValues={":odd": {"S": "yesterday"}})
    assert sweep.due(remaining=lambda: 60, limit=60) == 500
    failed = worker.run(product.messages("members"), handle=worker.member, remaining=lambda: 60)["batchItemFailures"]
    assert len(failed) == 1
    rows = [members.read(user, SERVER) for user in users if user != broken]
    assert len(rows) == 499 and all(row.requested == row.done and row.lease is None for row in rows)
