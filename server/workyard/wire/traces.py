"""The names of traces, as requests carry them. Source: W3C Trace Context, version 00. Knows no tracer."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Tell whether a header is the name of a trace and a span in it; anything else is ignored."""
    return text != "" and _TRACEPARENT.fullmatch(text) is not None
