"""A server against a model: whatever is done in whatever order, with kills and stops in between, both know the same.

Real processes over HTTP. Every rule compares the answer with what the model says; after each start everything is
compared: texts, versions and their bytes, transcripts, tokens, bindings, write tokens. `FAULT_FULL=1`: many more.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.e2e.conftest import Answer, Api, RunningServer
from tests.fault.model_of_rights import Document, Proof, Token, Workspace, etag_of, may_write
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
EXAMPLES, STEPS = (100, 60) if FULL else (6, 40)
REQUESTS_A_START = 12
REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = st.sampled_from(["a.md", "A.md", "x/b.md", "Über.md"])
SESSIONS = st.sampled_from(["s1", "s2"])
TEXTS = st.sampled_from([b"# one", b"# two", b"three\n", b"", b"\xff four", "fünf".encode() * 500])
LINES = st.sampled_from([b'{"n":1}\n', b'{"n":2}\n{"n":3}\n', b'{"n":4}'])
INDEX = st.integers(0, 30)

pytestmark = pytest.mark.timeout(3_600 if FULL else 240)


class Host:
    """The server of all examples, started and ended as the rules want it."""

    def __init__(self, serve: Callable[..., RunningServer], **options: str) -> None:
        self._start = lambda: serve(MEMORY_SCAN_INTERVAL_SECONDS="3600", **options)
        self.examples = self.starts = self.steps = 0
        self.wrong: list[str] = []
        self.start()

    def start(self) -> None:
        self.server = self._start()
        self.server.wait_until_ready()
        self.starts += 1

    def kill(self) -> None:
        self.server.process.kill()
        self.server.wait()
        self.wrong += self.server.problems()

    def stop(self) -> None:
        assert self.server.stop() == 0
        self.wrong += self.server.problems()


class Rights(RuleBasedStateMachine):
    host: ClassVar[Host]

    @initialize()
    def begin(self) -> None:
        self.prefix = f"e{self.host.examples}"
        self.host.examples += 1
        if self.host.server.process.poll() is not None:  # where the example before ended
            self.host.start()
        self.workspaces: list[Workspace] = []
        self.tokens: dict[str, Token] = {}
        self.proofs: list[Proof] = []
        self._connect()
        self.register()

    def _connect(self) -> None:
        server = self.host.server
        self.apis: dict[str, Api] = {"": server.api(server.admin_token)}
        self.started_at = self.host.steps

    def teardown(self) -> None:
        for api in getattr(self, "apis", {}).values():
            api.close()

    def call(self, bearer: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """As a token of the model, by name; `""` is the admin of this start."""
        self.host.steps += 1
        if bearer not in self.apis:
            self.apis[bearer] = self.host.server.api(self.tokens[bearer].secret)
        return self.apis[bearer].call(method, path, body, **headers)

    def pick(self, things: list[Any], number: int) -> Any:
        return things[number % len(things)]

    # -- workspaces, tokens, bindings

    @rule()
    @precondition(lambda self: len(self.workspaces) < 3)
    def register(self) -> None:
        project = f"{self.prefix}-{len(self.workspaces)}"
        if "sync" not in self.tokens:
            self.tokens["sync"] = Token("sync", self.host.server.sync_token, "sync")
        names = json.dumps({"machine": "box", "tool": "claude", "project": project}).encode()
        answer = self.call("sync", "POST", "/api/v1/workspaces", names)
        assert answer.status == 201, answer
        found = Workspace(answer.json["workspace_id"], project, answer.json["write_token"])
        self.workspaces.append(found)
        self.proofs.append(Proof("sync", write_token=found.write_token))
        again = self.call("sync", "POST", "/api/v1/workspaces", names)
        assert (again.status, again.json.get("write_token")) == (200, None)

    @rule(role=st.sampled_from(["ai", "ai", "sync", "read"]), only=st.booleans(), at=INDEX)
    @precondition(lambda self: len(self.tokens) < 8)
    def issue(self, role: str, only: bool, at: int) -> None:
        name = f"{self.prefix}-t{len(self.tokens)}"
        writes = self.pick(self.workspaces, at).workspace_id if only and role != "read" else "*"
        limits = {"write": [writes]} if writes != "*" else {}
        answer = self.call("", "POST", "/api/v1/tokens", json.dumps({"name": name, "role": role, **limits}).encode())
        assert answer.status == 201, answer
        self.tokens[name] = Token(name, answer.json["token"], role, writes)
        self.proofs.append(Proof(name))
        if role == "sync":
            self.proofs += [Proof(name, write_token=each.write_token) for each in self.workspaces]

    @rule(at=INDEX, of=INDEX)
    def bind(self, at: int, of: int) -> None:
        agents = [token for token in self.tokens.values() if token.role == "ai"]
        if not agents:
            return
        token, workspace = self.pick(agents, at), self.pick(self.workspaces, of)
        names = {"machine": "box", "tool": "claude", "project": workspace.project}
        answer = self.call(token.name, "POST", "/api/v1/workspaces", json.dumps(names).encode())
        if token.is_revoked:
            assert answer.status == 401, answer
        elif token.writes in ("*", workspace.workspace_id):
            assert answer.status == 200, answer
            proof = Proof(token.name, answer.json["binding"], workspace.workspace_id, token.name)
            stolen = [
                Proof(other.name, proof.binding, proof.bound_to, token.name)
                for other in self.tokens.values()
                if other.role == "ai" and other is not token
            ]
            self.proofs += [proof, *stolen[:1]]
        else:
            assert answer.status == 403, answer

    @rule(at=INDEX)
    def revoke(self, at: int) -> None:
        named = [token for token in self.tokens.values() if token.name != "sync"]
        if named:
            token = self.pick(named, at)
            assert self.call("", "DELETE", f"/api/v1/tokens/{token.name}").status == 200
            token.is_revoked = True

    @rule(at=INDEX)
    def reissue(self, at: int) -> None:
        workspace = self.pick(self.workspaces, at)
        answer = self.call("", "POST", f"/api/v1/workspaces/{workspace.workspace_id}/reissue")
        assert answer.status == 200, answer
        workspace.ended_write_tokens.append(workspace.write_token)
        workspace.write_token = answer.json["write_token"]
        self.proofs.append(Proof("sync", write_token=workspace.write_token))

    # -- documents and transcripts

    def place(self, workspace: Workspace, rest: str) -> str:
        return (
            f"/api/v1/workspaces/{workspace.workspace_id}/" + rest.replace("Ü", "%C3%9C")
        )  # fmt: skip

    @rule(at=INDEX, of=INDEX, path=PATHS, text=TEXTS, match=st.sampled_from(["", "", "current", "stale", "none"]))
    def write(self, at: int, of: int, path: str, text: bytes, match: str) -> None:
        workspace, proof = self.pick(self.workspaces, at), self.pick(self.proofs, of)
        document = workspace.document(path)
        expected = may_write(self.tokens[proof.token], proof, workspace)
        headers = dict(proof.headers)
        if match in ("current", "stale"):
            held = document.text if match == "current" and document.text is not None else b"something else"
            headers["if_match"] = f'"{etag_of(held)}"'
        elif match == "none":
            headers["if_none_match"] = "*"
        if expected == 200:
            is_refused = {"stale": True, "current": document.text is None, "none": document.text is not None}
            if b"\xff" in text:
                expected = 400
            elif is_refused.get(match) or (document.text is None and workspace.collides(path)):
                expected = 409
            else:
                expected = 201 if document.text is None else 200

        answer = self.call(proof.token, "PUT", self.place(workspace, f"knowledge/{path}"), text, **headers)

        assert answer.status == expected, (answer, proof, path, match)
        if expected < 300:
            workspace.documents.setdefault(path, document).write(text)
            assert answer.json["version"] == len(document.versions)
            assert answer.json["etag"] == etag_of(text)
        self.compare_document(workspace, path)

    @rule(at=INDEX, of=INDEX, path=PATHS)
    def delete(self, at: int, of: int, path: str) -> None:
        workspace, proof = self.pick(self.workspaces, at), self.pick(self.proofs, of)
        document = workspace.document(path)
        expected = may_write(self.tokens[proof.token], proof, workspace)
        if expected == 200 and document.text is None:
            expected = 404
        answer = self.call(proof.token, "DELETE", self.place(workspace, f"knowledge/{path}"), **proof.headers)
        assert answer.status == expected, (answer, proof, path)
        if expected == 200:
            document.is_live = False
        self.compare_document(workspace, path)

    @rule(at=INDEX, of=INDEX, path=PATHS, version=st.integers(1, 4))
    def restore(self, at: int, of: int, path: str, version: int) -> None:
        workspace, proof = self.pick(self.workspaces, at), self.pick(self.proofs, of)
        document = workspace.document(path)
        expected = may_write(self.tokens[proof.token], proof, workspace)
        if expected == 200 and version > len(document.versions):
            expected = 404
        elif expected == 200 and document.text is None and workspace.collides(path):
            expected = 409
        body = json.dumps({"version": version}).encode()
        answer = self.call(proof.token, "POST", self.place(workspace, f"versions/{path}"), body, **proof.headers)
        assert answer.status == expected, (answer, proof, path, version)
        if expected == 200:
            document.write(document.versions[version - 1])
        self.compare_document(workspace, path)

    @rule(at=INDEX, of=INDEX, session=SESSIONS, lines=LINES, appends=st.booleans())
    def upload(self, at: int, of: int, session: str, lines: bytes, appends: bool) -> None:
        workspace, proof = self.pick(self.workspaces, at), self.pick(self.proofs, of)
        held = workspace.sessions.get(session, b"")
        expected = may_write(self.tokens[proof.token], proof, workspace)
        if appends and not held:
            return
        whole = held + lines if appends else lines
        method = "PATCH" if appends else "PUT"
        headers = {**proof.headers, **({"upload_offset": str(len(held))} if appends else {})}
        answer = self.call(proof.token, method, self.place(workspace, f"sessions/{session}"), lines, **headers)
        if expected == 200:
            assert answer.status in (200, 201), (answer, proof)
            assert answer.json["sha256"] == etag_of(whole)
            workspace.sessions[session] = whole
        else:
            assert answer.status == expected, (answer, proof)
        self.compare_session(workspace, session)

    # -- ends and starts

    @rule(is_killed=st.booleans())
    @precondition(lambda self: self.is_due)
    def end_and_start(self, is_killed: bool) -> None:
        if is_killed:
            self.host.kill()
        else:
            self.host.stop()
        self._start_again()

    @rule(at=INDEX, path=PATHS, text=TEXTS, after=st.integers(0, 8))
    @precondition(lambda self: self.is_due)
    def crash_in_the_middle(self, at: int, path: str, text: bytes, after: int) -> None:
        """A kill while a write is under way: unless it was answered, the old or the new state are both right."""
        workspace = self.pick(self.workspaces, at)
        if b"\xff" in text or workspace.collides(path):
            return
        answers: list[Answer] = []

        def write() -> None:
            with self.host.server.api() as api, suppress(OSError, http.client.HTTPException):
                place = self.place(workspace, f"knowledge/{path}")
                answers.append(api.call("PUT", place, text, x_write_token=workspace.write_token))

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(after / 1_000 * random.random())  # the moment is what lots are drawn for
        self.host.kill()
        writer.join()
        self.host.start()
        self._connect_again()
        document = workspace.document(path)
        found = self.call("", "GET", self.place(workspace, f"knowledge/{path}"))
        if answers or (found.status == 200 and found.body == text):
            assert not answers or answers[0].status < 300, answers
            workspace.documents.setdefault(path, document).write(text)
        self.compare_everything()

    @property
    def is_due(self) -> bool:
        """A start takes as long as a thousand requests."""
        return self.host.steps > self.started_at + REQUESTS_A_START

    def _start_again(self) -> None:
        self.host.start()
        self._connect_again()
        self.compare_everything()

    def _connect_again(self) -> None:
        self.teardown()
        self._connect()

    # -- what both must know

    def compare_document(self, workspace: Workspace, path: str) -> None:
        document = workspace.document(path)
        found = self.call("", "GET", self.place(workspace, f"knowledge/{path}"))
        if document.text is None:
            assert found.status == 404, (found, path)
        else:
            assert (found.status, found.body) == (200, document.text), (found, path)
            assert found.headers["x-version"] == str(len(document.versions))

    def compare_versions(self, workspace: Workspace, path: str, document: Document) -> None:
        told = self.call("", "GET", self.place(workspace, f"versions/{path}"))
        assert told.status == 200, (told, path)
        rows = [(row["version"], row["etag"]) for row in told.json["versions"]]
        assert rows == [(n, etag_of(text)) for n, text in enumerate(document.versions, 1)][::-1], (rows, path)
        for number, text in enumerate(document.versions, 1):
            old = self.call("", "GET", self.place(workspace, f"knowledge/{path}?version={number}"))
            assert (old.status, old.body) == (200, text), (old, path, number)

    def compare_session(self, workspace: Workspace, session: str) -> None:
        found = self.call("", "GET", self.place(workspace, f"sessions/{session}"))
        held = workspace.sessions.get(session)
        assert (found.status, found.body) == (200, held) if held is not None else found.status == 404, (found, held)

    def compare_everything(self) -> None:
        self._compare_everything()
        self.started_at = self.host.steps

    def _compare_everything(self) -> None:
        for workspace in self.workspaces:
            for path, document in workspace.documents.items():
                self.compare_document(workspace, path)
                self.compare_versions(workspace, path, document)
            for session in ("s1", "s2"):
                self.compare_session(workspace, session)
            listed = self.call("", "GET", self.place(workspace, "knowledge")).json["documents"]
            live = {path for path, document in workspace.documents.items() if document.is_live}
            assert {row["path"] for row in listed} == live
        rows = self.call("", "GET", "/api/v1/tokens").json["tokens"]
        states = {row["name"]: row["state"] for row in rows if row["name"].startswith(self.prefix + "-")}
        named = {name: token for name, token in self.tokens.items() if name != "sync"}
        assert states == {name: "revoked" if token.is_revoked else "active" for name, token in named.items()}
        for proof in self.proofs:
            self.compare_rights(proof)

    def compare_rights(self, proof: Proof) -> None:
        """With a write that must be refused for its precondition at the latest: nothing changes."""
        token = self.tokens[proof.token]
        for workspace in self.workspaces:
            expected = may_write(token, proof, workspace)
            headers = {**proof.headers, "if_match": f'"{etag_of(b"never written")}"'}
            answer = self.call(proof.token, "PUT", self.place(workspace, "knowledge/a.md"), b"x", **headers)
            assert answer.status == (409 if expected == 200 else expected), (answer, proof, workspace.workspace_id)


def run_machine(host: Host, examples: int, steps: int, *, is_derandomized: bool) -> None:
    kind = type("Machine", (Rights,), {"host": host})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            derandomize=is_derandomized, suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
             report_multiple_bugs=False,
        ),
    )  # fmt: skip


@pytest.mark.spec("AUTH-4", "BIND-1", "STORE-3", "VER-1", "DOC-5")
def test_server_and_model_agree_after_every_start(serve: Callable[..., RunningServer]) -> None:
    host = Host(serve)

    run_machine(host, EXAMPLES, STEPS, is_derandomized=not FULL)

    tally("rights machine", trials=host.examples, lost=0, leaks=len(host.wrong))
    print(f"rights machine: {host.examples} sequences, {host.steps} requests, {host.starts} starts")
    assert host.wrong == []
    assert host.starts > EXAMPLES


@pytest.mark.parametrize("forgets", ["revocations", "texts", "bindings"])
def test_a_server_that_forgets_is_found_out(serve: Callable[..., RunningServer], forgets: str) -> None:
    host = Host(serve, module="tests.fault.forgetful_server", FORGETS=forgets, PYTHONPATH=str(REPOSITORY))

    with pytest.raises(AssertionError):
        run_machine(host, 30, 40, is_derandomized=True)
