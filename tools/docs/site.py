"""The checks of the built pages: every link has a target, and nothing is loaded from other sites.

Sphinx checks the links of the sources; this is about what a reader gets, whatever theme and extensions made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes that a browser loads at once. `href` of `a` is followed only when somebody clicks.
_LOADED = {"src", "srcset", "poster", "data", "xlink:href", "background"}
_STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")
#: Ways in which a script gets something from elsewhere with a fixed address.
_SCRIPT_URL = re.compile(r"""(?:fetch|importScripts|import|open|Worker)\(\s*["']((?:https?:)?//[^"']+)["']""")


class _Page(HTMLParser):
    """One page: its names, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.names.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in _LOADED or (name == "href" and tag != "base"):
                self.loaded.append(value)
            elif name == "style":
                self.loaded += _STYLE_URL.findall(value)

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loaded += _STYLE_URL.findall(data)
        elif self._inside == "script":
            self.loaded += _SCRIPT_URL.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def problems(folder: Path) -> Iterator[str]:
    """Yield the problems of a built site by page: dead links, and files loaded from other sites."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        at = path.relative_to(folder)
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    yield f"{at}: loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_relative_to(folder.resolve()) or not target.is_file():
                yield f"{at}: leads nowhere: {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                yield f"{at}: no such place: {link}"
    for pattern, found in (("*.css", _STYLE_URL), ("*.svg", _STYLE_URL), ("*.js", _SCRIPT_URL)):
        for path in sorted(folder.rglob(pattern)):
            for address in found.findall(path.read_text(encoding="utf-8")):
                if re.match(r"(?:https?:)?//", address):
                    yield f"{path.relative_to(folder)}: loads {address}"
