"""Wire shape of the server's health. Rules: `control.*`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Shape


class Health(Shape):
    """The server and its Redis are available."""

    status: Literal["ok"] = Field(description="Always `ok`; any other condition is an error.")
    engine: Literal["embedded", "redis"] = Field(description="The engine that stores the state.")
    version: str = Field(description="Workyard's version.")
    leniencies: dict[str, Annotated[int, Field(ge=1)]] = Field(
        description="How often the server has used each leniency since it started, by the leniency's name in the "
        "header `workyard-leniency`; always empty without `--fixtures`.",
        examples=[{}, {"reserved-environment": 340, "reserved-work": 160, "unknown-cursor": 10}],
    )
    in_flight: int = Field(
        ge=1, description="Requests in progress in the answering server process, including this one."
    )
    polls_waiting: int = Field(ge=0, description="Polls that are blocked in that process.")
