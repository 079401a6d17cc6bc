"""All operations as one OpenAPI 3.1 document, and the route that serves it (SPEC: HTTP-9)."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory import __version__, boundary
from federated_memory.web.transfer import in_thread

if TYPE_CHECKING:
    from federated_memory.web.openapi.parts import Media, Operation

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]
_SCHEMAS = "#/components/schemas/"
_ABOUT = (
    "The same services as the MCP tools. Every route but those without security takes `Authorization: Bearer TOKEN`; "
    "writes prove their right with `X-Memory-Binding` (AI tokens) or `X-Write-Token` (sync tokens). Errors are "
    "`application/problem+json` with a stable `code`. Every GET answers HEAD as well; another method gets 405 with "
    "`Allow`, and what is no HTTP at all 400 in plain text. Every answer has `X-Request-Id`. A `path` or `key` may "
    "hold slashes, as they are."
)


def openapi_route() -> Route:
    async def openapi(_: Request) -> Response:
        # Made when somebody asks: a server that nobody asks starts without it.
        return Response(await in_thread(_as_bytes), media_type="application/json")

    return Route("/api/v1/openapi.json", openapi, methods=["GET"])


@functools.cache
def _as_bytes() -> bytes:
    return orjson.dumps(document())


def operations() -> list[Operation]:
    """Every operation that is described."""
    from federated_memory.web.openapi import administering, documents, finding, working

    return [*documents.OPERATIONS, *finding.OPERATIONS, *working.OPERATIONS, *administering.OPERATIONS]


def document() -> Json:
    """The OpenAPI document, as JSON values."""
    from federated_memory.web.openapi.shapes import Problem

    described = operations()
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(Problem, "serialization"): None}
    for one in described:
        wanted |= {(model, "validation"): None for model in _bodies(one)}
        if isinstance(one.answer, type):
            wanted[one.answer, "serialization"] = None
    references, shapes = models_json_schema([*wanted], ref_template=_SCHEMAS + "{model}")
    paths: dict[str, Json] = {}
    for one in described:
        paths.setdefault(_plain(one.path), {})[one.method.lower()] = _operation(one, references)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "Federated Memory", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": _problems(),
            "schemas": dict(sorted(shapes["$defs"].items())),
        },
    }
    return _with_short_names(made)


def _operation(one: Operation, references: dict[Any, Json]) -> Json:
    from federated_memory.web.openapi.parts import ALWAYS, OPEN

    found: Json = {"operationId": one.name, "summary": one.about, "tags": [_tag(one.path)]}
    if one.is_open:
        found["security"] = []
    names = re.findall(r"\{(\w+)", one.path)
    told: Json = {"type": "string", "enum": list(one.words)} if one.words else {"type": "string"}
    parameters = [{"name": name, "in": "path", "required": True, "schema": told} for name in names]
    for taken in one.takes:
        place = "header" if taken.is_header else "query"
        parameters.append({"name": taken.name, "in": place, "description": taken.about, "schema": taken.schema})
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": _content(one.body, "validation", references)}
    answers: Json = {}
    errors = {*(OPEN if one.is_open else ALWAYS), *one.errors, *((404,) if names else ())}
    if one.path in ("/healthz", "/readyz"):
        errors = set()
    for status in one.statuses:
        answers[str(status)] = _answer(one, status, references)
    for status in sorted(errors - set(one.statuses)):
        answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
    found["responses"] = answers
    return found


def _answer(one: Operation, status: int, references: dict[Any, Json]) -> Json:
    from federated_memory.web.openapi.parts import PROBLEMS

    if status == 304:
        found: Json = {"description": "It is still what `If-None-Match` names."}
    else:
        found = {"description": PROBLEMS.get(status, one.about)}
        if one.answer is not None:
            found["content"] = _content(one.answer, "serialization", references)
    if one.headers:
        found["headers"] = {
            name: {"description": about, "required": status < 300, "schema": {"type": "string"}}
            for name, about in one.headers.items()
        }
    return found


def _bodies(one: Operation) -> tuple[type[BaseModel], ...]:
    if isinstance(one.body, tuple):
        return one.body
    return (one.body,) if isinstance(one.body, type) else ()


def _content(
    body: type[BaseModel] | tuple[type[BaseModel], ...] | Media, mode: Mode, references: dict[Any, Json]
) -> Json:
    if isinstance(body, type):
        return {"application/json": {"schema": references[body, mode]}}
    if isinstance(body, tuple):
        return {"application/json": {"schema": {"anyOf": [references[kind, mode] for kind in body]}}}
    return {kind: {"schema": body.schema} for kind in body.types}


def _problems() -> Json:
    """Status → the problem that is answered with it, and the codes that it may have."""
    from federated_memory.web.openapi.parts import PROBLEMS

    codes: dict[int, list[str]] = {}
    for code, outcome in boundary.TABLE.items():
        codes.setdefault(outcome.status, []).append(code)
    found: Json = {}
    for status, about in PROBLEMS.items():
        limits: Json = {"status": {"const": status}, **({"code": {"enum": codes[status]}} if status in codes else {})}
        schema = {"allOf": [{"$ref": _SCHEMAS + "Problem"}, {"properties": limits}]}
        found[str(status)] = {"description": about, "content": {"application/problem+json": {"schema": schema}}}
        if status in (401, 405):
            name = "WWW-Authenticate" if status == 401 else "Allow"
            found[str(status)]["headers"] = {name: {"required": True, "schema": {"type": "string"}}}
    return found


def _with_short_names(made: Json) -> Json:
    """Shapes of one name in two modules are called after both: `RoomResultsSessionRow`."""
    text = orjson.dumps(made).decode()
    for long in [name for name in made["components"]["schemas"] if "__" in name]:
        *_, module, name = long.split("__")
        short = "".join(word.title() for word in module.split("_")) + name
        text = text.replace(f'"{_SCHEMAS}{long}"', f'"{_SCHEMAS}{short}"').replace(f'"{long}":', f'"{short}":')
    found: Json = orjson.loads(text)
    return found


def _plain(path: str) -> str:
    return re.sub(r"\{(\w+):path\}", r"{\1}", path)


def _tag(path: str) -> str:
    parts = path.removeprefix("/api/v1").strip("/").split("/")
    return parts[0]
