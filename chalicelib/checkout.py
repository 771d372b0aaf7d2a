"""Buying: a server-made intent binds the purchase to the member before the processor hears of it."""
import functools

from chalicelib import connect, paypal_checkout, ports, problem, settings
from chalicelib.domain import ids
from chalicelib.domain import plan as rules
from chalicelib.domain.subscription import BOUGHT, PROCESSING, RUNNING_OUT, SUSPENDED, UNREAD
from chalicelib.gateways import processors, stripe
from chalicelib.gateways.outcomes import Done, Refused
from chalicelib.problem import Problem
from chalicelib.store import links, members, servers


def start(*, user, server_id, offer_id, deadline, processor=None):
    """The address of Stripe's or PayPal's page where this offer is paid. `processor`: stripe, paypal, or whichever comes first.

    Raises Problem 400, 404, 409 (has it already, account off) or 503.
    """
    if not ids.valid("snowflake", server_id) or not ids.valid("offer", offer_id):
        raise problem.bad_request("server_id and offer_id must name a server and one of its offers.")
    if processor not in (None, *processors.NAMES):
        raise problem.bad_request(f"processor must be one of: {', '.join(processors.NAMES)}.")
    server, _ = servers.read(server_id)
    offer = server.offer(offer_id) if server else None
    meant = connect.prices(server, offer, processor) if offer and offer.visible else None
    if not meant:
        raise problem.not_found()
    price = meant[0]
    row = members.read(user, server_id)
    _refuse_erased(row)
    _refuse_second(row, server, offer, price)
    if row is None:
        members.create(user=user, server=server_id, now=ports.now(), revive=True)
    if price.processor == ids.PAYPAL:
        return paypal_checkout.start(user, row, server, offer, [one for one in meant if one.processor == ids.PAYPAL], deadline=deadline)
    intent = ports.token(24)
    links.make_intent(intent, user=user, server=server_id, offer=offer_id, account=price.account, now=ports.now())
    back = f"{settings.get().public_url}/profile"
    start_for = functools.partial(
        stripe.start_checkout, account=price.account, price=price.id, once=price.once, intent=intent, deadline=deadline,
        success_url=f"{back}?bought={offer_id}&server={server_id}", cancel_url=back)
    customer = _customer(row, price.account)
    answer = start_for(customer=customer)
    if customer and isinstance(answer, Refused):    # the customer may have been deleted at Stripe: then as a new one
        answer = start_for(customer=None)
    if not isinstance(answer, Done) or not answer.value.get("url"):
        raise problem.try_later("Stripe")
    return answer.value["url"]


def anew(row, server, offer, ended, *, deadline):
    """The address at PayPal where the member approves the offer anew, to begin when what they have paid with `ended` is over.

    Raises Problem 409 (there is another one already, account off, plan not right) or 503.
    """
    meant = connect.prices(server, offer, ids.PAYPAL)
    same = [one for one in meant if (one.account, one.id) == (ended.account, ended.items[0].price)]
    if not meant:
        raise problem.not_found()
    _refuse_erased(row)
    _refuse_second(row, server, offer, meant[0], instead_of=ended.key)
    return paypal_checkout.start(row.user, row, server, offer, [*same, *(one for one in meant if one not in same)], begins=ended.cancel_at, deadline=deadline)


def _refuse_erased(row):
    if row and row.erased:
        raise Problem(409, "being-erased", "Your data is being erased", "What you have asked for is still under way in this server.",
                      "Try again in a few minutes.")


def _refuse_second(row, server, offer, price, *, instead_of=None):
    """Nobody pays twice for one offer by mistake; a scheduled cancel can be undone, a failed payment repaired.

    A subscription that is on hold (refunded, disputed) still counts: it can be cancelled first. What was bought for some days
    can be bought again when they are over, what was refunded at once, what is disputed when that is decided.
    """
    if row and len(row.subs) >= members.MOST_SUBSCRIPTIONS:
        raise Problem(409, "too-many", "No more here", "You have had as many subscriptions in this server as can be kept.",
                      "Ask the server's owner.")
    for sub in row.subs.values() if row else ():
        if sub.key == instead_of:
            continue
        if sub.status in (UNREAD, PROCESSING):
            raise Problem(409, "being-confirmed", "One moment", "Another purchase of yours here is still being confirmed.",
                          "Try again in a few seconds.")
        if not any((b := server.bought(sub, item)) and b[0].id == offer.id for item in sub.items):
            continue
        if sub.status == BOUGHT and any(hold.unsettled for hold in row.holds.values() if hold.reason == sub.key):
            raise Problem(409, "disputed", "A dispute is open", "You have bought this already, and a dispute about the payment is open.",
                          "When it is won you have it again; when it is lost you can buy it anew.")
        if sub.status == BOUGHT and rules.wanted([sub], row.holds.values(), server, ports.now()):
            raise Problem(409, "already-bought", "You have this already", "You have already bought this offer.",
                          "Press “Restore my roles” on your profile if a role is missing.")
        live = sub.status in ("active", "trialing", "past_due", "paused", "unpaid", SUSPENDED) or (
            sub.status == "incomplete" and sub.processor == ids.PAYPAL)     # approved, and PayPal tries to take the first payment
        if (live or sub.status == RUNNING_OUT and ports.now() < sub.cancel_at) and not price.once:
            raise Problem(409, "already-subscribed", "You have this already",
                          "You already have a subscription to this offer.",
                          "Undo its cancellation, or mend its payment, on your profile.")


def _customer(row, account):
    """The member's customer at this account, so that one portal session shows all of their subscriptions there."""
    known = [sub.customer for sub in row.subs.values() if sub.account == account and sub.customer] if row else []
    return known[0] if known else None
