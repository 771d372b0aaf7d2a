"""One cold start, in an interpreter that sees the unpacked package and the standard library only (python -I -S -B).

Arguments: the folder, `bytecode` or `source`, and the handler as the template names it, or `boto3` for the yardstick; the event
comes on standard input. With `source` the package's bytecode is not looked at; the standard library's always is. It prints
{"import": seconds, "total": seconds, "cpu": seconds}: from the first line until the module is imported, until the event is answered,
and the CPU of the latter. As in Lambda the folder is not written to.
"""
import importlib._bootstrap_external as importing
import json
import sys
import time

folder, variant, handler, event = *sys.argv[1:], json.load(sys.stdin)
out, sys.stdout = sys.stdout, sys.stderr
sys.path.insert(0, folder)


def no_bytecode(path, *, cached=importing.cache_from_source, **how):
    """Where the bytecode of a source is, for the standard library only: the loader compiles what has no such place."""
    if path.startswith(folder):
        raise NotImplementedError
    return cached(path, **how)


if variant == "source":
    importing.cache_from_source = no_bytecode


class Context:
    """As much of Lambda's context as is asked for."""

    function_name = aws_request_id = "bench"
    memory_limit_in_mb = 512

    def get_remaining_time_in_millis(self):
        """A whole minute."""
        return 60_000


def boto3_client():
    """The yardstick: what a function that only has a client of DynamoDB has to load."""
    import boto3
    boto3.client("dynamodb")
    return time.perf_counter()


def first_event():
    """The handler has answered its first event; the instant at which its module was there."""
    module, name = handler.split(".")
    function = getattr(__import__(module), name)
    imported = time.perf_counter()
    answer = function(event, Context()) or {}
    if answer.get("batchItemFailures") or answer.get("statusCode", 200) >= 400:
        raise SystemExit(f"{handler} did not do what was asked of it: {str(answer)[:300]}")
    return imported


began, cpu = time.perf_counter(), time.process_time()
imported = boto3_client() if handler == "boto3" else first_event()
total, cpu = time.perf_counter() - began, time.process_time() - cpu
if not all(folder in module.__file__ for name, module in sys.modules.items() if name in ("app", "boto3", "botocore", "chalice")):
    raise SystemExit("something was loaded from outside the package")
print(json.dumps({"import": imported - began, "total": total, "cpu": cpu}), file=out)
