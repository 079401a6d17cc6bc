"""Characters that nobody sees, shown by their names (SPEC: SITE-15).

Stored text may hold words that a model reads and a person does not: tag characters, zero-width ones, overrides of the
direction, terminal codes. On a page each stands as `⟦U+202E⟧`. Joiners and variation selectors stay: scripts and emoji
are written with them.
"""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def with_hidden_shown(html: str) -> str:
    return _HIDDEN.sub(_named, html)


def _named(found: re.Match[str]) -> str:
    return f"⟦U+{ord(found[0]):04X}⟧"
