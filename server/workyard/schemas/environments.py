"""Wire shapes of environments. Rules: `environments.object.*`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from workyard_store.clock import format_instant
from workyard_store.workspaces.configs import PACKAGE_MANAGERS
from workyard_store.workspaces.environments import Environment as EnvironmentRecord

from .common import (
    ENVIRONMENT_ID,
    Body,
    Metadata,
    NextPage,
    Shape,
    Timestamp,
    metadata_patch_schema,
    optional_instant,
)

_LABELS = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_HOST = rf"(?:\*\.)?{_LABELS}(?:\.{_LABELS})*"
_HOST_FORM = re.compile(_HOST, re.ASCII)
_LONGEST_HOST = 253


def _host(value: str) -> str:
    if len(value) > _LONGEST_HOST or _HOST_FORM.fullmatch(value) is None:
        raise PydanticCustomError("host_name", "Not a host name")
    return value


Host = Annotated[
    str,
    AfterValidator(_host),
    WithJsonSchema({"type": "string", "maxLength": _LONGEST_HOST, "pattern": f"^{_HOST}$".replace("(?:", "(")}),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Description = Annotated[str, Field(max_length=1024)]
Scope = Literal["organization", "account"]
PackageList = list[str] | None
MetadataPatch = Annotated[dict[str, str | None], WithJsonSchema(metadata_patch_schema(None, ""))]

#: What `configs.check` asks of a new environment.
_ACCOUNT_MEANS_SELF_HOSTED: JsonDict = {
    "if": {"properties": {"scope": {"const": "account"}}, "required": ["scope"]},
    "then": {
        "properties": {"config": {"properties": {"type": {"const": "self_hosted"}}, "type": "object"}},
        "required": ["config"],
    },
}
_CLOSED_NETWORK: JsonDict = {
    "type": "object",
    "properties": {"type": {"const": "limited"}, "allow_package_managers": {"enum": [False, None]}},
    "required": ["type"],
}
_CLOSED_MEANS_NO_PACKAGES: JsonDict = {
    "if": {
        "properties": {
            "config": {"type": "object", "properties": {"networking": _CLOSED_NETWORK}, "required": ["networking"]}
        },
        "required": ["config"],
    },
    "then": {
        "properties": {
            "config": {"properties": {"packages": {"properties": {name: {"maxItems": 0} for name in PACKAGE_MANAGERS}}}}
        }
    },
}


class UnrestrictedNetwork(Body):
    """No restriction of outbound traffic."""

    type: Literal["unrestricted"] = Field(description="The type of network policy.")


class LimitedNetworkParams(Body):
    """Outbound traffic only to listed destinations. In an update, omitted or null members keep the stored values;
    otherwise they default to false, false and an empty list.
    """

    type: Literal["limited"] = Field(description="The type of network policy.")
    allow_mcp_servers: bool | None = Field(None, description="Also allow the agent's MCP servers.")
    allow_package_managers: bool | None = Field(None, description="Also allow the public package registries.")
    allowed_hosts: list[Host] | None = Field(
        None,
        description="Host names that can be reached; a leading `*.` stands for any subdomain. Stored, never looked up.",
    )


class PackagesParams(Body):
    """Packages to install, by package manager. Omitted or null lists keep the stored ones; `[]` clears. Stored,
    never installed.
    """

    type: Literal["packages"] | None = Field(None, description="Always `packages`.")
    apt: PackageList = Field(None, description="Debian packages.")
    cargo: PackageList = Field(None, description="Rust packages.")
    gem: PackageList = Field(None, description="Ruby packages.")
    go: PackageList = Field(None, description="Go packages.")
    npm: PackageList = Field(None, description="Node.js packages.")
    pip: PackageList = Field(None, description="Python packages.")


class CloudConfigParams(Body):
    """An environment whose sandboxes the service hosts."""

    type: Literal["cloud"] = Field(description="The type of environment; it never changes.")
    networking: Annotated[UnrestrictedNetwork | LimitedNetworkParams, Field(discriminator="type")] | None = Field(
        None, description="Outbound network policy."
    )
    packages: PackagesParams | None = Field(None, description="Packages to install.")


class SelfHostedConfigParams(Body):
    """An environment whose sandboxes the customer hosts: a work queue."""

    type: Literal["self_hosted"] = Field(description="The type of environment; it never changes.")


ConfigParams = Annotated[CloudConfigParams | SelfHostedConfigParams, Field(discriminator="type")]


class EnvironmentCreate(Body):
    """Request to create an environment."""

    name: Name = Field(description="Display name; need not be unique.")
    config: ConfigParams | None = Field(None, description="Type and configuration; default: a cloud environment.")
    description: Description | None = Field(None, description="Its purpose.")
    metadata: Metadata | None = Field(
        None, description="Custom key-value pairs: at most 16, keys up to 64 and values up to 512 characters."
    )
    scope: Scope | None = Field(
        None,
        description="Who can see it; default: `organization`. `account` is for self-hosted environments only, and has "
        "no effect in the emulator.",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [_ACCOUNT_MEANS_SELF_HOSTED, _CLOSED_MEANS_NO_PACKAGES],
            "examples": [
                {"name": "worker-queue", "config": {"type": "self_hosted"}, "metadata": {"team": "build"}},
                {
                    "name": "data-analysis",
                    "description": "Python with pandas.",
                    "config": {
                        "type": "cloud",
                        "networking": {
                            "type": "limited",
                            "allow_package_managers": True,
                            "allowed_hosts": ["api.example.com", "*.example.org"],
                        },
                        "packages": {"pip": ["pandas==2.3.0"]},
                    },
                },
            ],
        }
    )


class EnvironmentUpdate(Body):
    """Request to change an environment; omitted fields stay."""

    name: Name | None = Field(None, description="New name; null keeps it.")
    config: ConfigParams | None = Field(None, description="New configuration of the same type; null keeps the old one.")
    description: Description | None = Field(None, description="New description; null or an empty string clears it.")
    metadata: MetadataPatch | None = Field(
        None,
        description="Patch: a string sets a key, null or an empty string deletes it, omitted keys stay. At most 16 "
        "keys in the result.",
    )
    scope: Scope | None = Field(None, description="Who can see it; null keeps it.")
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "renamed", "metadata": {"team": "release", "obsolete": None}}, {"description": None}]
        }
    )


class LimitedNetwork(Shape):
    """Outbound traffic only to listed destinations."""

    type: Literal["limited"] = Field(description="The type of network policy.")
    allow_mcp_servers: bool = Field(description="Whether the agent's MCP servers are also allowed.")
    allow_package_managers: bool = Field(description="Whether the public package registries are also allowed.")
    allowed_hosts: list[Host] = Field(description="Host names that can be reached.")


class Packages(Shape):
    """Packages by package manager."""

    type: Literal["packages"] = Field(description="Always `packages`.")
    apt: list[str] = Field(description="Debian packages.")
    cargo: list[str] = Field(description="Rust packages.")
    gem: list[str] = Field(description="Ruby packages.")
    go: list[str] = Field(description="Go packages.")
    npm: list[str] = Field(description="Node.js packages.")
    pip: list[str] = Field(description="Python packages.")


class CloudConfig(Shape):
    """Configuration of a cloud environment."""

    type: Literal["cloud"] = Field(description="The type of environment.")
    networking: Annotated[UnrestrictedNetwork | LimitedNetwork, Field(discriminator="type")] = Field(
        description="Outbound network policy."
    )
    packages: Packages = Field(description="Packages to install.")


class SelfHostedConfig(Shape):
    """Configuration of a self-hosted environment."""

    type: Literal["self_hosted"] = Field(description="The type of environment.")


class Environment(Shape):
    """An environment."""

    id: str = Field(
        description="Identifier, `env_…`.", pattern=ENVIRONMENT_ID, examples=["env_011CZkZ9X2dpNyB7HsEFoRfW"]
    )
    type: Literal["environment"] = Field(description="Always `environment`.")
    name: Name = Field(description="Display name.")
    description: Description = Field(description="Its purpose; empty if unset.")
    config: Annotated[CloudConfig | SelfHostedConfig, Field(discriminator="type")] = Field(
        description="Type and configuration."
    )
    metadata: Metadata = Field(description="Custom key-value pairs.")
    scope: Scope = Field(description="Who can see it.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it was last changed.")
    archived_at: Timestamp | None = Field(description="When it was archived; null while it is live.")


class EnvironmentPage(Shape):
    """A page of environments, newest first."""

    data: list[Environment] = Field(description="The rows of this page.")
    next_page: NextPage


class EnvironmentDeleted(Shape):
    """Confirmation of a deletion."""

    id: str = Field(description="The deleted environment.", pattern=ENVIRONMENT_ID)
    type: Literal["environment_deleted"] = Field(description="Always `environment_deleted`.")


def render_environment(environment: EnvironmentRecord) -> dict[str, Any]:
    """Render an environment."""
    return {
        "id": environment.id,
        "type": "environment",
        "name": environment.name,
        "description": environment.description,
        "created_at": format_instant(environment.created_at),
        "updated_at": format_instant(environment.updated_at),
        "archived_at": optional_instant(environment.archived_at),
        "config": environment.config,
        "metadata": environment.metadata,
        "scope": environment.scope,
    }
