"""Memory stores and their memories: created, listed, changed with preconditions, bounded. Source: the SDK's
types of memory stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.credentials import sessions_token
from tests.support.harness import NOON, Api, after, refused
from tests.support.memories import create, new_store

# As the ledger has them.
MOST_STORES, MOST_MEMORIES, MOST_BYTES, MOST_STORE_BYTES = 100, 2000, 100 * 1024, 10 * 1_048_576
UNKNOWN = "memstore_01unknown"


def sha(text: str) -> str:
    """Return the digest of a content."""
    return hashlib.sha256(text.encode()).hexdigest()


def rows(api: Api, store: str, **query: Any) -> list[dict[str, Any]]:
    """Return a page of a store's memories."""
    listed: list[dict[str, Any]] = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params=query))["data"]
    return listed


def paths(api: Api, store: str, **query: Any) -> list[str]:
    """Return the paths on a page of a store's memories."""
    return [row["path"] for row in rows(api, store, **query)]


# -- stores ---------------------------------------------------------------------------------------------------


def test_a_store_is_created_read_changed_archived_and_deleted(api: Api) -> None:
    """Every member, on a clock that stands still between the steps."""
    api.freeze()
    store = api.ok(api.post("/v1/memory_stores", json={"name": "Notes", "metadata": {"a": "1"}}))
    assert store == {
        "id": store["id"],
        "type": "memory_store",
        "name": "Notes",
        "description": "",
        "metadata": {"a": "1"},
        "created_at": NOON,
        "updated_at": NOON,
        "archived_at": None,
    }
    path = f"/v1/memory_stores/{store['id']}"
    assert api.ok(api.get(path)) == store
    api.advance(1)
    change = {"name": "Better", "description": "d", "metadata": {"a": None, "b": "2"}}
    later = {"name": "Better", "description": "d", "metadata": {"b": "2"}, "updated_at": after(NOON, 1)}
    assert api.ok(api.post(path, json=change)) == store | later
    assert api.ok(api.post(path, json={"description": ""}))["description"] == ""
    memory = api.ok(create(api, store["id"], "/a", "text"))
    api.advance(1)
    archived = api.ok(api.post(f"{path}/archive"))
    assert (archived["updated_at"], archived["archived_at"]) == (after(NOON, 2), after(NOON, 2))
    api.advance(1)
    assert api.ok(api.post(f"{path}/archive")) == archived
    message = f"Memory store {store['id']} is archived and cannot be updated."
    refused(api.post(path, json={"name": "x"}), 400, message)
    refused(create(api, store["id"], "/b"), 400, message)
    refused(api.post(f"{path}/memories/{memory['id']}", json={"content": ""}), 400, message)
    assert api.ok(api.get(f"{path}/memories/{memory['id']}"))["content"] == "text"
    assert api.ok(api.delete(f"{path}/memories/{memory['id']}")) == {"id": memory["id"], "type": "memory_deleted"}
    assert api.ok(api.delete(path)) == {"id": store["id"], "type": "memory_store_deleted"}
    refused(api.get(path), 404, f"Memory store {store['id']} not found.")


def test_stores_are_listed_newest_first(api: Api) -> None:
    """Archived ones when asked for, by their date of creation, page by page."""
    api.freeze()
    ids = []
    for n in range(5):
        ids.append(new_store(api, f"s{n}"))
        api.advance(1)
    api.ok(api.post(f"/v1/memory_stores/{ids[2]}/archive"))

    def listed(**query: Any) -> list[str]:
        return [row["id"] for row in api.ok(api.get("/v1/memory_stores", params=query))["data"]]

    assert listed() == [ids[4], ids[3], ids[1], ids[0]]
    assert listed(include_archived="true") == ids[::-1]
    assert listed(**{"created_at[gte]": after(NOON, 3)}) == [ids[4], ids[3]]
    assert listed(**{"created_at[lte]": after(NOON, 1)}) == [ids[1], ids[0]]
    first = api.ok(api.get("/v1/memory_stores", params={"limit": 3}))
    assert listed(page=first["next_page"]) == [ids[0]]
    refused(
        api.get("/v1/memory_stores", params={"limit": 101}), 400, "limit: Input should be less than or equal to 100"
    )
    wrong = "created_at[gte]: Not an RFC 3339 timestamp, such as 2026-09-16T04:27:29.962294Z"
    refused(api.get("/v1/memory_stores", params={"created_at[gte]": "noon"}), 400, wrong)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name: Field required"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"name": "n" * 256}, "name: String should have at most 255 characters"),
        ({"name": "a\nb"}, r"name: String should match pattern '^[^\x00-\x1f\x7f-\x9f]*$'"),
        ({"name": "a", "description": "d" * 1025}, "description: String should have at most 1024 characters"),
        ({"name": "a", "metadata": {"a": 1}}, "metadata.a: Input should be a valid string"),
        ({"name": "a", "more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_store_is_refused_by_name(api: Api, body: dict[str, Any], message: str) -> None:
    """And nothing is kept."""
    refused(api.post("/v1/memory_stores", json=body), 400, message)
    assert api.ok(api.get("/v1/memory_stores"))["data"] == []


def test_a_workspace_has_a_bounded_number_of_stores_of_its_own(api: Api, new_api: Callable[..., Api]) -> None:
    """Nobody else sees them; after the bound, one must go first."""
    ids = [new_store(api, f"s{n}") for n in range(MOST_STORES)]
    refused(api.post("/v1/memory_stores", json={"name": "x"}), 400, "A workspace has at most 100 memory stores")
    stranger = new_api(api.url)
    memory = api.ok(create(api, ids[0], "/a"))["id"]
    missing = f"Memory store {ids[0]} not found."
    path = f"/v1/memory_stores/{ids[0]}"
    refused(stranger.get(path), 404, missing)
    refused(stranger.get(f"{path}/memories"), 404, missing)
    refused(stranger.get(f"{path}/memories/{memory}"), 404, missing)
    refused(stranger.post(f"{path}/memories/{memory}", json={"content": "x"}), 404, missing)
    refused(stranger.delete(f"{path}/memories/{memory}"), 404, missing)
    refused(create(stranger, ids[0], "/b"), 404, missing)
    refused(stranger.delete(path), 404, missing)
    api.ok(api.delete(path))
    new_store(api)


def test_a_reset_removes_stores_with_their_memories(api: Api) -> None:
    """Also those of a deleted store are not left."""
    store, other = new_store(api), new_store(api)
    api.ok(create(api, store, "/a", "text"))
    api.ok(create(api, other, "/a", "text"))
    api.ok(api.delete(f"/v1/memory_stores/{store}"))
    assert api.reset()["leftover_keys"] == 0
    assert api.ok(api.get("/v1/memory_stores"))["data"] == []
    refused(api.get(f"/v1/memory_stores/{other}/memories"), 404, f"Memory store {other} not found.")


# -- memories -------------------------------------------------------------------------------------------------


def test_a_memory_is_created_read_changed_moved_and_deleted(api: Api) -> None:
    """Every member; a version id for every change, none for none."""
    api.freeze()
    store = new_store(api)
    made = api.ok(create(api, store, "/notes/ä.md", "héllo"))
    assert made == {
        "id": made["id"],
        "type": "memory",
        "memory_store_id": store,
        "memory_version_id": made["memory_version_id"],
        "path": "/notes/ä.md",
        "content": None,
        "content_sha256": sha("héllo"),
        "content_size_bytes": 6,
        "created_at": NOON,
        "updated_at": NOON,
    }
    path = f"/v1/memory_stores/{store}/memories/{made['id']}"
    assert api.ok(api.get(path)) == made | {"content": "héllo"}
    assert api.ok(api.get(path, params={"view": "basic"})) == made
    api.advance(1)
    assert api.ok(api.post(path)) == made
    assert api.ok(api.post(path, json={"content": "héllo", "path": "/notes/ä.md"})) == made
    changed = api.ok(api.post(path, json={"content": ""}, params={"view": "full"}))
    assert changed["memory_version_id"] != made["memory_version_id"]
    news = {"content": "", "content_sha256": sha(""), "content_size_bytes": 0, "updated_at": after(NOON, 1)}
    assert changed == made | news | {"memory_version_id": changed["memory_version_id"]}
    moved = api.ok(api.post(path, json={"path": "/elsewhere"}, params={"view": "full"}))
    assert moved == changed | {"path": "/elsewhere", "memory_version_id": moved["memory_version_id"]}
    assert moved["memory_version_id"] != changed["memory_version_id"]
    assert paths(api, store) == ["/elsewhere"]
    api.ok(create(api, store, "/notes/ä.md"))
    api.ok(api.delete(path))
    refused(api.get(path), 404, f"Memory {made['id']} not found.")
    refused(api.post(path, json={"content": "x"}), 404, f"Memory {made['id']} not found.")
    refused(api.delete(path), 404, f"Memory {made['id']} not found.")
    assert paths(api, store) == ["/notes/ä.md"]


def test_a_change_and_a_deletion_may_depend_on_the_content(api: Api) -> None:
    """409 when it is another; nothing has happened then."""
    store = new_store(api)
    made = api.ok(create(api, store, "/a", "one"))
    path = f"/v1/memory_stores/{store}/memories/{made['id']}"

    def change(text: str, expected: str) -> httpx.Response:
        condition = {"type": "content_sha256", "content_sha256": sha(expected)}
        return api.post(path, json={"content": text, "precondition": condition})

    api.ok(change("two", "one"))
    message = f"Memory {made['id']} has content_sha256 {sha('two')}, not the expected {sha('one')}."
    refused(change("three", "one"), 409, message)
    refused(change("two", "one"), 409, message)
    refused(api.delete(path, params={"expected_content_sha256": sha("one")}), 409, message)
    assert api.ok(api.get(path))["content"] == "two"
    api.ok(api.delete(path, params={"expected_content_sha256": sha("two")}))
    assert rows(api, store) == []


def test_of_many_changes_with_one_precondition_one_wins(api: Api) -> None:
    """However they come together."""
    store = new_store(api)
    made = api.ok(create(api, store, "/a", "old"))
    path = f"/v1/memory_stores/{store}/memories/{made['id']}"
    condition = {"type": "content_sha256", "content_sha256": sha("old")}

    def change(n: int) -> int:
        return api.post(path, json={"content": f"new {n}", "precondition": condition}).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(change, range(16)))
    assert sorted(codes) == [200] + [409] * 15
    assert api.ok(api.get(path))["content"] == f"new {codes.index(200)}"
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: create(api, store, "/b", str(n)).status_code, range(16)))
    assert sorted(codes) == [200] + [409] * 15


@pytest.mark.parametrize(("there", "wanted"), [("/a/b", "/a/b"), ("/a", "/a/b"), ("/a/b/c", "/a"), ("/a/b", "/a")])
def test_no_path_is_taken_twice_nor_is_a_file_a_folder(api: Api, there: str, wanted: str) -> None:
    """For a new memory, and for one that moves. Its neighbours by name do no harm."""
    store = new_store(api)
    holder = api.ok(create(api, store, there, "text"))["id"]
    for neighbour in ("/a.md", "/a b", "/a!/b", "/a0", "/b"):
        api.ok(create(api, store, neighbour))
    mover = api.ok(create(api, store, "/z", "text"))["id"]
    message = f"path: {wanted} conflicts with memory {holder} at {there}"
    refused(create(api, store, wanted), 409, message)
    refused(api.post(f"/v1/memory_stores/{store}/memories/{mover}", json={"path": wanted}), 409, message)
    if there != wanted:
        # Into its own place it may move: nothing else is there.
        api.ok(api.post(f"/v1/memory_stores/{store}/memories/{holder}", json={"path": wanted}))
    other = new_store(api, "Other")
    api.ok(create(api, other, wanted))


def test_memories_are_listed_by_path_page_by_page(api: Api) -> None:
    """With a prefix, which is a folder, and with a depth, below which folders stand for what they hold."""
    store = new_store(api)
    made = ["/a.md", "/a/1", "/a/b/2", "/a/b/3", "/ab/4", "/z", "/é/5"]
    for path in reversed(made):
        api.ok(create(api, store, path, path))
    assert paths(api, store) == made
    assert paths(api, store, path_prefix="/a/") == ["/a/1", "/a/b/2", "/a/b/3"]
    assert paths(api, store, path_prefix="/none/") == []
    assert paths(api, store, depth=1) == ["/a.md", "/a/", "/ab/", "/z", "/é/"]
    assert rows(api, store, path_prefix="/a/", depth=1)[1] == {"type": "memory_prefix", "path": "/a/b/"}
    assert paths(api, store, depth=2) == ["/a.md", "/a/1", "/a/b/", "/ab/4", "/z", "/é/5"]
    for query in ({}, {"depth": 1}, {"path_prefix": "/a/"}):
        got: list[str] = []
        page: dict[str, str] = {}
        while True:
            answer = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params={**query, **page, "limit": 2}))
            got += [row["path"] for row in answer["data"]]
            if answer["next_page"] is None:
                break
            page = {"page": answer["next_page"]}
        assert got == paths(api, store, **query)
    first = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params={"limit": 2}))
    wrong = {"page": first["next_page"], "depth": 1}
    refused(api.get(f"/v1/memory_stores/{store}/memories", params=wrong), 400, "page: Invalid cursor")


def test_a_page_with_contents_has_twenty_rows_at_most(api: Api) -> None:
    """And its contents."""
    store = new_store(api)
    for n in range(23):
        api.ok(create(api, store, f"/{n:02}", str(n)))
    listed = api.ok(api.get(f"/v1/memory_stores/{store}/memories", params={"view": "full", "limit": 100}))
    assert [row["content"] for row in listed["data"]] == [str(n) for n in range(20)]
    more = {"view": "full", "page": listed["next_page"]}
    assert [row["content"] for row in rows(api, store, **more)] == ["20", "21", "22"]
    assert [row["content"] for row in rows(api, store, limit=100)] == [None] * 23


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a", "Must start with /"),
        ("", "Must start with /"),
        ("/", "A segment must not be empty, . or .."),
        ("/a//b", "A segment must not be empty, . or .."),
        ("/a/", "A segment must not be empty, . or .."),
        ("/../a", "A segment must not be empty, . or .."),
        ("/./a", "A segment must not be empty, . or .."),
        ("/a" * 21, "At most 20 segments"),
        ("/" + "é" * 512, "At most 1024 bytes"),
        ("/a\nb", "Control and format characters and line separators are not allowed"),
        ("/a\u2028b", "Control and format characters and line separators are not allowed"),
        ("/a\u200bb", "Control and format characters and line separators are not allowed"),
        ("/e\u0301", "Must be in Unicode Normalization Form C"),
    ],
)
def test_a_path_that_breaks_a_rule_is_refused(api: Api, path: str, reason: str) -> None:
    """By the rules of the SDK's types, when it is created and when it moves."""
    store = new_store(api)
    memory = api.ok(create(api, store, "/" + "é" * 511 + "a", ""))["id"]
    refused(create(api, store, path), 400, f"path: {reason}")
    refused(api.post(f"/v1/memory_stores/{store}/memories/{memory}", json={"path": path}), 400, f"path: {reason}")


def test_contents_are_bounded_one_by_one_and_together(api: Api) -> None:
    """413, and what was there is still there."""
    store = new_store(api)
    full = "é" * (MOST_BYTES // 2)
    memory = api.ok(create(api, store, "/a", full))["id"]
    path = f"/v1/memory_stores/{store}/memories/{memory}"
    message = f"content: {MOST_BYTES + 1} bytes exceed the limit of {MOST_BYTES} for a memory"
    refused(create(api, store, "/b", full + "x"), 413, message)
    refused(api.post(path, json={"content": full + "x"}), 413, message)
    count = MOST_STORE_BYTES // MOST_BYTES
    for n in range(1, count):
        api.ok(create(api, store, f"/more/{n}", full))
    rest = MOST_STORE_BYTES - count * MOST_BYTES
    api.ok(create(api, store, "/rest", "x" * rest))
    message = f"content: A memory store has at most {MOST_STORE_BYTES} bytes of content"
    refused(create(api, store, "/one", "x"), 413, message)
    api.ok(api.post(path, json={"content": "x"}))
    api.ok(api.post(path, json={"content": full}))
    api.ok(api.delete(path))
    api.ok(create(api, store, "/one", "x"))


def test_a_store_has_a_bounded_number_of_memories(api: Api) -> None:
    """As many as the service's own. What is there can still change."""
    store = new_store(api)
    with ThreadPoolExecutor(8) as pool:
        codes = set(pool.map(lambda n: create(api, store, f"/{n}").status_code, range(MOST_MEMORIES)))
    assert codes == {200}
    refused(create(api, store, "/more"), 400, f"path: A memory store has at most {MOST_MEMORIES} memories")
    memory = rows(api, store, limit=1)[0]["id"]
    api.ok(api.post(f"/v1/memory_stores/{store}/memories/{memory}", json={"content": "x"}))
    api.ok(api.delete(f"/v1/memory_stores/{store}/memories/{memory}"))
    api.ok(create(api, store, "/more"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"path": "/a"}, "content: Field required"),
        ({"content": "a"}, "path: Field required"),
        ({"path": "/a", "content": 1}, "content: Input should be a valid string"),
        ({"path": "/a", "content": "", "x": 1}, "x: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_memory_is_refused_by_name(api: Api, body: dict[str, Any], message: str) -> None:
    """And nothing is kept; null is an empty content."""
    store = new_store(api)
    refused(api.post(f"/v1/memory_stores/{store}/memories", json=body), 400, message)
    assert rows(api, store) == []
    assert api.ok(create(api, store, "/a", None))["content_size_bytes"] == 0


def test_what_is_no_digest_or_prefix_is_refused_by_name(api: Api) -> None:
    """Whatever else the request is."""
    store = new_store(api)
    memory = api.ok(create(api, store, "/a"))["id"]
    path = f"/v1/memory_stores/{store}/memories/{memory}"
    pattern = "String should match pattern '^[0-9a-f]{64}$'"
    condition = {"type": "content_sha256", "content_sha256": "A" * 64}
    refused(api.post(path, json={"precondition": condition}), 400, f"precondition.content_sha256: {pattern}")
    refused(api.delete(path, params={"expected_content_sha256": "0"}), 400, f"expected_content_sha256: {pattern}")
    pattern = r"path_prefix: String should match pattern '^/([\s\S]*/)?$'"
    refused(api.get(f"/v1/memory_stores/{store}/memories", params={"path_prefix": "/a"}), 400, pattern)
    refused(api.get(path, params={"view": "x"}), 400, "view: Input should be 'basic' or 'full'")


def test_unknown_stores_and_memories_are_404(api: Api) -> None:
    """Also a memory of another store."""
    store, other = new_store(api), new_store(api)
    memory = api.ok(create(api, store, "/a"))["id"]
    for id_ in (UNKNOWN, "memstore", "x y"):
        for path in ("", "/memories", "/memories/mem_1"):
            refused(api.get(f"/v1/memory_stores/{id_}{path}"), 404, f"Memory store {id_} not found.")
        refused(api.post(f"/v1/memory_stores/{id_}/archive"), 404, f"Memory store {id_} not found.")
        refused(api.post(f"/v1/memory_stores/{id_}", json={}), 404, f"Memory store {id_} not found.")
    for id_ in (memory, "mem_1", "x y"):
        path = f"/v1/memory_stores/{other}/memories/{id_}"
        refused(api.get(path), 404, f"Memory {id_} not found.")
        refused(api.post(path, json={"content": ""}), 404, f"Memory {id_} not found.")
        refused(api.delete(path), 404, f"Memory {id_} not found.")


@pytest.mark.parametrize("death", ["lapse", "message"])
def test_a_sessions_token_reaches_its_workspace_and_no_longer_when_it_is_dead(
    api: Api, new_api: Callable[..., Api], death: str
) -> None:
    """A worker that has lost its lease writes nothing any more. Another workspace's it never reaches."""
    api.freeze()
    queue, store = api.queue(), new_store(api)
    foreign = new_store(new_api(api.url))
    [work] = api.enqueue(queue)
    worker = new_api(api.url, sessions_token(api.poll(queue)), reset=False)
    memory = worker.ok(create(worker, store, "/a", "mine"))["id"]
    refused(create(worker, foreign, "/a", "mine"), 404, f"Memory store {foreign} not found.")
    worker.ok(worker.ack(queue, work["id"]))
    if death == "lapse":
        api.advance(120)
    else:
        worker.ok(worker.stop(queue, work["id"], force=True))
        worker.ok(create(worker, store, "/b", "the last flush comes before the stop, and may come after it"))
        api.enqueue(queue, session_id=work["data"]["id"])
    path = f"/v1/memory_stores/{store}/memories"
    for refusal in (
        create(worker, store, "/c", "late"),
        worker.get(path),
        worker.post(f"{path}/{memory}", json={"content": "late"}),
        worker.delete(f"{path}/{memory}"),
        worker.get("/v1/skills/skill_1/versions/latest"),
        worker.get("/v1/skills/skill_1/versions/1/content"),
    ):
        refused(refusal, 401, "OAuth access token has been revoked.")
    fresh = new_api(api.url, sessions_token(api.poll(queue)), reset=False)
    assert fresh.ok(fresh.get(f"{path}/{memory}"))["content"] == "mine"


# -- in sessions ----------------------------------------------------------------------------------------------


def session(api: Api, queue: str, *stores: str, **fields: Any) -> httpx.Response:
    """Create a session with memory stores."""
    resources = [{"type": "memory_store", "memory_store_id": store} for store in stores]
    body = {"agent": "agent_any", "environment_id": queue, "resources": resources, **fields}
    return api.post("/v1/sessions", json=body)


def test_a_session_shows_its_stores_as_they_were(api: Api) -> None:
    """With a folder of its own for each, after its name."""
    queue = api.queue()
    store = new_store(api, "User's Preferences!", description="what they like")
    twin, nameless = new_store(api, "user-s preferences"), new_store(api, "é")
    made = api.ok(session(api, queue, store, twin, nameless))
    api.ok(api.post(f"/v1/memory_stores/{store}", json={"name": "New", "description": ""}))
    shown = {"type": "memory_store", "access": "read_write", "instructions": None}
    wanted = [
        shown
        | {
            "memory_store_id": store,
            "name": "User's Preferences!",
            "description": "what they like",
            "mount_path": "/mnt/memory/user-s-preferences",
        },
        shown
        | {
            "memory_store_id": twin,
            "name": "user-s preferences",
            "description": "",
            "mount_path": "/mnt/memory/user-s-preferences-2",
        },
        shown | {"memory_store_id": nameless, "name": "é", "description": "", "mount_path": f"/mnt/memory/{nameless}"},
    ]
    assert made["resources"] == wanted
    assert api.ok(api.get(f"/v1/sessions/{made['id']}"))["resources"] == wanted


def test_a_session_may_say_where_its_stores_are_mounted(api: Api) -> None:
    """A worker that is not root cannot use the service's folder."""
    queue, store = api.queue(), new_store(api)
    for mount, path in (("/tmp/x", "/tmp/x/notes"), ("workdir", None)):
        made = api.ok(session(api, queue, store, metadata={"workyard_memory_mount": mount}))
        assert made["resources"][0]["mount_path"] == path
    for mount in ("", "x", "/x/../y", "/x//y", "/x/"):
        answer = session(api, queue, store, metadata={"workyard_memory_mount": mount})
        refused(answer, 400, "metadata.workyard_memory_mount: Must be an absolute path or the word workdir")


def test_a_session_takes_no_store_that_is_absent_archived_or_there_twice(api: Api, new_api: Callable[..., Api]) -> None:
    """The message names the resource; no work is made."""
    queue, store, old = api.queue(), new_store(api), new_store(api)
    foreign = new_store(new_api(api.url))
    api.ok(api.post(f"/v1/memory_stores/{old}/archive"))
    field = "resources.1.memory_store_id: Memory store"
    for wrong, reason in (
        (UNKNOWN, "not found."),
        ("no id", "not found."),
        (foreign, "not found."),
        (old, "is archived."),
        (store, "is listed twice."),
    ):
        refused(session(api, queue, store, wrong), 400, f"{field} {wrong} {reason}")
    assert api.ok(api.get(api.path(queue)))["data"] == []
