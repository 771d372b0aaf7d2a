"""Connected accounts: which are set up for direct charges, the only kind used here.

With a direct charge the money, the customer, the fees and the risk are the connected account's own. Stripe recommends it for
accounts with the full Dashboard that bear their fees themselves, and whose losses are Stripe's (docs.stripe.com/connect/
direct-charges, docs.stripe.com/connect/integration-recommendations); the fields that tell are those of
docs.stripe.com/connect/migrate-to-controller-properties.
"""
TYPE, FEES, LOSSES, DASHBOARD, CARDS, CHARGES, MODE = "type", "fees", "losses", "dashboard", "cards", "charges", "mode"


def unfit(answer, *, livemode):
    """Why Stripe's account object (a dict) cannot be sold through: type, fees, losses, dashboard, cards, charges or mode; or None."""
    controller = answer.get("controller") or {}
    if answer.get("livemode", livemode) is not livemode:
        return MODE
    if answer.get("type") not in ("standard", "none"):     # `none`: described by its controller's properties alone
        return TYPE
    if controller.get("type") != "account":     # an account that controls itself has no further properties: all is its own
        for why, name, field, wanted in ((FEES, "fees", "payer", "account"), (LOSSES, "losses", "payments", "stripe"),
                                        (DASHBOARD, "stripe_dashboard", "type", "full")):
            if (controller.get(name) or {}).get(field) != wanted:
                return why
    if (answer.get("capabilities") or {}).get("card_payments") != "active":
        return CARDS
    return None if answer.get("charges_enabled") is True else CHARGES
