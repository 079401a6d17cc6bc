"""The MCP front door: tools, their schemas, and the text form of their results.

A tool is a plain function: it names the call, parses nothing that a service does not parse, makes one service call and
returns a result model. `toolkit` runs it in a worker thread and turns result or error into what the protocol wants.
"""
