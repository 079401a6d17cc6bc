"""The text form of a brief (SPEC: BRIEF-1, PAGE-1)."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.service.results import Brief
from federated_memory.tools.render import render

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)
IDS = st.lists(st.text(alphabet="abc-", min_size=1, max_size=20), max_size=5)


@pytest.mark.spec("BRIEF-1", "PAGE-1")
@given(TEXT, TEXT, IDS, st.none() | st.just("w"))
def test_the_text_of_a_brief_takes_no_more_than_its_json(
    why: str, text: str, candidates: list[str], workspace_id: str | None
) -> None:
    found = Brief(
        workspace_id=workspace_id, why=why, text=text, as_of="2026-11-21T08:00:00.000Z", candidates=candidates or None
    )

    assert len(render(found).encode()) <= len(orjson.dumps(found.as_dict()))


@pytest.mark.spec("BRIEF-1")
def test_unsure_the_text_says_why_and_names_the_candidates() -> None:
    unsure = Brief(why="Nothing is bound. Call this", text="", as_of="now", candidates=["a", "b"])
    sure = Brief(workspace_id="a", why="bound", text="# Memory brief", as_of="now")

    assert render(unsure) == "Nothing is bound. Call this.\n- a\n- b"
    assert render(sure) == "# Memory brief"
    assert "workspace_id" not in unsure.as_dict()
