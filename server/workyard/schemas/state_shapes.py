"""Wire shapes of the calls about a workspace's state. The document itself: `state.py`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .common import Shape
from .state import VERSION

_SCHEMA = "described by openapi/state.schema.json"
#: The document as a request brings it. What is in its sections, the schema of states says.
STATE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The document, as `GET` answers it.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": f"All that a workspace holds, {_SCHEMA}. A section that is left out is empty.",
                    "properties": {
                        "version": {"const": VERSION, "description": "Of this form of document."},
                        "workspace": {"type": ["string", "null"], "description": "Which workspace it was. Ignored."},
                        "clock": {"type": "object", "description": "The clock."},
                        "settings": {"type": "object", "description": "The settings."},
                        "counters": {"type": "object", "description": "How many were ever made."},
                        "faults": {"type": "object", "description": "The fault rules."},
                        "scripts": {"type": "object", "description": "The scripts, by name."},
                        **{
                            name: {"type": "array", "items": {"type": "object"}, "description": f"The {text}."}
                            for name, text in {
                                "agents": "agents",
                                "skills": "skills",
                                "memory_stores": "memory stores",
                                "environments": "environments, each with all that belongs to it",
                            }.items()
                        },
                    },
                    "required": ["version"],
                    "additionalProperties": False,
                }
            }
        },
    }
}


class StateRestored(Shape):
    """What was restored."""

    environments: int = Field(ge=0, description="Environments.")
    work: int = Field(ge=0, description="Work items.")
    sessions: int = Field(ge=0, description="Sessions.")
