"""Chooses the next call, from the resources in the model, and aims at the places where rules meet.

Owns no rule of the API and sends nothing. Instants are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.support.harness import NOON
from tests.support.model.contract import DEFAULT_SETTINGS, LAST_INSTANT, WORKER_WINDOW, Model
from tests.support.model.records import SECOND, Item, instant, rendered

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]
#: A method of the model, and its arguments.
Call = tuple[str, dict[str, Any]]

#: The agents' script: one call per turn, which stays unanswered for a day.
SCRIPT = {"steps": [{"use_custom_tool": {"name": "ask", "input": {}}}], "repeat": True, "result_limit_seconds": 86_400}
UNKNOWN_ENV = "env_01" + "u" * 22
UNKNOWN_WORK = "work_01" + "u" * 22
SELF_HOSTED = {"type": "self_hosted"}
MOST_ENVIRONMENTS = 3
MOST_ITEMS = 5
UNDER_LEASE = ("starting", "active", "stopping")
ANY_STATE = ("queued", *UNDER_LEASE, "stopped")
_ANYTHING = "call"
#: What may befall an item: the states it is in before, and calls by name (`Chooser`). Left to chance these take too long
#: to come about: what nobody has noticed yet, a second life in one instant, a message that waits.
STORIES: list[tuple[tuple[str, ...], list[str]]] = [
    *((ANY_STATE, n * [_ANYTHING]) for n in (1, 1, 2, 2, 3, 3, 4)),
    (("queued",), ["ack", "heartbeat"]),
    (("queued",), ["poll", "ack", "heartbeat", _ANYTHING]),
    (("queued",), ["poll", "change_clock", "poll"]),
    (UNDER_LEASE, ["lease_ends", "whatever"]),
    (UNDER_LEASE, ["lease_ends", "whatever"]),
    (UNDER_LEASE, ["heartbeat", "lease_ends", "whatever"]),
    (("starting", "active"), ["stop", "lease_ends", "whatever"]),
    (("starting", "active"), ["stop", "change_clock", "force"]),
    (UNDER_LEASE, ["poll", "next_timer", "next_timer", "whatever"]),
    (("active",), ["force", "message", "ack", "heartbeat"]),
    (("starting", "active"), ["heartbeat", "heartbeat"]),
    (UNDER_LEASE, ["message", "stop", "lease_ends", _ANYTHING]),
    (ANY_STATE, ["force", "change_clock", "message", _ANYTHING]),
    (("starting", "active", "stopped"), ["enqueue", "force", "enqueue"]),
    (("queued", "stopped"), ["message_once", "ack", "force", "message_once"]),
    (("queued",), ["poll", "poll", "poll", "delete_environment"]),
    (("active", "stopping"), ["tell", "force", "get_session", "archive_session"]),
    (("starting", "active"), ["tell", "stop", "lease_ends", "whatever"]),
    (UNDER_LEASE, ["tell", "interrupt", "force", _ANYTHING]),
    (ANY_STATE, ["archive_session", "tell", "message", _ANYTHING]),
    (ANY_STATE, ["tell", "delete_session", "message", "tell", "force"]),
    (ANY_STATE, ["fill_metadata", "fill_metadata"]),
    (ANY_STATE, ["label_environment", "label_environment"]),
]

_LONG_KEY, _LONG_VALUE = "k" * 65, "v" * 513
#: Patches of metadata: set, set to nothing, delete; too long, too many, and just not.
_PATCHES: st.SearchStrategy[dict[str, str | None]] = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "c", "ключ"]), st.sampled_from(["1", "2", "", None]), max_size=3),
    st.sampled_from(
        [
            {_LONG_KEY: "1"},
            {_LONG_KEY: None},
            {"a": _LONG_VALUE},
            {"": "x"},
            {"k" * 64: "v" * 512},
            {f"k{n}": "x" for n in range(13)},
            {f"k{n}": "x" for n in range(16)},
            {f"k{n}": None for n in range(12)},
            {**{f"n{n}": "x" for n in range(17)}, _LONG_KEY: _LONG_VALUE, "a": None},
        ]
    ),
)
_CONFIGS = st.sampled_from(
    [
        SELF_HOSTED,
        SELF_HOSTED,
        None,
        {"type": "cloud", "networking": {"type": "unrestricted"}, "packages": {"pip": ["pandas"], "apt": None}},
        {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["*.example.org"]}},
        {"type": "cloud", "networking": {"type": "limited", "allow_package_managers": True, "allow_mcp_servers": None}},
        {"type": "cloud", "packages": {"npm": ["left"], "pip": []}},
    ]
)
_SCOPES = st.sampled_from([None, None, None, None, "account", "organization"])
_UPDATES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([None, "renamed"]),
        "description": st.sampled_from([None, "", "what for"]),
        "config": _CONFIGS,
        "metadata": _PATCHES,
        "scope": _SCOPES,
    },
)
_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
#: Requests refused for their form: method, path, query, body, message.
_MALFORMED: list[tuple[str, str, dict[str, Any], Any, str]] = [
    ("POST", "/v1/environments", {}, {}, "name: Field required"),
    ("POST", "/v1/environments", {}, {"name": ""}, "name: String should have at least 1 character"),
    ("POST", "/v1/environments", {}, {"name": "n", "size": 1}, "size: Extra inputs are not permitted"),
    ("GET", "/v1/environments", {"limit": 0}, None, "limit: Input should be greater than or equal to 1"),
    ("GET", "/v1/environments", {"limit": 1001}, None, "limit: Input should be less than or equal to 1000"),
    ("GET", "/v1/environments", {"page": "page_1"}, None, "page: Invalid cursor"),
    ("GET", "ENV/work", {"page": "nonsense"}, None, "page: Invalid cursor"),
    ("GET", "ENV/work/poll", {"block_ms": 0}, None, "block_ms: Input should be greater than or equal to 1"),
    ("GET", "ENV/work/poll", {"block_ms": 1000}, None, "block_ms: Input should be less than or equal to 999"),
    ("GET", "ENV/work/poll", {"reclaim_older_than_ms": "1.5"}, None, f"reclaim_older_than_ms: {_INTEGER}"),
    ("POST", "ENV/work/WORK/heartbeat", {"desired_ttl_seconds": "1.5"}, None, f"desired_ttl_seconds: {_INTEGER}"),
    ("POST", "ENV/work/WORK/stop", {}, {"force": 1}, "force: Input should be a valid boolean"),
    ("POST", "ENV/work/WORK/stop", {}, {"why": "?"}, "why: Extra inputs are not permitted"),
    ("POST", "ENV/work/WORK", {}, {"metadata": {"a": 1}}, "metadata.a: Input should be a valid string"),
    (
        "POST",
        "/_emulator/clock",
        {},
        {"at": NOON},
        "mode: Give exactly one of mode, advance_seconds and advance_to_next",
    ),
]


def moments(model: Model) -> list[int]:
    """Return the instants to come at which something ends or becomes due, and those a microsecond beside."""
    due = []
    for environment in model.environments.values():
        due += [stamp + WORKER_WINDOW for stamp in environment.workers.values()]
        for item in environment.items.values():
            # Ends of leases that are over matter too: nothing may happen then any more.
            due += 3 * item.lease_ends[-3:]
            if item.state == "queued" and item.handed_out_at is not None:
                due += [item.handed_out_at + ms * 1000 for ms in (1, model.settings["reclaim_ms"])]
    return [at + beside for at in due for beside in (0, 0, 0, -1, 1) if at + beside >= model.now]


def time_passes(model: Model, draw: Draw) -> dict[str, Any]:
    """Return a change of the clock: by some time, or to just when something is due."""
    due = moments(model)
    if due and draw(st.integers(0, 2)):
        at = draw(st.sampled_from(due))
        if draw(st.booleans()):
            return {"advance_seconds": (at - model.now) / SECOND}
        return {"mode": "frozen", "at": rendered(at)}
    amounts = [0, 1, 1000, SECOND, 5 * SECOND, 30 * SECOND, 120 * SECOND, 300_500_000]
    return {"advance_seconds": draw(st.sampled_from(amounts) | st.integers(0, 400 * SECOND)) / SECOND}


_ABOUT_AN_ITEM = (
    *("poll", "ack", "ack", "heartbeat", "heartbeat", "stop", "update_work", "get_work", "get_work", "message"),
    *("list_work", "stats", "delete_environment", "enqueue", "tell", "tell", "interrupt", "archive_session"),
    *("delete_session", "get_session"),
)
_ABOUT_AN_ENVIRONMENT = [*(3 * ["update_environment"]), "archive_environment", "delete_environment", "enqueue"]


class Chooser:
    """Draws a call. A method draws the arguments of the model's method of its name.

    With a *focus*, an item, calls are about that or its environment wherever they can be.
    """

    def __init__(self, model: Model, draw: Draw, focus: Item | None = None) -> None:
        self._model = model
        self._draw = draw
        self._focus = focus
        self._environments = model.environments
        items = [item for each in model.environments.values() for item in each.items.values()]
        self._items = items if focus is None else [focus]
        rows = model.environments.values()
        self._live = [each.id for each in rows if not each.is_cloud and each.archived_at is None]

    def _pick(self, options: Sequence[T]) -> T:
        picked: T = self._draw(st.sampled_from(options))
        return picked

    def _often(self, *weighed: tuple[int, T]) -> T:
        """Draw a value as often as its weight says: the weightiest first, for Hypothesis favours the first ones."""
        ordered = sorted(weighed, key=lambda each: -each[0])
        return self._pick([value for weight, value in ordered for _ in range(weight)])

    def named(self, name: str) -> Call:
        """Return the call of a name in `STORIES`, and its arguments."""
        if name == _ANYTHING:
            name = self._any_name()
        elif name == "whatever":
            name = self._pick(_ABOUT_AN_ITEM)
        arguments = getattr(self, name)()
        return {
            "tell": "send",
            "interrupt": "send",
            "message": "enqueue",
            "message_once": "enqueue",
            "force": "stop",
            "lease_ends": "change_clock",
            "next_timer": "change_clock",
            "fill_metadata": "update_work",
            "label_environment": "update_environment",
        }.get(name, name), arguments

    def _any_name(self) -> str:
        states = {item.state for item in self._items}
        leased = bool(states & set(UNDER_LEASE))
        room = len(self._environments) < MOST_ENVIRONMENTS
        return self._often(
            ((1 if self._live else 60) * room, "create_environment"),
            (4, "update_environment"),
            (1, "archive_environment"),
            (1 if self._live or room else 60, "delete_environment"),
            (1, "get_environment"),
            (20 if not self._items else 6 if len(self._items) < MOST_ITEMS else 1, "enqueue"),
            (9 if "stopped" in states else 2, "message"),
            (8 if len(self._items) < MOST_ITEMS else 1, "create_session"),
            (5, "tell"),
            (2, "interrupt"),
            (1, "archive_session"),
            (1, "delete_session"),
            (1, "get_session"),
            (1, "list_sessions"),
            (7, "poll"),
            (9 if "queued" in states else 1, "ack"),
            (14 if leased else 1, "heartbeat"),
            (9 if leased else 4 if self._items else 1, "stop"),
            (2, "update_work"),
            (1, "get_work"),
            (2, "list_work"),
            (1, "list_environments"),
            (9, "change_clock"),
            (1, "change_settings"),
            (1, "malformed"),
        )

    # -- what a call is about

    def _environment(self) -> str:
        """Draw an environment: mostly a self-hosted one, live more often than archived, seldom an unknown one."""
        if self._focus is not None:
            return self._focus.environment
        rows = self._environments.values()
        queues = [each.id for each in rows if not each.is_cloud]
        return self._pick([*(8 * self._live), *(3 * queues), *(each.id for each in rows), UNKNOWN_ENV])

    def _item(self, *states: str) -> dict[str, Any]:
        """Draw an item: mostly one in *states*, seldom one that is not there."""
        wanted = [item for item in self._items if item.state in states]
        among = self._often((14, wanted or self._items), (5, self._items), (1, []))
        if among:
            # Every other time the oldest: a story needs several calls about one item.
            item = self._pick([*(among[:1] * len(among)), *among])
            astray = self._often((29, False), (1, True))
            return {"env": self._environment() if astray else item.environment, "work": item.id}
        return {"env": self._environment(), "work": self._pick([UNKNOWN_WORK, "work_1"])}

    # -- environments

    def create_environment(self) -> dict[str, Any]:
        metadata = {key: value for key, value in self._draw(_PATCHES).items() if value is not None}
        config = SELF_HOSTED if not self._live else self._draw(_CONFIGS)
        return {"body": {"name": "n", "config": config, "metadata": metadata, "scope": self._draw(_SCOPES)}}

    def update_environment(self) -> dict[str, Any]:
        env = self._focus.environment if self._focus else self._pick([*self._environments, UNKNOWN_ENV])
        return {"env": env, "body": self._draw(_UPDATES)}

    def label_environment(self) -> dict[str, Any]:
        return {"env": self._environment(), "body": {"metadata": self._draw(_PATCHES)}}

    def get_environment(self) -> dict[str, Any]:
        return {"env": self._environment()}

    archive_environment = stats = get_environment

    def delete_environment(self) -> dict[str, Any]:
        return {"env": self._environment(), "force": self._often((3, False), (1, True))}

    def list_environments(self) -> dict[str, Any]:
        return self._page("environments") | {"include_archived": self._draw(st.booleans())}

    # -- sessions

    def create_session(self) -> dict[str, Any]:
        return {"env": self._environment(), "messages": self._pick([0, 0, 1, 2])}

    def get_session(self) -> dict[str, Any]:
        """Draw a session: of an item, created or not; without one (cloud, deleted); seldom one that never was. Not one
        whose id several environments may have."""
        found = [item.session for item in self._items] + ([] if self._focus else [*self._model.sessions])
        own = [each for each in found if each.startswith("<")]
        return {"session": self._pick([*own, *own, *own, "session_unknown"])}

    archive_session = delete_session = get_session

    def list_sessions(self) -> dict[str, Any]:
        return self._page("sessions") | {"include_archived": self._draw(st.booleans())}

    def tell(self) -> dict[str, Any]:
        kinds = self._pick(
            [["user.message"], ["user.message"], ["user.message", "user.interrupt"], 2 * ["user.message"]]
        )
        return {**self.get_session(), "kinds": kinds}

    def interrupt(self) -> dict[str, Any]:
        return {**self.get_session(), "kinds": ["user.interrupt"]}

    # -- operators

    def enqueue(self) -> dict[str, Any]:
        env = self._environment()
        requests = self._environments[env].requests if env in self._environments else {}
        if self._often((2, False), (1, True)) and requests:
            key = self._pick(list(requests))
            count, sessions, metadata = requests[key]
            body = {"session_id": sessions[0]} if sessions else {"count": self._often((3, count), (1, 2))}
            return {"env": env, "body": body | {"metadata": metadata, "idempotency_key": key}}
        if self._often((2, False), (1, True)):
            session = self._pick([None, None, "session_1", "sesn_1", "session_2"])
            body = {"session_id": session} if session else {"count": self._pick([1, 2])}
            metadata = {key: value for key, value in self._draw(_PATCHES).items() if value is not None}
            body |= {"metadata": self._pick([{}, metadata]), "idempotency_key": self._pick(["key", "other", None])}
            return {"env": env, "body": body}
        return {"env": env, "body": {"count": self._pick([1, 1, 2, 3])}}

    def message(self) -> dict[str, Any]:
        stopped = [item for item in self._items if item.state == "stopped"]
        if not self._items:
            return {"env": self._environment(), "body": {"session_id": "session_1"}}
        item = self._pick(self._often((3, stopped or self._items), (1, self._items)))
        return {"env": item.environment, "body": {"session_id": item.session}}

    def message_once(self) -> dict[str, Any]:
        """Draw a message under a key of its own: however often it is sent, it counts once."""
        sent = self.message()
        return {"env": sent["env"], "body": sent["body"] | {"idempotency_key": "for " + sent["body"]["session_id"]}}

    def stop(self) -> dict[str, Any]:
        states = self._pick([UNDER_LEASE, ("queued",)])
        return {**self._item(*states), "force": self._pick([None, None, False, True, True])}

    def force(self) -> dict[str, Any]:
        return {**self._item(*ANY_STATE), "force": True}

    def update_work(self) -> dict[str, Any]:
        return {**self._item(), "metadata": self._draw(st.none() | _PATCHES)}

    def fill_metadata(self) -> dict[str, Any]:
        """Draw a patch that two of which may be too much, though each is not."""
        patch = {f"{self._pick('km')}{n}": "x" for n in range(self._pick([8, 12, 16]))}
        return {**self._item(), "metadata": patch}

    def get_work(self) -> dict[str, Any]:
        return self._item()

    def list_work(self) -> dict[str, Any]:
        env = self._environment()
        return {"env": env, **self._page(f"work {env}")}

    def _page(self, name: str) -> dict[str, Any]:
        """Draw a page of a list: from its start, or from where an answer said to go on, however long ago."""
        own = [cursor for cursor, (of, _) in self._model.cursors.items() if of == name]
        every = list(self._model.cursors)
        pages: list[str | None] = [None, *own[-4:], *own[-4:], *every[-1:]]
        return {"limit": self._pick([1, 1, 2, 3, 1000]), "page": self._pick(pages)}

    def change_clock(self) -> dict[str, Any]:
        if self._often((19, False), (1, True)):
            return {"body": {"mode": "frozen", "at": rendered(self._pick([self._model.now - 1, LAST_INSTANT + 1]))}}
        return {"body": time_passes(self._model, self._draw)}

    def next_timer(self) -> dict[str, Any]:
        # Not to that of an agent that waits for a result: the model knows nothing of those.
        kinds = ["reclaim", "lapse", "startup_lease", "wind_down", "poller_window"]
        return {"body": {"advance_to_next": True, "timer": self._pick(kinds)}}

    def lease_ends(self) -> dict[str, Any]:
        """Draw a change of the clock to when the lease of the item in focus ends."""
        end = None if self._focus is None else self._focus.lease_end
        if end is None:
            return self.change_clock()
        at = end + self._often((6, 0), (1, -1), (1, SECOND))
        return {"body": {"mode": "frozen", "at": rendered(max(at, self._model.now))}}

    def change_settings(self) -> dict[str, Any]:
        return {"body": {self._pick(list(DEFAULT_SETTINGS)): self._pick([None, 1, 7, 3600])}}

    # -- workers

    def poll(self) -> dict[str, Any]:
        env = self._environment()
        age: int | None = self._pick([None, None, None, 1])
        queue = self._environments[env].queue() if env in self._environments else []
        since = [item.handed_out_at for item in queue if item.handed_out_at is not None]
        if since and not self._draw(st.integers(0, 1)):
            # Just reached, or missed by less than a millisecond.
            age = max((self._model.now - self._pick(since)) // 1000 + self._pick([0, 1]), 1)
        return {"env": env, "worker": self._pick([None, "", "w1", "w2"]), "reclaim_older_than_ms": age}

    def ack(self) -> dict[str, Any]:
        return self._item("queued")

    def heartbeat(self) -> dict[str, Any]:
        chosen = self._item(*self._often((6, ("starting", "active")), (1, ("stopping",))))
        ttl = self._pick([None, None, None, 1, 2, 30, 3600, 0, -5, 4000, 10**20])
        return {**chosen, "expected": self._expected(chosen["work"]), "ttl": ttl}

    def _expected(self, work: str) -> str | None:
        """Draw a worker's idea of an item's heartbeat: right, omitted, stale, another item's, misspelt."""
        item = next((item for item in self._items if item.id == work), None)
        stored = rendered(item.beat) if item else None
        kind = self._often((8, "right"), (3, "omitted"), (4, "stale"), (3, "others"), (4, "wrong"))
        past = [rendered(beat) for beat in item.beats if beat != item.beat] if item else []
        others = [rendered(beat) for each in self._items for beat in each.beats if each is not item]
        if kind == "right":
            return stored or "NO_HEARTBEAT"
        if kind == "omitted":
            return self._pick([None, ""])
        if kind == "stale" and past:
            return self._pick(past)
        if kind == "others" and others:
            return self._pick(others)
        if stored is None:
            return self._pick(["no_heartbeat", "NULL", rendered(self._model.now)])
        at = instant(stored)
        spellings = [stored.replace("Z", "+00:00"), stored.lower(), stored[:-2] + "Z", "0"]
        return self._pick([rendered(at + 1), rendered(at - 1), "NO_HEARTBEAT", "NO_HEARTBEAT", *spellings])

    # -- form

    def malformed(self) -> dict[str, Any]:
        method, path, query, body, message = self._pick(_MALFORMED)
        chosen = self._item()
        path = path.replace("ENV", "/v1/environments/" + chosen["env"]).replace("WORK", chosen["work"])
        return {"message": message, "request": {"method": method, "path": path, "query": query, "body": body}}


def some_item(model: Model, states: tuple[str, ...]) -> st.SearchStrategy[Item | None]:
    """Draw an item: one in these states, else any, if there is one."""
    every = [item for each in model.environments.values() for item in each.items.values()]
    items: list[Item | None] = [item for item in every if item.state in states]
    return st.sampled_from(items or every or [None])


@st.composite
def calls(draw: Draw, model: Model, name: str = _ANYTHING, focus: Item | None = None) -> Call:
    """Draw the next call, by name; as long as there is a *focus*, about that or its environment wherever it can be."""
    gone = focus is None or focus.environment not in model.environments
    return Chooser(model, draw, None if gone else focus).named(name)


#: Calls of several steps: their answers may mix several instants.
_NOT_AT_ONCE = ("create_session", "list_sessions")


@st.composite
def rival_calls(draw: Draw, model: Model) -> list[Call]:
    """Draw two to four calls to make concurrently, mostly about one item or its environment."""
    focus = draw(some_item(model, ANY_STATE)) if draw(st.integers(0, 5)) else None
    names = draw(st.sampled_from([["whatever"], [_ANYTHING], ["whatever", _ANYTHING], _ABOUT_AN_ENVIRONMENT]))
    count = draw(st.integers(2, 4))
    every = [calls(model, draw(st.sampled_from(names)), focus) for _ in range(count)]
    return [draw(each.filter(lambda call: call[0] not in _NOT_AT_ONCE)) for each in every]
