"""The items of a subscription in the Stripe sandbox: the period of each, what an invoice says of them, and prorations."""
import calendar
import copy
from datetime import datetime, timedelta, timezone

from . import stripe_objects as objects
from .stripe_params import Refusal


def period_end(anchor, count, recurring):
    """The instant `count` periods after `anchor` (epoch seconds): Jan 31 gives Feb 28, Mar 31, Apr 30, in UTC like Stripe."""
    count *= recurring["interval_count"]
    at = datetime.fromtimestamp(anchor, timezone.utc)
    if recurring["interval"] in ("day", "week"):
        return int((at + timedelta(days=count * (7 if recurring["interval"] == "week" else 1))).timestamp())
    months = at.year * 12 + at.month - 1 + count * (12 if recurring["interval"] == "year" else 1)
    year, month = divmod(months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())


def next_end(sub, start, entry):
    """The end of the item's period that begins at `start`, counted from the subscription's anchor."""
    recurring, anchor, count = entry["price"]["recurring"], sub["billing_cycle_anchor"], 1
    while period_end(anchor, count, recurring) <= start:
        count += 1
    return period_end(anchor, count, recurring)


def first_end(price, start):
    """The end of a period of `price` that begins at `start` and is its own anchor."""
    return period_end(start, 1, price["recurring"])


def amount_of(entry):
    """What a whole period of an item costs, in the currency's smallest unit."""
    return (entry["price"]["unit_amount"] or 0) * (entry["quantity"] or 1)


def first_to_end(sub):
    """The items whose periods end first: those that renew together. [] for a subscription without items."""
    ends = [entry["current_period_end"] for entry in sub["items"]["data"] if entry.get("current_period_end") is not None]
    return [entry for entry in sub["items"]["data"] if ends and entry.get("current_period_end") == min(ends)]


def last_end(sub):
    """The latest period end of the items (docs.stripe.com/changelog/basil/2025-07-30/cancel-at-enums: max_period_end)."""
    return max(entry["current_period_end"] for entry in sub["items"]["data"])


def interval_of(entry):
    """(interval, count) of an item."""
    return entry["price"]["recurring"]["interval"], entry["price"]["recurring"]["interval_count"]


def add_item(world, sub, price, *, start, end):
    """`sub` has one item more, for `price`, with that period; the item is returned."""
    entry = objects.item(copy.deepcopy(price), key="si_" + world.draw(14), subscription=sub["id"], now=start, period_end=end)
    entry["created"] = world.now
    sub["items"]["data"].append(entry)
    sub["items"]["total_count"] = len(sub["items"]["data"])
    return entry


def set_price(entry, price):
    """The item sells `price`; its id and its period stay."""
    fresh = objects.item(copy.deepcopy(price), key=entry["id"], subscription=entry["subscription"], now=0, period_end=0)
    entry |= {"price": fresh["price"], "plan": fresh["plan"]}


def check_together(prices, *, flexible, mixed=True):
    """Refusal when `prices` cannot be in one subscription (docs.stripe.com/billing/subscriptions/mixed-interval; wording from bug reports)."""
    for price in prices:
        if price["type"] != "recurring":
            raise Refusal(400, f"The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: {price['id']}.",
                          param="items")
        if not price["active"]:
            raise Refusal(400, "The price specified is inactive. This field only accepts active prices.", param="items")
    if len({price["id"] for price in prices}) < len(prices):
        raise Refusal(400, "Cannot add multiple subscription items with the same plan.", param="items")
    if len({price["currency"] for price in prices}) > 1:
        raise Refusal(400, "Currency and interval fields must match across all plans on this subscription. Found mismatch in currency field.")
    if len({(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices}) > 1:
        if not mixed:
            raise Refusal(400, "Checkout does not support multiple prices with different billing intervals.", param="line_items")
        if not flexible:
            raise Refusal(400, "Currency and interval fields must match across all plans on this subscription. Found mismatch in interval field.")


def fill(world, invoice, sub, entries, *, free=False):
    """The draft has a line per entry for its current period (for nothing when `free`, a trial's), and all prorations still to be billed."""
    lines = [objects.line(sub, entry, key="il_1" + world.draw(23), invoice_key=invoice["id"], amount=0 if free else amount_of(entry),
                          period=(entry["current_period_start"], entry["current_period_end"])) for entry in entries]
    for line in lines if free else ():
        line["description"] = f"Trial period for {line['pricing']['price_details']['product']}"
    waiting = world.inside(sub["id"]).pop("prorations", []) if world.state["inside"].get(sub["id"], {}).get("prorations") else []
    lines += [{**line, "id": "il_1" + world.draw(23), "invoice": invoice["id"]} for line in waiting]
    total, due = sum(line["amount"] for line in lines), max(0, sum(line["amount"] for line in lines))
    invoice["lines"] |= {"data": lines, "total_count": len(lines)}
    invoice |= dict.fromkeys(("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), total)
    invoice |= {"amount_due": due, "amount_remaining": due}


def prorate(world, sub, entry, *, amount, words):
    """The next invoice of `sub` also has a line over `amount` for the rest of the entry's period (shape: basil's invoice_item_details)."""
    start, end = entry["current_period_start"], entry["current_period_end"]
    part = round(amount * (end - world.now) / (end - start)) if end > start else 0
    line = objects.line(sub, entry, key="", invoice_key="", amount=part, period=(world.now, end))
    line |= {"description": f"{words} {entry['price']['product']}", "discountable": False,
             "parent": {"type": "invoice_item_details", "subscription_item_details": None,
                        "invoice_item_details": {"invoice_item": "ii_1" + world.draw(23), "proration": True, "subscription": sub["id"],
                                                 "proration_details": {"credited_items": None}}}}
    world.inside(sub["id"]).setdefault("prorations", []).append(line)
