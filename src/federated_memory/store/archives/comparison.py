"""Is this body what is stored, and how far? Answered in one pass, holding one member (SPEC: ARCH-3).

Every member's row has the SHA-256 of all raw bytes up to its end. The running hash of the body is held against it where
the member ends: equal proves that everything so far is stored, and what was held can be forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from federated_memory.store.members import Boundary, Digest, Member, boundary_before


class Comparison:
    """Of a body that streams past with the members of an archive of `lines` lines."""

    def __init__(self, members: Sequence[Member], lines: int, *, is_damaged: bool = False) -> None:
        """`is_damaged`: nothing that is stored is to be relied on."""
        self._members = members
        self._lines = lines
        self._digest: Digest = hashlib.sha256()
        self._digest_before: Digest = self._digest  # where the member that is held begins
        self._held: list[memoryview] = []
        self._held_bytes = 0
        self.proven = 0
        self.has_diverged = is_damaged

    def feed(self, chunk: memoryview) -> memoryview:
        """Take in what can be compared. What is returned lies past the end, or past the first difference.

        The bytes of `chunk` must not change afterwards.
        """
        while chunk and self.proven < len(self._members) and not self.has_diverged:
            member = self._members[self.proven]
            if not self._held_bytes:
                self._digest_before = self._digest.copy()
                self._held = []
            part = chunk[: member.raw_bytes - self._held_bytes]
            chunk = chunk[len(part) :]
            self._digest.update(part)
            self._held.append(part)
            self._held_bytes += len(part)
            if self._held_bytes == member.raw_bytes:
                self._held_bytes = 0
                if self._digest.digest() == member.sha256_so_far:
                    self.proven += 1
                else:
                    self.has_diverged = True
        return chunk

    def ends_here(self, inflate: Callable[[Member], bytes]) -> bool:
        """The body is over: is all of it stored? If not, it has diverged."""
        if self._held_bytes:
            member = self._members[self.proven]
            self.has_diverged = not inflate(member).startswith(b"".join(self._held))
        return not self.has_diverged

    def go_back_to(self, number: int) -> tuple[Boundary, list[memoryview]]:
        """The boundary before a member, and what the body holds after it; only of the last two boundaries passed."""
        if number == self.proven and not self.has_diverged:
            return boundary_before(self._members, number, self._lines, self._digest), []
        return boundary_before(self._members, number, self._lines, self._digest_before), self._held

    @property
    def is_complete(self) -> bool:
        """Has the body held everything that is stored?"""
        return self.proven == len(self._members)

    @property
    def digest(self) -> Digest:
        """Of everything taken in so far."""
        return self._digest
