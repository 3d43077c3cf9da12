"""The behaviour ledger: each rule as an entry in data, with its evidence.

The entries are in `ledger/<subject>.yaml`; docs/ledger.md describes their form. Owns reading and checking them: that takes some
tenths of a second, so no request needs it (`rule_ids.py`). How each rule is proven is not part of the product: tests/ledger/
has that, and scripts/ledger checks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workyard_store import errors
from workyard_store.errors import WorkyardError

from .ids import RULE_ID

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
    "clock": "Clock",
    "faults": "Faults",
    "timeline": "Timeline",
    "journal": "Journal and metrics",
    "state": "State",
    "fixtures": "Fixture mode",
    "testing": "In tests",
    "observability": "Observability",
}
#: Values of `endpoint` for a rule that covers more than routes: all of /v1 or the control plane, the command, Python's helpers, the process.
SCOPES = ("*", "/_emulator/*", "cli", "python", "server")
_FOLDER = files("workyard") / "ledger"

Grade = Literal["reference", "recorded", "sdk", "decided"]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class LedgerError(Exception):
    """The ledger breaks its own rules; the message names file and entry, a line for each problem."""


class Part(BaseModel):
    """Something in a file of the ledger: no other members than those declared, and no conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(Part):
    """An entry under the id of a rule."""

    id: Annotated[str, Field(pattern=RULE_ID)]

    @property
    def subject(self) -> str:
        """Return the name of the file that the entry belongs in, without suffix."""
        return self.id.partition(".")[0]


class LedgerRule(Entry):
    """A rule and its evidence. docs/ledger.md describes each member."""

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

    @model_validator(mode="after")
    def _whole(self) -> LedgerRule:
        if (self.errors or self.fields) and self.avoid is None:
            raise ValueError("a rule that errors carry says in avoid how to avoid them")
        for name in self.errors:
            found = getattr(errors, name, None)
            if not (isinstance(found, type) and issubclass(found, WorkyardError)):
                raise ValueError(f"errors: there is no domain error {name}")
        return self


class _File(Part):
    rules: tuple[LedgerRule, ...] = Field(strict=False)


_Part = TypeVar("_Part", bound=Part)
_Entry = TypeVar("_Entry", bound=Entry)


@cache
def rules() -> Mapping[str, LedgerRule]:
    """Return all rules by id, in the order of the page. Takes some tenths of a second the first time.

    Raises:
        LedgerError: the packaged ledger is broken.
    """
    texts = {name: _FOLDER / f"{name}.yaml" for name in SUBJECTS}
    return read({name: file.read_text(encoding="utf-8") for name, file in texts.items() if file.is_file()})


def read(texts: Mapping[str, str]) -> dict[str, LedgerRule]:
    """Return the rules in some files' texts, by subject.

    Raises:
        LedgerError: a line for each problem.
    """
    problems: list[str] = []
    parsed = {subject: parse(subject, f"{subject}.yaml", text, _File, problems) for subject, text in texts.items()}
    found = by_id({subject: file.rules for subject, file in parsed.items() if file is not None}, "", problems)
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


def parse(subject: str, file: str, text: str, model: type[_Part], problems: list[str]) -> _Part | None:
    """Return the content of a file; None if it is not as *model* describes it: *problems* then has lines that begin with *file*."""
    if subject not in SUBJECTS:
        problems.append(f"{file}: no subject; there are {', '.join(SUBJECTS)}")
        return None
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        problems.append(f"{file}: not YAML: {error}")
        return None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        for problem in error.errors():
            name = _name(content, problem["loc"])
            problems.append(f"{file}: {name}: {problem['msg'].removeprefix('Value error, ')}")
        return None


def by_id(entries: Mapping[str, Iterable[_Entry]], folder: str, problems: list[str]) -> dict[str, _Entry]:
    """Return entries, given by subject, by their ids. *problems* gets a line for each that is in the wrong file or there twice.

    *folder* is what the names of files begin with in those lines: empty, or ends with a slash.
    """
    found: dict[str, _Entry] = {}
    for subject, some in entries.items():
        for entry in some:
            if entry.subject != subject:
                problems.append(f"{folder}{subject}.yaml: {entry.id}: the id does not begin with {subject}.")
            if entry.id in found:
                problems.append(f"{folder}{subject}.yaml: {entry.id}: there are two entries of this id")
            found[entry.id] = entry
    return found


def _name(content: Any, place: tuple[int | str, ...]) -> str:
    """Return the id, or the number, of the entry that a problem is in, and the path in it."""
    if len(place) < 2 or not isinstance(place[1], int):
        return ".".join(map(str, place)) or "the file"
    entry = content[place[0]][place[1]]
    name = entry.get("id") if isinstance(entry, dict) else None
    return ": ".join([str(name or f"{place[0]}.{place[1]}"), *filter(None, [".".join(map(str, place[2:]))])])


def _key(text: str) -> str:
    """Return how the index has an error class, or a field: calls of the queue may be written with their group or without."""
    return text.removeprefix("work.").lower() if " " in text else text


def index(of: Mapping[str, LedgerRule]) -> dict[str, dict[str, str]]:
    """Return what `ledger/index.json` holds: error class → rule, `<operation> <field>` → rule."""
    return {
        member: dict(sorted((_key(each), rule.id) for rule in of.values() for each in getattr(rule, member)))
        for member in ("errors", "fields")
    }


# -- finding rules ---------------------------------------------------------------------------------------------


def matching(words: str) -> list[LedgerRule]:
    """Return the rules that have all of some words in id, endpoint, text, grade or source, whatever their case."""
    wanted = re.findall(r"\S+", words.lower())
    return [
        rule
        for rule in rules().values()
        if all(word in f"{rule.id} {rule.endpoint} {rule.rule} {rule.grade} {rule.source}".lower() for word in wanted)
    ]
