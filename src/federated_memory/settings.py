"""Every option, read once from the environment, a `.env` file and secret files (SPEC: CONF-1)."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from federated_memory.errors import InvalidArgument

EXAMPLE_TOKENS = frozenset({"dev-token", "dev-sync-token"})
"""What `make run` uses; refused on anything but a loopback bind."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def default_root() -> Path:
    """`federated-memory` in the user's data directory (XDG on Linux, Application Support on macOS)."""
    if os.name == "posix" and os.uname().sysname == "Darwin":
        return Path.home() / "Library" / "Application Support" / "federated-memory"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "federated-memory"


def _plain(name: str) -> AliasChoices:
    # The six settings whose names have no MEMORY_ prefix of their own.
    return AliasChoices(name, name.lower())


class Settings(BaseSettings):
    """All options. Names are those of the environment; defaults serve one person on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="MEMORY_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    mcp_token: SecretStr | None = Field(
        default=None, validation_alias=_plain("MCP_TOKEN"), description="Token of AI clients."
    )
    sync_token: SecretStr | None = Field(
        default=None, validation_alias=_plain("SYNC_TOKEN"), description="Token of sync scripts; none: uploads are off."
    )
    root: Path = Field(
        default_factory=default_root,
        validation_alias=AliasChoices("MEMORY_ROOT", "root"),
        description="Folder that holds everything.",
    )
    host: str = Field(default="127.0.0.1", validation_alias=_plain("HOST"), description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, validation_alias=_plain("PORT"), description="Port; 0 picks a free one."
    )
    public_url: str = Field(
        default="", validation_alias=_plain("PUBLIC_URL"), description="Origin that clients reach this server by."
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file that the proxy in front serves; invitations tell other machines its fingerprint.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(), description="Addresses or networks, comma-separated, whose `X-Forwarded-For` counts."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Form of log lines on standard error.")
    toolsets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("core", "memories"), description="Tool groups to offer: core, memories, rooms, state or all."
    )
    max_document_bytes: int = Field(default=1024**2, gt=0, description="Longer knowledge and overviews get 413.")
    max_session_bytes: int = Field(default=4 * 1024**3, gt=0, description="Longer transcripts get 413.")
    max_state_bytes: int = Field(default=60_000, gt=0, description="Longer values of the shared state get 413.")
    state_keys: int = Field(default=100_000, gt=0, description="How many keys the shared state may have.")
    state_history: int = Field(default=100, gt=0, description="How many versions of a key are kept, at least.")
    state_log: int = Field(
        default=50_000, gt=0, description="How many changes of all keys are kept, so that watchers can resume."
    )
    state_writes_per_second: int = Field(
        default=5_000, gt=0, description="Writes of shared state that one token may make; more get 429."
    )
    requests_per_second: int = Field(
        default=1_000, ge=0, description="Requests of a token, ten seconds' worth at once; more get 429. 0: any number."
    )
    anonymous_requests_per_second: int = Field(
        default=50, ge=0, description="The same of an address, for requests without a valid token."
    )
    max_event_streams: int = Field(default=256, gt=0, description="Event streams that one token may hold open.")
    max_ratio: int = Field(default=200, gt=1, description="Uploads that inflate by more are refused.")
    max_gzip_members: int = Field(default=20_000, gt=0, description="Uploads of more gzip members are refused.")
    max_mcp_body_bytes: int = Field(default=4 * 1024**2, gt=0, description="Longer MCP requests get 413.")
    body_timeout_seconds: float = Field(default=30, gt=0, description="A body that stalls for longer is dropped.")
    min_free_bytes: int = Field(default=64 * 1024**2, ge=0, description="Writes stop when the disk has less left.")
    scan_interval_seconds: float = Field(default=60, gt=0, description="Pause between looks for files edited by hand.")
    search_timeout_seconds: float = Field(default=10, gt=0, description="A search answers with what it has by then.")
    progress_seconds: float = Field(
        default=5, gt=0, description="How often a call that waits for others tells its client that it goes on."
    )
    binding_days: int = Field(default=30, gt=0, description="How long a binding is good for.")
    sign_in_idle_seconds: float = Field(
        default=12 * 3_600, gt=0, description="The web pages sign out who was away for longer."
    )
    secret_policy: Literal["report", "refuse"] = Field(
        default="report", description="Secrets in what is stored: `report` counts them, `refuse` refuses the write."
    )
    audit_bytes: int = Field(
        default=16 * 1024**2, ge=0, description="Size at which `_meta/audit.jsonl` is rotated; 0: no audit log."
    )
    audit_files: int = Field(default=8, ge=0, description="How many rotated audit logs stay.")
    bench_noop: bool = Field(default=False, description="Offer a `noop` tool, for benchmarks.")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`MCP_TOKEN_FILE` and `SYNC_TOKEN_FILE`, else systemd's credentials, when the variable itself is not set."""
        for name in ("MCP_TOKEN", "SYNC_TOKEN"):
            if values.get(name) or values.get(name.lower()):
                continue
            file, what = os.environ.get(f"{name}_FILE"), f"{name}_FILE"
            if not file:
                file, what = _credential(name.lower()), f"The credential {name.lower()}"
            if file:
                try:
                    values = {**values, name: Path(file).read_text(encoding="utf-8").strip()}
                except (OSError, UnicodeDecodeError) as error:
                    raise ValueError(f"{what} cannot be read: {type(error).__name__}") from None
        return values

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("toolsets", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("PUBLIC_URL must be an origin such as https://memory.example.org:7443")
        return value.rstrip("/").removesuffix("/mcp")

    @field_validator("mcp_token", "sync_token")
    @classmethod
    def _is_header_safe(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else "x"
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("a token must be printable ASCII without spaces")
        return value

    @property
    def is_loopback_bind(self) -> bool:
        return is_loopback(self.host)

    @property
    def is_loopback_url(self) -> bool:
        """Whether clients reach this server on this machine only, as far as PUBLIC_URL says."""
        return not self.public_url or is_loopback(urlsplit(self.public_url).hostname or "")


def _credential(name: str) -> str | None:
    """The file of a credential that systemd handed to this process (`LoadCredential`), if there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    file = os.path.join(folder, name)
    try:
        os.stat(file)
    except FileNotFoundError:
        return None
    except OSError:  # it is there: reading it fails, and says so, rather than that other tokens are used
        pass
    return file


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` win over the environment.

    `MEMORY_ENV_FILE` names another file than `.env` in the current directory.

    Raises:
        InvalidArgument: A value is out of range; the message names the variable and never the value.
    """
    try:
        return Settings(**{"_env_file": os.environ.get("MEMORY_ENV_FILE") or ".env", **overrides})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}" for item in error.errors()
        )
        raise InvalidArgument(f"The settings are not valid: {problems}", hint="See docs/settings.md") from None
