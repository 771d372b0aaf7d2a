"""What holds role changes back: switches, and what the mass-strip guard has counted of a server in an hour (business clock).

What a round must know of it stands in the item that says what closes Discord (`servers.DISCORD`), which it reads anyway. The count is an
item of its own (`guard`): `since` its hour began, `members` who were counted (short hashes), `most` how many may be, `holders` what
that was worked out from (absent: nobody has asked yet).
"""
import hashlib

from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import size

from chalicelib.domain.brakes import ALWAYS, HOUR, limit
from chalicelib.domain.closed import EVERYWHERE
from chalicelib.store.servers import DISCORD
from chalicelib.store.tables import ServerItem, condition_failed

_GUARD = "guard"


def switch(scope, what, *, off):
    """Strips or grants (`what`) are off, or on again, for `scope` (a server's id, or EVERYWHERE)."""
    change = ServerItem.off.add if off else ServerItem.off.delete
    ServerItem(scope, DISCORD).update([change({what})])


def lift(server_id, *, until):
    """Doubtful strips of this server pass the guard uncounted until then (business clock)."""
    ServerItem(server_id, DISCORD).update([ServerItem.lifted_until.set(until)])


def trip(server_id, *, until):
    """True when the guard was not tripped until then yet: no doubtful strip is tried in this server before that."""
    return _change(server_id, DISCORD, [ServerItem.blocked_until.set(until)],
                   ServerItem.blocked_until.does_not_exist() | (ServerItem.blocked_until < until))


def standing(server_ids):
    """{scope: {off, blocked_until, lifted_until, since, counted, most, holders}} of these servers and of EVERYWHERE, as far as there is anything."""
    keys = [(scope, kind) for scope in (*server_ids, EVERYWHERE) for kind in (DISCORD, _GUARD)]
    found = {scope: {} for scope, _ in keys}
    for item in ServerItem.batch_get(keys, consistent_read=True):
        found[item.server_id] |= {"since": item.since, "counted": len(item.members or ()), "most": item.most, "holders": item.holders} if item.kind == _GUARD else {
            "off": sorted(item.off or ()), "blocked_until": item.blocked_until, "lifted_until": item.lifted_until}
    return found


def count(server_id, user, *, now, holders):
    """None when this member may lose something doubtfully and is counted; else the instant at which the hour is over.

    One conditional write each time, so that of any number of workers at once no more than the limit pass; a member counts once an
    hour however often it is tried, so a crash between the count and the strip costs nothing. `holders()` tells how many members hold
    something: asked once an hour, and only when more than ALWAYS are to be counted.
    """
    who = hashlib.sha256(f"{server_id}/{user}".encode()).hexdigest()[:10]
    while not _add(server_id, who, now):
        item = next(iter(ServerItem.batch_get([(server_id, _GUARD)], consistent_read=True)), None)
        if item is None or item.since + HOUR <= now:
            if _begin(server_id, who, now, item):
                return None
        elif item.holders is None:
            found = holders() + len(item.members)   # who was counted has lost what they held
            _change(server_id, _GUARD, [ServerItem.holders.set(found), ServerItem.most.set(limit(found))], ServerItem.since == item.since)
        elif len(item.members) >= item.most:
            return int(item.since) + HOUR
    return None


def _add(server_id, who, now):
    free = ServerItem.members.contains(who) | (size("members") < ServerItem.most)
    return _change(server_id, _GUARD, [ServerItem.members.add({who})], (ServerItem.since > now - HOUR) & free)


def _begin(server_id, who, now, before):
    """True when a new hour begins with this member; False when somebody else began it."""
    stale = ServerItem.since.does_not_exist() if before is None else ServerItem.since == before.since
    return _change(server_id, _GUARD, [ServerItem.since.set(now), ServerItem.members.set({who}), ServerItem.most.set(ALWAYS), ServerItem.holders.remove()], stale)


def _change(scope, kind, actions, condition):
    try:
        ServerItem(scope, kind).update(actions, condition=condition)
        return True
    except UpdateError as error:
        if condition_failed(error):
            return False
        raise
