"""The pages on CI and Docker keep their word: their files follow the schemas, their commands run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema.validators import validator_for
from ruamel.yaml import YAML

from tests.support.pages import ROOT, block, run, section

#: A worker of nothing but HTTP, for ever.
WORKER = """\
#!/usr/bin/env python
import json, os, urllib.request
queue = os.environ["ANTHROPIC_BASE_URL"] + "/v1/environments/" + os.environ["ANTHROPIC_ENVIRONMENT_ID"] + "/work/"
headers = {"authorization": "Bearer " + os.environ["ANTHROPIC_ENVIRONMENT_KEY"], "content-type": "application/json"}
def call(method, path, body=None):
    return json.load(urllib.request.urlopen(urllib.request.Request(queue + path, body, headers, method=method)))
while True:
    if item := call("GET", "poll?block_ms=900"):
        call("POST", item["id"] + "/ack")
        call("POST", item["id"] + "/stop", b'{"force": true}')
"""


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page on CI."""
    return (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def recipes(page: str) -> Iterator[tuple[str, str]]:
    """Yield the files of the page, each with the schema that it must follow."""
    for text in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield ("github-workflows" if "jobs:" in text else "gitlab-ci"), text


def read(text: str) -> Any:
    """Return what a file of YAML says; in YAML 1.1, `on` would be true."""
    return YAML(typ="safe").load(text)


def follows(schema: str, text: str) -> bool:
    """Tell whether a file follows a schema that check-jsonschema ships."""
    known = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{schema}.json").read_text())
    return bool(validator_for(known)(known).is_valid(read(text)))


def commands(recipe: Any) -> Iterator[str]:
    """Yield the commands of a recipe's jobs."""
    for job in recipe.get("jobs", recipe).values():
        yield from job.get("script", ())
        yield from (step["run"] for step in job.get("steps", ()) if "run" in step)


def test_the_recipes_are_valid_and_their_commands_run(page: str, tmp_path: Path) -> None:
    """But for the installation: what is installed is what runs here. README.md names the command, too."""
    assert block((ROOT / "README.md").read_text(encoding="utf-8").partition("**In CI**")[2], "sh") in page
    found = list(recipes(page))
    assert [schema for schema, _ in found] == ["github-workflows", "gitlab-ci"] * 2
    for schema, text in found:
        assert follows(schema, text), text
    first = found[0][1]
    assert not follows(found[0][0], first.replace("runs-on:", "run-on:"))
    run_by_jobs = {command for _, text in found for command in commands(read(text))}
    installed = {command for command in run_by_jobs if command.startswith("pip install ./workyard ")}
    assert installed == {"pip install ./workyard anthropic pytest"}
    asked = "import os\n\ndef test_one():\n    assert os.environ['ANTHROPIC_ENVIRONMENT_ID'].startswith('env_')\n"
    (tmp_path / "test_one.py").write_text(asked, encoding="utf-8")
    programs = sorted(command.removeprefix("workyard run -- ") for command in run_by_jobs - installed)
    assert programs[:-1] == ["pytest"]
    # `run` is `workyard run --`. The longer of the two commands is the other one, with a report.
    run_here = f"cd '{tmp_path}'; PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {programs[-1]} -p no:cacheprovider --rootdir ."
    assert "1 passed" in run("bash", "-euc", run_here)
    assert (tmp_path / "report.xml").exists()


def test_the_script_for_any_worker_runs(page: str, tmp_path: Path) -> None:
    """It fails where the worker does nothing, and passes where it works the queue off."""
    text = section(page, "A worker in another language")
    assert "workyard run -- bash check.sh ./my-worker" in block(text, "sh")
    (tmp_path / "check.sh").write_text(block(text, "bash"), encoding="utf-8")
    (tmp_path / "my-worker").write_text(WORKER, encoding="utf-8")
    (tmp_path / "my-worker").chmod(0o755)
    printed = run("bash", str(tmp_path / "check.sh"), str(tmp_path / "my-worker"))
    assert '"met":true' in printed
    assert '"ok":true' in printed


def test_the_compose_file_of_the_guide_is_valid(tmp_path: Path) -> None:
    """What it seeds the server with is a seed file, and the server answers by the name that the worker calls it."""
    from workyard.app import create_app
    from workyard.settings import Settings
    from workyard.state.seed_file import parse_seed_file

    text = block((ROOT / "docs" / "docker.md").read_text(encoding="utf-8"), "yaml")
    assert follows("compose-spec", text)
    seeds = parse_seed_file(read(text)["configs"]["seed"]["content"], tmp_path)
    assert [each.name for each in seeds.file.environments] == ["build"]
    services = read(text)["services"]
    options = services["workyard"]["command"]
    allowed = options[options.index("--allowed-hosts") + 1]
    url = services["worker"]["environment"]["ANTHROPIC_BASE_URL"]

    async def status(allowed_hosts: str | None) -> int:
        app = create_app(Settings(host="0.0.0.0", i_know=True, allowed_hosts=allowed_hosts))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url) as http:
            return (await http.get("/nothing")).status_code

    assert (asyncio.run(status(None)), asyncio.run(status(allowed))) == (403, 404)
