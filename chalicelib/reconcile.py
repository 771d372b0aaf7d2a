"""Make Discord show what is wanted, and record that it does: the one mechanism. Its rules: docs/architecture.md.

A webhook, a click and the clock all mean the same: look at this member again. Requests are counted in the row, one holder
of the lease works, whatever is about to be touched is stored as `may` first, and only Discord's answers make it `held`.
"""
from dataclasses import dataclass, replace

from chalicelib import anonymise, audit, log, ports, settings
from chalicelib.domain import brakes, ids, story
from chalicelib.domain import plan as rules
from chalicelib.domain.closed import BAD_TOKEN, BANNED
from chalicelib.domain.holds import Hold
from chalicelib.domain.plan import GRANT, STRIP
from chalicelib.domain.subscription import remembering
from chalicelib.gateways import discord, processors, wire
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Refused, Retry, Unknown
from chalicelib.store import brakes as store_brakes
from chalicelib.store import members, servers

SETTLED, LEFT, PAUSED, IN_DOUBT, LOST, ERASED = "settled", "left", "paused", "in_doubt", "lost", "erased"

UNKNOWN_RETRY_SECONDS = 120
LONGEST_WAIT_SECONDS = 3_600
MOST_COUNTED = 10_000   # memberships read to learn how many of a server hold something: two seconds
MOST_ROUNDS = 8


@dataclass(frozen=True)
class Look:
    """Why somebody looks: `cause` (a processor's event id, `member:restore`, `sweep` …) and what the request brings; `known`: nobody is looked at who has no row."""
    user: str
    server: str
    cause: str
    subscription: str | None = None
    hold: Hold | None = None
    look: bool = False
    bound_at: int | None = None
    erase: dict | None = None
    known: bool = False


def reconcile(look, *, deadline):
    """This member's wanted and shown roles are equal, or the row says when to look again. Answers how it ended.

    settled; left (somebody else works and will see the request, or there is nobody to look at); paused (due later); in_doubt (the lease stands, the next
    one takes over); lost (the lease changed hands); erased (what the member asked to have erased is). `deadline`: no outside call may outlive it (wall clock, seconds).
    """
    ended = _work(look, deadline)
    log.info("reconciled", user=look.user, server=look.server, outcome=ended, cause=look.cause)
    return ended


def _work(look, deadline):
    row = _take(look)
    if row is None:
        return LEFT
    noted = []
    for _ in range(MOST_ROUNDS):
        work = _Round(row, look.cause, deadline, noted)
        ended = work.run()
        if isinstance(ended, str):
            return ended
        row = ended
    return work.pause(work.clock)


def _take(look):
    """The row with the lease in our hands, or None when somebody else holds it and will see the request."""
    token = ports.token()
    wall = ports.wall()
    row = members.request(user=look.user, server=look.server, token=token, now=ports.now(), wall=wall,
                          lease_seconds=settings.LEASE_SECONDS, cause=look.cause, subscription=look.subscription,
                          hold=look.hold, bound_at=look.bound_at, erase=look.erase, known=look.known, look=look.look)
    if row is None:
        return None
    if row.lease["token"] == token:
        return row
    if row.lease["until"] > wall:
        return None
    return members.take_over(row, token=token, now=ports.now(), wall=wall, lease_seconds=settings.LEASE_SECONDS)


class _Round:
    """One pass of the lease's holder: clock, fetch, look, plan, save, Discord, finish.

    `run` answers how the work ended (a word), or a newer row to go round with. `roles` is what we know so far: as stored,
    then as a look showed them, then as Discord answered. `noted` are the changes that earlier rounds have told already.
    """

    def __init__(self, row, cause, deadline, noted):
        self.row, self.cause, self.deadline, self.noted = row, cause, deadline, noted
        self.roles, self.checked_at, self.look_at = row.roles, row.checked_at, row.look_at
        self.subs, self.unread, self.facts, self.wants = {}, [], [], {}
        self.holds, self.asked, self.unasked = dict(row.holds), [], []
        self.looked = self.absent = self.leaving = False
        self.lost = []
        self.server, self.probe = None, None

    def run(self):
        self.clock = ports.now()    # before the fetch: an end is judged by a clock that the fetch cannot precede
        self.server, self.closed = servers.read(self.row.server)
        if self.server is None:
            log.alarm("server_unknown", server=self.row.server)
            return self.pause(self.clock + UNKNOWN_RETRY_SECONDS)
        try:
            self._fetch()
            self._prove()
            return self._look() or self._decide()
        except OutOfTime:
            self._prove()
            return self.pause(self.clock)

    def _prove(self):
        """The roles that the processor's own word has just ended say so: with these facts stored, no later round could tell."""
        self.roles = brakes.proven(self.roles, (self.row.subs, self.row.holds), (self.subs, self.holds), self.server, self.clock)

    def _fetch(self):
        """Every subscription of this member here is freshly read, unless it is over, and then every charge in question.

        Those that could not be read are apart.
        """
        for key, known in self.row.subs.items():
            if rules.over(known, self.server, self.clock):
                self.subs[key] = known
            elif isinstance(found := self._read(key), Unknown) and known.terminal:     # it never comes back, whatever cannot be read now
                self.subs[key] = known
            elif isinstance(found, Unknown):
                log.alarm("subscription_unknown", user=self.row.user, server=self.row.server, why=found.why)
                self.unread.append(known)
            else:
                self.subs[key] = found
                self.facts.append(found)
        for hold in self._in_question():
            if isinstance(found := self._ask(hold), Unknown):
                log.alarm("charge_unknown", user=self.row.user, server=self.row.server, why=found.why)
                self.unasked.append(hold.key)
            else:
                self.holds[hold.key] = found
                self.asked.append(found)

    def _read(self, key):
        found = processors.of(key).read_subscription(key, read_at=self.clock, deadline=self.deadline)
        return found if isinstance(found, Unknown) else remembering(self.row.subs[key], found, fixed=self.row.ends.get(key))

    def _ask(self, hold):
        return processors.of(hold.key).read_hold(hold, read_at=self.clock, deadline=self.deadline)

    def _in_question(self):
        """The charges to ask about: as requested; while a dispute is open or the money is back; and what a purchase's own reading shows troubled."""
        found = {key: hold for key, hold in self.row.holds.items()
                 if key in self.row.lookups or hold.asked_again(self.clock) and hold.reason in {sub.key for sub in self.facts}}
        for sub in self.facts:
            key = ids.key(sub.account, sub.charge) if sub.charge else None
            if key and (sub.troubled or key in self.row.holds):
                found[key] = self.row.holds.get(key) or Hold(key, sub.key)
        return [found[key] for key in sorted(found)]

    def _look(self):
        """`roles` are what Discord shows, if a look is due; or how the work must end because it could not be asked."""
        if not (self.row.look or self.checked_at + rules.LOOK_EVERY <= self.clock
                or self.look_at is not None and self.look_at <= self.clock):
            return None
        if self.clock < self.checked_at + rules.LOOK_PAUSE:     # somebody keeps asking: once more, in a moment
            self._look_again(self.checked_at + rules.LOOK_PAUSE)
            return None
        if wait := self._closed_until():
            return self.pause(wait)
        answer = discord.member_roles(server=self.row.server, user=self.row.user, deadline=self.deadline)
        if isinstance(answer, Done | Refused):
            self._open_again()
        if isinstance(answer, Done):
            self.roles = rules.seen(self.roles, answer.value)
        elif answer == Refused(rules.NOT_IN_SERVER):
            self.absent = True
            self.roles = rules.gone(self.roles, now=self.clock)
        else:
            return self.pause(self._come_back(answer))
        self.looked, self.checked_at = True, self.clock
        self.lost = story.lost(self.row.roles, self.roles)
        if self.look_at is not None and self.look_at <= self.clock:     # one that is still ahead is for what may land by then
            self.look_at = None
        return None

    def _look_again(self, instant):
        """A look is planned at `instant`, or later if one was planned for later already."""
        self.look_at = max(instant, self.look_at or 0)

    def _decide(self):
        self.wants = rules.wanted(self.subs.values(), self.holds.values(), self.server, self.clock)
        self.leaving = self._leaving()
        if self.leaving:
            self.wants = {}
        plan = rules.plan(self.roles, self.wants, rules.kept(self.unread, self.server), now=self.clock, forced=self.looked)
        plan, waits = brakes.switched(plan, self.server.brakes.off)
        self._hold_back({} if self.absent else waits, self.clock + LONGEST_WAIT_SECONDS)
        if plan.strips and not self._held_at_one_instant():
            return self.row     # start over: nothing has been written
        if self.looked and (again := rules.force_again(self.roles, self.wants, plan)):
            self._look_again(again)
        audit.park_unmapped(self.row, rules.unmapped(self.subs.values(), self.server), at=self.clock)
        if self.absent:
            self.roles = rules.gone(self.roles, now=self.clock, wanting=self.wants)
        elif plan.touched:
            return self._apply(plan)
        return self._finish()

    def _hold_back(self, waits, until):
        """These calls {role: (verb, why)} wait, each with its reason and due again at `until`."""
        self.roles = brakes.waiting(self.roles, waits, until=until, now=self.clock)
        for why in sorted({why for _, why in waits.values()}):
            log.alarm("held_back", user=self.row.user, server=self.row.server, why=why, count=sum(one == why for _, one in waits.values()))

    def _guarded(self, plan):
        """The plan without the strips that the mass-strip guard blocks. Only what nothing proves costs a write; an owner's or member's act proves it."""
        doubtful = () if self.leaving else brakes.doubtful(plan.strips, self.roles, self.subs.values(), self.unread, self.clock)
        on = self.server.brakes
        if not doubtful or on.lifted(self.clock):
            return plan
        until = on.blocked(self.clock)
        if until is None:
            until = store_brakes.count(self.row.server, self.row.user, now=self.clock, holders=lambda: members.holders(self.row.server, most=MOST_COUNTED))
            if until is None:
                return plan
            if store_brakes.trip(self.row.server, until=until):
                log.alarm("mass_strip_guard", server=self.row.server, seconds=until - self.clock)
        self._hold_back({role: (STRIP, rules.GUARDED) for role in doubtful}, until)
        return replace(plan, strips=tuple(role for role in plan.strips if role not in doubtful))

    def _leaving(self):
        """True for a member who is to be erased and pays for nothing any more. Who still pays keeps it: somebody is told."""
        if not self.row.erased:
            return False
        pays = any(not sub.terminal and not ids.is_purchase(sub.key) for sub in self.subs.values())
        if pays:
            log.alarm("erase_waits", user=self.row.user, server=self.row.server, why="still_paid")
        return not pays

    def _held_at_one_instant(self):
        """True when no earlier reading has changed since: only then were they all true at once, and a strip may follow."""
        read = [*self.facts, *self.asked]
        return all((self._ask(one) if isinstance(one, Hold) else self._read(one.key)) == one
                   for one in read[:-1] if isinstance(one, Hold) or not one.terminal)

    def _apply(self, plan):
        if wait := self._closed_until():
            return self.pause(wait)
        if ports.wall() + wire.WORST_SECONDS > self.deadline:
            raise OutOfTime
        plan = self._guarded(plan)
        if not plan.touched:
            return self._finish()
        before, told = self.roles, self._told(plan)
        saved = members.save(self.row, roles=rules.saved(before, plan), facts=self.facts, holds=self.asked)
        if saved is None:
            return LOST
        # What was requested since the fetch is not in this plan: finish must not take it for accounted for.
        self.row, self.roles, self.facts = replace(saved, requested=self.row.requested), saved.roles, []
        self.asked = []
        row_id = audit.open_roles(saved, plan, told, at=self.clock)
        answers = {}
        ended = self._call(plan, before, answers)
        audit.close_roles(saved, row_id, answers)
        return ended() if ended else self._finish()

    def _told(self, plan=None):
        """What a person would want to know of this round, once each: the story of a role change, or else {} when nothing changed."""
        changes = [sub for sub in story.changed(self.row.subs, self.facts) if story.plain(sub) not in self.noted]
        charges = [hold for hold in story.changed_holds(self.row.holds, self.asked) if story.asked_plain(hold) not in self.noted]
        lost, self.lost = self.lost, []
        if not (plan or changes or charges or lost):
            return {}
        self.noted += [*(story.plain(sub) for sub in changes), *(story.asked_plain(hold) for hold in charges)]
        subs = [*self.subs.values(), *self.unread]
        return {"cause": self.cause, "changed": [sub.key for sub in changes], "lost": lost,
                "charges": {hold.key: hold.facts() for hold in charges}, "evidence": story.evidence(subs, changes), "why": story.why(plan, self.wants, subs, self.server) if plan else {}}

    def _note(self, result):
        """What changed although no role was touched is in the ledger, before it is stored: a crash here tells it twice at most."""
        if told := self._told():
            audit.note(self.row, told, result=result, at=self.clock)

    def _call(self, plan, before, answers):
        """Grants, then strips, one role a call; how the round must end early, or None. `answers` {role: (verb, answer)}."""
        for verb, role in [(GRANT, r) for r in plan.grants] + [(STRIP, r) for r in plan.strips]:
            call = discord.grant if verb == GRANT else discord.strip
            try:
                answer = call(server=self.row.server, user=self.row.user, role=role, deadline=self.deadline,
                              reason=f"Rolekeep: {self.cause}")
            except OutOfTime:
                return lambda: self.pause(self.clock)
            answers[role] = verb, answer
            if ended := self._answered(verb, role, answer, before):
                return ended
        return None

    def _answered(self, verb, role, answer, before):
        """`roles` say what Discord answered; how the round must end now, or None to go on with the next role."""
        if isinstance(answer, InDoubt):
            return lambda: IN_DOUBT     # it may still land: write nothing, the next one takes over when the lease ends
        if isinstance(answer, Done | Refused):
            self._open_again()
        if isinstance(answer, Done) or (verb, answer) == (STRIP, Refused("role_deleted")):
            self.roles = rules.done(self.roles, role, verb)
        elif answer == Refused(rules.NOT_IN_SERVER):
            self.roles, self.checked_at = rules.gone(self.roles, now=self.clock, wanting=self.wants), self.clock
            return self._finish
        elif isinstance(answer, Refused) or answer.scope is None:
            self.roles = rules.refused(self.roles, role, verb, answer.why, before=before, now=self.clock,
                                       definite=isinstance(answer, Refused))
            block = self.roles[role].block
            # A grant that has failed too often keeps the strips behind it waiting no longer: they would wait for ever.
            return None if isinstance(answer, Refused) or verb == GRANT and not rules.patient(block) else lambda: self.pause(block.next)
        else:
            return lambda: self.pause(self._come_back(answer))
        return None

    def _closed_until(self):
        """The business instant until which Discord is closed for this server, or None when it may be called."""
        wall = ports.wall()
        stale = [c for c in self.closed if c.why == BAD_TOKEN and c.token_mark != discord.token_mark()]
        for closed in stale:
            servers.reopen(closed)
        self.closed = [closed for closed in self.closed if closed not in stale]
        if until := max((closed.until for closed in self.closed if closed.until > wall), default=None):
            return self._later(until - wall)
        for closed in self.closed:
            if closed.why == BANNED and self.probe is None:
                self.probe = servers.claim_probe(closed, until=wall + discord.BAN_SECONDS)
                if self.probe is None:
                    return self._later(discord.BAN_SECONDS)
        return None

    def _open_again(self):
        """After a ban, the one who was let through has got an answer of Discord's own: everybody may call it again."""
        if self.probe:
            servers.reopen(self.probe)
            self.probe, self.closed = None, []

    def _come_back(self, answer):
        """The business instant at which to try again; all other workers wait too where the answer concerns them."""
        if not isinstance(answer, Retry):
            return self._later(UNKNOWN_RETRY_SECONDS)
        if answer.scope is not None:
            servers.close(answer.scope, until=ports.wall() + answer.after, why=answer.why,
                          token_mark=discord.token_mark() if answer.why == BAD_TOKEN else None)
            log.alarm("discord_closed", server=self.row.server, why=answer.why, seconds=int(answer.after))
        return self._later(answer.after)

    def _later(self, seconds):
        return self.clock + min(int(seconds) + 1, LONGEST_WAIT_SECONDS)

    def _due(self, roles, *, look_at, checked_at):
        unknown = [*self.unread, *(self.row.holds.get(key) for key in self.unasked)]
        retries = [self.clock + _unread_wait(one, self.clock) for one in unknown]
        return rules.due(self.subs.values(), roles, self.server, clock=self.clock, holds=self.holds.values(), retries=retries,
                         look_at=look_at, checked_at=checked_at)

    def _finish(self):
        roles = rules.tidy(self.roles, self.wants)
        due_at = self._due(roles, look_at=self.look_at, checked_at=self.checked_at)
        self._note("not_in_server" if self.absent and self.wants else brakes.held_back(roles) or "nothing_to_do")
        if self._leaving() and not self.unread and self.look_at is None and all(r.state == rules.ABSENT for r in roles.values()):
            return self._bury(roles)
        if members.finish(self.row, roles=roles, lookups=self.unasked, due_at=due_at, look_at=self.look_at,
                          checked_at=self.checked_at, **self._learned()):
            return SETTLED
        return self._newer(roles)

    def _bury(self, roles):
        """Nothing is held any more, nor may be: the ledger and the links name nobody, and the row is a tombstone.

        A crash before the last write leaves a row that is due, and everything is done again under the same pseudonym.
        """
        if wait := anonymise.anonymise(self.row, at=self.clock, deadline=self.deadline):
            return self.pause(wait)
        return ERASED if members.bury(self.row, now=self.clock) else self._newer(roles)

    def _newer(self, roles):
        """The row to go round with when somebody requested since, or LOST when the lease is not ours any more."""
        newer = members.read(self.row.user, self.row.server)
        if newer is None or newer.lease is None or newer.lease["token"] != self.row.lease["token"]:
            return LOST
        return replace(newer, roles=roles, checked_at=self.checked_at, look_at=self.look_at)

    def pause(self, then):
        """The lease is given back, the progress stored, and the row due at `then` or at its next end.

        A look that is overdue waits until `then` like everything else: due in the past would mean due at every tick.
        """
        ends = self._due(self.roles, look_at=None, checked_at=self.clock) if self.server else None
        due_at = then if ends is None else min(then, ends)
        self._note("waits")
        return PAUSED if members.pause(self.row, roles=self.roles, due_at=due_at, **self._learned()) else LOST

    def _learned(self):
        """{facts, holds} to be stored: what was read; and of what could not be, since when it cannot."""
        def failing(known):
            return [replace(one, unread_since=one.unread_since or self.clock) for one in known]

        unasked = [self.row.holds[key] for key in self.unasked if key in self.row.holds]
        return {"facts": [*self.facts, *failing(self.unread)], "holds": [*self.asked, *failing(unasked)]}


def _unread_wait(known, clock):
    """Seconds until a read that failed is made again: a twentieth of the time that it has been failing, an hour at most.

    After an outage of six hours everything is right within eighteen minutes; an account that is gone for months costs little.
    """
    failing = clock - (known and known.unread_since or clock)
    return min(max(failing // 20, UNKNOWN_RETRY_SECONDS), LONGEST_WAIT_SECONDS)
