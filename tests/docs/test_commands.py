"""Commands of several pages, run as they stand beside one server: what stands in each page by itself."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.pages import ROOT, block, run, section


def page(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_commands_run_as_they_stand(tmp_path: Path) -> None:
    """Those of README.md, agent-scripts.md, test-your-worker.md and clock.md, and each does what its page says."""
    worker = section(page("docs/test-your-worker.md"), "The hard cases, on purpose")
    (tmp_path / "script.yaml").write_text(block(worker, "yaml"), encoding="utf-8")
    (tmp_path / "test_worker.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
    check, short_leases = re.findall(r"^```sh\n(.*?)^```$", worker, re.MULTILINE | re.DOTALL)
    given = block(section(page("docs/agent-scripts.md"), "Setting a script"), "sh")
    session = """session=$(curl -fsS -H "x-api-key: $ANTHROPIC_API_KEY" -H "content-type: application/json" \
        -d "{\\"agent\\": \\"agent_any\\", \\"environment_id\\": \\"$ANTHROPIC_ENVIRONMENT_ID\\"}" \
        "$ANTHROPIC_BASE_URL/v1/sessions" | sed -E 's/.*"id":"(session_[^"]*)".*/\\1/')"""
    # A session that has not begun has not gone by its script: the last of these commands exits with 1, as it says.
    set_and_show = check.replace('script show "$session"', 'script show "$session" || [ $? = 1 ]')
    [auto] = block(section(page("docs/clock.md"), "auto: a self-advancing clock"), "sh").splitlines()
    inner = auto.removeprefix("workyard run -- ").replace("pytest", "pytest -p no:cacheprovider --rootdir .")
    assert auto.startswith("workyard run -- "), "which is what `run` does"
    steps = (
        f"cd '{tmp_path}'; {session}", set_and_show, "echo; echo = given", given, "echo; echo = leases", short_leases,
        "echo; echo = time", block(section(page("README.md"), "Time without sleeping"), "sh"), "echo = auto",
        f"export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1; {inner}",
    )  # fmt: skip
    printed = run("bash", "-euo", "pipefail", "-c", "\n".join(steps))
    shown, script, leases, time, jumps = re.split(r"^= \w+$", printed, flags=re.MULTILINE)
    assert "not_started" in shown
    assert '"use_custom_tool"' in script
    assert '"default_ttl_seconds":2,"startup_lease_seconds":2' in leases
    assert "frozen" in time
    assert "auto" in jumps
    assert "1 passed" in jumps
