"""How the pages of `docs/` become a site: what is a page, where it stands in the menu, how it looks. Run by `scripts/docs`.

The source is the whole checkout, so that a link from one page to another is the same on GitHub and in the site.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from workyard import __version__

ROOT = Path(__file__).resolve().parent.parent

project = "Workyard"
author = "The Workyard authors"
version = release = __version__
language = "en"

extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = ["*.md", "docs/*.md", "docs/evidence/*.md"]
exclude_patterns = sorted(f"{each.name}" for each in ROOT.iterdir() if each.is_dir() and each.name != "docs")
nitpicky = True
#: Two hyphens are an option, not a dash.
smartquotes = False
#: A link to a heading is checked against the names that GitHub gives headings.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"Workyard {version}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
#: The opening page of the folder, which leads on to that of the docs.
html_extra_path = ["site"]


def menu(index: str) -> str:
    """Return the menu in Sphinx's words: a part for each heading of the index page, with the pages that it links to."""
    parts = re.split(r"^## +(.*)$", index, flags=re.MULTILINE)[1:]
    shown: list[str] = []
    listed: set[str] = set()
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        entries = []
        for name, page in re.findall(r"\[([^]]*)\]\(([\w./-]+)\.md\)", text):
            if page not in listed:
                entries.append(f"{name} <{f'/{page[3:]}' if page.startswith('../') else f'/docs/{page}'}>")
            listed.add(page)
        shown.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *entries, "```"]))
    return "\n\n".join(shown)


def _add_menu(app: Sphinx, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += "\n\n" + menu(source[0])


def setup(app: Sphinx) -> None:
    """Make the menu of the index page's links: GitHub would show Sphinx's own form as code."""
    app.connect("source-read", _add_menu)
