"""The API's promises as a program: the complete answer of every call, in plain Python.

Rules: `environments.*`, `work.*`, `stats.*`.

Owns no HTTP and imports nothing from the product. It states the rules the plainest way (a queue is the queued items in
the order of their entries), so that no bookkeeping of the product's has a twin here. What nobody can predict stands in
an answer as a name: `<env 1>`, `<work 2>`, `<secret 3>`; whoever compares learns what it stands for. Instants are
microseconds since 1970 by the workspace's frozen clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.model.records import (
    SECOND,
    Environment,
    Item,
    Json,
    Refused,
    Session,
    capped,
    check,
    instant,
    merged,
    patched,
    rendered,
)

#: 2200-01-01T00:00:00Z: a clock goes no further.
LAST_INSTANT = 7_258_118_400 * SECOND
#: How long a poll counts in `workers_polling`.
WORKER_WINDOW = 30 * SECOND
UNAPPLIED_TTL_S = 120
#: The members that a client sends, without those that the server adds.
EVENTS: dict[str, Json] = {
    "user.message": {"type": "user.message", "content": [{"type": "text", "text": "go"}]},
    "user.interrupt": {"type": "user.interrupt"},
}
DEFAULT_SETTINGS = {"default_ttl_seconds": 300, "startup_lease_seconds": 120, "reclaim_ms": 5000}


@dataclass(frozen=True)
class Answer:
    """A status and a body."""

    status: int
    body: Any


@dataclass(frozen=True)
class Row:
    """A row of a list, as it is at this instant."""

    body: Json

    def shown(self) -> Json:
        """Return the object on the wire."""
        return self.body


class Model:
    """One workspace, with one method per call; each takes the client's input and returns the body, or raises `Refused`."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.environments: dict[str, Environment] = {}
        self.settings: dict[str, int] = dict(DEFAULT_SETTINGS)
        #: All that were created, and those of enqueued work that somebody has asked for.
        self.sessions: dict[str, Session] = {}
        #: Cursor → its list, and the sequence it goes on below.
        self.cursors: dict[str, tuple[str, int]] = {}
        self._named: Counter[str] = Counter()

    def answer(self, call: str, arguments: Mapping[str, Any]) -> Answer:
        """Make a call."""
        try:
            return Answer(200, getattr(self, call)(**arguments))
        except Refused as refused:
            return Answer(
                refused.status, {"type": "error", "error": refused.error, "request_id": self._name("request")}
            )

    def _name(self, kind: str) -> str:
        self._named[kind] += 1
        return f"<{kind} {self._named[kind]}>"

    # -- environments

    def create_environment(self, body: Json) -> Json:
        config = merged(None, body.get("config") or {"type": "cloud"})
        scope = body.get("scope") or "organization"
        check(config, scope)
        metadata = capped(body.get("metadata") or {})
        id_ = self._name("env")
        self.environments[id_] = environment = Environment(
            id_, self._named["env"], self.now, self.now, body["name"], body.get("description") or "", config, metadata, scope
        )  # fmt: skip
        return environment.shown()

    def get_environment(self, env: str) -> Json:
        return self._environment(env).shown()

    def list_environments(self, limit: int = 20, page: str | None = None, include_archived: bool = False) -> Json:
        rows = {each.sequence: each for each in self.environments.values() if include_archived or not each.archived_at}
        return self._page("environments", rows, limit, page)

    def update_environment(self, env: str, body: Json) -> Json:
        environment = self._environment(env)
        if environment.archived_at is not None:
            message = f"Environment {env} is archived and cannot be updated."
            raise Refused(400, message, {"error_code": "environment_archived"})
        config = merged(environment.config, body.get("config"))
        scope = body.get("scope") or environment.scope
        check(config, scope)
        metadata = capped(patched(environment.metadata, body.get("metadata") or {}, deleting=(None, "")))
        environment.config, environment.scope, environment.metadata = config, scope, metadata
        environment.name = body.get("name") or environment.name
        if "description" in body:
            environment.description = body["description"] or ""
        environment.updated_at = self.now
        return environment.shown()

    def archive_environment(self, env: str) -> Json:
        environment = self._environment(env)
        if environment.archived_at is None:
            environment.archived_at = environment.updated_at = self.now
        return environment.shown()

    def delete_environment(self, env: str, force: bool = False) -> Json:
        queue = self._environment(env).queue()
        own = [each for each in self.sessions.values() if each.environment == env]
        active = sum(each.archived_at is None and not each.stub for each in own)
        if active and not force:
            raise Refused(409, f"Environment has {active} active sessions. Use force=true to delete anyway.")
        if queue and not force:
            raise Refused(
                409,
                "Cannot delete self-hosted environment with work in the queue. Either archive the environment first to "
                "allow the queue to drain, or use force=true to delete immediately.",
            )
        del self.environments[env]
        for session in own:
            del self.sessions[session.id]
        return {"id": env, "type": "environment_deleted"}

    # -- work

    def enqueue(self, env: str, body: Json) -> Json:
        metadata = capped(body.get("metadata") or {})
        environment = self._environment(env)
        if environment.is_cloud:
            raise Refused(400, f"Environment {env} is not self-hosted.")
        count, session = body.get("count", 1), body.get("session_id")
        key: str = body.get("idempotency_key") or ""
        if session is None:
            sessions = [environment.made_up.get((key, n), "") for n in range(count)]  # "" is yet to be made up
        else:
            sessions = [session.replace("sesn_", "session_")]
        found = {item.session: item for item in environment.items.values()}
        if environment.archived_at is not None and any(each not in found for each in sessions):
            raise Refused(400, f"Environment {env} is archived.")
        request = (count, sessions if session else None, metadata)
        repeated = key in environment.requests
        if repeated and environment.requests[key] != request:
            raise Refused(400, "idempotency_key: Was used before for a different request")
        if key:
            environment.requests[key] = request
        answer = []
        for n, each in enumerate(sessions):
            item = found.get(each)
            if item is None:
                name = each or self._name("session")
                if key and not each:
                    environment.made_up[key, n] = name
                item = self._new_item(environment, name, metadata)
            elif session is not None and not repeated:
                item.gone = False
                self._message_to(environment, item)
            answer.append(item.shown())
        return {"data": answer}

    def poll(self, env: str, worker: str | None = None, reclaim_older_than_ms: int | None = None) -> Json | None:
        environment = self._environment(env)
        if environment.is_cloud:
            raise Refused(
                400,
                f"Only BYOC and bridge environments support work polling. Environment {env} is anthropic_cloud.",
            )
        if worker:
            environment.workers[worker] = self.now
        age = (self.settings["reclaim_ms"] if reclaim_older_than_ms is None else reclaim_older_than_ms) * 1000
        queue = environment.queue()
        reclaimable = [(each.handed_out_at, each.entry, each) for each in queue if each.handed_out_at is not None]
        reclaimable = [each for each in reclaimable if each[0] <= self.now - age]
        waiting = [each for each in queue if each.handed_out_at is None]
        if not reclaimable and not waiting:
            return None
        item = min(reclaimable)[2] if reclaimable else waiting[0]
        item.handed_out_at = self.now
        return item.shown(secret=self._name("secret"))

    def ack(self, env: str, work: str) -> Json:
        item = self._item(env, work)
        if item.state != "queued":
            raise Refused(409, f"Work item {work} must be in QUEUED state to acknowledge. Current state: {item.state}.")
        item.state, item.acknowledged_at, item.message = "starting", self.now, False
        self._lease(item, self.settings["startup_lease_seconds"])
        return item.shown()

    def heartbeat(self, env: str, work: str, expected: str | None = None, ttl: int | None = None) -> Json:
        item = self._item(env, work)
        stored = rendered(item.beat)
        if item.state in ("stopping", "stopped"):
            return _beaten(stored or "", False, item.state, UNAPPLIED_TTL_S)
        if item.state == "queued" or (expected and expected != (stored or "NO_HEARTBEAT")):
            state = {
                "state": item.state,
                "last_heartbeat": stored,
                "lease_extended": False,
                "ttl_seconds": item.ttl or UNAPPLIED_TTL_S,
            }
            raise Refused(
                412,
                f"Heartbeat precondition failed: expected {expected or 'NO_HEARTBEAT'}, actual was {stored or 'NULL'}",
                {
                    "current_state": state,
                    "error_visibility": "user_facing",
                    "error_code": "heartbeat_precondition_failed",
                },
            )
        if item.state == "starting":
            item.state, item.started_at = "active", self.now
        # Later than every one before, so that what a former holder knows never fits again.
        item.beat = max(self.now, item.beats[-1] + 1) if item.beats else self.now
        item.beats.append(item.beat)
        item.ttl = self.settings["default_ttl_seconds"] if ttl is None else min(max(ttl, 1), 3600)
        self._lease(item, item.ttl)
        return _beaten(rendered(item.beat), True, "active", item.ttl)

    def stop(self, env: str, work: str, force: bool | None = None) -> Json:
        item = self._item(env, work)
        if item.state == "stopped":
            return item.shown()
        if force or (item.state == "queued" and not item.again):
            if item.stop_requested_at is None:
                item.stop_requested_at = self.now
            return self._become_stopped(self.environments[env], item, self.now)
        if item.state in ("starting", "active"):
            item.state, item.stop_requested_at = "stopping", self.now
        return item.shown()

    def update_work(self, env: str, work: str, metadata: dict[str, str | None] | None) -> Json:
        item = self._item(env, work)
        patch = metadata or {}
        item.metadata = capped(patched(item.metadata, patch, deleting=(None,)))
        return item.shown()

    def get_work(self, env: str, work: str) -> Json:
        return self._item(env, work).shown()

    def list_work(self, env: str, limit: int = 20, page: str | None = None) -> Json:
        name = f"work {env}"
        self._below(name, page)
        environment = self._environment(env)
        if environment.is_cloud and environment.archived_at is not None:
            raise Refused(400, f"Environment {env} is archived.")
        if environment.is_cloud:
            raise Refused(
                404,
                f"Environment `{env}` not found, or does not support work listing. "
                "The work API is only available for self-hosted environments.",
            )
        return self._page(name, {item.sequence: item for item in environment.items.values()}, limit, page)

    def stats(self, env: str) -> Json:
        environment = self._environment(env)
        queue = environment.queue()
        workers = sum(self.now - stamp < WORKER_WINDOW for stamp in environment.workers.values())
        return {
            "type": "work_queue_stats",
            "depth": sum(item.handed_out_at is None for item in queue),
            "pending": sum(item.handed_out_at is not None for item in queue),
            "oldest_queued_at": rendered(queue[0].queued_at) if queue else None,
            "workers_polling": None if environment.is_cloud else workers,
        }

    # -- sessions

    def use_script(self, body: Json) -> Json:
        """Have the agents of this workspace act as `Session` says."""
        return {"name": "default", "script": self._name("script")}

    def create_session(self, env: str, messages: int = 0) -> Json:
        environment = self._environment(env)
        if environment.archived_at is not None:
            raise Refused(400, f"Environment {env} is archived.")
        id_ = self._name("session")
        session = Session(id_, env, self._named["session"], self.now, self.now, unserved=messages)
        self.sessions[id_] = session
        if not environment.is_cloud:
            self._new_item(environment, id_, {}).message = messages > 0
        return session.shown(self.now)

    def get_session(self, session: str) -> Json:
        return self._session(session).shown(self.now)

    def list_sessions(self, limit: int = 20, page: str | None = None, include_archived: bool = False) -> Json:
        rows = {
            each.sequence: Row(each.shown(self.now))
            for each in self.sessions.values()
            if not each.stub and (include_archived or each.archived_at is None)
        }
        return self._page("sessions", rows, limit, page)

    def send(self, session: str, kinds: list[str]) -> Json:
        """Send messages and interrupts: `kinds`."""
        found = self._session(session)
        if found.archived_at is not None:
            raise Refused(400, f"Session {session} is archived and takes no events.")
        environment = self.environments[found.environment]
        item = environment.item_of(session)
        for kind in kinds:
            found.unserved = found.unserved + 1 if kind == "user.message" else max(found.unserved - 1, 0)
        if item is not None and "user.message" in kinds:
            self._message_to(environment, item)
        if item is not None and not found.unserved:
            item.message = False
        return {
            "data": [{"id": self._name("event"), **EVENTS[kind], "processed_at": rendered(self.now)} for kind in kinds]
        }

    def archive_session(self, session: str) -> Json:
        found = self._session(session)
        if found.archived_at is None:
            found.archived_at = found.updated_at = self.now
            self._release(found)
        return found.shown(self.now)

    def delete_session(self, session: str) -> Json:
        found = self._session(session)
        self._release(found)
        item = self.environments[found.environment].item_of(session)
        if item is not None:
            item.gone = True
        del self.sessions[session]
        return {"id": session, "type": "session_deleted"}

    # -- control plane

    def change_clock(self, body: Json) -> Json:
        member = next(name for name in ("at", "advance_seconds", "advance_to_next") if name in body)
        if member == "at":
            to = instant(body["at"])
        elif member == "advance_seconds":
            to = self.now + round(body["advance_seconds"] * SECOND)
        else:
            ahead = self._timers(self.now, math.inf)
            to = min((at for at, row in ahead if body.get("timer") in (None, row["timer"])), default=self.now)
        if to < self.now:
            raise Refused(400, f"at: Time never goes back: the workspace's clock is at {rendered(self.now)}")
        if to > LAST_INSTANT:
            raise Refused(400, f"{member}: A clock stops at {rendered(LAST_INSTANT)}")
        fired = [row for _, row in self._timers(self.now, to)]
        self.now = to
        for environment in self.environments.values():
            self._lapse(environment)
        shown = {"mode": "frozen", "now": rendered(to), "ahead_seconds": self._name("number")}
        return {**shown, "fired": fired, "more": False}

    def _timers(self, since: int, until: float) -> list[tuple[int, Json]]:
        """Return what time brings after *since* and not after *until*, in its order, with its instants."""
        kinds = {"starting": "startup_lease", "active": "lapse", "stopping": "wind_down"}
        found: list[tuple[tuple[Any, ...], Json]] = []

        def add(at: int, rank: int, place: Any, environment: Environment, kind: str, **about: Any) -> None:
            if since < at <= until:
                row = {"at": rendered(at), "timer": kind, "environment_id": environment.id}
                nothing = {"work_id": None, "session_id": None, "worker_id": None}
                found.append(((at, environment.sequence, rank, place), {**row, **nothing, **about}))

        for each in self.environments.values():
            for item in each.items.values():
                about = {"work_id": item.id, "session_id": item.session}
                if item.lease_end is not None:
                    add(item.lease_end, 1, item.sequence, each, kinds[item.state], **about)
                if item.state == "queued" and item.handed_out_at is not None:
                    age = self.settings["reclaim_ms"] * 1000
                    add(item.handed_out_at + age, 2, item.entry, each, "reclaim", **about)
            for worker, polled_at in each.workers.items():
                add(polled_at + WORKER_WINDOW, 3, worker, each, "poller_window", worker_id=worker)
        return [(key[0], row) for key, row in sorted(found, key=lambda one: one[0])]

    def change_settings(self, body: dict[str, int | None]) -> Json:
        for name, value in body.items():
            self.settings[name] = DEFAULT_SETTINGS[name] if value is None else value
        return {**self.settings, "id_seed": None}

    def malformed(self, message: str, request: Json) -> Json:
        """A *request* that is refused for its form, whatever it is about."""
        raise Refused(400, message)

    # -- rules that several calls share

    def _environment(self, env: str) -> Environment:
        if env not in self.environments:
            raise Refused(404, f"Environment {env} not found.")
        return self.environments[env]

    def _item(self, env: str, work: str) -> Item:
        items = self._environment(env).items
        if work not in items:
            raise Refused(404, f"Work item {work} not found.")
        return items[work]

    def _session(self, session: str) -> Session:
        """Return a session; that of enqueued work begins when it is first requested."""
        if session not in self.sessions:
            for environment in self.environments.values():
                item = environment.item_of(session)
                if item is not None and not item.gone:
                    at = item.created_at
                    self.sessions[session] = Session(session, environment.id, 0, at, at, stub=True)
        if session not in self.sessions:
            raise Refused(404, f"Session {session} not found.")
        return self.sessions[session]

    def _message_to(self, environment: Environment, item: Item) -> None:
        item.message = True
        if item.state == "stopped":
            self._requeue(environment, item, self.now)

    def _release(self, session: Session) -> None:
        """Stop a session's work for good."""
        environment = self.environments[session.environment]
        item = environment.item_of(session.id)
        if item is not None:
            item.message = False
            if item.state != "stopped":
                item.stop_requested_at = item.stop_requested_at or self.now
                self._become_stopped(environment, item, self.now)

    def _new_item(self, environment: Environment, session: str, metadata: dict[str, str]) -> Item:
        id_ = self._name("work")
        item = Item(id_, environment.id, session, self._named["work"], self.now, dict(metadata))
        environment.items[id_] = item
        self._enter(environment, item, self.now)
        return item

    def _enter(self, environment: Environment, item: Item, date: int) -> None:
        environment.entries += 1
        item.state, item.entry, item.queued_at, item.handed_out_at = "queued", environment.entries, date, None

    def _requeue(self, environment: Environment, item: Item, date: int) -> None:
        self._enter(environment, item, date)
        item.again = True
        item.acknowledged_at = item.started_at = item.beat = item.stop_requested_at = item.stopped_at = None
        item.ttl = item.lease_end = None

    def _lease(self, item: Item, seconds: int) -> None:
        item.lease_end = self.now + seconds * SECOND
        item.lease_ends.append(item.lease_end)

    def _become_stopped(self, environment: Environment, item: Item, at: int) -> Json:
        """Stop an item; return it as it is before a message that waits re-enqueues it."""
        item.state, item.stopped_at, item.lease_end = "stopped", at, None
        shown = item.shown()
        if item.message:
            self._requeue(environment, item, at)
        return shown

    def _lapse(self, environment: Environment) -> None:
        leased = [(item.lease_end, item.sequence, item) for item in environment.items.values() if item.lease_end]
        for end, _, item in sorted(leased, key=lambda each: each[:2]):
            if end > self.now:
                break
            if item.state == "stopping":
                self._become_stopped(environment, item, end)
            else:
                self._requeue(environment, item, end)

    def _below(self, name: str, page: str | None) -> float:
        if page is None:
            return float("inf")
        of, sequence = self.cursors.get(page, ("", 0))
        if of != name:
            raise Refused(400, "page: Invalid cursor")
        return sequence

    def _page(self, name: str, rows: Mapping[int, Item | Environment | Row], limit: int, page: str | None) -> Json:
        below = self._below(name, page)
        left = sorted((sequence for sequence in rows if sequence < below), reverse=True)
        cursor = None
        if len(left) > limit:
            cursor = self._name("page")
            self.cursors[cursor] = (name, left[limit - 1])
        return {"data": [rows[sequence].shown() for sequence in left[:limit]], "next_page": cursor}


def _beaten(stamp: str | None, extended: bool, state: str, ttl: int) -> Json:
    return {
        "type": "work_heartbeat",
        "last_heartbeat": stamp,
        "lease_extended": extended,
        "state": state,
        "ttl_seconds": ttl,
    }
