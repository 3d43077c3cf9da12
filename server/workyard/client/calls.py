"""The calls that the command line and the test helpers send, each written once. Function and operation have one name.

A function returns the request; the caller sends it and reads the answer. Owns paths, queries and bodies; imports no model, so that
commands start fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .connection import Request

#: Extra seconds that the answer to a wait may take after the end of the wait.
_SPARE_S = 10.0


def environment_path(environment_id: str, rest: str = "", *, below: str = "/v1") -> str:
    """Return the path of an environment, or of something in it."""
    return f"{below}/environments/{_part(environment_id)}{rest}"


def _part(text: str) -> str:
    return quote(text, safe="")


# -- server ---------------------------------------------------------------------------------------------------


def health(within_s: float) -> Request:
    """Ask whether the server answers."""
    return Request("GET", "/_emulator/health", within_s=within_s)


# -- environments and work ------------------------------------------------------------------------------------


def create_environment(name: str, metadata: Mapping[str, str] | None = None) -> Request:
    """Create a self-hosted environment."""
    body = {"name": name, "config": {"type": "self_hosted"}, "metadata": dict(metadata or {})}
    return Request("POST", "/v1/environments", body)


def issue_key(environment_id: str, name: str) -> Request:
    """Issue a key for the workers of an environment."""
    return Request("POST", environment_path(environment_id, "/keys", below="/_emulator"), {"name": name})


def enqueue_work(
    environment_id: str,
    count: int = 1,
    session_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Request:
    """Enqueue work items in an environment."""
    body = {
        "count": count,
        "session_id": session_id,
        "metadata": None if metadata is None else dict(metadata),
        "idempotency_key": idempotency_key,
    }
    return Request("POST", environment_path(environment_id, "/work", below="/_emulator"), body)


def list_work(environment_id: str, *, limit: int, page: str | None, token: str | None = None) -> Request:
    """List the work items of an environment, a page of them."""
    return Request("GET", environment_path(environment_id, "/work"), query={"limit": limit, "page": page}, token=token)


def get_work_stats(environment_id: str) -> Request:
    """Read the figures of an environment's queue."""
    return Request("GET", environment_path(environment_id, "/work/stats"))


# -- the workspace --------------------------------------------------------------------------------------------


def get_settings() -> Request:
    """Read the settings of the workspace."""
    return Request("GET", "/_emulator/settings")


def change_settings(changes: Mapping[str, int | None]) -> Request:
    """Change settings of the workspace; None returns one to its default."""
    return Request("POST", "/_emulator/settings", dict(changes))


def reset(workspace: str | None = None) -> Request:
    """Remove everything of the workspace."""
    return Request("POST", "/_emulator/reset", query={"workspace": workspace})


def recount(workspace: str | None = None) -> Request:
    """Recount the queues of the workspace."""
    return Request("GET", "/_emulator/invariants", query={"workspace": workspace})


# -- clock ----------------------------------------------------------------------------------------------------


def get_clock(workspace: str | None = None) -> Request:
    """Read the clock of the workspace, with its pending timers."""
    return Request("GET", "/_emulator/clock", query={"workspace": workspace})


def change_clock(**change: object) -> Request:
    """Change the clock of the workspace."""
    return Request("POST", "/_emulator/clock", change)


# -- scripts of agents ----------------------------------------------------------------------------------------


def get_session_script(session_id: str) -> Request:
    """Read the script of a session, with the report on it."""
    return Request("GET", f"/_emulator/sessions/{_part(session_id)}/script")


def put_session_script(session_id: str, script: str | Mapping[str, Any]) -> Request:
    """Give a session a script: YAML, or a mapping."""
    return Request("PUT", f"/_emulator/sessions/{_part(session_id)}/script", _document(script))


def put_script(name: str, script: str | Mapping[str, Any]) -> Request:
    """Keep a script in the workspace under a name: YAML, or a mapping."""
    return Request("PUT", f"/_emulator/scripts/{_part(name)}", _document(script))


def _document(value: str | Mapping[str, Any]) -> str | dict[str, Any]:
    return value if isinstance(value, str) else dict(value)


# -- faults ---------------------------------------------------------------------------------------------------


def add_faults(body: str | Mapping[str, Any], *, replace: bool = False) -> Request:
    """Add fault rules: a rule, several, or the name of a ready scenario, as YAML or as a mapping."""
    return Request("POST", "/_emulator/faults", _document(body), query={"replace": replace or None})


def list_faults() -> Request:
    """List the fault rules of the workspace."""
    return Request("GET", "/_emulator/faults")


def clear_faults() -> Request:
    """Remove all fault rules of the workspace."""
    return Request("DELETE", "/_emulator/faults")


def delete_fault(fault_id: str) -> Request:
    """Remove one fault rule."""
    return Request("DELETE", f"/_emulator/faults/{_part(fault_id)}")


# -- timeline -------------------------------------------------------------------------------------------------


def get_timeline(work_id: str, *, as_text: bool = False, within_s: float = 30.0) -> Request:
    """Read the timeline of a work item, as text for people if asked for."""
    path = f"/_emulator/work/{_part(work_id)}/timeline"
    return Request("GET", path, query={"format": "text" if as_text else None}, within_s=within_s, as_text=as_text)


def wait(until: Mapping[str, Any], timeout_seconds: float) -> Request:
    """Wait until work or queues are as described."""
    body = {"until": dict(until), "timeout_seconds": timeout_seconds}
    return Request("POST", "/_emulator/wait", body, within_s=timeout_seconds + _SPARE_S)


def show_queues(workspace: str | None = None, *, within_s: float = 30.0) -> Request:
    """Read the figures of all queues of the workspace, and their last events."""
    return Request("GET", "/_emulator/queues", query={"workspace": workspace}, within_s=within_s)


# -- journal --------------------------------------------------------------------------------------------------


def list_journal(filters: Mapping[str, Any]) -> Request:
    """List requests of the journal, the newest last."""
    return Request("GET", "/_emulator/journal", query=filters)


def count_journal(filters: Mapping[str, Any]) -> Request:
    """Count requests of the journal."""
    return Request("GET", "/_emulator/journal/count", query=filters)


def verify_journal(expect: Sequence[Mapping[str, Any]], *, in_order: bool) -> Request:
    """Check the requests of the journal against expectations."""
    body = {"expect": [dict(each) for each in expect], "in_order": in_order}
    return Request("POST", "/_emulator/journal/verify", body)


# -- state ----------------------------------------------------------------------------------------------------


def export_state() -> Request:
    """Read all that the workspace holds, as one document."""
    return Request("GET", "/_emulator/state")


def restore_state(document: Mapping[str, Any]) -> Request:
    """Replace all that the workspace holds by that of a document."""
    return Request("PUT", "/_emulator/state", dict(document))


# -- skills and memory stores ---------------------------------------------------------------------------------


def put_skill(name: str, files: Mapping[str, Any]) -> Request:
    """Store a skill; *name* is its name or its id."""
    return Request("PUT", f"/_emulator/skills/{_part(name)}", {"files": dict(files)})


def list_memory_stores(page: str | None) -> Request:
    """List memory stores, a page of them."""
    return Request("GET", "/v1/memory_stores", query={"limit": 100, "page": page})


def create_memory_store(name: str) -> Request:
    """Create a memory store."""
    return Request("POST", "/v1/memory_stores", {"name": name})


def list_memories(store_id: str, page: str | None) -> Request:
    """List the memories of a store with their content, a page of them."""
    return Request("GET", _memories(store_id), query={"limit": 100, "view": "full", "page": page})


def create_memory(store_id: str, path: str, content: str) -> Request:
    """Create a memory."""
    return Request("POST", _memories(store_id), {"path": path, "content": content})


def update_memory(store_id: str, memory_id: str, content: str) -> Request:
    """Change the content of a memory."""
    return Request("POST", f"{_memories(store_id)}/{_part(memory_id)}", {"content": content})


def delete_memory(store_id: str, memory_id: str) -> Request:
    """Delete a memory."""
    return Request("DELETE", f"{_memories(store_id)}/{_part(memory_id)}")


def _memories(store_id: str) -> str:
    return f"/v1/memory_stores/{_part(store_id)}/memories"
