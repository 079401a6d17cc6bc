"""Write a corpus of generated transcripts and documents to a folder.

    python -m scripts.gen_corpus OUT --sessions 200 --mean-kb 1000 --documents 2000 --gzip 6
    python -m scripts.gen_corpus OUT --one-mb 100

Writes OUT/raw/YYYY/MM/ID.jsonl, OUT/sessions/YYYY/MM/ID.jsonl.gz (with --gzip), OUT/knowledge/PATH.md and
OUT/manifest.json (sizes and SHA-256). The same arguments write the same bytes again on the same machine. As a module:
`transcripts`, `one_transcript` and `documents`; `scripts/corpus` says what they hold.
"""

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # run as a file: only this folder is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.corpus import GeneratedSession, documents, one_transcript, transcripts
from scripts.corpus.clock import EPOCH

__all__ = ["GeneratedSession", "documents", "main", "one_transcript", "transcripts"]


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    out: Path = options.out
    entries = [write_session(out, session, options.gzip) for session in wanted_sessions(options)]
    total = 0
    for path, text in documents(options.seed, options.documents):
        target = out / "knowledge" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())
        total += len(text.encode())
    knowledge = {"documents": options.documents, "bytes": total}
    manifest = {"seed": options.seed, "sessions": entries, "knowledge": knowledge}
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    size = sum(int(entry["bytes"]) for entry in entries)
    print(f"{len(entries)} sessions, {size / 1e6:.1f} MB; {options.documents} documents, {total / 1e6:.1f} MB")
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gen_corpus", description="Write generated transcripts and documents.")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--sessions", type=int, default=0, metavar="N")
    parser.add_argument("--mean-kb", type=int, default=1000, metavar="KB", help="mean size of a session (1000)")
    parser.add_argument("--documents", type=int, default=0, metavar="N")
    parser.add_argument("--one-mb", type=int, default=0, metavar="MB", help="one more transcript, this long")
    parser.add_argument("--gzip", type=int, default=0, metavar="LEVEL", help="write .jsonl.gz beside the raw files")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    return parser.parse_args(arguments)


def wanted_sessions(options: argparse.Namespace) -> Iterator[GeneratedSession]:
    yield from transcripts(options.seed, options.sessions, options.mean_kb)
    if options.one_mb:
        yield GeneratedSession("one", "claude-code", EPOCH, one_transcript(options.seed, options.one_mb))


def write_session(out: Path, session: GeneratedSession, level: int) -> dict[str, str | int]:
    name = f"{session.started_at:%Y/%m}/{session.session_id}.jsonl"
    files = {f"raw/{name}": session.data}
    if level:
        files[f"sessions/{name}.gz"] = gzip.compress(session.data, level, mtime=0)
    for path, data in files.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    digest = hashlib.sha256(session.data).hexdigest()
    lines = session.data.count(b"\n")
    return {"path": name, "agent": session.agent, "bytes": len(session.data), "lines": lines, "sha256": digest}


if __name__ == "__main__":
    sys.exit(main())
