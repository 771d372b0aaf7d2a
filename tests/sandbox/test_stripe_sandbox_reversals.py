"""Money that goes back in the Stripe sandbox: refunds full, partial and failed; disputes opened, won and lost."""
import pytest

from stripe_account import DAY, WORKS, Account, problems


@pytest.fixture
def account():
    return Account()


def paid(account):
    """(subscription, its charge)."""
    sub = account.buy()
    return sub, account.api("GET", "/v1/charges", {"customer": sub["customer"]})["data"][0]


def charge_now(account, charge):
    return account.api("GET", f"/v1/charges/{charge['id']}")


def since(account, count):
    """The types of the events after the first `count`."""
    return account.types()[count:]


# refunds

def test_a_full_refund_is_told_and_leaves_subscription_and_invoice_as_they_are(account):
    sub, charge = paid(account)
    before = len(account.events())
    refund = account.api("POST", "/v1/refunds", {"charge": charge["id"], "reason": "requested_by_customer", "metadata[why]": "asked"})
    assert (refund["amount"], refund["status"], refund["charge"], refund["payment_intent"]) == (500, "succeeded", charge["id"], charge["payment_intent"])
    assert (refund["reason"], refund["metadata"]) == ("requested_by_customer", {"why": "asked"})
    now = charge_now(account, charge)
    assert (now["amount_refunded"], now["refunded"], now["status"], now["paid"]) == (500, True, "succeeded", True)
    assert since(account, before) == ["refund.created", "charge.refunded", "refund.updated"]
    told = account.events("charge.refunded")[0]["data"]
    assert told["previous_attributes"] == {"amount_refunded": 0, "refunded": False} and told["object"]["refunded"] is True
    assert account.sub(sub["id"]) == sub
    assert account.api("GET", f"/v1/invoices/{sub['latest_invoice']}")["status"] == "paid"
    assert account.api("GET", "/v1/refunds", {"charge": charge["id"]})["data"] == [account.api("GET", f"/v1/refunds/{refund['id']}")]
    shown = account.api("GET", f"/v1/charges/{charge['id']}", {"expand[]": "refunds"})
    assert [r["id"] for r in shown["refunds"]["data"]] == [refund["id"]] and "refunds" not in now


def test_partial_refunds_add_up_until_nothing_is_left(account):
    _, charge = paid(account)
    states = []
    for amount in (200, 100, 200):
        account.api("POST", "/v1/refunds", {"payment_intent": charge["payment_intent"], "amount": amount})
        states.append((charge_now(account, charge)["amount_refunded"], charge_now(account, charge)["refunded"]))
        if len(states) == 1:
            assert "is greater than unrefunded amount on charge (3.00)" in account.refused("POST", "/v1/refunds", {"charge": charge["id"], "amount": 301})["message"]
    assert states == [(200, False), (300, False), (500, True)]
    assert account.refused("POST", "/v1/refunds", {"charge": charge["id"]})["code"] == "charge_already_refunded"
    assert [r["amount"] for r in account.api("GET", "/v1/refunds", {"payment_intent": charge["payment_intent"]})["data"]] == [200, 100, 200]


def test_one_key_makes_one_refund(account):
    _, charge = paid(account)
    made = {account.api("POST", "/v1/refunds", {"charge": charge["id"], "amount": 100}, Idempotency_Key="r1")["id"] for _ in range(2)}
    assert len(made) == 1 and charge_now(account, charge)["amount_refunded"] == 100


@pytest.mark.parametrize("params, status, code, param", [
    ({}, 400, None, None), ({"charge": "ch_none"}, 404, "resource_missing", "charge"),
    ({"payment_intent": "pi_none"}, 404, "resource_missing", "payment_intent"), ({"charge": "CHARGE", "amount": 0}, 400, "parameter_invalid_integer", "amount"),
    ({"charge": "CHARGE", "reason": "mood"}, 400, None, "reason"), ({"charge": "CHARGE", "colour": "red"}, 400, "parameter_unknown", "colour"),
    ({"charge": "CHARGE", "refund_application_fee": "true"}, 400, "sandbox_not_implemented", "refund_application_fee")])
def test_a_refund_that_makes_no_sense_is_refused(account, params, status, code, param):
    _, charge = paid(account)
    error = account.refused("POST", "/v1/refunds", {name: charge["id"] if value == "CHARGE" else value for name, value in params.items()}, status=status)
    assert (error.get("code"), error.get("param")) == (code, param)
    assert charge_now(account, charge) == charge


def test_a_refund_that_fails_later_gives_the_money_back_to_the_account(account):
    _, charge = paid(account)
    kept = account.control("POST", f"charges/{charge['id']}/refund", {"amount": 200})
    lost = account.control("POST", f"charges/{charge['id']}/refund", {})
    assert charge_now(account, charge)["refunded"] is True and problems(lost) == []
    before = len(account.events())
    failed = account.control("POST", f"refunds/{lost['id']}/fail", {"reason": "expired_or_canceled_card"})
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card") and problems(failed) == []
    now = charge_now(account, charge)
    assert (now["amount_refunded"], now["refunded"]) == (200, False)
    assert since(account, before) == ["refund.updated", "refund.failed"]  # no event of the charge: whoever waits for one never learns of it
    assert account.events("refund.failed")[0]["data"]["object"]["charge"] == charge["id"]
    account.control("POST", f"refunds/{lost['id']}/fail", {}, expect=400)
    assert account.api("GET", f"/v1/refunds/{kept['id']}")["status"] == "succeeded"
    account.control("POST", f"refunds/{kept['id']}/fail", {"reason": "mood"}, expect=400)


def test_a_refunded_bank_debit_is_pending_until_the_bank_has_it(account):
    price = account.api("POST", "/v1/prices", {"product": account.api("POST", "/v1/products", {"name": "Once"})["id"], "currency": "eur", "unit_amount": 900})
    session = account.api("POST", "/v1/checkout/sessions", {"mode": "payment", "line_items[0][price]": price["id"], "success_url": "http://a.test/"})
    account.page("POST", session["url"], {"email": "a@b.c", "method": "sepa_debit"})
    charge = account.control("GET", f"checkout_sessions/{session['id']}/charges")["charges"][0]
    assert "is pending" in account.refused("POST", "/v1/refunds", {"charge": charge["id"]})["message"]
    account.clock.advance(5 * DAY)
    refund = account.api("POST", "/v1/refunds", {"charge": charge["id"]})
    assert refund["status"] == "pending" and charge_now(account, charge)["refunded"] is True
    assert account.control("POST", f"refunds/{refund['id']}/succeed", {})["status"] == "succeeded"
    account.control("POST", f"refunds/{refund['id']}/succeed", {}, expect=400)


# disputes

def disputes(account, charge):
    return account.api("GET", "/v1/disputes", {"charge": charge["id"]})["data"]


def test_a_dispute_takes_the_money_and_a_won_one_brings_it_back(account):
    sub, charge = paid(account)
    assert disputes(account, charge) == []
    before = len(account.events())
    dispute = account.control("POST", f"charges/{charge['id']}/dispute", {"reason": "product_not_received"})
    assert charge_now(account, charge)["disputed"] is True and account.sub(sub["id"]) == sub
    [shown] = disputes(account, charge)
    assert (shown["status"], shown["reason"], shown["amount"], shown["charge"]) == ("needs_response", "product_not_received", 500, charge["id"])
    assert shown == dispute == account.api("GET", f"/v1/disputes/{dispute['id']}")
    assert [t["amount"] for t in shown["balance_transactions"]] == [-500]
    assert since(account, before) == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert account.refused("POST", "/v1/refunds", {"charge": charge["id"]})["code"] == "charge_disputed"
    account.control("PATCH", f"disputes/{dispute['id']}", {"status": "under_review"})
    won = account.control("POST", f"disputes/{dispute['id']}/close", {"outcome": "won"})
    assert won["status"] == "won" and [t["amount"] for t in won["balance_transactions"]] == [-500, 500]
    assert since(account, before)[2:] == ["charge.dispute.updated", "charge.dispute.funds_reinstated", "charge.dispute.closed"]
    assert account.events("charge.dispute.updated")[0]["data"]["previous_attributes"]["status"] == "needs_response"
    assert charge_now(account, charge)["disputed"] is True  # once disputed, always disputed: only the dispute says how it ended


def test_a_lost_dispute_brings_nothing_back_and_is_over(account):
    _, charge = paid(account)
    dispute = account.control("POST", f"charges/{charge['id']}/dispute", {})
    before = len(account.events())
    assert account.control("POST", f"disputes/{dispute['id']}/close", {"outcome": "lost"})["status"] == "lost"
    assert since(account, before) == ["charge.dispute.closed"]
    account.control("POST", f"disputes/{dispute['id']}/close", {"outcome": "won"}, expect=400)
    assert account.refused("POST", "/v1/refunds", {"charge": charge["id"]})["code"] == "charge_disputed"


def test_an_inquiry_moves_no_money_unless_it_becomes_a_dispute(account):
    (_, calm), (_, angry) = paid(account), paid(account)
    inquiries = [account.control("POST", f"charges/{c['id']}/dispute", {"status": "warning_needs_response"}) for c in (calm, angry)]
    assert account.types("charge.dispute") == ["charge.dispute.created"] * 2 and inquiries[0]["balance_transactions"] == []
    assert inquiries[0]["payment_method_details"]["card"]["case_type"] == "inquiry"
    account.control("POST", f"disputes/{inquiries[0]['id']}/close", {"outcome": "won"}, expect=400)
    assert account.control("POST", f"disputes/{inquiries[0]['id']}/close", {"outcome": "warning_closed"})["status"] == "warning_closed"
    account.api("POST", "/v1/refunds", {"charge": calm["id"]})
    raised = account.control("PATCH", f"disputes/{inquiries[1]['id']}", {"status": "needs_response"})
    assert raised["payment_method_details"]["card"]["case_type"] == "chargeback" and problems(raised) == []
    assert account.types("charge.dispute")[2:] == ["charge.dispute.closed", "charge.dispute.updated", "charge.dispute.funds_withdrawn"]


@pytest.mark.parametrize("do, status, flag", [("nothing", "active", False), ("cancel", "canceled", False), ("cancel_at_period_end", "active", True)])
def test_what_a_dispute_does_to_the_subscription_is_the_owners_choice(do, status, flag):
    account = Account(on_dispute=do)
    sub, charge = paid(account)
    account.control("POST", f"charges/{charge['id']}/dispute", {})
    after = account.sub(sub["id"])
    assert (after["status"], after["cancel_at_period_end"]) == (status, flag)
    assert after["cancellation_details"]["reason"] == (None if do == "nothing" else "payment_disputed")


@pytest.mark.parametrize("path, body", [("charges/{charge}/dispute", {"status": "won"}), ("charges/{charge}/dispute", {"colour": "red"}),
                                        ("charges/{charge}/refund", {"colour": "red"}), ("disputes/{dispute}/close", {"outcome": "needs_response"}),
                                        ("disputes/{dispute}/close", {}), ("charges/{charge}/dispute", {})])
def test_an_order_about_a_dispute_that_makes_no_sense_is_refused(account, path, body):
    _, charge = paid(account)
    dispute = account.control("POST", f"charges/{charge['id']}/dispute", {})
    account.control("POST", path.format(charge=charge["id"], dispute=dispute["id"]), body, expect=400)
    account.control("POST", "charges/ch_none/dispute", {}, expect=404)


def test_refunds_and_disputes_of_a_connected_account_are_its_own(account):
    account.control("POST", "accounts", {"id": "acct_1Shop"})
    at = {"Stripe_Account": "acct_1Shop"}
    product = account.api("POST", "/v1/products", {"name": "Once"}, **at)
    price = account.api("POST", "/v1/prices", {"product": product["id"], "currency": "usd", "unit_amount": 900}, **at)
    session = account.api("POST", "/v1/checkout/sessions", {"mode": "payment", "line_items[0][price]": price["id"], "success_url": "http://a.test/"}, **at)
    assert account.page("POST", session["url"], {"email": "a@b.c", "number": WORKS})[0] == 303
    charge = account.control("GET", f"checkout_sessions/{session['id']}/charges", **at)["charges"][0]
    account.control("POST", f"charges/{charge['id']}/dispute", {}, expect=404)
    dispute = account.control("POST", f"charges/{charge['id']}/dispute", {}, **at)
    assert account.api("GET", "/v1/disputes", **at)["data"] == [dispute] and account.api("GET", "/v1/disputes")["data"] == []
    events = account.control("GET", "events", **at)["events"]
    assert {e["account"] for e in events} == {"acct_1Shop"} and [p for e in events for p in problems(e)] == []
