"""`python -m federated_memory` is the `federated-memory` command."""

from federated_memory.cli.main import run

run()
