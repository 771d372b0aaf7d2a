"""Cancel and undo: one effect whatever goes wrong on the way, the processor read back, and a receipt that is never a guess."""
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime


from infra.local.walker import DECLINED_LATER, wait_for
from tests.api.town import is_problem
from tests.instance import quiet

UPDATE = r"^/v1/subscriptions/sub_\w+$"


def effects(town, key):
    """Stripe's events about the subscription that say that its scheduled end has changed."""
    return [event for event in town.sandbox.events() if event["type"] == "customer.subscription.updated" and event["data"]["object"]["id"] == key
            and {"cancel_at_period_end", "cancel_at"} & set(event["data"].get("previous_attributes") or {})]


def clicks(person, change, times=2, **body):
    """The answers to pressing a button so many times at once."""
    path = f"/api/v1/subscriptions/{person.subscription_id}/{change}"
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda _: person.post(path, body), range(times)))


def trouble(town, do, **more):
    """The next change of a subscription at Stripe meets this."""
    town.sandbox.stripe("POST", "/faults", {"method": "POST", "path": UPDATE, "do": do, **more})


def money(town, key):
    """The ledger's rows about the subscription's money intents."""
    return [row for row in town.operator.rows("ledger") if row["subject"] == f"money#stripe:operator:{key}"]


def test_T48_fault_47_C12_a_double_click_on_cancel_is_one_cancellation_and_the_others_say_already(town):
    times = 6
    member = town.buyer()
    answers = clicks(member, "cancel", times)
    assert [answer.status_code for answer in answers] == [200] * times, [answer.text for answer in answers]
    receipts = [answer.json()["receipt"] for answer in answers]
    assert sorted(receipt["already"] for receipt in receipts) == [False] + [True] * (times - 1)
    assert len({receipt["access_until"] for receipt in receipts}) == 1 and {receipt["next_charge"] for receipt in receipts} == {"none"}
    assert len(effects(town, member.subscription_id)) == 1
    assert [row["outcome"]["result"] for row in money(town, member.subscription_id)] == ["done"]


def test_T48_a_double_click_while_stripe_is_slow_is_one_cancellation_too(town):
    member = town.buyer()
    trouble(town, "delay", seconds=1)
    answers = clicks(member, "cancel", 3)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert sum(not answer.json()["receipt"]["already"] for answer in answers) == 1
    assert len(effects(town, member.subscription_id)) == 1


def test_T48_cancelling_twice_one_after_the_other_says_already_and_undoing_twice_too(town):
    member = town.buyer()
    assert [member.cancel(member.subscription_id)["already"] for _ in range(3)] == [False, True, True]
    assert [member.undo(member.subscription_id)["already"] for _ in range(3)] == [False, True, True]
    assert len(effects(town, member.subscription_id)) == 2


def test_fault_14_a_cancel_whose_answer_is_lost_is_read_back_and_has_one_effect(town):
    member = town.buyer()
    trouble(town, "lose_answer")
    receipt = member.cancel(member.subscription_id)
    assert receipt["next_charge"] == "none" and receipt["access_until"]
    assert member.cancel(member.subscription_id)["already"] is True
    assert len(effects(town, member.subscription_id)) == 1
    assert [row["outcome"]["result"] for row in money(town, member.subscription_id)] == ["done"]


def test_fault_14_a_cancel_that_never_reached_stripe_says_so_and_the_next_click_makes_it(town):
    # Rows: polar 79d5aab981
    member = town.buyer()
    trouble(town, "close")
    answer = member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel")
    assert is_problem(answer, 503)["next"]
    assert member.subscription(member.subscription_id)["cancel_scheduled"] is False
    assert member.cancel(member.subscription_id)["next_charge"] == "none"
    assert len(effects(town, member.subscription_id)) == 1
    keys = {one["headers"]["idempotency-key"] for one in town.sandbox.stripe("GET", "/requests")["requests"]
            if one["path"] == f"/v1/subscriptions/{member.subscription_id}" and one["method"] == "POST"}
    assert len(keys) == 1, "the intent goes on under its own key, so a first one that lands late after all changes nothing"


def test_fault_14_a_500_of_stripe_is_read_back_whether_it_came_before_or_after_the_effect(town):
    for when in ("after", "before"):
        member = town.buyer()
        town.sandbox.stripe("POST", "/fail", {"path": UPDATE, "method": "POST", "when": when})
        first = member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel")
        assert first.status_code == (200 if when == "after" else 503)
        assert member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel").status_code == 200, f"{when}: Stripe keeps a 500 under its key for a day"
        assert len(effects(town, member.subscription_id)) == 1


def test_a_cancel_that_stripe_refuses_for_now_can_be_made_a_moment_later(town):
    for status in (429, 401, 403, 400):
        member = town.buyer()
        trouble(town, "answer", status=status, body={"error": {"type": "invalid_request_error", "message": "canary-message"}})
        answer = member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel")
        assert "canary" not in answer.text and is_problem(answer, 503)
        assert member.cancel(member.subscription_id)["already"] is False
        assert len(effects(town, member.subscription_id)) == 1


def test_a_cancel_while_stripe_cannot_be_read_is_not_made_and_says_so(town):
    member = town.buyer()
    quiet(town.operator)
    town.sandbox.stripe("POST", "/faults", {"method": "GET", "path": UPDATE, "do": "answer", "status": 500, "body": "<html>"})
    is_problem(member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel"), 503)
    assert effects(town, member.subscription_id) == []
    assert member.cancel(member.subscription_id)["already"] is False, "the first click sent nothing"


def test_T16_the_webhook_of_a_cancel_is_done_before_the_request_that_caused_it_is_answered(town):
    # Rows: fault 47, polar 9ba72ccd57
    member = town.buyer()
    trouble(town, "lose_answer", seconds=2)
    with ThreadPoolExecutor(1) as pool:
        click = pool.submit(member.post, f"/api/v1/subscriptions/{member.subscription_id}/cancel", {})
        other = town.visitor(member.user_id)
        wait_for(lambda: other.subscription(member.subscription_id)["cancel_scheduled"], 3, "the webhook has been worked on")
        assert not click.done()
        assert other.cancel(member.subscription_id)["already"] is True
        assert click.result().status_code == 200
    assert len(effects(town, member.subscription_id)) == 1
    assert town.sandbox.roles(town.id, member.user_id) == {town.gold}


def test_T16_a_cancel_in_stripes_portal_that_nobody_told_us_about_yet_is_known_here(town):
    member = town.buyer()
    town.sandbox.stripe("POST", "/faults", {"webhook": ".", "do": "hold", "times": None})
    url = member.portal_session(member.subscription_id, "cancel")
    member.cancel_at_stripe(url, member.subscription_id)
    assert member.cancel(member.subscription_id)["already"] is True
    assert len(effects(town, member.subscription_id)) == 1


def test_fault_46_T22_T23_both_forms_of_a_scheduled_end_are_shown_and_undone(town):
    for mode in ("flexible", "classic"):
        town.sandbox.stripe("PATCH", "/options", {"billing_mode": mode})
        try:
            member = town.buyer()
        finally:
            town.sandbox.stripe("PATCH", "/options", {"billing_mode": "flexible"})
        key = member.subscription_id
        renews = member.subscription(key)["renews_at"]
        member.cancel_at_stripe(member.portal_session(key, "cancel"), key)
        shown = wait_for(lambda: (found := member.subscription(key))["state"] == "ending" and found, 5, "the profile shows the end")
        assert shown["ends_at"] == shown["access_until"] == renews and shown["renews_at"] is None and shown["actions"][-1] == "undo"
        assert member.undo(key) | {"at": 0, "text": 0} == {"subscription": key, "already": False, "read_back": "active", "next_charge": {"at": renews},
                                                             "access_until": None, "open_invoice": None, "at": 0, "text": 0}
        quiet(town.operator)
        assert member.subscription(key)["renews_at"] == renews and town.sandbox.roles(town.id, member.user_id) == {town.gold}
        assert town.role_calls(member.user_id) == [("PUT", town.gold, 204)]


def test_an_end_set_for_both_forms_at_once_is_undone_whole(town):
    member = town.buyer()
    now = town.sandbox.now()
    town.sandbox.patch_subscription(member.subscription_id, cancel_at=int(now) + 86_400, cancel_at_period_end=True)
    assert member.undo(member.subscription_id)["already"] is False
    raw = member.subscription(member.subscription_id)
    wait_for(lambda: not member.subscription(member.subscription_id)["cancel_scheduled"], 5, lambda: f"{raw} is not scheduled any more")


def test_a_cancel_with_a_failed_payment_names_the_open_invoice_and_ends_with_the_grace(town):
    member = town.buyer()
    key = member.subscription_id
    town.sandbox.set_card(town.sandbox.customer_of(key), DECLINED_LATER)
    town.sandbox.renew(key, "decline")
    shown = wait_for(lambda: (found := member.subscription(key))["state"] == "grace" and found, 5, "the profile shows the failed payment")
    receipt = member.cancel(key)
    assert receipt["open_invoice"]["amount"] == 500 and receipt["open_invoice"]["currency"] == "eur"
    assert receipt["access_until"] == shown["access_until"]
    begun = datetime.fromisoformat(shown["access_until"]).timestamp() - 7 * 86_400
    assert abs(begun - town.sandbox.now()) < 60, "the grace runs from the renewal that failed"


def test_cancel_and_undo_at_the_same_time_end_as_stripe_says_and_the_loser_is_told_to_wait(town):
    # Rows: C12
    member = town.buyer()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda change: clicks(member, change, 1)[0], ("cancel", "undo")))
    assert all(answer.status_code in (200, 409) for answer in both), [answer.text for answer in both]
    quiet(town.operator)
    shown = member.subscription(member.subscription_id)
    truth = [event["data"]["object"] for event in town.sandbox.events() if event["data"]["object"]["id"] == member.subscription_id][-1]
    assert shown["cancel_scheduled"] is (truth["cancel_at_period_end"] or truth["cancel_at"] is not None)
    assert member.cancel(member.subscription_id)["next_charge"] == "none"


# At once

def at_once(town):
    """A member who has bought an offer that may be cancelled at once."""
    offers = town.register()
    town.register(offers={name: {**offer, "cancel_now": name == "gold"} for name, offer in offers.items()})
    return town.buyer()


def ends(town, key):
    """Stripe's events that say that the subscription is over."""
    return [event for event in town.sandbox.events() if event["type"] == "customer.subscription.deleted" and event["data"]["object"]["id"] == key]


def test_a_cancel_now_ends_access_at_once_and_the_profile_offers_it_only_where_it_is_allowed(town):
    member = at_once(town)
    key = member.subscription_id
    assert "cancel_now" in member.subscription(key)["actions"]
    answer = member.post(f"/api/v1/subscriptions/{key}/cancel", {"when": "now", "reason": "unused", "comment": "Bye"})
    receipt = answer.json()["receipt"]
    assert (receipt["next_charge"], receipt["access_until"], receipt["read_back"]) == ("none", None, "canceled") and "refunded" in receipt["text"]
    town.holds(member.user_id)
    [told] = ends(town, key)
    assert told["data"]["object"]["cancellation_details"] == {"feedback": "unused", "comment": "Bye", "reason": "cancellation_requested"}
    assert wait_for(lambda: (found := member.subscription(key))["state"] == "ended" and found, 5, "the profile shows the end")["actions"] == ["manage"]
    assert is_problem(member.post(f"/api/v1/subscriptions/{key}/undo"), 409)["type"].endswith("has-ended")
    silver = member.buys("silver")
    assert "cancel_now" not in member.subscription(silver)["actions"]
    assert "end of the period" in is_problem(member.post(f"/api/v1/subscriptions/{silver}/cancel", {"when": "now"}), 403)["next"]


def test_when_must_be_one_of_two_words(town):
    member = at_once(town)
    for when in ("later", "", None, True, 1, [], {}, ["now"], "NOW"):
        is_problem(member.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel", {"when": when}), 400)
    assert effects(town, member.subscription_id) == ends(town, member.subscription_id) == []


def test_C12_T48_a_hundred_clicks_at_once_are_one_end_one_intent_and_a_hundred_receipts(town):
    member = at_once(town)
    answers = clicks(member, "cancel", 100, when="now")
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers if answer.status_code != 200][:3]
    receipts = [answer.json()["receipt"] for answer in answers]
    assert sum(not receipt["already"] for receipt in receipts) == 1
    assert len(ends(town, member.subscription_id)) == 1 and effects(town, member.subscription_id) == []
    assert [row["outcome"]["result"] for row in money(town, member.subscription_id)] == ["done"]
    town.holds(member.user_id)


def test_B_somebody_elses_subscription_cannot_be_ended_at_once_either(town):
    member, other = at_once(town), town.person()
    is_problem(other.post(f"/api/v1/subscriptions/{member.subscription_id}/cancel", {"when": "now"}), 404)
    assert ends(town, member.subscription_id) == []
