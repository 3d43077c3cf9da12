"""Skills: archives of files that workers download, in versions. Seeded by the control plane, for workers only.

Source: the SDK's types of skills and its `lib/tools/_skills.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass

from ..access import Access
from ..errors import InvalidRequest, SkillNotFound, SkillVersionNotFound
from ..ids import derived_suffix, is_id
from ..lua.resources import SkillDelete, SkillPut
from ..pages import page_of
from ..workspaces.workspaces import WorkspaceStore

MOST_SKILLS = 100
MOST_VERSIONS = 10
#: The word for the newest version.
LATEST = "latest"
#: A skill's name: lower case letters, digits and single hyphens between them. Anthropic's skills use it as their id.
SLUG = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill. Instants are microseconds; `versions` are the kept ones, newest first, never none."""

    id: str
    sequence: int
    name: str
    display_name: str
    source: str
    versions: tuple[str, ...]
    created_at: int
    updated_at: int

    @classmethod
    def of(cls, skill_id: str, record: str) -> Skill:
        """Read a record as `skill_put.lua` writes it."""
        sequence, created, updated, versions, name, _, rest = record.split(" ", 6)
        return cls(
            id=skill_id,
            sequence=int(sequence),
            name=name,
            versions=tuple(versions.split(",")),
            created_at=int(created),
            updated_at=int(updated),
            **json.loads(rest),
        )


@dataclass(frozen=True, slots=True)
class SkillVersion:
    """One version of a skill. Its id is the instant of its creation, in microseconds."""

    id: str
    skill: Skill
    description: str


def id_of_name(workspace: str, name: str) -> str:
    """Return the id of the custom skill that a workspace knows by a name: always the same."""
    return "skill_" + derived_suffix("skill", workspace, name)


class SkillStore:
    """The skills of all workspaces."""

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self._engine = access.engine
        self._workspaces = workspaces

    async def put(
        self,
        workspace: str,
        skill_id: str,
        *,
        name: str,
        display_name: str,
        source: str,
        description: str,
        archive: bytes,
    ) -> Skill:
        """Store a skill, or a new version of it; the same archive again does not make a new version.

        Raises:
            InvalidRequest: the workspace has `MOST_SKILLS` others, or the skill has another name.
        """
        rest = json.dumps({"display_name": display_name, "source": source}, ensure_ascii=False, separators=(",", ":"))
        call = SkillPut(
            skill_id=skill_id,
            name=name,
            rest=rest,
            description=description,
            archive=base64.b64encode(archive).decode(),
            sha=hashlib.sha256(archive).hexdigest(),
            most_skills=MOST_SKILLS,
            most_versions=MOST_VERSIONS,
        )
        reply = await self._workspaces.write(call, workspace)
        if reply.word == "FULL":
            raise InvalidRequest(f"A workspace has at most {MOST_SKILLS} skills", rule="skills.bounds")
        if reply.word == "NAME":
            raise InvalidRequest(
                f"files.SKILL.md: name: Skill {skill_id} is named {reply.name}, and its name cannot change",
                rule="skills.name",
            )
        return Skill.of(skill_id, reply.record)

    async def delete(self, workspace: str, skill_id: str) -> None:
        """Remove a skill with all its versions.

        Raises:
            SkillNotFound: the workspace has none of this id.
        """
        # Not `write`: what removes something need not enter the workspace into the register.
        if not await self._workspaces.run(SkillDelete(skill_id=skill_id), workspace):
            raise SkillNotFound(skill_id)

    async def get(self, workspace: str, skill_id: str) -> Skill:
        """Return a skill.

        Raises:
            SkillNotFound: the workspace has none of this id.
        """
        record = None
        if is_id("skill", skill_id) or SLUG.fullmatch(skill_id):
            record = await self._engine.command("HGET", self._key(workspace, "skills"), skill_id)
        if record is None:
            raise SkillNotFound(skill_id)
        return Skill.of(skill_id, record)

    async def skills(
        self, workspace: str, *, limit: int, page: str | None, source: str | None
    ) -> tuple[list[Skill], str | None]:
        """Return a page of skills, of one source or all, newest first, and the cursor of the next, if there is one."""
        fields = await self._engine.command("HGETALL", self._key(workspace, "skills"))
        found = [Skill.of(id_, record) for id_, record in fields.items()]
        rows = sorted((each for each in found if source in (None, each.source)), key=lambda each: -each.sequence)
        return page_of(f"skills {workspace}", rows, lambda each: each.sequence, limit=limit, page=page)

    async def versions(
        self, workspace: str, skill_id: str, *, limit: int, page: str | None
    ) -> tuple[list[SkillVersion], str | None]:
        """Return a page of a skill's versions, newest first, and the cursor of the next, if there is one.

        Raises:
            SkillNotFound: the workspace has none of this id.
        """
        skill = await self.get(workspace, skill_id)
        shown, more = page_of(f"skill_versions {workspace} {skill_id}", skill.versions, int, limit=limit, page=page)
        texts = await self._engine.commands(
            ("HGET", self._key(workspace, "skill_versions"), f"{skill_id} {each}") for each in shown
        )
        rows = zip(shown, texts, strict=True)
        return [SkillVersion(id_, skill, text) for id_, text in rows if text is not None], more

    async def version(self, workspace: str, skill_id: str, version: str) -> SkillVersion:
        """Return a version, or the newest for `latest`.

        Raises:
            SkillNotFound: the workspace has none of this id.
            SkillVersionNotFound: it has no such version.
        """
        skill = await self.get(workspace, skill_id)
        wanted = skill.versions[0] if version == LATEST else version
        return SkillVersion(wanted, skill, await self._field(workspace, "skill_versions", skill, wanted))

    async def archive(self, workspace: str, skill_id: str, version: str) -> tuple[Skill, bytes]:
        """Return the files of a version, as a zip archive. `latest` is not accepted here; only `version` resolves it.

        Raises:
            SkillNotFound: the workspace has none of this id.
            SkillVersionNotFound: it has no such version.
        """
        skill = await self.get(workspace, skill_id)
        return skill, base64.b64decode(await self._field(workspace, "skill_archives", skill, version))

    async def _field(self, workspace: str, name: str, skill: Skill, version: str) -> str:
        found = None
        if version in skill.versions:
            found = await self._engine.command("HGET", self._key(workspace, name), f"{skill.id} {version}")
        if found is None:
            raise SkillVersionNotFound(skill.id, version)
        return str(found)

    def _key(self, workspace: str, name: str) -> str:
        return self._engine.keys.workspace(workspace, name)
