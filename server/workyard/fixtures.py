"""Fixture mode (`--fixtures`) for the SDKs' generated test suites, which use two ids that no call has created.

A layer between a checked request and its handler. A call under /v1 whose path names the reserved environment finds it
fresh and in the caller's workspace: a cloud environment, or for calls on work a self-hosted one with the reserved item in
the state the call needs. An invalid cursor means the first page. Everything else is as strict as ever: the ordinary
handlers run, and no handler, store or script knows the ids.

The ordinary methods create the reserved resources, called with a given id, after the previous environment of that id was
deleted like any other. Mapping fresh ids to the reserved ones on the way in and out would need no lock, but would have to
rewrite every answer, message, timeline and list. Here the reserved ids are ordinary: they are listed, recounted, reset.

Seeding and the call are one turn under one lock, so that a call sees only its own seed; this needs a single process. No
turn waits: the request has been read completely, its faults have been applied, and a poll finds the item immediately.
Resets take turns too: they delete environments, and must not delete one just seeded for another caller.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from workyard_queue.work.states import NO_HEARTBEAT
from workyard_queue.work.work_queue import WorkQueue
from workyard_store.access import TRUSTED, Access, Caller
from workyard_store.calls import CURRENT
from workyard_store.errors import EnvironmentNotFound, InvalidCursor, StorageUnavailable
from workyard_store.workspaces.configs import merged
from workyard_store.workspaces.environments import EnvironmentStore
from workyard_store.workspaces.workspaces import WorkspaceStore

from .wire.exchange import exchange_of

ENVIRONMENT = "env_011CZkZ9X2dpNyB7HsEFoRfW"
WORK = "work_id"
HEADER = "workyard-leniency"

_PATH = f"/v1/environments/{ENVIRONMENT}"
#: The transitions of the item before an operation; before other operations it has just been enqueued. A `stopping` item
#: compares no heartbeat, because a suite's expected heartbeat is made up.
_HISTORIES = {"stop": ("ack", "heartbeat"), "heartbeat": ("ack", "heartbeat", "stop")}
#: Other operations that take turns with the reserved ids.
_TAKE_TURNS = frozenset({"control.reset"})
#: Seconds that a call waits for its turn, which comes after a few milliseconds unless Redis is away.
_TURN_WITHIN_S = 10.0

Handler = Callable[..., Awaitable[Response]]


class Fixtures:
    """The leniencies of one server process.

    Attributes:
        counts: how often each leniency was used.
    """

    def __init__(
        self, access: Access, workspaces: WorkspaceStore, environments: EnvironmentStore, queue: WorkQueue
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._access = access
        self._workspaces = workspaces
        self._environments = environments
        self._queue = queue
        self._lock = asyncio.Lock()

    async def run(
        self, scope: Scope, operation: str, caller: Caller, handler: Handler, arguments: Mapping[str, Any]
    ) -> Response:
        """Run a handler with its checked arguments, and list in a header of its answer each leniency it used.

        Args:
            scope: of the request: its path, and the headers that its answer gets.
            operation: the operation.
            caller: the caller.
            handler: the route function.
            arguments: its arguments by name.

        Raises:
            WorkyardError: as the handler.
            StorageUnavailable: seeding could not reach Redis, or the call waited too long for its turn.
        """
        path: str = scope["path"]
        if path == _PATH or path.startswith(_PATH + "/"):
            workspace = await self._access.workspace(caller)
            if (await self._workspaces.profile(workspace)).faults:
                # Fault rules that act before the call do so before its turn, and before its state is created.
                await self._access.ask(workspace)
            async with self._turn():
                await self._seed(workspace, operation, on_work=path.startswith(_PATH + "/work"))
                self._use(scope, "reserved-environment")
                if arguments.get("work_id") == WORK:
                    self._use(scope, "reserved-work")
                return await self._paged(scope, handler, arguments)
        if operation in _TAKE_TURNS:
            async with self._turn():
                return await handler(**arguments)
        if path.startswith("/v1/"):
            return await self._paged(scope, handler, arguments)
        return await handler(**arguments)

    async def _paged(self, scope: Scope, handler: Handler, arguments: Mapping[str, Any]) -> Response:
        """Run a handler; if it refuses a cursor, it has changed nothing, and runs again for the first page."""
        try:
            return await handler(**arguments)
        except InvalidCursor:
            self._use(scope, "unknown-cursor")
            return await handler(**{**arguments, "page": None})

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_TURN_WITHIN_S):
                await self._lock.acquire()
        except TimeoutError:
            raise StorageUnavailable from None
        try:
            yield
        finally:
            self._lock.release()

    def _use(self, scope: Scope, leniency: str) -> None:
        self.counts[leniency] += 1
        exchange_of(scope).add_header(HEADER, leniency)

    async def _seed(self, workspace: str, operation: str, *, on_work: bool) -> None:
        """Delete the reserved environment, and create it as an operation needs it. None of this is a step of the call."""
        current = CURRENT.set(None)
        try:
            await self._remove(workspace)
            await self._environments.create(
                workspace,
                name="Fixture",
                description="",
                config={"type": "self_hosted"} if on_work else merged(None, None),
                metadata={},
                scope="organization",
                environment_id=ENVIRONMENT,
            )
            if on_work:
                await self._queue.enqueue(ENVIRONMENT, work_item_id=WORK)
                for step in _HISTORIES.get(operation, ()):
                    await self._step(step)
        finally:
            CURRENT.reset(current)

    async def _remove(self, workspace: str) -> None:
        try:
            owner = (await self._environments.get(ENVIRONMENT, TRUSTED)).workspace
        except EnvironmentNotFound:
            # If a crash interrupted its deletion, the deletion is on record.
            await self._workspaces.finish_purges()
            owner = workspace
        await self._queue.remove_environment(ENVIRONMENT, workspace=owner)

    async def _step(self, name: str) -> None:
        match name:
            case "ack":
                await self._queue.ack(ENVIRONMENT, WORK, TRUSTED)
            case "heartbeat":
                await self._queue.heartbeat(ENVIRONMENT, WORK, TRUSTED, expected=NO_HEARTBEAT, desired_ttl_s=None)
            case _:
                await self._queue.stop(ENVIRONMENT, WORK, TRUSTED, force=False)
