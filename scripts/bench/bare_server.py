"""The reference: the SDK alone, a bearer check and a tool that does nothing.

    python -m scripts.bench.bare_server CONTROL_FILE TOKEN

Listens on a free port of the loopback and writes {"url", "pid"} to CONTROL_FILE, as our server does.
"""

import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl, BaseModel
from starlette.applications import Starlette


class OneToken:
    """Knows a single token by its hash."""

    def __init__(self, token: str) -> None:
        self.digest = hashlib.sha256(token.encode()).digest()

    async def verify_token(self, token: str) -> AccessToken | None:
        if not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self.digest):
            return None
        return AccessToken(token=token, client_id="bench", subject="bench", scopes=["memory"])


class Nothing(BaseModel):
    """What a tool that does nothing has to say."""

    ok: bool


async def noop(text: str = "") -> Nothing:
    """Do nothing."""
    return Nothing(ok=text is not None)


def build_app(token: str, url: str, control_file: Path) -> Starlette:
    auth = AuthSettings(issuer_url=AnyHttpUrl(url), resource_server_url=None, required_scopes=["memory"])
    server = MCPServer("bare", version="1", token_verifier=OneToken(token), log_level="WARNING", auth=auth)
    server.add_tool(noop)
    security = TransportSecuritySettings(allowed_hosts=["127.0.0.1:*"], allowed_origins=["http://127.0.0.1:*"])
    inner = server.streamable_http_app(json_response=True, transport_security=security)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with server.session_manager.run():
            temporary = control_file.with_suffix(".tmp")
            temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}))
            temporary.rename(control_file)
            yield

    return Starlette(routes=[*inner.routes], middleware=inner.user_middleware, lifespan=lifespan)


def main(control_file: str, token: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = build_app(token, url, Path(control_file))
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:3])
