"""The script of the scripted agent: its shape, its rules, its JSON Schema. `script_text.py` reads its text,
`play.py` plays it.

Steps are named after the events that they become. A script is checked completely before a session takes it; afterwards
only a worker can make it fail.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from .matcher import Matcher

MOST_STEPS = 500
MOST_CALLS = 32
LONGEST_TEXT = 65_536
RESULT_LIMIT_S = 600
LONGEST_WAIT_S = 86_400 * 365
SCHEMA_FILE = "script.schema.json"

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Permission = Literal["allow", "ask", "deny"]
CallEvent = Literal["agent.tool_use", "agent.custom_tool_use", "agent.mcp_tool_use"]
StopReason = Literal["end_turn", "retries_exhausted", "budget_reached", "refusal"]
ErrorType = Literal[
    "unknown_error",
    "model_overloaded_error",
    "model_rate_limited_error",
    "model_request_failed_error",
    "tool_use_limit_reached_error",
    "compaction_limit_reached_error",
    "billing_error",
]
RetryStatus = Literal["retrying", "exhausted", "terminal"]


class _Part(BaseModel):
    """JSON types are taken as they are, unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class GivenResult(_Part):
    """The result of a call that the service runs itself: no client is asked for it."""

    text: Text = Field("", description="The text of the result.")
    is_error: bool = Field(False, description="Whether the tool failed.")


class ToolCall(_Part):
    """A call of a tool of the agent toolset, such as `bash`."""

    event: ClassVar[CallEvent] = "agent.tool_use"
    name: Name = Field(description="The tool.")
    input: dict[str, JsonValue] = Field({}, description="What the tool is given; strings may hold placeholders.")
    permission: Permission = Field(
        "allow", description="allow: run it. ask: wait for a `user.tool_confirmation`. deny: it must not be run."
    )
    result: GivenResult | None = Field(
        None, description="The result, if the service runs the tool itself, as in a cloud environment. Null: a worker."
    )


class CustomToolCall(_Part):
    """A call of a tool that the client defined."""

    event: ClassVar[CallEvent] = "agent.custom_tool_use"
    permission: ClassVar[Permission] = "allow"
    result: ClassVar[GivenResult | None] = None
    name: Name = Field(description="The tool.")
    input: dict[str, JsonValue] = Field({}, description="What the tool is given; strings may hold placeholders.")


class McpToolCall(_Part):
    """A call of a tool of an MCP server, which the service runs."""

    event: ClassVar[CallEvent] = "agent.mcp_tool_use"
    server: Name = Field(description="The MCP server.")
    name: Name = Field(description="The tool.")
    input: dict[str, JsonValue] = Field({}, description="What the tool is given; strings may hold placeholders.")
    permission: Permission = Field(
        "allow", description="allow: run it. ask: wait for a `user.tool_confirmation`. deny: it must not be run."
    )
    result: GivenResult = Field(GivenResult(), description="The result.")


class Say(_Part):
    """Say something: an `agent.message`."""

    say: Annotated[Text, Field(min_length=1)] = Field(description="The text; may hold placeholders.")


class UseTool(_Part):
    """Call a tool of the toolset and wait for its result."""

    use_tool: ToolCall


class UseCustomTool(_Part):
    """Call a custom tool and wait for its result."""

    use_custom_tool: CustomToolCall


class UseMcpTool(_Part):
    """Call a tool of an MCP server."""

    use_mcp_tool: McpToolCall


class ExpectResult(_Part):
    """Fail the turn unless a result of the calls just made is as described."""

    expect_result: Matcher


class Wait(_Part):
    """Do nothing for a while of the workspace's time."""

    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = Field(description="Seconds.")


class Failure(_Part):
    """What a `session.error` says."""

    message: Text = Field(description="What went wrong, for people.")
    type: ErrorType = Field("unknown_error", description="The type of the error.")
    retry_status: RetryStatus = Field(
        "exhausted", description="retrying: the turn goes on. exhausted: it ends. terminal: the session terminates."
    )


class Fail(_Part):
    """Fail as the service does: a `session.error`."""

    fail: Failure


class _Bare(_Part):
    """A step that may be written as its name alone."""

    word: ClassVar[str]
    default: ClassVar[JsonValue]

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {cls.word: cls.default} if value == cls.word else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": cls.word}, handler.resolve_ref_schema(handler(core))]}


class Idle(_Bare):
    """End the turn; the next message goes on with the step after this one."""

    word: ClassVar[str] = "idle"
    default: ClassVar[JsonValue] = "end_turn"
    idle: StopReason = Field(description="The `stop_reason`.")


class Terminate(_Bare):
    """Terminate the session."""

    word: ClassVar[str] = "terminate"
    default: ClassVar[JsonValue] = True
    terminate: Literal[True]


Call = ToolCall | CustomToolCall | McpToolCall
AnyCallStep = UseTool | UseCustomTool | UseMcpTool


def _key(step: type[BaseModel]) -> str:
    """Return the key that says which step it is: the only field of the class."""
    return next(iter(step.model_fields))


def _kind(value: Any) -> str | None:
    """Return the key that says which step *value* is, or None."""
    if isinstance(value, BaseModel):
        return _key(type(value))
    if isinstance(value, dict):
        return str(next(iter(value))) if len(value) == 1 else None
    return value if value in ("idle", "terminate") else None


def _tagged(steps: tuple[type[BaseModel], ...]) -> Any:
    """Return the type of a step that is one of these classes; its only key selects the class."""
    names = ", ".join(map(_key, steps))
    # The type is made of the classes; to mypy it is the plain union of them.
    union: Any = Union[tuple(Annotated[step, Tag(_key(step))] for step in steps)]  # noqa: UP007
    return Annotated[
        union,
        Discriminator(_kind, custom_error_type="step", custom_error_message=f"Must have exactly one key, of {names}"),
    ]


if TYPE_CHECKING:
    CallStep = AnyCallStep
else:
    CallStep = _tagged(get_args(AnyCallStep))


class Together(_Part):
    """Make several calls at once and wait for all their results, in whatever order they come."""

    together: Annotated[list[CallStep], Field(min_length=1, max_length=MOST_CALLS)]


#: Every step. A class that is added here is read, described, and a type error in `play.py` until it is played.
AnyStep = AnyCallStep | Together | Say | ExpectResult | Wait | Idle | Terminate | Fail
if TYPE_CHECKING:
    Step = AnyStep
else:
    Step = _tagged(get_args(AnyStep))


def calls_of(step: object) -> Sequence[Call]:
    """Return the calls that a step makes, none if it is of another kind."""
    match step:
        case UseTool(use_tool=call) | UseCustomTool(use_custom_tool=call) | UseMcpTool(use_mcp_tool=call):
            return (call,)
        case Together(together=steps):
            return [call for each in steps for call in calls_of(each)]
    return ()


class Script(_Part):
    """What the scripted agent does, turn by turn. The first message starts it; `idle` ends a turn."""

    steps: Annotated[list[Step], Field(min_length=1, max_length=MOST_STEPS)] = Field(description="The steps, in order.")
    repeat: bool = Field(False, description="Whether a message after the end starts the script again.")
    result_limit_seconds: Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)] = Field(
        RESULT_LIMIT_S, description="How long a call waits for its result, or its confirmation, in workspace time."
    )

    @model_validator(mode="after")
    def _can_be_played(self) -> Script:
        calls: int | None = None
        last = len(self.steps) - 1
        for number, step in enumerate(self.steps):
            if made := calls_of(step):
                calls = len(made)
            match step:
                case ExpectResult(expect_result=matcher):
                    if calls is None:
                        raise _problem(f"{number}.expect_result", "No call before it in its turn")
                    if matcher.call >= calls:
                        raise _problem(
                            f"{number}.expect_result.call",
                            f"Must be less than {calls}, the number of calls before it",
                        )
                case Say(say=text) if calls is None and "{{result}}" in text:
                    raise _problem(f"{number}.say", "{{result}} has no call before it in its turn")
                case Terminate() | Fail(fail=Failure(retry_status="terminal")):
                    if number < last:
                        raise _problem(f"{number + 1}", "Cannot be reached: the session terminates before it")
                case Idle() | Fail(fail=Failure(retry_status="exhausted")):
                    calls = None
        return self

    @property
    def limit_us(self) -> int:
        """Return how long a call waits, in microseconds."""
        return round(self.result_limit_seconds * 1_000_000)

    @cached_property
    def uses_message(self) -> bool:
        """Return whether a step uses the text of the message: if not, the text need not be kept."""
        return "{{message}}" in self.model_dump_json()


def _problem(path: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("script", "{problem}", {"problem": f"steps.{path}: {message}"})


DEFAULT_SCRIPT = Script.model_validate(
    {
        "repeat": True,
        "steps": [{"use_tool": {"name": "bash", "input": {"command": "{{message}}"}}}, {"say": "{{result}}"}],
    }
)


def script_schema() -> str:
    """Return the published JSON Schema of scripts, as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Script.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
