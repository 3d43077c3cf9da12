"""The files of a skill: their rules, and the zip archive that workers download. Pure functions.

Source: the SDK's types of skills: one top-level folder named after the skill, SKILL.md at its root.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from ..errors import InvalidRequest, TooLarge
from .skills import SLUG

MOST_FILES = 200
MOST_FILE_BYTES = 4_194_304
LONGEST_PATH = 255
LONGEST_DESCRIPTION = 1024
_MAIN = "SKILL.md"
#: The timestamp of every entry: fixed, so that the same files make the same archive.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


class SkillFile(NamedTuple):
    """One file of a skill."""

    data: bytes
    executable: bool = False


class Packed(NamedTuple):
    """A checked skill."""

    name: str
    description: str
    archive: bytes


def pack(files: Mapping[str, SkillFile]) -> Packed:
    """Check the files of a skill, by their path, and return them as a zip archive.

    Raises:
        InvalidRequest: a path, or SKILL.md, breaks a rule; the message names it.
        TooLarge: too many files, or too much in them.
    """
    problems = [f"files.{path}: {problem}" for path in files if (problem := _path_problem(path)) is not None]
    problems += [
        f"files.{path}: {above} is a file, not a folder" for path in files for above in _above(path) if above in files
    ]
    if _MAIN not in files:
        problems.append(f"files.{_MAIN}: Field required")
    if problems:
        raise InvalidRequest("; ".join(problems))
    if len(files) > MOST_FILES:
        raise TooLarge(f"files: {len(files)} files exceed the limit of {MOST_FILES} for a skill", rule="skills.bounds")
    size = sum(len(file.data) for file in files.values())
    if size > MOST_FILE_BYTES:
        raise TooLarge(f"files: {size} bytes exceed the limit of {MOST_FILE_BYTES} for a skill", rule="skills.bounds")
    name, description = front_matter(files[_MAIN].data)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, file in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", _DATE)
            entry.create_system = _UNIX
            entry.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
            archive.writestr(entry, file.data, zipfile.ZIP_DEFLATED)
    return Packed(name, description, packed.getvalue())


def unpack(data: bytes) -> dict[str, SkillFile]:
    """Return the files of a zip archive by their path, without the folder that all of them are in.

    Raises:
        InvalidRequest: it is not a zip archive, is encrypted, or contains an entry that is not a file.
        TooLarge: too many files, or too much in them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES:
                raise TooLarge(
                    f"archive: {len(entries)} files exceed the limit of {MOST_FILES} for a skill", rule="skills.bounds"
                )
            files: dict[str, SkillFile] = {}
            left = MOST_FILE_BYTES
            for entry in entries:
                mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise InvalidRequest(f"archive: {entry.filename} is not a regular file")
                with archive.open(entry) as file:
                    # The size that the archive declares may be wrong.
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise TooLarge(
                        f"archive: Exceeds the limit of {MOST_FILE_BYTES} bytes for a skill", rule="skills.bounds"
                    )
                files[entry.filename] = SkillFile(content, bool(mode & 0o111))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        raise InvalidRequest("archive: Not a readable zip archive") from None
    tops = {path.partition("/")[0] for path in files}
    if _MAIN not in files and len(tops) == 1:
        return {path.partition("/")[2]: file for path, file in files.items()}
    return files


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _path_problem(path: str) -> str | None:
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "Not a relative path of a file"
    if len(path) > LONGEST_PATH:
        return f"At most {LONGEST_PATH} characters"
    if "\\" in path or not path.isprintable():
        return "Backslashes and control characters are not allowed"
    return None


def front_matter(data: bytes) -> tuple[str, str]:
    """Return name and description, which SKILL.md has between two lines of `---` at its start.

    Raises:
        InvalidRequest: these lines are missing, or the values break a rule.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest(f"files.{_MAIN}: Not UTF-8") from None
    lines = text.splitlines()
    end = lines.index("---", 1) if lines[:1] == ["---"] and "---" in lines[1:] else 0
    try:
        # Read all values as plain strings: no YAML tag can turn them into anything else.
        values = yaml.load("\n".join(lines[1:end]), yaml.BaseLoader) if end else None
    except (yaml.YAMLError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidRequest(f"files.{_MAIN}: Must start with front matter: name and description between lines of ---")
    name, description = values.get("name"), values.get("description")
    problems = []
    if not isinstance(name, str) or not SLUG.fullmatch(name):
        problems.append(
            f"files.{_MAIN}: name: Must have lower-case letters, digits and single hyphens, at most 64 characters"
        )
    if not isinstance(description, str) or not 1 <= len(description.strip()) <= LONGEST_DESCRIPTION:
        problems.append(f"files.{_MAIN}: description: 1 to {LONGEST_DESCRIPTION} characters")
    if problems:
        raise InvalidRequest("; ".join(problems))
    return str(name), str(description).strip()
