"""What an operator does with a root besides serving it. Nothing here needs a running server, nothing disturbs one.

check
    Reads everything and says what is wrong; changes nothing, takes no lock.
finding
    One thing that is wrong, or worth knowing: where, what it means, what to do.
diagnosis
    The quick look at settings, root and machine behind `doctor`.
"""
