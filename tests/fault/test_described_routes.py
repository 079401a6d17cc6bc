"""Every described operation, with requests made from its description and against it, by schemathesis.

What comes back is what the OpenAPI document says: status, content type, headers, shape; never a failure, never a word
of the server's insides. `FAULT_FULL=1` (nightly) tries forty times as many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import Failure, FailureGroup

from federated_memory.web.openapi.document import document
from tests.contract.test_fuzz import INSIDES
from tests.e2e.conftest import Api, RunningServer
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200" if FULL else "5"))
STREAMS = {"events", "room_events", "mcp_stream"}
"""Answers without end; `tests/contract/test_events.py` and the e2e tests read them."""
WAITS = ("timeout_seconds", "wait_seconds")
LINE = b'{"type":"user","message":{"role":"user","content":"zebra"},"timestamp":"2026-11-20T08:00:00Z"}\n'
CHECKED = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip

pytestmark = pytest.mark.timeout(3_600 if FULL else 240)


class Known:
    """What there is on the server, so that requests come further than to 404."""

    def __init__(self, server: RunningServer) -> None:
        with server.api() as sync, server.api(server.ai_token) as ai, server.api(server.admin_token) as admin:
            self.home = sync.register("home")
            self.other = sync.register("other").workspace_id
            binding = _register(ai, "home")
            for place in ("knowledge/a.md", "overview"):
                for text in (b"# zebra", b"# zebra 2"):
                    assert self.home.call("PUT", place, text).status < 300
            assert self.home.call("PUT", "sessions/s1", LINE).status < 300
            memory = ai.call("POST", "/api/v1/memories", b'{"content": "zebra"}', x_memory_binding=binding)
            assert ai.call("POST", "/api/v1/rooms", b'{"room": "r"}', x_memory_binding=binding).status == 201
            task = ai.call("POST", "/api/v1/tasks", b'{"room": "r", "task": "t"}', x_memory_binding=binding)
            assert ai.call("PUT", "/api/v1/state/keys/k", b"1", x_memory_binding=binding).status == 200
            assert admin.call("POST", "/api/v1/tokens", b'{"name": "spare", "role": "read"}').status == 201
        self.names = {
            "workspace_id": self.home.workspace_id, "path": "a.md", "session_id": "s1", "name": "spare", "key": "k",
            "memory_id": memory.json["memory_id"], "room": "r", "task_id": task.json["task_id"],
        }  # fmt: skip
        self.callers = [
            {"Authorization": f"Bearer {server.ai_token}", "X-Memory-Binding": binding},
            {"Authorization": f"Bearer {server.sync_token}", "X-Write-Token": self.home.write_token},
            {"Authorization": f"Bearer {server.admin_token}"},
        ]


def _register(ai: Api, project: str) -> str:
    body = b'{"machine": "box", "tool": "claude", "project": "%s"}' % project.encode()
    return str(ai.call("POST", "/api/v1/workspaces", body).json["binding"])


def operations() -> list[Any]:
    found = [each.ok() for each in schemathesis.openapi.from_dict(document()).get_all_operations()]
    return [each for each in found if each.definition.raw["operationId"] not in STREAMS]


def try_one(
    operation: Any, mode: GenerationMode, url: str, known: dict[str, str], callers: list[dict[str, str]], examples: int
) -> int:
    """How many requests were tried. Raises: FailureGroup, AssertionError: an answer was not as described."""
    load_all_checks()
    checks = CHECKS.get_by_names(list(CHECKED))
    tried = 0
    name = operation.definition.raw["operationId"]
    with requests.Session() as session:

        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        @settings(
            max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink), derandomize=not FULL,
        )  # fmt: skip
        def asks(case: Any, data: st.DataObject) -> None:
            nonlocal tried
            tried += 1
            for place in known.keys() & (case.path_parameters or {}).keys():
                if name != "reissue" and data.draw(st.booleans()):
                    case.path_parameters[place] = known[place]
            for holder in (case.body, case.query):
                for waits in WAITS if isinstance(holder, dict) else ():
                    if waits in holder:
                        holder[waits] = 0
            caller = data.draw(st.sampled_from(callers))
            answer = case.call(base_url=url, session=session, headers=caller, allow_redirects=False, timeout=30)
            case.validate_response(answer, checks=checks)
            if name not in TEXTS:
                found = INSIDES.search(answer.text or "")
                assert not found, (case.as_curl_command(), answer.text)

        with suppress(Unsatisfiable):  # what takes nothing cannot be given anything wrong
            asks()
    return tried


TEXTS = {"client_memory_sync_py", "client_install_sh", "client_install_ps1", "client_redaction_rules_json", "openapi"}
"""Answers that tell of code on purpose."""


@pytest.mark.spec("HTTP-9", "ERR-1", "ERR-2")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_as_the_document_says(serve: Callable[..., RunningServer], mode: GenerationMode) -> None:
    server = serve(MEMORY_TOOLSETS="all")
    server.wait_until_ready()
    known, tried, wrong = Known(server), 0, []

    for operation in operations():
        try:
            tried += try_one(operation, mode, server.url, known.names, known.callers, EXAMPLES)
        except (FailureGroup, Failure, AssertionError, requests.RequestException) as found:
            wrong.append(f"{operation.label}: {found} {getattr(found, 'exceptions', '')}"[:3_000])
    server.stop()

    tally(f"described routes, {mode.value}", trials=tried, escapes=len(wrong))
    assert not wrong, "\n".join(wrong)
    assert server.problems() == []
    assert tried > 77 * EXAMPLES / 2


class Broken(BaseHTTPRequestHandler):
    """The broken twin: its answers are of no described form."""

    answers = iter(())

    def do_GET(self) -> None:
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def broken(answer: tuple[int, str, bytes]) -> Iterator[str]:
    kind = type("Twin", (Broken,), {"answer": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as twin:
        thread = threading.Thread(target=twin.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{twin.server_address[1]}"
        finally:
            twin.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        (500, "application/problem+json", b"{}"),
        (418, "application/problem+json", b"{}"),
        (200, "text/html", b"<p>"),
        (200, "application/json", b'{"tokens": [{"name": 1}]}'),
        (404, "application/json", b'{"tokens": []}'),
        (200, "application/json", b'{"tokens": [], "why": "Traceback (most recent call last)"}'),
    ],
    ids=["a failure", "an unknown status", "another type", "another shape", "a problem of no form", "insides"],
)
def test_a_server_that_answers_otherwise_is_found_out(answer: tuple[int, str, bytes]) -> None:
    operation = next(each for each in operations() if each.definition.raw["operationId"] == "list_tokens")

    with broken(answer) as url, pytest.raises((FailureGroup, Failure, AssertionError)):
        try_one(operation, GenerationMode.POSITIVE, url, {}, [{}], 3)
