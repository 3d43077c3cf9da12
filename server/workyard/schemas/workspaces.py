"""Wire shapes of a workspace as a whole: its settings, a reset, a recount. Rules: `control.*`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from workyard_queue.work import invariants
from workyard_queue.work.states import LONGEST_TTL_S, SHORTEST_TTL_S

from ..settings import LONGEST_LEASE_S, LONGEST_RECLAIM_MS
from .common import Body, Shape

#: Integers that every JSON parser keeps as they are.
MOST_SEED = 2**53 - 1


WorkspaceId = Annotated[str, Field(pattern="^(default|wrkspc_[0-9A-Za-z]+)$")]


Ttl = Annotated[int, Field(ge=SHORTEST_TTL_S, le=LONGEST_TTL_S)]
StartupLease = Annotated[int, Field(ge=1, le=LONGEST_LEASE_S)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
ReclaimAge = Annotated[int, Field(ge=1, le=LONGEST_RECLAIM_MS)]


class LeaseChange(Body):
    """Request to change lease settings; omitted settings stay, null restores the server's default."""

    default_ttl_seconds: Ttl | None = Field(
        None, description="Lease length of a heartbeat without `desired_ttl_seconds`, in seconds."
    )
    startup_lease_seconds: StartupLease | None = Field(
        None, description="Time allowed from an acknowledgement to the first heartbeat, in seconds."
    )
    reclaim_ms: ReclaimAge | None = Field(
        None, description="Age at which a poll can reclaim an unacknowledged item, in milliseconds."
    )

    @property
    def changes(self) -> dict[str, int | str | None]:
        """Return what `WorkspaceStore.change_settings` is to change."""
        names = {"default_ttl_seconds": "ttl", "startup_lease_seconds": "startup", "reclaim_ms": "reclaim"}
        names["id_seed"] = "seed"
        return {names[name]: value for name, value in self.model_dump(exclude_unset=True).items()}


class SettingsChange(LeaseChange):
    """Request to change settings; omitted settings stay, null restores the server's default."""

    id_seed: Seed | None = Field(
        None, description="The seed of new ids, environment keys and sessions tokens; null: they are random."
    )
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"default_ttl_seconds": 5, "startup_lease_seconds": 2}, {"id_seed": 42}]}
    )


class LeaseSettings(Shape):
    """The settings in force in a workspace."""

    default_ttl_seconds: Ttl = Field(
        description="Lease length of a heartbeat without `desired_ttl_seconds`, in seconds."
    )
    startup_lease_seconds: StartupLease = Field(
        description="Time allowed from an acknowledgement to the first heartbeat, in seconds."
    )
    reclaim_ms: ReclaimAge = Field(
        description="Age at which a poll can reclaim an unacknowledged item, in milliseconds."
    )
    id_seed: Seed | None = Field(description="The seed of new ids and tokens; null: they are random.")


class WorkspaceSettings(LeaseSettings):
    """The settings of one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class AllSettings(Shape):
    """The settings of all workspaces."""

    data: list[WorkspaceSettings] = Field(description="One row per workspace.")


class ResetDone(Shape):
    """The result of a reset."""

    removed_keys: int = Field(ge=0, description="Number of Redis keys removed.")
    leftover_keys: int = Field(
        ge=0, description="Remaining keys that name removed resources, counted by scanning Redis: 0."
    )


class Violation(Shape):
    """A violation of a queue rule."""

    rule: Literal[
        "item_lost", "lease", "entry", "pending", "counts", "stamps", "life", "trimmed", "session", "orphan"
    ] = Field(description="The rule, as docs/reliability.md lists it.")
    environment_id: str = Field(description="The environment; for `orphan`, a deleted one.")
    work_id: str | None = Field(description="The work item, if the violation concerns one.")
    message: str = Field(description="Description of the violation.")


class Recounted(Shape):
    """The extent of the check."""

    violations: int = Field(ge=0, description="Number of all violations; at most 100 per environment are listed.")
    environments: int = Field(ge=0, description="Environments recounted.")
    items: int = Field(ge=0, description="Their work items, including stopped ones.")
    items_looked_at: int = Field(ge=0, description="Items checked individually: all, unless an environment is sampled.")
    queued: int = Field(ge=0, description="Queued items: depth + pending.")
    leases: int = Field(ge=0, description="Items under lease, among those checked.")
    stopped: int = Field(ge=0, description="Stopped items, among those checked.")
    entries_into_stopped: int = Field(
        ge=0, description="How often they entered `stopped`; larger than `stopped` only if messages queued them again."
    )
    keys: int = Field(
        ge=0, description="Redis keys of all workspaces that were searched for keys of deleted environments."
    )
    sampled: list[str] = Field(description="Environments with more than 10 000 items, of which 10 000 are checked.")


class Recount(Shape):
    """The result of recounting the queues from the raw keys."""

    violations: list[Violation] = Field(description="Violations of the queue rules; empty if there are none.")
    checked: Recounted = Field(description="The extent of the check.")


def render_recount(recount: invariants.Recount) -> dict[str, Any]:
    """Render a recount."""
    checked = asdict(recount)
    del checked["violations"]
    checked["violations"] = checked.pop("violations_found")
    return {"violations": [asdict(violation) for violation in recount.violations], "checked": checked}
