"""Memberships: one item per user and server, and every conditional write on it (the mechanism of docs/architecture.md).

Only the holder of the lease writes `roles`, the facts in `subs`, `done` and `checked_at`. A request may come from
anybody at any time: it adds to `requested`, brings what it has to say, and takes the lease if there is none.
"""
import zlib
from dataclasses import asdict, dataclass

from pynamodb.exceptions import DoesNotExist, PutError, UpdateError
from pynamodb.expressions.condition import size

from chalicelib.domain.holds import Hold
from chalicelib.domain.plan import LOOK_PAUSE, Block, Role
from chalicelib.domain.subscription import Subscription, from_facts
from chalicelib.store.tables import Membership, condition_failed

SHARDS = 16
MOST_SUBSCRIPTIONS = 100
MOST_HOLDS = 200


class TooMany(Exception):
    """The membership holds as many subscriptions as one item can carry; more are refused loudly."""


@dataclass(frozen=True)
class Row:
    """A membership as one consistent read or write returned it.

    `subs` {key: Subscription}; `holds` {charge key: Hold}; `lookups` charges still to be asked about; `roles` {role id: Role}; `lease` {token, until (wall clock), step} or None; `due_at`,
    `look_at`, `checked_at` on the business clock; `requested`/`done` count requests made and accounted for.
    """
    user: str
    server: str
    requested: int
    done: int
    lease: dict | None
    roles: dict
    subs: dict
    holds: dict
    lookups: frozenset
    look: bool
    look_at: int | None
    due_at: int | None
    checked_at: int
    causes: tuple


def shard(user, server):
    """Which of the due index's sixteen partitions this membership waits in."""
    return zlib.crc32(f"{user}/{server}".encode()) % SHARDS


def create(*, user, server, now):
    """There is a membership for this user and server, new and empty unless there was one already.

    It counts as looked at: the daily look comes in a day, one that is asked for at once.
    """
    item = Membership(user, server, requested=0, done=0, roles={}, subs={}, holds={}, checked_at=now - LOOK_PAUSE)
    try:
        item.save(Membership.user_id.does_not_exist())
    except PutError as error:
        if not condition_failed(error):
            raise
        Membership(user, server).update([Membership.holds.set(Membership.holds | {})])


def of_user(user):
    """Every membership of this user: one consistent query."""
    return [_row(item) for item in Membership.query(user, consistent_read=True)]


def read(user, server):
    """The membership as it is now (consistent), or None."""
    try:
        return _row(Membership.get(user, server, consistent_read=True))
    except DoesNotExist:
        return None


def request(*, user, server, token, now, wall, lease_seconds, cause, subscription=None, hold=None, look=False):
    """This member will be looked at again, whatever happens to the caller; the row returned says whether by us.

    One write counts the request, makes the row due after a lease's length, stores what the request brings (the stub of a
    subscription, a charge to ask about, a wish to look at Discord, its cause), and takes the lease if there is none: it is
    ours when the row's token is `token`. A crash after it leaves a row that the sweep finds.
    """
    actions = [
        Membership.requested.add(1),
        Membership.due_shard.set(shard(user, server)),
        Membership.due_at.set(now + lease_seconds),
        Membership.lease.set(Membership.lease | {"token": token, "until": int(wall) + lease_seconds, "step": 0}),
        Membership.causes.add({cause}),
    ]
    if subscription:
        path = Membership.subs[subscription]
        actions.append(path.set(path | Subscription(key=subscription).facts()))
    if hold:
        path = Membership.holds[hold.key]
        actions += [path.set(path | hold.facts()), Membership.lookups.add({hold.key})]
    else:   # a row of before there were holds has no map to put one into
        actions.append(Membership.holds.set(Membership.holds | {}))
    if look:
        actions.append(Membership.look.set(True))
    condition = Membership.requested.exists()
    if subscription:
        condition &= Membership.subs[subscription].exists() | (size("subs") < MOST_SUBSCRIPTIONS)
    if hold:
        condition &= Membership.holds.exists() & (Membership.holds[hold.key].exists() | (size("holds") < MOST_HOLDS))
    row = _update(user, server, actions, condition)
    if row is None:
        create(user=user, server=server, now=now)   # the first contact; changes nothing when there is a row
        row = _update(user, server, actions, condition)
    if row is None:
        raise TooMany(f"more than {MOST_SUBSCRIPTIONS} subscriptions or {MOST_HOLDS} holds in one server")
    return row


def take_over(row, *, token, now, wall, lease_seconds):
    """The expired lease of `row` is ours, or None if it changed hands meanwhile (then somebody else saw the request).

    What the dead holder sent may still land, so Discord is looked at once more after a lease's length.
    """
    return _update(row.user, row.server, [
        Membership.lease.set({"token": token, "until": int(wall) + lease_seconds, "step": 0}),
        Membership.look_at.set(now + lease_seconds),
        Membership.due_shard.set(shard(row.user, row.server)),
        Membership.due_at.set(now + lease_seconds),
    ], (Membership.lease["token"] == row.lease["token"]) & (Membership.lease["until"] == row.lease["until"]))


def save(row, *, roles, facts, holds=()):
    """Before Discord is called: what is about to be touched is stored as `may`, and the step has moved on.

    Returns the row as written, or None when the lease is no longer ours: nothing may be touched then. A crash after it
    leaves `may` entries that the next holder strips or grants again.
    """
    return _update(row.user, row.server, [
        Membership.lease["step"].set(row.lease["step"] + 1),
        *_roles(roles), *_facts(facts), *_holds(holds),
    ], _ours(row))


def finish(row, *, roles, facts, due_at, look_at, checked_at, holds=(), lookups=()):
    """Everything requested is accounted for and the lease is gone; None when it is not so. `lookups` stay to be asked about.

    None means that somebody requested meanwhile, or that the lease is lost: read the row again to tell.
    """
    return _update(row.user, row.server, [
        *_roles(roles), *_facts(facts), *_holds(holds), *_due(row, due_at),
        Membership.lookups.set(set(lookups)) if lookups else Membership.lookups.remove(),
        Membership.done.set(row.requested), Membership.checked_at.set(checked_at),
        Membership.look_at.set(look_at) if look_at is not None else Membership.look_at.remove(),
        Membership.lease.remove(), Membership.causes.remove(), Membership.look.remove(),
    ], _ours(row) & (Membership.requested == row.requested))


def pause(row, *, roles, facts, due_at, holds=()):
    """The lease is gone, the progress stored, and the sweep comes back at `due_at`; the requests stay unaccounted for."""
    return _update(row.user, row.server, [
        *_roles(roles), *_facts(facts), *_holds(holds), *_due(row, due_at), Membership.lease.remove(),
    ], _ours(row))


def due(shard_number, *, now, limit, after=None):
    """(rows [(user, server, due_at)], cursor) of one partition of the due index, earliest first; the index lags."""
    found = Membership.due.query(shard_number, Membership.due_at <= now, limit=limit, last_evaluated_key=after)
    rows = [(item.user_id, item.server_id, int(item.due_at)) for item in found]
    return rows, found.last_evaluated_key


def of_server(server_id, *, page=100):
    """Yield the users of this server's memberships, a page at a time; the index lags."""
    cursor, more = None, True
    while more:
        found = Membership.by_server.query(server_id, limit=page, last_evaluated_key=cursor)
        yield [item.user_id for item in found]
        cursor = found.last_evaluated_key
        more = cursor is not None


def push_due(user, server, *, seen, later):
    """The row, due at `seen`, is due at `later` instead, so that the next tick does not send it again; False if it moved."""
    return _update(user, server, [Membership.due_at.set(later)], Membership.due_at == seen) is not None


def _ours(row):
    return (Membership.lease["token"] == row.lease["token"]) & (Membership.lease["step"] == row.lease["step"])


def _roles(roles):
    """Only the lease's holder writes roles, so the whole map may be set; always: `row` may carry answers not stored yet."""
    return [Membership.roles.set({role: _stored(known) for role, known in roles.items()})]


def _facts(facts):
    """Facts go into single entries: a stub that a request has just added must survive."""
    return [Membership.subs[sub.key].set(sub.facts()) for sub in facts]


def _holds(holds):
    return [Membership.holds[hold.key].set(hold.facts()) for hold in holds]


def _due(row, due_at):
    if due_at is None:
        return [Membership.due_at.remove(), Membership.due_shard.remove()]
    return [Membership.due_at.set(due_at), Membership.due_shard.set(shard(row.user, row.server))]


def _update(user, server, actions, condition):
    item = Membership(user, server)
    try:
        item.update(actions, condition=condition)
    except UpdateError as error:
        if condition_failed(error):
            return None
        raise
    return _row(item)


def _stored(known):
    return {"state": known.state} | ({"block": asdict(known.block)} if known.block else {})


def _role(stored):
    block = stored.get("block")
    return Role(stored["state"], Block(**block) if block else None)


def _row(item):
    return Row(
        user=item.user_id, server=item.server_id, requested=int(item.requested), done=int(item.done),
        lease=item.lease.as_dict() if item.lease else None,
        roles={role: _role(stored) for role, stored in item.roles.as_dict().items()},
        subs={key: from_facts(key, facts) for key, facts in item.subs.as_dict().items()},
        holds={key: Hold(key=key, **facts) for key, facts in (item.holds.as_dict() if item.holds else {}).items()},
        lookups=frozenset(item.lookups or ()), look=bool(item.look), look_at=item.look_at, due_at=item.due_at, checked_at=int(item.checked_at),
        causes=tuple(sorted(item.causes or ())))
