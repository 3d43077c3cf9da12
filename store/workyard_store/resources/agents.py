"""Agents: stored as they were defined, so that sessions can copy them. Runs no agent. Rules: `sessions.agents.*`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..engine.engine import Engine
from ..ids import is_id
from ..lua.resources import AgentCreate, AgentCreated
from ..seeds import Fresh, fresh
from ..workspaces.workspaces import WorkspaceStore

Definition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. `definition` has the members of the wire that the client gave, with their defaults. Microseconds."""

    id: str
    definition: Definition
    created_at: int


class AgentStore:
    """The agents of all workspaces."""

    def __init__(self, engine: Engine, workspaces: WorkspaceStore) -> None:
        self._engine = engine
        self._workspaces = workspaces

    async def create(self, workspace: str, definition: Definition) -> Agent:
        """Store a definition under a new id."""
        agent_id = ""
        text = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))

        async def create(new: Fresh) -> AgentCreated:
            nonlocal agent_id
            agent_id = new.id("agent")
            call = AgentCreate(agent_id=agent_id, definition=text, seeded=new.seeded)
            return await self._workspaces.write(call, workspace)

        created = await fresh(workspace, create)
        return Agent(agent_id, definition, created.now)

    async def find(self, workspace: str, agent_id: str) -> Agent | None:
        """Return an agent, or None if the workspace has none of this id."""
        if not is_id("agent", agent_id):
            return None
        stored = await self._engine.command("HGET", self._engine.keys.workspace(workspace, "agents"), agent_id)
        if stored is None:
            return None
        created, _, text = stored.partition(" ")
        return Agent(agent_id, json.loads(text), int(created))
