"""Cancel at the period's end or now, and undo: a money intent written first, one effect, the processor read back, a receipt."""
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from chalicelib import checkout, connect, log, ports, problem, profile, settings, view
from chalicelib.domain import ids
from chalicelib.domain.offers import Server
from chalicelib.domain.subscription import GIVEN_UP, RUNNING_OUT, Subscription, remembering
from chalicelib.gateways import paypal, processors, queues, stripe
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Unknown
from chalicelib.portal import REASONS
from chalicelib.problem import Problem
from chalicelib.store import ledger, members, servers

CANCEL, UNDO, CANCEL_NOW = "cancel_at_period_end", "undo_cancel", "cancel_now"
_PAYPAL_REASON = "Cancelled by the subscriber"  # PayPal wants one, and shows it to both sides; ours stays with us
_WHEN = PERIOD_END, NOW = "period_end", "now"
LONGEST_COMMENT = 500
STALE_SECONDS = 60


@dataclass(frozen=True)
class Ask:
    """What somebody asks of one subscription, `key`, of the membership `row`. `details` {actor, reason, comment} go into the
    intent; `check` raises a Problem for a subscription, as freshly read, of which this may not be asked.
    """
    kind: str
    row: members.Row
    key: str
    details: dict
    check: Callable = lambda now: None

    def is_so(self, now):
        """True when the subscription is as asked for. Nothing is scheduled any more for one that has ended."""
        return now.ended if self.kind == CANCEL_NOW else not now.ended and now.scheduled == (self.kind == CANCEL)


def cancel(*, user, subscription_id, reason, comment, deadline, when=PERIOD_END, actor=None):
    """A dated receipt: next charge none, access until the exact end, and the open invoice if there is one.

    `when`: `period_end`, or `now` where every offer that the subscription buys allows it: access ends at once and nothing is
    refunded. `actor`: who asks, the member unless it says otherwise. Cancelling twice, or at once in two tabs or by two
    people, is one cancellation and the second receipt says so. Raises Problem 400, 403, 404, 409 or 503; after a time-out the
    processor was read back, so a receipt is never a guess.
    """
    if reason is not None and reason not in REASONS:
        raise problem.bad_request(f"reason must be one of: {', '.join(REASONS)}.")
    if comment is not None and not _plain(comment):
        raise problem.bad_request(f"comment must be a text of at most {LONGEST_COMMENT} characters.")
    if when not in _WHEN:
        raise problem.bad_request(f"when must be one of: {', '.join(_WHEN)}.")
    row, sub = _own(user, subscription_id)
    details = {"actor": actor or _member(user), "reason": reason or "", "comment": comment or ""}
    if when == PERIOD_END:
        now, already = _change(Ask(CANCEL, row, sub.key, details), deadline)
        said = "The change of plan that was planned is dropped." if sub.schedule else ""
        return _cancelled(now, already, _open_invoice(sub.key, deadline), row, said=said)
    server = _server(row)
    _check_now(server, sub)
    now, already = _change(Ask(CANCEL_NOW, row, sub.key, details, lambda now: _check_now(server, now)), deadline)
    return _cancelled(now, already, _open_invoice(sub.key, deadline), row, said="Nothing is refunded.")


def undo(*, user, subscription_id, deadline):
    """{receipt}, dated: the subscription renews again; or, at PayPal, {url} where the member approves a new one (`_anew`).

    Raises Problem 404, 409 (it has ended) or 503.
    """
    row, sub = _own(user, subscription_id)
    if sub.processor == ids.PAYPAL:
        return {"url": _anew(row, sub, deadline)}
    return {"receipt": _undone(*_change(Ask(UNDO, row, sub.key, {"actor": _member(user)}), deadline))}


def _anew(row, sub, deadline):
    """The address at PayPal where the member approves a subscription to the same offer that begins when the paid time of this one ends.

    PayPal takes no cancellation back. Nothing is charged before that instant; until the member approves it, nothing has changed.
    """
    now = _read(Ask(UNDO, row, sub.key, {}), deadline)
    if now.ended or now.status == RUNNING_OUT and now.cancel_at <= ports.now():
        raise _has_ended()
    server = _server(row)
    bought = next((found[0] for item in now.items if (found := server.bought(now, item))), None)
    if now.status != RUNNING_OUT:
        raise Problem(409, "not-cancelled", "There is nothing to undo", "This subscription is not cancelled.")
    if bought is None:
        raise Problem(409, "not-sold", "This is not sold any more", "The server does not sell this offer any more, so it cannot go on.",
                      "You keep access until the end of what you have paid.")
    return checkout.anew(row, server, bought, now, deadline=deadline)


def _plain(text):
    """True for a text that can be stored and shown: no lone surrogates, no control characters but line breaks and tabs."""
    return (isinstance(text, str) and len(text) <= LONGEST_COMMENT
            and not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in text))


def _member(user):
    return f"member:{user}"


def _own(user, subscription_id):
    found = profile.own_subscription(user, subscription_id)
    if found is None:
        raise problem.not_found()
    if ids.is_purchase(found[1].key):
        raise Problem(409, "paid-once", "There is nothing to cancel", "This was paid once: it does not renew and charges nothing more.")
    return found


def _check_now(server, sub):
    """Nothing, when the subscription may end at once, has ended, or has not been read yet. Raises Problem 403."""
    if sub.items and not sub.ended and not server.ends_at_once(sub):
        raise Problem(403, "not-now", "It cannot be cancelled at once",
                      "The server's owner lets subscriptions to this offer end with the period that is paid, not before.",
                      "Cancel at the end of the period: you keep access until then and are not charged again.")


def _change(ask, deadline):
    """(subscription read back, already): it is as asked for, and the row will show it soon."""
    now, already = settled(ask, deadline)
    _look_again(ask)
    return now, already


def settled(ask, deadline):
    """(subscription read back, already): it is as asked for, under the one open intent of this subscription.

    The intent is in the ledger before anything is read or sent. A crash or a time-out leaves it open: the next try goes on
    with the same idempotency key, so the processor makes the change once. `already` is true for all but its first asker.
    """
    intent, ours = _open(ask)
    try:
        now = _read(ask, deadline)
        ask.check(now)
    except (Problem, OutOfTime):
        if ours:    # nothing was sent under it
            ledger.withdraw_intent(intent)
        raise
    if now.ended or ask.is_so(now):
        # Ours, and somebody acted under it: then it is by this click that it is so.
        already = not ours or ledger.withdraw_intent(intent)
        if not ours and _abandoned(intent):     # whoever began it never learned that it took effect
            _close_done(intent, now)
        return _going_on(ask, now), already
    if not ours and not ledger.join_intent(intent):
        return settled(ask, deadline)
    answer = _send(ask, now, intent, deadline)
    now = _read(ask, deadline, known=now)
    if ask.kind == CANCEL_NOW and now.status == RUNNING_OUT:
        now = _give_up(ask, now)
    if not now.ended and not ask.is_so(now):
        _not_made(ask, intent, ours, answer)
        return settled(ask, deadline)
    _close_done(intent, now)
    if ask.kind == UNDO and now.ended:
        raise _has_ended()
    return now, not ours and not _abandoned(intent)


def _close_done(intent, now):
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "done", "status": now.status, "end": now.scheduled_end or 0})


def _going_on(ask, now):
    """The subscription, unless it has ended and that was not asked for: then Problem 409."""
    if now.ended and ask.kind != CANCEL_NOW:
        raise _has_ended()
    return now


def _has_ended():
    return Problem(409, "has-ended", "It has already ended", "This subscription has ended; nothing is charged any more.",
                   "You can buy the offer again.")


def _open(ask):
    """(intent, ours) of this kind. One of another kind that is still under way is waited for, an abandoned one closed."""
    data = {"intent": ports.token(12), "kind": ask.kind, **ask.details}
    intent, ours = ledger.open_intent(key=ask.key, at=ports.now(), data=data)
    if intent.data["kind"] == ask.kind:
        return intent, ours
    if not _abandoned(intent):
        raise _under_way()
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "given_up"})
    return _open(ask)


def _abandoned(intent):
    """True when whoever opened it is gone: no request lives that long."""
    return ports.now() - intent.at >= STALE_SECONDS


def _read(ask, deadline, *, known=None):
    """The subscription as the processor says now, and as we remember it (`known`: as read before). Raises Problem 503, or 409 when
    its account is disconnected.
    """
    now = processors.of(ask.key).read_subscription(ask.key, read_at=ports.now(), deadline=deadline)
    if not isinstance(now, Subscription):
        raise connect.unreachable(ask.key)
    return remembering(known or ask.row.subs[ask.key], now, fixed=ask.row.ends.get(ask.key))


def _give_up(ask, now):
    """The rest of what was paid is given up: PayPal has no such thing, so it is stored here, after the cancellation was read back.

    A crash before it: the subscription is cancelled and runs to the end of what is paid; asking again goes on here.
    """
    members.fix_end(ask.row.user, ask.row.server, ask.key, GIVEN_UP, now=ports.now(), lease_seconds=settings.LEASE_SECONDS)
    return remembering(now, now, fixed=GIVEN_UP)


def _send_paypal(ask, now, deadline):
    """PayPal is asked to charge nothing more. What is paid is stored first, because PayPal forgets it with the cancellation."""
    if now.status == RUNNING_OUT:
        return Done()
    if now.paid_through is not None:
        members.fix_end(ask.row.user, ask.row.server, ask.key, now.paid_through, now=ports.now(), lease_seconds=settings.LEASE_SECONDS)
    return paypal.cancel(ask.key, reason=_PAYPAL_REASON, deadline=deadline)


def _send(ask, now, intent, deadline):
    if now.processor == ids.PAYPAL:
        return _send_paypal(ask, now, deadline)
    kind, key = ask.kind, f"rolekeep-{intent.data['intent']}"
    if kind == CANCEL_NOW:
        return stripe.cancel_now(now.key, reason=intent.data["reason"], comment=intent.data["comment"], deadline=deadline)
    if kind == CANCEL:
        if now.schedule:    # a crash after it: the next try finds none, and cancels
            released = stripe.release_schedule(now.key, now.schedule, idempotency_key=f"{key}-release", deadline=deadline)
            if not isinstance(released, Done):
                return released
        return stripe.cancel_at_period_end(now.key, reason=intent.data["reason"], comment=intent.data["comment"],
                                           idempotency_key=key, deadline=deadline)
    answer = Done()
    if now.cancel_at_period_end:
        answer = stripe.clear_scheduled_end(now.key, flag=True, idempotency_key=f"{key}-flag", deadline=deadline)
        now = _read(ask, deadline)
    if now.cancel_at is not None:
        answer = stripe.clear_scheduled_end(now.key, flag=False, idempotency_key=f"{key}-at", deadline=deadline)
    return answer


def _not_made(ask, intent, ours, answer):
    """Nothing, when it is to be begun anew at once; raises Problem 409 or 503 otherwise. The read-back shows no change.

    Without an answer the intent stays open, with its key. An answered failure closes it: the processor keeps a 500 for its
    key for a day, and would answer every further try with it. An old success that was replayed is begun anew.
    """
    if isinstance(answer, InDoubt) and not answer.answered:
        raise _unconfirmed(ask, answer) if ours else _under_way()
    ledger.close_intent(intent, at=ports.now(), outcome={"result": "not_made", "why": getattr(answer, "why", "replayed")})
    if ours or not isinstance(answer, Done):
        raise _unconfirmed(ask, answer)


def _unconfirmed(ask, answer):
    log.alarm("intent_not_made", kind=ask.kind, why=getattr(answer, "why", "read_back"))
    return Problem(503, "not-confirmed", "The change is not confirmed",
                   f"{processors.name(ask.key)} was asked, and the subscription read back afterwards does not show the change.",
                   "Try again in a minute.")


def _under_way():
    return Problem(409, "in-progress", "One moment", "A change of this subscription is still under way.",
                   "Look again in a few seconds.")


def _look_again(ask):
    """The row will show it soon: by this message, by the processor's own event, or by the next look."""
    cause = f"{ask.details['actor'].partition(':')[0]}:{ask.kind}"
    try:
        queues.send(queues.MEMBERS, {"user": ask.row.user, "server": ask.row.server, "cause": cause}, group=ask.row.server)
    except queues.NotSent as error:
        log.failure("look_not_sent", error)


def _open_invoice(key, deadline):
    try:
        return processors.of(key).open_invoice(key, deadline=deadline)
    except OutOfTime:   # the change is made: the receipt says what it could not learn
        return Unknown("out_of_time")


def _server(row):
    return servers.read(row.server)[0] or Server(row.server, row.server)


def _undone(sub, already):
    renews = min(item.end for item in sub.items)
    return _receipt(sub, already) | {"next_charge": {"at": view.iso(renews)}, "access_until": None, "open_invoice": None,
                                     "text": f"Your subscription goes on. Next charge: {view.words(renews)}."}


def _cancelled(sub, already, invoice, row, *, said=""):
    """The access end is worked out by the rule that the sweep uses: a failed payment may end it before the period does."""
    until = view.meaning(sub, row.holds.values(), _server(row), now=ports.now())["access_until"]
    begins = row.subs[sub.key].starts_at
    none = "It will not begin." if begins is not None and ports.now() < begins else "Access has ended."
    text = f"Next charge: none. {f'Access until {view.words(until)}.' if until else none}{said and ' '}{said}"
    if isinstance(invoice, Unknown):
        text, invoice = f"{text} Stripe did not say whether an invoice is still open.", None
    elif invoice:
        text += f" One invoice is still open: {view.money(invoice)}."
    return _receipt(sub, already) | {"next_charge": "none", "access_until": view.iso(until), "open_invoice": invoice, "text": text}


def _receipt(sub, already):
    return {"at": view.iso(ports.now()), "subscription": sub.id, "already": already, "read_back": sub.status}
