"""What the shared state answers, in tools and HTTP alike."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from federated_memory.service.results import Result


class _Valued(Result):
    """A result whose `value` may be null, which is not the same as absent."""

    value: Any = None

    @property
    def has_value(self) -> bool:
        raise NotImplementedError

    def as_dict(self) -> dict[str, object]:
        found = super().as_dict()
        if self.has_value:
            found["value"] = self.value
        return found


class StateValue(_Valued):
    key: str
    exists: bool
    version: int = Field(description="Of this value: pass it as `if_version`. 0: the key is absent.")
    updated_at: str | None = None
    updated_by: str | None = None
    workspace_id: str | None = Field(default=None, description="That the writer was bound to.")
    expires_at: str | None = None
    bytes: int | None = Field(default=None, description="Of the JSON, where it is left out for its length.")
    truncated: bool = False

    @property
    def has_value(self) -> bool:
        return self.exists and not self.truncated


class StateList(Result):
    values: list[StateValue]
    next_cursor: str | None = None

    def as_dict(self) -> dict[str, object]:
        return {"values": [row.as_dict() for row in self.values], "next_cursor": self.next_cursor}


class StateWritten(Result):
    key: str
    version: int
    operation: Literal["set", "delete", "none"] = Field(description="none: it was absent already.")
    updated_at: str | None = None
    expires_at: str | None = None


class StateBatch(Result):
    results: list[StateWritten]


class StateVersion(_Valued):
    version: int
    operation: Literal["set", "delete", "expire"]
    at: str
    by: str
    workspace_id: str
    expires_at: str | None = None
    bytes: int | None = None
    truncated: bool = False

    @property
    def has_value(self) -> bool:
        return self.operation == "set" and not self.truncated


class StateHistory(Result):
    key: str
    versions: list[StateVersion]
    next_cursor: str | None = None

    def as_dict(self) -> dict[str, object]:
        rows = [row.as_dict() for row in self.versions]
        return {"key": self.key, "versions": rows, "next_cursor": self.next_cursor}


class StateSchemaRow(Result):
    key: str = Field(description="The key, or glob, that it is for.")
    state_schema: Any = Field(description="JSON Schema, Draft 2020-12.")
    version: int
    updated_at: str
    updated_by: str


class StateSchemas(Result):
    schemas: list[StateSchemaRow]
    next_cursor: str | None = None

    def as_dict(self) -> dict[str, object]:
        return {"schemas": [row.model_dump(mode="json") for row in self.schemas], "next_cursor": self.next_cursor}


class StateViolation(Result):
    key: str
    path: str = Field(description="JSON pointer into the value.")
    reason: str


class StateSchemaWritten(Result):
    key: str
    version: int | None = Field(default=None, description="None: removed.")
    violations: list[StateViolation] = Field(description="Values that do not hold it, and stay: at most 20.")
