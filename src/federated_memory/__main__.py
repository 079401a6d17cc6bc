"""`python -m federated_memory` is the `federated-memory` command."""

from federated_memory.start import run

run()
