"""Which rule of the ledger an error is about, for the header `workyard-rule`. Owns no rule: `ledger/index.json` is made of them
by scripts/ledger, and read when the first error is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from workyard_store.errors import InvalidRequest, WorkyardError

#: Header of every error: the id of the rule that it is about.
HEADER = "workyard-rule"
_WORD = "[a-z0-9]+(-[a-z0-9]+)*"
RULE_ID = rf"^{_WORD}(\.{_WORD})+$"
#: The rule of a problem that no entry names.
FALLBACK = "conventions.validation"
INDEX = Path(__file__).parent / "ledger" / "index.json"


@cache
def _index() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads(INDEX.read_text(encoding="utf-8"))
    return found


def of_error(error: WorkyardError, operation: str) -> str:
    """Return the id of the rule that a domain error in a call of *operation* is about."""
    if error.rule is not None:
        return error.rule
    by_class = _index()["errors"]
    for ancestor in type(error).__mro__:
        if ancestor is InvalidRequest:
            # A message that begins with a path is about that field.
            return of_problem(operation, error.message.partition(":")[0])
        if ancestor.__name__ in by_class:
            return by_class[ancestor.__name__]
    return FALLBACK


def of_problem(operation: str, path: str) -> str:
    """Return the id of the rule that a field at *path* breaks, as a client writes it, in a call of *operation*."""
    by_field = _index()["fields"]
    field = path.partition(".")[0].lower()
    return by_field.get(f"{operation} {field}") or by_field.get(f"* {field}") or FALLBACK
