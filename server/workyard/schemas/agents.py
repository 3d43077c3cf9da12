"""Wire shapes of agents, as far as a session carries them. Source: the SDK's types of agents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from workyard_store.clock import format_instant
from workyard_store.resources.agents import Agent as AgentRecord
from workyard_store.resources.agents import Definition

from .common import Body, Metadata, Shape, Timestamp

Effort = Literal["low", "medium", "high", "xhigh", "max"]
AgentId = Annotated[str, Field(min_length=1, max_length=256)]
_ALLOW = {"type": "always_allow"}
_TOOLSET: dict[str, Any] = {
    "type": "agent_toolset_20260401",
    "configs": [],
    "default_config": {"enabled": True, "permission_policy": _ALLOW},
}


class Policy(Body):
    """Whether calls of a tool need confirmation."""

    type: Literal["always_allow", "always_ask", "auto"] = Field(description="The policy.")


class ToolDefaults(Body):
    """Defaults for the tools of a set that have no settings of their own."""

    enabled: bool | None = Field(None, description="Whether the tools can be used; default: true.")
    permission_policy: Policy | None = Field(None, description="Whether calls need confirmation; default: never.")


class ToolConfig(ToolDefaults):
    """The settings of one built-in tool."""

    name: Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"] = Field(
        description="The tool."
    )
    type: Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"] | None = Field(
        None, description="Must equal `name`."
    )


class McpToolConfig(ToolDefaults):
    """The settings of one tool of an MCP server."""

    name: str = Field(description="The tool.")


class AgentToolset(Body):
    """The built-in tools, which a worker runs in a self-hosted environment."""

    type: Literal["agent_toolset_20260401"] = Field(description="The type of tool.")
    configs: list[ToolConfig] = Field([], description="Settings of individual tools.")
    default_config: ToolDefaults | None = Field(None, description="Defaults for the other tools.")


class McpToolset(Body):
    """The tools of an MCP server. Stored only; the emulator never connects to it."""

    type: Literal["mcp_toolset"] = Field(description="The type of tool.")
    mcp_server_name: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="The server's name.")
    configs: list[McpToolConfig] = Field([], description="Settings of individual tools.")
    default_config: ToolDefaults | None = Field(None, description="Defaults for the other tools.")


class CustomTool(Body):
    """A tool that the client implements and answers with `user.custom_tool_result`."""

    type: Literal["custom"] = Field(description="The type of tool.")
    name: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,128}$")] = Field(description="The tool's name.")
    description: str = Field(description="What it does.")
    input_schema: dict[str, Any] = Field(description="JSON Schema of its input; must describe an object.")


class McpServer(Body):
    """An MCP server. Stored only; the emulator never connects to it."""

    type: Literal["url"] = Field(description="The type of address.")
    name: str = Field(description="Its name.")
    url: str = Field(description="Its address.")


class Skill(Body):
    """A skill of the agent."""

    type: Literal["anthropic", "custom"] = Field(description="Who provides the skill.")
    skill_id: str = Field(description="The skill.")
    version: str | None = Field(None, description="Its version; default: the latest.")


def _form(value: Any) -> str | None:
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, dict | BaseModel) else None


_TEXT, _OBJECT = Tag("a text"), Tag("an object")
_TEXT_OR_OBJECT = Discriminator(
    _form, custom_error_type="text_or_object", custom_error_message="Input should be a string or an object"
)


class EffortLevel(Body):
    """How hard the model works."""

    type: Effort = Field(description="The level.")


class ModelConfig(Body):
    """The model with its settings. Stored only; no model is called."""

    id: Annotated[str, Field(min_length=1)] = Field(description="The model.")
    effort: Annotated[Annotated[Effort, _TEXT] | Annotated[EffortLevel, _OBJECT], _TEXT_OR_OBJECT] | None = Field(
        None, description="Reasoning effort."
    )
    inference_geo: str | None = Field(None, description="Inference region.")
    speed: Literal["standard", "fast"] | None = Field(None, description="Speed setting.")


class ServiceAccount(Body):
    """The identity that runs use by default; the only one supported."""

    type: Literal["service_account"] = Field(description="The type of identity.")


Model = Annotated[
    Annotated[str, Field(min_length=1), _TEXT] | Annotated[ModelConfig, _OBJECT],
    _TEXT_OR_OBJECT,
]
Tool = Annotated[AgentToolset | McpToolset | CustomTool, Field(discriminator="type")]
Tools = Annotated[list[Tool], Field(max_length=256)]
McpServers = Annotated[list[McpServer], Field(max_length=20)]


class AgentCreate(Body):
    """Request to create an agent. Model settings are stored and returned; no model is called."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Display name.")
    model: Model = Field(description="The model.")
    description: str | None = Field(None, description="What the agent does.")
    system: Annotated[str, Field(max_length=100_000)] | None = Field(None, description="System prompt.")
    tools: Tools = Field([], description="The tools it has.")
    mcp_servers: McpServers = Field([], description="The MCP servers that its toolsets use.")
    skills: list[Skill] = Field([], description="The skills it has.")
    metadata: Metadata | None = Field(None, description="Custom key-value pairs.")
    multiagent: None = Field(None, description="Must be null; multi-agent set-ups are not supported.")
    execution_identity: ServiceAccount | None = Field(None, description="The identity that runs use.")


class AgentReference(Body):
    """An agent by its id, optionally with its version. Each agent has a single version."""

    type: Literal["agent"] = Field(description="Always `agent`.")
    id: AgentId = Field(description="The agent; an id that was never created stands for a default agent.")
    version: Annotated[int, Field(ge=1)] | None = Field(None, description="Its version.")


class AgentOverrides(Body):
    """An agent with some members replaced for one session."""

    type: Literal["agent_with_overrides"] = Field(description="Always `agent_with_overrides`.")
    id: AgentId = Field(description="The agent.")
    version: Annotated[int, Field(ge=1)] | None = Field(None, description="Its version.")
    model: Model | None = Field(None, description="Replaces the agent's model.")
    system: Annotated[str, Field(max_length=100_000)] | None = Field(
        None, description="Replaces the agent's prompt; null removes it."
    )
    tools: Tools | None = Field(None, description="Replaces the agent's tools.")
    mcp_servers: McpServers | None = Field(None, description="Replaces the agent's MCP servers.")
    skills: list[Skill] | None = Field(None, description="Replaces the agent's skills.")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("type"))
    return str(getattr(value, "type", "id"))


AgentChoice = Annotated[
    Annotated[AgentId, Tag("id")]
    | Annotated[AgentReference, Tag("agent")]
    | Annotated[AgentOverrides, Tag("agent_with_overrides")],
    Discriminator(
        _kind,
        custom_error_type="agent_choice",
        custom_error_message="Input should be the id of an agent, or an object of type 'agent' or 'agent_with_overrides'",
    ),
]


class AgentModel(Shape):
    """The model with its settings."""

    id: str = Field(description="The model.")
    effort: EffortLevel = Field(description="Reasoning effort.")
    inference_geo: str | None = Field(description="Inference region.")
    speed: Literal["standard", "fast"] = Field(description="Speed setting.")


class SessionAgent(Shape):
    """The agent of a session: a copy made when the session was created."""

    id: str = Field(description="Identifier.")
    type: Literal["agent"] = Field(description="Always `agent`.")
    name: str = Field(description="Display name.")
    description: str | None = Field(description="What the agent does.")
    model: AgentModel = Field(description="The model.")
    system: str | None = Field(description="System prompt.")
    tools: list[dict[str, Any]] = Field(description="The tools as given, with defaults filled in.")
    mcp_servers: list[McpServer] = Field(description="The MCP servers.")
    skills: list[dict[str, Any]] = Field(description="The skills.")
    multiagent: None = Field(description="Always null; multi-agent set-ups are not supported.")
    execution_identity: ServiceAccount = Field(description="The identity that runs use.")
    version: Annotated[int, Field(ge=1)] = Field(description="Always 1; agents never change.")


class Agent(SessionAgent):
    """An agent."""

    metadata: Metadata = Field(description="Custom key-value pairs.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it was last changed.")
    archived_at: Timestamp | None = Field(description="Always null; agents cannot be archived.")


def definition_of(body: AgentCreate) -> Definition:
    """Return what is kept of a new agent."""
    return {
        "name": body.name,
        "description": body.description,
        "model": _model(body.model),
        "system": body.system,
        "tools": tools_of(body.tools),
        "mcp_servers": [server.model_dump() for server in body.mcp_servers],
        "skills": _skills(body.skills),
        "metadata": body.metadata or {},
    }


#: What an agent is that was never created.
UNKNOWN: Definition = {
    "name": "agent",
    "description": None,
    "model": {"id": "emulated", "effort": {"type": "high"}, "inference_geo": None, "speed": "standard"},
    "system": None,
    "tools": [_TOOLSET],
    "mcp_servers": [],
    "skills": [],
    "metadata": {},
}


def overridden(definition: Definition, choice: AgentOverrides) -> Definition:
    """Return a definition with the members that a session replaces."""
    changed = dict(definition)
    if choice.model is not None:
        changed["model"] = _model(choice.model)
    if "system" in choice.model_fields_set:
        changed["system"] = choice.system
    if choice.tools is not None:
        changed["tools"] = tools_of(choice.tools)
    if choice.mcp_servers is not None:
        changed["mcp_servers"] = [server.model_dump() for server in choice.mcp_servers]
    if choice.skills is not None:
        changed["skills"] = _skills(choice.skills)
    return changed


def tools_of(tools: list[AgentToolset | McpToolset | CustomTool]) -> list[dict[str, Any]]:
    """Return tools with their defaults."""
    return [tool.model_dump() if isinstance(tool, CustomTool) else _toolset(tool) for tool in tools]


def _toolset(tool: AgentToolset | McpToolset) -> dict[str, Any]:
    default = _settled(tool.default_config or ToolDefaults(), True, _ALLOW)
    configs = []
    for config in tool.configs:
        named = {"name": config.name} | ({"type": config.name} if isinstance(config, ToolConfig) else {})
        configs.append(named | _settled(config, default["enabled"], default["permission_policy"]))
    server = {"mcp_server_name": tool.mcp_server_name} if isinstance(tool, McpToolset) else {}
    return {"type": tool.type, **server, "configs": configs, "default_config": default}


def _settled(given: ToolDefaults, enabled: bool, policy: dict[str, str]) -> dict[str, Any]:
    return {
        "enabled": enabled if given.enabled is None else given.enabled,
        "permission_policy": policy if given.permission_policy is None else given.permission_policy.model_dump(),
    }


def _model(given: str | ModelConfig) -> dict[str, Any]:
    config = ModelConfig(id=given) if isinstance(given, str) else given
    effort = config.effort.type if isinstance(config.effort, EffortLevel) else config.effort or "high"
    geo, speed = config.inference_geo, config.speed or "standard"
    return {"id": config.id, "effort": {"type": effort}, "inference_geo": geo, "speed": speed}


def _skills(skills: list[Skill]) -> list[dict[str, Any]]:
    return [{"type": each.type, "skill_id": each.skill_id, "version": each.version or "latest"} for each in skills]


def render_session_agent(agent_id: str, definition: Definition) -> dict[str, Any]:
    """Render an agent as a session has it."""
    members = {name: value for name, value in definition.items() if name != "metadata"}
    identity = {"type": "service_account"}
    fixed = {"multiagent": None, "execution_identity": identity, "version": 1}
    return {"id": agent_id, "type": "agent", **members, **fixed}


def render_agent(agent: AgentRecord) -> dict[str, Any]:
    """Render an agent."""
    created = format_instant(agent.created_at)
    dates = {"created_at": created, "updated_at": created, "archived_at": None}
    return {**render_session_agent(agent.id, agent.definition), "metadata": agent.definition["metadata"], **dates}
