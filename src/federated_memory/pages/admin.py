"""What an admin looks after: tokens, invitations, how the server is (SPEC: SITE-10)."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.responses import Response

from federated_memory.auth.caller import ROLES
from federated_memory.errors import Conflict, FederatedMemoryError, InvalidArgument, NotFound
from federated_memory.pages.asked import Asked
from federated_memory.pages.rendering import page, redirect
from federated_memory.service.invitation_lines import InvitationLines, warnings_of
from federated_memory.service.results import Invited, TokenCreated
from federated_memory.service.services import Services
from federated_memory.web.client_files import origin_of
from federated_memory.web.problems import OUTCOME


class AdminPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def admin(self, asked: Asked) -> Response:
        return self._page(asked)

    def create_token(self, asked: Asked) -> Response:
        """Its secret is on the answer's page and nowhere else."""
        form = asked.form
        try:
            made = self._services.tokens.create(
                asked.caller, form.get("name", "").strip(), form.get("role", ""),
                read=_globs(form.get("read", "")), write=_globs(form.get("write", "")),
                machine=form.get("machine", "").strip(), expires=form.get("expires", "").strip(),
            )  # fmt: skip
        except (InvalidArgument, Conflict) as error:
            return self._refused(asked, "token", error)
        return self._page(asked, made=made)

    def revoke_token(self, asked: Asked) -> Response:
        self._services.tokens.revoke(asked.caller, asked.form.get("name", ""))
        return redirect("/admin#tokens")

    def invite(self, asked: Asked) -> Response:
        form = asked.form
        try:
            invited = self._services.enrolment.invite(
                asked.caller, form.get("machine", "").strip(), read=_globs(form.get("read", "")),
                expires=form.get("expires", "").strip(),
            )  # fmt: skip
        except (InvalidArgument, Conflict) as error:
            return self._refused(asked, "invitation", error)
        return self._page(asked, invited=invited)

    def withdraw(self, asked: Asked) -> Response:
        with contextlib.suppress(NotFound):  # used or withdrawn meanwhile: the list says so
            self._services.enrolment.withdraw(asked.caller, asked.form.get("invitation_id", ""))
        return redirect("/admin#invitations")

    def _refused(self, asked: Asked, what: str, error: FederatedMemoryError) -> Response:
        asked.request.scope[OUTCOME] = error.code
        return self._page(asked, 409 if isinstance(error, Conflict) else 400, trouble={what: str(error)})

    def _page(
        self,
        asked: Asked,
        status: int = 200,
        *,
        made: TokenCreated | None = None,
        invited: Invited | None = None,
        trouble: dict[str, str] | None = None,
    ) -> Response:
        caller = asked.caller
        values: dict[str, Any] = {
            "tokens": self._services.tokens.list(caller),
            "invitations": self._services.enrolment.invitations(caller),
            "server": self._services.status.status(caller),
        }
        lines, notes = None, []
        if invited is not None:
            origin = invited.url or origin_of(asked.request, self._services.core.settings)
            lines = InvitationLines.of(invited, origin)
            notes = [*invited.notes, *warnings_of(origin, is_served=True)]
        return page(
            asked, "admin.html", status, title="Administration", section="admin", made=made, invited=invited,
            lines=lines, notes=notes, trouble=trouble or {}, given=asked.form, roles=ROLES, **values,
        )  # fmt: skip


def _globs(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
