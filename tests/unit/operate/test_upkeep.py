"""The slow troubles: backups that stopped, machines that fell silent, certificates that run out."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federated_memory.operate import upkeep
from federated_memory.settings import Settings

NOW = datetime.now(timezone.utc)


def note(root: Path, age: timedelta, folder: str = "/nowhere") -> None:
    at = (NOW - age).isoformat()
    row = {"folder": folder, "name": "b.tar.zst", "created_at": at, "verified_at": at, "bytes": 1}
    (root / "_meta" / "backups.json").write_text(json.dumps({"backups": [row]}))


def age_changes(root: Path, days: int) -> None:
    connection = sqlite3.connect(root / "_meta" / "state.sqlite3")
    with connection:
        connection.execute("UPDATE changes SET at = ?", ((NOW - timedelta(days=days)).isoformat(),))
    connection.close()


@pytest.mark.spec("CLI-21", "BACKUP-7")
def test_old_missing_and_removed_backups_are_warnings(memory: Path, tmp_path: Path) -> None:
    assert [row.state for row in upkeep.backups(memory)] == ["ok"]  # nothing is older than two days
    age_changes(memory, 3)
    assert [row.state for row in upkeep.backups(memory)] == ["warn"]
    note(memory, timedelta(hours=20))
    assert [row.state for row in upkeep.backups(memory)] == ["ok"]
    note(memory, timedelta(days=3))
    assert "old" in next(iter(upkeep.backups(memory))).detail
    note(memory, timedelta(hours=1), str(tmp_path))
    assert "gone" in next(iter(upkeep.backups(memory))).detail
    (memory / "_meta" / "backups.json").write_text("{")
    assert [row.state for row in upkeep.backups(memory)] == ["warn"]


@pytest.mark.spec("CLI-21")
@pytest.mark.parametrize(("days", "state"), [(1, "ok"), (6, "ok"), (8, "warn"), (59, "warn"), (61, "ok")])
def test_a_machine_that_stopped_sending_is_named(memory: Path, days: int, state: str) -> None:
    age_changes(memory, days)

    (row,) = upkeep.machines(memory)

    assert row.state == state
    assert state == "ok" or "box has sent no session for" in row.detail


def certificate(path: Path, days: float) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "memory.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(NOW - timedelta(days=900)).not_valid_after(NOW + timedelta(days=days))
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.spec("CLI-21")
@pytest.mark.parametrize(("days", "state"), [(100, "ok"), (20, "warn"), (-1, "fail")])
def test_a_certificate_s_end_is_told_before_it_comes(tmp_path: Path, days: float, state: str) -> None:
    settings = Settings(root=tmp_path, tls_certificate=certificate(tmp_path / "c.pem", days))

    (row,) = upkeep.certificate(settings, online=False)

    assert (row.name, row.state) == ("certificate", state)


@pytest.mark.spec("CLI-21")
def test_a_file_that_is_no_certificate_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("nothing")

    (row,) = upkeep.certificate(Settings(root=tmp_path, tls_certificate=tmp_path / "c.pem"), online=False)

    assert row.state == "fail"


@pytest.mark.spec("CLI-21")
@pytest.mark.parametrize(
    ("jail", "form", "states"), [("", "json", []), ("mcp-memory", "json", ["warn"]), ("mcp-memory", "text", ["ok"])]
)
def test_a_log_that_silences_the_jail_is_a_warning(tmp_path: Path, jail: str, form: str, states: list[str]) -> None:
    (tmp_path / "jail.d").mkdir()
    (tmp_path / "jail.d" / "other.conf").write_text("[sshd]\nenabled = true\n")
    if jail:
        shutil.copy(Path(__file__).parents[3] / "deploy" / "fail2ban-jail.conf", tmp_path / "jail.d" / f"{jail}.conf")

    found = list(upkeep.bans(Settings(root=tmp_path, log_format=form), tmp_path))  # type: ignore[arg-type]

    assert [row.state for row in found] == states
