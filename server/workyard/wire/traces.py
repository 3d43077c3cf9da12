"""Trace ids in request headers. Source: W3C Trace Context, version 00. Knows no tracer."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Return whether a header names a trace and a span in it; other values are ignored."""
    return text != "" and _TRACEPARENT.fullmatch(text) is not None
