"""Logs: JSON, one schema, constant messages, fields from an allow-list. No token, secret, name, payload or address.

A user's Discord id appears only as a short hash (`subject`), enough to follow one member through the lines.
"""
import functools
import hashlib

FIELDS = frozenset({"server", "account", "outcome", "cause", "why", "seconds", "kind", "count", "queue", "function", "error", "message_id"})


_stream = None   # None: standard output, where Lambda takes them


def send_to(stream):
    """The lines of this process go to `stream`; called before the first one."""
    global _stream
    _stream = stream


@functools.cache
def _logger():
    from aws_lambda_powertools import Logger
    return Logger(service="rolekeep", location=None, utc=True, stream=_stream)


def info(message, *, user=None, **fields):
    """One line at INFO. `message` is a constant; fields outside `FIELDS` raise ValueError."""
    _logger().info(message, extra=_safe(user, fields))


def alarm(message, *, user=None, **fields):
    """One line at WARNING that somebody should be told of; alarms count these by message."""
    _logger().warning(message, extra=_safe(user, fields))


def failure(message, error, *, user=None, **fields):
    """One line at ERROR with the exception's type and place, never its text, which may quote what must not be logged."""
    _logger().error(message, extra=_safe(user, fields | {"error": _place(error)}))


def _place(error):
    trace, place = error.__traceback__, "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "chalicelib" in code.co_filename:
            place = f"{code.co_filename.rsplit('/', 1)[1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"


def _safe(user, fields):
    unknown = set(fields) - FIELDS
    if unknown:
        raise ValueError(f"not in the log's schema: {sorted(unknown)}")
    safe = {name: value if isinstance(value, int | float) else str(value)[:200] for name, value in fields.items()}
    return safe | ({"subject": hashlib.sha256(user.encode()).hexdigest()[:12]} if user else {})
