"""The build of the site: Sphinx over a checkout, warnings as errors, then a look at what came out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tools.docs.site import problems


def build(source: Path, output: Path, *, external: bool = False) -> int:
    """Build the site of a checkout into a folder, which is removed first; return 1 if anything is wrong, else 0.

    external: ask whether links to other sites are alive, too.
    """
    from sphinx.cmd.build import build_main

    trees = output.with_name(f"{output.name}-trees")
    for folder in (output, trees):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-c", str(source / "docs"), "-d", str(trees)]
    failed = build_main([*options, "-b", "html", str(source), str(output)])
    if external:
        failed |= build_main([*options, "-b", "linkcheck", str(source), str(output.with_name(f"{output.name}-links"))])
    found = list(problems(output))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if failed or found else 0
