"""`up`: the one command for a person with one machine (SPEC: CLI-18 to CLI-20)."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from federated_memory.cli.client_script import CLIENTS, install_arguments, run_client
from federated_memory.cli.output import plain, print_line
from federated_memory.cli.place import host_name
from federated_memory.errors import InvalidArgument, Unavailable
from federated_memory.operate.serving import read_generated_token
from federated_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from federated_memory.cli.remote import Remote
    from federated_memory.operate.user_service import UserService

_START_SECONDS, _POLL_SECONDS = 60.0, 0.1
_PORTS_TRIED = 20
_LOG_BYTES = 2_000
SERVE = (sys.executable, "-m", "federated_memory", "serve")


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "up",
        help="set everything up on this machine: server, agents, history",
        description="Make the memory root, run the server as a service of yours, connect the agents of this machine, "
        "and offer to send the sessions that are here already. Run it again whenever you like: what is there stays.",
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing: all agents, all history")
    parser.add_argument("--no-service", action="store_true", help="start the server in the background instead")
    parser.add_argument(
        "--client", action="append", default=[], choices=CLIENTS, metavar="NAME",
        help="only this agent; again for more: " + ", ".join(CLIENTS),
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print every change, and make none")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import running_server

    settings = load_settings()
    server = running_server(settings)
    if options.dry_run:
        return _show(options, settings, server)
    if server is None:
        server = _start(settings, with_service=not options.no_service)
    else:
        print_line(f"The server runs already at {server.url} (pid {server.pid}).")
        if not options.no_service and _is_no_service(settings):
            print_line(f"It is no service of yours: to make it one, `kill {server.pid}` and run this again.")
    arguments = install_arguments(server.url, host_name(), clients=options.client, yes=options.yes)
    code = run_client(arguments, ai_token=_token(settings, "MCP_TOKEN"), sync_token=_token(settings, "SYNC_TOKEN"))
    if code:
        print(
            f"federated-memory: the server runs at {server.url}, but connecting the agents ended with {code}; "
            "run `federated-memory up` again when what it said is mended",
            file=sys.stderr,
        )
        return 1
    print_line()
    print_line('Try it: open an agent in one of your projects and ask, "What do we know about this project?"')
    return 0


def _start(settings: Settings, *, with_service: bool) -> Remote:
    """Root and tokens made, the server running and answering."""
    from federated_memory.cli.backend import ensure_not_foreign, has_root
    from federated_memory.cli.init import make_root
    from federated_memory.operate.user_service import find_manager

    manager = find_manager() if with_service else None
    for name, value in _given_tokens(settings).items() if manager else ():
        if value and not os.environ.get(f"{name}_FILE"):
            raise InvalidArgument(
                f"{name} would have to stand in a service file",
                hint=f"Put it into a file and set {name}_FILE, or unset it: tokens are made by themselves",
            )
    if has_root(settings):
        ensure_not_foreign(settings)
    make_root(settings)
    print_line(f"Memory root: {settings.root.resolve()}")
    if not manager:
        return _start_in_background(settings, why="" if with_service else "as you asked")
    service = _service(settings, _free_port(settings))
    _ensure_own(service, settings)
    service.write()
    for command in service.commands():
        _run_manager(command, may_fail=command[1] == "bootout")  # which fails where nothing runs yet
    server = _wait(settings, lambda: None, service.log_hint)
    print_line(f"Server: {server.url}, as your own service ({service.path})")
    if service.kind == "systemd" and not Path("/var/lib/systemd/linger", getpass.getuser()).exists():
        print_line("It starts when you log in. To start it with the machine: loginctl enable-linger")
    return server


def _is_no_service(settings: Settings) -> bool:
    """Whether this machine could run it as a service, and does not."""
    from federated_memory.operate.user_service import find_manager

    return find_manager() is not None and not _service(settings, settings.port).installed_root


def _service(settings: Settings, port: int) -> UserService:
    from federated_memory.operate.user_service import find_manager, service_environment, user_service

    kind = find_manager()
    assert kind is not None
    return user_service(kind, SERVE, service_environment(settings, port), settings.root.resolve())


def _ensure_own(service: UserService, settings: Settings) -> None:
    """Raises: InvalidArgument: the service of this user serves another root."""
    installed = service.installed_root
    if installed and installed != str(settings.root.resolve()):
        raise InvalidArgument(
            f"Your service serves another root, {installed}",
            hint=f"Set MEMORY_ROOT to that, remove {service.path}, or use --no-service",
        )


def _run_manager(command: list[str], *, may_fail: bool) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        problem = (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem and not may_fail:
        raise Unavailable(
            f"`{' '.join(command)}` failed ({plain(problem)})", hint="Mend that, or run it with --no-service"
        )


def _start_in_background(settings: Settings, why: str) -> Remote:
    from federated_memory.operate.user_service import log_file, service_environment

    path = log_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = {name: value for name, value in _given_tokens(settings).items() if value}
    environment = {**os.environ, **given, **service_environment(settings, _free_port(settings))}
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        process = subprocess.Popen(
            SERVE, env=environment, cwd=settings.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def ended() -> str | None:
        return None if process.poll() is None else f"it ended: {_last_words(path)}"

    server = _wait(settings, ended, f"the log is {path}")
    print_line(f"Server: {server.url}, in the background (pid {server.pid}), log in {path}")
    print_line(
        f"It ends when this machine restarts ({why or 'no service manager of yours runs here'}): then run "
        f"`federated-memory up` again. To stop it: kill {server.pid}"
    )
    return server


def _last_words(path: Path) -> str:
    lines = path.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace").splitlines()
    return plain(lines[-1]) if lines else "it said nothing"


def _wait(settings: Settings, ended: Callable[[], str | None], where: str) -> Remote:
    """The server, as soon as it answers. Raises: Unavailable: it ended, or does not answer in time."""
    from federated_memory.cli.backend import running_server

    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        server = running_server(settings)
        if server:
            return server
        problem = ended()
        if problem:
            raise Unavailable(f"The server did not start: {problem}", hint=f"For more, {where}")
        time.sleep(_POLL_SECONDS)
    raise Unavailable(f"The server does not answer after {_START_SECONDS:.0f} seconds", hint=f"For why, {where}")


def _free_port(settings: Settings) -> int:
    """A port to keep: agents are told it. PORT if it was set; else the first free one from 8000 on."""
    if settings.port and "port" in settings.model_fields_set:
        return settings.port
    first = settings.port or type(settings).model_fields["port"].default
    for port in range(first, first + _PORTS_TRIED):
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((settings.host.strip("[]"), port))
            except OSError:
                continue
            return port
    raise Unavailable(f"Ports {first} to {first + _PORTS_TRIED - 1} are all in use", hint="Set PORT to a free one")


def _token(settings: Settings, name: str) -> str:
    """MCP_TOKEN or SYNC_TOKEN, as the server has it."""
    given = _given_tokens(settings)
    if given[name] or given["MCP_TOKEN"]:
        return given[name]  # MCP_TOKEN without SYNC_TOKEN: uploads are off
    return read_generated_token(settings.root, name)


def _given_tokens(settings: Settings) -> dict[str, str]:
    """Those that are not the generated ones; empty: not given."""
    found = {"MCP_TOKEN": settings.mcp_token, "SYNC_TOKEN": settings.sync_token}
    return {name: value.get_secret_value() if value else "" for name, value in found.items()}


def _show(options: argparse.Namespace, settings: Settings, server: Remote | None) -> int:
    """What would be done, and nothing of it."""
    from federated_memory.operate.user_service import find_manager

    if server is None:
        print_line(f"Would make the memory root {settings.root.resolve()}, if it is not there.")
        if find_manager() and not options.no_service:
            service = _service(settings, _free_port(settings))
            print_line(f"Would write {service.path}:" if not service.is_current else f"Would keep {service.path}.")
            if not service.is_current:
                for line in service.content.decode().splitlines():
                    print_line(f"  {line}")
            for command in service.commands():
                print_line(f"Would run: {' '.join(command)}")
        else:
            print_line(f"Would start in the background: {' '.join(SERVE)}")
        arguments = install_arguments("URL", host_name(), clients=options.client, yes=options.yes)
        print_line(f"Would then run: memory_sync.py {' '.join(arguments)}")
        return 0
    print_line(f"The server runs already at {server.url}.")
    arguments = install_arguments(server.url, host_name(), clients=options.client, yes=options.yes, dry_run=True)
    return run_client(arguments, ai_token=_token(settings, "MCP_TOKEN"), sync_token=_token(settings, "SYNC_TOKEN"))
