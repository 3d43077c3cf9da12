"""Hooks for the Schemathesis runs: resources to work with, and rules that no JSON Schema can state.

Runs inside the `schemathesis` process, see `test_openapi_schemathesis.py`. `ACCEPTED` is the one list of exceptions;
each is one message of one operation, and everything else of every check holds.
"""

from __future__ import annotations

import atexit
import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import AuthScenario, IgnoredAuth, RejectedPositiveData

_ENV, _WORK = "/v1/environments/{environment_id}", "/v1/environments/{environment_id}/work"
WAIT, FOLLOW = "POST /_emulator/wait", "GET /_emulator/events"
ENQUEUE = "POST /_emulator/environments/{environment_id}/work"
_SESSION = "/v1/sessions/{session_id}"
STREAM = f"GET {_SESSION}/events/stream"
_SKILL = "/v1/skills/{skill_id}"
_STORE = "/v1/memory_stores/{memory_store_id}"
_MEMORIES = f"{_STORE}/memories"
_BATCH = 500
_CURSOR = "page: Invalid cursor"
_FRACTION = r"\w+: Input should be a valid integer"
_NESTED_FRACTION = r"[\w.]+: Input should be a valid integer"
_STRICT = "JSON Schema takes 3.0 for an integer, the rule `conventions.strict-types` does not"

_STEPS = "what a step is, the schema of scripts says: openapi/script.schema.json"
_SECTIONS = "what is in a section, the schema of states says: openapi/state.schema.json"
_SEALED = "a cursor carries a seal; only the server can make one"
_PATH = "characters and normal form of a path are beyond a pattern"

#: Requests that their schema allows and the server refuses: operation → status, message → why the schema cannot tell.
ACCEPTED: dict[str, dict[tuple[int, str], str]] = {
    "GET /v1/environments": {(400, _CURSOR): _SEALED},
    f"GET {_WORK}": {
        (400, _CURSOR): _SEALED,
        (400, r"Environment \w+ is archived\."): "depends on the kind and state of the stored environment",
    },
    f"GET {_WORK}/poll": {
        (400, r"Only BYOC and bridge .* is anthropic_cloud\."): "depends on the kind of the stored environment",
    },
    f"POST {_ENV}": {
        (400, r"Environment \w+ is archived and cannot be updated\."): "depends on the state of the stored environment",
        (400, r"Cannot change environment type from .*"): "depends on the kind of the stored environment",
        (400, r"metadata: too many keys .*"): "counts the keys of the result, not of the patch",
        (400, r"config\.packages: Packages under limited .*"): "judges the result, not the patch",
        (400, r"scope: 'account' is only available .*"): "judges the result, not the patch",
    },
    f"POST {_WORK}/{{work_id}}": {
        (400, r"metadata: too many keys .*"): "counts the keys of the result, not of the patch",
    },
    f"POST {_WORK}/{{work_id}}/heartbeat": {
        (412, "Heartbeat precondition failed: .*"): "compares with the stored heartbeat",
    },
    "GET /v1/sessions": {(400, _CURSOR): _SEALED},
    f"GET {_SESSION}/events": {(400, _CURSOR): _SEALED},
    "POST /v1/agents": {(400, _NESTED_FRACTION): _STRICT},
    "POST /v1/sessions": {
        (400, r"Environment \w+ is archived\."): "depends on the state of the stored environment",
        (400, r"resources\.\d+\.memory_store_id: Memory store .*"): "only a store that exists can be mounted",
        (400, _NESTED_FRACTION): _STRICT,
    },
    f"POST {_SESSION}": {
        (400, r"Session \w+ is (archived|terminated) and cannot be updated\."): "depends on the state of the session",
        (400, r"metadata: too many keys .*"): "counts the keys of the result, not of the patch",
    },
    f"POST {_SESSION}/events": {
        (400, r"Session \w+ is (archived|terminated) and takes no events\."): "depends on the state of the session",
        (400, r"events: system\.message must be .*"): "looks at the events before",
        (400, r"events: deny_message is only .*"): "looks at two members of one of several shapes",
        (400, r"events\.\d+: user\.tool_result is only .*"): "depends on the kind of the stored environment",
        (400, _NESTED_FRACTION): _STRICT,
    },
    "GET /v1/skills": {(400, _CURSOR): _SEALED},
    f"GET {_SKILL}/versions": {(400, _CURSOR): _SEALED},
    "GET /v1/memory_stores": {(400, _CURSOR): _SEALED},
    "POST /v1/memory_stores": {(400, r"A workspace has at most \d+ memory stores"): "depends on how many there are"},
    f"POST {_STORE}": {
        (400, r"Memory store \w+ is archived .*"): "depends on the state of the store",
        (400, r"metadata: too many keys .*"): "counts the keys of the result, not of the patch",
    },
    f"GET {_MEMORIES}": {(400, _CURSOR): _SEALED},
    f"POST {_MEMORIES}": {
        (400, "path: .*"): _PATH,
        (409, "path: .*"): "depends on the memories that are there",
        (400, r"Memory store \w+ is archived .*"): "depends on the state of the store",
    },
    f"POST {_MEMORIES}/{{memory_id}}": {
        (400, "path: .*"): _PATH,
        (409, "(path: |Memory ).*"): "depends on the memories that are there",
        (400, r"Memory store \w+ is archived .*"): "depends on the state of the store",
    },
    f"DELETE {_MEMORIES}/{{memory_id}}": {(409, "Memory .*"): "depends on the memory's content"},
    "POST /_emulator/faults": {
        (400, r"(rules|name|description|seed|Scenario)\b.*"): "what a rule is, the schema of scenarios says",
    },
    "PUT /_emulator/scripts/{name}": {(400, "(Script|steps).*"): _STEPS},
    "PUT /_emulator/sessions/{session_id}/script": {
        (400, "(Script|steps).*"): _STEPS,
        (409, r"Session \w+ is in the middle of a turn; .*"): "depends on the state of the session",
    },
    "PUT /_emulator/state": {
        (
            400,
            "(clock|settings|counters|faults|agents|scripts|skills|memory_stores|environments|workspace).*",
        ): _SECTIONS,
        (400, r"and \d+ more"): _SECTIONS,
    },
    "PUT /_emulator/skills/{skill}": {
        (400, "(files|skill|archive).*"): "what is in the files is beyond a schema",
        (413, "(files|archive).*"): "what is in the files is beyond a schema",
    },
    "POST /_emulator/clock": {
        (400, "at: Time never goes back: .*"): "depends on the clock",
        (400, r"(at|advance_seconds|advance_to_next): A clock stops at .*"): "depends on the clock",
    },
    ENQUEUE: {
        (400, "idempotency_key: Was used before for a different request"): "depends on the requests before",
        (400, _FRACTION): "JSON Schema takes 3.0 for an integer, the rule `conventions.strict-types` does not",
    },
    WAIT: {
        (409, "Timed out after .*"): "depends on what there is",
        (400, _NESTED_FRACTION): _STRICT,
    },
    "POST /_emulator/journal/verify": {
        (400, "workspace: Name one workspace: .*"): "the parameter takes `*` for other operations",
        (
            400,
            r"expect\.\d+\.status: Input should be a valid string",
        ): "says of 200.0 that it is neither number nor text",
        (400, _NESTED_FRACTION): "JSON Schema takes 3.0 for an integer, the rule `conventions.strict-types` does not",
    },
    "POST /_emulator/settings": {
        (400, _FRACTION): "JSON Schema takes 3.0 for an integer, the rule `conventions.strict-types` does not",
    },
}

#: Calls that only a worker makes.
_WORKERS = {f"GET {_WORK}", f"GET {_WORK}/poll", f"POST {_WORK}/{{work_id}}/ack", f"POST {_WORK}/{{work_id}}/heartbeat"}
#: Calls that name nothing which could be another workspace's; an agent that is not there stands for a default one.
_NAME_NOTHING = {
    f"{method} /v1/{name}" for name in ("environments", "sessions", "memory_stores", "agents", "skills")
    for method in ("GET", "POST")
} | {"GET /v1/agents/{agent_id}"}  # fmt: skip
#: The environments that the run has made, and their keys.
_environments: list[str] = []
_keys: dict[str, str] = {}
#: How often each operation gave each status; written to the file that `WORKYARD_SEEN` names.
_seen: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))


def accepted(operation: str, status: int, body: bytes) -> bool:
    """Return whether a refusal consists only of rules that `ACCEPTED` lists."""
    patterns = [pattern for (code, pattern) in ACCEPTED.get(operation, ()) if code == status]
    if not patterns:
        return False
    one = f"(?:{'|'.join(patterns)})"
    message = json.loads(body)["error"]["message"]
    return re.fullmatch(f"{one}(?:; {one})*", message, re.DOTALL) is not None


@schemathesis.auth(refresh_interval=None)
class Lane:
    """Gives each request a token that its route takes in mode `strict`: a worker's calls the key of their environment, all
    others the run's API key."""

    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        """Return the token for a request."""
        if case.operation.label not in _WORKERS:
            return os.environ["WORKYARD_KEY"]
        environment = str((case.path_parameters or {}).get("environment_id"))
        if environment not in _keys:
            # One that does not exist has no key of its own; that of another is as good as any.
            known = environment if environment in _environments else os.environ["WORKYARD_QUEUE"]
            answer = httpx.post(f"{os.environ['WORKYARD_URL']}/_emulator/environments/{known}/keys")
            if answer.status_code == 404:
                return _keys.get(os.environ["WORKYARD_QUEUE"], "sk-ant-oat01-gone")
            _keys[environment] = answer.raise_for_status().json()["key"]
        return _keys[environment]

    def set(self, case: schemathesis.Case[Any], data: str, context: schemathesis.AuthContext) -> None:
        """Put the token into a request."""
        case.headers["x-api-key"] = data


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case[Any], response: Response
) -> bool:
    """Drop a failure that `ACCEPTED` explains, or that shows that any value is an API key."""
    if isinstance(failure, IgnoredAuth):
        # Rule `credentials.value-decides`:
        # what was not issued is an API key, a workspace of its own, which meets 404 where the path names
        # something of another's. That it reads it would be a failure, and so is an answer to no token at all.
        elsewhere = failure.title.startswith("Unexpected response") or case.operation.label in _NAME_NOTHING
        return not (failure.scenario is AuthScenario.INVALID_AUTH and elsewhere)
    return not (
        isinstance(failure, RejectedPositiveData)
        and accepted(case.operation.label, response.status_code, response.content)
    )


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Enqueue one batch at most: thousands of items take the embedded engine seconds. The bound is tested elsewhere.
    And archive a session before its stream is read, which would not end otherwise; and have a skill to read, which only
    the control plane can put."""
    body = case.body if isinstance(case.body, dict) else {}
    if case.operation.label == "POST /v1/sessions" and _environments and isinstance(body.get("environment_id"), str):
        # Whatever text stands there is as good: only an environment that exists takes a session.
        case.body = {**body, "environment_id": _environments[-1]}
    session = (case.path_parameters or {}).get("session_id")
    if case.operation.label == STREAM and re.fullmatch(r"\w+", str(session), re.ASCII):
        url = httpx.URL(str(case.operation.base_url)).join(f"/v1/sessions/{session}/archive")
        httpx.post(url, headers={"x-api-key": os.environ["WORKYARD_KEY"]})
    parameters = case.path_parameters or {}
    if _SKILL in case.operation.label and re.fullmatch(r"\w+", str(parameters["skill_id"]), re.ASCII):
        url = httpx.URL(str(case.operation.base_url)).join("/_emulator/skills/skill_1")
        main = "---\nname: fuzzed\ndescription: Is read.\n---\n"
        headers = {"x-api-key": os.environ["WORKYARD_KEY"]}
        put = httpx.put(url, headers=headers, json={"files": {"SKILL.md": main}}).raise_for_status().json()
        case.path_parameters = {**parameters, "skill_id": put["id"]}
        if re.fullmatch(r"\w+", str(parameters.get("version", "-")), re.ASCII):
            case.path_parameters["version"] = put["latest_version_id"]
    if case.operation.label == FOLLOW:
        # It would not end otherwise.
        given = (case.query or {}).get("seconds", 1)
        seconds = str(given[-1] if isinstance(given, list) and given else given)
        if re.fullmatch("[0-9]{1,4}", seconds) and 0 < int(seconds) <= 3600:
            case.query = {**(case.query or {}), "seconds": 0}
    if case.operation.label == WAIT and isinstance(case.body, dict):
        patience = case.body.get("timeout_seconds", 5)
        if isinstance(patience, int | float) and not isinstance(patience, bool) and 0 < patience <= 60:
            case.body = {**case.body, "timeout_seconds": 0.01}
    if case.operation.label == ENQUEUE and isinstance(case.body, dict):
        count = case.body.get("count")
        if type(count) is int and _BATCH < count <= 10_000:
            case.body = {**case.body, "count": _BATCH}


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], response: Response) -> None:
    """Count the answer, and give a new self-hosted environment work: only the control plane can enqueue."""
    _seen[case.operation.label][response.status_code] += 1
    if case.operation.label == "POST /v1/environments" and response.status_code == 200:
        environment = json.loads(response.content)
        _environments.append(environment["id"])
        if environment["config"]["type"] == "self_hosted":
            url = httpx.URL(str(response.request.url)).join(f"/_emulator/environments/{environment['id']}/work")
            httpx.post(url, json={"count": 3}).raise_for_status()


@atexit.register
def _write_seen() -> None:
    if "WORKYARD_SEEN" in os.environ:
        Path(os.environ["WORKYARD_SEEN"]).write_text(json.dumps(_seen))
