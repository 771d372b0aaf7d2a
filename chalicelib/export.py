"""Everything that is stored about a member, as one JSON document; nothing in it opens anything."""
from chalicelib import ports, view
from chalicelib.domain.offers import Server
from chalicelib.settings import SESSION_SECONDS
from chalicelib.store import ledger, links, members, servers, sessions

FORMAT = 1


def export(member):
    """{format, made_at, member, memberships, sessions}: own data only, without session ids and idempotency keys.

    Checkouts that were begun and never paid cannot be found by their member; they are kept 60 days (docs/api.md).
    """
    rows = members.of_user(member.user)
    known = servers.read_many([row.server for row in rows])
    return {
        "format": FORMAT, "made_at": view.iso(ports.now()), "member": {"id": member.user, "name": member.name},
        "memberships": [_membership(row, known[row.server][0] or Server(row.server, row.server)) for row in rows],
        "sessions": [{"created_at": view.iso(end - SESSION_SECONDS), "expires_at": view.iso(end)}
                     for end in sessions.of_user(member.user, wall=ports.wall())],
    }


def _membership(row, server):
    found = links.of_subscriptions(list(row.subs))
    return {
        "server": {"id": row.server, "name": server.name}, "checked_at": view.iso(row.checked_at), "due_at": view.iso(row.due_at),
        "requested": row.requested, "done": row.done, "being_erased": row.erased is not None, "causes": list(row.causes),
        "roles": [{"id": role, "name": server.role_name(role), "state": known.state,
                   "blocked": known.block.why if known.block else None} for role, known in sorted(row.roles.items())],
        "subscriptions": [{"key": key, **sub.facts(), "bought": _bought(found.get(key)), "money_intents": _money(key),
                           "parked": _parked(sub)} for key, sub in sorted(row.subs.items())],
        "holds": [{"key": key, **hold.facts()} for key, hold in sorted(row.holds.items())], "lookups": sorted(row.lookups),
        "ends": {key: view.iso(end) if end else "given_up" for key, end in sorted(row.ends.items())},
        "audit": [_entry(entry) for entry in ledger.every(ledger.member_subject(row.user, row.server))],
    }


def _bought(link):
    return {"offer": link.offer, "account": link.account, "at": view.iso(link.made_at)} if link else None


def _money(key):
    return [_entry(entry) for entry in ledger.every(f"money#{key}")]


def _parked(sub):
    return [_entry(entry) for entry in ledger.every(f"parked#{sub.account}", starting=ledger.unmapped_id(sub.key, ""))]


def _entry(entry):
    return {"at": view.iso(entry.at), "kind": entry.kind, "outcome": entry.outcome,
            "data": {name: value for name, value in entry.data.items() if name != "intent"}}
