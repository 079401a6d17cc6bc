"""Names of one project: `_meta/project-aliases.json`, which an admin edits (SPEC: MEM-14)."""

from __future__ import annotations

import json
import threading

from federated_memory.fs.folder import storage_errors
from federated_memory.names import fold
from federated_memory.store.document import stamp_of
from federated_memory.store.root import Root

_FILE = "project-aliases.json"


class ProjectAliases:
    """Alias → project; an edit by hand counts at once. A file that is no JSON object of texts counts as empty."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._editing = threading.Lock()
        self._stamp = ""
        self._known: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        with self._lock:
            try:
                stamp = stamp_of(self._root.meta.stat(_FILE))
            except OSError:
                stamp, self._known = "", {}
            if stamp != self._stamp:
                self._known = self._load()
                self._stamp = stamp
            return dict(self._known)

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self._root.meta.read(_FILE))
        except (OSError, ValueError):
            return {}
        rows = found.items() if isinstance(found, dict) else ()
        return {alias: project for alias, project in rows if isinstance(project, str) and project and alias}

    def names_of(self, project: str) -> tuple[str, ...]:
        """The project under all its names, folded; itself alone when it has no others."""
        folded = {fold(alias): fold(name) for alias, name in self.all().items()}
        main = folded.get(fold(project), fold(project))
        return (main, *sorted(alias for alias, name in folded.items() if name == main and alias != main))

    def set(self, alias: str, project: str) -> None:
        """Let `alias` mean `project`; an empty project takes the alias back."""
        with self._editing, storage_errors():
            known = {name: told for name, told in self.all().items() if fold(name) != fold(alias)}
            if project:
                known[alias] = project
            self._root.meta.replace(_FILE, json.dumps(known, ensure_ascii=False, indent=1).encode() + b"\n")
