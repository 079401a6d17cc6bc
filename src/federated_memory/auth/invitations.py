"""Invitations: a one-use code that another machine trades for tokens of its own (SPEC: ENROL-1 to ENROL-5)."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from federated_memory.auth.tokens import Invitation, NamedToken, Tokens, digest_of, ensure_globs, new_token
from federated_memory.errors import Conflict, InvalidArgument, NotFound
from federated_memory.names import fold, slug
from federated_memory.store.changes import now

_CODE_BYTES = 24
_MAX_MACHINE = 200
_LEAST_SECONDS, _MOST_SECONDS = 60, 7 * 86_400
_REMEMBERED_SECONDS = 30 * 86_400
"""How long an invitation that has ended stays in the list."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a machine got for its code; the secrets are nowhere else."""

    machine: str
    ai_token: str
    sync_token: str
    is_pinned: bool


class Invitations:
    """Every invitation of a server; kept with the tokens, so that they survive a restart."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def create(
        self, machine: str, *, read: tuple[str, ...], expires_seconds: float, is_pinned: bool, created_by: str
    ) -> tuple[Invitation, str]:
        """A new invitation and its code, which is shown this once. It ends an open one for the same machine.

        Raises:
            InvalidArgument: A machine name, glob or time that cannot be.
            Conflict: A token of another machine has a name that this machine's would get.
        """
        _ensure_machine(machine)
        ensure_globs(*read)
        if not _LEAST_SECONDS <= expires_seconds <= _MOST_SECONDS:
            raise InvalidArgument("An invitation is good for a minute to a week", hint="Use a time such as 15m or 2h")
        code = secrets.token_urlsafe(_CODE_BYTES)
        invitation = Invitation(
            sha256=digest_of(code),
            machine=machine,
            read=read,
            is_pinned=is_pinned,
            created_at=now(),
            created_by=created_by,
            expires_at=time.time() + expires_seconds,
        )
        with self._tokens.lock:
            self._ensure_names_are_free(machine)
            kept = self._without_open(machine)
            self._tokens.save(invitations={**kept, invitation.invitation_id: invitation})
        return invitation, code

    def list(self) -> list[Invitation]:
        """Newest first; those that have ended for a month."""
        return sorted(self._tokens.invitations.values(), key=lambda item: item.created_at, reverse=True)

    def withdraw(self, invitation_id: str) -> Invitation:
        """Raises: NotFound: no such invitation."""
        with self._tokens.lock:
            known = self._tokens.invitations.get(invitation_id)
            if known is None:
                raise NotFound("No such invitation", hint="See `federated-memory invite --list`")
            ended = replace(known, withdrawn_at=now()) if known.is_open else known
            self._tokens.save(invitations={**self._tokens.invitations, invitation_id: ended})
        return ended

    def redeem(self, code: str, *, address: str, prepare: Callable[[str], object]) -> Enrolment | None:
        """This machine's two tokens, once; None for a code that is unknown, used, withdrawn or expired.

        That the code was used and both tokens are one durable write: a crash leaves a code that is still good, or the
        tokens. `prepare` gets the machine just before; what it does may happen again. Tokens that the machine got
        before end at once.

        Raises:
            Conflict: As in `create`.
        """
        digest = digest_of(code)
        with self._tokens.lock:
            found: Invitation | None = None
            for invitation in self._tokens.invitations.values():
                if hmac.compare_digest(invitation.sha256, digest):
                    found = invitation
            if found is None or not found.is_open:
                return None
            machine = found.machine
            self._ensure_names_are_free(machine)
            (ai, ai_secret), (sync, sync_secret) = (
                new_token(name, role, read=found.read, machine=machine)
                for name, role in zip(token_names(machine), ("ai", "sync"), strict=True)
            )
            prepare(machine)
            used = replace(found, used_at=now(), used_from=address)
            self._tokens.save(ai, sync, invitations={**self._tokens.invitations, found.invitation_id: used})
        return Enrolment(machine, ai_secret, sync_secret, found.is_pinned)

    def _ensure_names_are_free(self, machine: str) -> None:
        for name in token_names(machine):
            known = self._named(name)
            if known is not None and not known.revoked_at and fold(known.machine) != fold(machine):
                raise Conflict(
                    f"There is a token {name} that is not of this machine",
                    hint="Revoke it first, or invite the machine by another name",
                )

    def _named(self, name: str) -> NamedToken | None:
        return next((token for token in self._tokens.list() if token.name == name), None)

    def _without_open(self, machine: str) -> dict[str, Invitation]:
        """What is remembered: an open one for the machine withdrawn, what ended long ago forgotten."""
        oldest = time.time() - _REMEMBERED_SECONDS
        return {
            key: replace(item, withdrawn_at=now()) if item.is_open and fold(item.machine) == fold(machine) else item
            for key, item in self._tokens.invitations.items()
            if item.expires_at > oldest
        }


def token_names(machine: str) -> tuple[str, str]:
    """The names of a machine's tokens for agents and for uploads; case never tells two machines apart."""
    stem = slug(fold(machine))
    if not stem[0].isalnum():
        stem = f"m{stem}"
    return f"{stem}-ai", f"{stem}-sync"


def _ensure_machine(machine: str) -> None:
    if not machine or machine != machine.strip() or not machine.isprintable() or len(machine) > _MAX_MACHINE:
        raise InvalidArgument(
            f"Not a machine name: it takes 1 to {_MAX_MACHINE} printable characters without spaces at the edges",
            hint="Use the machine's own short name, such as laptop",
        )
