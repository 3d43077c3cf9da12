"""Checks the ledger's claims about this checkout: its tests, flips, routes and operations exist. Runs nothing."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tools.ledger.proofs import ROOT, Proof
from tools.ledger.sources import lost_sources
from workyard.ledger.ids import FALLBACK
from workyard.ledger.rules import SCOPES, LedgerRule
from workyard.wire.operations import OPERATIONS

_DOCUMENTS = ("workyard", "control")
_METHODS = ("get", "put", "post", "delete", "patch")
_SOURCES = ("server", "store", "queue")
#: Texts that begin so are ids of rules, whatever they stand in.
_NO_OPERATIONS = ("conventions.", "limits.", "credentials.")


def false_claims(rules: Mapping[str, LedgerRule], proofs: Mapping[str, Proof], root: Path = ROOT) -> list[str]:
    """Return a line for each thing that a rule or a proof names and that does not exist."""
    tests, routes, functions = _tests(root), _routes(root), _functions(root)
    problems = [f"{name}: {problem}" for name, rule in rules.items() for problem in _of(rule, routes, functions)]
    problems += [
        f"{name}: there is no test {test}"
        for name, proof in proofs.items()
        for test in proof.tests
        if test not in tests
    ]
    constants = sorted(set(_constants(root)))
    problems += [
        f"{name}: {problem}" for name, rule in rules.items() for problem in lost_sources(rule.source, rule.grade, root)
    ]
    problems += [f"{where}: there is no rule {name}" for name, where in constants if name not in rules]
    if FALLBACK not in rules:
        problems.append(f"there is no rule {FALLBACK}")
    return problems + [
        f"{name}: {proof.flip.file} holds {proof.flip.find!r} {count} times, not once"
        for name, proof in proofs.items()
        if proof.flip is not None and (count := _count(root / proof.flip.file, proof.flip.find)) != 1
    ]


def _of(rule: LedgerRule, routes: set[str], functions: set[str]) -> Iterator[str]:
    prefix = rule.endpoint.removesuffix("*")
    below = rule.endpoint.endswith("/*") and any(route.partition(" ")[2].startswith(prefix) for route in routes)
    if rule.endpoint not in SCOPES and rule.endpoint not in routes and not below:
        yield f"there is no endpoint {rule.endpoint}: `METHOD /path` as in openapi/, `/path/*`, or {', '.join(SCOPES)}"
    for field in rule.fields:
        operation = field.partition(" ")[0]
        if operation.removeprefix("work.") not in {"*", *OPERATIONS.values()} and operation not in functions:
            yield f"fields: there is no operation {operation} (server/workyard/wire/operations.py; `*`: all; `control.<route>`)"


@cache
def _tests(root: Path) -> set[str]:
    found = set[str]()
    for file in _test_files(root / "tests"):
        name = file.relative_to(root).as_posix()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            inner: Iterable[ast.stmt] = node.body if isinstance(node, ast.ClassDef) else ()
            found |= {f"{name}::{each}" for each in _names([node])}
            found |= {f"{name}::{getattr(node, 'name', '')}::{each}" for each in _names(inner)}
            # Hypothesis makes a test case of a state machine, which is assigned.
            if isinstance(node, ast.Assign):
                found |= {f"{name}::{each.id}::runTest" for each in node.targets if isinstance(each, ast.Name)}
    return found


def _test_files(folder: Path) -> Iterator[Path]:
    """Yield the files of tests in a folder and below, without those of packages that npm has installed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each != "node_modules"]
        yield from (Path(place) / name for name in names if name.startswith("test_") and name.endswith(".py"))


def _names(nodes: Iterable[ast.stmt]) -> set[str]:
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name for name in functions if name.startswith("test")}


@cache
def _routes(root: Path) -> set[str]:
    """Return `METHOD /path` of all routes in the documents."""
    found = set[str]()
    for name in _DOCUMENTS:
        document = json.loads((root / "openapi" / f"{name}.json").read_text(encoding="utf-8"))
        found |= {
            f"{verb.upper()} {path}" for path, item in document["paths"].items() for verb in item if verb in _METHODS
        }
    return found


@cache
def _functions(root: Path) -> set[str]:
    """Return `control.<function>` of the functions that may be routes."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in (root / "server/workyard/routes").glob("*.py"))
    return {f"control.{node.name}" for tree in trees for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}


def _constants(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each rule's id that the code names, with its place: as `rule="…"`, or in any way if no operation is named so."""
    for source in _SOURCES:
        for file in sorted((root / source).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                named = node.value if isinstance(node, ast.keyword) and node.arg == "rule" else node
                if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
                    continue
                if named is not node or named.value.startswith(_NO_OPERATIONS):
                    yield named.value, f"{file.relative_to(root).as_posix()}:{named.lineno}"


def _count(file: Path, text: str) -> int:
    return file.read_text(encoding="utf-8").count(text) if file.is_file() else 0
