"""The unmodified SDK's worker downloads skills, mounts memory stores, and writes them back; the SDK's own calls on both,
validated strictly. Source: the SDK's `lib/tools/_skills.py` and `_memories.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import shlex
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.lib.environments import EnvironmentWorker

from tests.support.harness import Api, refused, wait_until
from tests.support.memories import create, new_store
from tests.support.sessions import item
from tests.support.skills import MAIN, put

#: Long enough for the agent's next call, short enough to wait for.
MAX_IDLE_S = 0.3


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """An empty folder for a worker."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@asynccontextmanager
async def worker(api: Api, queue: str, workdir: Path) -> AsyncIterator[None]:
    """Run the SDK's worker for a block."""
    key = str(api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"])
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key=api.api_key, _strict_response_validation=True) as sdk:
        each = EnvironmentWorker(
            sdk, environment_id=queue, environment_key=key, workdir=str(workdir), max_idle=MAX_IDLE_S
        )
        running = asyncio.create_task(each.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def ran(api: Api, workdir: Path, command: str, **fields: Any) -> list[dict[str, Any]]:
    """Have a worker run a bash command in a new session, and leave; return what the tool gave, as the events have it."""
    queue = api.queue()
    message = {"type": "user.message", "content": [{"type": "text", "text": command}]}
    body = {"agent": "agent_any", "environment_id": queue, "initial_events": [message], **fields}
    made = api.ok(api.post("/v1/sessions", json=body))["id"]
    async with worker(api, queue, workdir):
        await asyncio.to_thread(wait_until, lambda: item(api, queue, made)["state"] == "stopped", "the worker has left")
    assert api.ok(api.get(f"/v1/sessions/{made}"))["status"] == "idle"
    events = api.ok(api.get(f"/v1/sessions/{made}/events", params={"limit": 1000}))["data"]
    [result] = [event for event in events if event["type"] == "user.tool_result"]
    content: list[dict[str, Any]] = result["content"]
    assert not result["is_error"], content
    return content


def text(content: list[dict[str, Any]]) -> str:
    """Return what a tool said."""
    return "".join(block["text"] for block in content)


def contents(api: Api, store: str) -> dict[str, str]:
    """Return the memories of a store by their path."""
    listed = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params={"view": "full"}))
    assert listed["next_page"] is None
    return {row["path"]: row["content"] for row in listed["data"]}


def with_stores(*stores: str, mount: str = "workdir", **fields: Any) -> dict[str, Any]:
    """Return what a session says of its memory stores."""
    resources = [{"type": "memory_store", "memory_store_id": store, **fields} for store in stores]
    return {"resources": resources, "metadata": {"workyard_memory_mount": mount}}


# -- skills ---------------------------------------------------------------------------------------------------


async def test_a_worker_downloads_the_skills_of_its_sessions_agent(api: Api, workdir: Path) -> None:
    """The newest version and a pinned one, files that can be run too; one that is missing holds up nothing."""
    script = {"content": '#!/bin/sh\necho "$1, $2"\n', "executable": True}
    api.ok(put(api, "greeting", files={"SKILL.md": MAIN, "scripts/greet.sh": "old"}))
    skill = api.ok(put(api, "greeting", files={"SKILL.md": MAIN, "scripts/greet.sh": script}))
    first = api.ok(put(api, "pinned", files={"SKILL.md": MAIN.replace("greeting", "pinned"), "n": "first"}))
    api.ok(put(api, "pinned", files={"SKILL.md": MAIN.replace("greeting", "pinned"), "n": "second"}))
    xlsx = api.ok(put(api, "xlsx", files={"SKILL.md": MAIN.replace("greeting", "xlsx")}, source="anthropic"))
    agent = {
        "name": "a",
        "model": "m",
        "skills": [
            {"type": "custom", "skill_id": "skill_missing"},
            {"type": "custom", "skill_id": skill["id"]},
            {"type": "custom", "skill_id": first["id"], "version": first["latest_version_id"]},
            {"type": "anthropic", "skill_id": xlsx["id"], "version": "latest"},
        ],
    }
    agent_id = api.ok(api.post("/v1/agents", json=agent))["id"]
    command = "skills/greeting/scripts/greet.sh hello world; cat skills/pinned/n; echo; ls skills"
    said = text(await ran(api, workdir, command, agent=agent_id))
    assert said.split() == ["hello,", "world", "first", "greeting", "pinned", "xlsx"]


def test_every_skill_call_answers_with_the_sdks_types(api: Api, client: anthropic.Anthropic) -> None:
    """Each validated strictly."""
    skill = client.beta.skills.retrieve(api.ok(put(api))["id"])
    assert (skill.display_name, skill.source.type) == ("greeting", "custom")
    assert [each.id for each in client.beta.skills.list(source="custom")] == [skill.id]
    [version] = client.beta.skills.versions.list(skill.id)
    assert client.beta.skills.versions.retrieve("latest", skill_id=skill.id) == version
    assert (version.id, version.name, version.description) == (skill.latest_version_id, "greeting", "How to greet.")
    archive = client.beta.skills.versions.download(version.id, skill_id=skill.id).read()
    assert zipfile.ZipFile(io.BytesIO(archive)).read("greeting/SKILL.md").decode() == MAIN
    assert client.beta.skills.delete(skill.id).type == "skill_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.beta.skills.versions.retrieve("latest", skill_id=skill.id)


# -- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mounted", ["in the working folder", "where the session says"])
async def test_a_worker_mounts_a_store_and_writes_it_back(
    api: Api, tmp_path: Path, workdir: Path, mounted: str
) -> None:
    """A changed file, a new one, a deleted one, one left alone; afterwards nothing is left on the worker's machine."""
    store = new_store(api, "Notes")
    for n in range(25):
        api.ok(create(api, store, f"/many/{n}", str(n)))
    for path in ("/change.md", "/delete.md", "/deep/er/keep é.md"):
        api.ok(create(api, store, path, f"content of {path}\n"))
    if mounted == "in the working folder":
        mount, folder = "workdir", workdir / "memory" / "Notes"
    else:
        mount, folder = str(tmp_path / "mnt"), tmp_path / "mnt" / "notes"
    command = f"""cd {shlex.quote(str(folder))}
        cat 'deep/er/keep é.md' many/24; echo ' changed' >> change.md; rm delete.md
        mkdir new; printf 'ünew' > new/file.md"""
    said = text(await ran(api, workdir, command, **with_stores(store, mount=mount)))
    assert said.strip() == "content of /deep/er/keep é.md\n24"
    listed = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params={"limit": 100}))["data"]
    stored = {
        row["path"]: api.ok(api.get(f"/v1/memory_stores/{store}/memories/{row['id']}"))["content"]
        for row in listed
        if not row["path"].startswith("/many/")
    }
    assert stored == {
        "/change.md": "content of /change.md\n changed\n",
        "/deep/er/keep é.md": "content of /deep/er/keep é.md\n",
        "/new/file.md": "ünew",
    }
    assert len(listed) == 25 + len(stored)
    assert not folder.exists()


async def test_a_change_on_both_sides_is_the_stores(api: Api, workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the tool runs, somebody else changes the memory: the worker says so and gives way."""
    store = new_store(api, "Notes")
    memory = api.ok(create(api, store, "/a.md", "old"))["id"]
    theirs = f"""import urllib.request
urllib.request.urlopen(urllib.request.Request(
    "{api.url}/v1/memory_stores/{store}/memories/{memory}", b'{{"content": "theirs"}}',
    {{"x-api-key": "{api.api_key}", "content-type": "application/json"}}))"""
    command = (
        f"{sys.executable} -c {shlex.quote(theirs)} && printf ours > memory/Notes/a.md && printf b > memory/Notes/b"
    )
    with caplog.at_level(logging.WARNING, "anthropic"):
        await ran(api, workdir, command, **with_stores(store))
    assert contents(api, store) == {"/a.md": "theirs", "/b": "b"}
    assert "memory changed both locally and remotely; keeping the remote version path=a.md" in caplog.text


async def test_what_the_store_refuses_stays_out_and_holds_up_nothing(
    api: Api, workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is too large: the worker goes on with the others."""
    store = new_store(api, "Notes")
    command = "cd memory/Notes; head -c 102401 /dev/zero | tr '\\0' x > large; printf small > small"
    with caplog.at_level(logging.WARNING, "anthropic"):
        await ran(api, workdir, command, **with_stores(store))
    assert contents(api, store) == {"/small": "small"}
    assert "the server rejected this memory file" in caplog.text
    assert "102401 bytes exceed the limit of 102400" in caplog.text


async def test_a_store_that_is_only_read_is_not_changed_by_a_worker(api: Api, workdir: Path) -> None:
    """Another one beside it is."""
    read, write = new_store(api, "Read"), new_store(api, "Write")
    for store in (read, write):
        api.ok(create(api, store, "/a", "old"))
    fields = with_stores(read, write)
    fields["resources"][0]["access"] = "read_only"
    await ran(api, workdir, "cat memory/*/a; printf new | tee memory/Read/a > memory/Write/a", **fields)
    assert (contents(api, read), contents(api, write)) == ({"/a": "old"}, {"/a": "new"})


def test_every_memory_call_answers_with_the_sdks_types(api: Api, client: anthropic.Anthropic) -> None:
    """Each validated strictly, in the order of a life."""
    stores = client.beta.memory_stores
    store = stores.create(name="Notes", description="d", metadata={"a": "1"})
    assert stores.retrieve(store.id) == store
    assert stores.update(store.id, name="Better", metadata={"a": None}).metadata == {}
    assert [each.name for each in stores.list(created_at_gte=store.created_at)] == ["Better"]
    made = [stores.memories.create(store.id, path=f"/a/{n}", content=str(n), view="full") for n in range(3)]
    assert [each.content for each in made] == ["0", "1", "2"]
    assert [each.path for each in stores.memories.list(store.id, limit=2, path_prefix="/a/")] == [
        "/a/0",
        "/a/1",
        "/a/2",
    ]
    [folder] = stores.memories.list(store.id, depth=1)
    assert (folder.type, folder.path) == ("memory_prefix", "/a/")
    digest = hashlib.sha256(b"0").hexdigest()
    changed = stores.memories.update(
        made[0].id,
        memory_store_id=store.id,
        content="new",
        path="/b",
        precondition={"type": "content_sha256", "content_sha256": digest},
    )
    assert (changed.content, changed.path) == (None, "/b")
    assert stores.memories.retrieve(made[0].id, memory_store_id=store.id).content == "new"
    with pytest.raises(anthropic.ConflictError):
        stores.memories.delete(made[0].id, memory_store_id=store.id, expected_content_sha256=digest)
    assert stores.memories.delete(made[0].id, memory_store_id=store.id).type == "memory_deleted"
    session = client.beta.sessions.create(
        agent="agent_any",
        environment_id=api.queue(),
        resources=[{"type": "memory_store", "memory_store_id": store.id, "access": "read_only", "instructions": "i"}],
    )
    [resource] = session.resources
    assert resource.type == "memory_store"
    assert (resource.name, resource.description, resource.mount_path) == ("Better", "d", "/mnt/memory/better")
    assert stores.archive(store.id).archived_at is not None
    assert stores.delete(store.id).type == "memory_store_deleted"
    refused(api.get(f"/v1/memory_stores/{store.id}"), 404, f"Memory store {store.id} not found.")
