"""The generated corpus is the same again, grows at its end only, and looks like what agents write."""

import itertools
import json
from pathlib import Path

import pytest

from scripts.corpus.pool import Pool, library_pool
from scripts.gen_corpus import documents, main, one_transcript, transcripts

SEED = 7


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Python's own library: what every machine has."""
    return library_pool()


def test_same_seed_gives_the_same_bytes(pool: Pool) -> None:
    first = list(transcripts(SEED, 4, 30, pool))

    assert list(transcripts(SEED, 4, 30, pool)) == first
    assert list(documents(SEED, 10, pool)) == list(documents(SEED, 10, pool))
    assert one_transcript(SEED, 1, pool) == one_transcript(SEED, 1, pool)


def test_another_seed_gives_other_sessions(pool: Pool) -> None:
    ours = {session.session_id for session in transcripts(SEED, 4, 30, pool)}
    others = {session.session_id for session in transcripts(SEED + 1, 4, 30, pool)}

    assert not ours & others


def test_a_smaller_corpus_is_a_prefix_of_a_larger_one(pool: Pool) -> None:
    assert list(transcripts(SEED, 3, 30, pool)) == list(itertools.islice(transcripts(SEED, 9, 30, pool), 3))
    assert list(documents(SEED, 3, pool)) == list(itertools.islice(documents(SEED, 9, pool), 3))


def test_sessions_are_whole_json_lines_of_their_agent(pool: Pool) -> None:
    sessions = list(transcripts(SEED, 12, 30, pool))

    for session in sessions:
        assert session.data.endswith(b"\n")
        records = [json.loads(line) for line in session.data.splitlines()]
        assert len(records) >= 20
        if session.agent == "codex":
            assert records[0]["payload"]["id"] == session.session_id
            assert [record["ordinal"] for record in records] == list(range(len(records)))
        else:
            assert {record.get("sessionId", session.session_id) for record in records} == {session.session_id}
            assert {"user", "assistant"} <= {record["type"] for record in records}
    assert {session.agent for session in sessions} == {"claude-code", "codex"}


def test_one_transcript_is_as_long_as_asked(pool: Pool) -> None:
    data = one_transcript(SEED, 2, pool)

    assert data.rindex(b"\n", 0, -1) < 2_000_000 <= len(data)


def test_planted_words_are_where_they_are_promised(pool: Pool) -> None:
    sessions = [session.data for session in transcripts(SEED, 13, 20, pool)]

    assert [index for index, data in enumerate(sessions) if b"zqx-rare-needle" in data] == [7]
    assert [index for index, data in enumerate(sessions) if b"flumoxvane" in data] == [2, 7, 12]
    assert sum(b"flumoxvane" in line for line in sessions[2].splitlines()) in (3, 4)


def test_documents_have_distinct_plain_paths_and_a_title(pool: Pool) -> None:
    found = dict(documents(SEED, 60, pool))

    assert len({path.casefold() for path in found}) == 60
    for path, text in found.items():
        assert path.isascii()
        assert path.endswith(".md")
        assert max(map(len, path.split("/"))) <= 120
        assert text.startswith("---\ntitle: ")
        assert text.encode().decode() == text


def test_command_writes_the_files_it_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--sessions", "2", "--mean-kb", "20", "--documents", "3", "--gzip", "1"]) == 0

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for entry in manifest["sessions"]:
        assert (tmp_path / "raw" / entry["path"]).stat().st_size == entry["bytes"]
        assert (tmp_path / "sessions" / f"{entry['path']}.gz").exists()
    assert len(list(tmp_path.glob("knowledge/*/*.md"))) == 3
    assert "2 sessions" in capsys.readouterr().out
