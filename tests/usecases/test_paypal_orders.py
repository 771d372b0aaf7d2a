"""PayPal's events in every order, twice, late, lost, of every type at every status: what is shown is what PayPal says then."""
import itertools

import pytest

from chalicelib.domain.paypal import instant
from tests.usecases.paypal import PayPal, kept, put_back
from tests.usecases.product import ADA, DAY, GOLD, SERVER
from tests.usecases.shop import parked

HOUR = 3_600


@pytest.fixture
def paypal(made):
    """Yield PayPal, through which the server sells gold and silver, over tables in memory."""
    paypal = PayPal(made(lambda url, headers, body: 200)).sells(grace_days=3)
    yield paypal
    assert paypal.product.paypal.front.contract.violations.as_json()["violations"] == []


def meaning(product):
    """What is known and shown of the member, without what counts how often somebody looked."""
    row = product.row()
    return {key: sub.facts() for key, sub in row.subs.items()}, row.holds, {role: known for role, known in row.roles.items() if known.state != "absent"}, row.ends, row.due_at, row.lookups, product.shown()


def test_fault_3_T12_every_order_of_a_purchase_a_failed_payment_a_suspension_an_activation_a_refund_and_a_cancellation_ends_the_same(paypal):
    """All 720 orders of six events: by induction over the sets of events that have been heard, each reached from all of its predecessors."""
    product = paypal.product
    name = paypal.buys()
    events = paypal.events("PAYMENT.SALE.COMPLETED")[-1:]     # PayPal's list forgets it in a month
    paypal.fails(name)
    product.advance(paypal.ends(name) + HOUR - int(product.clock.now()))
    paypal.acts(name, "suspend")
    paypal.fails(name, "good")
    paypal.acts(name, "activate")
    product.advance(6 * DAY)
    paypal.order("POST", f"sales/{paypal.sale(name)['id']}/refund")
    paypal.acts(name, "cancel")
    events += [paypal.events(kind)[-1] for kind in (
        "BILLING.SUBSCRIPTION.PAYMENT.FAILED", "BILLING.SUBSCRIPTION.SUSPENDED", "BILLING.SUBSCRIPTION.RE-ACTIVATED", "PAYMENT.SALE.REFUNDED", "BILLING.SUBSCRIPTION.CANCELLED")]
    product.messages("paypal-events")
    reached = {frozenset(): (kept(product), None)}
    for size in range(1, len(events) + 1):
        for heard in map(frozenset, itertools.combinations(range(len(events)), size)):
            for last in heard:
                put_back(product, reached[heard - {last}][0])
                paypal.take_in(events[last])
                assert product.work() == 0
                assert heard not in reached or meaning(product) == reached[heard][1], (heard, last)
                reached[heard] = kept(product), meaning(product)
    assert product.shown() == set() and paypal.shows(name)["state"] == "on_hold" and [hold.refunded for hold in product.row().holds.values()] == [500]
    for event in events:    # fault 2: once more, under other ids
        paypal.take_in(event | {"id": event["id"] + "-AGAIN"})
        assert product.work() == 0 and meaning(product)[:3] == reached[frozenset(range(len(events)))][1][:3]


def lived(paypal, heard):
    """(roles, end) after a life of which the product has heard up to these moments, and of the last one."""
    product, moment = paypal.product, itertools.count()

    def maybe():
        paypal.hears() if next(moment) in heard else paypal.forgets()
        product.messages("members")

    name = paypal.buys()
    first = paypal.ends(name)
    paypal.hears()      # of the purchase at least, by our own question if not by PayPal
    product.advance(first + HOUR - int(product.clock.now()))        # renewed
    maybe()
    paypal.acts(name, "suspend")
    maybe()
    product.advance(2 * DAY)
    paypal.acts(name, "activate")
    maybe()
    paypal.fails(name)
    product.advance(paypal.ends(name) + HOUR - int(product.clock.now()))
    maybe()
    paypal.fails(name, "good")
    product.advance(5 * DAY)        # tried again, and paid five days late
    end = paypal.ends(name)
    maybe()
    paypal.acts(name, "cancel")
    paypal.hears()
    return product.shown(), instant(paypal.shows(name)["ends_at"]), end


def test_fault_46_52_T33_whatever_was_heard_of_a_life_before_its_cancellation_what_is_paid_lasts_to_its_end(paypal):
    """All 32 choices of the moments at which something was heard. Never early; late only when it was never read since the last payment."""
    nothing = kept(paypal.product)
    for heard in itertools.product((False, True), repeat=5):
        put_back(paypal.product, nothing)
        roles, ends, end = lived(paypal, {n for n, one in enumerate(heard) if one})
        assert roles == {GOLD} and end <= ends <= end + 7 * DAY, heard
        if heard[-1]:
            assert ends == end, heard


STATUSES = {    # what PayPal says, and whether the member then holds the role, having been read before or not
    "APPROVAL_PENDING": False, "APPROVED": False, "ACTIVE": True, "SUSPENDED": True, "CANCELLED": True, "EXPIRED": True, "OVER": False}
KINDS = [f"BILLING.SUBSCRIPTION.{what}" for what in ("ACTIVATED", "UPDATED", "EXPIRED", "CANCELLED", "SUSPENDED", "RE-ACTIVATED", "PAYMENT.FAILED", "CREATED")] + [
    f"PAYMENT.SALE.{what}" for what in ("COMPLETED", "PENDING", "DENIED", "REFUNDED", "REVERSED")] + [
    f"{what}.DISPUTE.CREATED" for what in ("CUSTOMER", "RISK")] + ["CUSTOMER.DISPUTE.UPDATED", "CUSTOMER.DISPUTE.RESOLVED"]


def brought_to(paypal, status):
    """(subscription, sale or None, dispute or None) at PayPal, which says so."""
    if status == "EXPIRED":
        paypal.product.sells(SERVER, gold=([GOLD], [paypal.price(500, total=1)], {"grace_days": 3}))
        paypal.bind()
    sub = paypal.begins()
    if status == "APPROVED":    # PayPal's word in between, which the sandbox never stays at
        answer = paypal.at_paypal("GET", f"/v1/billing/subscriptions/{sub['id']}") | {"status": status}
        paypal.product.order("paypal", path=f"/v1/billing/subscriptions/{sub['id']}$", times=None, do="answer", status=200, body=answer)
    if status in ("APPROVAL_PENDING", "APPROVED"):
        return sub["id"], None, None
    name = paypal.approves(sub)
    sale = paypal.sale(name)["id"]
    dispute = paypal.order("POST", f"sales/{sale}/dispute")["dispute_id"]
    paypal.order("POST", f"disputes/{dispute}/resolve", {"outcome": "CANCELED_BY_BUYER"})
    if status in ("SUSPENDED", "CANCELLED", "OVER"):
        paypal.acts(name, "suspend" if status == "SUSPENDED" else "cancel")
    if status == "OVER":
        paypal.product.advance(33 * DAY)
    return name, sale, dispute


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("status", STATUSES)
def test_fault_44_every_event_at_every_status_ends_as_the_status_says(paypal, status, read_before):
    product = paypal.product
    name, sale, dispute = brought_to(paypal, status)
    if read_before:
        paypal.says("BILLING.SUBSCRIPTION.UPDATED", {"id": name})
    product.messages("paypal-events")
    before, ends = kept(product), set()
    for kind in KINDS:
        about = {"id": dispute, "dispute_id": dispute} if "DISPUTE" in kind else {"id": sale, "sale_id": sale, "billing_agreement_id": name} if "SALE" in kind else {"id": name}
        if about["id"] is None:
            continue
        put_back(product, before)
        assert paypal.says(kind, about) == 0, kind
        expected = STATUSES[status] and (read_before or kind != "BILLING.SUBSCRIPTION.CREATED")
        assert product.shown() == ({GOLD} if expected else set()), kind
        assert parked(paypal.id) == [], kind
        ends |= {(sub.status, sub.cancel_at, sub.paid_through) for sub in product.row().subs.values() if expected}
    assert len(ends) == STATUSES[status], "and all of them say the same"


def test_fault_6_an_event_that_comes_weeks_late_after_a_cancellation_and_a_new_purchase_changes_nothing(paypal):
    product = paypal.product
    old = paypal.holder()
    told = list(paypal.events())
    paypal.clicks(old)
    paypal.hears()
    product.advance(40 * DAY)
    paypal.forgets()
    assert paypal.swept() == set()
    new = paypal.buys()
    paypal.hears()
    assert product.shown() == {GOLD}
    before = meaning(product)
    for event in [*told, *paypal.events("BILLING.SUBSCRIPTION.CANCELLED")]:
        paypal.take_in(event)
        assert product.work() == 0
    assert meaning(product)[:4] == before[:4] and product.shown() == {GOLD} and paypal.shows(old)["state"] == "ended" and paypal.shows(new)["state"] == "active"


@pytest.mark.parametrize("first", ["activated", "sale", "unpaid"])
@pytest.mark.parametrize("turned", [False, True])
def test_fault_3_T11_the_first_payment_before_the_activation_or_after_it_gives_the_role(paypal, first, turned):
    paypal.product.paypal.options.first = first
    name = paypal.buys()
    told = [event for event in paypal.events() if event["event_type"] in ("BILLING.SUBSCRIPTION.ACTIVATED", "PAYMENT.SALE.COMPLETED")]
    assert len(told) == 2
    for event in reversed(told) if turned else told:
        paypal.take_in(event)
        paypal.product.work()
        assert paypal.product.shown() == {GOLD}
    assert list(paypal.product.row().subs) == [paypal.key(name)] and paypal.product.row(ADA).holds == {}
