"""What an operator holds back and lets go again: the switches for strips and grants, and the mass-strip guard (domain/brakes.py)."""
from chalicelib import audit, log, ports, problem, view
from chalicelib.domain import brakes as rules
from chalicelib.domain import ids
from chalicelib.domain.closed import EVERYWHERE
from chalicelib.domain.plan import GUARDED
from chalicelib.gateways import queues
from chalicelib.store import brakes, members, servers

LONGEST_LIFT = 7 * 86_400


def switch(what, *, off, server_id=None, dry_run=False):
    """Strips or grants (`what`) are off, or on, in this server or everywhere; answers what was so before and how many were called.

    Off counts for every round that begins afterwards: one that is under way, a minute at most, is finished. On calls the members for whom
    something waits; whom it misses comes within the hour. Doing it again changes nothing but calls them again. Problem 404: no such server.
    """
    scope = _known(server_id) if server_id else EVERYWHERE
    before = what in brakes.standing([scope]).get(scope, {}).get("off", ())
    said = {"scope": scope, "what": what, "off": off, "before": before, "dry_run": dry_run}
    if dry_run:
        return said | {"waiting": _count(_concerned(scope), rules.SWITCHES[what])}
    with audit.act(scope, {"cause": f"operator:{what}_{'off' if off else 'on'}", "before": "off" if before else "on"}, at=ports.now(), about="server"):
        brakes.switch(scope, what, off=off)
    if off:
        log.alarm("switched_off", server=scope, why=rules.SWITCHES[what])
        return said
    return said | {"called": sum(_call(server, rules.SWITCHES[what], f"operator:{what}_on") for server in _concerned(scope))}


def switches():
    """What is off, and where: [{scope, off}]."""
    return [{"scope": scope, "off": found["off"]} for scope, found in _standing().items() if found.get("off")]


def lift(server_id, *, seconds, dry_run=False):
    """Doubtful strips of this server pass uncounted for so many seconds (0: no longer), and whoever waits for that is called. Problem 400, 404."""
    server, now = _known(server_id), ports.now()
    if not 0 <= seconds <= LONGEST_LIFT:
        raise problem.bad_request(f"Lift it for 0 to {LONGEST_LIFT} seconds.")
    said = {"server": server, "lifted_until": view.iso(now + seconds), "dry_run": dry_run}
    if dry_run:
        return said | {"waiting": _count([server], GUARDED)}
    with audit.act(server, {"cause": "operator:guard_lifted", "seconds": seconds}, at=now, about="server"):
        brakes.lift(server, until=now + seconds)
    return said | {"called": _call(server, GUARDED, "operator:guard_lifted") if seconds else 0}


def guards():
    """Every server in which the guard has counted or is lifted: what it counted since when, how many it lets pass, until when it blocks, and who many wait."""
    return [{"server": scope, "counted": found.get("counted", 0), "most": found.get("most"), "holders": found.get("holders"),
             **{name: view.iso(found.get(name)) for name in ("since", "blocked_until", "lifted_until")}, "waiting": _count([scope], GUARDED)}
            for scope, found in _standing().items() if found.get("since") or found.get("lifted_until")]


def _standing():
    return brakes.standing(servers.directory())


def _known(server_id):
    if not ids.valid("snowflake", server_id) or servers.read(server_id)[0] is None:
        raise problem.not_found()
    return server_id


def _concerned(scope):
    return servers.directory() if scope == EVERYWHERE else [scope]


def _waiting(server, why):
    """Yield the users for whom something of this server waits for that reason."""
    for user, roles in members.roles_of_server(server):
        if any(known.block and known.block.why == why for known in roles.values()):
            yield user


def _count(scopes, why):
    return sum(1 for server in scopes for _ in _waiting(server, why))


def _call(server, why, cause):
    """How many members of the server were called. A crash leaves some who come within the hour by themselves."""
    called = [({"user": user, "server": server, "cause": cause}, server) for user in _waiting(server, why)]
    queues.send_all(queues.MEMBERS, called)
    return len(called)
