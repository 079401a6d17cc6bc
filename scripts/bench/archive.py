"""Transcripts in the store, in process: paging, growing, repeating, size and the price of an acknowledgement.

The numbers of the goals are those of the project's first measurements; each is a ratio to plain gzip or SHA-256.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench.archive_adapter import Archive, open_archive
from scripts.bench.harness import (
    Bench,
    BenchError,
    Goal,
    Options,
    chunks,
    cpu_timed,
    interleave,
    medians,
    prepared,
    timed,
)
from scripts.bench.references import gzip_6, rewrite_gzip_6, sequential_page, sha256
from scripts.gen_corpus import one_transcript, transcripts

PAGE_LINES = 100
KEPT_SHARE = 0.95
LONG = "long-session"
SHORT = "short-session"


def page(options: Options) -> Iterator[Goal]:
    """Goal 8: 100 lines from the middle of a long transcript."""
    folder = options.fresh_folder("page")
    long, short = long_transcript(options), one_transcript(seed=1, megabytes=1)
    plain = folder / "plain.jsonl.gz"
    plain.write_bytes(gzip_6(long))
    archive = fresh_archive(folder / "archive", {LONG: long, SHORT: short})
    middle = long.count(b"\n") // 2
    if archive.page(LONG, middle, PAGE_LINES) != sequential_page(plain, middle, PAGE_LINES):
        raise BenchError("the page is not what gzip prints")
    cost = medians(
        interleave(
            {
                "long": timed(pager(archive, LONG, long), 9),
                "short": timed(pager(archive, SHORT, short), 9),
                "gzip": timed(lambda: sequential_page(plain, middle, PAGE_LINES)),
            },
            options.size(21, 7),
        )
    )
    archive.close()
    size = len(long) // 1_000_000
    name = f"archive/page of {PAGE_LINES} lines in {size} MB"
    yield Goal(f"{name}, against sequential gzip", cost["long"], cost["gzip"], options.at_full_size(0.008))
    yield Goal(f"{name}, against the same in 1 MB", cost["long"], cost["short"], 1.5)


def pager(archive: Archive, session_id: str, data: bytes) -> Callable[[], object]:
    """Read pages around the middle, each time another one: a hot member must not stand for all."""
    lines = data.count(b"\n")
    places = itertools.cycle(range(lines * 2 // 5, lines * 3 // 5, max(1, lines // 47)))
    return lambda: archive.page(session_id, next(places), PAGE_LINES)


def append(options: Options) -> Iterator[Goal]:
    """Goal 9: the whole body comes again with 5 % more at its end."""
    folder = options.fresh_folder("append")
    body = long_transcript(options)
    held = body[: body.rindex(b"\n", 0, int(len(body) * KEPT_SHARE)) + 1]
    cost = medians(
        interleave(
            {
                "append": prepared(lambda: grow(fresh_archive(folder / "archive", {LONG: held}), body)),
                "sha256": timed(lambda: sha256(chunks(body))),
                "rewrite": timed(lambda: rewrite_gzip_6(folder / "plain.jsonl.gz", body)),
            },
            options.size(7, 3),
        )
    )
    name = f"archive/append 5 % of {len(body) // 1_000_000} MB"
    yield Goal(f"{name}, against SHA-256 of the body", cost["append"], cost["sha256"], options.at_full_size(1.4))
    yield Goal(f"{name}, against a rewrite with gzip -6", cost["append"], cost["rewrite"], options.at_full_size(1 / 18))


def grow(archive: Archive, body: bytes) -> Callable[[], object]:
    def work() -> None:
        expect("appended", archive.put(LONG, chunks(body)))
        archive.close()

    return work


def duplicate(options: Options) -> Iterator[Goal]:
    """Goal 10: the same body again costs its hash, and nothing is written."""
    body = long_transcript(options)
    archive = fresh_archive(options.fresh_folder("duplicate") / "archive", {LONG: body})

    def repeat() -> None:
        expect("unchanged", archive.put(LONG, chunks(body)))

    repeat()
    before = bytes_written()
    repeat()
    written = bytes_written() - before
    cost = medians(
        interleave({"put": timed(repeat), "sha256": timed(lambda: sha256(chunks(body)))}, options.size(15, 5))
    )
    archive.close()
    name = f"archive/duplicate of {len(body) // 1_000_000} MB"
    yield Goal(f"{name}, against SHA-256 of the body", cost["put"], cost["sha256"], options.at_full_size(1.1))
    yield Goal(f"{name}, bytes written", written, 0, 0, "B")


def size(options: Options) -> Iterator[Goal]:
    """Goal 11: what our members cost on disk."""
    bodies = {LONG: long_transcript(options), **corpus(options)}
    archive = fresh_archive(options.fresh_folder("size") / "archive", bodies)
    for name, ids in (("one long transcript", [LONG]), ("a corpus of sessions", [i for i in bodies if i != LONG])):
        ours = sum(archive.stored_bytes(session_id) for session_id in ids)
        plain = sum(len(gzip_6(bodies[session_id])) for session_id in ids)
        yield Goal(f"archive/size of {name}, against gzip -6", ours / 1e6, plain / 1e6, 1.14, "MB")
    archive.close()


def acknowledge(options: Options) -> Iterator[Goal]:
    """Goal 13: the CPU between receiving new sessions and having them safe on disk."""
    folder = options.fresh_folder("acknowledge") / "archive"
    bodies = corpus(options)
    cost = medians(
        interleave(
            {
                "store": prepared(lambda: store(fresh_archive(folder, {}), bodies), cpu_timed),
                "gzip": cpu_timed(lambda: [gzip_6(body) for body in bodies.values()]),
            },
            options.size(11, 5),
        )
    )
    megabytes = sum(map(len, bodies.values())) / 1e6
    name = f"archive/acknowledge {len(bodies)} sessions, {megabytes:.0f} MB, CPU against gzip -6"
    yield Goal(name, cost["store"], cost["gzip"], 0.40)


def store(archive: Archive, bodies: dict[str, bytes]) -> Callable[[], object]:
    def work() -> None:
        for session_id, body in bodies.items():
            expect("created", archive.put(session_id, chunks(body)))
        archive.close()

    return work


def long_transcript(options: Options) -> bytes:
    return one_transcript(seed=1, megabytes=options.size(100, 10))


def corpus(options: Options) -> dict[str, bytes]:
    sessions = transcripts(seed=1, count=options.size(12, 4), mean_kb=1000)
    return {session.session_id: session.data for session in sessions}


def fresh_archive(folder: Path, bodies: dict[str, bytes]) -> Archive:
    """An archive that holds these transcripts and nothing that was there before."""
    shutil.rmtree(folder, ignore_errors=True)
    archive = open_archive(folder)
    for session_id, body in bodies.items():
        expect("created", archive.put(session_id, chunks(body)))
    return archive


def expect(wanted: str, status: str) -> None:
    if status != wanted:
        raise BenchError(f"the store answered {status}, not {wanted}")


def bytes_written() -> int:
    """What this process has handed to the system's write calls so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise BenchError("/proc/self/io does not tell wchar")


BENCHES = (
    Bench("archive/page", page),
    Bench("archive/append", append),
    Bench("archive/duplicate", duplicate),
    Bench("archive/size", size),
    Bench("archive/acknowledge", acknowledge),
)
