"""Buyers of the PayPal sandbox, shared by all merchants: whoever gives an e-mail has a PayPal account with it."""
import re

from .paypal_world import ACCOUNT_LETTERS, draw


def payer_of(whole, email):
    """The buyer with that e-mail, as {payer_id, given_name, surname}, new if need be; None when it is not an e-mail."""
    email = email.strip()
    if not re.fullmatch(r"[\w.+'-]+@[\w-]+(\.[\w-]+)+", email, re.ASCII) or len(email) > 127:
        return None
    if email not in whole["payers"]:
        given = re.split(r"[.+_@-]", email)[0] or "Buyer"
        whole["payers"][email] = {"payer_id": draw(whole, 13, ACCOUNT_LETTERS), "given_name": given.capitalize(), "surname": "Buyer"}
    return whole["payers"][email]
