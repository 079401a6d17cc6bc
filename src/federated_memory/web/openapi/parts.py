"""What an operation is described with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

PROBLEMS = {
    400: "An argument, a name or the body is not as it should be",
    401: "The token is missing, wrong, revoked or expired",
    403: "The token, or its binding, may not do that",
    404: "There is no such thing here",
    405: "The route does not take this method; `Allow` names those it takes",
    408: "The body stopped arriving",
    409: "It has changed, or something else has that name",
    413: "Longer than is taken",
    415: "Not a format or an encoding that is known",
    421: "This server does not answer to that host name",
    423: "Something else is at work on it",
    429: "Too many requests; `Retry-After` says when to come again",
    503: "The server is starting, stopping, or something that it needs fails",
    507: "The disk is full, or below the floor that is kept free",
}
"""Status → what it means, wherever it is answered."""
ALWAYS = (400, 401, 403, 408, 421, 429, 503)
OPEN = (400, 403, 408, 421, 429, 503)
WRITING = (404, 409, 413, 423, 507)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a header."""

    name: str
    about: str
    schema: Schema
    is_header: bool = False
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """A body that is no JSON of a model."""

    types: tuple[str, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route; `path` as the route has it, `errors` beside those that every route may answer."""

    name: str
    method: str
    path: str
    about: str
    answer: type[BaseModel] | Media | None
    takes: tuple[Parameter, ...] = ()
    body: type[BaseModel] | tuple[type[BaseModel], ...] | Media | None = None
    """A model, or one of several."""
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    headers: Mapping[str, str] | None = None
    """Those of a good answer, with what they say."""
    is_open: bool = False
    words: tuple[str, ...] = ()
    """What the part of the path may be that is one of a few words."""


def text(name: str, about: str, **schema: Any) -> Parameter:
    return Parameter(name, about, {"type": "string", **schema})


def number(name: str, about: str, least: int | None = None, most: int | None = None) -> Parameter:
    bounds = {"minimum": least, "maximum": most}
    return Parameter(
        name, about, {"type": "integer", **{key: value for key, value in bounds.items() if value is not None}}
    )


def flag(name: str, about: str) -> Parameter:
    return Parameter(name, about, {"type": "boolean"})


def several(name: str, about: str) -> Parameter:
    return Parameter(name, about, {"type": "array", "items": {"type": "string"}})


def header(name: str, about: str, **schema: Any) -> Parameter:
    return Parameter(name, about, {"type": "string", **schema}, is_header=True)


BINDING = header("X-Memory-Binding", "What `register` gave an AI caller.")
WRITE_TOKEN = header("X-Write-Token", "What `register` gave a sync caller, the first time.")
IF_MATCH = header("If-Match", "Replace only this text: its etag in quotes.")
ONLY_CREATE = header("If-None-Match", "`*`: only create.")
IF_NONE_MATCH = header("If-None-Match", "The etag that is held: 304 when it is still the one.")
PAGING = (
    number("limit", "Rows of a page.", 1, 1000),
    number("max_bytes", "Bytes of a page.", 1_000, 4 * 1024**2),
    text("cursor", "`next_cursor` of the page before."),
)
WORKSPACE = "/api/v1/workspaces/{workspace_id}"
WRITERS = (BINDING, WRITE_TOKEN)
MARKDOWN = Media(("text/markdown",), {"type": "string"})
EVENTS = Media(("text/event-stream",), {"type": "string"})
LINES = Media(("application/jsonl",), {"type": "string"})
"""What a transcript is answered as."""
ANY_BYTES = Media(("application/octet-stream",), {})
ANY_JSON = Media(("application/json",), {})
OBJECT = Media(("application/json",), {"type": "object"})
