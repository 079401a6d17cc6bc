"""Answers: JSON, and problems for errors."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from federated_memory import boundary
from federated_memory.errors import Conflict, FederatedMemoryError, InvalidArgument, NotFound, Unavailable
from federated_memory.service.results import Result


def json_response(content: Result | dict[str, Any], status: int = 200, **headers: str) -> Response:
    body = content.as_dict() if isinstance(content, Result) else content
    return Response(orjson.dumps(body), status, {key.replace("_", "-"): value for key, value in headers.items()},
                    "application/json")  # fmt: skip


def problem(error: FederatedMemoryError, status: int | None = None, **headers: str) -> Response:
    """`status` only where HTTP has a more exact one than the error's own, such as 401, 408 or 421."""
    body = boundary.as_problem(error)
    if status is not None:
        body["status"] = status
    found = {key.replace("_", "-"): value for key, value in headers.items()}
    if isinstance(error, Conflict) and error.facts.get("etag"):
        found["etag"] = f'"{error.facts["etag"]}"'
    if "retry_after_seconds" in error.facts:
        found["retry-after"] = str(error.facts["retry_after_seconds"])
    if isinstance(error, Conflict) and "offset" in error.facts:
        found["upload-offset"] = str(error.facts["offset"])
    return Response(orjson.dumps(body), int(body["status"]), found, "application/problem+json")  # type: ignore[call-overload]


class BodyStalled(Exception):
    """The client stopped sending its body."""


OUTCOME = "federated_memory.outcome"
"""Key of the ASGI scope under which a refusal leaves its code."""


async def on_error(request: Request, error: Exception) -> Response:
    """For Starlette: every error that a route raises, and those of its own."""
    if isinstance(error, FederatedMemoryError):
        request.scope[OUTCOME] = error.code
    match error:
        case BodyStalled():
            stalled = Unavailable("The body stopped arriving", hint="Send it again")
            return problem(stalled, 408, connection="close")
        case ClientDisconnect():  # nobody reads this, and it is no failure of ours
            return problem(InvalidArgument("The client went away in the middle of the body", hint="Send it again"))
        case HTTPException(status_code=404):
            return problem(NotFound("No such route", hint="See docs/http.md"))
        case HTTPException(status_code=405):
            refused = InvalidArgument("This route does not take this method", hint="See docs/http.md")
            return problem(refused, 405, allow=", ".join(_methods_of(request)))
        case HTTPException():
            refused = InvalidArgument(f"This route does not do that ({error.detail})", hint="See docs/http.md")
            return problem(refused, error.status_code, **{key.lower(): v for key, v in (error.headers or {}).items()})
    return problem(boundary.understood(error))


def _methods_of(request: Request) -> list[str]:
    """Those of all routes of the path; Starlette names those of the first one only (RFC 9110, section 10.2.1)."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


_HANDLED = (FederatedMemoryError, BodyStalled, ClientDisconnect, HTTPException, Exception)
ERROR_HANDLERS: dict[Any, Any] = dict.fromkeys(_HANDLED, on_error)
