"""The ledger: audit rows (written before an effect, closed after it), money intents, and parked events."""
from dataclasses import dataclass

from pynamodb.exceptions import DeleteError, DoesNotExist, PutError, UpdateError

from chalicelib.store.tables import Ledger, condition_failed

AUDIT_DAYS = 400
OPEN = "open"     # the id of the one open money intent of a subscription


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
    """The event is kept where somebody is told; parking the same thing again leaves one row. True when it is new."""
    try:
        Ledger(f"parked#{account}", row_id, kind="parked", at=at, data=data).save(Ledger.subject.does_not_exist())
        return True
    except PutError as error:
        if condition_failed(error):
            return False
        raise


def parked(account, *, limit=100):
    """What is parked for this account."""
    return [_entry(item) for item in Ledger.query(f"parked#{account}", limit=limit, consistent_read=True)]


def _entry(item):
    return Entry(item.subject, item.id, item.kind, int(item.at), item.data.as_dict(),
                 item.outcome.as_dict() if item.outcome else None)
