"""All services of one server."""

from __future__ import annotations

from dataclasses import dataclass

from federated_memory.service.core import Core
from federated_memory.service.knowledge import Knowledge
from federated_memory.service.searching import Searching
from federated_memory.service.sessions import Sessions
from federated_memory.service.status import StatusService
from federated_memory.service.token_admin import TokenAdmin
from federated_memory.service.workspaces import Workspaces


@dataclass(frozen=True, slots=True)
class Services:
    core: Core
    workspaces: Workspaces
    knowledge: Knowledge
    sessions: Sessions
    searching: Searching
    tokens: TokenAdmin
    status: StatusService


def build_services(core: Core) -> Services:
    knowledge = Knowledge(core)
    return Services(
        core=core,
        workspaces=Workspaces(core, knowledge),
        knowledge=knowledge,
        sessions=Sessions(core),
        searching=Searching(core),
        tokens=TokenAdmin(core),
        status=StatusService(core),
    )
