"""The text form of every result (SPEC: TOOL-2, TOOL-4, PAGE-1)."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.service import results as r
from federated_memory.tools.render import render

TOOL_RESULTS = [
    r.WorkspaceList, r.Overview, r.Registered, r.DocumentList, r.DocumentText, r.DocumentWritten, r.DocumentDeleted,
    r.History, r.Brief, r.SessionList, r.SessionPage, r.SessionStored, r.Hits,
]  # fmt: skip
ETAG = "0" * 64
AT = "2026-11-21T08:00:00.000Z"
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.mark.spec("TOOL-2")
@pytest.mark.parametrize("kind", TOOL_RESULTS)
def test_every_result_of_a_tool_has_a_text_form(kind: type[r.Result]) -> None:
    assert render.dispatch(kind) is not render.dispatch(r.Result)


@pytest.mark.spec("PAGE-1")
@given(TEXT, st.integers(0, 9), st.none() | st.integers(0, 9), st.none() | st.integers(1, 9), st.none() | st.just(ETAG))
def test_the_text_of_a_document_takes_no_more_than_its_json(
    text: str, offset: int, next_offset: int | None, next_byte_offset: int | None, etag: str | None
) -> None:
    found = r.DocumentText(
        workspace_id="w", path="a.md", version=1, etag=etag, updated_at=AT, lines=1, offset=offset, text=text,
        truncated=etag is None, next_offset=next_offset, next_byte_offset=next_byte_offset,
    )  # fmt: skip

    assert len(render(found).encode()) <= len(orjson.dumps(found.as_dict()))


@pytest.mark.spec("PAGE-1")
@given(st.lists(st.tuples(TEXT, st.none() | TEXT)), st.booleans())
def test_the_text_of_a_transcript_takes_no_more_than_its_json(said: list[tuple[str, str | None]], more: bool) -> None:
    messages = [r.Message(line=n, role="tool", at=AT, tool=tool, text=text) for n, (text, tool) in enumerate(said)]
    found = r.SessionPage(
        workspace_id="w", session_id="s", title="t", agent="a", revision=1, sha256=ETAG, lines=9, offset=0,
        messages=messages, truncated=more, next_offset=9 if more else None,
    )  # fmt: skip

    assert len(render(found).encode()) <= len(orjson.dumps(found.as_dict()))


@pytest.mark.spec("PAGE-1")
@given(st.lists(TEXT), st.none() | st.just("c" * 40))
def test_the_text_of_lists_takes_no_more_than_their_json(titles: list[str], cursor: str | None) -> None:
    lists: list[r.Result] = [
        r.DocumentList(
            workspace_id="w", total=9, next_cursor=cursor,
            documents=[r.DocumentRow(path="a.md", title=t, bytes=1, etag=ETAG, updated_at=AT) for t in titles],
        ),
        r.WorkspaceList(
            total=9, next_cursor=cursor,
            workspaces=[
                r.WorkspaceRow(workspace_id="w", machine="m", tool="t", project="p", summary=t, documents=1, sessions=1,
                               last_activity=AT) for t in titles
            ],
        ),
        r.SessionList(
            next_cursor=cursor,
            sessions=[
                r.SessionRow(workspace_id="w", session_id="s", title=t, agent="a", started_at=AT, ended_at=AT, lines=1,
                             bytes=1, sha256=ETAG, revision=1) for t in titles
            ],
        ),
        r.Hits(
            complete=True, next_cursor=cursor,
            hits=[r.HitRow(kind="session", workspace_id="w", session_id="s", offset=1, title="t", at=AT, snippet=t)
                  for t in titles],
        ),
        r.History(
            workspace_id="w", path="a.md", next_cursor=cursor,
            versions=[r.VersionRow(version=1, etag=ETAG, at=AT, by="b", source="s", operation="write") for _ in titles],
        ),
    ]  # fmt: skip
    for found in lists:
        assert len(render(found).encode()) <= len(orjson.dumps(found.as_dict())) + 60, type(found)
        assert all(line.isprintable() for line in render(found).split("\n"))


@pytest.mark.spec("TOOL-2", "PAGE-2")
def test_an_answer_that_is_not_complete_says_so_and_how_to_go_on() -> None:
    text = render(r.Hits(hits=[], complete=False, note="the search took over 10 seconds", next_cursor="abc"))

    assert "More: cursor=abc" in text
    assert "Not complete: the search took over 10 seconds" in text


@pytest.mark.spec("TOOL-2", "BIND-1")
def test_a_registration_shows_its_binding_and_write_token() -> None:
    text = render(r.Registered(workspace_id="w", created=True, binding="b1", write_token="wt", note="n"))

    assert text.splitlines() == ["Registered: w", "binding: b1", "write_token: wt", "n"]


@pytest.mark.spec("TOOL-2")
def test_absent_is_left_out_but_for_an_ended_list() -> None:
    assert r.WorkspaceList(workspaces=[], total=0).as_dict() == {"workspaces": [], "total": 0, "next_cursor": None}
    assert "etag" not in r.DocumentText(
        workspace_id="w", path="a.md", version=1, updated_at=AT, lines=0, offset=0, text=""
    ).as_dict()  # fmt: skip
