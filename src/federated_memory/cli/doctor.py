"""`doctor`: is everything set up as it should be? (SPEC: CLI-11, CLI-12)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from federated_memory.cli.output import json_option, print_json, print_line
from federated_memory.errors import FederatedMemoryError, InvalidArgument
from federated_memory.settings import Settings, load_settings

if TYPE_CHECKING:
    from federated_memory.cli.remote import Remote
    from federated_memory.operate.diagnosis import Row

EXIT_CODES = {"ok": 0, "warn": 1, "fail": 2}
_MUCH_BEHIND = 1_000
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "doctor",
        parents=[json_option()],
        help="find what is set up wrongly",
        description="Look at settings, root, machine and server. Exit code 0: all is well, 1: warnings, 2: failures.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    rows = list(_rows())
    worst = max((EXIT_CODES[row.state] for row in rows), default=0)
    if options.json:
        print_json({"ok": worst == 0, "checks": [asdict(row) for row in rows]})
        return worst
    width = max(len(row.name) for row in rows)
    for row in rows:
        print_line(f"{_MARKS[row.state]}  {row.name:<{width}}  {row.detail}")
        if row.hint and row.state != "ok":
            print_line(f"{'':{width + 8}}{row.hint}.")
    return worst


def _rows() -> Iterator[Row]:
    from federated_memory.operate.diagnosis import Row, diagnose, tools

    try:
        settings = load_settings()
    except InvalidArgument as error:
        yield Row("settings", "fail", error.message, error.hint)
        yield from tools()
        return
    yield Row("settings", "ok", "valid")
    yield from diagnose(settings)
    yield from _upkeep(settings)
    yield from _server(settings)


def _upkeep(settings: Settings) -> Iterator[Row]:
    from federated_memory.operate import upkeep

    yield from upkeep.bans(settings)
    if (settings.root / "_meta").is_dir():
        yield from upkeep.backups(settings.root)
        yield from upkeep.machines(settings.root)


def _server(settings: Settings) -> Iterator[Row]:
    from federated_memory.cli.backend import has_root, running_server
    from federated_memory.operate.diagnosis import Row, is_locked
    from federated_memory.operate.serving import read_control
    from federated_memory.operate.upkeep import certificate

    server = running_server(settings)
    control = read_control(settings.root)
    if server:
        yield from _answers(server)
        yield from certificate(settings, online=True)
        yield from _stream(settings, server)
        return
    yield from certificate(settings, online=False)
    if not has_root(settings):
        yield Row("server", "warn", "stopped", "Start it: federated-memory serve")
    elif is_locked(settings.root):
        at = f" at {control.url}" if control else ""
        yield Row(
            "server", "fail", f"a process holds the root, but no server of it answers{at}",
            "Run this where the server runs; if it hangs, restart it",
        )  # fmt: skip
    elif control:
        yield Row("server", "warn", "stopped, and not by itself", "Its log says why. Start it: federated-memory serve")
    else:
        yield Row("server", "warn", "stopped", "Start it: federated-memory serve")


def _answers(server: Remote) -> Iterator[Row]:
    """/healthz, /readyz, and a call that takes a token."""
    from federated_memory.operate.diagnosis import Row

    try:
        status, _ = server.link.exchange("GET", "/healthz")
        found = server.status()
    except FederatedMemoryError as error:
        yield Row("server", "fail", error.message, error.hint)
        return
    if status != 200:
        yield Row("server", "fail", f"/healthz answers with {status}", "Its log says why")
    yield Row("server", "ok", f"version {found.version} answers at {server.url} (pid {server.pid})")
    ready, _ = server.link.exchange("GET", "/readyz")
    if ready == 200:
        yield Row("ready", "ok", "yes")
    else:
        yield Row(
            "ready", "warn", "; ".join(found.reasons) or f"/readyz answers with {ready}", "Wait; then see its log"
        )
    index = found.index
    if index and index.state == "failing":
        yield Row("index", "warn", index.problem or "it does not follow", "Its log says why; `reindex` makes it anew")
    elif index and index.behind > _MUCH_BEHIND:
        yield Row("index", "warn", f"{index.behind:,} changes behind", "It catches up; searches read files meanwhile")
    elif index:
        yield Row("index", "ok", index.state)


def _stream(settings: Settings, server: Remote) -> Iterator[Row]:
    """A stream through the address that clients use: a proxy that buffers holds it back."""
    import http.client

    from federated_memory.operate.diagnosis import Row
    from federated_memory.operate.serving import read_control
    from federated_memory.operate.streaming import first_event_seconds

    control = read_control(settings.root)
    if control is None:
        return
    origin = settings.public_url or server.url
    host = "" if settings.public_url else "localhost"
    try:
        seconds = first_event_seconds(origin, control.token, ca=settings.tls_certificate, host=host)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        yield Row("stream", "warn", f"none comes through {origin} ({reason})", "Turn off buffering in the proxy")
    else:
        yield Row("stream", "ok", f"first event through {origin} after {1000 * seconds:.0f} ms")
