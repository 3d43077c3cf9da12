"""The description of the API: a route's declarations of its answers, and the OpenAPI documents generated from them.

Two documents, generated from the code: the emulated API (`/v1`) and the control plane (`/_emulator`). `scripts/openapi`
writes them to the folder `openapi/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from .. import __version__
from ..ledger.ids import RULE_ID
from ..schemas.common import REQUEST_ID, Error
from ..wire.errors import TABLE
from . import documents
from .betas import BETAS

V1_TITLE = "Workyard: the emulated Environments and Work API"
CONTROL_TITLE = "Workyard: control plane"
_V1_TEXT = (
    "The Environments and Work API of Claude Managed Agents, as Workyard emulates it for its clients.\n\n"
    "Every response has `request-id`; every error has the same envelope. A query parameter that the "
    "API does not know, such as `beta=true`, is ignored; an unknown key in a body is refused. A path "
    "that is not described here gets 404, and a method that its path does not have gets 405 with "
    "`allow`, both in the same envelope. The same envelope is used for errors that precede routing: "
    "403 (a host name or a browser page that is not allowed), 408 (the request arrived too slowly), "
    "414 and 431 (target or headers too long), and 400 for anything that is not HTTP."
)
_CONTROL_TEXT = (
    "Functions that the real service does not have: work without a session, environment keys, the "
    "clock, lease settings, reset.\n\nA call with an environment in its path acts in that environment's "
    "workspace. Any other call acts in the workspace given by `?workspace=`, or else by `x-api-key` "
    "or the bearer token; with none of them, a read covers all workspaces and a write is refused. No "
    "credential is checked, except the header `workyard-control-token` if the setting `control_token` "
    "is used: without it every call except `GET /_emulator/health` gets 401."
)
_TAGS = {
    "Environments": "Where work runs: `cloud` environments are hosted by the service; `self_hosted` ones have a queue.",
    "Work": ("The queue of a self-hosted environment: poll an item, acknowledge it, keep it with heartbeats, stop it."),
    "Sessions": "What workers run: sessions, their events, and the agents they use, as far as workers need them.",
    "Scripts": "The behaviour of the sessions' agents: scripts, in place of a model.",
    "Faults": "Deliberate errors: fault rules for API calls, and ready scenarios of such rules.",
    "Skills": (
        "Skills that agents have and workers download. Emulated for workers only; the control plane uploads them."
    ),
    "Memory": "Memory stores that sessions have and workers read and write. Emulated for workers only.",
    "Server": "The server itself.",
    "Timeline": "Timelines and diagnoses of work items, and waiting for conditions (docs/timeline.md).",
    "Journal": "Requests to the API: list them, count them, and check them against expectations.",
    "Rules": "The behaviour ledger: the server's rules, their evidence, and how to avoid each error.",
    "Queues": "Work and keys of one environment.",
    "Clock": "The clock of a workspace: read it, stop it, move it forward (docs/clock.md).",
    "State": "Everything in a workspace, as one document (docs/state.md).",
    "Workspaces": "Lease settings, reset and recount of a workspace. Each API key is a workspace of its own.",
}
_SERVERS = [
    {"url": "/", "description": "The server that serves this document."},
    {"url": "http://127.0.0.1:4010", "description": "`workyard serve` on its default port."},
]

_REASONS = {
    400: "The request breaks a rule; the message names the field.",
    401: "No credential, or in mode `strict` no credential that is valid for this call.",
    403: (
        "In mode `strict`: the credential belongs to another environment, item or session, or is not "
        "allowed to do this."
    ),
    404: "No such environment or item for this caller.",
    409: "The current state does not allow it.",
    412: "The caller does not hold the lease: the expected heartbeat is not the stored one.",
    413: "The body exceeds 1 MiB.",
    429: "Too many callers are waiting already; try again later.",
    503: "Redis is unavailable, or the server is shutting down. The step happened completely or not at "
    "all; the caller cannot know which.",
}
#: `error.type` of each status.
_KINDS = dict(TABLE.values())
#: Why a call that creates the first resource in a workspace, or another one, may be refused.
FULL = {409: "A limit of the server's settings is reached."}
_HEADERS: dict[str, dict[str, Any]] = {
    "request-id": {
        "description": "Identifies this response; an error repeats it as `request_id`.",
        "required": True,
        "schema": {"type": "string", "pattern": REQUEST_ID},
    },
    "x-should-retry": {
        "description": "Tells the SDKs that retrying the request cannot help.",
        "required": True,
        "schema": {"type": "string", "const": "false"},
    },
    "workyard-rule": {
        "description": "The rule of the behaviour ledger behind the error; `GET /_emulator/rules/{id}` shows it.",
        "required": True,
        "schema": {"type": "string", "pattern": RULE_ID},
    },
    "retry-after": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "anthropic-version": {
        "description": (
            "Version of the API. Any value is accepted, and none is required unless the server is configured "
            "to require one."
        ),
        "schema": {"type": "string", "examples": ["2023-06-01"]},
    },
    "anthropic-beta": {
        "description": (
            "Beta versions, separated by commas. Any values are accepted, and none is required unless the "
            "server is configured to require one."
        ),
        "schema": {
            "type": "array",
            "items": {"type": "string"},
            "examples": [["managed-agents-2026-04-01"]],
        },
        # Outside the schema: within, Schemathesis takes any word for a bound.
        "x-known-values": list(BETAS),
        "style": "simple",
    },
    "anthropic-workspace-id": {
        "description": "Accepted and ignored; the API key selects the workspace.",
        "schema": {"type": "string"},
    },
}
_SECURITY_SCHEMES = {
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "An API key, or any value that can be a bearer token; it takes precedence over the bearer token. "
        "Any value is accepted as an API key, and each is a workspace of its own.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, an issued environment key, or the sessions token of a hand-out.",
    },
}


def success(
    model: type[BaseModel] | Any,
    description: str,
    texts: Mapping[str, str] | None = None,
    /,
    **links: Mapping[str, Any],
) -> dict[int | str, dict[str, Any]]:
    """Declare a route's answer with status 200, and with *links* (see `link`) the calls that may follow.

    *texts*: other media types of the answer, as text, each with its description.
    """
    declared: dict[str, Any] = {"model": model, "description": description}
    if links:
        declared["links"] = links
    if texts:
        declared["content"] = {
            kind: {"schema": {"type": "string", "description": text}} for kind, text in texts.items()
        }
    return {200: declared}


def event_stream(description: str, place: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Declare that a route answers with server-sent events; the schema is that of one event. *place*: what their `id` is."""
    schema: dict[str, Any] = {
        "type": "object",
        "description": "One event of the stream.",
        "properties": {
            "event": {"type": "string", "description": "The type of the event; `ping` is only a keep-alive."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "The event, in the same form as in a list of events.",
            },
        },
        "required": ["event", "data"],
        "additionalProperties": False,
    }
    if place is not None:
        schema["properties"]["id"] = {"type": "string", "description": place}
    return {200: {"description": description, "content": {"text/event-stream": {"schema": schema}}}}


def download(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """Declare that a route answers with bytes of a type that is not JSON."""
    schema = {"type": "string", "format": "binary", "description": "The bytes."}
    return {200: {"description": description, "content": {media_type: {"schema": schema}}}}


def link(description: str, operation: str, **parameters: str) -> dict[str, Any]:
    """Return an OpenAPI link: a call that can follow an answer.

    Args:
        description: when to make the call.
        operation: its `operationId`.
        parameters: which member of the answer each of its parameters is; `path` names, separated by blanks, the path
            parameters that it shares with the call before.
    """
    shared = {name: f"$request.path.{name}" for name in parameters.pop("path", "").split()}
    taken = {name: f"$response.body#/{member}" for name, member in parameters.items()}
    return {"operationId": operation, "parameters": shared | taken, "description": description}


def refusals(
    *statuses: int, because: Mapping[int, str] | None = None, **models: type[BaseModel]
) -> dict[int | str, dict[str, Any]]:
    """Declare the errors a route may answer with. 503 is always among them.

    Args:
        statuses: the statuses.
        because: the route's own text for some of them.
        models: `e412=Model` gives a status a shape of its own.
    """
    reasons = _REASONS | dict(because or {})
    return {
        status: {"model": models.get(f"e{status}", Error), "description": reasons[status]}
        for status in (*statuses, 503)
    }


def build(app: FastAPI, *, control: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one of the two interfaces."""
    routes = [
        route
        for route in app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/_emulator") is control and route.include_in_schema
    ]
    document = get_openapi(
        title=CONTROL_TITLE if control else V1_TITLE,
        version=__version__,
        description=_CONTROL_TEXT if control else _V1_TEXT,
        routes=routes,
        servers=_SERVERS,
        tags=_tags(routes),
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    )
    parameters = {} if control else _PARAMETERS
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation["operationId"] = route.name
            operation["summary"] = route.name.replace("_", " ").capitalize()
            _complete(operation, parameters)
    document["paths"] = dict(sorted(document["paths"].items()))
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    statuses = {status for route in routes for status in map(int, route.responses) if status >= 400}
    schemas |= {_error_name(status): _error_schema(status) for status in statuses}
    document["components"] = {
        "schemas": {name: _tidy(schema) for name, schema in sorted(schemas.items())},
        "headers": _HEADERS,
        "parameters": {name: {"name": name, "in": "header", **rest} for name, rest in parameters.items()},
        "securitySchemes": _SECURITY_SCHEMES,
    }
    document["security"] = [{"api_key": []}, {"bearer": []}, *([{}] if control else [])]
    return document


def documents_of(app: FastAPI) -> dict[str, dict[str, Any]]:
    """Return the documents by the names of their files."""
    return {documents.V1: build(app, control=False), documents.CONTROL: build(app, control=True)}


def text_of(document: Any) -> str:
    """Return a document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _tags(routes: Sequence[APIRoute]) -> list[dict[str, Any]]:
    used = {str(tag) for route in routes for tag in route.tags}
    return [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]


def _complete(operation: dict[str, Any], parameters: Mapping[str, Any]) -> None:
    """Add what FastAPI does not know: headers in and out, errors by status. Remove what the wire does not have."""
    for parameter in operation.get("parameters", []):
        # A parameter that is left out is not null.
        parameter["schema"] = _not_null(_tidy(parameter["schema"]))
        parameter["schema"].pop("description", None)
    operation["parameters"] = [
        *operation.get("parameters", []),
        *({"$ref": f"#/components/parameters/{name}"} for name in parameters),
    ]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        # An empty body may stand for `{}`, but `null` may not.
        content["schema"] = _not_null(_tidy(content["schema"]))
    operation["responses"].pop("422", None)
    for status, response in operation["responses"].items():
        names = ["request-id"]
        if status.startswith("4") and status != "429":
            names.append("x-should-retry")
        if int(status) >= 400:
            names.append("workyard-rule")
        if status in ("429", "503"):
            names.append("retry-after")
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        for content in response["content"].values():
            content["schema"] = _tidy(content["schema"])
            if content["schema"] == {"$ref": "#/components/schemas/Error"}:
                content["schema"] = {"$ref": f"#/components/schemas/{_error_name(int(status))}"}


def _error_name(status: int) -> str:
    return "".join(word.capitalize() for word in _KINDS[status].split("_"))


def _error_schema(status: int) -> dict[str, Any]:
    """Return the envelope of the errors of one type. Only the errors of a broken rule may have details."""
    body: dict[str, Any] = {"type": {"const": _KINDS[status]}}
    if _KINDS[status] != _KINDS[400]:
        body["details"] = False
    return {
        "description": f"An error of type `{_KINDS[status]}`.",
        "allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"error": {"properties": body}}}],
    }


def _tidy(schema: Any) -> Any:
    """Return a schema without the titles that Pydantic makes of names."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            tidied[key] = {name: _tidy(each) for name, each in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            tidied[key] = value
        elif key != "title":
            tidied[key] = _tidy(value)
    return tidied


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the alternative null."""
    alternatives = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if not alternatives:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**alternatives[0], **rest} if len(alternatives) == 1 else {**rest, "anyOf": alternatives}
