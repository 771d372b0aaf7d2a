"""What happened to a subscription or in a server, newest first, in plain words: event → decision → what Discord answered.

It is told from the ledger alone: audit rows, money intents, parked prices. Names are those of today; an id is only shown
where no name is known. Rows that an older version wrote say less and are shown as far as they go.
"""
import re

from chalicelib import problem, profile, view
from chalicelib.domain import ids
from chalicelib.domain.offers import Server
from chalicelib.domain.plan import HELD_BACK
from chalicelib.domain.subscription import from_facts
from chalicelib.gateways import processors
from chalicelib.store import ledger, members, servers

PAGE = 50
_READ = 200     # audit rows read for a page: about one read of DynamoDB; a page may be shorter than PAGE, `next` says if more follow
_CURSOR = re.compile(r"\d{12}-[A-Za-z0-9_-]{1,64}")

_BY = {"evt_": "stripe", "WH-": "paypal", "checkout": "paypal", "member:": "you", "owner:": "owner"}
_CAUSES = {
    "member:restore": "You asked for your roles back.",
    "member:cancel_at_period_end": "You cancelled at the end of the period.",
    "member:cancel_now": "You cancelled at once.",
    "member:undo_cancel": "You undid the cancellation.",
    "member:erase": "You asked to have your data erased.",
    "owner:cancel_now": "The server's owner cancelled at once.",
    "checkout.session.completed": "A purchase was completed.",
    "customer.subscription.created": "Stripe told of a new subscription.",
    "customer.subscription.deleted": "Stripe told that a subscription has ended.",
    "customer.subscription.updated": "Stripe told of a changed subscription.",
    "invoice.paid": "Stripe told of a payment.",
    "invoice.payment_failed": "Stripe told of a payment that failed.",
    "charge.refunded": "Stripe told of a refund.",
    "refund.created": "Stripe told of a refund.",
    "refund.failed": "Stripe told of a refund that failed.",
    "charge.dispute.created": "Stripe told of a dispute.",
    "charge.dispute.closed": "Stripe told that a dispute is over.",
    "operator:strips_on": "Taking roles away was switched on again.",
    "operator:grants_on": "Giving roles was switched on again.",
    "operator:guard_lifted": "The operator has checked that roles end here.",
    "checkout": "PayPal was asked about a purchase.",
    "BILLING.SUBSCRIPTION.ACTIVATED": "PayPal told of an active subscription.",
    "BILLING.SUBSCRIPTION.RE-ACTIVATED": "PayPal told of a subscription that goes on.",
    "BILLING.SUBSCRIPTION.UPDATED": "PayPal told of a changed subscription.",
    "BILLING.SUBSCRIPTION.SUSPENDED": "PayPal told of a suspended subscription.",
    "BILLING.SUBSCRIPTION.CANCELLED": "PayPal told that a subscription was cancelled.",
    "BILLING.SUBSCRIPTION.EXPIRED": "PayPal told that a subscription has ended.",
    "BILLING.SUBSCRIPTION.PAYMENT.FAILED": "PayPal told of a payment that failed.",
    "PAYMENT.SALE.COMPLETED": "PayPal told of a payment.",
    "PAYMENT.SALE.REFUNDED": "PayPal told of a refund.",
    "PAYMENT.SALE.REVERSED": "PayPal told of a payment that was taken back.",
    "CUSTOMER.DISPUTE.CREATED": "PayPal told of a dispute.",
    "CUSTOMER.DISPUTE.UPDATED": "PayPal told of a dispute.",
    "CUSTOMER.DISPUTE.RESOLVED": "PayPal told that a dispute is over.",
}
_OTHERWISE = {"stripe": "Stripe told of a change.", "paypal": "PayPal told of a change.", "you": "You asked for it.", "owner": "The server's owner asked for it.",
              "clock": "Something was due, or the daily look."}
_ASKED = {"cancel_at_period_end": "to cancel at the end of the period", "cancel_now": "to cancel at once", "undo_cancel": "to undo the cancellation"}
_BECAME = {"done": "Done, and read back from {}.", "given_up": "Given up: no answer came.", "not_made": "Not made: {} did not take it."}
_NO_ROLE = {"nothing_to_do": "Nothing had to change in Discord.", "waits": "It waits until Discord can be asked.",
            "not_in_server": "You are not in this Discord server: your roles wait until you join.", **{why: view.WHY[why][0] for why in HELD_BACK}}
_VERBS = {"grant": "Give", "strip": "Take"}


def of_subscription(*, user, subscription_id, before=None):
    """{entries, next}: what concerns this subscription of the member. Raises Problem 400 and 404."""
    _checked(before)
    found = profile.own_subscription(user, subscription_id)
    if found is None:
        raise problem.not_found()
    row, sub = found
    return _page(row, [sub], before, lambda entry: sub.key in _concerned(entry.data))


def of_server(*, user, server_id, before=None):
    """{entries, next}: what concerns the member in this server. Raises Problem 400 and 404."""
    _checked(before)
    row = members.read(user, server_id) if ids.valid("snowflake", server_id) else None
    if row is None:
        raise problem.not_found()
    return _page(row, list(row.subs.values()), before, lambda entry: True)


def _checked(before):
    if before is not None and not _CURSOR.fullmatch(before):
        raise problem.bad_request("before must be the `next` of an earlier page.")


def _page(row, subs, before, concerns):
    """One page of all that is told, and the cursor of the next one; None when there is no more."""
    server = servers.read_many([row.server])[row.server][0] or Server(row.server, row.server)
    rows = ledger.page(ledger.member_subject(row.user, row.server), before=before, limit=_READ)
    floor = rows[-1].id if len(rows) == _READ else ""   # nothing below it has been read
    found = [(entry.id, entry, _audit) for entry in rows if concerns(entry)]
    found += [(_own_id(entry), entry, _intent) for sub in subs for entry in ledger.page(f"money#{sub.key}")]
    found += [(f"{entry.at:012d}-parked", entry, _parked) for sub in subs for entry in _unmapped(sub, server)]
    shown = sorted((one for one in found if floor <= one[0] and (before is None or one[0] < before)), key=lambda one: one[0], reverse=True)
    more = shown[PAGE - 1][0] if len(shown) > PAGE else floor
    return {"entries": [{"at": view.iso(entry.at), **tell(entry, row, server)} for _, entry, tell in shown[:PAGE]], "next": more or None}


def _own_id(entry):
    """Where a money intent stands: the same place while it is open and afterwards."""
    return f"{entry.at:012d}-{entry.data['intent']}"


def _unmapped(sub, server):
    prices = [item.price for item in sub.items if server.bought(sub, item) is None]
    return ledger.parked_prices(sub.account, sub.key, prices)


def _concerned(data):
    """The keys of the subscriptions that an audit row is about."""
    return {*data.get("changed", ()), *(charge["reason"] for charge in data.get("charges", {}).values()), *(key for keys in data.get("why", {}).values() for key in keys)}


# Entries

def _audit(entry, row, server):
    data, outcome = entry.data, entry.outcome
    cause, by = _cause(data)
    known = {key: _offer(key, facts, server) for key, facts in data.get("evidence", {}).items() if isinstance(facts, dict)}
    said = [f"{known[key]}: {_meaning(key, data['evidence'][key], server, entry.at)}" for key in data.get("changed", ()) if key in known]
    said += [f"{known.get(charge['reason'], 'Subscription')}: {_reversed(charge)}" for charge in data.get("charges", {}).values()]
    said += [f"Discord did not show {server.role_name(role)}." for role in data.get("lost", ())]
    roles = [_role(role, verb, (outcome or {}).get(role), outcome is None, server)
             for verb, touched in (("grant", data.get("grants", ())), ("strip", data.get("strips", ()))) for role in touched]
    return {"what": " ".join([_CAUSES.get(_word(cause), _OTHERWISE[by]), *said]), "cause": cause, "by": by,
            "decision": _decided(roles, data, known) or _NO_ROLE.get((outcome or {}).get("result"), ""), "roles": roles}


def _cause(data):
    """(cause, by): why it was looked. A sweep that finishes what somebody else began names what began it."""
    causes = [cause for cause in (data.get("cause", ""), *data.get("causes", ())) if isinstance(cause, str)]
    for cause in causes:
        for start, by in _BY.items():
            if cause.startswith(start):
                return cause, by
    return causes[0] if causes else "", "clock"


def _word(cause):
    """What a cause is looked up by: the event's type, or the whole of any other cause."""
    return cause.partition(" ")[2] or cause


def _offer(key, facts, server):
    sub = from_facts(key, facts)
    bought = next((b for item in sub.items if (b := server.bought(sub, item))), None)
    return bought[0].name if bought else "Subscription"


def _meaning(key, facts, server, at):
    return view.meaning(from_facts(key, facts), (), server, now=at)["text"]


def _reversed(charge):
    """What became of a payment, in words."""
    back = "nothing was refunded" if not charge["refunded"] else "refunded in full" if charge["refunded"] >= charge["amount"] else "refunded in part"
    dispute = {"open": "; a dispute is open", "lost": "; it was charged back", "over": "; its dispute is over"}.get(charge["dispute"], "")
    return f"of a payment {back}{dispute}." if back.startswith("nothing") else f"a payment was {back}{dispute}."


def _role(role, verb, answer, is_open, server):
    return {"id": role, "name": server.role_name(role), "verb": verb, "answer": _answer(answer, is_open)}


def _answer(answer, is_open):
    """What Discord answered, in words; a row that was never closed, or a role not reached, has no answer."""
    if answer is None:
        return "not known: it was interrupted, and is done again" if is_open else "not tried: it is done later"
    said = answer.partition(" ")[2]
    if said == "in doubt":
        return "no answer in time: it is looked at again"
    word, _, why = said.partition(": ")
    return f"{word}: {view.WHY.get(why, (why,))[0]}" if why else word


def _decided(roles, data, known):
    """Give Gold, because of Supporter. Take Silver."""
    decided = []
    for role in roles:
        reasons = list(dict.fromkeys(known[key] for key in data.get("why", {}).get(role["id"], ()) if key in known))
        decided.append(f"{_VERBS[role['verb']]} {role['name']}{', because of ' + ' and '.join(reasons) if reasons else ''}.")
    return " ".join(decided)


def _intent(entry, row, server):
    data, outcome = entry.data, entry.outcome or {}
    by = "you" if data.get("actor") == f"member:{row.user}" else "owner"
    name = next((_offer(key, sub.facts(), server) for key, sub in row.subs.items() if entry.subject == f"money#{key}"), "Subscription")
    who = "You" if by == "you" else "The server's owner"
    return {"what": f"{who} asked {_ASKED.get(data.get('kind'), 'for a change')}: {name}.", "cause": data.get("kind", ""), "by": by,
            "decision": _BECAME.get(outcome.get("result"), "Under way, or interrupted: asking again goes on with it.").format(
                processors.name(entry.subject.partition("#")[2])), "roles": []}


def _parked(entry, row, server):
    return {"what": "Something was paid that no offer of this server knows.", "cause": "unmapped_price", "by": ids.processor_of(entry.subject.partition("#")[2]),
            "decision": "No role is given for it. It is kept, and the operator has been told.", "roles": []}
