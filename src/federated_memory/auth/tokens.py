"""Tokens: issued, hashed, compared, revoked (SPEC: AUTH-1 to AUTH-4).

`_meta/tokens.json` also holds the invitations: what an invitation gives and that it was used are one write.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from federated_memory.auth.caller import ROLES, Grant, Role
from federated_memory.errors import Conflict, InvalidArgument, NotFound, UnsupportedFormat
from federated_memory.fs.folder import storage_errors
from federated_memory.names import parse_key_glob
from federated_memory.store.changes import now
from federated_memory.store.root import Root

GENERATED = "generated-tokens.env"
RESERVED_NAMES = frozenset({"ai", "sync", "control"})
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_GLOB = re.compile(r"[a-z0-9._*?\[\]!-]{1,64}\Z")
_SCOPES = ("read_keys", "write_keys", "read_rooms", "write_rooms")

Verdict = Literal["bad_token", "revoked_token", "expired_token"]


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A token as it is kept: everything but the secret. Times are RFC 3339; empty: never."""

    name: str
    role: Role
    sha256: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    machine: str
    created_at: str
    expires_at: float | None = None
    revoked_at: str = ""
    read_keys: tuple[str, ...] | None = None
    write_keys: tuple[str, ...] | None = None
    read_rooms: tuple[str, ...] | None = None
    write_rooms: tuple[str, ...] | None = None

    @property
    def grant(self) -> Grant:
        return Grant(
            self.name, self.role, self.sha256[:32], self.read, self.write, self.machine, self.expires_at,
            self.read_keys, self.write_keys, self.read_rooms, self.write_rooms,
        )  # fmt: skip

    @classmethod
    def parse(cls, row: dict[str, Any]) -> NamedToken:
        """Raises: KeyError, TypeError: no token as it is kept."""
        lists = ("read", "write", *(name for name in _SCOPES if name in row))
        return cls(**{**row, **{name: tuple(row[name]) for name in lists}})

    def as_row(self) -> dict[str, object]:
        """As it is kept; without the scopes that were not given, which older versions do not know."""
        return {key: value for key, value in asdict(self).items() if key not in _SCOPES or value is not None}


@dataclass(frozen=True, slots=True)
class Scopes:
    """Globs of keys and of rooms; None: as the globs of workspaces have it (SPEC: AUTH-12)."""

    read_keys: tuple[str, ...] | None = None
    write_keys: tuple[str, ...] | None = None
    read_rooms: tuple[str, ...] | None = None
    write_rooms: tuple[str, ...] | None = None

    def ensure_valid(self) -> None:
        """Raises: InvalidName, InvalidArgument: a glob that matches nothing."""
        for glob in (*(self.read_keys or ()), *(self.write_keys or ())):
            parse_key_glob(glob)
        ensure_globs(*(self.read_rooms or ()), *(self.write_rooms or ()))


NO_SCOPES = Scopes()


@dataclass(frozen=True, slots=True)
class Invitation:
    """A machine that may enrol once: everything but the code. Times are RFC 3339, empty: never."""

    sha256: str
    machine: str
    read: tuple[str, ...]
    is_pinned: bool
    """Whether the other machine was told which certificate to trust."""
    created_at: str
    created_by: str
    expires_at: float
    used_at: str = ""
    used_from: str = ""
    withdrawn_at: str = ""

    @property
    def invitation_id(self) -> str:
        """Names it in lists; says nothing of the code."""
        return self.sha256[:12]

    @property
    def is_open(self) -> bool:
        return not self.used_at and not self.withdrawn_at and self.expires_at > time.time()


class Tokens:
    """Every token that opens this server. Verification is in memory; changes are durable before they count."""

    def __init__(self, root: Root, *, ai: str | None, sync: str | None) -> None:
        self._root = root
        self.lock = threading.RLock()
        """Held over every change, and by `Invitations` from reading what is there to changing it."""
        self._fixed: list[tuple[str, Grant]] = []
        self._named, self._invitations = self._load()
        self._listeners: list[Callable[[str], None]] = []
        if ai:
            self.add_fixed("ai", "ai", ai)
        if sync:
            self.add_fixed("sync", "sync", sync)

    def _load(self) -> tuple[dict[str, NamedToken], dict[str, Invitation]]:
        try:
            found = json.loads(self._root.meta.read("tokens.json"))
            tokens = [NamedToken.parse(row) for row in found["tokens"]]
            invitations = [Invitation(**{**row, "read": tuple(row["read"])}) for row in found.get("invitations", ())]
        except FileNotFoundError:
            return {}, {}
        except (ValueError, KeyError, TypeError):
            raise UnsupportedFormat("_meta/tokens.json is damaged", hint="Restore it from a backup") from None
        return {token.name: token for token in tokens}, {item.invitation_id: item for item in invitations}

    def save(self, *tokens: NamedToken, invitations: Mapping[str, Invitation] | None = None) -> None:
        """Add or replace these tokens and, if given, all invitations, in one durable step; under `lock`.

        Tokens that were replaced end at once, on open streams too.
        """
        ended = [self._named[token.name] for token in tokens if token.name in self._named]
        named = {**self._named, **{token.name: token for token in tokens}}
        invited = dict(self._invitations if invitations is None else invitations)
        content: dict[str, object] = {"tokens": [named[name].as_row() for name in sorted(named)]}
        if invited:
            content["invitations"] = [asdict(invited[key]) for key in sorted(invited)]
        with storage_errors():
            self._root.meta.replace("tokens.json", json.dumps(content, indent=1).encode() + b"\n")
        self._named, self._invitations = named, invited
        for token in ended:
            for listener in self._listeners:
                listener(token.grant.fingerprint)

    def add_fixed(self, name: str, role: Role, token: str) -> None:
        """A token of the settings or of this start; never stored."""
        digest = digest_of(token)
        self._fixed.append((digest, Grant(name, role, digest[:32], write=() if role == "read" else ("*",))))

    @property
    def takes_uploads(self) -> bool:
        """Whether there is any token that may upload."""
        return any(grant.role == "sync" for _, grant in self._fixed) or any(
            token.role == "sync" and not token.revoked_at for token in self._named.values()
        )

    def on_revoke(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the fingerprint of every token that is revoked, so that open streams end."""
        self._listeners.append(listener)

    def verify(self, token: str) -> Grant | Verdict:
        """The grant of a bearer token, or why there is none; compared in constant time with every known token."""
        digest = digest_of(token)
        found: Grant | Verdict = "bad_token"
        for known, grant in self._fixed:
            if hmac.compare_digest(known, digest):
                found = grant
        for named in self._named.values():
            if hmac.compare_digest(named.sha256, digest):
                if named.revoked_at:
                    found = "revoked_token"
                elif named.expires_at is not None and named.expires_at <= time.time():
                    found = "expired_token"
                else:
                    found = named.grant
        return found

    def grant_of(self, fingerprint: str) -> Grant | None:
        """What the token with that fingerprint gives now; None once it is revoked, expired or unknown."""
        for _, grant in self._fixed:
            if hmac.compare_digest(grant.fingerprint, fingerprint):
                return grant
        for named in self._named.values():
            if hmac.compare_digest(named.sha256[:32], fingerprint):
                is_over = named.revoked_at or (named.expires_at is not None and named.expires_at <= time.time())
                return None if is_over else named.grant
        return None

    def create(
        self,
        name: str,
        role: str,
        *,
        read: tuple[str, ...] = (),
        write: tuple[str, ...] = (),
        machine: str = "",
        expires_seconds: float | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> tuple[NamedToken, str]:
        """A new named token and its secret, which is shown this once.

        Raises:
            InvalidArgument: A name, role, glob or duration that cannot be.
            Conflict: The name is in use.
        """
        token, secret = new_token(
            name, role, read=read, write=write, machine=machine, expires_seconds=expires_seconds, scopes=scopes
        )
        with self.lock:
            known = self._named.get(name)
            if known is not None and not known.revoked_at:
                raise Conflict(f"There is a token {name} already", hint="Revoke it first, or choose another name")
            self.save(token)
        return token, secret

    def revoke(self, name: str) -> NamedToken:
        """Raises: NotFound: no token of that name."""
        with self.lock:
            known = self._named.get(name)
            if known is None:
                raise NotFound(f"No token {name}", hint="See `federated-memory token list`")
            revoked = known if known.revoked_at else replace(known, revoked_at=now())
            self.save(revoked)
        return revoked

    def list(self) -> list[NamedToken]:
        """Every named token, revoked ones included, by name."""
        return [self._named[name] for name in sorted(self._named)]

    @property
    def invitations(self) -> Mapping[str, Invitation]:
        """Every invitation that is remembered, by its id."""
        return self._invitations


def new_token(
    name: str,
    role: str,
    *,
    read: tuple[str, ...] = (),
    write: tuple[str, ...] = (),
    machine: str = "",
    expires_seconds: float | None = None,
    scopes: Scopes = NO_SCOPES,
) -> tuple[NamedToken, str]:
    """A named token that is not kept yet, and its secret.

    Without globs it reads everything and (roles ai and sync) writes everything its machine may.

    Raises:
        InvalidArgument: A name, role, glob or duration that cannot be.
    """
    if not _NAME.match(name) or name in RESERVED_NAMES:
        raise InvalidArgument(
            "Not a token name", hint="Use 1-64 of a-z 0-9 . _ -, but none of " + ", ".join(sorted(RESERVED_NAMES))
        )
    if role not in ROLES:
        raise InvalidArgument("Not a role", hint="Use one of " + ", ".join(ROLES))
    ensure_globs(*read, *write)
    scopes.ensure_valid()
    if role == "read" and (write or scopes.write_keys or scopes.write_rooms):
        raise InvalidArgument("A read token writes nothing", hint="Leave --write out, or use role ai or sync")
    if expires_seconds is not None and expires_seconds <= 0:
        raise InvalidArgument("The token would have expired already", hint="Use a duration such as 90d")
    secret = f"fm_{role}_" + secrets.token_urlsafe(32)
    token = NamedToken(
        name=name,
        role=role,
        sha256=digest_of(secret),
        read=read or ("*",),
        write=() if role == "read" else write or ("*",),
        machine=machine,
        created_at=now(),
        expires_at=None if expires_seconds is None else time.time() + expires_seconds,
        **{name: getattr(scopes, name) for name in _SCOPES},
    )
    return token, secret


def ensure_globs(*globs: str) -> None:
    """Raises: InvalidArgument: one is no glob of workspace ids."""
    if not all(_GLOB.match(glob) for glob in globs):
        raise InvalidArgument("Not a glob of workspace ids", hint="Use an id, with * or ? where it may vary")


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def generated_tokens(root: Root) -> tuple[str, str, bool]:
    """MCP_TOKEN and SYNC_TOKEN of `_meta/generated-tokens.env`, and whether they were made now (mode 0600)."""
    found: dict[str, str] = {}
    with suppress(FileNotFoundError):
        for line in root.meta.read(GENERATED).decode("utf-8", "replace").splitlines():
            name, separator, value = line.partition("=")
            if separator and not name.startswith("#"):
                found[name.strip()] = value.strip()
    if found.get("MCP_TOKEN") and found.get("SYNC_TOKEN"):
        return found["MCP_TOKEN"], found["SYNC_TOKEN"], False
    ai, sync = (found.get(name) or secrets.token_urlsafe(32) for name in ("MCP_TOKEN", "SYNC_TOKEN"))
    text = f"# Made at first start. Keep it secret.\nMCP_TOKEN={ai}\nSYNC_TOKEN={sync}\n"
    root.meta.replace(GENERATED, text.encode())
    return ai, sync, True
