"""Knowledge, overviews, versions and plans over HTTP (SPEC: HTTP-1, HTTP-2, HTTP-4, DOC-1 to DOC-8)."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Http, Server


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def home(shared: Server) -> Home:
    return shared.settle_anew()


@pytest.fixture
def http(shared: Server, home: Home) -> Http:
    return shared.http(SYNC_TOKEN, x_write_token=home.write_token)


DOCUMENTS = ["/knowledge/auto/notes.md", "/overview"]


@pytest.mark.spec("HTTP-2", "DOC-1", "DOC-8")
@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize(
    "text", [b"", b"# \xc3\xa9\r\n\x00\x1b[31m\xe2\x80\xae\n", b"no end", b"\xef\xbb\xbf# BOM", b"x" * 1024**2]
)
def test_a_body_is_the_markdown_itself(home: Home, http: Http, path: str, text: bytes) -> None:
    put = http.put(home.url(path), text)
    got = http.get(home.url(path))

    assert (put.status, put.headers["etag"]) == (201, f'"{sha256(text)}"')
    assert (got.status, got.body) == (200, text)
    assert got.headers["etag"] == f'"{sha256(text)}"'
    assert got.headers["content-type"].startswith("text/markdown")
    assert (got.headers["x-version"], got.headers["x-content-type-options"]) == ("1", "nosniff")


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_head_is_get_without_the_body(home: Home, http: Http, path: str) -> None:
    http.put(home.url(path), b"four")

    head, get = http.request("HEAD", home.url(path)), http.get(home.url(path))

    assert (head.status, head.body, head.lasting) == (200, b"", get.lasting)
    assert head.headers["content-length"] == "4"


@pytest.mark.spec("HTTP-2", "DOC-3")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_preconditions_of_writes(home: Home, http: Http, path: str) -> None:
    url = home.url(path)
    one, two = f'"{sha256(b"one")}"', f'"{sha256(b"two")}"'

    assert http.put(url, b"one", if_match=one).status == 409
    assert http.put(url, b"one", if_none_match="*").status == 201
    again = http.put(url, b"two", if_none_match="*")
    assert (again.status, again.json["etag"], again.json["version"]) == (409, sha256(b"one"), 1)
    assert again.headers["etag"] == one
    assert http.put(url, b"two", if_match=one).status == 200
    stale = http.put(url, b"three", if_match=one)
    assert (stale.status, stale.headers["etag"], stale.json["version"]) == (409, two, 2)
    assert http.get(url).body == b"two"
    assert http.put(url, b"three", if_match=two).json["version"] == 3
    assert http.put(url, b"four", if_match=f"W/{sha256(b'three')}").json["version"] == 4


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_if_match_of_anything_does_not_create(home: Home, http: Http, path: str) -> None:
    assert http.put(home.url(path), b"one", if_match="*").status == 409


@pytest.mark.spec("HTTP-2", "DOC-2")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_text_that_is_there_already_is_unchanged(home: Home, http: Http, path: str) -> None:
    http.put(home.url(path), b"one")

    again = http.put(home.url(path), b"one")

    assert (again.status, again.json["unchanged"], again.json["created"], again.json["version"]) == (
        200,
        True,
        False,
        1,
    )


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_reader_that_has_the_text_gets_304(home: Home, http: Http, path: str) -> None:
    http.put(home.url(path), b"one")
    etag = f'"{sha256(b"one")}"'

    same = http.get(home.url(path), if_none_match=etag)
    other = http.get(home.url(path), if_none_match=f'"{sha256(b"two")}"')

    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert (other.status, other.body) == (200, b"one")


@pytest.mark.spec("HTTP-2")
@pytest.mark.parametrize(
    ("held", "status"), [('"abc", "{etag}"', 304), ('W/"abc"', 200), ("*", 304), ('"{etag}", W/"x"', 304)]
)
def test_what_a_cache_holds_of_others_does_not_fail_a_read(home: Home, http: Http, held: str, status: int) -> None:
    http.put(home.url("/overview"), b"one")

    assert http.get(home.url("/overview"), if_none_match=held.replace("{etag}", sha256(b"one"))).status == status


@pytest.mark.spec("DOC-5", "VER-1", "HTTP-1")
def test_a_deleted_document_keeps_its_versions_and_counts_on(shared: Server, home: Home, http: Http) -> None:
    url = home.url("/knowledge/a.md")
    http.put(url, b"one")
    http.put(url, b"two")

    assert http.delete(url, if_match=f'"{sha256(b"one")}"').status == 409
    assert http.delete(url, if_match=f'"{sha256(b"two")}"').json == {
        "workspace_id": home.workspace_id, "path": "a.md", "version": 2, "deleted": True
    }  # fmt: skip
    assert http.get(url).status == 404
    assert http.delete(url).status == 404
    assert http.get(url + "?version=1").body == b"one"
    assert http.get(home.url("/knowledge")).json["documents"] == []
    assert http.put(url, b"three").json["version"] == 3
    assert [row["version"] for row in http.get(home.url("/versions/a.md")).json["versions"]] == [3, 2, 1]
    restored = shared.agent().ok("restore_knowledge", path="a.md", version=1, binding=home.binding)
    assert (restored["version"], http.get(url).body) == (4, b"one")


@pytest.mark.spec("VER-1", "HTTP-1")
def test_versions_name_who_when_where_and_what(shared: Server, home: Home, http: Http) -> None:
    url = home.url("/knowledge/a.md")
    http.put(url, b"one\n")
    shared.agent().ok("write_knowledge", path="a.md", text="two\n", binding=home.binding)

    found = http.get(home.url("/versions/a.md?from_version=1&to_version=2")).json

    assert [(row["version"], row["by"], row["operation"], row["source"]) for row in found["versions"]] == [
        (2, "ai", "write", "127.0.0.1"), (1, "sync", "upload", "127.0.0.1"),
    ]  # fmt: skip
    assert [row["etag"] for row in found["versions"]] == [sha256(b"two\n"), sha256(b"one\n")]
    assert found["diff"].splitlines()[2:] == ["@@ -1 +1 @@", "-one", "+two"]


@pytest.mark.spec("HTTP-1")
@pytest.mark.parametrize(
    "query",
    [
        "from_version=1",
        "to_version=1",
        "from_version=1&to_version=x",
        "limit=0&limit=-1",
        "limit=1001",
        "max_bytes=1",
        "max_bytes=99999999999",
        "limit=1e3",
        "cursor=!",
    ],
)
def test_a_query_that_cannot_be_is_refused(home: Home, http: Http, query: str) -> None:
    http.put(home.url("/knowledge/a.md"), b"one")

    assert http.get(home.url(f"/versions/a.md?{query}")).code == "invalid_argument"


@pytest.mark.spec("HTTP-1", "ERR-2")
@pytest.mark.parametrize("query", ["limit=--5", "max_bytes=---1", "from_version=--1&to_version=1"])
def test_a_number_with_two_signs_is_refused(home: Home, http: Http, query: str) -> None:
    http.put(home.url("/knowledge/a.md"), b"one")

    reply = http.get(home.url(f"/versions/a.md?{query}"))

    assert reply.code == "invalid_argument"


@pytest.mark.spec("HTTP-1")
@pytest.mark.parametrize("query", ["limit=0", "max_bytes=0"])
def test_zero_is_out_of_range(home: Home, http: Http, query: str) -> None:
    assert http.get(home.url(f"/knowledge?{query}")).code == "invalid_argument"


@pytest.mark.spec("VER-1")
@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("0", "not_found"),
        ("-1", "not_found"),
        ("9", "not_found"),
        ("9" * 19, "invalid_argument"),
        ("1x", "invalid_argument"),
        ("1", "ok"),
    ],
)
def test_a_version_that_never_was_is_not_found(home: Home, http: Http, version: str, code: str) -> None:
    http.put(home.url("/knowledge/a.md"), b"one")

    assert http.get(home.url(f"/knowledge/a.md?version={version}")).code == code


@pytest.mark.spec("HTTP-7", "DOC-1")
@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize(
    "data", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xc0\xaf", "é".encode("latin-1"), "x".encode("utf-16")]
)
def test_a_body_that_is_no_utf_8_is_refused_and_nothing_is_stored(
    shared: Server, home: Home, http: Http, path: str, data: bytes
) -> None:
    before = shared.files()

    reply = http.put(home.url(path), data)

    assert reply.code == "invalid_argument"
    assert "UTF-8" in reply.json["detail"]
    assert shared.files() == before


@pytest.mark.spec("NAME-5", "DOC-6")
@pytest.mark.parametrize(
    ("first", "second"),
    [("a.md", "A.md"), ("a/x.md", "A/y.md"), ("straße.md", "STRASSE.md"), ("é.md", "É.md"), ("dir/a.md", "DIR/A.md")],
)
def test_names_that_differ_only_in_case_are_a_conflict(
    shared: Server, home: Home, http: Http, first: str, second: str
) -> None:
    http.put(home.url(f"/knowledge/{first}"), b"one")

    assert http.put(home.url(f"/knowledge/{second}"), b"two").code == "conflict"
    answer = shared.agent().call("write_knowledge", path=second, text="two", binding=home.binding)
    assert answer.code == "conflict"
    assert [row["path"] for row in http.get(home.url("/knowledge")).json["documents"]] == [first]


@pytest.mark.spec("NAME-5", "DOC-6")
def test_of_a_hundred_creations_at_once_in_two_cases_one_wins(shared: Server, home: Home) -> None:
    clients = [shared.http(SYNC_TOKEN, x_write_token=home.write_token) for _ in range(10)]

    def create(number: int) -> str:
        name = ("Foo", "foo")[number % 2]
        return clients[number % 10].put(home.url(f"/knowledge/{name}.md"), b"%d" % number, if_none_match="*").code

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(create, range(100)))

    assert sorted(codes) == ["conflict"] * 99 + ["ok"]


@pytest.mark.spec("DOC-3")
def test_of_many_writes_with_one_etag_one_wins(shared: Server, home: Home) -> None:
    clients = [shared.http(SYNC_TOKEN, x_write_token=home.write_token) for _ in range(10)]
    clients[0].put(home.url("/overview"), b"start")
    etag = f'"{sha256(b"start")}"'

    with ThreadPoolExecutor(10) as pool:
        codes = list(
            pool.map(lambda n: clients[n].put(home.url("/overview"), b"%d" % n, if_match=etag).code, range(10))
        )

    assert sorted(codes) == ["conflict"] * 9 + ["ok"]
    assert clients[0].get(home.url("/overview")).body == b"%d" % codes.index("ok")


# -- hand edits


@pytest.mark.spec("DOC-4", "DOC-7")
def test_an_edit_by_hand_is_served_and_kept_as_a_version(shared: Server, home: Home, http: Http) -> None:
    url = home.url("/knowledge/a.md")
    http.put(url, b"written")
    file = shared.root / "workspaces" / home.workspace_id / "knowledge" / "a.md"
    file.write_bytes(b"by hand")

    assert http.get(url).body == b"by hand"
    assert http.put(url, b"again", if_match=f'"{sha256(b"written")}"').status == 409
    assert http.put(url, b"again", if_match=f'"{sha256(b"by hand")}"').status == 200
    rows = http.get(home.url("/versions/a.md")).json["versions"]
    assert [(row["version"], row["operation"]) for row in rows] == [(3, "upload"), (2, "external"), (1, "upload")]
    assert http.get(url + "?version=2").body == b"by hand"


@pytest.mark.spec("DOC-7", "NAME-2")
def test_what_is_put_there_by_hand_is_listed_and_illegal_names_are_left_alone(
    shared: Server, home: Home, http: Http
) -> None:
    folder = shared.root / "workspaces" / home.workspace_id / "knowledge"
    (folder / "new.md").write_bytes(b"# New")
    (folder / ".hidden.md").write_bytes(b"x")
    (folder / "CON.md").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"x")
    (folder / "link.md").symlink_to("/etc/passwd")
    (folder / "dir.md").mkdir()

    listed = http.get(home.url("/knowledge")).json

    assert [row["path"] for row in listed["documents"]] == ["new.md"]
    assert http.get(home.url("/knowledge/link.md")).status in (404, 409)
    assert (folder / "CON.md").exists()


@pytest.mark.spec("STORE-6", "SEC-1")
def test_a_symlink_below_the_root_is_followed_by_no_route_and_no_tool(
    shared: Server, home: Home, http: Http, tmp_path: Any
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("canary-outside")
    own = shared.root / "workspaces" / home.workspace_id
    (own / "knowledge" / "evil").symlink_to(outside)
    (own / "knowledge" / "evil.md").symlink_to(outside / "secret.md")
    (own / "overview.md").symlink_to(outside / "secret.md")
    agent = shared.agent(ADMIN_TOKEN)
    bound = {"binding": shared.binding_for(ADMIN_TOKEN, home.workspace_id)}

    for path in ("evil/secret.md", "evil.md", "evil/new.md"):
        for tool in ("read_knowledge", "knowledge_history"):
            agent.call(tool, path=path, workspace_id=home.workspace_id)
        agent.call("write_knowledge", path=path, text="x", **bound)
        agent.call("delete_knowledge", path=path, **bound)
        http.put(home.url(f"/knowledge/{path}"), b"x")
        for method in ("GET", "DELETE"):
            assert http.request(method, home.url(f"/knowledge/{path}"), b"x").status in (404, 409)
    http.put(home.url("/overview"), b"x")
    for query in ("canary", "x"):
        for mode in ("literal", "regex", "ranked"):
            agent.call("search_knowledge", query=query, mode=mode)
    agent.call("get_overview", workspace_id=home.workspace_id)
    agent.call("list_knowledge", workspace_id=home.workspace_id)

    assert b"canary-outside" not in shared.sent
    assert [path.name for path in outside.iterdir()] == ["secret.md"]
    assert (outside / "secret.md").read_text() == "canary-outside"


@pytest.mark.spec("STORE-6", "ERR-1")
@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo"])
def test_a_write_where_no_plain_file_stands_is_a_conflict(
    shared: Server, home: Home, http: Http, path: str, kind: str
) -> None:
    own = shared.root / "workspaces" / home.workspace_id
    place = own / "overview.md" if path == "/overview" else own / path[1:]
    place.parent.mkdir(exist_ok=True)
    {"symlink": lambda: place.symlink_to("/etc/hostname"), "folder": place.mkdir, "fifo": lambda: os.mkfifo(place)}[
        kind
    ]()

    reply = http.put(home.url(path), b"x")

    assert reply.code == "conflict"


# -- plans and lists


@pytest.mark.spec("HTTP-4")
def test_a_plan_names_what_differs_and_where_to_send_from(home: Home, http: Http) -> None:
    http.put(home.url("/knowledge/same.md"), b"same")
    http.put(home.url("/knowledge/old.md"), b"old")
    http.put(home.url("/knowledge/gone.md"), b"gone")
    http.delete(home.url("/knowledge/gone.md"))
    for name, data in (("same", b"{}\n"), ("grown", b"{}\n"), ("shrunk", b"{}\n{}\n"), ("other", b"{}\n")):
        http.put(home.url(f"/sessions/{name}"), data)

    def told(data: bytes) -> dict[str, object]:
        return {"bytes": len(data), "sha256": sha256(data)}

    plan = http.post(home.url("/plan"), {
        "knowledge": {path: sha256(data) for path, data in (
            ("same.md", b"same"), ("old.md", b"new"), ("gone.md", b"gone"), ("new.md", b"new"))},
        "sessions": {"same": told(b"{}\n"), "grown": told(b"{}\n{}\n"), "shrunk": told(b"{}\n"),
                     "other": told(b"[]\n"), "new": told(b"{}\n"), "SAME": told(b"{}\n")},
    })  # fmt: skip

    assert plan.json["knowledge"] == ["old.md", "gone.md", "new.md"]
    assert plan.json["sessions"] == {
        "grown": {"offset": 3, "etag": sha256(b"{}\n")}, "shrunk": {"offset": 0}, "other": {"offset": 0},
        "new": {"offset": 0},
    }  # fmt: skip


@pytest.mark.spec("HTTP-4")
def test_a_plan_answers_thousands_of_files_at_once(home: Home, http: Http) -> None:
    knowledge = {f"d{number}.md": "0" * 64 for number in range(3_000)}
    sessions = {f"s{number}": {"bytes": 1, "sha256": "0" * 64} for number in range(3_000)}

    plan = http.post(home.url("/plan"), {"knowledge": knowledge, "sessions": sessions}).json

    assert (len(plan["knowledge"]), len(plan["sessions"])) == (3_000, 3_000)


@pytest.mark.spec("HTTP-4", "ERR-2")
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"knowledge": []}', b'{"sessions": {"a": 1}}', b'{"sessions": {"a": {"bytes": "1"}}}',
     b'{"nonsense": {}}', b'{"knowledge": {"a.md": 1}}', b"[" * 100_000, b'{"knowledge": ' * 5_000, b"\xff",
     b'{"sessions": {"a": {"bytes": 1e400, "sha256": ""}}}', b'{"knowledge": {"\\ud800.md": ""}}'],
)  # fmt: skip
def test_what_is_no_plan_is_refused(home: Home, http: Http, body: bytes) -> None:
    assert http.request("POST", home.url("/plan"), body).code == "invalid_argument"


@pytest.mark.spec("HTTP-1", "WS-1", "ERR-2")
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"machine": 1}', b'{"nonsense": "x"}', b'{"machine": ["a"]}', b"{}", b'{"machine": "\\u0000"}'],
)
def test_what_is_no_registration_is_refused(http: Http, body: bytes) -> None:
    assert http.request("POST", "/api/v1/workspaces", body).code == "invalid_argument"


@pytest.mark.spec("HTTP-1")
def test_routes_and_tools_answer_alike(server: Server) -> None:
    home = server.settle()
    http = server.http(SYNC_TOKEN, x_write_token=home.write_token)
    http.put(home.url("/knowledge/a.md"), b"# A")
    http.put(home.url("/overview"), b"# O")
    http.put(home.url("/sessions/s"), b"{}\n")
    agent, where = server.agent(), {"workspace_id": home.workspace_id}

    assert http.get("/api/v1/workspaces").json == agent.ok("list_workspaces")
    assert http.get(home.url("/knowledge")).json == agent.ok("list_knowledge", **where)
    assert http.get(home.url("/sessions")).json == agent.ok("list_sessions", **where)
    assert http.get(home.url("/versions/a.md")).json == agent.ok("knowledge_history", path="a.md", **where)
    assert http.get(home.url()).json == agent.ok("list_workspaces")["workspaces"][0]
    assert (
        http.get(home.url("/knowledge/a.md")).body.decode() == agent.ok("read_knowledge", path="a.md", **where)["text"]
    )


@pytest.mark.spec("AUTH-2", "AUTH-5")
def test_an_admin_makes_lists_and_revokes_tokens(server: Server) -> None:
    admin = server.http(ADMIN_TOKEN)
    made = admin.post("/api/v1/tokens", {"name": "laptop", "role": "ai", "read": ["a*"], "write": ["a"], "machine": "m",
                                         "expires": "90d"})  # fmt: skip
    secret = made.json["token"]

    assert made.status == 201
    assert server.http(secret).get("/api/v1/workspaces").status == 200
    (row,) = admin.get("/api/v1/tokens").json["tokens"]
    assert row == {key: value for key, value in made.json.items() if key != "token"}
    assert (row["role"], row["read"], row["write"], row["machine"], row["state"]) == (
        "ai",
        ["a*"],
        ["a"],
        "m",
        "active",
    )
    assert admin.delete("/api/v1/tokens/laptop").json["state"] == "revoked"
    assert server.http(secret).get("/api/v1/workspaces").status == 401
    assert admin.delete("/api/v1/tokens/gone").code == "not_found"
    assert admin.get("/api/v1/tokens").json["tokens"][0]["state"] == "revoked"


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"role": "ai"},
        {"name": "X", "role": "ai"},
        {"name": "ai", "role": "ai"},
        {"name": "x", "role": "root"},
        {"name": "x", "role": "ai", "read": ["../*"]},
        {"name": "x", "role": "ai", "expires": "soon"},
        {"name": "x", "role": "read", "write": ["a"]},
        {"name": "x", "role": "ai", "expires": "0s"},
        {"name": "x", "role": "ai", "nonsense": 1},
        {"name": "", "role": "ai"},
        [],
    ],
)
def test_what_is_no_token_is_refused(shared: Server, body: object) -> None:
    assert shared.http(ADMIN_TOKEN).post("/api/v1/tokens", body).code == "invalid_argument"


@pytest.mark.spec("HTTP-1")
def test_status_says_what_is_there(server: Server) -> None:
    home = server.settle()
    server.http(SYNC_TOKEN, x_write_token=home.write_token).put(home.url("/knowledge/a.md"), b"# A")

    found = server.http(ADMIN_TOKEN).get("/api/v1/status").json

    assert (found["workspaces"], found["documents"], found["uploads"]) == (1, 1, True)
    assert AI_TOKEN not in str(found)
