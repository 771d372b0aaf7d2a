"""Do as many members show each role that is sold as we have given it to? One question a server and day; told, and never acted upon.

It is an alarm, not a repair: what was taken by hand the daily look at each member finds and gives again, and what was given by hand is
its giver's to take (a role is ours only when we have granted it).
"""
from collections import Counter

from chalicelib import log, ports, problem
from chalicelib.domain import ids
from chalicelib.domain.closed import BAD_TOKEN, BANNED
from chalicelib.domain.plan import HELD, MAY
from chalicelib.gateways import discord
from chalicelib.gateways.outcomes import Done, OutOfTime, Retry
from chalicelib.store import members, servers

GIVEN, TAKEN = "given_elsewhere", "taken_elsewhere"
SPENT_SHARE = 0.8
MARGIN_SECONDS = 3


def run(*, remaining, limit):
    """{servers, drifted, failed}: every server's roles were counted and drift was told, or as many as fit in 80 % of the time.

    Each server on its own, beginning with another one each time. Where Discord is closed it is left for the next day.
    """
    names = sorted(servers.directory())
    first, counts = ports.below(len(names)) if names else 0, Counter(servers=0, drifted=0, failed=0)
    for name in names[first:] + names[:first]:
        if remaining() < limit * (1 - SPENT_SHARE):
            log.info("role_counts_unfinished", count=counts["servers"])
            break
        counts["servers"] += 1
        try:
            counts["drifted"] += _told(name, deadline=ports.wall() + remaining() - MARGIN_SECONDS)
        except OutOfTime:
            log.info("role_counts_unfinished", server=name)
        except Exception as error:
            counts["failed"] += 1
            log.failure("role_counts_failed", error, server=name)
    return dict(counts)


def _told(server_id, *, deadline):
    """True when something drifts there; by cause, somebody is told how much."""
    found = Counter()
    for role in of_server(server_id, deadline=deadline) or ():
        if role["cause"]:
            found[role["cause"]] += role["drift"]
    for cause, count in sorted(found.items()):
        log.alarm("drift", server=server_id, kind=cause, count=count)
    return bool(found)


def of_server(server_id, *, deadline):
    """[{role, name, shown, held, may, drift, cause}] of every role that is sold there; None while Discord cannot be asked. Problem 404.

    `shown`: so many members have it; `held`: we gave it to so many; `may`: so many more it is not certain of, a call being on its way or
    refused. `drift`: by how much `shown` lies outside of what that allows, and whether it was given or taken by somebody else.
    """
    server, closed = servers.read(server_id) if ids.valid("snowflake", server_id) else (None, [])
    if server is None:
        raise problem.not_found()
    if any(one.until > ports.wall() or one.why == BANNED for one in closed):    # after a ban one worker probes, not this
        return None
    answer = discord.role_counts(server=server_id, deadline=deadline)
    if not isinstance(answer, Done):
        return _unanswered(server_id, answer)
    held, may = _ours(server_id)
    return [_compared(role, server, answer.value.get(role, 0), held[role], may[role]) for role in sorted({r for offer in server.offers for r in offer.roles})]


def _unanswered(server_id, answer):
    """Nothing is known; all workers wait where the answer concerns them."""
    if isinstance(answer, Retry) and answer.scope is not None:
        servers.close(answer.scope, until=ports.wall() + answer.after, why=answer.why, token_mark=discord.token_mark() if answer.why == BAD_TOKEN else None)
        log.alarm("discord_closed", server=server_id, why=answer.why, seconds=int(answer.after))
    else:
        log.info("role_counts_unknown", server=server_id, why=answer.why)


def _ours(server_id):
    """(held, may): {role id: in how many memberships}. Where somebody is at work, nothing is certain."""
    held, may = Counter(), Counter()
    for roles, settled in members.shown_in_server(server_id):
        for role, state in roles.items():
            if state == HELD and settled:
                held[role] += 1
            elif state in (HELD, MAY) or not settled:
                may[role] += 1
    return held, may


def _compared(role, server, shown, held, may):
    more, fewer = shown - held - may, held - shown
    cause = GIVEN if more > 0 else TAKEN if fewer > 0 else None
    return {"role": role, "name": server.role_name(role), "shown": shown, "held": held, "may": may, "drift": max(more, fewer, 0), "cause": cause}
