"""Real roots with labelled sets in them, searched as agents search: in process, or through the MCP tool of a server."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.service.searching import Kind
from federated_memory.service.services import Services
from federated_memory.settings import Settings
from scripts.bench.processes import our_server
from scripts.bench.protocol import client
from scripts.bench.wire import McpClient
from scripts.corpus.labelled import LabelledSet
from scripts.quality.metrics import DEPTH, Answer, distinct

UPLOADER = Caller(Grant("quality-sync", "sync", "0" * 32))
READER = Caller(Grant("quality-read", "read", "1" * 32))
MOST_PAGES = 6
KIND_OF: dict[str, Kind] = {"sessions": "session", "documents": "knowledge"}


@dataclass(frozen=True, slots=True)
class Found:
    """One page of hits: the text of each, and its excerpt."""

    names: tuple[str, ...]
    snippets: tuple[str, ...]
    cursor: str | None


class Searcher(Protocol):
    def page(self, query: str, form: str, workspace_id: str, cursor: str | None) -> Found: ...


@dataclass(frozen=True, slots=True)
class InProcess:
    services: Services

    def page(self, query: str, form: str, workspace_id: str, cursor: str | None) -> Found:
        given = self.services.searching.memory(
            READER, query, kinds=[KIND_OF[form]], workspace_id=workspace_id, cursor=cursor
        )
        return found_in(given.as_dict())


@dataclass(frozen=True, slots=True)
class OverHttp:
    caller: McpClient

    def page(self, query: str, form: str, workspace_id: str, cursor: str | None) -> Found:
        kinds = [KIND_OF[form]]
        return found_in(
            self.caller.call("search_memory", query=query, kinds=kinds, workspace_id=workspace_id, cursor=cursor)
        )


def found_in(given: dict[str, Any]) -> Found:
    hits = given["hits"]
    return Found(
        tuple(hit.get("session_id") or hit.get("path") or "" for hit in hits),
        tuple(hit["snippet"] for hit in hits),
        given.get("next_cursor"),
    )


def answer(searcher: Searcher, query: str, relevant: frozenset[str], form: str, workspace_id: str = "") -> Answer:
    """Read on until ten texts are found; the time is that of the first page."""
    started = time.perf_counter()
    first = searcher.page(query, form, workspace_id, None)
    elapsed_ms = (time.perf_counter() - started) * 1000
    names, cursor, pages = first.names, first.cursor, 1
    while cursor and pages < MOST_PAGES and len(distinct(names)) < DEPTH:
        more = searcher.page(query, form, workspace_id, cursor)
        names, cursor, pages = names + more.names, more.cursor, pages + 1
    return Answer(distinct(names)[:DEPTH], relevant, len(distinct(first.names)), elapsed_ms)


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Services]:
    services = open_services(Settings(root=root))
    try:
        services.core.index.catch_up()
        yield services
    finally:
        close_services(services)


def filled(root: Path, sets: Iterable[LabelledSet]) -> dict[str, str]:
    """Store the sets in a root, each in a workspace of its own; set → workspace."""
    with opened(root) as services:
        return {each.name: store(services, each) for each in sets}


def store(services: Services, labelled: LabelledSet) -> str:
    registered = services.workspaces.register(UPLOADER, machine="quality", tool="seeded", project=labelled.name)
    workspace_id, token = registered.workspace_id, registered.write_token
    for text in labelled.texts:
        content = text.data.decode()
        if labelled.form == "sessions":
            services.sessions.upload(
                UPLOADER, workspace_id, token, text.name,
                content=content, content_base64=None, encoding=None, source=None,
            )  # fmt: skip
        else:
            services.knowledge.upload(UPLOADER, workspace_id, token, text.name, content, None)
    return workspace_id


@contextlib.contextmanager
def in_process(root: Path) -> Iterator[Searcher]:
    with opened(root) as services:
        yield InProcess(services)


@contextlib.contextmanager
def over_http(root: Path) -> Iterator[Searcher]:
    with our_server(root) as server:
        server.settle()
        with client(server, "2026-07-28") as caller:
            yield OverHttp(caller)
