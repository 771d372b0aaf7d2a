"""PayPal over its REST API (Subscriptions, Payments, Disputes and Webhooks v1), without an SDK: the official one lacks half of it.

Every call is made with the credentials of one account, so that no account can speak of another's. The access token is kept until
it expires (facts: "fetching per request" is a named reason for 429); one that is refused earlier is fetched anew, once. No retries
otherwise: a failed read is unknown and comes again by state, a failed write is read back before anything is repeated.
"""
import re
from urllib.parse import quote, urlsplit

import requests

from chalicelib import ports, settings
from chalicelib.domain import ids
from chalicelib.domain.paypal import approved, from_paypal, hold_from_paypal, period_end
from chalicelib.domain.subscription import Unreadable
from chalicelib.gateways import wire
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Refused, Unknown

NOT_APPROVED = "not_approved"
_EARLY = 120            # seconds before its end at which a token is no longer used
_TOKEN = re.compile(r"[\x21-\x7e]{1,4000}")
_SENT = "/v1/notifications/webhooks-events"
_MOST_SALES = 50        # disputed transactions of one dispute that are looked at
_tokens = {}            # {merchant id: (token, wall clock until which it is used)}


def read_subscription(key, *, read_at, deadline):
    """The subscription in normal form, or Unknown. Any failure, 401, 403 and 404 included, is Unknown."""
    found = _subscription(key, deadline)
    if isinstance(found, Unknown):
        return found
    try:
        return from_paypal(key, found, read_at=read_at)
    except Unreadable:
        return Unknown("unreadable")


def read_hold(hold, *, read_at, deadline):
    """The hold with what PayPal says now of its sale and its disputes, or Unknown."""
    _, account, sale = ids.parse(hold.key)
    found = _read(account, f"/v1/payments/sale/{quote(sale)}", deadline)
    disputes = found if isinstance(found, Unknown) else _disputes(account, sale, deadline)
    if isinstance(disputes, Unknown):
        return disputes
    try:
        return hold_from_paypal(hold, found, disputes, read_at=read_at)
    except Unreadable:
        return Unknown("unreadable")


def intent_of(key, *, deadline):
    """The checkout intent that the subscription names, "" when it names none, or Unknown. A claim, not a binding."""
    found = _subscription(key, deadline)
    try:
        if not isinstance(found, Unknown) and not approved(found):
            return Unknown(NOT_APPROVED)
    except Unreadable:
        return Unknown("unreadable")
    if isinstance(found, Unknown):
        return found
    intent = found.get("custom_id")
    return intent if ids.valid("intent", intent) else ""


def paid_for(key, *, deadline):
    """What the sale `key` paid for: ("subscription", its id, end of the period); None when it is for none; Unknown."""
    _, account, sale = ids.parse(key)
    found = _read(account, f"/v1/payments/sale/{quote(sale)}", deadline)
    if isinstance(found, Unknown):
        return found
    name = found.get("billing_agreement_id")
    if not ids.valid("agreement", name):
        return None
    answer = _subscription(ids.key(account, name), deadline)
    if isinstance(answer, Unknown):
        return answer
    try:
        return "subscription", name, period_end(found, answer, read_at=ports.now())
    except Unreadable:
        return Unknown("unreadable")


def sale_of_refund(account, refund, *, deadline):
    """The id of the sale that this refund is of, "" when it is of none, or Unknown."""
    found = _read(account, f"/v1/payments/refund/{quote(refund)}", deadline)
    return found if isinstance(found, Unknown) else found["sale_id"] if ids.valid("sale", found.get("sale_id")) else ""


def sales_of_dispute(account, dispute, *, deadline):
    """The ids of the sales that this dispute is about, as the seller knows them, or Unknown. There may be none: an empty list is."""
    found = _read(account, f"/v1/customer/disputes/{quote(dispute)}", deadline)
    if isinstance(found, Unknown):
        return found
    if found.get("dispute_id") != dispute or not isinstance(found.get("disputed_transactions"), list):
        return Unknown("unreadable")
    told = [one.get("seller_transaction_id") for one in _listed(found, "disputed_transactions")]
    return [sale for sale in told if ids.valid("sale", sale)][:_MOST_SALES]


def open_invoice(key, *, deadline):
    """None: PayPal charges nothing for a subscription that has been cancelled."""
    return None


def plan(account, name, *, deadline):
    """The billing plan as a dict, or Unknown."""
    return _read(account, f"/v1/billing/plans/{quote(name)}", deadline)


def waits_at(key, *, deadline):
    """Where the subscription still waits for its buyer's approval; "" when it waits no more; Unknown (404: it is gone)."""
    found = _subscription(key, deadline)
    try:
        if isinstance(found, Unknown) or approved(found):
            return found if isinstance(found, Unknown) else ""
    except Unreadable:
        return Unknown("unreadable")
    url = _approval(found)
    return url if _at_paypal(url) else Unknown("unreadable")


def _approval(found):
    """The address in a subscription object where the buyer approves it, or None."""
    links = found.get("links")
    return next((link.get("href") for link in links if isinstance(link, dict) and link.get("rel") == "approve"), None) if isinstance(links, list) else None


def start_checkout(*, account, plan, intent, start_at, success_url, cancel_url, deadline):
    """Done({id, url}) of a subscription that waits for the buyer's approval at `url`; Refused or InDoubt otherwise.

    It carries the intent as `custom_id`. `start_at`: when the first payment is due, None for at once.
    """
    wish = {"plan_id": plan, "custom_id": intent, "application_context": {
        "user_action": "SUBSCRIBE_NOW", "shipping_preference": "NO_SHIPPING", "return_url": success_url, "cancel_url": cancel_url}}
    if start_at is not None:
        wish["start_time"] = _iso(start_at)
    answer = _write(account, "/v1/billing/subscriptions", wish, deadline, headers={"PayPal-Request-Id": f"checkout-{intent}", "Prefer": "return=representation"})
    if not isinstance(answer, Done):
        return answer
    made = answer.value if isinstance(answer.value, dict) else {}
    url, name = _approval(made), made.get("id")
    if not ids.valid("agreement", name) or not _at_paypal(url):
        return InDoubt("unreadable", answered=True)
    return Done({"id": name, "url": url})


def cancel(key, *, reason, deadline):
    """Done, Refused or InDoubt: PayPal charges nothing more. There is no other kind of cancellation and no way back; a second one
    is refused (422 SUBSCRIPTION_STATUS_INVALID), so whatever the answer, the subscription is read back.
    """
    _, account, name = ids.parse(key)
    return _write(account, f"/v1/billing/subscriptions/{quote(name)}/cancel", {"reason": reason}, deadline)


def manage_url():
    """PayPal's page of automatic payments, where the buyer changes how they pay, or cancels."""
    return f"{settings.get().paypal_web_base}/myaccount/autopay/"


def webhook(account, name, *, deadline):
    """The webhook {url, event_types, …} as PayPal has it, or Unknown."""
    return _read(account, f"/v1/notifications/webhooks/{quote(name)}", deadline)


def sent_events(account, *, since, until, deadline):
    """Yield the events that PayPal has made for this account between two instants, page by page; at last an Unknown when a page cannot be read."""
    address, read = f"{_SENT}?start_time={_iso(since)}&end_time={_iso(until)}&page_size=100", set()
    while address:
        found = Unknown("unreadable") if address in read else _read(account, address, deadline)
        if isinstance(found, Unknown):
            yield found
            return
        read.add(address)
        yield from _listed(found, "events")
        following = next((link.get("href") for link in _listed(found, "links") if link.get("rel") == "next"), None)
        address = _following(following) if following else None


def _disputes(account, sale, deadline):
    """[(status, outcome code or None)] of the disputes of this sale, or Unknown. The list holds no outcomes: what is resolved is read."""
    found = _read(account, f"/v1/customer/disputes?disputed_transaction_id={quote(sale)}", deadline)
    if isinstance(found, Unknown):
        return found
    if not isinstance(found.get("items", []), list):
        return Unknown("unreadable")
    said = []
    for one in _listed(found, "items"):
        whole = one
        if one.get("status") == "RESOLVED":
            whole = _read(account, f"/v1/customer/disputes/{quote(str(one.get('dispute_id')))}", deadline)
            if isinstance(whole, Unknown):
                return whole
        outcome = whole.get("dispute_outcome") or {}
        said.append((whole.get("status"), outcome.get("outcome_code") if isinstance(outcome, dict) else "unreadable"))
    return said


def _listed(found, name):
    """The objects of a list in an answer; one that is missing or odd is empty."""
    items = found.get(name)
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _subscription(key, deadline):
    _, account, name = ids.parse(key)
    return _read(account, f"/v1/billing/subscriptions/{quote(name)}?fields=last_failed_payment,plan", deadline)


def _read(account, path, deadline):
    """What PayPal answers, as a dict, or Unknown."""
    try:
        answer = _call(account, "GET", path, deadline)
        if answer.status_code != 200:
            return Unknown(f"paypal_{answer.status_code}")
        return _said(answer) or Unknown("unreadable")
    except _NoToken as failed:
        return Unknown(failed.why)
    except requests.RequestException:
        return Unknown("paypal_unreachable")


def _said(answer):
    """The JSON object that was answered; {} for anything else, such as a page, a list, or numbers and depths that Python refuses."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(account, path, wish, deadline, *, headers=None):
    """Done(what PayPal answers), Refused or InDoubt."""
    try:
        answer = _call(account, "POST", path, deadline, json=wish, headers=headers)
        if answer.status_code in (200, 201, 204):
            found = _said(answer)
            return Done(found) if found or not answer.content else InDoubt("unreadable", answered=True)
        return (InDoubt(f"paypal_{answer.status_code}", answered=True) if answer.status_code >= 500 else Refused(f"paypal_{answer.status_code}"))
    except _NoToken as failed:
        return Refused(failed.why)      # nothing was sent
    except requests.RequestException:
        return InDoubt("paypal_unreachable")


class _NoToken(Exception):
    """PayPal gave no access token for this account; `why` is a code of ours."""

    def __init__(self, why):
        super().__init__(why)
        self.why = why


def _call(account, method, path, deadline, *, json=None, headers=None):
    """PayPal's answer. Raises _NoToken, OutOfTime, and what requests raises. A token that is refused before its time is fetched anew, once."""
    for fresh in (False, True):
        token = _token(account, deadline, fresh=fresh)
        _in_time(deadline)
        answer = wire.session().request(
            method, settings.get().paypal_api_base + path, json=json, timeout=wire.TIMEOUT, allow_redirects=False,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json", **(headers or {})})
        if answer.status_code != 401:
            return answer
    _tokens.pop(account, None)
    return answer


def _token(account, deadline, *, fresh):
    """An access token of the account. POST /v1/oauth2/token (developer.paypal.com/api/rest/authentication), good for some nine hours."""
    token, until = _tokens.get(account, ("", 0))
    if ports.wall() < until and not fresh:
        return token
    known = settings.get().paypal_accounts.get(account)
    if known is None:
        raise _NoToken("paypal_no_account")
    _in_time(deadline)
    try:
        answer = wire.session().post(settings.get().paypal_api_base + "/v1/oauth2/token", data={"grant_type": "client_credentials"},
                                     auth=(known.client_id, known.secret), timeout=wire.TIMEOUT, allow_redirects=False)
        made = _said(answer) if answer.status_code == 200 else {}
        token, lasts = made["access_token"], int(made["expires_in"])
    except requests.RequestException:
        raise _NoToken("paypal_unreachable") from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _NoToken(f"paypal_token_{answer.status_code}") from None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _NoToken("paypal_token_unreadable")
    _tokens[account] = token, ports.wall() + lasts - _EARLY
    return token


def _following(address):
    """Path and query of a link to more of the same list: the host stays ours, so that a token never goes elsewhere."""
    _, _, query = str(address).partition("?")
    return f"{_SENT}?{query}"


def _at_paypal(url):
    """True for an address of PayPal's own pages: a buyer is sent nowhere else."""
    ours = urlsplit(settings.get().paypal_web_base)
    return isinstance(url, str) and url.startswith(f"{ours.scheme}://{ours.netloc}/")


def _iso(moment):
    from datetime import UTC, datetime
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _in_time(deadline):
    if ports.wall() + wire.WORST_SECONDS > deadline:
        raise OutOfTime
