"""Search, the brief, memories."""

from __future__ import annotations

from typing import get_args

from federated_memory.service import memory_results, results
from federated_memory.service.searching import KINDS, Mode
from federated_memory.transcripts import Role
from federated_memory.web.memories import AliasBody, DeleteBody, ImportBody, StoreBody
from federated_memory.web.openapi import shapes
from federated_memory.web.openapi.parts import (
    BINDING,
    PAGING,
    WRITERS,
    WRITING,
    Operation,
    flag,
    number,
    several,
    text,
)

_MEMORIES = "/api/v1/memories"
_MEMORY = _MEMORIES + "/{memory_id}"
_FILTERS = (
    text("workspace_id", "An id, or a glob."), text("project", "Of this project."), text("machine", "Of this machine."),
    text("tool", "Of this agent."), text("agent", "Of this agent."), text("memory_kind", "Memories of this kind."),
    text("room", "Memories of this room."), text("since", "RFC 3339, or a date."),
    text("until", "RFC 3339, or a date."), text("as_of", "As it was known then."),
    text("tags", "Joined by commas; all of them."), flag("include_superseded", "Also what was replaced."),
    flag("include_hidden", "Also what was deleted, or has expired."), BINDING,
)  # fmt: skip
_WHOSE = text("workspace_id", "The workspace; AI tokens: that of the binding.")

OPERATIONS = (
    Operation("search", "GET", "/api/v1/search", "One ranked list over knowledge, memories and transcripts.",
              results.MemoryHits,
              (text("query", "What to look for."), text("mode", "How.", enum=list(get_args(Mode))),
               text("kinds", "Joined by commas: " + ", ".join(KINDS) + "."),
               text("role", "Of messages.", enum=list(get_args(Role))), text("session_id", "In this session."),
               *_FILTERS, *PAGING), errors=(404,)),
    Operation("brief", "GET", "/api/v1/brief", "What an agent needs at the start of a session.", results.Brief,
              (text("workspace_id", "Which; else what tells it:"), text("machine", "The machine."),
               text("tool", "The agent."), text("project", "The project."),
               several("project_key", "SHA-256 of the remote's URL, the root commit, the path; at most 8."),
               number("max_bytes", "Bytes of the text.", 1_000, 65_536), BINDING), errors=(404,)),
    Operation("list_memories", "GET", _MEMORIES, "Memories, newest first.", memory_results.MemoryList,
              (*_FILTERS, *PAGING), errors=(404,)),
    Operation("store_memory", "POST", _MEMORIES, "Store a memory.", memory_results.MemoryStored, WRITERS, StoreBody,
              statuses=(201,), errors=WRITING),
    Operation("import_memories", "POST", _MEMORIES + "/import", "Store memories from elsewhere, once each.",
              memory_results.Imported, WRITERS, ImportBody, errors=WRITING),
    Operation("export_memories", "GET", _MEMORIES + "/export", "All memories of a workspace, every field.",
              memory_results.MemoryExport, (_WHOSE, *PAGING), errors=(404,)),
    Operation("delete_memories", "POST", _MEMORIES + "/delete", "All that meet every condition (admin).",
              memory_results.MemoriesDeleted, body=DeleteBody, errors=WRITING),
    Operation("get_memory", "GET", _MEMORY, "One memory, whole.", memory_results.MemoryText, (_WHOSE, BINDING)),
    Operation("delete_memory", "DELETE", _MEMORY, "Hide a memory.", memory_results.MemoryDeleted,
              (_WHOSE, text("reason", "Why."), *WRITERS), errors=WRITING),
    Operation("list_aliases", "GET", "/api/v1/project-aliases", "Other names of projects (admin).", shapes.Aliases),
    Operation("set_alias", "PUT", "/api/v1/project-aliases", "Set one; an empty project takes it back (admin).",
              shapes.Aliases, body=AliasBody, errors=WRITING),
)  # fmt: skip
