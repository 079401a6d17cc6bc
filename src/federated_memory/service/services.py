"""All services of one server."""

from __future__ import annotations

from dataclasses import dataclass

from federated_memory.service.agents import Agent
from federated_memory.service.brief import Briefing
from federated_memory.service.collaboration import Collaboration, build_collaboration
from federated_memory.service.core import Core
from federated_memory.service.enrolment import EnrolmentService
from federated_memory.service.knowledge import Knowledge
from federated_memory.service.memories import MemoryService
from federated_memory.service.memory_scope import MemoryScopes
from federated_memory.service.memory_transfer import MemoryTransfer
from federated_memory.service.operations import Operations
from federated_memory.service.rooms import RoomService
from federated_memory.service.searching import Searching
from federated_memory.service.secrets import Secrets
from federated_memory.service.sessions import Sessions
from federated_memory.service.signing_in import SigningIn
from federated_memory.service.state import State
from federated_memory.service.status import StatusService
from federated_memory.service.token_admin import TokenAdmin
from federated_memory.service.workspaces import Workspaces
from federated_memory.store.rooms import MessageKind


@dataclass(frozen=True, slots=True)
class Services:
    core: Core
    workspaces: Workspaces
    knowledge: Knowledge
    sessions: Sessions
    searching: Searching
    briefing: Briefing
    tokens: TokenAdmin
    enrolment: EnrolmentService
    secrets: Secrets
    status: StatusService
    operations: Operations
    state: State
    signing_in: SigningIn
    memories: MemoryService
    memory_transfer: MemoryTransfer
    collaboration: Collaboration

    @property
    def rooms(self) -> RoomService:
        return self.collaboration.rooms


def build_services(core: Core) -> Services:
    knowledge = Knowledge(core)
    secrets = Secrets(core)
    collaboration = build_collaboration(core)
    scopes = MemoryScopes(core, collaboration.rooms.rooms_of)

    def announce(
        kind: MessageKind, workspace_id: str, session: str, user: str, room: str, memory_id: str, subject: str
    ) -> None:
        collaboration.messages.announce_memory(Agent(workspace_id, session, user), room, memory_id, subject, kind)

    memories = MemoryService(core, scopes, announce)
    return Services(
        core=core,
        workspaces=Workspaces(core, knowledge),
        knowledge=knowledge,
        sessions=Sessions(core),
        searching=Searching(core, scopes),
        briefing=Briefing(core, scopes),
        tokens=TokenAdmin(core),
        enrolment=EnrolmentService(core),
        secrets=secrets,
        status=StatusService(core, secrets),
        operations=Operations(core),
        state=State(core),
        signing_in=SigningIn(core),
        memories=memories,
        collaboration=collaboration,
        memory_transfer=MemoryTransfer(core, memories, scopes),
    )
