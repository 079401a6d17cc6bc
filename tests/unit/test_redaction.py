"""The server finds what the client would have replaced, counts it behind the acknowledgement, or refuses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from federated_memory.app import close_services, open_services
from federated_memory.auth.caller import Caller, Grant
from federated_memory.errors import InvalidArgument
from federated_memory.operate.diagnosis import stored_secrets
from federated_memory.redaction import Finding, SecretScanner, load_rules, rules_bytes
from federated_memory.service.services import Services
from federated_memory.settings import load_settings
from scripts import secrets_corpus
from scripts.client_module import load_client
from tests.unit.cli.conftest import Cli, cli, memory

__all__ = ["cli", "memory"]

CLIENT = Path(__file__).parents[2] / "client"
KEY = "AKIA" + "Q7ZK3MTW5RUX2LNB"
GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hL3oR6"
ADMIN = Caller(Grant("tester", "admin", "f" * 32, read=("*",), write=("*",)), "192.0.2.1")


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


@pytest.fixture(scope="module")
def client() -> ModuleType:
    return load_client("memory_sync_for_redaction")


# -- finding


@pytest.mark.spec("REDACT-10")
def test_server_and_client_find_the_same_in_the_same_rules(scanner: SecretScanner, client: ModuleType) -> None:
    redactor = client.Redactor(client.parse_rules(rules_bytes()))
    assert redactor.version == scanner.version == load_rules().version
    for item in secrets_corpus.planted(seed=4, count=400):
        redacted, found = redactor.line(item.line)
        assert {finding.kind for finding in scanner.lines(item.line)} == set(found), (item.kind, item.context)
        assert not list(scanner.lines(redacted)), (item.kind, item.context)


@pytest.mark.spec("REDACT-10")
def test_texts_that_are_hard_to_agree_on(scanner: SecretScanner, client: ModuleType) -> None:
    redactor = client.Redactor(client.parse_rules(rules_bytes()))
    texts = [
        f"\u212a{KEY}", f"\u0130{KEY} \u0130 passwor\u017f='Zx81kkq'", "pa\u017f\u017fword='Zx81kkq'", f"é{KEY}é",
        "apiKey = 'k3y0a9b8c7d6'", "api\u212aey = 'k3y0a9b8c7d6'", f"[REDACTED:jwt]{KEY}", f"\ud800{KEY}",
        "-----BEGIN PRIVATE KEY-----\n" + "é" * 30 + "MIIEvQIBADANBgkqhkiG9w0BAQ",
    ]  # fmt: skip
    for text in texts:
        found = redactor.text(text)[1]
        assert {finding.kind for finding in scanner.findings(text)} == set(found), text


@pytest.mark.spec("REDACT-3")
def test_the_server_finds_nothing_in_clean_transcripts(scanner: SecretScanner) -> None:
    lines = b"\n".join(secrets_corpus.clean(seed=2, megabytes=2))

    assert len(list(scanner.lines(lines))) <= len(lines) / 1e6


@pytest.mark.spec("REDACT-10")
def test_a_finding_names_kind_and_line_only(scanner: SecretScanner) -> None:
    text = f"# Notes\n\nuse {KEY}\nand\n{GITHUB} `{KEY}`\n"

    assert scanner.findings(text) == [
        Finding("aws-access-key-id", 3), Finding("github-token", 5), Finding("aws-access-key-id", 5),
    ]  # fmt: skip
    lines = b'{"a": 1}\n{"b": "%s"}\n\n{"c": "\\u0041%s"}\nx %s' % (KEY.encode(), KEY[1:].encode(), GITHUB.encode())
    assert list(scanner.lines(lines)) == [
        Finding("aws-access-key-id", 2), Finding("aws-access-key-id", 4), Finding("github-token", 5),
    ]  # fmt: skip


@pytest.mark.spec("REDACT-9")
def test_rules_are_the_ones_that_clients_download() -> None:
    assert rules_bytes() == (CLIENT / "redaction_rules.json").read_bytes()


# -- counting and refusing


@pytest.fixture
def services(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Services]:
    policy = getattr(request, "param", "report")
    opened = open_services(load_settings(root=tmp_path / "memory", secret_policy=policy))
    try:
        opened.workspaces.register(ADMIN, machine="box", tool="claude", project="demo")
        yield opened
    finally:
        close_services(opened)


WORKSPACE = "box-claude-demo"


def write(services: Services, path: str, text: str) -> None:
    workspace = services.core.registry.get(WORKSPACE)
    services.knowledge.put(ADMIN, workspace, path, text.encode(), None)


def send(services: Services, data: bytes, offset: int | None = None, pieces: int = 7) -> None:
    workspace = services.core.registry.get(WORKSPACE)
    upload = services.sessions.begin_upload(ADMIN, workspace, "session-1", encoding="identity", offset=offset)
    try:
        for at in range(0, len(data), pieces):
            upload.feed(data[at : at + pieces])
        upload.finish()
    finally:
        upload.close()


def flags(services: Services) -> dict[str, dict[str, int]]:
    services.secrets.catch_up()
    return {row.name: row.counts for row in services.status.status(ADMIN).secrets}


@pytest.mark.spec("REDACT-11")
def test_what_is_stored_is_counted_and_what_is_mended_is_not(services: Services) -> None:
    write(services, "keys.md", f"{KEY}\n{KEY}\n{GITHUB}\n")
    write(services, "clean.md", "nothing here\n")
    assert services.status.status(ADMIN).secrets_pending > 0

    assert flags(services) == {"keys.md": {"aws-access-key-id": 2, "github-token": 1}}
    assert services.status.status(ADMIN).secrets_pending == 0

    write(services, "keys.md", "[REDACTED:aws-access-key-id]\n")
    assert flags(services) == {}
    assert services.knowledge.read(ADMIN, WORKSPACE, "keys.md", version=1, max_bytes=8_000).text.startswith(KEY)


@pytest.mark.spec("REDACT-11")
def test_a_growing_session_is_counted_once_line_by_line(services: Services) -> None:
    first, second = f'{{"a": "{KEY}"}}\n'.encode(), f'{{"b": "{GITHUB}"}}\n{{"c": "{KEY}'.encode()
    send(services, first)
    assert flags(services) == {"session-1": {"aws-access-key-id": 1}}
    send(services, second, offset=len(first))
    assert flags(services) == {"session-1": {"aws-access-key-id": 2, "github-token": 1}}
    send(services, b'"}\n{"d": 1}\n', offset=len(first + second))
    assert flags(services) == {"session-1": {"aws-access-key-id": 2, "github-token": 1}}

    send(services, b'{"a": "clean"}\n')
    assert flags(services) == {}


@pytest.mark.spec("REDACT-11")
def test_counts_are_made_anew_when_the_rules_change(services: Services) -> None:
    write(services, "keys.md", KEY)
    before = flags(services)
    with services.core.root.database.transaction() as transaction:
        transaction.execute("UPDATE node SET value = '2020-01-01 9999' WHERE key = 'secrets'")
        transaction.execute("UPDATE secret_findings SET counts = '{\"gone\": 1}'")

    assert flags(services) == before == {"keys.md": {"aws-access-key-id": 1}}


@pytest.mark.spec("REDACT-12")
@pytest.mark.parametrize("services", ["refuse"], indirect=True)
def test_refused_text_is_not_stored_and_not_repeated(services: Services) -> None:
    with pytest.raises(InvalidArgument) as refused:
        write(services, "keys.md", f"one\ntwo {KEY}\n")

    assert "aws-access-key-id" in str(refused.value)
    assert "line 2" in str(refused.value)
    assert KEY not in str(refused.value)
    assert services.knowledge.list(ADMIN, WORKSPACE, limit=9, cursor=None, max_bytes=8_000).documents == []
    write(services, "keys.md", "one\ntwo [REDACTED:aws-access-key-id]\n")


@pytest.mark.spec("REDACT-12")
@pytest.mark.parametrize("services", ["refuse"], indirect=True)
@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("pieces", [1, 11, 4096])
def test_a_refused_upload_leaves_what_was_stored(services: Services, ending: str, pieces: int) -> None:
    clean = b'{"a": 1}\n'
    send(services, clean)
    with pytest.raises(InvalidArgument, match=r"github-token.* line 2"):
        send(services, f'{{"b": 2}}\n{{"c": "{GITHUB}"}}{ending}'.encode(), offset=len(clean), pieces=pieces)

    assert services.sessions.find(ADMIN, WORKSPACE, "session-1").raw_bytes == len(clean)
    send(services, b'{"b": 2}\n', offset=len(clean))


@pytest.mark.spec("REDACT-12")
def test_status_and_doctor_tell_where_and_never_what(cli: Cli, memory: Path) -> None:
    assert cli("init").code == 0
    opened = open_services(load_settings(root=memory))
    opened.workspaces.register(ADMIN, machine="box", tool="claude", project="demo")
    assert list(stored_secrets(memory)) == []
    write(opened, "keys.md", f"{KEY} {GITHUB}")
    opened.secrets.catch_up()
    close_services(opened)

    status, doctor, as_json = cli("status"), cli("doctor"), cli("status", "--json")

    for shown in (status.out, doctor.out):
        assert "knowledge keys.md of box-claude-demo: 1 aws-access-key-id, 1 github-token" in shown
    assert as_json.json["secrets"] == [
        {"workspace_id": WORKSPACE, "kind": "knowledge", "name": "keys.md",
         "counts": {"aws-access-key-id": 1, "github-token": 1}}
    ]  # fmt: skip
    assert doctor.code == 1
    for ran in (status, doctor, as_json):
        assert KEY not in ran.out + ran.err


@pytest.mark.spec("REDACT-10")
def test_a_rule_file_has_nothing_that_only_one_engine_knows() -> None:
    for rule in json.loads(rules_bytes())["rules"]:
        for part in ("pattern", "not", "key", "value", "gate"):
            text = rule.get(part, "")
            assert not any(sign in text for sign in ("(?=", "(?!", "(?<", "(?P", "\\s", "\\1", "(?>", "\\Z", "\\w")), (
                rule["kind"]
            )


@pytest.mark.parametrize(
    "secret",
    ['["--password","kX9vTq2mZr7B"]', '{"p\\u0061ssword":"kX9vTq2mZr"}', '"AKIA\\u0049OSFODNN7EXAMPLQ"'],
)
def test_what_was_met_deep_inside_is_found_anywhere_else(secret: str) -> None:
    deep = secret
    for _ in range(9):
        deep = json.dumps([deep])
    line = json.dumps({"content": secret})
    known = SecretScanner()
    known.findings(deep)

    assert known.findings(line) == SecretScanner().findings(line) != []
