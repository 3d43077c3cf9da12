"""Sessions in tests: create one, send it events, read its events and its work item."""

from __future__ import annotations

from typing import Any

from tests.support.harness import Api

MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
#: An agent that was never created.
ABSENT_AGENT = "agent_011CZkZ9X2dpNyB7HsEFoRfW"


def session(api: Api, environment: str, **fields: Any) -> dict[str, Any]:
    """Create a session."""
    body = {"agent": ABSENT_AGENT, "environment_id": environment, **fields}
    made: dict[str, Any] = api.ok(api.post("/v1/sessions", json=body))
    return made


def events(api: Api, session_id: str, **query: Any) -> list[dict[str, Any]]:
    """List a session's events."""
    rows: list[dict[str, Any]] = api.ok(api.get(f"/v1/sessions/{session_id}/events", params={"limit": 1000, **query}))[
        "data"
    ]
    return rows


def types(api: Api, session_id: str) -> list[str]:
    """List the types of a session's events."""
    return [event["type"] for event in events(api, session_id)]


def send(api: Api, session_id: str, *sent: dict[str, Any]) -> list[dict[str, Any]]:
    """Send events to a session."""
    done = api.ok(api.post(f"/v1/sessions/{session_id}/events", json={"events": list(sent)}))
    rows: list[dict[str, Any]] = done["data"]
    return rows


def item(api: Api, environment: str, session_id: str) -> dict[str, Any]:
    """Return the work item of a session."""
    rows = api.ok(api.get(api.path(environment), params={"limit": 1000}))["data"]
    [found] = [row for row in rows if row["data"]["id"] == session_id]
    row: dict[str, Any] = found
    return row
