"""Which connected accounts are set up for direct charges."""
import pytest

from chalicelib.domain.accounts import unfit

STANDARD = {"id": "acct_1A", "object": "account", "type": "standard", "charges_enabled": True, "capabilities": {"card_payments": "active"}, "controller": {"type": "account"}}
OWN = {"type": "application", "is_controller": True, "fees": {"payer": "account"}, "losses": {"payments": "stripe"}, "stripe_dashboard": {"type": "full"}}


def test_a_standard_account_that_may_charge_is_fit_and_so_is_one_described_by_its_controller_alone():
    assert unfit(STANDARD, livemode=False) is None
    assert unfit({**STANDARD, "type": "none", "controller": OWN}, livemode=True) is None


@pytest.mark.parametrize("changes, why", [
    ({"type": "express"}, "type"), ({"type": "custom"}, "type"), ({"type": None}, "type"), ({"type": "invented"}, "type"),
    *(({"controller": {**OWN, "fees": {"payer": payer}}}, "fees") for payer in ("application", "application_express", "application_custom", None)),
    ({"controller": {**OWN, "losses": {"payments": "application"}}}, "losses"), ({"controller": {**OWN, "losses": None}}, "losses"),
    *(({"controller": {**OWN, "stripe_dashboard": {"type": kind}}}, "dashboard") for kind in ("express", "none")),
    ({"controller": None}, "fees"), ({"controller": {}}, "fees"),
    *(({"capabilities": {"card_payments": state}}, "cards") for state in ("inactive", "pending", None)), ({"capabilities": None}, "cards"),
    ({"charges_enabled": False}, "charges"), ({"charges_enabled": None}, "charges"), ({"livemode": True}, "mode")])
def test_what_is_not_an_accounts_own_or_not_ready_is_unfit_and_why(changes, why):
    assert unfit({**STANDARD, **changes}, livemode=False) == why
