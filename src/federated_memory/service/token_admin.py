"""Named tokens, for admins."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

from federated_memory.auth.caller import Caller
from federated_memory.auth.tokens import NO_SCOPES, NamedToken, Scopes
from federated_memory.errors import InvalidArgument
from federated_memory.service.core import Core
from federated_memory.service.results import TokenCreated, TokenRow

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class TokenAdmin:
    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
        self,
        caller: Caller,
        name: str,
        role: str,
        *,
        read: tuple[str, ...] = (),
        write: tuple[str, ...] = (),
        machine: str = "",
        expires: str = "",
        scopes: Scopes = NO_SCOPES,
    ) -> TokenCreated:
        """A named token and its secret, shown this once. `expires` is a duration such as `90d`."""
        self._core.policy.ensure_role(caller, ("admin",))
        token, secret = self._core.tokens.create(
            name, role, read=read, write=write, machine=machine, expires_seconds=parse_duration(expires), scopes=scopes
        )
        return TokenCreated(token=secret, **_row(token).model_dump())

    def list(self, caller: Caller) -> list[TokenRow]:
        self._core.policy.ensure_role(caller, ("admin",))
        return [_row(token) for token in self._core.tokens.list()]

    def revoke(self, caller: Caller, name: str) -> TokenRow:
        """End a token; its open streams end within a second."""
        self._core.policy.ensure_role(caller, ("admin",))
        return _row(self._core.tokens.revoke(name))


def parse_duration(text: str) -> float | None:
    """Seconds of `90d`, `12h`, `30m`, `2w` or `10s`; None for an empty text."""
    if not text:
        return None
    found = _DURATION.match(text)
    if not found:
        raise InvalidArgument("Not a duration", hint="Use a number and s, m, h, d or w, such as 90d")
    return int(found[1]) * float(_SECONDS[found[2]])


def _row(token: NamedToken) -> TokenRow:
    grant = token.grant
    expired = token.expires_at is not None and token.expires_at <= time.time()
    return TokenRow(
        name=token.name,
        role=token.role,
        read=list(token.read),
        write=list(token.write),
        read_keys=list(grant.key_globs_read),
        write_keys=list(grant.key_globs_written),
        read_rooms=list(grant.room_globs_read),
        write_rooms=list(grant.room_globs_written),
        machine=token.machine,
        created_at=token.created_at,
        expires_at=None if token.expires_at is None else rfc3339(token.expires_at),
        revoked_at=token.revoked_at or None,
        state="revoked" if token.revoked_at else "expired" if expired else "active",
    )


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
