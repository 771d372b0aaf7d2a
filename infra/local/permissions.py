"""Each function may do locally what its role lets it do when deployed, and nothing else: AccessDenied, as on AWS.

The embedded AWS asks nobody for permission, so an action that the code needs and `.chalice/policy-*.json` lacks would
show itself only in production. Calls outside a function (pollers, demo data, tests) are not judged.
"""

import contextlib
import functools
import json
import re
import threading

from infra.local.aws import ROOT, resources

API = "api_handler"  # Chalice's name for the function behind the API, in .chalice/config.json
_acting = threading.local()
# SQS and DynamoDB have no permission of their own for these (AWS's Service Authorization Reference).
ACTIONS = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage",
           "ChangeMessageVisibilityBatch": "ChangeMessageVisibility"}
WRITES = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem", "Get": "GetItem"}


@contextlib.contextmanager
def acting_as(function):
    """Inside, the calls of this thread are the function's."""
    _acting.function = function
    try:
        yield
    finally:
        _acting.function = None


def allowed(stage):
    """Answer {function: {(action, resource name)}} as the policies have it; an index is `table/index/name`."""
    names = {logical_id: each["Properties"].get("TableName") or each["Properties"]["QueueName"]
             for logical_id, each in resources(stage).items()}
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    return {
        function: {pair for statement in json.loads((ROOT / ".chalice" / facts["iam_policy_file"]).read_text())["Statement"]
                   for pair in _pairs(statement, names)}
        for function, facts in config["lambda_functions"].items()}


def _pairs(statement, names):
    for action in statement["Action"]:
        wanted = statement["Resource"]
        for resource in wanted if isinstance(wanted, list) else [wanted]:
            logical_id, index = _named(resource)
            if logical_id in names:  # log groups are not here
                yield action, names[logical_id] + index


def _named(resource):
    if "Fn::GetAtt" in resource:
        return resource["Fn::GetAtt"][0], ""
    return re.fullmatch(r"\$\{(\w+)\.Arn}(.*)", resource["Fn::Sub"]).groups()


def demanded(service, operation, parameters):
    """Yield each (action, resource name) that one API call needs."""
    if "RequestItems" in parameters:
        yield from ((f"{service}:{operation}", table) for table in parameters["RequestItems"])
    elif "TransactItems" in parameters:
        for item in parameters["TransactItems"]:
            [(kind, facts)] = item.items()
            yield f"{service}:{WRITES[kind]}", facts["TableName"]
    elif "TableName" in parameters:
        index = f"/index/{parameters['IndexName']}" if "IndexName" in parameters else ""
        yield f"{service}:{operation}", parameters["TableName"] + index
    else:
        queue = parameters.get("QueueName") or parameters.get("QueueUrl", "").rsplit("/", 1)[-1]
        yield f"{service}:{ACTIONS.get(operation, operation)}", queue


def enforce(stage):
    """From now on a function's call that its role does not allow fails; answers a function that ends this."""
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    permitted, call = allowed(stage), BaseClient._make_api_call

    @functools.wraps(call)
    def checked(client, operation, parameters):
        function = getattr(_acting, "function", None)
        if function is not None:
            for demand in demanded(client.meta.service_model.service_name, operation, parameters):
                if demand not in permitted.get(function, set()):
                    text = f"the role of {function} is not authorized to perform: {demand[0]} on {demand[1]} (.chalice/)"
                    raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": text},
                                       "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "local"}}, operation)
        return call(client, operation, parameters)

    BaseClient._make_api_call = checked
    return lambda: setattr(BaseClient, "_make_api_call", call)
