"""`--seed-file`: environments, work, keys and scripts that a server starts with. The file is read and checked completely
before anything is created; applying it again to the same Redis creates nothing twice. Source: docs/state.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from workyard_queue.agent import Script, check_script, parse_script
from workyard_store.access import workspace_of_api_key
from workyard_store.clock import parse_instant
from workyard_store.errors import InvalidRequest, StartupRefused, WorkyardError
from workyard_store.metadata import checked_metadata
from workyard_store.plain_text import plain_data
from workyard_store.workspaces import configs
from workyard_store.workspaces.environments import Environment

from ..settings import Settings, named
from ..wire.errors import path_of
from .seed_shape import SeedEnvironment, SeedFile
from .stores import Stores

LONGEST_FILE = 1_048_576
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Seeds:
    """A checked seed file."""

    file: SeedFile
    scripts: dict[str, Script]

    def workspace(self, environment: SeedEnvironment | None = None) -> str:
        """Return the workspace of an environment, or of the file itself."""
        return workspace_of_api_key((environment and environment.api_key) or self.file.api_key)


def read_seed_file(settings: Settings) -> Seeds | None:
    """Return the contents of the file that the settings name, or None.

    Raises:
        StartupRefused: it cannot be read, or breaks a rule; the message names the file and each path.
    """
    if settings.seed_file is None:
        return None
    path = Path(settings.seed_file)
    try:
        return parse_seed_file(path.read_text(encoding="utf-8-sig"), path.parent)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{path}: Not UTF-8"
    except InvalidRequest as refusal:
        problem = f"{path}: {refusal.message}"
    raise StartupRefused(f"{named('seed_file')}: {problem}")


def parse_seed_file(text: str, folder: Path) -> Seeds:
    """Parse *text*, YAML or JSON; the files that it names are relative to *folder*.

    Raises:
        InvalidRequest: it breaks a rule; the message names each path.
    """
    value = plain_data(text, "Seed file", most=LONGEST_FILE)
    if not isinstance(value, dict):
        raise InvalidRequest("Seed file must be a mapping")
    try:
        file = SeedFile.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(
            "; ".join(f"{path_of(('body', *problem['loc']), value)}: {problem['msg']}" for problem in error.errors())
        ) from None
    problems: list[str] = []
    scripts: dict[str, Script] = {}
    for name, script in file.scripts.items():
        try:
            scripts[name] = _script(script, folder)
        except InvalidRequest as refusal:
            problems.append(f"scripts.{name}: {refusal.message}")
    seeds = Seeds(file, scripts)
    problems += _problems(seeds)
    if problems:
        raise InvalidRequest("; ".join(problems))
    return seeds


def _script(value: object, folder: Path) -> Script:
    if not isinstance(value, str):
        return check_script(value)
    try:
        return parse_script((folder / value).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidRequest(f"Cannot read {value}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{value} is not UTF-8") from None


def _problems(seeds: Seeds) -> Iterator[str]:
    seen: dict[tuple[str, str], int] = {}
    for n, each in enumerate(seeds.file.environments):
        here = f"environments.{n}."
        first = seen.setdefault((seeds.workspace(each), each.name), n)
        if first != n:
            yield f"{here}name: {each.name} is already used by environments.{first}"
        try:
            configs.check(_config(each), each.scope or "organization")
            checked_metadata(each.metadata or {})
            for work in each.work:
                checked_metadata(work.metadata or {})
        except InvalidRequest as refusal:
            yield here + refusal.message
        if each.work and _config(each)["type"] == "cloud":
            yield f"{here}work: A cloud environment has no queue"
        for k, key in enumerate(each.keys):
            if key in each.keys[:k]:
                yield f"{here}keys.{k}: duplicate key {key}"


def _config(environment: SeedEnvironment) -> configs.Config:
    given = environment.config
    return configs.merged(None, {"type": "self_hosted"} if given is None else given.model_dump())


async def plant(seeds: Seeds | None, stores: Stores) -> dict[str, str]:
    """Create the missing resources. Return variables: the id of each environment, and the value of each new key.

    Raises:
        StartupRefused: the store refuses a resource.
    """
    exports: dict[str, str] = {}
    if seeds is None:
        return exports
    try:
        owners = dict.fromkeys([seeds.workspace(), *map(seeds.workspace, seeds.file.environments)])
        for workspace in owners:
            await _prepare(workspace, seeds, stores)
        for each in seeds.file.environments:
            await _environment(each, seeds.workspace(each), stores, exports)
    except WorkyardError as error:
        raise StartupRefused(f"{named('seed_file')}: {error.message}") from None
    return exports


async def _prepare(workspace: str, seeds: Seeds, stores: Stores) -> None:
    """Store a workspace's scripts; for a new workspace its clock and settings, too."""
    file, workspaces = seeds.file, stores.workspaces
    if not await stores.access.is_known(workspace):
        leases = {} if file.settings is None else file.settings.changes
        seed = {} if file.id_seed is None else {"seed": str(file.id_seed)}
        if leases or seed:
            await workspaces.change_settings(workspace, {**leases, **seed})
        if file.clock is not None:
            at = None if file.clock.at is None else parse_instant(file.clock.at)
            await stores.clocks.change(workspace, file.clock.mode, at)
    for name, script in seeds.scripts.items():
        await stores.scripts.put(workspace, name, script)


async def _environment(each: SeedEnvironment, workspace: str, stores: Stores, exports: dict[str, str]) -> None:
    environment = await _named(each.name, workspace, stores) or await stores.environments.create(
        workspace,
        name=each.name,
        description=each.description or "",
        config=_config(each),
        metadata=each.metadata or {},
        scope=each.scope or "organization",
    )
    exports[_variable("ENVIRONMENT", each.name)] = environment.id
    entries: Counter[str] = Counter()
    for work in each.work:
        entry = hashlib.sha256(json.dumps(work.model_dump(), sort_keys=True).encode()).hexdigest()
        entries[entry] += 1
        await stores.queue.enqueue(
            environment.id,
            count=work.count,
            session_id=work.session_id,
            metadata=work.metadata,
            # Derived from the entry's text: a changed or new entry is enqueued at the next start.
            idempotency_key=f"seed-file {entry} {entries[entry]}",
        )
    known = {key.name for key in await stores.credentials.list(environment.id) if key.revoked_at is None}
    for name in each.keys:
        if name not in known:
            issued = await stores.credentials.issue(environment.id, name)
            exports[_variable("KEY", f"{each.name} {name}")] = str(issued.value)


async def _named(name: str, workspace: str, stores: Stores) -> Environment | None:
    """Return the oldest live environment of a name, or None."""
    page: str | None = None
    found: Environment | None = None
    while True:
        rows, page = await stores.environments.list(workspace, limit=_PAGE, page=page, include_archived=False)
        found = next((row for row in reversed(rows) if row.name == name), found)
        if page is None:
            return found


def _variable(kind: str, name: str) -> str:
    return f"WORKYARD_{kind}_" + re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
