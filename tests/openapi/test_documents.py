"""The OpenAPI documents: generated, committed, served, complete, and readable without the network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.harness import Api, WorkyardServer

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "openapi"
SERVED = {"workyard": "/openapi.json", "control": "/_emulator/openapi.json"}
PAGES = {"/docs": "/openapi.json", "/_emulator/docs": "/_emulator/openapi.json"}
Json = dict[str, Any]

#: Operations that an empty body does not do for.
REQUIRED_BODIES = {
    "create_environment",
    "create_session",
    "send_events",
    "create_agent",
    "change_clock",
    "put_session_script",
    "put_script",
    "create_memory_store",
    "create_memory",
    "put_skill",
    "add_faults",
    "restore_state",
    "wait",
    "verify_journal",
}

#: What an instant looks like that a client writes.
RFC3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
JSON = "application/json"
#: Operation → the type of its answer, where that is not JSON.
MEDIA = {
    "stream_events": "text/event-stream",
    "follow_events": "text/event-stream",
    "download_skill_version": "application/zip",
}
#: Operations whose answer can also be had as text.
DRAWN = {"get_timeline"}

#: Operation, parameter → the keywords that its schema has to have.
PARAMETERS: dict[tuple[str, str], Json] = {
    ("list_environments", "limit"): {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ("list_environments", "include_archived"): {"type": "boolean", "default": False},
    ("list_work", "limit"): {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ("list_sessions", "limit"): {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ("list_sessions", "include_archived"): {"type": "boolean", "default": False},
    ("list_events", "limit"): {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ("list_events", "order"): {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    ("list_events", "created_at[gte]"): {"type": "string", "format": "date-time", "pattern": RFC3339},
    ("list_sessions", "order"): {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    ("list_sessions", "created_at[lt]"): {"type": "string", "format": "date-time", "pattern": RFC3339},
    ("list_sessions", "agent_version"): {"type": "integer"},
    ("list_sessions", "statuses"): {
        "type": "array",
        "items": {"type": "string", "enum": ["rescheduling", "running", "idle", "terminated"]},
        "default": [],
    },
    ("list_memory_stores", "limit"): {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    ("list_memories", "limit"): {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    ("list_memories", "view"): {"type": "string", "enum": ["basic", "full"], "default": "basic"},
    ("get_memory", "view"): {"type": "string", "enum": ["basic", "full"], "default": "full"},
    ("delete_environment", "force"): {"type": "boolean", "default": False},
    ("poll_work", "block_ms"): {"type": "integer", "minimum": 1, "maximum": 999},
    ("poll_work", "reclaim_older_than_ms"): {"type": "integer", "minimum": 1},
    ("poll_work", "Anthropic-Worker-ID"): {"type": "string", "maxLength": 256},
    ("heartbeat_work", "desired_ttl_seconds"): {"type": "integer"},
    ("heartbeat_work", "expected_last_heartbeat"): {"type": "string"},
}

STATES = ["queued", "starting", "active", "stopping", "stopped"]
INSTANT = {"type": "string", "format": "date-time"}
#: Path in the document's schemas → keywords that have to stand there.
SHAPES: dict[str, Json] = {
    "EnvironmentCreate.name": {"type": "string", "minLength": 1, "maxLength": 256},
    "EnvironmentCreate.description": {"type": "string", "maxLength": 1024},
    "EnvironmentCreate.scope": {"enum": ["organization", "account"]},
    "EnvironmentCreate.metadata": {"maxProperties": 16},
    "EnvironmentCreate.metadata.propertyNames": {"minLength": 1, "maxLength": 64},
    "EnvironmentCreate.metadata.additionalProperties": {"type": "string", "maxLength": 512},
    "EnvironmentUpdate.name": {"type": "string", "minLength": 1, "maxLength": 256},
    "EnvironmentUpdate.description": {"type": "string", "maxLength": 1024},
    "LimitedNetworkParams.allowed_hosts.items": {"type": "string", "maxLength": 253},
    "CloudConfigParams.type": {"const": "cloud"},
    "SelfHostedConfigParams.type": {"const": "self_hosted"},
    "UnrestrictedNetwork.type": {"const": "unrestricted"},
    "LimitedNetwork.type": {"const": "limited"},
    "Packages.type": {"const": "packages"},
    "Environment.type": {"const": "environment"},
    "Environment.scope": {"enum": ["organization", "account"]},
    "Environment.created_at": INSTANT,
    "Environment.archived_at": INSTANT,
    "EnvironmentDeleted.type": {"const": "environment_deleted"},
    "Work.type": {"const": "work"},
    "Work.state": {"enum": STATES},
    "Work.data": {"additionalProperties": False},
    "WorkData.type": {"const": "session"},
    "WorkHeartbeat.type": {"const": "work_heartbeat"},
    "WorkHeartbeat.state": {"enum": ["active", "stopping", "stopped"]},
    "WorkHeartbeat.ttl_seconds": {"minimum": 1, "maximum": 3600},
    "WorkQueueStats.type": {"const": "work_queue_stats"},
    "WorkQueueStats.depth": {"type": "integer", "minimum": 0},
    "HeartbeatState.state": {"enum": STATES},
    "HeartbeatState.lease_extended": {"const": False},
    "HeartbeatErrorDetails.error_code": {"const": "heartbeat_precondition_failed"},
    "HeartbeatErrorDetails.error_visibility": {"const": "user_facing"},
    "ErrorDetails.error_code": {"enum": ["invalid_config_type_change", "environment_archived", "invalid_metadata"]},
    "SessionCreate.metadata": {"maxProperties": 16},
    "SessionCreate.initial_events": {"type": "array", "maxItems": 50},
    "EventsSend.events": {"type": "array", "minItems": 1},
    "Session.type": {"const": "session"},
    "Session.status": {"enum": ["rescheduling", "running", "idle", "terminated"]},
    "SessionDeleted.type": {"const": "session_deleted"},
    "UserToolConfirmation.result": {"enum": ["allow", "deny"]},
    "Enqueue.count": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1},
    "SessionScript.source": {"enum": ["session", "metadata", "workspace", "server", "built_in"]},
    "ClockChange.mode": {"enum": ["real", "frozen", "auto"]},
    "ClockChange.advance_seconds": {"type": "number", "minimum": 0},
    "SettingsChange.default_ttl_seconds": {"minimum": 1, "maximum": 3600},
    "Health.engine": {"enum": ["embedded", "redis"]},
}

#: Bodies that a rule across fields decides about: operation, body → whether its schema takes it.
CROSSED = [
    ("create_environment", {"name": "a", "scope": "account"}, False),
    ("create_environment", {"name": "a", "scope": "account", "config": {"type": "cloud"}}, False),
    ("create_environment", {"name": "a", "scope": "account", "config": {"type": "self_hosted"}}, True),
    ("create_environment", {"name": "a", "scope": None, "config": None}, True),
    (
        "create_environment",
        {"name": "a", "config": {"type": "cloud", "networking": {"type": "limited"}, "packages": {"pip": ["b"]}}},
        False,
    ),
    (
        "create_environment",
        {"name": "a", "config": {"type": "cloud", "networking": None, "packages": {"pip": ["b"]}}},
        True,
    ),
    (
        "create_environment",
        {
            "name": "a",
            "config": {
                "type": "cloud",
                "networking": {"type": "limited", "allow_package_managers": True},
                "packages": {"pip": ["b"]},
            },
        },
        True,
    ),
    ("update_environment", {"metadata": {"": None, "k" * 65: "", "ok": "a"}}, True),
    ("update_environment", {"metadata": {"k" * 65: "a"}}, False),
    ("update_work", {"metadata": {"": None, "ok": ""}}, True),
    ("update_work", {"metadata": {"": ""}}, False),
    ("enqueue_work", {"count": 2, "session_id": "session_1"}, False),
    ("enqueue_work", {"count": 2, "session_id": None}, True),
    ("change_clock", {}, False),
    ("change_clock", {"mode": "real", "advance_seconds": 1}, False),
    ("change_clock", {"mode": "real", "at": "2031-05-06T12:00:00Z"}, False),
    ("change_clock", {"mode": "frozen", "at": "2031-05-06T12:00:00Z", "advance_seconds": None}, True),
]


def committed(name: str) -> Json:
    """Return a committed document."""
    document: Json = json.loads((ROOT / "openapi" / f"{name}.json").read_text())
    return document


def operations(*names: str) -> Iterator[tuple[Json, Json]]:
    """Yield every operation with its document."""
    for name in names or SERVED:
        document = committed(name)
        for item in document["paths"].values():
            for operation in item.values():
                yield document, operation


def named(operation_id: str) -> tuple[Json, Json]:
    """Return an operation and its document."""
    [found] = [each for each in operations() if each[1]["operationId"] == operation_id]
    return found


def resolved(document: Json, node: Json) -> Json:
    """Follow a reference; what stands beside it wins."""
    if "$ref" not in node:
        return node
    target: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**resolved(document, target), **node}


def schemas(document: Json, node: Any) -> Iterator[Json]:
    """Yield every object below a node, itself included."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from schemas(document, value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(document, value)


def script(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a copy of `scripts/openapi` as CI would."""
    return subprocess.run(
        [sys.executable, "-m", "tools.openapi", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        cwd=ROOT,
        **keywords,
    )


def test_the_committed_documents_are_what_the_code_makes() -> None:
    """`scripts/openapi --check` is content; if it is not, run `scripts/openapi` and commit."""
    done = script("--check")
    assert done.returncode == 0, done.stderr
    assert os.access(SCRIPT, os.X_OK)


def test_the_check_names_the_stale_document_and_a_run_mends_it(tmp_path: Path) -> None:
    """On a copy: one document changed, one missing."""
    folder = tmp_path / "openapi"
    folder.mkdir()
    (folder / "examples.json").write_text((ROOT / "openapi" / "examples.json").read_text())
    written = script("--folder", str(folder))
    assert written.returncode == 0, written.stderr
    for name in SERVED:
        text = (tmp_path / "openapi" / f"{name}.json").read_text()
        assert text == (ROOT / "openapi" / f"{name}.json").read_text()
        assert text.startswith('{\n  "openapi"')
        assert text.endswith("}\n")
    assert script("--check", "--folder", str(folder)).returncode == 0
    stale = tmp_path / "openapi" / "control.json"
    stale.write_text(stale.read_text().replace("reset", "preset"))
    checked = script("--check", "--folder", str(folder))
    assert checked.returncode == 1
    assert "openapi/control.json is stale" in checked.stderr
    assert "workyard.json" not in checked.stderr
    stale.unlink()
    assert script("--check", "--folder", str(folder)).returncode == 1
    assert not stale.exists()


@pytest.mark.parametrize("name", SERVED)
def test_the_server_serves_the_committed_document(server: WorkyardServer, name: str) -> None:
    """Byte for byte the same value, with the headers of every response; no credential is needed."""
    answer = httpx.get(server.url + SERVED[name])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "request-id" in answer.headers
    assert json.dumps(answer.json()) == json.dumps(committed(name))


@pytest.mark.parametrize("name", SERVED)
def test_a_document_is_valid_openapi_3_1(name: str) -> None:
    """By the meta schema, the rules it cannot state, and JSON Schema's own for each schema."""
    document = committed(name)
    assert document["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", SERVED)
def test_every_reference_leads_somewhere_and_every_component_is_used(name: str) -> None:
    """No schema, header or parameter is left over."""
    document = committed(name)
    used = {node["$ref"] for node in schemas(document, document) if isinstance(node.get("$ref"), str)}
    kept = {
        f"#/components/{kind}/{part}" for kind in ("schemas", "headers", "parameters", "examples")
        for part in document["components"][kind]
    }  # fmt: skip
    mapped = {target for node in schemas(document, document) for target in node.get("mapping", {}).values()}
    assert used | mapped == kept


@pytest.mark.parametrize("name", SERVED)
def test_a_document_says_what_it_is_where_it_is_served_and_what_its_tags_mean(name: str) -> None:
    """Title, version, licence, servers; each tag is used and described."""
    document = committed(name)
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["info"]["description"]
    assert [server["url"] for server in document["servers"]] == ["/", "http://127.0.0.1:4010"]
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert set(tags) == {tag for _, operation in operations(name) for tag in operation["tags"]}
    assert all(tags.values())
    assert all(scheme["description"] for scheme in document["components"]["securitySchemes"].values())


def test_every_operation_has_a_short_name_a_summary_a_text_and_one_tag() -> None:
    """No name stands twice, in one document or in both."""
    names = [operation["operationId"] for _, operation in operations()]
    assert len(names) == len(set(names))
    for _, operation in operations():
        assert operation["summary"]
        assert operation["description"].endswith((".", "`"))
        assert len(operation["tags"]) == 1


@pytest.mark.parametrize("operation_id", [operation["operationId"] for _, operation in operations()])
def test_every_answer_of_an_operation_is_described(operation_id: str) -> None:
    """Status, text, headers, and the envelope with the type of the status; 412 with its details."""
    document, operation = named(operation_id)
    assert {"200", "503"} <= set(operation["responses"])
    types = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
             409: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error", 503: "api_error"}  # fmt: skip
    for code, response in operation["responses"].items():
        status = int(code)
        assert response["description"].endswith(".")
        headers = {"request-id"} | ({"workyard-rule"} if status >= 400 else set())
        headers |= {"x-should-retry"} if 400 <= status < 500 and status != 429 else set()
        assert set(response["headers"]) == headers | ({"retry-after"} if status in (429, 503) else set())
        for header in response["headers"].values():
            described = resolved(document, header)
            assert described["required"]
            assert described["description"]
        if status == 200 and operation_id in DRAWN:
            assert response["content"].pop("text/plain")["schema"]["type"] == "string"
        [(media, content)] = response["content"].items()
        assert media == (MEDIA.get(operation_id, JSON) if status == 200 else JSON)
        if status >= 400:
            error = {"type": types.get(status, "invalid_request_error"), "message": "why"}
            envelope = {"type": "error", "error": error, "request_id": "req_01" + "a" * 22}
            validator = Draft202012Validator({**document, **content["schema"]})
            assert validator.is_valid(envelope) is (status != 412)
            assert not validator.is_valid({**envelope, "error": {**error, "type": "overloaded_error"}})
            assert not validator.is_valid({**envelope, "error": {**error, "details": None}})


def test_every_parameter_and_body_is_described() -> None:
    """In words and by a schema; nothing of the query may be null."""
    for document, operation in operations():
        for reference in operation["parameters"]:
            parameter = resolved(document, reference)
            assert parameter["description"], (operation["operationId"], parameter)
            assert parameter["schema"]["type"] in ("string", "integer", "boolean", "array")
            assert parameter["required"] if parameter["in"] == "path" else not parameter.get("required")
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = resolved(document, schema)
            assert body["type"] == "object"
            assert body["additionalProperties"] is False
            assert bool(operation["requestBody"].get("required")) is (operation["operationId"] in REQUIRED_BODIES)


@pytest.mark.parametrize(("operation_id", "parameter"), PARAMETERS)
def test_a_parameter_has_the_bounds_of_the_contract(operation_id: str, parameter: str) -> None:
    """Exactly those."""
    _, operation = named(operation_id)
    [found] = [each for each in operation["parameters"] if each.get("name") == parameter]
    assert {key: value for key, value in found["schema"].items() if key != "examples"} == PARAMETERS[
        operation_id, parameter
    ]


def test_the_headers_of_the_sdks_are_parameters_of_every_operation_of_the_api() -> None:
    """Accepted, never required; the control plane does not know them."""
    for document, operation in operations("workyard"):
        names = [resolved(document, each)["name"] for each in operation["parameters"]]
        assert names[-3:] == ["anthropic-version", "anthropic-beta", "anthropic-workspace-id"]


@pytest.mark.parametrize("name", SERVED)
def test_every_property_is_described_and_every_object_is_closed(name: str) -> None:
    """Each has a text of its own or that of the shape it refers to; only maps take further keys."""
    document = committed(name)
    for title, schema in document["components"]["schemas"].items():
        assert schema["description"], title
        if "allOf" in schema and "properties" not in schema:
            continue
        assert schema["additionalProperties"] is False, title
        for member, described in schema["properties"].items():
            assert resolved(document, described).get("description"), (title, member)


@pytest.mark.parametrize("path", SHAPES)
def test_a_property_has_the_enum_and_bounds_of_the_contract(path: str) -> None:
    """A member that may be null has them beside null."""
    title, member, *keywords = path.split(".")
    [document, *_] = [each for each in map(committed, SERVED) if title in each["components"]["schemas"]]
    found = resolved(document, document["components"]["schemas"][title]["properties"][member])
    for each in found.get("anyOf", []):
        if each != {"type": "null"}:
            found = {**found, **each}
    for keyword in keywords:
        found = found[keyword]
    assert {key: found.get(key) for key in SHAPES[path]} == SHAPES[path]


@pytest.mark.parametrize(
    "title",
    [
        "Environment",
        "Work",
        "WorkQueueStats",
        "WorkHeartbeat",
        "EnvironmentPage",
        "Session",
        "Agent",
        "EventPage",
        "Error",
    ],
)
def test_every_member_of_an_answer_is_required_and_examples_are_not_made_up_by_a_tool(title: str) -> None:
    """All members are always present; no title repeats a name."""
    shape = committed("workyard")["components"]["schemas"][title]
    assert set(shape["required"]) == set(shape["properties"])
    assert "title" not in shape
    assert all("title" not in each for each in shape["properties"].values())


@pytest.mark.parametrize(("operation_id", "body", "good"), CROSSED)
def test_the_schema_of_a_body_knows_the_rules_across_fields(
    api: Api, operation_id: str, body: Json, good: bool
) -> None:
    """And the server judges the same way."""
    document, operation = named(operation_id)
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert Draft202012Validator({**document, **schema}).is_valid(body) is good
    queue = api.queue()
    [item] = api.enqueue(queue)
    paths = {
        "create_environment": "/v1/environments",
        "update_environment": f"/v1/environments/{queue}",
        "update_work": api.path(queue, item["id"]),
        "enqueue_work": f"/_emulator/environments/{queue}/work",
        "change_clock": "/_emulator/clock",
    }
    assert api.post(paths[operation_id], json=body).status_code == (200 if good else 400)


#: Answers that no run can be brought to at will: two exports at once, a session caught while it runs, bytes.
NOT_SHOWN = {("export_state", "409"), ("restore_state", "409"), ("download_skill_version", "200")}


@pytest.mark.parametrize("name", SERVED)
def test_every_answer_has_an_example_of_its_schema(name: str) -> None:
    """From a real run, for each status of each operation; nothing in it is by chance but in form."""
    missing = set()
    for document, operation in operations(name):
        for status, response in operation["responses"].items():
            for content in response["content"].values():
                examples = [resolved(document, each)["value"] for each in content.get("examples", {}).values()]
                # A limit of the settings takes thousands of calls to reach.
                if not examples and not response["description"].startswith(
                    ("A limit of the server", "Too many callers")
                ):
                    missing.add((operation["operationId"], status))
                for example in examples:
                    problems = [*Draft202012Validator({**document, **content["schema"]}).iter_errors(example)]
                    assert problems == [], (operation["operationId"], status)
                    assert status == "200" or example["request_id"] == "req_011CZkZ9X2dpNyB7HsEFoRfW"
    assert missing <= NOT_SHOWN


@pytest.mark.parametrize("name", SERVED)
def test_every_example_of_a_body_keeps_its_schema(name: str) -> None:
    """The examples that the documents give."""
    for document, operation in operations(name):
        if "requestBody" not in operation:
            continue
        reference = operation["requestBody"]["content"]["application/json"]["schema"]
        for example in resolved(document, reference).get("examples", []):
            assert Draft202012Validator({**document, **reference}).is_valid(example), example


def test_every_link_names_an_operation_and_its_parameters() -> None:
    """Calls that go on from an answer."""
    links = 0
    for _, operation in operations():
        for link in operation["responses"]["200"].get("links", {}).values():
            document, target = named(link["operationId"])
            assert set(link["parameters"]) <= {
                resolved(document, parameter)["name"] for parameter in target["parameters"]
            }
            links += 1
    assert links == 33


@pytest.mark.parametrize("page", PAGES)
def test_a_page_works_without_the_network(server: WorkyardServer, page: str) -> None:
    """It names no other host, its assets are here and name none that a browser would load, and it shows its document."""
    answer = httpx.get(server.url + page)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"(?i)https?:|[\"'(]//", answer.text)
    assert f"url: '{PAGES[page]}'" in answer.text
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", answer.text)
    assert len(assets) == 3
    for asset in assets:
        found = httpx.get(server.url + asset)
        assert found.status_code == 200, asset
        assert found.content
        kind = {"js": "text/javascript", "css": "text/css", "png": "image/png"}[asset.rpartition(".")[2]]
        assert found.headers["content-type"].startswith(kind)
        if kind == "text/css":
            assert not re.search(r"(?i)url\(\s*[\"']?(?:https?:)?//|@import", found.text)


def test_an_unknown_asset_is_a_404_in_the_envelope(api: Api) -> None:
    """Only the three files are served, whatever the path."""
    for name in ("nothing.js", "..%2Fapp.py", "%00", "redoc.standalone.js"):
        answer = api.get(f"/_emulator/assets/{name}")
        assert answer.status_code == 404
        assert answer.json()["error"] == {"type": "not_found_error", "message": "Not found"}
