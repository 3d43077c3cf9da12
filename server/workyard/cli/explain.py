"""The command `workyard explain`: prints rules of the behaviour ledger, without a server. Source: docs/behaviours.md."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..ledger.rules import LedgerRule

_WIDTH = 100


@click.command()
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(words: tuple[str, ...], as_json: bool) -> None:
    """Explain rules of the behaviour ledger. The header `workyard-rule` of an error has the id of its rule.

    WORDS is the id of a rule, or words to search for in all rules; without WORDS, all rules are listed. Exits
    with 1 if no rule is found.
    """
    from ..ledger.rules import matching, rules
    from ..schemas.rules import render_ledger_rule

    named = rules().get(words[0]) if len(words) == 1 else None
    found = [named] if named is not None else matching(" ".join(words))
    if as_json:
        click.echo(json.dumps([render_ledger_rule(rule) for rule in found], indent=2, ensure_ascii=False))
    elif len(found) == 1:
        click.echo(_text(found[0]))
    else:
        for rule in found:
            click.echo(f"{rule.id} ({rule.grade}): {rule.rule}")
    if not found:
        click.echo(f"no rule has all of: {' '.join(words)}", err=True)
        sys.exit(1)


def _text(rule: LedgerRule) -> str:
    parts = [
        ("rule", rule.rule),
        ("about", rule.endpoint),
        ("avoid", rule.avoid),
        ("evidence", f"{rule.grade}: {rule.source}"),
        ("elsewhere", rule.differs_from),
        ("open", rule.open),
        ("since", rule.since),
    ]
    # Paths stay whole.
    wrapper = textwrap.TextWrapper(_WIDTH, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False)
    lines = [wrapper.fill(f"  {name + ':':<11}{text}") for name, text in parts if text]
    return "\n".join([rule.id, *lines])
