"""Parsers of what comes from outside, each as a function of bytes that raises when a promise is broken (SPEC: SEC-5).

What a parser may say is in its docstring: its result, or one of our errors. Beside that each target holds its result
to an oracle that shares no code with it. Atheris, Hypothesis and the replay of the corpus all drive the same functions.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import unicodedata
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

from federated_memory.errors import InvalidArgument, InvalidName, TooLarge
from federated_memory.names import (
    fold,
    parse_document_path,
    parse_etag,
    parse_key_glob,
    parse_memory_id,
    parse_room_name,
    parse_session_id,
    parse_state_key,
    parse_workspace_id,
    slug,
    workspace_id_of,
)
from federated_memory.redaction import SecretScanner
from federated_memory.search.query import Exact, parse_query, plain
from federated_memory.search.terms import parse_terms
from federated_memory.store.archives.member_scan import scan_members
from federated_memory.store.inflate import InflateLimits, inflater
from federated_memory.store.memory_file import (
    KINDS,
    VISIBILITIES,
    format_memory,
    memory_title,
    parse_memory,
    searched_text,
)
from federated_memory.transcripts import detect, read_turns, reader_of, summarise
from scripts.client_module import load_client

CLIENT = load_client()
LIMITS = InflateLimits(max_bytes=1 << 18, ratio_floor_bytes=1 << 16, max_members=50)
AGENTS = ("claude-code", "codex", "gemini", "opencode", "unknown")
ROLES = {"user", "assistant", "tool", "system"}
_SCANNER = SecretScanner()
_REDACTOR = CLIENT.Redactor(CLIENT.load_rules())

Target = Callable[[bytes], None]


def names(data: bytes) -> None:
    """A name is refused, or it is what was given and can be no way out of a folder, on any system."""
    text = data.decode("utf-8", "surrogateescape")
    parsers: tuple[Callable[[str], str], ...] = (
        parse_document_path, parse_workspace_id, parse_session_id, parse_memory_id, parse_room_name, parse_state_key,
    )  # fmt: skip
    for parse in parsers:
        with contextlib.suppress(InvalidName):
            found = parse(text)
            assert found == (text.lower() if parse is parse_session_id else text)
            _ensure_inside(found, may_have_colon=parse is parse_state_key)
    with contextlib.suppress(InvalidName):
        assert parse_key_glob(text) == text
    with contextlib.suppress(InvalidArgument):
        assert len(parse_etag(text)) == 64
    with contextlib.suppress(InvalidArgument):
        made = slug(text)
        assert made == CLIENT.slug(text)
        assert len(made) <= 20
        assert slug(made) == made
        assert parse_workspace_id(workspace_id_of(text, text, text))
    fold(text)


def _ensure_inside(name: str, *, may_have_colon: bool) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for part in unicodedata.normalize(form, name).split("/"):
            assert part not in ("", ".", ".."), (form, name)
            assert may_have_colon or not part.endswith((".", " ")), (form, name)
            assert not set(part) & set('\\*?"<>|' + ("" if may_have_colon else ":")), (form, name)
            assert part.isprintable() or not any(ord(character) < 0xA0 and not character.isprintable()
                                                 for character in part)  # fmt: skip
    assert len(name.encode("utf-8")) <= 400


def gzip_reader(data: bytes) -> None:
    """A body is refused, or it is exactly what the standard library reads; never more than the limits.

    ISA-L takes some Huffman tables that zlib refuses, and checks the sum all the same.
    """
    if not data:
        return
    size, body = data[0] + 1, data[1:]
    for encoding in ("gzip", "zstd", "identity"):
        decoder = inflater(encoding, LIMITS)
        out = bytearray()
        try:
            for start in range(0, len(body), size):
                for piece in decoder.feed(body[start : start + size]):
                    out += piece
                    assert len(out) <= LIMITS.max_bytes
            decoder.finish()
        except (InvalidArgument, TooLarge):
            continue
        if encoding == "gzip":
            with contextlib.suppress(zlib.error):
                assert bytes(out) == gzip.decompress(body)
        elif encoding == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
                assert bytes(out) == reader.read()
        else:
            assert bytes(out) == body
    _scan(body)


def _scan(body: bytes) -> None:
    descriptor = os.memfd_create("archive") if hasattr(os, "memfd_create") else -1
    if descriptor < 0:
        return
    try:
        os.write(descriptor, body)
        raw = bytearray()
        found = scan_members(descriptor, sink=raw.extend)
    finally:
        os.close(descriptor)
    if not found.problem:
        with contextlib.suppress(zlib.error):
            assert bytes(raw) == gzip.decompress(body)
        assert found.raw_bytes == len(raw)
    for member in found.members:
        part = body[member.gzip_offset : member.gzip_end]
        with contextlib.suppress(zlib.error):
            assert len(zlib.decompress(part, 31)) == member.raw_bytes


def jsonl_readers(data: bytes) -> None:
    """Every line of every agent's reader is turns that can be shown."""
    lines = data.split(b"\n")
    summary = summarise(lines[:20], lines[-20:])
    assert summary.title is None or len(summary.title) <= 120
    for agent in (detect(lines).agent, *AGENTS):
        reader = reader_of(agent)
        for number, line in enumerate(lines):
            for turn in read_turns(reader, line, number):
                assert turn.role in ROLES
                assert turn.text.strip()
                assert turn.line == number
                turn.text.encode("utf-8", "replace")


def redactor(data: bytes) -> None:
    """Redacting twice is redacting once, JSON stays JSON, and the server finds nothing that the client has left."""
    for line in data.split(b"\n"):
        once, found = _REDACTOR.line(line)
        assert _REDACTOR.line(once) == (once, type(found)())
        assert found or once == line
        assert b"<private>" in line or b"private" in line or not list(_SCANNER.lines(once)), once
        if _json(line) is not None:
            assert _json(once) is not None
    text = data.decode("utf-8", "surrogateescape")
    once_text, _ = _REDACTOR.text(text)
    assert _REDACTOR.text(once_text)[0] == once_text
    _SCANNER.findings(text)
    told, kinds = _SCANNER.redacted(text)
    assert kinds or told == text


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def front_matter(data: bytes) -> None:
    """Any file is a memory, and one that is written as it was read says the same."""
    memory = parse_memory("m1", data)
    assert memory.kind in KINDS
    assert memory.visibility in VISIBILITIES
    assert 1 <= memory.importance <= 5
    memory_title(data, "m1")
    searched_text("m1", data)
    with contextlib.suppress(UnicodeEncodeError):
        again = parse_memory("m1", format_memory(memory))
        assert again.content == memory.content
        assert (again.kind, again.visibility, again.importance) == (memory.kind, memory.visibility, memory.importance)


def query_parser(data: bytes) -> None:
    """A query is refused, or it can be asked of any text: what it finds are places in it, in order."""
    first, _, second = data.partition(b"\n")
    text, searched = first.decode("utf-8", "surrogateescape"), plain(second + b"\nzebra \xc3\xbc 42\n")
    for mode in ("literal", "regex", "ranked"):
        with contextlib.suppress(InvalidArgument):
            query = parse_query(text, mode)  # type: ignore[arg-type]
            if isinstance(query, Exact):
                last = -1
                for start, end in query.matches(searched):
                    assert last < start <= end <= len(searched)
                    last = start
    parse_terms(text)


TARGETS: dict[str, Target] = {
    "names": names,
    "gzip_reader": gzip_reader,
    "jsonl_readers": jsonl_readers,
    "redactor": redactor,
    "front_matter": front_matter,
    "query_parser": query_parser,
}


def broken(data: bytes) -> None:
    """The broken twin: a parser that takes a name whose end it does not look at."""
    if data[:1] == b"~" and data[1:2] == b"/" and data[2:3] == b".":
        raise ValueError("out of the folder")
