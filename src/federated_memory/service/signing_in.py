"""A person signs in on the web pages, and out (SPEC: SITE-1 to SITE-3)."""

from __future__ import annotations

import logging

from federated_memory.auth.attempts import Attempts
from federated_memory.auth.caller import Caller, Grant
from federated_memory.auth.events import auth_deny, auth_fail
from federated_memory.auth.visits import Visit, Visits
from federated_memory.errors import Forbidden, RateLimited
from federated_memory.service.core import Core

logger = logging.getLogger(__name__)


class SigningIn:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._attempts = Attempts()
        self._visits = Visits(core.tokens, idle_seconds=core.settings.sign_in_idle_seconds)

    def begin(self, caller: Caller, token: str) -> str:
        """Trade a token for a visit's id. A token of any role opens the pages; its rights hold there as everywhere.

        Raises:
            Forbidden: The token is not, or no longer, good; nobody is told which.
            RateLimited: Too many wrong ones from this address.
        """
        try:
            self._attempts.ensure_allowed(caller.address)
        except RateLimited:
            auth_deny(caller.address, "rate_limited", caller.where)
            raise
        found = self._core.tokens.verify(token.strip())
        if not isinstance(found, Grant):
            self._attempts.failed(caller.address)
            auth_fail(caller.address, found, caller.where)
            raise Forbidden(
                "This token is not valid", hint="Check it, or ask for a new one: federated-memory token create"
            )
        logger.info("signed in", extra={"token": found.name, "ip": caller.address or "unknown"})
        return self._visits.begin(found)

    def find(self, visit_id: str) -> tuple[Visit, Grant] | None:
        """The visit, and what its token gives now; None: it is over."""
        return self._visits.find(visit_id) if visit_id else None

    def end(self, visit_id: str) -> None:
        """Sign out; for a visit that is over already, nothing happens."""
        self._visits.end(visit_id)
