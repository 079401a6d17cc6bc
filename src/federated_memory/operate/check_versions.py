"""The versions of one document: the log and the copies (SPEC: CHECK-3)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields

from federated_memory.fs import Folder, NotRegular
from federated_memory.names import etag_of
from federated_memory.operate.findings import Finding, error, warning
from federated_memory.operate.tree import is_leftover, leftover
from federated_memory.store.versions import COLLECTED, LOG, Version, collected_below, file_name

_BACKUP = "Restore it from a backup"


class VersionFolder:
    """`journalled` versions may still lack their copy or their line; the next start completes them."""

    def __init__(self, where: str, journalled: Sequence[Version], counts: Counter[str]) -> None:
        self._where = where
        self._journalled = journalled
        self._counts = counts
        self._findings: list[Finding] = []
        self._copies: dict[str, str] = {}
        """Name of each copy that was read → SHA-256."""
        self._log: list[Version] = []
        self._below = 0
        """Copies of earlier versions were removed on purpose."""

    def read(self, workspace: Folder, folders: Sequence[str], history: Sequence[Version] | None) -> list[Version]:
        """The log, oldest first, after a look at all that is there."""
        try:
            with workspace.folder(*folders) as folder:
                self._log = self._read_log(folder)
                self._read_copies(folder)
        except FileNotFoundError:
            pass
        except NotRegular:
            self._add(error(self._where, "no folder, or behind a symlink; its versions cannot be read", _BACKUP))
        except OSError as problem:
            self._add(error(self._where, f"cannot be read: {problem.strerror}", "Check its owner and mode"))
        self._ensure_contiguous()
        if history is not None:
            self._compare_history(history)
        return self._log

    # -- the log

    def _read_log(self, folder: Folder) -> list[Version]:
        try:
            lines = folder.read(LOG).split(b"\n")
        except FileNotFoundError:
            return []
        if lines.pop():
            self._add_log(len(lines) + 1, "is cut off: no line break ends it", "Stop the server and add the line break")
        found = []
        for number, line in enumerate(lines, 1):
            entry = _parse(line)
            if entry is not None:
                found.append(entry)
            elif not _is_torn(line, lines[number] if number < len(lines) else b""):
                self._add_log(number, "cannot be read: that version is not listed any more", _BACKUP)
        return found

    def _ensure_contiguous(self) -> None:
        before = 0
        for entry in self._log:
            expected = before + (entry.operation != "delete")
            if entry.version != expected:
                self._add(
                    error(
                        f"{self._where}/{LOG}",
                        f"version {entry.version} ({entry.operation}) follows version {before}: "
                        "lines are missing, or not in order",
                        _BACKUP,
                    )
                )
            before = entry.version

    def _compare_history(self, history: Sequence[Version]) -> None:
        """Every line is a change of the feed, and every change has its line."""
        written = [*self._log, *(entry for entry in self._journalled if entry not in self._log)]
        told, lines = set(history), set(written)
        # What stands before the first line that the feed knows is older than the feed, which may have been made anew.
        first = next((at for at, entry in enumerate(written) if entry in told), len(written))
        unknown = [entry for entry in written if entry not in told]
        older = set(written[:first])
        for change in history:
            if change in lines:
                continue
            twin = next((entry for entry in unknown if _is_same_change(entry, change)), None)
            if twin is None:
                self._add(
                    error(
                        f"{self._where}/{LOG}",
                        f"lacks the line of version {change.version} ({change.operation}, {change.at})",
                        _BACKUP,
                    )
                )
            else:
                unknown.remove(twin)
                names = " and ".join(_differing(twin, change))
                self._add(
                    error(
                        f"{self._where}/{LOG}",
                        f"the line of version {change.version} ({change.operation}) differs from "
                        f"the change feed in {names}",
                        _BACKUP,
                    )
                )
        for entry in unknown:
            if entry not in older:
                self._add(
                    error(
                        f"{self._where}/{LOG}",
                        f"the line of version {entry.version} ({entry.operation}, {entry.at}) is no change of the feed",
                        "Restore the whole root from one backup",
                    )
                )

    # -- the copies

    def _read_copies(self, folder: Folder) -> None:
        for entry in folder.entries():
            if entry.name == LOG:
                continue
            if entry.name == COLLECTED:
                self._below = collected_below(folder)
                continue
            if is_leftover(entry.name):
                self._add(leftover(f"{self._where}/{entry.name}"))
                continue
            try:
                data = folder.read(entry.name)
            except FileNotFoundError:
                continue
            except OSError as problem:
                self._copies[entry.name] = f"cannot be read: {problem.strerror}"
                continue
            self._counts["versions"] += 1
            self._counts["bytes"] += len(data)
            self._copies[entry.name] = etag_of(data)

    def findings(self, newest_text: bytes | None) -> list[Finding]:
        """All of them; `newest_text` is the document's own text when that is the newest version's."""
        newest = etag_of(newest_text) if newest_text is not None else ""
        return [*self._findings, *self._copy_findings(newest)]

    def _copy_findings(self, newest: str) -> Iterator[Finding]:
        pending = {file_name(entry.version) for entry in self._journalled}
        wanted = {file_name(entry.version): entry for entry in self._log if entry.operation != "delete"}
        for name, entry in wanted.items():
            found = self._copies.pop(name, "missing: its text is lost")
            if found == entry.etag or name in pending or (entry.version < self._below and found.startswith("missing")):
                continue
            problem = found if " " in found else f"damaged: SHA-256 {found[:12]}, the log has {entry.etag[:12]}"
            advice = "Copy the document itself over it: it has this text" if entry.etag == newest else _BACKUP
            yield error(f"{self._where}/{name}", f"version {entry.version} is {problem}", advice)
        for name in self._copies.keys() - pending:
            yield warning(
                f"{self._where}/{name}", "no line of the log has a copy of this name", "Move it elsewhere, or delete it"
            )

    def _add_log(self, number: int, problem: str, advice: str) -> None:
        self._add(error(f"{self._where}/{LOG}", f"line {number} {problem}", advice))

    def _add(self, finding: Finding) -> None:
        self._findings.append(finding)


def _parse(line: bytes) -> Version | None:
    try:
        found = json.loads(line)
        entry = Version(**{item.name: found[item.name] for item in fields(Version)})
    except (ValueError, KeyError, TypeError):
        return None
    texts = [value for name, value in asdict(entry).items() if name != "version"]
    return entry if type(entry.version) is int and all(isinstance(text, str) for text in texts) else None


def _is_torn(line: bytes, following: bytes) -> bool:
    """A line that a power cut tore, and that was then written again."""
    return following.startswith(line.rstrip(b"\0"))


def _is_same_change(entry: Version, change: Version) -> bool:
    return len(_differing(entry, change)) == 1


def _differing(entry: Version, change: Version) -> list[str]:
    return [item.name for item in fields(Version) if getattr(entry, item.name) != getattr(change, item.name)]
