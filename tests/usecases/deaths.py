"""Dying at the nth outside call of a piece of work, before it is made or after it has taken effect."""
import contextlib

from botocore.client import BaseClient

from tests.usecases.product import Wire

STEPS = 80      # more calls than any piece of work here makes


class Died(BaseException):
    """The process is gone: nothing catches this, and what comes after it does not happen."""


@contextlib.contextmanager
def dying_at(nth, *, after=False):
    """Inside, the nth call (from 1) of AWS or a processor is the last thing that happens: not made, or made but unanswered."""
    calls, aws, wire = [], BaseClient._make_api_call, Wire.send

    def counted(call):
        def made(*args, **kwargs):
            calls.append(1)
            if len(calls) > nth or len(calls) == nth and not after:
                raise Died
            answer = call(*args, **kwargs)
            if len(calls) == nth:
                raise Died
            return answer
        return made

    BaseClient._make_api_call, Wire.send = counted(aws), counted(wire)
    try:
        yield
    finally:
        BaseClient._make_api_call, Wire.send = aws, wire


def died(work, nth, *, after=False):
    """True when the work died at its nth call, False when it was done before that."""
    try:
        with dying_at(nth, after=after):
            work()
        return False
    except Died:
        return True
