"""Claude Code: `~/.claude/projects/<cwd>/<session id>.jsonl`, one record per content block or event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from federated_memory.transcripts.blocks import content_turns, turn
from federated_memory.transcripts.generic import GENERIC
from federated_memory.transcripts.times import parse_time
from federated_memory.transcripts.turn import Agent, Facts, Role, Turn
from federated_memory.transcripts.values import mapping_in, text_in

_TITLES = {"summary": "summary", "ai-title": "aiTitle", "custom-title": "customTitle"}
# Echoes (`last-prompt`, `queue-operation`, `progress`), model requests and bookkeeping.
_NOISE = frozenset({
    "agent-color", "agent-name", "agent-setting", "atis-latch", "attachment", "attribution-snapshot",
    "content-replacement", "cost-state", "file-history-delta", "file-history-snapshot", "fork-context-ref",
    "last-prompt", "mode", "permission-mode", "progress", "queue-operation", "result", "speculation-accept",
    "started", "system", "tools-used", "worktree-state",
})  # fmt: skip
_OWN_TYPES = _NOISE | _TITLES.keys() | {"user", "assistant", "pr-link"}
_OWN_KEYS = frozenset({"sessionId", "uuid", "leafUuid", "messageId", "parentUuid"})


class ClaudeReader:
    agent: Agent = "claude-code"

    def recognises(self, record: Mapping[str, object]) -> bool:
        kind = text_in(record.get("type"))
        if kind in ("user", "assistant"):
            return isinstance(record.get("message"), dict) and not _OWN_KEYS.isdisjoint(record)
        known = kind in _OWN_TYPES or kind.startswith("api-request")
        return known and not _OWN_KEYS.isdisjoint(record) and "projectHash" not in record

    def turns(self, record: Mapping[str, object], line: int) -> Iterator[Turn]:
        """Each tool result once: `toolUseResult` only repeats the block in `message.content`."""
        kind = text_in(record.get("type"))
        at = parse_time(record.get("timestamp"))
        content = mapping_in(record.get("message")).get("content")
        if kind in ("user", "assistant") and isinstance(content, (str, list)):
            yield from content_turns(content, _role(record, kind), line, at)
        elif kind in _TITLES:
            yield from turn(line, "system", record.get(_TITLES[kind]), at)
        elif kind == "system":
            yield from turn(line, "system", record.get("content"), at)
        elif kind == "attachment":
            yield from _queued_prompt(mapping_in(record.get("attachment")), line, at)
        elif kind not in _NOISE and not kind.startswith("api-request"):
            yield from GENERIC.turns(record, line)

    def facts(self, record: Mapping[str, object]) -> Facts:
        kind = text_in(record.get("type"))
        at = parse_time(record.get("timestamp"))
        return Facts(
            times=(at,) if at else (),
            # Title records of a forked session may still name the session it came from.
            native_id="" if kind in _TITLES else text_in(record.get("sessionId")),
            title=text_in(record.get(_TITLES[kind])) if kind in _TITLES else "",
            titled_by_person=kind == "custom-title",
            cwd=text_in(record.get("cwd")),
            git_branch=text_in(record.get("gitBranch")),
        )


def _role(record: Mapping[str, object], kind: str) -> Role:
    if kind == "assistant":
        return "assistant"
    return "system" if record.get("isMeta") is True or record.get("isCompactSummary") is True else "user"


def _queued_prompt(attachment: Mapping[str, object], line: int, at: str | None) -> Iterator[Turn]:
    """What a person typed while the model was busy: kept as an attachment, not as a `user` record."""
    if attachment.get("type") == "queued_command":
        typed = attachment.get("commandMode", "prompt") == "prompt"
        yield from content_turns(attachment.get("prompt"), "user" if typed else "system", line, at)


CLAUDE = ClaudeReader()
