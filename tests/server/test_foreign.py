"""A release of uvicorn or FastAPI without a private name that Workyard uses is refused by name, not met by a traceback."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from tests.support.harness import clean_environment
from workyard.checks import private_names as fastapi_names
from workyard.foreign import require_names
from workyard.serving import private_names as uvicorn_names
from workyard_store.errors import StartupRefused

PACKAGES = {"uvicorn": uvicorn_names.NAMES, "fastapi": fastapi_names.NAMES}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_release_has_every_name(package: str) -> None:
    """The check costs less than 5 ms of a start; it takes a fraction of one."""
    took = []
    for _ in range(10):
        began = time.perf_counter()
        require_names(package, PACKAGES[package])
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005


@pytest.mark.parametrize(
    ("place", "names", "missing"),
    [
        ("uvicorn.config:", ("STARTUP_FAILURE", "NO_SUCH"), "uvicorn.config.NO_SUCH"),
        ("uvicorn.server:Server", ("startup", "no_such"), "uvicorn.server.Server.no_such"),
        ("uvicorn.server:NoSuch", (), "uvicorn.server.NoSuch"),
        ("uvicorn.no_such:Server", (), "uvicorn.no_such.Server"),
        ("uvicorn.no_such:", (), "uvicorn.no_such"),
    ],
)
def test_a_missing_name_is_refused_with_the_release_and_the_range(
    place: str, names: tuple[str, ...], missing: str
) -> None:
    """A module, a class, an attribute."""
    with pytest.raises(StartupRefused) as refused:
        require_names("uvicorn", {place: names})
    text = refused.value.message
    assert text.startswith(f"uvicorn {version('uvicorn')} is installed, and has no {missing}, which Workyard uses. ")
    assert text.partition("Install ")[2] in ("uvicorn<0.55,>=0.54", "uvicorn>=0.54,<0.55")


@pytest.mark.no_redis
@pytest.mark.parametrize(
    ("package", "removal"),
    [
        ("uvicorn", "import uvicorn.config; del uvicorn.config.LOOP_FACTORIES"),
        ("fastapi", "import fastapi._compat; del fastapi._compat.ModelField"),
    ],
)
def test_the_server_does_not_start_without_a_name(package: str, removal: str) -> None:
    """One line, exit code 1."""
    script = f"{removal}; from workyard.cli.main import main; main(['serve', '--port', '0'])"
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: {package} {version(package)} is installed, and has no {package}.")
