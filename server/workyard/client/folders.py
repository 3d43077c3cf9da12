"""Sends local folders to the server as skills or memory stores, and writes memory stores into folders."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workyard_store.errors import InvalidRequest
from workyard_store.resources.skill_archives import front_matter

from ..settings import MOST_BYTES
from . import calls
from .connection import Request

#: Sends a request and returns the answer.
Send = Callable[[Request], Any]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder by their relative path, except hidden files, links and Python's caches."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path


def send_skill(send: Send, folder: Path, skill_id: str | None) -> str:
    """Store a folder as a skill, and return the skill's id.

    Raises:
        InvalidRequest: the folder has no SKILL.md with a name, or is larger than a request may be.
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
    # The server would close the connection while the body is being sent.
    if len(json.dumps({"files": files})) > MOST_BYTES:
        raise InvalidRequest(f"{folder} needs a request of more than {MOST_BYTES} bytes")
    return str(send(calls.put_skill(skill_id or name, files))["id"])


def send_memories(send: Send, folder: Path, name: str, store_id: str | None) -> str:
    """Make a memory store hold the files of a folder and nothing else, and return the store's id: *store_id*, else the newest
    store of the name, else a new one.

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
        same_name = [store for store in _rows(send, calls.list_memory_stores) if store["name"] == name]
        store_id = str((same_name[0] if same_name else send(calls.create_memory_store(name)))["id"])
    stored = {row["path"]: row for row in _memories(send, store_id)}
    # Deletions first: a path that was a file may be a folder now.
    for path in stored.keys() - wanted.keys():
        send(calls.delete_memory(store_id, stored[path]["id"]))
    for path, content in wanted.items():
        if path not in stored:
            send(calls.create_memory(store_id, path, content))
        elif content != stored[path]["content"]:
            send(calls.update_memory(store_id, stored[path]["id"], content))
    return store_id


def write_memories(send: Send, folder: Path, store_id: str) -> int:
    """Write the memories of a store into a folder, replacing files of the same path, and return how many. Other files stay."""
    count = 0
    for row in _memories(send, store_id):
        path = folder.joinpath(*row["path"].split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["content"].encode())
        count += 1
    return count


def _memories(send: Send, store_id: str) -> Iterator[Mapping[str, Any]]:
    return _rows(send, lambda page: calls.list_memories(store_id, page))


def _rows(send: Send, page_of: Callable[[str | None], Request]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of all pages of a list."""
    page: str | None = None
    while True:
        answer = send(page_of(page))
        yield from answer["data"]
        page = answer["next_page"]
        if page is None:
            return
