"""The benches' arithmetic: what is compared, what passes, and what the exit code says."""

import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.bench import references
from scripts.bench.__main__ import main
from scripts.bench.harness import (
    Bench,
    BenchError,
    Goal,
    Options,
    Outcome,
    chunks,
    interleave,
    medians,
    prepared,
    run_benches,
    timed,
)
from scripts.bench.report import as_json, table
from scripts.bench.wire import Connection

PASSED = Goal("group/fast", 1.2, 1.0, 1.25)
MISSED = Goal("group/slow", 1.3, 1.0, 1.25)
REPORTED = Goal("group/only told", 900, 1.0, None)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(folder=tmp_path / "work")


def test_goal_passes_up_to_its_target() -> None:
    assert PASSED.passed is True
    assert Goal("", 1.25, 1.0, 1.25).passed is True
    assert MISSED.passed is False
    assert REPORTED.passed is None


def test_goal_against_nothing_passes_only_with_nothing() -> None:
    assert Goal("bytes written", 0, 0, 0).passed is True
    assert Goal("bytes written", 1, 0, 0).passed is False
    assert math.isinf(Goal("bytes written", 1, 0, 0).ratio)


def test_rounds_run_every_measure_in_changing_order_and_drop_the_first() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    samples = interleave({"a": lambda: measure("a"), "b": lambda: measure("b"), "c": lambda: measure("c")}, rounds=8)

    rounds = ["".join(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert len(rounds) == 9
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 1
    assert {len(values) for values in samples.values()} == {8}
    assert min(min(values) for values in samples.values()) > 3


def test_medians_ignore_a_disturbed_round() -> None:
    assert medians({"a": [1.0, 2.0, 900.0], "b": [4.0, 2.0]}) == {"a": 2.0, "b": 3.0}


def test_timed_gives_the_mean_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0, 30_000_000))
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(ticks))
    calls: list[None] = []

    assert timed(lambda: calls.append(None), repeat=10)() == 3.0
    assert len(calls) == 10


def test_preparation_happens_before_the_clock_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def clock() -> int:
        events.append("clock")
        return 0

    def prepare() -> Callable[[], object]:
        events.append("prepare")
        return lambda: events.append("work")

    monkeypatch.setattr("time.perf_counter_ns", clock)
    prepared(prepare)()

    assert events == ["prepare", "clock", "work", "clock"]


def test_chunks_add_up_to_the_body() -> None:
    assert list(chunks(b"abcde", 2)) == [b"ab", b"cd", b"e"]
    assert list(chunks(b"")) == []


def test_exit_code_tells_missed_gates_and_benches_that_did_not_run() -> None:
    assert Outcome([PASSED, REPORTED]).exit_code == 0
    assert Outcome([PASSED, MISSED]).exit_code == 1
    assert Outcome([PASSED], {"group/other": "no server"}).exit_code == 1


def test_a_bench_that_fails_does_not_stop_the_others(options: Options) -> None:
    def broken(_: Options) -> Iterator[Goal]:
        yield PASSED
        raise BenchError("the server did not start")

    benches = [Bench("group/broken", broken), Bench("group/fine", lambda _: [REPORTED])]
    outcome = run_benches(benches, options, lambda _: None)

    assert outcome.goals == [PASSED, REPORTED]
    assert outcome.failures == {"group/broken": "the server did not start"}


def test_benches_leave_nothing_on_disk(options: Options) -> None:
    def writing(given: Options) -> Iterator[Goal]:
        (given.fresh_folder("data") / "file").write_text("x")
        yield PASSED

    run_benches([Bench("group/writing", writing)], options, lambda _: None)

    assert not options.folder.exists()


@pytest.mark.parametrize("pattern", ["", "noop", "protocol", "protocol/*", "*noop", "protocol/noop"])
def test_only_takes_the_start_of_a_name_or_a_glob(pattern: str) -> None:
    assert Bench("protocol/noop", lambda _: []).wanted(pattern)
    assert not Bench("other/snooping", lambda _: []).wanted(pattern or "x")


def test_quick_runs_do_not_gate_on_what_depends_on_size(tmp_path: Path) -> None:
    quick, full = Options(tmp_path, quick=True), Options(tmp_path)

    assert (quick.size(100, 10), full.size(100, 10)) == (10, 100)
    assert (quick.at_full_size(1.4), full.at_full_size(1.4)) == (None, 1.4)


def test_table_shows_ratio_target_and_verdict() -> None:
    text = table(Outcome([PASSED, MISSED, REPORTED], {"group/other": "no server"}))

    fast, slow, told = (
        next(line for line in text.splitlines() if goal.name in line) for goal in (PASSED, MISSED, REPORTED)
    )
    assert fast.split()[-4:] == ["1.2", "<=", "1.25", "ok"]
    assert slow.endswith("MISSED")
    assert told.endswith("report")
    assert "NOT MEASURED group/other: no server" in text
    assert text.endswith("1 of 2 gates passed, 1 benches not measured")


def test_json_keeps_every_goal() -> None:
    report = json.loads(as_json(Outcome([MISSED]), quick=True))

    assert report["quick"] is True
    (goal,) = report["goals"]
    assert (goal["name"], goal["ratio"], goal["passed"]) == ("group/slow", 1.3, False)


def test_unknown_bench_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such-bench"]) == 2
    assert "no-such-bench" in capsys.readouterr().err


def test_references_do_the_same_work_as_the_tools_they_stand_for(tmp_path: Path) -> None:
    lines = [b"line %d\n" % number for number in range(500)]
    path = tmp_path / "plain.gz"

    references.rewrite_gzip_6(path, b"".join(lines))

    assert references.sequential_page(path, 250, 100) == lines[250:350]
    assert [entry.name for entry in tmp_path.iterdir()] == ["plain.gz"]


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 7\r\n\r\n{"a":1}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
    ],
    ids=["with a length", "in chunks"],
)
def test_raw_client_reads_an_answer_that_comes_in_drops(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65_536)
                for position in range(len(answer)):
                    peer.sendall(answer[position : position + 1])

        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=10)
        head, body = connection.exchange(connection.request("GET", "/", {}))
        connection.close()
        thread.join()

    assert head.startswith(b"HTTP/1.1 200")
    assert body == b'{"a":1}'
