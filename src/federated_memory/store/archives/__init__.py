"""How session transcripts are kept; `store.archive` is the door.

member
    A gzip member of whole lines, up to 256 KiB of raw bytes; the row of each has the hash of everything up to its end.
archive
    A row that describes the file of one transcript: the current one of its session, or a replaced revision.
draft
    A transcript that is staged and waits for the moment that makes it visible.
committed
    What the rows say. Readers trust nothing else: bytes behind the committed length were never acknowledged.
to settle
    To bring the rows of a session to what its files hold, after a crash or changes by hand.
"""
