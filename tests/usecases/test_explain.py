"""Why do I (not) have my role? M8 in words for the member, and for the owner and the operator with what exactly mends it."""
import json

import pytest

from chalicelib import explain, operate, ports, view
from chalicelib.problem import Problem
from tests.usecases.product import ADA, BEN, DAY, GOLD, OTHER_SERVER, SERVER, SILVER
from tests.usecases.shop import Shop

PUT = {"method": "PUT", "path": "/roles/"}


@pytest.fixture
def product(made):
    """Yield the product in memory."""
    return made(lambda url, headers, body: 200)


def mine(user=ADA, server=SERVER):
    return explain.of_member(user=user, server_id=server)


def operators(user=ADA, server=SERVER):
    return explain.for_operator(user=user, server_id=server)


def gold(said):
    """What is said of the role Gold."""
    return next(role for role in said["roles"] if role["id"] == GOLD)


def answered(status, code):
    return {"do": "answer", "status": status, "body": {"message": "no", "code": code}}


def test_a_role_that_is_held_says_since_which_payment_until_when_and_what_comes_next(product):
    key = product.holder()
    said = mine()
    role = gold(said)
    assert (role["state"], role["code"], role["who"], role["reasons"]) == ("held", None, "nobody", [key])
    assert role["text"] == "You have this role. It goes on with each payment." and role["answer"]["code"] == "done"
    assert said["next"]["text"].startswith("The daily look") and said["next"]["at"] == view.iso(product.row().due_at) and said["waits"] == []
    assert said["read_at"] == view.iso(ports.now()) and said["server"] == {"id": SERVER, "name": "Pixel"}
    product.stripe.call("POST", f"/v1/subscriptions/{key}", {"cancel_at_period_end": True})
    product.hears()
    end = product.subscription(key)["access_until"]
    assert gold(mine())["text"].startswith("You have this role. It stays until 28 February 2027") and end.startswith("2027-02-28")


@pytest.mark.parametrize("order, code, who, fix", [
    (answered(403, 50013), "missing_permissions", "owner", "above “Gold”"),
    (answered(404, 10011), "role_deleted", "owner", GOLD),
    (answered(403, 40007), "banned_member", "owner", "lift the ban"),
    (answered(404, 10007), "not_in_server", "you", "joins it"),
    (answered(400, 50999), "discord_50999", "operator", "discord_50999"),
    ({"do": "answer", "status": 503, "body": "<html>"}, "discord_unavailable", "nobody", "discordstatus"),
    (answered(403, 50001), "no_access", "owner", "Add the bot"),
    ({"do": "answer", "status": 429, "headers": {"Retry-After": "100", "X-RateLimit-Limit": "1"}, "body": {"retry_after": 99.5, "global": False}}, "rate_limited", "nobody", "how long"),
    ({"do": "answer", "status": 403, "body": "error code: 1015"}, "banned", "operator", "ten minutes"),
    (answered(401, 0), "bad_token", "operator", "DISCORD_BOT_TOKEN"),
])
def test_M8_fault_33_34_36_each_refusal_says_who_must_do_what_and_when_it_is_tried_again(product, order, code, who, fix):
    product.order("discord", **PUT, times=None, **order)
    key = product.buys()
    product.tell(key)
    product.work()
    role = gold(mine())
    assert (role["state"], role["code"], role["who"]) == ("blocked", code, who) and role["text"] == view.why_not(code)[0] and role["next"].startswith(view.why_not(code)[1])
    told = operators()
    assert fix in gold(told)["fix"] and "fix" not in role
    closing = code in ("no_access", "rate_limited", "banned", "bad_token")
    if closing:
        assert [wait["code"] for wait in told["waits"]][:1] == [code] and fix in told["waits"][0]["fix"]
        assert (told["waits"][0]["at"] is None) == (code == "bad_token")
    else:
        block = product.row().roles[GOLD].block
        assert role["answer"] == {"verb": "give", "code": code, "text": view.why_not(code)[0], "at": view.iso(block.tried), "tries": 1, "again_at": view.iso(block.next)}
    assert told["next"]["at"] == view.iso(product.row().due_at)
    if not closing and code != "not_in_server":
        assert told["next"]["text"] == "Gold is tried again."


def test_M8_whoever_is_in_the_server_with_another_account_is_told_which_one_counts(product):
    product.order("discord", **PUT, **answered(404, 10007))
    product.tell(product.buys())
    product.work()
    assert gold(mine())["next"].endswith("It must be the Discord account that you are signed in with here.")


def test_every_reason_on_the_page_says_what_mends_it(product):
    assert set(view.WHY) <= set(view.FIX) and {who for who, _ in view.FIX.values()} <= {"you", "owner", "operator", "nobody"}
    for code in (*view.FIX, "discord_1"):
        who, fix = view.mends(code, role="Gold", role_id=GOLD, server=SERVER)
        assert fix and "{" not in fix and (who == "nobody") == fix.startswith("Nothing:"), code


def test_M8_a_payment_that_is_pending_or_failed_or_went_back_is_why(product):
    key = product.buys()
    product.order("stripe", path=f"/v1/subscriptions/{key}", nth=2, times=1, do="answer", status=503, body={})
    product.tell(key)
    product.work()
    said = operators()
    assert [reason["text"] for reason in said["reasons"]] == ["Your payment is being confirmed."] and said["reasons"][0]["unread_since"]
    assert said["waits"][-1]["code"] == "unread" and said["waits"][-1]["at"] == view.iso(product.row().due_at) and "operate accounts" in said["waits"][-1]["fix"]
    product.advance(200)
    product.sweep()
    assert gold(mine())["state"] == "held"
    product.stripe.call("POST", "/v1/refunds", {"charge": list(product.stripe.world.all("charge"))[-1]["id"]})
    product.hears()
    role = gold(mine())
    assert (role["state"], role["code"], role["text"], role["reasons"]) == ("none", "on_hold", "The payment was refunded, so it gives no access.", [key])
    assert "policies" in operators()["reasons"][0]["fix"]


def test_M8_grace_and_its_end_say_until_when_and_that_the_member_must_pay(product):
    product.sells(gold=([GOLD], [product.price(500)], {"grace_days": 3}))
    key = product.holder()
    product.order_stripe("PATCH", f"subscriptions/{key}", {"status": "past_due"})
    product.hears()
    role, reason = gold(mine()), mine()["reasons"][0]
    assert role["state"] == "held" and role["text"] == "You have this role. A payment is due: it stays until 31 January 2027, 00:00 UTC." and reason["who"] == "you"
    product.advance(4 * DAY)
    product.sweep()
    role = gold(mine())
    assert (role["state"], role["code"], role["who"]) == ("none", "ended", "you") and "Update the payment method" in role["next"]


def test_M8_O7_a_price_that_no_offer_knows_gives_no_role_and_the_operator_is_told_which(product):
    key = product.holder()
    product.sells(silver=([SILVER], [product.price(300)], {}))
    said = operators()
    assert [role["id"] for role in said["roles"]] == [GOLD] and gold(said)["state"] == "ending"
    assert said["reasons"][0]["subscription"] == key and "gives no role here" in said["reasons"][0]["text"]
    assert said["reasons"][0]["who"] == "operator" and product.prices[500, "month"] in said["reasons"][0]["fix"]


def test_fault_53_M8_a_disconnected_account_says_who_must_connect_it_and_how(product):
    shop = Shop(product, "acct_1ShopA")
    shop.furnish()
    shop.holder()
    shop.disconnect()
    reason = operators()["reasons"][0]
    assert (reason["who"], reason["state"]) == ("owner", "active") and f"operate connect {SERVER} acct_1ShopA" in reason["fix"] and "Ask the server's owner" in reason["next"]
    assert not {"account", "fix"} & set(mine()["reasons"][0]), "whose account it is concerns the operator"


def test_what_waits_is_told_while_somebody_works_after_they_died_and_while_data_is_erased(product):
    from chalicelib.store import members
    product.holder()
    members.request(user=ADA, server=SERVER, token="t", now=ports.now(), wall=ports.wall(), lease_seconds=120, cause="evt_1", look=True, erase={"as": "x", "asked": ports.now()})
    assert [wait["code"] for wait in mine()["waits"]] == ["working", "look", "erasing"] and mine()["next"]["at"] == view.iso(ports.now() + 120)
    product.time.passes(121)
    said = operators()
    assert [wait["code"] for wait in said["waits"]] == ["asked", "look", "erasing"] and said["next"]["text"].startswith("It is due")
    assert said["row"]["causes"] == ["evt_1"] and said["row"]["requested"] == said["row"]["done"] + 1


def test_a_server_whose_settings_are_gone_decides_nothing_and_says_so(product):
    product.holder()
    said = explain.told(product.row(), None, [], now=ports.now(), wall=ports.wall())
    assert said["waits"][0]["code"] == "server_unknown" and SERVER in said["waits"][0]["fix"] and said["server"]["name"] == SERVER


def test_it_is_said_of_oneself_alone_in_three_reads_and_while_everything_is_down(product, call):
    product.holder()
    secret, _ = product.signed_in()
    cookie = {"Cookie": f"__Host-rolekeep-session={secret}"}
    for wire in product.wires.values():
        wire.down = ConnectionError("down")
    from infra.local import permissions
    with product.counted() as seen:
        end = permissions.enforce("local")
        try:
            with permissions.acting_as(permissions.API):
                answer = call("GET", f"/api/v1/servers/{SERVER}/explain", headers=cookie)
        finally:
            end()
    assert answer.status == 200 and answer.json() == mine()
    assert seen.dynamodb() == {"GetItem sessions": 1, "GetItem members": 1, "BatchGetItem servers": 1} and seen.http == [] and seen.sqs() == {}
    stranger, _ = product.signed_in(BEN)
    for headers, server, status in ((cookie, OTHER_SERVER, 404), (cookie, "x", 404), ({"Cookie": f"__Host-rolekeep-session={stranger}"}, SERVER, 404), ({}, SERVER, 401)):
        assert call("GET", f"/api/v1/servers/{server}/explain", headers=headers).status == status


def test_nothing_is_left_to_say_of_an_erased_member(product):
    from chalicelib import worker
    product.ends(product.holder())
    worker.member({"user": ADA, "server": SERVER, "cause": "member:erase", "erase": True, "asked": ports.now() + 1}, deadline=ports.wall() + 60)
    product.advance(DAY)
    product.sweep()
    with pytest.raises(Problem) as refused:
        mine()
    assert refused.value.status == 404


def test_the_operator_s_command_says_it_in_one_line_with_the_newest_of_the_timeline(product, capsys):
    product.holder()
    capsys.readouterr()
    assert operate.main(["explain", SERVER, ADA]) == 0
    said, = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said["timeline"][0]["roles"][0]["answer"] == "done" and said["row"]["roles"] == {GOLD: "held"} and {**said, "row": 0, "timeline": 0} == {**operators(), "row": 0, "timeline": 0}
    assert operate.main(["explain", SERVER, BEN]) == 1 and operate.main(["explain", "x", ADA]) == 1
