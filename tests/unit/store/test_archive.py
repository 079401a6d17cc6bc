"""Session archives: uploads in one pass, pages, revisions, provenance."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from federated_memory.errors import Conflict, Locked, NotFound, StorageFull, TooLarge, Unavailable
from federated_memory.names import ETag, SessionId, WorkspaceId
from federated_memory.store.archive import Archives
from federated_memory.store.members import MEMBER_BYTES
from tests.conftest import ACTOR, WORKSPACE
from tests.unit.store.archive_rig import OTHER, SESSION, Rig

MIB = 1024**2


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    opened = Rig(tmp_path / "memory")
    yield opened
    opened.root.close()


def transcript(lines: int, *, start: int = 0, size: int = 700) -> bytes:
    return b"".join(
        b'{"n":%07d,"text":"%s"}\n' % (n, b"word %d " % n * (size // 9)) for n in range(start, start + lines)
    )


def record(second: int, kind: str, **fields: object) -> bytes:
    at = f"2025-03-09T08:{second // 60:02}:{second % 60:02}.000Z"
    return orjson.dumps({"type": kind, "sessionId": "Nat-1", "uuid": "u", "timestamp": at, **fields}) + b"\n"


def claude(*texts: str) -> bytes:
    place = {"cwd": "/home/dev/shop", "gitBranch": "main"}
    return b"".join(
        record(n, "user", message={"role": "user", "content": text}, **place) for n, text in enumerate(texts)
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- storing


@pytest.mark.spec("ARCH-2", "ARCH-3")
def test_a_transcript_is_stored_verbatim_and_zcat_prints_it(rig: Rig) -> None:
    raw = b"\xff\x00 not even text\r\n" + transcript(2000) + b"and no newline at the end"

    stored = rig.put(raw)

    assert (stored.status, stored.revision, stored.sha256) == ("created", 1, sha256(raw))
    assert (stored.raw_bytes, stored.lines) == (len(raw), 2002)
    assert rig.zcat() == rig.raw() == raw
    assert rig.path().stat().st_mode & 0o777 == 0o600


@pytest.mark.spec("ARCH-3")
def test_the_same_again_writes_no_byte(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in rig.sessions.rglob("*")}

    assert rig.put(raw).status == "unchanged"
    assert rig.put(raw[: MEMBER_BYTES * 2 + 100]).status == "unchanged"
    assert rig.put(b"").status == "unchanged"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in rig.sessions.rglob("*")} == before
    assert rig.operations() == ["created"]
    assert rig.put(raw[:5000]).raw_bytes == len(raw)


@pytest.mark.spec("ARCH-3", "ARCH-4")
def test_a_longer_version_appends_and_keeps_what_is_there(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)
    inode, old = rig.path().stat().st_ino, rig.path().read_bytes()

    stored = rig.put(raw + transcript(400, start=3000))

    assert (stored.status, stored.revision, stored.lines) == ("appended", 1, 3400)
    assert rig.path().stat().st_ino == inode
    assert rig.path().read_bytes()[: len(old)] == old
    assert rig.zcat() == raw + transcript(400, start=3000)
    assert rig.operations() == ["created", "appended"]


@pytest.mark.spec("ARCH-3", "ARCH-5")
@pytest.mark.parametrize("at", [0, 100, MEMBER_BYTES * 2 + 5000, -1])
def test_another_text_becomes_current_and_the_old_one_stays_as_a_revision(rig: Rig, at: int) -> None:
    raw = transcript(3000)
    rig.put(raw)
    changed = bytearray(raw)
    changed[at] ^= 1

    stored = rig.put(bytes(changed))

    assert (stored.status, stored.revision) == ("diverged", 2)
    assert rig.zcat() == changed
    assert rig.raw(revision=1) == raw
    assert gzip.decompress((rig.path().parent / ".revisions/s1/1.jsonl.gz").read_bytes()) == raw
    assert [(row.revision, row.is_current) for row in rig.archives.revisions(WORKSPACE, SESSION)] == [
        (2, True),
        (1, False),
    ]


@pytest.mark.spec("ARCH-3")
def test_members_before_the_difference_are_taken_over_as_they_are(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)
    old, members = rig.path().read_bytes(), rig.archives._rows.members(rig.find().id)

    rig.put(raw[: members[3].raw_offset + 10] + b"#" + raw[members[3].raw_offset + 11 :])

    assert rig.path().read_bytes()[: members[3].gzip_offset] == old[: members[3].gzip_offset]
    assert rig.archives._rows.members(rig.find().id)[:3] == members[:3]


@pytest.mark.spec("ARCH-3")
def test_a_shorter_text_that_is_no_beginning_replaces(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)

    assert rig.put(raw[:1000] + b"!").status == "diverged"
    assert rig.raw() == raw[:1000] + b"!"
    assert rig.put(raw).status == "diverged"
    assert [rig.raw(revision=n) for n in (1, 2, 3)] == [raw, raw[:1000] + b"!", raw]


@pytest.mark.spec("ARCH-4")
def test_a_patch_follows_exactly_what_is_held(rig: Rig) -> None:
    raw = transcript(900)

    assert rig.patch(0, raw[:5000]).status == "created"
    assert rig.patch(5000, raw[5000:], if_match=ETag(sha256(raw[:5000]))).status == "appended"
    assert rig.patch(len(raw), b"").status == "unchanged"
    assert rig.zcat() == raw
    assert rig.find().sha256 == sha256(raw)


@pytest.mark.spec("ARCH-4")
@pytest.mark.parametrize(("offset", "if_match"), [(0, None), (4999, None), (5001, None), (5000, "0" * 64)])
def test_a_stale_patch_says_what_is_held(rig: Rig, offset: int, if_match: str | None) -> None:
    raw = transcript(900)[:5000]
    rig.put(raw)

    with pytest.raises(Conflict) as caught:
        rig.patch(offset, b"more", if_match=ETag(if_match) if if_match else None)

    assert caught.value.facts == {"offset": 5000, "etag": sha256(raw)}
    assert rig.raw() == raw


@pytest.mark.spec("ARCH-4")
def test_a_patch_cannot_follow_nothing(rig: Rig) -> None:
    with pytest.raises(NotFound):
        rig.patch(10, b"x")
    with pytest.raises(NotFound):
        rig.patch(0, b"x", if_match=ETag("0" * 64))


@pytest.mark.spec("ARCH-4")
def test_a_patch_after_a_restart_still_knows_the_hash(rig: Rig) -> None:
    raw = transcript(2000)
    rig.put(raw)
    again = rig.reopened()

    again.patch(len(raw), b"more\n")

    assert again.find().sha256 == sha256(raw + b"more\n")
    again.root.close()
    rig.root = Rig(rig.root.path).root


@pytest.mark.spec("ARCH-4")
def test_many_small_appends_do_not_make_many_small_members(rig: Rig) -> None:
    raw = transcript(1, size=400)
    rig.put(raw)
    for n in range(1, 60):
        line = transcript(1, start=n, size=400)
        rig.patch(len(raw), line)
        raw += line

    assert rig.zcat() == raw
    assert len(rig.archives._rows.members(rig.find().id)) == 1


@pytest.mark.spec("ARCH-4")
def test_an_unterminated_line_goes_on_with_the_next_append(rig: Rig) -> None:
    raw = transcript(2000)
    rig.put(raw + b"begun, ")
    assert rig.find().lines == 2001

    rig.patch(len(raw) + 7, b"and ended\nnext\n")

    assert rig.zcat() == raw + b"begun, and ended\nnext\n"
    assert [line.data for line in rig.archives.read_lines(rig.find(), 2000, 5, 1000)] == [b"begun, and ended", b"next"]


@pytest.mark.spec("ARCH-4")
def test_a_file_with_a_second_name_is_never_written_in_place(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)
    backup = rig.root.path / "backup.gz"
    backup.hardlink_to(rig.path())
    before = backup.read_bytes()

    assert rig.patch(len(raw), transcript(500, start=3000)).status == "appended"

    assert backup.read_bytes() == before
    assert rig.zcat() == raw + transcript(500, start=3000)


@pytest.mark.spec("ARCH-14")
def test_many_are_found_together_in_the_order_they_were_asked_for(rig: Rig) -> None:
    rig.put(transcript(40))
    rig.put(transcript(30))  # the first becomes a revision
    rig.put(transcript(20), OTHER)
    gone = SessionId("gone")
    keys = [(WORKSPACE, OTHER), (WORKSPACE, gone), (WORKSPACE, SESSION), (WorkspaceId("else"), SESSION)]

    found = rig.archives.find_all(keys)

    assert found == [rig.archives.find(WORKSPACE, OTHER), rig.archives.find(WORKSPACE, SESSION)]
    assert rig.archives.find_all([]) == []


# -- the same bytes elsewhere


@pytest.mark.spec("ARCH-7")
def test_the_same_transcript_under_another_id_is_stored_once(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)

    stored = rig.put(raw, OTHER)

    assert (stored.status, stored.revision) == ("created", 1)
    assert rig.path(OTHER).stat().st_ino == rig.path().stat().st_ino
    assert rig.raw(OTHER) == raw
    assert (rig.path(OTHER).parent / "s2.json").exists()
    rig.patch(len(raw), b"only here\n", OTHER)
    assert (rig.zcat(OTHER), rig.zcat()) == (raw + b"only here\n", raw)


@pytest.mark.spec("ARCH-7")
def test_a_damaged_twin_does_not_spread(rig: Rig) -> None:
    raw = transcript(3000)
    rig.put(raw)
    stat, data = rig.path().stat(), bytearray(rig.path().read_bytes())
    data[len(data) // 2] ^= 1
    rig.path().write_bytes(data)
    os.utime(rig.path(), ns=(stat.st_atime_ns, stat.st_mtime_ns))  # bit rot leaves no trace

    rig.put(raw, OTHER)

    assert rig.zcat(OTHER) == raw


# -- what is told about it


@pytest.mark.spec("ARCH-6", "ARCH-11")
def test_provenance_stands_beside_the_transcript(rig: Rig) -> None:
    raw = claude("Why is checkout slow?", "And the cart?")
    source = {"agent": "claude-code", "machine": "box", "depth": 3, "nested": {"x": 1}, "odd\x1b[31m": "a\u202eb"}
    rig.put(raw, native_id="Nat-1", source=source)

    found = json.loads((rig.sessions / "2025/03/s1.json").read_text())

    times = {key: found.pop(key) for key in ("uploaded_at", "updated_at")}
    assert all(time.startswith("20") and time.endswith("Z") for time in times.values())
    assert found == {
        "session_id": "s1", "native_id": "Nat-1", "agent": "claude-code", "cwd": "/home/dev/shop",
        "source": {"agent": "claude-code", "machine": "box", "depth": 3, "odd [31m": "a b"},
        "sha256": sha256(raw), "raw_bytes": len(raw), "lines": 2, "revision": 1, "title": "Why is checkout slow?",
        "started_at": "2025-03-09T08:00:00.000Z", "ended_at": "2025-03-09T08:00:01.000Z", "uploaded_by": "tester",
    }  # fmt: skip
    assert rig.archives.provenance(rig.find()).source["machine"] == "box"


@pytest.mark.spec("ARCH-11")
def test_what_an_uploader_tells_is_bounded(rig: Rig) -> None:
    told = {f"key {n}": "x" * 1500 for n in range(20)} | {"much": float("nan"), "\udc80": "\udc80"}
    rig.put(b"x\n", source=told)

    found = rig.archives.provenance(rig.find()).source
    assert 0 < len(orjson.dumps(found)) <= 8 * 1024


@pytest.mark.spec("ARCH-11")
def test_growing_brings_end_and_title_up_to_date_and_moves_nothing(rig: Rig) -> None:
    first = record(0, "file-history-snapshot")
    rig.put(first)
    file = rig.find().file
    more = claude("Why is checkout slow?")

    rig.patch(len(first), more)
    assert (rig.find().title, rig.find().file) == ("Why is checkout slow?", file)
    rig.patch(len(first + more), record(90, "summary", summary="Checkout: a missing index", leafUuid="u"))

    found = rig.find()
    assert (found.title, found.file) == ("Checkout: a missing index", file)
    assert rig.archives.provenance(found).title == "Checkout: a missing index"


@pytest.mark.spec("ARCH-11")
def test_a_transcript_without_times_goes_to_the_month_of_its_upload(rig: Rig) -> None:
    rig.put(b"no json\n")

    found = rig.find()
    assert found.started_at == rig.archives.provenance(found).uploaded_at
    assert found.file == f"{found.started_at[:4]}/{found.started_at[5:7]}/s1.jsonl.gz"


@pytest.mark.spec("ARCH-6")
def test_a_reader_with_a_bug_does_not_keep_a_transcript_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("federated_memory.store.archives.describing.summarise", broken)

    assert rig.put(claude("x")).status == "created"
    assert rig.put(claude("x", "y")).status == "appended"


# -- limits


@pytest.mark.spec("ARCH-10")
def test_a_transcript_over_the_limit_leaves_nothing(rig: Rig) -> None:
    archives = Archives(rig.root, max_session_bytes=10_000)
    rig.put(transcript(20)[:6000])
    before = rig.files()

    for session_id, held in ((OTHER, 0), (SESSION, 6000)):
        with archives.append(WORKSPACE, session_id, held, actor=ACTOR) as upload:
            upload.feed(b"x" * (9_999 - held) + b"\n")
            with pytest.raises(TooLarge):
                upload.feed(b"\n")

    assert rig.files() == before
    assert rig.raw() == transcript(20)[:6000]


@pytest.mark.spec("ARCH-6")
def test_a_full_disk_stores_nothing_and_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(b"old\n")
    monkeypatch.setattr(rig.root, "_min_free_bytes", 1 << 60)

    with pytest.raises(StorageFull):
        rig.put(b"old\nnew\n")
    assert rig.put(b"old\n").status == "unchanged"
    assert rig.raw() == b"old\n"


@pytest.mark.spec("ARCH-6")
def test_uploads_to_a_missing_workspace_are_not_found(rig: Rig) -> None:
    with pytest.raises(NotFound, match="No workspace"):
        rig.archives.receive(WorkspaceId("nowhere"), SESSION, actor=ACTOR)
    with pytest.raises(NotFound):
        rig.archives.find(WorkspaceId("nowhere"), SESSION)


@pytest.mark.spec("ARCH-1")
def test_memory_stays_small_whatever_comes(rig: Rig) -> None:
    chunk = transcript(1400)[:MIB]

    tracemalloc.start()
    for number in range(2):
        with rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR) as upload:
            upload.feed(b"#" * number)
            for _ in range(24):
                upload.feed(bytes(chunk))
            for _ in range(20):
                upload.feed(b"z" * MIB)
            upload.finish()
        found = rig.find()
        assert len(rig.archives.read_lines(found, found.lines - 1, 9, 1000)[0].data) == 1000
        assert sum(map(len, rig.archives.stream(found))) == found.raw_bytes
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 40 * MIB


# -- one at a time


@pytest.mark.spec("ARCH-8")
def test_a_second_upload_of_a_session_is_locked_out(rig: Rig) -> None:
    with rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR):
        with pytest.raises(Locked):
            rig.put(b"x\n")
        assert rig.put(b"x\n", OTHER).status == "created"
    assert rig.put(b"x\n").status == "created"


@pytest.mark.spec("ARCH-8")
def test_a_second_upload_waits_for_the_first(rig: Rig) -> None:
    rig.archives = Archives(rig.root, lease_wait_seconds=30)
    first = rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR)
    results: list[str] = []
    second = threading.Thread(target=lambda: results.append(rig.put(b"a\nb\n").status))
    second.start()

    first.feed(b"a\n")
    first.finish()
    second.join()

    assert results == ["appended"]


@pytest.mark.spec("ARCH-8")
def test_a_forgotten_upload_gives_its_session_back(rig: Rig) -> None:
    upload = rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR)
    upload.feed(transcript(5000))
    del upload

    assert rig.put(b"x\n").status == "created"
    assert not list((rig.root.path / "_meta/tmp").iterdir())


@pytest.mark.spec("ARCH-8")
def test_an_upload_that_is_over_takes_nothing_more(rig: Rig) -> None:
    upload = rig.archives.receive(WORKSPACE, SESSION, actor=ACTOR)
    upload.feed(b"x\n")
    upload.finish()

    with pytest.raises(RuntimeError):
        upload.feed(b"y\n")
    upload.abort()
    assert rig.raw() == b"x\n"


@pytest.mark.spec("ARCH-8")
def test_many_writers_and_readers_at_once(rig: Rig) -> None:
    """Every acknowledged append is there; a reader sees a beginning of the whole, never anything else."""
    rig.archives = Archives(rig.root, lease_wait_seconds=60, cache_bytes=0)
    rig.put(b"0\n")
    stop, wrong = threading.Event(), list[object]()

    def write(worker: int) -> None:
        for n in range(12):
            while True:
                held = rig.find()
                try:
                    rig.patch(held.raw_bytes, b"%d-%d %s\n" % (worker, n, b"w" * 9000), if_match=held.sha256)
                    break
                except Conflict:
                    continue

    def read() -> None:
        while not stop.is_set():
            found = rig.find()
            raw = b"".join(rig.archives.stream(found))
            lines = rig.archives.read_lines(found, max(0, found.lines - 3), 3, 1 << 20)
            if sha256(raw) != found.sha256 or [line.data for line in lines] != raw.split(b"\n")[-4:-1][: len(lines)]:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()

    assert not wrong
    starts = [line.split(b" ")[0] for line in rig.zcat().split(b"\n")[1:-1]]
    assert sorted(starts) == sorted(b"%d-%d" % (w, n) for w in range(3) for n in range(12))


# -- reading


@pytest.fixture
def long(rig: Rig) -> Rig:
    rig.put(transcript(3000))
    return rig


@pytest.mark.spec("ARCH-14")
@pytest.mark.parametrize("offset", [0, 1, 370, 1499, 2990, 2999])
def test_a_page_is_a_slice_of_the_lines(long: Rig, offset: int) -> None:
    wanted = transcript(3000).split(b"\n")[:-1]

    page = long.archives.read_lines(long.find(), offset, 100, MIB)

    assert [(line.number, line.data) for line in page] == list(enumerate(wanted))[offset : offset + 100]
    assert long.archives.read_lines(long.find(), 3000, 100, MIB) == []


@pytest.mark.spec("ARCH-14")
def test_a_page_inflates_only_the_members_it_needs(long: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Archives.__module__ and __import__("federated_memory.store.archives.reader", fromlist=["x"]).inflate_member

    def counted(descriptor: int, member: object) -> bytes:
        seen.append(member.number)  # type: ignore[attr-defined]
        return real(descriptor, member)  # type: ignore[no-any-return]

    monkeypatch.setattr("federated_memory.store.archives.reader.inflate_member", counted)

    long.archives.read_lines(long.find(), 1500, 100, MIB)
    assert len(seen) <= 2
    long.archives.read_lines(long.find(), 1510, 50, MIB)
    assert len(seen) <= 2  # still in memory


@pytest.mark.spec("ARCH-14")
def test_a_page_ends_before_it_grows_over_its_bytes(long: Rig) -> None:
    one = len(transcript(1)) - 1

    assert len(long.archives.read_lines(long.find(), 5, 100, 3 * one + 1)) == 3
    assert [len(line.data) for line in long.archives.read_lines(long.find(), 5, 100, 10)] == [10]


@pytest.mark.spec("ARCH-14")
@pytest.mark.parametrize("size", [50, 5000, 300_000, 9 * MIB])
def test_a_long_line_is_read_part_by_part(rig: Rig, size: int) -> None:
    line = bytes(n % 251 + (n % 251 >= 10) for n in range(997)) * (size // 997) + b"x" * (size % 997)
    rig.put(b"before\n" + line + b"\nafter\n" + line)
    found = rig.find()

    for number in (1, 3):
        at, step, parts = 0, max(20, size // 3), []
        while at < size:
            part = rig.archives.read_lines(found, number, 1, step, byte_offset=at)[0]
            assert (part.number, part.total_bytes) == (number, size)
            parts.append(part.data)
            at += len(part.data)
        assert b"".join(parts) == line
    assert [len(part.data) for part in rig.archives.read_lines(found, 0, 9, 30 + size)] == [6, size, 5]


@pytest.mark.spec("ARCH-14")
@pytest.mark.parametrize("start", [0, 1, MEMBER_BYTES, 1_000_000, 10**9])
def test_a_download_starts_anywhere_and_keeps_to_its_length(long: Rig, start: int) -> None:
    raw = transcript(3000)
    found = long.find()
    stream = long.archives.stream(found, start)
    long.patch(len(raw), b"meanwhile it grew\n")

    assert b"".join(stream) == raw[start:]
    assert b"".join(long.archives.stream(found)) == raw


@pytest.mark.spec("ARCH-14")
def test_scans_get_whole_lines_member_by_member(long: Rig) -> None:
    raw = transcript(3000)

    members = list(long.archives.members(long.find()))
    assert b"".join(data for _, data in members) == raw
    first, data = next(long.archives.members(long.find(), 1500))
    assert first <= 1500 < first + data.count(b"\n")
    assert data.split(b"\n")[1500 - first] == raw.split(b"\n")[1500]


@pytest.mark.spec("ARCH-14")
def test_a_reader_that_found_the_replaced_transcript_still_reads_it(long: Rig) -> None:
    found = long.find()
    long.put(b"another\n")

    assert b"".join(long.archives.stream(found)) == transcript(3000)
    assert long.archives.read_lines(found, 0, 1, MIB)[0].data == transcript(1)[:-1]


@pytest.mark.spec("ARCH-14")
def test_damage_is_named_and_the_rest_stays_readable(long: Rig) -> None:
    found = long.find()
    member = long.archives._rows.members(found.id)[4]
    with long.path().open("r+b") as file:
        file.seek(member.gzip_offset + 1000)
        file.write(b"damage")

    with pytest.raises(Unavailable, match="damaged in member 4"):
        long.archives.read_lines(found, member.first_line + 1, 1, MIB)
    with pytest.raises(Unavailable, match="damaged in member 4"):
        b"".join(long.archives.stream(found))
    assert len(long.archives.read_lines(found, 0, 100, MIB)) == 100
    assert "member 4" in long.archives.problem(found)


@pytest.mark.spec("ARCH-14")
def test_a_missing_file_is_unavailable_and_a_missing_session_not_found(long: Rig) -> None:
    found = long.find()
    long.path().unlink()

    with pytest.raises(Unavailable, match="missing"):
        long.archives.read_lines(found, 0, 1, MIB)
    long.archives.recover()
    for read in (lambda: long.archives.stream(found), lambda: long.find(), lambda: long.find(revision=7)):
        with pytest.raises(NotFound):
            read()


# -- listing


@pytest.mark.spec("ARCH-15")
def test_sessions_are_listed_newest_first_and_page_by_page(rig: Rig) -> None:
    for month, agent in ((3, "a"), (1, "b"), (2, "a"), (4, "b")):
        line = orjson.dumps({"type": "user", "timestamp": f"2025-0{month}-01T00:00:00.000Z"}) + b"\n"
        rig.put(line, SessionId(f"s{month}"), source={"agent": agent})

    def ids(**options: object) -> list[str]:
        return [row.session_id for row in rig.archives.newest(WORKSPACE, **options)]  # type: ignore[arg-type]

    assert ids() == ["s4", "s3", "s2", "s1"]
    assert ids(agent="a") == ["s3", "s2"]
    assert ids(since="2025-02", until="2025-04") == ["s3", "s2"]
    first = rig.archives.newest(WORKSPACE, limit=2)
    assert ids(limit=2, after=(first[-1].started_at, first[-1].session_id)) == ["s2", "s1"]
    assert rig.archives.newest(WorkspaceId("other")) == []


@pytest.mark.spec("ARCH-6")
def test_every_change_is_in_the_feed_with_revision_and_etag(rig: Rig) -> None:
    first = rig.put(b"a\n")
    second = rig.put(b"b\n")
    third = rig.put(b"b\nc\n")

    changes = [change for change in rig.root.feed.after(0) if change.kind == "session"]
    assert [(change.operation, change.version, change.etag, change.key, change.actor) for change in changes] == [
        ("created", 1, first.sha256, "s1", "tester"),
        ("diverged", 2, second.sha256, "s1", "tester"),
        ("appended", 2, third.sha256, "s1", "tester"),
    ]
