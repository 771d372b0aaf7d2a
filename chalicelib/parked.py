"""Parked events: each is tried again now and then, and released when what it lacked has appeared.

Releasing means the same as an event: the message goes to the queue again, or the member is looked at; the worker judges
anew and parks it again if need be. So a release too many only costs a look.
"""
from collections import Counter

from chalicelib import log, ports
from chalicelib.domain import ids
from chalicelib.gateways import queues
from chalicelib.store import accounts, ledger, links, servers

PAGE = 20           # rows of one partition before the others have their turn
MOST = 500          # rows in one run
SPENT_SHARE = 0.8
END_OF_TIME = 10 ** 11
FOR_SOMEBODY = ("intent_claimed", "wrong_endpoint", "paid_after_erase")     # nothing can appear that would change these: a person judges


def run(*, remaining, limit):
    """{looked, released, failed}: every parked event that is due was tried, or as many as fit in 80 % of the time.

    Partitions take turns, a page each, and the older a row is, the less often it is due: ten thousand rows of somebody's web
    shop neither keep the others waiting nor cost much. A row that fails is due again like any other.
    """
    counts, now = Counter(looked=0, released=0, failed=0), ports.now()
    for account, row_id, at, seen in _due_in_turns(now):
        if counts["looked"] >= MOST or remaining() < limit * (1 - SPENT_SHARE):
            log.info("parked_unfinished", count=counts["looked"])
            break
        entry = ledger.try_parked(account, row_id, at=at, seen=seen, now=now)
        if entry is not None:
            _counted(entry, account, counts)
    if counts["looked"]:
        log.info("parked_tried", count=counts["looked"])
    return dict(counts)


def release(account=None, *, deadline, dry_run=False):
    """{looked, released, failed, left}: what is parked for this account, or for all, was tried at once, due or not.

    `left`: there was no time for the others; the schedule comes to them. With `dry_run` nothing is released, only counted.
    """
    counts, left = Counter(looked=0, released=0, failed=0), False
    for name, entry in everything(account):
        if ports.wall() > deadline:
            left = True
            break
        _counted(entry, name, counts, dry_run=dry_run)
    return {**counts, "left": left}


def release_one(account, row_id, *, dry_run=False):
    """True when this one was released, whatever it lacks: the worker judges it. False when there is no such row to release."""
    entry = ledger.parked_one(account, row_id)
    if entry is None or entry.outcome is not None:
        return False
    if not dry_run:
        _release(entry, account, by="operator")
    return True


def everything(account=None):
    """Yield (account, entry) of all that is parked and not released, of one account or of all."""
    if account is not None:
        yield from ((account, entry) for entry in ledger.parked(account))
        return
    for name, row_id, _, _ in _due_in_turns(END_OF_TIME):
        entry = ledger.parked_one(name, row_id)
        if entry is not None and entry.outcome is None:
            yield name, entry


def _due_in_turns(now):
    """Yield (account, id, parked at, due at) of what is due: a page of each partition, then the next page of each.

    It starts at a random partition, so that none starves when time runs out.
    """
    first = ports.below(ledger.PARKED_SHARDS)
    cursors = {(first + number) % ledger.PARKED_SHARDS: None for number in range(ledger.PARKED_SHARDS)}
    while cursors:
        for shard, cursor in list(cursors.items()):
            rows, cursors[shard] = ledger.due_parked(shard, now=now, limit=PAGE, after=cursor)
            if cursors[shard] is None:
                del cursors[shard]
            yield from rows


def _counted(entry, account, counts, *, dry_run=False):
    """The row was tried on its own: what fails in it concerns no other."""
    counts["looked"] += 1
    try:
        if _appeared(entry, account):
            if not dry_run:
                _release(entry, account, by="appeared")
            counts["released"] += 1
        elif not dry_run and entry.data["why"] == "unknown_subscription":
            _send(entry)    # asked once more; it stays until a link shows that it is known
    except Exception as error:
        counts["failed"] += 1
        log.failure("parked_failed", error, account=account)


def _appeared(entry, account):
    """True when what the row lacked is there now, so that trying it again is worth a message."""
    why, data = entry.data["why"], entry.data
    if why in FOR_SOMEBODY:
        return False
    if why == "unmapped_price":
        server, _ = servers.read(data["server"])
        return "user" in data and server is not None and server.buying(account, data["price"], data.get("charged", "")) is not None    # an erased member has none
    if why == "unknown_account":
        return accounts.serves(account)
    reason = _reason(account, data["message"], data.get("intent"))
    if reason and links.of_subscription(reason):
        return True
    bound = links.of_intent(data["intent"]) if reason and data.get("intent") else None
    return bound is not None and bound.account == account and (why == "unknown_link" or accounts.serves(account, bound.server))


def _reason(account, message, intent):
    """The key of the subscription or purchase that the event is about, as far as we know: a charge's may be unknown."""
    if message.get("kind", "subscription") not in ("subscription", "purchase", "charge", "sale"):    # what it is about can only be asked
        return None
    key = ids.key(account, message["id"])
    if message.get("kind") not in ("charge", "sale"):
        return key
    if known := links.of_charge(key):
        return known[0]
    bound = links.of_intent(intent) if intent else None
    return bound.claimed_by if bound and bound.account == account else None


def _release(entry, account, *, by):
    """Its message is in the queue and the row closed. A crash in between leaves it open: it is released once more.

    A worker may be quicker than we are and park it again: then the row is a new one, and stays open.
    """
    token = ports.token(6)
    if not ledger.begin_release(entry, token=token):
        return
    _send(entry)
    if ledger.close_parked(entry, token=token, at=ports.now(), outcome={"result": "released", "by": by}):
        log.info("parked_released", account=account, why=entry.data["why"])


def _send(entry):
    data = entry.data
    if data["why"] == "unmapped_price":
        queues.send(queues.MEMBERS, {"user": data["user"], "server": data["server"], "cause": "parked:unmapped_price"}, group=data["server"])
    elif data["why"] == "unknown_subscription":     # with its tries: it is asked once, and parked again at once
        queues.send(queues.events_of(data["message"]["account"]), data["message"])
    else:
        queues.send(queues.events_of(data["message"]["account"]), {name: value for name, value in data["message"].items() if name != "tries"})
