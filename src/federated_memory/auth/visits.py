"""Who is signed in on the web pages (SPEC: SITE-1, SITE-2).

visit
    One sign-in of one browser. Its id is random, lives in a cookie, and is kept here as a digest. It holds no token:
    only the fingerprint of the one that it was opened with, whose grant is looked up anew with every request.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from federated_memory.auth.caller import Grant
from federated_memory.auth.tokens import Tokens, digest_of

_MOST_VISITS = 1_000
_LONGEST_SECONDS = 7 * 86_400


@dataclass(slots=True)
class Visit:
    fingerprint: str
    began_at: float
    seen_at: float
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What every form of this visit sends along, and nobody else can know."""


class Visits:
    """In memory: a restart signs everybody out. Thread-safe; holds a thousand, the longest unused goes first."""

    def __init__(self, tokens: Tokens, *, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def begin(self, grant: Grant) -> str:
        """The id of a new visit, for a cookie."""
        visit_id, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._visits[digest_of(visit_id)] = Visit(grant.fingerprint, now, now)
            while len(self._visits) > _MOST_VISITS:
                self._visits.popitem(last=False)
        return visit_id

    def find(self, visit_id: str) -> tuple[Visit, Grant] | None:
        """The visit and what its token gives now; None once it was idle or open for too long, or its token ended."""
        key = digest_of(visit_id)
        with self._lock:
            visit = self._visits.get(key)
            if visit is None:
                return None
            now = self._clock()
            is_over = now - visit.seen_at > self._idle_seconds or now - visit.began_at > _LONGEST_SECONDS
            grant = None if is_over else self._tokens.grant_of(visit.fingerprint)
            if grant is None:
                del self._visits[key]
                return None
            visit.seen_at = now
            self._visits.move_to_end(key)
            return visit, grant

    def end(self, visit_id: str) -> None:
        with self._lock:
            self._visits.pop(digest_of(visit_id), None)
