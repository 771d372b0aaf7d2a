"""The look of Stripe's hosted pages in the sandbox: what page_parts.py has, and what only Stripe's need."""
from html import escape

from . import page_parts
from .page_parts import HEADERS, alert, choice, day, field, form, link, table

__all__ = ["HEADERS", "alert", "authentication", "card_field", "choice", "day", "field", "form", "gone", "link", "money", "page", "price_text", "table"]


def page(title, *parts, status=200):
    """An HTML page of Stripe's; `parts` are ready HTML."""
    return page_parts.page(title, *parts, banner="Stripe sandbox: no money moves", status=status)


def gone(text):
    """The page of a link that leads nowhere (any more)."""
    return page("This link is no longer valid", f"<p>{escape(text)}</p>", status=404)


def authentication(action):
    """The page on which the bank asks the owner of a card (3-D Secure)."""
    return page("Authenticate your payment", "<p>Your bank asks whether it is you who pays.</p>", *(
        form(action, button, f"<input type=hidden name=authenticate value={answer}>", quiet=answer == "fail", name=f"authenticate-{answer}")
        for answer, button in (("succeed", "Complete authentication"), ("fail", "Fail authentication"))))


def card_field():
    """Where the card number goes, with the numbers that do something."""
    return field("Card number", "number", value="4242 4242 4242 4242") + (
        "<small>4242 4242 4242 4242 works. 4000 0000 0000 0341 can be saved but not charged. 4000 0000 0000 0002 is declined. "
        "4000 0025 0000 3155 has to be authenticated.</small>")


def money(amount, currency):
    """5.00 EUR."""
    return f"{(amount or 0) / 100:.2f} {currency.upper()}"


def price_text(price):
    """5.00 EUR per month."""
    interval, count = price["recurring"]["interval"], price["recurring"]["interval_count"]
    return f"{money(price['unit_amount'], price['currency'])} " + (f"per {interval}" if count == 1 else f"every {count} {interval}s")
