"""`/v1/agents`: kept for sessions to take a copy of. Runs none. Rules: `sessions.agents.*`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from workyard_store.errors import AgentNotFound
from workyard_store.ids import is_id
from workyard_store.resources.agents import Agent as AgentRecord

from ..checks.call import Call
from ..checks.route import PublicRoute
from ..contract.describe import FULL, refusals, success
from ..schemas.agents import UNKNOWN, Agent, AgentCreate, definition_of, render_agent
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/v1/agents", tags=["Sessions"], route_class=PublicRoute)


@router.post("", responses=success(Agent, "The new agent.") | refusals(400, 401, 409, 413, because=FULL))
async def create_agent(body: AgentCreate, call: Call) -> Response:
    """Create an agent in the caller's workspace. It is stored as given; no model is called."""
    services = call.services
    call.checked_metadata(body.metadata or {})
    workspace = await services.access.workspace(call.caller)
    return JsonResponse(render_agent(await services.agents.create(workspace, definition_of(body))))


@router.get(
    "/{agent_id}",
    responses=success(Agent, "The agent.") | refusals(401, 404, because={404: "The id cannot be an agent's."}),
)
async def get_agent(
    agent_id: Annotated[
        str, Path(description="The agent's id, `agent_…`.", examples=["agent_011CZkZ9X2dpNyB7HsEFoRfW"])
    ],
    call: Call,
) -> Response:
    """Read an agent. An id that no agent of the workspace has stands for a default agent, as in sessions."""
    if not is_id("agent", agent_id):
        raise AgentNotFound(agent_id)
    workspace = await call.services.access.workspace(call.caller)
    stored = await call.services.agents.find(workspace, agent_id)
    return JsonResponse(render_agent(stored or AgentRecord(agent_id, UNKNOWN, created_at=0)))
