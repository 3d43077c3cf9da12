"""The model's records: environments, work items, and the rules of metadata and configurations.

Rules: `environments.*`.

Owns no call; those are `model.py`. Imports nothing from the product. Instants are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
PACKAGE_MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
#: An agent that was never created, and the definition of every such agent.
AGENT = "agent_of_the_model"
DEFAULT_AGENT: Json = {
    "type": "agent",
    "name": "agent",
    "description": None,
    "model": {"id": "emulated", "effort": {"type": "high"}, "inference_geo": None, "speed": "standard"},
    "system": None,
    "tools": [
        {
            "type": "agent_toolset_20260401",
            "configs": [],
            "default_config": {"enabled": True, "permission_policy": {"type": "always_allow"}},
        }
    ],
    "mcp_servers": [],
    "skills": [],
    "multiagent": None,
    "execution_identity": {"type": "service_account"},
    "version": 1,
}
_LIMITED = {"allow_mcp_servers": False, "allow_package_managers": False, "allowed_hosts": []}


def rendered(us: int | None) -> str | None:
    """Write an instant as the API does."""
    if us is None:
        return None
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def instant(text: str) -> int:
    """Read an instant of the API."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


class Refused(Exception):
    """A call was refused and changed nothing."""

    def __init__(self, status: int, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        kind = "not_found_error" if status == 404 else "invalid_request_error"
        self.status = status
        self.error = {"type": kind, "message": message} | ({} if details is None else {"details": details})


@dataclass
class Item:
    """A work item."""

    id: str
    environment: str
    session: str
    sequence: int
    created_at: int
    metadata: dict[str, str]
    state: str = "queued"
    acknowledged_at: int | None = None
    started_at: int | None = None
    beat: int | None = None
    stop_requested_at: int | None = None
    stopped_at: int | None = None
    #: Place of its entry in the stream, the entry's date, and when that was last handed out.
    entry: int = 0
    queued_at: int = 0
    handed_out_at: int | None = None
    #: It lapsed or was re-enqueued before.
    again: bool = False
    #: Its session was deleted.
    gone: bool = False
    #: The session got a message that no acknowledgement has seen.
    message: bool = False
    lease_end: int | None = None
    #: All ends its leases ever had.
    lease_ends: list[int] = field(default_factory=list)
    ttl: int | None = None
    #: Its heartbeats in all its lives.
    beats: list[int] = field(default_factory=list)

    def shown(self, secret: str | None = None) -> Json:
        """Return the object on the wire."""
        return {
            "id": self.id,
            "type": "work",
            "environment_id": self.environment,
            "data": {"type": "session", "id": self.session},
            "state": self.state,
            "metadata": dict(self.metadata),
            "secret": secret,
            "created_at": rendered(self.created_at),
            "acknowledged_at": rendered(self.acknowledged_at),
            "started_at": rendered(self.started_at),
            "latest_heartbeat_at": rendered(self.beat),
            "stop_requested_at": rendered(self.stop_requested_at),
            "stopped_at": rendered(self.stopped_at),
        }


@dataclass
class Session:
    """A session whose agent makes one call per turn, which is never answered: only an interrupt ends a turn."""

    id: str
    environment: str
    sequence: int
    created_at: int
    updated_at: int
    #: The control plane enqueued its work.
    stub: bool = False
    archived_at: int | None = None
    #: Messages whose turn has not ended.
    unserved: int = 0

    def shown(self, now: int) -> Json:
        """Return the object on the wire."""
        end = now if self.archived_at is None else self.archived_at
        no_tokens = dict.fromkeys(("cache_read_input_tokens", "input_tokens", "output_tokens"), 0)
        cached = dict.fromkeys(("ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"), 0)
        return {
            "id": self.id,
            "type": "session",
            "agent": {"id": "agent_workyard" if self.stub else AGENT, **DEFAULT_AGENT},
            "environment_id": self.environment,
            "status": "idle" if self.archived_at is None else "terminated",
            "title": None,
            "metadata": {},
            "resources": [],
            "vault_ids": [],
            "outcome_evaluations": [],
            "budget": None,
            "deployment_id": None,
            "stats": {"active_seconds": 0.0, "duration_seconds": (end - self.created_at) / SECOND},
            "usage": {"active_seconds": 0.0, "cache_creation": cached, **no_tokens},
            "created_at": rendered(self.created_at),
            "updated_at": rendered(self.updated_at),
            "archived_at": rendered(self.archived_at),
        }


@dataclass
class Environment:
    """An environment and its queue."""

    id: str
    sequence: int
    created_at: int
    updated_at: int
    name: str
    description: str
    config: Json
    metadata: dict[str, str]
    scope: str
    archived_at: int | None = None
    items: dict[str, Item] = field(default_factory=dict)
    entries: int = 0
    #: Idempotency key → the request it stands for; (key, number) → the session made up for it.
    requests: dict[str, Any] = field(default_factory=dict)
    made_up: dict[tuple[str, int], str] = field(default_factory=dict)
    #: Worker → its last poll.
    workers: dict[str, int] = field(default_factory=dict)

    @property
    def is_cloud(self) -> bool:
        return bool(self.config["type"] == "cloud")

    def item_of(self, session: str) -> Item | None:
        return next((item for item in self.items.values() if item.session == session), None)

    def queue(self) -> list[Item]:
        """Return the queued items in stream order."""
        return sorted((item for item in self.items.values() if item.state == "queued"), key=lambda item: item.entry)

    def shown(self) -> Json:
        """Return the object on the wire."""
        return {
            "id": self.id,
            "type": "environment",
            "name": self.name,
            "description": self.description,
            "config": self.config,
            "metadata": dict(self.metadata),
            "scope": self.scope,
            "created_at": rendered(self.created_at),
            "updated_at": rendered(self.updated_at),
            "archived_at": rendered(self.archived_at),
        }


def patched(
    stored: dict[str, str], patch: Mapping[str, str | None], deleting: tuple[str | None, ...]
) -> dict[str, str]:
    kept = {key: value for key, value in stored.items() if key not in patch}
    return kept | {key: value for key, value in patch.items() if value is not None and value not in deleting}


def capped(metadata: dict[str, str]) -> dict[str, str]:
    problems = [f"too many keys ({len(metadata)} > 16)"] if len(metadata) > 16 else []
    for key, value in metadata.items():
        problems += ["key must not be empty"] if not key else []
        problems += [f"key '{key}' is longer than 64 characters"] if len(key) > 64 else []
        problems += [f"value of '{key}' is longer than 512 characters"] if len(value) > 512 else []
    if problems:
        raise Refused(400, "metadata: " + "; ".join(problems), {"error_code": "invalid_metadata"})
    return dict(metadata)


def merged(stored: Json | None, patch: Json | None) -> Json:
    """Return the configuration after an update (of nothing: after a creation); what is omitted or null keeps."""
    if patch is None:
        assert stored is not None
        return stored
    names = {"cloud": "Cloud", "self_hosted": "BYOC"}
    if stored is not None and stored["type"] != patch["type"]:
        message = f"Cannot change environment type from {names[stored['type']]} to {names[patch['type']]}"
        raise Refused(400, message, {"error_code": "invalid_config_type_change"})
    if patch["type"] == "self_hosted":
        return {"type": "self_hosted"}
    before = stored or {"networking": {"type": "unrestricted"}, "packages": {name: [] for name in PACKAGE_MANAGERS}}
    given = {name: value for name, value in (patch.get("packages") or {}).items() if value is not None}
    networking = patch.get("networking") or before["networking"]
    if networking["type"] == "limited":
        base = before["networking"] if before["networking"]["type"] == "limited" else _LIMITED
        networking = {"type": "limited"} | {
            name: base[name] if networking.get(name) is None else networking[name] for name in _LIMITED
        }
    return {"type": "cloud", "networking": networking, "packages": {**before["packages"], **given, "type": "packages"}}


def check(config: Json, scope: str) -> None:
    if config["type"] == "cloud":
        problems = []
        networking = config["networking"]
        closed = networking["type"] == "limited" and not networking["allow_package_managers"]
        if closed and any(config["packages"][name] for name in PACKAGE_MANAGERS):
            problems.append(
                "config.packages: Packages under limited networking require networking.allow_package_managers to be true"
            )
        if scope == "account":
            problems.append("scope: 'account' is only available for self-hosted environments")
        if problems:
            raise Refused(400, "; ".join(problems))
