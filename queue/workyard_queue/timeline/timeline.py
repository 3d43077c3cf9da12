"""The timeline of a work item: every event of its life (`events.py`), and the findings on it (`diagnosis.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workyard_store.access import TRUSTED, Access
from workyard_store.engine.lua import Refused
from workyard_store.errors import WorkNotFound
from workyard_store.ids import is_id
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.binder import MISSING
from ..lua.timeline import Life, LifeRead
from .diagnosis import Finding, Present, diagnose
from .events import Event, attributed, event_of, is_first

#: Events of the environment that one step searches.
_LOOK_BATCH = 500
#: Events of an item that are shown; older ones count as lost.
MOST_EVENTS = 10_000
#: Environments that one round trip asks whether they have an item.
_FIND_BATCH = 500


@dataclass(frozen=True, slots=True)
class Timeline:
    """An item's life so far.

    Attributes:
        complete: whether the ring still holds its first event.
        events: oldest first.
        findings: the diagnosis.
    """

    work_id: str
    environment_id: str
    session_id: str
    state: str
    now: int
    complete: bool
    events: list[Event]
    findings: list[Finding]


class Timelines:
    """Reads timelines. Every method raises `StorageUnavailable` when Redis does not answer."""

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self._access = access
        self._workspaces = workspaces

    async def of(self, environment_id: str, work_item_id: str, poll_faults: Sequence[tuple[str, int]] = ()) -> Timeline:
        """Return the life of an item. *poll_faults*: fault rules that were applied to polls, and how often.

        Raises:
            EnvironmentNotFound, WorkNotFound: it does not exist.
        """
        if not is_id("work", work_item_id):
            raise WorkNotFound(work_item_id)
        events: list[Event] = []
        below = ""
        item: LifeRead | None = None
        while item is None or below:
            part = await self._read(environment_id, work_item_id, below)
            item = item or part
            below = part.below
            events += [event_of(environment_id, row.entry, row.event) for row in part.events]
            if len(events) >= MOST_EVENTS or (events and is_first(events[-1])):
                break
        complete = bool(events) and is_first(events[-1]) and len(events) <= MOST_EVENTS
        told = attributed(reversed(events[:MOST_EVENTS]))
        present = Present(
            now=item.now,
            stands_still=item.stands_still,
            state=item.state,
            lease_ends=item.lease_ends,
            workers_polling=item.workers_polling,
            poll_faults=poll_faults,
        )
        findings = diagnose(told, present, complete=complete)
        return Timeline(work_item_id, environment_id, item.session_id, item.state, item.now, complete, told, findings)

    async def _read(self, environment_id: str, work_item_id: str, below: str) -> LifeRead:
        call = Life(work_id=work_item_id, below=below, count=_LOOK_BATCH)
        try:
            return await self._access.run(call, environment_id, TRUSTED)
        except Refused as refused:
            if refused.word == MISSING:
                raise WorkNotFound(work_item_id) from None
            raise

    async def environment_of(self, work_item_id: str, workspaces: Iterable[str]) -> str:
        """Return the environment that has an item, of those of some workspaces.

        Raises:
            WorkNotFound: none has it.
        """
        if is_id("work", work_item_id):
            for workspace in workspaces:
                ids = await self._workspaces.environments(workspace)
                for start in range(0, len(ids), _FIND_BATCH):
                    found = await self._with_item(ids[start : start + _FIND_BATCH], work_item_id)
                    if found is not None:
                        return found
        raise WorkNotFound(work_item_id)

    async def _with_item(self, environment_ids: list[str], work_item_id: str) -> str | None:
        item = f"work:{work_item_id}"
        keys = self._access.keys
        there = await self._access.engine.commands(("EXISTS", keys.environment(id_, item)) for id_ in environment_ids)
        return next((id_ for id_, is_there in zip(environment_ids, there, strict=True) if is_there), None)
