"""What an outside call can answer. Nobody else looks at HTTP codes."""
from dataclasses import dataclass


class OutOfTime(Exception):
    """The call was not made: in its worst case it would outlive the function."""


@dataclass(frozen=True)
class Done:
    """It has taken effect. `value` is what was read, if anything."""
    value: object = None


@dataclass(frozen=True)
class Retry:
    """Not now. `after` seconds at least; `scope` is the server id or `everywhere` when others must wait too, else None."""
    after: float
    why: str
    scope: str | None = None


@dataclass(frozen=True)
class Refused:
    """A definite no that a retry alone does not mend. `why` is a code of ours."""
    why: str


@dataclass(frozen=True)
class InDoubt:
    """It may have taken effect, or may still: a time-out, or a connection lost after sending.

    `answered`: the other side did answer, with a failure of its own, so nothing is under way there any more.
    """
    why: str = "time_out"
    answered: bool = False


@dataclass(frozen=True)
class Unknown:
    """A read that told nothing. It never strips anybody."""
    why: str
