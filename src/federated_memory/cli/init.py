"""`init`: make a memory root, so that there is something to look at before the first `serve` (SPEC: CLI-10)."""

from __future__ import annotations

import argparse

from federated_memory.cli.output import json_option, print_json, print_line, print_pairs
from federated_memory.settings import Settings, load_settings

NEXT = "federated-memory serve"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "init", parents=[json_option()], help="make the memory root and its tokens",
        description="Make the memory root: folders, README and INDEX, tokens, key. What is there already is kept.",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import has_root, running_server

    settings = load_settings()
    is_new = not has_root(settings)
    server = running_server(settings)
    tokens = "in use by the running server" if server else make_root(settings)
    file = settings.root.resolve() / "_meta" / "generated-tokens.env"
    following = f"federated-memory status (it runs at {server.url})" if server else NEXT
    if options.json:
        found = {"root": str(settings.root.resolve()), "created": is_new, "running": server is not None}
        print_json({**found, "tokens_file": str(file) if file.exists() else None})
        return 0
    print_pairs(
        [
            ("Memory root", f"{settings.root.resolve()} ({'made now' if is_new else 'was there already'})"),
            ("Tokens", f"{file} ({tokens})" if file.exists() else "from MCP_TOKEN and SYNC_TOKEN"),
            ("Next", following),
        ]
    )
    if is_new:
        print_line(f"To keep it elsewhere, set MEMORY_ROOT and run `{NEXT.split()[0]} init` again.")
    return 0


def make_root(settings: Settings) -> str:
    """Everything that `serve` would make; whether the tokens were made now, in words."""
    from federated_memory.app import close_services, open_services
    from federated_memory.auth.tokens import generated_tokens

    services = open_services(settings)
    try:
        if settings.mcp_token is not None:
            return "not used: MCP_TOKEN is set"
        _, _, made = generated_tokens(services.core.root)
        return "made now" if made else "kept"
    finally:
        close_services(services)
