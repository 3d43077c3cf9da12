"""Builds the document of a workspace from its stored data. `stored.py` is the inverse, `rules.py` checks a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workyard_queue.state.snapshots import (
    StoredEnvironment,
    StoredSession,
    StoredWork,
    StoredWorkspace,
)
from workyard_store.clock import format_instant

from ..schemas.common import optional_instant
from .fields import CALLER, SEEDED, STAMPS
from .shape import (
    VERSION,
)

Json = dict[str, Any]

_GONE = {"1": "deleted", "0": "replaced"}
_BUSY = {None: None, "": False, "1": True}


def _at(text: str | None) -> str | None:
    return format_instant(int(text)) if text else None


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _seeded(fields: Mapping[str, str]) -> dict[str, int]:
    prefix = len(SEEDED)
    return {name[prefix:]: int(value) for name, value in sorted(fields.items()) if name.startswith(SEEDED)}


def render_state(workspace: str, stored: StoredWorkspace) -> Json:
    """Return the document of a workspace."""
    return {"version": VERSION, **render_workspace(workspace, stored)}


def render_workspace(workspace: str, stored: StoredWorkspace) -> Json:
    """Return the document of a workspace without its version, as part of a server's document."""
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
        **{member: _at(read(name)) for member, name in STAMPS.items()},
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
        "by": {CALLER.get(letter, letter): value for letter, value in json.loads(by).items()} if by else None,
        "details": fields,
    }
