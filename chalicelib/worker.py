"""The queue functions: each record is looked at on its own, and only those that failed come back."""
import json
import re

from chalicelib import audit, connect, log, ports
from chalicelib.domain import ids
from chalicelib.domain.holds import Hold
from chalicelib.domain.paypal import PAID
from chalicelib.gateways import paypal, processors, queues
from chalicelib.gateways.outcomes import OutOfTime, Unknown
from chalicelib.reconcile import Look, reconcile
from chalicelib.store import accounts, links, members

VERSIONS = (queues.MESSAGE_VERSION - 1, queues.MESSAGE_VERSION)
RECORD_SECONDS = 30     # a record is not started with less than this left: one fetch, one role change and the writes fit
UNKNOWN_TRIES = 12
CHECKOUT = "checkout"   # the event of our own question about a checkout that was begun: nobody else may ever tell us of it
CHECKOUT_TRIES = 20     # three and a half hours; PayPal's approval page does not live longer
NOT_CLAIMED = "not_claimed"
LATE_PAYMENT = "checkout.session.async_payment_succeeded"   # a bank debit takes days
LACKS = {"stripe_404": "unknown_subscription", "paypal_404": "unknown_subscription", "paypal_no_account": "unknown_account", "other_mode": "unknown_subscription", "unreadable": "unknown_subscription",
         NOT_CLAIMED: "unknown_link"}     # why: what it is parked as in the end
MARGIN_SECONDS = 3      # what is left of the function's time after the last outside call


class Unusable(Exception):
    """The message is not one of ours, or of a version this code does not know: it goes to the dead-letter queue."""


def run(records, *, handle, remaining):
    """{"batchItemFailures": [...]}: the records that failed, or that there was no time to start; the others are done.

    `records` are SQS records as Lambda delivers them, `handle(message, deadline)` does one, `remaining()` tells the
    function's time left in seconds.
    """
    failed = []
    for record in records:
        if remaining() < RECORD_SECONDS:
            failed.append(record["messageId"])
            continue
        try:
            handle(_message(record["body"]), deadline=ports.wall() + remaining() - MARGIN_SECONDS)
        except Exception as error:
            log.failure("record_failed", error, message_id=record["messageId"])
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def stripe_event(message, *, deadline):
    """The member whom this event concerns has been looked at, or the event is parked, or comes again by itself."""
    message = _newest(message)
    account, kind = _checked(message, "account", "account"), message.get("kind")
    _checked(message, "event", "event")
    if "endpoint" in message:   # it came where events of this account do not belong (intake): never state
        return audit.park_event(message, "wrong_endpoint" if accounts.serves(account) else "unknown_account", at=ports.now())
    if kind == "account":
        return _account(message, account, deadline)
    if kind not in (*ids.REASONS, "charge"):
        raise Unusable("no usable kind")
    key = ids.key(account, _checked(message, "id", kind))
    hold = None
    if kind == "charge":
        hold = _charged(message, key, account, deadline)
        if hold is None:
            return None
        key = hold.reason
    return _look_at(message, key, account, deadline, hold=hold)


def paypal_event(message, *, deadline):
    """The members whom this PayPal event concerns have been looked at, or it is parked, or comes again by itself.

    A hint (`hint`: its delivery could not be verified) is read like any other event, but at a pace, and what it leads to
    nowhere is forgotten: anybody may send one.
    """
    account, kind = _checked(message, "account", "merchant"), message.get("kind")
    _checked(message, "event", "delivery")
    if kind not in _NAMED_BY_PAYPAL:
        raise Unusable("no usable kind")
    name = _checked(message, "id", _NAMED_BY_PAYPAL[kind])
    if message.get("hint") and not accounts.take_hint(account, wall=ports.wall()):
        return _again(message, "hints_paced")
    if kind == "subscription":
        return _look_at(message, ids.key(account, name), account, deadline)
    for sale in _sales(message, account, kind, name, deadline):
        key = ids.key(account, sale)
        about = message if kind == "sale" else message | {"kind": "sale", "id": sale}
        hold = _charged(about, key, account, deadline)
        if hold and message.get("type") == PAID:    # nothing is wrong with it: what it paid for is looked at
            _look_at(message | {"kind": "subscription", "id": ids.parse(hold.reason)[2]}, hold.reason, account, deadline)
        elif hold:
            _look_at(about, hold.reason, account, deadline, hold=hold)
    return None


_NAMED_BY_PAYPAL = {"subscription": "agreement", "sale": "sale", "refund": "refund", "dispute": "dispute"}


def _sales(message, account, kind, name, deadline):
    """The sales that the event is about: itself, the one that was refunded, or those that are disputed; none when it must come again."""
    if kind == "sale":
        return [name]
    ask = paypal.sale_of_refund if kind == "refund" else paypal.sales_of_dispute
    try:
        found = ask(account, name, deadline=deadline)
    except OutOfTime:
        found = Unknown("out_of_time")
    if isinstance(found, Unknown):
        _again(message, found.why)
        return []
    if not found:
        log.info("charge_ignored", why="not_for_a_role", kind=message.get("type", ""))
    return [found] if isinstance(found, str) and found else found or []


def _look_at(message, key, account, deadline, *, hold=None):
    """The member whom this subscription or purchase leads to has been looked at, or the event is parked, or comes again by itself."""
    found = links.of_subscription(key)
    if found is None:
        found = _identify(message, key, account, deadline)
    if found is None:
        return None
    if found.user is None:  # nobody is left whom it could concern; but money that comes only now is somebody's to give back
        log.info("erased_member", cause=message["event"])
        return audit.park_event(message, "paid_after_erase", at=ports.now()) if message.get("type") == LATE_PAYMENT else None
    try:
        reconcile(Look(found.user, found.server, _cause(message["event"], message), subscription=key, hold=hold,
                       bound_at=found.made_at), deadline=deadline)
    except members.Erased:  # money was taken and nobody gets the role: somebody is told, and the link names nobody any more
        audit.park_event(message, "paid_after_erase", at=ports.now())
        links.bury(key, now=ports.now())
    return None


def member(message, *, deadline):
    """The member has been looked at; with `look`, Discord was asked what it shows."""
    user, server = (_checked(message, field, "snowflake") for field in ("user", "server"))
    cause = str(message.get("cause", "sweep"))[:60]
    reconcile(Look(user, server, cause, look=message.get("look") is True, erase=_erasing(message), known=True), deadline=deadline)


def _erasing(message):
    """{as, asked} when this member is to be erased: a fresh pseudonym, and when they asked for it."""
    if message.get("erase") is not True:
        return None
    if not isinstance(message.get("asked"), int):
        raise Unusable("no usable asked")
    return {"as": ports.token(12), "asked": message["asked"]}


def _account(message, account, deadline):
    """The account's state here is as Stripe says, or the message comes again by itself."""
    try:
        answer = connect.deauthorized(_checked(message, "id", "account"), event=message["event"], deadline=deadline)
    except OutOfTime:
        answer = Unknown("out_of_time")
    if isinstance(answer, Unknown):
        _again(message, answer.why)


def _charged(message, key, account, deadline):
    """A Hold that says what this charge paid for, now linked; None when it is nothing of ours, was parked, or must come again."""
    if known := links.of_charge(key):
        return Hold(key, *known)
    if not accounts.serves(account):
        return _park(message, "unknown_account")
    try:
        paid = processors.of(key).paid_for(key, deadline=deadline)
    except OutOfTime:
        paid = Unknown("out_of_time")
    if isinstance(paid, Unknown):
        return _again(message, paid.why)
    if paid is None:
        return log.info("charge_ignored", why="not_for_a_role", kind=message["type"])
    kind, name, until = paid
    reason = ids.key(account, name) if kind == "subscription" else _claimed(message, name, account)
    if reason is None:
        return None
    links.link_charge(key, reason=reason, until=until, now=ports.now())
    return Hold(key, reason, until)


def _claimed(message, intent, account):
    """The key of the purchase that claimed this checkout intent, or None when the event was parked or must come again."""
    bound = links.of_intent(intent)
    if bound is None or bound.account != account:
        return audit.park_event(message, "unknown_link" if bound is None else "other_account", at=ports.now(), intent=intent)
    if bound.claimed_by is None:    # the event of the purchase itself is still to come
        return _again(message, NOT_CLAIMED, intent=intent)
    return bound.claimed_by


def _cause(event, message):
    """The event's id, and its type where that looks like one: what a person sees as the cause of what was done."""
    kind = message.get("type")
    return f"{event} {kind}" if isinstance(kind, str) and re.fullmatch(r"[A-Za-z_.-]{1,60}", kind) else event


def _identify(message, key, account, deadline):
    """The member of a subscription seen for the first time, now linked; None when it was parked or must come again.

    The subscription names a checkout intent; that is a claim, and our own intent row is the binding. The link is written
    before the request that needs it: a crash in between leaves nothing that a redelivery does not repeat.
    """
    if not accounts.serves(account):
        return _park(message, "unknown_account")
    try:
        intent = processors.of(key).intent_of(key, deadline=deadline)
    except OutOfTime:
        intent = Unknown("out_of_time")
    if isinstance(intent, Unknown):
        return _again(message, intent.why)
    bound = links.of_intent(intent, now=ports.now()) if intent else None
    if bound is None:
        return _park(message, "unknown_link", intent=intent)
    if bound.account != account or not accounts.serves(account, bound.server):
        return _park(message, "other_account", intent=intent)
    if not links.claim_intent(intent, key):
        return _park(message, "intent_claimed", intent=intent)
    links.link_subscription(key, user=bound.user, server=bound.server, offer=bound.offer, account=account, now=bound.made_at)
    return bound


def _park(message, why, *, intent=""):
    """The event is kept, and somebody told; but not a hint: whoever sends forged ones would fill the ledger."""
    if message.get("hint"):
        return log.info("hint_ignored", why=why)
    return audit.park_event(message, why, at=ports.now(), intent=intent)


def _again(message, why, *, intent=""):
    """The same message comes again later, for as long as the processor cannot be asked: a wait fills no dead letters.

    What the processor still does not know after about two hours, or answers in a way that nobody can read, is parked, and so is a charge whose purchase nobody has told us of
    by then: no outage looks like that. A checkout that nobody has approved is forgotten, and a hint comes twelve times at most.
    """
    tries = min(int(message.get("tries", 0)), CHECKOUT_TRIES)
    if why == paypal.NOT_APPROVED and tries >= CHECKOUT_TRIES or message["event"] == CHECKOUT and why == "paypal_404":
        return log.info("never_approved")
    if why in LACKS and tries >= UNKNOWN_TRIES or message.get("hint") and (why in LACKS or tries >= UNKNOWN_TRIES):
        return _park(message, LACKS.get(why, why), intent=intent)
    delay = min(10 * 2 ** tries, queues.LONGEST_DELAY)
    queues.send(queues.events_of(message["account"]), message | {"tries": tries + 1}, delay=delay)
    if why in (paypal.NOT_APPROVED, "hints_paced"):    # nothing is wrong, or anybody could make alarms
        return log.info("identify_later", why=why, seconds=delay)
    return log.alarm("identify_later", why=why, seconds=delay)


def _message(body):
    try:
        message = json.loads(body)
    except ValueError:
        raise Unusable("not JSON") from None
    if not isinstance(message, dict) or message.get("v") not in VERSIONS:
        raise Unusable("not a message of a known version")
    return message


def _newest(message):
    """The message in today's form: version 1 had `subscription` instead of `kind` and `id`."""
    if message["v"] > 1 or "subscription" not in message:
        return message
    return {name: value for name, value in message.items() if name not in ("v", "subscription")} | {
        "kind": "subscription", "id": message["subscription"]}


def _checked(message, field, kind):
    if not ids.valid(kind, message.get(field)):
        raise Unusable(f"no usable {field}")
    return message[field]
