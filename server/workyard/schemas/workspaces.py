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
    """Request to change lease settings; what is left out stays, null goes back to the server's default."""

    default_ttl_seconds: Ttl | None = Field(
        None, description="Lease of a heartbeat without `desired_ttl_seconds`, seconds."
    )
    startup_lease_seconds: StartupLease | None = Field(
        None, description="Time from an acknowledgement to the first heartbeat, seconds."
    )
    reclaim_ms: ReclaimAge | None = Field(
        None, description="Age at which a poll takes over an unacknowledged item, milliseconds."
    )

    @property
    def changes(self) -> dict[str, int | str | None]:
        """Return what `WorkspaceStore.change_settings` is to change."""
        names = {"default_ttl_seconds": "ttl", "startup_lease_seconds": "startup", "reclaim_ms": "reclaim"}
        names["id_seed"] = "seed"
        return {names[name]: value for name, value in self.model_dump(exclude_unset=True).items()}


class SettingsChange(LeaseChange):
    """Request to change settings; what is left out stays, null goes back to the server's default."""

    id_seed: Seed | None = Field(
        None, description="What new ids, environment keys and sessions tokens follow from; null: they are random."
    )
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"default_ttl_seconds": 5, "startup_lease_seconds": 2}, {"id_seed": 42}]}
    )


class LeaseSettings(Shape):
    """The settings in force in a workspace."""

    default_ttl_seconds: Ttl = Field(description="Lease of a heartbeat without `desired_ttl_seconds`, seconds.")
    startup_lease_seconds: StartupLease = Field(
        description="Time from an acknowledgement to the first heartbeat, seconds."
    )
    reclaim_ms: ReclaimAge = Field(description="Age at which a poll takes over an unacknowledged item, milliseconds.")
    id_seed: Seed | None = Field(description="What new ids and tokens follow from; null: they are random.")


class WorkspaceSettings(LeaseSettings):
    """One workspace's settings among all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class AllSettings(Shape):
    """The settings of all workspaces."""

    data: list[WorkspaceSettings] = Field(description="One row a workspace.")


class ResetDone(Shape):
    """What a reset removed."""

    removed_keys: int = Field(ge=0, description="Redis keys that went.")
    leftover_keys: int = Field(ge=0, description="Keys that still name what was removed, counted by scanning Redis: 0.")


class Violation(Shape):
    """A rule of the queue that does not hold."""

    rule: Literal[
        "item_lost", "lease", "entry", "pending", "counts", "stamps", "life", "trimmed", "session", "orphan"
    ] = Field(description="The rule, as docs/reliability.md lists it.")
    environment_id: str = Field(description="The environment; of `orphan`, one that is deleted.")
    work_id: str | None = Field(description="The work item, if it is about one.")
    message: str = Field(description="What was found.")


class Recounted(Shape):
    """How much was looked at."""

    violations: int = Field(ge=0, description="All violations; of one environment at most 100 are named.")
    environments: int = Field(ge=0, description="Environments recounted.")
    items: int = Field(ge=0, description="Their work items, stopped ones too.")
    items_looked_at: int = Field(ge=0, description="Items looked at one by one: all, unless an environment is sampled.")
    queued: int = Field(ge=0, description="Items that are queued: depth + pending.")
    leases: int = Field(ge=0, description="Items under lease, of those looked at.")
    stopped: int = Field(ge=0, description="Stopped items, of those looked at.")
    entries_into_stopped: int = Field(
        ge=0, description="How often they entered `stopped`: more often than `stopped` only where messages re-enqueued."
    )
    keys: int = Field(
        ge=0, description="Redis keys of all workspaces, looked through for those of deleted environments."
    )
    sampled: list[str] = Field(
        description="Environments with more than 10 000 items, of which that many are looked at."
    )


class Recount(Shape):
    """The queues recounted from the raw keys."""

    violations: list[Violation] = Field(description="What contradicts the rules of the queue: nothing, if all is well.")
    checked: Recounted = Field(description="How much was looked at.")


def render_recount(recount: invariants.Recount) -> dict[str, Any]:
    """Render a recount."""
    checked = asdict(recount)
    del checked["violations"]
    checked["violations"] = checked.pop("violations_found")
    return {"violations": [asdict(violation) for violation in recount.violations], "checked": checked}
