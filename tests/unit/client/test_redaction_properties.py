"""Redaction is a function of the line; doing it again changes nothing; JSON stays JSON of the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import secrets_corpus

SECRETS = [item.secret for item in secrets_corpus.planted(seed=3, count=100)]
PIECES = st.sampled_from(
    [*SECRETS, "password=", "token: ", '"secret": "', "://u:", "@h", "<private>", "</private>", "[REDACTED:jwt]",
     "\\n", "\\", '"', "'", "\n", " ", "{", "}", "[", "]", "-----BEGIN PRIVATE KEY-----", "-----END ",
     "\\u0041", "\\/", "é", "a1b2c3d4", "AKIA", "eyJ", "--token", ":", ",", "value: ", "\ud800", "\u0130", "\u212a"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).map("".join)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(TEXTS, st.sampled_from(["password", "token", "name", "value", "api_key"])), inner, max_size=4
        ),
        inner.map(json.dumps),
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def redactor(sync: ModuleType) -> Any:
    return sync.Redactor(sync.parse_rules((Path(sync.__file__).parent / "redaction_rules.json").read_bytes()))


class Pairs(list[tuple[str, Any]]):
    """The pairs of an object, doubled keys too."""


def shape(line: bytes | str) -> object:
    def of(value: object) -> object:
        if isinstance(value, str):
            return ""
        if isinstance(value, Pairs):
            return [("", of(inner)) for _, inner in value]
        return [of(inner) for inner in value] if isinstance(value, list) else value

    return of(json.loads(line, object_pairs_hook=Pairs))


@pytest.mark.spec("REDACT-5")
@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_redacting_again_changes_nothing(redactor: Any, text: str) -> None:
    for line in (text.encode("utf-8", "surrogatepass"), json.dumps(text).encode()):
        redacted, _ = redactor.line(line)
        assert redactor.line(redacted)[0] == redacted
    redacted, _ = redactor.text(text)
    assert redactor.text(redacted)[0] == redacted


@pytest.mark.spec("REDACT-5")
@settings(deadline=None, max_examples=300)
@given(value=VALUES, ascii_only=st.booleans())
def test_json_keeps_its_shape(redactor: Any, value: object, ascii_only: bool) -> None:
    try:
        line = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        line = json.dumps(value).encode()
    redacted, found = redactor.line(line)

    assert shape(redacted) == shape(line)
    assert (redacted == line) == (not found)
    assert redactor.line(redacted)[0] == redacted


@pytest.mark.spec("REDACT-5")
@given(lines=st.lists(TEXTS, max_size=4))
@settings(deadline=None, max_examples=60)
def test_a_line_depends_on_no_other(redactor: Any, lines: list[str]) -> None:
    encoded = [json.dumps(line).encode() for line in lines]

    assert [redactor.line(line)[0] for line in encoded] == [redactor.line(line)[0] for line in reversed(encoded)][::-1]
