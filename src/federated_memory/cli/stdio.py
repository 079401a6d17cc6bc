"""`mcp stdio`: for clients that speak no HTTP, the running server, or the root itself (SPEC: CLI-15, CLI-16)."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from federated_memory.cli.backend import ensure_not_foreign, has_root, running_server
from federated_memory.errors import Forbidden, InvalidArgument, Locked
from federated_memory.operate.serving import read_generated_token
from federated_memory.settings import Settings

if TYPE_CHECKING:
    from federated_memory.cli.bridge import Target
    from federated_memory.service.services import Services

_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 15, 0.2


def serve_stdio(settings: Settings, *, machine: str, tool: str, ca_file: str) -> None:
    """Serve MCP on standard input and output until it ends.

    Raises:
        Unavailable, Forbidden: The server cannot be used, and why.
        Locked: Another process holds the root and serves only itself.
    """
    from federated_memory.logs import set_up_logs

    set_up_logs("WARNING", settings.log_format)
    target = _named(machine, tool, ca_file)
    for _ in range(1 if target else _LOCK_TRIES):
        if target is None and (server := running_server(settings)):
            target = _target(server.url, _token(settings), machine, tool, "")
        if target:
            _bridge(target)
            return
        try:
            _serve_root(settings, machine, tool)
        except Locked:
            time.sleep(_LOCK_PAUSE_SECONDS)
            continue
        return
    raise Locked(
        f"Another process uses {settings.root} for itself, such as a second `mcp stdio`",
        hint="Run the server (`federated-memory up` or `serve`): every client then shares it",
    )


def _named(machine: str, tool: str, ca_file: str) -> Target | None:
    """The server of MCP_MEMORY_URL; from the environment only, never from a `.env` file."""
    url = os.environ.get("MCP_MEMORY_URL", "")
    if not url:
        return None
    token = os.environ.get("MCP_MEMORY_TOKEN", "")
    if not token:
        raise InvalidArgument("MCP_MEMORY_URL is set, MCP_MEMORY_TOKEN is not", hint="Set it to an AI token")
    return _target(url, token, machine, tool, ca_file)


def _target(url: str, token: str, machine: str, tool: str, ca_file: str) -> Target:
    from federated_memory.cli.bridge import Target

    return Target(url, token, machine=machine, tool=tool, ca_file=ca_file)


def _token(settings: Settings) -> str:
    """The AI token for the server on this machine."""
    found = os.environ.get("MCP_MEMORY_TOKEN") or (
        settings.mcp_token.get_secret_value() if settings.mcp_token else read_generated_token(settings.root)
    )
    if not found:
        raise InvalidArgument("The running server's AI token is not known here", hint="Set MCP_MEMORY_TOKEN")
    return found


def _bridge(target: Target) -> None:
    import anyio

    from federated_memory.cli.bridge import run_bridge

    target.ensure_admitted()
    anyio.run(run_bridge, target)


def _serve_root(settings: Settings, machine: str, tool: str) -> None:
    import anyio

    from federated_memory.app import close_services, open_services

    if has_root(settings):
        ensure_not_foreign(settings)
    services = open_services(settings)
    try:
        anyio.run(_run, services, machine, tool)
    finally:
        close_services(services)


async def _run(services: Services, machine: str, tool: str) -> None:
    import anyio

    from federated_memory.app import background_work
    from federated_memory.auth.caller import Caller, Grant
    from federated_memory.cli.serve import ensure_tokens
    from federated_memory.service.observer import Observer
    from federated_memory.tools.context import STDIO_CALLER
    from federated_memory.tools.server import MemoryServer

    ensure_tokens(services)
    grant = services.core.tokens.verify(_token(services.core.settings))
    if not isinstance(grant, Grant):
        raise Forbidden("MCP_MEMORY_TOKEN is no token of this root", hint="Unset it to use the generated one")
    STDIO_CALLER.set(Caller(grant, machine=machine, tool=tool))
    async with background_work(services), anyio.create_task_group() as tasks:
        tasks.start_soon(_close_on_signal, services)
        server = MemoryServer(services, Observer(services.core, services.status))
        tasks.start_soon(server.notices.follow)
        await server.run_stdio_async()
        tasks.cancel_scope.cancel()


async def _close_on_signal(services: Services) -> None:
    """A thread waits for standard input and cannot be woken: close the root, and end without it."""
    import anyio
    import anyio.to_thread

    from federated_memory.app import close_services

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            await anyio.to_thread.run_sync(close_services, services)
            os._exit(0 if number == signal.SIGTERM else 130)
