"""The unmodified `anthropic` SDK's sessions and its `EnvironmentWorker`, responses validated strictly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anthropic
import pytest
from anthropic.lib.environments import EnvironmentWorker

from tests.support.harness import Api, wait_until
from tests.support.session_events import SENDABLE
from tests.support.sessions import item, send

pytestmark = pytest.mark.usefixtures("silent_agent")

#: A message, as the SDK's types have it.
HELLO = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
MAX_IDLE_S = 0.2


def test_every_session_call_answers_with_the_sdks_types(client: anthropic.Anthropic, api: Api) -> None:
    """Each validated strictly, in the order of a life."""
    sessions = client.beta.sessions
    agent = client.beta.agents.create(
        name="coder",
        model={"id": "claude-opus-4-5", "effort": "low"},
        tools=[
            {"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": False}]},
            {"type": "custom", "name": "look", "description": "Looks", "input_schema": {"type": "object"}},
            {"type": "mcp_toolset", "mcp_server_name": "docs", "configs": [{"name": "search"}]},
        ],
        mcp_servers=[{"type": "url", "name": "docs", "url": "https://docs.example.com/mcp"}],
        skills=[{"type": "custom", "skill_id": "skill_1"}],
        metadata={"team": "a"},
    )
    assert client.beta.agents.retrieve(agent.id) == agent
    store = client.beta.memory_stores.create(name="notes").id
    made = sessions.create(
        agent={"type": "agent", "id": agent.id},
        environment_id=api.queue(),
        title="first",
        metadata={"team": "a"},
        resources=[{"type": "memory_store", "memory_store_id": store}],
        vault_ids=["vlt_1"],
    )
    assert (made.status, made.title, made.agent.name) == ("idle", "first", "coder")
    assert sessions.retrieve(made.id).created_at == made.created_at
    assert [row.id for row in sessions.list()] == [made.id]
    assert sessions.update(made.id, title="second", agent={"tools": []}).title == "second"
    sent = sessions.events.send(made.id, events=SENDABLE)  # type: ignore[arg-type]
    assert sent.data is not None
    assert [event.type for event in sent.data] == [event["type"] for event in SENDABLE]
    listed = [event.type for event in sessions.events.list(made.id, limit=2)]
    assert listed[:2] == ["session.status_idle", "session.updated"]
    assert [each for each in listed if each.startswith("user.")] == [event["type"] for event in SENDABLE]
    # A result that nobody waits for is an error among the events.
    assert {each for each in listed[2:] if not each.startswith("user.")} == {
        "session.status_running",
        "session.status_idle",
        "session.error",
    }
    assert listed[-1] == "session.status_idle"
    with sessions.events.stream(made.id) as stream:
        assert sessions.archive(made.id).archived_at is not None
        assert [event.type for event in stream] == ["session.status_terminated"]
    gone = sessions.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "session_deleted")
    with pytest.raises(anthropic.NotFoundError):
        sessions.retrieve(made.id)


def test_a_stub_session_and_one_with_a_message_have_the_sdks_types_too(client: anthropic.Anthropic, api: Api) -> None:
    """The session of the control plane's work, and initial events."""
    queue = api.queue()
    [work] = api.enqueue(queue)
    stub = client.beta.sessions.retrieve(work["data"]["id"])
    assert (stub.status, stub.agent.skills) == ("idle", [])
    made = client.beta.sessions.create(
        agent="agent_made_up",
        environment_id=queue,
        initial_events=[HELLO],  # type: ignore[list-item]
    )
    types = [event.type for event in client.beta.sessions.events.list(made.id)]
    assert types == ["user.message", "session.status_running", "session.status_idle"]


@pytest.mark.parametrize("origin", ["sessions", "control plane"])
async def test_a_worker_claims_a_sessions_work_sees_it_idle_and_leaves(
    aclient: anthropic.AsyncAnthropic, api: Api, tmp_path: Path, origin: str
) -> None:
    """The SDK's own worker, unpatched; a message brings the work back, and the worker with it."""
    queue = api.queue()
    key = str(api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"])
    if origin == "sessions":
        made = (await aclient.beta.sessions.create(agent="agent_made_up", environment_id=queue)).id
    else:
        made = api.enqueue(queue)[0]["data"]["id"]
    worker = EnvironmentWorker(
        aclient, environment_id=queue, environment_key=key, workdir=str(tmp_path), max_idle=MAX_IDLE_S
    )
    running = asyncio.create_task(worker.run())
    try:
        for life in range(2):
            await asyncio.to_thread(
                wait_until, lambda: item(api, queue, made)["state"] == "stopped", "the worker has left"
            )
            assert api.stats(queue)["depth"] == 0
            if life == 0:
                claimed = item(api, queue, made)["started_at"]
                assert claimed is not None
                send(api, made, HELLO)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert item(api, queue, made)["started_at"] > claimed
    assert (await aclient.beta.sessions.retrieve(made)).status == "idle"
