"""The records of environments: create, read, list, update, archive. Deletion depends on the queue, which implements it.
Rules: `environments.*`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..access import Access, Caller
from ..errors import EnvironmentNotFound, StorageUnavailable
from ..ids import is_id
from ..lua.environments import EnvironmentArchive, EnvironmentCreate, EnvironmentUpdate
from ..lua.heads import EnvironmentHead
from ..pages import decode_cursor, encode_cursor
from .configs import Config
from .workspaces import WorkspaceStore

#: How often an update is retried after a concurrent one. In every round at least one update succeeds.
_MOST_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment. Instants are microseconds; `version` counts changes of the record."""

    id: str
    workspace: str
    name: str
    description: str
    config: Config
    metadata: dict[str, str]
    scope: str
    created_at: int
    updated_at: int
    archived_at: int | None
    version: int

    @property
    def kind(self) -> str:
        """Return `cloud` or `self_hosted`."""
        kind: str = self.config["type"]
        return kind

    @classmethod
    def of(cls, environment_id: str, record: dict[str, str]) -> Environment:
        """Read a record as Redis stores it."""
        return cls(
            id=environment_id,
            workspace=record["ws"],
            name=record["name"],
            description=record["description"],
            config=json.loads(record["config"]),
            metadata=json.loads(record["metadata"]),
            scope=record["scope"],
            created_at=int(record["created"]),
            updated_at=int(record["updated"]),
            archived_at=int(record["archived"]) if record["archived"] else None,
            version=int(record["version"]),
        )


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class EnvironmentStore:
    """Environments as records. Every method raises `EnvironmentNotFound` for one the caller does not reach."""

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self._access = access
        self._engine = access.engine
        self._keys = access.keys
        self._workspaces = workspaces

    async def create(
        self,
        workspace: str,
        *,
        name: str,
        description: str,
        config: Config,
        metadata: dict[str, str],
        scope: str,
        environment_id: str | None = None,
    ) -> Environment:
        """Create an environment from checked values, under a new id unless a free one is given. Its place comes first, so
        no record is ever out of reach.
        """
        environment_id, sequence, profile = await self._workspaces.reserve(workspace, environment_id)
        call = EnvironmentCreate(
            workspace=workspace,
            kind=config["type"],
            name=name,
            description=description,
            config=_dump(config),
            metadata=_dump(metadata),
            scope=scope,
            number=sequence,
        )
        key = self._keys.environment(environment_id)
        reply = await self._engine.run(call, key, EnvironmentHead(wall=self._access.wall()), profile.head)
        if reply.word != "OK":
            raise StorageUnavailable  # A second environment of the same id.
        await self._workspaces.confirm(workspace, environment_id, sequence, profile)
        return Environment.of(environment_id, reply.fields)

    async def get(self, environment_id: str, caller: Caller) -> Environment:
        """Return an environment, archived or not."""
        if is_id("env", environment_id):
            fields = await self._engine.command("HGETALL", self._keys.environment(environment_id))
            if fields:
                environment = Environment.of(environment_id, fields)
                if await self._access.may_enter(caller, environment_id, environment.workspace):
                    if fields.get("faults"):
                        await self._access.ask(environment.workspace)
                    return environment
        raise EnvironmentNotFound(environment_id)

    async def list(
        self, workspace: str, *, limit: int, page: str | None, include_archived: bool
    ) -> tuple[list[Environment], str | None]:
        """Return a page of a workspace's environments, newest first, and the cursor of the next one.

        Raises:
            InvalidRequest: *page* is not a cursor of this list.
        """
        name = f"environments {workspace}"
        below = None if page is None else decode_cursor(name, page)
        found: list[tuple[int, Environment]] = []
        while len(found) <= limit:
            places = await self._workspaces.page(
                workspace, below=below, count=limit + 1 - len(found), include_archived=include_archived
            )
            records = await self._engine.commands(("HGETALL", self._keys.environment(id_)) for id_, _ in places)
            for (environment_id, sequence), fields in zip(places, records, strict=True):
                below = sequence
                if not fields:
                    continue  # Being created or deleted.
                environment = Environment.of(environment_id, fields)
                if include_archived or environment.archived_at is None:
                    found.append((sequence, environment))
            if not places:
                break
        shown = found[:limit]
        return [environment for _, environment in shown], encode_cursor(name, shown[-1][0]) if len(
            found
        ) > limit else None

    async def update(
        self, environment_id: str, caller: Caller, change: Callable[[Environment], Environment]
    ) -> Environment:
        """Apply *change* to the record and store the result. It is called again after a concurrent update.

        Raises:
            InvalidRequest: *change* refuses the update.
        """
        for _ in range(_MOST_TRIES):
            stored = await self.get(environment_id, caller)
            wanted = change(stored)
            call = EnvironmentUpdate(
                version=stored.version,
                name=wanted.name,
                description=wanted.description,
                config=_dump(wanted.config),
                metadata=_dump(wanted.metadata),
                scope=wanted.scope,
            )
            reply = await self._access.run(call, environment_id, caller)
            if reply.word == "OK":
                return Environment.of(environment_id, reply.fields)
        raise StorageUnavailable

    async def archive(self, environment_id: str, caller: Caller) -> Environment:
        """Archive an environment; a repeat changes nothing."""
        reply = await self._access.run(EnvironmentArchive(), environment_id, caller)
        environment = Environment.of(environment_id, reply.fields)
        await self._workspaces.hide_archived(environment.workspace, environment_id)
        return environment
