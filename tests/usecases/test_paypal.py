"""Subscriptions through PayPal: from the click to the role, and everything that becomes of them."""
import pytest

from tests.usecases.paypal import PayPal
from tests.usecases.product import ADA, DAY, GOLD


@pytest.fixture
def paypal(product):
    """Yield PayPal, through which the server sells gold and silver too."""
    return PayPal(product).sells()


def test_who_buys_through_paypal_has_the_role_and_sees_it_beside_the_others(product, paypal):
    name = paypal.holder()
    assert product.shown() == {GOLD}
    shown = paypal.shows(name)
    assert shown["processor"] == "paypal" and shown["status"] == "active" and shown["actions"] == ["manage", "cancel"]
    assert shown["renews_at"] == shown["access_until"] == product.paypal.call("GET", f"/v1/billing/subscriptions/{name}")[1]["billing_info"]["next_billing_time"]
