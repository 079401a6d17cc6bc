"""The one table from our errors to tool errors, HTTP problems (RFC 9457) and exit codes (SPEC: ERR-1 to ERR-3)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from federated_memory import errors
from federated_memory.errors import FederatedMemoryError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    title: str
    exit_code: int


TABLE: dict[str, Outcome] = {
    errors.NotFound.code: Outcome(404, "Not found", 4),
    errors.Conflict.code: Outcome(409, "Conflict", 5),
    errors.NotBound.code: Outcome(403, "Not bound to a workspace", 6),
    errors.Forbidden.code: Outcome(403, "Forbidden", 7),
    errors.InvalidName.code: Outcome(400, "Invalid name", 8),
    errors.InvalidArgument.code: Outcome(400, "Invalid argument", 9),
    errors.TooLarge.code: Outcome(413, "Too large", 10),
    errors.UnsupportedFormat.code: Outcome(415, "Unsupported format", 11),
    errors.RateLimited.code: Outcome(429, "Too many requests", 12),
    errors.StorageFull.code: Outcome(507, "Storage full", 13),
    errors.Locked.code: Outcome(423, "Locked", 14),
    errors.Unavailable.code: Outcome(503, "Unavailable", 15),
}


def outcome_of(error: FederatedMemoryError) -> Outcome:
    return TABLE[error.code]


def as_dict(error: FederatedMemoryError) -> dict[str, object]:
    """The structured form of a tool error."""
    found: dict[str, object] = {"code": error.code, "message": error.message}
    if error.hint:
        found["hint"] = error.hint
    return {**found, **error.facts}


def as_problem(error: FederatedMemoryError) -> dict[str, object]:
    """The body of an `application/problem+json` answer."""
    outcome = outcome_of(error)
    return {
        "type": f"urn:federated-memory:error:{error.code}",
        "title": outcome.title,
        "status": outcome.status,
        "detail": str(error),
        **as_dict(error),
    }


def as_text(error: FederatedMemoryError) -> str:
    """What a model or a person reads: the code, what happened, what to do."""
    facts = ", ".join(f"{key}={value}" for key, value in error.facts.items())
    return f"{error.code}: {error}" + (f" ({facts})" if facts else "")


def understood(error: BaseException) -> FederatedMemoryError:
    """The error itself if it is ours; anything else is logged here, once, and its text stays on the server."""
    if isinstance(error, FederatedMemoryError):
        return error
    logger.error("unexpected error", exc_info=error)
    return errors.Unavailable("The server failed unexpectedly", hint="Retry; its log says more")


def family(base: type[FederatedMemoryError] = FederatedMemoryError) -> Iterator[type[FederatedMemoryError]]:
    """Every error class of the family, for tests and docs."""
    for kind in base.__subclasses__():
        yield kind
        yield from family(kind)
