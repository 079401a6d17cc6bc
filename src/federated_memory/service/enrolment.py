"""A second machine: invited by an admin, enrolled by a one-use code (SPEC: ENROL-1 to ENROL-8)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from federated_memory.auth import certificates
from federated_memory.auth.attempts import Attempts
from federated_memory.auth.caller import Caller
from federated_memory.auth.certificates import Chain, Presented
from federated_memory.auth.events import auth_deny, auth_fail
from federated_memory.auth.invitations import Invitations
from federated_memory.auth.tokens import Invitation
from federated_memory.errors import Forbidden, InvalidArgument, RateLimited
from federated_memory.service.core import Core
from federated_memory.service.results import Enrolled, InvitationRow, Invited
from federated_memory.service.token_admin import parse_duration, rfc3339

logger = logging.getLogger(__name__)

DEFAULT_EXPIRES = "15m"


class EnrolmentService:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._invitations = Invitations(core.tokens)
        self._attempts = Attempts()
        self.presented_by: Callable[[str], Presented] = certificates.presented_by
        """How this machine sees PUBLIC_URL."""

    def invite(
        self, caller: Caller, machine: str, *, read: tuple[str, ...] = (), expires: str = "", pin: bool = False
    ) -> Invited:
        """An invitation and its code, shown this once. `pin`: tell the certificate even if this machine trusts it.

        Raises:
            Forbidden: No admin.
            InvalidArgument, Conflict: As in `Invitations.create`, or the certificate's file is not one.
        """
        self._core.policy.ensure_role(caller, ("admin",))
        certificate, notes = self._certificate(pin)
        invitation, code = self._invitations.create(
            machine,
            read=read,
            expires_seconds=parse_duration(expires or DEFAULT_EXPIRES) or 0,
            is_pinned=certificate is not None,
            created_by=caller.grant.name,
        )
        return Invited(
            **row_of(invitation).model_dump(),
            code=code,
            url=self._core.settings.public_url,
            fingerprint=certificates.fingerprint(certificate) if certificate else None,
            pin=certificates.key_pin(certificate) if certificate else None,
            notes=notes,
        )

    def invitations(self, caller: Caller) -> list[InvitationRow]:
        self._core.policy.ensure_role(caller, ("admin",))
        return [row_of(invitation) for invitation in self._invitations.list()]

    def withdraw(self, caller: Caller, invitation_id: str) -> InvitationRow:
        """End an open invitation. Raises: NotFound."""
        self._core.policy.ensure_role(caller, ("admin",))
        return row_of(self._invitations.withdraw(invitation_id))

    def ensure_may_try(self, caller: Caller) -> None:
        """Raises: RateLimited: too many wrong codes from this address."""
        try:
            self._attempts.ensure_allowed(caller.address)
        except RateLimited:
            auth_deny(caller.address, "rate_limited", caller.where)
            raise

    def enrol(self, caller: Caller, code: str, url: str) -> Enrolled:
        """Trade a code for the machine's own tokens.

        The write tokens of that machine's workspaces end with its old tokens: its next registration gives new ones.

        Raises:
            Forbidden: The code is not, or no longer, good; nobody is told which.
            RateLimited: As in `ensure_may_try`.
        """
        self.ensure_may_try(caller)
        found = self._invitations.redeem(code, address=caller.address, prepare=self._core.registry.end_write_tokens)
        if found is None:
            self._attempts.failed(caller.address)
            auth_fail(caller.address, "bad_code", caller.where)
            raise Forbidden(
                "This invitation is not valid: used, expired or mistyped",
                hint="Ask for a new one: federated-memory invite",
            )
        logger.info("machine enrolled", extra={"machine": found.machine, "ip": caller.address or "unknown"})
        return Enrolled(
            machine=found.machine,
            url=url,
            mcp_url=f"{url}/mcp",
            ai_token=found.ai_token,
            sync_token=found.sync_token,
            ca=self._authority() if found.is_pinned else None,
        )

    def _certificate(self, pin: bool) -> tuple[bytes | None, list[str]]:
        """The certificate to tell the other machine of (DER), and what the admin should know of it."""
        url, file = self._core.settings.public_url, self._core.settings.tls_certificate
        if not url.startswith("https://"):
            return None, []
        chain = certificates.read_chain(file) if file else None
        try:
            seen = self.presented_by(url)
        except OSError as error:
            return _unseen(url, chain, error)
        if seen.is_trusted and not pin:
            return None, []
        if chain and chain.leaf != seen.certificate:
            return chain.leaf, [f"{url} presents another certificate than the one of MEMORY_TLS_CERTIFICATE"]
        return seen.certificate, []

    def _authority(self) -> str | None:
        """Without it the machine trusts the very certificate that its invitation named."""
        file: Path | None = self._core.settings.tls_certificate
        if not file:
            return None
        try:
            return certificates.read_chain(file).last_pem
        except InvalidArgument as error:  # the code is used by now: the tokens must reach the machine
            logger.warning("no certificate authority to give", extra={"problem": str(error)})
            return None


def _unseen(url: str, chain: Chain | None, error: OSError) -> tuple[bytes | None, list[str]]:
    reason = error.strerror or type(error).__name__
    if chain:
        return chain.leaf, [f"{url} did not answer ({reason}): its certificate is that of MEMORY_TLS_CERTIFICATE"]
    return None, [
        f"The certificate of {url} could not be read ({reason}): the line works only where the other machine trusts "
        "it by itself. Set MEMORY_TLS_CERTIFICATE to the PEM file that the proxy serves"
    ]


def row_of(invitation: Invitation) -> InvitationRow:
    return InvitationRow(
        invitation_id=invitation.invitation_id,
        machine=invitation.machine,
        read=list(invitation.read) or ["*"],
        created_at=invitation.created_at,
        created_by=invitation.created_by,
        expires_at=rfc3339(invitation.expires_at),
        used_at=invitation.used_at or None,
        used_from=invitation.used_from or None,
        state=_state_of(invitation),
    )


def _state_of(invitation: Invitation) -> Literal["open", "used", "withdrawn", "expired"]:
    if invitation.is_open:
        return "open"
    return "used" if invitation.used_at else "withdrawn" if invitation.withdrawn_at else "expired"
