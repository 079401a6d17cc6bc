"""Settings: from the environment and secret files, refused without showing values."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.errors import InvalidArgument
from federated_memory.settings import load_settings


@pytest.mark.spec("CONF-1")
def test_settings_come_from_the_environment_and_secret_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("from-a-file\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=9001\n")
    monkeypatch.setenv("MCP_TOKEN_FILE", str(secret))
    monkeypatch.setenv("MEMORY_TRUSTED_PROXIES", "10.0.0.0/8, ::1")

    settings = load_settings()

    assert settings.mcp_token is not None
    assert settings.mcp_token.get_secret_value() == "from-a-file"
    assert settings.port == 9001
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.spec("CONF-1")
@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "canary"), ("MCP_TOKEN", "canary with spaces"), ("PUBLIC_URL", "canary")]
)
def test_a_bad_value_is_refused_naming_the_variable_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidArgument) as refused:
        load_settings()

    assert name.lower() in str(refused.value).lower()
    assert "canary" not in str(refused.value)


@pytest.mark.spec("CONF-2")
def test_credentials_of_systemd_count_when_nothing_else_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mcp_token").write_text("from-systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "other.env").write_text("PORT=9002\n")
    monkeypatch.setenv("MEMORY_ENV_FILE", str(tmp_path / "other.env"))

    settings = load_settings()

    assert settings.mcp_token is not None
    assert settings.mcp_token.get_secret_value() == "from-systemd"
    assert settings.sync_token is None
    assert settings.port == 9002
    (tmp_path / "other.env").write_text("MCP_TOKEN=from-the-env-file\n")
    again = load_settings()
    assert again.mcp_token is not None
    assert again.mcp_token.get_secret_value() == "from-the-env-file"


@pytest.mark.spec("CONF-2")
def test_a_credential_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mcp_token").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with pytest.raises(InvalidArgument, match="credential mcp_token cannot be read"):
        load_settings()
