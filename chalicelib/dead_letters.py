"""Dead letters: what failed until SQS put it aside, looked at, given back at a limited rate, or thrown away with a record of it.

Every message means *look at this member again*, so one that is given back days later, twice, or in another order does no harm. That is
why giving back is: send first, delete then. A crash in between gives it back once more; nothing is lost at any instant.
"""
import json
from collections import Counter

from chalicelib import audit, log, ports
from chalicelib.domain.ids import OPERATOR
from chalicelib.gateways import queues
from chalicelib.problem import bad_request

MOST_A_SECOND = 50
# All that our messages have (worker.py). A dead letter may be anybody's: of what else is in it only the number is told.
_SHOWN = ("v", "event", "type", "account", "kind", "id", "subscription", "tries", "endpoint", "hint", "user", "server", "cause", "look", "erase", "asked")
_LONGEST, _TOO_LARGE = 100, 10 ** 15


def depths(queue=None):
    """[{queue, dead, waiting, under_way, delayed}] of one queue or of all."""
    return [{"queue": name, **queues.depth(name)} for name in ([_known(queue)] if queue else queues.QUEUES)]


def show(queue, *, letter_id=None, deadline):
    """({found, done, failed, left}, [{queue, id, at, message}]): the dead letters as they are; all stay and are to be had at once."""
    seen = []

    def keep(letter):
        seen.append({"queue": queue, "id": letter.id, "at": letter.sent_at, "message": _shown(letter)})
        return False

    return _each(queue, keep, letter_id=letter_id, deadline=deadline), seen


def redrive(queue, *, letter_id=None, rate, deadline, dry_run=False):
    """{found, done, failed, left}: the dead letters, or the one of that id, are in their queue again, `rate` a second at most.

    `left`: there was no time for all. One that SQS did not take stays where it was. With `dry_run` they are only counted.
    """
    if not 1 <= rate <= MOST_A_SECOND:
        raise bad_request(f"The rate is 1 to {MOST_A_SECOND} messages a second.")
    if dry_run:
        return _each(queue, lambda letter: False, letter_id=letter_id, deadline=deadline)

    def give_back(letter):
        queues.send_again(queue, letter)
        queues.forget(queue, letter)    # not before it is in its queue: a crash here gives it back twice
        ports.sleep(1 / rate)
        return True

    with audit.act(OPERATOR, {"cause": "operator:dlq_redrive", "queue": _known(queue), "rate": rate, **_named(letter_id)}, at=ports.now()) as outcome:
        counts = _each(queue, give_back, letter_id=letter_id, deadline=deadline)
        outcome.update(counts)
    return counts


def discard(queue, *, letter_id=None, deadline, dry_run=False):
    """{found, done, failed, left}: the dead letters, or the one of that id, are gone; for each an audit row says what it was."""
    def drop(letter):
        with audit.act(OPERATOR, {"cause": "operator:dlq_discard", "queue": queue, "id": letter.id, "sent_at": letter.sent_at,
                                  "message": _shown(letter)}, at=ports.now()):
            queues.forget(queue, letter)
        return True

    return _each(queue, (lambda letter: False) if dry_run else drop, letter_id=letter_id, deadline=deadline)


def _each(queue, act, *, letter_id, deadline):
    """{found, done, failed, left}: `act` was called with each dead letter, or with the one of that id, and done counts those it did.

    Whatever it left is to be had again when this ends; after a crash, when `HIDDEN_SECONDS` are over.
    """
    counts, kept, met, left = Counter(found=0, done=0, failed=0), [], set(), False
    _known(queue)
    try:
        while not (left or letter_id and counts["found"]) and (page := queues.dead_letters(queue)):
            for letter in page:
                left = left or ports.wall() > deadline
                fresh, wanted = letter.id not in met, letter_id in (None, letter.id)
                met.add(letter.id)
                counts["found"] += fresh and wanted and not left
                if left or not (fresh and wanted) or not _did(act, letter, queue, counts):
                    kept.append(letter)
    finally:
        queues.put_back(queue, kept)
    return {**counts, "left": left}


def _did(act, letter, queue, counts):
    """True when it was done; what fails with one letter concerns no other."""
    try:
        done = act(letter)
    except Exception as error:
        counts["failed"] += 1
        log.failure("dead_letter_failed", error, queue=queue, message_id=letter.id)
        return False
    counts["done"] += done
    return done


def _known(queue):
    if queue not in queues.QUEUES:
        raise bad_request(f"The queues are {', '.join(queues.QUEUES)}.")
    return queue


def _named(letter_id):
    return {"id": letter_id} if letter_id else {}


def _shown(letter):
    """What may be shown of it: the fields of our own messages, cut short; of anything else only how much it is."""
    try:
        body = json.loads(letter.body)
    except (ValueError, RecursionError):
        return {"unreadable": len(letter.body)}
    if not isinstance(body, dict):
        return {"unreadable": len(letter.body)}
    said = {name: value[:_LONGEST].encode("ascii", "replace").decode() if isinstance(value, str) else value for name in _SHOWN
            if isinstance(value := body.get(name), str) or isinstance(value, int) and abs(value) < _TOO_LARGE}
    return said | ({"others": others} if (others := len(body) - len(said)) else {})
