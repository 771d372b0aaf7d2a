"""`python -m infra.specs FOLDER`: the trimmed specifications beside the sandboxes say nothing that the official files do not say.

FOLDER holds the official files, which are too large to keep here: discord_openapi.json (github.com/discord/discord-api-spec,
specs/openapi.json), stripe_billing_2026-10-28.endive.schema.json (derived from the PyPI package stripe 16.1.0), and PayPal's
(github.com/paypal/paypal-rest-api-specifications, openapi/…), each with paypal_ before its name. How they were trimmed
is the rule that is checked: things may be left out, nothing may be added or changed. Descriptions are left out everywhere; an object
that the sandbox never makes is left as {"type": "object"}, perhaps with its name, and {"x-cut": true} stands for a parameter of which only the name was kept.
Prints each difference and ends with 1, or prints what was compared and ends with 0.
"""
import json
import pathlib
import sys

KEPT = pathlib.Path(__file__).parent / "local" / "sandbox" / "specs"
PAIRS = (("discord.openapi.json", "discord_openapi.json", ("openapi", "servers", "paths", "components")),
         ("stripe.schema.json", "stripe_billing_2026-10-28.endive.schema.json",
          ("x-stripe-python", "x-stripe-api-version", "requests", "responses", "$defs")),
         *((f"paypal.{kept}.json", f"paypal_{source}.json", ("openapi", "paths", "components")) for kept, source in (
             ("subscriptions", "billing_subscriptions_v1"), ("products", "catalogs_products_v1"), ("payments", "payments_payment_v1"),
             ("disputes", "customer_disputes_v1"), ("webhooks", "notifications_webhooks_v1"))))
LEFT_WHOLE = {"required", "enum", "anyOf", "oneOf", "allOf", "type"}     # lists of which nothing may be missing
CUT = ({"type": "object"}, {"x-cut": True})     # beside x-stripe-object, the name of what was left out


def differences(trimmed, official, at=""):
    """[text] of what is in `trimmed` and not so in `official`."""
    if isinstance(trimmed, dict) and {name: value for name, value in trimmed.items() if name != "x-stripe-object"} in CUT:
        return []
    if isinstance(trimmed, dict) and isinstance(official, dict):
        added = [f"{at}/{name} is not in the official file" for name in trimmed if name not in official]
        lost = [f"{at}/{name} was left out" for name in official if name in LEFT_WHOLE and name not in trimmed and "/properties" != at[-11:]]
        return added + lost + [found for name, inner in trimmed.items() if name in official
                               for found in differences(inner, official[name], f"{at}/{name}")]
    if isinstance(trimmed, list) and isinstance(official, list) and len(trimmed) == len(official):
        return [found for number, inner in enumerate(trimmed) for found in differences(inner, official[number], f"{at}/{number}")]
    return [] if trimmed == official else [f"{at} differs"]


def main(folder):
    found = []
    for kept, source, parts in PAIRS:
        trimmed, official = (json.loads((where / name).read_text("utf-8")) for where, name in ((KEPT, kept), (pathlib.Path(folder), source)))
        found += [f"{kept}: {text}" for part in parts for text in differences(trimmed[part], official[part], part)]
    print("\n".join(found) or f"{', '.join(kept for kept, _, _ in PAIRS)}: nothing but what the official files say")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
