"""The form of log lines: time first, then the level or event, a constant phrase, and fields (SPEC: LOG-1, LOG-2).

`2026-11-21T03:59:08+00:00 AUTH_FAIL ip=203.0.113.7 reason=bad_token path="/mcp"`

Free text is JSON-escaped, so that nobody can forge a line, and stands last.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import datetime, timezone

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is served now; empty outside of one (SPEC: LOG-3)."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "taskName", "color_message"}
_BARE = re.compile(r"[A-Za-z0-9_.:@+-]+\Z")


def set_up_logs(level: str, form: str) -> None:
    """Send every log line of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Requests are counted by us; the SDK's chatter about each of them is for its developers.
    for name in ("uvicorn.access", "uvicorn.error", "mcp", "httpx", "httpx2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mcp.server.streamable_http").addFilter(_is_failure)


def _is_failure(record: logging.LogRecord) -> bool:
    """A client that went away, or stopped sending, is none of the SDK's failures."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ not in ("ClientDisconnect", "BodyStalled")


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", "")
        parts = [_time(record), event or record.levelname]
        if not event:
            parts += [record.name.removeprefix("federated_memory."), _line(record.getMessage())]
        parts += [f"{key}={_value(value, key)}" for key, value in fields_of(record).items()]
        if not event and request_id.get():  # event lines keep the form that jails match
            parts.append(f"request={request_id.get()}")
        text = " ".join(parts)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if request_id.get():
            line["request"] = request_id.get()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="seconds")


def _line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _value(value: object, key: str) -> str:
    text = str(value)
    # A path is always quoted: it is the caller's, and what reads the line must not have to guess.
    return text if key != "path" and _BARE.match(text) else json.dumps(text)
