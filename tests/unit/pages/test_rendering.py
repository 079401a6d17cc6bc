"""Times, sizes and snippets as people read them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from federated_memory.pages.rendering import ago, count, marks, moment, size, url_of, without_marks

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("at", "said"),
    [("2026-11-21T11:59:50Z", "just now"), ("2026-11-21T11:57:59.123Z", "2 minutes ago"),
     ("2026-11-21T10:59:00Z", "1 hour ago"),
     ("2026-11-18T12:00:00Z", "3 days ago"), ("2026-11-01T12:00:00Z", "2 weeks ago"),
     ("2026-08-01T12:00:00Z", "3 months ago"),
     ("2023-08-01T12:00:00Z", "3 years ago"), ("2027-01-01T00:00:00Z", "just now"), ("", ""), (None, ""), ("soon", "")],
)  # fmt: skip
def test_how_long_ago(at: str | None, said: str) -> None:
    assert ago(at, NOW) == said


@pytest.mark.spec("SITE-9", "SITE-5")
def test_marks_of_a_snippet_are_the_only_tags() -> None:
    assert str(marks("a «<b>» c & «d» »e« f")) == "a <mark>&lt;b&gt;</mark> c &amp; <mark>d</mark> »e« f"
    assert str(marks("«open")) == "«open"


def test_small_words() -> None:
    assert (size(0), size(999), size(1_500), size(100_000_000)) == ("0 bytes", "999 bytes", "1.5 kB", "100 MB")
    assert (count(1, "line"), count(12_345, "line")) == ("1 line", "12,345 lines")
    assert moment("2026-11-21T08:15:00Z") == "2026-11-21 08:15"
    assert without_marks("a **bold** `code` 2 ** 3") == "a bold code 2 ** 3"


@pytest.mark.spec("SITE-5")
def test_a_path_of_any_name_stays_one_path() -> None:
    assert url_of("w", "x", "knowledge", "a b/Über?#&.md", line=3, q="a&b") == (
        "/w/x/knowledge/a%20b/%C3%9Cber%3F%23%26.md?line=3&q=a%26b"
    )
    assert url_of("w", "x", start="", byte=None) == "/w/x"
