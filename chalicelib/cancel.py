"""Cancel at the period's end, and undo: a money intent written first, one effect, the processor read back, a receipt."""
import unicodedata

from chalicelib import connect, log, ports, problem, profile, view
from chalicelib.domain.ids import is_purchase
from chalicelib.domain.offers import Server
from chalicelib.domain.subscription import Subscription
from chalicelib.gateways import queues, stripe
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Unknown
from chalicelib.portal import REASONS
from chalicelib.problem import Problem
from chalicelib.store import ledger, servers

CANCEL, UNDO = "cancel_at_period_end", "undo_cancel"
LONGEST_COMMENT = 500
STALE_SECONDS = 60


def cancel(*, user, subscription_id, reason, comment, deadline):
    """A dated receipt: next charge none, access until the exact end, and the open invoice if there is one.

    Cancelling twice, or at once in two tabs, is one cancellation and the second receipt says so. Raises Problem 400, 404,
    409 or 503; after a time-out the processor was read back, so a receipt is never a guess.
    """
    if reason is not None and reason not in REASONS:
        raise problem.bad_request(f"reason must be one of: {', '.join(REASONS)}.")
    if comment is not None and not _plain(comment):
        raise problem.bad_request(f"comment must be a text of at most {LONGEST_COMMENT} characters.")
    return _change(CANCEL, user, subscription_id, {"reason": reason or "", "comment": comment or ""}, deadline)


def undo(*, user, subscription_id, deadline):
    """A dated receipt: the subscription renews again. Raises Problem 404, 409 (it has ended) or 503."""
    return _change(UNDO, user, subscription_id, {}, deadline)


def _plain(text):
    """True for a text that can be stored and shown: no lone surrogates, no control characters but line breaks and tabs."""
    return (isinstance(text, str) and len(text) <= LONGEST_COMMENT
            and not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in text))


def _change(kind, user, subscription_id, details, deadline):
    found = profile.own_subscription(user, subscription_id)
    if found is None:
        raise problem.not_found()
    row, sub = found
    if is_purchase(sub.key):
        raise Problem(409, "nothing-to-cancel", "There is nothing to cancel", "This was paid once, and is never charged again.")
    now, already = _settled(kind, sub.key, {"actor": f"member:{row.user}", **details}, deadline)
    invoice = _open_invoice(sub.key, deadline) if kind == CANCEL else None
    _look_again(row, kind)
    return _undone(now, already) if kind == UNDO else _cancelled(now, already, invoice, row)


def _settled(kind, key, details, deadline):
    """(subscription read back, already): it is as asked for, under the one open intent of this subscription.

    The intent is in the ledger before anything is read or sent. A crash or a time-out leaves it open: the next try goes on
    with the same idempotency key, so the processor makes the change once. `already` is true for all but its first asker.
    """
    intent, ours = _open(kind, key, details)
    try:
        now = _read(key, deadline)
    except (Problem, OutOfTime):
        if ours:    # nothing was sent under it
            ledger.withdraw_intent(intent)
        raise
    if now.terminal or now.scheduled == (kind == CANCEL):
        # Ours, and somebody acted under it: then it is by this click that it is so.
        already = not ours or ledger.withdraw_intent(intent)
        return _going_on(now), already
    if not ours and not ledger.join_intent(intent):
        return _settled(kind, key, details, deadline)
    answer = _send(kind, now, intent, deadline)
    now = _read(key, deadline)
    if not now.terminal and now.scheduled != (kind == CANCEL):
        _not_made(intent, ours, answer)
        return _settled(kind, key, details, deadline)
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "done", "status": now.status, "end": now.scheduled_end or 0})
    return _going_on(now), not ours and not _abandoned(intent)


def _going_on(now):
    """The subscription, unless it has ended: then Problem 409."""
    if now.terminal:
        raise Problem(409, "has-ended", "It has already ended", "This subscription has ended; nothing is charged any more.",
                      "You can buy the offer again.")
    return now


def _open(kind, key, details):
    """(intent, ours) of this kind. One of another kind that is still under way is waited for, an abandoned one closed."""
    data = {"intent": ports.token(12), "kind": kind, **details}
    intent, ours = ledger.open_intent(key=key, at=ports.now(), data=data)
    if intent.data["kind"] == kind:
        return intent, ours
    if not _abandoned(intent):
        raise _under_way()
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "given_up"})
    return _open(kind, key, details)


def _abandoned(intent):
    """True when whoever opened it is gone: no request lives that long."""
    return ports.now() - intent.at >= STALE_SECONDS


def _read(key, deadline):
    """The subscription as the processor says now. Raises Problem 503, or 409 when its account is disconnected."""
    now = stripe.read_subscription(key, read_at=ports.now(), deadline=deadline)
    if not isinstance(now, Subscription):
        raise connect.unreachable(key)
    return now


def _send(kind, now, intent, deadline):
    key = f"rolekeep-{intent.data['intent']}"
    if kind == CANCEL:
        return stripe.cancel_at_period_end(now.key, reason=intent.data["reason"], comment=intent.data["comment"],
                                           idempotency_key=key, deadline=deadline)
    answer = Done()
    if now.cancel_at_period_end:
        answer = stripe.clear_scheduled_end(now.key, flag=True, idempotency_key=f"{key}-flag", deadline=deadline)
        now = _read(now.key, deadline)
    if now.cancel_at is not None:
        answer = stripe.clear_scheduled_end(now.key, flag=False, idempotency_key=f"{key}-at", deadline=deadline)
    return answer


def _not_made(intent, ours, answer):
    """Nothing, when it is to be begun anew at once; raises Problem 409 or 503 otherwise. The read-back shows no change.

    Without an answer the intent stays open, with its key. An answered failure closes it: the processor keeps a 500 for its
    key for a day, and would answer every further try with it. An old success that was replayed is begun anew.
    """
    if isinstance(answer, InDoubt) and not answer.answered:
        raise _unconfirmed(intent, answer) if ours else _under_way()
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "not_made", "why": getattr(answer, "why", "replayed")})
    if ours or not isinstance(answer, Done):
        raise _unconfirmed(intent, answer)


def _unconfirmed(intent, answer):
    log.alarm("intent_not_made", kind=intent.data["kind"], why=getattr(answer, "why", "read_back"))
    return Problem(503, "not-confirmed", "The change is not confirmed",
                   "Stripe was asked, and the subscription read back afterwards does not show the change.", "Try again in a minute.")


def _under_way():
    return Problem(409, "in-progress", "One moment", "A change of this subscription is still under way.",
                   "Look again in a few seconds.")


def _look_again(row, kind):
    """The row will show it soon: by this message, by the processor's own event, or by the next look."""
    try:
        queues.send(queues.MEMBERS, {"user": row.user, "server": row.server, "cause": f"member:{kind}"}, group=row.server)
    except queues.NotSent as error:
        log.failure("look_not_sent", error)


def _open_invoice(key, deadline):
    try:
        return stripe.open_invoice(key, deadline=deadline)
    except OutOfTime:   # the change is made: the receipt says what it could not learn
        return Unknown("out_of_time")


def _server(row):
    return servers.read(row.server)[0] or Server(row.server, row.server)


def _undone(sub, already):
    renews = min(item.end for item in sub.items)
    return _receipt(sub, already) | {"next_charge": {"at": view.iso(renews)}, "access_until": None, "open_invoice": None,
                                     "text": f"Your subscription goes on. Next charge: {view.words(renews)}."}


def _cancelled(sub, already, invoice, row):
    """The access end is worked out by the rule that the sweep uses: a failed payment may end it before the period does."""
    until = view.meaning(sub, row.holds.values(), _server(row), now=ports.now())["access_until"]
    text = f"Next charge: none. {f'Access until {view.words(until)}.' if until else 'Access has ended.'}"
    if isinstance(invoice, Unknown):
        text, invoice = f"{text} Stripe did not say whether an invoice is still open.", None
    elif invoice:
        text += f" One invoice is still open: {view.money(invoice)}."
    return _receipt(sub, already) | {"next_charge": "none", "access_until": view.iso(until), "open_invoice": invoice, "text": text}


def _receipt(sub, already):
    return {"at": view.iso(ports.now()), "subscription": sub.id, "already": already, "read_back": sub.status}
