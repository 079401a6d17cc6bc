"""What agents do together: rooms, messages, tasks, and who waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from federated_memory.service.agents import Presences
from federated_memory.service.core import Core
from federated_memory.service.messages import Messages
from federated_memory.service.rooms import RoomService
from federated_memory.service.tasks import TaskService
from federated_memory.service.waiting import Waiting
from federated_memory.store.rooms import Rooms
from federated_memory.store.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Collaboration:
    rooms: RoomService
    messages: Messages
    tasks: TaskService
    waiting: Waiting
    presences: Presences

    def tend(self) -> None:
        """Now and then: what is only in memory is saved, what nobody wants any more is removed."""
        self.rooms.save_seen()
        self.tasks.remove_old()


def build_collaboration(core: Core) -> Collaboration:
    waiting, presences = Waiting(core.settings.progress_seconds), Presences()
    stored, tasks = Rooms(core.root.database), Tasks(core.root.database)
    messages = Messages(core, stored, waiting, presences)
    service = TaskService(core, tasks, stored, messages, waiting, presences)
    rooms = RoomService(core, stored, tasks, messages, waiting, presences, service.has_left)
    return Collaboration(rooms, messages, service, waiting, presences)
