"""The shape of the file of `--seed-file`. `seed_file.py` applies it. Source: docs/state.md."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from workyard_queue.sessions.scripts import NAME

from ..schemas.common import Body, Rfc3339
from ..schemas.environments import EnvironmentCreate
from ..schemas.queues import KeyName, WorkToEnqueue
from ..schemas.workspaces import LeaseChange, Seed

SCHEMA_FILE = "seed.schema.json"
MOST_ENVIRONMENTS = 1000
ApiKey = Annotated[str, Field(min_length=1, max_length=1024)]


SeedScript = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["string", "object"],
            "description": "A script (script.schema.json), or the path of a file with one, relative to this file.",
        }
    ),
]


class SeedClock(Body):
    """The clock of a new workspace."""

    mode: Literal["real", "frozen"] = Field("real", description="frozen: the clock stands still.")
    at: Rfc3339 | None = Field(None, description="With `frozen`: the instant at which the clock stands still.")

    @model_validator(mode="after")
    def _at_goes_with_frozen(self) -> SeedClock:
        if self.at is not None and self.mode != "frozen":
            raise PydanticCustomError("clock", "at: Only allowed with mode frozen")
        return self


class SeedEnvironment(EnvironmentCreate):
    """An environment, self-hosted by default. A live environment with the same name is left unchanged."""

    api_key: ApiKey | None = Field(None, description="The API key of its workspace; default: that of the file.")
    keys: Annotated[list[KeyName], Field(max_length=100)] = Field([], description="Names of its keys.")
    work: Annotated[list[WorkToEnqueue], Field(max_length=100)] = Field([], description="Work in its queue.")
    model_config = ConfigDict(json_schema_extra={}, defer_build=True)


class SeedFile(Body):
    """The initial contents of a server."""

    model_config = ConfigDict(defer_build=True)

    api_key: ApiKey = Field("workyard-local", description="The API key of the workspace that the file fills.")
    id_seed: Seed | None = Field(None, description="The seed of ids and tokens of a new workspace.")
    clock: SeedClock | None = Field(None, description="The clock of a new workspace.")
    settings: LeaseChange | None = Field(None, description="Settings of a new workspace.")
    scripts: dict[Annotated[str, Field(pattern=f"^{NAME}$")], SeedScript] = Field(
        {}, description="Scripts by name; `default` applies to sessions that name no script."
    )
    environments: Annotated[list[SeedEnvironment], Field(max_length=MOST_ENVIRONMENTS)] = Field(
        [], description="The environments; their names must be unique."
    )


def seed_schema() -> str:
    """Return the published JSON Schema of seed files, as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SeedFile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
