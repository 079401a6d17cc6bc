"""`serve`: run the server until SIGTERM or Ctrl-C (SPEC: RUN-1 to RUN-5)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from federated_memory.errors import InvalidArgument, Unavailable
from federated_memory.operate.serving import inode_of
from federated_memory.settings import EXAMPLE_TOKENS, Settings, load_settings

if TYPE_CHECKING:
    from federated_memory.asgi import App
    from federated_memory.service.services import Services

logger = logging.getLogger(__name__)

CONTROL = "control.json"
_DRAIN_SECONDS = 3
_FIRST_HANDED_OVER = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("serve", help="run the server", description="Run the server until it is told to stop.")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    from federated_memory.app import close_services, open_services
    from federated_memory.asgi import build_app
    from federated_memory.logs import set_up_logs

    settings = load_settings()
    set_up_logs(settings.log_level, settings.log_format)
    _ensure_safe_tokens(settings)
    stop = _Stop()
    listeners = handed_over() or [_listen(settings.host, settings.port)]
    url = _url(listeners)
    services = open_services(settings)
    try:
        made = ensure_tokens(services)
        with _control_file(services, url):
            _greet(services, url, made)
            app = build_app(services)
            _collect_what_is_new()
            if not stop.is_asked:
                _serve(app, listeners, stop)
    finally:
        close_services(services)
        for listener in listeners:
            listener.close()
    return 0


class _Stop:
    """SIGTERM, from the first moment on. It only notes: an exception raised just anywhere can end inside a C extension
    that makes an error of its own from it."""

    def __init__(self) -> None:
        self.is_asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.is_asked = True


def _collect_what_is_new() -> None:
    """What was loaded stays: looking through it again and again would be most of what collecting costs."""
    gc.freeze()
    gc.set_threshold(700, 10, 10)  # Python's own; `start` had raised it


def _ensure_safe_tokens(settings: Settings) -> None:
    """Raises: InvalidArgument: the example tokens of `make run` where others can reach the server."""
    tokens = {token.get_secret_value() for token in (settings.mcp_token, settings.sync_token) if token}
    if tokens & EXAMPLE_TOKENS and not (settings.is_loopback_bind and settings.is_loopback_url):
        raise InvalidArgument(
            "The example tokens are for a loopback address only",
            hint="Set MCP_TOKEN and SYNC_TOKEN to secrets of yours",
        )


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that the address is known, and proven free, before anything else starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)  # from here on clients wait instead of being refused
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Cannot listen on {host}:{port} ({error.strerror})", hint="Set PORT to a free port, or stop what uses it"
        ) from error
    return listener


def handed_over() -> list[socket.socket]:
    """The sockets that systemd listens on for us (a `.socket` unit); none when this was started in another way."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "")
    return [socket.socket(fileno=_FIRST_HANDED_OVER + at) for at in range(int(count) if count.isdigit() else 0)]


def ensure_tokens(services: Services) -> bool:
    """Without MCP_TOKEN in the settings, use the generated ones; returns whether they were made now."""
    from federated_memory.auth.tokens import generated_tokens

    core = services.core
    if core.settings.mcp_token is not None:
        return False
    ai, sync, made = generated_tokens(core.root)
    core.tokens.add_fixed("ai", "ai", ai)
    if core.settings.sync_token is None:
        core.tokens.add_fixed("sync", "sync", sync)
    return made


def _url(listeners: list[socket.socket]) -> str:
    """Where the command line of this machine reaches us. Raises: InvalidArgument: nowhere."""
    listener = next((each for each in listeners if each.family != socket.AF_UNIX), None)
    if listener is None:
        raise InvalidArgument(
            "systemd listens on no port for this server", hint="Add ListenStream=127.0.0.1:8000 to its .socket unit"
        )
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _control_file(services: Services, url: str) -> Iterator[None]:
    """`_meta/control.json` while the server runs: how the command line reaches it, as admin. Mode 0600."""
    meta = services.core.root.meta
    token = "fm_control_" + secrets.token_urlsafe(32)
    services.core.tokens.add_fixed("control", "admin", token)
    told = {"url": url, "pid": os.getpid(), "token": token, "inode": inode_of(services.core.root.path)}
    meta.replace(CONTROL, json.dumps(told).encode() + b"\n")
    try:
        yield
    finally:
        meta.remove(CONTROL)


def _greet(services: Services, url: str, made: bool) -> None:
    """What a person needs next, on the terminal: the line that connects each client."""
    core = services.core
    public = (core.settings.public_url or url) + "/mcp"
    print(f"Federated Memory serves {public} from {core.root.path}")
    if core.settings.mcp_token is None:
        how = "made now" if made else "made at first start"
        token_file = core.root.path / "_meta" / "generated-tokens.env"
        print(f"Tokens: {how}, in {token_file}")
        value = f'$(sed -n s/^MCP_TOKEN=//p "{token_file}")'
    else:
        value = "dev-token" if core.settings.mcp_token.get_secret_value() == "dev-token" else "YOUR-TOKEN"
    if core.settings.sync_token is None and core.settings.mcp_token is not None:
        print("SYNC_TOKEN is not set: uploads are off.")
    print(
        "Connect an agent (once per machine):\n"
        f"  export MCP_MEMORY_TOKEN={value}\n"
        f"  Claude Code  claude mcp add --scope user --transport http memory {public}"
        ' --header "Authorization: Bearer $MCP_MEMORY_TOKEN"\n'
        f"  Codex        codex mcp add memory --url {public} --bearer-token-env-var MCP_MEMORY_TOKEN\n"
        f"  Gemini CLI   gemini mcp add --scope user --transport http memory {public}"
        ' --header "Authorization: Bearer $MCP_MEMORY_TOKEN"',
        flush=True,
    )


def _serve(app: App, listeners: list[socket.socket], stop: _Stop) -> None:
    import uvicorn

    from federated_memory.web.protocol import http_protocol

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Who waits for others is answered now, and open streams never end by themselves; whatever else is under way
            # gets the drain time.
            app.services.collaboration.waiting.stop()
            app.streams.end_event_streams()
            over = asyncio.get_running_loop().call_later(_DRAIN_SECONDS, app.streams.stop)
            try:
                await super().shutdown(sockets)
            finally:
                over.cancel()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn would raise the signal again at its end, and kill the process before the root is closed.
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            self.should_exit = self.should_exit or stop.is_asked
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        app.asgi,
        http=http_protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS + 1,
        timeout_keep_alive=75,
        lifespan="on",
    )
    server = Server(config)
    server.run(sockets=listeners)
    if not server.started:
        raise Unavailable("The server could not start", hint="Its log says why")
    logger.info("server stopped")
    sys.stdout.flush()
