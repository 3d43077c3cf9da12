"""The command `workyard`. Owns options, texts and exit codes; the work is done by the server it starts or calls."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workyard_store.errors import InvalidRequest, StartupRefused

from .. import __version__
from ..client.environment import API_HEADERS, exports

if TYPE_CHECKING:
    from workyard_queue.agent import Script

DEFAULT_URL = "http://127.0.0.1:4010"
DEFAULT_API_KEY = "workyard-local"
_TIMEOUT_S = 30.0
#: Signals to `workyard run` that are meant for its command.
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else (signal.SIGTERM,)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workyard")
def main() -> None:
    """A local emulator of the Environments and Work API of Claude Managed Agents.

    `workyard serve` starts it, with nothing else installed. `workyard run -- CMD` starts it for one command.
    """


# -- serve ----------------------------------------------------------------------------------------------------


class _Serve(click.Command):
    """A command with an option for each setting; its default and its help are the setting's own.

    They are made when they are asked for: no other command has to wait until the settings are imported.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options."""
        if not self.params:
            self.params = list(_settings_options())
        return super().get_params(ctx)


def _settings_options() -> Iterator[click.Parameter]:
    from ..settings import Settings

    for name, field in Settings.model_fields.items():
        variable = f"WORKYARD_{name.upper()}"
        declared = [f"--{name.replace('_', '-')}", name]
        if field.annotation is bool:
            yield click.Option(declared, is_flag=True, default=None, help=f"{field.description} [{variable}]")
            continue
        default = "unset" if field.default is None else field.default
        text = f"{field.description} [{variable}; default: {default}]"
        yield click.Option(declared, default=None, metavar=_metavar(field.annotation), help=text)


def _metavar(annotation: Any) -> str:
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "|".join(choices)
    return "N" if annotation is int else "TEXT"


@main.command(cls=_Serve)
def serve(**options: Any) -> None:
    """Start the server. It prints a line when it is ready, then what a client must export."""
    # Starting makes no garbage worth collecting: to look for it would take a tenth of a second of the start.
    gc.disable()
    from ..observability import logs
    from ..serving.server import serve as run_server
    from ..serving.server import spare_collections
    from ..settings import load

    def ready(url: str, engine: str, seeded: Mapping[str, str]) -> None:
        spare_collections()
        gc.enable()
        click.echo(f"Workyard {__version__} is ready at {url} (engine: {engine})")
        for name, value in {**exports(url, DEFAULT_API_KEY), **seeded}.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()

    try:
        settings = load(**options)
        logs.configure(settings.log_level, settings.log_format)
        run_server(settings, ready)
    except StartupRefused as refusal:
        raise click.ClickException(refusal.message) from None
    finally:
        gc.enable()


# -- what a client needs --------------------------------------------------------------------------------------


def _with_environment(url: str, api_key: str, name: str) -> dict[str, str]:
    """Create a self-hosted environment and a key for it; return all exports."""
    body = {"name": name, "config": {"type": "self_hosted"}}
    environment = _call(url, api_key, "POST", "/v1/environments", body)["id"]
    key = _call(url, api_key, "POST", f"/_emulator/environments/{environment}/keys", {"name": name})["key"]
    return exports(url, api_key, environment, key)


def _server_options(command: _F) -> _F:
    command = click.option(
        "--api-key",
        envvar=["WORKYARD_API_KEY", "ANTHROPIC_API_KEY"],
        default=DEFAULT_API_KEY,
        help="API key: the workspace to act in. [WORKYARD_API_KEY, ANTHROPIC_API_KEY; default: workyard-local]",
    )(command)
    return click.option(
        "--url",
        envvar="WORKYARD_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="Where the server is. [WORKYARD_URL]",
    )(command)


@main.command()
@click.option(
    "--url", envvar="WORKYARD_URL", default=DEFAULT_URL, show_default=True, help="Where the server is. [WORKYARD_URL]"
)
@click.option(
    "--api-key",
    envvar="WORKYARD_API_KEY",
    default=DEFAULT_API_KEY,
    show_default=True,
    help="API key to export. [WORKYARD_API_KEY]",
)
@click.option("--create", metavar="NAME", help="Make a self-hosted environment and a key for it first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def env(url: str, api_key: str, create: str | None, as_json: bool) -> None:
    """Print what a client must export: eval "$(workyard env)"."""
    variables = exports(url, api_key) if create is None else _with_environment(url, api_key, create)
    if as_json:
        click.echo(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--redis-url",
    envvar="WORKYARD_REDIS_URL",
    help="Redis to keep the state in; unset: the embedded engine. [WORKYARD_REDIS_URL]",
)
@click.option(
    "--log-level", envvar="WORKYARD_LOG_LEVEL", default="warning", show_default=True, help="Log level of the server."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(redis_url: str | None, log_level: str, command: tuple[str, ...]) -> None:
    """Start a server on a free port, export all a client and a worker need, run COMMAND, exit with its code."""
    arguments = [
        sys.executable,
        "-m",
        "workyard",
        "serve",
        "--port",
        "0",
        "--host",
        "127.0.0.1",
        "--log-level",
        log_level,
    ]
    # By the environment, not as an argument: everybody may read those, and the URL may hold a password.
    inherited = dict(os.environ) if redis_url is None else {**os.environ, "WORKYARD_REDIS_URL": redis_url}
    held = _hold_signals()
    # A session of its own: Ctrl-C is for the command, which may still need the server to clean up.
    server = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=inherited, start_new_session=True
    )
    code = 1
    try:
        _handle_signals(lambda number: sys.exit(128 + number), held)
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"is ready at (\S+)", line)
        if found is None:
            raise click.ClickException("the server did not start; its own message is above")
        variables = _with_environment(found[1], DEFAULT_API_KEY, "workyard-run")
        code = _run_command(command, {**os.environ, **variables})
    finally:
        server.terminate()
        try:
            server.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
    sys.exit(code)


def _run_command(command: tuple[str, ...], environment: Mapping[str, str]) -> int:
    """Run a command, pass signals on to it, and return its exit code as a shell would say it."""
    held = _hold_signals()
    try:
        child = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        click.echo(f"workyard: command not found: {command[0]}", err=True)
        return 127
    except OSError as error:
        click.echo(f"workyard: cannot run {command[0]}: {error.strerror}", err=True)
        return 126
    _handle_signals(child.send_signal, held)
    # A terminal sends Ctrl-C to the whole group: the command has it already.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = child.wait()
    return 128 - code if code < 0 else code


def _hold_signals() -> list[int]:
    """Keep signals while a process is being started that nobody could yet end; return the growing list of them."""
    held: list[int] = []
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: held.append(number))
    return held


def _handle_signals(handle: Callable[[int], object], held: list[int]) -> None:
    """Handle signals from now on, the held ones first."""
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: handle(number))
    for earlier in held:
        handle(earlier)


# -- twins of control endpoints -------------------------------------------------------------------------------


def _control_token() -> dict[str, str]:
    """Return the header for the control plane of a server that protects it: the variable is the same as the server's."""
    token = os.environ.get("WORKYARD_CONTROL_TOKEN")
    if token and not all("!" <= each <= "~" for each in token):
        raise click.ClickException("WORKYARD_CONTROL_TOKEN: String should match pattern '^[!-~]+$'")
    return {"workyard-control-token": token} if token else {}


def _call(url: str, api_key: str, method: str, path: str, body: Mapping[str, Any] | str | None = None) -> Any:
    """Call the server and return its JSON, or the text of what is not; a *body* that is text goes as it is, as YAML.

    Raises:
        click.ClickException: it cannot be reached, or it refused; the text is its own message.
    """
    # Not through a proxy of the environment's: the server is on this machine or next to it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    kind, text = ("yaml", body) if isinstance(body, str) else ("json", None if body is None else json.dumps(body))
    try:
        request = urllib.request.Request(
            url.rstrip("/") + path,
            method=method,
            data=None if text is None else text.encode(),
            headers={"x-api-key": api_key, "content-type": f"application/{kind}", **API_HEADERS, **_control_token()},
        )
        with direct.open(request, timeout=_TIMEOUT_S) as response:
            as_json = response.headers.get_content_type() == "application/json"
            return json.load(response) if as_json else response.read().decode()
    except urllib.error.HTTPError as error:
        try:
            message = json.load(error)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {error.code}: is this a Workyard server?"
        raise click.ClickException(message) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"no answer from {url}: {reason}. Is `workyard serve` running there?") from None


@main.command()
@_server_options
@click.argument("environment_id")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 10_000), help="How many items.")
@click.option("--session-id", help="The session to run, count 1 only; if it has an item, that gets a message.")
def enqueue(url: str, api_key: str, environment_id: str, count: int, session_id: str | None) -> None:
    """Enqueue work in an environment; prints the ids of the items."""
    path = f"/_emulator/environments/{urllib.parse.quote(environment_id, safe='')}/work"
    for item in _call(url, api_key, "POST", path, {"count": count, "session_id": session_id})["data"]:
        click.echo(item["id"])


@main.group()
def clock() -> None:
    """Read and change a workspace's clock (docs/clock.md)."""


def _show(reading: Mapping[str, Any]) -> None:
    """Print clocks, each with the timers that it has ahead or has fired."""
    for row in reading.get("data", [reading]):
        of = f"{row['workspace']}: " if "workspace" in row else ""
        click.echo(f"{of}{row['now']} ({row['mode']}, {row['ahead_seconds']:+.6f} s)")
        for timer in row.get("fired", row.get("timers", [])):
            wait = f", in {timer['in_seconds']:.6f} s" if "in_seconds" in timer else ""
            about = timer["worker_id"] or " ".join(filter(None, (timer["work_id"], timer["session_id"])))
            click.echo(f"  {timer['at']} {timer['timer']} {timer['environment_id']} {about}{wait}")
        if row.get("more"):
            click.echo("  … and more")


def _change_clock(url: str, api_key: str, **change: Any) -> None:
    _show(_call(url, api_key, "POST", "/_emulator/clock", change))


@clock.command("show")
@_server_options
def clock_show(url: str, api_key: str) -> None:
    """Print the workspace's clock, and the timers it has ahead."""
    _show(_call(url, api_key, "GET", "/_emulator/clock"))


@clock.command("advance")
@_server_options
@click.argument("duration")
def clock_advance(url: str, api_key: str, duration: str) -> None:
    """Move the clock forward, e.g. by 30s, 500ms, 2m, 1h; a bare number means seconds. Prints what fires."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise click.BadParameter("write it as 30s, 500ms, 2m, 1h or a number of seconds", param_hint="DURATION")
    _change_clock(url, api_key, advance_seconds=float(found[1]) * _UNITS[found[2]])


@clock.command("next")
@_server_options
@click.option(
    "--timer", metavar="KIND", help="Go to the next of this kind: lapse, reclaim, …; those before it fire, too."
)
def clock_next(url: str, api_key: str, timer: str | None) -> None:
    """Move the clock to the next timer, and print what fires; where none is pending, it stays as it is."""
    _change_clock(url, api_key, advance_to_next=True, timer=timer)


@clock.command("auto")
@_server_options
def clock_auto(url: str, api_key: str) -> None:
    """Stop the clock, and let it jump to the next timer by itself whenever everybody waits."""
    _change_clock(url, api_key, mode="auto")


@clock.command("freeze")
@_server_options
@click.option("--at", help="RFC 3339 instant to stand at; not before the workspace's now.")
def clock_freeze(url: str, api_key: str, at: str | None) -> None:
    """Stop the clock, where it is or at a later instant."""
    _change_clock(url, api_key, mode="frozen", at=at)


@clock.command("real")
@_server_options
def clock_real(url: str, api_key: str) -> None:
    """Let the clock tick on from its current instant."""
    _change_clock(url, api_key, mode="real")


@main.group()
def scripts() -> None:
    """Check, give and follow the scripts of agents (docs/agent-scripts.md)."""


def _script(path: str) -> tuple[str, Script]:
    """Read a script from a file; `-` is standard input. Return its text, too.

    Raises:
        click.ClickException: it is no script; the text names each step and field.
    """
    from workyard_queue.agent import parse_script

    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            text = file.read()
        return text, parse_script(text)
    except (InvalidRequest, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: {getattr(error, 'message', 'not UTF-8')}") from None


def _script_path(name: str | None, session: str | None) -> str:
    if session is not None:
        return f"/_emulator/sessions/{urllib.parse.quote(session, safe='')}/script"
    return f"/_emulator/scripts/{urllib.parse.quote(name or 'default', safe='')}"


@scripts.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def scripts_check(file: str) -> None:
    """Check a script in YAML or JSON, without a server; exits with 1 and names each step and field that is wrong."""
    _, checked = _script(file)
    click.echo(f"{file}: {len(checked.steps)} steps, no problem")


@scripts.command("set")
@_server_options
@click.option("--session", "session_id", metavar="ID", help="For this session, from its next message on.")
@click.option("--name", metavar="NAME", help="Keep it under this name; unset: as the workspace's default.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def scripts_set(url: str, api_key: str, session_id: str | None, name: str | None, file: str) -> None:
    """Give a session, or the workspace, a script in YAML or JSON."""
    if session_id is not None and name is not None:
        raise click.UsageError("--session and --name exclude each other")
    text, _ = _script(file)
    _call(url, api_key, "PUT", _script_path(name, session_id), text)
    click.echo(f"set for session {session_id}" if session_id else f"set as {name or 'default'}")


@scripts.command("show")
@_server_options
@click.argument("session_id")
@click.option("--json", "as_json", is_flag=True, help="Print the script and the report as one JSON object.")
def scripts_show(url: str, api_key: str, session_id: str, as_json: bool) -> None:
    """Print how far the script of a session has come; exits with 1 when something did not go by it."""
    found = _call(url, api_key, "GET", _script_path(None, session_id))
    report = found["report"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        step = "-" if report["step"] is None else report["step"]
        click.echo(f"{report['progress']} (step {step} of {report['steps']}, {found['source']}): {report['reason']}")
        for each in report["open_calls"]:
            until = f" until {each['until']}" if each["until"] else ""
            click.echo(f"open: {each['name']} {each['id']} waits for its {each['waits_for']}{until}")
        for each in report["unexpected"]:
            click.echo(f"unexpected: {each['event_id']} {each['call_id']} {each['problem']}")
        for each in report["timeouts"]:
            click.echo(f"timeout: step {each['step']} {each['name']} {each['call_id']}: no {each['waited_for']}")
    if report["turns_failed"] or report["unexpected_count"] or report["timeouts_count"]:
        sys.exit(1)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@main.command()
@_server_options
@click.argument("folder", type=_FOLDER)
@click.option("--id", "skill_id", help="Id for the skill, `skill_…`; unset: it follows from workspace and name.")
def skill(url: str, api_key: str, folder: Path, skill_id: str | None) -> None:
    """Send FOLDER, which has a SKILL.md, as a skill that workers download; prints the skill's id.

    Name and description are those of SKILL.md. Other files than before make a new version. Hidden files are left out.
    """
    from ..client.folders import send_skill

    with _told():
        click.echo(send_skill(partial(_call, url, api_key), folder, skill_id))


@main.command()
@_server_options
@click.argument("folder", type=_FOLDER)
@click.option("--store", help="The memory store, `memstore_…`; unset: the newest of the name, or a new one.")
@click.option("--name", help="Name of the store, if none is given by its id; unset: that of the folder.")
@click.option("--pull", is_flag=True, help="The other way: write the memories of --store into FOLDER.")
def memory(url: str, api_key: str, folder: Path, store: str | None, name: str | None, pull: bool) -> None:
    """Make a memory store hold the files of FOLDER and nothing else; prints the store's id.

    Hidden files are left out. With --pull, files of FOLDER that the store does not have stay.
    """
    from ..client.folders import send_memories, write_memories

    call = partial(_call, url, api_key)
    with _told():
        if not pull:
            click.echo(send_memories(call, folder, name or folder.resolve().name, store))
        elif store is None:
            raise click.UsageError("--pull needs --store")
        else:
            click.echo(f"memories written: {write_memories(call, folder, store)}")


@contextmanager
def _told() -> Iterator[None]:
    """Tell the user what is wrong with a folder."""
    try:
        yield
    except InvalidRequest as error:
        raise click.ClickException(error.message) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


@main.group()
def state() -> None:
    """Save and load all that a workspace holds (docs/state.md)."""


@state.command("save")
@_server_options
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def state_save(url: str, api_key: str, file: str) -> None:
    """Write the workspace's state to FILE; `-` is standard output."""
    document = _call(url, api_key, "GET", "/_emulator/state")
    if file == "-":
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
        return
    from ..state.file import write_document

    with _told():
        write_document(Path(file), document)
    click.echo(f"saved {len(document['environments'])} environments to {file}")


@state.command("load")
@_server_options
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def state_load(url: str, api_key: str, file: str) -> None:
    """Put the state in FILE in place of all that the workspace holds; `-` is standard input."""
    try:
        with click.open_file(file, encoding="utf-8-sig") as opened:
            document = json.load(opened)
    except ValueError:
        raise click.ClickException(f"{file}: not JSON") from None
    done = _call(url, api_key, "PUT", "/_emulator/state", document)
    click.echo(f"loaded {done['environments']} environments, {done['work']} work items, {done['sessions']} sessions")


@main.command()
@_server_options
@click.argument("work_id")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as one JSON object.")
def timeline(url: str, api_key: str, work_id: str, as_json: bool) -> None:
    """Draw the life of a work item of the workspace, and say what it means; exits with 1 if that names a problem."""
    path = f"/_emulator/work/{urllib.parse.quote(work_id, safe='')}/timeline"
    found = _call(url, api_key, "GET", path)
    click.echo(
        json.dumps(found, indent=2) if as_json else _call(url, api_key, "GET", f"{path}?format=text"), nl=as_json
    )
    if any(finding["severity"] == "problem" for finding in found["diagnosis"]):
        sys.exit(1)


@main.command()
@_server_options
@click.option("--all", "everything", is_flag=True, help="All workspaces, not only the API key's.")
@click.option("--once", is_flag=True, help="Draw once and end.")
@click.option(
    "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Seconds between two looks."
)
def watch(url: str, api_key: str, everything: bool, once: bool, interval: float) -> None:
    """Watch the queues of the workspace and what happens in them, until Ctrl-C."""
    from .watch import watch as run_watch

    path = "/_emulator/queues" + ("?workspace=*" if everything else "")
    run_watch(partial(_call, url, api_key, "GET", path), f"Workyard at {url}", once=once, interval=interval)


@main.command()
@_server_options
@click.option("--all", "everything", is_flag=True, help="All workspaces, not only the API key's.")
@click.option("--follow", "-f", is_flag=True, help="Go on with the requests that come, until Ctrl-C.")
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@click.option("--on", help="Only this operation, or group of them: poll, heartbeat, sessions, …")
@click.option("--status", help="Only answers with this status: 409, or 4xx.")
@click.option("--environment", "environment_id", metavar="ID", help="Only those about this environment.")
@click.option("--work", "work_id", metavar="ID", help="Only those about this work item.")
@click.option("--session", "session_id", metavar="ID", help="Only those about this session and its work item.")
@click.option("--worker", "worker_id", metavar="ID", help="Only those of this worker (Anthropic-Worker-ID).")
def journal(url: str, api_key: str, everything: bool, follow: bool, **query: Any) -> None:
    """Print the last requests to the API, oldest first: when, status, operation, duration, about what, who, error."""
    from .journal import shown

    with suppress(KeyboardInterrupt):
        for line in shown(partial(_call, url, api_key), query, everything=everything, follow=follow):
            click.echo(line)


@main.command()
@_server_options
@click.option("--all", "everything", is_flag=True, help="All workspaces, not only the API key's.")
def reset(url: str, api_key: str, everything: bool) -> None:
    """Remove everything of the workspace, or of all."""
    done = _call(url, api_key, "POST", "/_emulator/reset" + ("?workspace=*" if everything else ""))
    click.echo(f"removed {done['removed_keys']} keys, {done['leftover_keys']} left over")
    if done["leftover_keys"]:
        sys.exit(1)


@main.command()
@_server_options
@click.option("--all", "everything", is_flag=True, help="All workspaces, not only the API key's.")
def invariants(url: str, api_key: str, everything: bool) -> None:
    """Recount the queues from the raw keys; exits with 1 when something contradicts their rules."""
    found = _call(url, api_key, "GET", "/_emulator/invariants" + ("?workspace=*" if everything else ""))
    for each in found["violations"]:
        click.echo(f"{each['rule']}: {each['environment_id']} {each['work_id'] or ''}: {each['message']}")
    checked = found["checked"]
    looked_at = f"{checked['items_looked_at']} of {checked['items']} items in {checked['environments']} environments"
    click.echo(f"{checked['violations']} violations; looked at {looked_at} and {checked['keys']} keys")
    if checked["violations"]:
        sys.exit(1)


# The group `faults` and the command `explain` add themselves.
from . import explain as cli_ledger  # noqa: E402, F401
from . import faults as cli_faults  # noqa: E402, F401
