"""The shape of the code: imports point one way, and every error has a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from workyard.wire.errors import TABLE, row_of
from workyard_store import errors
from workyard_store.errors import StartupRefused, WorkyardError

ROOT = Path(__file__).parents[2]
#: Package → the packages of ours it may import.
LAYERS = {
    "store/workyard_store": set[str](),
    "queue/workyard_queue": {"workyard_store"},
    "server/workyard": {"workyard_queue", "workyard_store"},
}
OURS = {"workyard", "workyard_queue", "workyard_store"}


def _imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_one_way(package: str) -> None:
    """server → queue → store."""
    files = list((ROOT / package).rglob("*.py"))
    assert files
    own = package.rpartition("/")[2]
    for file in files:
        assert _imported(file) & OURS <= LAYERS[package] | {own}, file


def test_only_the_store_knows_the_redis_library() -> None:
    """redis-py's errors become ours at one edge."""
    importing = {
        file.relative_to(ROOT).as_posix()
        for package in LAYERS
        for file in (ROOT / package).rglob("*.py")
        if _imported(file) & {"redis", "fakeredis"}
    }
    edge = ("engine", "batching", "cluster", "requirements")
    assert importing == {f"store/workyard_store/engine/{name}.py" for name in edge}


def test_no_package_hides_the_standard_librarys_queue() -> None:
    """`queue/` is a source root, never a package."""
    assert not (ROOT / "queue" / "__init__.py").exists()
    packages = {file.parent.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("__init__.py")}
    assert packages == {"support"}


def _tree(error: type[WorkyardError]) -> set[type[WorkyardError]]:
    return {error}.union(*(_tree(child) for child in error.__subclasses__()))


def test_every_domain_error_has_a_status() -> None:
    """All but the root, and the one that only ever ends the start."""
    for error in _tree(WorkyardError) - {WorkyardError, StartupRefused}:
        status, kind = row_of(error)
        assert 400 <= status <= 599
        assert kind.endswith("_error") or kind == "request_too_large"
    assert set(TABLE) <= _tree(WorkyardError)


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """The picture at the top of the module names each class once."""
    drawn = set(re.findall(r"\w+", errors.__doc__.partition("\n\n")[2])) if errors.__doc__ else set()
    assert drawn == {error.__name__ for error in _tree(WorkyardError)}
