"""The pages of reference that are made of the code: the settings and the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from workyard.cli.main import main
from workyard.settings import Settings

#: Stands in the first line of a page that `scripts/docs` writes.
NOTE = "<!-- Written by scripts/docs from {source}: change that, not this. -->"


def page(source: str, *parts: str) -> str:
    """Return a page of these parts, with a note of what it is made of."""
    return "\n\n".join([NOTE.format(source=source), *(part.strip("\n") for part in parts)]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ").strip() for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """Return a text as code in a cell, or nothing for nothing."""
    return f"`{text}`".replace("|", "\\|") if text not in (None, "") else ""


def linked(text: str) -> str:
    """Return a text of the code's with links in place of the pages that it names."""
    return re.sub(r"\bdocs/([\w-]+\.md)\b", r"[\1](\1)", text)


# -- settings -------------------------------------------------------------------------------------------------

_SETTINGS = """\
# Settings

Each is an option of `workyard serve` and a variable; the option wins. An empty variable counts as not set. They are read
once, at the start. A value that breaks a bound refuses the start, and the message names option and variable. The same
names, with underscores, are the keywords of [`Emulator`](testing.md#without-pytest-emulator).

Lease lengths, the reclaim age and the seed of ids can be changed for a workspace while the server runs:
[control plane](control-plane.md#change_settings).
"""
_TYPES = {"integer": "integer", "boolean": "flag", "string": "text", "number": "number", "array": "list"}


def settings_page() -> str:
    """Return the page of the settings: name, option, variable, type, default, bounds, description."""
    schema = Settings.model_json_schema()
    parts = []
    for name, field in schema["properties"].items():
        text = escaped(Settings.model_fields[name].description or "")
        parts.append(f"## {name}\n\n{' · '.join(_setting(name, field))}\n\n{linked(text)}")
    return page("server/workyard/settings.py", _SETTINGS, *parts)


def _setting(name: str, schema: dict[str, Any]) -> Iterator[str]:
    forms = [form for form in schema.get("anyOf", [schema]) if form.get("type") != "null"]
    default = schema.get("default")
    yield code(f"--{name.replace('_', '-')}")
    yield code(f"WORKYARD_{name.upper()}")
    yield " or ".join(dict.fromkeys(_type(form) for form in forms))
    yield "default: " + ("unset" if default is None else "off" if default is False else code(default))
    for form in forms:
        yield from bounds(form)


def _type(form: dict[str, Any]) -> str:
    if "enum" in form or "const" in form:
        return "one of " + ", ".join(code(each) for each in form.get("enum", [form.get("const")]))
    return _TYPES[form["type"]]


def bounds(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the bounds of a value of this JSON Schema, in words."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}"
    elif low is not None:
        yield f"at least {_number(low)}"
    elif high is not None:
        yield f"at most {_number(high)}"
    for key, words in (("exclusiveMinimum", "more than"), ("exclusiveMaximum", "less than")):
        if key in schema:
            yield f"{words} {_number(schema[key])}"
    for kind, unit in (("Length", "characters"), ("Items", "entries"), ("Properties", "members")):
        least, most = schema.get(f"min{kind}"), schema.get(f"max{kind}")
        if least == 1 and most is None:
            yield "not empty"
        elif most is not None:
            yield f"{least} to {most} {unit}" if least else f"at most {most} {unit}"
    if "pattern" in schema and "format" not in schema:
        yield f"of the form {code(schema['pattern'])}"


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value}"


# -- the command line -----------------------------------------------------------------------------------------

_COMMANDS = """\
# Command line

What the help of each command says. A command that acts on a server finds it by `--url` or `WORKYARD_URL`, and the
workspace by `--api-key`, `WORKYARD_API_KEY` or `ANTHROPIC_API_KEY`, which `eval "$(workyard env)"` exports; these two
options are not repeated below. A refusal ends with exit code 1 and the server's words, a wrong option with 2.
"""


#: The options that the introduction describes for all commands.
_COMMON = {"url", "api_key"}


def commands_page() -> str:
    """Return the page of the commands: what each does, its arguments, its options."""
    context = click.Context(main, info_name="workyard")
    parts = []
    for path, command, inner in _commands(main, context):
        if not command.params and isinstance(command, click.Group) and command is not main:
            parts.append(f"## {path}\n\n{_help(command)}")
        elif command is not main:
            parts.append(_command(path, command, inner))
    return page("server/workyard/cli/main.py", _COMMANDS, *parts)


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, click.Context(inner, info_name=name, parent=context))


def _command(path: str, command: click.Command, context: click.Context) -> str:
    level = "#" * (path.count(" ") + 1)
    parts = [f"{level} {path}", _help(command), f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"]
    rows = [
        (code(record[0]), linked(escaped(record[1])))
        for option in command.params
        if isinstance(option, click.Option) and (path == "workyard env" or option.name not in _COMMON)
        if (record := option.get_help_record(context)) is not None
    ]
    if path == "workyard serve":
        parts.append("Its options are the [settings](settings.md).")
    elif rows:
        parts.append(table(("option", "what it is"), rows))
    return "\n\n".join(parts)


def _help(command: click.Command) -> str:
    text = inspect.cleandoc((command.help or "").split("\f")[0].replace("\b\n", ""))
    return linked(escaped(re.sub(r"(?<!\n)\n(?!\n)", " ", text)))


def escaped(text: str) -> str:
    """Return a text with what Markdown would take for its own, in places that are no code, as it stands."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [re.sub(r"([<>*_|\[\]])", r"\\\1", part) if index % 2 == 0 else part.replace("|", "\\|") for index, part in enumerate(parts)]  # fmt: skip
    return "".join(plain)
