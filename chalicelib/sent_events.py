"""The processors' own lists of the events they made: whatever was never delivered here is found in them within the hour.

Deliveries are lost now and then (github.com/paypal/paypal-js issue 578: 12 of 145 cancellations; an endpoint that was down for longer than
Stripe tries, or that Stripe has disabled); what is not even in the list, the daily look at each member finds. An event that was
delivered is sent to the queue once more: that costs one read and changes nothing.
"""
from collections import Counter

from chalicelib import connect, log, ports, settings
from chalicelib.domain import ids
from chalicelib.gateways import paypal, queues, stripe
from chalicelib.gateways.outcomes import OutOfTime, Unknown
from chalicelib.intake import CONNECT, STRIPE_TYPES, thin_paypal, thin_stripe
from chalicelib.problem import Problem
from chalicelib.store import accounts

FIRST_SECONDS = 3 * 86_400      # how far back the first time: as long as both try to deliver
LONGEST_SECONDS = 29 * 86_400   # the lists go back 30 days; what is older the daily look has found
OVERLAP_SECONDS = 1_800         # an event may appear in the list later than its own instant, and our clock may be minutes ahead of the processor's
WINDOW_SECONDS = {ids.PAYPAL: 21_600, ids.STRIPE: 86_400}   # of the list that is read before the cursor moves: what is cut short is read again
SPENT_SHARE = 0.8
MARGIN_SECONDS = 3

# Of Stripe's only what some endpoint has not taken is asked for: the daily look reads subscriptions anyway. But a purchase, a refund or a
# dispute nobody looks for who was not told; and what was made while no endpoint was registered, or it was disabled, was delivered to all
# there were. Of these all are asked for: there are few. A disconnected account lets us ask nothing, which tells us (`_refused`).
_LOOKED_AT_ANYWAY = tuple(kind for kind in STRIPE_TYPES if kind.startswith(("customer.subscription.", "invoice.")))
_TOLD_ONLY = tuple(kind for kind in STRIPE_TYPES if kind.startswith(("checkout.", "charge.", "refund.")))
_QUESTIONS = ({"types": _LOOKED_AT_ANYWAY, "delivered": False}, {"types": _TOLD_ONLY, "delivered": True})


def run(*, remaining, limit):
    """{accounts, sent, failed}: what was made since the last time is in the queue, of every account, or as far as time allows.

    Each account on its own, beginning with another one each time. The cursor moves after a window was read to its end and sent, so a
    crash, an outage or a lack of time only means that the window is read again.
    """
    names = _accounts()
    first, counts = ports.below(len(names)), Counter(accounts=0, sent=0, failed=0)
    for name in names[first:] + names[:first]:
        if remaining() < limit * (1 - SPENT_SHARE):
            log.info("sent_events_unfinished", count=counts["accounts"])
            break
        counts["accounts"] += 1
        try:
            _follow(name, counts, deadline=ports.wall() + remaining() - MARGIN_SECONDS)
        except OutOfTime:
            log.info("sent_events_unfinished", account=name)
        except Exception as error:
            counts["failed"] += 1
            log.failure("sent_events_failed", error, account=name)
    return dict(counts)


def _accounts():
    """The operator's own account, what is connected to it at Stripe, and the PayPal accounts whose credentials we have."""
    at_stripe = [one.id for one in accounts.every() if one.connected and ids.processor_of(one.id) == ids.STRIPE]
    return sorted([ids.OPERATOR, *at_stripe, *settings.get().paypal_accounts])


def _follow(account, counts, *, deadline):
    """The cursor of this account stands at now, or as far as could be read."""
    now, before, window = ports.now(), accounts.sent_until(account), WINDOW_SECONDS[ids.processor_of(account)]
    since = now - FIRST_SECONDS if before is None else max(before, now - LONGEST_SECONDS)
    while since < now:
        until = min(since + window, now)
        if not _send(account, since - OVERLAP_SECONDS, until, counts, deadline):
            counts["failed"] += 1
            return
        if not accounts.move_sent(account, before=before, until=until):     # another run is at it
            return
        since = before = until


def _send(account, since, until, counts, deadline):
    """True when every event of the window that concerns us is in the queue. Raises OutOfTime and NotSent."""
    for event in _events(account, since=since, until=until, deadline=deadline):
        if isinstance(event, Unknown):
            log.alarm("sent_events_unread", account=account, why=event.why)
            _refused(account, event.why, deadline)
            return False
        if message := _message(event, account):
            queues.send(queues.events_of(account), message)
            counts["sent"] += 1
    return True


def _events(account, **window):
    if ids.processor_of(account) == ids.PAYPAL:
        yield from paypal.sent_events(account, **window)
        return
    for question in _QUESTIONS:
        yield from stripe.sent_events(account, **question, **window)


def _refused(account, why, deadline):
    """An account that lets us in no more is flagged, although nobody told us that it was disconnected."""
    if why in connect.NO_ACCESS and account != ids.OPERATOR:
        connect.deauthorized(account, event="sent_events", deadline=deadline)


def _message(event, account):
    """The event as the intake would send it, or None; one that cannot be read keeps nobody else waiting."""
    try:
        if ids.processor_of(account) == ids.PAYPAL:
            return thin_paypal(event, account) if isinstance(event.get("event_type"), str) else None
        if not isinstance(event.get("type"), str):
            return None
        # Whoever it says it is of: it was asked of this account (architecture.md, "The wall").
        own = account == ids.OPERATOR
        return thin_stripe(event | {"account": None if own else account}, ids.OPERATOR if own else CONNECT)
    except Problem:
        return None
