"""Download a release's source archive, and build nothing: `python fetch_sdist.py NAME VERSION FOLDER`. Prints its path.

The version `newest` is whatever pip would take. What is in the folder already is not downloaded again.

`pip download` would run the release's build for its metadata. The parts of pip used here find the archive where pip is
configured to look, and fetch it as pip would; they are not public, but as old as the command.
"""

from __future__ import annotations

import os
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
        wanted = SpecifierSet("" if version == "newest" else f"=={version}")
        found = finder.find_best_candidate(name, wanted).best_candidate
        if found is None:
            sys.exit(f"no source archive of {name} {version} where pip looks")
        target = Path(folder) / found.link.filename
        if not target.exists():
            answer = session.get(found.link.url_without_fragment)
            answer.raise_for_status()
            target.parent.mkdir(parents=True, exist_ok=True)
            # Others may be fetching the same.
            part = target.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(answer.content)
            part.rename(target)
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
