"""What Stripe leaves out of an object until `expand` asks for it (docs.stripe.com/expand/includable-properties)."""
from .stripe_payment_objects import line_item


def included(world, obj, name):
    """{name: the property} when `obj` has such a property to ask for, else {}."""
    kind, key = obj.get("object"), obj.get("id")
    if (kind, name) == ("checkout.session", "line_items"):
        return {name: _list(_lines(world, obj), f"/v1/checkout/sessions/{key}/line_items")}
    if (kind, name) == ("charge", "refunds"):
        return {name: _list([r for r in reversed(list(world.all("refund"))) if r["charge"] == key], f"/v1/charges/{key}/refunds")}
    if (kind, name) == ("invoice", "payments"):
        return {name: _list([p for p in world.all("invoice_payment") if p["invoice"] == key], f"/v1/invoice_payments?invoice={key}")}
    return {}


def _list(data, url):
    return {"object": "list", "data": data, "has_more": False, "url": url}


def _lines(world, session):
    inside = world.state["inside"][session["id"]]
    if "line_items" in inside:
        return inside["line_items"]
    prices = [world.find("price", key) for key in inside.get("prices", [inside.get("price")])]
    return [line_item(price, world.find("product", price["product"]), 1, key=f"li_{session['id'][-20:]}{place}") for place, price in enumerate(prices)]
