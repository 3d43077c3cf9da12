"""Wire shapes of sessions. Source: the SDK's types of sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from workyard_queue.sessions.records import Session as SessionRecord
from workyard_store.clock import format_instant

from .agents import UNKNOWN, AgentChoice, McpServers, SessionAgent, Tools, render_session_agent
from .common import (
    ENVIRONMENT_ID,
    SESSION_ID,
    Body,
    Metadata,
    NextPage,
    Shape,
    Timestamp,
    metadata_patch_schema,
    optional_instant,
)
from .events import MOST_INITIAL, InitialEvent

Title = Annotated[str, Field(max_length=1024)]
Status = Literal["rescheduling", "running", "idle", "terminated"]
MetadataPatch = Annotated[dict[str, str | None], WithJsonSchema(metadata_patch_schema(None))]


class MemoryStoreParams(Body):
    """A memory store for the session."""

    type: Literal["memory_store"] = Field(description="The type of resource; the only one supported.")
    memory_store_id: str = Field(description="The memory store.")
    access: Literal["read_write", "read_only"] | None = Field(None, description="Default: `read_write`.")
    instructions: Annotated[str, Field(max_length=4096)] | None = Field(None, description="Instructions for its use.")


class SessionMemoryStore(Shape):
    """A memory store of the session; name and description are those at the time the session was created."""

    type: Literal["memory_store"] = Field(description="The type of resource; the only one supported.")
    memory_store_id: str = Field(description="The memory store.")
    access: Literal["read_write", "read_only"] = Field(description="Whether the worker writes changes back.")
    instructions: str | None = Field(description="Instructions for its use.")
    name: str = Field(description="The store's name.")
    description: str = Field(description="The store's purpose.")
    mount_path: str | None = Field(description="Its folder on the worker's machine; null: in the worker's own folder.")


class SessionCreate(Body):
    """Request to create a session."""

    agent: AgentChoice = Field(
        description="The agent: its id, or an object that contains it. An id that was never created stands for a "
        "default agent."
    )
    environment_id: str = Field(description="The environment it runs in.")
    title: Title | None = Field(None, description="Display title.")
    metadata: Metadata | None = Field(
        None, description="Custom key-value pairs: at most 16, keys up to 64 and values up to 512 characters."
    )
    resources: Annotated[list[MemoryStoreParams], Field(max_length=100)] = Field(
        [], description="The resources it can use."
    )
    vault_ids: Annotated[list[str], Field(max_length=100)] = Field([], description="Stored and returned only.")
    initial_events: Annotated[list[InitialEvent], Field(max_length=MOST_INITIAL)] = Field(
        [], description="The first events. Without any, the session is idle immediately."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agent": "agent_011CZkZ9X2dpNyB7HsEFoRfW",
                    "environment_id": "env_011CZkZ9X2dpNyB7HsEFoRfW",
                    "initial_events": [{"type": "user.message", "content": [{"type": "text", "text": "echo hello"}]}],
                }
            ]
        }
    )


class AgentUpdate(Body):
    """Changes to a session's agent; each list is replaced as a whole."""

    tools: Tools | None = Field(None, description="The tools.")
    mcp_servers: McpServers | None = Field(None, description="The MCP servers.")


class SessionUpdate(Body):
    """Request to change a session; omitted fields stay."""

    title: Title | None = Field(None, description="New title; null or an empty string clears it.")
    metadata: MetadataPatch | None = Field(
        None, description="Patch: a string sets a key, null deletes it. At most 16 keys in the result."
    )
    agent: AgentUpdate | None = Field(None, description="New tools or MCP servers; not allowed while the session runs.")
    budget: None = Field(None, description="Must be null; budgets are not supported.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "renamed", "metadata": {"team": None}}]})


class SessionStats(Shape):
    """Durations of the session."""

    active_seconds: Annotated[float, Field(ge=0)] = Field(description="Seconds it was running.")
    duration_seconds: Annotated[float, Field(ge=0)] = Field(
        description="Seconds since its creation, or until its end if it is terminated."
    )


class CacheCreation(Shape):
    """Tokens written to a cache: always none."""

    ephemeral_1h_input_tokens: Literal[0] = Field(description="Always 0.")
    ephemeral_5m_input_tokens: Literal[0] = Field(description="Always 0.")


class SessionUsage(Shape):
    """Usage of the session: no model runs, so no tokens."""

    active_seconds: Annotated[float, Field(ge=0)] = Field(description="Seconds it was running.")
    cache_creation: CacheCreation = Field(description="Tokens written to a cache.")
    cache_read_input_tokens: Literal[0] = Field(description="Always 0.")
    input_tokens: Literal[0] = Field(description="Always 0.")
    output_tokens: Literal[0] = Field(description="Always 0.")


class Session(Shape):
    """A session."""

    id: str = Field(
        description="Identifier, `session_…`.", pattern=SESSION_ID, examples=["session_011CZkZ9X2dpNyB7HsEFoRfW"]
    )
    type: Literal["session"] = Field(description="Always `session`.")
    agent: SessionAgent = Field(description="Its agent, as it was when the session was created.")
    environment_id: str = Field(description="The environment it runs in.", pattern=ENVIRONMENT_ID)
    status: Status = Field(description="Its status: `idle` waits for an event, `terminated` has ended.")
    title: Title | None = Field(description="Display title.")
    metadata: Metadata = Field(description="Custom key-value pairs.")
    resources: list[SessionMemoryStore] = Field(description="The resources it can use.")
    vault_ids: list[str] = Field(description="As given.")
    outcome_evaluations: Annotated[list[None], Field(max_length=0)] = Field(
        description="Always empty; outcomes are not evaluated."
    )
    budget: None = Field(description="Always null; budgets are not supported.")
    deployment_id: None = Field(description="Always null; deployments are not supported.")
    stats: SessionStats = Field(description="Its durations.")
    usage: SessionUsage = Field(description="Its usage.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it or its status last changed.")
    archived_at: Timestamp | None = Field(description="When it was archived; null if it is not archived.")


class SessionPage(Shape):
    """A page of sessions, newest first."""

    data: list[Session] = Field(description="The rows of this page.")
    next_page: NextPage


class SessionDeleted(Shape):
    """Confirmation of a deletion."""

    id: str = Field(description="The deleted session.", pattern=SESSION_ID)
    type: Literal["session_deleted"] = Field(description="Always `session_deleted`.")


def render_session(session: SessionRecord) -> dict[str, Any]:
    """Render a session."""
    until = session.updated_at if session.status == "terminated" else session.read_at
    active = session.active_us / 1_000_000
    return {
        "id": session.id,
        "type": "session",
        "agent": render_session_agent("agent_workyard", UNKNOWN) if session.agent is None else session.agent,
        "environment_id": session.environment_id,
        "status": session.status,
        "title": session.title,
        "metadata": session.metadata,
        "resources": session.resources,
        "vault_ids": session.vault_ids,
        "outcome_evaluations": [],
        "budget": None,
        "deployment_id": None,
        "stats": {"active_seconds": active, "duration_seconds": (until - session.created_at) / 1_000_000},
        "usage": {
            "active_seconds": active,
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
            "cache_read_input_tokens": 0,
            "input_tokens": 0,
            "output_tokens": 0,
        },
        "created_at": format_instant(session.created_at),
        "updated_at": format_instant(session.updated_at),
        "archived_at": optional_instant(session.archived_at),
    }
