"""Helpers for fault rules, which make API calls fail on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..schemas.faults import FaultRule, FaultRules
from . import calls
from .queues import Environment, id_of
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read

Rules = list[FaultRule]


class FaultHelpers(Helpers):
    """The fault rules of a workspace."""

    @helper
    def add(self, *rules: Mapping[str, Any], seed: int = 0) -> Steps[Rules]:
        """Add rules, such as `{"on": "ack", "do": {"drop": True}, "when": "after"}`: either all of them or none."""
        return (yield from _add({"rules": [dict(rule) for rule in rules], "seed": seed}))

    @helper
    def scenario(
        self, scenario: str | PathLike[str], *, environment: str | Environment | None = None, seed: int | None = None
    ) -> Steps[Rules]:
        """Add the rules of a ready scenario by its name, such as `"lost-ack"`, for all environments or for one; or the
        rules of a file, by its path.

        Raises:
            ValueError: *environment* or *seed* together with a file.
        """
        if isinstance(scenario, str):
            options = {"environment_id": None if environment is None else id_of(environment), "seed": seed}
            set_ones = {name: value for name, value in options.items() if value is not None}
            return (yield from _add({"scenario": scenario, **set_ones}))
        if environment is not None or seed is not None:
            raise ValueError("a scenario file sets its own environments and its own seed")
        return (yield from _add(Path(scenario).read_text(encoding="utf-8-sig")))

    @helper
    def list(self) -> Steps[Rules]:
        """Return the rules, each with how many calls it matched and how many it was applied to."""
        return read(FaultRules, (yield calls.list_faults())).data

    @helper
    def clear(self) -> Steps[int]:
        """Remove all rules; return how many there were."""
        removed: int = (yield calls.clear_faults())["removed"]
        return removed


def _add(body: str | Mapping[str, Any]) -> Steps[Rules]:
    return read(FaultRules, (yield calls.add_faults(body))).data


class Faults(Blocking, FaultHelpers):
    """The fault rules of a workspace."""


class AsyncFaults(Awaiting, FaultHelpers):
    """The fault rules of a workspace; every call is awaited."""
