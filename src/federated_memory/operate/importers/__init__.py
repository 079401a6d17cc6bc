"""Readers of what other memory tools keep (SPEC: IMPORT-1).

A reader yields *items*, each with a `source`: what it is called where it comes from, the same at every reading. So a
second import finds what the first one made. Readers change nothing, and need no server.
"""

from __future__ import annotations
