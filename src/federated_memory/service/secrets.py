"""Secrets in what is stored: counted behind the acknowledgement, or refused before (SPEC: REDACT-10 to REDACT-12)."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from federated_memory.errors import FederatedMemoryError, InvalidArgument, NotFound
from federated_memory.names import DocumentPath, SessionId, WorkspaceId
from federated_memory.redaction import Finding, SecretScanner
from federated_memory.service.core import Core
from federated_memory.settings import Settings
from federated_memory.store.changes import Kind
from federated_memory.store.document import Key
from federated_memory.store.secret_findings import Flag, SecretFindings

logger = logging.getLogger(__name__)

_CHANGES_AT_ONCE = 200
_LONGEST_LINE_BYTES = 8 * 1024**2
_LAP_BYTES = 4 * 1024


@functools.lru_cache(maxsize=1)
def scanner() -> SecretScanner:
    """Made when it is first needed: it takes 50 ms that a start has no use for."""
    return SecretScanner()


def ensure_no_secret(settings: Settings, data: bytes | Callable[[], bytes]) -> None:
    """`data` may be what makes the text: that is asked only where it matters.

    Raises:
        InvalidArgument: The text holds a secret, and MEMORY_SECRET_POLICY refuses those.
    """
    if settings.secret_policy == "refuse":
        text = data if isinstance(data, bytes) else data()
        _refuse(scanner().findings(text.decode("utf-8", "replace")))


def line_guard(settings: Settings) -> LineGuard | None:
    """What looks at an upload while it streams in; None when the policy only counts."""
    return LineGuard() if settings.secret_policy == "refuse" else None


class LineGuard:
    """Looks at whole lines. A line of over 8 MiB is looked at in parts that lap over."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines = 0

    def feed(self, data: bytes) -> None:
        """Raises: InvalidArgument: a line holds a secret."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._look(whole)
            self._lines += whole.count(b"\n") + 1
        self._rest = rest
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._look(self._rest)
            self._rest = self._rest[-_LAP_BYTES:]

    def finish(self) -> None:
        """Raises: InvalidArgument: the unterminated last line holds a secret."""
        self._look(self._rest)

    def _look(self, lines: bytes) -> None:
        _refuse(Finding(found.kind, found.line + self._lines) for found in scanner().lines(lines))


def _refuse(findings: Iterable[Finding]) -> None:
    for found in findings:
        raise InvalidArgument(
            f"What looks like a secret ({found.kind}) is in line {found.line}; nothing was stored",
            hint=f"Write [REDACTED:{found.kind}] in its place, change the secret where it is used, and send it again",
            kind=found.kind,
            line=found.line,
        )


class Secrets:
    """Follows the change feed with a cursor of its own, so that no write waits for it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._findings = SecretFindings(core.root.database)

    def flagged(self) -> list[Flag]:
        return self._findings.flagged()

    @property
    def pending(self) -> int:
        """How many changes were not looked at yet."""
        return self._core.root.feed.head() - self._findings.cursor(scanner().version)

    def catch_up(self) -> None:
        """Look at everything that has changed. Stopping at any point and going on later gives the same flags."""
        feed = self._core.root.feed
        version = scanner().version
        number = self._findings.cursor(version)
        if not number and feed.head():
            self._findings.commit(version, 0, (), ())
        while changes := feed.after(number, _CHANGES_AT_ONCE):
            number = changes[-1].number
            operations: dict[tuple[str, Kind, str], set[str]] = {}
            for change in changes:
                operations.setdefault((change.workspace_id, change.kind, change.key), set()).add(change.operation)
            found: list[Flag] = []
            gone: list[tuple[str, str, str]] = []
            for name, kinds in operations.items():
                flag = self._look(*name, has_only_grown=kinds <= {"appended"})
                if flag is None or (not flag.counts and flag.kind != "session"):
                    gone.append(name)
                else:
                    found.append(flag)
            self._findings.commit(version, number, found, gone)

    def _look(self, workspace_id: str, kind: Kind, key: str, *, has_only_grown: bool) -> Flag | None:
        """What is in it now; None when it is gone."""
        try:
            if kind == "session":
                return self._session(WorkspaceId(workspace_id), SessionId(key), has_only_grown)
            if kind != "workspace":
                return self._document(Key(WorkspaceId(workspace_id), kind, DocumentPath(key)))
        except NotFound:
            pass
        except FederatedMemoryError as error:
            # Damaged or too large: `check` reports it, and what is made of it later is looked at then.
            logger.warning("not looked at for secrets", extra={"kind": kind, "code": error.code})
        return None

    def _document(self, key: Key) -> Flag:
        _, data = self._core.documents.read(key)
        counts = Counter(found.kind for found in scanner().findings(data.decode("utf-8", "replace")))
        return _flagged(Flag(key.workspace_id, key.kind, key.path, 0, 0, counts))

    def _session(self, workspace_id: WorkspaceId, session_id: SessionId, has_only_grown: bool) -> Flag:
        """Only what was appended, when it is the same transcript that has grown."""
        archive = self._core.archives.find(workspace_id, session_id)
        known = self._findings.find(workspace_id, "session", session_id) if has_only_grown else None
        if known and (not known.lines or known.revision != archive.revision or known.lines > archive.lines):
            known = None
        first = known.lines if known else 0
        counts = Counter(known.counts if known else {})
        for line, raw in self._core.archives.members(archive, first):
            counts.update(found.kind for found in scanner().lines(_from_line(raw, first - line)))
        # What ends without a newline may go on in its last line: then all of it is looked at again.
        whole = 0 if archive.has_open_line else archive.lines
        return _flagged(Flag(workspace_id, "session", session_id, archive.revision, whole, counts))


def _flagged(flag: Flag) -> Flag:
    if flag.counts:
        logger.info(
            "secrets found in what was stored",
            extra={"workspace_id": flag.workspace_id, "kind": flag.kind, "kinds": ",".join(sorted(flag.counts))},
        )
    return flag


def _from_line(raw: bytes, skip: int) -> bytes:
    """Without the first lines, which were looked at before."""
    for _ in range(max(0, skip)):
        raw = raw[raw.find(b"\n") + 1 :] if b"\n" in raw else b""
    return raw
