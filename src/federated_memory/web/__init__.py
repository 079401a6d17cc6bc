"""The HTTP front door beside MCP: the gate in front of every route, uploads and downloads, health.

gate
    Decides before a body is read: which host is meant, who asks. Everything behind it has a caller.
problem
    An error's answer, `application/problem+json` (RFC 9457).
"""
