"""Opening a root: settings → store → services, and giving it back; without what only a server needs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pydantic import SecretStr

from federated_memory.auth.binding import Bindings
from federated_memory.auth.policy import Policy
from federated_memory.auth.tokens import Tokens
from federated_memory.index import Follower, Index
from federated_memory.index.file import IndexFile
from federated_memory.operate.migrate import migrate
from federated_memory.search import Search
from federated_memory.service.core import Core
from federated_memory.service.services import Services, build_services
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


def open_services(settings: Settings) -> Services:
    """Open the root, of an older format too, and finish what a crash interrupted; `close_services` gives it back.

    Raises:
        Locked, UnsupportedFormat: The root cannot be used, and why.
    """
    migrate(settings.root)
    root = Root(settings.root, min_free_bytes=settings.min_free_bytes)
    try:
        root.install_content(content_folder())
        journal = Journal(root)
        registry = Registry(root)
        tombstones = Tombstones(root.database)
        documents = Documents(root, journal, max_bytes=settings.max_document_bytes, tombstones=tombstones)
        archives = Archives(
            root, max_session_bytes=settings.max_session_bytes, lease_wait_seconds=0, tombstones=tombstones
        )
        index_file = IndexFile(root.path / "_meta" / "index.sqlite3")
        index = Follower(root, documents, archives, index_file, min_free_bytes=settings.min_free_bytes)
        core = Core(
            settings=settings,
            root=root,
            registry=registry,
            documents=documents,
            journal=journal,
            scan=Scan(root, documents),
            archives=archives,
            index=index,
            search=Search(
                root,
                documents,
                archives,
                timeout_seconds=settings.search_timeout_seconds,
                index=Index(index_file),
                follower=index,
            ),
            tokens=Tokens(root, ai=_secret(settings.mcp_token), sync=_secret(settings.sync_token)),
            policy=Policy(registry, Bindings(root.secret_key(), days=settings.binding_days)),
            audit=Audit(root.meta, max_bytes=settings.audit_bytes, keep=settings.audit_files),
            tombstones=tombstones,
            state=SharedState(
                root.database,
                root.feed,
                max_keys=settings.state_keys,
                history=settings.state_history,
                log=settings.state_log,
            ),
            memories=Memories(documents, tombstones),
            aliases=ProjectAliases(root),
        )
        journal.recover()
    except BaseException:
        root.close()
        raise
    return build_services(core)


def close_services(services: Services) -> None:
    """Make everything durable as files, and give the root back."""
    services.core.state.close()
    services.core.search.close()
    services.core.index.close()
    services.core.journal.flush()
    services.core.root.close()


def content_folder() -> Path:
    """`server_content`: inside the installed package, or at the top of a checkout."""
    packaged = Path(str(resources.files("federated_memory"))) / "server_content"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "server_content"


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
