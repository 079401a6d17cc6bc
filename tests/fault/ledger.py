"""What uploaders know: what they have sent, and what was acknowledged. The judge of every fault test.

Every name has one writer, so the states that a name can be in have an order.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class _Name:
    sent: list[str] = field(default_factory=list)
    acknowledged: int = -1

    def place_of(self, state: str) -> int:
        """Where the state stands in the order; the last place, if it came again."""
        return len(self.sent) - 1 - self.sent[::-1].index(state)


@dataclass(frozen=True)
class Verdict:
    """`lost`: names that hold less than was acknowledged; `torn`: names that hold what nobody sent."""

    lost: list[str]
    torn: list[str]


class Ledger:
    """Thread-safe. States are SHA-256 of everything that a name holds then."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._lock = threading.Lock()
        self.requests = 0
        self.acknowledgements = 0

    def sends(self, name: str, state: str) -> None:
        """Before a request goes out that leads to `state`; the same one again when it is retried."""
        with self._lock:
            known = self._names.setdefault(name, _Name())
            if state not in known.sent[-1:]:
                known.sent.append(state)
            self.requests += 1

    def is_acknowledged(self, name: str, state: str) -> None:
        with self._lock:
            known = self._names[name]
            known.acknowledged = max(known.acknowledged, known.place_of(state))
            self.acknowledgements += 1

    def was_sent(self, name: str, state: str) -> bool:
        return state in self._names[name].sent

    def names(self) -> list[str]:
        return sorted(self._names)

    def judge(self, found: Mapping[str, str | None]) -> Verdict:
        """`found`: the state of each name that was looked at, None where there is nothing."""
        lost, torn = [], []
        for name, state in found.items():
            known = self._names[name]
            if state is None:
                if known.acknowledged >= 0:
                    lost.append(name)
            elif state not in known.sent:
                torn.append(name)
            elif known.place_of(state) < known.acknowledged:
                lost.append(name)
        return Verdict(lost, torn)
