"""Calls of the scripts about workspaces. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..engine.lua import Digits, Flat, Word
from ..seeds import SEED
from .heads import Full, Ok, WorkspaceCall

ClockChange = Literal["real", "frozen", "auto", "advance", "reach", "jump"]


class ProfileFields(NamedTuple):
    """What an environment copies from its workspace, each as it is stored (`ProfileHead` has the units)."""

    shift: str
    frozen: str
    ttl: str
    startup: str
    reclaim: str
    generation: str
    faults: str
    seed: str
    auto: str
    ticked: str


class Reserved(NamedTuple):
    """A new environment's sequence, and what it copies."""

    word: Ok
    number: int
    profile: ProfileFields


class WorkspaceReserve(WorkspaceCall[Reserved | Word[Full]], lua="workspace_reserve", refusals=(SEED,)):
    """Give a new environment its place. `seeded`: whether its id follows from the seed; `most`: environments."""

    environment_id: str
    seeded: bool
    most: int


class WorkspaceSession(WorkspaceCall[int], lua="workspace_session"):
    """Give a new session its place; the reply is its sequence."""

    session_id: str
    environment_id: str


class WorkspaceConfirm(WorkspaceCall[ProfileFields], lua="workspace_confirm"):
    """Confirm the place of an environment whose record exists. `number`: its sequence."""

    environment_id: str
    number: Digits


class ClockChanged(NamedTuple):
    """The clock's instant, microseconds, and what environments copy."""

    word: Ok
    now: int
    profile: ProfileFields


class ClockRefused(NamedTuple):
    """`BACK`: time would go back, or the clock is there already. `FAR`: past the last instant. `now`: microseconds."""

    word: Literal["BACK", "FAR"]
    now: int


class WorkspaceClock(WorkspaceCall[ClockChanged | ClockRefused], lua="workspace_clock"):
    """Change a workspace's clock. `value`: microseconds, an instant or how far; `last`: the last instant it may reach."""

    op: ClockChange
    value: int | None
    last: int


class Setting(NamedTuple):
    """One setting; an empty value is the server's default, or none."""

    field: str
    value: str | int


class WorkspaceSettings(WorkspaceCall[ProfileFields], lua="workspace_settings"):
    """Change a workspace's settings."""

    changes: list[Setting]


class Place(NamedTuple):
    """An environment's place in its workspace."""

    environment_id: str
    number: int


class Places(NamedTuple):
    """A page of places."""

    rows: Flat[Place]


class WorkspaceList(WorkspaceCall[Places], lua="workspace_list"):
    """Read a page of a workspace's environments. `below`: the sequence to continue below; `count`: how many."""

    below: Digits | None
    count: int
    include_archived: bool


class Displaced(NamedTuple):
    """Whether there was something to remove: 1 or 0."""

    removed: int


class WorkspaceDisplace(WorkspaceCall[Displaced], lua="workspace_displace"):
    """Take the place of a deleted environment. `number`: its sequence, or an empty string where it had no place."""

    environment_id: str
    number: str


class WorkspaceSpread(WorkspaceCall[Word[Ok]], lua="workspace_spread"):
    """Note that a change has reached every environment, and with `clock` the clock."""

    generation: Digits
    clock: bool
