"""The page on the ledger keeps its word: its example is an entry that the code takes. Source: issue E, 1 and 6."""

from __future__ import annotations

from test_docs_readme import ROOT, block

from workyard.ledger import read


def test_its_example_is_an_entry() -> None:
    """By the reader of the ledger, with a flip of a file that is there."""
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    [rule] = read({"work": block(page, "yaml")}).values()
    assert rule.flip is not None
    assert (ROOT / rule.flip.file).read_text(encoding="utf-8").count(rule.flip.find) == 1
    for node in rule.tests:
        path, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
