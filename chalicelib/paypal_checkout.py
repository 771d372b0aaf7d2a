"""Buying through PayPal: the plan is checked against the offer first, the subscription made by us, and approved by the member at PayPal."""
from chalicelib import log, ports, problem, settings
from chalicelib.domain import ids
from chalicelib.domain.paypal import free_trial, misfit
from chalicelib.domain.subscription import Unreadable
from chalicelib.gateways import paypal, queues
from chalicelib.gateways.outcomes import Done, Unknown
from chalicelib.problem import Problem
from chalicelib.store import links


def start(user, row, server, offer, prices, *, deadline, begins=None):
    """The address of PayPal's page where the member approves this offer, to begin at `begins` (None: at once). Raises Problem 409 and 503.

    `prices` are the offer's through PayPal, the first that fits is used. Asking again while PayPal still waits for the approval leads to the
    same page: of two pages both could be approved, and both would be charged. `row`: the membership, if there is one.
    """
    price = _fitting(row, server, prices, deadline)
    begun = links.approval(user=user, server=server.id, offer=offer.id, begins=begins, now=ports.now())
    if begun and not (row and begun in row.subs) and (url := _waiting(begun, deadline)):
        return url
    intent = ports.token(24)
    links.make_intent(intent, user=user, server=server.id, offer=offer.id, account=price.account, now=ports.now())
    back = f"{settings.get().public_url}/profile"
    answer = paypal.start_checkout(
        account=price.account, plan=price.id, intent=intent, start_at=begins, cancel_url=back, deadline=deadline,
        success_url=f"{back}?{'bought' if begins is None else 'anew'}={offer.id}&server={server.id}")
    if not isinstance(answer, Done):
        log.alarm("checkout_failed", account=price.account, why=answer.why)
        raise problem.try_later("PayPal")
    _made(answer.value["id"], intent, price, user, server, offer, begins)
    return answer.value["url"]


def _made(name, intent, price, user, server, offer, begins):
    """The subscription has claimed the intent before anybody else can, and the queue asks PayPal about it for some hours.

    PayPal drops events, and until one comes nobody here knows of the purchase. A crash before it: the buyer has no address to approve it at.
    """
    key = ids.key(price.account, name)
    links.claim_intent(intent, key)
    links.begin_approval(key, user=user, server=server.id, offer=offer.id, begins=begins, now=ports.now())
    try:
        queues.send(queues.PAYPAL_EVENTS, {"event": "checkout", "type": "checkout", "account": price.account, "kind": "subscription", "id": name}, delay=10)
    except queues.NotSent as error:     # then PayPal's own events must do
        log.failure("checkout_not_followed", error)


def _fitting(row, server, prices, deadline):
    """The first price whose plan at PayPal is what the offer says, and whose free trial this member has not had."""
    tried = False
    for price in prices:
        plan = paypal.plan(price.account, price.id, deadline=deadline)
        if isinstance(plan, Unknown) and plan.why != "paypal_404":
            raise problem.try_later("PayPal")
        if why := _misfit(plan, price):
            log.alarm("plan_differs", server=server.id, account=price.account, why=why)
        elif free_trial(plan) and _had(row, price):
            tried = True
        else:
            return price
    if tried:
        raise Problem(409, "trial-used", "The free trial was yours already", "You have had this before, and with PayPal it begins with a free trial each time.",
                      "Buy it another way, or ask the server's owner for a plan without a trial.")
    raise Problem(409, "plan-differs", "This cannot be bought with PayPal at present", "The plan at PayPal is not what the offer says.",
                  "The operator has been told. You can try another way to pay, or ask the server's owner.")


def _misfit(plan, price):
    try:
        return "gone" if isinstance(plan, Unknown) else misfit(plan, price)
    except Unreadable:
        return "unreadable"


def _had(row, price):
    """True when this member has ever had a subscription to this plan here."""
    return any(sub.account == price.account and item.price == price.id for sub in (row.subs.values() if row else ()) for item in sub.items)


def _waiting(key, deadline):
    """Where PayPal still waits for the approval of this subscription, None when it is gone; Problem 409 when it is approved, and we have yet to hear of it."""
    url = paypal.waits_at(key, deadline=deadline)
    if isinstance(url, Unknown):
        if url.why != "paypal_404":
            raise problem.try_later("PayPal")
        return None
    if not url:
        raise Problem(409, "being-confirmed", "One moment", "Another purchase of yours here is still being confirmed.", "Try again in a few seconds.")
    return url
