"""The in-memory DynamoDB answers as the embedded AWS does: the same cases run against both.

Known differences, where the world follows Amazon's documentation and the embedded AWS (MiniStack 1.5.33) is laxer; these
cases run against the world only:
- overlapping document paths in one update are refused, also when the condition fails; the embedded one accepts them;
- REMOVE, DELETE or ADD through a missing map is refused ("document path ..."); the embedded one does nothing;
- an update with nothing but REMOVE or DELETE makes no item; the embedded one makes an empty one;
- reserved words are refused in key conditions too, and `<` or BETWEEN with a literal of a type without order;
- SET a = :text + :number and list_append of what is no list are refused; the embedded one stores something;
- the indexes of one REMOVE mean the list before the update; the embedded one removes one after the other;
- UPDATED_NEW and UPDATED_OLD show the changed elements of a list only; the embedded one shows the whole list;
- a key condition with OR or <>, a filter on a key attribute, an unknown function or type name, a section used twice, a path
  into a number and an item key written in another way ("1.0" for 1) are handled; the embedded one overlooks them;
- begins_with of an attribute that is no text is false; the embedded one refuses the request;
- a comparison of two missing attributes is false; size() of a number or a boolean has no value.
Not in the world at all: consumed capacity, UnprocessedKeys, legacy parameters (KeyConditions, Expected, ...), PartiQL, local
indexes, streams, removal by TTL, throttling (see gates.py for faults), and the order of items that Amazon leaves open.
"""

import math
import re

import boto3
import pytest
from botocore.exceptions import ClientError
from pynamodb.attributes import MapAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DeleteError, PutError, TransactWriteError, UpdateError
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection
from pynamodb.connection import Connection
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from infra.local import aws
from tests.worlds.dynamo import World, installed

TABLE = {
    "TableName": "cases",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": tag} for name, tag in (
        ("id", "S"), ("num", "N"), ("due_shard", "N"), ("due_at", "N"))],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "num", "KeyType": "RANGE"}],
    "GlobalSecondaryIndexes": [{
        "IndexName": "due",
        "KeySchema": [{"AttributeName": "due_shard", "KeyType": "HASH"}, {"AttributeName": "due_at", "KeyType": "RANGE"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }],
}
DOCUMENT = {
    "n": {"N": "5"}, "s": {"S": "abc"}, "flag": {"BOOL": True}, "tags": {"SS": ["x", "y"]}, "nums": {"NS": ["1", "20"]},
    "m": {"M": {"a": {"N": "1"}, "b": {"M": {"c": {"S": "deep"}}}, "l": {"L": [{"S": "p"}, {"S": "q"}]}}},
    "l": {"L": [{"N": "1"}, {"N": "2"}, {"N": "3"}]}, "nothing": {"NULL": True},
}


def key(name="one", number=1):
    return {"id": {"S": name}, "num": {"N": str(number)}}


class Database:
    """One of the two implementations, with an empty table `cases`."""

    def __init__(self, client, world=None):
        self.client, self.world = client, world
        client.create_table(**TABLE)
        self.put("one", 1, **DOCUMENT)

    def call(self, operation, **params):
        answer = self.client._make_api_call(operation, {"TableName": "cases", **params})
        return {name: value for name, value in answer.items() if name not in ("ResponseMetadata", "ConsumedCapacity")}

    def put(self, name, number, **attributes):
        self.call("PutItem", Item={**key(name, number), **attributes})

    def get(self, name="one", number=1, **params):
        return self.call("GetItem", Key=key(name, number), ConsistentRead=True, **params).get("Item")

    def update(self, expression=None, *, name="one", number=1, values=None, names=None, **params):
        if expression:
            params["UpdateExpression"] = expression
        return self.call("UpdateItem", Key=key(name, number), **placeholders(values, names), **params)

    def holds(self, condition, *, values=None, names=None):
        """Whether a condition holds for the document; a refused request raises."""
        try:
            self.call("UpdateItem", Key=key(), ConditionExpression=condition, **placeholders(values, names))
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def query(self, condition, *, values, names=None, **params):
        return self.call("Query", KeyConditionExpression=condition, **placeholders(values, names), **params)


def placeholders(values, names):
    return {**({"ExpressionAttributeValues": {f":{name}": value for name, value in values.items()}} if values else {}),
            **({"ExpressionAttributeNames": {f"#{name}": value for name, value in names.items()}} if names else {})}


def client():
    return boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=aws.REGION).client(
        "dynamodb")


@pytest.fixture(scope="module")
def free_client():
    return client()


@pytest.fixture
def world(free_client):
    with installed(World()) as empty:
        yield Database(free_client, empty)


@pytest.fixture(params=["in memory", "embedded"])
def database(request, free_client):
    if request.param == "in memory":
        yield request.getfixturevalue("world")
        return
    server = request.getfixturevalue("embedded_aws").client("dynamodb")
    yield Database(server)
    server.delete_table(TableName="cases")


def refused(code, words=""):
    return pytest.raises(ClientError, match=f"{code}.*{words}")


# Conditions

HOLDING = [
    ("n = :v", {"N": "5.0"}), ("n <> :v", {"N": "6"}), ("n < :v", {"N": "10"}), ("n >= :v", {"N": "5"}),
    ("s > :v", {"S": "abb"}), ("s = :v", {"S": "abc"}), ("absent <> :v", {"S": "x"}), ("NOT absent = :v", {"S": "x"}),
    ("tags = :v", {"SS": ["y", "x"]}), ("nums = :v", {"NS": ["20", "1.0"]}), ("begins_with(s, :v)", {"S": "ab"}),
    ("contains(s, :v)", {"S": "bc"}), ("contains(tags, :v)", {"S": "x"}), ("contains(l, :v)", {"N": "2"}),
    ("size(l) = :v", {"N": "3"}), ("size(s) < :v", {"N": "4"}), ("size(m) > :v", {"N": "2"}),
    ("attribute_type(nothing, :v)", {"S": "NULL"}), ("attribute_type(m.b, :v)", {"S": "M"}), ("l[1] = :v", {"N": "2"}),
    ("m.b.c = :v", {"S": "deep"}), ("m.l[0] = :v", {"S": "p"}), ("flag = :v", {"BOOL": True}),
    ("n = :v OR attribute_exists(absent) AND attribute_exists(absent2)", {"N": "5"}),
    ("m = :v", {"M": {"l": {"L": [{"S": "p"}, {"S": "q"}]}, "b": {"M": {"c": {"S": "deep"}}}, "a": {"N": "1.0"}}}),
]
FAILING = [
    ("n = :v", {"S": "5"}), ("n < :v", {"S": "9"}), ("absent = :v", {"S": "x"}), ("absent < :v", {"N": "1"}),
    ("NOT n = :v", {"N": "5"}), ("n > :v", {"N": "10"}), ("contains(s, :v)", {"S": "zz"}), ("l[9] = :v", {"N": "1"}),
    ("m.b.c.d = :v", {"S": "x"}), ("(n = :v OR attribute_exists(s)) AND attribute_exists(absent)", {"N": "5"}),
    ("contains(l, :v)", {"S": "2"}), ("flag = :v", {"BOOL": False}), ("attribute_type(n, :v)", {"S": "S"}),
]


@pytest.mark.parametrize("condition, value", HOLDING)
def test_a_condition_holds(database, condition, value):
    assert database.holds(condition, values={"v": value})


@pytest.mark.parametrize("condition, value", FAILING)
def test_a_condition_does_not_hold(database, condition, value):
    assert not database.holds(condition, values={"v": value})


def test_conditions_without_values_and_with_several(database):
    assert database.holds("attribute_exists(m.b.c) AND attribute_not_exists(m.x) AND NOT attribute_not_exists(id)")
    assert database.holds("n BETWEEN :low AND :high", values={"low": {"N": "5"}, "high": {"N": "9"}})
    assert not database.holds("n BETWEEN :low AND :high", values={"low": {"N": "6"}, "high": {"N": "9"}})
    assert database.holds("s IN (:a, :b)", values={"a": {"S": "z"}, "b": {"S": "abc"}})
    assert not database.holds("s IN (:a, :b)", values={"a": {"S": "z"}, "b": {"N": "1"}})
    assert database.holds("#m.#b.#c = :v AND #l[2] = :three", names={"m": "m", "b": "b", "c": "c", "l": "l"},
                          values={"v": {"S": "deep"}, "three": {"N": "3"}})
    assert database.holds("m.a < n")


@pytest.mark.parametrize("condition, values, names, words", [
    ("n = :missing", None, None, "value used in expression is not defined"),
    ("#gone = :v", {"v": {"N": "1"}}, None, "name used in the document path is not defined"),
    ("n = :v", {"v": {"N": "1"}, "w": {"N": "1"}}, None, "unused in expressions"),
    ("n = :v", {"v": {"N": "1"}}, {"x": "x"}, "unused in expressions"),
    ("n = ", None, None, "Syntax error"), ("n == :v", {"v": {"N": "1"}}, None, "Syntax error"),
    ("status = :v", {"v": {"N": "1"}}, None, "reserved"), ("attribute_exists(name)", None, None, "reserved"),
    ("begins_with(s, :v)", {"v": {"N": "1"}}, None, "operand type"),
])
def test_a_condition_that_makes_no_sense_is_refused(database, condition, values, names, words):
    with refused("ValidationException", words):
        database.holds(condition, values=values, names=names)


@pytest.mark.parametrize("condition, value, words", [
    ("n < :v", {"BOOL": True}, "operand type"), ("n >= :v", {"NULL": True}, "operand type"),
    ("absent(n) AND n = :v", {"N": "1"}, "Invalid function name"), ("attribute_type(n, :v)", {"S": "X"}, "type"),
])
def test_a_condition_that_the_embedded_one_lets_pass_is_refused_too(world, condition, value, words):
    with refused("ValidationException", words):
        world.holds(condition, values={"v": value})


def test_a_failed_condition_gives_the_old_item_only_when_asked(database):
    with pytest.raises(database.client.exceptions.ConditionalCheckFailedException) as plain:
        database.update("SET n = :v", values={"v": {"N": "6"}}, ConditionExpression="attribute_not_exists(id)")
    with pytest.raises(ClientError) as asked:
        database.update("SET n = :v", values={"v": {"N": "6"}}, ConditionExpression="attribute_not_exists(id)",
                        ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert "Item" not in plain.value.response
    assert asked.value.response["Item"] == database.get() != {**key(), "n": {"N": "6"}}


# Updates

@pytest.mark.parametrize("expression, values, changed", [
    ("SET n = :v", {"v": {"N": "007.50"}}, {"n": {"N": "7.5"}}),
    ("SET n = n + :v", {"v": {"N": "1"}}, {"n": {"N": "6"}}),
    ("SET n = n - :v", {"v": {"N": "0.5"}}, {"n": {"N": "4.5"}}),
    ("SET fresh = :v", {"v": {"M": {}}}, {"fresh": {"M": {}}}),
    ("SET fresh = if_not_exists(fresh, :v), n = if_not_exists(n, :v)", {"v": {"N": "9"}}, {"fresh": {"N": "9"}}),
    ("SET n = if_not_exists(absent, :zero) + :one", {"zero": {"N": "0"}, "one": {"N": "1"}}, {"n": {"N": "1"}}),
    ("SET twin = n, n = s", None, {"twin": {"N": "5"}, "n": {"S": "abc"}}),
    ("SET l = list_append(l, :v)", {"v": {"L": [{"N": "4"}]}}, {"l": {"L": [{"N": str(n)} for n in (1, 2, 3, 4)]}}),
    ("SET l = list_append(:v, l)", {"v": {"L": [{"N": "0"}]}}, {"l": {"L": [{"N": str(n)} for n in (0, 1, 2, 3)]}}),
    ("SET l[0] = :v, l[9] = :v", {"v": {"N": "8"}}, {"l": {"L": [{"N": str(n)} for n in (8, 2, 3, 8)]}}),
    ("SET m.b.c = :v", {"v": {"N": "1"}}, {"m": {"M": {**DOCUMENT["m"]["M"], "b": {"M": {"c": {"N": "1"}}}}}}),
    ("SET m.x = :v, m.a = :v", {"v": {"N": "3"}}, {"m": {"M": {**DOCUMENT["m"]["M"], "x": {"N": "3"}, "a": {"N": "3"}}}}),
    ("REMOVE n, absent", None, {"n": None}),
    ("REMOVE m.b, m.l[0]", None, {"m": {"M": {"a": {"N": "1"}, "l": {"L": [{"S": "q"}]}}}}),
    ("REMOVE l[9], m.absent", None, {}),
    ("ADD n :v, fresh :v", {"v": {"N": "2"}}, {"n": {"N": "7"}, "fresh": {"N": "2"}}),
    ("ADD tags :v", {"v": {"SS": ["y", "z"]}}, {"tags": {"SS": ["x", "y", "z"]}}),
    ("DELETE tags :v", {"v": {"SS": ["y", "z"]}}, {"tags": {"SS": ["x"]}}),
    ("DELETE tags :v", {"v": {"SS": ["x", "y"]}}, {"tags": None}),
    ("DELETE absent :v", {"v": {"SS": ["x"]}}, {}),
    ("SET s = :s REMOVE flag ADD n :n DELETE nums :gone", {"s": {"S": ""}, "n": {"N": "-7"}, "gone": {"NS": ["1"]}},
     {"s": {"S": ""}, "flag": None, "n": {"N": "-2"}, "nums": {"NS": ["20"]}}),
])
def test_an_update_changes_what_it_says_and_nothing_else(database, expression, values, changed):
    answer = database.update(expression, values=values, ReturnValues="ALL_NEW")
    expected = {**key(), **DOCUMENT, **changed}
    expected = {name: value for name, value in expected.items() if value is not None}
    assert sorted_sets(answer["Attributes"]) == sorted_sets(database.get()) == expected


def sorted_sets(item):
    return {name: {tag: sorted(inner, key=float if tag == "NS" else None) if tag in ("SS", "NS") else inner}
            for name, value in item.items() for tag, inner in value.items()}


@pytest.mark.parametrize("expression, values, words", [
    ("SET absent.a = :v", {"v": {"N": "1"}}, "document path"), ("ADD s :v", {"v": {"N": "1"}}, "data type"),
    ("SET m.absent.a = :v", {"v": {"N": "1"}}, "document path"),
    ("SET n = absent", None, "does not exist"), ("SET n = absent + :v", {"v": {"N": "1"}}, "does not exist"),
    ("ADD n :v", {"v": {"S": "x"}}, "operand type"), ("ADD tags :v", {"v": {"NS": ["1"]}}, "data type"),
    ("SET id = :v", {"v": {"S": "x"}}, "part of the key"), ("REMOVE num", None, "part of the key"),
    ("SET due_at = :v", {"v": {"S": "soon"}}, "Type mismatch for Index Key due_at"),
    ("SET n = :v REMOVE status", {"v": {"N": "1"}}, "reserved"),
])
def test_an_update_that_cannot_be_done_is_refused_and_changes_nothing(database, expression, values, words):
    before = database.get()
    with refused("ValidationException", words):
        database.update(expression, values=values)
    assert database.get() == before


@pytest.mark.parametrize("expression, values, words", [
    ("SET m = :v, m.a = :v", {"v": {"N": "1"}}, "overlap"), ("SET m.a = :v REMOVE m", {"v": {"N": "1"}}, "overlap"),
    ("SET m.a = :v REMOVE m[0]", {"v": {"N": "1"}}, "conflict"), ("REMOVE absent.a", None, "document path"),
    ("ADD absent.a :v", {"v": {"N": "1"}}, "document path"), ("SET n = :v + n", {"v": {"S": "1"}}, "data type"),
    ("SET l = list_append(l, :v)", {"v": {"S": "1"}}, "data type"), ("SET n = s + :v", {"v": {"N": "1"}}, "data type"),
    ("SET n.a = :v", {"v": {"N": "1"}}, "document path"), ("SET n[0] = :v", {"v": {"N": "1"}}, "document path"),
    ("SET n = :v, ", {"v": {"N": "1"}}, "Syntax error"), ("SET n = :v SET s = :v", {"v": {"N": "1"}}, "only be used once"),
    ("SET n = :v, n = :v", {"v": {"N": "1"}}, "overlap"),
])
def test_what_the_embedded_one_lets_pass_is_refused_too(world, expression, values, words):
    before = world.get()
    with refused("ValidationException", words):
        world.update(expression, values=values)
    assert world.get() == before


def test_the_indexes_of_one_remove_mean_the_list_as_it_was(world):
    world.update("REMOVE l[0], l[1]")
    assert world.get()["l"] == {"L": [{"N": "3"}]}


def test_the_condition_is_judged_before_the_update(database):
    with refused("ConditionalCheckFailedException"):
        database.update("SET absent.a = :v", values={"v": {"N": "1"}}, ConditionExpression="attribute_exists(absent)")


def test_an_update_makes_a_missing_item(database):
    database.update("SET n = :v ADD c :v", name="new", values={"v": {"N": "1"}})
    database.update(name="bare")
    assert database.get("new") == {**key("new"), "n": {"N": "1"}, "c": {"N": "1"}}
    assert database.get("bare") == key("bare")


def test_removing_from_a_missing_item_does_not_make_it(world):
    world.update("REMOVE n", name="new")
    world.update("DELETE tags :v", name="new", values={"v": {"SS": ["x"]}})
    assert world.get("new") is None


def test_return_values_show_what_was_asked_for(database):
    def returned(wish, number):
        return database.update("SET n = :v, m.a = :v", values={"v": {"N": str(number)}}, ReturnValues=wish)

    assert returned("UPDATED_NEW", 7)["Attributes"] == {"n": {"N": "7"}, "m": {"M": {"a": {"N": "7"}}}}
    assert returned("UPDATED_OLD", 8)["Attributes"] == {"n": {"N": "7"}, "m": {"M": {"a": {"N": "7"}}}}
    assert returned("ALL_OLD", 9)["Attributes"]["n"] == {"N": "8"}
    assert returned("NONE", 10) == {}
    assert "Attributes" not in database.update("SET n = :v", name="new", values={"v": {"N": "1"}}, ReturnValues="ALL_OLD")
    with refused("ValidationException"):
        database.call("PutItem", Item=key(), ReturnValues="ALL_NEW")


# Items

def test_put_and_delete_return_the_old_item_and_obey_conditions(database):
    put = database.call("PutItem", Item={**key(), "n": {"N": "1"}}, ReturnValues="ALL_OLD")
    assert put["Attributes"]["s"] == {"S": "abc"} and database.get() == {**key(), "n": {"N": "1"}}
    with refused("ConditionalCheckFailedException"):
        database.call("PutItem", Item=key(), ConditionExpression="attribute_not_exists(id)")
    with refused("ConditionalCheckFailedException"):
        database.call("DeleteItem", Key=key(), ConditionExpression="n = :v", ExpressionAttributeValues={":v": {"N": "2"}})
    assert database.call("DeleteItem", Key=key(), ReturnValues="ALL_OLD")["Attributes"]["n"] == {"N": "1"}
    assert database.call("DeleteItem", Key=key(), ReturnValues="ALL_OLD") == {} and database.get() is None
    with refused("ConditionalCheckFailedException"):
        database.call("DeleteItem", Key=key(), ConditionExpression="attribute_exists(id)")


@pytest.mark.parametrize("item, words", [
    ({"id": {"S": "x"}}, "(Missing the key num|schema)"), ({"id": {"N": "1"}, "num": {"N": "1"}}, "(Type mismatch|schema)"),
    ({"id": {"S": ""}, "num": {"N": "1"}}, "empty string"), ({**key(), "x": {"N": "seven"}}, "numeric"),
    ({**key(), "x": {"SS": []}}, "empty"), ({**key(), "x": {"SS": ["a", "a"]}}, "duplicates"),
    ({**key(), "x": {"N": "1" * 39}}, "38 significant digits"), ({**key(), "x": {"S": "x" * 409_600}}, "size"),
    ({**key(), "due_at": {"S": "soon"}}, "Type mismatch for Index Key"), ({**key(), "x": {"NULL": False}}, ""),
])
def test_an_item_that_cannot_be_stored_is_refused(database, item, words):
    with refused("ValidationException", words):
        database.call("PutItem", Item=item)


@pytest.mark.parametrize("wrong", [{"id": {"S": "one"}}, {**key(), "n": {"N": "1"}}, {"id": {"N": "1"}, "num": {"N": "1"}}])
def test_a_key_must_be_the_whole_key_and_nothing_else(database, wrong):
    with refused("ValidationException", "schema"):
        database.call("GetItem", Key=wrong)


def test_numbers_are_one_value_however_written(database):
    database.put("numbers", 2, a={"N": "1.0"}, b={"N": "1e2"}, c={"N": "-0"}, d={"NS": ["3", "1.10"]})
    found = database.get("numbers", 2)
    assert (found["a"], found["b"], found["c"], found["num"]) == ({"N": "1"}, {"N": "100"}, {"N": "0"}, {"N": "2"})
    assert sorted(found["d"]["NS"]) == ["1.1", "3"]


def test_a_projection_shows_the_named_paths_only(database):
    assert database.get(ProjectionExpression="n, m.b.c, l[1], absent") == {
        "n": {"N": "5"}, "m": {"M": {"b": {"M": {"c": {"S": "deep"}}}}}, "l": {"L": [{"N": "2"}]}}


def test_an_unknown_table_is_said_to_be_missing(database):
    with refused("ResourceNotFoundException"):
        database.client.get_item(TableName="no-such-table", Key=key())
    with refused("ResourceInUseException"):
        database.client.create_table(**TABLE)
    described = database.client.describe_table(TableName="cases")["Table"]
    assert described["TableStatus"] == "ACTIVE" and described["KeySchema"] == TABLE["KeySchema"]
    assert "cases" in database.client.list_tables()["TableNames"]


def test_what_was_given_or_returned_is_never_shared_with_the_store(database):
    given = {**key("own"), "m": {"M": {"a": {"L": [{"S": "x"}]}}}}
    database.call("PutItem", Item=given)
    given["m"]["M"]["a"]["L"].append({"S": "y"})
    database.get("own")["m"]["M"].clear()
    assert database.get("own")["m"] == {"M": {"a": {"L": [{"S": "x"}]}}}


# Reading many

def fill(database):
    for number in (3, 20, 100, -4):
        due = {} if number == 20 else {"due_shard": {"N": "7"}, "due_at": {"N": str(1000 - number)}}
        database.put("many", number, kind={"S": "odd" if number == 3 else "even"}, **due)


def numbers(answer):
    return [int(item["num"]["N"]) for item in answer["Items"]]


@pytest.mark.parametrize("condition, more, expected", [
    ("id = :id", {}, [-4, 3, 20, 100]), ("id = :id AND num > :n", {"n": {"N": "3"}}, [20, 100]),
    ("num <= :n AND id = :id", {"n": {"N": "20"}}, [-4, 3, 20]), ("id = :id AND num = :n", {"n": {"N": "3.0"}}, [3]),
    ("id = :id AND num BETWEEN :n AND :m", {"n": {"N": "3"}, "m": {"N": "20"}}, [3, 20]),
    ("(id = :id) AND (num < :n)", {"n": {"N": "0"}}, [-4]),
])
def test_a_query_finds_the_items_of_its_key_in_numeric_order(database, condition, more, expected):
    fill(database)
    values = {"id": {"S": "many"}, **more}
    assert numbers(database.query(condition, values=values)) == expected
    assert numbers(database.query(condition, values=values, ScanIndexForward=False, ConsistentRead=True)) == expected[::-1]


@pytest.mark.parametrize("condition, words", [
    ("num = :id", ""), ("id > :id", ""), ("id = :id AND kind = :n", ""), ("id = :n", ""),
])
def test_a_key_condition_of_another_shape_is_refused(database, condition, words):
    values = {name: value for name, value in {"id": {"S": "many"}, "n": {"N": "1"}}.items() if f":{name}" in condition}
    with refused("ValidationException", words):
        database.query(condition, values=values)


def test_a_filter_counts_against_the_limit_and_pages_go_on_where_they_stopped(database):
    fill(database)
    values, names = {"id": {"S": "many"}, "kind": {"S": "even"}}, None
    pages, start = [], {}
    while not pages or start:
        page = database.query("id = :id", values=values, names=names, FilterExpression="kind = :kind", Limit=2, **start)
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]} if "LastEvaluatedKey" in page else {}
        pages.append((numbers(page), page["Count"], page["ScannedCount"]))
    assert pages[:2] == [([-4], 1, 2), ([20, 100], 2, 2)] and all(page == ([], 0, 0) for page in pages[2:])
    counted = database.query("id = :id", values={"id": {"S": "many"}}, Select="COUNT")
    assert (counted["Count"], "Items" in counted) == (4, False)
    backwards = database.query("id = :id", values={"id": {"S": "many"}}, ScanIndexForward=False, ExclusiveStartKey=key("many", 20))
    assert numbers(backwards) == [3, -4]


@pytest.mark.parametrize("condition, more", [
    ("id = :id OR num = :n", {}), ("id = :id AND num <> :n", {}), ("id = :id", {"FilterExpression": "num > :n"}),
    ("shard = :id AND id = :n", {}),
])
def test_a_query_that_the_embedded_one_lets_pass_is_refused_too(world, condition, more):
    with refused("ValidationException"):
        world.query(condition, values={"id": {"S": "many"}, "n": {"N": "1"}}, **more)


def test_an_index_is_sparse_ordered_and_shows_keys_only(database):
    fill(database)
    values = {"shard": {"N": "7"}, "now": {"N": "997"}}
    found = database.query("due_shard = :shard AND due_at <= :now", values=values, IndexName="due")
    assert found["Items"] == [
        {**key("many", number), "due_shard": {"N": "7"}, "due_at": {"N": str(1000 - number)}} for number in (100, 3)]
    database.update("REMOVE due_at", name="many", number=100)
    database.update("SET due_at = :v", name="many", number=3, values={"v": {"N": "5000"}})
    assert numbers(database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")) == [-4, 3]
    page = database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due", Limit=1)
    assert set(page["LastEvaluatedKey"]) == {"id", "num", "due_shard", "due_at"}
    following = database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due",
                               ExclusiveStartKey=page["LastEvaluatedKey"])
    assert numbers(following) == [3]
    database.call("DeleteItem", Key=key("many", 3))
    assert numbers(database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")) == [-4]
    with refused("ValidationException", "onsistent"):
        database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due", ConsistentRead=True)
    with refused("ValidationException", "index"):
        database.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="other")


def test_a_scan_finds_everything_that_passes_the_filter(database):
    fill(database)
    found = database.call("Scan", FilterExpression="kind = :v", ExpressionAttributeValues={":v": {"S": "even"}})
    assert sorted(numbers(found)) == [-4, 20, 100] and found["ScannedCount"] == 5
    first = database.call("Scan", Limit=2)
    second = database.call("Scan", ExclusiveStartKey=first["LastEvaluatedKey"])
    assert sorted(numbers(first) + numbers(second)) == [-4, 1, 3, 20, 100]


def test_a_large_query_comes_in_pages_of_a_megabyte(database):
    for number in range(4):
        database.put("large", number, text={"S": "x" * 350_000})
    first = database.query("id = :id", values={"id": {"S": "large"}})
    rest = database.query("id = :id", values={"id": {"S": "large"}}, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert numbers(first) + numbers(rest) == [0, 1, 2, 3] and 1 <= len(rest["Items"]) <= 2


# Batches and transactions

def test_a_batch_get_answers_what_exists_and_refuses_duplicates_and_more_than_100(database):
    def batch(keys, **more):
        return database.client.batch_get_item(RequestItems={"cases": {"Keys": keys, **more}})

    database.put("two", 2, n={"N": "2"})
    found = batch([key(), key("two", 2), key("gone")], ProjectionExpression="id, n", ConsistentRead=True)
    assert sorted(item["n"]["N"] for item in found["Responses"]["cases"]) == ["2", "5"] and not found["UnprocessedKeys"]
    with refused("ValidationException", "duplicates"):
        batch([key(), key()])
    with refused("ValidationException", "[Tt]oo many items|less than or equal"):
        batch([key("x", number) for number in range(101)])


def test_a_batch_write_puts_and_deletes_and_refuses_duplicates_and_more_than_25(database):
    def batch(*requests):
        return database.client.batch_write_item(RequestItems={"cases": list(requests)})

    batch({"PutRequest": {"Item": key("two", 2)}}, {"DeleteRequest": {"Key": key()}})
    assert database.get() is None and database.get("two", 2) == key("two", 2)
    with refused("ValidationException", "duplicates"):
        batch({"PutRequest": {"Item": key("three")}}, {"DeleteRequest": {"Key": key("three")}})
    with refused("ValidationException", "[Tt]oo many items|less than or equal"):
        batch(*({"PutRequest": {"Item": key("x", number)}} for number in range(26)))


def write(kind, name, **params):
    which = {"Item": key(name)} if kind == "Put" else {"Key": key(name)}
    return {kind: {"TableName": "cases", **which, **params}}


def test_a_transaction_is_all_or_nothing_and_says_which_part_failed(database):
    only_new = {"ConditionExpression": "attribute_not_exists(id)"}
    with pytest.raises(database.client.exceptions.TransactionCanceledException) as failed:
        database.client.transact_write_items(TransactItems=[
            write("Put", "two"), write("Put", "one", ReturnValuesOnConditionCheckFailure="ALL_OLD", **only_new),
            write("ConditionCheck", "gone", **only_new)])
    reasons = failed.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed", "None"]
    assert reasons[1]["Item"]["n"] == {"N": "5"} and database.get("two") is None
    database.client.transact_write_items(TransactItems=[
        write("Put", "two", **only_new), write("Delete", "one"), write("ConditionCheck", "gone", **only_new),
        write("Update", "four", UpdateExpression="ADD n :v", ExpressionAttributeValues={":v": {"N": "4"}})])
    assert (database.get("two"), database.get(), database.get("four")["n"]) == (key("two"), None, {"N": "4"})
    with refused("ValidationException", "multiple operations on one item"):
        database.client.transact_write_items(TransactItems=[write("Put", "two"), write("Delete", "two")])
    both = database.client.transact_get_items(TransactItems=[write("Get", "two"), write("Get", "gone")])
    assert [answer.get("Item") for answer in both["Responses"]] == [key("two"), None]


def test_the_same_token_does_a_transaction_once_and_another_one_not_at_all(database):
    def add(amount):
        database.client.transact_write_items(ClientRequestToken="token-1", TransactItems=[
            write("Update", "one", UpdateExpression="ADD n :v", ExpressionAttributeValues={":v": {"N": amount}})])

    add("1")
    add("1")
    assert database.get()["n"] == {"N": "6"}
    with refused("IdempotentParameterMismatchException"):
        add("2")


# What only the world can do

def test_an_index_can_lag_behind_the_table(world):
    world.world.index_lag = math.inf
    fill(world)
    assert world.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")["Count"] == 0
    assert world.query("id = :id", values={"id": {"S": "many"}})["Count"] == 4
    world.world.index_lag = 1
    assert world.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")["Count"] == 2
    world.world.index_lag = 0
    assert world.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")["Count"] == 3


def test_a_restored_world_is_as_it_was_and_counts_from_zero(world):
    kept, before = world.world.snapshot(), world.world.fingerprint()
    for _ in range(2):
        fill(world)
        world.update("SET m.b.c = :v, n = :v", values={"v": {"N": "6"}})
        assert world.world.fingerprint() != before and world.world.calls["UpdateItem"] == 1
        world.world.restore(kept)
        assert world.world.fingerprint() == before and not world.world.calls
        assert world.get() == {**key(), **DOCUMENT}
        assert world.query("due_shard = :s", values={"s": {"N": "7"}}, IndexName="due")["Count"] == 0
        world.world.calls.clear()


def test_a_transaction_token_is_forgotten_after_ten_minutes(free_client):
    # Rows: fault 19
    now = [0]
    add = write("Update", "one", UpdateExpression="ADD n :v", ExpressionAttributeValues={":v": {"N": "1"}})
    with installed(World(now=lambda: now[0])) as clocked:
        database = Database(free_client, clocked)
        for moment in (0, 599, 601):
            now[0] = moment
            free_client.transact_write_items(ClientRequestToken="token", TransactItems=[add])
    assert clocked.item("cases", "one", "1")["n"] == {"N": "7"} and database.world is clocked


def test_every_table_of_the_product_exists_in_its_world(free_client):
    with installed(World.from_resources(aws.resources("local"))):
        assert free_client.list_tables()["TableNames"] == [
            f"rolekeep-local-{name}" for name in ("ledger", "links", "members", "servers", "sessions")]


def test_other_services_are_not_touched_and_the_seam_closes_again(free_client):
    from botocore.client import BaseClient
    before = BaseClient._make_api_call
    with installed(World()):
        assert BaseClient._make_api_call is not before
    assert BaseClient._make_api_call is before


# Through pynamodb, as the product does

class Due(GlobalSecondaryIndex):
    class Meta:
        index_name, projection = "due", KeysOnlyProjection()

    due_shard = NumberAttribute(hash_key=True)
    due_at = NumberAttribute(range_key=True)


class Case(Model):
    class Meta:
        table_name, region = "cases", aws.REGION
        aws_access_key_id = aws_secret_access_key = "test"

    id = UnicodeAttribute(hash_key=True)
    num = NumberAttribute(range_key=True)
    n = NumberAttribute(null=True)
    note = UnicodeAttribute(null=True)
    extra = MapAttribute(null=True)
    due_shard = NumberAttribute(null=True)
    due_at = NumberAttribute(null=True)
    due = Due()


@pytest.fixture
def model(database):
    # A model keeps its first connection; each implementation needs one of its own.
    Case._connection = None
    yield Case
    Case._connection = None


def test_a_pynamodb_model_saves_updates_queries_and_fails_as_on_the_embedded_one(database, model):
    case = model("py", 1, n=1, extra={"a": {"b": 1}}, due_shard=3, due_at=10)
    case.save(condition=Case.id.does_not_exist())
    with pytest.raises(PutError) as failed:
        model("py", 1).save(condition=Case.id.does_not_exist())
    assert failed.value.cause_response_code == "ConditionalCheckFailedException"
    case.update(actions=[Case.n.add(2), Case.extra["a"]["c"].set("new"), Case.note.set("text"), Case.due_at.set(20)],
                condition=(Case.n == 1) & Case.extra["a"]["b"].exists())
    assert (case.n, case.extra["a"], case.due_at) == (3, {"b": 1, "c": "new"}, 20)
    with pytest.raises(UpdateError):
        case.update(actions=[Case.n.remove()], condition=Case.n.is_in(1, 2))
    with pytest.raises(DeleteError):
        case.delete(condition=Case.note.startswith("x"))
    assert [(one.id, one.due_at) for one in model.due.query(3, Case.due_at <= 20)] == [("py", 20)]
    model("py", 2).save()
    assert [one.num for one in model.query("py", scan_index_forward=False)] == [2, 1]
    assert {one.num for one in model.batch_get([("py", 1), ("py", 2), ("py", 3)])} == {1, 2}
    assert model.get("py", 1, consistent_read=True).extra.as_dict() == {"a": {"b": 1, "c": "new"}}
    with pytest.raises(Case.DoesNotExist):
        model.get("py", 3)


def test_a_pynamodb_transaction_says_which_part_failed(database, model):
    connection = Connection(region=aws.REGION)
    connection._client = database.client
    with pytest.raises(TransactWriteError) as failed:
        with TransactWrite(connection=connection) as transaction:
            transaction.save(model("t", 1))
            transaction.condition_check(Case, "one", 1, condition=Case.n == 6)
    # pynamodb sends the checks first
    assert [reason and reason.code for reason in failed.value.cancellation_reasons] == ["ConditionalCheckFailed", None]
    assert database.get("t", 1) is None


def test_the_module_says_which_version_it_was_compared_with():
    pinned = re.search(r"ministack==(\S+)", (aws.ROOT / "requirements-dev.txt").read_text()).group(1)
    assert f"MiniStack {pinned})" in __doc__
