"""Skills: put by the control plane, read by workers. Source: the SDK's types of skills."""

from __future__ import annotations

import base64
import io
import stat
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.credentials import sessions_token
from tests.support.harness import NOON, Api, after, refused
from tests.support.skills import MAIN, put

# As the ledger has them.
MOST_SKILLS, MOST_VERSIONS, MOST_FILES, MOST_FILE_BYTES = 100, 10, 200, 4 * 1_048_576
MISSING = "skill_01missing"


def main(name: str, description: str = "Does something.") -> str:
    """Return a SKILL.md."""
    return f"---\nname: {name}\ndescription: {description}\n---\n"


def zipped(files: dict[str, str]) -> str:
    """Return a zip archive in base64."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return base64.b64encode(data.getvalue()).decode()


def content(api: Api, skill: str, version: str) -> dict[str, tuple[str, int]]:
    """Download a version; return text and mode by path."""
    answer = api.get(f"/v1/skills/{skill}/versions/{version}/content")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {
            entry.filename: (archive.read(entry).decode(), stat.S_IMODE(entry.external_attr >> 16))
            for entry in archive.infolist()
        }


def test_what_is_put_can_be_read_and_downloaded(api: Api) -> None:
    """Every member, and the files in one folder, the executable ones so marked."""
    api.freeze()
    run = {"content": base64.b64encode(b"#!/bin/sh\n").decode(), "encoding": "base64", "executable": True}
    skill = api.ok(put(api, files={"SKILL.md": MAIN, "scripts/run.sh": run}, display_name="Greeting"))
    assert skill == {
        "id": skill["id"],
        "type": "skill",
        "display_name": "Greeting",
        "latest_version_id": skill["latest_version_id"],
        "source": {"type": "custom"},
        "created_at": NOON,
        "updated_at": NOON,
    }
    assert skill["id"].startswith("skill_01")
    path = f"/v1/skills/{skill['id']}"
    assert api.ok(api.get(path)) == skill
    assert api.ok(api.get("/v1/skills")) == {"data": [skill], "next_page": None}
    version = api.ok(api.get(f"{path}/versions/latest"))
    assert version == {
        "id": skill["latest_version_id"],
        "type": "skill_version",
        "skill_id": skill["id"],
        "name": "greeting",
        "description": "How to greet.",
        "version": skill["latest_version_id"],
        "directory": "greeting",
        "created_at": NOON,
    }
    assert api.ok(api.get(f"{path}/versions/{version['id']}")) == version
    assert content(api, skill["id"], version["id"]) == {
        "greeting/SKILL.md": (MAIN, 0o644),
        "greeting/scripts/run.sh": ("#!/bin/sh\n", 0o755),
    }


def test_an_archive_is_as_good_as_files_with_its_folder_or_without(api: Api) -> None:
    """All three are the same version."""
    skill = api.ok(put(api, files={"SKILL.md": MAIN, "a/b.txt": "b"}))
    for folder in ("", "other/"):
        archive = zipped({f"{folder}SKILL.md": MAIN, f"{folder}a/b.txt": "b"})
        assert api.ok(put(api, archive=archive)) == skill


def test_other_files_are_a_new_version_and_the_oldest_go(api: Api) -> None:
    """Also while the clock stands still: each version has an instant of its own, newest first."""
    api.freeze()
    puts = [api.ok(put(api, files={"SKILL.md": MAIN, "n": str(n)})) for n in range(MOST_VERSIONS + 2)]
    ids = [each["latest_version_id"] for each in puts]
    assert len(set(ids)) == len(ids)
    assert {each["id"] for each in puts} == {puts[0]["id"]}
    assert puts[-1]["created_at"] == NOON
    path = f"/v1/skills/{puts[0]['id']}/versions"
    listed = api.ok(api.get(path, params={"limit": 1000}))["data"]
    assert [each["id"] for each in listed] == ids[:1:-1]
    assert listed[0]["created_at"] == after(NOON, (MOST_VERSIONS + 1) / 1_000_000)
    first = api.ok(api.get(path, params={"limit": 3}))
    rest = api.ok(api.get(path, params={"limit": 1000, "page": first["next_page"]}))
    assert first["data"] + rest["data"] == listed
    assert rest["next_page"] is None
    assert content(api, puts[0]["id"], ids[-1])["greeting/n"] == (str(MOST_VERSIONS + 1), 0o644)
    for gone in ids[:2]:
        missing = f"Version {gone} of skill {puts[0]['id']} not found."
        refused(api.get(f"{path}/{gone}"), 404, missing)
        refused(api.get(f"{path}/{gone}/content"), 404, missing)


def test_a_custom_skill_has_the_same_id_after_a_reset_and_a_given_id_stays(api: Api) -> None:
    """An agent may have it written down. One of Anthropic's has its name as its id."""
    first = api.ok(put(api))
    assert api.reset()["leftover_keys"] == 0
    refused(api.get(f"/v1/skills/{first['id']}"), 404, f"Skill {first['id']} not found.")
    assert api.ok(put(api))["id"] == first["id"]
    assert api.ok(put(api, "skill_mine"))["id"] == "skill_mine"
    sheet = api.ok(put(api, "xlsx", files={"SKILL.md": main("xlsx")}, source="anthropic"))
    assert (sheet["id"], sheet["source"]) == ("xlsx", {"type": "anthropic"})
    by_source = api.ok(api.get("/v1/skills", params={"source": "anthropic"}))["data"]
    assert [each["id"] for each in by_source] == ["xlsx"]
    assert [each["id"] for each in api.ok(api.get("/v1/skills"))["data"]] == ["xlsx", "skill_mine", first["id"]]


def test_pages_of_skills_hold_while_others_come_and_go(api: Api) -> None:
    """A cursor is a position."""
    ids = [api.ok(put(api, f"skill_{n}"))["id"] for n in range(5)]
    first = api.ok(api.get("/v1/skills", params={"limit": 2}))
    assert [each["id"] for each in first["data"]] == ids[:2:-1]
    assert api.ok(api.delete(f"/v1/skills/{ids[3]}")) == {"id": ids[3], "type": "skill_deleted"}
    api.ok(put(api, "skill_new"))
    second = api.ok(api.get("/v1/skills", params={"limit": 3, "page": first["next_page"]}))
    assert [each["id"] for each in second["data"]] == ids[2::-1]
    assert second["next_page"] is None
    refused(api.get("/v1/skills", params={"page": "page_x"}), 400, "page: Invalid cursor")


def test_a_deleted_skill_is_gone_with_its_versions(api: Api) -> None:
    """Everywhere, and a second time."""
    skill = api.ok(put(api))
    path = f"/v1/skills/{skill['id']}"
    api.ok(api.delete(path))
    version = skill["latest_version_id"]
    for gone in (path, f"{path}/versions", f"{path}/versions/latest", f"{path}/versions/{version}/content"):
        refused(api.get(gone), 404, f"Skill {skill['id']} not found.")
    refused(api.delete(path), 404, f"Skill {skill['id']} not found.")
    assert api.ok(put(api))["latest_version_id"] > version


def test_a_skill_is_its_workspaces_and_its_environments_workers(api: Api, new_api: Callable[..., Api]) -> None:
    """Other API keys do not see it; an issued environment key and a sessions token do."""
    skill = api.ok(put(api))
    stranger = new_api(api.url)
    refused(stranger.get(f"/v1/skills/{skill['id']}"), 404, f"Skill {skill['id']} not found.")
    assert api.ok(stranger.get("/v1/skills"))["data"] == []
    queue = api.queue()
    key = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]
    api.enqueue(queue)
    for credential in (key, sessions_token(api.poll(queue))):
        worker = new_api(api.url, credential, reset=False)
        assert worker.ok(worker.get(f"/v1/skills/{skill['id']}/versions/latest"))["name"] == "greeting"
    no_token = new_api(api.url, "")
    refused(no_token.get("/v1/skills"), 401, "x-api-key header is required")


def test_latest_is_known_to_the_version_alone(api: Api) -> None:
    """The worker downloads by the id that the version has."""
    skill = api.ok(put(api))
    missing = f"Version latest of skill {skill['id']} not found."
    refused(api.get(f"/v1/skills/{skill['id']}/versions/latest/content"), 404, missing)


_FRONT = "files.SKILL.md: Must start with front matter: name and description between lines of ---"
_NAME = "files.SKILL.md: name: Must have lower-case letters, digits and single hyphens, at most 64 characters"
_TEXT = "files.SKILL.md: description: 1 to 1024 characters"


@pytest.mark.parametrize(
    ("key", "body", "message"),
    [
        ("greeting", {}, "files: Give either files or archive"),
        ("greeting", {"files": {}, "archive": ""}, "files: Give either files or archive"),
        ("greeting", {"files": {}}, "files.SKILL.md: Field required"),
        ("greeting", {"files": {"SKILL.md": "no front matter"}}, _FRONT),
        ("greeting", {"files": {"SKILL.md": "---\nname: [\n---\n"}}, _FRONT),
        ("greeting", {"files": {"SKILL.md": "---\nname: greeting\n"}}, _FRONT),
        ("greeting", {"files": {"SKILL.md": "---\nname: Bad_Name\n---\n"}}, f"{_NAME}; {_TEXT}"),
        ("greeting", {"files": {"SKILL.md": main("greeting", "d" * 1025)}}, _TEXT),
        ("greeting", {"files": {"SKILL.md": main("other")}}, "files.SKILL.md: name: The path names greeting, but SKILL.md names other"),
        ("greeting", {"files": {"SKILL.md": MAIN, "../x": ""}}, "files.../x: Not a relative path of a file"),
        ("greeting", {"files": {"SKILL.md": MAIN, "/x": ""}}, "files./x: Not a relative path of a file"),
        ("greeting", {"files": {"SKILL.md": MAIN, "a\nb": ""}}, "files.a\nb: Backslashes and control characters are not allowed"),
        ("greeting", {"files": {"SKILL.md": MAIN, "a": "", "a/b": ""}}, "files.a/b: a is a file, not a folder"),
        ("greeting", {"files": {"SKILL.md": {"content": "?", "encoding": "base64"}}}, "files.SKILL.md.content: Not base64"),
        ("greeting", {"archive": "?"}, "archive: Not base64"),
        ("greeting", {"archive": base64.b64encode(b"PK no zip").decode()}, "archive: Not a readable zip archive"),
        ("greeting", {"archive": zipped({"../SKILL.md": MAIN, "x": ""})}, "files.../SKILL.md: Not a relative path of a file; files.SKILL.md: Field required"),
        ("Bad_Name", {"files": {"SKILL.md": MAIN}}, "skill: Must be skill_ followed by letters and digits, or a name"),
        ("skill_1", {"files": {"SKILL.md": MAIN}, "source": "anthropic"}, "skill: Must be a name such as xlsx"),
    ],
)  # fmt: skip
def test_what_is_no_skill_is_refused_by_name(api: Api, key: str, body: dict[str, Any], message: str) -> None:
    """And nothing is kept."""
    refused(put(api, key, **(body or {"display_name": "x"})), 400, message)
    assert api.ok(api.get("/v1/skills"))["data"] == []


def test_a_skill_keeps_its_name(api: Api) -> None:
    """As the service does: later versions must have it too."""
    api.ok(put(api, "skill_1"))
    message = "files.SKILL.md: name: Skill skill_1 is named greeting, and its name cannot change"
    refused(put(api, "skill_1", files={"SKILL.md": main("other")}), 400, message)


def test_a_put_needs_one_workspace(api: Api, new_api: Callable[..., Api]) -> None:
    """Not none, not all."""
    body = {"files": {"SKILL.md": MAIN}}
    nobody = new_api(api.url, "")
    for query in ("", "?workspace=*"):
        answer = nobody.request("PUT", f"/_emulator/skills/greeting{query}", json=body)
        refused(answer, 400, "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=")


def test_too_much_is_refused_with_413(api: Api) -> None:
    """Too many files, too many bytes once unpacked, too large a body."""
    many = {"SKILL.md": MAIN} | {f"f{n}": "" for n in range(MOST_FILES)}
    text = f"{MOST_FILES + 1} files exceed the limit of {MOST_FILES} for a skill"
    refused(put(api, files=many), 413, f"files: {text}")
    refused(put(api, archive=zipped(many)), 413, f"archive: {text}")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SKILL.md", MAIN)
        archive.writestr("zeros", bytes(MOST_FILE_BYTES))
    bomb = base64.b64encode(data.getvalue()).decode()
    refused(put(api, archive=bomb), 413, f"archive: Exceeds the limit of {MOST_FILE_BYTES} bytes for a skill")
    refused(put(api, archive="A" * 1_048_576), 413, "Request body exceeds 1048576 bytes")
    assert api.ok(api.get("/v1/skills"))["data"] == []


def test_a_workspace_has_a_bounded_number_of_skills(api: Api) -> None:
    """One more is refused; a new version of one that is there is not."""
    for n in range(MOST_SKILLS):
        api.ok(put(api, f"skill_{n}"))
    refused(put(api, "skill_more"), 400, f"A workspace has at most {MOST_SKILLS} skills")
    api.ok(put(api, "skill_0", files={"SKILL.md": MAIN, "more": ""}))


@pytest.mark.parametrize("skill", [MISSING, "pdf", "Not an id", "skill_" + "a" * 65])
def test_an_unknown_skill_is_404(api: Api, skill: str) -> None:
    """Whatever its form."""
    refused(api.get(f"/v1/skills/{skill}/versions/latest"), 404, f"Skill {skill} not found.")
