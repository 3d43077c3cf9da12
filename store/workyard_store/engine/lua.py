"""Binds Lua files to typed Python calls. A script's arguments and answers are declared once, as a Python class.

The names and types of a class become `local` lines before the Lua file, and the same types encode a call:

| Python                | Lua                                        | on the way                       |
|-----------------------|--------------------------------------------|----------------------------------|
| `str`, words          | text                                       | as it is                         |
| `int`, or None        | number, or nil for None                    | digits, `''` for None            |
| `float`, or None      | number, or nil for None                    | as Python writes it, `''` for None |
| `Digits`, or None     | text, to be stored or compared as it is    | digits, `''` for None            |
| `bool`                | boolean                                    | `'1'`, `''` for False            |
| `list[str]`, …        | table of texts, …                          | flat                             |
| `list[Row]`           | table of tables with the names of the row  | flat, a value a column           |

`Row` is a `NamedTuple`. Lists come last; each list except the last is preceded by its length.

Replies are decoded by the same types: an `int` is a number or digits, None is `''`, a `bool` is `'1'` or `''`, and
`dict[str, str]` is a hash as `HGETALL` answers it. `Rest[…]` takes all remaining values; `Flat[…]` takes all remaining
rows, which have no table around each. A script with several answers has one `NamedTuple` for each; their first field
`word` distinguishes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from inspect import get_annotations
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from ..keys import lua_locals

T = TypeVar("T")
ReplyT_co = TypeVar("ReplyT_co", covariant=True)
WordT = TypeVar("WordT", bound=str)

#: One value of a command.
Value = str | int | float
#: A function that changes a value into its other form; None: it stays as it is.
Change = Callable[[Any], Any] | None

#: An integer that a script takes as text, to store it or to compare it with what is stored.
Digits = Annotated[int, "digits"]
#: At the end of a reply: all values from here on.
Rest = Annotated[list[T], "rest"]
#: At the end of a reply: all values from here on, which are rows one after the other.
Flat = Annotated[list[T], "flat"]

#: In a cluster, the first line of a script. While a slot is moved to another node, each node has some of its keys,
#: and a script would fail half way, at the first key that is not there. No key is missing but this one in other times.
_WHOLE_SLOT = """
if type(redis.pcall('EXISTS', BASE .. 'none')) == 'table' then
  return redis.error_reply('TRYAGAIN The slot is being moved')
end
"""


class Word(NamedTuple, Generic[WordT]):
    """A reply that is a single word, such as `Word[Literal["MISSING"]]`."""

    word: WordT


class Refused(Exception):
    """A script has done nothing, for a reason that one place handles for many scripts.

    Attributes:
        word: the reason.
        details: what follows the word in the reply.
    """

    def __init__(self, word: str, *details: str) -> None:
        super().__init__(word, *details)
        self.word = word
        self.details = details


class LuaScript:
    """The text of a script: the names of the keys that it uses, then shared parts and the script's own file, with their arguments.

    Attributes:
        plain: the text, and the hash Redis knows it by, for one server.
        in_cluster: the same for a cluster; it runs only on a node that has the whole slot.
    """

    def __init__(self, name: str, parts: Sequence[str]) -> None:
        self.name = name
        base = "local BASE = string.match(KEYS[1], '^(.*:)[a-z]+$')\n"
        body = "\n".join(parts)
        body = f"{lua_locals(body)}\n{body}"
        self.plain = _with_hash(base + body)
        self.in_cluster = _with_hash(base + _WHOLE_SLOT + body)


def _with_hash(text: str) -> tuple[str, str]:
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass_transform(kw_only_default=True)
class LuaArguments:
    """Values for the named arguments of a part of a script. A subclass declares them as annotated fields, perhaps with
    defaults.

    Attributes:
        encoded: the values as they are sent, in the order of the fields. An instance has nothing else.
        fields: name → type.
    """

    encoded: list[Value]
    fields: ClassVar[dict[str, Any]] = {}
    _encode: ClassVar[Callable[..., list[Value]] | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._encode = None
        own: dict[str, Any] = get_annotations(cls, eval_str=True)
        cls.fields = cls.fields | {name: hint for name, hint in own.items() if get_origin(hint) != ClassVar}
        if list(cls.fields) != [*cls._single(), *cls._lists()]:
            raise TypeError(f"{cls.__name__}: lists come last")

    def __init__(self, **values: Any) -> None:
        encode = type(self)._encode or self._compile()
        self.encoded = encode(**values)

    @classmethod
    def _single(cls) -> list[str]:
        return [name for name, hint in cls.fields.items() if get_origin(hint) is not list]

    @classmethod
    def _lists(cls) -> dict[str, dict[str, Any]]:
        """Return the lists, each with the names and types of its columns: none for a list of plain texts."""
        return {
            name: get_type_hints(get_args(hint)[0], include_extras=True) if _is_row(get_args(hint)[0]) else {}
            for name, hint in cls.fields.items()
            if get_origin(hint) is list
        }

    @classmethod
    def _compile(cls) -> Callable[..., list[Value]]:
        """Make the function that encodes the values; at the first call, for that takes as long as hundreds of calls."""
        defaults = {name: getattr(cls, name) for name in cls.fields if hasattr(cls, name)}
        parameters = [f"{name}={defaults[name]!r}" if name in defaults else name for name in cls.fields]
        values = [_python(cls.fields[name], name) for name in cls._single()]
        lists = cls._lists()
        for place, (name, columns) in enumerate(lists.items(), 1):
            if place < len(lists):
                values.append(f"len({name})")
            row = ", ".join(_python(hint, f"row[{at}]") for at, hint in enumerate(columns.values()))
            values.append(f"*[value for row in {name} for value in ({row},)]" if row else f"*{name}")
        declared = ", ".join(["*", *parameters] if parameters else [])
        encode: Callable[..., list[Value]] = eval(f"lambda {declared}: [{', '.join(values)}]")
        cls._encode = encode
        return encode

    @classmethod
    def named_in_lua(cls, first: int) -> str:
        """Return the line that gives the arguments their names in Lua, where *first* is the place of the first in ARGV; an
        empty string if there are none. It is one line, for the line numbers in Lua's errors."""
        single, lists = cls._single(), cls._lists()
        line = ""
        if single:
            values = (_lua(cls.fields[name], str(first + at)) for at, name in enumerate(single))
            line = f"local {', '.join(single)} = {', '.join(values)} "
        start = str(first + len(single))
        for place, (name, columns) in enumerate(lists.items(), 1):
            width, end = len(columns) or 1, "#ARGV"
            if place < len(lists):
                line += f"local before_{place} = {start} + {width} * ARGV[{start}] "
                start, end = f"{start} + 1", f"before_{place}"
            places = ["i", *(f"i + {at}" for at in range(1, width))]
            pairs = zip(columns.items(), places, strict=False)
            row = ", ".join(f"{column} = {_lua(hint, at)}" for (column, hint), at in pairs)
            row = f"{{{row}}}" if row else _lua(get_args(cls.fields[name])[0], "i")
            step = f", {width}" if width > 1 else ""
            line += f"local {name} = {{}} for i = {start}, {end}{step} do {name}[#{name} + 1] = {row} end "
            start = f"{end} + 1"
        return line.rstrip() + "\n" if line else ""


class Head(NamedTuple):
    """What precedes a script: named arguments, if it has any of its own, and the shared files that use them."""

    arguments: type[LuaArguments] | None
    files: tuple[Traversable, ...]


class LuaCall(LuaArguments, Generic[ReplyT_co]):
    """One call of a script. The subclass declares the arguments, and as *ReplyT_co* the replies.

    A subclass with `lua="heartbeat"` is bound to `heartbeat.lua` in its `folder`, after the parts in `heads`. A subclass
    without `lua` is a base class.

    Attributes:
        bound: the script with the lines that name its arguments.
        heads: what precedes the file. The arguments of the heads are sent first.
        refusals: words of replies that are raised as `Refused`.
        folder: where the file is.
        replies: words of the replies, each with the type of that reply; empty: the script has one reply, without a word.
    """

    bound: ClassVar[LuaScript]
    refusals: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[Head, ...]] = ()
    folder: ClassVar[Traversable]
    replies: ClassVar[dict[str, Any]] = {}
    _readers: ClassVar[dict[str, Change]] = {}
    _reader: ClassVar[Change] = None

    def __init_subclass__(
        cls,
        *,
        lua: str = "",
        heads: tuple[Head, ...] = (),
        folder: Traversable | None = None,
        refusals: tuple[str, ...] = (),
    ) -> None:
        super().__init_subclass__()
        cls.heads = cls.heads + heads
        cls.refusals = cls.refusals + refusals
        if folder is not None:
            cls.folder = folder
        if not lua:
            return
        parts, first = [], 1
        for head in cls.heads:
            if head.arguments is not None:
                parts.append(head.arguments.named_in_lua(first))
                first += len(head.arguments.fields)
            parts += [file.read_text(encoding="utf-8") for file in head.files]
        own = (cls.folder / f"{lua}.lua").read_text(encoding="utf-8")
        cls.bound = LuaScript(lua, [*parts, cls.named_in_lua(first) + own])
        reply = next(get_args(base)[0] for base in cls.__dict__["__orig_bases__"] if get_args(base))
        kinds = get_args(reply) if get_origin(reply) in (Union, UnionType) else (reply,)
        cls.replies = {word: kind for kind in kinds for word in _words_of(kind)}
        cls._readers = {word: _decoder(kind) for word, kind in cls.replies.items()}
        cls._readers |= dict.fromkeys(cls.refusals, _refuse)
        cls._reader = None if cls.replies else _decoder(reply)

    def read(self, reply: Any) -> ReplyT_co:
        """Return a reply as Redis gave it in its type.

        Raises:
            Refused: it begins with one of the `refusals`.
            KeyError: it begins with a word that is not declared.
        """
        cls = type(self)
        change = cls._readers[reply[0]] if cls._readers else cls._reader
        return cast(ReplyT_co, reply if change is None else change(reply))


def _refuse(reply: list[str]) -> NoReturn:
    raise Refused(*reply)


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union without None, or the one type."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(member for member in members if member is not NoneType)


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)


def _lua(hint: Any, place: str) -> str:
    """Return the Lua expression for the value at a place in ARGV."""
    if _parts(hint) in ((int,), (float,)):
        return f"tonumber(ARGV[{place}])"
    return f"ARGV[{place}] == '1'" if hint is bool else f"ARGV[{place}]"


def _python(hint: Any, value: str) -> str:
    """Return the Python expression that encodes a value."""
    if hint is bool:
        return f"'1' if {value} else ''"
    return f"'' if {value} is None else {value}" if _is_optional(hint) else value


def _words_of(kind: Any) -> tuple[str, ...]:
    """Return the words that a reply of this kind can begin with."""
    if get_origin(kind) is Word:
        return cast(tuple[str, ...], get_args(get_args(kind)[0]))
    if not _is_row(kind):
        return ()
    word = get_type_hints(kind).get("word")
    return get_args(word) if get_origin(word) is Literal else ()


def _is_row(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _decoder(hint: Any) -> Change:
    """Return the function that decodes one value of a reply."""
    if get_origin(hint) is Word:
        return lambda reply: Word(*reply)
    if _is_row(hint):
        return _row_decoder(hint)
    if hint is bool:
        return lambda value: value == "1"
    if _parts(hint) in ((int,), (Digits,)):
        return (lambda value: int(value) if value != "" else None) if _is_optional(hint) else int
    if get_origin(hint) is dict:
        return lambda flat: dict(zip(flat[::2], flat[1::2], strict=True))
    if get_origin(hint) is list and (change := _decoder(get_args(hint)[0])) is not None:
        return lambda rows: [change(row) for row in rows]
    if _is_optional(hint):
        return lambda value: None if value == "" else value
    return None


def _row_decoder(row: Any) -> Change:
    hints = list(get_type_hints(row, include_extras=True).values())
    following = _following_decoder(hints[-1])
    fixed = len(hints) - (following is not None)
    changes = [(at, change) for at, hint in enumerate(hints[:fixed]) if (change := _decoder(hint))]
    if not changes and following is None:
        return lambda values: row(*values)

    def read(values: list[Any]) -> Any:
        made = values[:fixed]
        for at, change in changes:
            made[at] = change(made[at])
        return row(*made) if following is None else row(*made, following(values[fixed:]))

    return read


def _following_decoder(hint: Any) -> Callable[[list[Any]], list[Any]] | None:
    """Return the function that decodes all remaining values of a reply, if the last field of the row takes them."""
    form = getattr(hint, "__metadata__", ("",))[0]
    if form not in ("rest", "flat"):
        return None
    kind = get_args(get_args(hint)[0])[0]
    change = _decoder(kind)
    if change is None:
        return lambda values: values
    if form == "rest":
        return lambda values: [change(value) for value in values]
    width = len(kind._fields)
    return lambda values: [change(values[at : at + width]) for at in range(0, len(values), width)]
