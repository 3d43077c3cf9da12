"""The names of the API's operations: what faults, the journal and timelines call a request. Owns no route.

The calls of the work queue have one word each; the others are `<resource>.<verb>` as in the SDKs.
"""

from __future__ import annotations

#: Route function → operation.
OPERATIONS = {
    "poll_work": "poll",
    "ack_work": "ack",
    "heartbeat_work": "heartbeat",
    "stop_work": "stop",
    "get_work": "get",
    "list_work": "list",
    "update_work": "update",
    "get_work_stats": "stats",
    "create_environment": "environments.create",
    "list_environments": "environments.list",
    "get_environment": "environments.get",
    "update_environment": "environments.update",
    "delete_environment": "environments.delete",
    "archive_environment": "environments.archive",
    "create_session": "sessions.create",
    "list_sessions": "sessions.list",
    "get_session": "sessions.get",
    "update_session": "sessions.update",
    "delete_session": "sessions.delete",
    "archive_session": "sessions.archive",
    "send_events": "sessions.events.send",
    "list_events": "sessions.events.list",
    "stream_events": "sessions.events.stream",
    "create_agent": "agents.create",
    "get_agent": "agents.get",
    "list_skills": "skills.list",
    "get_skill": "skills.get",
    "delete_skill": "skills.delete",
    "list_skill_versions": "skills.versions.list",
    "get_skill_version": "skills.versions.get",
    "download_skill_version": "skills.versions.download",
    "create_memory_store": "memory_stores.create",
    "list_memory_stores": "memory_stores.list",
    "get_memory_store": "memory_stores.get",
    "update_memory_store": "memory_stores.update",
    "delete_memory_store": "memory_stores.delete",
    "archive_memory_store": "memory_stores.archive",
    "create_memory": "memory_stores.memories.create",
    "list_memories": "memory_stores.memories.list",
    "get_memory": "memory_stores.memories.get",
    "update_memory": "memory_stores.memories.update",
    "delete_memory": "memory_stores.memories.delete",
}


def operation_of(route: str) -> str:
    """Return the operation of a route's function; one of the control plane is `control.<function>`."""
    return OPERATIONS.get(route, f"control.{route}")
