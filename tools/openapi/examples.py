"""Examples for the OpenAPI documents from a real run: the server in this process, its clock standing, its ids seeded.

What is by chance all the same (request ids, durations) is put in by hand, so that a run gives what the run before gave.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from workyard.app import create_app
from workyard.settings import Settings
from workyard_store.clock import parse_instant

Document = dict[str, Any]
#: Operation → status → media type → what was answered; and `request` → `path` with its query, and `body` if it has one: what
#: was answered with 200.
Examples = dict[str, dict[str, dict[str, Any]]]

_NOON = "2026-09-16T12:00:00.000000Z"
_SUFFIX = "011CZkZ9X2dpNyB7HsEFoRfW"
_KEY = "examples"
_HEADERS = {"user-agent": "example", "anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
#: The id in a path without a resource.
_NOBODY = {
    "environment_id": f"env_{_SUFFIX}", "work_id": f"work_{_SUFFIX}", "session_id": f"session_{_SUFFIX}",
    "agent_id": f"agent_{_SUFFIX}", "skill_id": f"skill_{_SUFFIX}", "version": "1759178010641129",
    "memory_store_id": f"memstore_{_SUFFIX}", "memory_id": f"mem_{_SUFFIX}", "key_id": f"envkey_{_SUFFIX}",
    "fault_id": "fault_99", "skill": "greeting",
}  # fmt: skip
#: A query that each operation refuses which has such a parameter.
_BAD_QUERY = {
    "limit": "0", "block_ms": "1000", "desired_ttl_seconds": "long", "force": "perhaps", "view": "half",
    "expected_content_sha256": "0", "format": "drawn", "search": "a" * 257, "seconds": "-1", "status": "99x", "on": "everything",
}  # fmt: skip
#: Member → what it is given in place of what a run happens to take.
_BY_CHANCE = {"duration_ms": 1.25, "waited_ms": 0}
#: Bodies for operations that would refuse the body before they look for what the path names.
_BODIES: dict[str, object] = {
    "create_memory": {"path": "/a.md", "content": ""},
    "send_events": {"events": [{"type": "user.interrupt"}]},
    "wait": {"until": {"work_id": f"work_{_SUFFIX}", "state": "stopped"}},
}
_LARGE = b'{"name": "' + b"a" * 1_048_577 + b'"}'


def examples(*documents: Document) -> Examples:
    """Return the answers of a run of every operation of the documents."""
    return asyncio.run(_run(documents))


async def _run(documents: tuple[Document, ...]) -> Examples:
    found: Examples = {}
    async with _server(Settings()) as http:
        run = _Run(http, documents, found)
        for part in (_prepare, _environments, _work, _sessions, _resources, _control, _refusals):
            await part(run)
    async with _server(Settings(auth="strict", require_headers=True)) as http:
        await _lanes(_Run(http, documents, found))
    return found


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run a server in this process whose wall clock stands; yield a client of it."""
    now = parse_instant(_NOON)
    assert now is not None
    app = create_app(settings, wall=lambda: now)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4010", headers=_HEADERS)
        )


class _Run:
    """The calls of a run. The first answer of an operation with a status is its example.

    Attributes:
        found: the examples.
        operations: operation → method, path, document, description.
    """

    def __init__(self, http: httpx.AsyncClient, documents: tuple[Document, ...], found: Examples) -> None:
        self._http = http
        self.found = found
        self.operations: dict[str, tuple[str, str, Document, Document]] = {
            operation["operationId"]: (method, path, document, operation)
            for document in documents
            for path, item in document["paths"].items()
            for method, operation in item.items()
        }

    async def __call__(
        self,
        operation: str,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        *,
        key: str | None = _KEY,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        shown: bool = True,
        **path: Any,
    ) -> Any:
        """Call an operation and return what it answers; without a body where its schema has an example, that is sent.

        *shown*: whether it may become an example.
        """
        method, template, document, described = self.operations[operation]
        if body is None and content is None:
            body = _example_of_body(document, described)
        answer = await self._http.request(
            method.upper(),
            template.format(**path),
            params=query,
            headers={**({} if key is None else {"x-api-key": key}), **(headers or {})},
            content=content,
            json=body if content is None else None,
        )
        kind = answer.headers["content-type"].partition(";")[0]
        if shown:
            if answer.status_code == 200 and "request" not in self.found.setdefault(operation, {}):
                sent = {"path": answer.request.url.raw_path.decode()} | ({} if body is None else {"body": body})
                self.found[operation]["request"] = _settled(sent)
            kinds = self.found.setdefault(operation, {}).setdefault(str(answer.status_code), {})
            if kind == "application/json":
                kinds.setdefault(kind, _settled(answer.json()))
            elif kind == "text/event-stream":
                kinds.setdefault(kind, _settled(_event(answer.text)))
            elif kind.startswith("text/"):
                kinds.setdefault(kind, answer.text)
        return answer.json() if kind == "application/json" else None

    async def until(self, session: str, type_: str) -> None:
        """Wait until a session has an event of a type; what an agent does, it does after the answer."""
        for _ in range(500):
            if (await self("list_events", shown=False, query={"types": type_}, session_id=session))["data"]:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no {type_}")


def _example_of_body(document: Document, operation: Document) -> object:
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: list[object] = schema.get("examples", [])
    return found[0] if found else None


def _settled(value: Any) -> Any:
    """Return an answer without its random parts."""
    text = re.sub(r"\breq_01\w{22}", f"req_{_SUFFIX}", json.dumps(value, ensure_ascii=False))
    return _fixed(json.loads(re.sub(r"\b1\d{12}-\d+\b", "1789560000000-0", text)))


def _fixed(value: Any) -> Any:
    if isinstance(value, list):
        return [_fixed(each) for each in value]
    if not isinstance(value, dict):
        return value
    # The journal tells wall time.
    chance = _BY_CHANCE | ({"at": _NOON} if "user_agent" in value else {})
    return {name: chance.get(name, _fixed(each)) for name, each in value.items()}


def _event(stream: str) -> dict[str, str]:
    """Return the first event of a stream that is not a sign of life, or that; in the form of its schema."""
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in stream.strip().split("\n\n")]
    return next((event for event in events if event["event"] != "ping"), events[0])


# -- the calls ------------------------------------------------------------------------------------------------


async def _prepare(run: _Run) -> None:
    await run("get_settings")
    await run("change_settings", {"id_seed": 42})
    await run("change_clock", {"mode": "frozen", "at": _NOON})
    # An agent that takes every message and answers nothing.
    await run("put_script", {"steps": ["idle"], "repeat": True}, name="default")


async def _environments(run: _Run) -> None:
    made = await run("create_environment")
    other = await run("create_environment", {"name": "spare"})
    await run("list_environments", query={"limit": 1})
    await run("get_environment", environment_id=made["id"])
    await run("update_environment", environment_id=made["id"])
    await run("archive_environment", environment_id=other["id"])
    await run("update_environment", environment_id=other["id"])
    await run("poll_work", query={}, environment_id=other["id"])
    await run("enqueue_work", {}, environment_id=made["id"])
    await run("delete_environment", environment_id=made["id"])
    await run("delete_environment", environment_id=other["id"])


async def _queue(run: _Run) -> str:
    made = await run("create_environment", {"name": "worker-queue", "config": {"type": "self_hosted"}})
    return str(made["id"])


async def _work(run: _Run) -> None:
    queue = await _queue(run)
    await run("enqueue_work", {"count": 2, "metadata": {"suite": "smoke"}}, environment_id=queue)
    item = await run("poll_work", environment_id=queue)
    place: dict[str, Any] = {"environment_id": queue, "work_id": item["id"]}
    await run("get_work_stats", environment_id=queue)
    await run("heartbeat_work", query={"expected_last_heartbeat": "NO_HEARTBEAT"}, **place)
    await run("ack_work", **place)
    await run("ack_work", **place)
    await run("heartbeat_work", query={"expected_last_heartbeat": "NO_HEARTBEAT"}, **place)
    await run("get_work", **place)
    await run("update_work", **place)
    await run("list_work", query={"limit": 1}, environment_id=queue)
    await run("stop_work", {"force": True}, **place)
    await run("get_timeline", work_id=item["id"])
    await run("get_timeline", query={"format": "text"}, work_id=item["id"])
    await run("wait", {"until": {"work_id": item["id"], "state": "stopped"}})
    await run("wait", {"until": {"idle": True}, "timeout_seconds": 0.01})
    await run("show_queues")
    key = await run("issue_key", environment_id=queue)
    await run("list_keys", environment_id=queue)
    await run("revoke_key", environment_id=queue, key_id=key["id"])


async def _sessions(run: _Run) -> None:
    queue = await _queue(run)
    agent = await run("create_agent", {"name": "helper", "model": "claude-sonnet-4-5"})
    await run("get_agent", agent_id=agent["id"])
    session = (await run("create_session", {"agent": agent["id"], "environment_id": queue}))["id"]
    await run("update_session", session_id=session)
    await run("get_session", session_id=session)
    await run("list_sessions", query={"limit": 1})
    await run("get_session_script", session_id=session)
    await run("put_session_script", session_id=session)
    message = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
    await run("send_events", {"events": [message]}, session_id=session)
    await run.until(session, "session.status_running")
    await run.until(session, "session.status_idle")
    await run("list_events", session_id=session)
    await run("archive_session", session_id=session)
    await run("stream_events", session_id=session)
    await run("update_session", session_id=session)
    await run("send_events", {"events": [message]}, session_id=session)
    await run("put_script", {"steps": [{"use_tool": {"name": "bash"}}]}, name="default")
    made = {"agent": agent["id"], "environment_id": queue, "initial_events": [message]}
    busy = (await run("create_session", made))["id"]
    await run.until(busy, "agent.tool_use")
    await run("put_session_script", session_id=busy)
    await run("archive_session", session_id=busy)
    await run("delete_session", session_id=busy)
    await run("delete_session", session_id=session)


async def _resources(run: _Run) -> None:
    skill = await run("put_skill", skill="skill_greeting")
    version: dict[str, Any] = {"skill_id": skill["id"], "version": skill["latest_version_id"]}
    await run("list_skills")
    await run("get_skill", skill_id=skill["id"])
    await run("list_skill_versions", skill_id=skill["id"])
    await run("get_skill_version", **version)
    await run("download_skill_version", **version)
    await run("delete_skill", skill_id=skill["id"])
    store = (await run("create_memory_store"))["id"]
    await run("list_memory_stores")
    await run("get_memory_store", memory_store_id=store)
    await run("update_memory_store", {"description": "What users like."}, memory_store_id=store)
    note = {"path": "/colours.md", "content": "Blue."}
    memory = (await run("create_memory", note, memory_store_id=store))["id"]
    await run("create_memory", note, memory_store_id=store)
    await run("list_memories", memory_store_id=store)
    place: dict[str, Any] = {"memory_store_id": store, "memory_id": memory}
    await run("get_memory", **place)
    await run("update_memory", {"content": "Green."}, **place)
    stale = {"content": "Red.", "precondition": {"type": "content_sha256", "content_sha256": "0" * 64}}
    await run("update_memory", stale, **place)
    await run("delete_memory", query={"expected_content_sha256": "0" * 64}, **place)
    await run("delete_memory", **place)
    await run("archive_memory_store", memory_store_id=store)
    await run("delete_memory_store", memory_store_id=store)


async def _control(run: _Run) -> None:
    await run("health")
    await run("get_clock")
    await run("list_scripts")
    await run("get_script", name="default")
    await run("delete_script", name="default")
    await run("list_rules", query={"search": "conventions.trailing-slash"})
    await run("get_rule", rule_id="conventions.trailing-slash")
    await run("list_scenarios")
    await run("get_scenario", name="lost-ack")
    rules = (await run("add_faults"))["data"]
    await run("list_faults")
    await run("delete_fault", fault_id=rules[0]["id"])
    await run("clear_faults")
    await run("list_journal", query={"limit": 1, "on": "ack"})
    await run("count_journal", query={"on": "ack"})
    await run("verify_journal", {"expect": [{"on": "ack", "status": 200, "at_least": 1}]})
    await run("clear_journal")
    await run("recount")
    await run("follow_events", query={"since": "0", "seconds": 0})
    document = await run("export_state")
    await run("reset")
    await run("restore_state", document)
    await run("restore_state", document)
    await run("reset")


async def _refusals(run: _Run) -> None:
    """Call each operation in the ways that most of them refuse."""
    await run("add_faults", {"rules": [{"on": "environments.list", "do": {"status": 503}}]})
    await run("list_environments")
    for name, (_, path, _, operation) in run.operations.items():
        place: dict[str, Any] = {each: _NOBODY.get(each, "nothing") for each in re.findall(r"{(\w+)}", path)}
        statuses = operation["responses"]
        query = [each["name"] for each in operation["parameters"] if each.get("in") == "query"]
        if "404" in statuses:
            await run(name, _BODIES.get(name), **(place | {"agent_id": "nobody"} if name == "get_agent" else place))
        if "401" in statuses:
            await run(name, key=None, **place)
        if "413" in statuses:
            await run(name, content=_LARGE, **place)
        if "400" in statuses:
            bad = next((each for each in query if each in _BAD_QUERY), None)
            if bad is not None:
                await run(name, query={bad: _BAD_QUERY[bad]}, **place)
            if "requestBody" in operation:
                await run(name, {"nonsense": True}, **place)
            if path.startswith("/_emulator") and name != "follow_events":
                await run(name, key=None, **place)


async def _lanes(run: _Run) -> None:
    """Call each operation with a credential that is another's, and without the header that every request must have."""
    await run("change_settings", {"id_seed": 42}, shown=False)
    queue = (await run("create_environment", {"name": "a", "config": {"type": "self_hosted"}}, shown=False))["id"]
    key = (await run("issue_key", environment_id=queue, shown=False))["key"]
    await run("create_session", {"agent": _NOBODY["agent_id"], "environment_id": queue}, shown=False)
    secret = (await run("poll_work", key=key, environment_id=queue, shown=False))["secret"]
    token = json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"]
    for name, (_, path, _, operation) in run.operations.items():
        place: dict[str, Any] = {each: _NOBODY.get(each, "nothing") for each in re.findall(r"{(\w+)}", path)}
        if "403" in operation["responses"]:
            await run(name, _BODIES.get(name), key=token if "session_id" in place else key, **place)
        if "400" in operation["responses"] and path.startswith("/v1"):
            lane = {"key": key, "environment_id": queue} if name == "ack_work" else {}
            await run(name, headers={"anthropic-version": ""}, **(place | lane))


# -- into the documents ---------------------------------------------------------------------------------------

#: Refusals that are the same wherever they are: status → name, and the operation whose answer is shown.
_SHARED = {
    "401": ("NoCredential", "get_environment"),
    "413": ("TooLarge", "create_environment"),
    "503": ("StorageUnavailable", "list_environments"),
}


def illustrate(document: Document, found: Examples) -> None:
    """Put examples into a document: each answer of a run at its status, those that are the same everywhere once."""
    shared: dict[str, Any] = {}
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                name, source = _SHARED.get(status, ("", ""))
                own = found.get(operation["operationId"], {}).get(status, {})
                common = found[source][status] if source else {}
                for kind, content in response["content"].items():
                    if kind in common and own.get(kind, common[kind]) == common[kind]:
                        shared[name] = {"value": common[kind]}
                        content["examples"] = {"answered": {"$ref": f"#/components/examples/{name}"}}
                    elif kind in own:
                        content["examples"] = {"answered": {"value": own[kind]}}
    document["components"]["examples"] = shared
