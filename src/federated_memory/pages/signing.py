"""Signing in with a token, and out (SPEC: SITE-1 to SITE-3)."""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.responses import Response

from federated_memory.auth.caller import CALLER
from federated_memory.errors import Forbidden
from federated_memory.pages.asked import Asked, ensure_form_token
from federated_memory.pages.rendering import page, redirect
from federated_memory.service.services import Services
from federated_memory.web.problems import OUTCOME
from federated_memory.web.visitors import SIGN_IN, cookie_name, cookie_of, is_open_page, is_page, is_secure

_FORM_SECONDS = 3_600


class SigningPages:
    def __init__(self, services: Services) -> None:
        self._signing_in = services.signing_in
        self._is_secure = is_secure(services.core.settings)
        self._cookie = cookie_name(services.core.settings)
        self._form_cookie = self._cookie + "-form"

    def form(self, asked: Asked) -> Response:
        target = safe_target(asked.query.get("next", ""))
        visit_id = cookie_of(asked.request.scope, self._cookie)
        if self._signing_in.find(visit_id):
            return redirect(target)
        notice = (
            "You were signed out: idle for too long, the token ended, or the server was restarted." if visit_id else ""
        )
        return self._page(asked, target, notice)

    def sign_in(self, asked: Asked) -> Response:
        """The form's own token stands in a cookie beside it, for there is no visit yet to hold it."""
        target = safe_target(asked.form.get("next", ""))
        try:
            ensure_form_token(asked.form, cookie_of(asked.request.scope, self._form_cookie))
            visit_id = self._signing_in.begin(asked.caller, asked.form.get("token", ""))
        except Forbidden as error:
            asked.request.scope[OUTCOME] = error.code
            return self._page(asked, target, f"{error.message}. {error.hint}.", 403)
        self._signing_in.end(cookie_of(asked.request.scope, self._cookie))
        found = self._signing_in.find(visit_id)
        if found:  # for the audit log
            asked.request.scope[CALLER] = replace(asked.caller, grant=found[1])
        answer = redirect(target)
        self._set(answer, self._cookie, visit_id, "lax", None)
        self._set(answer, self._form_cookie, "", "strict", 0)
        return answer

    def sign_out(self, asked: Asked) -> Response:
        self._signing_in.end(cookie_of(asked.request.scope, self._cookie))
        answer = redirect(SIGN_IN)
        self._set(answer, self._cookie, "", "lax", 0)
        return answer

    def _page(self, asked: Asked, target: str, notice: str, status: int = 200) -> Response:
        token = cookie_of(asked.request.scope, self._form_cookie) or secrets.token_urlsafe(24)
        found = page(
            asked, "sign_in.html", status,
            title="Sign in", target=target if target != "/" else "", form_token=token, notice=notice,
        )  # fmt: skip
        self._set(found, self._form_cookie, token, "strict", _FORM_SECONDS)
        return found

    def _set(self, answer: Response, name: str, value: str, same_site: str, seconds: int | None) -> None:
        answer.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._is_secure, httponly=True,
            samesite="strict" if same_site == "strict" else "lax",
        )  # fmt: skip


def safe_target(wanted: str) -> str:
    """A page of ours, else the first one: whatever stands in a link never leads to another host."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    is_ours = (
        not parts.scheme
        and not parts.netloc
        and wanted.startswith("/")
        and not wanted.startswith("//")
        and "\\" not in wanted
        and wanted.isprintable()
        and wanted.isascii()
        and is_page(parts.path)
        and not is_open_page(parts.path)
        and not parts.path.startswith("/sign-out")
    )
    return wanted if is_ours else "/"
