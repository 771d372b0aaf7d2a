"""Looking at a member again, where time matters: leases, exact ends, grace, closings, what is unknown, and answers that never came."""
import os

import pytest
import requests
from urllib3.exceptions import NewConnectionError

from chalicelib.reconcile import Look, reconcile
from tests.usecases.product import ADA, BEN, DAY, DISCORD, FOREIGN, GOLD, OTHER_SERVER, SERVER, SILVER, STRIPE

LEASE, PUT, DELETE = 120, {"method": "PUT", "path": "/roles/"}, {"method": "DELETE", "path": "/roles/"}


def looks(product, cause="evt_1Test", user=ADA, server=SERVER, seconds=57, **more):
    """How looking at the member ended."""
    return reconcile(Look(user, server, cause, **more), deadline=product.time.at + seconds)


def patched(product, key, **fields):
    """Stripe says this about the subscription now."""
    product.stripe.handle("PATCH", f"/_sandbox/subscriptions/{key}", {}, __import__("json").dumps(fields).encode())


def now(product):
    return int(product.time.at + product.clock.offset)


def period_end(product, key):
    return product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["items"]["data"][0]["current_period_end"]


def to(product, instant):
    """The business clock shows that instant."""
    product.advance(instant - now(product))


# Requests while somebody works


@pytest.mark.parametrize("call", ["fetch", "grant"])
def test_fault_4_T13_I1_what_happened_and_was_told_between_the_fetch_and_the_finish_is_looked_at_before_it_ends(product, call):
    from chalicelib.store import members
    key, happened = product.buys(), []
    product.tell(key)
    wire = product.wires[STRIPE if call == "fetch" else DISCORD]
    before = wire.handle

    def then_it_ends(method, target, headers, body):
        answer = before(method, target, headers, body)
        if (call == "fetch" and len(happened) < 2 or call == "grant" and not happened) and not target.startswith("/_sandbox"):
            happened.append(target)
            if call == "grant" or len(happened) == 2:   # the first fetch identifies it, the second is the round's
                product.ends(key)
                members.request(user=ADA, server=SERVER, token="other", now=now(product), wall=product.time.at, lease_seconds=LEASE, cause="evt_1Ended")
        return answer

    wire.handle = then_it_ends
    product.work()
    assert happened and product.shown() == set(), "before any sweep or look"
    assert product.row().requested == product.row().done == 2 and product.row().lease is None


# In doubt


@pytest.mark.parametrize("do", ["lose_answer", "timeout_after_effect", "close", "timeout"])
def test_T43_T14_fault_14_a_grant_in_doubt_writes_nothing_and_the_next_one_after_the_lease_makes_sure(product, do):
    product.order("discord", **PUT, do=do)
    key = product.buys()
    product.tell(key)
    assert product.work() == 0, "in doubt is no failure: no dead letter"
    assert product.shown() == ({GOLD} if do in ("lose_answer", "timeout_after_effect") else set())
    row = product.row()
    assert row.roles[GOLD].state == "may" and row.lease and row.requested == 1 and row.done == 0 and row.due_at == now(product) + LEASE
    assert looks(product) == "left", "while it may still land nobody calls"
    product.time.passes(LEASE + 1)
    with product.counted() as seen:
        assert product.sweep() == 1
    assert product.shown() == {GOLD} and len(seen.discord()) == 1
    row = product.row()
    assert row.roles[GOLD].state == "held" and row.look_at == now(product) + LEASE and row.due_at == row.look_at
    product.time.passes(LEASE + 1)
    with product.counted() as seen:
        assert product.sweep() == 1
    assert seen.discord() == [f"GET /guilds/{SERVER}/members/{ADA}"] and product.row().look_at is None


def test_T14_a_grant_that_lands_after_the_role_was_taken_is_seen_by_the_look_after_the_lease(product):
    """The dead worker's PUT arrives late: after a successor has found that nothing is wanted."""
    key = product.buys()
    product.order("discord", **PUT, do="close")
    product.tell(key)
    product.work()
    product.ends(key)
    product.time.passes(LEASE + 1)
    product.tell(key)
    product.work()
    assert product.row().roles[GOLD].state == "absent" and product.shown() == set()
    product.control("PUT", f"/guilds/{SERVER}/members/{ADA}/roles/{GOLD}")      # it lands
    product.time.passes(LEASE + 1)
    assert product.sweep() == 1 and product.shown() == set()


def test_T14_a_restore_that_takes_a_dead_workers_lease_over_does_not_replace_the_look_after_the_lease(product):
    key = product.buys()
    product.order("discord", **PUT, do="close")
    product.tell(key)
    product.work()
    product.ends(key)
    product.time.passes(LEASE + 1)
    assert looks(product, cause="member:restore", look=True) == "settled" and product.row().roles[GOLD].state == "absent"
    product.control("PUT", f"/guilds/{SERVER}/members/{ADA}/roles/{GOLD}")      # what the dead one sent lands only now
    product.time.passes(LEASE + 1)
    product.sweep()
    assert product.shown() == set(), "long before the daily look"


def test_T43_a_strip_in_doubt_is_made_sure_too(product):
    key = product.holder()
    product.ends(key)
    product.order("discord", **DELETE, do="lose_answer")
    product.tell(key)
    product.work()
    assert product.shown() == set() and product.row().roles[GOLD].state == "may"
    product.time.passes(LEASE + 1)
    product.sweep()
    assert product.row().roles[GOLD].state == "absent"


@pytest.mark.parametrize("error", [requests.ConnectTimeout(), requests.ConnectionError(NewConnectionError(None, "refused"))])
def test_a_call_that_never_left_is_no_doubt_and_waits_as_an_outage(product, error):
    key = product.buys()
    product.tell(key)
    product.wires[DISCORD].down = error
    product.work()
    row = product.row()
    assert row.lease is None and row.roles[GOLD].block.why == "discord_unavailable"
    product.wires[DISCORD].down = None
    product.time.passes(61)
    assert product.sweep() == 1 and product.shown() == {GOLD}


@pytest.mark.parametrize("answer", [{"status": 200, "body": "<html>hello</html>"}, {"status": 200, "body": {}}, {"status": 201, "body": []}, {"status": 302, "headers": {"Location": "https://evil.example"}},
                                    {"status": 500, "body": ""}, {"status": 404, "body": "<html>"}, {"status": 400, "body": "x"}, {"status": 503, "body": {"code": 130000}}])
def test_fault_30_what_discord_never_says_is_no_yes_to_a_role_change(product, answer):
    product.order("discord", **PUT, do="answer", **answer)
    product.tell(product.buys())
    product.work()
    row = product.row()
    assert row.roles[GOLD].state == "may" and row.roles[GOLD].block.why == "discord_unavailable" and product.shown() == set()
    product.time.passes(61)
    product.sweep()
    assert product.shown() == {GOLD} and product.row().roles[GOLD].state == "held"


@pytest.mark.parametrize("body", ["<html>", [], {}, {"roles": None}, {"roles": 1}])
def test_fault_30_a_look_that_shows_no_roles_list_strips_and_grants_nothing(product, body):
    product.holder()
    product.order("discord", method="GET", path="/members/", do="answer", status=200, body=body)
    with product.counted() as seen:
        assert looks(product, look=True) == "paused"
    assert seen.discord() == [f"GET /guilds/{SERVER}/members/{ADA}"] and product.row().roles[GOLD].state == "held" and product.row().look


# Exact ends


@pytest.mark.parametrize("form", [{"cancel_at_period_end": True}, "cancel_at"])
def test_T21_T22_a_scheduled_end_takes_the_role_at_that_instant_and_not_a_second_before(product, form):
    # Rows: fault 46
    key = product.holder()
    end = period_end(product, key)
    patched(product, key, **(form if isinstance(form, dict) else {"cancel_at": end, "cancel_at_period_end": False}))
    product.tell(key)
    product.work()
    assert product.row().due_at <= end
    to(product, end - 1)
    product.sweep()
    assert product.shown() == {GOLD} and looks(product, look=True) == "settled" and product.shown() == {GOLD}
    to(product, end)
    assert product.sweep() == 1 and product.shown() == set()


def test_T23_an_end_that_was_taken_back_while_we_were_not_told_strips_nobody(product):
    # Rows: fault 46
    key = product.holder()
    end = period_end(product, key)
    patched(product, key, cancel_at_period_end=True)
    product.tell(key)
    product.work()
    patched(product, key, cancel_at_period_end=False)
    to(product, end + 1)
    product.sweep()
    assert product.shown() == {GOLD} and product.row().subs[f"stripe:operator:{key}"].scheduled is False


def test_fault_20_I3_a_stored_end_that_has_passed_or_a_stale_index_never_strips_only_what_stripe_says_now_does(product):
    key = product.holder()
    end = period_end(product, key)
    to(product, end + 3_700)     # renewed at Stripe; no webhook came
    with product.counted() as seen:
        assert product.sweep() == 1
    assert product.shown() == {GOLD} and not [call for call in seen.discord() if call.startswith("DELETE")]
    with product.counted() as seen:     # the index still shows the row as it was before
        product.aws.client("sqs").send_message(QueueUrl=product.aws.client("sqs").get_queue_url(QueueName="rolekeep-local-members")["QueueUrl"],
                                               MessageBody=__import__("json").dumps({"v": 1, "user": ADA, "server": SERVER, "cause": "sweep"}))
        product.work()
    assert product.shown() == {GOLD} and [call for call in seen.discord() if not call.startswith("GET")] == []


def test_fault_44_T29_past_due_keeps_the_role_for_the_offers_grace_to_the_second_and_recovers(product):
    key = product.holder()
    product.stripe.handle("POST", f"/_sandbox/customers/{product.row().subs[f'stripe:operator:{key}'].customer}/card", {}, b'{"number":"4000000000000341"}')
    product.stripe.handle("POST", f"/_sandbox/subscriptions/{key}/renew", {}, b'{"outcome":"decline"}')
    product.tell(key)
    product.work()
    start = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["items"]["data"][0]["current_period_start"]
    assert product.shown() == {GOLD} and product.row().subs[f"stripe:operator:{key}"].status == "past_due"
    to(product, start + 7 * DAY - 1)
    product.sweep()
    assert product.shown() == {GOLD}
    to(product, start + 7 * DAY)
    product.sweep()
    assert product.shown() == set(), "the grace is over"
    product.stripe.handle("POST", f"/_sandbox/subscriptions/{key}/retry", {}, b'{"outcome":"succeed"}')
    product.tell(key)
    product.work()
    assert product.shown() == {GOLD}, "paid after all"


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired", "unpaid", "paused", "canceled"])
def test_T30_fault_45_a_status_that_gives_nothing_gives_nothing(product, status):
    key = product.buys()
    patched(product, key, status=status)
    product.tell(key)
    product.work()
    assert product.shown() == set() and product.row().roles.get(GOLD) is None


# What is unknown

UNKNOWNS = [{"do": "answer", "status": status, "body": {"error": {"type": "invalid_request_error", "message": "x"}}} for status in (400, 401, 403, 404, 429, 500, 503)]
UNKNOWNS += [{"do": "close"}, {"do": "timeout"}, {"do": "answer", "status": 200, "body": "<html>"}, {"do": "answer", "status": 200, "body": {}}, {"do": "answer", "status": 200, "body": []},
             {"do": "answer", "status": 200, "body": {"id": "sub_1Other", "object": "subscription", "status": "canceled", "items": {"data": []}, "customer": "cus_1"}}]


@pytest.mark.parametrize("unknown", UNKNOWNS, ids=lambda u: f"{u['do']}-{u.get('status', '')}-{str(u.get('body', ''))[:12]}")
def test_I3_fault_53_54_26_a_subscription_that_cannot_be_read_strips_nobody_and_is_asked_again_soon(product, unknown):
    key = product.holder()
    product.ends(key)
    product.order("stripe", method="GET", path=key, **unknown)
    product.tell(key)
    assert product.work() == 0
    assert product.shown() == {GOLD} and product.row().lease is None and product.row().due_at <= now(product) + 120
    product.time.passes(121)
    assert product.sweep() == 1 and product.shown() == set()


def test_T24_a_live_subscription_without_any_period_or_with_an_unknown_status_is_unknown(product):
    key = product.holder()
    good = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]
    without = {**good, "items": {**good["items"], "data": [{k: v for k, v in good["items"]["data"][0].items() if not k.startswith("current_period")}]}}
    for answer in (without, {**good, "status": "suspended_by_law"}, {**good, "items": {"data": []}}):
        product.order("stripe", method="GET", path=key, do="answer", status=200, body=answer)
        assert looks(product) == "settled" and product.shown() == {GOLD}
        assert product.row().due_at <= now(product) + 120
    top = {**without, "current_period_start": good["items"]["data"][0]["current_period_start"], "current_period_end": good["items"]["data"][0]["current_period_end"]}
    product.order("stripe", method="GET", path=key, do="answer", status=200, body=top)
    assert looks(product) == "settled" and product.row().due_at > now(product) + 120, "periods on top, as before 2025-03-31"


def test_I3_while_one_subscription_is_unknown_grants_of_another_proceed_and_nothing_it_might_give_is_taken(product):
    first = product.holder("gold")
    second = product.buys("silver")
    product.tell(second)
    product.order("stripe", method="GET", path=first, do="close", times=None)
    product.work()
    assert product.shown() == {GOLD, SILVER}
    product.ends(second)
    product.tell(second)
    product.work()
    assert product.shown() == {GOLD, SILVER}, "the unknown one may have been switched to silver"
    product.stripe.faults.clear()
    product.time.passes(121)
    product.sweep()
    assert product.shown() == {GOLD}


def test_a_server_whose_settings_are_gone_strips_nobody(product):
    # Rows: polar 767f4841e6
    key = product.holder()
    product.ends(key)
    product.aws.client("dynamodb").delete_item(TableName="rolekeep-local-servers", Key={"server_id": {"S": SERVER}, "kind": {"S": "settings"}})
    product.tell(key)
    assert product.work() == 0 and product.shown() == {GOLD} and product.row().due_at <= now(product) + 121


# Closings


def test_I12_fault_32_after_a_401_nobody_calls_until_the_token_changes(product, monkeypatch):
    from chalicelib import settings
    product.furnish(OTHER_SERVER)
    monkeypatch.setitem(os.environ, "DISCORD_BOT_TOKEN", "an-old-token-of-the-bot")
    settings.get.cache_clear()
    first, second = product.buys(user=ADA), product.buys(user=BEN, server=OTHER_SERVER)
    with product.counted() as seen:
        for key in (first, second):
            product.tell(key)
        product.work()
        for _ in range(5):
            product.time.passes(3_601)
            product.sweep()
    assert len(seen.discord()) == 1
    monkeypatch.setitem(os.environ, "DISCORD_BOT_TOKEN", product.discord.app["bot_token"])
    settings.get.cache_clear()
    product.time.passes(3_601)
    product.sweep()
    assert product.shown(ADA) == {GOLD} and product.shown(BEN, OTHER_SERVER) == {GOLD}


def ban(product, seconds):
    product.control("PUT", "/ban", {"seconds": seconds, "status": 429})


def test_I12_fault_31_during_a_ban_of_a_day_there_is_a_probe_in_ten_minutes_at_most_and_everything_comes_after(product):
    product.furnish(OTHER_SERVER)
    ban(product, DAY)
    keys = [product.buys(user=user, server=server) for user, server in ((ADA, SERVER), (BEN, SERVER), (ADA, OTHER_SERVER), (BEN, OTHER_SERVER))]
    with product.counted() as seen:
        for key in keys:
            product.tell(key)
        product.work()
        for _ in range(18):
            product.time.passes(601)
            product.sweep()
    assert 2 <= len(seen.discord()) <= 19, seen.discord()
    product.time.passes(DAY)
    for _ in range(3):
        product.sweep()
        product.time.passes(601)
    assert [product.shown(user, server) for user, server in ((ADA, SERVER), (BEN, SERVER), (ADA, OTHER_SERVER), (BEN, OTHER_SERVER))] == [{GOLD}] * 4
    assert product.messages("members-dlq") == product.messages("stripe-events-dlq") == []


def test_fault_31_any_answer_of_discords_own_ends_a_ban_for_everybody(product):
    ban(product, 900)
    first, second = product.buys(user=ADA), product.buys(user=BEN)
    product.tell(first)
    product.work()
    product.time.passes(901)
    product.control("DELETE", f"/guilds/{SERVER}/members/{ADA}")      # the probe will be told 10007
    product.sweep()
    product.tell(second)
    product.work()
    assert product.shown(BEN) == {GOLD}


def test_I12_a_probe_is_not_spent_by_a_server_that_is_closed_itself(product):
    from chalicelib.store import servers
    product.furnish(OTHER_SERVER)
    here, there = product.buys(user=ADA), product.buys(user=BEN, server=OTHER_SERVER)
    servers.close("everywhere", until=product.time.at - 1, why="banned")
    servers.close(SERVER, until=product.time.at + 3_000, why="no_access")
    product.tell(here)
    product.work()
    product.tell(there)
    product.work()
    assert product.shown(BEN, OTHER_SERVER) == {GOLD} and product.shown(ADA) == set()


def test_a_429_waits_by_the_wall_clock_also_when_business_time_jumps(product):
    product.order("discord", **PUT, do="answer", status=429, headers={"Retry-After": "100", "X-RateLimit-Limit": "1"}, body={"retry_after": 99.5, "global": False})
    product.tell(product.buys())
    with product.counted() as seen:
        product.work()
        product.advance(3_600)
        product.sweep()
        assert len(seen.discord()) == 1
        product.time.passes(101)
        product.advance(200)
        product.sweep()
    assert product.shown() == {GOLD} and len(seen.discord()) == 2


def test_a_pause_never_sleeps_through_an_end(product):
    """Discord is closed for long: the row is due at the end all the same, so that the profile and the next look are right."""
    from chalicelib.store import servers
    key = product.holder()
    end = period_end(product, key)
    to(product, end - 100)
    patched(product, key, cancel_at_period_end=True)
    servers.close(SERVER, until=product.time.at + 3_000, why="rate_limited")
    product.tell(key)
    product.work()
    assert looks(product, look=True) == "paused" and product.row().due_at == end


def test_I10_a_look_that_is_overdue_while_discord_is_closed_waits_and_does_not_come_at_every_tick(product):
    from chalicelib.store import servers
    product.holder()
    servers.close(SERVER, until=product.time.at + 3_000, why="rate_limited")
    product.advance(DAY + 5)
    assert [product.sweep() for _ in range(4)] == [1, 0, 0, 0], "due again when Discord is open, not before"
    assert product.row().due_at > now(product) + 2_000


# Members and roles


def test_T39_the_wait_for_a_member_who_left_costs_one_call_a_day(product):
    product.control("DELETE", f"/guilds/{SERVER}/members/{ADA}")
    product.tell(product.buys())
    with product.counted() as seen:
        product.work()
        for _ in range(3):
            product.advance(DAY + 1)
            product.sweep()
    assert seen.discord() == [f"PUT /guilds/{SERVER}/members/{ADA}/roles/{GOLD}"] + [f"GET /guilds/{SERVER}/members/{ADA}"] * 3
    assert product.row().roles[GOLD].block.why == "not_in_server"


def test_T41_I8_a_look_takes_only_what_was_once_ours(product):
    # Rows: fault 37
    key = product.holder("both")
    product.control("PUT", f"/guilds/{SERVER}/members/{ADA}/roles/{FOREIGN}")
    product.ends(key)
    product.tell(key)
    product.work()
    product.control("PUT", f"/guilds/{SERVER}/members/{ADA}/roles/{SILVER}")     # by hand, after we had taken it
    assert looks(product, look=True) == "settled"
    assert product.shown() == {FOREIGN}


def test_restore_for_a_stranger_or_of_what_is_not_paid_gives_nothing(product):
    from chalicelib import restore
    from chalicelib.problem import Problem
    with pytest.raises(Problem) as refused:
        restore.restore(user=BEN, server_id=SERVER)
    assert refused.value.status == 404 and product.messages("members") == []
    key = product.holder()
    product.ends(key)
    product.tell(key)
    product.work()
    restore.restore(user=ADA, server_id=SERVER)
    product.work()
    assert product.shown() == set()


def test_I12_C16_whoever_keeps_pressing_restore_makes_few_calls_of_discord_and_fewer_refusals(product):
    """10,000 refusals in ten minutes and Discord bans our address: no member may be able to cause that."""
    from chalicelib import restore
    product.control("PATCH", f"/guilds/{SERVER}/roles/{GOLD}", {"position": 50})
    product.tell(product.buys())
    product.work()
    with product.counted() as seen:
        for _ in range(60):     # one a second
            restore.restore(user=ADA, server_id=SERVER)
            product.work()
            product.time.passes(1)
    refused = [call for call in seen.discord() if call.startswith("PUT")]
    assert 1 <= len(refused) <= 8 and len(seen.discord()) <= 20, len(seen.discord())
    product.control("PATCH", f"/guilds/{SERVER}/roles/{GOLD}", {"position": 1})
    product.time.passes(60)
    restore.restore(user=ADA, server_id=SERVER)
    product.work()
    assert product.shown() == {GOLD}, "and the button works"


def test_who_has_as_many_subscriptions_as_a_row_can_carry_is_told_before_paying_for_one_more(product):
    from chalicelib import checkout
    from chalicelib.problem import Problem
    from chalicelib.store import members
    for number in range(100):
        members.request(user=ADA, server=SERVER, token="t", now=now(product), wall=product.time.at, lease_seconds=LEASE, cause="x", subscription=f"stripe:operator:sub_1N{number}")
    with pytest.raises(Problem) as refused:
        checkout.start(user=ADA, server_id=SERVER, offer_id="gold", deadline=product.time.at + 25)
    assert refused.value.status == 409


def test_a_customer_who_was_deleted_at_stripe_can_buy_again(product):
    # Rows: polar 767f4841e6
    key = product.holder()
    product.ends(key)
    product.tell(key)
    product.work()
    product.order("stripe", method="POST", path="/v1/checkout/sessions", do="answer", status=400,
                  body={"error": {"type": "invalid_request_error", "code": "resource_missing", "param": "customer", "message": "No such customer"}})
    product.holder()
    assert product.shown() == {GOLD}


def test_a_membership_of_which_nothing_is_left_asks_for_no_more_work(product):
    key = product.holder()
    product.ends(key)
    product.tell(key)
    product.work()
    assert product.row().due_at is None
    product.advance(40 * DAY)
    assert product.sweep() == 0


# Time that is running out


def test_a_look_without_time_for_its_calls_makes_none_and_comes_again_at_once(product):
    # Rows: fault 13
    key = product.buys()
    product.tell(key)
    product.work()
    product.ends(key)
    with product.counted() as seen:
        assert looks(product, seconds=5, subscription=f"stripe:operator:{key}") == "paused"
    assert seen.http == [] and product.row().due_at <= now(product) and product.row().lease is None
    assert product.sweep() == 1 and product.shown() == set()


def test_T15_a_row_that_is_requested_again_and_again_is_given_back_after_some_rounds(product):
    # Rows: fault 18
    from chalicelib.store import members
    product.holder()
    before = product.wires[STRIPE].handle

    def requests_meanwhile(*request):
        members.request(user=ADA, server=SERVER, token="other", now=now(product), wall=product.time.at, lease_seconds=LEASE, cause="evt_1Other")
        return before(*request)

    product.wires[STRIPE].handle = requests_meanwhile
    assert looks(product) == "paused"
    product.wires[STRIPE].handle = before
    row = product.row()
    assert row.lease is None and row.due_at <= now(product) and row.requested > row.done
    assert product.sweep() == 1 and product.row().requested == product.row().done


def test_fault_62_nothing_of_one_members_sign_in_is_sent_with_anothers(product):
    """One HTTP session serves everybody: it keeps no cookies."""
    from chalicelib.gateways import wire
    before = product.wires[DISCORD].handle

    def with_cookie(*request):
        status, headers, body = before(*request)
        return status, {**headers, "Set-Cookie": "__dcfduid=canary-of-ada; Path=/"}, body

    product.wires[DISCORD].handle = with_cookie
    product.holder(user=ADA)
    product.holder(user=BEN)
    assert [request.headers["Cookie"] for base, request in product.sent if base == DISCORD and "Cookie" in request.headers] == []
    assert len(wire.session().cookies) == 0
