"""Export and erase: everything about oneself and nobody else; and an erasure that nothing late undoes and no crash breaks."""
import json

import pytest

from chalicelib import worker
from chalicelib.store import ledger, links, members, servers
from chalicelib.store.tables import MODELS
from tests.usecases import deaths
from tests.usecases.product import ADA, BEN, DAY, GOLD, OTHER_SERVER, SERVER, SILVER, key_of

COOKIE = "__Host-rolekeep-session"


@pytest.fixture
def person(product, call):
    """Answer a function: somebody's browser, which calls the API and answers what came of it."""
    class Browser:
        def __init__(self, user=ADA):
            self.secret, self.csrf = product.signed_in(user)

        def asks(self, method, path, body=None):
            return call(method, path, {"Cookie": f"{COOKIE}={self.secret}", "X-CSRF-Token": self.csrf, "Content-Type": "application/json"},
                        json.dumps(body).encode() if body is not None else None)

        def erases(self, cancel=True):
            return self.asks("DELETE", "/api/v1/me", {"confirm": True, "cancel_subscriptions": cancel})
    return Browser


def everything(*, besides=()):
    """Every row of every table but those of these models, as one text."""
    return json.dumps([model.Meta.table_name + json.dumps(item.to_simple_dict() if hasattr(item, "to_simple_dict") else item.attribute_values, default=repr)
                       for model in MODELS if model.__name__ not in besides for item in model.scan(consistent_read=True)])


def click(product, key):
    from chalicelib import cancel, ports
    cancel.cancel(user=ADA, subscription_id=key, reason="other", comment="CANARY-COMMENT", deadline=ports.wall() + 60)
    product.work()


def erased(product, user=ADA, server=SERVER):
    """The pseudonym, once nothing is left but the tombstone."""
    assert members.read(user, server) is None
    return members.tombstone(user, server)["as"]


def parked():
    return [row.data.get("why") for row in ledger.parked("operator")]


def told(queue, **fields):
    """Work on exactly this message; answers what failed."""
    handle = {"members": worker.member, "stripe-events": worker.stripe_event}[queue]
    record = {"messageId": "1", "body": json.dumps({"v": 2, **fields})}
    return worker.run([record], handle=handle, remaining=lambda: 60)["batchItemFailures"]


# Asking

def test_D15_an_erasure_while_something_is_paid_is_refused_with_what_it_is_and_what_to_do(product, person):
    key, browser = product.holder(), person()
    answer = browser.erases(cancel=False)
    assert answer.status == 409 and "gold in Pixel" in answer.json()["detail"] and answer.json()["next"]
    assert product.work() == 0 and product.shown() == {GOLD} and product.row().erased is None
    assert browser.asks("GET", "/api/v1/profile").status == 200 and product.stripe.world.find("subscription", key)["status"] == "active"


@pytest.mark.parametrize("body", [{}, {"confirm": True}, {"confirm": 1, "cancel_subscriptions": True}, {"confirm": "true", "cancel_subscriptions": True},
                                  {"confirm": True, "cancel_subscriptions": 1}, {"confirm": True, "cancel_subscriptions": None}, {"confirm": False, "cancel_subscriptions": True},
                                  {"confirm": True, "cancel_subscriptions": True, "user": BEN}])
def test_an_erasure_wants_both_answers_and_nothing_else(product, person, body):
    product.holder()
    assert person().asks("DELETE", "/api/v1/me", body).status == 400
    assert product.work() == 0 and product.shown() == {GOLD}


def test_an_erasure_from_another_site_or_without_the_token_is_refused(product, person, call):
    browser = person()
    body = b'{"confirm":true,"cancel_subscriptions":true}'
    sent = {"Cookie": f"{COOKIE}={browser.secret}", "Content-Type": "application/json"}
    assert call("DELETE", "/api/v1/me", sent, body).status == 403
    assert call("DELETE", "/api/v1/me", {**sent, "X-CSRF-Token": browser.csrf, "Origin": "https://evil.test"}, body).status == 403
    assert call("DELETE", "/api/v1/me", {"Content-Type": "application/json"}, body).status == 401


def test_a_cancellation_that_is_not_confirmed_erases_nothing_and_pressing_again_goes_on(product, person):
    gold, silver, browser = product.holder("gold"), product.holder("silver"), person()
    product.order("stripe", method="DELETE", path=f"/v1/subscriptions/{silver}", do="close")
    assert browser.erases().status == 503 and product.messages("members") == []
    assert product.row().erased is None and browser.asks("GET", "/api/v1/profile").status == 200
    assert browser.erases().status == 202
    assert {product.stripe.world.find("subscription", key)["status"] for key in (gold, silver)} == {"canceled"}
    assert product.work() == 0 and product.shown() == set() and erased(product)


# What is left

def test_D15_I9_after_an_erasure_nothing_names_the_member_and_the_audit_stands_under_a_pseudonym(product, person):
    key = product.holder()
    click(product, key)
    ben = product.holder("gold", BEN)
    assert person().erases().status == 202
    assert product.work() == 0 and product.shown() == set()
    pseudonym = erased(product)
    left = everything(besides=("Membership",))
    intents = [item for item in MODELS[1].scan() if item.id.startswith("intent:") and item.user_id == ADA]
    assert left.count(ADA) == len(intents) == 1, "only the checkout's own intent, which expires after 60 days"
    assert "CANARY-COMMENT" not in left and "evt_" not in json.dumps([row.data for row in ledger.every(f"erased#{pseudonym}")])
    rows = ledger.every(f"erased#{pseudonym}")
    assert [row.data.get("grants") or row.data.get("strips") for row in rows if row.id != "erased" and (row.data.get("grants") or row.data.get("strips"))] == [[GOLD]] * 2
    assert rows[-1].id == "erased" and all(key not in json.dumps(row.data) for row in rows)
    assert {row.outcome["result"] for row in ledger.every(f"money#{key_of(key)}")} == {"done"}
    assert {name for row in ledger.every(f"money#{key_of(key)}") for name in row.data} == {"intent", "kind", "reason"}
    [row] = [item for item in MODELS[0].scan() if item.user_id == ADA]
    assert {name for name, value in row.attribute_values.items() if value is not None} == {"user_id", "server_id", "erased", "ttl"}
    assert row.ttl >= product.time.at + 59 * DAY
    assert product.shown(BEN) == {GOLD} and product.row(BEN).subs.keys() == {key_of(ben)} and links.of_subscription(key_of(ben)).user == BEN


def test_B11_every_session_of_the_member_ends_and_nobody_elses(product, person):
    here, there, other = person(), person(), person(BEN)
    assert here.erases(cancel=False).status == 202
    assert [browser.asks("GET", "/api/v1/profile").status for browser in (here, there, other)] == [401, 401, 200]


def test_a_member_of_two_servers_is_erased_in_both(product, person):
    product.furnish(OTHER_SERVER)
    product.holder("gold"), product.holder("gold", ADA, OTHER_SERVER)
    assert person().erases().status == 202
    assert product.work() == 0 and product.shown() == product.shown(ADA, OTHER_SERVER) == set()
    assert erased(product) and erased(product, ADA, OTHER_SERVER)


def test_a_price_that_is_parked_loses_the_user(product, person):
    from chalicelib.store.tables import ServerItem
    key = product.holder()
    settings = ServerItem.get(SERVER, "settings").settings.as_dict()
    del settings["offers"]["gold"]
    servers.write(SERVER, settings)
    product.tell(key)
    product.work()
    assert [row.data["user"] for row in ledger.parked("operator")] == [ADA]
    assert person().erases().status == 202
    product.work()
    assert erased(product) and [row.data.get("user") for row in ledger.parked("operator")] == [None]


# What comes late

def test_T36_M14_nothing_late_revives_an_erased_member(product, person):
    from chalicelib import sweep
    key = product.holder()
    events = product.events(key)
    assert person().erases().status == 202
    product.work()
    pseudonym, before = erased(product), everything()
    for event in [*events, *product.events(key)]:
        product.take_in(event)
    assert product.work() == 0
    for cause, more in (("sweep", {}), ("member:restore", {"look": True}), ("member:erase", {"erase": True, "asked": int(product.time.at)})):
        assert told("members", user=ADA, server=SERVER, cause=cause, **more) == []
    product.advance(2 * DAY)
    assert sweep.due(remaining=lambda: 60, limit=60) == 0
    assert erased(product) == pseudonym and everything() == before and product.shown() == set() and parked() == []


def test_a_stale_message_makes_no_row_of_somebody_we_do_not_know(product):
    assert told("members", user=ADA, server=SERVER, cause="sweep") == []
    assert told("members", user=ADA, server=SERVER, cause="member:erase", erase=True, asked=1) == []
    assert list(MODELS[0].scan()) == []


@pytest.mark.parametrize("when", ["while it is under way", "when it is done", "after the member came back"])
def test_I1_a_checkout_of_before_that_is_paid_late_is_parked_and_gives_nothing(product, person, when):
    from chalicelib import checkout, ports
    url = checkout.start(user=ADA, server_id=SERVER, offer_id="gold", deadline=ports.wall() + 25)
    if when == "while it is under way":     # a strip that is refused keeps it open
        silver = product.holder("silver")
        product.order("discord", path=f"/roles/{SILVER}", do="answer", status=403, body={"message": "no", "code": 50013})
        assert silver
    product.time.passes(2)
    assert person().erases().status == 202
    product.work()
    assert (members.tombstone(ADA, SERVER) is None) == (when == "while it is under way")
    if when == "after the member came back":
        product.time.passes(2)
        product.holder("silver")
    late = product.pays(url)
    product.tell(late, times=2)
    assert product.work() == 0
    assert parked() == ["paid_after_erase"] and GOLD not in product.shown()
    assert links.of_subscription(key_of(late)).user is None
    product.tell(late)
    assert product.work() == 0 and len(parked()) == 1
    if when == "after the member came back":
        assert product.shown() == {SILVER} and product.row().subs.keys().isdisjoint({key_of(late)})


def test_who_comes_back_starts_afresh_and_an_old_wish_to_erase_does_not_reach_them(product, person):
    old, asked = product.holder(), int(product.time.at)
    assert person().erases().status == 202
    product.work()
    assert erased(product)
    product.time.passes(5)
    new = product.holder()
    assert product.shown() == {GOLD} and product.row().subs.keys() == {key_of(new)} and product.row().erased is None
    assert told("members", user=ADA, server=SERVER, cause="member:erase", erase=True, asked=asked) == []
    product.tell(old)
    product.sweep()
    assert product.work() == 0 and product.shown() == {GOLD} and product.row().erased is None
    product.time.passes(5)
    assert person().erases().status == 202
    product.work()
    assert erased(product) and product.shown() == set()


# Not done before Discord and Stripe agree

def test_a_strip_that_discord_refuses_keeps_the_erasure_open_until_it_is_made(product, person):
    product.holder()
    product.order("discord", path=f"/roles/{GOLD}", do="answer", status=403, body={"message": "no", "code": 50013})
    assert person().erases().status == 202
    product.work()
    row = product.row()
    pseudonym = row.erased["as"]
    assert row.roles[GOLD].block.why == "missing_permissions" and product.shown() == {GOLD} and row.due_at is not None
    from chalicelib import checkout, ports
    from chalicelib.problem import Problem
    with pytest.raises(Problem) as refused:
        checkout.start(user=ADA, server_id=SERVER, offer_id="silver", deadline=ports.wall() + 25)
    assert refused.value.code == "being-erased"
    product.discord.front.faults.clear()
    product.time.passes(3_700)
    assert product.sweep() == 1 and product.shown() == set() and erased(product) == pseudonym


def test_I3_while_stripe_cannot_be_read_nothing_is_stripped_and_nothing_is_erased(product, person):
    key = product.holder()
    assert person().erases().status == 202
    product.order("stripe", method="GET", path=f"/v1/subscriptions/{key}", do="answer", status=500, body={}, times=None)
    product.work()
    assert product.shown() == {GOLD} and product.row().erased
    product.stripe.faults.clear()
    product.time.passes(130)
    assert product.sweep() == 1 and product.shown() == set() and erased(product)


def test_I3_nor_is_anything_erased_of_somebody_who_holds_nothing_while_stripe_cannot_be_read(product, person):
    key = product.holder()
    product.control("DELETE", f"/guilds/{SERVER}/members/{ADA}")
    product.advance(DAY)
    product.sweep()
    assert product.row().roles[GOLD].state == "absent"
    assert person().erases().status == 202
    product.order("stripe", method="GET", path=f"/v1/subscriptions/{key}", do="answer", status=500, body={}, times=None)
    product.work()
    assert product.row().erased, "it may still be paid"
    product.stripe.faults.clear()
    product.time.passes(130)
    assert product.sweep() == 1 and erased(product)


def test_what_was_bought_between_the_click_and_the_erasure_is_kept_and_somebody_is_told(product, person):
    browser = person()
    old = product.holder("gold")
    assert browser.erases().status == 202
    held = product.messages("members")      # the message is on its way for long
    new = product.holder("silver")
    assert worker.run(held, handle=worker.member, remaining=lambda: 60)["batchItemFailures"] == []
    assert product.shown() == {SILVER} and product.row().erased and key_of(new) in product.row().subs
    assert product.stripe.world.find("subscription", new)["status"] == "active" and old
    product.time.passes(2)
    assert person().erases(cancel=False).status == 409
    assert person().erases().status == 202
    product.work()
    assert product.shown() == set() and erased(product)


def test_an_erasure_that_comes_while_somebody_works_is_seen_by_them(product, person, monkeypatch):
    from chalicelib.gateways import stripe
    key = product.holder()
    assert person().erases().status == 202
    [message] = product.messages("members")
    read, once = stripe.read_subscription, []

    def reading(*args, **kwargs):
        answer = read(*args, **kwargs)
        if not once:
            once.append(worker.run([message], handle=worker.member, remaining=lambda: 60)["batchItemFailures"])
        return answer

    monkeypatch.setattr(stripe, "read_subscription", reading)
    product.tell(key)
    assert product.work() == 0 and once == [[]]
    assert product.shown() == set() and erased(product)


def test_a_click_that_may_still_be_writing_its_intent_is_waited_for(product, person):
    key = product.holder()
    assert person().erases().status == 202
    ledger.open_intent(key=key_of(key), at=int(product.time.at), data={"intent": "young", "kind": "cancel_now", "actor": f"member:{ADA}", "comment": "CANARY-COMMENT"})
    product.work()
    assert product.row().erased
    product.time.passes(61)
    assert product.sweep() == 1 and erased(product)
    assert "CANARY-COMMENT" not in everything() and [row.id == "open" for row in ledger.every(f"money#{key_of(key)}")] == [False] * 2


# Crashes

def fresh(product, person):
    product.aws.reset()
    product.furnish()
    key = product.holder()
    click(product, key)
    return key, person()


def test_whatever_call_the_click_dies_at_pressing_again_finishes_it(product, person):
    for nth in range(1, deaths.STEPS):
        key, browser = fresh(product, person)
        died = deaths.died(browser.erases, nth)
        product.time.passes(61)
        assert (browser if browser.asks("GET", "/api/v1/profile").status == 200 else person()).erases().status == 202, nth
        product.work()
        assert product.shown() == set() and erased(product), nth
        assert sum(event["type"] == "customer.subscription.deleted" for event in product.events(key)) == 1
        if not died:
            break
    assert nth > 8 and not died


def test_whatever_call_the_worker_dies_at_the_sweep_finishes_it_under_the_same_pseudonym(product, person):
    for nth in range(1, deaths.STEPS):
        key, browser = fresh(product, person)
        assert browser.erases().status == 202
        messages = product.messages("members")
        died = deaths.died(lambda messages=messages: worker.run(messages, handle=worker.member, remaining=lambda: 60), nth)
        row = product.row()
        began = row.erased["as"] if row and row.erased else None
        for _ in range(3):      # one that was taken over is looked at once more later
            if began and members.tombstone(ADA, SERVER) is None:
                product.time.passes(130)
                product.sweep()
        if row and not row.erased:      # it died before the wish was taken: the message is still in the queue
            assert nth == 1 and worker.run(messages, handle=worker.member, remaining=lambda: 60)["batchItemFailures"] == []
        assert product.shown() == set() and began in (None, erased(product)), nth
        left = everything(besides=("Membership",))
        assert left.count(ADA) == 1 and "CANARY-COMMENT" not in left and key, nth
        assert {row.subject for row in map(ledger._entry, ledger.Ledger.scan()) if row.subject.startswith("erased#")} == {f"erased#{erased(product)}"}
        if not died:
            break
    assert nth > 15 and not died


# Export

def test_D15_an_export_holds_everything_about_oneself_and_nothing_of_anybody_else(product, person):
    key = product.holder()
    click(product, key)
    other = product.holder("gold", BEN)
    browser = person()
    person()
    answer = browser.asks("GET", "/api/v1/me/export")
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store" and answer.headers["Content-Disposition"].startswith("attachment")
    found = answer.json()
    [membership] = found["memberships"]
    assert found["format"] == 1 and found["member"] == {"id": ADA, "name": "Ada"} and len(found["sessions"]) == 2
    assert membership["server"] == {"id": SERVER, "name": "Pixel"} and membership["roles"] == [{"id": GOLD, "name": "Gold", "state": "held", "blocked": None}]
    [sub] = membership["subscriptions"]
    assert sub["key"] == key_of(key) and sub["bought"]["offer"] == "gold" and sub["money_intents"][0]["data"]["comment"] == "CANARY-COMMENT"
    assert {GOLD: "grant done"} in [entry["outcome"] for entry in membership["audit"]]
    assert set(found["sessions"][0]) == {"created_at", "expires_at"}
    assert other not in answer.text and BEN not in answer.text


def test_I11_an_export_opens_nothing(product, person, call):
    from chalicelib.store import sessions
    key = product.holder()
    browser = person()
    url = browser.asks("POST", f"/api/v1/subscriptions/{key}/portal-session", {}).json()["url"]
    text = browser.asks("GET", "/api/v1/me/export").text
    for secret in (browser.secret, sessions.digest(browser.secret), browser.csrf, url.rsplit("/", 1)[1], "intent:"):
        assert secret not in text
    assert call("GET", "/api/v1/me/export").status == 401
    assert person("970000000000000009").asks("GET", "/api/v1/me/export").json()["memberships"] == []


def test_a_bank_debit_that_arrives_after_the_erasure_is_kept_for_somebody_to_give_back(product, person):
    from chalicelib import checkout, ports
    from chalicelib import parked as releasing
    product.sells(lifetime=([GOLD], [product.price(9_000, "once")], {}))
    url = checkout.start(user=ADA, server_id=SERVER, offer_id="lifetime", deadline=ports.wall() + 25)
    form = product._browser.open(url).form("Pay")
    product._browser.session.post(form["action"], data={**form["fields"], "email": "ada@canary.example", "method": "sepa_debit",
                                                        "number": "DE89370400440532013000"}, allow_redirects=False)
    product.hears()
    product.time.passes(2)
    assert person().erases().status == 202
    product.work()
    assert erased(product)
    session = product.stripe.world.find("checkout.session", url.rsplit("/", 1)[1])
    product.order_stripe("POST", f"payment_intents/{session['payment_intent']}/settle", {"outcome": "succeed"})
    assert product.hears() == 0 and parked() == ["paid_after_erase"] and product.shown() == set()
    product.time.passes(DAY)
    releasing.run(remaining=lambda: 60, limit=60)
    assert product.work() == 0 and [row.outcome for row in ledger.parked("operator")] == [None], "a person judges it"


def test_what_was_bought_for_good_is_named_before_it_is_lost(product, person):
    product.sells(lifetime=([GOLD], [product.price(9_000, "once")], {}))
    product.buys("lifetime")
    product.hears()
    refused = person().erases(cancel=False)
    assert refused.status == 409 and "lifetime" in refused.text and product.shown() == {GOLD}
    assert person().erases().status == 202
    product.work()
    assert erased(product) and product.shown() == set()


def test_nothing_is_cancelled_when_something_else_cannot_be_because_its_account_is_gone(product, person):
    from chalicelib.store import accounts
    key = product.holder()
    accounts.bind("acct_1Gone", server=OTHER_SERVER, owner=BEN, at=int(product.time.at), why="test")
    servers.write(OTHER_SERVER, {"name": "Elsewhere", "accounts": ["acct_1Gone"], "offers": {}})
    members.request(user=ADA, server=OTHER_SERVER, token="x", now=int(product.time.at), wall=product.time.at, lease_seconds=0, cause="test",
                    subscription="stripe:acct_1Gone:sub_1Gone")
    accounts.disconnect("acct_1Gone", at=int(product.time.at), why="evt_1")
    refused = person().erases()
    assert refused.status == 409 and "Elsewhere" in refused.text
    product.work()
    assert product.stripe.call("GET", f"/v1/subscriptions/{key}")[1]["status"] == "active" and product.shown() == {GOLD}
