"""Archives against a model: any sequence of uploads, crashes and reopenings (SPEC: ARCH-3 to ARCH-7, ARCH-12)."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from federated_memory.errors import Conflict, FederatedMemoryError, NotFound
from federated_memory.names import ETag, SessionId
from tests.conftest import WORKSPACE
from tests.unit.store.archive_rig import Crash, Interrupted, Rig, disk_error, fast_folder, small_members

pytestmark = pytest.mark.thorough

SESSIONS = [SessionId("a"), SessionId("b")]

lines = st.builds(
    lambda length, letter, newline: letter * length + newline,
    st.sampled_from([0, 1, 5, 20, 40, 63, 64, 70, 159, 160, 161, 350]),
    st.sampled_from([b"a", b"b", b"\r", b"\xff"]),
    st.sampled_from([b"\n", b"\n", b"\n", b""]),
)
bodies = st.lists(lines, max_size=12).map(b"".join)
sessions = st.sampled_from(SESSIONS)
chunk_sizes = st.sampled_from([1, 7, 64, 1000])


class ArchiveMachine(RuleBasedStateMachine):
    """`held` is what each session holds, `kept` what each revision of it held."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = ExitStack()
        self.patches.enter_context(small_members())
        self.folder = self.patches.enter_context(fast_folder())
        self.rig = Rig(self.folder / "memory", is_durable=False)
        self.held: dict[SessionId, bytes] = {}
        self.kept: dict[tuple[SessionId, int], bytes] = {}
        self.revision: dict[SessionId, int] = {}

    def teardown(self) -> None:
        self.rig.abandon()
        self.patches.close()

    # -- what a client does

    @rule(session=sessions, body=bodies, chunk=chunk_sizes)
    def put_anything(self, session: SessionId, body: bytes, chunk: int) -> None:
        self.put(session, body, chunk)

    @precondition(lambda self: self.held)
    @rule(session=sessions, more=bodies, chunk=chunk_sizes)
    def put_longer(self, session: SessionId, more: bytes, chunk: int) -> None:
        self.put(session, self.held.get(session, b"") + more, chunk)

    @precondition(lambda self: self.held)
    @rule(session=sessions, place=st.floats(0, 1), chunk=chunk_sizes)
    def put_beginning(self, session: SessionId, place: float, chunk: int) -> None:
        held = self.held.get(session, b"")
        self.put(session, held[: int(place * len(held))], chunk)

    @precondition(lambda self: self.held)
    @rule(session=sessions, place=st.floats(0, 1), more=bodies, chunk=chunk_sizes)
    def put_with_one_byte_changed(self, session: SessionId, place: float, more: bytes, chunk: int) -> None:
        held = self.held.get(session, b"")
        at = int(place * len(held))
        self.put(session, held[:at] + b"X" + held[at + 1 :] + more, chunk)

    @precondition(lambda self: self.held)
    @rule(session=sessions, other=sessions)
    def put_what_another_session_holds(self, session: SessionId, other: SessionId) -> None:
        self.put(session, self.held.get(other, b"z\n"), 1000)

    @rule(session=sessions, more=bodies)
    def patch(self, session: SessionId, more: bytes) -> None:
        held = self.held.get(session)
        stored = self.rig.patch(len(held or b""), more, session)
        assert stored.status == ("created" if held is None else "appended" if more else "unchanged")
        self.note(session, (held or b"") + more, stored.revision)

    @rule(session=sessions, wrong=st.integers(1, 500))
    def patch_at_a_wrong_place(self, session: SessionId, wrong: int) -> None:
        held = self.held.get(session)
        offset = wrong - 1 if held is not None and wrong - 1 != len(held) else wrong
        if held is None:
            with pytest.raises(NotFound):
                self.rig.patch(offset, b"x", session)
        elif offset != len(held):
            with pytest.raises(Conflict) as caught:
                self.rig.patch(offset, b"x", session)
            assert caught.value.facts == {"offset": len(held), "etag": hashlib.sha256(held).hexdigest()}

    def put(self, session: SessionId, body: bytes, chunk: int) -> None:
        held = self.held.get(session)
        stored = self.rig.put(body, session, chunk=chunk)
        assert stored.status == expected_status(held, body)
        if stored.status != "unchanged":
            self.note(session, body, stored.revision)
        assert stored.sha256 == hashlib.sha256(self.held[session]).hexdigest()
        assert stored.raw_bytes == len(self.held[session])

    def note(self, session: SessionId, body: bytes, revision: int) -> None:
        if session in self.held and revision != self.revision[session]:
            assert revision == self.revision[session] + 1
            self.kept[session, self.revision[session]] = self.held[session]
        self.held[session], self.revision[session] = body, revision

    # -- what happens to a server

    @rule(loses_database=st.booleans())
    def restart(self, loses_database: bool = False) -> None:
        self.rig = self.rig.reopened(without_database=loses_database)
        assert not [name for name in self.rig.files() if "/tmp/" in name]

    @rule(session=sessions, body=bodies, step=st.integers(0, 30), is_longer=st.booleans())
    def crash_in_an_upload(self, session: SessionId, body: bytes, step: int, is_longer: bool) -> None:
        body = self.held.get(session, b"") + body if is_longer else body
        with Interrupted(step) as interrupted, suppress(Crash):
            self.rig.put(body, session)
        self.restart()
        self.take_old_or_new(session, body, must_be_new=not interrupted.happened)

    @rule(session=sessions, body=bodies, step=st.integers(0, 30), is_longer=st.booleans())
    def disk_error_in_an_upload(self, session: SessionId, body: bytes, step: int, is_longer: bool) -> None:
        body = self.held.get(session, b"") + body if is_longer else body
        with Interrupted(step, disk_error):
            try:
                stored = self.rig.put(body, session)
            except FederatedMemoryError:
                return  # the invariants find the old state
        if stored.status != "unchanged":
            self.note(session, body, stored.revision)

    @rule(session=sessions, tail=st.binary(min_size=1, max_size=30))
    def find_a_torn_tail(self, session: SessionId, tail: bytes) -> None:
        is_shared = session in self.held and self.rig.path(session).stat().st_nlink > 1
        if session in self.held and not is_shared and tail[:2] != b"\x1f\x8b":
            with self.rig.path(session).open("ab") as file:
                file.write(tail)
            self.restart()

    @rule(session=sessions)
    def back_up_by_linking(self, session: SessionId) -> None:
        if session in self.held:
            backup = self.folder / f"backup-{len(list(self.folder.iterdir()))}-{session}"
            backup.hardlink_to(self.rig.path(session))
            backup.with_suffix(".copy").write_bytes(backup.read_bytes())

    def take_old_or_new(self, session: SessionId, body: bytes, *, must_be_new: bool) -> None:
        old = self.held.get(session)
        try:
            now = self.rig.find(session)
        except NotFound:
            assert old is None
            assert not must_be_new
            return
        raw = self.rig.raw(session)
        if expected_status(old, body) == "unchanged":
            assert raw == old
        else:
            assert raw == body or (raw == old and not must_be_new)
        if raw != old:
            self.note(session, raw, now.revision)

    # -- what must always hold

    @invariant()
    def every_session_reads_back(self) -> None:
        for session, body in self.held.items():
            found = self.rig.find(session)
            assert self.rig.zcat(session) == body
            assert self.rig.raw(session) == body
            assert (found.raw_bytes, found.sha256) == (len(body), ETag(hashlib.sha256(body).hexdigest()))
            assert found.lines == len(split(body))
            assert found.gzip_bytes == self.rig.path(session).stat().st_size
            assert found.revision == self.revision[session]
            check_pages(self.rig, session, body)
        for (session, number), body in self.kept.items():
            assert self.rig.raw(session, number) == body

    @invariant()
    def nothing_is_left_over(self) -> None:
        done = self.rig.archives.recover()
        assert (done.adopted, done.cut, done.removed, done.swept, done.problems) == (0, 0, 0, 0, [])
        assert {archive.session_id for archive in self.rig.archives.newest(WORKSPACE)} == self.held.keys()

    @invariant()
    def backups_never_change(self) -> None:
        for copy in self.folder.glob("*.copy"):
            assert copy.with_suffix("").read_bytes() == copy.read_bytes()


def expected_status(held: bytes | None, body: bytes) -> str:
    if held is None:
        return "created"
    if held.startswith(body):
        return "unchanged"
    return "appended" if body.startswith(held) else "diverged"


def split(body: bytes) -> list[bytes]:
    found = body.split(b"\n")
    return found if found[-1] else found[:-1]


def check_pages(rig: Rig, session: SessionId, body: bytes) -> None:
    wanted = split(body)
    archive = rig.find(session)
    for offset in range(0, len(wanted) + 2, 3):
        got = rig.archives.read_lines(archive, offset, 4, 1 << 20)
        assert [(line.number, line.data) for line in got] == list(enumerate(wanted))[offset : offset + 4]
        assert all(line.total_bytes == len(line.data) for line in got)
    scanned = list(rig.archives.members(archive))
    assert b"".join(raw for _, raw in scanned) == body
    assert [first for first, _ in scanned] == [
        body[: sum(len(r) for _, r in scanned[:n])].count(b"\n") for n in range(len(scanned))
    ]


ArchiveMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=12, deadline=None)
test_archives_hold_what_was_sent_whatever_happens = pytest.mark.spec("ARCH-3", "ARCH-12")(ArchiveMachine.TestCase)
