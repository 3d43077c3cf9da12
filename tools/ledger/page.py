"""How docs/behaviours.md is made of the ledger: by subject and endpoint, then what is open and where sources differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby

from tools.ledger.proofs import Proof
from tools.ledger.sources import linked
from workyard.ledger.rules import SUBJECTS, LedgerRule

_HEAD = """# Behaviours

<!-- Made by scripts/ledger from server/workyard/ledger/*.yaml: change those. -->

What Workyard does, rule by rule, and on what evidence. Each rule is tested on the embedded engine and on Redis, but for
{none} in which an engine has no part, and {redis} about Redis alone: these are tested once. An error answer names the
rule that it is about in the header `workyard-rule`; `workyard explain <id>` tells more, and so does
`GET /_emulator/rules/{{id}}`. [How the ledger is kept](ledger.md).

| grade | the rule follows | rules |
|---|---|---|
"""
_GRADES = {
    "reference": "the published API reference",
    "recorded": "what the service was seen to do",
    "sdk": "what the published SDKs say or rely on",
    "decided": "a decision of Workyard's, where nothing else settles it. If you know better from the service, tell us: a "
    "recording beats a decision",
}
_SCOPES = {
    "*": "All of /v1",
    "/_emulator/*": "All of the control plane",
    "cli": "Command line",
    "python": "In Python",
    "server": "The server",
}


def page(rules: Mapping[str, LedgerRule], proofs: Mapping[str, Proof]) -> str:
    """Return the page. Of the proofs it counts the engines."""
    counts = {grade: sum(rule.grade == grade for rule in rules.values()) for grade in _GRADES}
    engines = Counter(proof.engine for proof in proofs.values())
    head = _HEAD.format(none=engines["none"], redis=engines["redis"])
    parts = [head + "".join(f"| {_grade(grade)} | {text} | {counts[grade]} |\n" for grade, text in _GRADES.items())]
    for subject, title in SUBJECTS.items():
        chosen = [rule for rule in rules.values() if rule.subject == subject]
        if chosen:
            parts.append(f"## {title}\n")
            parts += _by_endpoint(chosen)
    parts += _open(rules.values())
    parts += _differences(rules.values())
    return "\n".join(parts)


def _by_endpoint(rules: list[LedgerRule]) -> Iterable[str]:
    """Yield a table for each endpoint, in the order in which the rules name them first."""
    places = list(dict.fromkeys(rule.endpoint for rule in rules))
    ordered = sorted(rules, key=lambda rule: places.index(rule.endpoint))
    for endpoint, group in groupby(ordered, key=lambda rule: rule.endpoint):
        title = _SCOPES.get(endpoint, f"`{endpoint}`")
        yield f"### {title}\n"
        rows = "".join(
            f"| `{rule.id}` | {_cell(rule.rule)} | {_grade(rule.grade)} | {_cell(linked(rule.source))} |\n"
            for rule in group
        )
        yield f"| id | rule | grade | source |\n|---|---|---|---|\n{rows}"


def _open(rules: Iterable[LedgerRule]) -> list[str]:
    rows = "".join(f"| `{rule.id}` | {_cell(rule.open)} |\n" for rule in rules if rule.open)
    return [
        f"## Open questions\n\nWhat is not settled, and what would settle it.\n\n| rule | question |\n|---|---|\n{rows}"
    ]


def _differences(rules: Iterable[LedgerRule]) -> list[str]:
    rows = "".join(
        f"| `{rule.id}` | {_cell(rule.rule)} | {_cell(rule.differs_from)} |\n" for rule in rules if rule.differs_from
    )
    head = "## Where the sources disagree\n\n| rule | here | elsewhere |\n|---|---|---|\n"
    return [head + rows]


def _grade(grade: str) -> str:
    return f"**{grade}**" if grade == "decided" else grade


def _cell(text: str | None) -> str:
    """Return a text as a table's cell takes it."""
    return " ".join((text or "").split()).replace("|", "\\|")
