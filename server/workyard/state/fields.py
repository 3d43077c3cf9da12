"""The storage format of a document's members, shared by `document.py`, which reads, and `stored.py`, which writes."""

from __future__ import annotations

#: Member of the document → field of a work item's hash.
STAMPS = {
    "acknowledged_at": "acked",
    "started_at": "started",
    "latest_heartbeat_at": "beat",
    "latest_heartbeat_ever_at": "ever",
    "stop_requested_at": "stop",
    "stopped_at": "stopped",
}

#: Letter in the caller of a stored event → member of the document.
CALLER = {"r": "request_id", "w": "worker_id", "a": "user_agent", "h": "helper", "c": "credential", "o": "operation"}
#: Prefix of the fields that count the ids derived from `id_seed`.
SEEDED = "seeded:"
