"""`--check-responses`: an answer that its document does not describe never leaves as it is.

Rule: `conventions.checked-answers`.

In CI every server of the tests runs with it (`WORKYARD_TEST_CHECK_RESPONSES`), so each of them is a test of it; here is what
it does when something is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from starlette.responses import PlainTextResponse

from workyard.app import create_app
from workyard.cli.main import main
from workyard.routes import environments
from workyard.settings import Settings
from workyard.wire import sse as event_streams
from workyard.wire.responses import JsonResponse

Json = dict[str, Any]
HERE = "#/paths/~1v1~1environments~1{environment_id}"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process that checks its answers."""
    async with AsyncExitStack() as stack:
        app = create_app(Settings(check_responses=True))
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4010", headers={"x-api-key": "checked"})
        )


async def _queue(http: httpx.AsyncClient) -> str:
    created = await http.post("/v1/environments", json={"name": "a", "config": {"type": "self_hosted"}})
    assert created.status_code == 200, created.text
    return str(created.json()["id"])


async def test_right_answers_pass_unchanged_and_every_kind_of_refusal_does(http: httpx.AsyncClient) -> None:
    """JSON, null, text, a page, what has no operation, what the documents leave out, and what a fault rule changed."""
    queue = await _queue(http)
    assert (await http.get(f"/v1/environments/{queue}/work/poll")).json() is None
    assert (await http.get("/v1/environments", params={"limit": 0})).status_code == 400
    assert (await http.get("/v1/environments/env_1")).status_code == 404
    assert (await http.post(f"/v1/environments/{queue}/work/work_1/ack")).status_code == 404
    assert (await http.get("/v1/environments", headers={"x-api-key": ""})).status_code == 401
    assert (await http.get("/v1/nothing")).json()["error"]["message"] == "Not found"
    assert (await http.put("/v1/environments")).status_code == 405
    assert (await http.get("/docs")).status_code == 200
    assert (await http.get("/metrics")).status_code == 200
    [item] = (await http.post(f"/_emulator/environments/{queue}/work")).json()["data"]
    drawn = await http.get(f"/_emulator/work/{item['id']}/timeline", params={"format": "text"})
    assert drawn.headers["content-type"].startswith("text/plain")
    fault = {"rules": [{"on": "stats", "do": {"status": 529}}]}
    assert (await http.post("/_emulator/faults", json=fault)).status_code == 200
    assert (await http.get(f"/v1/environments/{queue}/work/stats")).status_code == 529


@pytest.mark.parametrize(
    ("name", "broken", "pointer"),
    [
        ("render_environment", lambda _: {"name": "sk-secret"}, "body /: "),
        ("render_environment", lambda right: {**right, "name": 3}, f"{HERE}/get/responses/200: body /name: the value is not of type"),
        ("render_environment", lambda right: {**right, "created_at": "sk-secret"}, "/created_at: "),
        ("render_environment", lambda right: {**right, "new": "sk-secret"}, "body /: Additional properties"),
        ("JsonResponse", lambda _: JsonResponse({}, 201), f"{HERE}/get/responses: status 201 is not documented"),
        ("JsonResponse", lambda _: PlainTextResponse("a"), "/get/responses/200/content: content type 'text/plain' is not"),
        ("JsonResponse", lambda _: PlainTextResponse("{", media_type="application/json"), "the body is not JSON"),
        ("JsonResponse", lambda _: JsonResponse({}, 404), "/get/responses/404: header /: \"x-should-retry\" is a required"),
    ],
)  # fmt: skip
async def test_a_wrong_answer_becomes_a_500_with_a_pointer(
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    broken: Callable[[Any], Any],
    pointer: str,
) -> None:
    """It says where the document and the answer part, not what stands there, which may be secret; and logs an error."""
    queue = await _queue(http)
    right = getattr(environments, name)
    monkeypatch.setattr(environments, name, lambda *given: broken(right(*given) if name != "JsonResponse" else None))
    answer = await http.get(f"/v1/environments/{queue}")
    monkeypatch.undo()
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.json()["request_id"] == answer.headers["request-id"]
    message = answer.json()["error"]["message"]
    assert message.startswith("The response does not match #/paths/")
    assert pointer in message
    assert "sk-secret" not in caplog.text + message
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert message in record.getMessage()
    assert (await http.get(f"/v1/environments/{queue}")).status_code == 200


async def test_a_stream_with_a_wrong_event_is_cut(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its events are checked one by one: the right one before has been sent."""
    follow = "/_emulator/events?seconds=0"
    assert (await http.get(follow)).text == 'event: ping\ndata: {"type":"ping"}\n\n'
    frame = event_streams.frame
    monkeypatch.setattr(
        "workyard.routes.timeline.frame", lambda kind, data: frame(kind, data) + b"event: odd\ndata: 3\n\n"
    )
    await http.get(follow)
    assert "event /data: not a JSON object" in caplog.text


async def test_the_server_does_not_start_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what to install."""
    monkeypatch.setattr("workyard.settings.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--check-responses"])
    assert done.exit_code == 1
    assert "--check-responses / WORKYARD_CHECK_RESPONSES" in done.output
    assert "pip install 'workyard[check]'" in done.output
