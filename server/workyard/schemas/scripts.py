"""Wire shapes of scripts. What a script is: `workyard_queue.agent.script`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workyard_queue.agent import Report, Script
from workyard_queue.records import Source

from .common import Shape


class SessionScript(Shape):
    """A session's script, and how far it has come."""

    session_id: str = Field(description="The session.")
    source: Source = Field(
        description="Where the script came from: given to the session, its metadata, the workspace's `default`, "
        "the server's `--script`, or built in."
    )
    script: Script = Field(description="The script.")
    report: Report = Field(description="How far it has come, and what did not go by it.")


class NamedScript(Shape):
    """A script of a workspace."""

    name: str = Field(description="Its name.")
    script: Script = Field(description="The script.")


class NamedScriptList(Shape):
    """All scripts of a workspace, in the order of their names."""

    data: list[NamedScript] = Field(description="The scripts.")


class ScriptDeleted(Shape):
    """Confirmation that a script is gone."""

    name: str = Field(description="Its name.")
    type: Literal["script_deleted"] = Field(description="Always `script_deleted`.")
