"""The document of a workspace's state, and what is stored of it: each made of the other. What must hold: `state_rules`."""

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
from workyard_store.clock import format_instant
from workyard_store.errors import InvalidRequest
from workyard_store.ids import random_suffix, work_id

from ..schemas.common import optional_instant
from .shape import (
    VERSION,
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

Json = dict[str, Any]

#: Member of the document → field of a work item's hash.
_STAMPS = {
    "acknowledged_at": "acked",
    "started_at": "started",
    "latest_heartbeat_at": "beat",
    "latest_heartbeat_ever_at": "ever",
    "stop_requested_at": "stop",
    "stopped_at": "stopped",
}
_GONE = {"1": "deleted", "0": "replaced"}
_BUSY = {None: None, "": False, "1": True}
_BY = {"r": "request_id", "w": "worker_id", "a": "user_agent", "h": "helper", "c": "credential", "o": "operation"}
_BY_LETTERS = {name: letter for letter, name in _BY.items()}
_SEEDED = "seeded:"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _at(text: str | None) -> str | None:
    return format_instant(int(text)) if text else None


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _seeded(fields: Mapping[str, str]) -> dict[str, int]:
    prefix = len(_SEEDED)
    return {name[prefix:]: int(value) for name, value in sorted(fields.items()) if name.startswith(_SEEDED)}


def _counted(seeded: Mapping[str, int]) -> dict[str, str]:
    return {f"{_SEEDED}{kind}": str(count) for kind, count in seeded.items()}


# -- what is stored → document ------------------------------------------------------------------------------------


def render_state(workspace: str, stored: StoredWorkspace) -> Json:
    """Return the document of a workspace."""
    return {"version": VERSION, **render_workspace(workspace, stored)}


def render_workspace(workspace: str, stored: StoredWorkspace) -> Json:
    """Return the document of a workspace without its version, as that of a server has it."""
    read = stored.state.get
    frozen = read("frozen")
    hashes = stored.hashes
    return {
        "workspace": workspace,
        "clock": {
            "mode": "auto" if frozen and read("auto") == "1" else "frozen" if frozen else "real",
            "at": _at(frozen),
            "shift_us": int(read("shift") or 0),
            "changed_to": _at(read("last")),
        },
        "settings": {
            "default_ttl_seconds": _number(read("ttl")),
            "startup_lease_seconds": _number(read("startup")),
            "reclaim_ms": _number(read("reclaim")),
            "id_seed": _number(read("seed")),
        },
        "counters": {
            "resources": _number(read("number")),
            "sessions": int(read("sessions") or 0),
            "seeded": _seeded(stored.state),
        },
        "faults": _faults(hashes["faults"], hashes["fault_counts"]),
        "agents": _agents(hashes["agents"]),
        "scripts": {name: json.loads(text) for name, text in sorted(hashes["scripts"].items())},
        "skills": _skills(hashes),
        "memory_stores": _memory_stores(hashes),
        "environments": [_environment(each) for each in stored.environments],
    }


def _faults(rules: Mapping[str, str], counts: Mapping[str, str]) -> Json:
    rows = []
    # The version is for those who remember the rules: what is restored has another.
    for number in sorted(int(name) for name in rules if name != "version"):
        ends, _, text = rules[str(number)].partition("\n")
        asked, hits = (int(counts.get(f"{number} {name}", 0)) for name in ("asked", "hits"))
        rows.append({"number": number, "ends_at": _at(ends), "asked": asked, "hits": hits, "rule": json.loads(text)})
    return {"rules": rows, "last_number": int(counts.get("last", 0))}


def _agents(records: Mapping[str, str]) -> list[Json]:
    rows = []
    for id_, record in records.items():
        created, _, definition = record.partition(" ")
        rows.append((int(created), id_, json.loads(definition)))
    return [
        {"id": id_, "created_at": format_instant(at), **members} for at, id_, members in sorted(rows, key=_first_two)
    ]


def _first_two(row: tuple[Any, ...]) -> tuple[Any, Any]:
    return row[0], row[1]


def _skills(hashes: Mapping[str, Mapping[str, str]]) -> list[Json]:
    rows = []
    for id_, record in hashes["skills"].items():
        sequence, created, updated, versions, name, _, rest = record.split(" ", 6)
        kept = [
            {
                "id": version,
                "description": hashes["skill_versions"][f"{id_} {version}"],
                "archive": hashes["skill_archives"][f"{id_} {version}"],
            }
            for version in versions.split(",")
            # One that went or came while the hashes were read is left out.
            if f"{id_} {version}" in hashes["skill_versions"] and f"{id_} {version}" in hashes["skill_archives"]
        ]
        dates = {"created_at": format_instant(int(created)), "updated_at": format_instant(int(updated))}
        if kept:
            row = {"id": id_, "sequence": int(sequence), "name": name, **json.loads(rest), **dates, "versions": kept}
            rows.append(row)
    return sorted(rows, key=_by_sequence)


def _by_sequence(row: Json) -> int:
    return int(row["sequence"])


def _memory_stores(hashes: Mapping[str, Mapping[str, str]]) -> list[Json]:
    stores: dict[str, Json] = {}
    for id_, record in hashes["stores"].items():
        sequence, created, updated, archived, rest = record.split(" ", 4)
        stores[id_] = {
            "id": id_,
            "sequence": int(sequence),
            **json.loads(rest),
            "created_at": format_instant(int(created)),
            "updated_at": format_instant(int(updated)),
            "archived_at": None if archived == "-" else format_instant(int(archived)),
            "memories": [],
        }
    for id_, record in hashes["memories"].items():
        store, created, updated, version, _, _, path = record.split(" ", 6)
        if store in stores and id_ in hashes["memory_texts"]:
            stores[store]["memories"].append(
                {
                    "id": id_,
                    "path": path,
                    "content": hashes["memory_texts"][id_],
                    "version_id": version,
                    "created_at": format_instant(int(created)),
                    "updated_at": format_instant(int(updated)),
                }
            )
    for each in stores.values():
        each["memories"].sort(key=lambda memory: memory["path"])
    return sorted(stores.values(), key=_by_sequence)


def _environment(stored: StoredEnvironment) -> Json:
    record = stored.record
    keys = [{**json.loads(text), "sha256": sha256} for sha256, text in stored.keys.items()]
    return {
        "id": stored.id,
        "sequence": int(record["number"]),
        "name": record["name"],
        "description": record["description"],
        "config": json.loads(record["config"]),
        "metadata": json.loads(record["metadata"]),
        "scope": record["scope"],
        "created_at": _at(record["created"]),
        "updated_at": _at(record["updated"]),
        "archived_at": _at(record["archived"]),
        "changes": int(record["version"]),
        "last_step_at": _at(record["last"]),
        "seeded": _seeded(record),
        "keys": [
            {
                "id": key["id"],
                "name": key["name"],
                "sha256": key["sha256"],
                "created_at": format_instant(key["created_at"]),
                "revoked_at": optional_instant(key["revoked_at"]),
            }
            for key in sorted(keys, key=lambda key: (key["created_at"], key["id"]))
        ],
        "pollers": [
            {"worker_id": worker, "polled_at": format_instant(at)} for worker, at in sorted(stored.pollers.items())
        ],
        "idempotency_keys": dict(sorted(stored.idempotency.items())),
        "work": [_work(each) for each in stored.work],
        "queue": [
            {
                "work_id": entry.work_id,
                "entered_at": format_instant(entry.date),
                "handed_out_at": optional_instant(entry.handed_out),
            }
            for entry in stored.queue
        ],
        "given_twice": [
            {"work_id": work, "worker_id": worker}
            for work, _, worker in (line.partition(" ") for line in record.get("twice", "").split("\n") if line)
        ],
        "sessions": [_session(each) for each in stored.sessions],
        "timeline": [_life_event(id_, dict(fields)) for id_, fields in stored.life],
    }


def _work(stored: StoredWork) -> Json:
    read = stored.fields.get
    return {
        "id": stored.id,
        "session_id": read("session"),
        "state": read("state"),
        "metadata": {name[2:]: value for name, value in sorted(stored.fields.items()) if name.startswith("m:")},
        "created_at": _at(read("created")),
        **{member: _at(read(name)) for member, name in _STAMPS.items()},
        "lease_ends_at": optional_instant(stored.lease_ends),
        "ttl_seconds": _number(read("ttl")),
        "was_requeued": read("again") == "1",
        "message_waits": read("message") == "1",
        "times_stopped": int(read("ended") or 0),
        "times_revived": int(read("revived") or 0),
        "deleted_session": _GONE.get(read("gone") or ""),
        "token_digests": stored.tokens,
    }


def _session(stored: StoredSession) -> Json:
    read = stored.fields.get
    script = read("script")
    return {
        "id": stored.id,
        "sequence": _number(read("number")),
        "agent": json.loads(read("agent") or "null"),
        "title": json.loads(stored.fields["title"]),
        "metadata": json.loads(stored.fields["metadata"]),
        "resources": json.loads(stored.fields["resources"]),
        "vault_ids": json.loads(stored.fields["vaults"]),
        "status": read("status"),
        "status_since": _at(read("since")),
        "active_us": int(stored.fields["active"]),
        "created_at": _at(read("created")),
        "updated_at": _at(read("updated")),
        "archived_at": _at(read("archived")),
        "changes": int(stored.fields["version"]),
        "script": {"source": read("source"), "script": json.loads(script)} if script else None,
        "agent_state": json.loads(stored.fields["state"]),
        "in_mid_turn": _BUSY[read("busy")],
        "agent_acts_at": optional_instant(stored.due),
        "events_seen": int(stored.fields["seen"]),
        "events": [{"at": format_instant(date), "event": json.loads(content)} for content, date in stored.events],
    }


def _life_event(id_: str, fields: dict[str, str]) -> Json:
    by = fields.pop("b")
    return {
        "id": id_,
        "kind": fields.pop("k"),
        "work_id": fields.pop("w"),
        "at": _at(fields.pop("t")),
        "wall_at": _at(fields.pop("u")),
        "by": {_BY.get(letter, letter): value for letter, value in json.loads(by).items()} if by else None,
        "details": fields,
    }


# -- document → what is stored ------------------------------------------------------------------------------------


def stored_of(state: WorkspaceState) -> StoredWorkspace:
    """Return what to store of a document that keeps the rules.

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
    # As `key_issue.lua` writes it: what revokes a key looks for the id at the beginning.
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
    stamps = {name: getattr(item, member) for member, name in _STAMPS.items()}
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
    yield "b", "" if by is None else _dump({_BY_LETTERS.get(name, name): value for name, value in by.items()})
    yield from event.details.items()
