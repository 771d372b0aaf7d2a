"""Why does a member (not) have a role? From what is stored: the reasons, the last reads and answers, what waits and what comes next.

No processor and no Discord is asked, so it answers while they are down. The words for the member are the page's own (view.py); for the
owner and the operator each says exactly what mends it.
"""
from datetime import datetime

from chalicelib import ports, problem, timeline, view
from chalicelib.domain import ids
from chalicelib.domain import plan as rules
from chalicelib.domain.closed import BAD_TOKEN
from chalicelib.domain.ids import OPERATOR
from chalicelib.domain.offers import Server
from chalicelib.domain.subscription import UNREAD, instants
from chalicelib.gateways import processors
from chalicelib.store import members, servers

_BY_OURSELVES = ("guarded", "strips_off", "grants_off")     # codes that are no answer of Discord's
_FOR_OPERATORS = ("fix", "account")
_NEWEST = 5     # entries of the timeline that an operator is shown
_ACCOUNT = " It must be the Discord account that you are signed in with here."
_GIVEN = {rules.GRANT: "give", rules.STRIP: "take"}


def of_member(*, user, server_id):
    """What `told` says to the signed-in member about themselves. Raises Problem 404."""
    return _said(*_read(user, server_id), fix=False)


def for_operator(*, user, server_id):
    """The same with what mends each thing, the row's own numbers, and the newest entries of the timeline. Raises Problem 404."""
    row, server, closed = _read(user, server_id)
    entries = timeline.of_server(user=user, server_id=server_id)["entries"][:_NEWEST]
    return {**_said(row, server, closed, fix=True), "row": _numbers(row), "timeline": entries}


def _read(user, server_id):
    """(row, Server or None, [Closed]): one read of the membership, one batch read."""
    row = members.read(user, server_id) if ids.valid("snowflake", user) and ids.valid("snowflake", server_id) else None
    if row is None:
        raise problem.not_found()
    paid_through = {sub.account for sub in row.subs.values()} - {OPERATOR}
    return (row, *servers.read_many([server_id], accounts=paid_through)[server_id])


def _said(row, server, closed, *, fix):
    said = told(row, server, closed, now=ports.now(), wall=ports.wall())
    if not fix:
        for name in ("roles", "reasons", "waits"):
            said[name] = [{field: value for field, value in one.items() if field not in _FOR_OPERATORS} for one in said[name]]
    return said


def told(row, server, closed, *, now, wall):
    """{server, as_of, read_at, looked_at, roles, reasons, waits, next}: pure.

    `read_at`: since when the oldest reading of what is paid is known, `looked_at`: when Discord was last asked. A role has `state` (as on
    the page, or `none`), `text`, `next` and `who` must act, `fix`, its `reasons` (subscription ids), and Discord's last `answer`. What
    waits has `code`, `text`, `at` and `fix`. `next`: when Rolekeep acts again by itself, and what for; null: nothing is due.
    """
    known = server or Server(row.server, row.server)
    closing = [one for one in closed if one.until > wall]
    shown = view.membership(row, known, closing[0].why if closing else None, now=now)
    return {
        "server": {"id": row.server, "name": known.name}, "as_of": view.iso(now), "read_at": shown["as_of"] if row.subs else None,
        "looked_at": shown["checked_at"],
        "roles": [_role(one, row, known, now) for one in shown["roles"]] + _not_wanted(row, known, shown, now),
        "reasons": [_reason(sub, row, known) for sub in shown["subscriptions"]],
        "waits": [*_server_unknown(server, row), *_closings(closing), *_at_work(row, wall), *_unread(row, known), *_asked(row, now)],
        "next": _next(row, known, now),
    }


# Roles

def _role(role, row, server, now):
    why, block = role["why"], row.roles.get(role["id"], rules.Role()).block
    code = why["code"] if why else None
    who, fix = view.mends(code, role=role["name"], role_id=role["id"], server=row.server) if code else (view.NOBODY, "")
    text = why["text"] if why else f"You have this role. {_lasts(role)}"
    step = f"{why['next']}{_ACCOUNT if code == rules.NOT_IN_SERVER else ''}" if why else ""
    return {"id": role["id"], "name": role["name"], "state": role["state"], "code": code, "text": text, "next": step,
            "who": who, "fix": fix, "reasons": role["subscriptions"], "answer": _answer(role, block)}


def _lasts(role):
    if role["until"]:
        until = view.words(int(datetime.fromisoformat(role["until"]).timestamp()))
        return f"A payment is due: it stays until {until}." if role["grace"] else f"It stays until {until}."
    return "It goes on with each payment." if role["renews"] else "It is yours for good."


def _answer(role, block):
    """What Discord answered last about this role: {verb, code, text, at, tries, again_at}; null when it was never asked, or took it back."""
    if block is None or block.why in _BY_OURSELVES:
        held = {"verb": "give", "code": "done", "text": "Discord has confirmed it.", "at": None, "tries": 1, "again_at": None}
        return held if role["state"] == "held" else None
    return {"verb": _GIVEN[block.verb], "code": block.why, "text": view.why_not(block.why)[0], "at": view.iso(block.tried or None), "tries": block.tries,
            "again_at": view.iso(block.next)}


def _not_wanted(row, server, shown, now):
    """The roles of what was bought here that nothing gives now, and why each of its reasons does not."""
    seen, found = {role["id"] for role in shown["roles"]}, {}
    for sub in shown["subscriptions"]:
        for role in sub["role_ids"]:
            if role not in seen:
                found.setdefault(role, []).append(sub)
    return [{"id": role, "name": server.role_name(role), "state": "none", "code": subs[0]["state"], "text": " ".join(dict.fromkeys(sub["text"] for sub in subs)),
             "next": _pay(subs), "who": view.YOU if _pay(subs) else view.NOBODY, "fix": "", "reasons": [sub["id"] for sub in subs], "answer": None}
            for role, subs in sorted(found.items())]


def _pay(subs):
    """What the member can do about a payment that is missing."""
    if any(sub["status"] in ("past_due", "unpaid", "suspended") for sub in subs):
        return "Update the payment method (“Manage”), or buy the offer again."
    return ""


# Reasons

def _reason(sub, row, server):
    """A subscription or purchase: what it means now, when it was last read, and what keeps it from giving a role."""
    stored = next(one for one in row.subs.values() if one.id == sub["id"])
    unmapped = [item.price for item in stored.items if server.bought(stored, item) is None]
    who, fix = view.NOBODY, ""
    if sub["why"]:
        who, fix = view.OWNER, f"The owner connects {stored.account} again; then `operate connect {row.server} {stored.account} --owner ID`."
    elif unmapped and not stored.terminal:
        who, fix = view.OPERATOR, f"Put the price {', '.join(unmapped)} of {stored.account} into an offer of this server; the member gets the role within a day."
    elif sub["state"] == "on_hold":
        who, fix = view.OWNER, f"Answer the dispute, or look at the refund, at {processors.NAMES[stored.processor]}; the offer's policies say what each takes away."
    elif sub["status"] in ("past_due", "unpaid", "suspended"):
        who, fix = view.YOU, "The member updates the payment method, or the owner collects the open invoice."
    return {"subscription": sub["id"], "processor": sub["processor"], "account": stored.account, "offer": sub["offer"]["name"] if sub["offer"] else None,
            "status": sub["status"], "state": sub["state"], "text": sub["why"]["text"] if sub["why"] else sub["text"], "next": sub["why"]["next"] if sub["why"] else "",
            "who": who, "fix": fix, "role_ids": sub["role_ids"], "read_at": sub["as_of"], "unread_since": view.iso(stored.unread_since or None)}


# What waits

def _wait(code, text, at=None, fix=""):
    return {"code": code, "text": text, "at": view.iso(at), "fix": fix}


def _server_unknown(server, row):
    if server is None:
        yield _wait("server_unknown", "This server's settings are gone, so nothing is decided: your roles stay as they are.",
                    fix=f"Register the server {row.server} again, with its offers.")


def _closings(closing):
    for one in closing:
        yield _wait(one.why, view.why_not(one.why)[0], None if one.why == BAD_TOKEN else int(one.until), view.mends(one.why)[1])


def _at_work(row, wall):
    if row.lease and row.lease["until"] > wall:
        yield _wait("working", "It is being worked on right now.", row.lease["until"])
    elif row.requested > row.done:
        yield _wait("asked", "Something was asked for, or told, that is still to be done.", row.due_at,
                    "Nothing within a minute of the time told; after that `operate dlq list`, and the logs of `due_sweep`.")


def _unread(row, server):
    for sub in row.subs.values():
        if sub.unread_since:
            name = processors.NAMES[sub.processor]
            yield _wait("unread", f"{name} has told us nothing about {_name(sub, server)} since {view.words(sub.unread_since)}: your roles stay as they are.", row.due_at,
                        f"See {name}'s status, the key, and `operate accounts` for {sub.account}; it is read again by itself.")
        elif sub.status == UNREAD:
            yield _wait("unread", f"{_name(sub, server)} is being confirmed.", row.due_at)
    if row.lookups or any(hold.unread_since for hold in row.holds.values()):
        yield _wait("charge_unread", "A refund or dispute is still being looked up.", row.due_at, f"Charges: {', '.join(sorted(row.lookups)) or 'asked for again'}.")


def _asked(row, now):
    if row.look or row.look_at is not None:
        yield _wait("look", "Discord is asked what it shows.", max(row.look_at or now, now))
    if row.erased:
        yield _wait("erasing", "You asked to have your data erased: roles go, and then what is stored.", row.due_at,
                    "If it lasts: what is still paid must be cancelled first, and blocked roles come off only when the block is mended.")


def _name(sub, server):
    bought = next((b for item in sub.items if (b := server.bought(sub, item))), None)
    return f"“{bought[0].name}”" if bought else "what was bought"


# What comes next

def _next(row, server, now):
    """{at, text}: the row's own `due_at`, and what it stands for; null when nothing is due."""
    if row.due_at is None:
        return None
    if row.due_at <= now:
        return {"at": view.iso(row.due_at), "text": "It is due: a worker looks at it within a minute or two."}
    text = next((words for instant, words in _instants(row, server) if instant == row.due_at), "Rolekeep looks again at what is paid.")
    return {"at": view.iso(row.due_at), "text": text}


def _instants(row, server):
    """(instant, what happens then) of everything stored that Rolekeep waits for; the most telling first."""
    for role, known in sorted(row.roles.items()):
        if known.block:
            yield known.block.next, f"{server.role_name(role)} is tried again."
    for sub in row.subs.values():
        for instant in instants(sub, terms=lambda item, sub=sub: server.terms(sub, item)):
            yield instant, f"{_name(sub, server)} renews or ends, and is read again."
    for hold in row.holds.values():
        if hold.until is not None:
            yield hold.until, "A period that was refunded is over, and what is paid is read again."
    if row.look_at is not None:
        yield row.look_at, "Discord is asked what it shows."
    yield row.checked_at + rules.LOOK_EVERY, "The daily look: what is paid is read, and Discord is asked what it shows."


def _numbers(row):
    """The row as it is stored, as far as an operator may need it."""
    return {"requested": row.requested, "done": row.done, "lease_until": row.lease and row.lease["until"], "due_at": row.due_at, "look_at": row.look_at,
            "checked_at": row.checked_at, "causes": list(row.causes), "lookups": sorted(row.lookups), "roles": {role: known.state for role, known in sorted(row.roles.items())}}
