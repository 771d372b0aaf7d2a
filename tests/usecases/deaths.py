"""Dying at the nth outside call of a piece of work. Dying after a call is dying before the next one: nothing else is outside."""
import contextlib

from botocore.client import BaseClient

from tests.usecases.product import Wire

STEPS = 80      # more calls than any piece of work here makes


class Died(BaseException):
    """The process is gone: nothing catches this, and what comes after it does not happen."""


@contextlib.contextmanager
def dying_at(nth):
    """Inside, only the first nth - 1 calls of AWS and the processors are made."""
    calls, aws, wire = [], BaseClient._make_api_call, Wire.send

    def counted(call):
        def made(*args, **kwargs):
            calls.append(1)
            if len(calls) >= nth:
                raise Died
            return call(*args, **kwargs)
        return made

    BaseClient._make_api_call, Wire.send = counted(aws), counted(wire)
    try:
        yield
    finally:
        BaseClient._make_api_call, Wire.send = aws, wire


def died(work, nth):
    """True when the work died at its nth call, False when it was done before that."""
    try:
        with dying_at(nth):
            work()
        return False
    except Died:
        return True
