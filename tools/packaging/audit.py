#!/usr/bin/env python3
"""Look for known vulnerabilities in the locked releases (requirements/lock.txt), with pip-audit.

A vulnerability that is known fails. Where the data about vulnerabilities cannot be reached, nothing is known: that is said, and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_LOCK = _ROOT / "requirements" / "lock.txt"
_TIMEOUT_S = 120


def audited(requirements: str) -> list[dict[str, Any]] | str:
    """Return pip-audit's findings on each release of some requirements, or the reason why there are none."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--disable-pip",
        "--no-deps",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        try:
            done = subprocess.run(
                [*command, "--requirement", file.name], capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {_TIMEOUT_S} s"
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return found


def verdict(first: list[dict[str, Any]] | str, rest: list[dict[str, Any]] | str) -> tuple[int, list[str]]:
    """Return the exit code and what is to be said. *first*: of one release, by which it is tried whether there are data."""
    for found in (first, rest):
        if isinstance(found, str) or (found and all("skip_reason" in each for each in found)):
            reason = found if isinstance(found, str) else found[0]["skip_reason"]
            return 0, [f"SKIPPED: nothing is known of {_LOCK.name}, for the data cannot be reached from here: {reason}"]
    assert not isinstance(first, str)
    assert not isinstance(rest, str)
    every = first + rest
    bad = [
        f"{each['name']} {each['version']}: {problem['id']}, mended in {', '.join(problem['fix_versions']) or 'no release'}"
        for each in every
        for problem in each.get("vulns", [])
    ]
    unknown = [f"not audited: {each['name']}: {each['skip_reason']}" for each in every if "skip_reason" in each]
    good = len(every) - len(unknown)
    return (1 if bad else 0), [*bad, *unknown, f"{good} releases audited, {len(bad)} vulnerabilities known"]


def main() -> int:
    """Audit the lock; return the exit code."""
    pins = [line.rstrip(" \\") for line in _LOCK.read_text().splitlines() if "==" in line]
    first = audited(pins[0] + "\n")
    tried = not isinstance(first, str) and not any("skip_reason" in each for each in first)
    code, lines = verdict(first, audited("\n".join(pins[1:]) + "\n") if tried else [])
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
