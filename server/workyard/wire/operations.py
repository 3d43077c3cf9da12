"""The single table of the API's operations, one row each, for the checks, the fault rules and the journal.

An operation of the work queue has a name of one word; the others are `<resource>.<verb>` as in the SDKs. Only the
decorator of the route function has the path and the method.

Lanes: rule `credentials.strict.lane`; for what workers call, docs/evidence/sdk-clients.md#credentials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workyard_store.errors import LaneClosed, ScopeMissing, WorkyardError


@dataclass(frozen=True, slots=True)
class Lane:
    """Which credentials may call an operation in mode `strict`: for each kind None, or the error that refuses it."""

    api_key: Callable[[], WorkyardError] | None = None
    environment_key: Callable[[], WorkyardError] | None = None
    sessions_token: Callable[[], WorkyardError] | None = None


_USERS = Lane(environment_key=LaneClosed, sessions_token=LaneClosed)
_USERS_BY_SCOPE = Lane(environment_key=ScopeMissing, sessions_token=ScopeMissing)
_POLLERS = Lane(api_key=LaneClosed, sessions_token=LaneClosed)
_WORKERS = Lane(api_key=LaneClosed)
_USERS_AND_POLLERS = Lane(sessions_token=LaneClosed)
#: The SDK's worker: "the memory endpoints reject the environment key".
_USERS_AND_ITEMS = Lane(environment_key=LaneClosed)
_ALL = Lane()

#: Accepted values of the header `anthropic-beta`, any one of which will do. The error message suggests the first.
_BETA = ("managed-agents-2026-04-01",)
_MEMORY_BETA = ("agent-memory-2026-07-22", *_BETA)
#: Skills belong to no beta: the SDKs send no beta header.
_NO_BETA = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the emulated API.

    Attributes:
        route: name of the route function, which is the operation id in the OpenAPI document.
        name: its name in fault rules, the journal and timelines.
        lane: which credentials may call it.
        betas: accepted values of the header `anthropic-beta`; empty if it needs none.
        on_item: whether its path names a work item, so that a fault rule can act on that item.
    """

    route: str
    name: str
    lane: Lane
    betas: tuple[str, ...] = _BETA
    on_item: bool = False

    @property
    def is_list(self) -> bool:
        """Tell whether it answers with a page of a list."""
        return self.name.rpartition(".")[2] == "list"


TABLE = (
    Operation("poll_work", "poll", _POLLERS),
    Operation("ack_work", "ack", _WORKERS, on_item=True),
    Operation("heartbeat_work", "heartbeat", _WORKERS, on_item=True),
    Operation("stop_work", "stop", _ALL, on_item=True),
    Operation("get_work", "get", _USERS_BY_SCOPE, on_item=True),
    Operation("list_work", "list", _POLLERS),
    Operation("update_work", "update", _USERS_BY_SCOPE, on_item=True),
    Operation("get_work_stats", "stats", _USERS_AND_POLLERS),
    Operation("create_environment", "environments.create", _USERS),
    Operation("list_environments", "environments.list", _USERS),
    Operation("get_environment", "environments.get", _USERS),
    Operation("update_environment", "environments.update", _USERS),
    Operation("delete_environment", "environments.delete", _USERS),
    Operation("archive_environment", "environments.archive", _USERS),
    Operation("create_session", "sessions.create", _USERS),
    Operation("list_sessions", "sessions.list", _USERS),
    Operation("get_session", "sessions.get", _ALL),
    Operation("update_session", "sessions.update", _USERS),
    Operation("delete_session", "sessions.delete", _USERS),
    Operation("archive_session", "sessions.archive", _USERS),
    Operation("send_events", "sessions.events.send", _ALL),
    Operation("list_events", "sessions.events.list", _ALL),
    Operation("stream_events", "sessions.events.stream", _ALL),
    Operation("create_agent", "agents.create", _USERS),
    Operation("get_agent", "agents.get", _USERS),
    Operation("list_skills", "skills.list", _USERS, betas=_NO_BETA),
    Operation("get_skill", "skills.get", _USERS, betas=_NO_BETA),
    Operation("delete_skill", "skills.delete", _USERS, betas=_NO_BETA),
    Operation("list_skill_versions", "skills.versions.list", _ALL, betas=_NO_BETA),
    Operation("get_skill_version", "skills.versions.get", _ALL, betas=_NO_BETA),
    Operation("download_skill_version", "skills.versions.download", _ALL, betas=_NO_BETA),
    Operation("create_memory_store", "memory_stores.create", _USERS, betas=_MEMORY_BETA),
    Operation("list_memory_stores", "memory_stores.list", _USERS, betas=_MEMORY_BETA),
    Operation("get_memory_store", "memory_stores.get", _USERS, betas=_MEMORY_BETA),
    Operation("update_memory_store", "memory_stores.update", _USERS, betas=_MEMORY_BETA),
    Operation("delete_memory_store", "memory_stores.delete", _USERS, betas=_MEMORY_BETA),
    Operation("archive_memory_store", "memory_stores.archive", _USERS, betas=_MEMORY_BETA),
    Operation("create_memory", "memory_stores.memories.create", _USERS_AND_ITEMS, betas=_MEMORY_BETA),
    Operation("list_memories", "memory_stores.memories.list", _USERS_AND_ITEMS, betas=_MEMORY_BETA),
    Operation("get_memory", "memory_stores.memories.get", _USERS_AND_ITEMS, betas=_MEMORY_BETA),
    Operation("update_memory", "memory_stores.memories.update", _USERS_AND_ITEMS, betas=_MEMORY_BETA),
    Operation("delete_memory", "memory_stores.memories.delete", _USERS_AND_ITEMS, betas=_MEMORY_BETA),
)

#: Route function → name of the operation.
OPERATIONS = {row.route: row.name for row in TABLE}
#: Name → row.
BY_NAME = {row.name: row for row in TABLE}
#: Name → lane.
LANES = {row.name: row.lane for row in TABLE}
#: Names of several operations: all of them, those of the work queue, and those below a resource.
GROUPS = (
    "any",
    "work",
    *sorted({row.name[:n] for row in TABLE for n, sign in enumerate(row.name) if sign == "."}),
)


def operation_of(route: str) -> str:
    """Return the name of a route function's operation; one of the control plane is `control.<function>`."""
    return OPERATIONS.get(route, f"control.{route}")


def is_in_group(name: str, group: str) -> bool:
    """Return whether the operation *name* belongs to the group *group*, or is the operation of that name."""
    return group in ("any", name) or name.startswith(group + ".") or (group == "work" and "." not in name)
