"""Markdown as HTML that can do no harm (SPEC: SITE-6)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.pages import markdown
from federated_memory.pages.markdown import rendered

PIECES = st.lists(
    st.sampled_from([
        "<script>", "</script>", "<img src=x onerror=a>", "](", "[", "!", "javascript:", "data:text/html,", "`",
        "```\n",
        "\n", "> ", "- ", "# ", "|", "|-|\n", "<a href='javascript:x'>", "&#106;", '" onclick="', "http://e/", "\\",
        "<!--", "*", "_", "<svg/onload=a>", "x", " ",
    ]),
    max_size=40,
).map("".join)  # fmt: skip
TAG = re.compile(r"<\s*/?\s*([a-zA-Z0-9]+)([^>]*)>")


def harm_in(html: str) -> list[str]:
    found = []
    for tag, attributes in TAG.findall(html):
        names = re.findall(r"([a-z-]+)=\"", attributes)
        if tag not in markdown._TAGS or not {*names} <= {"href", "title", "rel", "id", "class", "start"}:
            found.append(f"<{tag}{attributes}>")
    links = re.findall(r'href="([^"]*)"', html)
    return found + [
        link for link in links if re.match(r"\s*[a-z]+:", link, re.I) and not re.match(r"(https?|mailto):", link, re.I)
    ]


@pytest.mark.spec("SITE-6")
@given(text=PIECES, line=st.none() | st.integers(0, 5))
def test_nothing_that_is_rendered_does_harm(text: str, line: int | None) -> None:
    assert harm_in(str(rendered(text, line))) == []


@pytest.mark.spec("SITE-6")
def test_the_second_line_of_defence_holds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renderer that lets everything through, as a fault in it could, changes nothing."""
    from markdown_it import MarkdownIt

    careless = MarkdownIt("commonmark", {"html": True})
    monkeypatch.setattr(careless, "validateLink", lambda _: True)
    monkeypatch.setattr(markdown, "_parser", lambda: careless)
    text = (
        '<script>a</script><p id="find" class="top" style="x" onclick="a">b</p> [c](javascript:a)'
        '<img src="http://e/">\n\n<iframe src=x>'
    )

    html = str(rendered.__wrapped__(text))

    assert harm_in(html) == []
    assert 'id="text-find"' in html, "an id of the text is none of the page's"
    assert "top" not in html


@pytest.mark.spec("SITE-6")
@pytest.mark.parametrize(
    ("text", "expected"),
    [("# a", "<h2>a</h2>"), ("###### a", "<h6>a</h6>"), ("~~a~~", "<p><s>a</s></p>"),
     ("<b>a</b>", "<p>&lt;b&gt;a&lt;/b&gt;</p>"),
     ("3. a", '<ol start="3">\n<li>a</li>\n</ol>'), ("```py\na<b\n```", '<pre><code class="">a&lt;b\n</code></pre>'),
     ("![alt](http://e/x.png)", '<p><a href="http://e/x.png" rel="noopener noreferrer nofollow">alt</a></p>')],
)  # fmt: skip
def test_what_markdown_means_is_kept(text: str, expected: str) -> None:
    assert str(rendered(text)).strip() == expected
