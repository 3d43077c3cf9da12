"""The commands `workyard skill` and `workyard memory`: local folders sent to the server, and written from it."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import said, workyard
from tests.support.harness import Api, WorkyardServer
from tests.support.memories import create, new_store
from tests.support.skills import MAIN


@pytest.fixture
def api(embedded: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of it in a workspace of its own."""
    return new_api(embedded.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what does not count in it: hidden files, links, what Python leaves behind."""
    made = tmp_path / "My Notes"
    for path in (".git/config", "a/.hidden", "a/__pycache__/b.pyc"):
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text("does not count")
    (made / "link").symlink_to(made / "a" / ".hidden")
    return made


def test_a_folder_becomes_a_skill(api: Api, here: dict[str, str], folder: Path) -> None:
    """Text, bytes, what can be run; sent again it is the same version, changed a new one."""
    (folder / "SKILL.md").write_text(MAIN)
    (folder / "a" / "bytes").write_bytes(b"\xff\x00")
    (folder / "a" / "run").write_text("#!/bin/sh\n")
    (folder / "a" / "run").chmod(0o700)
    skill = said("skill", str(folder), **here).strip()
    shown = api.ok(api.get(f"/v1/skills/{skill}"))
    version = shown["latest_version_id"]
    with zipfile.ZipFile(io.BytesIO(api.get(f"/v1/skills/{skill}/versions/{version}/content").content)) as archive:
        files = {
            entry.filename: (archive.read(entry), stat.S_IMODE(entry.external_attr >> 16))
            for entry in archive.infolist()
        }
    assert files == {
        "greeting/SKILL.md": (MAIN.encode(), 0o644),
        "greeting/a/bytes": (b"\xff\x00", 0o644),
        "greeting/a/run": (b"#!/bin/sh\n", 0o755),
    }
    assert said("skill", str(folder), **here).strip() == skill
    assert api.ok(api.get(f"/v1/skills/{skill}")) == shown
    (folder / "a" / "run").unlink()
    assert said("skill", str(folder), **here).strip() == skill
    assert api.ok(api.get(f"/v1/skills/{skill}"))["latest_version_id"] != version
    assert said("skill", str(folder), "--id", "skill_mine", **here) == "skill_mine\n"


def test_a_memory_store_becomes_what_a_folder_holds_and_back(api: Api, here: dict[str, str], folder: Path) -> None:
    """New, changed, deleted, a file that becomes a folder; found again by its name; written where it is asked for."""
    (folder / "a" / "one.md").write_text("one")
    (folder / "b").write_text("ünicode\r\n")
    store = said("memory", str(folder), **here).strip()
    assert api.ok(api.get(f"/v1/memory_stores/{store}"))["name"] == "My Notes"
    (folder / "b").unlink()
    (folder / "b").mkdir()
    (folder / "b" / "two.md").write_text("two")
    (folder / "a" / "one.md").write_text("changed")
    (folder / "three").write_text("")
    assert said("memory", str(folder), **here).strip() == store
    other = folder.parent / "other"
    other.mkdir()
    (other / "stays").write_text("here")
    (other / "three").write_text("goes")
    for n in range(25):
        api.ok(create(api, store, f"/many/{n}", str(n)))
    assert said("memory", str(other), "--pull", "--store", store, **here) == "memories written: 28\n"
    written = {
        path.relative_to(other).as_posix(): path.read_bytes().decode() for path in other.rglob("*") if path.is_file()
    }
    wanted = {"a/one.md": "changed", "b/two.md": "two", "three": "", "stays": "here"}
    assert written == wanted | {f"many/{n}": str(n) for n in range(25)}
    named = said("memory", str(folder), "--name", "other", **here).strip()
    assert named != store
    assert said("memory", str(folder), "--store", store, **here).strip() == store
    listed = api.ok(api.get(f"/v1/memory_stores/{store}/memories"))["data"]
    assert [row["path"] for row in listed] == ["/a/one.md", "/b/two.md", "/three"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["skill"], "has no SKILL.md"),
        (["skill", "--id", "no id"], "has no SKILL.md"),
        (["memory", "--store", "memstore_1"], "Memory store memstore_1 not found."),
        (["memory", "--pull"], "--pull needs --store"),
        (["memory", "--pull", "--store", "memstore_1"], "Memory store memstore_1 not found."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_sent_is_told(here: dict[str, str], folder: Path, arguments: list[str], words: str) -> None:
    """In one line, and nothing is printed that looks like an id."""
    done = workyard(arguments[0], str(folder), *arguments[1:], **here)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_wrong_with_a_folder_is_told(api: Api, here: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """No front matter, a body that is too large, bytes in a memory, no folder, a folder where a file must be."""
    (folder / "SKILL.md").write_text("nothing")
    assert "Must start with front matter" in workyard("skill", str(folder), **here).stderr
    (folder / "SKILL.md").write_text(MAIN)
    (folder / "large").write_text("x" * 1_100_000)
    assert "needs a request of more than 1048576 bytes" in workyard("skill", str(folder), **here).stderr
    (folder / "large").write_bytes(b"\xff")
    assert "large is not UTF-8" in workyard("memory", str(folder), **here).stderr
    assert "does not exist" in workyard("memory", str(tmp_path / "none"), **here).stderr
    store = new_store(api)
    api.ok(create(api, store, "/a", ""))
    assert "Is a directory" in workyard("memory", str(folder), "--pull", "--store", store, **here).stderr
