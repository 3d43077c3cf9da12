"""Wire shapes of skills. Source: the SDK's types of skills, older ones too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from workyard_store.clock import format_instant
from workyard_store.resources.skills import Skill as SkillRecord
from workyard_store.resources.skills import SkillVersion as SkillVersionRecord

from .common import Body, NextPage, Shape, Timestamp

_Source = Literal["custom", "anthropic"]
_EXAMPLE = "---\nname: greeting\ndescription: How to greet people.\n---\nSay hello.\n"


class SkillSource(Shape):
    """The source of a skill."""

    type: _Source = Field(description="Who provides it.")


class Skill(Shape):
    """A skill."""

    id: str = Field(description="Identifier: `skill_…`, or a name such as `xlsx` for an Anthropic skill.")
    type: Literal["skill"] = Field(description="Always `skill`.")
    display_name: str = Field(description="Display name.")
    latest_version_id: str = Field(description="The version that `latest` stands for.")
    source: SkillSource = Field(description="The source of the skill.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it, or its newest version, was uploaded.")


class SkillPage(Shape):
    """A page of skills, newest first."""

    data: list[Skill] = Field(description="The rows of this page.")
    next_page: NextPage


class SkillDeleted(Shape):
    """Confirmation of a deletion."""

    id: str = Field(description="The deleted skill.")
    type: Literal["skill_deleted"] = Field(description="Always `skill_deleted`.")


class SkillVersion(Shape):
    """A version of a skill. Workers older than Python 1.0 read `version` and `directory`."""

    id: str = Field(description="Identifier: its instant in microseconds.", pattern="^[0-9]+$")
    type: Literal["skill_version"] = Field(description="Always `skill_version`.")
    skill_id: str = Field(description="The skill.")
    name: str = Field(description="The skill's name, and the name of its folder.")
    description: str = Field(description="The description from SKILL.md.")
    version: str = Field(description="Equal to `id`.")
    directory: str = Field(description="Equal to `name`.")
    created_at: Timestamp = Field(description="When it was uploaded.")


class SkillVersionPage(Shape):
    """A page of a skill's versions, newest first."""

    data: list[SkillVersion] = Field(description="The rows of this page.")
    next_page: NextPage


class SkillFileParams(Body):
    """A file that is not plain text or is executable."""

    content: str = Field(description="Its content.")
    encoding: Literal["utf-8", "base64"] = Field("utf-8", description="The encoding of `content`.")
    executable: bool = Field(False, description="Whether it is executable.")


class SkillPut(Body):
    """Request to upload a skill: its files, or an archive of them."""

    files: dict[str, str | SkillFileParams] | None = Field(
        None, description="Path → content. Must include `SKILL.md`, which begins with `name` and `description`."
    )
    archive: str | None = Field(None, description="Instead of files: a zip archive in base64.")
    display_name: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="Display name; default: the skill's name."
    )
    source: _Source = Field("custom", description="`anthropic`: the skill's id is its name, such as `xlsx`.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"files": {"SKILL.md": _EXAMPLE}}]})

    @model_validator(mode="after")
    def _one_of_two(self) -> SkillPut:
        if (self.files is None) == (self.archive is None):
            raise PydanticCustomError("one_of", "files: Give either files or archive")
        return self


def render_skill(skill: SkillRecord) -> dict[str, Any]:
    """Render a skill."""
    return {
        "id": skill.id,
        "type": "skill",
        "display_name": skill.display_name,
        "latest_version_id": skill.versions[0],
        "source": {"type": skill.source},
        "created_at": format_instant(skill.created_at),
        "updated_at": format_instant(skill.updated_at),
    }


def render_skill_version(version: SkillVersionRecord) -> dict[str, Any]:
    """Render a version of a skill."""
    return {
        "id": version.id,
        "type": "skill_version",
        "skill_id": version.skill.id,
        "name": version.skill.name,
        "description": version.description,
        "version": version.id,
        "directory": version.skill.name,
        "created_at": format_instant(int(version.id)),
    }
