"""Helpers that make calls go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..schemas.faults import FaultRule, FaultRules
from .connection import Request
from .queues import Environment, id_of
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read

_PATH = "/_emulator/faults"
Rules = list[FaultRule]


class FaultHelpers(Helpers):
    """The fault rules of a workspace."""

    @helper
    def add(self, *rules: Mapping[str, Any], seed: int = 0) -> Steps[Rules]:
        """Add rules, such as `{"on": "ack", "do": {"drop": True}, "when": "after"}`; all of them or none."""
        return (yield from _add({"rules": [dict(rule) for rule in rules], "seed": seed}))

    @helper
    def scenario(
        self, scenario: str | PathLike[str], *, environment: str | Environment | None = None, seed: int | None = None
    ) -> Steps[Rules]:
        """Add the rules of a ready scenario by its name, such as `"lost-ack"`, for all environments or one; or those of a
        file, given as a path, which says all by itself.

        Raises:
            ValueError: *environment* or *seed* with a file.
        """
        if isinstance(scenario, str):
            within = None if environment is None else id_of(environment)
            given = {"environment_id": within, "seed": seed}
            named = {name: value for name, value in given.items() if value is not None}
            return (yield from _add({"scenario": scenario, **named}))
        if environment is not None or seed is not None:
            raise ValueError("a file of rules says for itself which calls are meant, and its seed")
        return (yield from _add(Path(scenario).read_text(encoding="utf-8-sig")))

    @helper
    def list(self) -> Steps[Rules]:
        """Return the rules, with how many calls each was asked about and applied to."""
        return read(FaultRules, (yield Request("GET", _PATH))).data

    @helper
    def clear(self) -> Steps[int]:
        """Remove all rules; return how many there were."""
        removed: int = (yield Request("DELETE", _PATH))["removed"]
        return removed


def _add(body: object) -> Steps[Rules]:
    return read(FaultRules, (yield Request("POST", _PATH, body))).data


class Faults(Blocking, FaultHelpers):
    """The fault rules of a workspace."""


class AsyncFaults(Awaiting, FaultHelpers):
    """The fault rules of a workspace; every call is awaited."""
