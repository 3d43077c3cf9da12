"""Checks every answer under `/v1` and `/_emulator` against the OpenAPI documents before it is sent: `--check-responses`.

An answer that its document does not describe becomes a 500 that names the difference. Answers changed by a fault rule are
not checked, because they are meant to be wrong. Neither are routes outside the documents: the pages that show them, and
metrics.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema_rs
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..wire.errors import envelope
from ..wire.exchange import exchange_of
from . import documents

_log = logging.getLogger("workyard.requests")
_JSON, _EVENTS = "application/json", "text/event-stream"
#: Headers that are added further out.
_OUTSIDE = {"request-id"}


class Mismatch(Exception):
    """An answer violates its document. *at*: the place in the document; *what*: the problem, without values of the answer."""

    def __init__(self, at: str, what: str) -> None:
        super().__init__(f"The response does not match {at}: {what}")


class ResponseCheck:
    """ASGI layer between the envelope and the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the routes' answer, if that is valid."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Answer(scope, receive, send).send)


class _Answer:
    """One answer on its way out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._start: Message | None = None
        self._body = b""
        self._expected: _Expected | None = None
        self._passes = self._refused = False

    async def send(self, message: Message) -> None:
        """Hold back the head until the body is complete and valid; pass a stream on frame by frame."""
        if self._refused:
            return
        if self._passes:
            if self._expected is not None and message["type"] == "http.response.body":
                self._check_frames(self._expected, message)
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._start = message
            if not self._is_checked():
                self._passes = True
                await self._send(message)
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._take(self._start, message)
        else:
            await self._send(message)

    def _is_checked(self) -> bool:
        api_call = exchange_of(self._scope).api_call
        route = self._scope.get("route")
        return (api_call is None or not api_call.faults) and (route is None or route.include_in_schema)

    async def _take(self, start: Message, message: Message) -> None:
        self._body += message.get("body", b"")
        kind = _headers(start).get("content-type", "").partition(";")[0]
        more = message.get("more_body", False)
        if more and kind != _EVENTS:
            return
        try:
            expected = _expected_of(self._scope, start["status"], kind)
            expected.check_headers(_headers(start))
            if kind == _JSON:
                expected.check_body(self._body)
        except Mismatch as mismatch:
            self._refused = True
            _log.error("%s %s: %s", self._scope["method"], self._scope["path"], mismatch)
            answer = envelope(self._scope, 500, "api_error", str(mismatch), rule="conventions.checked-answers")
            await answer(self._scope, self._receive, self._send)
            return
        self._passes = True
        first = {"type": "http.response.body", "body": self._body, "more_body": more}
        if kind == _EVENTS:
            self._expected, self._body = expected, b""
            self._check_frames(expected, first)
        await self._send(start)
        await self._send(first)

    def _check_frames(self, expected: _Expected, message: Message) -> None:
        """Check the events of a stream that a message ends.

        Raises:
            Mismatch: one is invalid. The head was sent already, so the stream is cut.
        """
        *frames, self._body = (self._body + message.get("body", b"")).split(b"\n\n")
        for frame in frames:
            expected.check_frame(frame)


class _Expected:
    """The description of one status of an operation, in one content type."""

    def __init__(self, at: str, body: jsonschema_rs.Validator, headers: jsonschema_rs.Validator) -> None:
        self._at, self._body, self._headers = at, body, headers

    def check_headers(self, headers: dict[str, str]) -> None:
        """Raise `Mismatch` if a header is missing or wrong."""
        self._check(self._headers, headers, "header ")

    def check_body(self, body: bytes) -> None:
        """Raise `Mismatch` if a body is not JSON or violates its schema."""
        try:
            value = json.loads(body)
        except ValueError:
            raise Mismatch(self._at, "the body is not JSON") from None
        self._check(self._body, value, "body ")

    def check_frame(self, frame: bytes) -> None:
        """Raise `Mismatch` if an event violates its schema, or its data is not a JSON object."""
        event = dict(line.split(": ", 1) for line in frame.decode().split("\n") if ": " in line)
        self._check(self._body, event, "event ")
        try:
            data = json.loads(event["data"])
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise Mismatch(self._at, "event /data: not a JSON object")

    def _check(self, validator: jsonschema_rs.Validator, value: Any, part: str) -> None:
        if validator.is_valid(value):
            return
        problems = [f"{part}{_pointer(error.instance_path)}: {error.message}" for error in validator.iter_errors(value)]
        raise Mismatch(self._at, "; ".join(problems[:5]))


def _expected_of(scope: Scope, status: int, kind: str) -> _Expected:
    """Return the description of an answer in the documents.

    Raises:
        Mismatch: they have no such status or content type.
    """
    route = scope.get("route")
    if isinstance(route, APIRoute) and scope["method"] in (route.methods or ()):
        return _expected(route.path_format, scope["method"].lower(), status, kind)
    if status in (404, 405) and kind == _JSON:
        return _refusal()
    raise Mismatch("#/paths", f"{status} in {kind!r} for an unknown path or method")


@cache
def _expected(path: str, method: str, status: int, kind: str) -> _Expected:
    document = documents.read(documents.CONTROL if path.startswith("/_emulator") else documents.V1)
    at = f"#/paths/{_escaped(path)}/{method}/responses"
    operation = document["paths"].get(path, {}).get(method)
    if operation is None:
        raise Mismatch(at, "the operation is not documented")
    response = operation["responses"].get(str(status))
    if response is None:
        raise Mismatch(at, f"status {status} is not documented")
    at = f"{at}/{status}"
    if kind not in response["content"]:
        raise Mismatch(f"{at}/content", f"content type {kind!r} is not documented")
    return _of(document, at, response["content"][kind]["schema"], response["headers"])


@cache
def _refusal() -> _Expected:
    """Return the shape of an error outside any operation."""
    at = "#/components/schemas/Error"
    return _of(documents.read(documents.V1), at, {"$ref": at}, ["x-should-retry"])


def _of(document: Mapping[str, Any], at: str, schema: Mapping[str, Any], names: Iterable[str]) -> _Expected:
    wanted = {name: document["components"]["headers"][name]["schema"] for name in names if name not in _OUTSIDE}
    headers = {"type": "object", "properties": wanted, "required": list(wanted)}
    return _Expected(at, _validator({**schema, "components": document["components"]}), _validator(headers))


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    # A mask keeps the values of an answer, which may be secret, out of the message.
    return jsonschema_rs.Draft202012Validator(schema, mask="the value", validate_formats=True)


def _headers(start: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}


def _pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{_escaped(str(part))}" for part in path) or "/"


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
