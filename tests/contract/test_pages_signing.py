"""Signing in on the pages and out: the cookie, the form's token, whence a form may come (SPEC: SITE-1 to SITE-4)."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.pages.signing import safe_target
from federated_memory.web.visitors import cookie_name
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ORIGIN, SYNC_TOKEN, Server
from tests.contract.visitor import Visitor, shown, signed_in

PAGES = ["/", "/search?q=x", "/machines", "/admin", "/w/box-claude-home", "/w/box-claude-home/sessions/s1?line=3"]


@pytest.mark.spec("SITE-1", "AUTH-9")
@pytest.mark.parametrize("path", PAGES)
def test_a_page_without_a_visit_leads_to_the_sign_in_and_back(server: Server, path: str) -> None:
    server.settle("home")
    visitor = Visitor(server)

    away = visitor.get(path)
    asked = visitor.get(away.headers["location"])
    field = re.search(rb'name="next" value="([^"]*)"', asked.body)
    assert field
    back = visitor.post("/sign-in", token=ADMIN_TOKEN, next=field[1].decode().replace("&amp;", "&"))

    assert (away.status, back.status) == (303, 303)
    assert away.body == b""
    assert back.headers["location"] == path
    assert server.auth_lines()[0].startswith("AUTH_DENY ip=127.0.0.1 reason=not_signed_in")


@pytest.mark.spec("SITE-1")
@pytest.mark.parametrize("token", [AI_TOKEN, SYNC_TOKEN, ADMIN_TOKEN])
def test_a_token_of_any_role_signs_in(server: Server, token: str) -> None:
    visitor = signed_in(server, token)

    assert shown(visitor.get("/")).startswith("Workspaces")


@pytest.mark.spec("SITE-1", "SEC-2")
def test_the_cookie_holds_no_token_and_opens_no_other_route(server: Server) -> None:
    visitor = Visitor(server)

    reply = visitor.sign_in(ADMIN_TOKEN)

    cookie = reply.headers["set-cookie"].split(", ")[0]
    assert re.fullmatch(rf"{cookie_name(server.settings)}=[\w-]{{43}}; HttpOnly; Path=/; SameSite=lax", cookie)
    assert visitor.get("/").status == 200
    assert [visitor.get(path).status for path in ("/api/v1/workspaces", "/metrics", "/mcp", "/nothing")] == [401] * 4
    assert ADMIN_TOKEN.encode() not in server.sent


@pytest.mark.spec("SITE-1")
def test_two_servers_on_one_host_do_not_sign_each_other_out(server: Server, shared: Server) -> None:
    one, other = signed_in(server, ADMIN_TOKEN), signed_in(shared, ADMIN_TOKEN)

    cookies = "; ".join(f"{name}={value}" for name, value in {**one.cookies, **other.cookies}.items())

    assert Visitor(server).get("/", cookie=cookies).status == 200
    assert Visitor(shared).get("/", cookie=cookies).status == 200


@pytest.mark.spec("SITE-1")
def test_behind_tls_the_cookie_is_secure(portal: BlockingPortal, tmp_path: Path) -> None:
    origin = "https://memory.example.org:7443"
    with Server(portal, tmp_path / "memory", public_url=origin) as server:
        visitor = Visitor(server, origin=origin)

        reply = visitor.sign_in(ADMIN_TOKEN)

        assert reply.headers["set-cookie"].startswith("__Host-fedmem-")
        assert reply.headers["set-cookie"].split(", ")[0].endswith("; HttpOnly; Path=/; SameSite=lax; Secure")
        assert visitor.get("/").status == 200


@pytest.mark.spec("SITE-1")
@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)", "w/x",
     "/api/v1/workspaces", "/sign-out", "/sign-in?next=/", "/assets/pages.js", "http:/evil.example", "/w/é", "///x",
     ""],
)  # fmt: skip
def test_signing_in_leads_to_no_other_place(shared: Server, wanted: str) -> None:
    assert safe_target(wanted) == "/"
    assert Visitor(shared).sign_in(ADMIN_TOKEN, wanted).headers["location"] == "/"


@pytest.mark.spec("SITE-1")
def test_who_is_signed_in_already_goes_straight_on(shared: Server) -> None:
    reply = signed_in(shared, AI_TOKEN).get("/sign-in?next=%2Fsearch%3Fq%3Dx")

    assert (reply.status, reply.headers["location"]) == (303, "/search?q=x")


@pytest.mark.spec("SITE-2", "AUTH-4")
def test_a_revoked_token_ends_its_visit(server: Server) -> None:
    visitor = signed_in(server, server.token("person", "read"))

    server.services.core.tokens.revoke("person")
    reply = visitor.get("/")

    assert (reply.status, reply.headers["location"]) == (303, "/sign-in")
    assert "You were signed out" in shown(visitor.get("/sign-in"))


@pytest.mark.spec("SITE-2")
def test_an_expired_token_ends_its_visit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = signed_in(server, server.token("person", "read", expires_seconds=3_600))

    later = time.time() + 3_601
    monkeypatch.setattr("federated_memory.auth.tokens.time.time", lambda: later)

    assert visitor.get("/").status == 303


@pytest.mark.spec("SITE-2")
def test_signing_out_ends_the_visit_and_not_only_the_cookie(shared: Server) -> None:
    visitor, other = signed_in(shared, AI_TOKEN), signed_in(shared, AI_TOKEN)
    held = visitor.cookies

    reply = visitor.post("/sign-out")

    assert (reply.status, reply.headers["location"]) == (303, "/sign-in")
    name = cookie_name(shared.settings)
    assert name not in visitor.cookies
    assert Visitor(shared).get("/", cookie=f"{name}={held[name]}").status == 303
    assert other.get("/").status == 200


@pytest.mark.spec("SITE-3", "AUDIT-1")
def test_the_audit_log_names_who_signed_in(server: Server) -> None:
    signed_in(server, server.token("person", "read"))
    Visitor(server).sign_in("wrong")

    rows = [json.loads(row) for row in (server.root / "_meta" / "audit.jsonl").read_text().splitlines()]
    told = [(row["who"], row["outcome"]) for row in rows if row["what"] == "POST /sign-in"]
    assert told == [("person", "ok"), ("nobody", "forbidden")]


@pytest.mark.spec("SITE-3", "AUTH-9")
def test_a_wrong_token_is_logged_and_after_ten_the_address_waits(server: Server) -> None:
    visitor = Visitor(server, address="203.0.113.7")

    replies = [visitor.sign_in(f"wrong-{number}") for number in range(10)]
    late = visitor.sign_in(ADMIN_TOKEN)

    assert [reply.status for reply in replies] == [403] * 10
    assert visitor.cookies.keys() == {cookie_name(server.settings) + "-form"}
    assert all("This token is not valid" in shown(reply) for reply in replies)
    assert server.auth_lines()[:10] == ['AUTH_FAIL ip=203.0.113.7 reason=bad_token path="/sign-in"'] * 10
    assert late.status == 429
    assert 0 < int(late.headers["retry-after"]) <= 60
    assert Visitor(server, address="203.0.113.8").sign_in(ADMIN_TOKEN).status == 303
    assert b"wrong-" not in server.sent


@pytest.mark.thorough
@pytest.mark.spec("SITE-3")
@pytest.mark.parametrize(
    "path",
    ["/sign-in", "/sign-out", "/w/box-claude-home/restore", "/admin/tokens", "/admin/tokens/revoke",
     "/admin/invitations", "/admin/invitations/withdraw"],
)  # fmt: skip
@pytest.mark.parametrize("fault", ["other_origin", "no_origin", "no_token", "wrong_token", "token_of_another"])
def test_a_form_from_elsewhere_changes_nothing(server: Server, path: str, fault: str) -> None:
    server.settle("home")
    visitor, other = signed_in(server, ADMIN_TOKEN), signed_in(server, ADMIN_TOKEN)
    token = {"no_token": "", "wrong_token": "x" * 32, "token_of_another": other.form_token}.get(
        fault, visitor.form_token
    )
    origin = {"other_origin": {"origin": "http://127.0.0.1:9999"}, "no_origin": {}}.get(fault, {"origin": ORIGIN})
    before = server.files()

    reply = visitor.request(
        "POST", path, f"form_token={token}&name=fresh&role=admin&machine=laptop&version=1&token={ADMIN_TOKEN}",
        content_type="application/x-www-form-urlencoded", **origin,
    )  # fmt: skip

    assert reply.status == 403
    assert server.files() == before
    assert visitor.get("/").status == 200, "still signed in, as before"


@pytest.mark.spec("SITE-3")
def test_the_sign_in_form_does_not_take_the_token_of_another_browser(shared: Server) -> None:
    visitor, other = Visitor(shared), Visitor(shared)
    visitor.get("/sign-in")
    other.get("/sign-in")

    reply = visitor.post("/sign-in", token=ADMIN_TOKEN, form_token=other.form_token)

    assert reply.status == 403
    assert cookie_name(shared.settings) not in visitor.cookies


@pytest.mark.spec("SITE-3")
@pytest.mark.parametrize("body", ["x" * 70_000, "a=%ff", "&".join(f"f{number}=1" for number in range(60)), "é=1"])
def test_what_is_no_form_is_refused(shared: Server, body: str) -> None:
    visitor = signed_in(shared, ADMIN_TOKEN)

    reply = visitor.request(
        "POST", "/admin/tokens", body, origin=ORIGIN, content_type="application/x-www-form-urlencoded"
    )
    other = visitor.request("POST", "/admin/tokens", "{}", origin=ORIGIN, content_type="application/json")

    assert reply.status in (400, 403, 413)
    assert other.status == 400
    assert "This is no form" in shown(other)


@pytest.mark.spec("SITE-4")
@pytest.mark.parametrize("path", ["/sign-in", *PAGES, "/w/nope", "/w/a/b/c"])
def test_every_page_forbids_what_is_not_its_own(server: Server, path: str) -> None:
    server.settle("home")
    visitor = Visitor(server) if path == "/sign-in" else signed_in(server, ADMIN_TOKEN)

    reply = visitor.get(path)

    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "form-action")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "same-origin"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(rb"<style|\sstyle=|<script(?! src=\"/assets/)|\son[a-z]+=", reply.body)
    assert not re.search(rb"(?:src|href|action)=\"(?!/|#)", reply.body)


@pytest.mark.spec("SITE-4")
def test_assets_are_kept_by_browsers_for_as_long_as_they_are_the_same(shared: Server) -> None:
    visitor = Visitor(shared)
    named = re.search(r'href="(/assets/pages\.css\?v=\w+)"', visitor.get("/sign-in").body.decode())
    assert named

    found, plain = visitor.get(named[1]), visitor.get("/assets/pages.css")
    again = visitor.get("/assets/pages.css", if_none_match=plain.headers["etag"])

    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["cache-control"] == "no-cache"
    assert found.headers["content-type"] == "text/css; charset=utf-8"
    assert (again.status, again.body) == (304, b"")
    assert [visitor.get(f"/assets/{name}").status for name in ("nothing.css", "..%2fsite.py", "base.html")] == [404] * 3


@pytest.mark.spec("SITE-1", "AUTH-10")
def test_the_host_is_checked_for_pages_too(shared: Server) -> None:
    assert Visitor(shared).get("/sign-in", host="evil.example").status == 421
