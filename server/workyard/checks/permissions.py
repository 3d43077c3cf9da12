"""Which credential may call which route: the lanes of mode `strict`, and the headers that `require_headers` asks for. Owns
the table and what follows from it and the request alone; whether a credential is good, the step itself finds out.

Rule: `credentials.strict.lane`; for what workers call, docs/evidence/sdk-clients.md#credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

from workyard_store.access import Caller
from workyard_store.errors import (
    EnvironmentNotTheTokens,
    HeaderMissing,
    LaneClosed,
    ScopeMissing,
    TokenUnknown,
    WorkerCredentialNeeded,
    WorkyardError,
)
from workyard_store.ids import canonical_session_id, work_id


@dataclass(frozen=True, slots=True)
class Lane:
    """Who may call an operation: for each kind of credential None, or what refuses it."""

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

#: Operation → its lane. A route of the emulated API has to be here.
LANES: dict[str, Lane] = {
    "environments.create": _USERS,
    "environments.list": _USERS,
    "environments.get": _USERS,
    "environments.update": _USERS,
    "environments.delete": _USERS,
    "environments.archive": _USERS,
    "poll": _POLLERS,
    "list": _POLLERS,
    "ack": _WORKERS,
    "heartbeat": _WORKERS,
    "get": _USERS_BY_SCOPE,
    "update": _USERS_BY_SCOPE,
    "stop": _ALL,
    "stats": _USERS_AND_POLLERS,
    "sessions.create": _USERS,
    "sessions.list": _USERS,
    "sessions.get": _ALL,
    "sessions.update": _USERS,
    "sessions.delete": _USERS,
    "sessions.archive": _USERS,
    "sessions.events.send": _ALL,
    "sessions.events.list": _ALL,
    "sessions.events.stream": _ALL,
    "agents.create": _USERS,
    "agents.get": _USERS,
    "skills.list": _USERS,
    "skills.get": _USERS,
    "skills.delete": _USERS,
    "skills.versions.list": _ALL,
    "skills.versions.get": _ALL,
    "skills.versions.download": _ALL,
    "memory_stores.create": _USERS,
    "memory_stores.list": _USERS,
    "memory_stores.get": _USERS,
    "memory_stores.update": _USERS,
    "memory_stores.delete": _USERS,
    "memory_stores.archive": _USERS,
    "memory_stores.memories.create": _USERS_AND_ITEMS,
    "memory_stores.memories.list": _USERS_AND_ITEMS,
    "memory_stores.memories.get": _USERS_AND_ITEMS,
    "memory_stores.memories.update": _USERS_AND_ITEMS,
    "memory_stores.memories.delete": _USERS_AND_ITEMS,
}

_BETA = "managed-agents-2026-04-01"
_MEMORY_BETA = "agent-memory-2026-07-22"
#: The first word of an operation → the beta values of which one has to be there; the first is the one that is asked for.
#: Skills are in no beta: the SDKs send none.
_BETAS = {"skills": (), "memory_stores": (_MEMORY_BETA, _BETA)}


def check(operation: str, caller: Caller, named: Mapping[str, str]) -> None:
    """Check the lane of a caller's credential, then whether what the path names is the credential's own.

    Args:
        operation: what is called.
        caller: who calls, with a token.
        named: the parameters of the path.

    Raises:
        TokenUnknown: the token cannot be one of this server's, though it has their form.
        LaneClosed, ScopeMissing: the route takes no credential of this kind.
        EnvironmentNotTheTokens: the path names another environment, item or session than the token does.
    """
    lane = LANES[operation]
    if not caller.is_issued:
        if lane.api_key is not None:
            raise lane.api_key()
        return
    if caller.is_malformed:
        caller.unjudged = False
        raise TokenUnknown
    refusal = lane.environment_key if caller.work_id is None else lane.sessions_token
    if refusal is not None:
        raise refusal()
    environment = str(caller.environment_id)
    rule = None if caller.work_id is None else "credentials.strict.other-item"
    if named.get("environment_id", environment) != environment:
        raise EnvironmentNotTheTokens(rule=rule)
    if caller.work_id is not None:
        item = named.get("work_id", caller.work_id)
        if "session_id" in named:
            session = canonical_session_id(named["session_id"])
            item = "" if session is None else work_id(environment, session)
        if item != caller.work_id:
            raise EnvironmentNotTheTokens(rule=rule)


def check_events(caller: Caller, events: Sequence[Mapping[str, Any]]) -> None:
    """Check that a user sends no result of a tool that a worker runs, in mode `strict`: in the others no one can tell a
    worker's made-up key from an API key.

    Raises:
        WorkerCredentialNeeded: an event is one.
    """
    if caller.strict and not caller.is_issued:
        for place, event in enumerate(events):
            if event["type"] == "user.tool_result":
                raise WorkerCredentialNeeded(place)


def check_headers(operation: str, headers: Headers) -> None:
    """Check that a request says which version of the API it means, and that it knows of the beta.

    Raises:
        HeaderMissing: it does not.
    """
    if not headers.get("anthropic-version", "").strip():
        raise HeaderMissing("anthropic-version: header is required")
    betas = _BETAS.get(operation.partition(".")[0], (_BETA,))
    given = {value.strip() for line in headers.getlist("anthropic-beta") for value in line.split(",")}
    if betas and given.isdisjoint(betas):
        text = f"this API is in beta: add `{betas[0]}` to the `anthropic-beta` header"
        raise HeaderMissing(text, rule="credentials.headers.beta")
