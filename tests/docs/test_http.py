"""The HTTP recipes keep their word: they are one program, and it prints what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.pages import ROOT, run


def test_the_recipes_run_as_they_stand(tmp_path: Path) -> None:
    """One after the other, against one server."""
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    lines = [line for line in run("bash", "-euo", "pipefail", "-c", f"cd '{tmp_path}'\n{program}").splitlines() if line]
    environment, nothing, stats, stale, *stages, asked, twice, bare = lines[:13]
    assert json.loads(environment)["config"]["type"] == "self_hosted"
    assert nothing == "null"
    assert {"depth": 1, "pending": 1, "workers_polling": 1}.items() <= json.loads(stats).items()
    assert json.loads(stale)["error"]["details"]["error_code"] == "heartbeat_precondition_failed"
    assert stages == ["queued", "412", "stopping", "stopping", "stopped", "None"]
    types = [json.loads(each)["error"]["type"] for each in (asked, twice, bare)]
    assert types == ["invalid_request_error", "invalid_request_error", "authentication_error"]
    assert lines[13].startswith("workyard-rule: credentials.")
    events = (tmp_path / "events.json").read_text(encoding="utf-8")
    assert '"agent.tool_use"' in events
    assert "event: user.interrupt" in lines[14:]
