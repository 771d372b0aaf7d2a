"""What a DynamoDB call costs in request units, by DynamoDB's rules.

A read unit is 4 KB read consistently, half of one otherwise; a write unit is 1 KB of the larger of the old and the new item, and
one more for each index entry written or removed. A key that leads to nothing and a query that finds nothing cost the least there
is. Sources: "Read and write operations" and "Item sizes and formats" in the DynamoDB developer guide.

Reads are worked out here, because the embedded AWS says 1 (or 0.5) whatever the size. For writes its own answer is taken: it
goes by size and index, which the tests hold it to.
"""
import math

READ_BYTES = 4096


def of_call(operation, params, answer):
    """(read units, write units) of one successful call, as botocore got `params` and gave `answer` (ConsumedCapacity asked for)."""
    if operation == "GetItem":
        return _read([answer.get("Item")], params.get("ConsistentRead")), 0
    if operation == "Query":
        together = sum(map(size, answer["Items"]))     # a query is billed for the sum of what it reads
        return _units(together) * _rate(params.get("ConsistentRead")), 0
    if operation == "BatchGetItem":
        if answer.get("UnprocessedKeys"):
            raise ValueError("a batch that was not answered whole")
        return sum(_batch(wanted, answer["Responses"].get(table, [])) for table, wanted in params["RequestItems"].items()), 0
    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        return 0, answer["ConsumedCapacity"]["CapacityUnits"]
    raise ValueError(f"nobody has said what {operation} costs")


def size(item):
    """The bytes of an item in DynamoDB's own form: names and values, by type."""
    return sum(len(name.encode()) + _value(value) for name, value in item.items())


def _batch(wanted, found):
    missing = [None] * (len(wanted["Keys"]) - len(found))
    return _read([*found, *missing], wanted.get("ConsistentRead"))


def _read(items, consistent):
    return sum(_units(size(item) if item else 0) for item in items) * _rate(consistent)


def _units(read):
    return max(1, math.ceil(read / READ_BYTES))


def _rate(consistent):
    return 1 if consistent else 0.5


def _value(value):
    [(kind, held)] = value.items()
    if kind == "S":
        return len(held.encode())
    if kind == "N":
        return _number(held)
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "B":
        return len(held)
    if kind in ("SS", "NS", "BS"):
        return sum(_value({kind[0]: one}) for one in held)
    inside = size(held) if kind == "M" else sum(map(_value, held))
    return 3 + len(held) + inside


def _number(text):
    """One byte for each two significant digits, and one; a sign is one more."""
    digits = text.lstrip("+-").partition("e")[0].replace(".", "").strip("0")
    return math.ceil(len(digits) / 2) + 1 + text.startswith("-")
