"""Messages of the wake channel: what scripts publish is what `engine/wake.py` reads, on every engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.harness import NOON, after
from workyard.app import create_app
from workyard.settings import Settings
from workyard_store.clock import format_instant
from workyard_store.engine import engine as engine_module
from workyard_store.engine.engine import Engine
from workyard_store.engine.wake import (
    AgentDue,
    Answer,
    Changed,
    Message,
    Question,
    SessionDeleted,
    SessionEvents,
    Watched,
    WorkReady,
    decode,
    encode,
)

ROOT = Path(__file__).parents[2]
#: One message of each type and its text.
TEXTS: dict[str, Message] = {
    "work env_1": WorkReady("env_1"),
    "changed env_1": Changed("env_1"),
    "agent env_1": AgentDue("env_1"),
    "watched env_1": Watched("env_1"),
    "events session_1": SessionEvents("session_1"),
    "deleted session_1 1800000000000000": SessionDeleted("session_1", 1_800_000_000_000_000),
    "ask 0f.1 busy wrkspc_1": Question("0f.1", "busy", "wrkspc_1"),
    "ask 0f.1 flush ": Question("0f.1", "flush", ""),
    "answer 0f.1 1e 3 of 4": Answer("0f.1", "1e", "3 of 4"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_survives_its_text(text: str) -> None:
    """Both ways."""
    assert decode(text) == TEXTS[text]
    assert encode(TEXTS[text]) == text


@pytest.mark.parametrize(
    "text",
    ["", "work", "work ", "env_1", "env_1!", "deleted session_1", "deleted session_1 soon", "ask 1 busy", "x y z"],
)
def test_any_other_text_is_refused(text: str) -> None:
    """Another program may publish on the channel."""
    with pytest.raises(ValueError, match="not a message"):
        decode(text)


def test_scripts_publish_in_one_place_and_so_does_python() -> None:
    """The helper `announce`, and the engine."""
    files = {
        file.relative_to(ROOT).as_posix()
        for pattern in ("*.lua", "*.py")
        for folder in ("store", "queue", "server")
        for file in (ROOT / folder).rglob(pattern)
        if re.search(r"""['"]PUBLISH['"]""", file.read_text(encoding="utf-8"))
    }
    assert files == {"store/workyard_store/lua/_environment.lua", "store/workyard_store/engine/engine.py"}


async def test_what_is_not_a_message_is_logged_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """The subscription goes on."""
    heard: list[Any] = []
    engine_module._pass_on("env_1!", heard.append)
    engine_module._pass_on("work env_1", heard.append)
    assert heard == [WorkReady("env_1")]
    assert "not a message of the wake channel: 'env_1!'; ignored" in caplog.text


class Scene:
    """An application in this process, and the texts that came over its wake channel."""

    def __init__(self, http: httpx.AsyncClient, engine: Engine, texts: asyncio.Queue[str]) -> None:
        self._http = http
        self._engine = engine
        self._texts = texts

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call that must succeed."""
        answer = await self._http.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def published(self, method: str, path: str, body: Any = None) -> tuple[Any, list[Message]]:
        """Make a call; return its result, and the different messages of scripts since the last call."""
        result = await self.call(method, path, body)
        end = Watched(f"env_{uuid4().hex}")
        await self._engine.publish(end)
        messages: list[Message] = []
        async with asyncio.timeout(10):
            while (message := decode(await self._texts.get())) != end:
                if not isinstance(message, Question | Answer):
                    messages.append(message)
        return result, list(dict.fromkeys(messages))


@pytest.fixture
async def scene(engine_options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A scene on each engine."""
    texts: asyncio.Queue[str] = asyncio.Queue()

    def recorded(text: str) -> Message:
        texts.put_nowait(text)
        return decode(text)

    monkeypatch.setattr(engine_module, "decode", recorded)
    app = create_app(Settings(redis_url=engine_options[1] if engine_options else None, key_prefix=f"w{uuid4().hex}"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"x-api-key": f"wake-{uuid4().hex}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:
            yield Scene(http, app.state.services.engine, texts)
            assert (await http.post("/_emulator/reset")).json()["leftover_keys"] == 0


async def test_every_script_that_publishes_publishes_messages(scene: Scene) -> None:
    """One step for each script, and all that it publishes."""
    call, published = scene.call, scene.published
    await call("POST", "/_emulator/clock", {"mode": "frozen", "at": NOON})
    body = {"name": "wake", "config": {"type": "self_hosted"}}
    made, messages = await published("POST", "/v1/environments", body)
    environment = made["id"]
    assert messages == [Watched(environment)]  # environment_create.lua
    inner, outer = f"/_emulator/environments/{environment}", f"/v1/environments/{environment}"
    work, changed = WorkReady(environment), Changed(environment)
    _, messages = await published("POST", f"{inner}/work", {"count": 1})
    assert messages == [work]  # enqueue.lua
    key = await call("POST", f"{inner}/keys", {"name": "k"})
    _, messages = await published("DELETE", f"{inner}/keys/{key['id']}")
    assert messages == [changed]  # key_revoke.lua
    _, messages = await published("POST", "/_emulator/clock", {"mode": "frozen", "at": after(NOON, 1)})
    assert messages == [changed]  # clock.lua

    rule = {"on": "poll", "do": {"duplicate_delivery": True}}
    _, messages = await published("POST", "/_emulator/faults", {"rules": [rule]})
    assert messages == [changed]  # environment_apply.lua: the settings hold whether there are rules
    _, messages = await published("GET", f"{outer}/work/poll")
    assert messages == [work]  # fault.lua

    made, messages = await published("POST", "/v1/sessions", {"agent": "agent_x", "environment_id": environment})
    session = made["id"]
    assert messages == [work]  # session_create.lua
    events = [{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}]
    _, messages = await published("POST", f"/v1/sessions/{session}/events", {"events": events})
    assert messages == [SessionEvents(session)]  # session_append.lua, session_commit.lua
    _, messages = await published("DELETE", f"/v1/sessions/{session}")
    assert isinstance(messages[-1], SessionDeleted)  # session_delete.lua
    assert messages[-1].session_id == session
    assert format_instant(messages[-1].deleted_at) == after(NOON, 1)

    await call("PUT", "/_emulator/scripts/default", {"steps": [{"wait": 60}]})
    cloud = (await call("POST", "/v1/environments", {"name": "cloud", "config": {"type": "cloud"}}))["id"]
    waiting = (await call("POST", "/v1/sessions", {"agent": "agent_x", "environment_id": cloud}))["id"]
    await call("POST", f"/v1/sessions/{waiting}/events", {"events": events})
    _, messages = await published("POST", "/_emulator/settings", {"reclaim_ms": 9000})
    assert set(messages) >= {changed, Changed(cloud), AgentDue(cloud)}  # environment_apply.lua, for an agent that waits
    assert AgentDue(environment) not in messages
    await published("DELETE", f"/v1/environments/{cloud}?force=true")

    state, _ = await published("GET", "/_emulator/state")
    _, messages = await published("PUT", "/_emulator/state", state)
    assert messages == [changed, AgentDue(environment)]
    _, messages = await published("DELETE", f"{outer}?force=true")
    assert messages == [changed]  # delete.lua
