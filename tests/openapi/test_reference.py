"""The OpenAPI document and the API reference agree, but for what is listed with its reason."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.reference.compare import differences, unexplained
from tools.reference.texts import READERS, table

ROOT = Path(__file__).parents[2]
TABLE = json.loads((ROOT / "tests" / "data" / "reference-facts.json").read_text())
LISTED = yaml.safe_load((ROOT / "tests" / "data" / "reference-differences.yaml").read_text())
DOCUMENT = json.loads((ROOT / "openapi" / "workyard.json").read_text())
Json = dict[str, Any]

WORK = "/v1/environments/{environment_id}/work"
#: What could go wrong with the document: how, and the place and kind of fact by which it is noticed.
CHANGES: list[tuple[Callable[[Json], Any], str, str]] = [
    (lambda it: it["paths"].pop(f"{WORK}/stats"), f"GET {WORK}/stats", "present"),
    (lambda it: it["paths"][f"{WORK}/poll"].update(post=it["paths"][f"{WORK}/poll"].pop("get")), f"GET {WORK}/poll", "present"),
    (lambda it: it["paths"][f"{WORK}/poll"]["get"]["parameters"].pop(1), f"GET {WORK}/poll", "parameters"),
    (
        lambda it: it["paths"][f"{WORK}/poll"]["get"]["parameters"][1].update({"in": "header"}),
        f"GET {WORK}/poll parameter block_ms",
        "place",
    ),
    (
        lambda it: it["paths"]["/v1/environments"]["get"]["parameters"][0].update(required=True),
        "GET /v1/environments parameter limit",
        "required",
    ),
    (lambda it: it["components"]["schemas"]["Work"]["properties"].update(new={"type": "string"}), "BetaSelfHostedWork", "members"),
    (lambda it: it["components"]["schemas"]["Work"]["properties"].pop("data"), "BetaSelfHostedWork", "members"),
    (
        lambda it: it["components"]["schemas"]["WorkQueueStats"]["properties"]["depth"].update(type="string"),
        "BetaSelfHostedWorkQueueStats.depth",
        "type",
    ),
    (
        lambda it: it["components"]["schemas"]["Work"]["properties"]["state"]["enum"].append("paused"),
        "BetaSelfHostedWork.state",
        "enum",
    ),
    (
        lambda it: it["components"]["schemas"]["EnvironmentCreate"]["required"].clear(),
        "POST /v1/environments parameter name",
        "required",
    ),
    (
        lambda it: it["components"]["schemas"]["Environment"]["properties"]["name"].update(
            {"type": None, "anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        "BetaEnvironment.name",
        "optional",
    ),
    (
        lambda it: it["components"]["parameters"]["anthropic-beta"]["x-known-values"].pop(),
        "AnthropicBeta",
        "enum",
    ),
    (
        lambda it: it["components"]["parameters"]["anthropic-beta"]["schema"]["items"].update(type="integer"),
        f"GET {WORK}/poll parameter anthropic-beta",
        "type",
    ),
]  # fmt: skip


def test_every_difference_is_explained_and_every_explanation_is_needed() -> None:
    """By the command, which also reads the texts where they are at hand."""
    done = subprocess.run([sys.executable, "-m", "tools.reference"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 endpoints, " in done.stdout
    assert "\n0 not explained." in done.stdout
    assert all(entry["reason"] in done.stdout for entry in LISTED)


@pytest.mark.parametrize(("change", "place", "kind"), CHANGES, ids=[f"{place} {kind}" for _, place, kind in CHANGES])
def test_a_document_that_says_something_else_is_found_out(change: Callable[[Json], Any], place: str, kind: str) -> None:
    """One fact of every kind, changed in a copy."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    left, _ = unexplained(differences(TABLE["facts"], document)[1], LISTED)
    assert (place, kind) in [(each.place, each.kind) for each in left]


def test_an_explanation_of_what_is_no_longer_there_is_found_out() -> None:
    """The document as the reference has it, in one place."""
    document = copy.deepcopy(DOCUMENT)
    document["components"]["schemas"]["Work"]["properties"].pop("secret")
    left, idle = unexplained(differences(TABLE["facts"], document)[1], LISTED)
    assert (left, idle) == ([], ["BetaSelfHostedWork: members"])


def test_the_table_has_all_endpoints_and_no_prose() -> None:
    """Names, types and values only, of the fourteen endpoints; what the texts disagree about is in it too."""
    endpoints = {place.removesuffix(" answer") for place in TABLE["facts"] if place.endswith(" answer")}
    assert endpoints < {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert len(endpoints) == 14
    assert set(TABLE["texts"]) == {reader.file for reader in READERS}
    assert {place: set(kinds) for place, kinds in TABLE["disagreements"].items()}["AnthropicBeta"] == {"enum"}
    kinds = {"enum", "members", "optional", "parameters", "path", "place", "required", "type"}
    for place, facts in TABLE["facts"].items():
        assert set(facts) <= kinds, place
        words = [
            place,
            *(word for value in facts.values() for word in (value if isinstance(value, list) else [str(value)])),
        ]
        assert all(re.fullmatch(r"[\w{}/. -]{1,100}", word) for word in words), words


def test_a_text_that_contradicts_itself_or_has_a_new_form_is_refused(tmp_path: Path) -> None:
    """Rather than read in part. The texts here are our own."""
    good = "# Work\n\n## Get\n\n`x.get() -> BetaThing`\n\n**get** `/v1/things`\n\n### Returns\n\n- `class BetaThing{mark}`\n\n"
    marks = {"java": ":", "python": ": …", "php": "", "ruby": ""}
    for reader in READERS:
        text = good.replace("{mark}", marks.get(reader.name, ""))
        if reader.name == "http":
            text = "Get\n\nget /v1/things\n\nReturns\n\n  • BetaThing object { id }\n\n    • id: string\n"
        if reader.name == "php":
            text = text.replace("class ", "")
        (tmp_path / reader.file).write_text(text)
    facts = table(tmp_path)["facts"]
    assert facts["GET /v1/things answer"] == {"type": "BetaThing"}
    assert facts["BetaThing.id"] == {"required": True, "type": "string"}
    http = tmp_path / "api-http.txt"
    whole = http.read_text()
    http.write_text(whole + "\nDomain Types\n\nThing\n\n  • BetaThing object { id }\n\n    • id: number\n")
    with pytest.raises(ValueError, match=r"BetaThing\.id: type is 'string' here and 'integer|number' there"):
        table(tmp_path)
    http.write_text(whole.replace("BetaThing object { id }", "BetaThing as seen elsewhere"))
    with pytest.raises(ValueError, match="no member: BetaThing as seen elsewhere"):
        table(tmp_path)
