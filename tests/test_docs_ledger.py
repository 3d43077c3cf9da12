"""The page on the ledger keeps its word: its example is an entry of it."""

from __future__ import annotations

from test_docs_readme import ROOT, block

from workyard.ledger import read, rules


def test_its_example_is_an_entry() -> None:
    """Word for word; that the entry itself is true is the ledger's own test."""
    [shown] = read({"work": block((ROOT / "docs" / "ledger.md").read_text(encoding="utf-8"), "yaml")}).values()
    assert shown == rules()[shown.id]
    assert shown.flip is not None
