"""The ledger: audit rows (written before an effect, closed after it), money intents, and parked events."""
import zlib
from dataclasses import dataclass

from pynamodb.exceptions import DeleteError, DoesNotExist, PutError, UpdateError

from chalicelib.store.tables import Ledger, condition_failed

AUDIT_DAYS = 400
OPEN = "open"     # the id of the one open money intent of a subscription
RELEASED_DAYS = 90
PARKED_SHARDS = 16
PARKED_FIRST_SECONDS, PARKED_MOST_SECONDS = 600, 86_400     # between two tries of a parked event


@dataclass(frozen=True)
class Entry:
    """One ledger row: `data` as written before the effect, `outcome` as written after it (None while open)."""
    subject: str
    id: str
    kind: str
    at: int
    data: dict
    outcome: dict | None


def member_subject(user, server):
    """The subject of everything that was done about one member of one server."""
    return f"member#{user}#{server}"


def open_audit(*, subject, row_id, at, data, outcome=None):
    """There is an audit row for what is about to be done: cause, actor, evidence, changes. A crash leaves it open."""
    Ledger(subject, row_id, kind="audit", at=at, data=data, outcome=outcome, ttl=at + AUDIT_DAYS * 86_400).save()


def close_audit(*, subject, row_id, outcome):
    """The audit row tells how it went; one that is gone (its member was erased) does not come back."""
    _update(subject, row_id, [Ledger.outcome.set(outcome)])


def of(subject, *, limit=100):
    """The newest rows of a subject."""
    return [_entry(item) for item in Ledger.query(subject, scan_index_forward=False, limit=limit, consistent_read=True)]


def every(subject, *, starting=None):
    """Every row of a subject whose id starts so, oldest first (consistent)."""
    return [_entry(item) for item in Ledger.query(subject, Ledger.id.startswith(starting) if starting else None, consistent_read=True)]


def move(entry, *, subject, data):
    """The row stands under another subject with other data, and no longer where it stood. Doing it twice changes nothing."""
    Ledger(subject, entry.id, kind=entry.kind, at=entry.at, data=data, outcome=entry.outcome, ttl=entry.at + AUDIT_DAYS * 86_400).save()
    Ledger(entry.subject, entry.id).delete()


def rewrite(entry, data):
    """The row holds this data instead, if it is still there."""
    _update(entry.subject, entry.id, [Ledger.data.set(data)])


def _update(subject, row_id, actions):
    try:
        Ledger(subject, row_id).update(actions, condition=Ledger.subject.exists())
    except UpdateError as error:
        if not condition_failed(error):
            raise


def page(subject, *, before=None, limit=None):
    """The newest rows of a subject whose ids lie before that one; eventually consistent: for showing only."""
    older = Ledger.id < before if before else None
    return [_entry(item) for item in Ledger.query(subject, older, scan_index_forward=False, limit=limit)]


def parked_prices(account, key, prices):
    """The parked rows of these prices of the subscription `key`; eventually consistent: for showing only."""
    wanted = [(f"parked#{account}", unmapped_id(key, price)) for price in dict.fromkeys(prices)]
    return [_entry(item) for item in Ledger.batch_get(wanted)] if wanted else []


def unmapped_id(key, price):
    """The id of the parked row of a paid price that no offer knows."""
    return f"unmapped_price:{key}:{price}"


def open_intent(*, key, at, data):
    """(entry, ours): the one open money intent of this subscription. `ours` is False when it was open already.

    It is written before the processor is called, so that a time-out or a crash leaves the idempotency key to go on with.
    """
    item = Ledger(f"money#{key}", OPEN, kind="intent", at=at, data=data)
    try:
        item.save(Ledger.subject.does_not_exist())
        return _entry(item), True
    except PutError as error:
        if not condition_failed(error):
            raise
    standing = read_intent(key)
    return (standing, False) if standing else open_intent(key=key, at=at, data=data)


def read_intent(key):
    """The open money intent of this subscription, or None."""
    try:
        return _entry(Ledger.get(f"money#{key}", OPEN, consistent_read=True))
    except DoesNotExist:
        return None


def close_intent(entry, *, at, outcome):
    """The intent is over and kept under its own id; the next one may open. Closing it twice changes nothing."""
    Ledger(entry.subject, f"{entry.at:012d}-{entry.data['intent']}", kind="intent", at=entry.at, data=entry.data,
           outcome=outcome | {"at": at}, ttl=entry.at + AUDIT_DAYS * 86_400).save()
    _remove_open(entry, Ledger.data["intent"] == entry.data["intent"])


def join_intent(entry):
    """True when somebody else's intent is still open and now says that another one acts under it too."""
    try:
        Ledger(entry.subject, OPEN).update([Ledger.data["joined"].set(True)],
                                            condition=Ledger.data["intent"] == entry.data["intent"])
        return True
    except UpdateError as error:
        if condition_failed(error):
            return False
        raise


def withdraw_intent(entry):
    """True when the intent is gone because nobody has acted under it; False when somebody else did."""
    return _remove_open(entry, (Ledger.data["intent"] == entry.data["intent"]) & Ledger.data["joined"].does_not_exist())


def _remove_open(entry, condition):
    try:
        Ledger(entry.subject, OPEN).delete(condition)
        return True
    except DeleteError as error:
        if condition_failed(error):
            return False
        raise


def park(*, account, row_id, at, data):
    """The event is kept where somebody is told, and tried again later; parking the same thing again leaves one row.

    True when it is new, when what it lacked was there and is gone again, or when it is just being released: then the
    release does not close it.
    """
    free = Ledger.subject.does_not_exist() | Ledger.outcome.exists() | Ledger.releasing.exists()
    try:
        Ledger(_parked_subject(account), row_id, kind="parked", at=at, data=data, parked_shard=parked_shard(account, row_id),
               look_at=at + PARKED_FIRST_SECONDS).save(free)
        return True
    except PutError as error:
        if condition_failed(error):
            return False
        raise


def parked_shard(account, row_id):
    """Which partition of the index `parked` the row waits in: what one account lacks of one kind waits together."""
    return zlib.crc32(f"{account}:{row_id.split(':')[0]}".encode()) % PARKED_SHARDS


def parked(account, *, limit=None):
    """What is parked for this account and not released, in no order of time; pages are fetched as they are needed."""
    return [_entry(item) for item in Ledger.query(_parked_subject(account), limit=limit, consistent_read=True, page_size=100)
            if item.outcome is None]


def parked_one(account, row_id):
    """The parked event of that id, released or not, or None."""
    try:
        return _entry(Ledger.get(_parked_subject(account), row_id, consistent_read=True))
    except DoesNotExist:
        return None


def due_parked(shard, *, now, limit, after=None):
    """(rows [(account, id, parked at, to be tried at)], cursor) of one partition, what is due longest first; the index lags."""
    found = Ledger.parked.query(shard, Ledger.look_at <= now, limit=limit, last_evaluated_key=after)
    rows = [(item.subject.removeprefix("parked#"), item.id, int(item.at), int(item.look_at)) for item in found]
    return rows, found.last_evaluated_key


def try_parked(account, row_id, *, at, seen, now):
    """The row, which the caller alone tries now; None when somebody else does, or it was released.

    The next try comes after as long as it has been parked (since `at`): the older, the less often.
    """
    later = now + min(max(now - at, PARKED_FIRST_SECONDS), PARKED_MOST_SECONDS)
    return _change_parked(Ledger(_parked_subject(account), row_id), [Ledger.look_at.set(later)],
                          (Ledger.look_at == seen) & Ledger.outcome.does_not_exist())


def begin_release(entry, *, token):
    """False when the row was released meanwhile. From now on whoever parks it anew keeps it from being closed."""
    item = Ledger(entry.subject, entry.id)
    return _change_parked(item, [Ledger.releasing.set(token)], Ledger.subject.exists() & Ledger.outcome.does_not_exist()) is not None


def close_parked(entry, *, token, at, outcome):
    """True when the row is closed and kept for a while; False when it was parked anew since `begin_release`."""
    actions = [Ledger.outcome.set(outcome | {"at": at}), Ledger.ttl.set(at + RELEASED_DAYS * 86_400), Ledger.parked_shard.remove(),
               Ledger.look_at.remove(), Ledger.releasing.remove()]
    return _change_parked(Ledger(entry.subject, entry.id), actions, Ledger.releasing == token) is not None


def _parked_subject(account):
    return f"parked#{account}"


def _change_parked(item, actions, condition):
    try:
        item.update(actions, condition=condition)
    except UpdateError as error:
        if condition_failed(error):
            return None
        raise
    return _entry(item)


def _entry(item):
    return Entry(item.subject, item.id, item.kind, int(item.at), item.data.as_dict(),
                 item.outcome.as_dict() if item.outcome else None)
