"""Holds: what a refund or a dispute of one charge takes away, by the offer's policy.

A charge pays for one period of a subscription, or for a purchase. A refund takes away what that charge paid for, so it ends
with that period; a dispute puts the whole subscription in question: access is held while it is open, back when it is won,
and gone for good when it is lost.
"""
from dataclasses import asdict, dataclass, replace

from chalicelib.domain.subscription import Unreadable

REFUND_POLICIES = FULL, ANY, NEVER = "full", "any", "never"
DISPUTE_POLICIES = HOLD, IGNORE = "hold", "ignore"
REFUNDED, DISPUTED, CHARGED_BACK = "refunded", "disputed", "charged_back"
BACK = "back"   # instead of a dispute: the processor took the money back, and may return it without a word

# docs.stripe.com/api/disputes/object: the warning_… statuses are inquiries, in which no money has been taken back.
_OPEN, _LOST = ("needs_response", "under_review"), ("lost",)
_HARMLESS = ("won", "prevented", "warning_needs_response", "warning_under_review", "warning_closed")


@dataclass(frozen=True)
class Hold:
    """What is known of one charge: `reason` the key of what it paid for, `until` the end of the period it paid for (None: no
    period), `amount` and `refunded` in the currency's smallest unit, `dispute` "", open, lost, over or BACK. `read_at` 0: not asked yet;
    `unread_since`: the first read in a row that failed, or 0.
    """
    key: str
    reason: str
    until: int | None = None
    amount: int = 0
    refunded: int = 0
    dispute: str = ""
    read_at: int = 0
    unread_since: int = 0

    @property
    def unsettled(self):
        """True while its dispute is open."""
        return self.dispute == "open"

    def asked_again(self, now):
        """True while it is asked about with every look at the member: it may change, and nobody would tell."""
        return self.unsettled or self.dispute == BACK and (self.until is None or now < self.until)

    @property
    def troubles(self):
        """True when something of it was refunded or ever disputed."""
        return bool(self.refunded or self.dispute)

    def facts(self):
        """The form kept in the membership: a map of plain values, without the key."""
        facts = asdict(self)
        del facts["key"]
        return facts

    def why(self, offer, now):
        """Why what it paid for gives nothing at `now` under this offer's policies: refunded, disputed, charged_back; or None."""
        if offer.dispute == HOLD and self.dispute in ("open", "lost"):
            return DISPUTED if self.dispute == "open" else CHARGED_BACK
        enough = self.amount if offer.refund == FULL else 1
        if offer.refund != NEVER and self.refunded >= enough > 0 and (self.until is None or now < self.until):
            return REFUNDED
        return None


def from_stripe(hold, charge, disputes, *, read_at):
    """The hold as Stripe's charge object (a dict) and the list of its dispute objects show it. Raises Unreadable."""
    try:
        if charge["id"] != hold.key.rsplit(":", 1)[1]:
            raise Unreadable("the answer is another charge's")
        return replace(hold, amount=_amount(charge["amount"]), refunded=_amount(charge["amount_refunded"]),
                       dispute=_dispute([dispute["status"] for dispute in disputes]), read_at=read_at, unread_since=0)
    except (KeyError, TypeError) as error:
        raise Unreadable(f"a charge of an unknown shape ({type(error).__name__})") from None


def held(holds, key, offer, now):
    """Why the subscription or purchase `key` gives nothing at `now`, by the first of its holds that says so; or None."""
    return next((why for hold in holds if hold.reason == key and (why := hold.why(offer, now))), None)


def _amount(value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unreadable("not an amount")
    return value


def _dispute(statuses):
    if any(status not in (*_OPEN, *_LOST, *_HARMLESS) for status in statuses):
        raise Unreadable("a dispute status that is not known")
    if any(status in _OPEN for status in statuses):
        return "open"
    if any(status in _LOST for status in statuses):
        return "lost"
    return "over" if statuses else ""
