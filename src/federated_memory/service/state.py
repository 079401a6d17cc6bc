"""Shared state: small JSON values that agents read, compare and set (SPEC: STATE-1 to STATE-8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Literal

import orjson

from federated_memory.auth.caller import Caller, Role
from federated_memory.errors import InvalidArgument, TooLarge
from federated_memory.names import glob_matches, is_glob, parse_key_glob, parse_state_key
from federated_memory.service.core import Core
from federated_memory.service.key_schemas import Violation, dump_json, parse_schema, violations
from federated_memory.service.pace import Pace
from federated_memory.service.pages import DEFAULT_MAX_BYTES, ENVELOPE_BYTES, decode_cursor, encode_cursor, fit_rows
from federated_memory.service.secrets import ensure_no_secret
from federated_memory.service.state_results import (
    StateBatch,
    StateHistory,
    StateList,
    StateSchemaRow,
    StateSchemas,
    StateSchemaWritten,
    StateValue,
    StateVersion,
    StateViolation,
    StateWritten,
)
from federated_memory.service.token_admin import rfc3339
from federated_memory.store.shared_state import Author, SchemasChanged, SharedState, StateChange, Write, Written

READERS: tuple[Role, ...] = ("ai", "read", "admin")
MOST_IN_A_BATCH = 500
MAX_TTL_SECONDS = 10 * 365 * 86_400.0
_MOST_SCHEMAS = 1_000
_MOST_NUMBER = (1 << 62) - 1
_MOST_VIOLATIONS = 20

OnViolation = Literal["refuse", "report"]


class State:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._pace = Pace(core.settings.state_writes_per_second, "writes of shared state a second with this token")

    @property
    def shared(self) -> SharedState:
        return self._core.state

    # -- reading

    def get(self, caller: Caller, key: str, max_bytes: int = DEFAULT_MAX_BYTES) -> StateValue:
        """The value of a key; `exists` tells an absent key from one whose value is null."""
        found = self._find(caller, key)
        if found is None:
            return StateValue(key=key, exists=False, version=0)
        return _value(found, max_bytes - ENVELOPE_BYTES)

    def get_whole(self, caller: Caller, key: str) -> dict[str, object]:
        """What `get` tells, whatever its length, ready to be sent: the value stays the JSON that it is kept as."""
        found = self._find(caller, key)
        if found is None:
            return {"key": key, "exists": False, "version": 0, "truncated": False}
        row: dict[str, object] = {
            "key": key, "exists": True, "value": orjson.Fragment(found.value or b"null"), "version": found.number,
            "updated_at": found.at, "updated_by": found.actor, "workspace_id": found.workspace_id,
        }  # fmt: skip
        if found.expires_at is not None:
            row["expires_at"] = _time(found.expires_at)
        return {**row, "truncated": False}

    def _find(self, caller: Caller, key: str) -> StateChange | None:
        name = parse_state_key(key)
        self._core.policy.ensure_reads_key(caller, name)
        return self.shared.get(name)

    def values(
        self, caller: Caller, prefix: str = "", *, limit: int, cursor: str | None, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> StateList:
        """What is there under a prefix, by key, as far as the caller may read it."""
        self._core.policy.ensure_role(caller, READERS)
        if prefix:
            parse_key_glob(prefix)
        if is_glob(prefix):
            raise InvalidArgument("`prefix` is no glob", hint="Pass how the keys begin, such as build/")
        position = decode_cursor(cursor, "state", str)
        after = str(position[0]) if position else ""
        reads = caller.grant.reads_key
        rows = (
            _value(found, max_bytes // 4)
            for found in self.shared.values(prefix, after, min(limit + 1, 500))
            if reads(found.key)
        )
        fitting, more = fit_rows(rows, limit, max_bytes)
        return StateList(values=fitting, next_cursor=encode_cursor("state", [fitting[-1].key]) if more else None)

    def history(
        self, caller: Caller, key: str, *, limit: int, cursor: str | None, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> StateHistory:
        """The versions of a key that are kept, newest first: what, who, when, and that it was deleted or ended."""
        name = parse_state_key(key)
        self._core.policy.ensure_reads_key(caller, name)
        position = decode_cursor(cursor, "state-history", int)
        before = min(max(int(position[0]), 0), _MOST_NUMBER) if position else None
        found = self.shared.history(name, before, limit + 1)
        rows, more = fit_rows((_version(change, max_bytes // 4) for change in found), limit, max_bytes)
        last = encode_cursor("state-history", [rows[-1].version]) if more else None
        return StateHistory(key=name, versions=rows, next_cursor=last)

    # -- writing

    def write(self, caller: Caller, writes: Sequence[Write], binding: str | None) -> list[StateWritten]:
        """All of the writes or none; durable when this returns.

        Raises:
            Conflict: A key is not at its `if_version`; the facts say at which it is.
            InvalidArgument: A value does not hold the schema of its key; the facts say where and why.
            Forbidden, NotBound: The caller may not write one of the keys, or is bound to no workspace.
        """
        author = self.author(caller, writes, binding)
        while True:
            try:
                return told(writes, self.begin(author, writes, alone=True).result())
            except SchemasChanged:
                continue

    def author(self, caller: Caller, writes: Sequence[Write], binding: str | None) -> Author:
        """Who writes, once it is proven that it may. Quick: nothing waits for a disk."""
        policy = self._core.policy
        workspace = policy.writer(caller, binding)
        for write in writes:
            policy.ensure_writes_key(caller, write.key)
        if len({write.key for write in writes}) < len(writes):
            raise InvalidArgument("A batch writes a key once", hint="Leave the earlier write of the key out")
        if not 1 <= len(writes) <= MOST_IN_A_BATCH:
            raise InvalidArgument(f"A batch has 1 to {MOST_IN_A_BATCH} writes", hint="Send several")
        self._pace.spend(caller.grant.fingerprint, len(writes))
        return Author(caller.actor, workspace.workspace_id)

    def begin(self, author: Author, writes: Sequence[Write], *, alone: bool) -> Future[Written]:
        """Look at the values and write them, or (unless `alone`) queue them for those who come meanwhile.

        The answer may be SchemasChanged: then begin again.
        """
        self._core.root.ensure_space()
        schemas_version = self.shared.schemas_version
        for write in writes:
            if write.value is not None:
                self._ensure_fits(write.key, write.value)
                ensure_no_secret(self._core.settings, write.value)
        return self.shared.write(writes, author, schemas_version, alone=alone)

    def is_looked_at(self, writes: Sequence[Write]) -> bool:
        """Whether a write takes a look that may take a while: at a schema, or for secrets."""
        return self._core.settings.secret_policy == "refuse" or any(
            glob_matches(pattern, write.key) for pattern in self.shared.schemas for write in writes
        )

    def parse_write(
        self, key: str, value: bytes | None, if_version: int | None = None, ttl_seconds: float | None = None
    ) -> Write:
        """`value` is JSON, None deletes. Raises: InvalidName, InvalidArgument, TooLarge."""
        name = parse_state_key(key)
        if if_version is not None and if_version < 0:
            raise InvalidArgument("if_version is the version of a value, or 0", hint="0: only if the key is absent")
        if ttl_seconds is not None and not 0 < ttl_seconds <= MAX_TTL_SECONDS:
            raise InvalidArgument("ttl_seconds is out of range", hint="More than 0, at most ten years")
        most = self._core.settings.max_state_bytes
        if value is not None and len(value) > most:
            raise TooLarge(f"The value is over {most} bytes", hint="Store it as knowledge, and its path here")
        return Write(name, value, if_version, ttl_seconds)

    def parse_value(self, value: object) -> bytes:
        """Raises: InvalidArgument: not to be kept as JSON."""
        return dump_json(value, "value")

    def _ensure_fits(self, key: str, text: bytes) -> None:
        schemas = [schema for pattern, schema in self.shared.schemas.items() if glob_matches(pattern, key)]
        value = orjson.loads(text) if schemas else None
        for schema in schemas:
            problems = violations(schema.text, value)
            if problems:
                first = problems[0]
                raise InvalidArgument(
                    f"The value of {key} does not hold the schema of {schema.pattern}, at {first.path or '/'}:"
                    f" {first.reason}",
                    hint="get_state_schema shows it", key=key, path=first.path, reason=first.reason,
                    violations=[{"path": each.path, "reason": each.reason} for each in problems],
                )  # fmt: skip

    # -- schemas

    def schemas_of(
        self, caller: Caller, key: str = "", *, limit: int, cursor: str | None, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> StateSchemas:
        """Those that hold for a key; those of a glob; or (empty) all that the caller may read."""
        policy = self._core.policy
        policy.ensure_role(caller, READERS)
        glob = parse_key_glob(key) if key else ""
        if glob and not is_glob(glob):
            policy.ensure_reads_key(caller, parse_state_key(glob))
        position = decode_cursor(cursor, "state-schemas", str)
        after = str(position[0]) if position else ""
        rows = (
            StateSchemaRow(
                key=found.pattern, state_schema=orjson.loads(found.text), version=found.version, updated_at=found.at,
                updated_by=found.actor,
            )
            for found in sorted(self.shared.schemas.values(), key=lambda found: found.pattern)
            if found.pattern > after and self._concerns(caller, found.pattern, glob)
        )  # fmt: skip
        fitting, more = fit_rows(rows, limit, max_bytes)
        last = encode_cursor("state-schemas", [fitting[-1].key]) if more else None
        return StateSchemas(schemas=fitting, next_cursor=last)

    @staticmethod
    def _concerns(caller: Caller, pattern: str, asked: str) -> bool:
        if asked and not is_glob(asked):
            return glob_matches(pattern, asked)
        return (not asked or pattern == asked) and caller.grant.reads_all_keys_of(pattern)

    def set_schema(
        self, caller: Caller, key: str, schema: object, *, on_violation: OnViolation, binding: str | None
    ) -> StateSchemaWritten:
        """Hold a key, or the keys of a glob, to a schema from now on.

        Raises:
            InvalidArgument: The schema is not valid; or (with `refuse`) there are values that do not hold it.
            Forbidden: The caller may not write every key of the glob.
        """
        glob, author = self._schema_author(caller, key, binding)
        text = parse_schema(schema)
        found: list[StateViolation] = []

        def check(values: Iterable[StateChange]) -> None:
            for violation in self._violations(caller, text, values):
                if on_violation == "refuse":
                    raise InvalidArgument(
                        f"{violation.key} does not hold the schema, at {violation.path or '/'}: {violation.reason}",
                        hint="Change the value first, or pass on_violation=report", key=violation.key,
                        path=violation.path, reason=violation.reason,
                    )  # fmt: skip
                if len(found) < _MOST_VIOLATIONS:
                    found.append(violation)

        since = self.shared.head()
        stem = glob.split("*")[0].split("?")[0]
        check(value for value in self.shared.values(stem) if value.number <= since and glob_matches(glob, value.key))
        written = self.shared.set_schema(glob, text, author, since, check, _MOST_SCHEMAS).result()
        assert written is not None
        return StateSchemaWritten(key=glob, version=written.version, violations=found)

    def remove_schema(self, caller: Caller, key: str, *, binding: str | None) -> StateSchemaWritten:
        """Raises: NotFound: it has none."""
        glob, author = self._schema_author(caller, key, binding)
        self.shared.set_schema(glob, None, author, 0, lambda _: None, _MOST_SCHEMAS).result()
        return StateSchemaWritten(key=glob, violations=[])

    def _schema_author(self, caller: Caller, key: str, binding: str | None) -> tuple[str, Author]:
        glob = parse_key_glob(key) if is_glob(key) else parse_state_key(key)
        policy = self._core.policy
        workspace = policy.writer(caller, binding)
        policy.ensure_writes_keys_of(caller, glob)
        self._pace.spend(caller.grant.fingerprint)
        self._core.root.ensure_space()
        return glob, Author(caller.actor, workspace.workspace_id)

    @staticmethod
    def _violations(caller: Caller, text: bytes, values: Iterable[StateChange]) -> Iterator[StateViolation]:
        """The first of each value that does not hold it. Of a value that the caller may not read, not where or why."""
        for value in values:
            problems = violations(text, orjson.loads(value.value or b"null"))
            if problems:
                first = problems[0] if caller.grant.reads_key(value.key) else Violation("", "not yours to read")
                yield StateViolation(key=value.key, path=first.path, reason=first.reason)

    # -- watching

    def readable_globs(self, caller: Caller, globs: Sequence[str]) -> tuple[str, ...]:
        """The globs of somebody who watches, parsed. Raises: Forbidden: there is nothing that it may read."""
        policy = self._core.policy
        policy.ensure_role(caller, READERS)
        for glob in globs:
            parse_key_glob(glob)
            if not is_glob(glob):
                policy.ensure_reads_key(caller, parse_state_key(glob))
        policy.ensure_reads_some_key(caller)
        return tuple(globs)


def told(writes: Sequence[Write], written: Written) -> list[StateWritten]:
    return [
        StateWritten(key=write.key, version=0, operation="none")
        if change is None
        else StateWritten(
            key=write.key, version=change.number, operation="set" if change.value is not None else "delete",
            updated_at=change.at, expires_at=_time(change.expires_at),
        )
        for write, change in zip(writes, written.answers, strict=True)
    ]  # fmt: skip


def state_row(change: StateChange) -> dict[str, object]:
    """A change as those who watch are told of it."""
    row: dict[str, object] = {"key": change.key, "version": change.number, "operation": change.operation}
    if change.value is not None:
        row["value"] = orjson.Fragment(change.value)
    if change.expires_at is not None:
        row["expires_at"] = _time(change.expires_at)
    return {**row, "at": change.at, "by": change.actor, "workspace_id": change.workspace_id}


def batch_of(results: list[StateWritten]) -> StateBatch:
    return StateBatch(results=results)


def _value(found: StateChange, budget: int) -> StateValue:
    data = found.value or b"null"
    is_long = len(data) > max(budget, 0)
    return StateValue(
        key=found.key, exists=True, value=None if is_long else orjson.loads(data), version=found.number,
        updated_at=found.at, updated_by=found.actor, workspace_id=found.workspace_id,
        expires_at=_time(found.expires_at), bytes=len(data) if is_long else None, truncated=is_long,
    )  # fmt: skip


def _version(change: StateChange, budget: int) -> StateVersion:
    is_long = change.value is not None and len(change.value) > budget
    return StateVersion(
        version=change.number, operation=change.operation, at=change.at, by=change.actor,
        value=None if is_long or change.value is None else orjson.loads(change.value),
        workspace_id=change.workspace_id, expires_at=_time(change.expires_at),
        bytes=len(change.value) if is_long and change.value is not None else None, truncated=is_long,
    )  # fmt: skip


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
