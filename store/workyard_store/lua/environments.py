"""Calls of the scripts about environments and their keys. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..engine.lua import Digits, Flat, Head, Word
from ..seeds import SEED
from .heads import FOLLOWING, EnvironmentCall, Missing, Ok, ProfileHead, Stale


class RecordReply(NamedTuple):
    """An environment's record, as its hash."""

    word: Ok
    fields: dict[str, str]


class EnvironmentCreate(
    EnvironmentCall[RecordReply | Word[Literal["EXISTS"]]],
    heads=(Head(ProfileHead, ()),),
    lua="environment_create",
):
    """Create the record of an environment. `config` and `metadata` are JSON, `number` its sequence in the workspace."""

    workspace: str
    kind: str
    name: str
    description: str
    config: str
    metadata: str
    scope: str
    number: Digits


class EnvironmentUpdate(EnvironmentCall[RecordReply | Word[Stale]], lua="environment_update"):
    """Store a changed record. `version`: of the record that was read; `config` and `metadata` are JSON."""

    version: Digits
    name: str
    description: str
    config: str
    metadata: str
    scope: str


class EnvironmentArchive(EnvironmentCall[RecordReply], lua="environment_archive"):
    """Archive an environment."""


class EnvironmentApply(EnvironmentCall[Word[Ok] | Word[Literal["GONE"]]], heads=(FOLLOWING,), lua="environment_apply"):
    """Copy a workspace's settings to one of its environments, and with `clock` its clock."""

    clock: bool


class Left(NamedTuple):
    """An item or a session that a deleted environment left; either id may be empty."""

    work_id: str
    session_id: str


class PurgeEnd(NamedTuple):
    """`LIVE`: the environment is not deleted, and nothing was touched. `DONE`: nothing is left; how many keys went."""

    word: Literal["LIVE", "DONE"]
    removed: int


class PurgeMore(NamedTuple):
    """How many keys went, and what to remove next."""

    word: Literal["MORE"]
    removed: int
    named: Flat[Left]


class EnvironmentPurge(EnvironmentCall[PurgeEnd | PurgeMore], lua="environment_purge"):
    """Remove what an earlier call `named`, and name up to `most` more."""

    most: int
    named: list[Left]


class Issued(NamedTuple):
    """The instant at which a key was issued, microseconds."""

    word: Ok
    created_at: int


class KeyIssue(EnvironmentCall[Issued], lua="key_issue", refusals=(SEED,)):
    """Put an environment key on record. `sha`: SHA-256 of the key; `name` is JSON."""

    sha: str
    key_id: str
    name: str


class KeyRecords(NamedTuple):
    """The records of an environment's keys, JSON each."""

    word: Ok
    records: list[str]


class KeyList(EnvironmentCall[KeyRecords], lua="key_list"):
    """Read an environment's keys."""


class KeyRevoke(EnvironmentCall[Word[Ok] | Word[Missing]], lua="key_revoke"):
    """Mark an environment key as revoked."""

    key_id: str
