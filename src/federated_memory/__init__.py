"""Federated Memory: a self-hosted memory server for coding agents.

The words of the system, from the bottom up (`STYLE` names one word per idea):

workspace
    The memory of one project, seen by one tool on one machine; the unit of isolation and of write rights.
document, version
    A Markdown file of a workspace's knowledge; any numbered state of it.
session, archive
    One conversation of an agent; its transcript, stored verbatim as gzipped JSONL.
change feed
    The numbered list of everything that was ever acknowledged; whatever follows the store follows this.
caller
    Who asks, with what rights; a binding ties a caller to the workspace it may write.
"""

__version__ = "0.1.0"
