"""`mcp install` and `mcp stdio`: only the MCP entry of an agent, and MCP without HTTP (SPEC: CLI-15 to CLI-17)."""

from __future__ import annotations

import argparse
import os
import sys

from federated_memory.cli.client_script import CLIENTS, install_arguments, run_client
from federated_memory.cli.place import host_name
from federated_memory.errors import InvalidArgument, NotFound
from federated_memory.settings import Settings, load_settings


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("mcp", help="connect an agent over MCP", description="Connect an agent over MCP.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = actions.add_parser(
        "install", help="write the MCP entry of agents, and nothing else",
        description="Write the MCP entry of agents on this machine: no hooks, no schedule, nothing is sent. "
        "`up` and `memory_sync.py install` do it all.",
    )  # fmt: skip
    install.add_argument(
        "--client", action="append", required=True, choices=CLIENTS, metavar="NAME",
        help="which agent; again for more: " + ", ".join(CLIENTS),
    )  # fmt: skip
    install.add_argument("--url", default="", help="of the server (MCP_MEMORY_URL, else the one that runs here)")
    install.add_argument(
        "--token", default="", help="AI token, `-` to read it from standard input (MCP_MEMORY_TOKEN, else this root's)"
    )
    install.add_argument("--machine", default="", metavar="NAME", help="what this machine is called (its host name)")
    install.add_argument("--yes", action="store_true", help="ask nothing")
    install.add_argument("--dry-run", action="store_true", help="print every change, and make none")
    install.set_defaults(run=run_install)
    stdio = actions.add_parser(
        "stdio", help="speak MCP on standard input and output",
        description="For clients that speak no HTTP. Carries MCP to the server of MCP_MEMORY_URL (with "
        "MCP_MEMORY_TOKEN), else to the one that runs on this machine; when none runs, serves the root by itself.",
    )  # fmt: skip
    stdio.add_argument("--machine", default="", metavar="NAME", help="what this machine is called (its host name)")
    stdio.add_argument("--tool", default="", metavar="NAME", help="which agent this is, such as claude-desktop")
    stdio.add_argument("--ca-file", default="", metavar="PEM", help="certificate authority of the server's certificate")
    stdio.set_defaults(run=run_stdio)


def run_install(options: argparse.Namespace) -> int:
    settings = load_settings()
    url = options.url or os.environ.get("MCP_MEMORY_URL", "") or _url_here(settings)
    arguments = install_arguments(
        url,
        options.machine or host_name(),
        clients=options.client,
        mcp_only=True,
        yes=options.yes,
        dry_run=options.dry_run,
    )
    return run_client(arguments, ai_token=_token(options.token, settings))


def run_stdio(options: argparse.Namespace) -> int:
    from federated_memory.cli.stdio import serve_stdio

    serve_stdio(load_settings(), machine=options.machine or host_name(), tool=options.tool, ca_file=options.ca_file)
    return 0


def _url_here(settings: Settings) -> str:
    from federated_memory.cli.backend import running_server

    server = running_server(settings)
    if server is None:
        raise NotFound("No server runs here", hint="Start it (`federated-memory up` or `serve`), or pass --url")
    return server.url


def _token(given: str, settings: Settings) -> str:
    from federated_memory.operate.serving import read_generated_token

    if given == "-":
        given = sys.stdin.readline().strip()
    found = given or os.environ.get("MCP_MEMORY_TOKEN", "")
    if not found:
        configured = settings.mcp_token
        found = configured.get_secret_value() if configured else read_generated_token(settings.root)
    if not found:
        raise InvalidArgument("There is no AI token", hint="Set MCP_MEMORY_TOKEN, or pass --token -")
    return found
