"""How a script is written: what is taken, what is refused and with which words, its published schema, its guide.

Rule: `agent.script.form`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.support.agent_scripts import EXAMPLES, ROOT
from tests.support.agent_session import Session, message, result
from workyard_queue.agent import DEFAULT_SCRIPT, SCHEMA_FILE, check_script, parse_script, script_schema
from workyard_queue.agent.matcher import Matcher
from workyard_queue.sessions.scripts import as_text
from workyard_store.errors import InvalidRequest

SCHEMA = Draft202012Validator(json.loads((ROOT / "openapi" / SCHEMA_FILE).read_text()))
ONE_OF = "Must have exactly one key, of use_tool, use_custom_tool, use_mcp_tool"
ANY_STEP = ONE_OF + ", together, say, expect_result, wait, idle, terminate, fail"


def refusal(text: str) -> str:
    """Return why a script is refused."""
    with pytest.raises(InvalidRequest) as caught:
        parse_script(text)
    return caught.value.message


def test_yaml_and_json_say_the_same() -> None:
    """JSON may be indented by tabs, which YAML may not."""
    value = {"steps": [{"use_tool": {"name": "bash"}}, {"say": "{{result}}"}, {"idle": "end_turn"}], "repeat": True}
    text = "steps: [use_tool: {name: bash}, say: '{{result}}', idle]\nrepeat: true"
    assert parse_script(text) == parse_script(json.dumps(value, indent="\t")) == check_script(value)


def test_a_script_survives_its_way_through_json() -> None:
    """As it is stored and given back, without what equals its default."""
    script = parse_script("steps: [{use_tool: {name: bash}}, {expect_result: {json: {$.a: 1}}}, idle, terminate]")
    assert parse_script(as_text(script)) == script
    assert parse_script(as_text(DEFAULT_SCRIPT)) == DEFAULT_SCRIPT


def test_plain_yaml_is_what_it_would_be_in_json() -> None:
    """The words that YAML 1.1 makes into booleans, dates and minutes are strings."""
    written = "{a: no, b: 2026-01-01, c: 12:30, d: 0x1F, e: 1_000, f: yes, g: .5, h: -7, i: 1e2, j: true, k: ~, l: ''}"
    script = parse_script(f"steps: [{{use_tool: {{name: t, input: {written}}}}}]")
    read = script.model_dump()["steps"][0]["use_tool"]["input"]
    strings = {"a": "no", "b": "2026-01-01", "c": "12:30", "d": "0x1F", "e": "1_000", "f": "yes", "g": ".5", "l": ""}
    assert read == strings | {"h": -7, "i": 100.0, "j": True, "k": None}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Script must be a mapping with the key steps"),
        ("[idle]", "Script must be a mapping with the key steps"),
        ("{}", "steps: Field required"),
        ("steps: []", "steps: List should have at least 1 item after validation, not 0"),
        ("{steps: [idle], stops: 1}", "stops: Extra inputs are not permitted"),
        ("{steps: [idle], repeat: 1}", "repeat: Input should be a valid boolean"),
        ("{steps: [idle], result_limit_seconds: 0}", "result_limit_seconds: Input should be greater than 0"),
        ("steps: [sleep]", f"steps.0: {ANY_STEP}"),
        ("steps: [idle, {say: a, wait: 1}]", f"steps.1: {ANY_STEP}"),
        ("steps: [{shout: a}]", f"steps.0: {ANY_STEP}"),
        ("steps: [say]", f"steps.0: {ANY_STEP}"),
        ("steps: [{say: 1}]", "steps.0.say: Input should be a valid string"),
        ("steps: [{say: ''}]", "steps.0.say: String should have at least 1 character"),
        ("steps: [idle, {use_tool: {}}]", "steps.1.use_tool.name: Field required"),
        ("steps: [{use_tool: {name: a, inputs: {}}}]", "steps.0.use_tool.inputs: Extra inputs are not permitted"),
        (
            "steps: [{use_tool: {name: a, permission: maybe}}]",
            "steps.0.use_tool.permission: Input should be 'allow', 'ask' or 'deny'",
        ),
        ("steps: [{use_custom_tool: {name: ''}}]", "steps.0.use_custom_tool.name: String should have at least 1 character"),
        ("steps: [{use_mcp_tool: {name: a}}]", "steps.0.use_mcp_tool.server: Field required"),
        ("steps: [{together: []}]", "steps.0.together: List should have at least 1 item after validation, not 0"),
        ("steps: [{together: [{use_tool: {}}]}]", "steps.0.together.0.use_tool.name: Field required"),
        ("steps: [{together: [idle]}]", f"steps.0.together.0: {ONE_OF}"),
        ("steps: [{wait: -1}]", "steps.0.wait: Input should be greater than or equal to 0"),
        ("steps: [{wait: '5'}]", "steps.0.wait: Input should be a valid number"),
        (
            "steps: [{idle: requires_action}]",
            "steps.0.idle: Input should be 'end_turn', 'retries_exhausted', 'budget_reached' or 'refusal'",
        ),
        ("steps: [{terminate: false}]", "steps.0.terminate: Input should be True"),
        ("steps: [{fail: {type: unknown_error}}]", "steps.0.fail.message: Field required"),
        ("steps: [{expect_result: {equals: a}}]", "steps.0.expect_result: No call before it in its turn"),
        (
            "steps: [{use_tool: {name: a}}, idle, {expect_result: {equals: a}}]",
            "steps.2.expect_result: No call before it in its turn",
        ),
        (
            "steps: [{use_tool: {name: a}}, {expect_result: {equals: a, call: 1}}]",
            "steps.1.expect_result.call: Must be less than 1, the number of calls before it",
        ),
        (
            "steps: [{use_tool: {name: a}}, {expect_result: {call: 0}}]",
            "steps.1.expect_result: Give at least one of equals, contains, matches, is_error, denied, json",
        ),
        (
            "steps: [{use_tool: {name: a}}, {expect_result: {matches: '('}}]",
            "steps.1.expect_result.matches: Not a regular expression: unclosed group",
        ),
        (
            "steps: [{use_tool: {name: a}}, {expect_result: {json: {a.b: 1}}}]",
            "steps.1.expect_result.json.a.b: Not a path such as $.items[0].name",
        ),
        ("steps: [{say: 'x {{result}}'}]", "steps.0.say: {{result}} has no call before it in its turn"),
        ("steps: [terminate, idle]", "steps.1: Cannot be reached: the session terminates before it"),
        (
            "steps: [{fail: {message: a, retry_status: terminal}}, idle]",
            "steps.1: Cannot be reached: the session terminates before it",
        ),
        ("steps: [{say: 1}, {wait: a}]", "steps.0.say: Input should be a valid string; steps.1.wait: Input should be a valid number"),
        ('steps: [{say: "a\\0"}]', "steps.0.say: String contains a character that cannot be stored"),
        (
            '{"steps": [{"use_tool": {"name": "a", "input": {"b": ["\\ud800"]}}}]}',
            "steps.0.use_tool.input.b.0: String contains a character that cannot be stored",
        ),
        ('{"steps": [{"wait": NaN}]}', "steps.0.wait: Input should be a finite number"),
        ("steps: [idle", "Script is not valid YAML or JSON: line 1, column 13: expected ',' or ']', but got '<stream end>'"),
        ("steps: [{use_tool: bash}]", "steps.0.use_tool: Input should be a valid dictionary"),
        (
            "steps:\n  - say: {{message}}",
            "Script is not valid YAML or JSON: line 2, column 11: a key cannot be a mapping or a list; put {{message}} in quotes",
        ),
        (
            "steps:\n  - say: a\n    say: b",
            "Script is not valid YAML or JSON: line 3, column 5: duplicate key say",
        ),
        (
            "steps:\n  - say: \x07",
            "Script is not valid YAML or JSON: line 2, column 10: the character U+0007 cannot be written as it is",
        ),
        ("a: &x 1\nb: *x", "Script is not valid YAML or JSON: line 2, column 4: aliases are not allowed"),
        ("steps: !!python/name:os.system", "Script is not valid YAML or JSON: line 1, column 8: tags are not allowed"),
        ("steps: " + "[" * 5000, "Script is nested too deeply"),
        ('{"steps":' + "[" * 100_000, "Script is nested too deeply"),
        ("#" * 262_145, "Script exceeds 262144 characters"),
    ],
)  # fmt: skip
def test_what_is_no_script_is_refused_by_step_and_field(text: str, problem: str) -> None:
    """Before any session takes it."""
    assert refusal(text) == problem


def test_a_scripts_size_is_limited() -> None:
    """In steps and in calls at once."""
    assert "steps: List should have at most 500" in refusal(json.dumps({"steps": ["idle"] * 501}))
    calls = [{"use_custom_tool": {"name": "a"}}] * 33
    assert "steps.0.together: List should have at most 32" in refusal(json.dumps({"steps": [{"together": calls}]}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["steps", "say", "use_tool", "together", "name", "input", "wait", "idle", "expect_result", "json"]
            )
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON | st.builds(lambda steps: {"steps": steps}, st.lists(JSON, max_size=4)))
def test_nothing_but_a_refusal_comes_of_nonsense(value: Any) -> None:
    """Whatever JSON is given; and what is taken, the published schema takes too."""
    try:
        script = check_script(value)
    except InvalidRequest:
        return
    SCHEMA.validate(value)
    assert parse_script(script.model_dump_json(by_alias=True)) == script


@given(st.text(alphabet="steps: [{idle}]-\n'\"&*!|>%@`#,?ay0.", max_size=40))
def test_nothing_but_a_refusal_comes_of_garbled_yaml(text: str) -> None:
    """PyYAML's own errors included."""
    with suppress(InvalidRequest):
        parse_script(text)


# What results are expected to be.

MATCHES: list[tuple[str, str, str | None]] = [
    ("{equals: hi}", "hi", None),
    ("{equals: hi}", "hi\n", 'equals: expected "hi", got "hi\\n"'),
    ("{contains: b}", "abc", None),
    ("{contains: B}", "abc", 'contains: expected "B", got "abc"'),
    ("{matches: '^b.?$'}", "abc", 'matches: expected "^b.?$", got "abc"'),
    ("{matches: '(?m)^b.?$'}", "a\nbc", None),
    ("{matches: '(a+)+$'}", "a" * 50_000 + "b", f'matches: expected "(a+)+$", got "{"a" * 200}…"'),
    ("{is_error: false}", "x", None),
    ("{is_error: true}", "x", 'is_error: expected true, got "x"'),
    ("{denied: true}", "x", "denied: expected true, got false"),
    ("{json: {$: [1]}}", "[1]", None),
    ("{json: {'$.a[1].b-c': null}}", '{"a":[0,{"b-c":null}]}', None),
    ("{json: {$.a: 1, $.b: {c: [true]}}}", '{"b":{"c":[true]},"a":1}', None),
    ("{json: {$.a: 1}}", '{"a":true}', 'json: expected "1" at $.a, got "true"'),
    ("{json: {$.a.b: 1}}", '{"a":[]}', 'json: nothing at $.a.b in "{\\"a\\":[]}"'),
    ("{json: {'$.a[1]': 1}}", '{"a":[0]}', 'json: nothing at $.a[1] in "{\\"a\\":[0]}"'),
    ("{json: {$.a: 1}}", "a", 'json: expected JSON, got "a"'),
    ("{json: {$.a: 1}}", "[" * 100_000, 'json: expected JSON, got "' + "[" * 200 + '…"'),
    ("{contains: b, equals: c}", "b", 'equals: expected "c", got "b"'),
]


@pytest.mark.parametrize(("matcher", "text", "problem"), MATCHES)
def test_a_result_is_held_against_every_condition(matcher: str, text: str, problem: str | None) -> None:
    """The first that does not hold is named, with what came instead; no pattern and no text can make it hang."""
    session = Session(f"steps: [{{use_tool: {{name: bash}}}}, {{expect_result: {matcher}}}]")
    session.send(message("go"))
    session.send(result(session.calls()[0]["id"], text))
    if problem is None:
        assert session.report.finished
    else:
        assert session.report.reason == f"steps.1: expect_result, of bash (sevt_1): {problem}"


def test_no_nesting_of_a_result_stops_the_agent() -> None:
    """What is just not too deep to be read may be too deep to be written."""
    expected = Matcher.model_validate({"json": {"$": 1}})
    for depth in range(900, 1000):
        problem = expected.problem("[" * depth + "]" * depth, is_error=False, denied=False)
        assert problem is not None
        assert problem.startswith("json: expected ")


def test_of_several_results_the_script_says_which_it_means() -> None:
    """By the place of the call in `together`, however the results came."""
    session = Session(
        "steps: [{together: [{use_tool: {name: a}}, {use_tool: {name: b}}]},"
        " {expect_result: {call: 1, equals: of b}}, {expect_result: {call: 0, equals: of a, is_error: true}}]"
    )
    session.send(message("go"))
    first, second = (call["id"] for call in session.calls())
    session.send(result(second, "of b"), result(first, "of a", is_error=True))
    assert session.report.finished


# The schema, and the guide.


def test_the_published_schema_is_a_schema_and_what_the_code_makes() -> None:
    """`scripts/openapi --check` compares it too; if it fails, run `scripts/openapi` and commit."""
    Draft202012Validator.check_schema(SCHEMA.schema)
    assert (ROOT / "openapi" / SCHEMA_FILE).read_text() == script_schema()


def test_the_drift_check_finds_a_stale_schema(tmp_path: Path) -> None:
    """On a copy of the script and of what it wrote; that all is well as committed is checked beside the OpenAPI documents."""
    shutil.copytree(ROOT / "openapi", tmp_path / "openapi")
    (tmp_path / "openapi" / SCHEMA_FILE).write_text("{}\n")
    command = [sys.executable, "-m", "tools.openapi", "--check", "--folder", str(tmp_path / "openapi")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == f"openapi/{SCHEMA_FILE} is stale: run scripts/openapi --examples and commit the result\n"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"steps": []},
        {"steps": ["sleep"]},
        {"steps": [{"say": 1}]},
        {"steps": [{"use_tool": {}}]},
        {"steps": [{"say": "a", "wait": 1}]},
        {"steps": [{"together": ["idle"]}]},
        {"steps": [{"use_tool": {"name": "a"}}, {"expect_result": {"call": 0}}]},
        {"steps": [{"use_tool": {"name": "a"}}, {"expect_result": {"json": {"a": 1}}}]},
        {"steps": [{"idle": "requires_action"}]},
        {"steps": ["idle"], "other": 1},
    ],
)
def test_the_published_schema_refuses_what_the_code_refuses(value: Any) -> None:
    """All but what depends on the steps before: that no schema can say."""
    assert not SCHEMA.is_valid(value)
    with pytest.raises(InvalidRequest):
        check_script(value)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_guide_is_a_script(example: str) -> None:
    """The examples of docs/agent-scripts.md, checked by the code and by the schema."""
    parse_script(example)
    SCHEMA.validate(yaml.safe_load(example))


def test_the_guide_shows_every_step_and_the_default_script() -> None:
    """With an example of each."""
    shown = "\n".join(EXAMPLES)
    steps = re.findall(r"\w+", ANY_STEP.partition(", of ")[2])
    assert len(steps) == 10
    for step in steps:
        assert re.search(rf"- {step}\b", shown), step
    assert DEFAULT_SCRIPT in [parse_script(example) for example in EXAMPLES]
