"""Wire shapes of the calls about a workspace's state. `shape.py` has the document itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..schemas.common import Shape
from ..schemas.workspaces import WorkspaceId
from .shape import VERSION

_SCHEMA = "described by openapi/state.schema.json"
#: The document as a request brings it. What is in its sections, the schema of states says.
STATE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The document, as `GET` returns it.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": f"Everything in a workspace, {_SCHEMA}. An omitted section is empty.",
                    "properties": {
                        "version": {"const": VERSION, "description": "Version of the document format."},
                        "workspace": {
                            "type": ["string", "null"],
                            "description": "The workspace that was exported. Ignored.",
                        },
                        "clock": {"type": "object", "description": "The clock."},
                        "settings": {"type": "object", "description": "The settings."},
                        "counters": {"type": "object", "description": "Counters of everything created so far."},
                        "faults": {"type": "object", "description": "The fault rules."},
                        "scripts": {"type": "object", "description": "The scripts, by name."},
                        **{
                            name: {"type": "array", "items": {"type": "object"}, "description": f"The {text}."}
                            for name, text in {
                                "agents": "agents",
                                "skills": "skills",
                                "memory_stores": "memory stores",
                                "environments": "environments, each with everything that belongs to it",
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


class WorkspaceDocument(Shape):
    """Everything in a workspace. openapi/state.schema.json describes each section."""

    version: Literal[1] = Field(description="Version of the document format.")
    workspace: WorkspaceId = Field(description="Id of the workspace.")
    clock: dict[str, Any] = Field(description="The clock.")
    settings: dict[str, Any] = Field(description="The settings.")
    counters: dict[str, Any] = Field(description="Counters of everything created so far.")
    faults: dict[str, Any] = Field(description="The fault rules.")
    agents: list[dict[str, Any]] = Field(description="The agents.")
    scripts: dict[str, Any] = Field(description="The scripts, by name.")
    skills: list[dict[str, Any]] = Field(description="The skills.")
    memory_stores: list[dict[str, Any]] = Field(description="The memory stores.")
    environments: list[dict[str, Any]] = Field(description="The environments, each with everything that belongs to it.")


class StateRestored(Shape):
    """The result of a restore."""

    environments: int = Field(ge=0, description="Environments.")
    work: int = Field(ge=0, description="Work items.")
    sessions: int = Field(ge=0, description="Sessions.")
