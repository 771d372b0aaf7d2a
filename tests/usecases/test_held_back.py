"""The mass-strip guard and the switches: what is held back waits in the row, is told, and goes on by itself or when somebody says so."""
import json

import pytest

from chalicelib import operate
from tests.usecases.deaths import STEPS, died
from tests.usecases.product import ADA, BEN, DAY, GOLD, OTHER_SERVER, SERVER, SILVER, key_of
from tests.worlds import gates, town
from tests.worlds.gates import Scenario, explore

HOUR = 3_600


@pytest.fixture
def product(made):
    """Yield the product over tables and queues that live by the test's clock."""
    return made(lambda url, headers, body: 200)


@pytest.fixture
def command(product, capsys):
    """Runs the operator's command: (exit code, the lines it said)."""
    def run(*arguments):
        capsys.readouterr()
        code = operate.main(arguments)
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return run


@pytest.fixture
def alarms(monkeypatch):
    """[message or why of each alarm] since the test began."""
    from chalicelib import log
    found = []
    monkeypatch.setattr(log, "alarm", lambda message, **fields: found.append((message, fields.get("why") or fields.get("server"))))
    return found


def crowd(product, count, offer="gold"):
    """So many members hold the offer's roles; their users."""
    users = [str(960_000_000_000_000_000 + number) for number in range(count)]
    for user in users:
        product.control("PUT", f"/users/{user}", {"username": user, "global_name": user})
        product.control("PUT", f"/guilds/{SERVER}/members/{user}")
        product.holder(offer, user)
        product.time.passes(1)      # Discord takes so many calls a second
    return users


def cancelled(product, user):
    """The member's first subscription has ended at Stripe, and we have been told."""
    key = next(iter(product.row(user).subs)).rsplit(":", 1)[1]
    product.ends(key)
    product.tell(key)


def settings():
    from chalicelib.store.tables import ServerItem
    return ServerItem.get(SERVER, "settings").settings.as_dict()


def sells_nothing():
    """The server's offers are gone, by whatever mistake; answers the settings of before."""
    from chalicelib.store import servers
    before = settings()
    servers.write(SERVER, before | {"offers": {}})
    return before


def looked_at(product, users):
    """Everybody has been looked at once more."""
    from chalicelib.gateways import queues
    queues.send_all(queues.MEMBERS, [({"user": user, "server": SERVER, "cause": "sweep"}, SERVER) for user in users])
    assert product.work() == 0


def holding(product, users, role=GOLD):
    return [user for user in users if role in product.shown(user)]


def why(product, user=ADA, role=GOLD):
    """(state, code) of the role as the member's profile shows it."""
    from chalicelib import profile
    from chalicelib.store.sessions import Member
    shown = next(one for one in profile.profile("secret", Member(user, "x"))["servers"] if one["id"] == SERVER)
    found = next(one for one in shown["roles"] if one["id"] == role)
    assert found["why"] is None or found["why"]["text"]
    return found["state"], found["why"] and found["why"]["code"]


def counted():
    from chalicelib.store import brakes
    return brakes.standing([SERVER]).get(SERVER, {}).get("counted", 0)


# The guard

def test_fault_55_I3_when_a_servers_offers_are_gone_five_lose_their_role_and_the_others_wait_until_it_is_mended(product, alarms):
    users = crowd(product, 9)
    before = sells_nothing()
    looked_at(product, users)
    kept = holding(product, users)
    assert len(kept) == 4 and alarms.count(("mass_strip_guard", SERVER)) == 1
    row = product.row(kept[0])
    assert row.roles[GOLD].state == "held" and row.requested == row.done, "nothing is recorded as gone"
    assert row.due_at == row.roles[GOLD].block.next == product.time.at + HOUR
    assert why(product, kept[0]) == ("ending", "guarded")
    looked_at(product, users)
    assert holding(product, users) == kept and alarms.count(("mass_strip_guard", SERVER)) == 1
    from chalicelib.store import servers
    servers.write(SERVER, before)
    looked_at(product, users)
    assert holding(product, users) == users and {why(product, user) for user in users} == {("held", None)}


def test_fault_55_of_a_large_server_a_tenth_of_those_who_hold_something_and_who_holds_nothing_is_no_member(product):
    from chalicelib.store.tables import Membership
    users = crowd(product, 8)
    for number in range(82):    # nobody looks at these
        roles = {GOLD: {"state": "held" if number < 52 else "absent"}} if number < 80 else {}
        Membership(f"97000000000000{number:04}", SERVER, requested=1, done=1, roles=roles, subs={}, checked_at=1).save()
    sells_nothing()
    looked_at(product, users)
    assert len(holding(product, users)) == 2, "six of sixty"


def test_fault_55_what_the_guard_blocks_goes_on_when_the_hour_is_over_a_few_each_hour(product, alarms):
    users = crowd(product, 12)
    sells_nothing()
    looked_at(product, users)
    left = []
    for _ in range(3):
        left.append(len(holding(product, users)))
        product.time.passes(HOUR)
        product.sweep()
    assert left == [7, 2, 0] and alarms.count(("mass_strip_guard", SERVER)) == 2
    assert all(product.row(user).roles[GOLD].state == "absent" for user in users)


def test_fault_55_nobody_who_was_cancelled_at_the_processor_waits_and_nothing_of_it_is_counted(product, alarms):
    users = crowd(product, 8)
    for user in users:
        cancelled(product, user)
    product.work()
    assert holding(product, users) == [] and counted() == 0 and alarms == []


def test_fault_55_who_cancels_while_the_guard_blocks_does_not_wait(product):
    users = crowd(product, 7)
    sells_nothing()
    looked_at(product, users)
    kept = holding(product, users)
    assert len(kept) == 2
    cancelled(product, kept[0])
    product.work()
    assert holding(product, users) == kept[1:]


def test_fault_55_an_act_of_the_members_own_is_evidence(product):
    """Erased after a refusal to be counted: what was bought once would stand for ever."""
    from chalicelib.gateways import queues
    product.sells(once=([GOLD], [product.price(900, "once")], {}))
    users = crowd(product, 6, "once")
    sells_nothing()
    looked_at(product, users)
    left, = holding(product, users)
    queues.send(queues.MEMBERS, {"user": left, "server": SERVER, "cause": "member:erase", "erase": True, "asked": int(product.time.at) + 1})
    product.work()
    assert holding(product, users) == [] and product.row(left) is None


@pytest.mark.parametrize("change", ["a role less", "another account", "less grace"])
def test_fault_55_a_change_of_settings_is_counted(product, change):
    """Beside a subscription that goes on, which the processor says nothing bad about."""
    key = product.holder("both")
    if change == "less grace":
        product.stripe.world.find("subscription", key)["status"] = "past_due"
        product.tell(key)
        product.work()
        product.time.passes(2 * DAY)
        product.sweep()
    from chalicelib.store import servers
    stored = settings()
    if change == "another account":
        stored["accounts"] = ["acct_1Other"]
    elif change == "less grace":
        stored["offers"]["both"]["grace_days"] = 0
    else:
        stored["offers"]["both"]["roles"] = [SILVER]
    assert GOLD in product.shown()
    servers.write(SERVER, stored)
    looked_at(product, [ADA])
    assert GOLD not in product.shown() and counted() == 1


def test_fault_55_a_switch_to_a_price_that_no_offer_knows_is_counted_and_one_to_another_offers_is_not(product):
    key, other = product.holder("gold"), product.holder("gold", BEN)
    for one, price in ((key, product.price(1234)["id"]), (other, product.price(300)["id"])):
        item = product.stripe.call("GET", f"/v1/subscriptions/{one}")[1]["items"]["data"][0]["id"]
        product.stripe.call("POST", f"/v1/subscriptions/{one}", {"items[0][id]": item, "items[0][price]": price})
        product.tell(one)
        product.work()
    assert (product.shown(ADA), product.shown(BEN)) == (set(), {SILVER}) and counted() == 1


def ended_beside(product):
    """Ada's gold subscription has ended at Stripe, her silver one goes on; the id of the ended one."""
    key = product.holder("gold")
    product.holder("silver")
    product.ends(key)
    product.tell(key)
    return key


@pytest.mark.parametrize("fault", [
    {"status": 503, "body": "<html>", "times": 1}, {"status": 429, "times": 1, "body": {"message": "x", "retry_after": 5.0, "global": False}}],
    ids=["5xx", "429"])
def test_fault_55_what_the_processor_said_is_still_evidence_after_discord_could_not_be_asked(product, fault):
    """The facts are stored by then, so that no later round sees them change."""
    ended_beside(product)
    product.order("discord", method="DELETE", path="/roles/", do="answer", **fault)
    product.work()
    assert product.shown() == {GOLD, SILVER} and product.row().roles[GOLD].proven
    product.time.passes(120)
    product.sweep()
    assert product.shown() == {SILVER} and counted() == 0


def test_fault_55_what_the_processor_said_is_still_evidence_after_a_worker_died_anywhere(product):
    """Dead at any call, the next one takes over when the lease has run out: what is proven never counts."""
    from chalicelib import worker
    for nth, user in enumerate(crowd(product, 16), 1):
        product.holder("silver", user)
        cancelled(product, user)
        records = product.messages("stripe-events")
        dead = died(lambda: worker.run(records, handle=worker.stripe_event, remaining=lambda: 60), nth)
        product.time.passes(180)
        worker.run(records, handle=worker.stripe_event, remaining=lambda: 60)
        product.sweep()
        assert product.shown(user) == {SILVER} and counted() == 0, nth
        if not dead:
            break
    assert not dead and nth > 8


def test_fault_55_a_member_counts_once_an_hour_however_often_the_worker_dies_or_discord_refuses(product):
    product.holder("gold")
    sells_nothing()
    from chalicelib import worker
    from chalicelib.gateways import queues
    queues.send(queues.MEMBERS, {"user": ADA, "server": SERVER, "cause": "sweep"})
    records = product.messages("members")
    for nth in range(1, STEPS):
        dead = died(lambda: worker.run(records, handle=worker.member, remaining=lambda: 60), nth)
        product.time.passes(130)
        if not dead:
            break
    assert not dead and product.shown() == set() and counted() == 1


def test_fault_55_a_refused_strip_counts_once(product):
    product.holder("gold")
    sells_nothing()
    product.order("discord", method="DELETE", path="/roles/", do="answer", status=403, body={"code": 50013, "message": "Missing Permissions"}, times=2)
    for _ in range(3):
        from chalicelib import restore
        restore.restore(user=ADA, server_id=SERVER)
        product.work()
        product.time.passes(90)
    assert product.shown() == set() and counted() == 1


def test_what_a_doubtful_strip_costs_and_what_a_blocked_one(product):
    users = crowd(product, 8)
    sells_nothing()
    costs = []
    for user in users:
        with product.counted() as seen:
            looked_at(product, [user])
        costs.append({name: times for name, times in seen.dynamodb().items() if "servers" in name or name in ("Query members", "BatchGetItem members")})
    first = {"BatchGetItem servers": 2, "UpdateItem servers": 2}
    next_ones = {"BatchGetItem servers": 1, "UpdateItem servers": 1}
    sixth = {"BatchGetItem servers": 3, "UpdateItem servers": 4, "Query members": 1, "BatchGetItem members": 1}
    assert costs == [first, *[next_ones] * 4, sixth, *[{"BatchGetItem servers": 1}] * 2]


def test_fault_55_the_operator_sees_what_waits_lifts_the_guard_for_one_server_and_everybody_is_called(product, command):
    users = crowd(product, 7)
    sells_nothing()
    looked_at(product, users)
    code, (said,) = command("guard", "list")
    assert code == 0 and (said["server"], said["counted"], said["most"], said["holders"], said["waiting"]) == (SERVER, 5, 5, 7, 2) and said["blocked_until"]
    assert command("guard", "lift", SERVER, "--dry-run")[1][0]["waiting"] == 2 and command("guard", "list")[1] == [said], "nothing has changed"
    assert command("guard", "lift", SERVER, "--for", "600")[1][0]["called"] == 2
    product.work()
    assert holding(product, users) == [] and counted() == 5, "what passes a lifted guard is not counted"
    from chalicelib.store import ledger
    act = ledger.of(f"server#{SERVER}")[0]
    assert act.data == {"cause": "operator:guard_lifted", "seconds": 600} and act.outcome == {"result": "done"}
    assert command("guard", "lift", OTHER_SERVER)[0] == 1 and command("guard", "lift", SERVER, "--for", "-1")[0] == 1


def test_fault_55_a_guard_that_was_lifted_is_there_again_afterwards(product, command):
    users = crowd(product, 7)
    command("guard", "lift", SERVER, "--for", "600")
    product.time.passes(601)
    sells_nothing()
    looked_at(product, users)
    assert len(holding(product, users)) == 2


# In every order

def counting(place, before):
    """Three workers count another member each, any of whom may die at any call and be done again; `before` were counted already."""
    from chalicelib.store import brakes
    for number in range(before):
        assert brakes.count(town.SERVER, f"before-{number}", now=place.clock.now, holders=lambda: 0) is None

    def counts(run, name):
        run.notes[name] = brakes.count(town.SERVER, name, now=place.clock.now, holders=lambda: 40) or "passed"

    def start(run):
        for name in ("a", "b", "c"):
            run.spawn(name, lambda name=name: counts(run, name))

    def settle(run):
        for one in run.workers:
            if one.unfinished:
                counts(run, one.name)

    def judge(run):
        known = place.tables.item(f"{town.PREFIX}servers", town.SERVER, "guard") or {"members": {"SS": []}}
        passed = [name for name in ("a", "b", "c") if run.notes.get(name) == "passed"]
        if len(known["members"]["SS"]) > 5 or before + len(passed) > 5:
            yield "more than five have passed"
        if not any(one.unfinished for one in run.workers) and len(passed) < min(3, 5 - before):
            yield "somebody waits although there is room"

    def settled(run):
        yield from judge(run)
        if sum(run.notes.get(name) == "passed" for name in ("a", "b", "c")) != min(3, 5 - before):
            yield "after all came again, not as many passed as may"

    return Scenario("counting", worlds=place.worlds, start=start, judge=judge, settle=settle, judge_settled=settled)


@pytest.mark.parametrize("before", [0, 4])
def test_fault_55_whatever_the_order_of_workers_and_deaths_five_pass_and_no_more(before):
    with town.Town().open() as place:
        report = explore(counting(place, before), preemptions=2, crashes=1)
    assert not report.violations, report
    assert report.schedules + report.pruned > 50


def test_fault_55_a_count_that_is_read_and_then_written_would_let_more_pass(monkeypatch):
    from chalicelib.store import brakes
    condition = "(ServerItem.since > now - HOUR) & free"
    monkeypatch.setattr(brakes, "_add", rewritten(brakes._add, brakes, condition, "ServerItem.since.exists()"))
    with town.Town().open() as place:
        assert explore(counting(place, 4), preemptions=2, crashes=1, stop_on_first=True).violations


def rewritten(function, module, words, others):
    """The function with other words, which must stand in it once."""
    import inspect
    import textwrap
    source, made = textwrap.dedent(inspect.getsource(function)), {}
    assert source.count(words) == 1
    exec(source.replace(words, others), vars(module), made)
    return made[function.__name__]


def ending(place):
    """One of two subscriptions ends while the guard blocks the server; Discord may fail once, and workers die."""
    from chalicelib.store import brakes
    place.buy("sub_1", town.GOLD_PRICE)
    place.buy("sub_2", town.SILVER_PRICE)
    place.settle_down()
    brakes.trip(town.SERVER, until=place.clock.now + 30 * DAY)

    def ends():
        place.stripe.change("sub_1", status="canceled", ended_at=place.clock.now)

    def start(run):
        place.arrives(run, "renewed", place.event("sub_2", "evt_renewed"))
        place.happens(run, "stripe", ("sub_1 ends", lambda: (ends(), place.arrives(run, "ended", place.event("sub_1", "evt_ended")))))

    def settled(run):
        yield from place.judge_settled(run)
        if town.GOLD in (role for _, _, role in place.discord.held):
            yield "what the processor has ended waits for the guard"

    faults = {"faults": lambda worker, label: (gates.LIMITED, gates.BROKEN) if "discord" in label else ()}
    scenario = place.scenario("one ends while the guard blocks", start, **faults)
    scenario.judge_settled = settled
    return scenario


def test_fault_55_what_the_processor_has_ended_never_waits_for_the_guard_whoever_dies_where():
    with town.Town().open() as place:
        report = explore(ending(place), preemptions=1, crashes=1, faults=1)
    assert not report.violations, report
    assert report.schedules + report.pruned > 50


def test_fault_55_a_proof_that_is_not_stored_with_the_facts_would_be_lost(monkeypatch):
    """As if only the round that sees the facts change could tell."""
    from chalicelib.store import members
    monkeypatch.setattr(members, "_stored", rewritten(members._stored, members, '({"proven": True} if known.proven else {})', "{}"))
    with town.Town().open() as place:
        assert explore(ending(place), preemptions=1, crashes=1, faults=1, stop_on_first=True).violations


# Switches

def test_while_strips_are_off_everywhere_nobody_loses_anything_grants_go_on_and_then_everybody_is_called(product, command, alarms):
    """Grant-only mode, as after a restore."""
    key = product.holder("gold")
    assert command("switch", "strips", "off")[1] == [{"scope": "everywhere", "what": "strips", "off": True, "before": False, "dry_run": False}]
    assert command("switch", "list")[1] == [{"scope": "everywhere", "off": ["strips"]}]
    product.ends(key)
    product.tell(key)
    product.tell(product.buys("silver", BEN))
    product.work()
    row = product.row()
    assert product.shown(ADA) == {GOLD} and product.shown(BEN) == {SILVER} and row.roles[GOLD].state == "held"
    assert why(product) == ("ending", "strips_off") and ("held_back", "strips_off") in alarms
    assert row.due_at == product.time.at + HOUR and row.lease is None
    product.time.passes(HOUR)
    assert product.sweep() == 1 and product.shown() == {GOLD} and product.row().due_at == product.time.at + HOUR
    assert command("switch", "strips", "on", "--dry-run")[1][0]["waiting"] == 1 and command("switch", "list")[1]
    assert command("switch", "strips", "on")[1][0] == {"scope": "everywhere", "what": "strips", "off": False, "before": True, "dry_run": False, "called": 1}
    assert product.work() == 0 and product.shown() == set() and command("switch", "list")[1] == []


def test_a_switch_in_one_server_is_for_that_server(product, command):
    product.furnish(OTHER_SERVER)
    keys = [(product.holder("gold", ADA, server), server) for server in (SERVER, OTHER_SERVER)]
    product.order("discord", method="PUT", path="/roles/", do="answer", status=403, body={"code": 50013, "message": "Missing Permissions"}, times=1)
    product.tell(product.buys("gold", BEN))
    assert product.work() == 0 and product.row(BEN).roles[GOLD].block, "who waits for something else is not called"
    assert command("switch", "strips", "off", "--server", SERVER)[0] == 0
    for key, _ in keys:
        product.ends(key)
        product.tell(key)
    product.work()
    assert (product.shown(ADA, SERVER), product.shown(ADA, OTHER_SERVER)) == ({GOLD}, set())
    assert command("switch", "strips", "on", "--server", SERVER)[1][0]["called"] == 1
    product.work()
    assert product.shown() == set()
    from chalicelib.store import ledger
    assert [row.data["cause"] for row in ledger.of(f"server#{SERVER}")] in (["operator:strips_on", "operator:strips_off"], ["operator:strips_off", "operator:strips_on"])
    assert command("switch", "strips", "off", "--server", "1")[0] == 1


def test_what_is_set_for_a_server_and_what_is_set_everywhere_are_read_together(product):
    from chalicelib.domain.brakes import Brakes
    from chalicelib.domain.closed import EVERYWHERE
    from chalicelib.store import brakes, servers
    for scope, what in ((SERVER, "strips"), (EVERYWHERE, "grants")):
        brakes.switch(scope, what, off=True)
    brakes.trip(SERVER, until=7)
    brakes.lift(SERVER, until=9)
    servers.close(EVERYWHERE, until=11, why="banned")
    read, closed = servers.read(SERVER)
    assert read.brakes == Brakes(frozenset({"strips", "grants"}), 7, 9) and [one.scope for one in closed] == [EVERYWHERE]
    product.furnish(OTHER_SERVER)
    brakes.trip(EVERYWHERE, until=99)
    assert servers.read(OTHER_SERVER)[0].brakes == Brakes(frozenset({"grants"})), "the guard is one server's own"
    assert not brakes.trip(SERVER, until=7) and not brakes.trip(SERVER, until=6), "an earlier end shortens nothing"
    brakes.switch(EVERYWHERE, "grants", off=False)
    assert servers.read(SERVER)[0].brakes.off == {"strips"} and len(servers.read(SERVER)[1]) == 1
    servers.reopen(closed[0])
    assert servers.read(SERVER)[0].brakes == Brakes(frozenset({"strips"}), 7, 9) and servers.read(SERVER)[1] == []


def test_while_grants_are_off_nothing_is_given_and_who_switches_plans_keeps_the_old_role(product, command):
    key, ended = product.holder("gold"), product.holder("silver", BEN)
    command("switch", "grants", "off")
    item = product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["items"]["data"][0]["id"]
    product.stripe.call("POST", f"/v1/subscriptions/{key}", {"items[0][id]": item, "items[0][price]": product.price(300)["id"]})
    product.ends(ended)
    for one in (key, ended):
        product.tell(one)
    with product.counted() as seen:
        product.work()
    assert product.shown(ADA) == {GOLD} and product.shown(BEN) == set(), "an end is an end"
    assert (why(product), why(product, role=SILVER)) == (("ending", "grants_off"), ("blocked", "grants_off"))
    assert product.row().roles[SILVER].state == "absent" and len(seen.discord()) == 1
    assert command("switch", "grants", "on")[1][0]["called"] == 1
    product.work()
    assert product.shown(ADA) == {SILVER} and why(product, role=SILVER) == ("held", None) and counted() == 0


def test_while_strips_are_off_who_is_to_be_erased_is_not_forgotten_before_the_role_is_gone(product, command):
    from chalicelib.gateways import queues
    key = product.holder("gold")
    command("switch", "strips", "off")
    product.ends(key)
    product.hears()
    queues.send(queues.MEMBERS, {"user": ADA, "server": SERVER, "cause": "member:erase", "erase": True, "asked": int(product.time.at) + 1})
    product.work()
    assert product.row().erased and product.shown() == {GOLD}
    command("switch", "strips", "on")
    product.work()
    assert product.row() is None and product.shown() == set()


def test_a_switch_costs_no_round_trip_and_no_second_fetch(product, command):
    key = product.holder("gold")
    product.holder("silver")
    command("switch", "strips", "off")
    product.ends(key)
    product.tell(key)
    with product.counted() as seen:
        product.work()
    assert seen.dynamodb() == {"GetItem links": 1, "BatchGetItem servers": 1, "UpdateItem members": 2, "PutItem ledger": 1}, "as for a change without a role"
    assert len(seen.stripe()) == 2 and seen.discord() == []


def test_a_look_or_a_click_on_restore_does_not_get_past_a_switch(product, command):
    from chalicelib import restore
    key = product.buys("gold")
    command("switch", "grants", "off")
    product.tell(key)
    product.work()
    product.time.passes(10)
    restore.restore(user=ADA, server_id=SERVER)
    with product.counted() as seen:
        product.work()
    assert product.shown() == set() and seen.discord() == [f"GET /guilds/{SERVER}/members/{ADA}"]
    assert product.row().look_at is None and product.row().due_at == product.time.at + HOUR


def test_the_timeline_says_that_it_waits_and_why(product, command):
    from chalicelib import timeline
    key = product.holder("gold")
    command("switch", "strips", "off")
    product.time.passes(1)
    product.ends(key)
    product.tell(key)
    product.work()
    newest = timeline.of_server(user=ADA, server_id=SERVER)["entries"][0]
    assert newest["decision"].startswith("Taking roles away is switched off")
    assert key_of(key) in product.row().subs
