"""Permissions: the lanes of mode `strict`, and the headers that `require_headers` demands. Decides only from the table of
operations (`wire/operations.py`) and the request; the call's own script checks whether a credential is valid.

Rule: `credentials.strict.lane`; for what workers call, docs/evidence/sdk-clients.md#credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers

from workyard_store.access import Caller
from workyard_store.errors import (
    EnvironmentNotTheTokens,
    HeaderMissing,
    TokenUnknown,
    WorkerCredentialNeeded,
)
from workyard_store.ids import canonical_session_id, work_id

from ..wire.operations import BY_NAME


def check(operation: str, caller: Caller, named: Mapping[str, str]) -> None:
    """Check the lane of a caller's credential, then whether the credential covers the resource that the path names.

    Args:
        operation: the operation.
        caller: the caller, who has a token.
        named: the parameters of the path.

    Raises:
        TokenUnknown: the token has the form of this server's tokens, but this server cannot have issued it.
        LaneClosed, ScopeMissing: the route takes no credential of this kind.
        EnvironmentNotTheTokens: the path names another environment, item or session than the token does.
    """
    lane = BY_NAME[operation].lane
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
    """Check in mode `strict` that a user sends no result of a tool that a worker runs. The other modes cannot distinguish a
    worker's made-up key from an API key.

    Raises:
        WorkerCredentialNeeded: an event is such a result.
    """
    if caller.strict and not caller.is_issued:
        for place, event in enumerate(events):
            if event["type"] == "user.tool_result":
                raise WorkerCredentialNeeded(place)


def check_headers(operation: str, headers: Headers) -> None:
    """Check that a request has the headers for the version of the API and for the beta.

    Raises:
        HeaderMissing: a header is missing.
    """
    if not headers.get("anthropic-version", "").strip():
        raise HeaderMissing("anthropic-version: header is required")
    betas = BY_NAME[operation].betas
    sent = {value.strip() for line in headers.getlist("anthropic-beta") for value in line.split(",")}
    if betas and sent.isdisjoint(betas):
        text = f"this API is in beta: add `{betas[0]}` to the `anthropic-beta` header"
        raise HeaderMissing(text, rule="credentials.headers.beta")
