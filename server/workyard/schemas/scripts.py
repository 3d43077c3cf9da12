"""Wire shapes of scripts. What a script is: `workyard_queue.agent.script`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workyard_queue.agent import Report
from workyard_queue.agent.script import LONGEST_WAIT_S, MOST_STEPS
from workyard_queue.sessions.records import Source

from .common import Shape

_SCHEMA = "Each is described by openapi/script.schema.json."
#: A script as a request brings it. What is in its steps, the schema of scripts says.
SCRIPT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The script, as JSON or YAML.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The behaviour of a session's agent, turn by turn.",
                    "properties": {
                        "steps": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MOST_STEPS,
                            "items": {"type": ["object", "string"]},
                            "description": f"The steps, in order. {_SCHEMA}",
                        },
                        "repeat": {
                            "type": "boolean",
                            "description": "Whether a message after the end restarts it.",
                        },
                        "result_limit_seconds": {
                            "type": "number",
                            "exclusiveMinimum": 0,
                            "maximum": LONGEST_WAIT_S,
                            "description": "How long a call waits for its result or confirmation.",
                        },
                    },
                    "required": ["steps"],
                    "additionalProperties": False,
                    "examples": [{"steps": [{"say": "You said: {{message}}"}], "repeat": True}],
                }
            },
            "application/yaml": {"schema": {"type": "string", "description": "The same as YAML."}},
        },
    }
}


class ScriptShown(Shape):
    """The behaviour of a session's agent, turn by turn."""

    steps: list[Any] = Field(description=f"The steps, in order. {_SCHEMA}")
    repeat: bool = Field(description="Whether a message after the end restarts it.")
    result_limit_seconds: float = Field(description="How long a call waits for its result or confirmation.")


class SessionScript(Shape):
    """A session's script and its progress."""

    session_id: str = Field(description="The session.")
    source: Source = Field(
        description="Where the script came from: set on the session, its metadata, the workspace's `default`, the "
        "server's `--script`, or built in."
    )
    script: ScriptShown = Field(description="The script.")
    report: Report = Field(description="The progress, and the deviations from the script.")


class NamedScript(Shape):
    """A script of a workspace."""

    name: str = Field(description="Its name.")
    script: ScriptShown = Field(description="The script.")


class NamedScriptList(Shape):
    """All scripts of a workspace, in the order of their names."""

    data: list[NamedScript] = Field(description="The scripts.")


class ScriptDeleted(Shape):
    """Confirmation that a script was removed."""

    name: str = Field(description="Its name.")
    type: Literal["script_deleted"] = Field(description="Always `script_deleted`.")
