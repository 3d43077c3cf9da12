"""The scripts of workspaces, by name, as text. The queue's `sessions/scripts.py` knows what they contain.

Every method raises `StorageUnavailable` when Redis does not answer.
"""

from __future__ import annotations

from ..engine.engine import Engine
from ..lua.resources import ScriptPut
from ..workspaces.workspaces import WorkspaceStore


class NamedScripts:
    """The named scripts of all workspaces."""

    def __init__(self, engine: Engine, workspaces: WorkspaceStore) -> None:
        self._engine = engine
        self._workspaces = workspaces

    def _key(self, workspace: str) -> str:
        return self._engine.keys.workspace(workspace, "scripts")

    async def all(self, workspace: str) -> dict[str, str]:
        """Return a workspace's scripts by name, in the names' order."""
        reply = await self._engine.command("HGETALL", self._key(workspace))
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return dict(sorted(pairs))

    async def get(self, workspace: str, name: str) -> str | None:
        """Return a script, or None."""
        text: str | None = await self._engine.command("HGET", self._key(workspace), name)
        return text

    async def of_environment(self, environment_id: str, name: str) -> str | None:
        """Return a script of the workspace that an environment is in, or None."""
        workspace = await self._engine.command("HGET", self._engine.keys.environment(environment_id), "ws")
        return None if workspace is None else await self.get(workspace, name)

    async def put(self, workspace: str, name: str, text: str, *, most: int) -> bool:
        """Store a script; it replaces one of the same name. Return False if there would be more than *most*."""
        reply = await self._workspaces.write(ScriptPut(name=name, script=text, most=most), workspace)
        return reply.word == "OK"

    async def delete(self, workspace: str, name: str) -> bool:
        """Remove a script. Return whether there was one."""
        return bool(await self._engine.command("HDEL", self._key(workspace), name))
