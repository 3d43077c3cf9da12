"""How the API is described: what a route declares of its answers, and the OpenAPI documents made of that.

Two documents, generated from the code: the emulated API (`/v1`) and the control plane (`/_emulator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from . import __version__
from .schemas.common import Error

_REASONS = {
    400: "The request breaks a rule; the message names the field.",
    401: "No credential, in auth mode `any`.",
    404: "No such environment or item for this caller.",
    409: "The state does not allow it.",
    412: "The lease is not the caller's: the expected heartbeat is not the stored one.",
    413: "The body exceeds 1 MiB.",
    503: "Redis is unreachable. The step happened wholly or not at all; the caller cannot know which.",
}
_REQUEST_ID = {
    "description": "Identifies this response.",
    "schema": {"type": "string", "pattern": "^req_01[0-9A-Za-z]{22}$"},
}
_NO_RETRY = {
    "description": "Tells the SDKs that repeating cannot help.",
    "schema": {"type": "string", "const": "false"},
    "required": True,
}
_RETRY_AFTER = {"description": "Seconds to wait before another try.", "schema": {"type": "string"}, "required": True}
_METHODS = ("get", "post", "delete")

V1_TITLE = "Workyard: the emulated Environments and Work API"
CONTROL_TITLE = "Workyard: control plane"
_V1_TEXT = (
    "What a client of the Environments and Work API of Claude Managed Agents sees, as Workyard emulates it. "
    "Every response carries `request-id`; every error has one envelope."
)
_CONTROL_TEXT = (
    "What the real service does not have: enqueue without a session, keys, the clock, settings, reset. Calls without an "
    "environment in the path act in the workspace of `x-api-key` or the bearer token, or of `?workspace=`."
)

_OPTIONAL_HEADERS = [
    {
        "name": "anthropic-version",
        "in": "header",
        "required": False,
        "description": "Accepted, never required.",
        "schema": {"type": "string"},
    },
    {
        "name": "anthropic-beta",
        "in": "header",
        "required": False,
        "description": "Beta versions, comma-separated. Accepted, never required.",
        "schema": {"type": "array", "items": {"type": "string"}},
        "style": "simple",
    },
    {
        "name": "anthropic-workspace-id",
        "in": "header",
        "required": False,
        "description": "Accepted and ignored: the API key is the workspace.",
        "schema": {"type": "string"},
    },
]


def success(model: type[BaseModel] | Any, description: str) -> dict[int | str, dict[str, Any]]:
    """Declare what a route answers with 200."""
    return {200: {"model": model, "description": description}}


def refusals(*statuses: int, **models: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Declare the errors a route may answer with; `e412=Model` gives one its own shape. 503 is always among them."""
    return {
        status: {"model": models.get(f"e{status}", Error), "description": _REASONS[status]}
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
        servers=[{"url": "http://127.0.0.1:4010", "description": "`workyard serve`"}],
        tags=_tags(routes),
    )
    for path in document["paths"].values():
        for method in _METHODS:
            if method in path:
                _complete(path[method], control=control)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {
        "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"api_key": []}, {"bearer": []}, *([{}] if control else [])]
    return document


def _tags(routes: Sequence[APIRoute]) -> list[dict[str, Any]]:
    names = dict.fromkeys(str(tag) for route in routes for tag in route.tags)
    return [{"name": name} for name in names]


def _complete(operation: dict[str, Any], *, control: bool) -> None:
    """Add what FastAPI does not know: headers in and out, and drop its own validation answer."""
    operation["responses"].pop("422", None)
    if not control:
        operation["parameters"] = operation.get("parameters", []) + _OPTIONAL_HEADERS
    for status, response in operation["responses"].items():
        headers = {"request-id": {**_REQUEST_ID, "required": True}}
        if status.startswith("4"):
            headers["x-should-retry"] = _NO_RETRY
        if status == "503":
            headers["retry-after"] = _RETRY_AFTER
        response["headers"] = headers
