"""The site: a dead link fails its build, nothing in it comes from elsewhere, and its menu has every page.

That the site of this checkout is right is what `scripts/docs --check` says, a part of `scripts/check`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.pages import ROOT
from tools.docs.site import problems


def test_what_is_wrong_with_a_built_page_is_named(tmp_path: Path) -> None:
    """Dead links and places, and whatever a browser would load from elsewhere; what is clicked may lead there."""
    (tmp_path / "other.html").write_text("<p id='here'>", encoding="utf-8")
    (tmp_path / "plain.css").write_text(
        "@import '//cdn.example/a.css'; p { background: url(https://cdn.example/b.png) }"
    )
    (tmp_path / "plain.js").write_text('const a = "https://www.example"; fetch("https://cdn.example/c.json")')
    (tmp_path / "page.html").write_text(
        """<a href="other.html#here">good</a> <a href="https://example.org">good</a> <img src="data:image/png;base64,">
        <a href="other.html#there">no place</a> <a href="gone.html">no page</a> <a href="#up">no place</a>
        <script src="https://cdn.example/d.js"></script> <link rel="stylesheet" href="//cdn.example/e.css">
        <style>@font-face { src: url(https://fonts.example/f.woff) }</style> <p style="background: url('//g.example/g')">
        """,
        encoding="utf-8",
    )
    assert sorted(problems(tmp_path)) == [
        "page.html: leads nowhere: gone.html",
        "page.html: loads //cdn.example/e.css",
        "page.html: loads //g.example/g",
        "page.html: loads https://cdn.example/d.js",
        "page.html: loads https://fonts.example/f.woff",
        "page.html: no such place: #up",
        "page.html: no such place: other.html#there",
        "plain.css: loads //cdn.example/a.css",
        "plain.css: loads https://cdn.example/b.png",
        "plain.js: loads https://cdn.example/c.json",
    ]


def test_a_dead_link_and_a_page_outside_the_menu_fail_the_build(tmp_path: Path) -> None:
    """On a small checkout with this one's configuration: a page, a heading and a file that are not there."""
    if find_spec("sphinx") is None:
        assert os.environ.get("CI") != "true", "no Sphinx"
        pytest.skip("no Sphinx: pip install 'workyard[docs]'")
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    (docs / "site").mkdir()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "README.md").write_text("# Not a page of ours\n", encoding="utf-8")
    (docs / "index.md").write_text(
        "# Site\n\n## Part\n\n- [Page](page.md): [good](page.md#a-heading).\n", encoding="utf-8"
    )
    text = "# Page\n\n## A heading\n\n[there](index.md#part): --i-know\n"
    (docs / "page.md").write_text(text, encoding="utf-8")
    program = (
        "import pathlib, sys; from tools.docs.build import build; sys.exit(build(*map(pathlib.Path, sys.argv[1:])))"
    )

    def built() -> tuple[int, str]:
        command = [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "built")]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, said = built()
    assert code == 0, said
    shown = [(tmp_path / "built" / "docs" / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "page")]
    assert ">Page</a>" in shown[0]
    assert "--i-know" in shown[1], "an option is no dash"
    dead = "[a](gone.md) [b](index.md#gone) [c](../gone.txt)\n"
    (docs / "page.md").write_text(f"# Page\n\n## A heading\n\n{dead}", encoding="utf-8")
    (docs / "lonely.md").write_text("# Lonely\n", encoding="utf-8")
    code, said = built()
    assert code == 1
    for lacking in ("'gone.md'", "'gone'", "'../gone.txt'"):
        assert lacking in said, said
    assert "lonely.md: WARNING: document isn't included in any toctree" in said
