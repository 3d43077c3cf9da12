"""Log lines on standard error, as text or JSON. Owns their form only.

A record may carry `fields`. Whatever clients send, a message stays on one line and contains no terminal control
characters; a traceback follows on separate, indented lines.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

#: Control characters, and Unicode characters that end a line or change the writing direction.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OBEYED_BUT_BREAKS = re.compile(_OBEYED.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_BARE = re.compile(r"[^\s\"'=\\]+")


def harmless(text: str) -> str:
    """Return a text with terminal control characters escaped, line breaks included."""
    return _OBEYED.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # JSON escapes most of them itself; an escape stands for the same character.
        return harmless(json.dumps(line, ensure_ascii=False))


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = " ".join([super().formatMessage(record), *map(_pair, fields.items())])
        # Uvicorn has tracebacks as messages.
        return _in_lines(line) if record.message.startswith("Traceback (") else harmless(line)

    def formatException(self, ei: Any) -> str:
        return _in_lines(super().formatException(ei))


def _in_lines(text: str) -> str:
    """Return a text of several lines, indented so that only the first looks like a log line."""
    return _OBEYED_BUT_BREAKS.sub(_escaped, text).replace("\n", "\n  ")


def _pair(field: tuple[str, object]) -> str:
    name, value = field
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{name}={text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)}"


def configure(level: str, form: str) -> None:
    """Send all log lines of *level* and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Uvicorn logs each start and stop at level info; our own line is clearer.
    logging.getLogger("uvicorn").setLevel(logging.WARNING if level == "info" else level.upper())
    for noisy in ("asyncio", "fakeredis", "httptools", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
