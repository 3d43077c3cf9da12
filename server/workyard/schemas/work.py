"""Wire shapes of work items. Rules: `work.object.*`."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from workyard_queue.work.work_queue import HeartbeatAnswer, QueueStats, WorkItem
from workyard_store.clock import format_instant
from workyard_store.metadata import MOST_METADATA_KEYS

from .common import (
    ENVIRONMENT_ID,
    REQUEST_ID,
    SESSION_ID,
    WORK_ID,
    Body,
    Metadata,
    NextPage,
    Shape,
    Timestamp,
    metadata_patch_schema,
    optional_instant,
)

#: Metadata of an item that is handed out: the trace in which it was enqueued.
TRACEPARENT = "workyard_traceparent"
StateName = Literal["queued", "starting", "active", "stopping", "stopped"]
Instant = Timestamp | None
MetadataPatch = Annotated[dict[str, str | None], WithJsonSchema(metadata_patch_schema(None))]


class WorkStop(Body):
    """Request to stop an item."""

    force: bool = Field(False, description="Stop it immediately instead of asking its worker to stop.")


class WorkUpdate(Body):
    """Request to patch an item's metadata."""

    metadata: MetadataPatch | None = Field(
        None,
        description="Patch: a string sets a key, null deletes it, omitted keys stay. At most 16 keys in the result.",
    )
    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"attempt": "2", "obsolete": None}}]})


class WorkData(Shape):
    """The task of a work item."""

    type: Literal["session"] = Field(description="Always `session`.")
    id: str = Field(
        description="The session to run, `session_…`.",
        pattern=SESSION_ID,
        examples=["session_011CZkZ9X2dpNyB7HsEFoRfW"],
    )


class Work(Shape):
    """A work item: a session to be run by a worker."""

    id: str = Field(description="Identifier, `work_…`.", pattern=WORK_ID, examples=["work_011CZkZ9X2dpNyB7HsEFoRfW"])
    type: Literal["work"] = Field(description="Always `work`.")
    environment_id: str = Field(
        description="The environment whose queue it belongs to.",
        pattern=ENVIRONMENT_ID,
        examples=["env_011CZkZ9X2dpNyB7HsEFoRfW"],
    )
    data: WorkData = Field(description="The task.")
    state: StateName = Field(description="Its state.")
    metadata: Metadata = Field(description="Custom key-value pairs.")
    secret: str | None = Field(
        description="Set only in the response to a poll, null elsewhere: unpadded base64url of JSON with "
        "`sessions_token`."
    )
    created_at: Timestamp = Field(description="When it was created.")
    acknowledged_at: Instant = Field(description="When a worker acknowledged it; null before that, and after a lapse.")
    started_at: Instant = Field(description="When the first heartbeat claimed it.")
    latest_heartbeat_at: Instant = Field(description="The heartbeat that holds the lease.")
    stop_requested_at: Instant = Field(description="When a stop was first requested.")
    stopped_at: Instant = Field(description="When it ended.")


class WorkPage(Shape):
    """A page of work items, newest first."""

    data: list[Work] = Field(description="The rows of this page.")
    next_page: NextPage


class WorkHeartbeat(Shape):
    """The result of a heartbeat."""

    type: Literal["work_heartbeat"] = Field(description="Always `work_heartbeat`.")
    last_heartbeat: Timestamp | Literal[""] = Field(
        description="The heartbeat that is now stored, to be sent as the expected value of the next one; empty if "
        "there never was one."
    )
    lease_extended: bool = Field(description="Whether the lease was claimed or extended.")
    state: Literal["active", "stopping", "stopped"] = Field(
        description="`active`, or `stopping` or `stopped` if the worker should end."
    )
    ttl_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(description="Length of the lease in seconds.")


class WorkQueueStats(Shape):
    """The queue's figures at one instant."""

    type: Literal["work_queue_stats"] = Field(description="Always `work_queue_stats`.")
    depth: int = Field(ge=0, description="Queued items that were not polled since they entered the queue.")
    pending: int = Field(ge=0, description="Items that were polled and not acknowledged.")
    oldest_queued_at: Instant = Field(
        description="When the oldest queued item entered the queue; null if none is queued."
    )
    workers_polling: Annotated[int, Field(ge=0)] | None = Field(
        description="Workers (by `Anthropic-Worker-ID`) that polled in the last 30 seconds; null for a cloud environment."
    )


class HeartbeatState(Shape):
    """The current lease, for a worker that lost it."""

    state: StateName = Field(description="The item's state.")
    last_heartbeat: Instant = Field(description="The stored heartbeat; null if there is none.")
    lease_extended: Literal[False] = Field(description="Always false.")
    ttl_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        description="The TTL last applied since the item entered the queue, or 120."
    )


class HeartbeatErrorDetails(Shape):
    """Why the precondition failed."""

    current_state: HeartbeatState = Field(description="The current lease.")
    error_visibility: Literal["user_facing"] = Field(description="Always `user_facing`.")
    error_code: Literal["heartbeat_precondition_failed"] = Field(description="Always `heartbeat_precondition_failed`.")


class HeartbeatErrorBody(Shape):
    """The error, with the current lease."""

    type: Literal["invalid_request_error"] = Field(description="The error type.")
    message: str = Field(description="The expected and the stored value, as a human-readable message.")
    details: HeartbeatErrorDetails = Field(description="Why the precondition failed.")


class HeartbeatError(Shape):
    """The caller does not hold the lease."""

    type: Literal["error"] = Field(description="Always `error`.")
    error: HeartbeatErrorBody = Field(description="The error, with the current lease.")
    request_id: str = Field(description="Equal to the response header `request-id`.", pattern=REQUEST_ID)


def _secret(token: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"sessions_token": token}).encode()).decode().rstrip("=")


def render_work(item: WorkItem) -> dict[str, Any]:
    """Render a work item; its secret and its trace only if it was just handed out."""
    metadata = item.metadata
    if item.sessions_token is not None and item.traceparent is not None and len(metadata) < MOST_METADATA_KEYS:
        metadata = {**metadata, TRACEPARENT: item.traceparent}
    return {
        "id": item.id,
        "type": "work",
        "environment_id": item.environment_id,
        "data": {"type": "session", "id": item.session_id},
        "state": item.state,
        "metadata": metadata,
        "secret": None if item.sessions_token is None else _secret(item.sessions_token),
        "created_at": format_instant(item.created_at),
        "acknowledged_at": optional_instant(item.acknowledged_at),
        "started_at": optional_instant(item.started_at),
        "latest_heartbeat_at": optional_instant(item.latest_heartbeat_at),
        "stop_requested_at": optional_instant(item.stop_requested_at),
        "stopped_at": optional_instant(item.stopped_at),
    }


def render_heartbeat(answer: HeartbeatAnswer) -> dict[str, Any]:
    """Render what a heartbeat achieved."""
    return {
        "type": "work_heartbeat",
        "last_heartbeat": answer.last_heartbeat,
        "lease_extended": answer.lease_extended,
        "state": answer.state,
        "ttl_seconds": answer.ttl_seconds,
    }


def render_stats(stats: QueueStats) -> dict[str, Any]:
    """Render the queue's figures."""
    return {
        "type": "work_queue_stats",
        "depth": stats.depth,
        "pending": stats.pending,
        "oldest_queued_at": optional_instant(stats.oldest_queued_at),
        "workers_polling": stats.workers_polling,
    }
