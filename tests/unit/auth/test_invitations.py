"""Invitations: one use, one durable write, and nothing of the code on disk (SPEC: ENROL-1 to ENROL-4)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from federated_memory.auth.caller import Grant
from federated_memory.auth.invitations import Enrolment, Invitations, token_names
from federated_memory.auth.tokens import Tokens
from federated_memory.errors import Conflict, InvalidArgument, NotFound, StorageFull
from federated_memory.fs.folder import Folder
from federated_memory.names import WorkspaceId
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from tests.conftest import ACTOR, WORKSPACE


@pytest.fixture
def tokens(root: Root) -> Tokens:
    return Tokens(root, ai="shared-ai", sync=None)


@pytest.fixture
def invitations(tokens: Tokens) -> Invitations:
    return Invitations(tokens)


def invite(invitations: Invitations, machine: str = "laptop", *, expires_seconds: float = 900) -> str:
    return invitations.create(
        machine, read=(), expires_seconds=expires_seconds, is_pinned=False, created_by="tester"
    )[1]  # fmt: skip


def redeem(invitations: Invitations, code: str, prepare: Callable[[str], object] = str) -> Enrolment | None:
    return invitations.redeem(code, address="192.0.2.7", prepare=prepare)


def grant(tokens: Tokens, secret: str) -> Grant:
    found = tokens.verify(secret)
    assert isinstance(found, Grant), found
    return found


@pytest.mark.spec("ENROL-1")
def test_the_code_is_long_and_stands_nowhere_on_disk(root: Root, invitations: Invitations) -> None:
    code = invite(invitations)

    assert len(code) >= 26
    assert code.replace("-", "a").replace("_", "a").isalnum()
    kept = b"".join(path.read_bytes() for path in root.path.rglob("*") if path.is_file())
    assert code.encode() not in kept
    assert oct((root.path / "_meta" / "tokens.json").stat().st_mode & 0o777) == "0o600"


@pytest.mark.spec("ENROL-1", "ENROL-3")
def test_an_invitation_survives_a_restart_and_gives_that_machines_two_tokens(tmp_path: Path) -> None:
    first = Root(tmp_path / "memory")
    before = Invitations(Tokens(first, ai=None, sync=None))
    code = before.create("My Laptop", read=("box-*",), expires_seconds=900, is_pinned=True, created_by="ops")[1]
    first.close()
    second = Root(tmp_path / "memory")
    tokens = Tokens(second, ai=None, sync=None)

    got = redeem(Invitations(tokens), code)

    assert got is not None
    assert (got.machine, got.is_pinned) == ("My Laptop", True)
    for secret, role in ((got.ai_token, "ai"), (got.sync_token, "sync")):
        found = grant(tokens, secret)
        assert (found.role, found.machine, found.read, found.expires_at) == (role, "My Laptop", ("box-*",), None)
    assert [token.name for token in tokens.list()] == list(token_names("My Laptop"))
    second.close()


@pytest.mark.spec("ENROL-2")
def test_of_twenty_at_once_one_gets_the_tokens(tokens: Tokens, invitations: Invitations) -> None:
    code = invite(invitations)
    together = threading.Barrier(20)

    def attempt(_: int) -> Enrolment | None:
        together.wait()
        return redeem(invitations, code)

    with ThreadPoolExecutor(20) as pool:
        got = [found for found in pool.map(attempt, range(20)) if found]

    assert len(got) == 1
    assert grant(tokens, got[0].ai_token).role == "ai"
    assert len(tokens.list()) == 2


@pytest.mark.spec("ENROL-2")
def test_a_used_code_stays_used_after_a_restart(root: Root, invitations: Invitations) -> None:
    code = invite(invitations)
    assert redeem(invitations, code)

    assert redeem(Invitations(Tokens(root, ai=None, sync=None)), code) is None


@pytest.mark.spec("ENROL-2")
def test_a_write_that_fails_leaves_the_code_good_and_no_token(
    root: Root, tokens: Tokens, invitations: Invitations, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = invite(invitations)
    before = (root.path / "_meta" / "tokens.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(Folder, "replace", full)
        with pytest.raises(StorageFull):
            redeem(invitations, code)

    assert (root.path / "_meta" / "tokens.json").read_bytes() == before
    assert tokens.list() == []
    assert redeem(invitations, code) is not None


@pytest.mark.spec("ENROL-2")
def test_that_a_code_was_used_and_its_tokens_are_one_write(
    invitations: Invitations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between two writes would burn the code, or leave it good for a second machine."""
    code = invite(invitations)
    written: list[bytes] = []
    replace = Folder.replace

    def watched(folder: Folder, name: str, data: bytes) -> None:
        written.append(data)
        replace(folder, name, data)

    monkeypatch.setattr(Folder, "replace", watched)
    redeem(invitations, code)

    (only,) = (json.loads(data) for data in written)
    assert [row["name"] for row in only["tokens"]] == ["laptop-ai", "laptop-sync"]
    assert only["invitations"][0]["used_at"]


@pytest.mark.spec("ENROL-2")
def test_what_fails_before_the_write_leaves_the_code_good(invitations: Invitations) -> None:
    code = invite(invitations)

    def fail(_: str) -> None:
        raise StorageFull("no")

    with pytest.raises(StorageFull):
        redeem(invitations, code, fail)
    assert redeem(invitations, code) is not None


@pytest.mark.spec("ENROL-1", "ENROL-5")
@pytest.mark.parametrize("code", ["", "x", "é" * 40, "\ud800", "a" * 10_000])
def test_other_codes_are_worth_nothing(invitations: Invitations, code: str) -> None:
    invite(invitations)

    assert redeem(invitations, code) is None


@pytest.mark.spec("ENROL-1")
def test_an_expired_code_is_worth_nothing(invitations: Invitations, monkeypatch: pytest.MonkeyPatch) -> None:
    code = invite(invitations, expires_seconds=60)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)

    assert redeem(invitations, code) is None


@pytest.mark.spec("ENROL-1")
def test_a_newer_invitation_ends_the_open_one_of_that_machine_only(invitations: Invitations) -> None:
    first, other, second = invite(invitations, "Laptop"), invite(invitations, "desk"), invite(invitations, "laptop")

    assert redeem(invitations, first) is None
    assert redeem(invitations, other) is not None
    assert redeem(invitations, second) is not None


@pytest.mark.spec("ENROL-1")
def test_a_withdrawn_invitation_is_worth_nothing(invitations: Invitations) -> None:
    code = invite(invitations)
    (listed,) = invitations.list()

    assert not invitations.withdraw(listed.invitation_id).is_open
    assert redeem(invitations, code) is None
    with pytest.raises(NotFound):
        invitations.withdraw("nothing")


@pytest.mark.spec("ENROL-1")
def test_withdrawing_what_was_used_changes_nothing(tokens: Tokens, invitations: Invitations) -> None:
    got = redeem(invitations, invite(invitations))
    assert got is not None
    (listed,) = invitations.list()

    assert invitations.withdraw(listed.invitation_id) == listed
    assert grant(tokens, got.ai_token)


@pytest.mark.spec("ENROL-1")
def test_what_ended_a_month_ago_is_forgotten(invitations: Invitations, monkeypatch: pytest.MonkeyPatch) -> None:
    invite(invitations, "old")
    later = time.time() + 32 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)

    invite(invitations, "new")

    assert [invitation.machine for invitation in invitations.list()] == ["new"]


@pytest.mark.spec("ENROL-3")
def test_enrolling_again_ends_the_tokens_of_before(tokens: Tokens, invitations: Invitations) -> None:
    ended: list[str] = []
    tokens.on_revoke(ended.append)
    first = redeem(invitations, invite(invitations, "Laptop"))
    assert first is not None
    fingerprints = {grant(tokens, first.ai_token).fingerprint, grant(tokens, first.sync_token).fingerprint}

    second = redeem(invitations, invite(invitations, "laptop"))

    assert second is not None
    assert tokens.verify(first.ai_token) == tokens.verify(first.sync_token) == "bad_token"
    assert set(ended) == fingerprints
    assert grant(tokens, second.ai_token).machine == "laptop"


@pytest.mark.spec("ENROL-3")
def test_a_token_of_another_machine_is_never_replaced(tokens: Tokens, invitations: Invitations) -> None:
    tokens.create("laptop-ai", "ai", machine="other")

    with pytest.raises(Conflict, match="laptop-ai"):
        invite(invitations)

    tokens.revoke("laptop-ai")
    assert redeem(invitations, invite(invitations)) is not None


@pytest.mark.spec("ENROL-3")
@pytest.mark.parametrize("machine", ["laptop", "LAPTOP", "Größe", "_x", ".hidden", "机器", "a" * 200, "con", "x'; rm"])
def test_any_printable_name_gives_legal_token_names(tokens: Tokens, invitations: Invitations, machine: str) -> None:
    got = redeem(invitations, invite(invitations, machine))

    assert got is not None
    assert grant(tokens, got.sync_token).machine == machine


@pytest.mark.spec("ENROL-3")
def test_names_that_differ_only_in_case_are_one_machine() -> None:
    assert token_names("É") == token_names("é") == token_names("e\u0301")
    assert token_names("Größe") != token_names("Grosse-b")


@pytest.mark.spec("ENROL-1")
@pytest.mark.parametrize("machine", ["", " ", " laptop", "lap\ntop", "a" * 201, "lap\u200btop", "\ud800"])
def test_a_name_that_is_none_is_refused(invitations: Invitations, machine: str) -> None:
    with pytest.raises(InvalidArgument):
        invite(invitations, machine)


@pytest.mark.spec("ENROL-1")
@pytest.mark.parametrize("seconds", [0, 59, 8 * 86_400])
def test_an_invitation_is_good_for_a_minute_to_a_week(invitations: Invitations, seconds: float) -> None:
    with pytest.raises(InvalidArgument):
        invite(invitations, expires_seconds=seconds)


@pytest.mark.spec("ENROL-4")
def test_ending_write_tokens_reaches_one_machine_only(root: Root, registry: Registry) -> None:
    other = WorkspaceId("desk-claude-demo")
    registry.register(new_workspace(other, "desk", "claude", "demo", "", "", ACTOR), ACTOR)
    mine, theirs = registry.give_write_token(WORKSPACE), registry.give_write_token(other)
    assert mine
    assert theirs

    registry.end_write_tokens("BOX")

    assert not registry.is_write_token(WORKSPACE, mine)
    assert not registry.is_write_token(WORKSPACE, "")
    assert registry.is_write_token(other, theirs)
    again = Registry(root)
    assert not again.is_write_token(WORKSPACE, mine)
    assert again.give_write_token(WORKSPACE) not in (None, mine)
