"""`/_emulator/journal…`: the journal. Source: docs/journal.md."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from ..checks.call import Call
from ..checks.parameters import AS_QUERY_INTEGER, QueryBoolean
from ..checks.route import ControlRoute
from ..checks.workspace import WorkspaceName, each_workspace, one_workspace, workspace_meant, workspace_to_write
from ..contract.describe import refusals, success
from ..journal.verify import Filter, verify
from ..schemas.common import QueryInstant
from ..schemas.journal import (
    DEFAULT_ENTRIES,
    MOST_ENTRIES,
    JournalCleared,
    JournalCount,
    JournalCounts,
    JournalPage,
    JournalPages,
    JournalsCleared,
    Named,
    Operation,
    StatusText,
    Verified,
    Verify,
    render_page,
    render_verified,
)
from ..wire.responses import JsonResponse

_JOURNAL: list[str | Enum] = ["Journal"]
router = APIRouter(prefix="/_emulator", tags=_JOURNAL, route_class=ControlRoute)

_BROKEN = {400: "A parameter breaks a rule; the message names it."}
On = Annotated[Operation | None, Query(description="The operation, a group such as `sessions`, or `any`.")]
Status = Annotated[StatusText | None, Query(description="Status of the response: `409`, or `4xx` for a class.")]
OfEnvironment = Annotated[Named | None, Query(description="The environment.")]
OfWork = Annotated[Named | None, Query(description="The work item.")]
OfSession = Annotated[Named | None, Query(description="The session; calls on its work item match too.")]
OfWorker = Annotated[Named | None, Query(description="Header `Anthropic-Worker-ID`.")]
OfRequest = Annotated[Named | None, Query(description="The request's id.")]
Since = Annotated[
    QueryInstant | None, Query(description="Only requests that arrived at this instant of wall time or later.")
]
Until = Annotated[
    QueryInstant | None, Query(description="Only requests that arrived before this instant of wall time.")
]
After = Annotated[
    Annotated[int, Field(ge=0), AS_QUERY_INTEGER] | None,
    Query(description="Only requests with a greater number, oldest first, up to `limit`."),
]


@router.get(
    "/journal",
    responses=success(
        JournalPage | JournalPages, "The requests, newest last; one row per workspace if the request names none."
    )
    | refusals(400, because=_BROKEN),
)
async def list_journal(
    call: Call,
    workspace: WorkspaceName = None,
    on: On = None,
    status: Status = None,
    environment_id: OfEnvironment = None,
    work_id: OfWork = None,
    session_id: OfSession = None,
    worker_id: OfWorker = None,
    request_id: OfRequest = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
    limit: Annotated[
        Annotated[int, Field(ge=1, le=MOST_ENTRIES), AS_QUERY_INTEGER],
        Query(description="Maximum number of requests per workspace: the newest ones, unless `after` is given."),
    ] = DEFAULT_ENTRIES,
    bodies: Annotated[QueryBoolean, Query(description="Whether to include the bodies.")] = False,
) -> Response:
    """List the API requests that were answered, including refused ones, by any server process.

    Every request that was answered before this one arrived is included, as long as the journal stores it.
    """
    wanted = Filter(on, status, environment_id, work_id, session_id, worker_id, request_id, since, until)
    journal = call.services.journal
    gathered = await journal.gather()

    async def one(name: str) -> dict[str, Any]:
        reading = await journal.read(name, gathered, first=(after or 0) + 1, bodies=bodies)
        found = [entry for entry in reading.entries if wanted.matches(entry)]
        if after is None:
            found = found[-limit:]
        elif len(found) > limit:
            kept = sorted(found, key=lambda entry: entry.number)[:limit]
            found = sorted(kept, key=lambda entry: (entry.at, entry.number))
        return render_page(found, reading, bodies=bodies)

    return await each_workspace(call.services, await workspace_meant(call, workspace), one)


@router.get(
    "/journal/count",
    responses=success(JournalCount | JournalCounts, "The count; one row per workspace if the request names none.")
    | refusals(400, because=_BROKEN),
)
async def count_journal(
    call: Call,
    workspace: WorkspaceName = None,
    on: On = None,
    status: Status = None,
    environment_id: OfEnvironment = None,
    work_id: OfWork = None,
    session_id: OfSession = None,
    worker_id: OfWorker = None,
    request_id: OfRequest = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
) -> Response:
    """Count the requests of the journal."""
    wanted = Filter(on, status, environment_id, work_id, session_id, worker_id, request_id, since, until)
    journal = call.services.journal
    gathered = await journal.gather()

    async def one(name: str) -> dict[str, Any]:
        reading = await journal.read(name, gathered, first=(after or 0) + 1)
        count = sum(map(wanted.matches, reading.entries))
        return {"count": count, "dropped": reading.extent.dropped, "complete": reading.complete}

    return await each_workspace(call.services, await workspace_meant(call, workspace), one)


@router.delete(
    "/journal",
    responses=success(JournalCleared | JournalsCleared, "They were removed; in all workspaces for `?workspace=*`.")
    | refusals(400, because={400: "The request names no workspace."}),
)
async def clear_journal(call: Call, workspace: WorkspaceName = None) -> Response:
    """Remove all requests answered so far from the journal. Numbering continues."""
    meant = workspace_to_write(await workspace_meant(call, workspace))
    journal = call.services.journal
    await journal.gather()

    async def one(name: str) -> dict[str, Any]:
        return {"removed": await journal.clear(name)}

    return await each_workspace(call.services, meant, one)


@router.post(
    "/journal/verify",
    responses=success(Verified, "Whether all expectations hold, and those that do not.")
    | refusals(400, 413, because={400: "The request breaks a rule, or does not name exactly one workspace."}),
)
async def verify_journal(body: Verify, call: Call, workspace: WorkspaceName = None) -> Response:
    """Check which requests were made; the response shows the nearest request for each unmet expectation.

    Once the journal has dropped requests, it cannot prove that there were none, or no more. The response is then
    not `ok`, and the result is `unknown`.
    """
    meant = await one_workspace(call, workspace)
    journal = call.services.journal
    reading = await journal.read(meant, await journal.gather())
    failures = await verify([each.meant for each in body.expect], reading, in_order=body.in_order)
    return JsonResponse(render_verified(body, failures, reading))
