"""JSON on the wire: one way to write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


class JsonResponse(Response):
    """A response whose body is JSON, `null` included."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        # A lone surrogate can stand in a message that quotes a request; it has no UTF-8 form.
        super().__init__(_encode(content).encode("utf-8", "replace"), status, headers)
