"""Wire shapes of the control plane. Rules: `control.*`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from workyard_queue.work import invariants
from workyard_queue.work.states import LONGEST_TTL_S, SHORTEST_TTL_S
from workyard_store.clock import format_instant
from workyard_store.ids import canonical_session_id
from workyard_store.workspaces.credentials import EnvironmentKey

from ..settings import LONGEST_LEASE_S, LONGEST_RECLAIM_MS, MOST_ENQUEUED
from .common import KEY_ID, Body, Metadata, Shape, Timestamp, optional_instant
from .work import Work

#: Integers that every JSON parser keeps as they are.
MOST_SEED = 2**53 - 1


def _session(value: str) -> str:
    canonical = canonical_session_id(value)
    if canonical is None:
        raise PydanticCustomError("session_id", "Not a session id: session_ followed by 1 to 64 letters and digits")
    return canonical


SessionId = Annotated[
    str,
    AfterValidator(_session),
    WithJsonSchema({"type": "string", "pattern": "^(session|sesn)_[0-9A-Za-z]{1,64}$"}),
]
WorkspaceId = Annotated[str, Field(pattern="^(default|wrkspc_[0-9A-Za-z]+)$")]


KeyName = Annotated[str, Field(min_length=1, max_length=256)]


class Health(Shape):
    """The server and its Redis answer."""

    status: Literal["ok"] = Field(description="Always `ok`; anything else is an error.")
    engine: Literal["embedded", "redis"] = Field(description="Where the state is kept.")
    version: str = Field(description="Workyard's version.")
    leniencies: dict[str, Annotated[int, Field(ge=1)]] = Field(
        description="How often the server was lenient since it started, by the leniency's name in the header "
        "`workyard-leniency`; always empty without `--fixtures`.",
        examples=[{}, {"reserved-environment": 340, "reserved-work": 160, "unknown-cursor": 10}],
    )
    in_flight: int = Field(
        ge=1, description="Requests that the server process which answers is answering, this one too."
    )
    polls_waiting: int = Field(ge=0, description="Polls that are blocked in it.")


class WorkToEnqueue(Body):
    """Work without a session of the Sessions API."""

    count: int = Field(1, ge=1, le=MOST_ENQUEUED, description="How many items.")
    session_id: SessionId | None = Field(
        None, description="The session to run, count 1 only. If it has an item, that gets a message. Null: made up."
    )
    metadata: Metadata | None = Field(None, description="Metadata of each new item.")

    @model_validator(mode="after")
    def _one_item_per_session(self) -> WorkToEnqueue:
        if self.session_id is not None and self.count != 1:
            raise PydanticCustomError("count", "count: Must be 1 when session_id is given")
        return self


class Enqueue(WorkToEnqueue):
    """Request to enqueue work without a session of the Sessions API."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None,
        description="A repeat with the same key enqueues nothing twice and answers the same items; with another count, "
        "session or metadata it is refused.",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"session_id": {"type": "string"}}, "required": ["session_id"]},
            "then": {"properties": {"count": {"const": 1}}},
            "examples": [
                {"count": 3, "metadata": {"suite": "smoke"}},
                {"session_id": "session_011CZkZ9X2dpNyB7HsEFoRfW"},
            ],
        }
    )


class Enqueued(Shape):
    """The items, in the order they were enqueued."""

    data: list[Work] = Field(description="The items.")


class KeyCreate(Body):
    """Request to issue an environment key."""

    name: KeyName = Field("key", description="Name for people.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "worker on my laptop"}]})


class IssuedKey(Shape):
    """A new environment key; its value is not shown again."""

    id: str = Field(description="Identifier, `envkey_…`.", pattern=KEY_ID)
    name: KeyName = Field(description="Name for people.")
    key: str = Field(description="The key, `sk-ant-oat01-…`.", pattern="^sk-ant-oat01-")
    created_at: Timestamp = Field(description="When it was issued.")


class KnownKey(Shape):
    """An environment key without its value."""

    id: str = Field(description="Identifier, `envkey_…`.", pattern=KEY_ID)
    name: KeyName = Field(description="Name for people.")
    created_at: Timestamp = Field(description="When it was issued.")
    revoked_at: Timestamp | None = Field(description="When it was revoked; null while it is good.")


class Keys(Shape):
    """All keys of an environment, newest first."""

    data: list[KnownKey] = Field(description="The keys.")


class KeyRevoked(Shape):
    """Confirmation of a revocation."""

    id: str = Field(description="The key that is no longer good.", pattern=KEY_ID)
    type: Literal["environment_key_revoked"] = Field(description="Always `environment_key_revoked`.")


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


def render_key(key: EnvironmentKey) -> dict[str, Any]:
    """Render a key without its value."""
    return {
        "id": key.id,
        "name": key.name,
        "created_at": format_instant(key.created_at),
        "revoked_at": optional_instant(key.revoked_at),
    }
