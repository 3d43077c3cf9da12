"""Run the `workyard` command in tests."""

from __future__ import annotations

import subprocess

from tests.support.command_forks import run
from tests.support.harness import clean_environment


def workyard(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return run(*arguments, variables=clean_environment(variables))


def said(*arguments: str, **variables: str) -> str:
    """Run the command, which must succeed and complain about nothing; return what it prints."""
    done = workyard(*arguments, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
