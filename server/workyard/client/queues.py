"""Helpers for environments, work, agents' scripts, and the workspace as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..schemas.work import Work, WorkQueueStats
from ..schemas.workspaces import LeaseSettings, Recount, ResetDone
from ..state.answers import StateRestored
from .connection import Request, WorkyardRefused
from .environment import exports
from .steps import Helpers, Steps, helper, read

_MOST_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Environment:
    """A self-hosted environment, and a key for its workers.

    Attributes:
        url: of the server.
        api_key: of the workspace it lives in.
    """

    id: str
    key: str = field(repr=False)
    url: str
    api_key: str = field(repr=False)

    @property
    def variables(self) -> dict[str, str]:
        """What a worker in a process of its own is to be given, beside what that has anyway: `ANTHROPIC_BASE_URL`, …"""
        return exports(self.url, self.api_key, self.id, self.key)


def id_of(thing: str | Environment | Work) -> str:
    """Return the id of what is named by its id, or by what has it."""
    return thing if isinstance(thing, str) else thing.id


def path_of(environment: str | Environment, rest: str = "", *, below: str = "/v1") -> str:
    """Return the path of an environment, or of something in it."""
    return f"{below}/environments/{quote(id_of(environment), safe='')}{rest}"


class QueueHelpers(Helpers):
    """What is done to the queues of a workspace, and what is found in them."""

    @helper
    def environment(self, name: str = "test", *, metadata: Mapping[str, str] | None = None) -> Steps[Environment]:
        """Create a self-hosted environment and a key for its workers."""
        body = {"name": name, "config": {"type": "self_hosted"}, "metadata": dict(metadata or {})}
        created = yield Request("POST", "/v1/environments", body)
        issued = yield Request("POST", path_of(created["id"], "/keys", below="/_emulator"), {"name": name[:256]})
        return Environment(created["id"], issued["key"], self._place.link.url, self._place.api_key)

    @helper
    def enqueue(
        self,
        environment: str | Environment,
        count: int = 1,
        *,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[list[Work]]:
        """Enqueue work, each item for a made-up session unless one is given; return the items in their order."""
        body = {
            "count": count,
            "session_id": session_id,
            "metadata": None if metadata is None else dict(metadata),
            "idempotency_key": idempotency_key,
        }
        done = yield Request("POST", path_of(environment, "/work", below="/_emulator"), body)
        return [read(Work, item) for item in done["data"]]

    @helper
    def work(self, environment: str | Environment) -> Steps[list[Work]]:
        """Return all items of an environment as they are now, newest first."""
        rows: list[Work] = []
        page: str | None = None
        token: str | None = None
        while True:
            query = {"limit": _MOST_PER_PAGE, "page": page}
            try:
                found = yield Request("GET", path_of(environment, "/work"), query=query, token=token)
            except WorkyardRefused as refusal:
                if token is not None or refusal.status != 401:
                    raise
                # In mode `strict` the list is for those who work.
                if isinstance(environment, Environment):
                    token = environment.key
                else:
                    issued = yield Request("POST", path_of(environment, "/keys", below="/_emulator"), {"name": "list"})
                    token = str(issued["key"])
                continue
            rows += [read(Work, item) for item in found["data"]]
            page = found["next_page"]
            if page is None:
                return rows

    @helper
    def stats(self, environment: str | Environment) -> Steps[WorkQueueStats]:
        """Return the figures of an environment's queue."""
        return read(WorkQueueStats, (yield Request("GET", path_of(environment, "/work/stats"))))

    @helper
    def settings(self, /, **changes: int | None) -> Steps[LeaseSettings]:
        """Change the workspace's settings, such as `default_ttl_seconds=2`, and return those in force."""
        asked = Request("POST", "/_emulator/settings", changes) if changes else Request("GET", "/_emulator/settings")
        return read(LeaseSettings, (yield asked))

    @helper
    def script(
        self, script: str | Mapping[str, Any], *, name: str = "default", session_id: str | None = None
    ) -> Steps[None]:
        """Give a session, or the workspace under a name, the script of an agent: a mapping, or a text in YAML."""
        place = f"scripts/{quote(name, safe='')}"
        if session_id is not None:
            place = f"sessions/{quote(session_id, safe='')}/script"
        yield Request("PUT", f"/_emulator/{place}", script if isinstance(script, str) else dict(script))

    @helper
    def reset(self) -> Steps[ResetDone]:
        """Remove everything of the workspace, its clock and settings too."""
        return read(ResetDone, (yield Request("POST", "/_emulator/reset")))

    @helper
    def assert_invariants(self) -> Steps[Recount]:
        """Recount the workspace's queues from the raw keys.

        Raises:
            AssertionError: something contradicts the rules of the queue; the text names it.
        """
        found = read(Recount, (yield Request("GET", "/_emulator/invariants")))
        if found.violations:
            lines = [f"{each.rule}: {each.environment_id} {each.work_id}: {each.message}" for each in found.violations]
            raise AssertionError("\n".join(["the queues contradict their rules:", *lines]))
        return found

    @helper
    def state(self) -> Steps[dict[str, Any]]:
        """Return the whole workspace as one document, which `restore` takes."""
        document: dict[str, Any] = yield Request("GET", "/_emulator/state")
        return document

    @helper
    def restore(self, document: Mapping[str, Any]) -> Steps[StateRestored]:
        """Put a document of `state` in the place of what the workspace holds, with the same ids."""
        return read(StateRestored, (yield Request("PUT", "/_emulator/state", dict(document))))
