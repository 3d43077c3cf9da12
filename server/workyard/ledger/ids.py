"""Finds the ledger rule that an error breaks, for the header `workyard-rule`. Owns no rule: scripts/ledger generates
`ledger/index.json` from the rules, and it is read when the first error is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from workyard_store.errors import InvalidRequest, WorkyardError

#: Header of every error: the id of the broken rule.
HEADER = "workyard-rule"
_WORD = "[a-z0-9]+(-[a-z0-9]+)*"
RULE_ID = rf"^{_WORD}(\.{_WORD})+$"
#: The rule of a problem that no entry names.
FALLBACK = "conventions.validation"
#: Kind of problem, by Pydantic's name → rule, if no rule of the field applies. Unknown keys belong to no field.
UNKNOWN_KEY = "extra_forbidden"
_OF_KIND = {
    UNKNOWN_KEY: "conventions.extra-keys",
    "int_parsing": "conventions.query-integers",
    "bool_parsing": "conventions.query-booleans",
}
INDEX = Path(__file__).parent / "index.json"


@cache
def _index() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads(INDEX.read_text(encoding="utf-8"))
    return found


def of_error(error: WorkyardError, operation: str) -> str:
    """Return the id of the rule that a domain error in a call of *operation* breaks."""
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


def of_problem(operation: str, path: str, kind: str = "") -> str:
    """Return the id of the rule that a field at *path* breaks, as a client writes it, in a call of *operation*.

    The rule with the longest matching prefix of the path counts. *kind*: Pydantic's name of the problem.
    """
    by_field = _index()["fields"]
    steps = [] if kind == UNKNOWN_KEY else path.lower().split(".")
    for end in range(len(steps), 0, -1):
        field = ".".join(steps[:end])
        found = by_field.get(f"{operation} {field}") or by_field.get(f"* {field}")
        if found is not None:
            return found
    return _OF_KIND.get(kind, FALLBACK)
