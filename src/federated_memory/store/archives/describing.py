"""What a transcript's lines tell about it, kept in its row and its provenance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from federated_memory.store.archives.edges import Edges
from federated_memory.store.archives.provenance import Scalar, clean_text
from federated_memory.store.archives.rows import Archive
from federated_memory.transcripts import Summary, summarise

_SHORT_HEAD_BYTES = 32 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Described:
    """Unknown texts are empty; an unknown `started_at` is the time of the upload."""

    agent: str
    native_id: str
    title: str
    cwd: str
    started_at: str
    ended_at: str


def describe(edges: Edges, source: Mapping[str, Scalar], native_id: str, at: str) -> Described:
    """A whole transcript. What its uploader told of agent, directory and id comes before what its lines tell."""
    summary = _summary(edges.head(_SHORT_HEAD_BYTES), edges.last_lines())
    if not summary or not summary.title:  # a long preamble
        summary = _summary(edges.head(), edges.tail())
    return Described(
        agent=_text(source, "agent") or (summary.agent if summary else ""),
        native_id=clean_text(native_id) or (summary and summary.native_id) or "",
        title=(summary and summary.title) or "",
        cwd=_text(source, "cwd") or (summary and summary.cwd) or "",
        started_at=(summary and summary.started_at) or at,
        ended_at=(summary and summary.ended_at) or "",
    )


def describe_longer(old: Archive, edges: Edges, opening: Callable[[], Sequence[bytes]]) -> Described:
    """A transcript after more lines came, of which `edges` has at least the last; `opening` are its first lines."""
    known = Described(old.agent, old.native_id, old.title, old.cwd, old.started_at, old.ended_at)
    late = _summary([], edges.last_lines())
    if late:
        known = replace(known, title=late.title or known.title, ended_at=late.ended_at or known.ended_at)
    if not known.title and (whole := _summary(opening(), edges.last_lines())):
        known = replace(known, title=whole.title or "", cwd=known.cwd or whole.cwd or "")
    return known


def _text(source: Mapping[str, Scalar], key: str) -> str:
    value = source.get(key)
    return value if isinstance(value, str) else ""


def _summary(head: Sequence[bytes], tail: Sequence[bytes]) -> Summary | None:
    try:
        return summarise(head, tail)
    except Exception:  # a reader's bug must not keep a transcript from being stored
        logger.exception("a transcript could not be summarised")
        return None
