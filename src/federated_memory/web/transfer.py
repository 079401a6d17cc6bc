"""Bodies: read with caps while they stream, transcripts handed to the store chunk by chunk (SPEC: HTTP-4 to HTTP-7)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from federated_memory.errors import InvalidArgument, Locked, TooLarge, UnsupportedFormat
from federated_memory.names import parse_etag
from federated_memory.service.results import SessionStored
from federated_memory.service.sessions import SessionUpload
from federated_memory.store.document import ANY

T = TypeVar("T")
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_CHUNK = 512 * 1024
_LEASE_SECONDS, _LEASE_POLL_SECONDS = 10, 0.1


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    return await anyio.to_thread.run_sync(function, *arguments)


async def read_small(request: Request, max_bytes: int) -> bytes:
    """A body that is held whole. Raises: TooLarge: by its length before it is read, or while it streams."""
    ensure_length(request, max_bytes)
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"The body is over {max_bytes} bytes", hint="Send less")
        parts.append(chunk)
    return b"".join(parts)


def ensure_length(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise TooLarge(f"The body is over {max_bytes} bytes", hint="Send less")


def encoding_of(request: Request) -> str:
    """Raises: UnsupportedFormat: neither identity, gzip nor zstd."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "zstd"):
        raise UnsupportedFormat("Content-Encoding is not supported", hint="Use identity, gzip or zstd")
    return encoding


def if_match_of(request: Request) -> str | None:
    """The precondition of a write: an etag, `*`, an empty string for `If-None-Match: *`, or None."""
    if request.headers.get("if-none-match", "").strip() == ANY:
        return ""
    return etag_header(request, "if-match")


def etag_header(request: Request, name: str) -> str | None:
    """An etag of ours, or `*`. Raises: InvalidArgument: something else."""
    value = request.headers.get(name, "").strip().removeprefix("W/").strip('"')
    return parse_etag(value) if value and value != ANY else value or None


def has_etag(request: Request, etag: str) -> bool:
    """Whether the reader's `If-None-Match` names the etag; those of others, and weak ones, may stand beside it."""
    held = request.headers.get("if-none-match", "")
    names = (part.strip().removeprefix("W/").strip('"') for part in held.split(","))
    return held.strip() == ANY or etag in names


def integer(request: Request, name: str, default: int | None = None, *, header: bool = False) -> int | None:
    text = (request.headers if header else request.query_params).get(name, "")
    if not text:
        return default
    if not _INTEGER.match(text):
        raise InvalidArgument(f"{name} is not a whole number", hint="Use decimal digits")
    return int(text)


async def when_free(begin: Callable[[], T]) -> T:
    """Begin an upload as soon as the one before it has ended. Waits without a thread, which others may need.

    Raises:
        Locked: It has not ended in time.
    """
    deadline = anyio.current_time() + _LEASE_SECONDS
    while True:
        try:
            return await in_thread(begin)
        except Locked:
            if anyio.current_time() >= deadline:
                raise
        await anyio.sleep(_LEASE_POLL_SECONDS)


async def receive_upload(request: Request, upload: SessionUpload) -> SessionStored:
    """Stream the body into the store; whatever goes wrong on the way leaves the old state."""
    try:
        async for chunk in _chunks(request):
            await in_thread(upload.feed, chunk)
        return await in_thread(upload.finish)
    except ClientDisconnect:
        raise InvalidArgument("The client went away in the middle of the body", hint="Send it again") from None
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(upload.close)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in chunks of about half a megabyte: fewer trips to a worker thread."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size >= _CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
