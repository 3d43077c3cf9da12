"""Request bodies: checks of size, type, JSON, characters, in this order. The schemas check fields. Rule: `conventions.order`."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from fastapi import Request

from workyard_store.errors import BodyTooLarge, InvalidRequest

from ..settings import MOST_BYTES, MOST_LEVELS
from .exchange import exchange_of


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)  # It could not be written as JSON again.
    return number


class CheckedRequest(Request):
    """A request whose body, once loaded, is a JSON object that can be stored.

    Attributes:
        most_bytes: maximum size of a body.
        most_levels: maximum nesting of its objects and lists; the body itself is the first level.
    """

    most_bytes = MOST_BYTES
    most_levels = MOST_LEVELS
    _loaded: dict[str, Any] | None = None

    async def load(self, *, required: bool, most_bytes: int | None = None) -> None:
        """Read and check the body; an empty one that is not *required* counts as absent.

        *most_bytes*: the limit of a route that takes larger bodies.

        Raises:
            BodyTooLarge: it exceeds the limit.
            InvalidRequest: encoded, another type, not JSON, not an object, nested too deeply, or with a character that
                cannot be stored.
        """
        await self._read(most_bytes or self.most_bytes, kept=most_bytes is None)
        if not self._body and not required:
            return
        self._check_type("application/json")
        # Parse a large one in a thread: it takes seconds, and workers need answers to their heartbeats meanwhile.
        large = len(self._body) > MOST_BYTES
        if large:
            self._loaded = await asyncio.to_thread(json_object, self._body, self.most_levels)
        else:
            self._loaded = json_object(self._body, self.most_levels)

    async def text(self, *types: str) -> str:
        """Return the body as text, for a route that reads it itself.

        Raises:
            BodyTooLarge: it has too many bytes.
            InvalidRequest: encoded, of none of the *types*, or not UTF-8.
        """
        await self._read(self.most_bytes, kept=True)
        self._check_type(*types)
        try:
            return self._body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidRequest("Request body is not valid UTF-8", rule="conventions.body-json") from None

    async def _read(self, most_bytes: int, *, kept: bool) -> None:
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > most_bytes:
            raise BodyTooLarge(f"Request body exceeds {most_bytes} bytes")
        chunks = bytearray()
        async for chunk in self.stream():
            chunks += chunk
            if len(chunks) > most_bytes:
                raise BodyTooLarge(f"Request body exceeds {most_bytes} bytes")
        self._body = bytes(chunks)
        if kept:
            exchange_of(self.scope).body = self._body
        if self.headers.get("content-encoding", "").strip():
            raise InvalidRequest("Content-Encoding is not supported", rule="conventions.content-encoding")

    def _check_type(self, *types: str) -> None:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and kind not in types:
            raise InvalidRequest("Content-Type must be " + " or ".join(types), rule="conventions.content-type")

    async def json(self) -> Any:
        """Return the object that `load` has read."""
        return self._loaded


def json_object(body: bytes, most_levels: int = MOST_LEVELS) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        InvalidRequest: it is not JSON, not an object, nested too deeply, or has a character that cannot be stored.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        # Most bodies have fewer brackets than levels are allowed.
        if body.count(b"{") + body.count(b"[") > most_levels and _is_deeper(value, most_levels):
            raise RecursionError
        problems = _unstorable(value, "") if b"\\u" in body else []
    except ValueError:
        raise InvalidRequest("Request body is not valid JSON", rule="conventions.body-json") from None
    except RecursionError:
        raise InvalidRequest(
            f"Request body is nested deeper than {most_levels} levels (--max-json-depth / WORKYARD_MAX_JSON_DEPTH)",
            rule="limits.json-depth",
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("Request body must be a JSON object", rule="conventions.body-object")
    if problems:
        raise InvalidRequest("; ".join(problems), rule="conventions.characters")
    return value


def _is_deeper(value: Any, most_levels: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most_levels):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        level = [child for child in children if isinstance(child, dict | list)]
    return bool(level)


def _unstorable(value: Any, path: str) -> list[str]:
    """Return a problem for each string with U+0000 or a lone surrogate, keys included."""
    if isinstance(value, str):
        if "\0" not in value and value.isprintable():
            return []
        clean = "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        return [] if clean else [f"{path}: String contains a character that cannot be stored"]
    if isinstance(value, dict):
        children = [(str(key), child) for key, child in value.items()]
        problems = [problem for key, _ in children for problem in _unstorable(key, _below(path, key))]
    elif isinstance(value, list):
        children, problems = [(str(i), child) for i, child in enumerate(value)], []
    else:
        return []
    return problems + [problem for key, child in children for problem in _unstorable(child, _below(path, key))]


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
