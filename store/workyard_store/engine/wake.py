"""Messages of the wake channel: the only place that writes and reads them.

The wake channel `<prefix>:wake` is a Redis publish/subscribe channel that every server process subscribes to once. Lua
scripts publish on it in the step that changes something, with `announce` of `lua/_environment.lua`; Python publishes with
`Engine.publish` and `Engine.publish_counted`. A message is one line of text, its words separated by one space:

| text                                | type             | published when                                                  |
|-------------------------------------|------------------|-----------------------------------------------------------------|
| `work <environment>`                | `WorkReady`      | an item entered the queue: one blocked poll tries again         |
| `changed <environment>`             | `Changed`        | its clock, settings or keys changed, or it was deleted or restored |
| `agent <environment>`               | `AgentDue`       | the instant may have come for which an agent waits              |
| `watched <environment>`             | `Watched`        | a watched environment changed, or a new one was created         |
| `events <session>`                  | `SessionEvents`  | a session has new events                                        |
| `deleted <session> <instant us>`    | `SessionDeleted` | a session was deleted                                           |
| `ask <question> <kind> <argument>`  | `Question`       | a server process asks all processes (`peers.py`)                |
| `answer <question> <process> <word>` | `Answer`        | a server process answers                                        |

The last part of `ask` and `answer` extends to the end of the line; it may contain spaces, and may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkReady:
    """An item entered an environment's queue: the first blocked poll tries again."""

    environment_id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """An environment's clock, settings or keys changed, or it was deleted or restored: every blocked poll tries again."""

    environment_id: str


@dataclass(frozen=True, slots=True)
class AgentDue:
    """The instant may have come for which an agent of an environment waits."""

    environment_id: str


@dataclass(frozen=True, slots=True)
class Watched:
    """Something changed in a watched environment, or a new environment was created."""

    environment_id: str


@dataclass(frozen=True, slots=True)
class SessionEvents:
    """A session has new events."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    """A session was deleted at an instant, in microseconds of its workspace's clock."""

    session_id: str
    deleted_at: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question to all server processes.

    Attributes:
        id: `<process>.<number>`: the process that asks, and the number of its question.
        kind: one word.
        argument: any text in one line.
    """

    id: str
    kind: str
    argument: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one server process.

    Attributes:
        question: the id of the question.
        process: the process that answers.
        word: its answer, any text in one line.
    """

    question: str
    process: str
    word: str


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages may have been missed: the subscription has just begun, or was lost. It is never published."""


#: What is published.
Message = WorkReady | Changed | AgentDue | Watched | SessionEvents | SessionDeleted | Question | Answer
#: What a subscriber gets.
Heard = Message | Missed

_OF_ENVIRONMENT: dict[str, type[WorkReady | Changed | AgentDue | Watched]] = {
    "work": WorkReady,
    "changed": Changed,
    "agent": AgentDue,
    "watched": Watched,
}


def encode(message: Message) -> str:
    """Return the text of a message."""
    match message:
        case WorkReady(environment_id):
            return f"work {environment_id}"
        case Changed(environment_id):
            return f"changed {environment_id}"
        case AgentDue(environment_id):
            return f"agent {environment_id}"
        case Watched(environment_id):
            return f"watched {environment_id}"
        case SessionEvents(session_id):
            return f"events {session_id}"
        case SessionDeleted(session_id, deleted_at):
            return f"deleted {session_id} {deleted_at}"
        case Question(id_, kind, argument):
            return f"ask {id_} {kind} {argument}"
        case Answer(question, process, word):
            return f"answer {question} {process} {word}"


def decode(text: str) -> Message:
    """Return the message of a text.

    Raises:
        ValueError: it is not a message.
    """
    kind, _, rest = text.partition(" ")
    if kind in _OF_ENVIRONMENT and rest:
        return _OF_ENVIRONMENT[kind](rest)
    if kind == "events" and rest:
        return SessionEvents(rest)
    match kind, rest.split(" ", 2):
        case "deleted", [session_id, deleted_at] if deleted_at.isdecimal():
            return SessionDeleted(session_id, int(deleted_at))
        case "ask", [id_, question_kind, argument]:
            return Question(id_, question_kind, argument)
        case "answer", [question, process, word]:
            return Answer(question, process, word)
    raise ValueError(f"not a message of the wake channel: {text!r}")
