"""The shape of the code, as far as `lint-imports` cannot check it (`[tool.importlinter]` in pyproject.toml): edges, lengths, errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from workyard.faults.kinds import KINDS
from workyard.wire.errors import TABLE, row_of
from workyard_store import errors
from workyard_store.errors import StartupRefused, WorkyardError

ROOT = Path(__file__).parents[2]
PACKAGES = ("server/workyard", "queue/workyard_queue", "store/workyard_store")
#: Lines of a product file, at most.
MOST_LINES = 500
#: Modules of FastAPI and Starlette that they document, or that FastAPI's own pages import from.
PUBLIC = {
    *("fastapi", "fastapi.exceptions", "fastapi.openapi.docs", "fastapi.openapi.utils", "fastapi.routing"),
    *("starlette.datastructures", "starlette.exceptions", "starlette.middleware.cors", "starlette.requests"),
    *("starlette.convertors", "starlette.responses", "starlette.routing", "starlette.types"),
}


def _product_files(*endings: str) -> list[Path]:
    return [file for package in PACKAGES for ending in endings for file in (ROOT / package).rglob(f"*{ending}")]


def test_only_the_checks_import_internals_of_fastapi() -> None:
    """`lint-imports` knows whole libraries only. Internal: a module that is not documented, or a name with `_`."""
    found: dict[str, set[str]] = {}
    for file in _product_files(".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = {node.module, *(f"{node.module}.{each.name}" for each in node.names if each.name[0] == "_")}
            elif isinstance(node, ast.Import):
                names = {each.name for each in node.names}
            internal = {each for each in names if each.partition(".")[0] in ("fastapi", "starlette")} - PUBLIC
            if internal:
                found.setdefault(file.relative_to(ROOT).parent.as_posix(), set()).update(internal)
    assert set(found) == {"server/workyard/checks"}, found


def test_no_product_file_is_long() -> None:
    """A long one has more than one subject."""
    lines = {file: len(file.read_text().splitlines()) for file in _product_files(".py", ".lua")}
    assert not {file.name: count for file, count in lines.items() if count > MOST_LINES}


def test_every_kind_of_fault_is_in_the_union() -> None:
    """A class that is not is never read; mypy sees that each one in the union has an action."""
    bases = {each for kind in KINDS.values() for each in kind.__mro__ if each.__name__ == "_Kind"}
    assert [set(base.__subclasses__()) for base in bases] == [set(KINDS.values())]


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


def _imported_test_modules(file: Path, modules: set[str]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith("tests.") and name.rpartition(".")[2] in modules}


def test_no_module_imports_a_test_module() -> None:
    """What tests share lies in `tests/support/`, and shared fixtures in a `conftest.py`."""
    files = [
        *(ROOT / "tests").glob("[!.]*/*.py"),
        *(ROOT / "tests/support").rglob("*.py"),
        *(ROOT / "tools").rglob("*.py"),
    ]
    modules = {file.stem for file in files if file.stem.startswith("test_")}
    found = {file.relative_to(ROOT).as_posix(): _imported_test_modules(file, modules) for file in files}
    assert {file: names for file, names in found.items() if names} == {}
