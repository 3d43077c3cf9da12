"""Building and installing the wheel with the releases that the tests run on, not with whatever the index has today."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

#: The command that builds a wheel, with what is installed here; the folder it goes into and the source follow.
BUILD_WHEEL = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir")


def write_constraints(file: Path) -> None:
    """Write a constraints file for pip: every release that is installed here."""
    file.write_text("".join(f"{each.name}=={each.version}\n" for each in distributions() if each.name != "workyard"))
