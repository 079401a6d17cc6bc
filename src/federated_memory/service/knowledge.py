"""Knowledge and overviews: read, write, history, restore."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from federated_memory.auth.caller import Caller
from federated_memory.errors import InvalidArgument
from federated_memory.names import parse_document_path, parse_etag, parse_workspace_id
from federated_memory.service.core import Core
from federated_memory.service.pages import (
    ENVELOPE_BYTES,
    cut_text,
    decode_cursor,
    encode_cursor,
    fit_rows,
    json_bytes,
    page_text,
)
from federated_memory.service.results import (
    DeletedDocument,
    DeletedDocuments,
    DocumentDeleted,
    DocumentList,
    DocumentRow,
    DocumentText,
    DocumentWritten,
    History,
    VersionRow,
)
from federated_memory.service.secrets import ensure_no_secret
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.registry import Workspace

_MAX_DIFF_BYTES = 2 * 1024**2


class Knowledge:
    def __init__(self, core: Core) -> None:
        self._core = core

    # -- reading

    def list(
        self, caller: Caller, workspace_id: str, *, prefix: str = "", limit: int, cursor: str | None, max_bytes: int
    ) -> DocumentList:
        """The documents of a workspace by path, those just made by hand included."""
        workspace = self._reader(caller, workspace_id)
        key = decode_cursor(cursor, "documents", str)
        after = str(key[0]) if key else ""
        self._core.scan.workspace(workspace.workspace_id, ["knowledge"])
        found = [
            document
            for document in self._core.documents.list(workspace.workspace_id)
            if document.key.path.startswith(prefix)
        ]
        candidates: Iterator[DocumentRow] = (
            DocumentRow(
                path=document.key.path,
                title=document.title,
                bytes=document.bytes,
                etag=document.etag,
                updated_at=document.updated_at,
            )
            for document in found
            if document.key.path > after
        )
        rows, more = fit_rows(candidates, limit, max_bytes)
        return DocumentList(
            workspace_id=workspace.workspace_id,
            documents=rows,
            total=len(found),
            next_cursor=encode_cursor("documents", [rows[-1].path]) if more else None,
        )

    def deleted(
        self, caller: Caller, workspace_id: str, *, limit: int, cursor: str | None, max_bytes: int
    ) -> DeletedDocuments:
        """The documents of a workspace that are gone and whose versions are kept, the latest deletion first."""
        workspace = self._reader(caller, workspace_id)
        key = decode_cursor(cursor, "deleted", str, str)
        self._core.scan.workspace(workspace.workspace_id, ["knowledge"])
        found = self._core.documents.deleted(workspace.workspace_id)
        rows, more = fit_rows(
            (
                DeletedDocument(
                    path=document.key.path, title=document.title, bytes=document.bytes, version=document.version,
                    updated_at=document.updated_at,
                )
                for document in found
                if key is None or (document.updated_at, document.key.path) < (str(key[0]), str(key[1]))
            ),
            limit, max_bytes,
        )  # fmt: skip
        return DeletedDocuments(
            workspace_id=workspace.workspace_id,
            documents=rows,
            total=len(found),
            next_cursor=encode_cursor("deleted", [rows[-1].updated_at, rows[-1].path]) if more else None,
        )

    def read(
        self,
        caller: Caller,
        workspace_id: str,
        path: str | None,
        *,
        version: int | None = None,
        offset: int = 0,
        byte_offset: int = 0,
        limit: int = 1_000_000,
        max_bytes: int,
    ) -> DocumentText:
        """A page of a document, or (path None) of the overview.

        Only a whole read carries the etag, so that a part is never written back as the whole.
        """
        key = self._key(self._reader(caller, workspace_id), path)
        number, etag, at, by, data = self._text(key, version)
        text = data.decode("utf-8", "replace")
        result = DocumentText(
            workspace_id=key.workspace_id, path=key.path, version=number, etag=etag, updated_at=at,
            updated_by=by or None, lines=0, offset=offset, text="",
        )  # fmt: skip
        taken = json_bytes(result.model_dump_json()) + ENVELOPE_BYTES // 2
        page = page_text(text, offset=offset, byte_offset=byte_offset, limit=limit, budget=max_bytes - taken)
        result.text, result.lines = page.text, page.lines
        if offset or byte_offset or page.next_offset is not None:
            result.etag = None
            result.truncated = True
            result.next_offset, result.next_byte_offset = page.next_offset, page.next_byte_offset
        return result

    def content(
        self, caller: Caller, workspace_id: str, path: str | None, version: int | None
    ) -> tuple[str, int, bytes]:
        """etag, version and the bytes themselves, for downloads."""
        key = self._key(self._reader(caller, workspace_id), path)
        number, etag, _, _, data = self._text(key, version)
        return etag, number, data

    def _text(self, key: Key, version: int | None) -> tuple[int, str, str, str, bytes]:
        documents = self._core.documents
        if version is None:
            document, data = documents.read(key)
            return document.version, document.etag, document.updated_at, "", data
        entry, data = documents.read_version(key, version)
        return entry.version, entry.etag, entry.at, entry.by, data

    def history(
        self,
        caller: Caller,
        workspace_id: str,
        path: str | None,
        *,
        from_version: int | None = None,
        to_version: int | None = None,
        limit: int,
        cursor: str | None,
        max_bytes: int,
    ) -> History:
        """The versions of a document, or (path None) of the overview, newest first; with two of them, their diff.

        Raises:
            InvalidArgument: Only one of the two versions is given.
        """
        key = self._key(self._reader(caller, workspace_id), path)
        position = decode_cursor(cursor, "versions", int)
        entries = self._core.documents.history(key)
        diff, truncated = None, False
        if (from_version is None) != (to_version is None):
            raise InvalidArgument("A diff takes from_version and to_version", hint="Pass both, or none")
        if from_version is not None and to_version is not None:
            whole = self._diff(key, from_version, to_version)
            diff = cut_text(whole, max_bytes * 2 // 3)
            truncated = len(diff) < len(whole)
        rows, more = fit_rows(
            (
                VersionRow(
                    version=entry.version,
                    etag=entry.etag,
                    at=entry.at,
                    by=entry.by,
                    source=entry.source,
                    operation=entry.operation,
                )
                for entry in entries
                if position is None or entry.version < int(position[0])
            ),
            limit,
            max_bytes,
            json_bytes(diff) if diff else 0,
        )
        return History(
            workspace_id=key.workspace_id,
            path=key.path,
            versions=rows,
            diff=diff,
            truncated=truncated,
            next_cursor=encode_cursor("versions", [rows[-1].version]) if more else None,
        )

    def _diff(self, key: Key, from_version: int, to_version: int) -> str:
        old, new = (
            self._core.documents.read_version(key, number)[1].decode("utf-8", "replace")
            for number in (from_version, to_version)
        )
        if len(old) + len(new) > _MAX_DIFF_BYTES:
            raise InvalidArgument("These versions are too long for a diff", hint="Read both with read_knowledge")
        lines = difflib.unified_diff(
            old.splitlines(),
            new.splitlines(),
            f"{key.path} version {from_version}",
            f"{key.path} version {to_version}",
            lineterm="",
        )
        return "\n".join(lines)

    # -- writing

    def write(
        self, caller: Caller, path: str, text: str, *, binding: str | None, if_match: str | None = None
    ) -> DocumentWritten:
        workspace = self._core.policy.writer(caller, binding)
        return self._write(caller, self._key(workspace, path), _encode(text), _precondition(if_match))

    def write_overview(
        self, caller: Caller, text: str, *, binding: str | None, if_match: str | None = None
    ) -> DocumentWritten:
        workspace = self._core.policy.writer(caller, binding)
        return self._write(caller, self._key(workspace, None), _encode(text), _precondition(if_match))

    def upload(
        self, caller: Caller, workspace_id: str, write_token: str | None, path: str, text: str, if_match: str | None
    ) -> DocumentWritten:
        workspace = self._core.policy.uploader(caller, parse_workspace_id(workspace_id), write_token)
        return self._write(caller, self._key(workspace, path), _encode(text), _precondition(if_match), "upload")

    def put(
        self, caller: Caller, workspace: Workspace, path: str | None, data: bytes, if_match: str | None
    ) -> DocumentWritten:
        """Store the body of an HTTP request, for a workspace that the policy has already granted."""
        _decode(data)
        operation = "upload" if caller.role == "sync" else "write"
        return self._write(caller, self._key(workspace, path), data, if_match, operation)

    def remove(self, caller: Caller, workspace: Workspace, path: str, if_match: str | None) -> DocumentDeleted:
        """Delete a document, for a workspace that the policy has already granted."""
        key = self._key(workspace, path)
        deleted = self._core.documents.delete(key, caller.actor, if_match=if_match)
        return DocumentDeleted(workspace_id=key.workspace_id, path=path, version=deleted.version)

    def delete(self, caller: Caller, path: str, *, binding: str | None, if_match: str | None = None) -> DocumentDeleted:
        return self.remove(caller, self._core.policy.writer(caller, binding), path, _precondition(if_match))

    def restore(
        self, caller: Caller, path: str, version: int, *, binding: str | None, if_match: str | None = None
    ) -> DocumentWritten:
        """A new version that equals an old one; also brings a deleted document back."""
        return self.put_back(caller, self._core.policy.writer(caller, binding), path, version, _precondition(if_match))

    def may_restore(self, caller: Caller, workspace_id: str) -> bool:
        """Whether `restore_by_hand` is for this caller."""
        return self._core.policy.may_write(caller, self._reader(caller, workspace_id))

    def restore_by_hand(
        self, caller: Caller, workspace_id: str, path: str | None, version: int, *, if_match: str | None
    ) -> DocumentWritten:
        """`restore`, of a document or (path None) the overview, by a person who names the workspace."""
        workspace = self._core.policy.person(caller, parse_workspace_id(workspace_id))
        return self.put_back(caller, workspace, path, version, _precondition(if_match))

    def put_back(
        self, caller: Caller, workspace: Workspace, path: str | None, version: int, if_match: str | None
    ) -> DocumentWritten:
        """As `restore`, for a workspace that the policy has already granted."""
        key = self._key(workspace, path)
        _, data = self._core.documents.read_version(key, version)
        return self._write(caller, key, data, if_match, "restore")

    def _write(
        self, caller: Caller, key: Key, data: bytes, if_match: str | None, operation: str = "write"
    ) -> DocumentWritten:
        ensure_no_secret(self._core.settings, data)
        written = self._core.documents.write(key, data, caller.actor, if_match=if_match, operation=operation)
        return DocumentWritten(
            workspace_id=key.workspace_id,
            path=key.path,
            etag=written.document.etag,
            version=written.document.version,
            created=written.outcome == "created",
            unchanged=written.outcome == "unchanged",
        )

    def _reader(self, caller: Caller, workspace_id: str) -> Workspace:
        wanted = workspace_id or self._core.policy.bound_workspace(caller)
        if not wanted:
            raise InvalidArgument("workspace_id missing", hint="See list_workspaces for the ids")
        return self._core.policy.reader(caller, parse_workspace_id(wanted))

    @staticmethod
    def _key(workspace: Workspace, path: str | None) -> Key:
        """The document at a path from outside; None is the overview."""
        if path is None:
            return Key(workspace.workspace_id, "overview", OVERVIEW)
        return Key(workspace.workspace_id, "knowledge", parse_document_path(path))


def _precondition(if_match: str | None) -> str | None:
    """Raises: InvalidArgument: neither an etag nor empty."""
    return parse_etag(if_match) if if_match else if_match


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument("The text holds a lone surrogate", hint="Send valid Unicode") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The body is not UTF-8 (byte {error.start})", hint="Send Markdown as UTF-8") from None
