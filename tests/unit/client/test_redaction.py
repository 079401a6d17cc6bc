"""Secrets are gone before anything leaves the machine, and everything else stays as it was."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts import secrets_corpus

KEY = "AKIA" + "Q7ZK3MTW5RUX2LNB"
GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hL3oR6"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
MARK = "[REDACTED:aws-access-key-id]"

Redact = Callable[[object], Any]


@pytest.fixture(scope="module")
def redactor(sync: ModuleType) -> Any:
    return sync.Redactor(sync.parse_rules((Path(sync.__file__).parent / "redaction_rules.json").read_bytes()))


@pytest.fixture
def redact(redactor: Any) -> Redact:
    """A value, written as a line of JSON, redacted, and read again."""

    def run(value: object) -> Any:
        return json.loads(redactor.line(json.dumps(value).encode())[0])

    return run


# -- what is found


@pytest.mark.spec("REDACT-2")
def test_nearly_every_planted_secret_is_gone(redactor: Any) -> None:
    planted = list(secrets_corpus.planted(seed=1, count=200))
    assert all(secrets_corpus.traces_of(item, item.line) for item in planted)

    left = [item for item in planted if secrets_corpus.traces_of(item, redactor.line(item.line)[0])]

    assert len(left) <= 4, [(item.kind, item.context) for item in left]


@pytest.mark.spec("REDACT-2")
def test_kinds_that_have_a_form_of_their_own_are_named(redactor: Any) -> None:
    planted = list(secrets_corpus.planted(seed=2, count=400))

    named = sum(item.kind in redactor.line(item.line)[1] for item in planted)

    assert named >= 0.96 * len(planted)
    assert len({item.kind for item in planted}) >= 40


@pytest.mark.thorough
@pytest.mark.spec("REDACT-3")
def test_clean_transcripts_stay_as_they_are(redactor: Any) -> None:
    found: Counter[str] = Counter()
    size = 0
    for line in secrets_corpus.clean(seed=1, megabytes=4):
        redacted, kinds = redactor.line(line)
        assert (redacted is line) == (not kinds)
        found += kinds
        size += len(line)

    assert found.total() <= size / 1e6, found


@pytest.mark.spec("REDACT-3")
@pytest.mark.parametrize("text", secrets_corpus.INNOCENT)
def test_code_prose_and_placeholders_are_no_secrets(redactor: Any, text: str) -> None:
    assert redactor.text(text) == (text, Counter())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_PASSWORD='tr0ub4dor&3'", "DB_PASSWORD='[REDACTED:password]'"),
        ('"password": "hunter2",', '"password": "[REDACTED:password]",'),
        ("password: s3cr3t-pa55 # comment", "password: [REDACTED:password] # comment"),
        ("postgres://app:s3cr3tpass@db/app", "postgres://app:[REDACTED:url-password]@db/app"),
        ("curl -u ci:Zx81kkq https://x", "curl -u ci:[REDACTED:basic-auth] https://x"),
        ("machine x login ci password Zx81kkq", "machine x login ci password [REDACTED:netrc-password]"),
        ("deploy --token Zx81kkq0Ab12 --force", "deploy --token [REDACTED:secret] --force"),
        ("<password>Zx81kkq</password>", "<password>[REDACTED:password]</password>"),
        ("const apiKey: string = 'k3y0a9b8c7d6e5'", "const apiKey: string = '[REDACTED:secret]'"),
        (f"use {KEY}.", f"use {MARK}."),
        (f"x{KEY}", f"x{KEY}"),
        (rf"a\n{KEY}\n", rf"a\n{MARK}\n"),
        (f"\x1b[32m{KEY}\x1b[0m", f"\x1b[32m{MARK}\x1b[0m"),
    ],
)  # fmt: skip
@pytest.mark.spec("REDACT-1")
def test_an_assignment_keeps_its_name_and_its_quotes(redactor: Any, text: str, expected: str) -> None:
    assert redactor.text(text)[0] == expected


@pytest.mark.spec("REDACT-4")
def test_no_escape_hides_a_secret(redactor: Any) -> None:
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    for literal in (f'"{hidden}"', f'"{KEY[:4]}\\u{ord(KEY[4]):04x}{KEY[5:]}"', f'"a\\"{KEY}\\""', f'"a\\n{KEY}\\tb"'):
        line = f'{{"text": {literal}, "n": 1}}'.encode()
        assert KEY in json.loads(line)["text"]
        redacted, found = redactor.line(line)
        assert found == {"aws-access-key-id": 1}
        assert json.loads(redacted)["text"] == json.loads(line)["text"].replace(KEY, MARK)

    url = rb'{"url": "https:\/\/ci:s3cr3tpass@example.net\/"}'
    assert json.loads(redactor.line(url)[0]) == {"url": "https://ci:[REDACTED:url-password]@example.net/"}


@pytest.mark.spec("REDACT-4")
def test_json_within_json_is_read_at_every_depth(redact: Redact) -> None:
    value: object = {"env": {"DB_PASSWORD": 'Zx"81\\kkq'}, "n": 1.50}
    for _ in range(4):
        value = {"arguments": json.dumps(value), "other": "text"}

    found = redact(value)

    for _ in range(4):
        assert found["other"] == "text"
        found = json.loads(found["arguments"])
    assert found == {"env": {"DB_PASSWORD": "[REDACTED:password]"}, "n": 1.5}


@pytest.mark.spec("REDACT-4")
def test_a_value_is_known_by_its_key_its_name_or_the_option_before_it(redact: Redact) -> None:
    assert redact({"apiKey": "k3y0a9b8c7d6"}) == {"apiKey": "[REDACTED:secret]"}
    assert redact([{"name": "DB_PASSWORD", "value": "Zx81kkq"}, {"name": "MODE", "value": "Zx81kkq"}]) == [
        {"name": "DB_PASSWORD", "value": "[REDACTED:password]"},
        {"name": "MODE", "value": "Zx81kkq"},
    ]
    assert redact(["run", "--password", "Zx81kkq"]) == ["run", "--password", "[REDACTED:password]"]
    others = {"password": "string", "token": 12345678901234567890, "api_key": None, "secret": ["a1b2c3d4e5f6"]}
    assert redact(others) == others


@pytest.mark.spec("REDACT-4")
def test_a_secret_may_be_a_key(redact: Redact) -> None:
    assert redact({KEY: {"a": 1}}) == {MARK: {"a": 1}}


@pytest.mark.spec("REDACT-5")
@pytest.mark.parametrize(
    "line",
    [
        '{"b" : 1.0,  "a":"%s", "b": [1e5, "\\u00e9\\/", null ], "é":"\\ud83d\\ude00"}',
        '\ufeff{"a": "%s"}\r',
        '["%s", "\\ud800", {}]',
        '{"a": "tab\tin it", "b": "%s"}',
    ],
)
def test_all_but_the_changed_strings_stays_byte_for_byte(redactor: Any, line: str) -> None:
    redacted, found = redactor.line((line % KEY).encode())

    assert redacted.decode() == line % MARK
    assert found == {"aws-access-key-id": 1}


@pytest.mark.spec("REDACT-5")
def test_what_is_no_json_or_no_utf8_is_redacted_as_text(redactor: Any) -> None:
    assert redactor.line(f"{{broken {KEY}".encode())[0] == f"{{broken {MARK}".encode()
    assert redactor.line(b'{"a": "\xff' + KEY.encode() + b'"}')[0] == b'{"a": "\xff' + MARK.encode() + b'"}'
    assert redactor.line(b"\xff\xfe" + KEY.encode())[0] == b"\xff\xfe" + MARK.encode()
    assert redactor.line(b"")[0] == b""


@pytest.mark.spec("REDACT-5")
def test_half_a_pair_of_surrogates_beside_a_secret_stays_an_escape(redactor: Any) -> None:
    line = rf'{{"a": "\ud800 {KEY}"}}'.encode()

    assert redactor.line(line)[0] == rf'{{"a": "\ud800 {MARK}"}}'.encode()


@pytest.mark.spec("REDACT-2")
@pytest.mark.parametrize(
    "text", [PEM + "-----END PRIVATE KEY-----", PEM, PEM.replace("\n", "\\n"), "> " + PEM.replace("\n", "\n> ")]
)
def test_a_key_block_is_gone_also_when_it_was_cut_off(redactor: Any, text: str) -> None:
    redacted, found = redactor.text(f"before\n{text}\nafter")

    assert "MII" not in redacted
    assert "VJTUt9Us" not in redacted
    assert redacted.startswith("before\n")
    assert redacted.endswith("\nafter")
    assert found == {"private-key": 1}


@pytest.mark.spec("REDACT-2")
def test_a_public_key_and_a_bare_mention_of_a_private_one_stay(redactor: Any) -> None:
    for text in ("grep -r -- '-----BEGIN PRIVATE KEY-----' .", PEM.replace("PRIVATE", "PUBLIC")):
        assert redactor.text(text)[0] == text


# -- what people hide


@pytest.mark.spec("REDACT-6")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <private>b</private> c", "a [REDACTED:private] c"),
        ("a <private>b", "a [REDACTED:private]"),
        ("a <private>b<private>c</private>d</private> e", "a [REDACTED:private] e"),
        ("<private>a</private>b<private>c</private>", "[REDACTED:private]b[REDACTED:private]"),
        ("no tag </private> at all", "no tag </private> at all"),
    ],
)
def test_private_blocks_are_taken_out(redactor: Any, redact: Redact, text: str, expected: str) -> None:
    assert redactor.text(text)[0] == expected
    assert redact({"text": text, "other": "kept"}) == {"text": expected, "other": "kept"}
    escaped = json.dumps({"text": text}).replace("<", "\\u003c").encode()
    assert json.loads(redactor.line(escaped)[0]) == {"text": expected}


@pytest.fixture
def excluding(sync: ModuleType, redactor: Any) -> Redact:
    found = sync.Redactor(redactor._rules, exclude_paths=["*.env", "*/secrets/*"])
    return lambda value: json.loads(found.line(json.dumps(value).encode())[0])


CLAUDE_READ = {
    "type": "user",
    "uuid": "5f7d",
    "cwd": "/srv/app",
    "message": {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "1\u2192COLOUR=blue"}],
    },
    "toolUseResult": {"type": "text", "file": {"filePath": "/srv/app/.env", "content": "COLOUR=blue", "numLines": 1}},
}
GEMINI_READ = {
    "id": "m1",
    "content": "I read it",
    "toolCalls": [
        {"name": "read_file", "args": {"absolute_path": "/srv/secrets/a.txt"}, "result": [{"text": "COLOUR=blue"}]}
    ],
}
OPENCODE_READ = {
    "type": "tool",
    "state": {"input": {"filePath": "/srv/app/prod.env"}, "output": "COLOUR=blue", "status": "ok"},
}
CODEX_CAT = {
    "type": "exec_command_end",
    "command": ["bash", "-lc", "cat /srv/app/.env | head"],
    "stdout": "COLOUR=blue",
}
CLAUDE_WRITE = {"type": "tool_use", "name": "Write", "input": {"file_path": "/a/.env", "content": "COLOUR=blue"}}


@pytest.mark.spec("REDACT-7")
@pytest.mark.parametrize("record", [CLAUDE_READ, GEMINI_READ, OPENCODE_READ, CODEX_CAT, CLAUDE_WRITE])
def test_what_an_excluded_file_holds_is_taken_out(excluding: Redact, record: dict[str, Any]) -> None:
    found = json.dumps(excluding(record))

    assert "COLOUR" not in found
    assert "[REDACTED:path]" in found
    for kept in ("uuid", "cwd", "id", "name", "type"):
        assert excluding(record).get(kept) == record.get(kept)


@pytest.mark.spec("REDACT-7")
def test_other_files_stay(excluding: Redact) -> None:
    text = json.dumps(CLAUDE_READ).replace(".env", ".envrc")

    assert excluding(json.loads(text)) == json.loads(text)


# -- rules and versions


def rules_of(version: str, **more: object) -> bytes:
    rule = {"kind": "test-key", "keywords": ["tk_"], "pattern": "tk_[a-z]{8}"}
    return json.dumps(
        {"format": 1, "version": version, "placeholders": {}, "fillers": [], "rules": [rule], **more}
    ).encode()


@pytest.mark.spec("REDACT-9")
def test_the_newest_rules_count_and_old_ones_stay_for_appends(sync: ModuleType, home: Path) -> None:
    assert home
    shipped = sync.load_rules().version
    assert [
        sync.keep_rules(rules_of(version)) for version in ("2099-01-02", "2099-01-02.10", "2099-01-02.9", "2020-01-01")
    ]

    assert sync.load_rules().version == "2099-01-02.10"
    assert sync.load_rules("2020-01-01").version == "2020-01-01"
    assert sync.load_rules(shipped).version == shipped
    assert sync.redactor_for(sync.Config(), "2020-01-01").line(b"tk_abcdefgh")[0] == b"[REDACTED:test-key]"
    with pytest.raises(sync.UsageError, match="No redaction rules of version 2021-01-01"):
        sync.load_rules("2021-01-01")


@pytest.mark.spec("REDACT-9")
@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"[]", b"{}", rules_of("../../x"), rules_of("2026-01-01", format=2),
     rules_of("2026-01-01", rules=[{"kind": "x y", "keywords": ["a"], "pattern": "a"}]),
     rules_of("2026-01-01", rules=[{"kind": "bad", "keywords": ["a"], "pattern": "a("}])],
)  # fmt: skip
def test_what_are_no_rules_is_refused_and_not_kept(sync: ModuleType, home: Path, data: bytes) -> None:
    with pytest.raises(sync.UsageError):
        sync.keep_rules(data)
    assert not list(home.rglob("*.json"))


@pytest.mark.spec("REDACT-9")
def test_off_changes_nothing_and_says_so(sync: ModuleType, home: Path) -> None:
    assert home
    line = json.dumps({"key": KEY}).encode()
    for redactor in (sync.redactor_for(sync.Config(redaction="off")), sync.redactor_for(sync.Config(), "off")):
        assert redactor.version == "off"
        assert redactor.line(line) == (line, Counter())
    assert sync.redactor_for(sync.Config(redaction="off"), sync.load_rules().version).line(line)[0] != line


# -- long lines


@pytest.mark.thorough
@pytest.mark.spec("REDACT-8")
def test_a_line_of_fifty_megabytes_stays_within_a_multiple_of_its_length(redactor: Any) -> None:
    noise = base64.b64encode(bytes(range(256)) * 140_000).decode()
    line = json.dumps({"text": f"{noise} token: {KEY} {noise[:1000]}", "more": "\\n" * 100_000}).encode()
    tracemalloc.start()
    try:
        redacted, found = redactor.line(line)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert KEY.encode() not in redacted
    assert found.total() == 1
    assert peak < 12 * len(line)


@pytest.mark.thorough
@pytest.mark.spec("REDACT-8")
@pytest.mark.parametrize(
    "piece",
    ["-----BEGIN PRIVATE KEY-----", "<private>", "eyJhbGciOiJ", "password=", "://a:", "-----END ", KEY, "secret=$(",
     "[{", "authorization: ", "\\u0041", "token = a.b", "curl -u ", "AccountKey="],
)  # fmt: skip
def test_text_made_to_be_slow_is_done_in_the_time_of_a_test(redactor: Any, piece: str) -> None:
    text = piece * (400_000 // len(piece))

    redacted, _ = redactor.text(text)

    assert redactor.text(redacted) == (redacted, Counter())


@pytest.mark.spec("REDACT-1")
def test_each_kind_of_the_list_has_rules(redactor: Any) -> None:
    kinds = {rule.kind for rule in redactor._rules.rules}

    assert len(kinds) >= 60
    assert {secret.kind for secret in secrets_corpus.secrets(random.Random(1))} <= kinds
