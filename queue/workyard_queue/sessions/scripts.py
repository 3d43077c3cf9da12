"""Scripts of sessions: which one a session has, where they are stored, and the agent that plays them. `agent/` executes a
script, `turns.py` decides when. Rules: `agent.script`, `agent.script.*`.

A session's script is the first of: the one set with `PUT /_emulator/sessions/{id}/script`, the one in its metadata
(`workyard_script`: a script, or the name of one), its workspace's script `default`, the server's, the built-in one. The
session's first turn fixes it, so later changes of a default do not affect a session that has begun.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from workyard_store.errors import InvalidRequest, ScriptNotFound
from workyard_store.ids import derived_suffix
from workyard_store.resources.named_scripts import NamedScripts

from ..agent import DEFAULT_SCRIPT, Report, Script, Setting, State, advance, parse_script, report
from .records import ChosenScript
from .turns import Step, Turn

#: The key of a session's metadata that says which script it has.
METADATA_KEY = "workyard_script"
#: The name of a workspace's script for sessions that choose none.
DEFAULT_NAME = "default"
#: Most scripts of one workspace.
MOST_SCRIPTS = 1000
NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


def as_text(script: Script) -> str:
    """Return a script as the JSON text that is stored of it: what equals its default is left out."""
    plain = script.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=256)
def _of_text(text: str) -> Script:
    # Not by `model_validate_json`: that takes less nesting than `parse_script` does.
    return Script.model_validate(json.loads(text))


class Scripts:
    """The scripts of all workspaces.

    Every method raises `StorageUnavailable` when Redis does not answer.
    """

    def __init__(self, named: NamedScripts, server_default: Script | None = None) -> None:
        self._named = named
        self._fallback = (
            ChosenScript(as_text(DEFAULT_SCRIPT), "built_in")
            if server_default is None
            else ChosenScript(as_text(server_default), "server")
        )

    async def all(self, workspace: str) -> dict[str, Script]:
        """Return the scripts of a workspace by name, in the names' order."""
        return {name: _of_text(text) for name, text in (await self._named.all(workspace)).items()}

    async def get(self, workspace: str, name: str) -> Script:
        """Return a script.

        Raises:
            ScriptNotFound: the workspace has none of this name.
        """
        text = await self._named.get(workspace, name)
        if text is None:
            raise ScriptNotFound(name)
        return _of_text(text)

    async def put(self, workspace: str, name: str, script: Script) -> None:
        """Store a script under a name; it replaces any script of that name.

        Raises:
            InvalidRequest: the workspace has the maximum number of scripts.
        """
        if not await self._named.put(workspace, name, as_text(script), most=MOST_SCRIPTS):
            raise InvalidRequest(
                f"A workspace has at most {MOST_SCRIPTS} scripts: delete one first", rule="agent.script.list"
            )

    async def delete(self, workspace: str, name: str) -> None:
        """Remove a script. Sessions that have it keep it.

        Raises:
            ScriptNotFound: the workspace has none of this name.
        """
        if not await self._named.delete(workspace, name):
            raise ScriptNotFound(name)

    async def in_metadata(
        self, environment_id: str, metadata: Mapping[str, str], *, workspace: str | None = None
    ) -> ChosenScript | None:
        """Return the script that the metadata of a session in an environment gives, or None. *workspace*: the only one whose
        scripts may be named; None: the environment's.

        Raises:
            InvalidRequest: it is no script, or the name of none; the message begins with `metadata.workyard_script`.
        """
        value = metadata.get(METADATA_KEY)
        if value is None:
            return None
        path = f"metadata.{METADATA_KEY}"
        if re.fullmatch(NAME, value):
            if workspace is None:
                text = await self._named.of_environment(environment_id, value)
            else:
                text = await self._named.get(workspace, value)
            if text is None:
                raise InvalidRequest(
                    f"{path}: The environment's workspace has no script named {value}", rule="agent.metadata"
                )
            return ChosenScript(text, "metadata")
        try:
            return ChosenScript(as_text(parse_script(value)), "metadata")
        except InvalidRequest as refusal:
            raise InvalidRequest(f"{path}: {refusal.message}", rule="agent.metadata") from None

    async def default(self, workspace: str) -> ChosenScript:
        """Return the script of a session that chooses none."""
        text = await self._named.get(workspace, DEFAULT_NAME)
        return self._fallback if text is None else ChosenScript(text, "workspace")


def play(turn: Turn) -> Step:
    """Act for a session by its script: the agent of every server."""
    state = None if turn.state is None else State.model_validate(turn.state)
    step = advance(
        _of_text(turn.script),
        state,
        turn.unseen,
        turn.now,
        lambda number: "sevt_" + derived_suffix("event", turn.session_id, str(number)),
        # In a cloud environment no worker holds the work, and none is needed.
        Setting(turn.cloud, 0 if turn.cloud else turn.held_since),
    )
    return Step(dumped(step.state), step.events, step.status, step.due_at_us, step.busy)


def restarted(state: Any) -> Any:
    """Return an agent's memory after its session gets another script between two turns."""
    return None if state is None else dumped(State.model_validate(state).restarted())


def report_of(script: str, state: Any, *, held_since_us: int | None, archived: bool) -> tuple[Script, Report]:
    """Return a session's script and its progress."""
    parsed = _of_text(script)
    known = None if state is None else State.model_validate(state)
    return parsed, report(parsed, known, held_since_us=held_since_us, archived=archived)


def dumped(state: State) -> Any:
    """Return an agent's memory as it is stored: what equals its default is left out."""
    return state.model_dump(mode="json", exclude_defaults=True)
