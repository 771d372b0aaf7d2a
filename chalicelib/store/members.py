"""Memberships: one item per user and server, and every conditional write on it (the mechanism of docs/architecture.md).

Only the holder of the lease writes `roles`, the facts in `subs`, `done` and `checked_at`. A request may come from
anybody at any time: it adds to `requested`, brings what it has to say, and takes the lease if there is none.
"""
import zlib
from dataclasses import asdict, dataclass, field

from pynamodb.exceptions import DoesNotExist, PutError, UpdateError
from pynamodb.expressions.condition import size

from chalicelib.domain.holds import Hold
from chalicelib.domain.plan import LOOK_PAUSE, Block, Role
from chalicelib.domain.subscription import GIVEN_UP, Subscription, from_facts
from chalicelib.store.tables import Membership, condition_failed

SHARDS = 16
MOST_SUBSCRIPTIONS = 100
MOST_HOLDS = 200
TOMBSTONE_DAYS = 60     # as long as a checkout that was begun before may still be paid


class TooMany(Exception):
    """The membership holds as many subscriptions as one item can carry; more are refused loudly."""


class Erased(Exception):
    """The member's data is erased, or is being erased, or was erased after this purchase began: the row takes nothing new."""


@dataclass(frozen=True)
class Row:
    """A membership as one consistent read or write returned it.

    `subs` {key: Subscription}; `holds` {charge key: Hold}; `lookups` charges still to be asked about; `roles` {role id: Role}; `lease` {token, until (wall clock), step} or None; `due_at`,
    `look_at`, `checked_at` on the business clock; `requested`/`done` count requests made and accounted for; `erased` {at, as}
    while the member's data is being erased, under which pseudonym. `ends` {key: instant}: the end that was read before a cancellation
    of ours of what its processor then forgets, or GIVEN_UP.
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
    erased: dict | None = None
    ends: dict = field(default_factory=dict)


def shard(user, server):
    """Which of the due index's sixteen partitions this membership waits in."""
    return zlib.crc32(f"{user}/{server}".encode()) % SHARDS


def create(*, user, server, now, revive=False):
    """There is a membership for this user and server, new and empty unless there was one already.

    It counts as looked at: the daily look comes in a day, one that is asked for at once. What is left of an erased one stays
    as it is, unless it has expired, or `revive`: the member is back by an act of their own. The new row then knows when the old
    one was erased, so that nothing from before attaches itself to it.
    """
    gone = Membership.requested.does_not_exist()
    if _put_new(user, server, now, None, Membership.user_id.does_not_exist() | gone & (Membership.ttl <= now)) or not revive:
        return
    if buried := tombstone(user, server):
        _put_new(user, server, now, int(buried["at"]), gone & (Membership.erased["as"] == buried["as"]))


def _put_new(user, server, now, born, condition):
    try:
        Membership(user, server, requested=0, done=0, roles={}, subs={}, holds={}, checked_at=now - LOOK_PAUSE, born=born).save(condition)
        return True
    except PutError as error:
        if not condition_failed(error):
            raise
        return False


def tombstone(user, server):
    """{at, as} of a membership that was erased, or None when it was not, or is not yet."""
    item = _item(user, server)
    return item.erased.as_dict() if item is not None and item.requested is None else None


def _item(user, server):
    try:
        return Membership.get(user, server, consistent_read=True)
    except DoesNotExist:
        return None


def of_user(user):
    """Every membership of this user: one consistent query. What is left of erased ones is not among them."""
    return [_row(item) for item in Membership.query(user, consistent_read=True) if item.requested is not None]


def read(user, server):
    """The membership as it is now (consistent), or None; None as well for one that was erased."""
    item = _item(user, server)
    return None if item is None or item.requested is None else _row(item)


def request(*, user, server, token, now, wall, lease_seconds, cause, subscription=None, hold=None, look=False, bound_at=None, erase=None,
            known=False):
    """This member will be looked at again, whatever happens to the caller; the row returned says whether by us.

    One write counts the request, makes the row due after a lease's length, stores what the request brings (the stub of a
    subscription, a charge to ask about, a wish to look at Discord, its cause), and takes the lease if there is none: it is
    ours when the row's token is `token`. A crash after it leaves a row that the sweep finds.

    `bound_at`: when the purchase of the subscription began. `erase` {as, asked}: from now on the row is to be erased under that
    pseudonym, or the one that it has already; an old wish does not reach a row that has begun afresh since. Returns None when
    there is nobody to look at; with `known` no row is made for a member without one. Raises Erased for a new subscription of a member
    whose data is erased, or was erased after `bound_at`.
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
    if erase:
        actions.append(Membership.erased.set(Membership.erased | {"at": now, "as": erase["as"]}))
    condition = Membership.requested.exists()
    if erase:
        condition &= Membership.born.does_not_exist() | (Membership.born < erase["asked"])
    if subscription:
        fresh = (size("subs") < MOST_SUBSCRIPTIONS) & Membership.erased.does_not_exist()
        if bound_at is not None:
            fresh &= Membership.born.does_not_exist() | (Membership.born < bound_at)
        condition &= Membership.subs[subscription].exists() | fresh
    if hold:
        condition &= Membership.holds.exists() & (Membership.holds[hold.key].exists() | (size("holds") < MOST_HOLDS))
    row = _update(user, server, actions, condition)
    if row is None and _ready(user, server, now, subscription=subscription, hold=hold, bound_at=bound_at, erase=erase, known=known):
        row = _update(user, server, actions, condition)
        if row is None:
            raise TooMany(f"more than {MOST_SUBSCRIPTIONS} subscriptions or {MOST_HOLDS} holds in one server")
    return row


def _ready(user, server, now, *, subscription, hold, bound_at, erase, known):
    """True when a request that was not taken may be made again; False when there is nobody to look at. Raises Erased."""
    item = _item(user, server)
    if item is None or item.requested is None and item.ttl <= now:
        if not known:
            create(user=user, server=server, now=now)   # the first contact
        return not known
    born = int(item.born or 0)
    if item.requested is None or subscription and subscription not in item.subs.as_dict() and (
            item.erased or bound_at is not None and born and born >= bound_at):
        if subscription:
            raise Erased
        return False
    if erase and born >= erase["asked"]:
        return False
    if hold and item.holds is None:     # a row of before there were holds has no map to put one into
        Membership(user, server).update([Membership.holds.set(Membership.holds | {})], condition=Membership.requested.exists())
    return True


def fix_end(user, server, key, end, *, now, lease_seconds):
    """What was paid for this subscription is known to last to `end`, or is GIVEN_UP, whatever the processor forgets; the row is due.

    It counts as a request, so that a holder of the lease who has read the row before goes round. It takes no lease: its caller sends
    the member to the queue, and after a crash the sweep comes. Of several ends the latest counts: one that was written before
    a cancellation that failed shortens nothing. True unless there is no such subscription here any more.
    """
    return _update(user, server, [
        Membership.requested.add(1), Membership.ends.add({f"{key}={end}"}),
        Membership.due_shard.set(shard(user, server)), Membership.due_at.set(now + lease_seconds),
    ], Membership.requested.exists() & Membership.subs[key].exists()) is not None


def _ends(said):
    found = {}
    for key, _, end in sorted(one.partition("=") for one in said):
        found[key] = GIVEN_UP if GIVEN_UP in (int(end), found.get(key)) else max(int(end), found.get(key, 0))
    return found


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


def bury(row, *, now):
    """What is left of the membership says that it was erased, for `TOMBSTONE_DAYS`: no request, no sweep and no look revives it.

    True when it is so; False when somebody requested meanwhile, or the lease is lost.
    """
    item = Membership(row.user, row.server, erased=row.erased, ttl=now + TOMBSTONE_DAYS * 86_400)
    try:
        item.save(_ours(row) & (Membership.requested == row.requested))
        return True
    except PutError as error:
        if condition_failed(error):
            return False
        raise


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
    try:    # by the connection, which reads nothing back: a row that cannot be read must not stop the sweep of all others
        Membership._get_connection().update_item(user, range_key=server, actions=[Membership.due_at.set(later)],
                                                 condition=Membership.due_at == seen)
    except UpdateError as error:
        if condition_failed(error):
            return False
        raise
    return True


def shown_in_server(server_id):
    """Yield ({role id: state}, settled) of each membership of this server; not settled: somebody is at work on it, or is to be.

    A hundred at a time; which there are the index tells, which lags, and each is read as it is, eventually consistent: for counting only.
    """
    for users in of_server(server_id):
        wanted = ["user_id", "server_id", "roles", "requested", "done", "lease"]
        for item in Membership.batch_get([(user, server_id) for user in users], attributes_to_get=wanted):
            roles = {role: stored["state"] for role, stored in (item.roles.as_dict() if item.roles else {}).items()}
            yield roles, item.lease is None and item.requested == item.done


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
        causes=tuple(sorted(item.causes or ())), erased=item.erased.as_dict() if item.erased else None, ends=_ends(item.ends or ()))
