"""Locally a function is refused what its deployed role would not let it do."""

import pytest
from botocore.exceptions import ClientError

from infra.local import permissions


@pytest.fixture
def enforced():
    end = permissions.enforce("local")
    yield
    end()


@pytest.fixture
def dynamodb(clean_tables):
    return clean_tables.client("dynamodb")


KEY = {"user_id": {"S": "u"}, "server_id": {"S": "s"}}


def test_a_function_does_what_its_policy_allows_and_is_refused_the_rest(enforced, dynamodb):
    with permissions.acting_as("members"):
        dynamodb.get_item(TableName="rolekeep-local-members", Key=KEY)
        with pytest.raises(ClientError, match="role of members is not authorized to perform: dynamodb:Scan on rolekeep-local-members"):
            dynamodb.scan(TableName="rolekeep-local-members")
        with pytest.raises(ClientError, match="dynamodb:GetItem on rolekeep-local-sessions"):
            dynamodb.get_item(TableName="rolekeep-local-sessions", Key={"id": {"S": "x"}})


def test_an_index_is_a_resource_of_its_own(enforced, dynamodb):
    query = {"TableName": "rolekeep-local-members", "IndexName": "due", "KeyConditionExpression": "due_shard = :n",
             "ExpressionAttributeValues": {":n": {"N": "1"}}}
    with permissions.acting_as("due_sweep"):
        dynamodb.query(**query)
        with pytest.raises(ClientError, match="members/index/by_server"):
            dynamodb.query(**query | {"IndexName": "by_server"})


def test_what_is_no_function_is_not_judged(enforced, dynamodb):
    with permissions.acting_as("members"):
        pass
    dynamodb.scan(TableName="rolekeep-local-members")


def test_a_function_without_a_policy_may_do_nothing(enforced, dynamodb):
    with permissions.acting_as("forgotten"), pytest.raises(ClientError, match="role of forgotten"):
        dynamodb.get_item(TableName="rolekeep-local-members", Key=KEY)


@pytest.mark.parametrize(("operation", "parameters", "demands"), [
    ("BatchGetItem", {"RequestItems": {"a": {}, "b": {}}}, {("dynamodb:BatchGetItem", "a"), ("dynamodb:BatchGetItem", "b")}),
    ("TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "a"}}, {"ConditionCheck": {"TableName": "b"}}]},
     {("dynamodb:PutItem", "a"), ("dynamodb:ConditionCheckItem", "b")}),
    ("UpdateItem", {"TableName": "a"}, {("dynamodb:UpdateItem", "a")}),
])
def test_a_call_on_several_tables_needs_a_permission_on_each(operation, parameters, demands):
    assert set(permissions.demanded("dynamodb", operation, parameters)) == demands


def test_a_batch_of_messages_needs_the_permission_of_one():
    url = {"QueueUrl": "http://127.0.0.1:1/000000000000/jobs"}
    assert set(permissions.demanded("sqs", "SendMessageBatch", url)) == {("sqs:SendMessage", "jobs")}
    assert set(permissions.demanded("sqs", "GetQueueUrl", {"QueueName": "jobs"})) == {("sqs:GetQueueUrl", "jobs")}
