"""Routes of a second machine: invitations for admins, and the one-use code itself (SPEC: ENROL-1, ENROL-4)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated_memory.service.services import Services
from federated_memory.web.client_files import origin_of
from federated_memory.web.problems import json_response
from federated_memory.web.requests import caller_of, json_body, parsed_body
from federated_memory.web.transfer import in_thread

ENROL_PATH = "/api/v1/enroll"
_MAX_BYTES = 4_096


class NewInvitation(BaseModel):
    """The body that invites a machine."""

    model_config = ConfigDict(extra="forbid", strict=True)

    machine: str
    read: list[str] = []
    expires: str = ""
    pin: bool = False


class Code(BaseModel):
    """The body that trades a code. `client` and `platform` say who asks; nothing depends on them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: Annotated[str, Field(min_length=1, max_length=200)]
    client: Annotated[str, Field(max_length=200)] = ""
    platform: Annotated[str, Field(max_length=200)] = ""


class EnrolRoutes:
    def __init__(self, services: Services) -> None:
        self._enrolment = services.enrolment
        self._policy = services.core.policy
        self._settings = services.core.settings

    def all(self) -> list[Route]:
        return [
            Route("/api/v1/invitations", self.list, methods=["GET"]),
            Route("/api/v1/invitations", self.invite, methods=["POST"]),
            Route("/api/v1/invitations/{invitation_id}", self.withdraw, methods=["DELETE"]),
            Route(ENROL_PATH, self.enrol, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        rows = await in_thread(self._enrolment.invitations, caller_of(request))
        return json_response({"invitations": [row.as_dict() for row in rows]})

    async def invite(self, request: Request) -> Response:
        caller = caller_of(request)
        self._policy.ensure_role(caller, ("admin",))
        wanted = parsed_body(NewInvitation, await json_body(request, _MAX_BYTES))
        invite = partial(
            self._enrolment.invite,
            caller, wanted.machine, read=tuple(wanted.read), expires=wanted.expires, pin=wanted.pin,
        )  # fmt: skip
        return json_response(await in_thread(invite), 201, cache_control="no-store")

    async def withdraw(self, request: Request) -> Response:
        return json_response(
            await in_thread(self._enrolment.withdraw, caller_of(request), request.path_params["invitation_id"])
        )

    async def enrol(self, request: Request) -> Response:
        caller = caller_of(request)
        self._enrolment.ensure_may_try(caller)
        url = origin_of(request, self._settings)
        given = parsed_body(Code, await json_body(request, _MAX_BYTES))
        done = await in_thread(self._enrolment.enrol, caller, given.code, url)
        return json_response(done, 201, cache_control="no-store")
