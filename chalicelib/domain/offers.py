"""Offers of a server: which roles a price buys, and for how long after a failed payment."""
from dataclasses import dataclass, field

from chalicelib.domain.brakes import Brakes
from chalicelib.domain.ids import processor_of
from chalicelib.domain.subscription import Terms

DEFAULT_GRACE_DAYS = 7
ONCE = "once"


@dataclass(frozen=True)
class Price:
    """A processor's price: `amount` in the currency's smallest unit, `interval` day, week, month or year, or once.

    What is bought once lasts `days` days, or for ever when that is None.
    """
    account: str
    id: str
    amount: int
    currency: str
    interval: str
    days: int | None = None

    @property
    def once(self):
        """True when it is paid once and never renews."""
        return self.interval == ONCE

    @property
    def processor(self):
        return processor_of(self.account)

    @property
    def charged(self):
        """What one period costs, in the form of an item's `charged`."""
        return f"{self.amount} {self.currency}"

    def shown(self):
        return {"amount": self.amount, "currency": self.currency, "interval": self.interval} | ({"days": self.days} if self.once else {})


@dataclass(frozen=True)
class Offer:
    """What is sold: roles of one server, the prices that buy them, and the policies: days of grace after a failed payment,
    which refunds end access (full, any, never), whether an open dispute holds it, whether members may cancel at once.
    """
    id: str
    name: str
    roles: tuple
    prices: tuple
    description: str = ""
    visible: bool = True
    grace_days: int = DEFAULT_GRACE_DAYS
    refund: str = "full"
    dispute: str = "hold"
    cancel_now: bool = False


@dataclass(frozen=True)
class Server:
    """A server's settings: its name, its offers, whose money accounts it may use, its Stripe portal set-up by account.

    `disconnected`: those of its accounts that Stripe does not let us call any more, where the reader asked for it. `brakes`: what
    holds its role changes back, as far as `servers.read` was asked.
    """
    id: str
    name: str
    offers: tuple = ()
    role_names: dict = None
    accounts: tuple = ("operator",)
    terms_url: str = ""
    privacy_url: str = ""
    portal_configurations: dict = field(default_factory=dict)
    disconnected: frozenset = frozenset()
    brakes: Brakes = Brakes()

    def offer(self, offer_id):
        """The offer of that id, or None."""
        return next((offer for offer in self.offers if offer.id == offer_id), None)

    def buying(self, account, price_id, charged=""):
        """(offer, price) that this price of this account buys here, or None. One account's price never buys another's offer.

        `charged`: what is really paid each period, where the processor lets it differ from the price; then it must be the same.
        """
        if account not in self.accounts:
            return None
        for offer in self.offers:
            for price in offer.prices:
                if (price.account, price.id) == (account, price_id) and charged in ("", price.charged):
                    return offer, price
        return None

    def bought(self, sub, item):
        """(offer, price) that this line of this subscription or purchase buys here, or None."""
        return self.buying(sub.account, item.price, item.charged)

    def terms(self, sub, item):
        """What the offer of this line says about it; nothing is given for a price that buys nothing here."""
        bought = self.bought(sub, item)
        return Terms(bought[0].grace_days, bought[1].days) if bought else Terms()

    def ends_at_once(self, sub):
        """True when the subscription buys something here, and every offer that it buys may be cancelled at once."""
        bought = [found[0] for item in sub.items if (found := self.bought(sub, item))]
        return bool(bought) and all(offer.cancel_now for offer in bought)

    def roles_sold_through(self, account):
        """Every role that some price of this account buys here."""
        return {role for offer in self.offers if account in self.accounts
                for price in offer.prices if price.account == account for role in offer.roles}

    def role_name(self, role_id):
        """The role's name as last seen, or its id."""
        return (self.role_names or {}).get(role_id, role_id)


def from_item(server_id, item):
    """A Server from its stored settings: {name, offers: {id: {...}}, role_names, accounts, terms_url, ...}."""
    return Server(
        id=server_id, name=item["name"], role_names=dict(item.get("role_names") or {}),
        accounts=tuple(item.get("accounts") or ("operator",)),
        terms_url=item.get("terms_url") or "", privacy_url=item.get("privacy_url") or "",
        portal_configurations=_portal_configurations(item),
        offers=tuple(_offer(offer_id, offer) for offer_id, offer in sorted(
            (item.get("offers") or {}).items(), key=lambda pair: (pair[1].get("order", 0), pair[0]))))


def _portal_configurations(item):
    """{account: configuration id}; settings of before there were connected accounts had one, the operator's."""
    before = {"operator": item["portal_configuration"]} if item.get("portal_configuration") else {}
    return before | dict(item.get("portal_configurations") or {})


def _offer(offer_id, offer):
    return Offer(
        id=offer_id, name=offer["name"], description=offer.get("description") or "", roles=tuple(offer["roles"]),
        visible=offer.get("visible", True), grace_days=int(offer.get("grace_days", DEFAULT_GRACE_DAYS)),
        refund=offer.get("refund") or "full", dispute=offer.get("dispute") or "hold", cancel_now=bool(offer.get("cancel_now")),
        prices=tuple(Price(account=price["account"], id=price["id"], amount=int(price["amount"]),
                           currency=price["currency"], interval=price["interval"],
                           days=int(price["days"]) if price.get("days") else None) for price in offer["prices"]))
