"""Local folders that are sent to the server or written from it: skills, and memory stores. Owns what of a folder counts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from workyard_store.errors import InvalidRequest
from workyard_store.resources.skill_archives import front_matter

from ..settings import MOST_BYTES

#: Calls the server: method, path, body; returns its JSON.
Call = Callable[..., Any]
_STORES = "/v1/memory_stores"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder by their path, but hidden ones, links, and what Python leaves behind."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path


def send_skill(call: Call, folder: Path, skill_id: str | None) -> str:
    """Put a folder as a skill, and return the skill's id.

    Raises:
        InvalidRequest: the folder has no SKILL.md with a name, or more in it than a request takes.
    """
    files: dict[str, str | dict[str, Any]] = {}
    name = None
    for path, file in _files(folder):
        data, executable = file.read_bytes(), os.access(file, os.X_OK)
        if path == "SKILL.md":
            name = front_matter(data)[0]
        try:
            files[path] = {"content": data.decode(), "executable": True} if executable else data.decode()
        except UnicodeDecodeError:
            content = base64.b64encode(data).decode()
            files[path] = {"content": content, "encoding": "base64", "executable": executable}
    if name is None:
        raise InvalidRequest(f"{folder} has no SKILL.md")
    # The server would hang up on it.
    if len(json.dumps({"files": files})) > MOST_BYTES:
        raise InvalidRequest(f"{folder} makes a request of more than {MOST_BYTES} bytes")
    return str(call("PUT", f"/_emulator/skills/{quote(skill_id or name, safe='')}", {"files": files})["id"])


def send_memories(call: Call, folder: Path, name: str, store_id: str | None) -> str:
    """Make a memory store hold what a folder holds, and return the store's id: the given one, else the newest of the
    name, else a new one.

    Raises:
        InvalidRequest: a file is not UTF-8.
    """
    wanted = {}
    for path, file in _files(folder):
        try:
            wanted[f"/{path}"] = file.read_bytes().decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{file} is not UTF-8") from None
    if store_id is None:
        named = [store for store in _pages(call, _STORES) if store["name"] == name]
        store_id = (named[0] if named else call("POST", _STORES, {"name": name}))["id"]
    memories = f"{_STORES}/{quote(str(store_id), safe='')}/memories"
    there = {row["path"]: row for row in _pages(call, memories, view="full")}
    # Deletions first: what was a file may have become a folder.
    for path in there.keys() - wanted.keys():
        call("DELETE", f"{memories}/{there[path]['id']}")
    for path, content in wanted.items():
        if path not in there:
            call("POST", memories, {"path": path, "content": content})
        elif content != there[path]["content"]:
            call("POST", f"{memories}/{there[path]['id']}", {"content": content})
    return str(store_id)


def write_memories(call: Call, folder: Path, store_id: str) -> int:
    """Write the memories of a store into a folder, over what is there, and return how many. Other files stay."""
    count = 0
    for row in _pages(call, f"{_STORES}/{quote(store_id, safe='')}/memories", view="full"):
        path = folder.joinpath(*row["path"].split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["content"].encode())
        count += 1
    return count


def _pages(call: Call, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a list."""
    page: str | None = None
    while True:
        more = {"limit": "100"} | query | ({} if page is None else {"page": page})
        answer = call("GET", f"{path}?{urlencode(more)}")
        yield from answer["data"]
        page = answer["next_page"]
        if page is None:
            return
