"""Builds the stored data of a workspace from its checked document (`rules.py`). `document.py` is the inverse."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workyard_queue.sessions.scripts import as_text, dumped
from workyard_queue.state.snapshots import (
    StoredEntry,
    StoredEnvironment,
    StoredSession,
    StoredWork,
    StoredWorkspace,
)
from workyard_store.errors import InvalidRequest
from workyard_store.ids import random_suffix, work_id

from .fields import CALLER, SEEDED, STAMPS
from .shape import (
    StateAgent,
    StateEnvironment,
    StateFaults,
    StateMemoryStore,
    StateSession,
    StateSkill,
    StateTimelineEvent,
    StateWork,
    WorkspaceState,
)

_LETTERS = {name: letter for letter, name in CALLER.items()}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _counted(seeded: Mapping[str, int]) -> dict[str, str]:
    return {f"{SEEDED}{kind}": str(count) for kind, count in seeded.items()}


def stored_of(state: WorkspaceState) -> StoredWorkspace:
    """Return the data to store for a document that keeps the rules.

    Raises:
        InvalidRequest: an archive of a skill is not base64.
    """
    clock, settings, counters = state.clock, state.settings, state.counters
    fields = {
        "shift": str(clock.shift_us),
        "frozen": _text(clock.at),
        "last": _text(clock.changed_to),
        "auto": "1" if clock.mode == "auto" else "",
        "ttl": _text(settings.default_ttl_seconds),
        "startup": _text(settings.startup_lease_seconds),
        "reclaim": _text(settings.reclaim_ms),
        "seed": _text(settings.id_seed),
        "number": _text(counters.resources),
        "sessions": str(counters.sessions) if counters.sessions else "",
        "faults": "1" if state.faults.rules else "",
        **_counted(counters.seeded),
    }
    hashes = {
        "agents": {each.id: _agent_record(each) for each in state.agents},
        "scripts": {name: as_text(script) for name, script in state.scripts.items()},
        **_fault_records(state.faults),
        **_skill_records(state.skills),
        **_memory_records(state.memory_stores),
    }
    paths = [f"{store.id} {each.path}\n{each.id}" for store in state.memory_stores for each in store.memories]
    environments = [_stored_environment(each) for each in state.environments]
    return StoredWorkspace({name: value for name, value in fields.items() if value}, hashes, environments, paths)


def _fault_records(faults: StateFaults) -> dict[str, dict[str, str]]:
    rules = {str(each.number): f"{_text(each.ends_at)}\n{_dump(each.rule)}" for each in faults.rules}
    counts = {"last": str(faults.last_number)} if faults.last_number else {}
    for each in faults.rules:
        counted = {f"{each.number} asked": each.asked, f"{each.number} hits": each.hits}
        counts |= {name: str(count) for name, count in counted.items() if count}
    return {"faults": rules | {"version": random_suffix()} if rules else {}, "fault_counts": counts}


def _agent_record(agent: StateAgent) -> str:
    return f"{agent.created_at} {_dump(agent.model_dump(exclude={'id', 'created_at'}))}"


def _skill_records(skills: Iterable[StateSkill]) -> dict[str, dict[str, str]]:
    records: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    archives: dict[str, str] = {}
    for place, skill in enumerate(skills):
        try:
            newest = base64.b64decode(skill.versions[0].archive, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"skills.{place}.versions.0.archive: Not base64") from None
        rest = _dump({"display_name": skill.display_name, "source": skill.source})
        parts = (
            skill.sequence,
            skill.created_at,
            skill.updated_at,
            ",".join(version.id for version in skill.versions),
            skill.name,
            hashlib.sha256(newest).hexdigest(),
            rest,
        )
        records[skill.id] = " ".join(map(str, parts))
        descriptions |= {f"{skill.id} {version.id}": version.description for version in skill.versions}
        archives |= {f"{skill.id} {version.id}": version.archive for version in skill.versions}
    return {"skills": records, "skill_versions": descriptions, "skill_archives": archives}


def _memory_records(stores: Iterable[StateMemoryStore]) -> dict[str, dict[str, str]]:
    records: dict[str, str] = {}
    sizes: dict[str, str] = {}
    memories: dict[str, str] = {}
    texts: dict[str, str] = {}
    for store in stores:
        archived = "-" if store.archived_at is None else store.archived_at
        rest = _dump({"name": store.name, "description": store.description, "metadata": store.metadata})
        records[store.id] = f"{store.sequence} {store.created_at} {store.updated_at} {archived} {rest}"
        total = 0
        for each in store.memories:
            data = each.content.encode()
            total += len(data)
            parts = (
                store.id,
                each.created_at,
                each.updated_at,
                each.version_id,
                hashlib.sha256(data).hexdigest(),
                len(data),
                each.path,
            )
            memories[each.id], texts[each.id] = " ".join(map(str, parts)), each.content
        sizes |= {f"{store.id} count": str(len(store.memories)), f"{store.id} bytes": str(total)}
    return {"stores": records, "store_sizes": sizes, "memories": memories, "memory_texts": texts}


def _stored_environment(each: StateEnvironment) -> StoredEnvironment:
    config = each.config.model_dump()
    record = {
        "kind": config["type"],
        "name": each.name,
        "description": each.description,
        "config": _dump(config),
        "metadata": _dump(each.metadata),
        "scope": each.scope,
        "number": str(each.sequence),
        "created": str(each.created_at),
        "updated": str(each.updated_at),
        "archived": _text(each.archived_at),
        "version": str(each.changes),
        "last": str(each.last_step_at),
        "twice": "\n".join(f"{one.work_id} {one.worker_id}" for one in each.given_twice),
        **_counted(each.seeded),
    }
    # As `key_issue.lua` writes it: the script that revokes a key expects the id at the beginning.
    keys = {
        key.sha256: f'{{"id":"{key.id}","name":{json.dumps(key.name)},"created_at":{key.created_at},"revoked_at":'
        f"{json.dumps(key.revoked_at)}}}"
        for key in each.keys
    }
    return StoredEnvironment(
        each.id,
        record,
        keys,
        dict(each.idempotency_keys),
        {poller.worker_id: poller.polled_at for poller in each.pollers},
        [_stored_work(item) for item in each.work],
        [StoredEntry(entry.work_id, entry.entered_at, entry.handed_out_at) for entry in each.queue],
        [_stored_session(each.id, session) for session in each.sessions],
        [(event.id, dict(_life_fields(event))) for event in each.timeline],
    )


def _stored_work(item: StateWork) -> StoredWork:
    stamps = {name: getattr(item, member) for member, name in STAMPS.items()}
    fields = {
        "session": item.session_id,
        "state": item.state,
        "created": str(item.created_at),
        **{name: _text(value) for name, value in stamps.items()},
        "ttl": _text(item.ttl_seconds),
        "again": "1" if item.was_requeued else "",
        "message": "1" if item.message_waits else "",
        "ended": _text(item.times_stopped or None),
        "revived": _text(item.times_revived or None),
        "gone": {"deleted": "1", "replaced": "0"}.get(item.deleted_session or "", ""),
    }
    there = {name: value for name, value in fields.items() if value}
    metadata = {f"m:{key}": value for key, value in item.metadata.items()}
    return StoredWork(item.id, there | metadata, item.token_digests, item.lease_ends_at)


def _stored_session(environment_id: str, session: StateSession) -> StoredSession:
    made_up = session.sequence is None
    fields = {
        "number": _text(session.sequence),
        "work": work_id(environment_id, session.id),
        "agent": "" if session.agent is None else _dump(session.agent.model_dump()),
        "title": _dump(session.title),
        "metadata": _dump(session.metadata),
        "resources": _dump([each.model_dump() for each in session.resources]),
        "vaults": _dump(session.vault_ids),
        "created": str(session.created_at),
        "updated": str(session.updated_at),
        "archived": _text(session.archived_at),
        "status": session.status,
        "active": str(session.active_us),
        "state": "null" if session.agent_state is None else json.dumps(dumped(session.agent_state), ensure_ascii=False),
        "version": str(session.changes),
        "seen": str(session.events_seen),
    }
    if session.status_since is not None:
        fields["since"] = str(session.status_since)
    if session.script is not None:
        fields |= {"script": as_text(session.script.script), "source": session.script.source}
    if session.in_mid_turn is not None:
        fields["busy"] = "1" if session.in_mid_turn else ""
    if made_up:
        fields["stub"] = "1"
    events = [(_dump(each.event), each.at) for each in session.events]
    return StoredSession(session.id, fields, session.agent_acts_at, events)


def _life_fields(event: StateTimelineEvent) -> Iterator[tuple[str, str]]:
    by = event.by
    yield "k", event.kind
    yield "w", event.work_id
    yield "t", str(event.at)
    yield "u", str(event.wall_at)
    yield "b", "" if by is None else _dump({_LETTERS.get(name, name): value for name, value in by.items()})
    yield from event.details.items()
