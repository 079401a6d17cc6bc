"""The parts that every service works with, wired by `app`."""

from __future__ import annotations

from dataclasses import dataclass

from federated_memory.auth.policy import Policy
from federated_memory.auth.tokens import Tokens
from federated_memory.index import Follower
from federated_memory.search import Search
from federated_memory.settings import Settings
from federated_memory.store.aliases import ProjectAliases
from federated_memory.store.archive import Archives
from federated_memory.store.audit import Audit
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.memories import Memories
from federated_memory.store.registry import Registry
from federated_memory.store.root import Root
from federated_memory.store.scan import Scan
from federated_memory.store.shared_state import SharedState
from federated_memory.store.tombstones import Tombstones


@dataclass(frozen=True, slots=True)
class Core:
    settings: Settings
    root: Root
    registry: Registry
    documents: Documents
    journal: Journal
    scan: Scan
    archives: Archives
    index: Follower
    search: Search
    tokens: Tokens
    policy: Policy
    audit: Audit
    tombstones: Tombstones
    state: SharedState
    memories: Memories
    aliases: ProjectAliases
