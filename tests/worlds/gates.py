"""Several workers of plain synchronous product code, stopped at every outside call, in every order that matters.

Each worker is a greenlet. Around each call to a world stands a gate; there the driver lets the call happen, lets another
worker go first, gives a fault instead of the answer, or ends the worker for ever: before the call, after it took effect
(the answer is lost), or so that the effect lands some time later. A dead worker runs no more product code that could
have an effect, and its `finally` blocks reach no world. `explore` runs every schedule with at most so many preemptive
switches, deaths and faults, each from the same beginning, and asks a judge after each; every schedule is a list of
`Choice`s that `replay` repeats and `readable` prints.

    report = explore(Scenario("two events", worlds=(tables, stripe, discord), start=start, judge=judge, clock=clock))
    assert not report.violations, report

Time is the scenario's clock, which moves only where the scenario moves it.
"""

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, NamedTuple

import requests
from botocore.exceptions import ReadTimeoutError
from greenlet import getcurrent, greenlet

from tests.worlds import processors
from tests.worlds.processors import fingerprint, installed_http
from tests.worlds.seam import Failure, client_error, installed

GOES, LANDS, STAYS = "goes on", "lands now", "is still on its way when time passes"
DIES_BEFORE, DIES_AFTER, DIES_SENDING = "dies before it", "dies after it", "dies, and it lands later"
READS = {"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems", "GetQueueUrl", "GetQueueAttributes", "GET"}


class Died(BaseException):
    """Ends a worker's greenlet; no product code may catch it by `except Exception`."""


class Choice(NamedTuple):
    """At a stop of `worker`, before the call `label`: what happened."""
    worker: str
    label: str
    outcome: str

    def __str__(self):
        return f"{self.worker:12} {self.label:58} {self.outcome}"


@dataclass
class Stop:
    """A worker in front of a call. `faults` {name: function(effect, later) -> answer, or raises}; `later(effect)` makes it
    land at some later moment."""
    label: str
    effect: Callable
    writes: bool
    faults: dict = field(default_factory=dict)


class Clock:
    """The scenario's time in seconds; a world like the others, and to be given to the product as its clock."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now

    def snapshot(self):
        return self.now

    def restore(self, snapshot):
        self.now = snapshot

    def fingerprint(self):
        return self.now


@dataclass
class Scenario:
    """What is explored.

    `start(run)` spawns the workers in a restored beginning. `judge(run)` yields what is wrong once nobody works any more, by what it
    finds and not by the way there;
    `settle(run)` then lets time pass and messages come again, and `judge_settled(run)` has the last word. `quiet(label)` is
    true for calls that nobody else's calls can affect or see: nothing is decided there. `faults(worker, label)` names the
    faults to try, `deaths(worker, label)` says whether to try deaths. With `late`, what a dead worker sent may also land after `settle`, when
    `run.land_late()` is called.
    """
    name: str
    worlds: tuple
    start: Callable
    judge: Callable = lambda run: ()
    settle: Callable = lambda run: None
    judge_settled: Callable = lambda run: ()
    quiet: Callable = lambda label: False
    faults: Callable = lambda worker, label: ()
    deaths: Callable = lambda worker, label: True
    late: bool = False


class Worker:
    """One greenlet. `stop` is where it waits (None: it is over); `result` or `error` is how it ended, `dead` if killed."""

    def __init__(self, run, name, work, *, mortal):
        self.run, self.name, self.mortal = run, name, mortal
        self.stop, self.dead, self.result, self.error = None, False, None, None
        self.history, self.answered, self.drawn = 0, 0, 0
        self.greenlet = greenlet(lambda: self._work(work), parent=run.hub)

    def _work(self, work):
        try:
            self.result = work()
        except Died:
            pass
        except Exception as error:
            self.error = error

    @property
    def unfinished(self):
        """True when nobody has said that the work is done: it died or raised, so its message comes again."""
        return self.dead or self.error is not None

    def resume(self, kind=None, value=None):
        """Runs it to its next stop or its end; the answer of the call it waited for is `value`, given or raised."""
        self.run.acting, self.stop = self, None
        if kind is None:
            self.stop = self.greenlet.switch()
        else:
            self.answered += 1
            self.saw(kind, value)
            self.stop = self.greenlet.switch((kind, value))
        self.run.acting = None

    def saw(self, kind, value):
        """Its history holds everything its code has learned: answers, and when they came."""
        self.history = hash((self.history, kind, _print(value), self.run.moment()))

    def die(self):
        self.dead, self.stop = True, None
        if not self.greenlet.dead:
            self.greenlet.throw(Died)

    def state(self):
        """What tells this worker's future: its code is deterministic, so its history and where it stands."""
        if self.stop is not None:
            return self.name, self.stop.label, self.history
        return self.name, self.dead, repr(self.error), repr(self.result)


def _print(value):
    if isinstance(value, Exception):
        return hash((type(value).__name__, str(value)))
    try:
        return fingerprint(value)
    except ValueError:
        return hash(repr(value))


class _Sent(NamedTuple):
    """A call whose effect is still to come; `history` is what its sender knew, and so what is in it."""
    worker: str
    label: str
    history: int
    effect: Callable


class Pruned(Exception):
    """This state has been seen before: its continuations are explored there."""


class Run:
    """One execution of a scenario. `schedule` are the choices made, `workers` who worked, `notes` the scenario's own."""

    def __init__(self, scenario, choose, *, preemptions=0, crashes=0, faults=0):
        self.scenario, self.choose, self.hub = scenario, choose, getcurrent()
        self.preemptions, self.crashes, self.fault_budget = preemptions, crashes, faults
        self.workers, self.landing, self.staying, self.schedule, self.notes = [], deque(), [], [], {}
        self.current, self.acting = None, None
        self.suffered = set()   # the faults so far: {(service, at Stripe with the kind of object, which)}
        self.fresh = None       # what was sent in the last step: landing at once would be the same as not being late

    # What a scenario's `start` uses

    def spawn(self, name, work, *, mortal=True):
        """A worker begins: it runs to its first call. `mortal=False` for what stands for the outside world itself.

        Called by `start`, or by the effect of a step; never by a worker's own code.
        """
        assert self.acting is None and name not in [worker.name for worker in self.workers]
        worker = Worker(self, name, work, mortal=mortal)
        self.workers.append(worker)
        worker.resume()

    def step(self, label, effect, **faults):
        """One act of a worker that is no call of the seams: somebody at the processor, the clock."""
        return self._gate(Stop(label, effect, True, faults))

    def moment(self):
        """What time it is, as far as it can differ between schedules."""
        return tuple(world.fingerprint() for world in self.scenario.worlds if isinstance(world, Clock))

    # Gates

    def _gate(self, stop):
        worker = self.acting
        if worker is None:
            if getcurrent() is not self.hub:
                raise Died      # a dead worker's last blocks: they reach no world
            return stop.effect()
        if self.scenario.quiet(stop.label):
            kind, value = _answer(stop.effect)
            worker.saw(kind, value)
        else:
            kind, value = self.hub.switch(stop)
        if kind == "raise":
            raise value
        return value

    def aws_gate(self, world, operation, params, effect):
        """The gate around a DynamoDB or SQS call."""
        label = f"{world.service} {operation} {_subject(params)}".rstrip()
        return self._gate(Stop(label, effect, operation not in READS, _aws_faults(operation)))

    def http_gate(self, world, method, path, effect):
        """The gate around a call to Stripe or Discord."""
        label = f"{world.service} {method} {path.removeprefix('/api/v10').removeprefix('/v1')}"
        return self._gate(Stop(label, effect, method not in READS, _HTTP_FAULTS[world.service]))

    # Choices

    def work(self):
        """Everybody has come to an end, whatever was on its way has landed."""
        self.scenario.start(self)
        while options := self.options():
            choice = self.choose(self, options)
            self.schedule.append(choice)
            self.perform(choice)

    def land_late(self):
        """What was still on its way has landed now; True when there was anything."""
        late, self.staying = self.staying, []
        for sent in late:
            _answer(sent.effect)
        return bool(late)

    def options(self):
        """Every affordable choice, the one that lets the current worker go on first."""
        ready = [worker for worker in self.workers if worker.stop is not None]
        if not ready:
            ends = (LANDS, STAYS) if self.scenario.late else (LANDS,)
            return [Choice(*sent[:2], end) for sent in list(self.landing)[:1] for end in ends]
        if self.current in ready:
            ready = [self.current, *(worker for worker in ready if worker is not self.current)]
        if not self.preemptions:
            ready = [worker for worker in ready if not self._interrupts(worker)]
        found = [Choice(worker.name, worker.stop.label, GOES) for worker in ready]
        found += [Choice(*sent[:2], LANDS) for sent in self.landing if sent is not self.fresh]
        for worker in ready:
            found += [Choice(worker.name, worker.stop.label, outcome) for outcome in self._outcomes(worker)]
        return found

    def _interrupts(self, worker):
        """True when going on with `worker` is preemptive; whatever is outside may happen, and stop happening, at any time."""
        current = self.current
        return current is not None and current is not worker and current.stop is not None and current.mortal

    def _outcomes(self, worker):
        if not worker.mortal:
            return
        stop = worker.stop
        if self.crashes and self.scenario.deaths(worker.name, stop.label):
            # Before a later call, or after a read, is the same as after the last write: nobody can tell the difference.
            if not worker.answered:
                yield DIES_BEFORE
            if stop.writes:
                yield DIES_AFTER
                yield DIES_SENDING
        if self.fault_budget:
            yield from (name for name in self.scenario.faults(worker.name, stop.label) if name in stop.faults)

    def perform(self, choice):
        """The choice has happened, and the worker concerned stands at its next stop."""
        if choice.outcome in (LANDS, STAYS):
            return self._land(next(one for one in self.landing if one[:2] == choice[:2]), choice.outcome)
        self.fresh = None
        worker = next(one for one in self.workers if one.name == choice.worker)
        stop = worker.stop
        if self._interrupts(worker):
            self.preemptions -= 1
        self.current = worker
        if choice.outcome == GOES:
            worker.resume(*_answer(stop.effect))
        elif choice.outcome in (DIES_BEFORE, DIES_AFTER, DIES_SENDING):
            self._kill(worker, stop, choice.outcome)
        else:
            self.fault_budget -= 1
            self.suffered.add((_where(stop.label), choice.outcome))
            fault = stop.faults[choice.outcome]
            worker.resume(*_answer(lambda: fault(stop.effect, lambda effect: self._send(worker, stop, effect))))

    def _kill(self, worker, stop, outcome):
        self.crashes -= 1
        if outcome == DIES_AFTER:
            _answer(stop.effect)
        elif outcome == DIES_SENDING:
            self._send(worker, stop, stop.effect)
        worker.die()

    def _send(self, worker, stop, effect):
        # Calls with one label differ; which of the worker's calls it is makes the text, and the state, unambiguous.
        self.fresh = _Sent(worker.name, f"{stop.label} (call {worker.answered + 1})", worker.history, effect)
        self.landing.append(self.fresh)

    def _land(self, sent, outcome):
        self.landing.remove(sent)
        if outcome == LANDS:
            _answer(sent.effect)
        else:
            self.staying.append(sent)

    def state(self):
        """Equal for two runs exactly when the same can still happen, but for the budgets (as far as hashes tell)."""
        current = self.current.name if self.current is not None and self.current.stop is not None else None
        return hash((tuple(world.fingerprint() for world in self.scenario.worlds), current,
                     tuple(worker.state() for worker in self.workers), tuple(one[:3] for one in self.landing),
                     tuple(one[:3] for one in self.staying), self.fresh is not None, frozenset(self.suffered)))

    def budgets(self):
        return self.preemptions, self.crashes, self.fault_budget

    def close(self):
        for worker in self.workers:
            if worker.stop is not None:
                worker.die()


def _where(label):
    """Which service a call is to; at Stripe also what was asked for: "stripe charges"."""
    service, _, rest = label.partition(" ")
    return f"{service} {rest.split('/')[1]}" if service == "stripe" else service


def _answer(effect):
    try:
        return "give", effect()
    except Exception as error:
        return "raise", error


# Faults by name: what the caller sees instead of the answer

def _timed_out(error):
    def fault(effect, later):
        _answer(effect)
        raise error()
    return fault


def _times_out_and_lands_later(error):
    def fault(effect, later):
        later(effect)
        raise error()
    return fault


def _not_reached(error):
    def fault(effect, later):
        raise error()
    return fault


def _answers(make):
    return lambda effect, later: make()


def _twice(effect, later):
    """The answer was lost and the SDK asked again: the caller sees the second answer."""
    _answer(effect)
    return effect()


def _twice_later(effect, later):
    """The SDK gave up waiting and asked again; what it sent first arrives after that."""
    later(effect)
    return effect()


TWICE_LATER = "sent again by the SDK, the first lands later"
TWICE, TIME_OUT, TIME_OUT_LATER, UNREACHED = "done twice by the SDK", "time-out after it", "time-out, lands later", "not reached"
LIMITED, LIMITED_EVERYWHERE, FORBIDDEN, BROKEN, UNAUTHORIZED = "429", "429 global", "403", "500", "401"
THROTTLED = "throttled"

_HTTP = {TIME_OUT: _timed_out(requests.ReadTimeout), TIME_OUT_LATER: _times_out_and_lands_later(requests.ReadTimeout),
         UNREACHED: _not_reached(requests.ConnectTimeout)}
_HTTP_FAULTS = {
    "discord": {**_HTTP,
                LIMITED: _answers(lambda: processors.discord_limited(30)),
                LIMITED_EVERYWHERE: _answers(lambda: processors.discord_limited(30, everywhere=True)),
                FORBIDDEN: _answers(lambda: processors.discord_error(403, 50013, "Missing Permissions")),
                BROKEN: _answers(lambda: (500, {"Content-Type": "text/html"}, None)),
                UNAUTHORIZED: _answers(lambda: processors.discord_error(401, 0, "401: Unauthorized"))},
    "stripe": {**_HTTP,
               LIMITED: _answers(lambda: processors.stripe_error(429, "invalid_request_error", "lock_timeout")),
               FORBIDDEN: _answers(lambda: processors.stripe_error(403, "invalid_request_error")),
               BROKEN: _answers(lambda: processors.stripe_error(500, "api_error")),
               UNAUTHORIZED: _answers(lambda: processors.stripe_error(401, "invalid_request_error"))},
}


def _aws_faults(operation):
    def lost():
        return ReadTimeoutError(endpoint_url="http://aws.test")

    def throttled():
        return client_error(Failure("ProvisionedThroughputExceededException", "throttled"), operation)

    return {TWICE: _twice, TWICE_LATER: _twice_later, TIME_OUT: _timed_out(lost), TIME_OUT_LATER: _times_out_and_lands_later(lost),
            THROTTLED: _not_reached(throttled)}


def _subject(params):
    """Which table and key, or queue, a call concerns: enough to read a schedule."""
    table = params.get("TableName")
    if table is None:
        return ", ".join(params.get("RequestItems") or ()) or params.get("QueueUrl", "").rsplit("/", 1)[-1]
    return " ".join([table, *(str(*value.values()) for value in params.get("Key", {}).values())])


# The driver

@dataclass
class Violation:
    """A schedule after which something was wrong."""
    scenario: str
    schedule: tuple
    problems: list

    def __str__(self):
        return "\n".join([f"{self.scenario}: {'; '.join(self.problems)}", *(f"    {choice}" for choice in self.schedule)])


@dataclass
class Report:
    """`schedules` ran to their end and were judged, `pruned` came to a state that was seen before."""
    scenario: str
    schedules: int = 0
    pruned: int = 0
    seconds: float = 0.0
    violations: list = field(default_factory=list)

    def __str__(self):
        counts = f"{self.scenario}: {self.schedules} schedules, {self.pruned} pruned, {self.seconds:.1f} s"
        return "\n".join([counts, *map(str, self.violations[:3])])


_running = []


@contextlib.contextmanager
def gated(*, aws=(), http=()):
    """While it is open, every call to these worlds passes the gate of the run that is going on, if there is one."""
    def aws_gate(world, operation, params, effect):
        return _running[-1].aws_gate(world, operation, params, effect) if _running else effect()

    def http_gate(world, method, path, effect):
        return _running[-1].http_gate(world, method, path, effect) if _running else effect()

    with installed(*aws, gate=aws_gate), installed_http(*http, gate=http_gate):
        yield


def explore(scenario, *, preemptions=2, crashes=1, faults=0, stop_on_first=False, prune=True):
    """A Report on every schedule with at most so many preemptions, deaths and faults, in a fixed order.

    With `prune`, a state that was reached before by another way is not gone on from again; the same problems are found.
    """
    search = _Search(scenario, dict(preemptions=preemptions, crashes=crashes, faults=faults), {} if prune else None)
    began = time.perf_counter()
    while search.todo and not (stop_on_first and search.report.violations):
        search.one()
    search.report.seconds = time.perf_counter() - began
    _restore(scenario, search.beginning)
    return search.report


class _Search:
    """Depth first: `todo` are the beginnings of schedules still to be run, `seen` {state: [budgets left]} (None: not noted)."""

    def __init__(self, scenario, budgets, seen):
        self.scenario, self.budgets, self.seen, self.todo, self.prefix = scenario, budgets, seen, [()], ()
        self.beginning, self.report = [world.snapshot() for world in scenario.worlds], Report(scenario.name)

    def one(self):
        self.prefix = self.todo.pop()
        run = Run(self.scenario, self.choose, **self.budgets)
        try:
            problems = _judged(run, self.beginning, self.seen)
        except Pruned:
            self.report.pruned += 1
            return
        self.report.schedules += 1
        if problems:
            self.report.violations.append(Violation(self.scenario.name, tuple(run.schedule), problems))

    def choose(self, run, options):
        at = len(run.schedule)
        if at < len(self.prefix):
            assert self.prefix[at] in options, f"the scenario is not deterministic: {self.prefix[at]} at {at}"
            return self.prefix[at]
        if self.seen is not None:
            _note(run, "working", self.seen)
        done = tuple(run.schedule)
        self.todo.extend((*done, other) for other in reversed(options[1:]))
        return options[0]


def replay(scenario, schedule):
    """(run, problems) of exactly this schedule; LookupError when the code no longer makes the calls it names."""
    beginning = [world.snapshot() for world in scenario.worlds]

    def choose(run, options):
        at = len(run.schedule)
        choice = Choice(*schedule[at]) if at < len(schedule) else options[0]
        if choice not in options:
            raise LookupError(f"no such choice here: {choice}; there are: {[str(one) for one in options]}")
        return choice

    run = Run(scenario, choose, preemptions=99, crashes=99, faults=99)
    try:
        return run, _judged(run, beginning, None)
    finally:
        _restore(scenario, beginning)


def _judged(run, beginning, seen):
    _restore(run.scenario, beginning)
    _running.append(run)
    try:
        run.work()
        if seen is not None:
            _note(run, "over", seen)
        problems = list(run.scenario.judge(run))
        if not problems:
            run.scenario.settle(run)
            problems = list(run.scenario.judge_settled(run))
        return problems
    finally:
        run.close()
        _running.pop()


def _restore(scenario, beginning):
    for world, snapshot in zip(scenario.worlds, beginning):
        world.restore(snapshot)


def _note(run, phase, seen):
    """Raises Pruned when this state was come by with at least the same budgets: all that can follow is explored there."""
    budgets, before = run.budgets(), seen.setdefault((phase, run.state()), [])
    if any(all(mine <= theirs for mine, theirs in zip(budgets, other)) for other in before):
        raise Pruned
    before.append(budgets)


class Ports:
    """The product's time, ids and randomness: the scenario's clock, and texts that name who drew them.

    Two runs in which a worker does the same draw the same texts, whatever the others do meanwhile.
    """

    def __init__(self, clock):
        self.clock, self.drawn = clock, 0

    def wall(self):
        return self.clock.now

    def offset(self):
        return 0

    def token(self, size=16):
        drawer = _running[-1].acting if _running and _running[-1].acting else self
        drawer.drawn += 1
        return f"{getattr(drawer, 'name', 'nobody').replace(' ', '-')}-{drawer.drawn}"

    def below(self, n):
        return 0
