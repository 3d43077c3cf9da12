#!/usr/bin/env python3
"""Build the documentation as a site in `build/docs`: open `build/docs/index.html`, no server and no network needed.

First the pages that are made of the code are written. Warnings are errors: a dead link, also to a heading, fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tools.docs.build import build
from tools.docs.control import control_page
from tools.docs.keys import keys_page
from tools.docs.reference import commands_page, settings_page
from tools.docs.states import drawing

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "docs"
#: The pages generated from the code, which are committed so that they can be read on GitHub too.
MADE = {
    "docs/command-line.md": commands_page,
    "docs/control-plane.md": control_page,
    "docs/redis-keys.md": keys_page,
    "docs/settings.md": settings_page,
    "docs/states.svg": drawing,
}


def main() -> int:
    """Write or check the pages, build the site; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--check", action="store_true", help="write no page: fail if one is stale")
    parser.add_argument("--external", action="store_true", help="ask whether links to other sites are alive, too")
    parser.add_argument("--pages", action="store_true", help="only the pages that are made of the code, no site")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("WORKYARD_")]:
        del os.environ[name]  # The pages show the defaults.
    try:
        stale = _pages(check=given.check)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    if given.pages:
        return stale
    built = build(ROOT, OUTPUT, external=given.external)
    if not built:
        print(f"built {OUTPUT.relative_to(ROOT)}/index.html")
    return stale or built


def _pages(*, check: bool) -> int:
    stale = 0
    for name, make in MADE.items():
        path, text = ROOT / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{name} is stale: run scripts/docs and commit the result", file=sys.stderr)
            stale = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
