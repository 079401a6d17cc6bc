"""What the pages show of what is stored: documents, versions, sessions, hits, and that none of it does harm."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from federated_memory.pages import documents, finding, paging, transcripts
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, Home, Http, Server
from tests.contract.visitor import Visitor, links, shown, signed_in, tags

HOSTILE = """# <script>alert("title")</script>

<script>alert(1)</script> <img src=x onerror=alert(2)> <a href="javascript:alert(3)">x</a>

[one](javascript:alert(4)) [two](JaVaScRiPt:alert(5)) [three](data:text/html,<script>alert(6)</script>)
[four](vbscript:x) [five](&#106;avascript:alert(7)) <javascript:alert(8)> ![six](http://evil.example/pixel.png)
[seven](http://evil.example/" onmouseover="alert(9)) [good](https://example.org/page) [doc](../other.md)

```"><script>alert(10)</script>
</code></pre><script>alert(11)</script>
```

| a | <b onclick=alert(12)> |
|---|---|
| <svg/onload=alert(13)> | {{ 7*7 }} {% raw %} |

<div id="find" class="top">x</div> <form action="/sign-out"><input name=form_token></form>
"""
ALLOWED_SCRIPTS = {"/assets/pages.js"}


def line(text: str, role: str = "user", **more: object) -> str:
    message = {"role": role, "content": text}
    return json.dumps({"type": role, "uuid": "u", "message": message, "timestamp": "2026-11-20T08:00:00Z", **more})


def call(name: str, text: str) -> str:
    block = {"type": "tool_use", "id": "t", "name": name, "input": {"command": text}}
    return json.dumps({"type": "assistant", "uuid": "u", "message": {"role": "assistant", "content": [block]}})


def result(text: str) -> str:
    block = {"type": "tool_result", "tool_use_id": "t", "content": text}
    return json.dumps({"type": "user", "uuid": "u", "message": {"role": "user", "content": [block]}})


@pytest.fixture
def home(server: Server) -> Home:
    return server.settle("home")


@pytest.fixture
def writer(server: Server, home: Home) -> Http:
    return server.http(AI_TOKEN, x_memory_binding=home.binding)


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return signed_in(server, ADMIN_TOKEN)


def page_url(home: Home, *parts: str) -> str:
    return "/" + "/".join(quote(part) for part in ("w", home.workspace_id, *parts))


# -- harmless


@pytest.mark.spec("SITE-5", "SITE-6", "SEC-4")
def test_hostile_text_is_shown_and_does_nothing(server: Server, home: Home, writer: Http, visitor: Visitor) -> None:
    name = "q<script>alert(1)<>\"'.md".translate(str.maketrans({"<": "‹", ">": "›", '"': "'"}))
    for path in (name, "a&amp;b/'onload=alert(1).md", "{{config}}.md"):
        assert writer.put(home.url(f"/knowledge/{quote(path)}"), HOSTILE).code == "ok"
    assert writer.put(home.url("/overview"), HOSTILE).code == "ok"
    assert writer.put(home.url("/overview"), HOSTILE + "more <script>").code == "ok"
    said = [line(HOSTILE), line(HOSTILE, "assistant"), call("<script>alert(1)</script>", HOSTILE), result(HOSTILE)]
    assert writer.put(home.url("/sessions/s1"), "\n".join(said) + "\n").code == "ok"
    server.http(AI_TOKEN).post(
        "/api/v1/workspaces", {"machine": "<script>", "tool": '"><b>', "project": "<svg onload=alert(1)>"}
    )

    paths = [
        "/", "/machines", "/search?q=alert", "/search?q=%3Cscript%3Ealert(1)%3C/script%3E&machine=%22%3E%3Cscript%3E",
        "/search?q=alert&mode=literal", page_url(home), page_url(home, "knowledge"), page_url(home, "history"),
        page_url(home, "knowledge", name), page_url(home, "history", name), page_url(home, "sessions"),
        page_url(home, "knowledge", "a&amp;b", "'onload=alert(1).md"), page_url(home, "knowledge", "{{config}}.md"),
        page_url(home, "sessions", "s1"), page_url(home, "sessions", "s1") + "?line=2&q=%22%3E%3Cscript%3E",
        page_url(home, "knowledge") + "?prefix=%22%3E%3Cscript%3E", "/w/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ]  # fmt: skip
    for path in paths:
        reply = visitor.get(path)
        assert reply.headers["content-type"].startswith("text/html"), path
        found = tags(reply)
        scripts = {attributes.get("src", "").partition("?")[0] for tag, attributes in found if tag == "script"}
        assert scripts == ALLOWED_SCRIPTS, path
        assert not [tag for tag, _ in found if tag in ("iframe", "object", "embed", "base", "svg", "style")], path
        assert {attributes["src"].partition("?")[0] for tag, attributes in found if tag == "img"} <= {
            "/assets/icon.svg"
        }
        assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "style"]
        assert not [url for url in links(reply) if re.match(r"\s*(javascript|data|vbscript):", url, re.IGNORECASE)], (
            path
        )
        ids = [attributes["id"] for _, attributes in found if "id" in attributes]
        assert len(ids) == len(set(ids)), path
    document = visitor.get(page_url(home, "knowledge", name))
    assert 'alert("title")' in shown(document), "it is there to be read"
    assert "{{ 7*7 }} {% raw %}" in shown(document)
    assert "https://example.org/page" in links(document)
    assert "http://evil.example/pixel.png" in links(document), "an image is a link"


@pytest.mark.spec("SITE-5")
def test_a_search_that_fails_says_why_on_its_page(visitor: Visitor) -> None:
    for path, said in (
        ("/search?q=(&mode=regex", "RE2"),
        ("/search?q=x&since=yesterday", "date"),
        ("/search?q=x&kind=secrets", "knowledge, memory, session"),
        ("/search?q=x&workspace_id=nope", "No workspace"),
    ):
        reply = visitor.get(path)
        assert reply.status == 400
        assert said in shown(reply), path


# -- documents


@pytest.mark.spec("SITE-6")
def test_markdown_is_rendered_and_a_hit_is_marked(home: Home, writer: Http, visitor: Visitor) -> None:
    text = "# Title\n\nfirst\n\n- item\n- **needle** here\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    writer.put(home.url("/knowledge/a.md"), text)

    body = visitor.get(page_url(home, "knowledge", "a.md") + "?line=5").body.decode()

    assert "<h2>Title</h2>" in body
    assert "<strong>needle</strong>" in body
    assert "<td>1</td>" in body
    assert re.search(r'<li[^>]* id="text-hit"[^>]*>\s*<strong>needle', body)
    assert body.count('id="text-hit"') == 1


@pytest.mark.spec("SITE-6")
def test_a_long_document_comes_in_pages_that_are_whole_together(home: Home, writer: Http, visitor: Visitor) -> None:
    text = "".join(f"word{number} and some more to fill the line\n\n" for number in range(3_000))
    writer.put(home.url("/knowledge/long.md"), text)

    url, seen = page_url(home, "knowledge", "long.md"), ""
    while url:
        reply = visitor.get(url)
        assert reply.status == 200
        seen += reply.body.decode()
        following = [a["href"] for tag, a in tags(reply) if tag == "a" and a.get("rel") == "next"]
        url = following[0] if following else ""
    words = re.findall(r"<p>(word\d+)\b", seen)
    assert words == [f"word{number}" for number in range(3_000)]
    hit = visitor.get(page_url(home, "knowledge", "long.md") + "?line=5000")
    assert b'id="text-hit"' in hit.body
    assert "word2500" in shown(hit)


@pytest.mark.spec("SITE-7")
def test_two_versions_stand_side_by_side(home: Home, writer: Http, visitor: Visitor) -> None:
    for text in ("one\ntwo\nthree old words\n", "one\nthree new words\nfour\n"):
        writer.put(home.url("/knowledge/a.md"), text)

    body = visitor.get(page_url(home, "history", "a.md") + "?from=1&to=2").body.decode()

    assert '<span class="differs">old</span>' in body
    assert '<span class="differs">new</span>' in body
    assert "four" in body


@pytest.mark.spec("SITE-7")
def test_a_version_is_restored_by_who_may_write(server: Server, home: Home, writer: Http, visitor: Visitor) -> None:
    for text in ("one\n", "two\n"):
        writer.put(home.url("/knowledge/a.md"), text)
        writer.put(home.url("/overview"), text)
    etag = writer.get(home.url("/knowledge/a.md")).headers["etag"].strip('"')
    visitor.get(page_url(home, "history", "a.md"))

    done = visitor.post(page_url(home, "restore"), path="a.md", version="1", if_match=etag)
    overview = visitor.post(page_url(home, "restore"), path="", version="1")
    stale = visitor.post(page_url(home, "restore"), path="a.md", version="2", if_match=etag)
    page = visitor.get(done.headers["location"])

    assert (done.status, overview.status, stale.status) == (303, 303, 409)
    assert writer.get(home.url("/knowledge/a.md")).body == b"one\n"
    assert writer.get(home.url("/overview")).body == b"one\n"
    assert "Restored: version 3" in shown(page)
    assert f'"POST {page_url(home, "restore")}"' in (server.root / "_meta" / "audit.jsonl").read_text()


@pytest.mark.spec("SITE-7")
def test_a_deleted_document_is_brought_back(home: Home, writer: Http, visitor: Visitor) -> None:
    writer.put(home.url("/knowledge/a.md"), "one\n")
    writer.delete(home.url("/knowledge/a.md"))

    gone, history = visitor.get(page_url(home, "knowledge", "a.md")), visitor.get(page_url(home, "history", "a.md"))
    done = visitor.post(page_url(home, "restore"), path="a.md", version="1")

    assert (gone.status, history.status, done.status) == (404, 200, 303)
    assert writer.get(home.url("/knowledge/a.md")).body == b"one\n"


@pytest.mark.spec("SITE-7")
def test_deleted_documents_are_listed_and_brought_back(home: Home, writer: Http, visitor: Visitor) -> None:
    for path in ("kept.md", "first.md", "(b)gone.md", "second.md"):
        writer.put(home.url(f"/knowledge/{quote(path)}"), f"# <i>{path}</i>\n")
        if path != "kept.md":
            writer.delete(home.url(f"/knowledge/{quote(path)}"))
    assert page_url(home, "deleted") in links(visitor.get(page_url(home, "knowledge")))

    before = visitor.get(page_url(home, "deleted"))
    fields = {a["name"]: a["value"] for tag, a in tags(before) if tag == "input" and "name" in a}
    done = visitor.post(page_url(home, "restore"), path="first.md", version="1", only_create="yes")
    again = visitor.post(page_url(home, "restore"), path="first.md", version="1", only_create="yes")

    assert [text in shown(before) for text in ("3 documents", "kept.md", "first.md")] == [True, False, True]
    assert (fields["path"], fields["version"], fields["only_create"]) == ("first.md", "1", "yes")
    assert b"<i>" not in before.body
    assert (done.status, again.status) == (303, 409)
    after = visitor.get(page_url(home, "deleted"))
    assert [text in shown(after) for text in ("2 documents", "first.md", "second.md")] == [True, False, True]
    assert writer.get(home.url("/knowledge/first.md")).body == b"# <i>first.md</i>\n"


# -- pages of a list


def pages_by(rel: str, visitor: Visitor, url: str) -> list[tuple[str, list[str]]]:
    """Address and rows of each page, as its links lead on."""
    found = []
    while url:
        reply = visitor.get(url)
        assert reply.status == 200, reply
        found.append((url, [one for one in links(reply) if "/knowledge/n" in one or "/sessions/s" in one]))
        url = next((a["href"] for tag, a in tags(reply) if tag == "a" and a.get("rel") == rel), "")
    return found


@pytest.mark.spec("SITE-14")
@pytest.mark.parametrize("place", ["knowledge?prefix=n", "sessions?since=2020-01-01", "search"])
def test_pages_lead_back_as_they_led_on(
    home: Home, writer: Http, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for module in (documents, transcripts):
        monkeypatch.setattr(module, "_MOST_ROWS", 2)
    monkeypatch.setattr(finding, "_HITS", 2)
    for number in range(7):
        writer.put(home.url(f"/knowledge/n{number}.md"), f"zanzibar {number}\n")
        writer.put(home.url(f"/sessions/s{number}"), line(f"number {number}") + "\n")
    start = "/search?q=zanzibar&kind=knowledge" if place == "search" else f"{page_url(home)}/{place}"

    forward = pages_by("next", visitor, start)
    back = pages_by("prev", visitor, forward[-1][0])

    assert len(forward) == 4
    assert sum(len(rows) for _, rows in forward) == 7
    assert [rows for _, rows in back] == [rows for _, rows in reversed(forward)]
    first = next(a["href"] for tag, a in tags(visitor.get(forward[2][0])) if a.get("rel") == "first")
    assert pages_by("none", visitor, first)[0][1] == forward[0][1]


@pytest.mark.spec("SITE-14")
def test_a_way_back_is_remembered_as_far_as_an_address_is_long(
    home: Home, writer: Http, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_ROWS", 1)
    monkeypatch.setattr(paging, "_MOST_CHARACTERS", 60)
    for number in range(8):
        writer.put(home.url(f"/knowledge/n{number}.md"), f"{number}\n")

    forward = pages_by("next", visitor, page_url(home, "knowledge"))
    back = pages_by("prev", visitor, forward[-1][0])

    assert 1 < len(back) < len(forward) == 8
    assert [rows for _, rows in back] == [rows for _, rows in reversed(forward)][: len(back)]
    assert 'rel="first"' in visitor.get(back[-1][0]).body.decode()


# -- sessions


@pytest.mark.spec("SITE-8")
def test_a_transcript_is_downloaded_as_it_was_uploaded(home: Home, writer: Http, visitor: Visitor) -> None:
    data = "".join(line(f"<script>alert({number})</script>") + "\n" for number in range(300))
    writer.put(home.url("/sessions/s1"), data)

    address = page_url(home, "sessions", "s1") + "/transcript"
    assert address in links(visitor.get(page_url(home, "sessions", "s1")))
    reply = visitor.get(address)

    assert reply.body == data.encode()
    assert reply.headers["content-disposition"] == 'attachment; filename="s1.jsonl"'
    assert reply.headers["content-type"].startswith("application/jsonl")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert visitor.get(page_url(home, "sessions", "none") + "/transcript").status == 404


@pytest.mark.spec("SITE-8")
def test_following_a_session_shows_every_message_once(home: Home, writer: Http, visitor: Visitor) -> None:
    said = []
    for number in range(700):
        kinds = (
            line(f"turn{number}"),
            call("Bash", f"turn{number}"),
            result(f"turn{number} " + "x " * (number % 7) * 900),
        )
        said.append(kinds[number % 3])
    said[100] = line("turn100 " + "long " * 60_000)
    writer.put(home.url("/sessions/s1"), "\n".join(said) + "\n")

    url, seen, pages = page_url(home, "sessions", "s1"), [], 0
    while url:
        reply = visitor.get(url)
        assert reply.status == 200
        assert len(reply.body) < 600_000
        seen += re.findall(r"<pre[^>]*>(?:Bash: )?(turn\d+)|<p>(turn\d+)", reply.body.decode())
        following = [a["href"] for tag, a in tags(reply) if tag == "a" and a.get("rel") == "next"]
        url = following[0] if following else ""
        pages += 1
    words = [one or other for one, other in seen]
    assert words == [f"turn{number}" for number in range(700)]
    assert pages > 5


@pytest.mark.spec("SITE-8")
@pytest.mark.parametrize("wanted", [0, 5, 350, 699])
def test_the_page_of_a_hit_holds_it_marked_and_unfolded(
    home: Home, writer: Http, visitor: Visitor, wanted: int
) -> None:
    said = [
        result(f"needle{number} " + "x " * 20_000) if number % 2 else line(f"needle{number}") for number in range(700)
    ]
    writer.put(home.url("/sessions/s1"), "\n".join(said) + "\n")

    body = visitor.get(page_url(home, "sessions", "s1") + f"?line={wanted}").body.decode()

    article = re.search(rf'<article class="turn \w+ hit" id="L{wanted}".*?</article>', body, re.DOTALL)
    assert article
    assert f"needle{wanted}" in article[0]
    assert "<details>" not in article[0]
    assert body.count(' hit"') == 1


@pytest.mark.spec("SITE-8")
def test_earlier_pages_end_where_this_one_begins(home: Home, writer: Http, visitor: Visitor) -> None:
    writer.put(home.url("/sessions/s1"), "".join(line(f"turn{number}") + "\n" for number in range(500)))

    reply = visitor.get(page_url(home, "sessions", "s1") + "?before=450")
    last = visitor.get(page_url(home, "sessions", "s1") + "?before=500")

    assert re.findall(r"<p>(turn\d+)", reply.body.decode()) == [f"turn{number}" for number in range(250, 450)]
    assert re.findall(r"<p>(turn\d+)", last.body.decode())[-1] == "turn499"


@pytest.mark.spec("SITE-8")
def test_earlier_pages_of_long_turns_end_there_too(home: Home, writer: Http, visitor: Visitor) -> None:
    said = [result(f"turn{number} " + "x " * 6_000) + "\n" for number in range(90)]
    writer.put(home.url("/sessions/s1"), "".join(said))

    for before in (90, 41, 1):
        reply = visitor.get(page_url(home, "sessions", "s1") + f"?before={before}")
        found = re.findall(r"<pre[^>]*>turn(\d+)", reply.body.decode())
        assert int(found[-1]) == before - 1
        assert len(found) >= min(before, 4)


@pytest.mark.spec("SITE-8")
@pytest.mark.parametrize(
    "query", ["line=99999999", "start=99999999", "before=0", "line=abc", "line=-1", "byte=7&start=0"]
)
def test_places_that_are_not_there_are_no_failure(home: Home, writer: Http, visitor: Visitor, query: str) -> None:
    writer.put(home.url("/sessions/s1"), line("one") + "\n")

    assert visitor.get(page_url(home, "sessions", "s1") + f"?{query}").status in (200, 400)


# -- search


@pytest.mark.spec("SITE-9")
def test_hits_are_marked_and_lead_to_their_place(home: Home, writer: Http, visitor: Visitor) -> None:
    writer.put(home.url("/knowledge/notes/a.md"), "# A\n\nnothing\n\nthe zanzibar & <b> budget\n")
    writer.put(
        home.url("/sessions/s1"),
        "".join(line(f"turn{number}") + "\n" for number in range(300)) + line("zanzibar") + "\n",
    )

    reply = visitor.get("/search?q=zanzibar")
    found = [url for url in links(reply) if "line=" in url]

    assert reply.body.count(b"<mark>zanzibar</mark>") >= 2
    assert sorted(found) == [
        f"/w/{home.workspace_id}/knowledge/notes/a.md?line=4&q=zanzibar#text-hit",
        f"/w/{home.workspace_id}/sessions/s1?line=300&q=zanzibar#L300",
    ]
    for url in found:
        page, _, anchor = url.partition("#")
        assert f'id="{anchor}"'.encode() in visitor.get(page).body


@pytest.mark.spec("SITE-9")
def test_filters_hold_and_pages_go_on(server: Server, home: Home, writer: Http, visitor: Visitor) -> None:
    for number in range(45):
        writer.put(home.url(f"/knowledge/n{number}.md"), f"zanzibar {number}\n")
    writer.put(home.url("/sessions/s1"), line("zanzibar said") + "\n")
    server.settle("other")

    only = visitor.get("/search?q=zanzibar&kind=session")
    none = visitor.get("/search?q=zanzibar&project=other")
    url, seen = "/search?q=zanzibar&kind=knowledge&mode=literal", set()
    while url:
        reply = visitor.get(url)
        seen |= {one for one in links(reply) if "line=" in one}
        following = [a["href"] for tag, a in tags(reply) if tag == "a" and a.get("rel") == "next"]
        url = following[0] if following else ""

    assert [one for one in links(only) if "line=" in one] == [
        f"/w/{home.workspace_id}/sessions/s1?line=0&q=zanzibar#L0"
    ]
    assert "Nothing was found" in shown(none)
    assert len(seen) == 45


# -- empty places, machines


@pytest.mark.spec("SITE-11")
def test_empty_places_say_what_to_do_next(server: Server, visitor: Visitor) -> None:
    assert "Connect an agent" in shown(visitor.get("/"))
    assert "Invite one" in shown(visitor.get("/machines"))
    home = server.settle("home")
    for parts, said in (((), "Ask an agent"), (("knowledge",), "store what it learned"), (("sessions",), "install")):
        assert said in shown(visitor.get(page_url(home, *parts)))
    assert "One search looks through" in shown(visitor.get("/search"))


@pytest.mark.spec("SITE-10")
def test_machines_show_who_wrote_when_and_where_secrets_are(
    server: Server, home: Home, writer: Http, visitor: Visitor
) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPLX"
    writer.put(home.url("/knowledge/keys.md"), f"the key is {key} and ghp_{'a1B2' * 9}\n")
    server.services.secrets.catch_up()

    reply = visitor.get("/machines")

    assert "box" in shown(reply)
    assert "fresh" in shown(reply)
    assert f"/w/{home.workspace_id}/knowledge/keys.md" in links(reply)
    assert key.encode() not in reply.body


@pytest.mark.spec("SITE-11")
def test_every_page_can_be_read_by_machine_and_by_ear(
    server: Server, home: Home, writer: Http, visitor: Visitor
) -> None:
    writer.put(home.url("/overview"), "# Over\n")
    for text in ("one\n", "two\n"):
        writer.put(home.url("/knowledge/a.md"), text)
    writer.put(home.url("/sessions/s1"), line("one") + "\n" + call("Bash", "ls") + "\n")
    server.token("there", "read")
    places = ("", "deleted", "knowledge", "knowledge/a.md", "history/a.md", "sessions", "sessions/s1?line=1")
    memory_id = store(server, home)
    for path in (
        "/",
        "/search?q=one",
        "/memories",
        page_url(home, "memories", memory_id),
        "/machines",
        "/admin",
        "/sign-in",
        *(page_url(home) + f"/{place}".rstrip("/") for place in places),
    ):
        reply = Visitor(server).get(path) if path == "/sign-in" else visitor.get(path)
        assert reply.status == 200, path
        found = tags(reply)
        names = [tag for tag, _ in found]
        assert names.count("h1") == names.count("main") == names.count("title") == 1, path
        assert ("html", {"lang": "en"}) in found
        assert {"header", "footer"} <= {*names}
        assert found[[name for name, _ in found].index("body") + 1] == ("a", {"class": "skip", "href": "#main"})
        labelled = {attributes.get("for") for tag, attributes in found if tag == "label"}
        fields = [a for tag, a in found if tag in ("input", "select") and a.get("type") != "hidden"]
        assert [a for a in fields if a.get("id") not in labelled and "aria-label" not in a] == [], path
        ids = [attributes["id"] for _, attributes in found if "id" in attributes]
        assert len(ids) == len({*ids}), path


# -- memories


def store(server: Server, home: Home, **given: object) -> str:
    draft = {"content": "We deploy from main.", "kind": "decision", "subject": "Where deploys come from", **given}
    reply = server.http(AI_TOKEN, x_memory_binding=home.binding).post("/api/v1/memories", draft)
    assert reply.status == 201, reply
    return str(reply.json["memory_id"])


@pytest.mark.spec("SITE-13")
def test_memories_are_listed_by_kind_tag_and_project(server: Server, home: Home, visitor: Visitor) -> None:
    store(server, home, tags=["deploy", "ci"])
    store(server, home, kind="bug", subject="Rounded twice", tags=["checkout"])
    store(server, home, kind="bug", subject="A leak", project="other")

    expected = {
        "": ["Where deploys", "Rounded twice", "A leak"],
        "?memory_kind=bug": ["Rounded twice", "A leak"],
        "?tag=checkout": ["Rounded twice"],
        "?project=other": ["A leak"],
        "?workspace_id=box-*&tag=ci": ["Where deploys"],
        "?tag=nothing": [],
    }
    listed = {}
    for query in expected:
        text = shown(visitor.get("/memories" + query))
        listed[query] = [subject for subject in expected[""] if subject in text]

    assert listed == expected
    assert "No memory is like that" in shown(visitor.get("/memories?tag=nothing"))
    assert visitor.get("/memories?memory_kind=secret").status == 400
    assert visitor.get("/memories?workspace_id=nope").status == 400
    assert "Rounded twice" in shown(visitor.get(page_url(home, "memories")))
    assert "Rounded twice" in shown(visitor.get(page_url(home)))


@pytest.mark.spec("SITE-13", "SITE-9")
def test_a_memory_is_shown_whole_found_and_deleted_with_a_reason(server: Server, home: Home, visitor: Visitor) -> None:
    text = "The first line.\n\nThe **zanzibar** rule.\n"
    old = store(server, home, subject="The old way")
    memory_id = store(server, home, content=text, summary="In short", files=["src/a.py"], references=["PR 12"],
                      supersedes=[old], tags=["deploy"], importance=5)  # fmt: skip
    url = page_url(home, "memories", memory_id)

    found = [one for one in links(visitor.get("/search?q=zanzibar&kind=memory")) if memory_id in one]
    page = visitor.get(found[0].partition("#")[0])
    before = shown(visitor.get(page_url(home, "memories", old)))
    done = visitor.post(url + "/delete", reason="No longer so")
    after = visitor.get(url)

    for part in ("In short", "src/a.py", "PR 12", "importance 5", "#deploy", "live", memory_id, old, "The first line."):
        assert part in shown(page), part
    assert re.search(rb'<p[^>]*id="text-hit"[^>]*>The <strong>zanzibar', page.body)
    assert f"Superseded by {memory_id}" in before
    assert (done.status, done.headers["location"]) == (303, url)
    assert "by control: No longer so" in shown(after)
    assert "Delete this memory" not in shown(after)
    assert memory_id not in shown(visitor.get("/memories"))
    assert "Where deploys" in shown(visitor.get("/memories?show=all"))
    assert "The old way" in shown(visitor.get("/memories")), "what it superseded is live again"


@pytest.mark.spec("SITE-13", "SITE-5", "SITE-6")
def test_a_hostile_memory_does_nothing(server: Server, home: Home, visitor: Visitor) -> None:
    words = "About <script>alert(1)</script>\"'><b>"
    memory_id = store(
        server,
        home,
        content=HOSTILE,
        subject=words,
        summary=words,
        files=[words],
        references=[words, "javascript:alert(1)"],
    )

    for path in (page_url(home, "memories", memory_id), "/memories", page_url(home), "/search?q=alert&kind=memory"):
        reply = visitor.get(path)
        found = tags(reply)
        assert [attributes.get("src", "").partition("?")[0] for tag, attributes in found if tag == "script"] == [
            "/assets/pages.js"
        ]
        assert not [url for url in links(reply) if url.lower().startswith(("javascript:", "data:"))]
        assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
        assert "<script>alert(1)</script>" in shown(reply)


@pytest.mark.spec("SITE-13", "MEM-13")
def test_a_person_sees_and_deletes_no_memory_that_is_not_for_everybody(server: Server, home: Home) -> None:
    hidden = store(server, home, subject="Private", visibility="workspace")
    visitor, admin = signed_in(server, AI_TOKEN), signed_in(server, ADMIN_TOKEN)
    url = page_url(home, "memories", hidden)

    assert visitor.get(url).status == 404
    assert "Private" not in shown(visitor.get("/memories"))
    assert visitor.post(url + "/delete", reason="x").status == 404
    assert admin.get(url).status == 200
