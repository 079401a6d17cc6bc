"""One search over everything, with its filters (SPEC: SITE-9)."""

from __future__ import annotations

from typing import Any, get_args

from starlette.responses import Response

from federated_memory.errors import Forbidden, InvalidArgument, InvalidName, NotFound
from federated_memory.names import shown
from federated_memory.pages.asked import Asked
from federated_memory.pages.markdown import HIT_ANCHOR
from federated_memory.pages.paging import pages_of
from federated_memory.pages.rendering import page, url_of
from federated_memory.service.results import MemoryHit, MemoryHits
from federated_memory.service.searching import Kind, Mode
from federated_memory.service.services import Services
from federated_memory.store.memory_file import KINDS
from federated_memory.transcripts import Role

_HITS, _MOST_BYTES = 20, 64 * 1024
_FILTERS = ("workspace_id", "project", "machine", "tool", "session_id", "since", "until", "memory_kind")


class FindingPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def search(self, asked: Asked) -> Response:
        query = asked.query
        text = query.get("q", "").strip()
        given = {name: query.get(name, "").strip() for name in (*_FILTERS, "kind", "role", "mode", "tag")}
        found: MemoryHits | None = None
        trouble = ""
        if text:
            try:
                found = self._found(asked, text, given)
            except (InvalidArgument, InvalidName, NotFound, Forbidden) as error:
                trouble = str(error)
        return page(
            asked, "search.html", 200 if not trouble else 400,
            title=f"Search: {text}" if text else "Search", section="search", query_text=text, given=given,
            is_filtered=any(given.values()), memory_kinds=KINDS, found=found, trouble=trouble,
            links=[link_of(hit, text) for hit in found.hits] if found else [],
            pages=pages_of(asked, "/search", {"q": text, **given}, found.next_cursor if found else None),
        )  # fmt: skip

    def _found(self, asked: Asked, text: str, given: dict[str, str]) -> MemoryHits:
        kind = _one_of(given["kind"], get_args(Kind))
        role = _one_of(given["role"], get_args(Role))
        mode: Mode = _one_of(given["mode"] or "ranked", get_args(Mode))
        filters: dict[str, Any] = {name: given[name] for name in _FILTERS if given[name]}
        filters["tags"] = tuple(given["tag"].replace(",", " ").split())
        return self._services.searching.memory(
            asked.caller, text, mode, kinds=(kind,) if kind else (), role=role or None, limit=_HITS,
            cursor=asked.query.get("cursor"), max_bytes=_MOST_BYTES, cancelled=asked.cancelled, **filters,
        )  # fmt: skip


def link_of(hit: MemoryHit, query: str) -> str:
    """The page that shows a hit, at its place."""
    if hit.kind == "session":
        return url_of("w", hit.workspace_id, "sessions", hit.session_id or "", line=hit.offset, q=query) + (
            f"#L{hit.offset}"
        )
    if hit.kind == "memory":
        return (
            url_of("w", hit.workspace_id, "memories", hit.memory_id or "", line=hit.offset, q=query) + f"#{HIT_ANCHOR}"
        )
    if hit.kind == "overview":
        return url_of("w", hit.workspace_id, line=hit.offset, q=query) + f"#{HIT_ANCHOR}"
    return url_of("w", hit.workspace_id, "knowledge", hit.path or "", line=hit.offset, q=query) + f"#{HIT_ANCHOR}"


def _one_of(value: str, allowed: tuple[str, ...]) -> Any:
    """Raises: InvalidArgument: neither empty nor one of the allowed words."""
    if value and value not in allowed:
        raise InvalidArgument(f"{shown(value)} is not one that is known", hint="It is one of " + ", ".join(allowed))
    return value
