"""How many requests a token, or an address without one, may make (SPEC: RATE-1)."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from federated_memory import boundary
from federated_memory.auth.attempts import network_of
from federated_memory.auth.caller import Grant
from federated_memory.errors import RateLimited
from federated_memory.service.pace import Pace
from federated_memory.settings import Settings
from federated_memory.web.problems import problem

_AT_ONCE_SECONDS = 10
"""Of the budget of a second: whoever was quiet may send a day's work in one go."""
_MCP_PATH = "/mcp"
_TOO_SOON = -32_000
"""The first of the codes that JSON-RPC leaves to servers."""


class Limits:
    """Each request counts once, however long it waits for its answer."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = _pace(settings.requests_per_second, "requests a second with this token")
        self._addresses = _pace(
            settings.anonymous_requests_per_second, "requests a second from this address without a valid token"
        )

    def exceeded(self, grant: Grant | None, address: str) -> RateLimited | None:
        """The refusal of a request that comes too soon. Whoever has a valid token pays from no address's budget."""
        pace = self._tokens if grant is not None else self._addresses
        if pace is None:
            return None
        try:
            pace.spend(network_of(address) if grant is None else grant.fingerprint)
        except RateLimited as error:
            return error
        return None


def limited(error: RateLimited, path: str) -> Response:
    """Nothing was done. MCP clients show their model an error of JSON-RPC, which this is there."""
    if path != _MCP_PATH:
        return problem(error)
    told = {"code": _TOO_SOON, "message": boundary.as_text(error), "data": boundary.as_dict(error)}
    headers = {"retry-after": str(error.facts["retry_after_seconds"])}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": told})
    return Response(body, boundary.outcome_of(error).status, headers, "application/json")


def _pace(per_second: int, what: str) -> Pace | None:
    return Pace(per_second, what, at_once_seconds=_AT_ONCE_SECONDS) if per_second else None
