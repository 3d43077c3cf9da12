"""The services that a state document is read from and written to."""

from __future__ import annotations

from dataclasses import dataclass

from workyard_queue.clock.timers import Clocks
from workyard_queue.sessions.scripts import Scripts
from workyard_queue.state.snapshots import Snapshots
from workyard_queue.work.work_queue import WorkQueue
from workyard_store.access import Access
from workyard_store.workspaces.credentials import CredentialStore
from workyard_store.workspaces.environments import EnvironmentStore
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..faults.apply import Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Reads and writes the contents of workspaces."""

    access: Access
    workspaces: WorkspaceStore
    environments: EnvironmentStore
    credentials: CredentialStore
    queue: WorkQueue
    clocks: Clocks
    scripts: Scripts
    snapshots: Snapshots
    faults: Faults
