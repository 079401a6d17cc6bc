"""Parts of requests that many routes read (SPEC: HTTP-1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from federated_memory.auth.caller import CALLER, Caller
from federated_memory.errors import InvalidArgument
from federated_memory.service.pages import DEFAULT_MAX_BYTES, LEAST_MAX_BYTES
from federated_memory.web.transfer import integer, read_small

_MAX_PAGE_BYTES = 4 * 1024**2
_MAX_JSON_BYTES = 16 * 1024**2
_MOST_PLACE, _MOST_TOLD = 100, 200
_Body = TypeVar("_Body", bound=BaseModel)
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")


def caller_of(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller


async def json_body(request: Request, most: int = _MAX_JSON_BYTES) -> dict[str, Any]:
    """Raises: InvalidArgument: not a JSON object. TooLarge."""
    try:
        body = orjson.loads(await read_small(request, most))
    except ValueError:
        raise InvalidArgument("The body is not JSON", hint="Send a JSON object") from None
    if not isinstance(body, dict):
        raise InvalidArgument("The body is no JSON object", hint="Send a JSON object")
    return body


def parsed_body(kind: type[_Body], body: Mapping[str, Any]) -> _Body:
    """The body as the fields that it takes.

    Raises:
        InvalidArgument: Where it is wrong, as far as the name is ours, and how; and what it takes.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            told = "it has a field that is not known"
        else:
            told = f"{'.'.join(map(str, first['loc']))[:_MOST_PLACE]}: {first['msg'][:_MOST_TOLD]}"
        raise InvalidArgument(
            f"The body is not as it should be: {told}", hint="It takes " + ", ".join(kind.model_fields)
        ) from None


def flag(request: Request, name: str) -> bool:
    """Raises: InvalidArgument: neither true nor false."""
    text = request.query_params.get(name, "").lower()
    if text not in (*_YES, *_NO):
        raise InvalidArgument(f"{name} is neither true nor false", hint="Pass true or false")
    return text in _YES


def paging(request: Request, limit: int = 100, max_bytes: int = DEFAULT_MAX_BYTES * 32) -> dict[str, Any]:
    """`limit`, `max_bytes` and `cursor`. Raises: InvalidArgument: out of range."""
    wanted_limit = integer(request, "limit", limit)
    wanted_bytes = integer(request, "max_bytes", max_bytes)
    assert wanted_limit is not None
    assert wanted_bytes is not None
    if not 1 <= wanted_limit <= 1000 or not LEAST_MAX_BYTES <= wanted_bytes <= _MAX_PAGE_BYTES:
        raise InvalidArgument(
            "limit or max_bytes is out of range",
            hint=f"limit is 1 to 1000, max_bytes {LEAST_MAX_BYTES} to {_MAX_PAGE_BYTES}",
        )
    return {"limit": wanted_limit, "max_bytes": wanted_bytes, "cursor": request.query_params.get("cursor")}
