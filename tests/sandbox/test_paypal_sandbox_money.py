"""Sales, refunds, reversals and disputes in the PayPal sandbox, and the events that tell of them."""
import json

import pytest

from infra.local.sandbox.paypal import MERCHANT
from tests.sandbox.paypal_account import ADA, Shop


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def sale(shop):
    return shop.sales(shop.buy())[0]


def state(shop, sale):
    return shop.api("GET", f"/v1/payments/sale/{sale}")["state"]


# sales and refunds

def test_a_sale_names_its_subscription_in_payments_v1_money(shop):
    key = shop.buy()
    found = shop.api("GET", f"/v1/payments/sale/{shop.sales(key)[0]}")
    assert found["billing_agreement_id"] == key and found["amount"] == {"total": "5.00", "currency": "EUR", "details": {"subtotal": "5.00"}}
    assert found["state"] == "completed" and "parent_payment" not in found and found["transaction_fee"]["value"] == "0.45"
    event = shop.events("SALE.COMPLETED")[-1]
    assert event["resource"] == found and event["resource_type"] == "sale" and "resource_version" not in event
    assert event["summary"] == "Payment completed for EUR 5.00 EUR"


def test_partial_refunds_add_up_and_the_event_names_the_sale_but_no_subscription(shop, sale):
    first = shop.api("POST", f"/v1/payments/sale/{sale}/refund", {"amount": {"total": "2.00", "currency": "EUR"}}, expect=201)
    assert first["total_refunded_amount"] == {"value": "2.00", "currency": "EUR"} and state(shop, sale) == "partially_refunded"
    second = shop.api("POST", f"/v1/payments/sale/{sale}/refund", {}, expect=201)
    assert (second["amount"]["total"], second["total_refunded_amount"]["value"], state(shop, sale)) == ("3.00", "5.00", "refunded")
    event = shop.events("SALE.REFUNDED")[-1]["resource"]
    assert event["sale_id"] == sale and "billing_agreement_id" not in event and event["id"] == second["id"]
    shown = shop.api("GET", f"/v1/payments/refund/{first['id']}")
    assert (shown["sale_id"], shown["state"]) == (sale, "completed") and "total_refunded_amount" not in shown
    assert shop.api("POST", f"/v1/payments/sale/{sale}/refund", {}, expect=400)["name"] == "TRANSACTION_ALREADY_REFUNDED"


def test_a_refund_that_is_too_large_or_of_another_currency_is_refused(shop, sale):
    for amount, name in (({"total": "5.01", "currency": "EUR"}, "REFUND_EXCEEDED_TRANSACTION_AMOUNT"),
                         ({"total": "1.00", "currency": "USD"}, "REFUND_CURRENCY_MISMATCH"), ({"total": "all", "currency": "EUR"}, "VALIDATION_ERROR")):
        assert shop.api("POST", f"/v1/payments/sale/{sale}/refund", {"amount": amount}, expect=400)["name"] == name
    assert state(shop, sale) == "completed" and shop.events("REFUNDED") == []


def test_payments_v1_words_an_unknown_id_in_its_own_way(shop):
    for path in ("sale/0AAAAAAAAAAAAAAAA", "refund/0AAAAAAAAAAAAAAAA"):
        assert shop.api("GET", f"/v1/payments/{path}", expect=404)["name"] == "INVALID_RESOURCE_ID"


def test_a_merchant_refunds_on_paypals_own_page(shop, sale):
    shop.control("POST", f"sales/{sale}/refund", {"amount": "1.50"})
    assert state(shop, sale) == "partially_refunded" and shop.events("REFUNDED")[-1]["resource"]["amount"]["total"] == "1.50"


def test_a_reversal_is_told_in_the_old_form_that_names_neither_sale_nor_subscription(shop, sale):
    shop.control("POST", f"sales/{sale}/reverse")
    event = shop.events("SALE.REVERSED")[-1]["resource"]
    assert not {"sale_id", "billing_agreement_id", "parent_payment"} & event.keys() and event["amount"]["total"] == "-5.00"
    assert [link["rel"] for link in event["links"]] == ["self"] and event["links"][0]["href"].endswith(f"/v1/payments/refund/{event['id']}")
    assert shop.api("GET", f"/v1/payments/refund/{event['id']}")["sale_id"] == sale and state(shop, sale) == "reversed"
    shop.control("POST", f"sales/{sale}/reverse", expect=400)
    shop.control("POST", f"sales/{sale}/cancel_reversal")
    assert state(shop, sale) == "completed" and shop.api("GET", f"/v1/payments/refund/{event['id']}")["state"] == "cancelled"
    assert len(shop.events("SALE")) == 2                                            # nobody is told that it came back
    shop.control("POST", f"sales/{sale}/reverse", {"names_sale": True})
    assert shop.events("SALE.REVERSED")[-1]["resource"]["sale_id"] == sale


def test_a_sale_may_be_pending_or_denied(shop, sale):
    for change in ("pending", "denied"):
        shop.control("POST", f"sales/{sale}/{change}")
        assert (state(shop, sale), shop.types()[-1]) == (change, f"PAYMENT.SALE.{change.upper()}")


# disputes

def opened(shop, sale, **wish):
    return shop.control("POST", f"sales/{sale}/dispute", wish)["dispute_id"]


def test_a_dispute_is_found_by_its_sale_and_has_empty_items_and_messages(shop, sale):
    key = opened(shop, sale, reason="UNAUTHORISED")
    other = shop.sales(shop.buy("bo@example.com"))[0]
    listed = shop.api("GET", "/v1/customer/disputes", {"disputed_transaction_id": sale})["items"]
    assert [(one["dispute_id"], one["status"], one["dispute_state"]) for one in listed] == [(key, "WAITING_FOR_SELLER_RESPONSE", "OPEN_INQUIRIES")]
    assert shop.api("GET", "/v1/customer/disputes", {"disputed_transaction_id": other})["items"] == []
    dispute = shop.api("GET", f"/v1/customer/disputes/{key}")
    transaction = dispute["disputed_transactions"][0]
    assert (transaction["seller_transaction_id"], transaction["items"], dispute["messages"], dispute["reason"]) == (sale, [], [], "UNAUTHORISED")
    assert transaction["seller"]["merchant_id"] == MERCHANT.id and dispute["dispute_amount"] == {"currency_code": "EUR", "value": "5.0"}
    event = shop.events("DISPUTE.CREATED")[-1]
    assert event["event_type"] == "CUSTOMER.DISPUTE.CREATED" and event["resource"]["dispute_id"] == key and event["resource_type"] == "dispute"
    assert shop.issue("GET", "/v1/customer/disputes/PP-R-AAA-00000000", status=404) == "INVALID_RESOURCE_ID"


def test_an_inquiry_is_raised_to_a_chargeback(shop, sale):
    key = opened(shop, sale)
    shop.control("PATCH", f"disputes/{key}", {"stage": "CHARGEBACK", "status": "UNDER_REVIEW"})
    assert shop.types()[-1] == "CUSTOMER.DISPUTE.UPDATED"
    assert shop.api("GET", "/v1/customer/disputes", {"dispute_state": "UNDER_PAYPAL_REVIEW"})["items"][0]["dispute_life_cycle_stage"] == "CHARGEBACK"


@pytest.mark.parametrize(("outcome", "money", "after"), [
    ("RESOLVED_BUYER_FAVOUR", "refunded", "refunded"), ("RESOLVED_BUYER_FAVOUR", "reversed", "reversed"), ("RESOLVED_BUYER_FAVOUR", None, "completed"),
    ("ACCEPTED", "refunded", "refunded"), ("RESOLVED_SELLER_FAVOUR", "refunded", "completed"), ("RESOLVED_WITH_PAYOUT", "refunded", "completed"),
    ("CANCELED_BY_BUYER", "refunded", "completed"), ("DENIED", "refunded", "completed"), ("NONE", "refunded", "completed")])
def test_a_dispute_ends_with_each_outcome(shop, sale, outcome, money, after):
    key = opened(shop, sale, stage="CHARGEBACK")
    shop.control("POST", f"disputes/{key}/resolve", {"outcome": outcome, "money": money})
    dispute = shop.api("GET", f"/v1/customer/disputes/{key}")
    assert (dispute["status"], dispute["dispute_outcome"]["outcome_code"], state(shop, sale)) == ("RESOLVED", outcome, after)
    told = {"refunded": ["PAYMENT.SALE.REFUNDED"], "reversed": ["PAYMENT.SALE.REVERSED"]}.get(after, [])
    assert shop.types()[-len(told) - 1:] == [*told, "CUSTOMER.DISPUTE.RESOLVED"]
    shop.control("POST", f"disputes/{key}/resolve", {"outcome": outcome}, expect=400)


def test_a_won_dispute_brings_the_money_back_that_was_held(shop, sale):
    shop.control("POST", f"sales/{sale}/reverse")
    key = opened(shop, sale, stage="CHARGEBACK")
    shop.control("POST", f"disputes/{key}/resolve", {"outcome": "RESOLVED_SELLER_FAVOUR"})
    assert state(shop, sale) == "completed"


def test_the_list_of_disputes_is_paged_newest_first(shop, sale):
    keys = [opened(shop, sale, amount="1") for _ in range(3)]
    first = shop.api("GET", "/v1/customer/disputes", {"page_size": 2})
    following = next(link["href"] for link in first["links"] if link["rel"] == "next")
    path, query = following.removeprefix("http://paypal.test").split("?")
    second = shop.api("GET", path, dict(pair.split("=") for pair in query.split("&")))
    assert [one["dispute_id"] for one in first["items"] + second["items"]] == keys[::-1]
    assert "next" not in [link["rel"] for link in second["links"]]


# any other event

def test_an_event_of_any_type_and_shape_is_emitted_on_order(shop):
    made = shop.control("POST", "emit", {"event_type": "RISK.DISPUTE.CREATED", "resource": {"id": "PP-1", "email": ADA}, "resource_type": "dispute"})
    assert made["id"].startswith("WH-") and shop.types()[-1] == "RISK.DISPUTE.CREATED"
    shop.sandbox.deliveries.pump()
    assert shop.received[-1]["id"] == made["id"] and json.dumps(shop.received[-1]["resource"])
