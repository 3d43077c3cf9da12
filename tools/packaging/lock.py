"""Writes requirements/lock.txt, the one lock of all levels, from pyproject.toml. `scripts/lock` runs it.

The lock is a requirements file with hashes in sections. Each release is in the first section that needs it. A level is its
section and all sections before it: `run` needs the first two, `test` the first three, `dev` the first four. The sections
`node` and `uv` stand alone. Uses the standard library only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "lock.txt"
_HEAD = """\
# Written by scripts/lock from the ranges in pyproject.toml: what every checkout and CI installs. Do not edit.
"""
#: Section → what it is for, and what is resolved for it (options of `uv pip compile`). `build` and later include the ones before.
_BUILD = ("pyproject.toml", "--group", "build")
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("what the wheel needs", ("pyproject.toml",)),
    "build": ("what builds the wheel", _BUILD),
    "test": ("what the tests need", (*_BUILD, "--extra", "test")),
    "dev": ("what CI needs", (*_BUILD, "--extra", "dev")),
    "node": ("alone: Node, where the machine has none", ("--group", "node")),
    "uv": ("alone: uv, where the machine has none", ("--group", "uv")),
}
_ALL = (*_BUILD, "--extra", "dev", "--group", "node", "--group", "uv")


def heading(section: str) -> str:
    """Return the line that starts a section; scripts/setup-venv looks for it too."""
    return f"# == {section}: {SECTIONS[section][0]}"


def entries(text: str) -> dict[str, list[str]]:
    """Return the entries of a requirements file by name. A name has several where the release depends on the machine."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name = re.match(r"[A-Za-z0-9._-]+", entry)
        if name is not None:
            found.setdefault(name[0].lower(), []).append(entry)
    return found


def sections(lock: str) -> dict[str, str]:
    """Return the text of each section of a lock."""
    parts = re.split(r"^# == (\w+):.*\n", lock, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def level(lock: str, name: str) -> str:
    """Return the part of a lock that a level installs: `run`, `test` or `dev`."""
    parts = sections(lock)
    names = list(SECTIONS)
    return "".join(parts[each] for each in names[: names.index("build" if name == "run" else name) + 1])


def split(everything: str, needed: dict[str, set[str]]) -> str:
    """Return the lock. *needed*: the names of each section's releases."""
    left = entries(everything)
    text = _HEAD
    for section in SECTIONS:
        text += f"\n{heading(section)}\n"
        for name in sorted(needed[section] & left.keys()):
            text += "\n".join(left.pop(name)) + "\n"
    if left:
        raise ValueError(f"in no section: {', '.join(left)}")
    return text


def resolve(uv: str, wanted: tuple[str, ...], file: Path, *options: str) -> str:
    """Have uv resolve for every machine into *file*; the releases in it are preferred. Return it: no comments, no index."""
    fixed = ("--universal", "--python-version", "3.11", "--no-annotate", "--no-header", "--no-emit-index-url")
    command = [uv, "pip", "compile", "--quiet", *fixed, "--no-emit-find-links", "--output-file", str(file)]
    subprocess.run([*command, *options, *wanted], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return file.read_text()


def main() -> None:
    """Write the lock: `lock.py UV [--upgrade]`. Without `--upgrade` a release stays while its range allows it."""
    uv, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "lock.txt"
        full.write_text(LOCK.read_text() if LOCK.exists() else "")
        everything = resolve(uv, _ALL, full, "--generate-hashes", *options)
        needed = {
            name: set(entries(resolve(uv, wanted, Path(folder) / f"{name}.txt", "--constraints", str(full))))
            for name, (_, wanted) in SECTIONS.items()
        }
    LOCK.write_text(split(everything, needed))


if __name__ == "__main__":
    main()
