"""The command line starts fast: what it does not import, and how long its help takes. Every call is an operation."""

from __future__ import annotations

import inspect
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.support.harness import Api, WorkyardServer, clean_environment
from workyard.cli import main
from workyard.client import calls

pytestmark = pytest.mark.no_redis

ROOT = Path(__file__).parents[2]
#: Libraries that take longer to import than a command may take to start, and the layers below the server.
HEAVY = {"anyio", "fakeredis", "fastapi", "pydantic", "pydantic_settings", "redis", "starlette", "uvicorn", "yaml"}
HEAVY |= {"email", "http", "importlib.metadata", "ssl", "subprocess", "workyard_queue", "workyard_store.access"}
#: Seconds of processor time. Far more than it takes: on a quiet machine, all of it is done in 0.15 s.
HELP_WITHIN_S = 0.6


def _commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += _commands(command, *path, name)
    return found


COMMANDS = [(), *_commands(main)]


def _imported(*arguments: str, **variables: str) -> set[str]:
    """Run the command in a process of its own; return the heavy modules that it imports."""
    script = (
        "import json, sys; before = set(sys.modules); from workyard.cli import main;"
        f"main({list(arguments)!r}, standalone_mode=False);"
        "print(); print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    return {module for module in modules if module in HEAVY or module.partition(".")[0] in HEAVY}


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    """Except that of `serve`, which is made of the settings. One process shows the help of all of them."""
    script = (
        "import contextlib, io, json, sys; before = set(sys.modules); from workyard.cli import main\n"
        f"for command in {[list(each) for each in COMMANDS if each[:1] != ('serve',)]!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        main([*command, '--help'], standalone_mode=False)\n"
        "    assert 'Usage: ' in out.getvalue(), command\n"
        "import workyard.client.connection\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    modules = json.loads(done.stdout)
    assert "workyard.client.connection" in modules
    assert [each for each in modules if each in HEAVY or each.partition(".")[0] in HEAVY] == []


def test_the_help_comes_at_once() -> None:
    """In processor time of the best of five runs, for others use the machine too."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "workyard", "--help"], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < HELP_WITHIN_S


def test_commands_that_call_a_server_do_not_import_it(
    embedded: WorkyardServer, new_api: Callable[..., Api], tmp_path: Path
) -> None:
    """Not even `state save`, which writes a file."""
    api = new_api(embedded.url)
    queue = api.queue()
    here = {"WORKYARD_URL": api.url, "WORKYARD_API_KEY": api.api_key}
    needed = {"email", "http", "ssl", "subprocess"}
    for arguments in (
        ["state", "save", str(tmp_path / "state.json")],
        ["state", "load", str(tmp_path / "state.json")],
        ["enqueue", queue],
        ["clock", "freeze"],
        ["faults", "list"],
        ["journal"],
        ["watch", "--once"],
        ["env", "--create", "x"],
    ):
        found = {module.partition(".")[0] for module in _imported(*arguments, **here)}
        assert found - needed == set(), arguments


def test_every_call_is_the_operation_of_its_name() -> None:
    """Method and path are those of the OpenAPI documents, and what goes below a path is quoted."""
    operations = {}
    for name in ("workyard", "control"):
        document = json.loads((ROOT / "openapi" / f"{name}.json").read_text(encoding="utf-8"))
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if isinstance(operation, dict) and "operationId" in operation:
                    operations[operation["operationId"]] = (method.upper(), path)
    functions = {
        name: call
        for name, call in inspect.getmembers(calls, inspect.isfunction)
        if call.__module__ == calls.__name__ and not name.startswith("_") and name != "environment_path"
    }
    assert len(functions) > 25
    values = {"str": "a/b", "int": 1, "float": 1.0, "bool": False, "None": None}
    for name, call in functions.items():
        given = {}
        for parameter in inspect.signature(call).parameters.values():
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                kind = str(parameter.annotation).partition(" ")[0]
                given[parameter.name] = values.get(kind, [] if kind.startswith("Sequence") else {})
        request = call(**given)
        method, path = operations[name]
        assert request.method == method, name
        assert re.fullmatch(re.sub(r"\{\w+\}", "a%2Fb", path), request.path), (name, request.path)
