"""The page of the control plane: each route with its purpose, parameters, body, answers and an example, made of
`openapi/control.json`, the examples from `openapi/examples.json`; and after them the shapes that bodies and answers have.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.docs.reference import bounds, code, escaped, linked, page, table

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "openapi"

_HEAD = """\
# Control plane

Everything the real service does not have lives under `/_emulator/`: JSON in and out, the same error envelope. A path
that names an environment acts in its workspace; otherwise the workspace is that of `x-api-key` or the bearer token, or
`?workspace=` (an API key, a public id `wrkspc_…`, `default`, or `*` for all).

Every answer has `request-id`. Every call may answer 503 with `retry-after`, when Redis is away or the server ends.

The examples come from one run against a server with a frozen clock and `{"id_seed": 42}`, so one example may mention what
another created. `"…"` ends a list that is longer than shown. Every request carries `x-api-key`, and `content-type: application/json` where it has a body. Of an event
stream, the first event is shown. The page is generated from [openapi/control.json](../openapi/control.json) and
[openapi/examples.json](../openapi/examples.json). A running server has the document at `/_emulator/openapi.json`, and a
page to read and try it at `/_emulator/docs`.
"""
_WIDTH = 100
#: Items of a list of objects that an example shows.
_ITEMS = 2


def control_page() -> str:
    """Return the page.

    Raises:
        ValueError: a route has no example.
    """
    document: Json = json.loads((FOLDER / "control.json").read_text(encoding="utf-8"))
    examples: Json = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))
    operations = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    if lacking := [name for name in operations if "request" not in examples.get(name, {})]:
        raise ValueError(f"Routes without an example (tools/openapi/examples.py): {lacking}")
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    parts = [_HEAD, _overview(operations)]
    for tag, text in tags.items():
        parts.append(f"## {tag}\n\n{linked(text)}")
        for name, (method, path, operation) in operations.items():
            if operation["tags"][0] == tag:
                parts += _operation(name, method, path, operation, examples[name], document)
    parts.append("## Shapes\n\nWhat bodies and answers are made of.")
    parts += [_shape(name, schema) for name, schema in _shown(document).items()]
    return _placed(page("openapi/control.json and openapi/examples.json", *parts))


def _placed(text: str) -> str:
    """Return the page with its links to shapes completed: GitHub numbers headings that are there twice."""
    names, seen = {}, Counter[str]()
    of_shapes = False
    for heading in re.findall(r"^##+ (.*)$", text, re.MULTILINE):
        slug = heading.lower().replace(" ", "-")
        if of_shapes:
            names[heading] = f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1
        of_shapes = of_shapes or heading == "Shapes"
    return re.sub(r"\(#shape:(\w+)\)", lambda found: f"(#{names[found[1]]})", text)


def _overview(operations: Mapping[str, tuple[str, str, Json]]) -> str:
    rows = [
        (f"[`{method} {path}`](#{name})", linked(_plain(operation["description"].split("\n\n")[0])))
        for name, (method, path, operation) in operations.items()
    ]
    return table(("call", "what it does"), rows)


def _operation(name: str, method: str, path: str, operation: Json, example: Json, document: Json) -> Iterator[str]:
    yield f"### {name}\n\n**`{method} {path}`**\n\n{linked(_plain(operation['description']))}"
    parameters = [each for each in operation["parameters"] if "$ref" not in each]
    if parameters:
        rows = [(code(each["name"]), each["in"], _kind(each["schema"]), _parameter_text(each)) for each in parameters]
        yield table(("parameter", "in", "type", "what it is"), rows)
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        also = [code(kind) for kind in body["content"] if kind != "application/json"]
        told_as = f", also as {', '.join(also)}" if also else ""
        needed = "" if body.get("required") else " It may be left out."
        text = _plain(body.get("description", ""))
        yield f"**Body**: {_kind(schema)}{told_as}.{needed}{' ' + text if text else ''}"
        if "properties" in schema:
            yield _members(schema)
    answers = [
        (status, _plain(answer["description"]), _answer(answer))
        for status, answer in operation["responses"].items()
        if status != "503"
    ]
    yield table(("answer", "when", "shape"), answers)
    request = f"{method} {example['request']['path']} HTTP/1.1"
    if "body" in example["request"]:
        request += f"\n\n{_json(example['request']['body'], '')}"
    yield f"**Example**\n\n```http\n{request}\n```"
    [(kind, answered)] = list(example["200"].items())[:1]
    if kind == "text/event-stream":
        yield "```text\n" + "\n".join(f"{field}: {value}" for field, value in answered.items()) + "\n```"
    else:
        yield f"```json\n{_json(answered, '')}\n```"


def _parameter_text(parameter: Json) -> str:
    if parameter["name"] == "workspace":
        return "[Whose workspace](#control-plane) is meant. (may be left out)"
    return _member_text(parameter, parameter["schema"], parameter.get("required", False))


def _answer(answer: Json) -> str:
    content = answer.get("content", {})
    return " or ".join(dict.fromkeys(f"{_kind(form['schema'])}" + ("" if kind == "application/json" else f" ({code(kind)})") for kind, form in content.items()))  # fmt: skip


def _shown(document: Json) -> dict[str, Json]:
    """Return the shapes, but those of one kind of error: these are all the envelope."""
    schemas = document["components"]["schemas"]
    return {name: schema for name, schema in schemas.items() if not _is_error(schema)}


def _is_error(schema: Json) -> bool:
    return any(part.get("$ref", "").endswith("/Error") for part in schema.get("allOf", []))


def _shape(name: str, schema: Json) -> str:
    text = _plain(schema.get("description", ""))
    members = _members(schema) if schema.get("properties") else f"{_kind(schema)}"
    return "\n\n".join(part for part in (f"### {name}", text, members) if part)


def _members(schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (code(name), _kind(member), _member_text(member, member, name in required))
        for name, member in schema["properties"].items()
    ]
    return table(("member", "type", "what it is"), rows)


def _member_text(described: Json, schema: Json, required: bool) -> str:
    parts = [linked(_plain(described.get("description", "")))]
    forms = schema.get("anyOf", [schema])
    limits = [bound for form in forms for bound in bounds(form)]
    if "default" in schema:
        limits.append(f"default {code(json.dumps(schema['default']))}")
    if not required and "default" not in schema:
        limits.append("may be left out")
    return " ".join(part for part in (*parts, f"({'; '.join(limits)})" if limits else "") if part)


def _kind(schema: Json) -> str:
    """Return the type of a value in words, with links to shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name.endswith(("Error", "TooLarge")) and name not in ("Error", "JournalError"):
            return "[Error](#shape:Error)"
        return f"[{name}](#shape:{name})"
    for key in ("anyOf", "oneOf"):
        if key in schema and "type" not in schema:
            return " or ".join(dict.fromkeys(_kind(form) for form in schema[key]))
    if "allOf" in schema:
        return " and ".join(_kind(form) for form in schema["allOf"] if "$ref" in form)
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return " or ".join(code(json.dumps(each)) for each in schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "string" and schema.get("format") == "date-time":
        return "instant"
    return str(kind)


def _plain(text: str) -> str:
    """Return a description of the code's as a paragraph or several, its lines joined."""
    return "\n\n".join(escaped(" ".join(part.split())) for part in re.split(r"\n\s*\n", text.strip()))


def _json(value: object, indent: str) -> str:
    """Return JSON with one line for each part that fits into a line; of a list of objects, the first two."""
    if isinstance(value, list) and len(value) > _ITEMS and isinstance(value[0], dict):
        value = [*value[:_ITEMS], "…"]
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(name)}: {_json(each, inner)}" for name, each in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _json(each, inner) for each in value) + f"\n{indent}]"
