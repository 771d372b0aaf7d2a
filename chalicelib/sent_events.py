"""PayPal's own list of the events it made: whatever it never delivered here is found in it within the hour.

Deliveries are lost now and then (github.com/paypal/paypal-js issue 578: 12 of 145 cancellations); what is not even in the list, the
daily look at each member finds. An event that was delivered is sent to the queue once more: that costs one read and changes nothing.
"""
from collections import Counter

from chalicelib import log, ports, settings
from chalicelib.gateways import paypal, queues
from chalicelib.gateways.outcomes import OutOfTime, Unknown
from chalicelib.intake import thin_paypal
from chalicelib.problem import Problem
from chalicelib.store import accounts

FIRST_SECONDS = 3 * 86_400      # how far back the first time: as long as PayPal tries to deliver
LONGEST_SECONDS = 29 * 86_400   # PayPal's list goes back 30 days; what is older the daily look has found
OVERLAP_SECONDS = 1_800         # an event may appear in the list later than its own instant, and our clock may be minutes ahead of PayPal's
WINDOW_SECONDS = 21_600         # of the list that is read before the cursor moves: what is cut short is read again
SPENT_SHARE = 0.8
MARGIN_SECONDS = 3


def run(*, remaining, limit):
    """{accounts, sent, failed}: what PayPal has made since the last time is in the queue, of every account, or as far as time allows.

    Each account on its own, beginning with another one each time. The cursor moves after a window was read to its end and sent, so a
    crash, an outage or a lack of time only means that the window is read again.
    """
    names = sorted(settings.get().paypal_accounts)
    first, counts = ports.below(len(names)) if names else 0, Counter(accounts=0, sent=0, failed=0)
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


def _follow(account, counts, *, deadline):
    """The cursor of this account stands at now, or as far as could be read."""
    now, before = ports.now(), accounts.sent_until(account)
    since = now - FIRST_SECONDS if before is None else max(before, now - LONGEST_SECONDS)
    while since < now:
        until = min(since + WINDOW_SECONDS, now)
        if not _send(account, since - OVERLAP_SECONDS, until, counts, deadline):
            counts["failed"] += 1
            return
        if not accounts.move_sent(account, before=before, until=until):     # another run is at it
            return
        since = before = until


def _send(account, since, until, counts, deadline):
    """True when every event of the window that concerns us is in the queue. Raises OutOfTime and NotSent."""
    for event in paypal.sent_events(account, since=since, until=until, deadline=deadline):
        if isinstance(event, Unknown):
            log.alarm("sent_events_unread", account=account, why=event.why)
            return False
        if message := _message(event, account):
            queues.send(queues.PAYPAL_EVENTS, message)
            counts["sent"] += 1
    return True


def _message(event, account):
    """The event as the intake would send it, or None; one that cannot be read keeps nobody else waiting."""
    if not isinstance(event.get("event_type"), str):
        return None
    try:
        return thin_paypal(event, account)
    except Problem:
        return None
