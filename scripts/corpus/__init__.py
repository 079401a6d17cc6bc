"""Seeded, realistic test data: transcripts of coding agents and Markdown knowledge.

The words of this package:

- *pool*: real code and prose found on this machine, Python's own library at least. Vocabulary, line lengths and
  redundancy are therefore real, and a corpus is the same bytes again on the same machine, not on another one.
- *voice*: picks text from the pool for one session or document.
- *event*: what happens in a session (a prompt, a thought, a reply, a tool call), the same for every agent.
- *shape*: how one agent writes events down as JSON lines (`claude.py`, `codex.py`).

Session `i` depends only on the seed, `i`, the mean size and the pool, so a corpus of 200 sessions is a prefix of one
of 1,000. Planted words, for searches whose answer must be known: see `session.py`.
"""

from scripts.corpus.documents import documents
from scripts.corpus.session import GeneratedSession, one_transcript, transcripts

__all__ = ["GeneratedSession", "documents", "one_transcript", "transcripts"]
