"""Where environments are listed, when an id is given to a new one while the last one's remains are removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from workyard_store.access import TRUSTED, Access
from workyard_store.engine.engine import Engine
from workyard_store.engine.lua import LuaCall
from workyard_store.ids import new_id
from workyard_store.keys import Keys
from workyard_store.workspaces.environments import EnvironmentStore
from workyard_store.workspaces.workspaces import WorkspaceStore


class Store:
    """The records and places of the environments of a Redis of its own, with one id that is given."""

    def __init__(self, engine: Engine) -> None:
        access = Access(engine, engine.keys)
        self.engine = engine
        self.workspaces = WorkspaceStore(access)
        self.environments = EnvironmentStore(access, self.workspaces)
        self.id = new_id("env")

    async def create(self) -> None:
        """Create the environment."""
        await self.environments.create(
            "ws", name="", description="", config={"type": "self_hosted"}, metadata={}, scope="", environment_id=self.id
        )

    async def check(self) -> None:
        """Check that it is there, and listed."""
        assert (await self.environments.get(self.id, TRUSTED)).workspace == "ws"
        assert await self.workspaces.environments("ws") == [self.id]
        page, _ = await self.environments.list("ws", limit=9, page=None, include_archived=False)
        assert [each.id for each in page] == [self.id]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """An embedded engine of the test's own."""
    engine = Engine.embedded(Keys())
    await engine.open()
    yield Store(engine)
    await engine.close()


@pytest.mark.parametrize("moment", ["before the look", "before the place goes"])
async def test_an_environment_that_was_created_anew_keeps_its_place(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whoever still removes what its last life has left does not take it."""
    await store.create()
    await store.engine.command("DEL", store.engine.keys.environment(store.id))
    run = store.engine.run

    async def run_and_create(call: LuaCall[Any], key: str, *heads: Any) -> Any:
        purges = call.bound.name == "environment_purge"
        if purges and moment == "before the look":
            monkeypatch.undo()
            await store.engine.command("DEL", store.engine.keys.environment(store.id, "stream"))
            await store.create()
        answer = await run(call, key, *heads)
        if purges and moment == "before the place goes":
            monkeypatch.undo()
            await store.create()
        return answer

    monkeypatch.setattr(store.engine, "run", run_and_create)
    await store.workspaces.purge("ws", store.id)
    await store.check()


async def test_the_place_of_one_that_is_gone_goes(store: Store) -> None:
    """As ever; a repeat finds nothing."""
    await store.create()
    await store.engine.command("DEL", store.engine.keys.environment(store.id))
    assert await store.workspaces.purge("ws", store.id) > 0
    assert await store.workspaces.environments("ws") == []
    assert await store.workspaces.purge("ws", store.id) == 0
