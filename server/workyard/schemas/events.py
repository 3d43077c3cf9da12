"""Wire shapes of the events that clients send. Source: the SDK's types of events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from workyard_queue.sessions.records import Event
from workyard_store.ids import new_id

from .common import Body, NextPage, Shape

MOST_INITIAL = 50
MOST_SENT = 1000
_ACCOMPANIED = ("user.message", "user.tool_result", "user.custom_tool_result")


class TextBlock(Body):
    """Text."""

    type: Literal["text"] = Field(description="The type of block.")
    text: str = Field(description="The text.")


class ImageBlock(Body):
    """An image. Stored only."""

    type: Literal["image"] = Field(description="The type of block.")
    source: dict[str, Any] = Field(description="Where the image is.")


class DocumentBlock(Body):
    """A document. Stored only."""

    type: Literal["document"] = Field(description="The type of block.")
    source: dict[str, Any] = Field(description="Where the document is.")
    title: str | None = Field(None, description="Its title.")
    context: str | None = Field(None, description="Context about the document for the model.")


class Citations(Body):
    """Whether the model should cite a search result."""

    enabled: bool = Field(description="Whether citations are enabled.")


class SearchResultBlock(Body):
    """A search result."""

    type: Literal["search_result"] = Field(description="The type of block.")
    source: str = Field(description="Where it was found.")
    title: str = Field(description="Its title.")
    content: list[TextBlock] = Field(description="What was found.")
    citations: Citations = Field(description="Whether to cite it.")


class RedactedBlock(Body):
    """Content that was removed."""

    type: Literal["redacted"] = Field(description="The type of block.")


MessageContent = list[Annotated[TextBlock | ImageBlock | DocumentBlock | RedactedBlock, Field(discriminator="type")]]
ResultContent = list[Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]]


class UserMessage(Body):
    """A message for the agent."""

    type: Literal["user.message"] = Field(description="The type of event.")
    content: Annotated[MessageContent, Field(min_length=1)] = Field(description="The content of the message.")


class UserInterrupt(Body):
    """Interrupts the agent's current activity."""

    type: Literal["user.interrupt"] = Field(description="The type of event.")
    session_thread_id: str | None = Field(None, description="The thread to interrupt; default: all.")


class UserToolConfirmation(Body):
    """Allows or denies a waiting tool call."""

    type: Literal["user.tool_confirmation"] = Field(description="The type of event.")
    tool_use_id: str = Field(description="The waiting `agent.tool_use` event.")
    result: Literal["allow", "deny"] = Field(description="The decision.")
    deny_message: str | None = Field(None, description="The reason; only with `deny`.")

    @field_validator("deny_message")
    @classmethod
    def _only_with_deny(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("result") == "allow":
            raise PydanticCustomError("deny_message", "Only allowed when result is 'deny'")
        return value


class UserToolResult(Body):
    """The result of a built-in tool that a worker ran."""

    type: Literal["user.tool_result"] = Field(description="The type of event.")
    tool_use_id: str = Field(description="The `agent.tool_use` event that it answers.")
    content: ResultContent | None = Field(None, description="The result.")
    is_error: bool | None = Field(None, description="Whether the tool failed.")


class UserCustomToolResult(Body):
    """The result of a custom tool."""

    type: Literal["user.custom_tool_result"] = Field(description="The type of event.")
    custom_tool_use_id: str = Field(description="The `agent.custom_tool_use` event that it answers.")
    content: ResultContent | None = Field(None, description="The result.")
    is_error: bool | None = Field(None, description="Whether the tool failed.")


class TextRubric(Body):
    """A rubric as text."""

    type: Literal["text"] = Field(description="The type of rubric.")
    content: Annotated[str, Field(max_length=262_144)] = Field(description="The words.")


class FileRubric(Body):
    """A rubric in a file. Stored only; the file is never read."""

    type: Literal["file"] = Field(description="The type of rubric.")
    file_id: str = Field(description="The file.")


class UserDefineOutcome(Body):
    """Defines what the agent should produce. Stored only; nothing is evaluated."""

    type: Literal["user.define_outcome"] = Field(description="The type of event.")
    description: str = Field(description="What the agent should produce.")
    rubric: Annotated[TextRubric | FileRubric, Field(discriminator="type")] = Field(description="How it is graded.")
    max_iterations: Annotated[int, Field(ge=1, le=20)] | None = Field(None, description="Maximum number of attempts.")


class SystemMessage(Body):
    """Context for the turn that it accompanies; must be the last event of its request."""

    type: Literal["system.message"] = Field(description="The type of event.")
    content: Annotated[list[TextBlock], Field(min_length=1)] = Field(description="The content of the message.")


SentEvent = Annotated[
    UserMessage
    | UserInterrupt
    | UserToolConfirmation
    | UserCustomToolResult
    | UserDefineOutcome
    | UserToolResult
    | SystemMessage,
    Field(discriminator="type"),
]
InitialEvent = Annotated[UserMessage | UserDefineOutcome, Field(discriminator="type")]


def _in_order(events: list[SentEvent]) -> list[SentEvent]:
    for n, event in enumerate(events):
        if isinstance(event, SystemMessage) and (
            n != len(events) - 1 or n == 0 or events[n - 1].type not in _ACCOMPANIED
        ):
            raise PydanticCustomError(
                "system_message_place",
                "system.message must be the last event, immediately after the message or result that it accompanies",
            )
    return events


class EventsSend(Body):
    """Request to send events to a session."""

    events: Annotated[list[SentEvent], Field(min_length=1, max_length=MOST_SENT), AfterValidator(_in_order)] = Field(
        description="The events, in order; either all are accepted or none."
    )


class EventsSent(Shape):
    """The events that were sent."""

    data: list[dict[str, Any]] = Field(description="Each event with its `id` and its date, `processed_at`.")


#: Every type of event that the SDK knows, for filters; most are never met here.
EventType = Literal[
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "user.define_outcome",
    "user.tool_result",
    "system.message",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.custom_tool_use",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.thread_message_received",
    "agent.thread_message_sent",
    "agent.thread_context_compacted",
    "session.error",
    "session.status_rescheduled",
    "session.status_running",
    "session.status_idle",
    "session.status_terminated",
    "session.thread_created",
    "session.thread_status_running",
    "session.thread_status_idle",
    "session.thread_status_terminated",
    "session.thread_status_rescheduled",
    "session.updated",
    "session.usage",
    "span.outcome_evaluation_start",
    "span.outcome_evaluation_ongoing",
    "span.outcome_evaluation_end",
    "span.model_request_start",
    "span.model_request_end",
    "workflow_run.created",
    "workflow_run.status_running",
    "workflow_run.status_idle",
    "workflow_run.status_ended",
    "workflow_run.error",
    "workflow_run.phase_started",
    "workflow_run.phase_ended",
]


class EventPage(Shape):
    """A page of a session's events, oldest first by default."""

    data: list[dict[str, Any]] = Field(
        description="The events, each with `id`, `type`, `processed_at` and the other members of its type."
    )
    next_page: NextPage


def content_of(event: SentEvent) -> Event:
    """Return what is kept of a client's event, with the id it gets."""
    outcome = {"outcome_id": new_id("outc")} if isinstance(event, UserDefineOutcome) else {}
    return {"id": new_id("sevt"), **event.model_dump(exclude_none=True), **outcome}
