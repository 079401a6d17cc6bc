"""Who asks, and what they may do.

token
    A bearer secret. Two come from the settings (AI clients, sync scripts), the others are named and kept hashed.
caller
    One request's token, with where the request came from.
binding
    A signed handle that lets an AI caller write one workspace.
policy
    The one place that decides.
"""
