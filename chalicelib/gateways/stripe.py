"""Stripe through the `stripe` package, API version 2026-10-28.endive (the one that stripe 16.1.0 pins).

No retries inside a call: a failed read is unknown and comes again by state; a failed write is read back before anything
is repeated, and carries the idempotency key of its intent. Every call names its account: the operator's own, or a connected
one, which is called with our key and the header Stripe-Account (docs.stripe.com/api/connected-accounts).
"""
import functools

from chalicelib import ports, settings
from chalicelib.domain import holds, ids
from chalicelib.domain.subscription import Unreadable, deciding_invoice, from_checkout, from_stripe
from chalicelib.gateways import wire
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Refused, Unknown

API_VERSION = "2026-10-28.endive"


@functools.cache
def _client():
    import logging

    import stripe
    logging.getLogger("stripe").setLevel(logging.CRITICAL)  # it logs URLs and Stripe's messages, which may quote e-mails
    return stripe.StripeClient(
        settings.get().stripe_api_key, stripe_version=API_VERSION, max_network_retries=0,
        base_addresses={"api": settings.get().stripe_api_base},
        http_client=stripe.RequestsClient(timeout=wire.TIMEOUT, session=wire.session()))


def read_subscription(key, *, read_at, deadline):
    """The subscription or purchase in normal form, or Unknown. Any failure, 401, 403 and 404 included, is Unknown."""
    found = _retrieve(key, deadline)
    if isinstance(found, Unknown):
        return found
    try:
        if ids.is_purchase(key):
            return from_checkout(key, found, read_at=read_at)
        name = deciding_invoice(found)
        invoice = _read(lambda api, options: api.invoices.retrieve(name, None, options), ids.parse(key)[1], deadline) if name else None
        return invoice if isinstance(invoice, Unknown) else from_stripe(key, found, read_at=read_at, invoice=invoice)
    except Unreadable:
        return Unknown("unreadable")


def read_account(account, *, deadline):
    """The connected account as a dict, or Unknown; 403 and 404: not connected to us (docs.stripe.com/api/accounts/retrieve)."""
    return _read(lambda api, options: api.accounts.retrieve(account, None, options), ids.OPERATOR, deadline)


def read_hold(hold, *, read_at, deadline):
    """The hold with what Stripe says now of its charge and its disputes, or Unknown."""
    _, account, charge = ids.parse(hold.key)
    found = _read(lambda api, options: api.charges.retrieve(charge, None, options), account, deadline)
    if isinstance(found, Unknown):
        return found
    disputes = {"data": []}
    if found.get("disputed"):
        disputes = _read(lambda api, options: api.disputes.list({"charge": charge, "limit": 100}, options), account, deadline)
    if isinstance(disputes, Unknown):
        return disputes
    try:
        return holds.from_stripe(hold, found, disputes["data"], read_at=read_at)
    except Unreadable:
        return Unknown("unreadable")


def paid_for(key, *, deadline):
    """What the charge `key` paid for: ("subscription", its id, end of the period) or ("intent", checkout intent, None).

    None when it is for neither; Unknown. Charges no longer name their invoice (docs.stripe.com/changelog/basil/2025-03-31):
    the payment leads to the invoice, and the invoice to the subscription and the period.
    """
    _, account, charge = ids.parse(key)
    found = _read(lambda api, options: api.charges.retrieve(charge, None, options), account, deadline)
    if isinstance(found, Unknown) or not (payment := found.get("payment_intent")):
        return found if isinstance(found, Unknown) else None
    params = {"payment": {"type": "payment_intent", "payment_intent": payment}, "limit": 1}
    paid = _read(lambda api, options: api.invoice_payments.list(params, options), account, deadline)
    if isinstance(paid, Unknown):
        return paid
    return _invoiced(paid["data"][0]["invoice"], account, deadline) if paid["data"] else _intended(payment, account, deadline)


def _invoiced(name, account, deadline):
    invoice = _read(lambda api, options: api.invoices.retrieve(name, None, options), account, deadline)
    if isinstance(invoice, Unknown):
        return invoice
    try:
        subscription = (invoice["parent"] or {})["subscription_details"]["subscription"]
        until = max(line["period"]["end"] for line in invoice["lines"]["data"])
    except (KeyError, TypeError, ValueError):   # an invoice for something else
        return None
    return "subscription", subscription, until


def _intended(payment, account, deadline):
    intent = _read(lambda api, options: api.payment_intents.retrieve(payment, None, options), account, deadline)
    return intent if isinstance(intent, Unknown) else _claim(intent, "intent")


def _claim(found, kind=None):
    """The checkout intent that an object names, or "" (None with `kind`, else a triple as of `paid_for`)."""
    intent = (found.get("metadata") or {}).get("rolekeep_intent", "")
    intent = intent if ids.valid("intent", intent) else ""
    return intent if kind is None else (kind, intent, None) if intent else None


def intent_of(key, *, deadline):
    """The checkout intent that the subscription or purchase names, "" when it names none, or Unknown. A claim, not a binding."""
    found = _retrieve(key, deadline)
    return found if isinstance(found, Unknown) else _claim(found)


def open_invoice(key, *, deadline):
    """{amount, currency, number, url} of the newest open invoice, None when there is none, or Unknown."""
    _, account, subscription = ids.parse(key)
    params = {"subscription": subscription, "status": "open", "limit": 1}
    found = _read(lambda api, options: api.invoices.list(params, options), account, deadline)
    if isinstance(found, Unknown):
        return found
    if not found["data"]:
        return None
    invoice = found["data"][0]
    return {"amount": invoice["amount_remaining"], "currency": invoice["currency"], "number": invoice.get("number"),
            "url": invoice.get("hosted_invoice_url")}


def sent_events(account, *, types, delivered, since, until, deadline):
    """Yield the events of these types (20 at most) that Stripe has made for this account between two instants, newest first; at last
    an Unknown when a page cannot be read.

    Without `delivered` only those that some endpoint has not taken (yet). Stripe keeps them for 30 days (docs.stripe.com/api/events/list).
    """
    params, read = {"types": list(types), "created": {"gte": since, "lte": until}, "limit": 100, **({} if delivered else {"delivery_success": False})}, set()
    while True:
        found = _read(lambda api, options: api.events.list(params, options), account, deadline)
        page = [one for one in found["data"] if isinstance(one, dict)] if isinstance(found, dict) and isinstance(found.get("data"), list) else None
        if page is None:
            yield found if isinstance(found, Unknown) else Unknown("unreadable")
            return
        yield from page
        if not found.get("has_more"):
            return
        last = page[-1].get("id") if page else None
        if not ids.valid("event", last) or last in read:     # it leads nowhere, or round in a circle
            yield Unknown("unreadable")
            return
        read.add(last)
        params = params | {"starting_after": last}


def start_checkout(*, account, price, once, intent, customer, success_url, cancel_url, deadline):
    """Done({id, url}) of a Checkout Session whose subscription, or with `once` whose payment, will carry the intent; Refused
    or InDoubt otherwise.
    """
    carried = {"metadata": {"rolekeep_intent": intent}}
    mode = {"mode": "payment", "payment_intent_data": carried, **carried} if once else {"mode": "subscription", "subscription_data": carried}
    params = {**mode, "line_items": [{"price": price, "quantity": 1}], "client_reference_id": intent,
              "success_url": success_url, "cancel_url": cancel_url}
    if customer:
        params["customer"] = customer
    elif once:      # without one there would be no billing portal to show the receipt in
        params["customer_creation"] = "always"
    return _write(lambda api, options: api.checkout.sessions.create(params, options), account, deadline,
                  idempotency_key=f"checkout-{intent}-{'known' if customer else 'new'}")


def cancel_at_period_end(key, *, reason, comment, idempotency_key, deadline):
    """Done, Refused or InDoubt: the subscription ends with its period. The flag works in both billing modes (facts 1.4)."""
    params = {"cancel_at_period_end": True} | _cancellation(reason, comment)
    return _update(key, params, idempotency_key, deadline)


def release_schedule(key, schedule, *, idempotency_key, deadline):
    """Done, Refused or InDoubt: the subscription goes on as it is, without the phases that were planned for it.

    While a schedule manages it, Stripe refuses any cancellation at the period's end (docs.stripe.com/billing/subscriptions/
    subscription-schedules).
    """
    return _write(lambda api, options: api.subscription_schedules.release(schedule, {}, options), ids.parse(key)[1], deadline,
                  idempotency_key=idempotency_key)


def cancel_now(key, *, reason, comment, deadline):
    """Done, Refused or InDoubt: the subscription has ended, without proration and without a last invoice (both are defaults).

    DELETE takes no idempotency key and needs none; for one that has ended already Stripe answers 404 resource_missing, so
    whatever the answer, the subscription is read back (docs.stripe.com/api/subscriptions/cancel, /api/idempotent_requests).
    """
    _, account, subscription = ids.parse(key)
    params = _cancellation(reason, comment)
    return _write(lambda api, options: api.subscriptions.cancel(subscription, params, options), account, deadline)


def _cancellation(reason, comment):
    details = {name: value for name, value in (("feedback", reason), ("comment", comment)) if value}
    return {"cancellation_details": details} if details else {}


def clear_scheduled_end(key, *, flag, idempotency_key, deadline):
    """Done, Refused or InDoubt: one form of a scheduled end is gone: the flag, or else the instant."""
    params = {"cancel_at_period_end": False} if flag else {"cancel_at": ""}
    return _update(key, params, idempotency_key, deadline)


def portal_configuration(account, configuration, *, deadline):
    """The billing-portal configuration as a dict, or Unknown."""
    return _read(lambda api, options: api.billing_portal.configurations.retrieve(configuration, None, options), account, deadline)


def create_portal_configuration(account, params, *, idempotency_key, deadline):
    """Done(configuration), Refused or InDoubt."""
    return _write(lambda api, options: api.billing_portal.configurations.create(params, options), account, deadline,
                  idempotency_key=idempotency_key)


def update_portal_configuration(account, configuration, params, *, idempotency_key, deadline):
    """Done(configuration), Refused or InDoubt."""
    return _write(lambda api, options: api.billing_portal.configurations.update(configuration, params, options), account, deadline,
                  idempotency_key=idempotency_key)


def start_portal(account, *, customer, configuration, return_url, flow, deadline):
    """Done({url}) of a billing-portal session: a short-lived bearer URL, never stored or logged; Refused or InDoubt."""
    params = {"customer": customer, "configuration": configuration, "return_url": return_url}
    if flow:
        params["flow_data"] = flow | {"after_completion": {"type": "redirect", "redirect": {"return_url": return_url}}}
    return _write(lambda api, options: api.billing_portal.sessions.create(params, options), account, deadline,
                  idempotency_key=f"portal-{ports.token()}")


def _update(key, params, idempotency_key, deadline):
    _, account, subscription = ids.parse(key)
    return _write(lambda api, options: api.subscriptions.update(subscription, params, options), account, deadline,
                  idempotency_key=idempotency_key)


def _retrieve(key, deadline):
    _, account, name = ids.parse(key)
    if ids.is_purchase(key):
        shown = {"expand": ["payment_intent.latest_charge", "line_items"]}
        found = _read(lambda api, options: api.checkout.sessions.retrieve(name, shown, options), account, deadline)
    else:
        found = _read(lambda api, options: api.subscriptions.retrieve(name, None, options), account, deadline)
    if not isinstance(found, Unknown) and found.get("livemode") is not settings.get().stripe_livemode:
        return Unknown("other_mode")    # test money is no reason for a role where people pay, and the other way round
    return found


def _read(call, account, deadline):
    """What Stripe answers, as a dict, or Unknown. `call(api, options)` makes the request."""
    import stripe
    _in_time(deadline)
    try:
        return call(_client().v1, _options(account)).to_dict()
    except stripe.StripeError as error:
        return Unknown(_why(error))
    except (AttributeError, TypeError, ValueError):     # JSON, but no object of Stripe's
        return Unknown("unreadable")


def _write(call, account, deadline, **options):
    """Done(what Stripe answers), Refused or InDoubt. `options` of the SDK: `idempotency_key`."""
    import stripe
    _in_time(deadline)
    try:
        return Done(call(_client().v1, _options(account) | options).to_dict())
    except stripe.APIConnectionError as error:
        return InDoubt(_why(error))
    except stripe.APIError as error:
        return InDoubt(_why(error), answered=True)
    except (AttributeError, TypeError, ValueError):
        return InDoubt("unreadable", answered=True)
    except stripe.StripeError as error:
        # 409: the same intent's first call is still under way, so its effect may be still to come.
        return InDoubt(_why(error)) if error.http_status == 409 else Refused(_why(error))


def _options(account):
    return {} if account == ids.OPERATOR else {"stripe_account": account}


def _why(error):
    """A short word for logs and rows; never the message, which may quote keys or personal data."""
    return f"stripe_{error.http_status}" if error.http_status else "stripe_unreachable"


def _in_time(deadline):
    if ports.wall() + wire.WORST_SECONDS > deadline:
        raise OutOfTime
