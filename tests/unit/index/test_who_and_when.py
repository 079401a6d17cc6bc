"""Who spoke, and when, decides between those who said the same things (SPEC: FIND-7)."""

from __future__ import annotations

import json

import pytest

from tests.unit.index.rig import Rig, keys, turn


def record(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"


FORMS = {
    "name and colon": lambda name, text: turn("user", f"{name}: {text}"),
    "in bold": lambda name, text: turn("assistant", f"**{name}:** {text}"),
    "with a time": lambda name, text: turn("user", f"{name} (10:04 am): {text}"),
    "first field": lambda name, text: record(speaker=name, text=text),
    "last field": lambda name, text: record(text=text, role="user", name=name),
    "in place of a role": lambda name, text: record(content=text, role=name),
    "a line of text": lambda name, text: f"{name}: {text}\n".encode(),
}


@pytest.mark.spec("FIND-7")
@pytest.mark.parametrize("form", FORMS)
def test_what_the_person_said_whom_the_query_names_comes_first(rig: Rig, form: str) -> None:
    """The other one says more of what is asked for, and the name too."""
    said = FORMS[form]
    rig.upload("nora", said("Nora Kay", "the pottery class has begun"))
    rig.upload("felix", said("Felix", "Nora, when will you take a pottery class?"))
    rig.catch_up()

    assert keys(rig.memory("When did Nora take a pottery class?"))[0] == "nora"
    assert keys(rig.memory("when did felix take a pottery class?"))[0] == "felix"


@pytest.mark.spec("FIND-7")
def test_a_label_of_what_a_tool_gave_back_is_no_speaker(rig: Rig) -> None:
    rig.upload("tool", turn("tool", "Error: connection refused"))
    rig.upload("said", turn("user", "I see an error, connection refused"))
    rig.catch_up()

    assert keys(rig.memory("Error connection refused")) == ["said", "tool"]


@pytest.mark.spec("FIND-7")
def test_a_session_of_the_days_that_the_query_names_comes_first(rig: Rig) -> None:
    rig.upload("may", turn("user", "I adopted a dog, finally", "2023-05-08T10:00:00.000Z"))
    rig.upload("june", turn("user", "I adopted a dog, a dog", "2023-06-08T10:00:00.000Z"))
    rig.catch_up()

    assert keys(rig.memory("what dog was adopted in May?"))[0] == "may"
    assert keys(rig.memory("what dog was adopted on 8 June 2023?"))[0] == "june"


@pytest.mark.spec("FIND-4")
@pytest.mark.parametrize(
    ("text", "query"),
    [("we bought it", "what did they buy?"), ("they buy it", "bought"), ("two children", "child"),
     ("it broke", "break"), ("people left", "leave"), ("WE WROTE it", "write")],
)  # fmt: skip
@pytest.mark.parametrize("is_indexed", [True, False])
def test_irregular_forms_find_each_other(rig: Rig, text: str, query: str, is_indexed: bool) -> None:
    rig.upload("s", turn("user", text))
    if is_indexed:
        rig.catch_up()

    hits = rig.sessions(query).hits

    assert [hit.key for hit in hits] == ["s"]
    marked = hits[0].snippet.partition("«")[2].partition("»")[0]
    assert marked in text.split()
