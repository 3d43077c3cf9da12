"""The table of operations is complete, and so are the lists of its words in the docs. A failure names what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workyard.wire.operations import TABLE

ROOT = Path(__file__).resolve().parents[2]
PATHS = json.loads((ROOT / "openapi" / "workyard.json").read_text(encoding="utf-8"))["paths"]
#: Route function → path.
ROUTES: dict[str, str] = {each["operationId"]: path for path, methods in PATHS.items() for each in methods.values()}


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    """Without a row, a route works in the mode `any` and is open to nobody in `strict`."""
    rows = {row.route for row in TABLE}
    assert set(ROUTES) - rows == set(), "routes without a row in server/workyard/wire/operations.py"
    assert rows - set(ROUTES) == set(), "rows without a route"


def test_an_operation_is_on_an_item_where_its_path_names_one() -> None:
    """`on_item` decides whether a fault rule such as `lose_lease` may act on the call."""
    wrong = [row.name for row in TABLE if row.on_item is not ("{work_id}" in ROUTES[row.route])]
    assert wrong == [], "operations whose `on_item` does not fit their path"


@pytest.mark.parametrize("page", ["faults.md", "journal.md"])
def test_the_docs_list_the_operations_of_the_work_queue(page: str) -> None:
    """Operations of one word are the calls on work; both pages list them."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    missing = [row.name for row in TABLE if "." not in row.name and f"`{row.name}`" not in text]
    assert missing == [], f"operations that docs/{page} does not name"
