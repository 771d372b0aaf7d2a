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
    sent, first = 0, ports.below(members.SHARDS)
    for number in range(members.SHARDS):
        cursor, more = None, True
        while more:
            if remaining() < limit * (1 - SPENT_SHARE):
                log.alarm("sweep_unfinished", count=sent)
                return sent
            rows, cursor = members.due((first + number) % members.SHARDS, now=ports.now(), limit=PAGE, after=cursor)
            sent += _send(rows)
            more = cursor is not None
    if sent:
        log.info("swept", count=sent)
    return sent


def _send(rows):
    later = ports.now() + PUSH_SECONDS
    pushed = [(user, server) for user, server, seen in rows if members.push_due(user, server, seen=seen, later=later)]
    queues.send_all(queues.MEMBERS, [({"user": user, "server": server, "cause": "sweep"}, server) for user, server in pushed])
    return len(pushed)
