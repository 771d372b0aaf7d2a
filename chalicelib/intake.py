"""The webhook intake: size, signature over the raw bytes, then one thin message to the queue. Nothing else is kept.

Imports nothing heavy: Stripe's public signature scheme (docs.stripe.com/webhooks, "verify manually") is a few lines; the
SDK is the oracle in the tests. PayPal's needs certificates (paypal_signature), loaded with its first delivery.
"""
import hashlib
import hmac
import json
import re
import threading
from collections import deque

from chalicelib import log, paypal_signature, ports, problem, settings
from chalicelib.domain import ids
from chalicelib.gateways import queues

CONNECT = "connect"     # the endpoint for events of connected accounts; the other one is `operator`, for the operator's own
LARGEST_BODY = 256 * 1024
TOLERANCE_SECONDS = 300
_LARGEST_HEADER = 4_096
HINTS_A_MINUTE = 60     # unverifiable deliveries accepted in a minute and process; anybody can make some, PayPal's own come again

# What each event type concerns: the kind of thing, and its id in the event's object. Everything else is ignored.
_CONCERNS = {
    **{f"checkout.session.{what}": lambda o: _bought(o) for what in ("completed", "async_payment_succeeded", "async_payment_failed")},
    **{f"customer.subscription.{what}": lambda o: ("subscription", o.get("id")) for what in (
        "created", "updated", "deleted", "paused", "resumed", "trial_will_end", "pending_update_applied",
        "pending_update_expired")},
    **{f"invoice.{what}": lambda o: ("subscription", _invoice_subscription(o)) for what in (
        "paid", "payment_failed", "payment_action_required", "marked_uncollectible", "voided")},
    "charge.refunded": lambda o: ("charge", o.get("id")),
    **{f"refund.{what}": lambda o: ("charge", o.get("charge")) for what in ("created", "updated", "failed")},
    **{f"charge.dispute.{what}": lambda o: ("charge", o.get("charge")) for what in (
        "created", "updated", "closed", "funds_withdrawn", "funds_reinstated")},
    # Its object is the application: the account stands at the top of the event only (docs.stripe.com/connect/webhooks).
    "account.application.deauthorized": lambda o: ("account", None),
}

STRIPE_TYPES = tuple(_CONCERNS)

# The same for PayPal (developer.paypal.com/docs/subscriptions/reference/webhooks; RE-ACTIVATED and RISK.DISPUTE are older names that
# still come). BILLING.SUBSCRIPTION.CREATED is not here: nobody has approved it yet.
_PAYPAL_CONCERNS = {
    **{f"BILLING.SUBSCRIPTION.{what}": lambda r: ("subscription", r.get("id")) for what in (
        "ACTIVATED", "UPDATED", "EXPIRED", "CANCELLED", "SUSPENDED", "RE-ACTIVATED", "PAYMENT.FAILED")},
    # A sale without an agreement is something that a shop on the same account sold.
    "PAYMENT.SALE.COMPLETED": lambda r: ("sale", r.get("id") if r.get("billing_agreement_id") else None),
    **{f"PAYMENT.SALE.{what}": lambda r: ("sale", r.get("id")) for what in ("DENIED", "PENDING")},
    # Real ones have carried neither the sale nor the agreement: then the refund leads to it.
    **{f"PAYMENT.SALE.{what}": lambda r: ("sale", r["sale_id"]) if r.get("sale_id") else ("refund", r.get("id")) for what in ("REFUNDED", "REVERSED")},
    **{kind: lambda r: ("dispute", r.get("dispute_id") or r.get("id")) for kind in (
        "CUSTOMER.DISPUTE.CREATED", "CUSTOMER.DISPUTE.UPDATED", "CUSTOMER.DISPUTE.RESOLVED", "RISK.DISPUTE.CREATED")},
}
_hints, _hints_lock = deque(), threading.Lock()     # when one was accepted, in the last minute


def stripe(body, signature, *, endpoint=ids.OPERATOR):
    """The event is in the queue, or it does not concern us; answers {"received": true, "queued": bool}.

    `body` raw bytes, `signature` the Stripe-Signature header or None, `endpoint` operator or connect. Raises Problem 400
    (signature, age, shape), 404 (no connect endpoint here) and 413; NotSent when the queue did not take it: the caller
    answers 5xx and Stripe delivers again.
    """
    secrets = settings.get().stripe_webhook_secrets if endpoint == ids.OPERATOR else settings.get().stripe_connect_webhook_secrets
    if not secrets:
        raise problem.not_found()
    if len(body) > LARGEST_BODY:
        raise problem.too_large()
    verify_stripe(body, signature, secrets=secrets, wall=ports.wall())
    return _queued(queues.STRIPE_EVENTS, thin_stripe(_stripe_event(body), endpoint))


def paypal(body, headers, *, account):
    """The event is in the queue, or it does not concern us; answers as `stripe`. Unverifiable ones go there as a hint.

    `headers` anything with `get`, `account` the merchant id in the address. Raises Problem 400 (signature, certificate, age,
    shape), 404 (no such account here), 413, and 503 (too many that cannot be verified); NotSent as `stripe`.
    """
    known = settings.get().paypal_accounts.get(account)
    if known is None:
        raise problem.not_found()
    if len(body) > LARGEST_BODY:
        raise problem.too_large()
    verified = _paypal_verified(body, headers, known)
    message = thin_paypal(_paypal_event(body), account)
    if message and not verified:
        message["hint"] = True
    return _queued(queues.PAYPAL_EVENTS, message)


def _queued(queue, message):
    if message is None:
        return {"received": True, "queued": False}
    queues.send(queue, message)
    return {"received": True, "queued": True}


def _paypal_verified(body, headers, known):
    """True when it is PayPal's, False when it can only be a hint."""
    wall = ports.wall()
    try:
        paypal_signature.verify(body, headers, webhook_ids=known.webhook_ids, wall=wall)
        return True
    except paypal_signature.Invalid as wrong:
        log.info("intake_refused", why=str(wrong))
        raise problem.Problem(400, "bad-signature", "The signature is not right",
                              "The delivery is not signed by PayPal for this webhook, or it is too old.") from None
    except paypal_signature.Unknown as unknown:
        _accept_hint(wall)
        log.alarm("intake_unverified", why=str(unknown), account=known.id)
        return False


def _accept_hint(wall):
    """One more may be accepted this minute. Raises Problem 503: PayPal delivers again for three days, a forger gives up."""
    with _hints_lock:
        while _hints and _hints[0] <= wall - 60:
            _hints.popleft()
        if len(_hints) >= HINTS_A_MINUTE:
            raise problem.try_later("PayPal's certificate")
        _hints.append(wall)


def verify_stripe(body, signature, *, secrets, wall):
    """Nothing, when one of the header's v1 signatures over `t.body` is right for one of the secrets and `t` is near.

    Raises Problem 400 otherwise, always the same one. Times in the future are refused as old ones are (the SDK lets them pass).
    """
    instant, given = _signature_parts(signature)
    if instant is None or abs(wall - int(instant)) > TOLERANCE_SECONDS or not given:
        raise _bad_signature("age_or_form")
    right = [hmac.new(secret.encode(), instant.encode() + b"." + body, hashlib.sha256).hexdigest() for secret in secrets]
    if not any([hmac.compare_digest(one, other) for one in right for other in given]):
        raise _bad_signature("no_match")


def _signature_parts(header):
    if not isinstance(header, str) or len(header) > _LARGEST_HEADER or not header.isascii():
        return None, []
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    instants = [value for name, value in pairs if name == "t"]
    if len(instants) != 1 or not re.fullmatch(r"[0-9]{1,12}", instants[0]):
        return None, []
    return instants[0], [value for name, value in pairs if name == "v1" and re.fullmatch(r"[0-9a-f]{64}", value)]


def _bad_signature(why):
    log.info("intake_refused", why=why)
    return problem.Problem(400, "bad-signature", "The signature is not right",
                           "The delivery is not signed with this endpoint's secret, or its time is not within five minutes.")


def _stripe_event(body):
    event = _parse(body)
    if event.get("object") != "event" or not isinstance(event.get("type"), str):
        raise _odd("not_an_event")
    return event


def _paypal_event(body):
    event = _parse(body)
    if not isinstance(event.get("event_type"), str):
        raise _odd("not_an_event")
    return event


def _parse(body):
    try:
        event = json.loads(body.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _odd("not_json") from None
    if not isinstance(event, dict):
        raise _odd("not_an_event")
    return event


def _no_duplicates(pairs):
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _no_constant(_):
    raise ValueError("NaN and Infinity are no JSON")


def thin_stripe(event, endpoint):
    """{event, type, account, kind, id} for the queue, or None for an event that concerns nothing of ours.

    `endpoint` is in it only when the event came to the wrong one: whose account it is cannot be looked up here, so the
    worker parks it.
    """
    find = _CONCERNS.get(event["type"])
    if find is None:
        return _ignored("type", event["type"])
    if event.get("livemode") is not settings.get().stripe_livemode:
        log.alarm("intake_ignored", why="livemode", kind=event["type"])
        return None
    try:
        kind, name = find(event["data"]["object"])
    except (KeyError, TypeError, AttributeError):
        raise _odd("no_object") from None
    if kind == "account":
        name = event.get("account")
    if name is None:
        return _ignored(f"no_{kind}", event["type"])
    if isinstance(name, dict):
        name = name.get("id")
    account = event.get("account") or ids.OPERATOR
    if not (ids.valid("event", event.get("id")) and ids.valid(kind, name) and ids.valid("account", account)):
        raise _odd("ids")
    message = {"event": event["id"], "type": event["type"], "account": account, "kind": kind, "id": name}
    if (account == ids.OPERATOR) == (endpoint == ids.OPERATOR):
        return message
    log.alarm("intake_wrong_endpoint", kind=event["type"], why=endpoint)
    return message | {"endpoint": endpoint}


def thin_paypal(event, account):
    """{event, type, account, kind, id} for the queue, or None for an event that concerns nothing of ours.

    Only the id is taken: the account is the address's, and amounts, states and dates are asked of PayPal.
    """
    find, resource = _PAYPAL_CONCERNS.get(event["event_type"]), event.get("resource")
    if find is None:
        return _ignored("type", event["event_type"])
    if not isinstance(resource, dict):
        raise _odd("no_object")
    kind, name = find(resource)
    if name is None:
        return _ignored(f"no_{kind}", event["event_type"])
    if not (ids.valid("delivery", event.get("id")) and ids.valid("agreement" if kind == "subscription" else kind, name)):
        raise _odd("ids")
    return {"event": event["id"], "type": event["event_type"], "account": account, "kind": kind, "id": name}


def _ignored(why, kind):
    log.info("intake_ignored", why=why, kind=kind[:60].encode("ascii", "replace").decode())


def _bought(session):
    """What a Checkout Session brought: its subscription, or itself when it was paid once."""
    return ("purchase", session.get("id")) if session.get("mode") == "payment" else ("subscription", session.get("subscription"))


def _invoice_subscription(invoice):
    """Since 2025-03-31.basil an invoice names its subscription under `parent`, before that on top."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    return details.get("subscription") or invoice.get("subscription")


def _odd(why):
    log.alarm("intake_refused", why=why)
    return problem.bad_request("The body is signed, but it is not an event that can be read.")
