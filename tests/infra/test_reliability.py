"""docs/reliability.md is true: every row of the lists stands in it once, and every test it names exists and names the row."""
import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
POLAR = ["d9e7867438", "9ba72ccd57", "8a57b28920", "90bae90384", "79d5aab981", "d593f82096", "894070e14a", "0df445136c", "968f7d388b", "311ade8ecb",
         "767f4841e6, 1572173d01, c679ad184c", "4facda77c4", "7f3d8f15a2", "#4009", "#8325"]
NUMBERS = [*(f"fault {n}" for n in range(1, 66)), *(f"T{n}" for n in range(1, 51)), *(f"polar {one}" for one in POLAR),
           *(f"{part}{n}" for part, count in (("A", 16), ("B", 11), ("C", 18)) for n in range(1, count + 1))]


def rows():
    """[(row, what, [test as path::function], the words beside them)] of the tables."""
    found = []
    for line in (ROOT / "docs/reliability.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith(("| row |", "| --- |")):
            row, what, cell = (part.strip() for part in line.strip("| ").split(" | ", 2))
            found.append((row, what, re.findall(r"`(tests/[^`]+)`", cell), re.sub(r"`tests/[^`]+`|<br>", "", cell).strip()))
    return found


@functools.cache
def functions(path):
    """{name: text with its decorators} of the tests of a file, and of the scenarios that it lists."""
    source = (ROOT / path).read_text()
    tree, lines = ast.parse(source), source.splitlines()
    scenarios = {one.id for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCENARIOS" for one in node.value.elts}
    return {node.name: "\n".join(lines[min(one.lineno for one in (node, *node.decorator_list)) - 1:node.end_lineno])
            for node in tree.body if isinstance(node, ast.FunctionDef) and (node.name.startswith("test_") or node.name in scenarios)}


def names(text, row):
    """Whether the text of a test names the row, in the way that the document tells."""
    kind, _, which = row.partition(" ")
    if kind == "fault":
        groups = re.findall(r"(?i)faults?[ _](\d+(?:(?:_|, | and )\d+)*)", text)
        return which in [number for group in groups for number in re.findall(r"\d+", group)]
    if kind == "polar":
        return re.search(rf"(?i)polar[#_ ]*{which.lstrip('#').split(',')[0]}|_{which.split(',')[0]}_", text) is not None
    return re.search(rf"(?<![A-Za-z0-9]){row}(?![A-Za-z0-9])", text) is not None


def test_every_row_of_the_lists_stands_in_the_document_once():
    assert sorted(row for row, *_ in rows()) == sorted(NUMBERS)


@pytest.mark.parametrize("row, what, tests, words", rows(), ids=lambda value: value if isinstance(value, str) and value in NUMBERS else "")
def test_every_test_that_a_row_names_exists_and_names_the_row(row, what, tests, words):
    assert what and (tests or words), "a row without a test says why"
    for test in tests:
        path, _, name = test.partition("::")
        assert name in functions(path), test
        assert names(functions(path)[name], row), f"{test} does not name {row}"


@pytest.mark.parametrize("text, row, named", [
    ("def test_fault_1_2_x(): ...", "fault 2", True), ("def test_fault_1_2_x(): ...", "fault 12", False), ("Faults 1, 22 and 3", "fault 22", True), ("fault 12", "fault 1", False),
    ("def test_T14_x()", "T14", True), ("def test_T14_x()", "T1", False), ("A1, A16", "A6", False), ("# Rows: polar 311ade8ecb", "polar 311ade8ecb", True),
    ("Polar #8325", "polar #8325", True), ("def test_polar_a_894070e14a_x()", "polar 894070e14a", True), ("polar", "polar #8325", False)])
def test_this_check_bites(text, row, named):
    assert names(text, row) is named
