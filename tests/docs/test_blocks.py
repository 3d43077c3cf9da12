"""Every block of code in the documentation says by which test it is run, or that it is output.

In the line above a block stands a comment, which no reader sees:

    <!-- run: tests/docs/test_clock.py::test_name -->    this test runs the block; several are separated by commas
    <!-- schema: Wait -->                               JSON, valid by this schema of openapi/control.json or workyard.json
    <!-- not run: a reason -->                          a command that cannot run here, and what stands in for it

A block in `text` is output, and needs none. Pages that `scripts/docs` writes need none either: their examples were run
when the page was written, and a page that is not as it would be written now is stale.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from jsonschema import Draft202012Validator

from tests.support.pages import ROOT
from tools.docs.reference import NOTE

_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,}) *(?P<language>[^\s`]*)")
_MARK = re.compile(r"^ *<!-- (?P<kind>run|schema|not run): (?P<what>.+) -->$")
#: A reason says more than that there is one.
_SHORTEST_REASON = 30


class Block(NamedTuple):
    """A block of code: where it is, its language, its text, and what the comment above it says."""

    place: str
    language: str
    text: str
    kind: str | None
    what: str


def pages() -> list[Path]:
    """Return the pages that people write."""
    written = NOTE.partition("{")[0]
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if not path.read_text(encoding="utf-8").startswith(written))


def blocks(name: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    lines = text.splitlines()
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened = (number, fence["fence"], fence["language"])
        elif opened is not None and fence and line.strip() == opened[1]:
            start, _, language = opened
            mark = _MARK.match(lines[start - 1]) if start else None
            inside = "\n".join(lines[start + 1 : number])
            kind, what = (mark["kind"], mark["what"]) if mark else (None, "")
            yield Block(f"{name}:{start + 1}", language, inside, kind, what)
            opened = None
    assert opened is None, f"{name}:{opened}: a block without an end"


@cache
def _tests_in(path: str) -> tuple[str, frozenset[str]]:
    """Return the text of a file of tests, and the names of its tests."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return text, frozenset(node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))


@cache
def schemas() -> dict[str, Draft202012Validator]:
    """Return the schemas that bodies may have, by name."""
    known = {}
    for document in ("workyard", "control"):
        read = json.loads((ROOT / "openapi" / f"{document}.json").read_text(encoding="utf-8"))
        for name in read["components"]["schemas"]:
            root = {"$ref": f"#/components/schemas/{name}", "components": read["components"]}
            known[name] = Draft202012Validator(root)
    return known


def problem(block: Block) -> str | None:
    """Return what is wrong with a block's mark, or None."""
    match block.kind:
        case None:
            return (
                None
                if block.language == "text"
                else "say by which test it runs (tests/docs/test_blocks.py), or make it `text`"
            )
        case "run":
            page = block.place.partition(":")[0].rpartition("/")[2]
            for node in block.what.split(", "):
                path, _, name = node.partition("::")
                if not (ROOT / path).is_file() or name not in _tests_in(path)[1]:
                    return f"no such test: {node}"
                if page not in _tests_in(path)[0]:
                    return f"{path} does not read {page}"
        case "not run":
            named = re.findall(r"\btests/\w+\.py", block.what)
            if len(block.what) < _SHORTEST_REASON or not all((ROOT / path).is_file() for path in named):
                return "say why, and what is tested in its place"
        case "schema":
            if block.what not in schemas():
                return f"no such schema: {block.what}"
            found = [error.message for error in schemas()[block.what].iter_errors(json.loads(block.text))]
            return f"not by the schema: {'; '.join(found)}" if found else None
    if block.language == "json":
        json.loads(block.text)
    return None


def found_in(name: str, text: str) -> list[str]:
    """Return what is wrong with the blocks of a page."""
    return [f"{block.place}: {wrong}" for block in blocks(name, text) if (wrong := problem(block))]


def test_every_block_says_how_it_is_known_to_be_true() -> None:
    """In all pages, those of other parts too; what it names is there, and reads the page."""
    found = [wrong for path in pages() for wrong in found_in(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```sh\nls\n```", "say by which test it runs"),
        ("```\nls\n```", "say by which test it runs"),
        ("- x\n\n  ~~~bash\n  ls\n  ~~~", "say by which test it runs"),
        ("<!-- run: tests/docs/test_clock.py::test_of_nothing -->\n```sh\nls\n```", "no such test"),
        ("<!-- run: tests/docs/test_journal.py::test_the_examples_run -->\n```sh\nls\n```", "does not read clock.md"),
        ("<!-- not run: cannot -->\n```sh\nls\n```", "say why"),
        ("<!-- schema: Wait -->\n```json\n{}\n```", "'until' is a required property"),
        ("<!-- schema: Waiting -->\n```json\n{}\n```", "no such schema"),
    ],
)
def test_what_a_mark_must_not_be(text: str, wrong: str) -> None:
    """The check has teeth."""
    [found] = found_in("docs/clock.md", text)
    assert wrong in found


def test_a_block_without_an_end_is_noticed() -> None:
    """The rest of the page would be code."""
    with pytest.raises(AssertionError, match="without an end"):
        found_in("docs/clock.md", "```text\nls\n")
