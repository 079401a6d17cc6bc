"""Faults are made for real: killed processes, full file systems, system calls that fail, clocks that jump."""

from tests.e2e.conftest import serve

__all__ = ["serve"]
