"""What is paid once: for good or for some days, beside subscriptions, refunded, by ways of paying that take days."""
import pytest

from tests.usecases.product import ADA, DAY, GOLD, SERVER, SILVER


@pytest.fixture
def shop(product):
    """The product, selling gold for good and silver for thirty days, both once, and gold by the month."""
    product.sells(lifetime=([GOLD], [product.price(9_000, "once")], {}), pass30=([SILVER], [product.price(400, "once", days=30)], {}),
                  monthly=([GOLD], [product.price(500)], {}))
    return product


def test_fault_44_a_lifetime_purchase_is_a_role_for_good_and_the_page_says_so(shop):
    key = shop.buys("lifetime")
    assert shop.hears() == 0 and shop.shown() == {GOLD}
    shown = shop.subscription(key)
    assert (shown["kind"], shown["state"], shown["renews_at"], shown["ends_at"], shown["access_until"]) == ("purchase", "active", None, None, None)
    assert shown["price"] == {"amount": 9_000, "currency": "eur", "interval": "once", "days": None} and shown["actions"] == ["manage"]
    assert "yours for good" in shown["text"]
    shop.advance(3_000 * DAY)
    shop.sweep()
    assert shop.shown() == {GOLD}


def test_M10_a_pass_of_thirty_days_ends_that_many_days_after_the_payment_and_not_before(shop):
    key = shop.buys("pass30")
    shop.hears()
    (item,) = shop.row().subs[f"stripe:operator:{key}"].items
    end = item.start + 30 * DAY
    shop.advance(end - shop.clock.now() - 1)
    shop.sweep()
    assert shop.shown() == {SILVER}
    shop.advance(1)
    assert shop.sweep() == 1 and shop.shown() == set()
    assert shop.subscription(key)["state"] == "ended" and shop.row().due_at is None


def test_a_pass_whose_days_are_over_is_not_asked_about_any_more(shop):
    for _ in range(3):
        shop.buys("pass30")
        shop.hears()
        shop.advance(31 * DAY)
        shop.sweep()
    with shop.counted() as seen:
        shop.buys("lifetime")
        shop.hears()
    assert shop.shown() == {GOLD} and len([one for one in seen.stripe() if one.startswith("GET /v1/checkout/sessions/")]) == 2


def test_O8_a_role_bought_for_good_stays_when_the_subscription_beside_it_ends(shop):
    subscription = shop.holder("monthly")
    bought = shop.buys("lifetime")
    shop.hears()
    assert set(shop.row().subs) == {f"stripe:operator:{subscription}", f"stripe:operator:{bought}"}
    shop.ends(subscription)
    shop.hears()
    assert shop.shown() == {GOLD}


def test_nobody_pays_twice_for_what_is_theirs_for_good(shop):
    from chalicelib.problem import Problem
    shop.buys("lifetime")
    shop.hears()
    for offer in ("lifetime",):
        with pytest.raises(Problem) as refused:
            shop.buys(offer)
        assert (refused.value.status, refused.value.code) == (409, "already-bought")
    shop.buys("pass30")
    shop.hears()
    with pytest.raises(Problem):
        shop.buys("pass30")
    shop.advance(30 * DAY)
    shop.buys("pass30")
    shop.hears()
    assert shop.shown() == {GOLD, SILVER}


def test_a_bank_debit_gives_the_role_when_it_arrived_and_never_when_it_failed(shop):
    from chalicelib import checkout, ports
    for outcome, roles in (("decline", set()), ("succeed", {GOLD})):
        url = checkout.start(user=ADA, server_id=SERVER, offer_id="lifetime", deadline=ports.wall() + 25)
        session = shop.stripe.world.find("checkout.session", url.rsplit("/", 1)[1])
        form = shop._browser.open(url).form("Pay")
        paid = shop._browser.session.post(form["action"], data={**form["fields"], "email": "ada@canary.example", "method": "sepa_debit", "number": "DE89370400440532013000"}, allow_redirects=False)
        assert paid.status_code == 303
        shop.hears()
        assert shop.shown() == set() and shop.subscription(session["id"])["state"] == "pending"
        shop.order_stripe("POST", f"payment_intents/{session['payment_intent']}/settle", {"outcome": outcome})
        shop.hears()
        assert shop.shown() == roles
        assert shop.subscription(session["id"])["state"] == ("active" if roles else "ended")


def test_C9_a_purchase_that_names_somebody_elses_intent_is_parked(shop):
    from chalicelib.store import ledger
    first = shop.buys("lifetime")
    shop.hears()
    intent = shop.stripe.world.find("checkout.session", first)["metadata"]["rolekeep_intent"]
    status, session = shop.stripe.call("POST", "/v1/checkout/sessions", {
        "mode": "payment", "line_items[0][price]": shop.price(400, "once")["id"], "line_items[0][quantity]": 1, "metadata[rolekeep_intent]": intent,
        "success_url": "https://elsewhere.example/", "cancel_url": "https://elsewhere.example/"})
    assert status == 200
    shop.pays(session["url"])
    shop.hears()
    assert shop.shown() == {GOLD} and [entry.data["why"] for entry in ledger.parked("operator")] == ["intent_claimed"]


def test_I3_a_purchase_that_cannot_be_read_keeps_its_role(shop):
    shop.buys("lifetime")
    shop.hears()
    for status in (401, 403, 404, 500):
        shop.order("stripe", method="GET", path="/v1/checkout/sessions/", do="answer", status=status, body={"error": {"type": "api_error", "message": "x"}}, times=1)
        shop.advance(DAY)
        shop.sweep()
        assert shop.shown() == {GOLD}


def test_a_refund_of_a_purchase_is_seen_at_the_daily_look_although_no_event_came(shop):
    key = shop.buys("lifetime")
    shop.hears()
    intent = shop.stripe.world.find("checkout.session", key)["payment_intent"]
    assert shop.stripe.call("POST", "/v1/refunds", {"payment_intent": intent})[0] == 200
    shop.advance(DAY)
    shop.sweep()
    assert shop.shown() == set()
    shown = shop.subscription(key)
    assert shown["state"] == "on_hold" and "refunded" in shown["text"]
    shop.buys("lifetime")   # what was refunded can be bought again
    shop.hears()
    assert shop.shown() == {GOLD}


def test_what_was_paid_once_cannot_be_cancelled(shop):
    from chalicelib import cancel, ports
    from chalicelib.problem import Problem
    key = shop.buys("lifetime")
    shop.hears()
    with pytest.raises(Problem) as refused:
        cancel.cancel(user=ADA, subscription_id=key, reason=None, comment=None, deadline=ports.wall() + 25)
    assert refused.value.code == "paid-once"


def test_what_is_disputed_cannot_be_paid_for_a_second_time_before_that_is_decided(shop):
    from chalicelib.problem import Problem
    key = shop.buys("lifetime")
    shop.hears()
    payment = shop.stripe.world.find("checkout.session", key)["payment_intent"]
    charge = shop.stripe.world.find("payment_intent", payment)["latest_charge"]
    opened = shop.order_stripe("POST", f"charges/{charge}/dispute", {})["id"]
    shop.hears()
    assert shop.shown() == set() and shop.subscription(key)["renews_at"] is None
    with pytest.raises(Problem) as refused:
        shop.buys("lifetime")
    assert refused.value.code == "disputed"
    shop.order_stripe("POST", f"disputes/{opened}/close", {"outcome": "lost"})
    shop.hears()
    shop.buys("lifetime")
    shop.hears()
    assert shop.shown() == {GOLD}
