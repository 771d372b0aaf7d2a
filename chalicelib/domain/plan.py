"""From what is paid to what Discord must show: wanted roles, the calls that are needed, and when to look again.

A membership's `roles` is {role id: Role}; `held` are roles that we granted and have not seen removed, `may` are roles
that a call of ours may have left behind, `absent` is every other role ever touched. Rules: docs/architecture.md.
"""
from dataclasses import dataclass, replace

from chalicelib.domain.holds import held
from chalicelib.domain.ids import PAYPAL
from chalicelib.domain.subscription import BOOKED_LATE, BOUGHT, DAY, RUNNING_OUT, access, instants

HELD, MAY, ABSENT = "held", "may", "absent"
GRANT, STRIP = "grant", "strip"

NOT_IN_SERVER = "not_in_server"
UNAVAILABLE = "discord_unavailable"
GUARDED, STRIPS_OFF, GRANTS_OFF = HELD_BACK = ("guarded", "strips_off", "grants_off")    # by ourselves (brakes.py), and judged anew each time
_PATIENT_TRIES = 2      # so often a grant may fail in an outage before strips stop waiting for it: three minutes at most
LOOK_EVERY = DAY
LOOK_PAUSE = 4          # seconds between two looks, however often somebody asks
_FORCE_MOST = 60        # seconds between two tries of a refused role, however often somebody asks: 2, 4, 8 … 60
_RETRY_FIRST, _RETRY_MOST = 60, 3_600
_REFUSED_FIRST, _REFUSED_MOST = 3_600, DAY


@dataclass(frozen=True)
class Block:
    """Why the last call for a role did not succeed: `verb` grant or strip, made at `tried`, next one not before `next`."""
    verb: str
    why: str
    next: int
    tries: int = 1
    tried: int = 0

    @property
    def forced_from(self):
        """The instant from which a look may try again before `next`."""
        return self.tried + min(2 ** min(self.tries, 10), _FORCE_MOST)


@dataclass(frozen=True)
class Role:
    """What we know of one role of one member; `proven`: the processor's own word is why it is to go (brakes.py)."""
    state: str = ABSENT
    block: Block | None = None
    proven: bool = False


@dataclass(frozen=True)
class Want:
    """Why a role should be held: until when (None: no end is known) and by which subscriptions and purchases.

    `renews`: it goes on by further payments; with neither an end nor that it is held for good. `grace`: a payment is due.
    """
    until: int | None
    sources: tuple
    renews: bool = False
    grace: bool = False


@dataclass(frozen=True)
class Plan:
    """The calls to make now, grants first."""
    grants: tuple = ()
    strips: tuple = ()

    @property
    def touched(self):
        return (*self.grants, *self.strips)


def wanted(subscriptions, holds, server, now):
    """{role id: Want}: the union over all reasons that no hold takes away, so that a role goes with its last reason only."""
    wants = {}
    for sub in subscriptions:
        for item in sub.items:
            bought = server.bought(sub, item)
            if bought is None or held(holds, sub.key, bought[0], now):
                continue
            given = access(sub, item, terms=server.terms(sub, item), now=now)
            if given.stands:
                for role in bought[0].roles:
                    wants[role] = _longer(wants.get(role), Want(given.until, (sub.key,), given.renews, given.grace))
    return wants


def _longer(one, other):
    if one is None:
        return other
    if _length(other) < _length(one):
        one, other = other, one
    return replace(other, sources=tuple(dict.fromkeys((*one.sources, *other.sources))))


def _length(want):
    """What has an end is shorter than what renews, and that is shorter than what is held for good."""
    return (0, want.until) if want.until is not None else (1 if want.renews else 2, 0)


def over(sub, server, now):
    """True when nothing can come of it any more, so that it need not be read again: it has ended for good, or, bought once,
    its days are over. What was cancelled at PayPal is read for a few days more: a payment that was under way buys a period.
    """
    if sub.status == RUNNING_OUT:
        return now >= sub.cancel_at + BOOKED_LATE
    if sub.status == "canceled" and sub.processor == PAYPAL:
        return now >= (sub.ended_at or 0) + BOOKED_LATE
    if sub.status != BOUGHT:
        return sub.terminal
    ends = [access(sub, item, terms=server.terms(sub, item), now=now) for item in sub.items]
    return all(server.bought(sub, item) for item in sub.items) and not any(given.stands for given in ends)


def kept(unread, server):
    """Roles that the subscriptions that could not be read might grant: all that is sold through their accounts.

    A plan may have been switched since the last read, so the last known roles alone would not do.
    """
    return set().union(*(server.roles_sold_through(sub.account) for sub in unread)) if unread else set()


def unmapped(subscriptions, server):
    """(subscription, line) of every paid line that no offer of this server knows."""
    return [(sub, item) for sub in subscriptions if sub.status in ("active", "trialing", "past_due", RUNNING_OUT, BOUGHT)
            for item in sub.items if server.bought(sub, item) is None]


def plan(roles, wants, keeps, *, now, forced=False):
    """The calls that make Discord agree. `forced` (a look) tries blocked roles again before their time, but not at once.

    While a grant waits for Discord to answer again, so do the strips, for a few minutes: who has switched plans is not left
    with neither role.
    """
    held = {role for role, known in roles.items() if known.state == HELD}
    ours = {role for role, known in roles.items() if known.state in (HELD, MAY)}

    def tried(role, verb):
        block = roles[role].block if role in roles else None
        return (block is None or block.verb != verb or block.next <= now or block.why in HELD_BACK
                or forced and block.forced_from <= now)

    grants = tuple(sorted(role for role in set(wants) - held if tried(role, GRANT)))
    if any(patient(roles[role].block) for role in set(wants) - held - set(grants) if role in roles):
        return Plan(grants)
    return Plan(grants, tuple(sorted(role for role in ours - set(wants) - keeps if tried(role, STRIP))))


def patient(block):
    """True for a grant that waits for Discord to answer again, and that strips wait for."""
    return block is not None and (block.verb, block.why) == (GRANT, UNAVAILABLE) and block.tries <= _PATIENT_TRIES


def force_again(roles, wants, plan):
    """The instant at which a look may try again the wanted roles that were refused too recently for this one, or None."""
    blocks = [known.block for role, known in roles.items() if role in wants and known.state != HELD and role not in plan.grants]
    return min((block.forced_from for block in blocks if block and block.why not in (NOT_IN_SERVER, *HELD_BACK)), default=None)


def saved(roles, plan):
    """The roles as they are stored before Discord is called: whatever is about to be touched may or may not be held."""
    return roles | {role: replace(roles.get(role, Role()), state=MAY) for role in plan.touched}


def seen(roles, shown):
    """The roles after a look that showed the role ids `shown`.

    A role ever touched that Discord shows may be ours again; one that was held and is not shown is absent. A `may` stays
    one: the call that left it may still land.
    """
    after = {}
    for role, known in roles.items():
        block = None if known.block and known.block.why == NOT_IN_SERVER else known.block
        state = known.state
        if role in shown and state == ABSENT:
            state = MAY
        elif role not in shown and state == HELD:
            state = ABSENT
        after[role] = Role(state, block, known.proven and state != ABSENT)
    return after


def gone(roles, *, now, wanting=()):
    """The roles of a member who is not in the server: none is held, wanted ones wait until somebody looks again."""
    wait = Block(GRANT, NOT_IN_SERVER, now + LOOK_EVERY, tried=now)
    return ({role: Role(ABSENT, known.block if _waits(known) else None) for role, known in roles.items()}
            | {role: Role(ABSENT, wait) for role in wanting})


def _waits(known):
    return known.block is not None and known.block.why == NOT_IN_SERVER


def done(roles, role, verb):
    """The roles after Discord said yes: `held` comes from nowhere else."""
    return roles | {role: Role(HELD if verb == GRANT else ABSENT)}


def refused(roles, role, verb, why, *, before, now, definite):
    """The roles after a refusal, which is never recorded as done.

    A refused strip stays `may`. A refused grant stays `may` too, unless the role was in neither set when the lease was
    taken (`before`) and the refusal is definite: then nothing of ours can have left it behind.
    """
    known = roles.get(role, Role())
    tries = known.block.tries + 1 if known.block and (known.block.verb, known.block.why) == (verb, why) else 1
    first, most = (_REFUSED_FIRST, _REFUSED_MOST) if definite else (_RETRY_FIRST, _RETRY_MOST)
    block = Block(verb, why, now + min(first * 2 ** min(tries - 1, 12), most), tries, now)
    untouched = before.get(role, Role()).state == ABSENT
    return roles | {role: Role(ABSENT if verb == GRANT and definite and untouched else MAY, block, known.proven and verb == STRIP)}


def tidy(roles, wants):
    """The roles without what no longer matters: the block of a grant that nobody wants any more, or of a strip of a wanted role, and its proof."""
    def matters(role, known):
        if known.block is None:
            return False
        return role in wants and known.state != HELD if known.block.verb == GRANT else \
            role not in wants and known.state != ABSENT
    return {role: Role(known.state, known.block if matters(role, known) else None, known.proven and role not in wants) for role, known in roles.items()}


def due(subscriptions, roles, server, *, clock, holds=(), retries=(), look_at=None, checked_at):
    """The instant at which to look at this member again, or None when nothing is paid, wanted or held any more.

    `clock` is the business clock as read *before* the fetch: an end that passed since then must come out again.
    """
    live = [sub for sub in subscriptions if not over(sub, server, clock)]
    ours = [known for known in roles.values() if known.state != ABSENT]
    if not live and not ours and look_at is None and not retries:
        return None
    times = [*retries, checked_at + LOOK_EVERY]
    times += [look_at] if look_at is not None else []
    times += [known.block.next for known in roles.values() if known.block and known.block.next > clock]
    times += [hold.until for hold in holds if hold.until is not None and hold.until > clock]
    for sub in live:
        changes = instants(sub, terms=lambda item: server.terms(sub, item))
        times += [instant for instant in changes if instant > clock]
    return min(times)
