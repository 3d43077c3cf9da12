"""Calls of the scripts about fault rules. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..engine.lua import Digits, Rest, Word
from .heads import Full, Ok, WorkspaceCall
from .workspaces import ProfileFields


class NewRule(NamedTuple):
    """The text of a fault rule, and for how long it lives, microseconds of the workspace's time; None: for ever."""

    text: str
    lives_us: int | None


class FaultsPut(NamedTuple):
    """The number of the first rule, and what environments copy."""

    word: Ok
    first: int
    profile: ProfileFields


class FaultPut(WorkspaceCall[FaultsPut | Word[Full]], lua="fault_put"):
    """Add fault rules, or with `replace` replace the existing ones by them."""

    version: str
    replace: bool
    most: int
    rules: list[NewRule]


class FaultsDeleted(NamedTuple):
    """How many rules were removed, and what environments copy."""

    word: Ok
    removed: int
    profile: ProfileFields


class FaultDelete(WorkspaceCall[FaultsDeleted], lua="fault_delete"):
    """Remove the rule of a number; None: all."""

    number: Digits | None
    version: str


class AskedRule(NamedTuple):
    """A fault rule that matches a call, and how it selects calls (`Dice`). `dice_seed`: below 2^24; `ends_at`: microseconds."""

    number: Digits
    nth: str
    probability: float | None
    dice_seed: int
    times: int | None
    ends_at: int | None
    settles: bool


class FaultsApplied(NamedTuple):
    """The numbers of the rules that are applied."""

    word: Ok
    numbers: Rest[int]


class FaultsChanged(NamedTuple):
    """The rules have changed: their version, and the hash that holds them, name after value."""

    word: Literal["STALE"]
    version: str
    stored: Rest[str]


class FaultAsk(WorkspaceCall[FaultsApplied | FaultsChanged], lua="fault_ask"):
    """Count a call for the rules that match it. `version`: of the rules known here; `settled`: whether the answer is settled."""

    version: str
    settled: bool
    rules: list[AskedRule]
