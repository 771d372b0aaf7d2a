"""A small DynamoDB in memory: real semantics, no time or randomness of its own, thousands of fresh worlds a second.

    world = World.from_resources(aws.resources("local"))
    with installed(world):
        ...                      # boto3 clients and pynamodb models talk to it (not boto3 *resources*: see seam.py)
    world.calls                  # Counter: round trips by operation

Single-item writes are linearizable and transactions atomic, because nothing runs at the same time. Indexes may lag:
`world.index_lag = n` hides the last n writes from them, `math.inf` freezes them. Known differences from Amazon's are
listed, and everything else compared with a second implementation, in test_dynamo_world.py.
"""

import marshal
import math
from collections import Counter, deque

from tests.worlds.expressions import Invalid, compiled, key_condition, partial
from tests.worlds.seam import Failure, installed
from tests.worlds.values import ITEM_BYTES, canonical, comparable, item_size

__all__ = ["World", "Table", "installed"]

PAGE_BYTES = 1024 * 1024
TOKEN_SECONDS = 600
_OK = {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}
_CONDITION_FAILED = ("ConditionalCheckFailedException", "The conditional request failed")


def _copied(value):
    """A copy that shares nothing; about ten times as fast as deepcopy, for plain values only."""
    return marshal.loads(marshal.dumps(value))


class _Keys:
    """The key schema of a table or an index."""

    def __init__(self, schema, types):
        by_kind = {part["KeyType"]: part["AttributeName"] for part in schema}
        self.hash, self.range = by_kind["HASH"], by_kind.get("RANGE")
        self.names = tuple(name for name in (self.hash, self.range) if name)
        self.types = {name: types[name] for name in self.names}


class _Index(_Keys):
    """A global secondary index: {hash value: {table key: item}} as far as the lag lets it know."""

    def __init__(self, definition, types, table):
        super().__init__(definition["KeySchema"], types)
        self.name, self.definition = definition["IndexName"], definition
        projection = definition["Projection"]
        self.all = projection["ProjectionType"] == "ALL"
        self.attributes = (*table.names, *self.names, *projection.get("NonKeyAttributes", ()))
        self.parts = {}

    def change(self, key, old, new):
        if old is not None and all(name in old for name in self.names):
            self.parts[_scalar(old[self.hash])].pop(key, None)
        if new is not None and all(name in new for name in self.names):
            self.parts.setdefault(_scalar(new[self.hash]), {})[key] = new

    def shown(self, item):
        return item if self.all else {name: item[name] for name in self.attributes if name in item}


def _scalar(value):
    ((_, inner),) = value.items()
    return inner


class Table(_Keys):
    """One table: `items` is {(hash value, range value or None): item}; items are never changed in place."""

    def __init__(self, definition):
        types = {one["AttributeName"]: one["AttributeType"] for one in definition["AttributeDefinitions"]}
        super().__init__(definition["KeySchema"], types)
        self.name, self.definition = definition["TableName"], definition
        self.indexes = {one["IndexName"]: _Index(one, types, self)
                        for one in definition.get("GlobalSecondaryIndexes") or ()}
        self.items, self.parts, self.waiting, self.prints = {}, {}, deque(), {}

    def key(self, given):
        """The key of an item that holds at least the key attributes, or of a Key parameter; Invalid otherwise."""
        found = []
        for name, tag in self.types.items():
            if name not in given:
                raise Invalid(f"One or more parameter values were invalid: Missing the key {name} in the item")
            ((kind, value),) = given[name].items()
            if kind != tag:
                raise Invalid(f"One or more parameter values were invalid: Type mismatch for key {name} "
                              f"expected: {tag} actual: {kind}")
            if value in ("", b""):
                raise Invalid("One or more parameter values are not valid. The AttributeValue for a key attribute "
                              f"cannot contain an empty string value. Key: {name}")
            found.append(value)
        return (found[0], found[1] if self.range else None)

    def exact_key(self, given):
        """The key of a Key parameter, which must be the key attributes and nothing else."""
        given = {name: canonical(value) for name, value in given.items()}
        if set(given) != set(self.names) or any(self.types[name] not in value for name, value in given.items()):
            raise Invalid("The provided key element does not match the schema")
        return self.key(given), given

    def write(self, key, new, lag):
        """Puts the new item (None: removes it) and lets all but the last `lag` writes into the indexes."""
        old = self.items.get(key)
        part = self.parts.setdefault(key[0], {})
        if new is None:
            self.items.pop(key, None)
            part.pop(key, None)
        else:
            self.items[key] = part[key] = new
        self.prints.pop(key, None)
        if self.indexes:
            self.waiting.append((key, old, new))
            self.catch_up(lag)

    def catch_up(self, lag):
        while len(self.waiting) > lag:
            change = self.waiting.popleft()
            for index in self.indexes.values():
                index.change(*change)

    def accept(self, item):
        """Nothing when the item may be stored; Invalid with DynamoDB's reason when not."""
        for index in self.indexes.values():
            for name, tag in index.types.items():
                if name in item and tag not in item[name]:
                    raise Invalid(f"One or more parameter values were invalid: Type mismatch for Index Key {name} "
                                  f"Expected: {tag} Actual: {next(iter(item[name]))} IndexName: {index.name}")
                if name in item and _scalar(item[name]) == "":
                    raise Invalid("One or more parameter values are not valid. A value specified for a secondary index "
                                  "key is not supported. The AttributeValue for a key attribute cannot contain an empty "
                                  f"string value. IndexName: {index.name}, IndexKey: {name}")
        # Version 2 has no back references, so it is never shorter than what DynamoDB counts.
        if len(marshal.dumps(item, 2)) > ITEM_BYTES and item_size(item) > ITEM_BYTES:
            raise Invalid("Item size has exceeded the maximum allowed size")

    def fingerprint(self):
        """A hash of the contents; equal contents give equal ones within one process."""
        for key, item in self.items.items():
            if key not in self.prints:
                self.prints[key] = hash(_frozen({"M": item}))
        return hash(frozenset((key, self.prints[key]) for key in self.items))


def _frozen(value):
    ((tag, inner),) = value.items()
    if tag == "M":
        return frozenset((name, _frozen(one)) for name, one in inner.items())
    if tag == "L":
        return tuple(_frozen(one) for one in inner)
    return (tag, tuple(inner) if type(inner) is list else inner)


class _Expressions:
    """All expressions of one request; refuses placeholders that are missing or unused."""

    def __init__(self, params, kinds):
        names, values = params.get("ExpressionAttributeNames") or {}, params.get("ExpressionAttributeValues") or {}
        self.values = {name: canonical(value) for name, value in values.items()}
        pairs, used_names, used_values = tuple(names.items()), set(), set()
        for kind in kinds:
            text = params.get(kind)
            one = None if text is None else compiled(kind, text, pairs)
            setattr(self, kind, one)
            if one is None:
                continue
            missing = one.values - self.values.keys()
            if missing:
                raise Invalid(f"Invalid {kind}: An expression attribute value used in expression is not defined; "
                              f"attribute value: {min(missing)}")
            one.check(self.values)
            used_names |= one.names
            used_values |= one.values
        _all_used("ExpressionAttributeNames", names, used_names, kinds, params)
        _all_used("ExpressionAttributeValues", values, used_values, kinds, params)

    def condition_holds(self, item):
        return self.ConditionExpression is None or self.ConditionExpression.holds(item or {}, self.values)


def _all_used(parameter, given, used, kinds, params):
    if len(given) == len(used):
        return
    if not any(params.get(kind) for kind in kinds):
        raise Invalid(f"{parameter} can only be specified when using expressions")
    unused = ", ".join(sorted(set(given) - used))
    raise Invalid(f"Value provided in {parameter} unused in expressions: keys: {{{unused}}}")


_WRITE = ("UpdateExpression", "ConditionExpression")
_CHECK = ("ConditionExpression",)
_READ = ("ProjectionExpression",)
_QUERY = ("KeyConditionExpression", "FilterExpression", "ProjectionExpression")
_SCAN = ("FilterExpression", "ProjectionExpression")


class World:
    """Tables by name, `calls` (operation -> how many), and the switches of the module's docstring."""

    service = "dynamodb"

    def __init__(self, tables=(), *, now=lambda: 0):
        """`tables` are CreateTable parameters; `now` (seconds) ends the ten minutes of a transaction's token."""
        self.tables, self.calls, self.tokens, self.now = {}, Counter(), {}, now
        self._lag, self.version = 0, 0
        for definition in tables:
            self._create(definition)

    @classmethod
    def from_resources(cls, resources, **settings):
        """A world with every table of CloudFormation resources: {logical id: {"Type", "Properties"}}."""
        return cls([one["Properties"] for one in resources.values() if one["Type"] == "AWS::DynamoDB::Table"], **settings)

    @property
    def index_lag(self):
        return self._lag

    @index_lag.setter
    def index_lag(self, writes):
        self._lag = writes
        for table in self.tables.values():
            table.catch_up(writes)

    def call(self, operation, params):
        """The answer to one API call, as botocore's clients return it; Failure with the service's error code."""
        self.calls[operation] += 1
        try:
            answer = getattr(self, "_" + operation, self._unknown)(params)
        except Invalid as wrong:
            raise Failure("ValidationException", str(wrong)) from None
        answer["ResponseMetadata"] = _OK.copy()
        return answer

    def snapshot(self):
        """Everything stored, to be given to `restore` any number of times."""
        return [(table, table.items.copy(), _parts(table.parts), tuple(table.waiting), table.prints.copy(),
                 {name: _parts(index.parts) for name, index in table.indexes.items()})
                for table in self.tables.values()], dict(self.tokens), self._lag

    def restore(self, snapshot):
        """The contents are those of the snapshot again; call counts begin at zero."""
        tables, tokens, self._lag = snapshot
        self.tables = {table.name: table for table, *_ in tables}
        for table, items, parts, waiting, prints, indexes in tables:
            table.items, table.parts, table.waiting = items.copy(), _parts(parts), deque(waiting)
            table.prints = prints.copy()
            for name, kept in indexes.items():
                table.indexes[name].parts = _parts(kept)
        self.tokens, self.version = dict(tokens), 0
        self.calls.clear()

    def fingerprint(self):
        """A hash of all contents, for telling worlds apart; equal contents give equal ones within one process."""
        return hash(tuple(table.fingerprint() for table in self.tables.values()))

    def item(self, table, *key):
        """The stored item as typed values, or None, without counting a call: for judges."""
        found = self.tables[table].items.get((key[0], key[1] if len(key) > 1 else None))
        return None if found is None else _copied(found)

    def _unknown(self, params):
        raise Failure("UnknownOperationException", "this operation is not part of the world")

    def _table(self, params):
        try:
            return self.tables[params["TableName"]]
        except KeyError:
            raise Failure("ResourceNotFoundException", "Requested resource not found") from None

    def _write(self, table, key, new):
        self.version += 1
        table.write(key, new, self._lag)

    # Tables

    def _create(self, definition):
        self.tables[definition["TableName"]] = Table(definition)

    def _CreateTable(self, params):
        if params["TableName"] in self.tables:
            raise Failure("ResourceInUseException", f"Table already exists: {params['TableName']}")
        self._create(params)
        return {"TableDescription": self._DescribeTable(params)["Table"]}

    def _DescribeTable(self, params):
        table = self._table(params)
        kept = ("TableName", "KeySchema", "AttributeDefinitions")
        described = {**{name: table.definition[name] for name in kept}, "TableStatus": "ACTIVE",
                     "ItemCount": len(table.items), "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{table.name}"}
        if table.indexes:
            described["GlobalSecondaryIndexes"] = [
                {**index.definition, "IndexStatus": "ACTIVE"} for index in table.indexes.values()]
        return {"Table": _copied(described)}

    def _ListTables(self, params):
        return {"TableNames": sorted(self.tables)}

    def _DeleteTable(self, params):
        answer = {"TableDescription": self._DescribeTable(params)["Table"]}
        del self.tables[params["TableName"]]
        return answer

    def _UpdateTimeToLive(self, params):
        # Nothing is ever removed by TTL here: code must treat expired items as absent by itself.
        return {"TimeToLiveSpecification": dict(params["TimeToLiveSpecification"])}

    # Single items

    def _GetItem(self, params):
        table = self._table(params)
        key, _ = table.exact_key(params["Key"])
        projection = _Expressions(params, _READ).ProjectionExpression
        item = table.items.get(key)
        if item is None:
            return {}
        return {"Item": _copied(item if projection is None else projection.of(item))}

    def _PutItem(self, params):
        return self._single(params, self._planned_put(params), ("NONE", "ALL_OLD"))

    def _DeleteItem(self, params):
        return self._single(params, self._planned_delete(params), ("NONE", "ALL_OLD"))

    def _UpdateItem(self, params):
        return self._single(params, self._planned_update(params),
                            ("NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"))

    def _single(self, params, planned, allowed):
        wish = params.get("ReturnValues") or "NONE"
        if wish not in allowed:
            raise Invalid("Return values set to invalid value")
        table, key, old, new, expressions = planned
        if not expressions.condition_holds(old):
            raise Failure(*_CONDITION_FAILED, **_item_on_failure(params, old))
        new = new()
        if new is not old:
            self._write(table, key, new)
        return _returned(wish, old, new, getattr(expressions, "UpdateExpression", None))

    def _planned_put(self, params):
        """(table, key, old item, function that makes the new item, expressions) of a put."""
        table = self._table(params)
        item = {name: canonical(value) for name, value in params["Item"].items()}
        key = table.key(item)
        table.accept(item)
        return table, key, table.items.get(key), lambda: item, _Expressions(params, _CHECK)

    def _planned_delete(self, params):
        table = self._table(params)
        key, _ = table.exact_key(params["Key"])
        return table, key, table.items.get(key), lambda: None, _Expressions(params, _CHECK)

    def _planned_update(self, params):
        table = self._table(params)
        key, given = table.exact_key(params["Key"])
        expressions = _Expressions(params, _WRITE)
        update, old = expressions.UpdateExpression, table.items.get(key)
        for path in update.paths if update else ():
            if path[0] in table.types:
                raise Invalid("One or more parameter values were invalid: "
                              f"Cannot update attribute {path[0]}. This attribute is part of the key")

        def new():
            changed = (old or given).copy() if update is None else update.applied(old or given, expressions.values)
            if old is None and update is not None and not update.creates:
                return None  # a REMOVE or DELETE alone makes no item
            table.accept(changed)
            return changed

        return table, key, old, new, expressions

    def _planned_check(self, params):
        table, key, old, _, expressions = self._planned_delete(params)
        return table, key, old, lambda: old, expressions

    # Reading many

    def _Query(self, params):
        table, index = self._source(params)
        keys = index or table
        expressions = _Expressions(params, _QUERY)
        if expressions.KeyConditionExpression is None:
            raise Invalid("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
        name, tests = key_condition(expressions.KeyConditionExpression, keys.hash, keys.range)
        value = expressions.values[name]
        if keys.types[keys.hash] not in value:
            raise Invalid("One or more parameter values were invalid: Condition parameter type does not match schema type")
        _refuse_key_filter(expressions.FilterExpression, keys)
        part = keys.parts.get(_scalar(value), {})
        found = [(key, item) for key, item in part.items()
                 if all(test(item, expressions.values) for test in tests)]
        return self._page(params, table, index, found, expressions)

    def _Scan(self, params):
        table, index = self._source(params)
        expressions = _Expressions(params, _SCAN)
        parts = (index or table).parts
        return self._page(params, table, index, [pair for part in parts.values() for pair in part.items()], expressions)

    def _source(self, params):
        table, name = self._table(params), params.get("IndexName")
        if name is None:
            return table, None
        if name not in table.indexes:
            raise Invalid(f"The table does not have the specified index: {name}")
        if params.get("ConsistentRead"):
            raise Invalid("Consistent reads are not supported on global secondary indexes")
        return table, table.indexes[name]

    def _page(self, params, table, index, found, expressions):
        keys, limit = index or table, params.get("Limit") or math.inf
        whole = "KeyConditionExpression" not in params
        found.sort(key=lambda pair: _position(table, keys, pair[1], whole), reverse=params.get("ScanIndexForward") is False)
        found = _after(found, params, table, keys, whole)
        items, scanned, size, last = [], 0, 0, None
        for key, item in found:
            scanned += 1
            size += item_size(item) if len(found) > 3 else 0
            shown = item if index is None else index.shown(item)
            if expressions.FilterExpression is None or expressions.FilterExpression.holds(shown, expressions.values):
                items.append(shown)
            if scanned >= limit or size >= PAGE_BYTES:
                last = item
                break
        return _paged(params, table, keys, items, scanned, last, expressions.ProjectionExpression)

    def _BatchGetItem(self, params):
        wanted = params["RequestItems"]
        if not wanted or sum(len(one["Keys"]) for one in wanted.values()) > 100:
            raise Invalid("Too many items requested for the BatchGetItem call")
        answers = {}
        for name, one in wanted.items():
            table = self._table({"TableName": name})
            keys = [table.exact_key(key)[0] for key in one["Keys"]]
            if len(set(keys)) != len(keys):
                raise Invalid("Provided list of item keys contains duplicates")
            projection = _Expressions(one, _READ).ProjectionExpression
            found = [table.items[key] for key in keys if key in table.items]
            answers[name] = [_copied(item if projection is None else projection.of(item)) for item in found]
        return {"Responses": answers, "UnprocessedKeys": {}}

    def _BatchWriteItem(self, params):
        planned, seen = [], set()
        for name, requests in params["RequestItems"].items():
            for request in requests:
                ((kind, inner),) = request.items()
                plan = self._planned_put if kind == "PutRequest" else self._planned_delete
                table, key, _, new, _ = plan({"TableName": name, **inner})
                planned.append((table, key, new()))
                seen.add((name, key))
        if not 0 < len(planned) <= 25:
            raise Invalid("Too many items requested for the BatchWriteItem call")
        if len(seen) != len(planned):
            raise Invalid("Provided list of item keys contains duplicates")
        for one in planned:
            self._write(*one)
        return {"UnprocessedItems": {}}

    # Transactions

    def _TransactGetItems(self, params):
        if not 0 < len(params["TransactItems"]) <= 100:
            raise Invalid("Member must have length less than or equal to 100")
        return {"Responses": [self._GetItem(one["Get"]) for one in params["TransactItems"]]}

    def _TransactWriteItems(self, params):
        token, items = params.get("ClientRequestToken"), params["TransactItems"]
        if not 0 < len(items) <= 100:
            raise Invalid("Member must have length less than or equal to 100")
        if self._seen(token, items):
            return {}
        plans = {"Put": self._planned_put, "Delete": self._planned_delete, "Update": self._planned_update,
                 "ConditionCheck": self._planned_check}
        planned = []
        for one in items:
            ((kind, inner),) = one.items()
            planned.append((inner, plans[kind](inner)))
        if len({(plan[0].name, plan[1]) for _, plan in planned}) != len(planned):
            raise Invalid("Transaction request cannot include multiple operations on one item")
        outcomes = [_outcome(inner, plan) for inner, plan in planned]
        reasons = [reason for reason, _ in outcomes]
        if any(reason["Code"] != "None" for reason in reasons):
            codes = ", ".join(reason["Code"] for reason in reasons)
            raise Failure("TransactionCanceledException", "Transaction cancelled, please refer cancellation reasons for "
                          f"specific reasons [{codes}]", CancellationReasons=reasons)
        for (_, (table, key, old, _, _)), (_, new) in zip(planned, outcomes):
            if new is not old:
                self._write(table, key, new)
        if token:
            self.tokens[token] = (self.now(), _copied(items))
        return {}

    def _seen(self, token, items):
        """True when this token's transaction was done less than ten minutes ago; Failure when it was another one."""
        if not token or token not in self.tokens:
            return False
        done, before = self.tokens[token]
        if self.now() - done > TOKEN_SECONDS:
            return False
        if before != items:
            raise Failure("IdempotentParameterMismatchException", "The parameters do not match an earlier request")
        return True


def _parts(parts):
    return {value: part.copy() for value, part in parts.items()}


def _item_on_failure(params, old):
    wished = params.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return {"Item": _copied(old)} if wished and old is not None else {}


def _returned(wish, old, new, update):
    if wish == "NONE":
        return {}
    item = old if wish.endswith("OLD") else new
    if item is not None and wish.startswith("UPDATED"):
        item = partial(item, update.paths) if update else {}
    return {"Attributes": _copied(item)} if item else {}


def _outcome(params, plan):
    """({Code, Message?, Item?}, the new item) of one part of a transaction, in the state before all of it."""
    _, _, old, new, expressions = plan
    if not expressions.condition_holds(old):
        code, message = _CONDITION_FAILED
        return {"Code": code.removesuffix("Exception"), "Message": message, **_item_on_failure(params, old)}, None
    try:
        return {"Code": "None"}, new()
    except Invalid as wrong:
        return {"Code": "ValidationError", "Message": str(wrong)}, None


def _refuse_key_filter(condition, keys):
    for path in sorted(condition.paths) if condition else ():
        if path[0] in keys.types:
            raise Invalid("Filter Expression can only contain non-primary key attributes: "
                          f"Primary key attribute: {path[0]}")


def _position(table, keys, item, whole):
    """Where an item stands in a query (by range key) or a scan (`whole`); ties of an index go by the table's key."""
    names = (keys.names if whole else keys.names[1:]) + (() if keys is table else table.names)
    return tuple(comparable(item[name]) for name in names)


def _after(found, params, table, keys, whole):
    start = params.get("ExclusiveStartKey")
    if not start:
        return found
    start = {name: canonical(value) for name, value in start.items()}
    if set(start) != {*table.names, *keys.names}:
        raise Invalid("The provided starting key is invalid")
    place = _position(table, keys, start, whole)
    if params.get("ScanIndexForward") is False:
        return [pair for pair in found if _position(table, keys, pair[1], whole) < place]
    return [pair for pair in found if _position(table, keys, pair[1], whole) > place]


def _paged(params, table, keys, items, scanned, last, projection):
    answer = {"Count": len(items), "ScannedCount": scanned}
    if params.get("Select") != "COUNT":
        answer["Items"] = _copied(items if projection is None else [projection.of(item) for item in items])
    if last is not None:
        answer["LastEvaluatedKey"] = _copied({name: last[name] for name in (*table.names, *keys.names)})
    return answer
