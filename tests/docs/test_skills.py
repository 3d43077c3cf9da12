"""The guide on skills and memory stores keeps its word: its limits are the code's, its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, run, section
from workyard.routes.memories import MOST_FULL_ROWS
from workyard_store.resources import memories, skill_archives, skills

_MIB = 1_048_576
#: A session whose worker reads the skill and changes the memory, as the guide's two programs make them.
_USE = """
import asyncio, os, subprocess
from anthropic import AsyncAnthropic, Anthropic
client = Anthropic()
environment = os.environ["ANTHROPIC_ENVIRONMENT_ID"]
AGENT
assert client.beta.agents.retrieve(agent.id).skills[0].skill_id == "skill_01…"
SESSION
command = "cat skills/greeting/SKILL.md memory/notes/a.md; echo changed > memory/notes/a.md"
session = client.beta.sessions.create(
    agent=agent.id, environment_id=environment, metadata=session.metadata,
    resources=[{"type": "memory_store", "memory_store_id": "memstore_01…"}],
    initial_events=[{"type": "user.message", "content": [{"type": "text", "text": command}]}],
)
async def serve():
    async with AsyncAnthropic() as aclient:
        worker = aclient.beta.environments.work.worker(
            environment_id=environment, environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"], max_idle=0.3)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(30):
            work = aclient.beta.environments.work.list
            while {item.state async for item in work(environment)} != {"stopped"}:
                await asyncio.sleep(0.05)
        running.cancel()
asyncio.run(serve())
for event in client.beta.sessions.events.list(session.id):
    print(event.type, getattr(event, "content", ""))
"""


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "skills-and-memory.md").read_text(encoding="utf-8")


def test_the_limits_are_the_codes(guide: str) -> None:
    """Row by row."""
    lines = [line for line in section(guide, "Limits").splitlines() if line.startswith("|")]
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert {what: most for what, most, _ in rows} == {
        "skills in a workspace": f"{skills.MOST_SKILLS}",
        "versions of a skill": f"{skills.MOST_VERSIONS}",
        "files in a skill; bytes in them": (
            f"{skill_archives.MOST_FILES}; {skill_archives.MOST_FILE_BYTES // _MIB} MiB, and 1 MiB in one request"
        ),
        "memory stores in a workspace": f"{memories.MOST_STORES}",
        "memories in a store": f"{memories.MOST_MEMORIES}",
        "bytes in a memory": f"{memories.MOST_BYTES:,}".replace(",", " "),
        "bytes in a store": f"{memories.MOST_STORE_BYTES // _MIB} MiB",
        "path of a memory": f"{memories.LONGEST_PATH_BYTES} bytes, {memories.MOST_SEGMENTS} segments",
        "rows on a page of memories": f"100; {MOST_FULL_ROWS} with `view=full`",
    }


def test_the_examples_run_as_they_stand(guide: str, tmp_path: Path) -> None:
    """The folders are sent, the agent and the session made as it says; a worker reads, changes, and it is written back."""
    for folder in ("greeting", "notes", "result", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "greeting" / "SKILL.md").write_text(block(guide, "markdown"), encoding="utf-8")
    (tmp_path / "notes" / "a.md").write_text("as it was\n", encoding="utf-8")
    send, keep, pull = (line.partition("#")[0].strip() for line in re.findall(r"^workyard .*$", guide, re.MULTILINE))
    assert (send, keep) == ("workyard skill ./greeting", "workyard memory ./notes")
    agent, session = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    use = _USE.replace("AGENT", agent).replace("SESSION", session)
    (tmp_path / "use.py").write_text(use, encoding="utf-8")
    steps = f"""cd '{tmp_path}'
        skill=$({send}); store=$({keep})
        sed -i "s/skill_01…/$skill/; s/memstore_01…/$store/" use.py
        cd work; python ../use.py; cd ..
        {pull.replace("memstore_01…", "$store")}; cat result/a.md"""
    printed = run("bash", "-euc", steps)
    assert "Say hello." in printed
    assert "as it was" in printed
    assert printed.endswith("memories written: 1\nchanged\n")
