"""Runs the SDKs' generated test suites against fixture mode, beside the other tests: most of it is fetching what they
import, and starting. The test that judges it is test_suites_generated.py.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.harness import redis_binary, wait_until
from tools.compat.releases import CannotInstall
from tools.suites.runs import OLD, Outcome, fixture_server, play, python_suite

#: Far more than both take on a busy machine, from a clean clone.
END_WITHIN_S = 400


@dataclass(frozen=True)
class Run:
    """A run of one suite; *absent* says why there was none."""

    outcome: Outcome
    absent: str = ""


def run(folder: Path, result: Path) -> None:
    """Run the suite of the newest release, which the other tests use too, and of an old one, each on another engine, and
    leave the outcomes in a file."""
    runs = {"newest": _run(version("anthropic"), "embedded")}
    runs["old"] = _run(OLD, "redis-8" if redis_binary("redis-8") else "redis-7")
    written = result.with_suffix(".part")
    written.write_text(json.dumps({name: asdict(each) for name, each in runs.items()}), encoding="utf-8")
    written.rename(result)


def runs_in(result: Path) -> dict[str, Run]:
    """Return what `run` has left, when it has."""
    wait_until(result.exists, "the generated suites have ended", END_WITHIN_S)
    told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return {name: Run(Outcome(**each["outcome"]), each["absent"]) for name, each in told.items()}


def _run(release: str, engine: str) -> Run:
    try:
        suite = python_suite(release)
        with fixture_server(engine) as url:
            return Run(play(suite, url, 1))
    except CannotInstall as reason:
        return Run(Outcome(0, 0, 0, 0.0), str(reason))
    except Exception:
        return Run(Outcome(0, 1, 0, 0.0, traceback.format_exc()))
