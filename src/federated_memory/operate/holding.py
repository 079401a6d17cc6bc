"""Which backups still hold something that was purged (SPEC: PURGE-3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from federated_memory.operate.backup import backups_in
from federated_memory.operate.backup_record import noted_backups


@dataclass(slots=True)
class Held:
    """Paths of archives; `unknown`: there is no manifest beside them."""

    holding: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def backups_holding(root: Path, kind: str, workspace_id: str, key: str) -> Held:
    """Of the folders that this root was ever backed up to, as far as they can be read from here."""
    found = Held()
    for folder in {noted.folder for noted in noted_backups(root)}:
        try:
            backups = backups_in(Path(folder))
        except OSError:
            found.unknown.append(folder)
            continue
        for backup in backups:
            path = str(Path(folder) / backup.name)
            if backup.manifest is None:
                found.unknown.append(path)
            elif any(_is_of(file, kind, workspace_id, key) for file in backup.manifest.paths):
                found.holding.append(path)
    found.holding.sort()
    found.unknown.sort()
    return found


def _is_of(path: str, kind: str, workspace_id: str, key: str) -> bool:
    top = f"workspaces/{workspace_id}/"
    if not path.startswith(top):
        return False
    inside = path.removeprefix(top)
    match kind:
        case "workspace":
            return True
        case "knowledge":
            return inside == f"knowledge/{key}" or inside.startswith(f"knowledge/.versions/{key}/")
        case "overview":
            return inside == "overview.md" or inside.startswith(".versions/overview.md/")
        case "memory":
            return inside.startswith("memories/") and inside.endswith(f"/{key}.md")
        case "session":
            name = inside.rsplit("/", 1)[-1]
            is_it = name in (f"{key}.jsonl.gz", f"{key}.json") or f"/.revisions/{key}/" in inside
            return inside.startswith("sessions/") and is_it
    return False
