"""DynamoDB's expression language: conditions, key conditions, updates and projections, compiled once per text.

Everything here is pure: an expression is compiled with the names of its request and applied to an item and the values
of its request (both canonical, see values.py). An `Invalid` carries the message of the ValidationException.
Source: Amazon DynamoDB developer guide, "Using expressions in DynamoDB".
"""

import re
from functools import lru_cache

from ministack.services._dynamodb_keywords import AWS_KEYWORDS

from tests.worlds.values import Invalid, comparable, number, plus

_TOKEN = re.compile(r"\s*(?:(#[A-Za-z0-9_]+)|(:[A-Za-z0-9_]+)|([A-Za-z][A-Za-z0-9_]*)|([0-9]+)|(<>|<=|>=|[-=<>+(),.\[\]]))")
_NAME, _VALUE, _WORD, _INT, _SIGN = 1, 2, 3, 4, 5
_COMPARE = {"=", "<>", "<", "<=", ">", ">="}
_CONDITIONS = {"attribute_exists": 1, "attribute_not_exists": 1, "attribute_type": 2, "begins_with": 2, "contains": 2}
_AV_TYPES = {"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
BAD_PATH = "The document path provided in the update expression is invalid for update"
NO_ATTRIBUTE = "The provided expression refers to an attribute that does not exist in the item"
BAD_TYPE = "An operand in the update expression has an incorrect data type"


def _tokens(text, kind):
    position, found = 0, []
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Invalid(f'Invalid {kind}: Syntax error; token: "{text[position:position + 10].strip()}"')
        found.append((match.lastindex, match.group(match.lastindex)))
        position = match.end()
    return [*found, (0, "<EOF>")]


class _Parser:
    """Reads one expression; `names` and `values` collect the placeholders that it used."""

    def __init__(self, kind, text, names):
        if not text:
            raise Invalid(f"Invalid {kind}: The expression can not be empty;")
        self.kind, self.given, self.names, self.values = kind, names, set(), set()
        self.tokens, self.at = _tokens(text, kind), 0

    def bad(self, why):
        return Invalid(f"Invalid {self.kind}: {why}")

    def syntax(self):
        return self.bad(f'Syntax error; token: "{self.tokens[self.at][1]}"')

    def peek(self, *words):
        kind, text = self.tokens[self.at]
        return text.upper() in words if kind == _WORD else text in words

    def accept(self, *words):
        if self.peek(*words):
            self.at += 1
            return True
        return False

    def expect(self, word):
        if not self.accept(word):
            raise self.syntax()

    def take(self, kind):
        if self.tokens[self.at][0] != kind:
            raise self.syntax()
        self.at += 1
        return self.tokens[self.at - 1][1]

    def end(self):
        if self.tokens[self.at][0]:
            raise self.syntax()

    def name(self):
        kind, text = self.tokens[self.at]
        if kind == _NAME:
            if text not in self.given:
                raise self.bad(f"An expression attribute name used in the document path is not defined; attribute name: {text}")
            self.names.add(text)
            self.at += 1
            return self.given[text]
        if kind == _WORD and text.upper() in AWS_KEYWORDS:
            raise self.bad(f"Attribute name is a reserved keyword; reserved keyword: {text}")
        return self.take(_WORD)

    def path(self):
        steps = [self.name()]
        while True:
            if self.accept("."):
                steps.append(self.name())
            elif self.accept("["):
                steps.append(int(self.take(_INT)))
                self.expect("]")
            else:
                return tuple(steps)

    def value(self):
        self.values.add(self.tokens[self.at][1])
        return ("value", self.take(_VALUE))

    def operand(self):
        kind, text = self.tokens[self.at]
        if kind == _VALUE:
            return self.value()
        if kind == _WORD and self.tokens[self.at + 1][1] == "(":
            if text != "size":
                raise self._unknown(text)
            self.at += 2
            inner = self.operand()
            self.expect(")")
            return ("size", inner)
        return ("path", self.path())

    def _unknown(self, name):
        if name in _CONDITIONS:
            return self.bad(f"The function is not allowed to be used this way in an expression; function: {name}")
        return self.bad(f"Invalid function name; function: {name}")

    def condition(self):
        left = self._all()
        while self.accept("OR"):
            left = ("or", left, self._all())
        return left

    def _all(self):
        left = self._not()
        while self.accept("AND"):
            left = ("and", left, self._not())
        return left

    def _not(self):
        return ("not", self._not()) if self.accept("NOT") else self._term()

    def _term(self):
        if self.accept("("):
            inner = self.condition()
            self.expect(")")
            return inner
        kind, text = self.tokens[self.at]
        if kind == _WORD and self.tokens[self.at + 1][1] == "(" and text != "size":
            return self._function(text)
        left = self.operand()
        if self.accept("BETWEEN"):
            low = self.operand()
            self.expect("AND")
            return ("between", left, low, self.operand())
        if self.accept("IN"):
            return ("in", left, self._list())
        sign = self.tokens[self.at][1]
        if sign not in _COMPARE:
            raise self.syntax()
        self.at += 1
        return ("compare", sign, left, self.operand())

    def _list(self):
        self.expect("(")
        options = [self.operand()]
        while self.accept(","):
            options.append(self.operand())
        self.expect(")")
        if len(options) > 100:
            raise self.bad("The IN operator is provided with too many operands; number of operands: %d" % len(options))
        return options

    def _function(self, name):
        if name not in _CONDITIONS:
            raise self._unknown(name)
        self.at += 1
        arguments = self._list()
        if len(arguments) != _CONDITIONS[name]:
            raise self.bad("Incorrect number of operands for operator or function; operator or function: "
                           f"{name}, number of operands: {len(arguments)}")
        if arguments[0][0] == "value" and name.startswith("attribute_"):
            raise self.bad(f"Operator or function requires a document path; operator or function: {name}")
        return (name, *arguments)

    def set_operand(self):
        kind, text = self.tokens[self.at]
        if kind == _VALUE:
            return self.value()
        if kind == _WORD and self.tokens[self.at + 1][1] == "(":
            if text not in ("if_not_exists", "list_append"):
                raise self._unknown(text)
            self.at += 2
            first = self.set_sum()
            self.expect(",")
            second = self.set_sum()
            self.expect(")")
            if text == "if_not_exists" and first[0] != "path":
                raise self.bad(f"Operator or function requires a document path; operator or function: {text}")
            return (text, first, second)
        if self.accept("("):
            inner = self.set_sum()
            self.expect(")")
            return inner
        return ("path", self.path())

    def set_sum(self):
        left = self.set_operand()
        if self.accept("+"):
            return ("+", left, self.set_operand())
        if self.accept("-"):
            return ("-", left, self.set_operand())
        return left


def look(item, path):
    """The attribute value at a document path of the item, or None."""
    value = item.get(path[0])
    for step in path[1:]:
        if value is None:
            return None
        if type(step) is str:
            inner = value.get("M")
            value = None if inner is None else inner.get(step)
        else:
            inner = value.get("L")
            value = inner[step] if inner is not None and step < len(inner) else None
    return value


def _size(value):
    if value is None:
        return None
    ((tag, inner),) = value.items()
    if tag == "S":
        return {"N": str(len(inner.encode()))}
    return {"N": str(len(inner))} if tag not in ("N", "BOOL", "NULL") else None


def _operand(node):
    """A function (item, values) -> attribute value or None."""
    kind, what = node
    if kind == "path":
        if len(what) == 1:
            name = what[0]
            return lambda item, values: item.get(name)
        return lambda item, values: look(item, what)
    if kind == "value":
        return lambda item, values: values[what]
    inner = _operand(what)
    return lambda item, values: _size(inner(item, values))


_ORDERED = {"<": lambda one, two: one < two, "<=": lambda one, two: one <= two,
            ">": lambda one, two: one > two, ">=": lambda one, two: one >= two}


def _compare(sign, left, right):
    one, two = _operand(left), _operand(right)
    if sign == "=":
        return lambda item, values: (found := one(item, values)) is not None and found == two(item, values)
    if sign == "<>":
        return lambda item, values: one(item, values) != two(item, values)
    ordered = _ORDERED[sign]
    return lambda item, values: _in_order(ordered, one(item, values), two(item, values))


def _in_order(ordered, one, two):
    if one is None or two is None:
        return False
    one, two = comparable(one), comparable(two)
    return one is not None and two is not None and one[0] == two[0] and ordered(one[1], two[1])


def _contains(whole, part):
    if whole is None or part is None:
        return False
    ((tag, inner),) = whole.items()
    ((kind, sought),) = part.items()
    if tag in ("S", "B"):
        return kind == tag and sought in inner
    if tag == "L":
        return part in inner
    return tag in ("SS", "NS", "BS") and kind == tag[0] and sought in inner


def _begins(whole, part):
    if whole is None or part is None:
        return False
    ((tag, inner),) = whole.items()
    return tag in ("S", "B") and tag in part and inner.startswith(part[tag])


def _condition(node):
    """A function (item, values) -> bool of a parsed condition."""
    kind = node[0]
    if kind == "compare":
        return _compare(*node[1:])
    if kind in ("and", "or"):
        one, two = _condition(node[1]), _condition(node[2])
        if kind == "and":
            return lambda item, values: one(item, values) and two(item, values)
        return lambda item, values: one(item, values) or two(item, values)
    if kind == "not":
        inner = _condition(node[1])
        return lambda item, values: not inner(item, values)
    if kind == "between":
        above, below = _compare(">=", node[1], node[2]), _compare("<=", node[1], node[3])
        return lambda item, values: above(item, values) and below(item, values)
    if kind == "in":
        one, options = _operand(node[1]), [_operand(option) for option in node[2]]
        return lambda item, values: (found := one(item, values)) is not None and any(
            found == option(item, values) for option in options)
    return _function(node)


def _function(node):
    first = _operand(node[1])
    if node[0] == "attribute_exists":
        return lambda item, values: first(item, values) is not None
    if node[0] == "attribute_not_exists":
        return lambda item, values: first(item, values) is None
    second = _operand(node[2])
    if node[0] == "attribute_type":
        return lambda item, values: (found := first(item, values)) is not None and second(item, values)["S"] in found
    test = _begins if node[0] == "begins_with" else _contains
    return lambda item, values: test(first(item, values), second(item, values))


def _checks(parser, node, into):
    """Collects what DynamoDB refuses by the type of a literal alone: functions values -> None that raise Invalid."""
    if type(node) is not tuple:
        return
    kind = node[0]
    if kind in ("compare", "between") and node[1] not in ("=", "<>"):
        for operand in node[2:] if kind == "compare" else node[1:]:
            if operand[0] == "value":
                sign = node[1] if kind == "compare" else "BETWEEN"
                into.append(_literal(parser, operand[1], ("S", "N", "B"), f"operator or function: {sign}, operand type"))
        if kind == "between" and node[2][0] == node[3][0] == "value":
            into.append(_bounds(parser, node[2][1], node[3][1]))
    elif kind == "begins_with" and node[2][0] == "value":
        into.append(_literal(parser, node[2][1], ("S", "B"), "operator or function: begins_with, operand type"))
    elif kind == "attribute_type" and node[2][0] == "value":
        into.append(_type_name(parser, node[2][1]))
    for inner in node[1:]:
        _checks(parser, inner, into)


def _literal(parser, name, allowed, what):
    def check(values):
        (tag,) = values[name]
        if tag not in allowed:
            raise parser.bad(f"Incorrect operand type for operator or function; {what}: {tag}")
    return check


def _bounds(parser, low, high):
    def check(values):
        one, two = comparable(values[low]), comparable(values[high])
        if one[0] != two[0]:
            raise parser.bad("The BETWEEN operator requires same data type for lower and upper bounds")
        if one[1] > two[1]:
            raise parser.bad("The BETWEEN operator requires upper bound to be greater than or equal to lower bound; "
                             f"lower bound operand: AttributeValue: {values[low]}, upper bound operand: "
                             f"AttributeValue: {values[high]}")
    return check


def _type_name(parser, name):
    def check(values):
        if values[name].get("S") not in _AV_TYPES:
            raise parser.bad(f"Invalid attribute type name found; type: {values[name].get('S')}, valid types: "
                             "{B,NULL,SS,BOOL,L,BS,N,NS,S,M}")
    return check


class Condition:
    """`holds(item, values)`; `names` and `values` are the placeholders used; `check(values)` refuses wrong literals."""

    def __init__(self, kind, text, names):
        parser = _Parser(kind, text, names)
        self.tree = parser.condition()
        parser.end()
        self.kind, self.names, self.values, self.paths = kind, parser.names, parser.values, _paths(self.tree)
        self._checks = []
        _checks(parser, self.tree, self._checks)
        self.holds = _condition(self.tree)

    def check(self, values):
        for check in self._checks:
            check(values)


def _paths(node):
    if type(node) is list:
        return set().union(*map(_paths, node))
    if type(node) is not tuple:
        return set()
    return {node[1]} if node[0] == "path" else set().union(*map(_paths, node[1:]))


def _sum(node):
    """A function (item, values) -> attribute value of the right side of a SET; Invalid when it has none."""
    kind = node[0]
    if kind in ("value", "path"):
        inner = _operand(node)
        return lambda item, values: _there(inner(item, values))
    one, two = _sum(node[1]), _sum(node[2])
    if kind == "if_not_exists":
        path = node[1][1]
        return lambda item, values: two(item, values) if (found := look(item, path)) is None else found
    if kind == "list_append":
        return lambda item, values: _append(one(item, values), two(item, values))
    sign = 1 if kind == "+" else -1
    return lambda item, values: plus(one(item, values), two(item, values), sign)


def _there(value):
    if value is None:
        raise Invalid(NO_ATTRIBUTE)
    return value


def _append(one, two):
    if "L" not in one or "L" not in two:
        raise Invalid(BAD_TYPE)
    return {"L": one["L"] + two["L"]}


def _holder(value, step):
    """(tag, a copy of the container) that this step goes into; Invalid when the value is none of that kind."""
    tag = "M" if type(step) is str else "L"
    if value is None or tag not in value:
        raise Invalid(BAD_PATH)
    return tag, value[tag].copy()


def put(item, path, value):
    """Sets the value at a path of this item, copying the containers on the way; Invalid when the parent is missing."""
    if len(path) == 1:
        item[path[0]] = value
    else:
        item[path[0]] = _placed(item.get(path[0]), path[1:], value)


def _placed(outer, path, value):
    tag, inner = _holder(outer, path[0])
    if tag == "M":
        inner[path[0]] = value if len(path) == 1 else _placed(inner.get(path[0]), path[1:], value)
    elif len(path) == 1 and path[0] >= len(inner):
        inner.append(value)
    elif path[0] >= len(inner):
        raise Invalid(BAD_PATH)
    else:
        inner[path[0]] = value if len(path) == 1 else _placed(inner[path[0]], path[1:], value)
    return {tag: inner}


def drop(item, path):
    """Removes what is at a path of this item, copying on the way; Invalid when the parent is missing."""
    if len(path) == 1:
        item.pop(path[0], None)
    else:
        item[path[0]] = _without(item.get(path[0]), path[1:])


def _without(outer, path):
    tag, inner = _holder(outer, path[0])
    there = path[0] in inner if tag == "M" else path[0] < len(inner)
    if len(path) > 1:
        if not there:
            raise Invalid(BAD_PATH)
        inner[path[0]] = _without(inner[path[0]], path[1:])
    elif there:
        del inner[path[0]]
    return {tag: inner}


def _added(old, given):
    ((tag, more),) = given.items()
    if tag == "N":
        return given if old is None else plus(old, given, 1)
    if old is None:
        return given
    if tag not in old:
        raise Invalid(BAD_TYPE)
    return {tag: _sorted(tag, {*old[tag], *more})}


def _deleted(old, given):
    if old is None:
        return None
    ((tag, gone),) = given.items()
    if tag not in old:
        raise Invalid(BAD_TYPE)
    left = set(old[tag]) - set(gone)
    return {tag: _sorted(tag, left)} if left else None


def _sorted(tag, members):
    return sorted(members, key=number) if tag == "NS" else sorted(members)


class Update:
    """`applied(item, values)` is the new item; `paths` are all document paths that the expression writes."""

    def __init__(self, text, names):
        parser = _Parser("UpdateExpression", text, names)
        self.sets, self.removes, self.adds, self.deletes, self._checks = [], [], [], [], []
        sections = {"SET": self._set, "REMOVE": self._remove, "ADD": self._add, "DELETE": self._delete}
        seen = set()
        while parser.tokens[parser.at][0]:
            word = parser.take(_WORD).upper()
            if word not in sections:
                parser.at -= 1
                raise parser.syntax()
            if word in seen:
                raise parser.bad(f'The "{word}" section can only be used once in an update expression;')
            seen.add(word)
            sections[word](parser)
            while parser.accept(","):
                sections[word](parser)
        self.names, self.values = parser.names, parser.values
        self.paths = [path for path, _ in (*self.sets, *self.adds, *self.deletes)] + self.removes
        self.creates = bool(self.sets or self.adds)
        # Later elements first: every index of a REMOVE means the list as it was before.
        self.removes.sort(key=lambda path: tuple(-step for step in path if type(step) is int))
        _distinct(parser, self.paths)

    def _set(self, parser):
        path = parser.path()
        parser.expect("=")
        self.sets.append((path, _sum(parser.set_sum())))

    def _remove(self, parser):
        self.removes.append(parser.path())

    def _add(self, parser):
        self._typed(parser, self.adds, "ADD", ("N", "SS", "NS", "BS"))

    def _delete(self, parser):
        self._typed(parser, self.deletes, "DELETE", ("SS", "NS", "BS"))

    def _typed(self, parser, into, word, allowed):
        path = parser.path()
        value = parser.value()[1]
        into.append((path, value))
        self._checks.append(_literal(parser, value, allowed, f"operator: {word}, operand type"))

    def check(self, values):
        for check in self._checks:
            check(values)

    def applied(self, item, values):
        """A new item; every right side is read from the old one. Invalid when a path or a type does not fit."""
        new = item.copy()
        for path, value in [(path, right(item, values)) for path, right in self.sets]:
            put(new, path, value)
        for path, name in self.adds:
            put(new, path, _added(look(item, path), values[name]))
        for path, name in self.deletes:
            left = _deleted(look(item, path), values[name])
            if left is not None:
                put(new, path, left)
            elif len(path) == 1 or look(item, path[:-1]) is not None:
                drop(new, path)
        for path in self.removes:
            drop(new, path)
        return new


def _distinct(parser, paths):
    for at, one in enumerate(paths):
        for other in paths[at + 1:]:
            _disjoint(parser, one, other)


def _disjoint(parser, one, other):
    shown = f"path one: [{', '.join(map(_step, one))}], path two: [{', '.join(map(_step, other))}]"
    for left, right in zip(one, other):
        if type(left) is not type(right):
            raise parser.bad("Two document paths conflict with each other; must remove or rewrite one of these paths; " + shown)
        if left != right:
            return
    raise parser.bad("Two document paths overlap with each other; must remove or rewrite one of these paths; " + shown)


def _step(step):
    return step if type(step) is str else f"[{step}]"


class Projection:
    """`of(item)` is the item with the named paths only."""

    def __init__(self, text, names):
        parser = _Parser("ProjectionExpression", text, names)
        self.paths = [parser.path()]
        while parser.accept(","):
            self.paths.append(parser.path())
        parser.end()
        self.names, self.values = parser.names, parser.values
        _distinct(parser, self.paths)
        self._plain = [path[0] for path in self.paths] if all(len(path) == 1 for path in self.paths) else None

    def check(self, values):
        pass

    def of(self, item):
        if self._plain is not None:
            return {name: item[name] for name in self._plain if name in item}
        return partial(item, self.paths)


def partial(item, paths):
    """The parts of an item at these paths, in their maps; list elements move together, as in DynamoDB's answers."""
    picked = {}
    for path in sorted(paths, key=lambda path: [(type(step) is int, step) for step in path]):
        value = look(item, path)
        if value is not None:
            _pick(picked, path, value)
    return {name: _packed(value) for name, value in picked.items()}


def _pick(into, path, value):
    for step, following in zip(path, path[1:]):
        into = into.setdefault(step, {"M" if type(following) is str else "L": {}})
        into = into["M" if type(following) is str else "L"]
    into[path[-1]] = value


def _packed(value):
    ((tag, inner),) = value.items()
    if tag == "M":
        return {"M": {name: _packed(one) for name, one in inner.items()}}
    if tag == "L" and type(inner) is dict:
        return {"L": [_packed(inner[at]) for at in sorted(inner)]}
    return value


@lru_cache(maxsize=4096)
def compiled(kind, text, names):
    """The compiled expression; `kind` is the request parameter's name, `names` a tuple of (placeholder, name)."""
    if kind == "UpdateExpression":
        return Update(text, dict(names))
    if kind == "ProjectionExpression":
        return Projection(text, dict(names))
    return Condition(kind, text, dict(names))


def key_condition(condition, hash_name, range_name):
    """(the hash value's placeholder, [tests of the range key]) of a KeyConditionExpression; Invalid for other shapes."""
    terms = []
    _flatten(condition.tree, terms)
    hashes = [node[3][1] for node in terms if node[:2] == ("compare", "=") and node[2] == ("path", (hash_name,))]
    ranges = [node for node in terms if _subject(node) == ("path", (range_name,))]
    if len(hashes) != 1:
        raise Invalid(f"Query condition missed key schema element: {hash_name}")
    if len(ranges) != len(terms) - 1 or len(ranges) > 1:
        unknown = len(terms) > 1 and len(ranges) == 0
        raise Invalid(f"Query condition missed key schema element: {range_name}" if unknown and range_name
                      else "Query key condition not supported")
    if any(node[:2] == ("compare", "<>") for node in ranges):
        raise Invalid("Unsupported operator on KeyCondition: operator: <>")
    return hashes[0], [_condition(node) for node in ranges]


def _flatten(node, into):
    if node[0] == "and":
        _flatten(node[1], into)
        _flatten(node[2], into)
    elif node[0] in ("compare", "between", "begins_with"):
        into.append(node)
    else:
        raise Invalid(f"Invalid operator used in KeyConditionExpression: {node[0].upper()}")


def _subject(node):
    return node[2] if node[0] == "compare" else node[1]
