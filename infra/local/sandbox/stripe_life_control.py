"""Orders to the Stripe sandbox about the life of a subscription: switch, pause, resume, authenticate, void."""
from .clock import to_epoch
from .http import BadControl, json_answer
from .stripe_invoices import void, write_off


class LifeOrders:
    """The calls; `live(id)` finds a subscription that has not ended."""

    def __init__(self, sandbox, live):
        self.world, self.billing, self.live = sandbox.world, sandbox.billing, live

    def routes(self):
        """(method, path, call) of each."""
        return [
            ("POST", r"subscriptions/([^/]+)/switch", self.switch),
            ("POST", r"subscriptions/([^/]+)/pause_collection", self.pause_collection),
            ("POST", r"subscriptions/([^/]+)/pause", self.pause),
            ("POST", r"subscriptions/([^/]+)/resume", self.resume),
            ("POST", r"subscriptions/([^/]+)/authenticate", self.authenticate),
            ("POST", r"invoices/([^/]+)/(void|mark_uncollectible)", self.close),
        ]

    def switch(self, wish, key):
        """The subscription, whose item ({"item"}, the first) sells {"price"} now or from its period end on."""
        sub, price = self.live(key), self.world.find("price", wish.get("price"), "price")
        entry = next((e for e in sub["items"]["data"] if wish.get("item") in (None, e["id"])), None)
        if entry is None or wish.get("when", "now") not in ("now", "period_end"):
            raise BadControl('send {"price": id, "when"?: "now" | "period_end", "item"?: id of an item}')
        if wish.get("when") == "period_end":
            self.billing.plans.schedule(sub, price, entry)
        else:
            self.billing.plans.switch(sub, [{"id": entry["id"], "price": price["id"]}], proration=wish.get("proration_behavior", "create_prorations"))
        return json_answer(sub)

    def pause_collection(self, wish, key):
        """The subscription, whose bills are held ({"behavior", "resumes_at"?}) or, with {"behavior": null}, collected again."""
        sub, behavior = self.live(key), wish.get("behavior")
        if behavior not in ("void", "keep_as_draft", "mark_uncollectible", None):
            raise BadControl("'behavior' must be void, keep_as_draft, mark_uncollectible or null")
        try:
            until = int(to_epoch(wish["resumes_at"])) if wish.get("resumes_at") is not None else None
        except ValueError as wrong:
            raise BadControl(str(wrong)) from None
        asked = {"behavior": behavior, "resumes_at": until} if behavior else None
        self.billing.pauses.check(asked)
        self.billing.pauses.set_collection(sub, asked)
        return json_answer(sub)

    def pause(self, wish, key):
        """The subscription, paused as by POST /v1/subscriptions/{id}/pause."""
        sub = self.live(key)
        self.billing.pauses.pause(sub)
        return json_answer(sub)

    def resume(self, wish, key):
        """The subscription after it was resumed and the first bill had the {"outcome"} (none: as the card does)."""
        sub = self.live(key)
        self.billing.pauses.resume(sub, on_success=True, outcome=outcome_in(wish, default=None))
        return json_answer(sub)

    def authenticate(self, wish, key):
        """The subscription after its owner answered the bank about the newest open invoice: {"outcome": "succeed" | "decline"}."""
        sub = self.live(key)
        invoices = self.billing.open_invoices(sub)
        if not invoices:
            raise BadControl(f"{key} has no open invoice")
        self.billing.beginnings.authenticate(invoices[-1], outcome_in(wish))
        return json_answer(sub)

    def close(self, wish, key, how):
        """The open invoice after it was voided or written off."""
        invoice = self.world.find("invoice", key)
        if invoice["status"] != "open":
            raise BadControl(f"{key} is not open but {invoice['status']}")
        if how == "void":
            void(self.world, invoice)
        else:
            write_off(self.world, invoice, "user_forgiven")
        self.billing.settled(invoice)
        return json_answer(invoice)


def outcome_in(wish, default="succeed"):
    """The "outcome" of an order: succeed, decline, action (the bank asks the owner), or `default`."""
    outcome = wish.get("outcome", default)
    if outcome not in ("succeed", "decline", "action", default):
        raise BadControl("'outcome' must be succeed, decline or action")
    return outcome
