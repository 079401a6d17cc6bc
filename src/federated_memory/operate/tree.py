"""The names in a workspace's folder: what is ours, what was put there by hand, what is in the way (SPEC: CHECK-5)."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field

from federated_memory.errors import InvalidName
from federated_memory.fs import Folder
from federated_memory.names import document_path_problem, fold, parse_session_id
from federated_memory.operate.findings import DELETE, MOVE, Finding, error, info, warning
from federated_memory.store.memory_file import memory_id_of, tombstone_id_of

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.tmp\Z", re.DOTALL)
_SUFFIX = ".jsonl.gz"
_OWN = frozenset({"identity.json", "overview.md", ".versions", "knowledge", "sessions", "memories"})


@dataclass(slots=True)
class Tree:
    """`documents` and `versions` are (kind, path); `sessions`: id → files below `sessions/`."""

    path: str
    documents: set[tuple[str, str]] = field(default_factory=set)
    versions: set[tuple[str, str]] = field(default_factory=set)
    sessions: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    folded: dict[str, str] = field(default_factory=dict)

    def add_session_file(self, session_id: str, file: str) -> None:
        self.sessions.setdefault(session_id, []).append(file)


def read_tree(workspace: Folder, path: str) -> Tree:
    """Everything below the open folder of a workspace; `path` is its own, below the root."""
    tree = Tree(path)
    for entry in workspace.entries():
        name = entry.name
        where = f"{path}/{name}"
        kind = kind_of(entry)
        wanted = "file" if name in ("identity.json", "overview.md") else "folder"
        if name in _OWN and kind != wanted:
            tree.findings.append(_in_the_way(where, kind, wanted))
        elif name == "overview.md":
            tree.documents.add(("overview", name))
        elif name == ".versions":
            _versions(tree, workspace, name, where, "overview")
        elif name == "knowledge":
            with workspace.folder(name) as knowledge:
                _documents(tree, knowledge, where, "")
        elif name == "memories":
            with workspace.folder(name) as memories:
                _memories(tree, memories, where)
        elif name == "sessions":
            with workspace.folder(name) as sessions:
                _years(tree, sessions, where)
        elif name not in _OWN:
            tree.findings.append(_foreign(where, name))
    return tree


def kind_of(entry: os.DirEntry[str]) -> str:
    """`file`, `folder`, or what it is instead; `gone` when it has just been removed."""
    try:
        return kind_of_mode(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return "gone"


def kind_of_mode(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def is_leftover(name: str) -> bool:
    """Whether this is how a write names its temporary file."""
    return bool(_LEFTOVER.match(name))


def leftover(path: str) -> Finding:
    return warning(path, "left by a write that was interrupted; it was never acknowledged", DELETE)


def _foreign(where: str, name: str) -> Finding:
    if is_leftover(name):
        return leftover(where)
    return info(where, "not ours: left alone, not served")


def _in_the_way(where: str, kind: str, wanted: str) -> Finding:
    return error(where, f"a {kind} stands where a {wanted} belongs; it is never followed or read", MOVE)


def _documents(tree: Tree, folder: Folder, where: str, prefix: str) -> None:
    for entry in folder.entries():
        path, inner = prefix + entry.name, f"{where}/{entry.name}"
        kind = kind_of(entry)
        if not prefix and entry.name == ".versions" and kind == "folder":
            _versions(tree, folder, entry.name, inner, "knowledge")
        elif entry.name.startswith(".") and (is_leftover(entry.name) or not entry.name.endswith(".md")):
            tree.findings.append(_foreign(inner, entry.name))
        elif kind == "folder":
            if _is_legal(tree, inner, path + "/x.md") and _is_unique(tree, inner, path):
                with folder.folder(entry.name) as below:
                    _documents(tree, below, inner, path + "/")
        elif kind == "file":
            if _is_legal(tree, inner, path) and _is_unique(tree, inner, path):
                tree.documents.add(("knowledge", path))
        elif kind != "gone":
            tree.findings.append(warning(inner, f"a {kind}: never followed, not served", MOVE))


def _is_legal(tree: Tree, where: str, path: str) -> bool:
    problem = document_path_problem(path)
    if problem:
        tree.findings.append(warning(where, f"not a name that a document may have: {problem}; not served", MOVE))
    return not problem


def _is_unique(tree: Tree, where: str, path: str) -> bool:
    """Reports the second of two names; both are looked at all the same."""
    other = tree.folded.setdefault(fold(path), path)
    if other != path:
        tree.findings.append(
            warning(where, f"differs from {other} only in case: one of them is lost on a Mac or on Windows", MOVE)
        )
    return True


def _versions(tree: Tree, parent: Folder, name: str, where: str, kind: str, prefix: str = "") -> None:
    """Folders whose names end in `.md` hold the versions of one document; others are folders of its path."""
    with parent.folder(name) as folder:
        for entry in folder.entries():
            path, inner = prefix + entry.name, f"{where}/{entry.name}"
            if kind_of(entry) != "folder":
                tree.findings.append(_foreign(inner, entry.name))
            elif not entry.name.endswith(".md"):
                _versions(tree, folder, entry.name, inner, kind, path + "/")
            elif document_path_problem(path) or (kind == "overview" and path != "overview.md"):
                tree.findings.append(warning(inner, "versions of a name that no document can have", MOVE))
            else:
                tree.versions.add((kind, path))


def _memories(tree: Tree, memories: Folder, where: str) -> None:
    for year in memories.entries():
        inner = f"{where}/{year.name}"
        kind = kind_of(year)
        if year.name == ".tombstones" and kind == "folder":
            with memories.folder(year.name) as folder:
                for entry in folder.entries():
                    _memory(tree, entry, f"{inner}/{entry.name}", entry.name, "tombstone")
        elif not re.fullmatch("[0-9]{4}", year.name) or kind != "folder":
            tree.findings.append(_stray(inner, year, "memory"))
        else:
            with memories.folder(year.name) as folder:
                for month in folder.entries():
                    if not re.fullmatch("0[1-9]|1[0-2]", month.name) or kind_of(month) != "folder":
                        tree.findings.append(_stray(f"{inner}/{month.name}", month, "memory"))
                        continue
                    with folder.folder(month.name) as below:
                        for entry in below.entries():
                            path = f"{year.name}/{month.name}/{entry.name}"
                            _memory(tree, entry, f"{where}/{path}", path, "memory")


def _memory(tree: Tree, entry: os.DirEntry[str], where: str, path: str, kind: str) -> None:
    known = memory_id_of(path) if kind == "memory" else tombstone_id_of(path)
    if known and kind_of(entry) == "file":
        tree.documents.add((kind, path))
    else:
        tree.findings.append(_stray(where, entry, "memory"))


def _years(tree: Tree, sessions: Folder, where: str) -> None:
    for year in sessions.entries():
        inner = f"{where}/{year.name}"
        if not re.fullmatch("[0-9]{4}", year.name) or kind_of(year) != "folder":
            tree.findings.append(_stray(inner, year))
            continue
        with sessions.folder(year.name) as folder:
            for month in folder.entries():
                if not re.fullmatch("0[1-9]|1[0-2]", month.name) or kind_of(month) != "folder":
                    tree.findings.append(_stray(f"{inner}/{month.name}", month))
                    continue
                with folder.folder(month.name) as below:
                    _month(tree, below, f"{inner}/{month.name}", f"{year.name}/{month.name}/")


def _month(tree: Tree, month: Folder, where: str, prefix: str) -> None:
    for entry in month.entries():
        name, kind = entry.name, kind_of(entry)
        suffix = _SUFFIX if name.endswith(_SUFFIX) else ".json"
        session_id = name.removesuffix(suffix)
        if name == ".revisions" and kind == "folder":
            _revisions(tree, month, f"{where}/{name}", prefix)
        elif name.endswith(suffix) and kind == "file" and _is_session_id(session_id):
            tree.add_session_file(session_id, prefix + name)
        else:
            tree.findings.append(_stray(f"{where}/{name}", entry))


def _revisions(tree: Tree, month: Folder, where: str, prefix: str) -> None:
    with month.folder(".revisions") as folder:
        for session in folder.entries():
            if kind_of(session) != "folder" or not _is_session_id(session.name):
                tree.findings.append(_stray(f"{where}/{session.name}", session))
                continue
            with folder.folder(session.name) as below:
                for entry in below.entries():
                    if kind_of(entry) == "file" and re.fullmatch(r"[1-9][0-9]{0,8}\.jsonl\.gz", entry.name):
                        tree.add_session_file(session.name, f"{prefix}.revisions/{session.name}/{entry.name}")
                    else:
                        tree.findings.append(_stray(f"{where}/{session.name}/{entry.name}", entry))


def _stray(where: str, entry: os.DirEntry[str], what: str = "session") -> Finding:
    kind = kind_of(entry)
    if is_leftover(entry.name):
        return leftover(where)
    if entry.name.startswith(".") and kind in ("file", "folder"):
        return info(where, "not ours: left alone, not served")
    if kind not in ("file", "folder"):
        return warning(where, f"a {kind}: never followed, not served", MOVE)
    return warning(where, f"no {what} has a {kind} of this name here; not served", MOVE)


def _is_session_id(text: str) -> bool:
    try:
        return parse_session_id(text) == text
    except InvalidName:
        return False
