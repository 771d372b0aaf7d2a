"""Subscriptions through PayPal: from the click to the role, and everything that becomes of them."""
import pytest

from chalicelib import checkout, ports, worker
from chalicelib.problem import Problem
from tests.usecases.paypal import PayPal
from tests.usecases.product import ADA, BEN, DAY, GOLD, SERVER

HOUR = 3_600


@pytest.fixture
def paypal(product):
    """Yield PayPal, through which the server sells gold and silver too."""
    return PayPal(product).sells()


def renewal(product, name):
    """When PayPal says that the next payment is due."""
    return product.paypal.call("GET", f"/v1/billing/subscriptions/{name}")[1]["billing_info"].get("next_billing_time")


def instant(text):
    from chalicelib.domain.paypal import instant
    return instant(text)


def until(product, paypal, moment):
    """The clock stands at that instant; nothing is heard meanwhile."""
    product.advance(moment - int(product.clock.now()))
    paypal.forgets()


def swept(product):
    product.sweep()
    return product.shown()


# Buying

def test_who_buys_through_paypal_has_the_role_and_sees_it_in_the_same_form_as_others(product, paypal):
    name = paypal.holder()
    assert product.shown() == {GOLD}
    shown = paypal.shows(name)
    assert shown["processor"] == "paypal" and shown["status"] == "active" and shown["actions"] == ["manage", "cancel"]
    assert shown["renews_at"] == shown["access_until"] == renewal(product, name)
    other = product.holder("silver")
    assert {*paypal.shows(name)} == {*product.subscription(other)}


def test_C9_the_purchase_carries_an_intent_of_ours_and_neither_the_member_nor_the_server(product, paypal):
    sub = paypal.begins()
    from chalicelib.store import links
    assert links.of_intent(sub["custom_id"]).claimed_by == paypal.key(sub["id"])
    assert ADA not in str(sub) and SERVER not in sub["custom_id"]


def test_until_it_is_approved_nothing_of_it_is_kept_and_nobody_is_kept_from_buying(product, paypal):
    paypal.begins()
    paypal.hears()
    assert product.row().subs == {} and product.shown() == set()
    assert paypal.begins()["status"] == "APPROVAL_PENDING"


def test_T8_a_purchase_of_which_paypal_never_tells_is_found_by_our_own_question(product, paypal):
    sub = paypal.begins()
    assert product.delayed("paypal-events") == 1
    asked = {"v": 2, "event": "checkout", "type": "checkout", "account": paypal.id, "kind": "subscription", "id": sub["id"]}
    worker.paypal_event(asked, deadline=ports.wall() + 60)
    assert product.row().subs == {} and product.delayed("paypal-events") == 2      # not approved yet: asked again
    paypal.approves(sub)
    paypal.forgets()
    worker.paypal_event(asked, deadline=ports.wall() + 60)
    assert product.shown() == {GOLD}


@pytest.mark.parametrize("gone", [False, True])
def test_a_checkout_that_nobody_approves_is_forgotten_quietly(product, paypal, gone):
    sub = paypal.begins()
    if gone:
        product.advance(4 * HOUR)
        assert paypal.sub(sub["id"]) is None
    asked = {"v": 2, "event": "checkout", "type": "checkout", "account": paypal.id, "kind": "subscription", "id": sub["id"], "tries": 0 if gone else 20}
    worker.paypal_event(asked, deadline=ports.wall() + 60)
    from tests.usecases.shop import parked
    assert product.delayed("paypal-events") == 1 and parked(paypal.id) == []     # the one of the click


def test_nobody_buys_twice_whichever_way_it_is_paid(product, paypal):
    paypal.holder()
    for processor in ("paypal", "stripe", None):
        with pytest.raises(Problem, match="already-subscribed"):
            checkout.start(user=ADA, server_id=SERVER, offer_id="gold", processor=processor, deadline=ports.wall() + 25)
    product.holder("silver")
    with pytest.raises(Problem, match="already-subscribed"):
        paypal.begins("silver")


def test_T35_a_role_that_is_paid_through_both_stays_until_the_last_of_them_ends_and_both_can_be_managed(product, paypal):
    product.sells(SERVER, gold=([GOLD], [product.price(500)], {}), also=([GOLD], [paypal.price(500)], {}))
    paypal.bind()
    mine, other = product.holder("gold"), paypal.buys("also")
    paypal.hears()
    assert product.shown() == {GOLD}
    assert "manage" in product.subscription(mine)["actions"] and "manage" in paypal.shows(other)["actions"]
    product.ends(mine)
    product.hears()
    assert product.shown() == {GOLD}
    end = instant(renewal(product, other))
    paypal.clicks(other)
    until(product, paypal, end - 60)
    assert swept(product) == {GOLD}
    until(product, paypal, end)
    assert swept(product) == set()


def test_manage_leads_to_paypals_page_without_any_set_up_by_the_owner(product, paypal):
    from chalicelib import portal
    name = paypal.holder()
    for flow in (None, "payment_method", "cancel"):
        assert portal.open_session(user=ADA, subscription_id=name, flow=flow, deadline=ports.wall() + 25) == "http://paypal.test/myaccount/autopay/"
    with pytest.raises(Problem):
        portal.open_session(user=BEN, subscription_id=name, flow=None, deadline=ports.wall() + 25)


# Renewals

def test_a_renewal_goes_on_also_when_paypal_tells_nothing(product, paypal):
    name = paypal.holder()
    first = renewal(product, name)
    until(product, paypal, instant(first) + HOUR)
    assert swept(product) == {GOLD} and paypal.shows(name)["renews_at"] == renewal(product, name) != first


# Cancelling

def test_fault_46_T33_a_cancellation_is_true_at_once_at_paypal_and_the_role_stays_until_what_is_paid_ends(product, paypal):
    name = paypal.holder()
    end = renewal(product, name)
    receipt = paypal.clicks(name)
    assert paypal.sub(name)["status"] == "CANCELLED" and renewal(product, name) is None
    assert receipt["next_charge"] == "none" and receipt["access_until"] == end and not receipt["already"]
    paypal.hears()
    shown = paypal.shows(name)
    assert shown["state"] == "ending" and shown["ends_at"] == end and shown["cancel_scheduled"] and "undo" in shown["actions"]
    until(product, paypal, instant(end) - 1)
    assert swept(product) == {GOLD}
    until(product, paypal, instant(end))
    assert swept(product) == set()
    assert paypal.shows(name)["state"] == "ended" and paypal.shows(name)["actions"] == ["manage"]


def test_a_cancellation_just_after_a_renewal_that_nobody_told_of_keeps_the_new_period(product, paypal):
    name = paypal.holder()
    first = renewal(product, name)
    until(product, paypal, instant(first) + HOUR)
    end = renewal(product, name)
    assert paypal.clicks(name)["access_until"] == end != first
    product.work()
    assert product.shown() == {GOLD} and paypal.shows(name)["ends_at"] == end


def test_T33_who_cancels_on_paypals_own_page_keeps_what_is_paid(product, paypal):
    name = paypal.holder()
    end = renewal(product, name)
    paypal.acts(name, "cancel")
    told = paypal.events("BILLING.SUBSCRIPTION.CANCELLED")[-1]
    assert "next_billing_time" not in told["resource"]["billing_info"]
    paypal.hears()
    assert product.shown() == {GOLD} and paypal.shows(name)["ends_at"] == end


def test_T34_cancelled_within_a_minute_and_heard_of_only_then_the_paid_period_is_still_honoured(product, paypal):
    """Never read while it was active: worked out by the plan's calendar, cycles_completed being 0."""
    name = paypal.buys()
    end = renewal(product, name)
    assert product.paypal.call("GET", f"/v1/billing/subscriptions/{name}")[1]["billing_info"]["cycle_executions"][0]["cycles_completed"] == 0
    paypal.acts(name, "cancel")
    paypal.hears()
    assert product.shown() == {GOLD}
    assert instant(end) <= instant(paypal.shows(name)["ends_at"]) < instant(end) + DAY


def test_T8_a_cancellation_that_paypal_never_tells_of_is_found_within_a_day(product, paypal):
    name = paypal.holder()
    paypal.acts(name, "cancel")
    paypal.forgets()
    product.advance(DAY + 60)
    assert swept(product) == {GOLD} and paypal.shows(name)["state"] == "ending"


def test_fault_47_T48_cancelling_twice_is_one_cancellation_and_the_second_receipt_says_so(product, paypal):
    name = paypal.holder()
    first = paypal.clicks(name)
    again = paypal.clicks(name)
    assert again["already"] and again["access_until"] == first["access_until"] and again["next_charge"] == "none"
    assert len(paypal.events("BILLING.SUBSCRIPTION.CANCELLED")) == 1


@pytest.mark.parametrize("do", ["lose_answer", "timeout_after_effect"])
def test_I6_fault_14_a_cancellation_whose_answer_is_lost_is_read_back_and_made_once(product, paypal, do):
    name = paypal.holder()
    end = renewal(product, name)
    product.order("paypal", method="POST", path=f"/v1/billing/subscriptions/{name}/cancel", do=do)
    receipt = paypal.clicks(name)
    assert receipt["next_charge"] == "none" and receipt["access_until"] == end
    assert len(paypal.events("BILLING.SUBSCRIPTION.CANCELLED")) == 1


def test_a_cancellation_that_paypal_refuses_leaves_no_trace_that_shortens_a_later_one(product, paypal):
    name = paypal.holder()
    product.order("paypal", method="POST", path=f"/v1/billing/subscriptions/{name}/cancel", do="answer", status=503, body={})
    with pytest.raises(Problem, match="not-confirmed"):
        paypal.clicks(name)
    assert paypal.sub(name)["status"] == "ACTIVE"
    until(product, paypal, instant(renewal(product, name)) + HOUR)
    end = renewal(product, name)
    paypal.acts(name, "cancel")
    paypal.hears()
    assert product.shown() == {GOLD}
    assert abs(instant(paypal.shows(name)["ends_at"]) - instant(end)) < DAY


def test_cancel_now_ends_access_at_once_where_the_offer_allows_it_and_paypal_need_not_know(product, paypal):
    name = paypal.holder()
    with pytest.raises(Problem, match="not-now"):
        paypal.clicks(name, "now")
    paypal.sells(cancel_now=True)
    receipt = paypal.clicks(name, "now")
    assert receipt["access_until"] is None and receipt["read_back"] == "canceled"
    assert paypal.sub(name)["status"] == "CANCELLED"
    paypal.hears()
    assert product.shown() == set() and paypal.shows(name)["state"] == "ended"


def test_what_was_cancelled_at_the_period_s_end_can_still_be_given_up(product, paypal):
    paypal.sells(cancel_now=True)
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    assert paypal.shows(name)["actions"] == ["manage", "undo", "cancel_now"]
    paypal.clicks(name, "now")
    product.work()
    assert product.shown() == set() and len(paypal.events("BILLING.SUBSCRIPTION.CANCELLED")) == 1
    product.advance(2 * DAY)
    assert swept(product) == set()


def test_a_crash_between_storing_what_is_paid_and_cancelling_changes_nothing(product, paypal):
    from chalicelib.store import members
    name = paypal.holder()
    assert members.fix_end(ADA, SERVER, paypal.key(name), instant(renewal(product, name)), now=ports.now(), lease_seconds=120)
    product.advance(130)
    assert swept(product) == {GOLD} and paypal.shows(name)["state"] == "active"


# Undoing

def test_undo_is_a_new_subscription_that_begins_when_the_old_one_ends_and_charges_nothing_before(product, paypal):
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.clicks(name)
    paypal.hears()
    new = paypal.of(paypal.undoes(name))
    assert new["start"] == end and new["plan_id"] == paypal.sub(name)["plan_id"]
    paypal.approves(new)
    paypal.hears()
    shown = paypal.shows(new["id"])
    assert shown["begins_at"] == paypal.shows(name)["ends_at"] and not shown["cancel_scheduled"]
    assert not [sale for sale in paypal.account.world.all("sale") if sale["billing_agreement_id"] == new["id"]]
    until(product, paypal, end - 60)
    assert swept(product) == {GOLD}
    until(product, paypal, end)
    assert swept(product) == {GOLD}      # never a moment without it
    until(product, paypal, end + HOUR)
    assert swept(product) == {GOLD} and paypal.shows(name)["state"] == "ended" and paypal.shows(new["id"])["begins_at"] is None
    assert len([sale for sale in paypal.account.world.all("sale") if sale["billing_agreement_id"] == new["id"]]) == 1


def test_what_goes_on_already_has_no_undo_any_more_and_its_roles_no_end(product, paypal):
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    assert "undo" in paypal.shows(name)["actions"] and role(product)["until"] == paypal.shows(name)["ends_at"] and not role(product)["renews"]
    new = paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.hears()
    assert "undo" not in paypal.shows(name)["actions"] and role(product)["until"] is None and role(product)["renews"]
    receipt = paypal.clicks(new)
    assert receipt["access_until"] is None and receipt["text"] == "Next charge: none. It will not begin."
    paypal.hears()
    assert paypal.sub(new)["status"] == "CANCELLED" and paypal.shows(new)["state"] == "ended" and product.shown() == {GOLD}
    assert role(product)["until"] == paypal.shows(name)["ends_at"] and "undo" in paypal.shows(name)["actions"]


def test_what_has_ended_says_when_and_is_not_waited_for_any_more(product, paypal):
    name = paypal.holder()
    end = paypal.clicks(name)["access_until"]
    paypal.hears()
    until(product, paypal, instant(end))
    product.sweep()
    product.advance(40 * DAY)
    shown = paypal.shows(name)
    assert shown["state"] == "ended" and end in (shown["ends_at"], shown["ended_at"]) and shown["text"].startswith("Ended on ")


def role(product):
    """Gold, as Ada's profile shows it."""
    from chalicelib import profile
    from chalicelib.store.sessions import Member
    return next(role for role in profile.profile("secret", Member(ADA, "Ada"))["servers"][0]["roles"] if role["id"] == GOLD)


def test_undo_is_refused_for_what_is_not_cancelled_has_ended_or_goes_on_already(product, paypal):
    name = paypal.holder()
    with pytest.raises(Problem, match="not-cancelled"):
        paypal.undoes(name)
    paypal.clicks(name)
    paypal.hears()
    paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.hears()
    with pytest.raises(Problem, match="already-subscribed"):
        paypal.undoes(name)
    until(product, paypal, instant(paypal.shows(name)["ends_at"]))
    with pytest.raises(Problem, match="has-ended"):
        paypal.undoes(name)


def test_what_has_not_begun_gives_nothing_of_its_own(product, paypal):
    """Or who gets the paid time refunded would hold the role for nothing until it begins."""
    name = paypal.holder()
    paypal.clicks(name)
    paypal.hears()
    paypal.approves(paypal.of(paypal.undoes(name)))
    paypal.hears()
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.hears()
    assert product.shown() == set()


# Trials

def test_fault_45_a_trial_gives_access_to_its_own_end_although_next_billing_time_lies(product, paypal):
    product.paypal.options.trial_lie = 30 * DAY
    paypal.sells(trial=7)
    name = paypal.holder()
    shown = paypal.shows(name)
    assert product.shown() == {GOLD} and shown["status"] == "trialing"
    bought = int(product.clock.now())
    assert abs(instant(shown["renews_at"]) - (bought + 7 * DAY)) < DAY
    receipt = paypal.clicks(name)
    assert abs(instant(receipt["access_until"]) - (bought + 7 * DAY)) < DAY
    product.work()
    until(product, paypal, instant(receipt["access_until"]) - 1)
    assert swept(product) == {GOLD}
    until(product, paypal, instant(receipt["access_until"]))
    assert swept(product) == set()


def test_T31_a_trial_that_becomes_paid_goes_on(product, paypal):
    paypal.sells(trial=7)
    name = paypal.holder()
    product.advance(8 * DAY)
    paypal.hears()
    assert product.shown() == {GOLD} and paypal.shows(name)["status"] == "active" and paypal.sale(name)["state"] == "completed"


# Payments that fail

def test_fault_44_T29_a_payment_that_fails_has_the_offer_s_grace_from_the_end_of_what_was_paid(product, paypal):
    paypal.sells(grace_days=3)
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.fails(name)
    until(product, paypal, end + HOUR)
    assert swept(product) == {GOLD}
    shown = paypal.shows(name)
    assert shown["state"] == "grace" and instant(shown["access_until"]) == end + 3 * DAY and shown["status"] == "past_due"
    until(product, paypal, end + 3 * DAY - 1)
    assert swept(product) == {GOLD}
    until(product, paypal, end + 3 * DAY)
    assert swept(product) == set()


def test_T29_who_pays_within_the_grace_never_loses_the_role(product, paypal):
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.fails(name)
    until(product, paypal, end + HOUR)
    assert swept(product) == {GOLD}
    paypal.fails(name, "good")
    until(product, paypal, end + 5 * DAY + HOUR)     # PayPal tries again after five days
    assert swept(product) == {GOLD}
    shown = paypal.shows(name)
    assert shown["state"] == "active" and shown["renews_at"] == renewal(product, name)


def test_fault_44_retries_then_suspended_then_the_grace_is_not_begun_anew(product, paypal):
    paypal.sells(plan={"payment_failure_threshold": 1}, grace_days=30)
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.fails(name)
    for day in (1, 6, 11, 29):
        until(product, paypal, end + day * DAY)
        assert swept(product) == {GOLD}, day
    assert paypal.sub(name)["status"] == "SUSPENDED"
    shown = paypal.shows(name)
    assert shown["status"] == "suspended" and shown["state"] == "grace" and instant(shown["access_until"]) == end + 30 * DAY
    until(product, paypal, end + 30 * DAY)
    assert swept(product) == set()


@pytest.mark.parametrize("by", ["buyer", "merchant"])
def test_suspended_by_hand_the_paid_time_and_the_grace_run_and_activation_is_access_again(product, paypal, by):
    paypal.sells(grace_days=2)
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.acts(name, "suspend", by)
    paypal.hears()
    assert product.shown() == {GOLD} and instant(paypal.shows(name)["access_until"]) == end + 2 * DAY
    until(product, paypal, end + 2 * DAY)
    assert swept(product) == set() and paypal.shows(name)["state"] == "ended"
    paypal.acts(name, "activate", by)
    paypal.hears()
    assert product.shown() == {GOLD} and paypal.shows(name)["status"] == "active"


def test_who_cancels_what_is_suspended_within_the_paid_time_keeps_that_time_as_the_profile_has_said(product, paypal):
    name = paypal.holder()
    end = renewal(product, name)
    paypal.acts(name, "suspend")
    paypal.hears()
    assert paypal.shows(name)["paid_until"] == end != paypal.shows(name)["access_until"]
    assert paypal.clicks(name)["access_until"] == end
    paypal.hears()
    until(product, paypal, instant(end) - 1)
    assert swept(product) == {GOLD}
    until(product, paypal, instant(end))
    assert swept(product) == set()


def test_who_cancels_while_nothing_is_paid_is_told_that_access_ends_at_once(product, paypal):
    name = paypal.holder()
    end = instant(renewal(product, name))
    paypal.fails(name)
    until(product, paypal, end + DAY)
    assert swept(product) == {GOLD} and paypal.shows(name)["state"] == "grace" and paypal.shows(name)["paid_until"] is None
    receipt = paypal.clicks(name)
    assert receipt["access_until"] is None and receipt["next_charge"] == "none" and "Access has ended" in receipt["text"]
    paypal.hears()
    assert product.shown() == set()


# Plans that end by themselves

def test_a_plan_with_so_many_payments_ends_with_what_the_last_one_paid(product, paypal):
    product.sells(SERVER, gold=([GOLD], [paypal.price(500, total=2)], {}))
    paypal.bind()
    name = paypal.holder()
    until(product, paypal, instant(renewal(product, name)) + HOUR)
    assert paypal.sub(name)["status"] == "EXPIRED" and swept(product) == {GOLD}
    end = instant(paypal.shows(name)["ends_at"])
    assert 27 * DAY < end - product.clock.now() < 32 * DAY
    until(product, paypal, end)
    assert swept(product) == set()


# Whose it is, and for how much

@pytest.mark.parametrize("bad", [{"amount": 499}, {"currency": "usd"}, {"id": "P-OTHER"}])
def test_C10_another_price_currency_or_plan_than_the_offer_s_gives_no_role_and_is_parked(product, paypal, bad):
    from tests.usecases.shop import parked
    name = paypal.buys()
    product.sells(SERVER, gold=([GOLD], [paypal.price(500) | bad], {}))
    paypal.bind()
    paypal.hears()
    assert product.shown() == set() and parked(paypal.id) == ["unmapped_price"]
    product.sells(SERVER, gold=([GOLD], [paypal.price(500)], {}))
    paypal.bind()
    from chalicelib import parked as releases
    releases.release(paypal.id, deadline=ports.wall() + 60)
    product.work()
    assert product.shown() == {GOLD} and parked(paypal.id) == [] and paypal.shows(name)["state"] == "active"


@pytest.mark.parametrize("more", [
    {"plan": {"billing_cycles": [{"sequence": 1, "pricing_scheme": {"fixed_price": {"value": "0.01", "currency_code": "EUR"}}}]}},
    {"plan": {"payment_preferences": {"payment_failure_threshold": 9}}}])
def test_C9_C10_a_subscription_that_a_buyer_made_with_the_intent_of_a_checkout_gives_nothing(product, paypal, more):
    from tests.usecases.shop import parked
    begun = paypal.begins()
    forged = paypal.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": begun["plan_id"], "custom_id": begun["custom_id"], **more})
    paypal.approves(paypal.sub(forged["id"]))
    paypal.hears()
    assert product.shown() == set() and parked(paypal.id) == ["intent_claimed"]


def test_C10_one_whose_plan_was_overridden_gives_nothing_even_when_it_claimed_the_intent_first(product, paypal):
    from chalicelib.store import links
    links.make_intent("intent_of_ours_0000001", user=ADA, server=SERVER, offer="gold", account=paypal.id, now=ports.now())
    forged = paypal.at_paypal("POST", "/v1/billing/subscriptions", {
        "plan_id": paypal.plan(500), "custom_id": "intent_of_ours_0000001", "plan": {"payment_preferences": {"payment_failure_threshold": 9}}})
    paypal.approves(paypal.sub(forged["id"]))
    paypal.hears()
    from tests.usecases.shop import parked
    assert product.shown() == set() and parked(paypal.id) == ["unmapped_price"]


def test_a_subscription_that_names_no_checkout_of_ours_is_parked_and_gives_nothing(product, paypal):
    from tests.usecases.shop import parked
    other = paypal.at_paypal("POST", "/v1/billing/subscriptions", {"plan_id": paypal.plan(500), "custom_id": ADA})
    paypal.approves(paypal.sub(other["id"]))
    paypal.hears()
    assert product.shown() == set() and parked(paypal.id) == ["unknown_link"]


# When PayPal cannot be asked

@pytest.mark.parametrize("where", ["/v1/billing/subscriptions/", "/v1/oauth2/token"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_I3_fault_27_nothing_that_paypal_answers_but_a_subscription_strips_anybody(product, paypal, where, status):
    from chalicelib.gateways import paypal as gateway
    name = paypal.holder()
    end = instant(renewal(product, name))
    gateway._tokens.clear()
    product.order("paypal", path=where, times=None, do="answer", status=status, body={})
    until(product, paypal, end + 20 * DAY)
    assert swept(product) == {GOLD}
    product.paypal.front.faults.clear()
    product.advance(2 * HOUR)
    assert swept(product) == {GOLD} and paypal.shows(name)["renews_at"] == renewal(product, name)


def test_a_token_is_fetched_once_and_anew_when_it_is_refused(product, paypal):
    with product.counted() as seen:
        name = paypal.holder()
        paypal.take_in(paypal.events("BILLING.SUBSCRIPTION.ACTIVATED")[-1])
        product.work()
    assert seen.paypal().count("POST /v1/oauth2/token") == 1
    paypal.order("DELETE", "tokens")
    with product.counted() as seen:
        paypal.take_in(paypal.events("BILLING.SUBSCRIPTION.ACTIVATED")[-1])
        product.work()
    assert seen.paypal() == [f"GET /v1/billing/subscriptions/{name}", "POST /v1/oauth2/token", f"GET /v1/billing/subscriptions/{name}"]
    assert product.shown() == {GOLD}


def test_budget_of_a_paypal_event_is_that_of_a_connected_stripe_account_s(product, paypal):
    name = paypal.buys()
    event = paypal.events("BILLING.SUBSCRIPTION.ACTIVATED")[-1]
    paypal.take_in(event)
    with product.counted() as seen:
        product.work()
    assert sum(seen.dynamodb().values()) == 12 and seen.discord() == [f"PUT /guilds/{SERVER}/members/{ADA}/roles/{GOLD}"]
    assert seen.paypal().count(f"GET /v1/billing/subscriptions/{name}") == 2
    paypal.take_in(event)
    with product.counted() as seen:
        product.work()
    assert sum(seen.dynamodb().values()) == 4 and seen.paypal() == [f"GET /v1/billing/subscriptions/{name}"] and seen.discord() == []
