"""Citations can be followed: each names a rule of the ledger or a page of this repository, never a document outside it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.support.harness import rule_ids
from tools.ledger.sources import headings

ROOT = Path(__file__).resolve().parents[2]
#: How texts cited what is not in the repository: a section, a document of notes, an issue by its letter.
_OUTSIDE = re.compile(
    r"§|\bcontract[, ]+\d|\bwire-facts\b|\bsdk-clients\b(?!\.md)|\bservice-docs\b|\brecordings-2\b|\bdesign\.md\b"
    r"|(?<![\w/-])reference/[\w-]+\.(?:md|txt)|\breference,? api-|\bapi-(?:http|java|php|python|ruby-work)\.(?:md|txt)"
    r"|(?-i:\b[Ii]ssue [A-F]\b)|\bmust show\b|\bSource: (?:issue|contract|reference|api reference)\b",
    re.IGNORECASE,
)
#: The texts of the reference by their names, and what this file says of citations.
_MAY = {
    "tools/reference/texts.py",
    "tests/openapi/test_reference.py",
    "tests/data/reference-facts.json",
    "tests/structure/test_citations.py",
}
#: ``Rule: `work.ack.state`.`` and ``Rules: `work.*`, `stats.*`.``, over line ends too.
_RULES = re.compile(r"\b[Rr]ules?:?[ \n]+((?:`[a-z]+\.(?:[a-z0-9.-]+|[a-z0-9.-]*\*)`(?:,? *(?:and )?\n? *(?=`))?)+)")
_PAGE = re.compile(r"(?<![\w./-])(docs/(?:evidence/)?[\w-]+\.md)(?:#([\w-]+))?")


def _texts() -> dict[str, str]:
    """Return the text files that git knows, by their paths: all of them, whatever they are."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if listed.returncode:
        pytest.skip("no git checkout")
    found = dict[str, str]()
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            found[name] = data.decode("utf-8", "replace")
    assert len(found) > 100
    return found


def _outside(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for cited in _OUTSIDE.finditer(line):
            yield f"{name}:{number}: {cited.group()}"


def _lost(name: str, text: str, rules: Collection[str]) -> Iterator[str]:
    """Yield the rules that a text names and the ledger has not, and the evidence that it names and no page has."""
    for found in _RULES.finditer(text):
        for rule in re.findall(r"`([^`]+)`", found.group(1)):
            if rule not in rules and not (rule.endswith("*") and any(each.startswith(rule[:-1]) for each in rules)):
                yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: there is no rule {rule}"
    for page, anchor in _PAGE.findall(text):
        found_there = headings(ROOT / page)
        if not found_there or (anchor and anchor not in found_there):
            yield f"{name}: there is no {page}#{anchor}"


def test_nothing_cites_a_document_outside_the_repository() -> None:
    """Each place with its line."""
    assert [each for name, text in _texts().items() if name not in _MAY for each in _outside(name, text)] == []


def test_the_rules_and_pages_that_python_and_lua_name_are_there() -> None:
    """What is named so that somebody looks it up is found."""
    rules = rule_ids()
    code = {name: text for name, text in _texts().items() if name.endswith((".py", ".lua"))}
    made_up = {"tests/structure/test_citations.py", "tests/structure/test_ledger.py"}
    assert [each for name, text in code.items() if name not in made_up for each in _lost(name, text, rules)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Source: contract §4.", "see contract 4", "wire-facts says", "as sdk-clients has it", "Source: issue D, 2.",
        "the api-python.md", "reference/sdk-clients.md", "design.md",
    ],
)  # fmt: skip
def test_a_citation_that_cannot_be_followed_is_found(text: str) -> None:
    """With its line; else the tests above would prove nothing."""
    assert all(each.startswith("x:2: ") for each in _outside("x", f"\n{text}"))
    assert any(_outside("x", f"\n{text}"))


def test_a_rule_or_page_that_is_not_there_is_found() -> None:
    """With its line, and prefixes too."""
    text = "\nRules: `work.*`, `work.one`,\n`none.*`. docs/evidence/decisions.md#nothing docs/evidence/decisions.md"
    assert list(_lost("x", text, {"work.two"})) == [
        "x:2: there is no rule work.one",
        "x:2: there is no rule none.*",
        "x: there is no docs/evidence/decisions.md#nothing",
    ]
