"""Imports point one way: app, use cases, then domain, store and gateways; and nothing heavy is loaded before it is used."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
    for path in [ROOT / "app.py", *(ROOT / "chalicelib").rglob("*.py")]}
PURE = {"dataclasses", "enum", "re", "typing", "decimal", "fractions", "collections", "functools", "itertools", "math",
        "hashlib", "json", "calendar", "operator", "bisect", "string", "datetime"}
SDKS = {"stripe": {"gateways"}, "requests": {"gateways"}, "urllib3": {"gateways"}, "boto3": {"gateways", "store"},
        "botocore": {"gateways", "store"}, "pynamodb": {"store"}, "cryptography": {"gateways"}, "certifi": {"gateways"}}
FOUNDATIONS = {"settings", "ports", "log", "problem"}  # used by every layer that is not pure; they import no layer


def imported(tree):
    """Every module that a file imports anywhere in it, `from package import module` as package.module too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "say from where: relative imports hide the direction"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if not name.startswith("chalicelib.") or name in MODULES or f"{name}.__init__" in MODULES}


def layer(module):
    """app, domain, store, gateways, foundations or use cases; None for what is not ours."""
    parts = module.split(".")
    if parts[0] == "app":
        return "app"
    if parts[0] != "chalicelib" or len(parts) == 1:
        return None
    if parts[1] in ("domain", "store", "gateways"):
        return parts[1]
    return "foundations" if parts[1] in FOUNDATIONS else "use cases"


MAY_IMPORT = {
    "app": {"use cases", "foundations"},
    "use cases": {"use cases", "domain", "store", "gateways", "foundations"},
    "store": {"store", "domain", "foundations"},
    "gateways": {"gateways", "domain", "foundations"},
    "foundations": {"foundations"},
    "domain": {"domain"},
}
EXCEPTIONS = {
    # Local business time is the sandbox's, asked for over HTTP.
    ("chalicelib.ports", "chalicelib.gateways"), ("chalicelib.ports", "chalicelib.gateways.sandbox_clock"),
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    wrong = {name for name in imported(MODULES[module])
             if layer(name) not in {None, *MAY_IMPORT.get(layer(module), set())} and (module, name) not in EXCEPTIONS}
    assert not wrong, f"{module} ({layer(module)}) may not import {sorted(wrong)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_that_ships_imports_what_does_not(module):
    assert not {name.split(".")[0] for name in imported(MODULES[module])} & {"app", "infra", "tests", "pytest"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer(name) == "domain"))
def test_the_domain_is_pure(module):
    ours_or_pure = {name for name in imported(MODULES[module]) if name.split(".")[0] in PURE or layer(name) == "domain"
                    or name == "chalicelib"}
    assert imported(MODULES[module]) == ours_or_pure
    called = {node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
              for node in ast.walk(MODULES[module]) if isinstance(node, ast.Call)}
    assert not called & {"now", "utcnow", "today", "open", "print", "input", "__import__", "exec", "eval"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_sdk_stays_in_its_layer(module):
    wrong = {name for name in imported(MODULES[module])
             if layer(module) not in SDKS.get(name.split(".")[0], {layer(module)})}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_only_ports_asks_for_time_and_randomness():
    wanting = {module for module in MODULES if {name.split(".")[0] for name in imported(MODULES[module])} & {
        "time", "random", "secrets", "uuid"}}
    assert wanting <= {"chalicelib.ports"}


@pytest.mark.parametrize("module", ["app", "chalicelib.intake"])
def test_importing_the_entry_points_needs_no_environment_and_loads_no_sdk(module):
    # Rows: fault 63
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PATH": os.defpath}, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert module.split(".")[0] in loaded
    assert not loaded & {*SDKS, "aws_lambda_powertools"}
