"""Payments in the Stripe sandbox: charges of invoices, Checkout in payment mode, bank debits that take days."""
import pytest

from stripe_account import DAY, DECLINED, FAILS_LATER, WORKS, Account


@pytest.fixture
def account():
    return Account()


def once(account, amount=900, **more):
    """The id of a new one-time price."""
    product = account.api("POST", "/v1/products", {"name": "Lifetime <b>"})
    return account.api("POST", "/v1/prices", {"product": product["id"], "currency": "eur", "unit_amount": amount, **more})["id"]


def session_for(account, **more):
    """An open Checkout session in payment mode."""
    return account.api("POST", "/v1/checkout/sessions", {
        "mode": "payment", "line_items[0][price]": more.pop("price", None) or once(account), "client_reference_id": "intent_1",
        "metadata[rolekeep_intent]": "intent_1", "payment_intent_data[metadata][rolekeep_intent]": "intent_1",
        "success_url": "http://shop.test/ok?session={CHECKOUT_SESSION_ID}", "cancel_url": "http://shop.test/no", **more})


def pay(account, session, **fields):
    return account.page("POST", session["url"], {"email": "ada@example.com", "number": WORKS, **fields})


def shown(account, session):
    """The session as the product reads it."""
    return account.api("GET", f"/v1/checkout/sessions/{session['id']}", [("expand[]", "payment_intent.latest_charge"), ("expand[]", "line_items")])


def invoice_of(account, charge):
    """The invoice that the charge paid, found as the product finds it."""
    [entry] = account.api("GET", "/v1/invoice_payments", {"payment[type]": "payment_intent", "payment[payment_intent]": charge["payment_intent"]})["data"]
    return account.api("GET", f"/v1/invoices/{entry['invoice']}")


# invoices

def test_every_paid_invoice_has_a_charge_that_names_no_invoice_and_a_way_to_it(account):
    sub = account.buy()
    account.clock.advance(29 * DAY)
    first, second = account.api("GET", "/v1/charges", {"customer": sub["customer"]})["data"][::-1]
    for charge in (first, second):
        assert (charge["status"], charge["paid"], charge["amount"], charge["currency"]) == ("succeeded", True, 500, "eur")
        assert "invoice" not in charge and charge["payment_method_details"]["card"]["last4"] == "4242"
        invoice = invoice_of(account, charge)
        assert invoice["parent"]["subscription_details"]["subscription"] == sub["id"] and invoice["status"] == "paid" and "payment_intent" not in invoice
        intent = account.api("GET", f"/v1/payment_intents/{charge['payment_intent']}", {"expand[]": "latest_charge"})
        assert (intent["status"], intent["amount_received"], intent["latest_charge"]) == ("succeeded", 500, charge)
    assert invoice_of(account, second)["billing_reason"] == "subscription_cycle"
    assert [c["id"] for c in account.control("GET", f"subscriptions/{sub['id']}/charges")["charges"]] == [first["id"], second["id"]]
    assert account.types("payment_intent") == ["payment_intent.created", "payment_intent.succeeded"] * 2
    assert account.types("charge") == ["charge.succeeded"] * 2 and account.types("invoice_payment") == ["invoice_payment.paid"] * 2


def test_a_declined_renewal_leaves_failed_charges_on_the_one_payment_intent_that_is_paid_at_last(account):
    sub = account.buy()
    account.control("POST", f"customers/{sub['customer']}/card", {"number": FAILS_LATER})
    account.clock.advance(29 * DAY)
    failed = account.api("GET", "/v1/charges")["data"][0]
    assert (failed["status"], failed["paid"], failed["failure_code"], failed["outcome"]["reason"]) == ("failed", False, "card_declined", "generic_decline")
    intent = account.api("GET", f"/v1/payment_intents/{failed['payment_intent']}")
    assert intent["status"] == "requires_payment_method" and intent["last_payment_error"]["charge"] == failed["id"]
    [entry] = account.api("GET", "/v1/invoice_payments", {"invoice": account.sub(sub["id"])["latest_invoice"]})["data"]
    assert (entry["status"], entry["amount_paid"], entry["amount_requested"]) == ("open", None, 500)
    account.control("POST", f"subscriptions/{sub['id']}/retry", {"outcome": "succeed"})
    charges = account.api("GET", "/v1/charges", {"payment_intent": intent["id"]})["data"]
    assert [c["status"] for c in charges] == ["succeeded", "failed"]
    assert account.types("charge")[1:] == ["charge.failed", "charge.succeeded"]
    assert account.types("payment_intent")[2:] == ["payment_intent.created", "payment_intent.payment_failed", "payment_intent.succeeded"]
    assert [p["status"] for p in account.api("GET", "/v1/invoice_payments", {"status": "paid"})["data"]] == ["paid", "paid"]
    paid = account.api("GET", f"/v1/invoices/{entry['invoice']}", {"expand[]": "payments"})
    assert [p["id"] for p in paid["payments"]["data"]] == [entry["id"]]


def test_payments_by_another_kind_or_of_nobody_are_not_listed(account):
    account.buy()
    assert account.api("GET", "/v1/invoice_payments", {"payment[type]": "payment_record"})["data"] == []
    assert account.api("GET", "/v1/invoice_payments", {"payment[type]": "payment_intent", "payment[payment_intent]": "pi_none"})["data"] == []
    assert account.refused("GET", "/v1/invoice_payments", {"payment[payment_intent]": "pi_none"})["param"] == "payment[type]"
    assert account.refused("GET", "/v1/charges/ch_none", status=404)["message"] == "No such charge: 'ch_none'"
    assert account.refused("GET", "/v1/charges", {"invoice": "in_1"})["code"] == "parameter_unknown"


def test_a_trial_has_nothing_to_charge_until_it_ends(account):
    account.buy(**{"subscription_data[trial_period_days]": 7})
    assert account.api("GET", "/v1/charges")["data"] == account.api("GET", "/v1/invoice_payments")["data"] == []
    account.clock.advance(8 * DAY)
    assert [c["status"] for c in account.api("GET", "/v1/charges")["data"]] == ["succeeded"]


def test_a_first_payment_that_asks_its_owner_is_charged_only_once_the_bank_knows(account):
    account.control("PATCH", "options", {"first_payment": "action"})
    session = account.checkout()
    account.page("POST", session["url"], {"email": "ada@example.com", "number": WORKS})
    [sub] = account.api("GET", "/v1/subscriptions", {"status": "all"})["data"]
    [entry] = account.api("GET", "/v1/invoice_payments", {"invoice": sub["latest_invoice"]})["data"]
    path = f"/v1/payment_intents/{entry['payment']['payment_intent']}"
    assert (sub["status"], account.api("GET", path)["status"]) == ("incomplete", "requires_action") and account.types("charge") == []
    assert account.types("payment_intent")[-1] == "payment_intent.requires_action"
    account.control("POST", f"subscriptions/{sub['id']}/authenticate", {"outcome": "succeed"})
    assert (account.sub(sub["id"])["status"], account.api("GET", path)["status"], account.types("charge")) == ("active", "succeeded", ["charge.succeeded"])


def test_the_payment_of_a_void_invoice_is_canceled(account):
    sub = account.buy()
    account.control("POST", f"subscriptions/{sub['id']}/renew", {"outcome": "decline"})
    invoice = account.sub(sub["id"])["latest_invoice"]
    account.control("POST", f"invoices/{invoice}/void")
    [entry] = account.api("GET", "/v1/invoice_payments", {"invoice": invoice})["data"]
    intent = account.api("GET", f"/v1/payment_intents/{entry['payment']['payment_intent']}")
    assert (entry["status"], intent["status"], intent["cancellation_reason"]) == ("canceled", "canceled", "void_invoice")
    assert account.types("payment_intent")[-1] == "payment_intent.canceled"


# Checkout in payment mode

def test_a_one_time_purchase_carries_the_intent_on_session_payment_intent_and_charge(account):
    session = session_for(account)
    assert (session["payment_status"], session["payment_intent"], session["mode"], session["customer_creation"]) == ("unpaid", None, "payment", "if_required")
    status, _, text = account.page("GET", session["url"])
    assert status == 200 and "Lifetime &lt;b&gt;" in text and "9.00 EUR" in text and "http://shop.test/no" in text
    status, headers, _ = pay(account, session)
    assert (status, headers["Location"]) == (303, f"http://shop.test/ok?session={session['id']}")
    done = shown(account, session)
    intent, charge = done["payment_intent"], done["payment_intent"]["latest_charge"]
    assert (done["status"], done["payment_status"], done["subscription"], done["customer"]) == ("complete", "paid", None, None)
    assert (intent["status"], charge["status"], charge["amount"], charge["refunded"]) == ("succeeded", "succeeded", 900, False)
    assert done["metadata"] == intent["metadata"] == charge["metadata"] == {"rolekeep_intent": "intent_1"}
    [line] = done["line_items"]["data"]
    assert (line["price"]["type"], line["amount_total"], line["quantity"]) == ("one_time", 900, 1)
    assert done["customer_details"]["email"] == "ada@example.com"
    [event] = account.events("checkout")
    assert event["type"] == "checkout.session.completed" and event["data"]["object"]["payment_intent"] == intent["id"]
    assert "line_items" not in event["data"]["object"]
    assert account.types("charge") == ["charge.succeeded"] and account.types("invoice") == [] and account.types("customer") == []
    assert pay(account, session)[0] == 409
    assert [c["id"] for c in account.control("GET", f"checkout_sessions/{session['id']}/charges")["charges"]] == [charge["id"]]


def test_a_customer_is_made_only_when_asked_for(account):
    session = session_for(account, customer_creation="always")
    pay(account, session)
    done = shown(account, session)
    assert done["customer"] == done["payment_intent"]["customer"] == done["payment_intent"]["latest_charge"]["customer"] is not None
    again = session_for(account, customer=done["customer"])
    account.page("POST", again["url"], {"number": WORKS})
    assert shown(account, again)["customer"] == done["customer"] and account.types("customer.created") == ["customer.created"]


def test_a_declined_card_leaves_the_session_open_with_a_failed_charge(account):
    session = session_for(account, customer_creation="always")
    assert pay(account, session, number=DECLINED)[0] == 402
    failed = shown(account, session)
    assert (failed["status"], failed["payment_status"], failed["payment_intent"]["status"]) == ("open", "unpaid", "requires_payment_method")
    assert account.types("customer") == [] and pay(account, session, number="1234")[0] == 402
    assert pay(account, session)[0] == 303
    paid = shown(account, session)
    assert paid["payment_intent"]["id"] == failed["payment_intent"]["id"] and paid["payment_intent"]["customer"] == paid["customer"] is not None
    assert [e["type"] for e in account.events() if e["type"].startswith(("charge", "payment_intent", "checkout"))] == [
        "payment_intent.created", "charge.failed", "payment_intent.payment_failed", "charge.succeeded", "payment_intent.succeeded",
        "checkout.session.completed"]


def test_a_free_purchase_needs_no_payment(account):
    session = session_for(account, price=once(account, 0))
    assert session["payment_status"] == "no_payment_required" and "Card number" not in account.page("GET", session["url"])[2]
    assert account.page("POST", session["url"], {"email": "ada@example.com"})[0] == 303
    done = shown(account, session)
    assert (done["status"], done["payment_status"], done["payment_intent"]) == ("complete", "no_payment_required", None)
    assert account.types("charge") == account.types("payment_intent") == []


@pytest.mark.parametrize("road", ["time", "order"])
def test_a_bank_debit_completes_unpaid_and_is_paid_days_later(account, road):
    session = session_for(account)
    assert pay(account, session, method="sepa_debit")[0] == 303
    waiting = shown(account, session)
    charge = waiting["payment_intent"]["latest_charge"]
    assert (waiting["status"], waiting["payment_status"], waiting["payment_intent"]["status"]) == ("complete", "unpaid", "processing")
    assert charge["id"].startswith("py_") and (charge["status"], charge["paid"], charge["payment_method_details"]["type"]) == ("pending", False, "sepa_debit")
    if road == "time":
        account.clock.advance(5 * DAY - 1)
        assert shown(account, session)["payment_status"] == "unpaid"
        account.clock.advance(1)
    else:
        account.control("POST", f"payment_intents/{waiting['payment_intent']['id']}/settle", {"outcome": "succeed"})
    paid = shown(account, session)
    assert (paid["payment_status"], paid["payment_intent"]["status"]) == ("paid", "succeeded")
    assert (paid["payment_intent"]["latest_charge"]["id"], paid["payment_intent"]["latest_charge"]["status"]) == (charge["id"], "succeeded")
    assert account.types("checkout") == ["checkout.session.completed", "checkout.session.async_payment_succeeded"]
    assert account.events("checkout")[0]["data"]["object"]["payment_status"] == "unpaid"
    assert account.types("charge") == ["charge.pending", "charge.succeeded"]
    account.clock.advance(30 * DAY)
    assert account.types("checkout")[2:] == []


def test_a_bank_debit_that_fails_leaves_the_completed_session_unpaid_for_good(account):
    session = session_for(account)
    pay(account, session, method="sepa_debit")
    key = shown(account, session)["payment_intent"]["id"]
    account.control("POST", f"payment_intents/{key}/settle", {"outcome": "decline"})
    account.clock.advance(30 * DAY)
    failed = shown(account, session)
    assert (failed["status"], failed["payment_status"], failed["payment_intent"]["status"]) == ("complete", "unpaid", "requires_payment_method")
    assert failed["payment_intent"]["latest_charge"]["status"] == "failed"
    assert account.types("checkout") == ["checkout.session.completed", "checkout.session.async_payment_failed"]
    account.control("POST", f"payment_intents/{key}/settle", {"outcome": "succeed"}, expect=400)


def test_only_offered_payment_methods_are_taken(account):
    session = session_for(account, **{"allowed_payment_method_types[0]": "card"})
    assert "Bank debit" not in account.page("GET", session["url"])[2]
    assert pay(account, session, method="sepa_debit")[0] == 400 and shown(account, session)["status"] == "open"


@pytest.mark.parametrize("params, words", [
    ({"price": "recurring"}, "passed a recurring price"),
    ({"subscription_data[metadata][a]": "1"}, "You can not pass `subscription_data`"),
    ({"mode": "subscription"}, "You can not pass `payment_intent_data` in `subscription` mode"),
    ({"mode": "setup"}, "no Checkout in setup mode"),
    ({"customer": "cus_none"}, "No such customer"),
    ({"allowed_payment_method_types[0]": "klarna"}, "This sandbox has the payment methods"),
    ({"payment_intent_data[transfer_data][destination]": "acct_1"}, "does not carry it out"),
    ({"payment_intent_data[colour]": "red"}, "unknown parameter"),
])
def test_what_does_not_belong_into_payment_mode_is_refused(account, params, words):
    params = {**params, "price": account.price() if params.get("price") else once(account)}
    _, answer = account.sandbox.call("POST", "/v1/checkout/sessions", {
        "mode": "payment", "line_items[0][price]": params.pop("price"), "success_url": "http://shop.test/ok",
        "payment_intent_data[metadata][rolekeep_intent]": "intent_1", **params})
    assert words in answer["error"]["message"]


def test_an_unpaid_session_expires_and_cannot_be_paid(account):
    session = session_for(account)
    account.clock.advance(DAY)
    assert pay(account, session)[0] == 404
    assert shown(account, session)["status"] == "expired" and account.types("checkout") == ["checkout.session.expired"]
