"""The strings of a JSON value that a person could want to find."""

from __future__ import annotations

from collections.abc import Iterator

# Keys whose one-word values identify, date or encode; a sentence under such a key is read all the same.
_FRAMING = frozenset({
    "type", "role", "kind", "id", "uuid", "guid", "hash", "sha", "sha256", "etag", "status", "object", "version",
    "timestamp", "time", "ts", "date", "datetime", "at", "created_at", "updated_at", "createdAt", "updatedAt",
    "startTime", "endTime", "lastUpdated", "signature", "encrypted_content", "encoding", "mime", "mimeType",
    "media_type", "finish_reason", "stop_reason",
})  # fmt: skip
_IDENTIFYING = ("_id", "Id", "ID", "_uuid", "Uuid", "Hash")
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-\r\n"
_BLOB_CHARACTERS = 200


def strings_of(value: object) -> Iterator[str]:
    """The readable strings in `value`, in document order, at any depth; numbers and framing are left out."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if text := readable(value):
                yield text
        elif isinstance(value, dict):
            waiting.extend(item for key, item in reversed(value.items()) if not _is_framing(key, item))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def readable(text: str) -> str:
    """`text`, `[image]` for an inline image, or nothing when it is blank or encoded bytes."""
    if text.startswith("data:") and ";base64," in text[:100]:
        return "[image]" if text.startswith("data:image/") else ""
    if len(text) >= _BLOB_CHARACTERS and not text[:_BLOB_CHARACTERS].strip(_BASE64):
        return ""
    return "" if text.isspace() else text


def _is_framing(key: str, item: object) -> bool:
    if not isinstance(item, str):
        return False
    return (key in _FRAMING or key.endswith(_IDENTIFYING)) and " " not in item[:80]
