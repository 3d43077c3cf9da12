"""The compose file and the Dockerfile, as far as they can be checked without a Docker engine.

The image is not built here: the stage that installs is replayed as far as its files go, and what the container would
run is run against a server of this machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.support.harness import free_port, running_server
from tests.support.wheels import BUILD_WHEEL
from tools.packaging import lock
from workyard.cli.main import main
from workyard.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVER: dict[str, Any] = COMPOSE["services"]["server"]
REDIS: dict[str, Any] = COMPOSE["services"]["redis"]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, lines joined and comments dropped."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def final_stage() -> dict[str, str]:
    """Return the last instruction of each kind in the last stage."""
    found: dict[str, str] = {}
    for word, rest in instructions():
        found = {"FROM": rest} if word == "FROM" else found | {word: rest}
    return found


# -- schema and lint ------------------------------------------------------------------------------------------


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the compose specification's schema, in the copy that check-jsonschema ships."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def lint(text: str) -> subprocess.CompletedProcess[str]:
    """Lint a Dockerfile with hadolint, every rule on."""
    hadolint = Path(sys.executable).with_name("hadolint")
    return subprocess.run([hadolint, "--no-color", "-"], input=text, capture_output=True, text=True, timeout=60)


def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    """And the check would notice if it were not."""
    done = schema_check(ROOT / "docker-compose.yml")
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text((ROOT / "docker-compose.yml").read_text().replace("depends_on:", "depend_on:"))
    assert schema_check(broken).returncode != 0


def test_the_dockerfile_is_clean() -> None:
    """And the lint would notice if it were not."""
    done = lint(DOCKERFILE)
    assert done.returncode == 0, done.stdout
    assert lint(DOCKERFILE.replace("python:3.13-slim", "python:latest")).returncode != 0


# -- the compose file -----------------------------------------------------------------------------------------


def test_every_published_port_is_bound_to_loopback() -> None:
    """Whoever reaches the port can do everything."""
    assert SERVER["ports"] == ["127.0.0.1:4010:4010"]
    assert "ports" not in REDIS
    for service in COMPOSE["services"].values():
        assert service.get("network_mode") != "host"


def test_the_server_waits_for_a_healthy_redis() -> None:
    """It refuses to start without one."""
    assert SERVER["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "healthcheck" in SERVER
    assert "PONG" in " ".join(REDIS["healthcheck"]["test"])


def test_redis_keeps_its_data_in_an_append_only_file_on_a_named_volume() -> None:
    """A restart loses nothing."""
    command = REDIS["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert [volume.partition(":")[2] for volume in REDIS["volumes"]] == ["/data"]
    assert [volume.partition(":")[0] for volume in REDIS["volumes"]] == list(COMPOSE["volumes"])
    assert int(REDIS["image"].partition(":")[2].partition(".")[0]) >= 7


@pytest.mark.parametrize("command", [SERVER["command"], json.loads(final_stage()["CMD"])], ids=["compose", "image"])
def test_the_container_starts_a_server_that_is_reached_from_outside(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """The real command line takes these options; the port is the one that is published and asked for its health."""
    given: list[Settings] = []
    monkeypatch.setattr("workyard.serving.server.serve", lambda settings, on_ready: given.append(settings))
    monkeypatch.setattr("workyard.observability.logs.configure", lambda level, form: None)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WORKYARD_{name.upper()}", raising=False)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    [settings] = given
    assert (settings.host, settings.port, settings.i_know) == ("0.0.0.0", 4010, True)
    assert settings.redis_url == ("redis://redis:6379/0" if command == SERVER["command"] else None)


# -- the Dockerfile -------------------------------------------------------------------------------------------


def test_the_image_runs_as_somebody_who_is_not_root() -> None:
    """By number, so that any host can tell; and it is made, and with no shell."""
    user = final_stage()["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert f"--uid {user.partition(':')[0]} " in DOCKERFILE
    assert "nologin" in DOCKERFILE
    assert instructions().index(("USER", user)) > instructions().index(
        ("COPY", "--from=build /opt/workyard /opt/workyard")
    )


def test_the_final_image_gets_the_installed_package_and_nothing_else() -> None:
    """No source, no build tool, no test: one COPY, from the stage that built the wheel."""
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert stages == ["python:3.13-slim AS build", "python:3.13-slim"]
    last = len(instructions()) - [word for word, _ in instructions()][::-1].index("FROM")
    assert [rest for word, rest in instructions()[last:] if word in ("COPY", "ADD")] == [
        "--from=build /opt/workyard /opt/workyard"
    ]
    assert not any("pip" in rest for word, rest in instructions()[last:] if word == "RUN")
    assert "[test]" not in DOCKERFILE
    assert "[dev]" not in DOCKERFILE
    assert final_stage()["ENTRYPOINT"] == '["workyard"]'
    assert final_stage()["EXPOSE"] == "4010"


def test_what_the_build_stage_copies_is_let_in_and_makes_a_wheel(tmp_path: Path) -> None:
    """The build context holds what .dockerignore names, and that is enough."""
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    sources = [source for parts in copied for source in parts[:-1]]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in ignore if line.startswith("!")) == sorted(sources)
    assert "*" in ignore
    context = tmp_path / "context"
    context.mkdir()
    for source in sources:
        subprocess.run(["cp", "-R", str(ROOT / source), str(context / source)], check=True)
    build = [*BUILD_WHEEL, str(tmp_path), "."]
    done = subprocess.run(build, cwd=context, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("workyard-*.whl"))) == 1


def test_the_image_gets_the_locked_releases_by_their_hashes(tmp_path: Path) -> None:
    """What builds the wheel in the first stage, what it needs in the last: the commands that cut the lock are run here."""
    [steps] = [rest for word, rest in instructions() if word == "RUN" and "lock.txt" in rest]
    cuts = [step for step in steps.split(" && ") if step.startswith("sed ")]
    installs = [step for step in steps.split(" && ") if " install " in step and "--requirement" in step]
    assert all("--no-deps --require-hashes" in step for step in installs)
    text = lock.LOCK.read_text()
    for cut, install, part in zip(cuts, installs, (lock.level(text, "run"), lock.sections(text)["run"]), strict=True):
        command, target = cut.split(" >")
        assert f"--requirement {target}" in install
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
        assert lock.entries(done.stdout) == lock.entries(part)


def test_the_health_checks_need_no_curl_and_tell_a_healthy_server_from_none() -> None:
    """The image's and the compose file's are one; it is run here against a server of this machine."""
    image = json.loads(final_stage()["HEALTHCHECK"].partition(" CMD ")[2])
    assert SERVER["healthcheck"]["test"] == ["CMD", *image]
    assert image[:2] == ["python", "-c"]
    asked = "http://127.0.0.1:4010/_emulator/health"
    assert asked in image[2]

    def healthy(url: str) -> bool:
        script = image[2].replace("http://127.0.0.1:4010", url)
        return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30).returncode == 0

    with running_server() as server:
        assert healthy(server.url)
    assert not healthy(f"http://127.0.0.1:{free_port()}")
