"""Running hashes of what is stored, so that appending to a transcript does not read all of it again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from federated_memory.store.members import DamagedMember, Digest, Member

_KEPT = 1024


class RunningDigests:
    """The newest hashes, found by their own digest: whoever has that digest has seen the same bytes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Digest] = OrderedDict()

    def keep(self, digest: Digest) -> None:
        with self._lock:
            self._kept[digest.digest()] = digest.copy()
            self._kept.move_to_end(digest.digest())
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def after(self, members: Sequence[Member], inflate: Callable[[Member], bytes]) -> Digest:
        """Of all raw bytes of `members`, the first members of an archive: kept, or made by reading them.

        Raises:
            DamagedMember: What is stored is not what was acknowledged.
        """
        if not members:
            return hashlib.sha256()
        with self._lock:
            kept = self._kept.get(members[-1].sha256_so_far)
            if kept is not None:
                return kept.copy()
        digest = hashlib.sha256()
        for member in members:
            digest.update(inflate(member))
            if digest.digest() != member.sha256_so_far:
                raise DamagedMember(member)
        return digest
