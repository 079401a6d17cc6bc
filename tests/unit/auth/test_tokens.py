"""Tokens: issued once, kept hashed, compared in constant time, ended at once (SPEC: AUTH-1 to AUTH-4)."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import stat
import time
from pathlib import Path

import pytest

from federated_memory.auth import binding, tokens
from federated_memory.auth.caller import Grant
from federated_memory.auth.tokens import GENERATED, Tokens, generated_tokens
from federated_memory.errors import Conflict, InvalidArgument, NotFound, UnsupportedFormat
from federated_memory.store import registry
from federated_memory.store.root import Root


@pytest.fixture
def known(root: Root) -> Tokens:
    return Tokens(root, ai="ai-secret", sync="sync-secret")


@pytest.mark.spec("AUTH-2")
def test_a_named_token_is_kept_as_its_hash_only(root: Root, known: Tokens) -> None:
    made, secret = known.create("laptop", "ai", read=("a-*",), write=("a-b",), machine="box", expires_seconds=60)

    kept = (root.path / "_meta" / "tokens.json").read_text()
    assert secret not in kept
    assert json.loads(kept)["tokens"][0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest() == made.sha256
    assert len(secret) > 40


@pytest.mark.spec("AUTH-2")
def test_a_named_token_outlives_a_restart(root: Root, known: Tokens) -> None:
    made, secret = known.create("laptop", "ai", read=("a-*",), write=("a-b",), machine="box", expires_seconds=60)

    again = Tokens(root, ai=None, sync=None)

    assert again.verify(secret) == made.grant
    assert again.list() == [made]
    assert again.verify("ai-secret") == "bad_token"


@pytest.mark.spec("AUTH-1")
@pytest.mark.parametrize(
    "token", ["", " ", "ai-secre", "ai-secret ", "AI-SECRET", "ai-secret\0", "é", "\ud800", "x" * 10**6]
)
def test_what_is_not_exactly_a_token_opens_nothing(known: Tokens, token: str) -> None:
    assert known.verify(token) == "bad_token"


@pytest.mark.spec("AUTH-1", "AUTH-4")
def test_a_revoked_token_is_known_as_such_also_after_a_restart(root: Root, known: Tokens) -> None:
    _, secret = known.create("laptop", "ai")
    known.revoke("laptop")

    assert known.verify(secret) == "revoked_token"
    assert Tokens(root, ai=None, sync=None).verify(secret) == "revoked_token"


@pytest.mark.spec("AUTH-4")
def test_who_listens_hears_of_a_revocation_by_fingerprint(known: Tokens) -> None:
    heard: list[str] = []
    known.on_revoke(heard.append)
    made, _ = known.create("laptop", "ai")

    known.revoke("laptop")
    known.create("laptop", "read")

    assert heard == [made.grant.fingerprint] * 2  # making it anew ends what may still be open


@pytest.mark.spec("AUTH-4")
def test_a_token_expires(known: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = known.create("laptop", "ai", expires_seconds=100)
    assert isinstance(known.verify(secret), Grant)
    now = time.time()

    monkeypatch.setattr("federated_memory.auth.tokens.time.time", lambda: now + 101)

    assert known.verify(secret) == "expired_token"


@pytest.mark.spec("AUTH-2")
def test_a_name_in_use_is_taken_until_it_is_revoked(known: Tokens) -> None:
    _, first = known.create("laptop", "ai")
    with pytest.raises(Conflict):
        known.create("laptop", "read")

    known.revoke("laptop")
    _, second = known.create("laptop", "read")

    assert known.verify(first) == "bad_token"
    assert isinstance(known.verify(second), Grant)


@pytest.mark.spec("AUTH-2")
def test_a_token_that_never_was_cannot_be_revoked(known: Tokens) -> None:
    with pytest.raises(NotFound):
        known.revoke("gone")


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize(
    ("name", "role", "more"),
    [
        ("", "ai", {}), ("A", "ai", {}), ("a b", "ai", {}), ("../x", "ai", {}), ("x" * 65, "ai", {}), ("ai", "ai", {}),
        ("sync", "ai", {}), ("control", "ai", {}), ("x", "root", {}), ("x", "", {}), ("x", "ai", {"read": ("",)}),
        ("x", "ai", {"read": ("A",)}), ("x", "ai", {"write": ("a/b",)}), ("x", "ai", {"write": ("a b",)}),
        ("x", "read", {"write": ("a",)}), ("x", "ai", {"expires_seconds": 0}), ("x", "ai", {"expires_seconds": -1}),
        ("x\n", "ai", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_a_token_is_refused_and_nothing_is_kept(
    root: Root, known: Tokens, name: str, role: str, more: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument):
        known.create(name, role, **more)  # type: ignore[arg-type]

    assert known.list() == []
    assert not (root.path / "_meta" / "tokens.json").exists()


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"tokens": 1}', b'{"tokens": [{"name": "x"}]}', b"\xff"])
def test_a_damaged_file_is_said_to_be_damaged(root: Root, data: bytes) -> None:
    root.meta.replace("tokens.json", data)

    with pytest.raises(UnsupportedFormat, match=r"tokens\.json"):
        Tokens(root, ai=None, sync=None)


@pytest.mark.spec("AUTH-3")
def test_tokens_are_generated_once_and_only_their_owner_reads_them(root: Root) -> None:
    ai, sync, made = generated_tokens(root)

    assert made
    assert ai != sync
    assert min(len(ai), len(sync)) >= 40
    assert generated_tokens(root) == (ai, sync, False)
    assert stat.S_IMODE((root.path / "_meta" / GENERATED).stat().st_mode) == 0o600


@pytest.mark.spec("AUTH-3")
def test_a_generated_file_that_lacks_one_keeps_the_other(root: Root) -> None:
    root.meta.replace(GENERATED, b"# mine\nMCP_TOKEN = chosen\n")

    ai, sync, made = generated_tokens(root)

    assert (ai, made) == ("chosen", True)
    assert generated_tokens(root) == ("chosen", sync, False)


@pytest.mark.spec("AUTH-2")
@pytest.mark.parametrize("module", [tokens, binding, registry])
def test_no_secret_is_compared_with_an_operator(module: object) -> None:
    """Timing shows what `==` finds first; `hmac.compare_digest` does not."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    secret = {"sha256", "token", "digest", "signature", "fingerprint", "known", "text", "secret", "write_token_sha256"}
    found = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and any(
            (isinstance(side, ast.Name) and side.id in secret)
            or (isinstance(side, ast.Attribute) and side.attr in secret)
            for side in [node.left, *node.comparators]
        )
    ]

    assert found == []
    assert "compare_digest" in Path(inspect.getfile(module)).read_text()  # type: ignore[arg-type]
