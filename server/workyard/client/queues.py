"""Helpers for environments and their work, for scripts of agents, and for the workspace as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..schemas.work import Work, WorkQueueStats
from ..schemas.workspaces import LeaseSettings, Recount, ResetDone
from ..state.answers import StateRestored
from . import calls
from .connection import WorkyardRefused
from .environment import client_variables
from .steps import Helpers, Steps, helper, read

_MOST_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Environment:
    """A self-hosted environment, and a key for its workers.

    Attributes:
        url: the URL of the server.
        api_key: the API key of the environment's workspace.
    """

    id: str
    key: str = field(repr=False)
    url: str
    api_key: str = field(repr=False)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables to add for a worker in a process of its own: `ANTHROPIC_BASE_URL`, …"""
        return client_variables(self.url, self.api_key, self.id, self.key)


def id_of(thing: str | Environment | Work) -> str:
    """Return an id, given the id itself or an object that has it."""
    return thing if isinstance(thing, str) else thing.id


class QueueHelpers(Helpers):
    """Makes environments and work in a workspace, and reads, saves and removes what it holds."""

    @helper
    def environment(self, name: str = "test", *, metadata: Mapping[str, str] | None = None) -> Steps[Environment]:
        """Create a self-hosted environment and a key for its workers."""
        created = yield calls.create_environment(name, metadata)
        issued = yield calls.issue_key(created["id"], name[:256])
        return Environment(created["id"], issued["key"], self._target.connection.url, self._target.api_key)

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
        done = yield calls.enqueue_work(id_of(environment), count, session_id, metadata, idempotency_key)
        return [read(Work, item) for item in done["data"]]

    @helper
    def work(self, environment: str | Environment) -> Steps[list[Work]]:
        """Return all items of an environment as they are now, newest first."""
        rows: list[Work] = []
        page: str | None = None
        token: str | None = None
        while True:
            try:
                found = yield calls.list_work(id_of(environment), limit=_MOST_PER_PAGE, page=page, token=token)
            except WorkyardRefused as refusal:
                if token is not None or refusal.status != 401:
                    raise
                # In mode `strict` the list needs a worker's credential.
                if isinstance(environment, Environment):
                    token = environment.key
                else:
                    issued = yield calls.issue_key(environment, "list")
                    token = str(issued["key"])
                continue
            rows += [read(Work, item) for item in found["data"]]
            page = found["next_page"]
            if page is None:
                return rows

    @helper
    def stats(self, environment: str | Environment) -> Steps[WorkQueueStats]:
        """Return the figures of an environment's queue."""
        return read(WorkQueueStats, (yield calls.get_work_stats(id_of(environment))))

    @helper
    def settings(self, /, **changes: int | None) -> Steps[LeaseSettings]:
        """Change settings of the workspace, such as `default_ttl_seconds=2`, and return all settings."""
        return read(LeaseSettings, (yield calls.change_settings(changes) if changes else calls.get_settings()))

    @helper
    def script(
        self, script: str | Mapping[str, Any], *, name: str = "default", session_id: str | None = None
    ) -> Steps[None]:
        """Give a session, or the workspace under a name, the script of an agent: a mapping, or a text in YAML."""
        if session_id is None:
            yield calls.put_script(name, script)
        else:
            yield calls.put_session_script(session_id, script)

    @helper
    def reset(self) -> Steps[ResetDone]:
        """Remove everything of the workspace, also its clock and its settings."""
        return read(ResetDone, (yield calls.reset()))

    @helper
    def assert_invariants(self) -> Steps[Recount]:
        """Recount the workspace's queues from the raw keys.

        Raises:
            AssertionError: the queues contradict their rules; the text names each contradiction.
        """
        found = read(Recount, (yield calls.recount()))
        if found.violations:
            lines = [f"{each.rule}: {each.environment_id} {each.work_id}: {each.message}" for each in found.violations]
            raise AssertionError("\n".join(["the queues contradict their rules:", *lines]))
        return found

    @helper
    def state(self) -> Steps[dict[str, Any]]:
        """Return the whole workspace as one document, which `restore` accepts."""
        document: dict[str, Any] = yield calls.export_state()
        return document

    @helper
    def restore(self, document: Mapping[str, Any]) -> Steps[StateRestored]:
        """Replace all that the workspace holds by that of a document of `state`, with the same ids."""
        return read(StateRestored, (yield calls.restore_state(document)))
