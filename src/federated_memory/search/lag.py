"""What is stored and not indexed yet: searched directly, so that every acknowledged write is found (SPEC: INDEX-8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from federated_memory.errors import NotFound
from federated_memory.index import Follower, IndexState
from federated_memory.index.library import Library, Source
from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.store.archive import Archive, Archives
from federated_memory.store.changes import ChangeFeed
from federated_memory.store.document import DocumentKind, Key
from federated_memory.store.documents import Documents

_WAIT_SECONDS = 0.15
_MOST_CHANGES = 2_000
_PAGE = 200


@dataclass(slots=True)
class Lag:
    """What of some workspaces has to be searched without the index. `keys` name it for the index to leave out."""

    documents: list[Key] = field(default_factory=list)
    sessions: list[Archive] = field(default_factory=list)
    keys: set[tuple[str, str, str]] = field(default_factory=set)
    is_whole: bool = True

    def covers(self, source: Source) -> bool:
        return (source.workspace_id, source.kind, source.key) in self.keys

    @property
    def note(self) -> str:
        parts = [
            f"{len(found)} {noun}{'s' if len(found) > 1 else ''}"
            for found, noun in ((self.documents, "document"), (self.sessions, "session"))
            if found
        ]
        if not parts:
            return ""
        why = "not indexed yet" if self.is_whole else "the index is being made; not indexed yet"
        return f"{why} and searched directly: {' and '.join(parts)}"


class LagFinder:
    def __init__(self, feed: ChangeFeed, documents: Documents, archives: Archives, follower: Follower) -> None:
        self._feed = feed
        self._documents = documents
        self._archives = archives
        self._follower = follower

    def wait(self) -> IndexState:
        """How far the index is, once it holds every change made before, or after a moment."""
        self._follower.wait_for(self._feed.head(), _WAIT_SECONDS)
        return self._follower.state

    def find(
        self, state: IndexState, library: Library, workspace_ids: Sequence[WorkspaceId], kinds: Collection[str]
    ) -> Lag:
        """What of these workspaces the index, as it was at `state` or later, does not hold as it is now."""
        lag = Lag(is_whole=state.is_whole)
        if state.is_whole:
            changes = self._feed.after(state.cursor, _MOST_CHANGES)
            if not changes:
                return lag
            if len(changes) < _MOST_CHANGES:
                wanted = set(workspace_ids)
                changed = {(change.workspace_id, change.kind, change.key) for change in changes}
                self._add_changed(lag, [item for item in changed if item[0] in wanted and item[1] in kinds])
                return lag
        for workspace_id in workspace_ids:
            self._add_differing(lag, library, workspace_id, kinds)
        return lag

    def _add_changed(self, lag: Lag, items: Iterable[tuple[str, str, str]]) -> None:
        for workspace_id, kind, key in items:
            lag.keys.add((workspace_id, kind, key))
            if kind == "session":
                try:
                    lag.sessions.append(self._archives.find(WorkspaceId(workspace_id), SessionId(key)))
                except NotFound:
                    continue
            else:
                lag.documents.append(Key(WorkspaceId(workspace_id), cast(DocumentKind, kind), DocumentPath(key)))
        lag.sessions.sort(key=lambda archive: (archive.started_at, archive.session_id), reverse=True)

    def _add_differing(self, lag: Lag, library: Library, workspace_id: WorkspaceId, kinds: Collection[str]) -> None:
        """Compare everything: while the index is made."""
        held: set[tuple[str, str]] = set()
        for kind in get_args(DocumentKind):
            if kind in kinds:
                for document in self._documents.list(workspace_id, kind):
                    source = library.by_key.get((workspace_id, kind, document.key.path))
                    if source is not None and source.etag == document.etag:
                        held.add((kind, document.key.path))
                    else:
                        lag.documents.append(document.key)
        after: tuple[str, str] | None = None
        while "session" in kinds and (page := self._archives.newest(workspace_id, after=after, limit=_PAGE)):
            for archive in page:
                if library.holds(archive):
                    held.add(("session", archive.session_id))
                else:
                    lag.sessions.append(archive)
            after = page[-1].started_at, page[-1].session_id
        for source in list(library.sources.values()):
            if source.workspace_id == workspace_id and source.etag and (source.kind, source.key) not in held:
                lag.keys.add((source.workspace_id, source.kind, source.key))
