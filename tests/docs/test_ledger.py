"""The page on the ledger keeps its word: its examples are a rule of the ledger and the proof of it."""

from __future__ import annotations

import re

from tests.support.pages import ROOT
from tools.ledger.proofs import proofs, read_proofs
from workyard.ledger.rules import read, rules


def test_its_examples_are_a_rule_and_its_proof() -> None:
    """Word for word; that the entries themselves are true is the ledger's own test."""
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    rule, proof = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [shown] = read({"work": rule}).values()
    [proven] = read_proofs({"work": proof}).values()
    assert shown == rules()[shown.id]
    assert proven == proofs()[shown.id]
    assert proven.flip is not None
