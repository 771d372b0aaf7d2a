"""What a walk is made of: steps that are timed and named, and checks that say what is not as it must be."""
import contextlib
import re
import time
from datetime import datetime

from infra.local.walker import Refused, WalkFailed


@contextlib.contextmanager
def step(name):
    """Prints the step's time when it is done; a failure inside names the step."""
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"  {time.monotonic() - begun:6.2f} s  {name}  <-- here", flush=True)
        raise
    print(f"  {time.monotonic() - begun:6.2f} s  {name}", flush=True)


def check(right, what):
    """WalkFailed, naming what is wrong, unless `right`."""
    if not right:
        raise WalkFailed(what)


def same(got, wanted, what):
    """WalkFailed with both values unless they are equal."""
    check(got == wanted, f"{what}: {got!r} instead of {wanted!r}")


def epoch(text):
    """Seconds since the epoch of an instant in the API's form."""
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text or ""), f"{text!r} is no instant in UTC with a Z")
    return datetime.fromisoformat(text).timestamp()


def answers(status, call):
    """The problem document of a call that is refused with that status."""
    try:
        call()
    except Refused as refused:
        same(refused.status, status, f"the status of {refused}")
        same(refused.problem.get("status"), status, f"the status inside the problem of {refused}")
        check(refused.problem.get("title"), f"{refused} has a title")
        return refused.problem
    raise WalkFailed(f"a call that must answer {status} succeeded")
