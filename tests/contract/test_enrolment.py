"""Invitations and enrolment over HTTP (SPEC: ENROL-1 to ENROL-8)."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.auth.certificates import Presented, fingerprint, key_pin, read_chain
from tests.contract.harness import ADMIN_TOKEN, SYNC_TOKEN, Http, Reply, Server

INVITATIONS, ENROLL = "/api/v1/invitations", "/api/v1/enroll"
PUBLIC = "https://memory.test:7443"


def invite(server: Server, machine: str = "laptop", **more: object) -> dict[str, Any]:
    reply = server.http(ADMIN_TOKEN).post(INVITATIONS, {"machine": machine, **more})
    assert reply.status == 201, reply
    found: dict[str, Any] = reply.json
    return found


def enrol(server: Server, code: str, *, address: str = "192.0.2.7", **more: object) -> Reply:
    return server.http(address=address).post(ENROLL, {"code": code, **more})


def enrolled(server: Server, machine: str = "laptop", **more: object) -> dict[str, Any]:
    reply = enrol(server, invite(server, machine, **more)["code"])
    assert reply.status == 201, reply
    found: dict[str, Any] = reply.json
    return found


def register(http: Http, machine: str = "laptop", project: str = "shop") -> Reply:
    return http.post("/api/v1/workspaces", {"machine": machine, "tool": "claude", "project": project})


@pytest.mark.spec("ENROL-1", "ENROL-3")
def test_a_code_becomes_the_tokens_of_that_machine(server: Server) -> None:
    made = invite(server, read=["laptop-*"])

    reply = enrol(server, made["code"], client="memory_sync/1", platform="Linux")

    assert reply.status == 201
    assert reply.headers["cache-control"] == "no-store"
    got = reply.json
    assert got.keys() == {"machine", "url", "mcp_url", "ai_token", "sync_token", "ca"}
    assert (got["machine"], got["ca"]) == ("laptop", None)
    assert (got["url"], got["mcp_url"]) == ("http://127.0.0.1:8000", "http://127.0.0.1:8000/mcp")
    sync, ai = server.http(got["sync_token"]), server.http(got["ai_token"])
    assert register(sync).json["write_token"]
    assert register(ai).json["binding"]
    assert register(sync, machine="desk").code == register(ai, machine="desk").code == "forbidden"
    assert server.http(got["ai_token"]).get("/api/v1/workspaces").json["total"] == 1
    (row,) = server.http(ADMIN_TOKEN).get(INVITATIONS).json["invitations"]
    assert (row["state"], row["used_from"]) == ("used", "192.0.2.7")


@pytest.mark.spec("ENROL-1", "ENROL-5", "SEC-2")
def test_no_list_log_or_refusal_shows_a_code_or_a_token(server: Server) -> None:
    made = invite(server)
    got = enrol(server, made["code"]).json
    again = enrol(server, made["code"])

    listed = server.http(ADMIN_TOKEN).get(INVITATIONS).body + server.http(ADMIN_TOKEN).get("/api/v1/tokens").body
    for secret in (made["code"], got["ai_token"], got["sync_token"]):
        assert secret.encode() not in listed + again.body
        assert secret not in "\n".join(server.lines)


@pytest.mark.spec("ENROL-5")
def test_every_bad_code_gets_the_same_refusal(server: Server) -> None:
    used, withdrawn = invite(server, "used"), invite(server, "withdrawn")
    enrol(server, used["code"])
    assert server.http(ADMIN_TOKEN).delete(f"{INVITATIONS}/{withdrawn['invitation_id']}").json["state"] == "withdrawn"
    said = len(server.auth_lines())

    replies = [enrol(server, code) for code in (used["code"], withdrawn["code"], "nothing", "\u00e9")]

    assert {(reply.status, reply.code, reply.body) for reply in replies} == {(403, "forbidden", replies[0].body)}
    assert "used, expired or mistyped" in replies[0].json["detail"]
    assert set(server.auth_lines()[said:]) == {'AUTH_FAIL ip=192.0.2.7 reason=bad_code path="/api/v1/enroll"'}


@pytest.mark.spec("ENROL-2")
def test_of_twenty_requests_at_once_one_gets_tokens(server: Server) -> None:
    code = invite(server)["code"]

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda number: enrol(server, code, address=f"192.0.2.{number}"), range(20)))

    assert sorted(reply.status for reply in replies) == [201, *[403] * 19]


@pytest.mark.spec("ENROL-6")
def test_ten_wrong_codes_stop_an_address_for_a_while(server: Server) -> None:
    good = invite(server)["code"]
    for number in range(10):
        assert enrol(server, f"wrong-{number}").status == 403
    said = len(server.auth_lines())

    refused = enrol(server, good)

    assert (refused.status, refused.code) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert server.auth_lines()[said:] == ['AUTH_DENY ip=192.0.2.7 reason=rate_limited path="/api/v1/enroll"']
    assert enrol(server, good, address="192.0.2.8").status == 201


@pytest.mark.spec("ENROL-5", "HTTP-6")
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'"code"', b"{", b"\xff", b'{"code": null}', b'{"code": 7}', b'{"code": ""}',
        b'{"code": ["x"]}', b'{"code": "x", "machine": "desk"}', b'{"code": "x", "client": 1}',
        json.dumps({"code": "x" * 201}).encode(), json.dumps({"code": "x", "client": "c" * 201}).encode(),
        b"[" * 4_000,
    ],
)  # fmt: skip
def test_a_body_of_another_form_is_refused_and_is_no_guess(shared: Server, body: bytes) -> None:
    said = len(shared.auth_lines())

    reply = shared.http(address="198.51.100.9").request("POST", ENROLL, body)

    assert (reply.status, reply.code) == (400, "invalid_argument")
    assert len(shared.auth_lines()) == said


@pytest.mark.spec("ENROL-5", "HTTP-6")
def test_a_long_body_is_refused_before_it_is_read(shared: Server) -> None:
    told = shared.exchange("POST", ENROLL.encode(), [(b"content-length", b"5000")], [b"x" * 5_000])
    untold = shared.exchange("POST", ENROLL.encode(), [], [b"x" * 1_000] * 10)

    assert (told.status, told.reads) == (413, 0)
    assert untold.status == 413
    assert untold.reads <= 6


@pytest.mark.spec("ENROL-8", "AUTH-10")
@pytest.mark.parametrize(
    ("header", "status"),
    [((b"host", b"evil.test"), 421), ((b"origin", b"https://evil.test"), 403), ((b"host", b"localhost:1;x"), 400)],
)
def test_host_and_origin_are_checked_without_a_token_too(
    shared: Server, header: tuple[bytes, bytes], status: int
) -> None:
    body = b'{"code": "nothing"}'

    assert shared.exchange("POST", ENROLL.encode(), [header], [body]).status == status


@pytest.mark.spec("ENROL-8")
def test_a_token_that_is_no_good_does_not_matter_where_none_is_needed(server: Server) -> None:
    code = invite(server)["code"]

    assert server.http("nonsense").post(ENROLL, {"code": code}).status == 201


@pytest.mark.spec("ENROL-3", "ENROL-4")
def test_enrolling_again_ends_old_tokens_and_gives_new_write_tokens(server: Server) -> None:
    first = enrolled(server)
    before = register(server.http(first["sync_token"])).json
    server.settle("home", machine="desk")
    assert "write_token" not in register(server.http(SYNC_TOKEN)).json

    second = enrolled(server, "LAPTOP")

    assert server.http(first["sync_token"]).get("/api/v1/workspaces").status == 401
    assert server.http(first["ai_token"]).get("/api/v1/workspaces").status == 401
    sync = server.http(second["sync_token"])
    place = f"/api/v1/workspaces/{before['workspace_id']}/knowledge/a.md"
    assert sync.put(place, "# a", x_write_token=before["write_token"]).code == "forbidden"
    after = register(sync).json
    assert after["write_token"] != before["write_token"]
    assert sync.put(place, "# a", x_write_token=after["write_token"]).status == 201
    assert "write_token" not in register(sync).json
    desk = {"machine": "desk", "tool": "claude", "project": "home"}
    assert "write_token" not in server.http(SYNC_TOKEN).post("/api/v1/workspaces", desk).json


@pytest.mark.spec("ENROL-4")
def test_a_bad_code_ends_no_write_token(server: Server) -> None:
    home = server.settle("home", machine="laptop")
    invite(server)

    assert enrol(server, "guess").status == 403
    sync = server.http(SYNC_TOKEN, x_write_token=home.write_token)
    assert sync.put(home.url("/knowledge/a.md"), "# a").status == 201


@pytest.mark.spec("ENROL-1")
@pytest.mark.parametrize(
    "body",
    [
        {}, {"machine": ""}, {"machine": 7}, {"machine": "x", "expires": "soon"}, {"machine": "x", "expires": "8d"},
        {"machine": "x", "expires": "5s"}, {"machine": "x", "read": ["../"]}, {"machine": "x", "role": "admin"},
        {"machine": "x", "pin": "yes"},
    ],
)  # fmt: skip
def test_an_invitation_that_cannot_be_is_refused(shared: Server, body: dict[str, object]) -> None:
    assert shared.http(ADMIN_TOKEN).post(INVITATIONS, body).code == "invalid_argument"
    assert shared.http(ADMIN_TOKEN).get(INVITATIONS).json == {"invitations": []}


# -- certificates


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=memory.test",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem"


def reaching(server: Server, seen: Presented | OSError) -> None:
    """Let the server see this when it looks at PUBLIC_URL."""

    def presented_by(origin: str) -> Presented:
        assert origin == PUBLIC
        if isinstance(seen, OSError):
            raise seen
        return seen

    server.services.enrolment.presented_by = presented_by


@pytest.mark.spec("ENROL-7")
def test_a_certificate_that_nobody_trusts_is_told_and_comes_with_its_authority(
    portal: BlockingPortal, tmp_path: Path, chain: Path
) -> None:
    leaf = read_chain(chain).leaf
    with Server(portal, tmp_path / "memory", public_url=PUBLIC, tls_certificate=chain) as server:
        reaching(server, Presented(leaf, is_trusted=False))

        made = invite(server)

        assert (made["url"], made["fingerprint"], made["pin"]) == (PUBLIC, fingerprint(leaf), key_pin(leaf))
        assert made["notes"] == []
        got = enrol(server, made["code"]).json
        assert (got["url"], got["mcp_url"], got["ca"]) == (PUBLIC, f"{PUBLIC}/mcp", chain.read_text())


@pytest.mark.spec("ENROL-7")
def test_a_certificate_that_everybody_trusts_is_not_told_unless_asked(
    portal: BlockingPortal, tmp_path: Path, chain: Path
) -> None:
    leaf = read_chain(chain).leaf
    with Server(portal, tmp_path / "memory", public_url=PUBLIC, tls_certificate=chain) as server:
        reaching(server, Presented(leaf, is_trusted=True))

        made = invite(server)

        assert "fingerprint" not in made
        assert "pin" not in made
        assert enrol(server, made["code"]).json["ca"] is None
        assert invite(server, pin=True)["fingerprint"] == fingerprint(leaf)


@pytest.mark.spec("ENROL-7")
def test_an_unreachable_public_url_is_said(portal: BlockingPortal, tmp_path: Path, chain: Path) -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    with Server(portal, tmp_path / "one", public_url=PUBLIC) as server:
        reaching(server, refused)
        made = invite(server)
        assert "fingerprint" not in made
        assert "Set MEMORY_TLS_CERTIFICATE" in made["notes"][0]
    with Server(portal, tmp_path / "two", public_url=PUBLIC, tls_certificate=chain) as server:
        reaching(server, refused)
        made = invite(server)
        assert made["fingerprint"] == fingerprint(read_chain(chain).leaf)
        assert "did not answer" in made["notes"][0]


@pytest.mark.spec("ENROL-7")
def test_another_certificate_than_the_one_set_is_said(portal: BlockingPortal, tmp_path: Path, chain: Path) -> None:
    with Server(portal, tmp_path / "memory", public_url=PUBLIC, tls_certificate=chain) as server:
        reaching(server, Presented(b"something else", is_trusted=False))

        made = invite(server)

        assert made["fingerprint"] == fingerprint(read_chain(chain).leaf)
        assert "presents another certificate" in made["notes"][0]


@pytest.mark.spec("ENROL-7")
def test_tokens_still_arrive_when_the_certificates_file_has_gone(
    portal: BlockingPortal, tmp_path: Path, chain: Path
) -> None:
    file = tmp_path / "cert.pem"
    file.write_bytes(chain.read_bytes())
    with Server(portal, tmp_path / "memory", public_url=PUBLIC, tls_certificate=file) as server:
        reaching(server, Presented(read_chain(chain).leaf, is_trusted=False))
        code = invite(server)["code"]
        file.unlink()

        got = enrol(server, code).json

        assert got["ca"] is None
        assert got["ai_token"]
