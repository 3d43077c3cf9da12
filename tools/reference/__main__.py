#!/usr/bin/env python3
"""Compare `openapi/workyard.json` with the API reference: what was compared, each difference and why it is there.

The reference is `tests/data/reference-facts.json`, a table of names and types that was read from its five texts. Where the
texts are at hand (the folder that `WORKYARD_REFERENCE` names, or `shared/reference` beside the checkout) the table is
compared with them too; `--write` writes it anew. Exits with 1 if a difference is not explained in
`tests/data/reference-differences.yaml`, an explanation no longer applies, or the table is not that of the texts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.reference.compare import differences, unexplained
from tools.reference.texts import READERS, Facts, table

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "data" / "reference-facts.json"
LISTED = ROOT / "tests" / "data" / "reference-differences.yaml"
DOCUMENT = ROOT / "openapi" / "workyard.json"


def main(arguments: list[str]) -> int:
    """Compare, or write the table; return the exit code."""
    if arguments not in ([], ["--write"]):
        print("usage: scripts/reference [--write]", file=sys.stderr)
        return 2
    folder = texts()
    if arguments:
        if folder is None:
            print("the texts are not at hand: name their folder in WORKYARD_REFERENCE", file=sys.stderr)
            return 1
        TABLE.write_text(text_of(table(folder)), encoding="utf-8")
    known: Facts = json.loads(TABLE.read_text(encoding="utf-8"))
    listed: list[dict[str, str]] = yaml.safe_load(LISTED.read_text(encoding="utf-8"))
    compared, found = differences(known["facts"], json.loads(DOCUMENT.read_text(encoding="utf-8")))
    left, idle = unexplained(found, listed)
    print(*_report(known, compared, found, listed, left, idle), sep="\n")
    stale = folder is not None and text_of(table(folder)) != TABLE.read_text(encoding="utf-8")
    if folder is None:
        print("\nThe texts are not at hand: the table was not compared with them.")
    elif stale:
        print(f"\n{TABLE.name} is not what the texts in {folder} say: run scripts/reference --write")
    else:
        print("\nThe table is what the texts say.")
    return 1 if left or idle or stale else 0


def texts() -> Path | None:
    """Return the folder with the texts, None if they are not at hand."""
    named = os.environ.get("WORKYARD_REFERENCE")
    folder = Path(named) if named else ROOT.parent / "shared" / "reference"
    return folder if all((folder / reader.file).is_file() for reader in READERS) else None


def text_of(facts: Facts) -> str:
    """Return the table as it is committed."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _report(
    known: Facts, compared: int, found: list[Any], listed: list[dict[str, str]], left: list[Any], idle: list[str]
) -> list[str]:
    facts = known["facts"]
    endpoints = sum(" answer" in place for place in facts)
    fields = sum(" parameter " in place or "." in place for place in facts)
    apart = sum(len(kinds) for kinds in known["disagreements"].values())
    lines = [
        f"{endpoints} endpoints, {fields} parameters and members, {compared} facts compared; "
        f"the texts disagree among themselves about {apart} (listed in {TABLE.name}).",
        f"\n{len(found)} differences, by {len(listed)} reasons:",
    ]
    for entry in listed:
        lines += [
            f"- {entry['place']}: {entry['kind']}: reference: {entry['reference']}; here: {entry['here']}",
            f"  {entry['reason']}",
        ]
    lines.append(f"\n{len(left)} not explained{':' if left else '.'}")
    lines += [f"- {difference}" for difference in left]
    lines += [f"- no longer there, but explained: {entry}" for entry in idle]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
