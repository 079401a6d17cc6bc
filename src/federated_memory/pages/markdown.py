"""Stored Markdown as HTML that can do no harm: no HTML of its own, no images, no links but to pages and mail.

Two lines of defence (SPEC: SITE-6): the renderer makes none of that, and what it made goes through an allow-list.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererProtocol
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict
    from markupsafe import Markup

MOST_BYTES = 32 * 1024
"""What is rendered at once takes 20 ms; longer text comes in pages, or as it is."""
_HIT = "hit"
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ID_PREFIX = "text-"
HIT_ANCHOR = _ID_PREFIX + _HIT


@functools.lru_cache(maxsize=64)
def rendered(text: str, hit_line: int | None = None) -> Markup:
    """HTML of a text of at most `MOST_BYTES`; the block of its line `hit_line` gets the id `HIT_ANCHOR`."""
    import nh3
    from markupsafe import Markup

    parser = _parser()
    tokens = parser.parse(text)
    _lower_headings(tokens)
    if hit_line is not None:
        _mark(tokens, hit_line)
    html = parser.renderer.render(tokens, parser.options, {})
    safe = nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "*": {"id"}},
        allowed_classes={tag: {_HIT} for tag in _TAGS},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        id_prefix=_ID_PREFIX,
    )
    return Markup(safe)


@functools.lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image)
    return parser


def _image(
    _: RendererProtocol, tokens: Sequence[Token], index: int, __: OptionsDict, ___: MutableMapping[str, Any]
) -> str:
    """Its address as a link: an image from elsewhere would tell that host who reads what."""
    from markupsafe import escape

    token = tokens[index]
    source, text = str(token.attrs.get("src", "")), token.content
    return f'<a href="{escape(source)}">{escape(text or source or "image")}</a>'


def _lower_headings(tokens: Sequence[Token]) -> None:
    """The page has the one heading of the first level."""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"


def _mark(tokens: Sequence[Token], line: int) -> None:
    """The smallest block that holds the line."""
    found = None
    for token in tokens:
        if token.map and token.map[0] <= line < token.map[1] and token.nesting >= 0 and token.tag and not token.hidden:
            found = token
    if found is not None:
        found.attrJoin("class", _HIT)
        found.attrSet("id", _HIT)
