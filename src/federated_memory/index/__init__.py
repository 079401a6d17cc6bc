"""The index: what makes a search fast, derived from the files and never needed to know what is stored.

source
    One thing that is searched: a document, an overview, or a session's current transcript.
row
    The smallest thing that is found: what one speaker said in a line of a transcript, or a chunk of a document. Rows
    are numbered without gaps, in the order they were indexed, and a number is never used again.
segment
    A run of rows of one source, stored with what is asked about each row: its line, its speaker and its size. A
    segment that no longer counts is dead: its rows stay in the tables of words, and no search looks at them.
word, gram
    What rows are found by: stemmed words with their places (ranked search), and runs of three characters (exact).
generation
    Counts the transactions of the index, so that a reader takes in only what is new.
cursor
    The number of the last change of the feed that is indexed.
"""

from federated_memory.index.catchup import Follower, IndexState
from federated_memory.index.library import Segment, Source
from federated_memory.index.reader import Index, View

__all__ = ["Follower", "Index", "IndexState", "Segment", "Source", "View"]
