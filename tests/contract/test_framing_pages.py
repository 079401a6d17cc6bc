"""The payloads of `test_framing` on every page that shows stored text: the page stays what it is (SPEC: SITE-15)."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, Home, Reply, Server
from tests.contract.test_framing import PAYLOADS
from tests.contract.test_framing_everywhere import MARK
from tests.contract.visitor import Visitor, shown, signed_in, tags
from tests.fault.tally import tally

MORE = [
    '<script>obey()</script>', "</title></head><body onload=obey()>", "</main></body></html>", "<!-- ", "-->", "]]>",
    '"><img src=x onerror=obey()>', "' onmouseover='obey()", "&#x202e;obey", "&#x1b;[31m", "&lt;script&gt;",
    "[x](javascript:obey())", "</bdi></code></pre></article>", "{{ config }}{% raw %}", "<svg/onload=obey()>",
    "<base href=//evil.example>", '<meta http-equiv="refresh" content="0;url=//evil.example">',
    "<form action=//evil.example><input name=form_token>",
]  # fmt: skip
FRAME = ("html", "head", "body", "title", "header", "nav", "main", "footer", "h1", "script", "link", "meta", "base",
         "iframe", "object", "embed", "svg", "style", "textarea")  # fmt: skip
"""What makes a page; stored text makes none of it."""
JOINERS = "\u200c\u200d\ufe0e\ufe0f"


@pytest.fixture(scope="module")
def shared(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(portal, tmp_path_factory.mktemp("pages") / "memory", toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


def frame_of(body: str) -> Counter[str]:
    """How often each of those tags is opened and closed in a page."""
    opened = Counter(tag for tag, _ in tags(Reply(200, {}, body.encode())) if tag in FRAME)
    return opened + Counter({f"/{tag}": body.lower().count(f"</{tag}") for tag in FRAME})


def hidden(body: str) -> list[str]:
    """Characters that nobody sees."""
    return sorted({
        hex(ord(one)) for one in body
        if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") and one not in "\n\t\r" + JOINERS
    })  # fmt: skip


def wrong(body: str, usual: Counter[str]) -> list[str]:
    """What a page has that it must not have."""
    frame = frame_of(body)
    found = [f"{name}: {frame[name]} for {usual[name]}" for name in frame | usual if frame[name] != usual[name]]
    found += [f"hidden {code}" for code in hidden(body)]
    for tag, attributes in tags(Reply(200, {}, body.encode())):
        found += [f"{tag} {name}" for name in attributes if name.startswith("on") or name == "style"]
        address = (attributes.get("href") or attributes.get("src") or attributes.get("action") or "").strip().lower()
        found += [f"{tag} {address[:40]}"] if address.startswith(("javascript:", "data:", "vbscript:")) else []
        is_ours = tag != "form" or not address or (address.startswith(("/", "?")) and not address.startswith("//"))
        found += [] if is_ours else [f"form to {address[:40]}"]
    return found


def stored(server: Server, home: Home, payload: str) -> list[str]:
    """The pages that show the payload, which stands in as much as takes it."""
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    text = f"{payload}\n{MARK}"
    for change in ("", "\nmore"):
        assert http.put(home.url("/knowledge/a.md"), f"# {text}{change}").code == "ok"
        assert http.put(home.url("/overview"), f"# {text}{change}").code == "ok"
    lines = {"subject": f"{payload[:60]} {MARK}", "summary": payload[:90]}
    kept = http.post(
        "/api/v1/memories", {"content": text, **{name: " ".join(one.split()) for name, one in lines.items()}}
    )
    said = [
        {"type": "user", "uuid": "u", "message": {"role": "user", "content": text}},
        {"type": "assistant", "uuid": "v", "message": {"role": "assistant", "content": [
            {"type": "text", "text": text},
            {"type": "tool_use", "id": "t", "name": payload[:40] or "x", "input": {"command": text}}]}},
        {"type": "user", "uuid": "w", "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": text}]}},
    ]  # fmt: skip
    assert http.put(home.url("/sessions/s1"), "".join(json.dumps(one) + "\n" for one in said)).code == "ok"
    server.services.core.index.catch_up()
    w = f"/w/{home.workspace_id}"
    memory = [f"{w}/memories/{kept.json['memory_id']}"] if kept.code == "ok" else []
    return [
        "/", w, f"{w}/knowledge", f"{w}/knowledge/a.md", f"{w}/history/a.md", f"{w}/history/a.md?from=1&to=2",
        f"{w}/history", f"{w}/sessions", f"{w}/sessions/s1", f"{w}/sessions/s1?line=1", f"{w}/memories", "/memories",
        f"/search?q={MARK}", f"/search?q={MARK}&mode=literal", f"/search?q={quote(payload[:200], safe='')}",
        "/machines", *memory,
    ]  # fmt: skip


def looked_at(visitor: Visitor, page: str) -> str:
    reply = visitor.get(page)
    assert reply.headers["content-type"].startswith("text/html"), page
    return reply.body.decode()


@pytest.mark.thorough
@pytest.mark.spec("SITE-5", "SITE-15", "SEC-4")
def test_no_payload_changes_the_page_that_shows_it(shared: Server) -> None:
    visitor = signed_in(shared, ADMIN_TOKEN)
    found: dict[str, list[str]] = {}
    seen = tried = 0
    home = shared.settle("home")
    usual = [frame_of(looked_at(visitor, page)) for page in stored(shared, home, "harmless words")]
    for number, payload in enumerate([*PAYLOADS, *MORE]):
        for page, frame in zip(stored(shared, home, payload), usual, strict=False):
            body = looked_at(visitor, page)
            tried += 1
            seen += MARK in body
            if more := wrong(body, frame):
                found[f"{number} {page}"] = more[:3]
    tally("payloads on pages", trials=tried, escapes=len(found))

    assert found == {}
    assert seen > 8 * len(PAYLOADS)


@pytest.mark.spec("SITE-15")
def test_what_nobody_sees_is_named(shared: Server) -> None:
    home = shared.settle("named")
    http = shared.http(AI_TOKEN, x_memory_binding=home.binding)
    tagged = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
    family = "\U0001f469\u200d\U0001f4bb\ufe0f"
    text = f"# a\u202eb\n\nx{tagged}y\x1b[2J z\u200bz {family} &#x2066;\n"
    assert http.put(home.url("/knowledge/a.md"), text).code == "ok"

    text = shown(signed_in(shared, ADMIN_TOKEN).get(f"/w/{home.workspace_id}/knowledge/a.md"))

    assert "a⟦U+202E⟧b" in text
    assert "x⟦U+E006F⟧⟦U+E0062⟧⟦U+E0065⟧⟦U+E0079⟧y⟦U+001B⟧[2J z⟦U+200B⟧z" in text
    assert family in text
    assert "⟦U+2066⟧" in text


def test_a_page_that_escapes_nothing_is_found_out() -> None:
    """The broken twin: a template without escapes, and one that hides what is hidden."""
    usual = frame_of("<html><body><main><p>x</p></main></body></html>")

    for payload in (*MORE[:3], *MORE[14:17]):
        assert wrong(f"<html><body><main><p>{payload}</p></main></body></html>", usual), payload
    assert wrong("<html><body><main><p>a\u202eb</p></main></body></html>", usual) == ["hidden 0x202e"]
    assert wrong("<html><body><main><p>a</p></main></body></html>", usual) == []
