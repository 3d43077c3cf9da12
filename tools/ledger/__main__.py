#!/usr/bin/env python3
"""Write docs/behaviours.md and server/workyard/ledger/index.json from the ledger; with `--check`, fail if one is stale.

Either way the ledger is checked first: the form of each entry, that each rule has a proof in tests/ledger/, and that the
tests, flips and endpoints that the entries name exist. docs/ledger.md describes the form.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.ledger.claims import false_claims
from tools.ledger.page import page
from tools.ledger.proofs import ROOT, RULES, proofs, texts_in, unpaired
from workyard.ledger.rules import LedgerError, LedgerRule, index, read


def main(arguments: list[str]) -> int:
    """Check the ledger, and write or check the files generated from it; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: scripts/ledger [--check]", file=sys.stderr)
        return 2
    try:
        # This checkout's, whichever Workyard is installed.
        rules, proven = read(texts_in(ROOT / RULES)), proofs()
    except LedgerError as error:
        print(error, file=sys.stderr)
        return 1
    problems = unpaired(rules, proven) + false_claims(rules, proven)
    made = {RULES / "index.json": _index(rules), Path("docs/behaviours.md"): page(rules, proven)}
    for name, text in made.items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments:
            problems.append(f"{name} is stale: run scripts/ledger and commit the result")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(rules)} rules, {len(problems)} problems")
    return 1 if problems else 0


def _index(rules: dict[str, LedgerRule]) -> str:
    return json.dumps(index(rules), indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
