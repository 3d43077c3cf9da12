"""The states of a work item and the constants of the state machine. The transitions are the scripts. Rules: `work.*`.

| event            | from                | script          |
|------------------|---------------------|-----------------|
| enqueue, message | –, stopped          | `enqueue.lua`   |
| poll, reclaim    | queued              | `poll.lua`      |
| ack              | queued              | `ack.lua`       |
| heartbeat        | starting, active    | `heartbeat.lua` |
| stop             | any                 | `stop.lua`      |
| lapse            | under lease         | `_queue.lua`, at the start of every script |
| delete           | any                 | `delete.lua`    |
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The states of a work item."""

    QUEUED = "queued"
    """Waits to be polled, or was polled and not acknowledged."""
    STARTING = "starting"
    """Acknowledged; the startup lease runs."""
    ACTIVE = "active"
    """Claimed by a heartbeat; its lease runs."""
    STOPPING = "stopping"
    """A graceful stop was asked; the lease runs on."""
    STOPPED = "stopped"
    """Ended; a message to its session re-enqueues it."""


DEFAULT_TTL_S = 300
SHORTEST_TTL_S = 1
LONGEST_TTL_S = 3600
#: The TTL in an answer if none was applied. Rule: `work.heartbeat.ended-ttl`.
UNAPPLIED_TTL_S = 120
STARTUP_LEASE_S = 120
RECLAIM_MS = 5000
LONGEST_BLOCK_MS = 999
NO_HEARTBEAT = "NO_HEARTBEAT"
