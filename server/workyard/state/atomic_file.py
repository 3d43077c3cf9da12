"""Writing a file atomically: a reader sees either the old contents or the new ones. Imports only the standard library."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace a file by a document as JSON.

    Raises:
        OSError: it cannot be written.
    """
    _write(path.resolve(), json.dumps(document, ensure_ascii=False, indent=1) + "\n", keep=True)


def check_writable(path: Path) -> None:
    """Check that a file can be replaced; it stays as it is.

    Raises:
        OSError: it cannot be replaced.
    """
    _write(path, "", keep=False)


def _write(path: Path, text: str, *, keep: bool) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
