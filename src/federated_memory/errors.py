"""The one error family. `boundary` turns it into tool errors, HTTP problems and exit codes."""

from __future__ import annotations


class FederatedMemoryError(Exception):
    """Something the caller can understand and act on.

    `message` says what happened in the caller's terms, `hint` what to do next. Neither ever holds a secret.
    `facts` are the machine-readable particulars, such as the current `etag` of a conflicting document.
    """

    code = "unavailable"

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class NotFound(FederatedMemoryError):
    """No such workspace, document, session or version."""

    code = "not_found"


class Conflict(FederatedMemoryError):
    """The stored state is no longer the one the caller assumed."""

    code = "conflict"


class NotBound(FederatedMemoryError):
    """A write without a valid binding to a workspace."""

    code = "not_bound"


class Forbidden(FederatedMemoryError):
    """A known caller outside its rights."""

    code = "forbidden"


class InvalidName(FederatedMemoryError):
    """An id or path that is not portable or not safe."""

    code = "invalid_name"


class InvalidArgument(FederatedMemoryError):
    """A value out of its range or of the wrong form."""

    code = "invalid_argument"


class TooLarge(FederatedMemoryError):
    """More bytes than the limit allows, compressed or not."""

    code = "too_large"


class UnsupportedFormat(FederatedMemoryError):
    """An encoding, or an on-disk format, that this version does not read."""

    code = "unsupported_format"


class RateLimited(FederatedMemoryError):
    """Too many requests for now."""

    code = "rate_limited"


class StorageFull(FederatedMemoryError):
    """The disk, its inodes, or a quota are used up; nothing was written."""

    code = "storage_full"


class Locked(FederatedMemoryError):
    """Somebody else holds the thing for now: another process, or another upload."""

    code = "locked"


class Unavailable(FederatedMemoryError):
    """The server cannot answer this now; the same request may succeed later."""

    code = "unavailable"
