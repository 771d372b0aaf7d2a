"""The due sweep: what is due is sent to the queue. It does no work itself and trusts no stored end."""
from chalicelib import log, ports, settings
from chalicelib.gateways import queues
from chalicelib.store import members

PAGE = 100
SPENT_SHARE = 0.8
PUSH_SECONDS = settings.LEASE_SECONDS


def due(*, remaining, limit):
    """How many memberships were sent: all that are due, or as many as fit in 80 % of the time (`limit`, seconds).

    Each row is pushed on before it is sent, so that the next tick does not send it again; a crash in between delays it by
    one push. It starts at a random partition, so that none starves when time runs out.
    """
    sent, waiting = 0, []
    for user, server in _pushed(remaining, limit):
        waiting.append(({"user": user, "server": server, "cause": "sweep"}, server))
        if len(waiting) == queues.BATCH:
            queues.send_all(queues.MEMBERS, waiting)
            sent, waiting = sent + len(waiting), []
    if waiting:
        queues.send_all(queues.MEMBERS, waiting)
    if sent + len(waiting):
        log.info("swept", count=sent + len(waiting))
    return sent + len(waiting)


def _pushed(remaining, limit):
    """Every due (user, server), pushed on, until 80 % of the time are spent."""
    first = ports.below(members.SHARDS)
    for number in range(members.SHARDS):
        cursor, more = None, True
        while more:
            rows, cursor = members.due((first + number) % members.SHARDS, now=ports.now(), limit=PAGE, after=cursor)
            for user, server, seen in rows:
                if remaining() < limit * (1 - SPENT_SHARE):
                    return log.alarm("sweep_unfinished")
                if members.push_due(user, server, seen=seen, later=ports.now() + PUSH_SECONDS):
                    yield user, server
            more = cursor is not None
