"""Webhooks of the Stripe sandbox: signatures, retries, faults on order; pumped by hand, so nothing waits."""
import json

import pytest
import stripe

from infra.local.sandbox.stripe_webhooks import BACK_OFF, Endpoint, signature
from stripe_account import HOOK, JAN_31, SECRETS, Account, problems


@pytest.fixture
def account():
    return Account()


def got(account):
    return [json.loads(body)["type"] for _, body in account.got]


def emit(account, *types):
    for name in types:
        account.control("POST", "emit", {"type": name, "object": {"id": "x_1", "object": "x"}})


@pytest.mark.parametrize("secret", SECRETS)
def test_deliveries_verify_with_either_secret_while_rotating(account, secret):
    account.buy()
    account.sandbox.deliveries.pump()
    headers, body = account.got[0]
    sent = headers["Stripe-Signature"]
    assert sent.count("v1=") == 2 and sent.startswith(f"t={JAN_31},")
    event = stripe.Webhook.construct_event(body, sent, secret, tolerance=10**10)
    assert event.type == "product.created" and event.api_version == "2026-10-28.endive"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, sent, "whsec_other", tolerance=10**10)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body.replace(b"Gold", b"Tin!"), sent, secret, tolerance=10**10)


def test_the_signature_is_stamped_with_the_wall_clock_of_each_attempt_not_the_sandbox_clock(account):
    emit(account, "charge.failed")
    account.clock.advance(86400)
    account.answers = [500]
    account.sandbox.deliveries.pump()
    account.wall += 1
    account.sandbox.deliveries.pump()
    assert [headers["Stripe-Signature"].split(",")[0] for headers, _ in account.got] == [f"t={JAN_31}", f"t={JAN_31 + 1}"]


def test_every_delivered_body_is_an_event_by_the_official_schema(account):
    account.buy()
    account.clock.advance(40 * 86400)
    account.sandbox.deliveries.pump()
    assert len(account.got) > 10
    assert [p for _, body in account.got for p in problems(json.loads(body))] == []


def test_what_is_not_answered_with_2xx_is_tried_again_with_growing_pauses_and_then_given_up(account):
    emit(account, "charge.failed")
    account.answers = [302, 500, 0, 404] + [503] * 20
    waits = []
    while account.sandbox.deliveries.waiting:
        account.sandbox.deliveries.pump()
        due = account.sandbox.deliveries.next_due()
        if due is not None:
            waits.append(due - account.wall)
            account.wall = due
    assert tuple(waits) == BACK_OFF and len(account.got) == len(BACK_OFF) + 1
    event = account.events()[0]
    assert [a["status"] for a in event["attempts"][:4]] == [302, 500, 0, 404] and event["pending_webhooks"] == 1


def test_a_delivery_that_succeeds_at_last_is_not_tried_again(account):
    emit(account, "charge.failed")
    account.answers = [500, 200]
    account.sandbox.deliveries.pump()
    assert len(account.got) == 1
    account.wall += BACK_OFF[0]
    account.sandbox.deliveries.pump()
    account.wall += 3600
    account.sandbox.deliveries.pump()
    assert len(account.got) == 2 and account.events()[0]["pending_webhooks"] == 0


def order(account, **wish):
    account.control("POST", "faults", wish, expect=201)


def test_a_dropped_event_is_known_to_the_api_and_to_nobody_else(account):
    order(account, webhook="^charge", do="drop", times=1)
    emit(account, "charge.failed", "charge.refunded")
    account.sandbox.deliveries.pump()
    assert got(account) == ["charge.refunded"]
    assert [e["type"] for e in account.api("GET", "/v1/events")["data"]] == ["charge.refunded", "charge.failed"]


def test_a_duplicated_event_comes_twice_with_one_id(account):
    order(account, webhook="charge.failed", do="duplicate")
    emit(account, "charge.failed", "charge.refunded")
    account.sandbox.deliveries.pump()
    assert got(account) == ["charge.failed", "charge.failed", "charge.refunded"] and len({json.loads(body)["id"] for _, body in account.got}) == 2


def test_shuffled_events_all_come_within_the_time_each_after_a_wait_of_its_own_until_it_is_cleared(account):
    kinds = ["charge.captured", "charge.expired", "charge.failed", "charge.pending", "charge.refunded", "charge.succeeded", "charge.updated"]
    order(account, webhook="^charge", do="shuffle", seconds=60)
    emit(account, *kinds)
    arrived = []
    for _ in range(61):
        account.sandbox.deliveries.pump()
        arrived.append(len(account.got))
        account.wall += 1
    assert got(account) != kinds and sorted(got(account)) == sorted(kinds)
    assert len(set(arrived)) >= 4, "not all at once"
    account.got.clear()
    account.control("DELETE", "faults")
    emit(account, *kinds)
    account.sandbox.deliveries.pump()
    assert got(account) == kinds


def test_shuffled_events_that_fell_due_in_one_leap_of_time_keep_their_shuffled_order(account):
    kinds = ["charge.captured", "charge.expired", "charge.failed", "charge.pending", "charge.refunded", "charge.succeeded", "charge.updated"]
    order(account, webhook="^charge", do="shuffle", seconds=60)
    emit(account, *kinds)
    account.wall += 60
    account.sandbox.deliveries.pump()
    assert got(account) != kinds and sorted(got(account)) == sorted(kinds)


def test_a_delayed_event_comes_later_than_those_made_after_it(account):
    order(account, webhook="charge.failed", do="delay", seconds=30)
    emit(account, "charge.failed", "charge.refunded")
    account.sandbox.deliveries.pump()
    account.wall += 30
    account.sandbox.deliveries.pump()
    assert got(account) == ["charge.refunded", "charge.failed"]


@pytest.mark.parametrize("how, expected", [("as_made", ["charge.captured", "charge.expired", "charge.pending"]), ("reverse", ["charge.pending", "charge.expired", "charge.captured"])])
def test_held_events_wait_until_released_in_the_order_asked_for(account, how, expected):
    order(account, webhook="^charge", do="hold", times=3)
    emit(account, "charge.captured", "charge.expired", "charge.pending")
    account.wall += 86400
    account.sandbox.deliveries.pump()
    assert got(account) == []
    assert account.control("POST", "release", {"order": how}) == {"released": 3}
    account.sandbox.deliveries.pump()
    assert got(account) == expected


def test_held_events_survive_a_restart(tmp_path):
    before = Account(state_file=tmp_path / "s.json")
    order(before, webhook="^charge", do="hold")
    emit(before, "charge.failed")
    after = Account(state_file=tmp_path / "s.json")
    after.control("POST", "release", {"order": "shuffle"})
    after.sandbox.deliveries.pump()
    assert got(after) == ["charge.failed"]


def test_an_event_is_sent_again_on_request(account):
    emit(account, "charge.failed")
    account.sandbox.deliveries.pump()
    account.control("POST", f"events/{account.events()[0]['id']}/resend")
    account.sandbox.deliveries.pump()
    assert got(account) == ["charge.failed", "charge.failed"] and len(account.events()[0]["attempts"]) == 2
    account.control("POST", "events/evt_none/resend", expect=404)


def test_every_endpoint_gets_its_own_signature_and_its_own_retries():
    account = Account(endpoints=[Endpoint(HOOK, ("whsec_a",)), Endpoint(HOOK + "/2", ("whsec_b",))])
    emit(account, "charge.failed")
    account.answers = [500, 200]
    account.sandbox.deliveries.pump()
    assert [w["url"] for w in account.events()[0]["waiting"]] == [HOOK]
    assert account.got[0][0]["Stripe-Signature"] != account.got[1][0]["Stripe-Signature"]


def test_endpoints_and_secrets_can_be_changed_while_it_runs(account):
    account.control("PUT", "endpoints", {"endpoints": [{"url": HOOK, "secrets": ["whsec_new"]}]})
    emit(account, "charge.failed")
    account.sandbox.deliveries.pump()
    headers, body = account.got[0]
    assert headers["Stripe-Signature"] == signature(body, ["whsec_new"], JAN_31)


def test_an_event_of_live_mode_can_be_sent(account):
    account.control("POST", "emit", {"type": "charge.failed", "object": {"id": "x_1", "object": "x"}, "livemode": True})
    account.sandbox.deliveries.pump()
    assert [event["livemode"] for _, event in account.received] == [True]


@pytest.mark.parametrize("method, path, body", [("POST", "emit", {"type": 1}), ("POST", "release", {"order": "random"}),
                                                ("POST", "fail", {}), ("PATCH", "options", {"colour": 1}),
                                                ("PUT", "endpoints", {"endpoints": [{}]}), ("POST", "clock", {"advance": -1})])
def test_an_order_that_makes_no_sense_is_refused(account, method, path, body):
    assert "error" in account.control(method, path, body, expect=400)


def test_the_list_of_what_was_not_delivered_holds_what_waits_and_what_one_endpoint_never_took():
    account = Account(endpoints=[Endpoint(HOOK, SECRETS), Endpoint("http://other.test/hook", SECRETS, enabled_events=("charge.failed",))])
    emit(account, "charge.failed", "charge.refunded")

    def listed(**more):
        return [event["type"] for event in account.api("GET", "/v1/events", {"delivery_success": "false", **more})["data"]]

    assert listed() == ["charge.refunded", "charge.failed"] and listed(**{"types[0]": "charge.failed"}) == ["charge.failed"]
    account.answers = [200, 500, 200] + [503] * 20     # one endpoint takes it, the other does not
    for _ in range(len(BACK_OFF) + 1):
        account.sandbox.deliveries.pump()
        account.wall += max(BACK_OFF)
    assert account.sandbox.deliveries.waiting == [] and listed() == ["charge.failed"]
    assert [event["type"] for event in account.api("GET", "/v1/events", {"delivery_success": "true"})["data"]] == ["charge.refunded"]
    assert account.refused("GET", "/v1/events", {f"types[{n}]": "charge.failed" for n in range(21)})["param"] == "types"
