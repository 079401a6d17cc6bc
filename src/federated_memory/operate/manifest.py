"""What a backup holds: every file with its size and SHA-256, inside of the archive and beside it (SPEC: BACKUP-2)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from federated_memory import __version__
from federated_memory.errors import InvalidArgument, UnsupportedFormat
from federated_memory.fs import Folder

MANIFEST = "MANIFEST.json"
"""The archive's last member: hashes are known once the bytes have gone by."""
FORMAT = 1
_BESIDE = ".json"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a backup; `path` is below the root."""

    path: str
    size: int
    sha256: str
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`sha256` and `verified_at` are of the archive file itself, and stand only in the copy beside it."""

    created_at: str
    files: tuple[File, ...]
    version: str = __version__
    format: int = FORMAT
    sha256: str = ""
    size: int = 0
    verified_at: str = ""
    paths: frozenset[str] = field(default=frozenset(), compare=False)

    def to_bytes(self) -> bytes:
        found = asdict(replace(self, paths=frozenset()))
        del found["paths"]
        return json.dumps(found, ensure_ascii=True).encode() + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Raises: UnsupportedFormat: of a newer version. InvalidArgument: no manifest."""
    try:
        found = json.loads(data)
        number = int(found["format"])
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument("The backup's manifest is damaged", hint="Use another backup") from None
    if number > FORMAT:
        raise UnsupportedFormat(
            f"The backup has format {number}, this version reads up to {FORMAT}",
            hint=f"Install federated-memory {found.get('version', '')} or newer",
        )
    try:
        files = tuple(
            File(str(row["path"]), int(row["size"]), str(row["sha256"]), int(row["modified_ns"]))
            for row in found["files"]
        )
        return Manifest(
            created_at=str(found["created_at"]), files=files, version=str(found["version"]), format=number,
            sha256=str(found["sha256"]), size=int(found["size"]), verified_at=str(found["verified_at"]),
            paths=frozenset(file.path for file in files),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument("The backup's manifest is damaged", hint="Use another backup") from None


def read_beside(archive: Path) -> Manifest | None:
    """The manifest beside an archive; None when it is missing, damaged, or of another file."""
    try:
        found = parse_manifest(archive.with_name(archive.name + _BESIDE).read_bytes())
    except (OSError, InvalidArgument, UnsupportedFormat):
        return None
    try:
        return found if os.stat(archive).st_size == found.size else None
    except OSError:
        return None


def write_beside(folder: Folder, name: str, manifest: Manifest) -> None:
    folder.replace(name + _BESIDE, manifest.to_bytes())


def remove_both(folder: Folder, name: str) -> None:
    for found in (name, name + _BESIDE):
        if folder.exists(found):
            folder.remove(found)
    folder.sync_names()
