"""Wire shapes of work without a session, and of environment keys. Rules: `control.*`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from workyard_store.clock import format_instant
from workyard_store.ids import canonical_session_id
from workyard_store.workspaces.credentials import EnvironmentKey

from ..settings import MOST_ENQUEUED
from .common import KEY_ID, Body, Metadata, Shape, Timestamp, optional_instant
from .work import Work


def _session(value: str) -> str:
    canonical = canonical_session_id(value)
    if canonical is None:
        raise PydanticCustomError("session_id", "Not a session id: session_ followed by 1 to 64 letters and digits")
    return canonical


SessionId = Annotated[
    str,
    AfterValidator(_session),
    WithJsonSchema({"type": "string", "pattern": "^(session|sesn)_[0-9A-Za-z]{1,64}$"}),
]
KeyName = Annotated[str, Field(min_length=1, max_length=256)]


class WorkToEnqueue(Body):
    """Work without a session of the Sessions API."""

    count: int = Field(1, ge=1, le=MOST_ENQUEUED, description="Number of items.")
    session_id: SessionId | None = Field(
        None,
        description="The session to run; only with count 1. If it has an item already, it gets a message instead. "
        "Null: a made-up session.",
    )
    metadata: Metadata | None = Field(None, description="Metadata of each new item.")

    @model_validator(mode="after")
    def _one_item_per_session(self) -> WorkToEnqueue:
        if self.session_id is not None and self.count != 1:
            raise PydanticCustomError("count", "count: Must be 1 when session_id is given")
        return self


class Enqueue(WorkToEnqueue):
    """Request to enqueue work without a session of the Sessions API."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None,
        description="A repeat with the same key enqueues nothing twice and returns the same items; with a different "
        "count, session or metadata it is refused.",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"session_id": {"type": "string"}}, "required": ["session_id"]},
            "then": {"properties": {"count": {"const": 1}}},
            "examples": [
                {"count": 3, "metadata": {"suite": "smoke"}},
                {"session_id": "session_011CZkZ9X2dpNyB7HsEFoRfW"},
            ],
        }
    )


class Enqueued(Shape):
    """The items, in the order they were enqueued."""

    data: list[Work] = Field(description="The items.")


class KeyCreate(Body):
    """Request to issue an environment key."""

    name: KeyName = Field("key", description="Display name.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "worker on my laptop"}]})


class IssuedKey(Shape):
    """A new environment key; its value is not shown again."""

    id: str = Field(description="Identifier, `envkey_…`.", pattern=KEY_ID)
    name: KeyName = Field(description="Display name.")
    key: str = Field(description="The key, `sk-ant-oat01-…`.", pattern="^sk-ant-oat01-")
    created_at: Timestamp = Field(description="When it was issued.")


class KnownKey(Shape):
    """An environment key, without its value."""

    id: str = Field(description="Identifier, `envkey_…`.", pattern=KEY_ID)
    name: KeyName = Field(description="Display name.")
    created_at: Timestamp = Field(description="When it was issued.")
    revoked_at: Timestamp | None = Field(description="When it was revoked; null while it is valid.")


class Keys(Shape):
    """All keys of an environment, newest first."""

    data: list[KnownKey] = Field(description="The keys.")


class KeyRevoked(Shape):
    """Confirmation of a revocation."""

    id: str = Field(description="The revoked key.", pattern=KEY_ID)
    type: Literal["environment_key_revoked"] = Field(description="Always `environment_key_revoked`.")


def render_key(key: EnvironmentKey) -> dict[str, Any]:
    """Render a key without its value."""
    return {
        "id": key.id,
        "name": key.name,
        "created_at": format_instant(key.created_at),
        "revoked_at": optional_instant(key.revoked_at),
    }
