"""Where the worlds plug in: botocore's call seam, so that boto3 and pynamodb run unchanged over them.

A world has a `service` ("dynamodb", "sqs") and `call(operation, params) -> response`, raising `Failure`. While it is
installed no byte leaves the process for that service; other services are not touched.
"""

import contextlib
import os

from botocore.client import BaseClient
from botocore.exceptions import ClientError

# Without credentials pynamodb makes a new client for every call (50 ms); these are never sent anywhere.
_STAND_IN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Failure(Exception):
    """An answer of the service with an error code; `extra` are further fields of the answer (Item, CancellationReasons).

    `kind` names the client's exception class where that is not the code (SQS has an older code for each).
    """

    def __init__(self, code, message, *, status=400, kind=None, **extra):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.kind, self.extra = code, message, status, kind or code, extra


def client_error(failure, operation, exceptions=None):
    """The botocore exception for a Failure: the client's own class for that code where it has one."""
    answer = {"Error": {"Message": failure.message, "Code": failure.code}, **failure.extra, "message": failure.message,
              "ResponseMetadata": {"HTTPStatusCode": failure.status, "HTTPHeaders": {}, "RetryAttempts": 0}}
    known = ClientError if exceptions is None else exceptions.from_code(failure.kind)
    return known(answer, operation)


@contextlib.contextmanager
def installed(*worlds, gate=None):
    """Calls of these worlds' services go to them until the end of the block.

    `gate(world, operation, params, effect)` may stand around every call: `effect()` performs it once and returns the
    response or raises the ClientError; whatever the gate returns or raises is what the caller sees.
    """
    by_service, before = {world.service: world for world in worlds}, BaseClient._make_api_call
    added = {name: value for name, value in _STAND_IN.items() if not os.environ.get(name)}

    def make_api_call(client, operation, params):
        world = by_service.get(client._service_model.service_name)
        if world is None:
            return before(client, operation, params)

        def effect():
            try:
                return world.call(operation, params)
            except Failure as failure:
                raise client_error(failure, operation, client.exceptions) from None

        return effect() if gate is None else gate(world, operation, params, effect)

    BaseClient._make_api_call = make_api_call
    os.environ.update(added)
    try:
        yield worlds[0] if len(worlds) == 1 else worlds
    finally:
        BaseClient._make_api_call = before
        for name in added:
            os.environ.pop(name, None)
