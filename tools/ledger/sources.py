"""Where the sources of rules lead: to pages of this checkout, and to headings that are there. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

#: Grade → the pages under docs/evidence of which a rule of that grade names one first. Decided rules name any page of docs/.
_PAGES: Mapping[str, tuple[str, ...]] = {
    "reference": ("api-reference.md", "service-guides.md"),
    "recorded": ("recordings.md",),
    "sdk": ("sdk-clients.md",),
}
_SOURCE = re.compile(r"(?P<page>docs/(?:evidence/)?[\w-]+\.md)(?:#(?P<anchor>[\w-]+))?")


def lost_sources(source: str, grade: str, root: Path) -> Iterator[str]:
    """Yield a line for each part of a rule's source that leads nowhere, or not to the kind of page that its grade asks for."""
    for number, part in enumerate(source.split("; ")):
        found = _SOURCE.fullmatch(part)
        if found is None:
            yield f"source: {part!r} is not docs/<page>.md or docs/evidence/<page>.md with #<heading>; `; ` separates several"
            continue
        page, anchor = found["page"], found["anchor"]
        there = headings(root / page)
        if not there:
            yield f"source: there is no page {page}"
        elif anchor not in there and (anchor is not None or page.startswith("docs/evidence/")):
            yield f"source: {page} has no heading #{anchor or ''}"
        wanted = [f"docs/evidence/{name}" for name in _PAGES.get(grade, ())]
        if number == 0 and wanted and page not in wanted:
            yield f"source: the first of a rule of the grade {grade} is in {' or '.join(wanted)}"


def linked(source: str) -> str:
    """Return a source as links of docs/behaviours.md, each called after its page and heading."""
    return "; ".join(_link(part) for part in source.split("; "))


def _link(part: str) -> str:
    found = _SOURCE.fullmatch(part)
    if found is None:
        return part
    page = found["page"].removeprefix("docs/")
    name = page.removeprefix("evidence/").removesuffix(".md").replace("-", " ")
    anchor = found["anchor"]
    return f"[{name}]({page})" if anchor is None else f"[{name}: {anchor.replace('-', ' ')}]({page}#{anchor})"


@cache
def headings(page: Path) -> frozenset[str]:
    """Return the names that GitHub gives the headings of a page; none if there is no such page."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)
