"""The `federated-memory` command: one module per verb, each with `add` (its arguments) and `run` (its work).

Heavy imports happen inside `run`, so that every verb starts fast.
"""
