"""The only place that wires parts: settings → store → services, and the work behind them.

`asgi` makes an application of the services: a command that opens the root for one answer has no use for that, and it
takes longer to load than the answer to find.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path

import anyio
import anyio.to_thread
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
from federated_memory.store.scan import Scan, drop_unfinished
from federated_memory.store.shared_state import SharedState
from federated_memory.store.tombstones import Tombstones

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_EXPIRE_SECONDS = 1.0
_SWEEP_SECONDS = 30.0
_SECRETS_SECONDS = 5.0
"""Nobody waits for the counts, and looking soon would take the processor from those who upload."""
_TEND_SECONDS = 30.0


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
        drop_unfinished(root)
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


@contextlib.asynccontextmanager
async def background_work(services: Services) -> AsyncIterator[None]:
    """Recovery, flushing, scanning and indexing, for as long as somebody is served."""
    services.core.index.start()
    try:
        async with anyio.create_task_group() as background:
            background.start_soon(_recover, services)
            background.start_soon(_repeat, _FLUSH_SECONDS, services.core.journal.flush)
            background.start_soon(_repeat, services.core.settings.scan_interval_seconds, lambda: _scan(services))
            background.start_soon(_repeat, _EXPIRE_SECONDS, services.core.state.expire)
            background.start_soon(_repeat, _SWEEP_SECONDS, services.core.state.sweep)
            background.start_soon(_repeat, _SECRETS_SECONDS, services.secrets.catch_up)
            background.start_soon(_repeat, _TEND_SECONDS, services.collaboration.tend)
            background.start_soon(services.collaboration.tasks.keep_leases)
            yield
            background.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(services.core.index.stop)


def content_folder() -> Path:
    """`server_content`: inside the installed package, or at the top of a checkout."""
    packaged = Path(str(resources.files("federated_memory"))) / "server_content"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "server_content"


async def _recover(services: Services) -> None:
    """Bring what is known up to the files, behind the first answers."""
    await anyio.to_thread.run_sync(_recover_all, services)
    services.status.is_recovered = True


def _recover_all(services: Services) -> None:
    services.core.archives.recover()
    _scan(services)


def _scan(services: Services) -> None:
    for workspace in services.core.registry.all():
        services.core.scan.workspace(workspace.workspace_id)


async def _repeat(seconds: float, work: Callable[[], object]) -> None:
    while True:
        await anyio.sleep(seconds)
        try:
            await anyio.to_thread.run_sync(work)
        except Exception:
            # One failure, such as a full disk, must not end the work for good.
            logger.exception("background work failed")


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
