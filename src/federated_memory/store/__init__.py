"""What is kept, and how it survives.

root
    The folder that holds everything (`MEMORY_ROOT`); one process owns it.
document
    A Markdown file of a workspace (knowledge at a path, or the overview); every version is kept.
archive
    The stored transcript of a session: gzip members of whole lines, verbatim.
journal
    Document writes that are durable in the state database before their files are.
change feed
    Every acknowledged change, numbered; whatever is derived follows it.
"""
