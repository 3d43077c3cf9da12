"""Download a release's source archive, and build nothing: `python fetch_sdist.py NAME VERSION FOLDER`. Prints its path.

`pip download` would run the release's build for its metadata. The parts of pip used here find the archive where pip is
configured to look, and fetch it as pip would; they are not public, but as old as the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pip._internal.commands.download import DownloadCommand
from pip._vendor.packaging.specifiers import SpecifierSet


def main(name: str, version: str, folder: str) -> None:
    """Do it."""
    command = DownloadCommand("download", "")
    options, _ = command.parse_args(["--no-binary", name])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        found = finder.find_best_candidate(name, SpecifierSet(f"=={version}")).best_candidate
        if found is None:
            sys.exit(f"no source archive of {name} {version} where pip looks")
        answer = session.get(found.link.url_without_fragment)
        answer.raise_for_status()
    target = Path(folder) / found.link.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(answer.content)
    part.rename(target)
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
