"""Finding what is stored. Searches scan for now; an index will answer behind the same door.

query
    What a caller asks for, parsed: *exact* (a literal text, or a regular expression matched line by line) or *ranked*.
term
    A word, identifier, phrase or run of unspaced script in a ranked query; wanted or excluded.
hit
    One result: a line of a document, or what one role said in a line of a transcript, with its snippet.
snippet
    At most 300 characters and three lines around the match, which stands in «…».
complete
    Every match is in the pages. A search that ran into its deadline, or met something it could not read, says so.
place
    Where a hit stands in the order of an answer; pages go on after one, and what arrives in between moves nothing.
literal (of a pattern)
    Text that every match holds: what lets a scan pass over most bytes without decoding them.
"""

from federated_memory.search.hit import Found, Hit
from federated_memory.search.query import Exact, Mode, Query, Ranked, parse_query
from federated_memory.search.search import Search

__all__ = ["Exact", "Found", "Hit", "Mode", "Query", "Ranked", "Search", "parse_query"]
