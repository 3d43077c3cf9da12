"""`--seed-file`: what a server starts with, once. Rule: `state.seed-file`."""

from __future__ import annotations

import json
import shlex
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.support.harness import Api, RedisServer, running_server
from workyard.settings import Settings
from workyard.state.seed_file import parse_seed_file, read_seed_file
from workyard.state.seed_shape import SCHEMA_FILE, seed_schema
from workyard_store.errors import InvalidRequest, StartupRefused
from workyard_store.plain_text import plain_data

ROOT = Path(__file__).parents[2]
FILE = """
api_key: mine
id_seed: 42
clock: {mode: frozen, at: "2031-05-06T12:00:00Z"}
settings: {default_ttl_seconds: 60}
scripts:
  default: agent.yaml
  greet: {steps: [{say: hello}], repeat: true}
environments:
  - name: my build
    metadata: {team: build}
    keys: [worker 1]
    work:
      - {count: 3, metadata: {suite: smoke}}
      - session_id: session_a
  - name: elsewhere
    api_key: other
    config: {type: cloud}
"""


def test_a_file_makes_everything_once(redis_server: RedisServer, tmp_path: Path) -> None:
    """Environments by name, work by its entry, keys by name; the next start over the same Redis adds what is new only."""
    (tmp_path / "agent.yaml").write_text("steps: [idle]\nrepeat: true\n")
    file = tmp_path / "seed.yaml"
    file.write_text(FILE)
    options = ("--redis-url", redis_server.url, "--key-prefix", f"seeded-{tmp_path.name}", "--seed-file", str(file))

    def start() -> dict[str, str]:
        """Start a server, look at what there is, and return the variables it printed for the file."""
        with running_server(*options) as server, closing(Api(server.url, "mine")) as api:
            assert server.process.stdout is not None
            printed: dict[str, str] = {}
            for _ in range(7):
                line = server.process.stdout.readline()
                name, _, value = shlex.split(line)[1].partition("=")
                printed[name] = value
                if name == "WORKYARD_ENVIRONMENT_ELSEWHERE":
                    break
            [environment] = api.ok(api.get("/v1/environments"))["data"]
            assert (environment["name"], environment["metadata"]) == ("my build", {"team": "build"})
            assert environment["created_at"] == "2031-05-06T12:00:00.000000Z"
            assert printed["WORKYARD_ENVIRONMENT_MY_BUILD"] == environment["id"]
            work = api.ok(api.get(api.path(environment["id"])))["data"]
            assert sorted(item["metadata"].get("suite", "") for item in work) == ["", *["smoke"] * 3, *extra]
            assert api.ok(api.get("/_emulator/settings"))["default_ttl_seconds"] == 60
            scripts = api.ok(api.get("/_emulator/scripts"))["data"]
            assert [script["name"] for script in scripts] == ["default", "greet"]
            with closing(Api(server.url, "other")) as other:
                assert [each["name"] for each in other.ok(other.get("/v1/environments"))["data"]] == ["elsewhere"]
            if "WORKYARD_KEY_MY_BUILD_WORKER_1" in printed:
                with closing(Api(server.url, printed["WORKYARD_KEY_MY_BUILD_WORKER_1"])) as worker:
                    assert worker.poll(environment["id"]) is not None
        return printed

    extra: list[str] = []
    first = start()
    assert "WORKYARD_KEY_MY_BUILD_WORKER_1" in first
    file.write_text(FILE.replace("      - session_id", "      - {metadata: {suite: there}}\n      - session_id"))
    extra = ["there"]
    second = start()
    assert "WORKYARD_KEY_MY_BUILD_WORKER_1" not in second
    assert first["WORKYARD_ENVIRONMENT_MY_BUILD"] == second["WORKYARD_ENVIRONMENT_MY_BUILD"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "Seed file must be a mapping"),
        ("environments: {", "Seed file is not valid YAML or JSON: line 1"),
        ("environment: []", "environment: Extra inputs are not permitted"),
        ("environments: [{}]", "environments.0.name: Field required"),
        ("environments: [{name: a, work: [{count: 0}]}]", "environments.0.work.0.count: Input should be greater"),
        (
            "environments: [{name: a, config: {type: cloud}, work: [{}]}, {name: a, keys: [k, k]}]",
            "environments.0.work: A cloud environment has no queue; environments.1.name: a is already used by environments.0; "
            "environments.1.keys.1: duplicate key k",
        ),
        (
            "scripts: {default: nowhere.yaml, x: {steps: [{}]}}",
            "scripts.default: Cannot read nowhere.yaml: No such file",
        ),
        ("scripts: {x: {steps: [{}]}}", "scripts.x: steps.0: Must have exactly one key"),
        ("clock: {at: '2031-05-06T12:00:00Z'}", "clock: at: Only allowed with mode frozen"),
        ("settings: {reclaim_ms: 0}", "settings.reclaim_ms: Input should be greater than or equal to 1"),
        ("id_seed: -1", "id_seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_bad_file_is_refused_by_path_before_anything_is_made(text: str, problem: str, tmp_path: Path) -> None:
    """All problems together."""
    with pytest.raises(InvalidRequest) as caught:
        parse_seed_file(text, tmp_path)
    assert caught.value.message.startswith(problem)


def test_a_start_names_the_file(tmp_path: Path) -> None:
    """One that is not there, and one that is bad."""
    file = tmp_path / "seed.yaml"
    for text, problem in (
        (None, "No such file or directory"),
        ("id_seed: x", "id_seed: Input should be a valid integer"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(StartupRefused) as caught:
            read_seed_file(Settings(seed_file=str(file)))
        assert caught.value.message == f"--seed-file / WORKYARD_SEED_FILE: {file}: {problem}"


def test_the_published_schema_of_seed_files_is_that_of_the_code() -> None:
    """The example fits, one with another member does not."""
    text = (ROOT / "openapi" / SCHEMA_FILE).read_text()
    assert text == seed_schema()
    schema = Draft202012Validator(json.loads(text))
    value = plain_data(FILE, "Seed file", most=10_000)
    assert list(schema.iter_errors(value)) == []
    assert list(schema.iter_errors({**value, "environment": []}))
