"""Prints pip's settings as shell assignments for uv, which does not read them: the index, its certificate, find-links.

scripts/setup-venv evaluates the output in the subshell that runs uv. A setting that uv's own variables make already stays
as it is. Without pip there is nothing to print. Uses the standard library only; runs on any Python 3.11 or newer.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping

#: Setting of pip → uv's variables for the same, of which one is enough, and what separates several values.
_VARIABLES = {
    "index-url": (("UV_DEFAULT_INDEX", "UV_INDEX_URL"), " "),
    "extra-index-url": (("UV_INDEX", "UV_EXTRA_INDEX_URL"), " "),
    "find-links": (("UV_FIND_LINKS",), ","),
    "trusted-host": (("UV_INSECURE_HOST",), " "),
    "cert": (("SSL_CERT_FILE",), " "),
    "proxy": (("ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"), " "),
}
_LINE = re.compile(r"(?P<section>global|install|:env:)\.(?P<name>[a-z-]+)=(?P<value>.*)")
#: The later one wins.
_SECTIONS = ("global", "install", ":env:")


def settings(listing: str) -> dict[str, str]:
    """Return pip's settings from the output of `pip config list`, by name."""
    found = [each.groupdict() for each in map(_LINE.fullmatch, listing.splitlines()) if each is not None]
    found.sort(key=lambda each: _SECTIONS.index(each["section"]))
    return {each["name"]: str(ast.literal_eval(each["value"])) for each in found}


def assignments(pip: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """Return a line of shell for each setting that uv has to be given."""
    lines = []
    for name, (variables, separator) in _VARIABLES.items():
        if pip.get(name) and not any(environment.get(each) for each in variables):
            lines.append(f"export {variables[0]}={shlex.quote(separator.join(pip[name].split()))}")
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        lines.append("uv_options+=(--no-index)")
    return lines


def main() -> None:
    """Ask pip; print."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    for line in assignments(settings(done.stdout), os.environ):
        print(line)


if __name__ == "__main__":
    main()
