"""When no word of a query is anywhere: memories that hold it inside a word (SPEC: MEM-4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from federated_memory.errors import FederatedMemoryError
from federated_memory.index import Source, View
from federated_memory.index.reader import RowScope
from federated_memory.names import DocumentPath, WorkspaceId
from federated_memory.search.fusion import Entry
from federated_memory.search.hit import Hit
from federated_memory.search.query import plain
from federated_memory.search.snippet import snippet
from federated_memory.search.terms import Term
from federated_memory.store.document import Key
from federated_memory.store.documents import Documents
from federated_memory.store.memory_file import searched_text

_MOST_ROWS, _MOST_READ = 2_000, 50
_SHORTEST = 3


def find_inside_words(
    view: View, documents: Documents, terms: Sequence[Term], scope: RowScope, is_shown: Callable[[Source], bool]
) -> list[Entry]:
    """The newest memories with a term anywhere in their text, those that hold more terms first."""
    texts = [term.text.casefold() for term in terms if len(term.text) >= _SHORTEST and not term.alike_of]
    sources: dict[int, Source] = {}
    for text in texts:
        expression = view.holding([text])
        if expression is None:
            continue
        segments = map(view.library.segment_of, view.rows("noted", expression, scope).newest(_MOST_ROWS).rows)
        titled = map(view.library.sources.get, view.heads("title", expression, _MOST_ROWS))
        for source in (*(segment.source for segment in segments if segment is not None), *titled):
            if source is not None and source.kind == "memory" and is_shown(source):
                sources[source.id] = source
    newest = sorted(sources.values(), key=lambda source: source.place, reverse=True)[:_MOST_READ]
    found = [entry for source in newest if (entry := _entry(documents, source, texts)) is not None]
    return sorted(found, key=lambda entry: (entry.score, entry.at), reverse=True)


def _entry(documents: Documents, source: Source, texts: Sequence[str]) -> Entry | None:
    key = Key(WorkspaceId(source.workspace_id), "memory", DocumentPath(source.key))
    memory_id = key.name.removesuffix(".md")
    try:
        document, data = documents.read(key)
    except FederatedMemoryError:  # gone meanwhile
        return None
    text = plain(searched_text(memory_id, data)).decode()
    # The places are those of the text itself: folding may change its length.
    low = text.lower() if len(text.lower()) == len(text) else text
    spans = sorted((at, at + len(part)) for part in texts if (at := low.find(part)) >= 0)
    if not spans:
        return None
    marked = [(len(text[:start].encode()), len(text[:end].encode())) for start, end in spans]
    line = text.count("\n", 0, spans[0][0])
    score = round(0.1 * len(spans) / max(1, len(texts)), 6)
    hit = Hit("memory", key.workspace_id, key.path, line, "", document.title, document.updated_at,
              snippet(text.encode(), marked), score)  # fmt: skip
    return Entry(score, document.updated_at, "memory", key.workspace_id, key.path, (), hit)
