"""A wheel in an empty environment, with no checkout present, starts and serves the quick start."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.harness import Api, clean_environment, running_server
from tests.support.wheels import BUILD_WHEEL, write_constraints

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"workyard", "workyard_store", "workyard_queue"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [*BUILD_WHEEL, str(folder), str(ROOT)]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("workyard-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has only the wheel and what it requires, by its ranges; of the releases in them those
    that are tested here."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    write_constraints(folder / "constraints.txt")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(wheel)]
    install += ["--constraint", str(folder / "constraints.txt")]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return python


def names(wheel: Path) -> list[str]:
    """Return the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_three_packages_and_hides_nothing_of_the_standard_library(wheel: Path) -> None:
    """A top-level `queue` would break every program that is installed beside it."""
    top = {name.partition("/")[0] for name in names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert not PACKAGES & sys.stdlib_module_names


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """The Lua scripts, the marks of typing, the documents that are served, and the licence too."""
    held = set(names(wheel))
    assert {"workyard/openapi/workyard.json", "workyard/openapi/control.json"} < held
    for source in ("server", "store", "queue"):
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT / source).as_posix() in held
    for package in PACKAGES:
        assert f"{package}/py.typed" in held
    for package in ("workyard_queue", "workyard_store"):
        assert any(name.startswith(f"{package}/lua/") and name.endswith(".lua") for name in held)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)


def test_the_wheel_in_an_empty_environment_serves_the_quick_start(installed: Path, tmp_path: Path) -> None:
    """Create, enqueue, poll, ack, heartbeat, stop, stats, over HTTP; the code is the wheel's and no checkout's.

    The command is there too. One test, because pytest-xdist would install the wheel once for each.
    """
    script = "import workyard, workyard_queue, workyard_store as s; print(workyard.__file__, workyard_queue.__file__, s.__file__)"
    clean = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [installed, "-c", script], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    for path in found.stdout.split():
        assert Path(path).is_relative_to(installed.parent.parent)
    with (
        running_server(python=str(installed), folder=tmp_path, environment={"PYTHONPATH": ""}) as server,
        closing(Api(server.url)) as api,
    ):
        queue = api.queue()
        assert len(api.enqueue(queue, 2)) == 2
        work = api.poll(queue)["id"]
        assert api.ok(api.ack(queue, work))["state"] == "starting"
        assert api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT"))["state"] == "active"
        assert api.ok(api.stop(queue, work, force=True))["state"] == "stopped"
        figures = api.stats(queue)
        assert (figures["depth"], figures["pending"]) == (1, 0)
        assert api.get("/docs").status_code == 200
        assert api.get("/openapi.json").status_code == 200
        assert server.stop() == 0
    done = subprocess.run(
        [installed.with_name("workyard"), "run", "--", "sh", "-c", "exit 3"],
        cwd=tmp_path,
        env=clean_environment({"PYTHONPATH": ""}),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (3, "")
    used = _with_pytest(installed, tmp_path)
    assert used.returncode == 0, used.stdout + used.stderr
    assert str(installed.parent.parent) in used.stdout
    assert "1 passed" in used.stdout


def _with_pytest(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a test that uses the fixture by the wheel's entry point, with these tests' pytest behind what is installed."""
    test = (
        "import workyard as w\ndef test_it(workyard):\n    print(w.__file__, workyard.enqueue(workyard.environment()))"
    )
    (folder / "test_it.py").write_text(test)
    run = "import sys; sys.path.append(sys.argv[1]); import pytest; sys.exit(pytest.main(sys.argv[2:]))"
    options = ("-q", "-s", "-p", "no:schemathesis", "-p", "no:cacheprovider", "-W", "error", str(folder))
    return subprocess.run(
        [python, "-c", run, str(Path(pytest.__file__).parent.parent), *options],
        cwd=folder,
        env=clean_environment({"PYTHONPATH": ""}),
        capture_output=True,
        text=True,
        timeout=60,
    )
