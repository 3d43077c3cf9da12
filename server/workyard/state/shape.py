"""The shape of a workspace's state document. `rules.py` checks its consistency.

Instants are timestamps of the API, which have all stored digits. Derived data is not in the document: a work item's
sequence is its place in the list, and counters are recounted. Source: docs/state.md.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from workyard_queue.agent import Script, check_script
from workyard_queue.agent import State as AgentState
from workyard_queue.sessions.records import Source
from workyard_queue.sessions.scripts import MOST_SCRIPTS, NAME
from workyard_store.clock import LAST_INSTANT, format_instant, parse_instant
from workyard_store.errors import InvalidRequest
from workyard_store.ids import is_id
from workyard_store.metadata import metadata_problems, too_many_keys
from workyard_store.resources.memories import MOST_BYTES, MOST_MEMORIES, MOST_STORES, path_problem
from workyard_store.resources.skills import MOST_SKILLS, MOST_VERSIONS, SLUG

from ..faults.rules import read_stored
from ..schemas.agents import AgentModel, McpServer, SessionAgent
from ..schemas.common import TIMESTAMP, Body, Metadata
from ..schemas.environments import CloudConfig, Description, Name, Scope, SelfHostedConfig
from ..schemas.events import EventType
from ..schemas.queues import KeyName
from ..schemas.sessions import SessionMemoryStore, Status, Title
from ..schemas.workspaces import ReclaimAge, Seed, StartupLease, Ttl

#: Version of the document. Raise it whenever an older document would change its meaning.
VERSION = 1
SCHEMA_FILE = "state.schema.json"
#: Leases end later than the last instant of a clock.
_LATEST = LAST_INSTANT + 86_400_000_000
_MOST_COUNT = 2**53 - 1


def _instant(value: object) -> int:
    instant = parse_instant(value) if isinstance(value, str) else None
    if instant is None or not 0 <= instant <= _LATEST:
        raise PydanticCustomError("instant", "Not a timestamp such as 2026-09-16T04:27:29.962294Z, from 1970 to 2200")
    return instant


def _script(value: object) -> Script:
    try:
        return value if isinstance(value, Script) else check_script(value)
    except InvalidRequest as refusal:
        raise PydanticCustomError("script", "{problem}", {"problem": refusal.message}) from None


def _capped(metadata: dict[str, str]) -> dict[str, str]:
    problems = too_many_keys(len(metadata)) + metadata_problems(metadata)
    if problems:
        raise PydanticCustomError("metadata", "{problem}", {"problem": "; ".join(problems)})
    return metadata


def _path(value: str) -> str:
    problem = path_problem(value)
    if problem is not None:
        raise PydanticCustomError("path", "{problem}", {"problem": problem})
    return value


def _content(value: str) -> str:
    if len(value.encode()) > MOST_BYTES:
        raise PydanticCustomError("content", f"Must have at most {MOST_BYTES} bytes")
    return value


def _rule(value: dict[str, Any]) -> dict[str, Any]:
    if read_stored(json.dumps(value)) is None:
        raise PydanticCustomError(
            "fault_rule", "Not a rule with its seed and place, in the form that this Workyard stores"
        )
    return value


def _slug(value: str) -> str:
    if not SLUG.fullmatch(value):
        raise PydanticCustomError(
            "slug", "Must have lower-case letters, digits and single hyphens, at most 64 characters"
        )
    return value


def _skill_id(value: str) -> str:
    return value if is_id("skill", value) else _slug(value)


def _event(value: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("id"), str) or value.get("type") not in _EVENT_TYPES or "processed_at" in value:
        raise PydanticCustomError("event", "Must have an id and an event type, and no processed_at: its date is `at`")
    return value


_EVENT_TYPES = frozenset(EventType.__args__)  # type: ignore[attr-defined]

Instant = Annotated[
    int,
    BeforeValidator(_instant),
    PlainSerializer(format_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIMESTAMP}),
]
Count = Annotated[int, Field(ge=0, le=_MOST_COUNT)]
Sequence = Annotated[int, Field(ge=1, le=_MOST_COUNT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Capped = Annotated[Metadata, AfterValidator(_capped)]
StoredScript = Annotated[
    Script,
    BeforeValidator(_script),
    WithJsonSchema({"type": "object", "description": "A script, see script.schema.json."}),
]


_SUFFIX = "_[0-9A-Za-z]{1,64}$"
AgentId = Annotated[str, Field(pattern="^agent" + _SUFFIX)]
MemoryId = Annotated[str, Field(pattern="^mem" + _SUFFIX)]
MemoryVersionId = Annotated[str, Field(pattern="^memver" + _SUFFIX)]
MemoryStoreId = Annotated[str, Field(pattern="^memstore" + _SUFFIX)]
KeyId = Annotated[str, Field(pattern="^envkey" + _SUFFIX)]
WorkId = Annotated[str, Field(pattern="^work" + _SUFFIX)]
SessionId = Annotated[str, Field(pattern="^session" + _SUFFIX)]
EnvironmentId = Annotated[str, Field(pattern="^env" + _SUFFIX)]
Counter = Annotated[str, Field(pattern="^[a-z_]{1,32}$")]


class Stored(Body):
    """A part of the document. Built when it is first needed: most servers never meet one, and all would start later."""

    model_config = ConfigDict(defer_build=True)


class StateClock(Stored):
    """The workspace's clock. A ticking clock is stored without its instant, because time passes while a document is
    in a file.
    """

    mode: Literal["real", "frozen", "auto"] = Field(
        "real", description="real: ticking. frozen: standing still. auto: standing still until nothing else can happen."
    )
    at: Instant | None = Field(None, description="The instant at which the clock stands; null while it ticks.")
    shift_us: int = Field(
        0, ge=-_LATEST, le=_LATEST, description="Microseconds by which a ticking clock is ahead of wall time."
    )
    changed_to: Instant | None = Field(
        None, description="The instant that it was last set to; it never goes back before that."
    )


class StateSettings(Stored):
    """The workspace's settings; null: the server's default, or none."""

    default_ttl_seconds: Ttl | None = Field(
        None, description="Lease length of a heartbeat that gives none, in seconds."
    )
    startup_lease_seconds: StartupLease | None = Field(
        None, description="Time allowed from an acknowledgement to the first heartbeat."
    )
    reclaim_ms: ReclaimAge | None = Field(None, description="Age at which a poll can reclaim an unacknowledged item.")
    id_seed: Seed | None = Field(None, description="The seed of ids and tokens.")


class StateCounters(Stored):
    """Counters of everything created so far; the next one gets the following number."""

    resources: Count | None = Field(
        None, description="Environments, skills and memory stores; null: the API key has created nothing yet."
    )
    sessions: Count = Field(0, description="Sessions.")
    seeded: dict[Counter, Count] = Field({}, description="Number of ids and secrets derived from `id_seed`, by kind.")


class StateFault(Stored):
    """A fault rule."""

    number: Sequence = Field(description="Its number in the workspace.")
    ends_at: Instant | None = Field(None, description="The end of its validity; null: none.")
    asked: Count = Field(0, description="Number of calls that it matched.")
    hits: Count = Field(0, description="Number of calls that it was applied to.")
    rule: Annotated[dict[str, Any], AfterValidator(_rule)] = Field(description="The rule, in its stored form.")


class StateFaults(Stored):
    """The fault rules."""

    rules: list[StateFault] = Field([], description="The rules, by their numbers.")
    last_number: Count = Field(0, description="The number of the last rule created.")


class StateAgent(Stored):
    """An agent."""

    id: AgentId = Field(description="Identifier.")
    created_at: Instant = Field(description="When it was created.")
    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Display name.")
    description: str | None = Field(None, description="Its purpose.")
    model: AgentModel = Field(description="The model.")
    system: str | None = Field(None, description="System prompt.")
    tools: list[dict[str, Any]] = Field([], description="The tools, with their defaults.")
    mcp_servers: list[McpServer] = Field([], description="The MCP servers.")
    skills: list[dict[str, Any]] = Field([], description="The skills.")
    metadata: Capped = Field({}, description="Custom key-value pairs.")


class StateSkillVersion(Stored):
    """A version of a skill."""

    id: Annotated[str, Field(pattern=r"^[0-9]{1,16}$")] = Field(description="Its instant in microseconds.")
    description: str = Field(description="The description from SKILL.md.")
    archive: str = Field(description="Its files: a zip archive in base64.")


class StateSkill(Stored):
    """A skill."""

    id: Annotated[str, AfterValidator(_skill_id)] = Field(description="Identifier: `skill_…`, or a name.")
    sequence: Sequence = Field(description="Its number among the resources, by creation.")
    name: Annotated[str, AfterValidator(_slug)] = Field(description="Its name, which is also the name of its folder.")
    display_name: str = Field(description="Display name.")
    source: Literal["custom", "anthropic"] = Field(description="Who provides it.")
    created_at: Instant = Field(description="When it was created.")
    updated_at: Instant = Field(description="When it was last uploaded.")
    versions: Annotated[list[StateSkillVersion], Field(min_length=1, max_length=MOST_VERSIONS)] = Field(
        description="The stored versions, newest first."
    )


class StateMemory(Stored):
    """A memory."""

    id: MemoryId = Field(description="Identifier.")
    path: Annotated[str, AfterValidator(_path)] = Field(description="Its path.")
    content: Annotated[str, AfterValidator(_content)] = Field(description="Its text.")
    version_id: MemoryVersionId = Field(description="Its version.")
    created_at: Instant = Field(description="When it was created.")
    updated_at: Instant = Field(description="When it was last changed.")


class StateMemoryStore(Stored):
    """A memory store."""

    id: MemoryStoreId = Field(description="Identifier.")
    sequence: Sequence = Field(description="Its number among the resources, by creation.")
    name: str = Field(description="Display name.")
    description: str = Field(description="Its purpose.")
    metadata: Capped = Field({}, description="Custom key-value pairs.")
    created_at: Instant = Field(description="When it was created.")
    updated_at: Instant = Field(description="When it was last changed.")
    archived_at: Instant | None = Field(None, description="When it was archived; null if it is not archived.")
    memories: Annotated[list[StateMemory], Field(max_length=MOST_MEMORIES)] = Field(
        [], description="The memories, sorted by path."
    )


class StateKey(Stored):
    """An environment key, without its value."""

    id: KeyId = Field(description="Identifier.")
    name: KeyName = Field(description="Display name.")
    sha256: Digest = Field(description="SHA-256 of the key: clients that have the key can still use it.")
    created_at: Instant = Field(description="When it was issued.")
    revoked_at: Instant | None = Field(None, description="When it was revoked; null while it is valid.")


class StatePoller(Stored):
    """A worker that polled within the last thirty seconds."""

    worker_id: str = Field(description="Its name.")
    polled_at: Instant = Field(description="The time of its last poll.")


class StateWork(Stored):
    """A work item. Its place in the list is its creation sequence."""

    id: WorkId = Field(description="Identifier, derived from environment and session.")
    session_id: SessionId = Field(description="The session it serves.")
    state: Literal["queued", "starting", "active", "stopping", "stopped"] = Field(description="Its state.")
    metadata: Capped = Field({}, description="Custom key-value pairs.")
    created_at: Instant = Field(description="When it was first enqueued.")
    acknowledged_at: Instant | None = Field(None, description="When it was acknowledged in this life.")
    started_at: Instant | None = Field(None, description="When its first heartbeat came in this life.")
    latest_heartbeat_at: Instant | None = Field(None, description="The stored heartbeat of this life.")
    latest_heartbeat_ever_at: Instant | None = Field(
        None, description="The last heartbeat of any life; every later one is greater."
    )
    stop_requested_at: Instant | None = Field(None, description="When its stop was requested.")
    stopped_at: Instant | None = Field(None, description="When it stopped.")
    lease_ends_at: Instant | None = Field(None, description="When its lease ends; null while it has none.")
    ttl_seconds: Ttl | None = Field(None, description="Length of the lease that the last heartbeat set.")
    was_requeued: bool = Field(False, description="Whether it has been in the queue more than once.")
    message_waits: bool = Field(False, description="Whether a message waits that no acknowledgement has seen.")
    times_stopped: Count = Field(0, description="How often it became stopped.")
    times_revived: Count = Field(0, description="How often a message queued it again after that.")
    deleted_session: Literal["deleted", "replaced"] | None = Field(
        None,
        description="deleted: its session was deleted. replaced: its session was deleted and has a successor with the "
        "same id.",
    )
    token_digests: list[Digest] = Field([], description="SHA-256 of the sessions tokens minted in this life.")


class StateEntry(Stored):
    """A queued item's place in the queue."""

    work_id: WorkId = Field(description="The item.")
    entered_at: Instant = Field(description="Since when it has been in the queue.")
    handed_out_at: Instant | None = Field(
        None, description="When it was last handed out to a worker that has not acknowledged it; null: it waits."
    )


class StateTwice(Stored):
    """A work item that a fault hands out to a second worker."""

    work_id: WorkId = Field(description="The item.")
    worker_id: str = Field("", description="The worker that has it, which does not get it again; empty: unknown.")


class StateEvent(Stored):
    """An event of a session."""

    at: Instant = Field(description="Its date.")
    event: Annotated[dict[str, Any], AfterValidator(_event)] = Field(description="The content of the event.")


class StateSessionScript(Stored):
    """The script of a session."""

    source: Source = Field(description="The source of the script.")
    script: StoredScript = Field(description="The script.")


class StateSession(Stored):
    """A session."""

    id: SessionId = Field(description="Identifier.")
    sequence: Sequence | None = Field(
        description="Its number among the workspace's sessions, by creation; null for a session of work that the "
        "control plane enqueued."
    )
    agent: SessionAgent | None = Field(
        None, description="Its agent; null for a session of work that the control plane enqueued."
    )
    title: Title | None = Field(None, description="Title for people.")
    metadata: Capped = Field({}, description="Custom key-value pairs.")
    resources: list[SessionMemoryStore] = Field([], description="The resources it can use.")
    vault_ids: list[str] = Field([], description="As given.")
    status: Status = Field(description="Its status.")
    status_since: Instant | None = Field(None, description="When the status last changed; null if it never did.")
    active_us: Count = Field(0, description="Microseconds it was running, without the current period.")
    created_at: Instant = Field(description="When it was created.")
    updated_at: Instant = Field(description="When it was last changed.")
    archived_at: Instant | None = Field(None, description="When it was archived; null if it is not archived.")
    changes: Sequence = Field(description="A number that increases with every change.")
    script: StateSessionScript | None = Field(None, description="Its script; null before its first turn.")
    agent_state: AgentState | None = Field(None, description="The memory of its scripted agent.")
    in_mid_turn: bool | None = Field(
        None, description="Whether a message has not been served to its end; null: no turn yet."
    )
    agent_acts_at: Instant | None = Field(
        None, description="When its agent acts next; null: not before the next event."
    )
    events_seen: Count = Field(description="Number of events that its agent has read.")
    events: Annotated[list[StateEvent], Field(min_length=1)] = Field(description="All events, in order.")


class StateTimelineEvent(Stored):
    """An event of a work item."""

    id: Annotated[str, Field(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] = Field(description="Its position in the timeline.")
    kind: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="What happened.")
    work_id: str = Field(description="The work item.")
    at: Instant = Field(description="When it happened, by the workspace's clock.")
    wall_at: Instant = Field(description="When it happened, in wall time.")
    by: dict[str, str] | None = Field(None, description="The caller; null if the clock caused it.")
    details: dict[str, str] = Field({}, description="Other details, in their stored form.")


class StateEnvironment(Stored):
    """An environment with everything that belongs to it."""

    id: EnvironmentId = Field(description="Identifier.")
    sequence: Sequence = Field(description="Its number among the resources, by creation.")
    name: Name = Field(description="Display name.")
    description: Description = Field("", description="Its purpose.")
    config: Annotated[CloudConfig | SelfHostedConfig, Field(discriminator="type")] = Field(
        description="Type and configuration."
    )
    metadata: Capped = Field({}, description="Custom key-value pairs.")
    scope: Scope = Field("organization", description="Who can see it.")
    created_at: Instant = Field(description="When it was created.")
    updated_at: Instant = Field(description="When its record was last changed.")
    archived_at: Instant | None = Field(None, description="When it was archived; null while it is live.")
    changes: Sequence = Field(1, description="A number that increases with every change of the record.")
    last_step_at: Instant = Field(description="When something last happened in it; nothing in it is later.")
    seeded: dict[Counter, Count] = Field(
        {}, description="Number of ids and secrets derived from `id_seed` in it, by kind."
    )
    keys: list[StateKey] = Field([], description="Its keys, oldest first.")
    pollers: list[StatePoller] = Field([], description="Polling workers, by name.")
    idempotency_keys: dict[Annotated[str, Field(min_length=1, max_length=256)], Digest] = Field(
        {}, description="For enqueued work: SHA-256 of the request of each key."
    )
    work: list[StateWork] = Field([], description="Its work items, in the order of their creation.")
    queue: list[StateEntry] = Field([], description="The queued items, in the order in which they are handed out.")
    given_twice: Annotated[list[StateTwice], Field(max_length=1000)] = Field(
        [], description="Items that the fault `duplicate_delivery` hands out once more, in that order."
    )
    sessions: list[StateSession] = Field([], description="Its sessions, in the order of their creation.")
    timeline: list[StateTimelineEvent] = Field([], description="The latest events of its items, in order.")


class WorkspaceState(Stored):
    """Everything in a workspace, except its journal of requests."""

    workspace: Annotated[str, Field(pattern=r"^(default|wrkspc_[0-9A-Za-z]{1,64})$")] | None = Field(
        None, description="The workspace that was exported. A restore writes to the workspace of its request."
    )
    clock: StateClock = Field(StateClock(), description="The clock.")
    settings: StateSettings = Field(StateSettings(), description="The settings.")
    counters: StateCounters = Field(StateCounters(), description="Counters of everything created so far.")
    faults: StateFaults = Field(StateFaults(), description="The fault rules.")
    agents: list[StateAgent] = Field([], description="The agents, by creation.")
    scripts: Annotated[
        dict[Annotated[str, Field(pattern=rf"^{NAME}$")], StoredScript], Field(max_length=MOST_SCRIPTS)
    ] = Field({}, description="The scripts, by name.")
    skills: Annotated[list[StateSkill], Field(max_length=MOST_SKILLS)] = Field(
        [], description="The skills, by creation."
    )
    memory_stores: Annotated[list[StateMemoryStore], Field(max_length=MOST_STORES)] = Field(
        [], description="The memory stores, by creation."
    )
    environments: list[StateEnvironment] = Field([], description="The environments, by creation.")


class State(WorkspaceState):
    """The state of one workspace."""

    version: Literal[1] = Field(description="Version of the document format.")


class ServerState(Stored):
    """The state of all workspaces of a server, as `workyard serve --save-state` writes it."""

    version: Literal[1] = Field(description="Version of the document format.")
    workspaces: list[WorkspaceState] = Field(description="Each workspace, by its id.")


def state_schema() -> str:
    """Return the published JSON Schema of a workspace's state, as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **State.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
