"""Text that agents say to each other: limits, and what cannot be stored (SPEC: ROOM-8)."""

from __future__ import annotations

from federated_memory.errors import InvalidArgument, TooLarge


def ensure_text(name: str, text: str, max_bytes: int, *, may_be_empty: bool = False) -> None:
    """Raises: InvalidArgument: blank, or no Unicode text. TooLarge: over the limit in UTF-8."""
    if not may_be_empty and not text.strip():
        raise InvalidArgument(f"{name} is empty", hint="Say something")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} holds a lone surrogate", hint="Send Unicode text") from None
    if size > max_bytes:
        raise TooLarge(
            f"{name} has {size} bytes, the limit is {max_bytes}", hint="Store it with write_knowledge and name its path"
        )


def ensure_line(name: str, text: str, max_characters: int) -> None:
    """Raises: InvalidArgument: more than one line, control characters. TooLarge: over the limit."""
    if len(text) > max_characters:
        raise TooLarge(f"{name} has over {max_characters} characters", hint="Shorten it")
    if not text.isprintable():
        raise InvalidArgument(f"{name} holds control characters", hint="Use one line of plain text")
