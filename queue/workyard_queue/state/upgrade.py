"""Brings the data of an older format up to date when a server starts. Knows what changed from format to format.

Every step may be repeated: servers that start together all take it, and a crash in between is made good by the next
start. A server of the older version must not run meanwhile, nor later: it refuses the new format.

| format | what changed                                                                    |
|--------|---------------------------------------------------------------------------------|
| 1 → 2  | work items count their entries into `stopped` (`ended`) and out of it (`revived`); environments count |
|        | the items that wait (`waiting`), where the lag of the consumer group was taken before           |
| 2 → 3  | an event of a timeline is one text, where each thing that it tells had a field |

What is only added needs no new format: a store from before sessions has none, its items have theirs when they are first
looked for, and an environment without the count `active` has no active session.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from workyard_store.access import TRUSTED, Access
from workyard_store.engine.engine import DATA_FORMAT
from workyard_store.errors import EnvironmentNotFound
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.binder import queue_script

_log = logging.getLogger("workyard")

_UPGRADE_1 = queue_script("upgrade_1")
_UPGRADE_2 = queue_script("upgrade_2")
#: Items that one script looks at.
_BATCH = 500


async def upgrade(found: str, access: Access, workspaces: WorkspaceStore) -> None:
    """Bring data of the format *found*, one of `redis.UPGRADABLE_FORMATS`, to `redis.DATA_FORMAT`.

    Raises:
        StorageUnavailable: Redis did not answer; the next start goes on.
    """
    if found == DATA_FORMAT:
        return
    _log.warning("bringing the stored data from format %s to %s", found, DATA_FORMAT)
    for workspace in await workspaces.all():
        for environment_id in await workspaces.environments(workspace):
            if found == "1":
                await _count(access, environment_id)
            with suppress(EnvironmentNotFound):  # Half created or half deleted.
                await access.run(_UPGRADE_2, environment_id, TRUSTED)
    await access.engine.mark_format()


async def _count(access: Access, environment_id: str) -> None:
    reached, waiting = "0", "0"
    while reached:
        try:
            _, reached, waiting = await access.run(_UPGRADE_1, environment_id, TRUSTED, reached, _BATCH, waiting)
        except EnvironmentNotFound:
            return  # As below.
