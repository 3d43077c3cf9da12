"""The behaviour ledger: each rule as an entry in data, with its evidence and the tests that prove it.

The entries are in `ledger/<subject>.yaml`; docs/ledger.md describes their form. Owns reading and checking them: that takes some
tenths of a second, so no request needs it (`rule_ids.py`). What an entry claims of the repository (tests, flips, routes),
scripts/ledger checks: a wheel has none of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workyard_store import errors
from workyard_store.errors import WorkyardError

from .rule_ids import RULE_ID

#: Subject → its title on the page, in the order of the page.
SUBJECTS = {
    "conventions": "Conventions",
    "credentials": "Credentials and workspaces",
    "limits": "Limits",
    "environments": "Environments",
    "work": "Work",
    "stats": "Figures of a queue",
    "sessions": "Agents and sessions",
    "agent": "The scripted agent",
    "skills": "Skills",
    "memory": "Memory stores",
    "control": "Control plane",
    "time": "Time",
    "faults": "Faults",
    "sight": "Sight",
    "journal": "Journal and metrics",
    "state": "State",
    "fixtures": "Fixture mode",
    "testing": "In tests",
    "observability": "Observability",
}
#: What a rule is about when it is no route: all of /v1 or of the control plane, the command, Python's helpers, the process.
PLACES = ("*", "/_emulator/*", "cli", "python", "server")
_FOLDER = files("workyard") / "ledger"

Grade = Literal["reference", "recorded", "sdk", "decided"]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class LedgerError(Exception):
    """The ledger breaks its own rules; the message names file and entry, a line for each problem."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Flip(_Entry):
    """How `scripts/mutants --ledger` breaks a rule: in `file`, `find`, which stands there once, becomes `replace`."""

    file: Annotated[str, Field(pattern=r"^(server|store|queue)/[\w./-]+$")]
    find: Annotated[str, Field(min_length=1)]
    replace: str

    @model_validator(mode="after")
    def _changes_something(self) -> Flip:
        if self.find == self.replace:
            raise ValueError("find and replace are the same")
        return self


class Rule(_Entry):
    """One entry. docs/ledger.md says what each member is for."""

    id: Annotated[str, Field(pattern=RULE_ID)]
    endpoint: Text
    rule: Text
    grade: Grade
    source: Text
    since: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    differs_from: Text | None = None
    avoid: Text | None = None
    open: Text | None = None
    errors: tuple[str, ...] = Field(default=(), strict=False)
    fields: tuple[Annotated[str, Field(pattern=r"^\S+ \S+$")], ...] = Field(default=(), strict=False)
    engine: Literal["every", "redis", "none"] = "every"
    tests: tuple[Annotated[str, Field(pattern=r"^tests/test_\w+\.py(?:::\w+)+$")], ...] = Field(
        min_length=1, strict=False
    )
    flip: Flip | None = None
    no_flip: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if (self.flip is None) is (self.no_flip is None):
            raise ValueError("either flip, or no_flip with the reason why no one change breaks the rule")
        if (self.errors or self.fields) and self.avoid is None:
            raise ValueError("a rule that errors carry says in avoid how to avoid them")
        if len(set(self.tests)) != len(self.tests):
            raise ValueError("a test is named twice")
        for name in self.errors:
            found = getattr(errors, name, None)
            if not (isinstance(found, type) and issubclass(found, WorkyardError)):
                raise ValueError(f"errors: there is no domain error {name}")
        return self

    @property
    def subject(self) -> str:
        """Return the name of the file that the rule is in."""
        return self.id.partition(".")[0]


class _File(_Entry):
    rules: tuple[Rule, ...] = Field(strict=False)


@cache
def rules() -> Mapping[str, Rule]:
    """Return all rules by id, in the order of the page. Takes some tenths of a second the first time.

    Raises:
        LedgerError: the packaged ledger is broken.
    """
    texts = {name: _FOLDER / f"{name}.yaml" for name in SUBJECTS}
    return read({name: file.read_text(encoding="utf-8") for name, file in texts.items() if file.is_file()})


def read(texts: Mapping[str, str]) -> dict[str, Rule]:
    """Return the rules in some files' texts, by subject.

    Raises:
        LedgerError: a line for each problem.
    """
    problems: list[str] = []
    found: dict[str, Rule] = {}
    for subject, text in texts.items():
        for rule in _rules_of(subject, text, problems):
            if rule.subject != subject:
                problems.append(f"{subject}.yaml: {rule.id}: the id does not begin with {subject}.")
            if rule.id in found:
                problems.append(f"{subject}.yaml: {rule.id}: there are two rules of this id")
            found[rule.id] = rule
    for member in ("errors", "fields"):
        owners: dict[str, str] = {}
        for rule in found.values():
            for each in getattr(rule, member):
                owner = owners.setdefault(_key(each), rule.id)
                if owner != rule.id:
                    problems.append(f"{rule.subject}.yaml: {rule.id}: {member}: {each} is with {owner} already")
    if problems:
        raise LedgerError("\n".join(problems))
    return found


def _rules_of(subject: str, text: str, problems: list[str]) -> Iterable[Rule]:
    if subject not in SUBJECTS:
        problems.append(f"{subject}.yaml: no subject; there are {', '.join(SUBJECTS)}")
        return ()
    try:
        given = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        problems.append(f"{subject}.yaml: not YAML: {error}")
        return ()
    try:
        return _File.model_validate(given).rules
    except ValidationError as error:
        for problem in error.errors():
            place = problem["loc"]
            problems.append(f"{subject}.yaml: {_name(given, place)}: {problem['msg'].removeprefix('Value error, ')}")
        return ()


def _name(given: Any, place: tuple[int | str, ...]) -> str:
    """Return the id, or the number, of the entry that a problem is in, and the path in it."""
    if len(place) < 2 or not isinstance(place[1], int):
        return ".".join(map(str, place)) or "the file"
    entry = given["rules"][place[1]]
    name = entry.get("id") if isinstance(entry, dict) else None
    return ": ".join([str(name or f"rules.{place[1]}"), *filter(None, [".".join(map(str, place[2:]))])])


def _key(text: str) -> str:
    """Return how the index has an error class, or a field: calls of the queue may be written with their group or without."""
    return text.removeprefix("work.").lower() if " " in text else text


def index(of: Mapping[str, Rule]) -> dict[str, dict[str, str]]:
    """Return what `ledger/index.json` holds: error class → rule, `<operation> <field>` → rule."""
    return {
        member: dict(sorted((_key(each), rule.id) for rule in of.values() for each in getattr(rule, member)))
        for member in ("errors", "fields")
    }


# -- finding rules ---------------------------------------------------------------------------------------------


def matching(words: str) -> list[Rule]:
    """Return the rules that have all of some words in id, endpoint, text, grade or source, whatever their case."""
    wanted = re.findall(r"\S+", words.lower())
    return [
        rule
        for rule in rules().values()
        if all(word in f"{rule.id} {rule.endpoint} {rule.rule} {rule.grade} {rule.source}".lower() for word in wanted)
    ]
