"""Our OpenAPI document in the form of the table of facts, and the differences between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tools.reference.texts import BETA, BETA_HEADER, REQUESTS, Facts, Said

Schema = dict[str, Any]

#: Our schemas and the types of the reference that they are.
NAMES = {
    "CloudConfig": "BetaCloudConfig",
    "CloudConfigParams": "BetaCloudConfigParams",
    "Environment": "BetaEnvironment",
    "EnvironmentDeleted": "BetaEnvironmentDeleteResponse",
    "EnvironmentPage": "page of BetaEnvironment",
    "LimitedNetwork": "BetaLimitedNetwork",
    "LimitedNetworkParams": "BetaLimitedNetworkParams",
    "Packages": "BetaPackages",
    "PackagesParams": "BetaPackagesParams",
    "SelfHostedConfig": "BetaSelfHostedConfig",
    "SelfHostedConfigParams": "BetaSelfHostedConfigParams",
    "UnrestrictedNetwork": "BetaUnrestrictedNetwork",
    "Work": "BetaSelfHostedWork",
    "WorkData": "BetaSessionWorkData",
    "WorkHeartbeat": "BetaSelfHostedWorkHeartbeatResponse",
    "WorkPage": "page of BetaSelfHostedWork",
    "WorkQueueStats": "BetaSelfHostedWorkQueueStats",
    "WorkStop": "BetaSelfHostedWorkStopRequest",
    "WorkUpdate": "BetaSelfHostedWorkUpdateRequest",
}
_LISTS = ("members", "parameters", "enum")


@dataclass(frozen=True)
class Difference:
    """A fact that the document states otherwise. *reference* and *here*: as `shown` writes them."""

    place: str
    kind: str
    reference: str
    here: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.reference} in the reference, {self.here} here"


def differences(facts: Facts, document: Schema) -> tuple[int, list[Difference]]:
    """Return how many facts were compared, and those that differ."""
    ours = _Document(document, facts).read()
    compared, found = 0, []
    for place, kinds in facts.items():
        here = ours.get(place)
        if here is None:
            # That it is missing is a difference of the list that it stands in, or of the whole endpoint.
            if " parameter " not in place and "." not in place:
                found.append(Difference(place, "present", "yes", "no"))
            compared += 1
            continue
        for kind, value in kinds.items():
            compared += 1
            if here.get(kind) != value:
                found.append(Difference(place, kind, *_shown(kind, value, here.get(kind))))
        # Facts that our document states and the reference does not.
        if "enum" in here and "enum" not in kinds:
            found.append(Difference(place, "enum", *_shown("enum", [], here["enum"])))
        if here.get("optional") and "optional" not in kinds and not place.partition(".")[0].endswith(REQUESTS):
            found.append(Difference(place, "optional", "not said", "True"))
    return compared, found


def unexplained(found: Sequence[Difference], listed: Sequence[Mapping[str, str]]) -> tuple[list[Difference], list[str]]:
    """Return the differences that no entry explains, and the entries that no longer apply, in words."""
    used: set[int] = set()
    left = []
    for difference in found:
        fits = [number for number, entry in enumerate(listed) if _fits(difference, entry)]
        used.update(fits)
        if not fits:
            left.append(difference)
    idle = [f"{entry['place']}: {entry['kind']}" for number, entry in enumerate(listed) if number not in used]
    return left, idle


def _fits(difference: Difference, entry: Mapping[str, str]) -> bool:
    return (
        fnmatchcase(difference.place, entry["place"].replace("[", "[[]"))
        and (difference.kind, difference.reference, difference.here)
        == (entry["kind"], str(entry["reference"]), str(entry["here"]))
    )  # fmt: skip


def _shown(kind: str, reference: Any, here: Any) -> tuple[str, str]:
    """Write two values; of two lists only what the other lacks."""
    if kind in _LISTS:
        theirs, ours = set(reference or ()), set(here or ())
        return ", ".join(sorted(theirs - ours)) or "no more", ", ".join(sorted(ours - theirs)) or "no more"
    return str(reference), str(here)


class _Document:
    """Our document, being read."""

    def __init__(self, document: Schema, facts: Facts) -> None:
        self._document = document
        self._facts = facts
        self._said: Said = {}

    def read(self) -> Said:
        """Return the document's facts about the endpoints and types that the table covers."""
        for place in self._facts:
            method, blank, path = place.partition(" ")
            operation = self._document["paths"].get(path, {}).get(method.lower())
            if blank and operation is not None:
                self._operation(place, path, operation)
        return self._said

    def _operation(self, endpoint: str, path: str, operation: Schema) -> None:
        names = []
        for name, facts, schema in self._inputs(operation):
            names.append(name)
            facts["type"], _ = self._type(schema)
            enum = self._enum(schema)
            if name == BETA_HEADER and schema["items"].get("type") == "string":
                # Any string, and these are known. An `enum` beside `type: string` would say that others are refused.
                facts["type"] = f"array of {BETA}"
                self._said[BETA] = {
                    "enum": sorted(self._document["components"]["parameters"][name].get("x-known-values", []))
                }
            self._said[f"{endpoint} parameter {name}"] = facts | ({"enum": enum} if enum else {})
        self._said[endpoint] = {"path": path, "parameters": sorted(names)}
        answer, null = self._type(operation["responses"]["200"]["content"]["application/json"]["schema"])
        self._said[f"{endpoint} answer"] = {"type": answer + (" or null" if null else "")}

    def _inputs(self, operation: Schema) -> Iterator[tuple[str, dict[str, Any], Schema]]:
        """Yield each parameter and each member of the body: name, place and whether it is required, schema."""
        for reference in operation["parameters"]:
            parameter = self._resolved(reference)
            place = {"place": parameter["in"], "required": parameter.get("required", False)}
            yield parameter["name"], place, parameter["schema"]
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            self._type(body)
            shape = self._resolved(body)
            for name, schema in shape["properties"].items():
                yield name, {"place": "body", "required": name in shape.get("required", [])}, schema

    def _resolved(self, node: Schema) -> Schema:
        if "$ref" not in node:
            return node
        target: Any = self._document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found: Schema = target
        return found

    def _type(self, schema: Schema) -> tuple[str, bool]:
        """Return the type of a schema in the table's words, and whether it may be null."""
        if "$ref" in schema:
            return self._named(schema["$ref"].rpartition("/")[2]), False
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            types = [self._type(each)[0] for each in options if each != {"type": "null"}]
            return " or ".join(sorted(set(types))), {"type": "null"} in options
        if "const" in schema or "enum" in schema:
            return "string" if all(isinstance(each, str) for each in self._values(schema)) else "constant", False
        if schema["type"] == "array":
            return f"array of {self._type(schema['items'])[0]}", False
        if schema["type"] == "object":
            return f"map of {self._values_of_map(schema)}", False
        return str(schema["type"]), False

    def _named(self, component: str) -> str:
        """Return the reference's name of one of our schemas, and take its members in."""
        name = NAMES.get(component, component)
        if name in self._said:
            return name
        shape = self._document["components"]["schemas"][component]
        self._said[name] = {"members": sorted(shape["properties"])}
        for member, schema in shape["properties"].items():
            type_, null = self._type(schema)
            required = member in shape.get("required", [])
            facts: dict[str, Any] = {"type": type_, "required": required, "optional": null or not required}
            enum = self._enum(schema)
            self._said[f"{name}.{member}"] = facts | ({"enum": enum} if enum else {})
        return name

    def _values_of_map(self, schema: Schema) -> str:
        kinds = [*schema.get("patternProperties", {}).values(), schema["additionalProperties"]]
        null = any({"type": "null"} in each.get("anyOf", []) or None in each.get("enum", []) for each in kinds)
        types = {self._type(each)[0] for each in kinds if "enum" not in each}
        return " or ".join(sorted(types)) + (" or null" if null else "")

    def _enum(self, schema: Schema) -> list[str]:
        """Return the values of an enum, those beside any string too."""
        values = [each for option in _leaves(schema) for each in self._values(option) if isinstance(each, str)]
        # An empty text beside a timestamp is no enum.
        return sorted(each for each in values if each)

    def _values(self, schema: Schema) -> list[Any]:
        return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def _leaves(schema: Schema) -> Iterator[Schema]:
    options = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if isinstance(schema.get("items"), dict):
        options.append(schema["items"])
    if not options:
        yield schema
    for option in options:
        yield from _leaves(option)
