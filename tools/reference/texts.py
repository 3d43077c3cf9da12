"""The five texts of the API reference as one table of facts: names, types, enums, what is required. No prose is kept.

Each text is a tree of bullets. A reader per text turns a bullet into what it says; from there on all are treated alike.
A fact has a place: `GET /v1/environments parameter limit`, `GET /v1/environments answer`, `BetaEnvironment.scope`; a type
is listed in many places of a text and must be the same in all. What a text does not tell, it says nothing of:

- `place` of a parameter: the HTTP text only;
- `required` of a parameter or a member of a request: all but Ruby's; of a member of an answer: the HTTP text only;
- `optional`, that is null or absent, of a member of an answer: Java, PHP and Python.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Said = dict[str, dict[str, Any]]
Facts = dict[str, Any]

BETA_HEADER, BETA = "anthropic-beta", "AnthropicBeta"
#: How the names of types of requests end.
REQUESTS = ("Params", "Request")
#: The names that SDKs have for headers.
_HEADERS = {"betas": BETA_HEADER, "anthropic_worker_id": "Anthropic-Worker-ID"}
_PRIMITIVES = {
    "string": "string", "str": "string", "String": "string",
    "int": "integer", "Integer": "integer", "long": "integer", "Long": "integer", "number": "number",
    "bool": "boolean", "boolean": "boolean", "Boolean": "boolean",
    "map[string]": "map of string", "array<string,string>": "map of string", "Dict[str, str]": "map of string",
    "Hash[Symbol, String]": "map of string", "Dict[str, Optional[str]]": "map of string or null",
}  # fmt: skip
_LIST = re.compile(r"(?:array of |List\[|List<|list<|Array\[)([\w|]+)[\]>]?")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: What more one text tells than another that says something else: broader → narrower.
_NARROWER = {"number": "integer", "map of string": "map of string or null"}


@dataclass
class Bullet:
    """A line of the tree, without its marks, and its children."""

    text: str
    below: list[Bullet] = field(default_factory=list)


@dataclass(frozen=True)
class Member:
    """A parameter or member as a text declares it. *type* is in the text's own words; *lacks*: whether it may be left out
    or be null, None if the text does not tell."""

    name: str
    type: str
    lacks: bool | None


@dataclass(frozen=True)
class Reader:
    """How one text is read: what a bullet declares (a member, a type's name, an enum's value), and the mark of a bullet."""

    name: str
    file: str
    mark: re.Pattern[str]
    member: Callable[[str], Member | None]
    type_name: re.Pattern[str]
    value: re.Pattern[str]


def _http_member(text: str) -> Member | None:
    found = re.fullmatch(r'"?([\w-]+)"?: (optional )?(.+)', text)
    return found and Member(found[1], found[3], found[2] is not None)


def _java_member(text: str) -> Member | None:
    constant = re.fullmatch(r'JsonValue; (\w+) ("\w+")constant', text)
    if constant:
        return Member(_snake(constant[1]), constant[2], False)
    found = re.fullmatch(r"(Optional<)?([\w<>]+?)(?(1)>) (\w+)", text)
    return found and Member(_snake(found[3]), found[2], found[1] is not None)


def _php_member(text: str) -> Member | None:
    parameter = re.fullmatch(r"(\w+)(\?)?:(?:optional)? ?(\S+)", text)
    if parameter:
        return Member(_snake(parameter[1]), parameter[3], parameter[2] is not None)
    found = re.fullmatch(r"(\?)?(\S+) (\w+)", text)
    return found and Member(_snake(found[3]), found[2], found[1] is not None)


def _python_member(text: str) -> Member | None:
    found = re.fullmatch(r"(\w+): (Optional\[)?(.+?)(?(2)\])", text)
    return found and Member(found[1], found[3], found[2] is not None)


def _ruby_member(text: str) -> Member | None:
    found = re.fullmatch(r"(\w+): (.+)", text)
    return found and Member(found[1], found[2], None)


_MARKDOWN = re.compile(r"^( *)- `(.+)`$")
READERS = (
    Reader(
        "http", "api-http.txt", re.compile(r"^( *)• (.+)$"), _http_member,
        re.compile(r"(Beta\w+) object \{.*\}"), re.compile(r'"([^"]+)"'),
    ),
    Reader(
        "java", "api-java.md", _MARKDOWN, _java_member, re.compile(r"class (\w+):"), re.compile(r'[A-Z_0-9]+\("([^"]+)"\)')
    ),
    Reader("php", "api-php.md", _MARKDOWN, _php_member, re.compile(r"(\w+)"), re.compile(r'(?!)')),
    Reader("python", "api-python.md", _MARKDOWN, _python_member, re.compile(r"class (\w+): …"), re.compile(r'"([^"]+)"')),
    Reader("ruby", "api-ruby-work.md", _MARKDOWN, _ruby_member, re.compile(r"class (\w+)"), re.compile(r':"?([^"|]+?)"?')),
)  # fmt: skip


def table(folder: Path) -> Facts:
    """Return the table of the texts in a folder.

    Raises:
        ValueError: a line has a form that its reader does not know.
    """
    texts = {reader: (folder / reader.file).read_bytes() for reader in READERS}
    said = {reader.name: _Text(reader, text.decode()).read() for reader, text in texts.items()}
    facts, disagreements = _merged(said)
    return {
        "texts": {reader.file: hashlib.sha256(text).hexdigest() for reader, text in texts.items()},
        "facts": facts,
        "disagreements": disagreements,
    }


class _Text:
    """One text, being read."""

    def __init__(self, reader: Reader, text: str) -> None:
        self._reader = reader
        self._lines = text.splitlines()
        self.said: Said = {}

    def read(self) -> Said:
        """Return the text's facts: place → kind of fact → value."""
        endpoint = signature = ""
        for section, bullets in self._sections():
            if section.startswith("`"):
                signature = section
            elif found := re.fullmatch(r"\**(get|post|delete|put|patch)\** `?(/\S+?)`?", section):
                endpoint = f"{found[1].upper()} {found[2]}"
                self._say(endpoint, "path", found[2])
            elif section.endswith("Domain Types"):
                endpoint = ""
            elif section.endswith("Parameters") and endpoint:
                self._parameters(endpoint, section.removesuffix("Parameters").strip("# ").lower(), bullets)
            elif section.endswith("Returns"):
                self._answer(endpoint, signature, bullets)
            elif not endpoint:
                for bullet in bullets:
                    self._type_of(bullet)
        return self.said

    def _sections(self) -> Iterator[tuple[str, list[Bullet]]]:
        """Yield each line without a mark at the margin, with the bullets that follow it."""
        title, roots = "", list[Bullet]()
        stack: list[tuple[int, Bullet]] = []
        code = False
        for line in self._lines:
            code ^= line.startswith("```")
            found = self._reader.mark.match(line)
            if found and not code:
                depth, bullet = len(found[1]), Bullet(found[2])
                while stack and stack[-1][0] >= depth:
                    stack.pop()
                (stack[-1][1].below if stack else roots).append(bullet)
                stack.append((depth, bullet))
            elif line and not line[0].isspace() and not code:
                yield title, roots
                title, roots, stack = line, [], []
        yield title, roots

    def _say(self, place: str, kind: str, value: Any) -> None:
        known = self.said.setdefault(place, {}).setdefault(kind, value)
        if known != value:
            raise ValueError(f"{self._reader.file}: {place}: {kind} is {known!r} here and {value!r} there")

    # -- endpoints

    def _parameters(self, endpoint: str, where: str, bullets: list[Bullet]) -> None:
        if self._reader.name == "java":
            [params] = bullets
            bullets = params.below
        for bullet in bullets:
            member = self._member(bullet)
            body = member.type.startswith("Beta") and member.type.endswith("Request") and not bullet.below
            if body:
                # Java has the body as one parameter.
                self._say(f"{endpoint} parameter *", "type", member.type)
                continue
            name = _HEADERS.get(member.name, member.name)
            place = f"{endpoint} parameter {name}"
            if where:
                self._say(place, "place", where)
            self._describe(place, bullet, member)
            if member.lacks is not None:
                self._say(place, "required", not member.lacks)

    def _answer(self, endpoint: str, signature: str, bullets: list[Bullet]) -> None:
        place = f"{endpoint} answer"
        names = [self._type_of(bullet) for bullet in bullets if self._names_type(bullet)]
        if names:
            [name] = names
            # The SDKs show a row of a page, and that it is one in the signature.
            paged = re.search(r"Page\w*[<\[]|^`\w+Page ", signature) is not None
            self._say(place, "type", f"page of {name}" if paged else name)
            return
        # Members without the name of a type.
        [rows] = [self._type(member, each) for each in bullets if (member := self._member(each)).name == "data"]
        page = rows.replace("array of", "page of")
        self._declare(page, bullets)
        self._say(place, "type", page)

    # -- types and members

    def _names_type(self, bullet: Bullet) -> bool:
        return self._reader.type_name.fullmatch(bullet.text) is not None and bullet.text not in _PRIMITIVES

    def _type_of(self, bullet: Bullet) -> str:
        found = self._reader.type_name.fullmatch(bullet.text)
        if found is None:
            raise ValueError(f"{self._reader.file}: no type: {bullet.text}")
        name = _class(found[1])
        self._declare(name, bullet.below)
        return name

    def _declare(self, name: str, below: list[Bullet]) -> None:
        members = [bullet for bullet in below if self._reader.member(bullet.text)]
        self._say(name, "members", sorted(self._member(bullet).name for bullet in members))
        for bullet in members:
            self._of_answer(name, bullet)

    def _of_answer(self, name: str, bullet: Bullet) -> None:
        """Take in a member of a type, of an answer or of a request."""
        member = self._member(bullet)
        place = f"{name}.{member.name}"
        self._describe(place, bullet, member)
        if member.lacks is not None:
            if self._reader.name == "http" or name.endswith(REQUESTS):
                self._say(place, "required", not member.lacks)
            else:
                self._say(place, "optional", member.lacks)

    def _member(self, bullet: Bullet) -> Member:
        member = self._reader.member(bullet.text)
        if member is None:
            raise ValueError(f"{self._reader.file}: no member: {bullet.text}")
        return member

    def _describe(self, place: str, bullet: Bullet, member: Member) -> None:
        type_ = self._type(member, bullet)
        if type_:
            self._say(place, "type", type_)
        values = self._values(bullet, member)
        if values and BETA not in type_:
            self._say(place, "enum", sorted(values))

    def _values(self, bullet: Bullet, member: Member) -> list[str]:
        """Return the values of an enum; of those beside any string, too."""
        below = [found[1] for each in bullet.below if (found := self._reader.value.fullmatch(each.text))]
        if not below:
            alternatives = [
                each for each in bullet.below if not (self._names_type(each) or self._reader.member(each.text))
            ]
            below = [value for each in alternatives for value in self._values(each, member)]
        return below or ([member.type.strip('"')] if re.fullmatch(r'"\w+"', member.type) else [])

    def _type(self, member: Member, bullet: Bullet) -> str:
        """Return the type of a member in the words of the table; empty if the text only names one that it does not show."""
        if member.type in _PRIMITIVES:
            return _PRIMITIVES[member.type]
        classes = sorted(self._type_of(each) for each in bullet.below if self._names_type(each))
        if classes:
            return " or ".join(classes)
        listed = _LIST.fullmatch(member.type)
        if listed:
            item = listed[1].removesuffix("Param")
            if item in _PRIMITIVES:
                return f"array of {_PRIMITIVES[item]}"
            if item == BETA:
                # Any string, and these; the same for every endpoint of a text.
                values = self._values(bullet, member)
                if values:
                    self._say(BETA, "enum", sorted(values))
            elif bullet.below:
                self._declare(_class(item), bullet.below)
            return f"array of {_class(item)}"
        if self._values(bullet, member):
            return "string"
        named = _class(member.type)
        if not named.startswith("Beta"):
            return ""
        if bullet.below:
            self._declare(named, bullet.below)
        return named


def _snake(name: str) -> str:
    return _WORD.sub("_", name).lower()


def _class(name: str) -> str:
    """Return the name of a type as the table has it: PHP leaves the prefix off some, and a page has none of its own."""
    whole = f"Beta{name}" if name.startswith(("SelfHosted", "SessionWork")) else name
    return re.sub(r"^(Beta\w+)ListResponse$", r"page of \1", whole)


# -- all texts together


def _merged(said: Mapping[str, Said]) -> tuple[Facts, Facts]:
    """Return the facts (place → kind → value) and those that the texts disagree about (place → kind → text → value)."""
    for text in said.values():
        _spread_bodies(text)
    votes: defaultdict[str, defaultdict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for name, text in said.items():
        for place, kinds in text.items():
            for kind, value in kinds.items():
                votes[place][kind][name] = value
    facts: Facts = {}
    disagreements: Facts = {}
    for place, kinds in sorted(votes.items()):
        facts[place] = {kind: _taken(kind, by_text) for kind, by_text in sorted(kinds.items())}
        apart = {kind: by_text for kind, by_text in sorted(kinds.items()) if len({*map(repr, by_text.values())}) > 1}
        if apart:
            disagreements[place] = apart
    return facts, disagreements


def _spread_bodies(text: Said) -> None:
    """Put the members of a body that is one parameter in its place, and list what each endpoint takes."""
    for place in [place for place in text if place.endswith(" parameter *")]:
        body = text.pop(place)["type"]
        for member in text[body]["members"]:
            text[place[:-1] + member] = dict(text[f"{body}.{member}"])
    listed = defaultdict(list)
    for place in text:
        endpoint, parameter, name = place.partition(" parameter ")
        if parameter:
            listed[endpoint].append(name)
    for endpoint, names in listed.items():
        text[endpoint]["parameters"] = sorted(names)


def _taken(kind: str, by_text: Mapping[str, Any]) -> Any:
    """Return what is taken of what the texts say: the union of enums, the narrower type, else what the HTTP text says, which
    is about the wire, else what the first says."""
    said = list(by_text.values())
    if kind == "enum":
        return sorted({value for values in said for value in values})
    if kind == "type" and _NARROWER.get(said[0]) in said:
        return _NARROWER[said[0]]
    return said[0]
