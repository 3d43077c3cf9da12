"""The fixtures for pytest, as other people's tests use them. Rules: `testing.*`."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest

from tests.support.harness import Api, RedisServer, WorkyardServer, new_api_key

pytest_plugins = ["pytester"]

#: Imported once: pytester forgets what a run within this process imports.
KEPT = import_module("workyard.testing.report")

#: Tests that meet if they share a workspace, and how many of them there are.
APART = (
    8,
    """
    import pytest

    @pytest.mark.parametrize("n", range(8))
    def test_it_is_alone(workyard, n):
        assert workyard.clock.read().mode == "real"
        workyard.clock.freeze("2031-01-01T00:00:00Z")
        workyard.clock.advance(n)
        [item] = workyard.enqueue(workyard.environment())
        assert item.created_at == f"2031-01-01T00:00:{n:02}.000000Z"
        assert len(workyard.work(item.environment_id)) == 1
    """,
)


#: The plugin, and no other that takes long.
OPTIONS = (
    *("-p", "xdist", "-p", "workyard.pytest_plugin", "-W", "error"),
    # Whoever runs these tests may have imported the plugins before, as scripts/mutants does.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever variables these tests are run with, and however their warnings are to be taken."""
    for name in ("WORKYARD_URL", "WORKYARD_REDIS_URL", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    # Installed or not, the plugin is named once.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the tests with the plugin, in this process."""
    return pytester.runpytest_inprocess(*OPTIONS, *options)


def test_each_test_has_a_workspace_and_what_it_leaves_is_removed(
    pytester: pytest.Pytester, embedded: WorkyardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server that runs already, named by the option, the variable or the setting; the first of these wins."""
    count, tests = APART
    pytester.makepyfile(tests)
    pytester.makeini("[pytest]\nworkyard_url = http://127.0.0.1:1")
    run(pytester, "-k", "alone and 0").assert_outcomes(errors=1, deselected=count - 1)
    monkeypatch.setenv("WORKYARD_URL", embedded.url)
    run(pytester).assert_outcomes(passed=count)
    monkeypatch.setenv("WORKYARD_URL", "http://127.0.0.1:1")
    before = workspaces(embedded)
    run(pytester, "--workyard-url", embedded.url).assert_outcomes(passed=count)
    assert workspaces(embedded) == before


def workspaces(server: WorkyardServer) -> int:
    """Return how many workspaces a server knows."""
    api = Api(server.url)
    try:
        return len(api.ok(api.get("/_emulator/clock?workspace=*"))["data"])
    finally:
        api.close()


def test_the_report_of_a_test_that_fails_shows_the_life_of_its_work(pytester: pytest.Pytester) -> None:
    """Of that test's work only, and not of one that passes; also where a fixture that has asked for it fails."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def item(workyard):
            [item] = workyard.enqueue(workyard.environment())
            print("its item:", item.id)
            raise RuntimeError

        def test_that_does_not_begin(item):
            pass

        def test_that_passes(workyard):
            workyard.enqueue(workyard.environment())

        def test_that_fails(workyard):
            [item] = workyard.enqueue(workyard.environment())
            workyard.faults.add({"on": "any", "nth": "every", "do": {"status": 503}})
            print("its item:", item.id)
            assert not item

        def test_without_work(workyard):
            assert not workyard
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=2, errors=1)
    text = result.stdout.str()
    first, item = re.findall(r"its item: (\w+)", text)
    sections = re.findall(r"^-+ Workyard: the work of this test -+$(.*?)^[_=]", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 3
    assert [set(re.findall(r"work_\w{24}", section)) for section in sections] == [{first}, {item}, set()]
    assert "enqueued" in sections[1]
    assert "nothing was enqueued" in sections[2]


def test_queues_that_contradict_their_rules_fail_the_test(pytester: pytest.Pytester, redis_server: RedisServer) -> None:
    """At its end, with the rule and the life of the work; on a server with settings of one's own."""
    pytester.makeconftest(
        f"""
        import pytest
        from workyard.testing import Emulator

        @pytest.fixture(scope="session")
        def workyard_server():
            with Emulator(redis_url={redis_server.url!r}, key_prefix="{new_api_key()}", default_ttl=7) as server:
                yield server
        """
    )
    pytester.makepyfile(
        f"""
        import redis

        def test_that_breaks_a_queue(workyard, workyard_server):
            assert workyard.settings().default_ttl_seconds == 7
            queue = workyard.environment()
            [item] = workyard.enqueue(queue)
            with redis.Redis.from_url({redis_server.url!r}) as raw:
                [key] = raw.keys(f"*{{queue.id}}*:env")
                raw.delete(key.removesuffix(b"env") + b"index")
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines([r"E +AssertionError: the queues contradict their rules:", r"E +item_lost: env_\w+"])


def test_it_works_in_many_processes_with_a_server_each(pytester: pytest.Pytester) -> None:
    """By pytest-xdist. With one server for all of them: tests/tools/test_isolation.py."""
    count, tests = APART
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess(*OPTIONS, "-n", "2")
    result.assert_outcomes(passed=count)


def test_it_costs_a_run_that_does_not_use_it_next_to_nothing() -> None:
    """Nothing of the server is imported; nor by the commands that talk to one."""
    code = (
        "import sys, workyard.pytest_plugin, workyard.cli\n"
        "print({'workyard.app', 'workyard.testing', 'fastapi', 'pydantic', 'redis', 'yaml'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
