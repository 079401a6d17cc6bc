"""Names from outside: what is welcome, what is refused, and that nothing is repaired."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.errors import InvalidArgument, InvalidName
from federated_memory.names import (
    document_path_problem,
    fold,
    parse_document_path,
    parse_etag,
    parse_session_id,
    parse_workspace_id,
    shown,
    slug,
    workspace_id_of,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "slugs.json").read_text(encoding="utf-8"))
HOSTILE = json.loads((Path(__file__).parents[1] / "vectors" / "hostile_paths.json").read_text(encoding="utf-8"))


@pytest.mark.spec("NAME-3")
@pytest.mark.parametrize(("text", "expected"), VECTORS["slugs"])
def test_slug_gives_the_shared_vector(text: str, expected: str) -> None:
    assert slug(text) == expected


@pytest.mark.spec("NAME-3")
@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_slug_is_always_a_short_id(text: str) -> None:
    found = slug(text)

    assert len(found) <= 20
    assert parse_workspace_id(found) == found


@pytest.mark.spec("NAME-3")
@given(st.text(min_size=1, max_size=40).filter(str.strip), st.text(min_size=1, max_size=40).filter(str.strip))
def test_different_names_have_different_slugs_unless_only_case_differs(one: str, other: str) -> None:
    if slug(one) == slug(other):
        assert one.lower() == other.lower()


@pytest.mark.spec("NAME-3")
def test_blank_names_have_no_slug() -> None:
    with pytest.raises(InvalidArgument):
        slug("  ")


@pytest.mark.spec("NAME-3")
@given(*[st.text(min_size=1, max_size=80).filter(str.strip)] * 3)
def test_three_slugs_always_make_a_legal_workspace_id(machine: str, tool: str, project: str) -> None:
    assert len(workspace_id_of(machine, tool, project)) <= 64


@pytest.mark.spec("NAME-2")
@pytest.mark.parametrize(
    "path", ["auto/MEMORY.md", "Über uns.md", "Meeting notes.md", "a/b/c/d.md", "記憶.md", "v1.2-notes_(draft).md"]
)
def test_ordinary_document_paths_are_welcome(path: str) -> None:
    assert parse_document_path(path) == path


@pytest.mark.spec("NAME-2", "SEC-1")
@pytest.mark.parametrize("path", HOSTILE["paths"], ids=shown)
def test_hostile_document_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        parse_document_path(path)


@pytest.mark.spec("NAME-1", "SEC-1")
@pytest.mark.parametrize("name", HOSTILE["ids"], ids=shown)
def test_hostile_ids_are_refused(name: str) -> None:
    for parse in (parse_workspace_id, parse_session_id):
        with pytest.raises(InvalidName):
            parse(name)


@pytest.mark.spec("NAME-2", "SEC-1")
@given(st.text(alphabet=st.characters() | st.sampled_from("./\\:% \u202e\u200b"), max_size=40))
def test_whatever_is_accepted_stays_below_its_folder(text: str) -> None:
    path = text + ".md"
    if document_path_problem(path):
        return

    parts = path.split("/")

    assert not any(part in ("", ".", "..") or part[0] == "." for part in parts)
    assert "\0" not in path
    assert "\\" not in path
    assert Path("/root", path).resolve().is_relative_to("/root")


@pytest.mark.spec("NAME-4")
def test_session_ids_are_lower_cased_native_ids() -> None:
    assert parse_session_id("0198C1B2-AAAA") == "0198c1b2-aaaa"


@pytest.mark.spec("NAME-4")
def test_letters_that_lower_case_into_ascii_are_not_repaired() -> None:
    with pytest.raises(InvalidName):
        parse_session_id("\u212aelvin")  # KELVIN SIGN lower-cases to k


@pytest.mark.spec("NAME-5")
def test_names_collide_when_only_case_or_form_differs() -> None:
    assert fold("STRASSE.md") == fold("straße.md")
    assert fold("U\u0308ber.md") == fold("über.md")


@pytest.mark.parametrize("text", ["", "abc", "A" * 64, "0" * 63])
def test_only_hexadecimal_digests_are_etags(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_etag(text)


@given(st.text(max_size=200))
def test_shown_names_are_one_line_of_printable_ascii(text: str) -> None:
    assert set(shown(text)) <= set(string.printable) - set("\r\n\t\x0b\x0c")
