"""What holds role changes back although they are due: switches that an operator has set, and the mass-strip guard.

A strip is *proven* when the processor's own word, or an end that it announced, is the evidence. Any other one (a mapping is gone, an
offer's roles or policies have changed, nothing is left that could say why) is *doubtful*: one mistake in a server's settings makes many
of them at once, so the guard counts them.
"""
from dataclasses import dataclass, replace

from chalicelib.domain.plan import ABSENT, GRANT, GRANTS_OFF, HELD_BACK, STRIP, STRIPS_OFF, Block, Plan, Role, unmapped, wanted
from chalicelib.domain.subscription import Terms, access

STRIPS, GRANTS = "strips", "grants"
SWITCHES = {STRIPS: STRIPS_OFF, GRANTS: GRANTS_OFF}
HOUR = 3_600
ALWAYS = 5              # so many members of a server may lose something doubtfully in an hour, however small it is
_SHARE = 10             # percent of those who hold something
_GENEROUS = Terms(grace_days=36_500)    # the kindest offer that there could be: nothing bought once ends, and grace never does


@dataclass(frozen=True)
class Brakes:
    """What holds a server's role changes back: `off` (STRIPS, GRANTS), and the guard, tripped until `blocked_until`, lifted until `lifted_until`."""
    off: frozenset = frozenset()
    blocked_until: int | None = None
    lifted_until: int | None = None

    def lifted(self, now):
        """True while an operator lets doubtful strips pass uncounted."""
        return self.lifted_until is not None and now < self.lifted_until

    def blocked(self, now):
        """The instant until which no doubtful strip is made, or None."""
        return self.blocked_until if self.blocked_until is not None and now < self.blocked_until else None


def limit(holders):
    """How many members of a server may lose something doubtfully in an hour, when so many hold something."""
    return max(ALWAYS, holders * _SHARE // 100)


def switched(plan, off):
    """(the calls that may be made while these switches are `off`, {role: (verb, why)} of the others).

    While a member's grant waits, so do the strips: who has switched plans is not left with neither role.
    """
    strips = STRIPS_OFF if STRIPS in off else GRANTS_OFF if GRANTS in off and plan.grants else None
    waits = {role: (GRANT, GRANTS_OFF) for role in plan.grants if GRANTS in off}
    waits |= {role: (STRIP, strips) for role in plan.strips if strips}
    return Plan(() if GRANTS in off else plan.grants, () if strips else plan.strips), waits


def doubtful(strips, roles, subs, unread, now):
    """Those of the strips that nothing proves. `subs` as just read; `unread` could not be.

    Where the processor says of everything that the member ever bought that it gives nothing now, whatever an offer might say,
    all are proven; else those that `proven` has marked. Who has bought nothing has no such word.
    """
    if subs and not unread and not any(_could_give(sub, now) for sub in subs):
        return ()
    return tuple(role for role in strips if not roles[role].proven)


def _could_give(sub, now):
    return any(access(sub, item, terms=_GENEROUS, now=now).stands for item in sub.items)


def proven(roles, before, after, server, now):
    """The roles, those marked that the processor's own word has just ended.

    `before`, `after`: ({key: Subscription}, {charge key: Hold}) as known and as read now. Under *today's* settings the known facts gave the
    role when they were read, and the new ones do not: so it is not the settings that have changed. A subscription that now has a
    paid line which no offer knows proves nothing: its mapping may be what is gone.
    """
    (knew, knew_holds), (subs, holds) = before, after
    over = set()
    for key, sub in subs.items():
        gave = wanted([knew[key]], knew_holds.values(), server, knew[key].read_at)
        if gave and not unmapped([sub], server):
            over |= set(gave) - set(wanted([sub], holds.values(), server, now))
    return {role: replace(known, proven=True) if role in over and known.state != ABSENT else known for role, known in roles.items()}


def waiting(roles, waits, *, until, now):
    """The roles with what holds back those in `waits` {role: (verb, why)}: nothing is recorded as done, and it is judged anew at `until`.

    `tried` is since when it waits for that.
    """
    after = dict(roles)
    for role, (verb, why) in waits.items():
        known = roles.get(role, Role())
        same = known.block is not None and (known.block.verb, known.block.why) == (verb, why)
        after[role] = replace(known, block=Block(verb, why, until, tried=known.block.tried if same else now))
    return after


def held_back(roles):
    """Why something of these roles waits for a switch or the guard, or None."""
    return min((known.block.why for known in roles.values() if known.block and known.block.why in HELD_BACK), default=None)
