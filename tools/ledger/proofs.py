"""How the rules of the ledger are proven: by which tests, on which engines, and which change to the product breaks each.

The entries are in `tests/ledger/<subject>.yaml`, one for each rule of `server/workyard/ledger/<subject>.yaml`; docs/ledger.md
describes their form. Owns reading them and comparing their ids with those of the rules. They are no part of a wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from workyard.ledger.rules import SUBJECTS, Entry, LedgerError, LedgerRule, Part, Text, by_id, parse

ROOT = Path(__file__).resolve().parents[2]
RULES = Path("server/workyard/ledger")
PROOFS = Path("tests/ledger")


class Flip(Part):
    """How `scripts/mutants --ledger` breaks a rule: in `file`, `find`, which occurs there once, becomes `replace`."""

    file: Annotated[str, Field(pattern=r"^(server|store|queue)/[\w./-]+$")]
    find: Annotated[str, Field(min_length=1)]
    replace: str

    @model_validator(mode="after")
    def _changes_something(self) -> Flip:
        if self.find == self.replace:
            raise ValueError("find and replace are the same")
        return self


class Proof(Entry):
    """How the rule of the same id is proven. docs/ledger.md describes each member."""

    tests: tuple[Annotated[str, Field(pattern=r"^tests/(?:\w+/)*test_\w+\.py(?:::\w+)+$")], ...] = Field(
        min_length=1, strict=False
    )
    engine: Literal["every", "redis", "none"] = "every"
    flip: Flip | None = None
    no_flip: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Proof:
        if (self.flip is None) is (self.no_flip is None):
            raise ValueError("either flip, or no_flip with the reason why no one change breaks the rule")
        if len(set(self.tests)) != len(self.tests):
            raise ValueError("a test is named twice")
        return self


class _File(Part):
    proofs: tuple[Proof, ...] = Field(strict=False)


def texts_in(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's YAML files by subject, in the order of the page; those that are no subject come last."""
    texts = {file.stem: file.read_text(encoding="utf-8") for file in folder.glob("*.yaml")}
    return {name: texts[name] for name in [*SUBJECTS, *sorted(set(texts) - set(SUBJECTS))] if name in texts}


def read_proofs(texts: Mapping[str, str]) -> dict[str, Proof]:
    """Return the proofs in some files' texts, which are given by subject, by the ids of their rules.

    Raises:
        LedgerError: a line for each problem.
    """
    problems: list[str] = []
    parsed = {
        subject: parse(subject, f"{PROOFS}/{subject}.yaml", text, _File, problems) for subject, text in texts.items()
    }
    found = by_id(
        {subject: file.proofs for subject, file in parsed.items() if file is not None}, f"{PROOFS}/", problems
    )
    if problems:
        raise LedgerError("\n".join(problems))
    return found


def proofs(root: Path = ROOT) -> dict[str, Proof]:
    """Return a checkout's proofs by the ids of their rules.

    Raises:
        LedgerError: they break their form.
    """
    return read_proofs(texts_in(root / PROOFS))


def unpaired(rules: Mapping[str, LedgerRule], found: Mapping[str, Proof]) -> list[str]:
    """Return a line for each rule without a proof, and for each proof without a rule."""
    return [
        *(
            f"{name}: {RULES}/{rule.subject}.yaml has this rule, {PROOFS}/{rule.subject}.yaml has no proof of it: add its tests and flip"
            for name, rule in rules.items()
            if name not in found
        ),
        *(
            f"{name}: {PROOFS}/{proof.subject}.yaml proves this rule, {RULES}/{proof.subject}.yaml does not have it: "
            "add the rule, or remove the proof"
            for name, proof in found.items()
            if name not in rules
        ),
    ]
