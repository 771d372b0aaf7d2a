"""Disputes over a merchant's sales at PayPal: opened by the buyer or the bank, moved on, resolved; the API to read them."""
from decimal import Decimal

from .clock import to_epoch
from .paypal_contract import instant
from .paypal_errors import not_found
from .paypal_money import v2
from .paypal_world import LETTERS, iso_ms

PATH = "/v1/customer/disputes"
ANSWER_WITHIN = 10 * 86400   # the seller's time to answer an inquiry (assumed)
REFUNDED = ("RESOLVED_BUYER_FAVOUR", "ACCEPTED")       # outcomes that cost the seller the money
OUTCOMES = (*REFUNDED, "RESOLVED_SELLER_FAVOUR", "RESOLVED_WITH_PAYOUT", "CANCELED_BY_BUYER", "DENIED", "NONE")
STATES = {"OPEN": "REQUIRED_ACTION", "WAITING_FOR_SELLER_RESPONSE": "REQUIRED_ACTION", "WAITING_FOR_BUYER_RESPONSE": "REQUIRED_OTHER_PARTY_ACTION",
          "UNDER_REVIEW": "UNDER_PAYPAL_REVIEW", "RESOLVED": "RESOLVED", "OTHER": "REQUIRED_OTHER_PARTY_ACTION"}


class Disputes:
    """Kept in PayPal's own form: `items` and `messages` are there and empty, as in real events, though the official file forbids that."""

    def __init__(self, world, sales):
        self.world, self.sales = world, sales

    def routes(self):
        """(method, path in the official file, call)."""
        return [("GET", PATH, self.search), ("GET", PATH + "/{id}", lambda request, key: (200, self.find(key)))]

    def find(self, key):
        """The dispute; Refusal 404 otherwise."""
        dispute = self.world.find("dispute", key)
        if dispute is None:
            raise not_found()
        return dispute

    def search(self, request):
        """A page of disputes, newest first, cut down to what the list shows."""
        query = request.query
        found = [d for d in reversed(list(self.world.all("dispute"))) if _wanted(d, query)]
        token = query.get("next_page_token", "")
        size, begin = int(query.get("page_size", 10)), int(token) if token.isascii() and token.isdigit() else 0
        names = ("dispute_id", "create_time", "update_time", "reason", "status", "dispute_state", "dispute_amount", "dispute_life_cycle_stage",
                 "dispute_channel", "seller_response_due_date", "links")
        kept = {name: value for name, value in query.items() if name != "next_page_token"}
        links = [{"href": self._page(query), "rel": "self", "method": "GET"}, {"href": self._page(kept), "rel": "first", "method": "GET"}]
        if begin + size < len(found):
            links.append({"href": self._page({**kept, "next_page_token": begin + size}), "rel": "next", "method": "GET"})
        return 200, {"items": [{name: _with_state(d)[name] for name in names if name in _with_state(d)} for d in found[begin:begin + size]],
                     "links": links}

    def _page(self, query):
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return self.world.url(PATH + (f"?{text}" if text else ""))

    # what happens to them

    def open(self, sale, *, reason="MERCHANDISE_OR_SERVICE_NOT_AS_DESCRIBED", stage="INQUIRY", amount=None):
        """A dispute over the sale, as an INQUIRY or a CHARGEBACK, and its event."""
        world, now, currency = self.world, iso_ms(self.world.now), sale["amount"]["currency"]
        key = f"PP-R-{world.draw(3, LETTERS[10:])}-{world.draw(8, LETTERS[:10])}"
        payer = world.whole["payers"][sale["inside"]["email"]]
        dispute = world.add("dispute", {
            "dispute_id": key, "create_time": now, "update_time": now, "disputed_transactions": [{
                "buyer_transaction_id": world.draw(17), "seller_transaction_id": sale["id"], "create_time": sale["create_time"],
                "transaction_status": {"reversed": "REVERSED"}.get(sale["state"], "COMPLETED"), "gross_amount": v2(sale["amount"]["total"], currency),
                "buyer": {"name": f"{payer['given_name']} {payer['surname']}"},
                "seller": {"merchant_id": world.merchant.id, "name": world.merchant.name}, "items": [], "seller_protection_eligible": False}],
            "reason": reason, "status": "WAITING_FOR_SELLER_RESPONSE" if stage == "INQUIRY" else "UNDER_REVIEW",
            "dispute_amount": v2(amount or sale["amount"]["total"], currency), "dispute_life_cycle_stage": stage,
            "dispute_channel": "INTERNAL" if stage == "INQUIRY" else "EXTERNAL", "messages": [],
            "seller_response_due_date": iso_ms(world.now + ANSWER_WITHIN),
            "refund_details": {"allowed_refund_amount": v2(amount or sale["amount"]["total"], currency)},
            "links": [{"href": world.url(f"{PATH}/{key}"), "rel": "self", "method": "GET"}]})
        self._tell("CREATED", dispute, f"A new dispute opened with Case # {key}")
        return dispute

    def change(self, dispute, status=None, stage=None):
        """The dispute has another status, or has been raised to another stage; its event."""
        dispute |= {"update_time": iso_ms(self.world.now), "status": status or dispute["status"],
                    "dispute_life_cycle_stage": stage or dispute["dispute_life_cycle_stage"]}
        self._tell("UPDATED", dispute, f"A dispute was updated with case # {dispute['dispute_id']}")

    def resolve(self, dispute, outcome, *, money="refunded"):
        """The dispute is over. Lost or accepted, the sale is "refunded" or "reversed" (or `money` None: neither); won, a reversal is taken back."""
        sale = self.sales.sale(dispute["disputed_transactions"][0]["seller_transaction_id"])
        lost = outcome in REFUNDED
        if lost and money and sale["state"] in ("completed", "partially_refunded"):
            left = Decimal(sale["amount"]["total"]) - Decimal(sale["inside"]["refunded"])
            if money == "reversed":
                self.sales.reverse(sale)
            else:
                self.sales.refund(sale, min(left, Decimal(dispute["dispute_amount"]["value"])))
        elif not lost and sale["state"] == "reversed":
            self.sales.cancel_reversal(sale)
        dispute |= {"status": "RESOLVED", "update_time": iso_ms(self.world.now),
                    "dispute_outcome": {"outcome_code": outcome, **({"amount_refunded": dispute["dispute_amount"]} if lost else {})}}
        dispute.pop("seller_response_due_date", None)
        self._tell("RESOLVED", dispute, f"A dispute was resolved with case # {dispute['dispute_id']}")

    def _tell(self, kind, dispute, summary):
        self.world.changed = True
        self.world.emit(f"CUSTOMER.DISPUTE.{kind}", dispute, "dispute", None, summary)


def _wanted(dispute, query):
    sale = dispute["disputed_transactions"][0]["seller_transaction_id"]
    return (query.get("disputed_transaction_id", sale) == sale
            and ("start_time" not in query or to_epoch(dispute["create_time"]) >= instant(query["start_time"], "start_time", "query"))
            and ("update_time_after" not in query or to_epoch(dispute["update_time"]) >= instant(query["update_time_after"], "update_time_after", "query"))
            and ("update_time_before" not in query or to_epoch(dispute["update_time"]) <= instant(query["update_time_before"], "update_time_before", "query"))
            and _with_state(dispute)["dispute_state"] in query.get("dispute_state", _with_state(dispute)["dispute_state"]).split(","))


def _with_state(dispute):
    inquiry = dispute["dispute_life_cycle_stage"] == "INQUIRY" and dispute["status"] != "RESOLVED"
    return {**dispute, "dispute_state": "OPEN_INQUIRIES" if inquiry else STATES[dispute["status"]]}
