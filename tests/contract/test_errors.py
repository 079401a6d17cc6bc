"""One family of errors: its table, its shapes, and the 401 that is always the same (SPEC: ERR-1, ERR-2, AUTH-1)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from federated_memory import boundary, errors
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, Server

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \| (\d+) \| (.+) \|$", re.MULTILINE)
LINE = b'{"type":"user"}\n'


@pytest.mark.spec("ERR-1")
def test_the_table_of_the_specification_is_the_table_of_the_code() -> None:
    specified = {code: (int(status), int(exit_code)) for code, status, exit_code, _ in ROW.findall(SPEC)}

    assert specified == {code: (found.status, found.exit_code) for code, found in boundary.TABLE.items()}
    assert len({found.exit_code for found in boundary.TABLE.values()}) == len(boundary.TABLE)


@pytest.mark.spec("ERR-1")
@pytest.mark.parametrize("kind", [*boundary.family()], ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_of_the_table_and_says_what_it_means(kind: type[errors.FederatedMemoryError]) -> None:
    assert kind.code in boundary.TABLE
    assert kind.code in {code for code, *_ in ROW.findall(SPEC)}
    assert kind.__doc__


@pytest.mark.spec("ERR-1")
def test_every_code_has_an_error() -> None:
    assert {kind.code for kind in boundary.family()} == boundary.TABLE.keys()


@pytest.mark.spec("ERR-1")
def test_an_error_has_the_same_code_in_every_form() -> None:
    error = errors.Conflict("It changed", hint="Read it again", etag="0" * 64, version=3)

    assert boundary.as_dict(error) == {
        "code": "conflict", "message": "It changed", "hint": "Read it again", "etag": "0" * 64, "version": 3
    }  # fmt: skip
    assert boundary.as_problem(error) == {
        "type": "urn:federated-memory:error:conflict", "title": "Conflict", "status": 409,
        "detail": "It changed. Read it again", **boundary.as_dict(error),
    }  # fmt: skip
    assert boundary.as_text(error) == f"conflict: It changed. Read it again (etag={'0' * 64}, version=3)"


@pytest.mark.spec("ERR-2")
def test_an_error_that_is_not_ours_is_unavailable_and_keeps_its_text(caplog: pytest.LogCaptureFixture) -> None:
    found = boundary.understood(RuntimeError("canary"))

    assert found.code == "unavailable"
    assert "canary" not in str(found)
    assert len(caplog.records) == 1


PROBLEMS = {
    "not_found": ("GET", "/api/v1/workspaces/gone", b"", {}),
    "conflict": ("PUT", "{home}/knowledge/a.md", b"x", {"if_none_match": "*"}),
    "not_bound": ("PUT", "{home}/knowledge/a.md", b"x", {"x_memory_binding": "fmb1.a.b"}),
    "forbidden": ("GET", "/api/v1/status", b"", {}),
    "invalid_name": ("PUT", "{home}/knowledge/..%2fa.md", b"x", {}),
    "invalid_argument": ("PUT", "{home}/knowledge/a.md", b"\xff", {}),
    "too_large": ("PUT", "{home}/knowledge/a.md", b"x" * (1024**2 + 1), {}),
    "unsupported_format": ("PUT", "{home}/sessions/s", b"x", {"content_encoding": "br"}),
}


@pytest.mark.spec("ERR-1", "HTTP-1")
@pytest.mark.parametrize("code", PROBLEMS)
def test_a_refusal_over_http_is_a_problem_of_rfc_9457(server: Server, code: str) -> None:
    home = server.settle()
    http = server.http(AI_TOKEN, x_memory_binding=home.binding)
    http.put(home.url("/knowledge/a.md"), b"kept")
    method, path, body, headers = PROBLEMS[code]

    reply = http.request(method, path.replace("{home}", home.url()), body, **headers)

    outcome = boundary.TABLE[code]
    assert reply.status == outcome.status
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert problem["code"] == code
    assert problem["type"] == f"urn:federated-memory:error:{code}"
    assert (problem["title"], problem["status"]) == (outcome.title, outcome.status)
    assert problem["detail"].startswith(problem["message"])
    assert {"code", "message"} < problem.keys()


@pytest.mark.spec("ERR-1")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404), ("GET", "/nothing", 404), ("GET", "/api/v1/workspaces/a/b/c", 404),
        ("DELETE", "/api/v1/workspaces", 405), ("POST", "/api/v1/status", 405), ("PATCH", "/api/v1/workspaces/a", 405),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_problem_as_well(shared: Server, method: str, path: str, status: int) -> None:
    reply = shared.http(ADMIN_TOKEN).request(method, path)

    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["code"] in boundary.TABLE


@pytest.mark.spec("AUTH-1")
def test_every_401_is_the_same(server: Server) -> None:
    revoked, expired = server.token("gone", "admin"), server.token("old", "admin", expires_seconds=1e-9)
    server.services.core.tokens.revoke("gone")
    requests = [
        (None, {}),
        ("", {}),
        ("wrong", {}),
        (AI_TOKEN[:-1], {}),
        (AI_TOKEN + "x", {}),
        (AI_TOKEN.upper(), {}),
        (revoked, {}),
        (expired, {}),
        (None, {"authorization": f"Basic {AI_TOKEN}"}),
        (None, {"authorization": AI_TOKEN}),
        (None, {"authorization": "Bearer"}),
        (None, {"x_memory_binding": server.settle().binding}),
        ("\x01", {}),
        ("ü", {}),
        ("a" * 100_000, {}),
        (None, {"cookie": f"token={AI_TOKEN}"}),
    ]
    for method, path in (("GET", "/api/v1/workspaces"), ("POST", "/mcp"), ("PUT", "/api/v1/workspaces/a/overview")):
        replies = []
        for token, headers in requests:
            given = {"authorization": f"Bearer {token}"} if token is not None else {}
            pairs = [
                (key.replace("_", "-").encode(), value.encode("latin-1")) for key, value in {**given, **headers}.items()
            ]
            replies.append(server.exchange(method, path.encode(), [*pairs, (b"content-length", b"3")], [b"abc"]))

        assert {reply.status for reply in replies} == {401}
        assert len({reply.body for reply in replies}) == 1
        assert len({tuple(reply.lasting.items()) for reply in replies}) == 1
        assert replies[0].headers["www-authenticate"] == "Bearer"
        # The body was never asked for.
        assert {reply.reads for reply in replies} == {0}


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize("query", ["token", "access_token", "api_key", "authorization"])
def test_a_token_in_the_address_opens_nothing(shared: Server, query: str) -> None:
    assert shared.http(None).get(f"/api/v1/workspaces?{query}={AI_TOKEN}").status == 401


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_in_any_case(shared: Server, scheme: str) -> None:
    assert shared.http(None, authorization=f"{scheme} {AI_TOKEN}").get("/api/v1/workspaces").status == 200


@pytest.mark.spec("ERR-2", "HTTP-1")
@pytest.mark.parametrize(
    ("path", "body", "place", "takes"),
    [
        ("/api/v1/rooms", {"room": 7}, "room: ", "room"),
        ("/api/v1/memories", {"content": "x", "tags": ["a", 7]}, "tags.1: ", "content"),
        ("/api/v1/memories/import", {"workspace_id": "w", "memories": [{}]}, "memories.0.content: ", "memories"),
        ("/api/v1/project-aliases", {"alias": 7}, "alias: ", "alias, project"),
        ("/api/v1/invitations", {"machine": "m", "read": "all"}, "read: ", "machine, read"),
        ("/api/v1/enroll", {"code": ["hunter2-secret"]}, "code: ", "code, client"),
        ("/api/v1/enroll", {"code": "x", "hunter2-secret": 1}, "a field that is not known", "code, client"),
    ],
)
def test_every_route_explains_a_wrong_body_in_the_same_words(
    server: Server, path: str, body: dict[str, object], place: str, takes: str
) -> None:
    method = "PUT" if path.endswith("aliases") else "POST"
    client = server.http(AI_TOKEN if path in ("/api/v1/rooms", "/api/v1/memories") else ADMIN_TOKEN)

    reply = client.request(method, path, json.dumps(body))

    assert (reply.status, reply.code) == (400, "invalid_argument"), reply
    assert reply.json["message"].startswith("The body is not as it should be: ")
    assert place in reply.json["message"]
    assert reply.json["hint"].startswith("It takes ")
    assert takes in reply.json["hint"]
    assert b"hunter2" not in reply.body
