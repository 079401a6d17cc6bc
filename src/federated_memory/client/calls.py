"""A request and how its answer is read, before anybody knows whether it is awaited."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote

import orjson

from federated_memory import errors
from federated_memory.errors import FederatedMemoryError, InvalidArgument, Unavailable
from federated_memory.service.results import Result

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Result)
_TOO_MANY = 429
_PAUSE_SECONDS, _SHORTEST_PAUSE_SECONDS = 1.0, 0.1
Content = bytes | Iterable[bytes] | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "").strip('"')


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    method: str
    path: str
    parse: Callable[[Answer], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    content: Content | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_seconds: float = 0
    """For how long the server may wait before it answers, beside its usual time."""


class SyncGroup:
    """Calls that are made at once."""

    def __init__(self, run: Callable[[Call[Any]], Any]) -> None:
        self._run = run


class AsyncGroup:
    """The same calls, to be awaited."""

    def __init__(self, run: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self._run = run


class Method(Generic[P, T]):
    """A function that makes a call, as a method of both kinds of group: parameters and results are told once."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, group: SyncGroup, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, group: AsyncGroup, owner: type) -> Callable[P, Awaitable[T]]: ...

    @overload
    def __get__(self, group: None, owner: type) -> Method[P, T]: ...

    def __get__(self, group: SyncGroup | AsyncGroup | None, owner: type) -> Any:
        if group is None:
            return self
        build, run = self._build, group._run

        @functools.wraps(build)
        def made(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(build(*args, **kwargs))

        return made


def pause_seconds(call: Call[Any], answer: Answer, left_seconds: float) -> float | None:
    """After how long a request that came too soon may be sent again; None: it did not, or there is no time for that.

    Nothing was done for a request that is answered so, which makes a second one safe (SPEC: RATE-2).
    """
    if answer.status != _TOO_MANY or not isinstance(call.content, bytes | None):
        return None
    try:
        wanted = float(answer.headers.get("retry-after", ""))
    except ValueError:  # a date, or nothing: some proxy's
        wanted = _PAUSE_SECONDS
    return max(wanted, _SHORTEST_PAUSE_SECONDS) if 0 <= wanted <= left_seconds else None


def result(kind: type[R]) -> Callable[[Answer], R]:
    """How an answer of this kind is read; fields of newer servers are passed over."""
    return lambda answer: kind.model_validate(answer.json)


def nothing(_: Answer) -> None:
    return None


def json_body(content: object) -> bytes:
    """Raises: InvalidArgument: it is no JSON."""
    try:
        return orjson.dumps(content)
    except TypeError:
        raise InvalidArgument("The value cannot be sent as JSON", hint="Use plain values, lists and dicts") from None


def given(**values: Any) -> dict[str, Any]:
    """Those that say something; lists are joined by commas, booleans are 1."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == "" or value is False or value == []:
            continue
        found[name] = "1" if value is True else ",".join(map(str, value)) if isinstance(value, list) else value
    return found


def segment(text: str) -> str:
    return quote(text, safe="")


def path_of(text: str) -> str:
    return quote(text, safe="/")


_FAMILY: dict[str, type[FederatedMemoryError]] = {}


def error_of(answer: Answer) -> FederatedMemoryError:
    """The error that the server raised, with its facts; `status` tells a 401 from a 403."""
    if not _FAMILY:
        _FAMILY.update({kind.code: kind for kind in vars(errors).values() if _is_error(kind)})
    try:
        found = dict(answer.json)
        message, code = str(found["message"]), str(found["code"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(
            f"Something else than a memory server answered with {answer.status}", hint="Check the address",
            status=answer.status,
        )  # fmt: skip
    known = {"message", "code", "hint", "type", "title", "detail", "status"}
    facts = {name: value for name, value in found.items() if name not in known and name.isidentifier()}
    kind = _FAMILY.get(code, Unavailable)
    return kind(message, hint=str(found.get("hint", "")), status=answer.status, **facts)


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, FederatedMemoryError) and kind is not FederatedMemoryError
