"""The parameters that many tools share, described once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from federated_memory.service.pages import DEFAULT_MAX_BYTES, LEAST_MAX_BYTES, MOST_MAX_BYTES

Id = Annotated[str, Field(max_length=200)]
WorkspaceId = Annotated[str, Field(max_length=200, description="Default: yours.")]
AnyWorkspace = Annotated[str, Field(max_length=200)]
SessionId = Annotated[str, Field(max_length=200)]
Path = Annotated[str, Field(max_length=1_000, description="As `design/auth.md`.")]
Text = Annotated[str, Field(description="Whole, Markdown.")]
Binding = Annotated[str | None, Field(max_length=2_000)]
IfMatch = Annotated[str | None, Field(max_length=200, description="`etag` of your last read; empty: only create.")]
Name = Annotated[str, Field(max_length=1_000)]
Time = Annotated[str | None, Field(max_length=40)]
Since = Annotated[str | None, Field(max_length=40, description="RFC 3339 date or time.")]
Limit = Annotated[int, Field(ge=1, le=1_000)]
Lines = Annotated[int, Field(ge=1, le=1_000_000)]
Offset = Annotated[int, Field(ge=0, description="Lines to skip.")]
ByteOffset = Annotated[int, Field(ge=0, description="Inside a cut line.")]
Version = Annotated[int, Field(ge=1)]
Cursor = Annotated[str | None, Field(max_length=4_000)]
MaxBytes = Annotated[int, Field(ge=LEAST_MAX_BYTES, le=MOST_MAX_BYTES)]
Query = Annotated[str, Field(max_length=20_000)]
Mode = Annotated[
    Literal["ranked", "literal", "regex"],
    Field(description="regex: RE2."),
]
Role = Literal["user", "assistant", "tool", "system"]
MemoryKinds = Annotated[str, Field(max_length=200, description="As `decision,bug`.")]
Tags = Annotated[list[Annotated[str, Field(max_length=100)]] | None, Field(max_length=20)]
AsOf = Annotated[str | None, Field(max_length=40, description="What was known then.")]
Hidden = Annotated[bool, Field(description="Expired and deleted.")]
BYTES = DEFAULT_MAX_BYTES
