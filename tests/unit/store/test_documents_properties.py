"""Documents against a model, with crashes at any step (SPEC: STORE-2, STORE-3)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from federated_memory.errors import Conflict, FederatedMemoryError, NotFound
from federated_memory.names import DocumentPath, etag_of
from federated_memory.store import versions
from federated_memory.store.document import Key
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.registry import Registry, new_workspace
from federated_memory.store.root import Root
from federated_memory.store.scan import Scan, drop_unfinished
from tests.conftest import ACTOR, WORKSPACE

pytestmark = pytest.mark.thorough

STEPS = ("open", "write", "rename", "link", "unlink", "fsync")


class Crash(BaseException):
    """The process dies here."""


class CrashAt:
    """Let the n-th system call that changes files be the last one."""

    def __init__(self, step: int, error: Callable[[], BaseException] = Crash) -> None:
        self._left = step
        self._error = error
        self._real = {name: getattr(os, name) for name in STEPS}
        self.happened = False

    def __enter__(self) -> CrashAt:
        for name, real in self._real.items():
            setattr(os, name, self._counted(name, real))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not (arguments[1] & os.O_CREAT):
                return real(*arguments, **options)
            self._left -= 1
            if self._left < 0:
                self.happened = True
                raise self._error()
            return real(*arguments, **options)

        return call


class Store:
    """A root that can be abandoned as a killed process leaves it, and opened again."""

    def __init__(self, path: Path) -> None:
        self.root = Root(path)
        self.journal = Journal(self.root)
        self.registry = Registry(self.root)
        self.documents = Documents(self.root, self.journal, max_bytes=1 << 20)
        self.journal.recover()
        drop_unfinished(self.root)

    def abandon(self) -> None:
        self.root.database.close()
        self.root._lock.release()

    def reopened(self) -> Store:
        self.abandon()
        return Store(self.root.path)


def make_store(path: Path) -> Store:
    store = Store(path)
    store.registry.register(new_workspace(WORKSPACE, "box", "claude", "demo", "", "", ACTOR), ACTOR)
    return store


def key(path: str) -> Key:
    return Key(WORKSPACE, "knowledge", DocumentPath(path))


def leftovers(root: Root) -> list[str]:
    return [entry.name for entry in root.temporary.entries()]


@pytest.mark.spec("STORE-2", "STORE-3")
@pytest.mark.parametrize("operation", ["create", "replace", "delete"])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_text(tmp_path: Path, operation: str) -> None:
    for step in range(40):
        store = make_store(tmp_path / f"{operation}-{step}")
        if operation != "create":
            store.documents.write(key("a/b.md"), b"old", ACTOR)
        with CrashAt(step) as crash:
            try:
                if operation == "delete":
                    store.documents.delete(key("a/b.md"), ACTOR)
                else:
                    store.documents.write(key("a/b.md"), b"new", ACTOR)
                acknowledged = True
            except Crash:
                acknowledged = False
        store = store.reopened()
        _assert_whole(store, operation, acknowledged)
        store.abandon()
        if not crash.happened:
            return
    pytest.fail("the operation has more steps than the test tries")


def _assert_whole(store: Store, operation: str, acknowledged: bool) -> None:
    try:
        _, text = store.documents.read(key("a/b.md"))
    except NotFound:
        text = None
    new = None if operation == "delete" else b"new"
    old = None if operation == "create" else b"old"
    assert text in ([new] if acknowledged else [old, new])
    assert leftovers(store.root) == []
    if text is not None:
        for entry in store.documents.history(key("a/b.md")):
            assert etag_of(store.documents.read_version(key("a/b.md"), entry.version)[1]) == entry.etag
    store.journal.flush()
    assert store.root.database.rows("SELECT * FROM journal") == []


@pytest.mark.spec("STORE-5")
@pytest.mark.parametrize("operation", ["create", "replace"])
def test_a_full_disk_at_any_step_refuses_or_stores_and_never_loses(tmp_path: Path, operation: str) -> None:
    for step in range(40):
        store = make_store(tmp_path / f"{operation}-{step}")
        if operation == "replace":
            store.documents.write(key("b.md"), b"old", ACTOR)
        with CrashAt(step, lambda: OSError(28, "No space left on device")) as full:
            try:
                store.documents.write(key("b.md"), b"new", ACTOR)
                acknowledged = True
            except (FederatedMemoryError, OSError):
                acknowledged = False
        _assert_recovers(store, operation, acknowledged)
        store.abandon()
        if not full.happened:
            return
    pytest.fail("the operation has more steps than the test tries")


def _assert_recovers(store: Store, operation: str, acknowledged: bool) -> None:
    """Without a restart: reads go on, nothing half-written, and the next write works."""
    try:
        text: bytes | None = store.documents.read(key("b.md"))[1]
    except NotFound:
        text = None
    old = b"old" if operation == "replace" else None
    assert text in ([b"new"] if acknowledged else [old, b"new"])
    assert store.documents.write(key("b.md"), b"later", ACTOR).document.version >= 1
    assert store.documents.read(key("b.md"))[1] == b"later"
    assert store.journal.is_settled
    for entry in store.documents.history(key("b.md")):
        assert etag_of(store.documents.read_version(key("b.md"), entry.version)[1]) == entry.etag


@pytest.mark.spec("STORE-2")
def test_the_broken_twin_is_caught(tmp_path: Path) -> None:
    """A writer that replaces in place fails the same check: the check can fail."""
    torn = []
    for step in range(4):
        file = tmp_path / f"{step}.md"
        file.write_bytes(b"old")
        with CrashAt(step):
            try:
                descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
                for part in (b"n", b"ew"):
                    os.write(descriptor, part)
            except Crash:
                pass
        torn.append(file.read_bytes() not in (b"old", b"new"))
    assert any(torn)


@pytest.mark.spec("STORE-3")
@pytest.mark.parametrize("torn", [b"", b"ne", b"new t\0\0\0", b"ol", None])
def test_what_a_power_cut_leaves_of_an_acknowledged_write_is_mended(tmp_path: Path, torn: bytes | None) -> None:
    store = make_store(tmp_path / "root")
    store.documents.write(key("b.md"), b"old", ACTOR)
    store.documents.write(key("b.md"), b"new text", ACTOR)
    file = store.root.path / "workspaces" / WORKSPACE / "knowledge" / "b.md"
    if torn is None:
        file.unlink()
    else:
        file.write_bytes(torn)
    shutil.rmtree(file.parent / ".versions", ignore_errors=True)

    store = store.reopened()

    assert store.documents.read(key("b.md"))[1] == b"new text"
    assert [store.documents.read_version(key("b.md"), n)[1] for n in (1, 2)] == [b"old", b"new text"]
    store.abandon()


@pytest.mark.spec("STORE-2")
@pytest.mark.parametrize("torn", [b"", b"new", b"\0\0\0\0\0\0\0\0"])
def test_a_new_document_that_power_loss_left_without_its_commit_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    store = make_store(tmp_path / "root")
    store.documents.write(key("kept.md"), b"kept", ACTOR)
    monkeypatch.setattr(store.documents, "_record", lambda *_, **__: os._exit(9))
    if (child := os.fork()) == 0:
        store.documents.write(key("b.md"), b"new text", ACTOR)
    assert os.waitpid(child, 0)[1] == 9 << 8
    file = store.root.path / "workspaces" / WORKSPACE / "knowledge" / "b.md"
    file.write_bytes(torn)  # both its names

    store = store.reopened()

    assert not file.exists()
    assert not store.root.temporary.entries()
    assert Scan(store.root, store.documents).workspace(WORKSPACE) == 0
    assert store.documents.read(key("kept.md"))[1] == b"kept"
    assert store.documents.write(key("b.md"), b"again", ACTOR).document.version == 1
    store.abandon()


@pytest.mark.spec("STORE-2")
def test_blocks_that_power_loss_took_are_told_from_an_edit() -> None:
    text = bytes(range(1, 251)) * 20  # 5,000 bytes, no zero among them
    hole = text[:1024] + bytes(1024) + text[2048:4000]
    for torn in (b"", text, text[:700], hole, bytes(5_000), text + bytes(100), bytes(512) + text[512:]):
        assert versions.could_be_torn(torn, text)
    for edited in (text + b"x", text[1:], b"x" + text[1:], text[:600] + bytes(3) + text[603:]):
        assert not versions.could_be_torn(edited, text)


@pytest.mark.spec("STORE-3")
def test_an_edit_by_hand_after_the_last_write_survives_recovery(tmp_path: Path) -> None:
    store = make_store(tmp_path / "root")
    store.documents.write(key("b.md"), b"written", ACTOR)
    (store.root.path / "workspaces" / WORKSPACE / "knowledge" / "b.md").write_bytes(b"by hand")

    store = store.reopened()

    assert store.documents.read(key("b.md"))[1] == b"by hand"
    assert store.documents.read_version(key("b.md"), 1)[1] == b"written"
    store.abandon()


PATHS = st.sampled_from(["a.md", "b/c.md", "b/d.md"])
TEXTS = st.binary(max_size=40)


class DocumentMachine(RuleBasedStateMachine):
    """Writes, deletions, hand edits, flushes, crashes: every text that was ever acknowledged stays readable."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = make_store(self.folder / "root")
        self.current: dict[str, bytes] = {}
        self.ever: dict[str, list[bytes]] = {}

    def teardown(self) -> None:
        self.store.abandon()
        shutil.rmtree(self.folder)

    def file(self, path: str) -> Path:
        return self.store.root.path / "workspaces" / WORKSPACE / "knowledge" / path

    @rule(path=PATHS, text=TEXTS)
    def write(self, path: str, text: bytes) -> None:
        self.store.documents.write(key(path), text, ACTOR)
        self.current[path] = text
        self.ever.setdefault(path, []).append(text)

    @rule(path=PATHS, text=TEXTS)
    def write_if_unchanged(self, path: str, text: bytes) -> None:
        held = self.current.get(path)
        self.store.documents.write(key(path), text, ACTOR, if_match="" if held is None else etag_of(held))
        self.current[path] = text
        self.ever.setdefault(path, []).append(text)

    @rule(path=PATHS, text=TEXTS)
    def write_stale(self, path: str, text: bytes) -> None:
        with pytest.raises(Conflict):
            self.store.documents.write(key(path), text, ACTOR, if_match=etag_of(b"never written"))

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        if path in self.current:
            self.store.documents.delete(key(path), ACTOR)
            del self.current[path]

    @rule(path=PATHS, text=TEXTS)
    def edit_by_hand(self, path: str, text: bytes) -> None:
        self.file(path).parent.mkdir(exist_ok=True)
        self.file(path).write_bytes(text)
        self.store.documents.observe(key(path))
        self.current[path] = text
        self.ever.setdefault(path, []).append(text)

    @rule(path=PATHS)
    def remove_by_hand(self, path: str) -> None:
        self.file(path).unlink(missing_ok=True)
        self.current.pop(path, None)

    @rule()
    def scan(self) -> None:
        Scan(self.store.root, self.store.documents).workspace(WORKSPACE)

    @rule()
    def flush(self) -> None:
        self.store.journal.flush()

    @rule()
    def crash(self) -> None:
        self.store = self.store.reopened()

    @rule(path=PATHS, text=TEXTS, step=st.integers(0, 12))
    def crash_while_writing(self, path: str, text: bytes, step: int) -> None:
        with CrashAt(step), contextlib.suppress(Crash):
            self.store.documents.write(key(path), text, ACTOR)
        self.store = self.store.reopened()
        try:
            found = self.store.documents.read(key(path))[1]
        except NotFound:
            self.current.pop(path, None)
            return
        assert found in (text, self.current.get(path))
        self.current[path] = found
        self.ever.setdefault(path, []).append(found)

    @invariant()
    def files_hold_the_current_texts(self) -> None:
        for path, text in self.current.items():
            assert self.file(path).read_bytes() == text

    @invariant()
    def every_text_is_a_version(self) -> None:
        for path, texts in self.ever.items():
            kept = {entry.etag for entry in self.store.documents.history(key(path))}
            assert {etag_of(text) for text in texts} <= kept
            versions = [entry.version for entry in self.store.documents.history(key(path))]
            assert versions == sorted(set(versions), reverse=True)


TestDocumentMachine = pytest.mark.spec("STORE-2", "VER-1")(DocumentMachine.TestCase)
DocumentMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.spec("STORE-4")
def test_without_the_state_database_every_version_is_still_there_and_counting_goes_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "root")
    for text in (b"one", b"two"):
        store.documents.write(key("b.md"), text, ACTOR)
    store.documents.write(key("gone.md"), b"gone", ACTOR)
    store.documents.delete(key("gone.md"), ACTOR)
    store.journal.flush()
    store.abandon()
    for name in ("state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"):
        (tmp_path / "root" / "_meta" / name).unlink(missing_ok=True)

    store = Store(tmp_path / "root")
    Scan(store.root, store.documents).workspace(WORKSPACE)
    store.documents.write(key("b.md"), b"three", ACTOR)
    store.documents.write(key("gone.md"), b"back", ACTOR)
    store.journal.flush()

    kept = [
        (v.version, store.documents.read_version(key("b.md"), v.version)[1])
        for v in store.documents.history(key("b.md"))
    ]
    assert kept == [(3, b"three"), (2, b"two"), (1, b"one")]
    assert store.documents.read_version(key("gone.md"), 1)[1] == b"gone"
    assert store.documents.find(key("gone.md")).version == 2  # type: ignore[union-attr]
    store.abandon()


@pytest.mark.spec("VER-1")
def test_a_copy_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    store = make_store(tmp_path / "root")
    folder = tmp_path / "root" / "workspaces" / WORKSPACE / "knowledge" / ".versions" / "b.md"
    store.documents.write(key("b.md"), b"one", ACTOR)
    folder.mkdir(parents=True)
    (folder / "000001.md").write_bytes(b"somebody's text")

    store.journal.flush()

    assert store.documents.read_version(key("b.md"), 1)[1] == b"one"
    assert b"somebody's text" in {file.read_bytes() for file in folder.iterdir()}
    store.abandon()


@pytest.mark.spec("STORE-2")
def test_what_an_interrupted_replacement_leaves_is_swept_at_start(tmp_path: Path) -> None:
    store = make_store(tmp_path / "root")
    with CrashAt(1), contextlib.suppress(Crash):
        store.root.meta.replace("workspaces.json", b"{}")
    assert leftovers(store.root)

    store = store.reopened()

    assert leftovers(store.root) == []
    store.abandon()
