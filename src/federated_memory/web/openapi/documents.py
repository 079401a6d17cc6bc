"""Workspaces, their documents and their transcripts."""

from __future__ import annotations

from federated_memory.service import results
from federated_memory.web.openapi import shapes
from federated_memory.web.openapi.parts import (
    ANY_BYTES,
    IF_MATCH,
    IF_NONE_MATCH,
    LINES,
    MARKDOWN,
    ONLY_CREATE,
    PAGING,
    WORKSPACE,
    WRITERS,
    WRITING,
    Media,
    Operation,
    header,
    number,
    text,
)

_SESSION = WORKSPACE + "/sessions/{session_id}"
_DOCUMENT = WORKSPACE + "/knowledge/{path:path}"
_VERSIONS = WORKSPACE + "/versions/{path:path}"
_NAMES = (
    text("machine", "Of this machine."), text("tool", "Of this agent."), text("project", "Of this project."),
)  # fmt: skip
_SPAN = (
    text("workspace_id", "An id, or a glob."), text("tool", "Of this agent."),
    text("since", "RFC 3339, or a date."), text("until", "RFC 3339, or a date."),
)  # fmt: skip
_ETAG = {"ETag": "SHA-256 of the bytes, in quotes."}
_VERSION = number("version", "An older version.")
_READ_DOCUMENT = {**_ETAG, "X-Version": "Its number."}
_REVISION = number("revision", "An older one, that an upload replaced.")
_ARCHIVE = {
    **_ETAG, "Upload-Offset": "Bytes that are held.", "X-Revision": "Its number.", "X-Lines": "Lines that are held.",
}  # fmt: skip
_UPLOADING = (
    *WRITERS, IF_MATCH,
    header("Content-Encoding", "Of the body.", enum=["identity", "gzip", "zstd"]),
    header("X-Memory-Source-Agent", "Which agent wrote it."),
    header("X-Memory-Source-Machine", "On which machine."),
    header("X-Memory-Source-Cwd", "In which folder."),
)  # fmt: skip
_TRANSCRIPT = Media(("application/jsonl", "application/octet-stream"), {})
_UPLOADED = {**_ETAG, "Upload-Offset": "Bytes that are held now."}

OPERATIONS = (
    Operation("list_workspaces", "GET", "/api/v1/workspaces", "All workspaces that the token reads.",
              results.WorkspaceList, (*_NAMES, *PAGING)),
    Operation("register", "POST", "/api/v1/workspaces", "Make a workspace, or take the right to write it.",
              results.Registered, body=shapes.Registration, statuses=(200, 201), errors=WRITING),
    Operation("show_workspace", "GET", WORKSPACE, "One workspace.", results.WorkspaceRow),
    Operation("reissue", "POST", WORKSPACE + "/reissue", "A new write token (admin).", results.Registered,
              errors=WRITING),
    Operation("plan", "POST", WORKSPACE + "/plan", "What of a client's files is missing here.", shapes.Planned,
              body=shapes.Plan, errors=(413,)),
    Operation("read_overview", "GET", WORKSPACE + "/overview", "The overview's Markdown.", MARKDOWN,
              (_VERSION, IF_NONE_MATCH), statuses=(200, 304), headers=_READ_DOCUMENT),
    Operation("write_overview", "PUT", WORKSPACE + "/overview", "Replace the overview.", results.DocumentWritten,
              (*WRITERS, IF_MATCH, ONLY_CREATE), ANY_BYTES, statuses=(200, 201), errors=(*WRITING, 415),
              headers=_ETAG),
    Operation("list_knowledge", "GET", WORKSPACE + "/knowledge", "The documents, by path.", results.DocumentList,
              (text("prefix", "Paths that begin so."), *PAGING)),
    Operation("read_document", "GET", _DOCUMENT, "A document's Markdown.", MARKDOWN, (_VERSION, IF_NONE_MATCH),
              statuses=(200, 304), headers=_READ_DOCUMENT),
    Operation("write_document", "PUT", _DOCUMENT, "Create or replace a document.", results.DocumentWritten,
              (*WRITERS, IF_MATCH, ONLY_CREATE), ANY_BYTES, statuses=(200, 201), errors=(*WRITING, 415),
              headers=_ETAG),
    Operation("delete_document", "DELETE", _DOCUMENT, "Delete a document; its versions stay.",
              results.DocumentDeleted, (*WRITERS, IF_MATCH), errors=WRITING),
    Operation("versions", "GET", _VERSIONS, "A document's versions, newest first; with two, their difference.",
              results.History, (number("from_version", "Of the difference."), number("to_version", "Likewise."),
                                *PAGING)),
    Operation("restore_version", "POST", _VERSIONS, "A new version that equals an older one.",
              results.DocumentWritten, (*WRITERS, IF_MATCH, ONLY_CREATE), shapes.WhichVersion, errors=WRITING,
              headers=_ETAG),
    Operation("list_sessions", "GET", WORKSPACE + "/sessions", "The sessions, newest first.", results.SessionList,
              (*_SPAN[1:], *PAGING)),
    Operation("read_session", "GET", _SESSION, "A transcript, byte for byte; HEAD tells what is held.", LINES,
              (_REVISION, IF_NONE_MATCH), statuses=(200, 304), headers=_ARCHIVE),
    Operation("put_session", "PUT", _SESSION, "Store a whole transcript.", results.SessionStored, _UPLOADING,
              _TRANSCRIPT, statuses=(200, 201), errors=(*WRITING, 415), headers=_UPLOADED),
    Operation("append_session", "PATCH", _SESSION, "Add what follows the held bytes.", results.SessionStored,
              (header("Upload-Offset", "How many bytes are held.", pattern="^[0-9]{1,18}$"), *_UPLOADING),
              _TRANSCRIPT, statuses=(200, 201), errors=(*WRITING, 415), headers=_UPLOADED),
    Operation("read_messages", "GET", _SESSION + "/messages", "A page of a transcript as messages.",
              results.SessionPage,
              (number("offset", "First line; negative: from the end."),
               number("byte_offset", "Where a cut line goes on."), _REVISION,
               text("form", "`raw`: the lines themselves.", enum=["messages", "raw"]), *PAGING)),
    Operation("all_sessions", "GET", "/api/v1/sessions", "Sessions of all workspaces, newest first.",
              results.SessionList, (*_SPAN, *PAGING), errors=(404,)),
    Operation("locate_session", "GET", "/api/v1/sessions/{session_id}", "The sessions with this id.",
              results.SessionList),
)  # fmt: skip
