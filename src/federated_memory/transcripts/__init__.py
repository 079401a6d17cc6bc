"""What was said in a session, whatever agent wrote it down.

transcript
    The JSONL file an agent kept of one session, stored verbatim. Here: its raw lines, bytes in, values out.
record
    One line, parsed: a JSON object. A line that is not one still counts, and is read as plain text.
turn
    One thing somebody said, as text: a person (`user`), the model (`assistant`: words, thoughts and tool calls),
    a tool (`tool`: what a call gave back), or the agent itself (`system`: injected context, notices, titles).
reader
    What we know of one agent's records: Claude Code, Codex, Gemini CLI, opencode. The generic reader knows none, and
    takes every string worth reading. Readers keep no state: a turn depends on its own line only.
injected
    Text under the user's name that no person typed: command output, reminders, environment, standing instructions.
noise
    Records that say nothing, or again what another record says: token counts, snapshots, progress, echoes.
facts, summary
    What one record, and the first and last lines together, tell about the whole session.

Nothing here opens a file, and nothing raises on what a file may hold (SPEC: READ-1).
"""

from federated_memory.transcripts.reading import detect, read_turns, reader_of
from federated_memory.transcripts.summary import Summary, summarise
from federated_memory.transcripts.turn import Agent, Facts, Reader, Role, Turn

__all__ = ["Agent", "Facts", "Reader", "Role", "Summary", "Turn", "detect", "read_turns", "reader_of", "summarise"]
