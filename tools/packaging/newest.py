"""Prints the releases of the Python that runs it which differ from the lock: `scripts/test --newest` shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import distributions

from tools.packaging.lock import LOCK, entries, level


def locked(text: str) -> dict[str, str]:
    """Return the release of each name in a part of a lock; the last one where several machines have several."""
    pins = {name: each[-1] for name, each in entries(text).items()}
    return {name: found[1] for name, pin in pins.items() if (found := re.match(r"[^=\s]+==([^\s;\\]+)", pin))}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each name whose release is another, and for each that the lock does not have."""
    return [
        f"{name}: {before.get(name, 'not locked')} → {release}"
        for name, release in sorted(now.items())
        if before.get(name) != release
    ]


def installed() -> dict[str, str]:
    """Return the releases of this Python's environment, but for Workyard's own."""
    found = {re.sub(r"[-_.]+", "-", each.name).lower(): each.version for each in distributions()}
    found.pop("workyard", None)
    return found


def main() -> None:
    """Compare with the releases that the tests' level has in the lock."""
    lines = differences(locked(level(LOCK.read_text(), "test")), installed())
    print(f"newest releases in the ranges of pyproject.toml: {len(lines)} differ from {LOCK.name}")
    for line in lines:
        print(f"  {line}")


if __name__ == "__main__":
    main()
