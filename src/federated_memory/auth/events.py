"""The two log lines that operators act on (SPEC: AUTH-9).

`AUTH_FAIL`: a secret that is wrong; what a jail may match. `AUTH_DENY`: an honest caller outside its rights; no jail.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

logger = logging.getLogger(__name__)

_counts: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


def counts() -> dict[tuple[str, str], int]:
    """How often this process logged each event, by its reason."""
    with _lock:
        return dict(_counts)


def auth_fail(address: str, reason: str, path: str) -> None:
    logger.warning("AUTH_FAIL", extra=_fields("AUTH_FAIL", address, reason, path))


def auth_deny(address: str, reason: str, path: str) -> None:
    logger.info("AUTH_DENY", extra=_fields("AUTH_DENY", address, reason, path))


def _fields(event: str, address: str, reason: str, path: str) -> dict[str, str]:
    with _lock:
        _counts[event, reason] += 1
    return {"event": event, "ip": address or "unknown", "reason": reason, "path": path[:200]}
