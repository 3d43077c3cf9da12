"""The committed OpenAPI documents, which the server serves and checks its answers against.

`describe.py` generates them from the code, `scripts/openapi` writes them and CI compares the two. Generating them at
start-up would take each server a second.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

#: The files: of the emulated API, and of the control plane.
V1, CONTROL = "workyard.json", "control.json"


@cache
def read(name: str) -> dict[str, Any]:
    """Return a document; callers must not change it."""
    document: dict[str, Any] = json.loads(_path(name).read_text(encoding="utf-8"))
    return document


def _path(name: str) -> Path:
    """Return where a document is: in the package, or in the checkout that an editable installation points to."""
    package = Path(__file__).parents[1]
    packed = package / "openapi" / name
    return packed if packed.exists() else package.parent.parent / "openapi" / name
