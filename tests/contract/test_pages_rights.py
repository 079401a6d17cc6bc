"""Who may see and do what on the pages: the same rights as tools and routes, in one table (SPEC: SITE-1, SITE-10)."""

from __future__ import annotations

import pytest

from federated_memory.pages.handlers import handlers
from federated_memory.pages.site import SENT, SHOWN, Site
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Server
from tests.contract.visitor import Visitor, signed_in

MARK = "xyzzy"
LINE = b'{"type":"user","message":{"role":"user","content":"xyzzy"},"timestamp":"2026-11-20T08:00:00Z"}\n'
CALLERS = ("none", "ai", "read", "sync", "rgl", "wgl", "mac", "admin")
# ok: shown with what is stored; B: shown, but nothing of this workspace; F: 403; in: off to the sign-in.
TABLE = """
                                none  ai   read sync rgl  wgl  mac  admin
GET /                           in    ok   ok   ok   B    ok   ok   ok
GET /machines                   in    B    B    B    B    B    B    B
GET {w}                         in    ok   ok   ok   F    ok   ok   ok
GET {w}/knowledge               in    ok   ok   ok   F    ok   ok   ok
GET {w}/knowledge/kept.md       in    ok   ok   ok   F    ok   ok   ok
GET {w}/history/kept.md         in    ok   ok   ok   F    ok   ok   ok
GET {w}/history                 in    ok   ok   ok   F    ok   ok   ok
GET {w}/deleted                 in    ok   ok   ok   F    ok   ok   ok
GET {w}/sessions                in    ok   ok   ok   F    ok   ok   ok
GET {w}/sessions/s1             in    ok   ok   ok   F    ok   ok   ok
GET {w}/sessions/s1/transcript  in    ok   ok   ok   F    ok   ok   ok
GET /memories                   in    ok   ok   ok   B    ok   ok   ok
GET {w}/memories                in    ok   ok   ok   F    ok   ok   ok
GET {w}/memories/{m}            in    ok   ok   ok   F    ok   ok   ok
GET /search?q=xyzzy             in    ok   ok   ok   B    ok   ok   ok
GET /admin                      in    F    F    F    F    F    F    B
POST {w}/restore                in    303  F    F    F    F    F    303
POST {w}/memories/{m}/delete    in    303  F    F    F    F    F    303
POST /admin/tokens              in    F    F    F    F    F    F    B
POST /admin/tokens/revoke       in    F    F    F    F    F    F    303
POST /admin/invitations         in    F    F    F    F    F    F    B
POST /admin/invitations/withdraw in   F    F    F    F    F    F    303
POST /sign-out                  in    303  303  303  303  303  303  303
"""
FIELDS = {
    "POST {w}/restore": {"path": "kept.md", "version": "1"},
    "POST /admin/tokens": {"name": "fresh", "role": "read"},
    "POST /admin/tokens/revoke": {"name": "spare"},
    "POST /admin/invitations": {"machine": "laptop"},
    "POST /admin/invitations/withdraw": {"invitation_id": "0123456789ab"},
}


def rows() -> dict[str, dict[str, str]]:
    found = {}
    for line in TABLE.strip("\n").splitlines()[1:]:
        cells = line.split()
        found[" ".join(cells[:2])] = dict(zip(CALLERS, cells[2:], strict=True))
    return found


@pytest.fixture
def home(server: Server) -> Home:
    home = server.settle("home")
    server.settle("other")
    writer = server.http(AI_TOKEN, x_memory_binding=home.binding)
    for number in (1, 2):
        assert writer.put(home.url("/knowledge/kept.md"), f"# {MARK} {number}").code == "ok"
    assert writer.put(home.url("/knowledge/gone.md"), f"# {MARK} once").code == "ok"
    assert writer.delete(home.url("/knowledge/gone.md")).code == "ok"
    writer.put(home.url("/overview"), f"# {MARK}")
    writer.put(home.url("/sessions/s1"), LINE)
    server.token("spare", "read")
    writer.post("/api/v1/memories", {"content": f"{MARK} is what it is", "subject": f"{MARK} in short"})
    return home


def visitor_of(server: Server, kind: str) -> Visitor:
    other = ("box-claude-other",)
    match kind:
        case "none":
            return Visitor(server)
        case "ai":
            return signed_in(server, AI_TOKEN)
        case "sync":
            return signed_in(server, SYNC_TOKEN)
        case "admin":
            return signed_in(server, ADMIN_TOKEN)
        case "read":
            return signed_in(server, server.token("reader", "read"))
        case "rgl":
            return signed_in(server, server.token("r", "ai", read=other))
        case "wgl":
            return signed_in(server, server.token("w", "ai", write=other))
        case "mac":
            return signed_in(server, server.token("m", "ai", machine="elsewhere"))
    raise AssertionError(kind)


def _stored(body: str) -> str:
    """A page without what only repeats the query."""
    for told in ("q=xyzzy", 'value="xyzzy"', "Search: xyzzy"):
        body = body.replace(told, "")
    return body


@pytest.mark.spec("SITE-1", "SITE-10", "AUTH-5", "AUTH-6", "AUTH-7")
@pytest.mark.parametrize("kind", CALLERS)
def test_every_page_does_what_the_table_says(server: Server, home: Home, kind: str) -> None:
    visitor = visitor_of(server, kind)
    wrong = []
    memory_id = server.http(ADMIN_TOKEN).get("/api/v1/memories").json["memories"][0]["memory_id"]
    for row, cells in rows().items():
        method, path = row.split(" ")
        path = path.replace("{w}", f"/w/{home.workspace_id}").replace("{m}", memory_id)
        before, said = server.files(), len(server.auth_lines())
        reply = visitor.get(path) if method == "GET" else visitor.post(path, **FIELDS.get(row, {}))
        location = reply.headers.get("location", "")
        found = {200: "ok", 403: "F"}.get(reply.status, str(reply.status))
        if (reply.status == 303 and location.startswith("/sign-in") and "sign-out" not in path) or (
            reply.status == 303 and kind == "none"
        ):
            found = "in"
        if cells[kind] == "B" and found == "ok":
            found = "ok" if MARK in _stored(reply.body.decode()) else "B"
        if found != cells[kind]:
            wrong.append(f"{row}: {found} instead of {cells[kind]}")
        if cells[kind] in ("F", "in"):
            if server.files() != before:
                wrong.append(f"{row}: refused, but changed something")
            if MARK.encode() in reply.body:
                wrong.append(f"{row}: shows what is stored")
            if len(server.auth_lines()) != said + 1 or not server.auth_lines()[said].startswith("AUTH_DENY"):
                wrong.append(f"{row}: logged {server.auth_lines()[said:]}")
    assert wrong == []


@pytest.mark.spec("SITE-1")
def test_the_table_has_every_page(shared: Server) -> None:
    served = {
        f"{method} {route.path}"
        for route in Site(shared.services).all()
        for method in route.methods or ()
        if method != "HEAD" and "{rest:path}" not in route.path
    }
    open_to_all = {"GET /sign-in", "POST /sign-in", "GET /assets/{name}"}
    listed = {
        row.partition("?")[0]
        .replace("{w}", "/w/{workspace_id}")
        .replace("kept.md", "{path:path}")
        .replace("{m}", "{memory_id}")
        .replace("/s1", "/{session_id}")
        for row in rows()
    }

    assert served - open_to_all == listed
    assert {*SHOWN.values(), *SENT.values()} == handlers(shared.services).keys()


@pytest.mark.spec("SITE-10", "AUTH-2")
def test_what_an_admin_makes_is_shown_once(server: Server) -> None:
    visitor = signed_in(server, ADMIN_TOKEN)

    made = visitor.post(
        "/admin/tokens", name="laptop-agent", role="ai", read="laptop-*", write="laptop-*", expires="90d"
    )
    invited = visitor.post("/admin/invitations", machine="laptop", expires="15m")
    later = visitor.get("/admin")

    secret = made.body.decode().split('value="fm_ai_')[1].split('"')[0]
    code = invited.body.decode().split("127.0.0.1:8000/#")[1].split("&#39;")[0].split('"')[0].split(" ")[0]
    assert server.grant(f"fm_ai_{secret}").write == ("laptop-*",)
    assert secret.encode() not in later.body
    assert len(code) >= 32
    assert code.encode() not in later.body
    assert b"laptop-agent" in later.body
    audit = (server.root / "_meta" / "audit.jsonl").read_text()
    assert '"POST /admin/tokens"' in audit
    assert secret not in audit


@pytest.mark.spec("SITE-10", "ERR-2")
@pytest.mark.parametrize(
    ("fields", "said"),
    [({"name": "No Name", "role": "ai"}, "Not a token name"), ({"name": "x", "role": "king"}, "Not a role"),
     ({"name": "x", "role": "ai", "expires": "soon"}, "Not a duration"),
     ({"name": "x", "role": "ai", "read": "A/B"}, "Not a glob"),
     ({"name": "there", "role": "read"}, "There is a token there already")],
)  # fmt: skip
def test_a_token_that_cannot_be_is_explained_in_its_form(server: Server, fields: dict[str, str], said: str) -> None:
    server.token("there", "read")

    reply = signed_in(server, ADMIN_TOKEN).post("/admin/tokens", **fields)

    assert reply.status in (400, 409)
    assert said.encode() in reply.body
    assert f'value="{fields["name"]}"'.encode() in reply.body, "what was typed is still there"


@pytest.mark.spec("SITE-10", "AUTH-4")
def test_a_revoked_token_ends(server: Server) -> None:
    token = server.token("person", "read")
    person, admin = signed_in(server, token), signed_in(server, ADMIN_TOKEN)

    assert admin.post("/admin/tokens/revoke", name="person").status == 303

    assert person.get("/").status == 303
    assert b"revoked" in admin.get("/admin").body
