"""Telling what a person typed from what the agent put under their name."""

from __future__ import annotations

_FAMILIES = ("command-", "local-command-", "bash-", "ide_")
_TAGS = frozenset({
    # Claude Code
    "system-reminder", "task-notification", "user-prompt-submit-hook", "session-start-hook", "teammate-message",
    "new-diagnostics",
    # Codex
    "environment_context", "user_instructions", "INSTRUCTIONS", "turn_aborted", "user_shell_command", "user_action",
    "skill", "subagent_notification", "permissions", "app-context", "collaboration_mode", "model_switch",
    # Gemini CLI
    "hook_context", "session_context", "state_snapshot",
})  # fmt: skip
# A message that opens so is injected up to the marker, or to its end where there is none.
_OPENINGS = {
    "Caveat: The messages below were generated": "",
    "This session is being continued from a previous conversation": "",
    "[Request interrupted by user": "",
    "Base directory for this skill:": "",
    "# AGENTS.md instructions": "</INSTRUCTIONS>",
    "# Context from my IDE setup:": "## My request for Codex:",
    "Another language model started to solve this problem": "",
    "This is the Gemini CLI. We are setting up the context": "",
}
_FIRST_WORDS = tuple(_OPENINGS)


def split_injected(text: str) -> tuple[str, str]:
    """A user message as (what was injected before, what the person wrote); either may be empty.

    A slash command counts as written by the person when its arguments are a sentence (`/plan add a cache`), and as
    injected when they are none or one word (`/clear`, `/model opus`).
    """
    start = _skip_space(text, 0)
    if text.startswith("<command-", start):
        return _split_command(text)
    position = start
    while (end := _injected_end(text, position)) > position:
        position = _skip_space(text, end)
    return (text[:position], text[position:]) if position > start else ("", text)


def _injected_end(text: str, start: int) -> int:
    """Where the injected piece that begins at `start` ends; `start` itself when a person's words begin there."""
    if text.startswith("<", start):
        return _tag_end(text, start)
    if text.startswith(_FIRST_WORDS, start):
        marker = next(end for opening, end in _OPENINGS.items() if text.startswith(opening, start))
        found = text.find(marker, start) if marker else -1
        return found + len(marker) if found >= 0 else len(text)
    return start


def _tag_end(text: str, start: int) -> int:
    name = text[start + 1 : start + 40].partition(">")[0].partition(" ")[0]
    if name not in _TAGS and not name.startswith(_FAMILIES):
        return start
    closing = f"</{name}"
    found = text.find(closing, start)
    if found < 0:
        return len(text)
    return (text.find(">", found) + 1) or len(text)


def _split_command(text: str) -> tuple[str, str]:
    arguments = _between(text, "command-args")
    if len(arguments.split(maxsplit=1)) < 2:
        return text, ""
    after = text.partition("</command-args>")[2]
    return "", f"{_between(text, 'command-name')} {arguments}{after}".strip()


def _between(text: str, tag: str) -> str:
    return text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].strip()


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
