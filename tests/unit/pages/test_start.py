"""What serving pages costs those who only start the server or call a tool (SPEC: SITE-12)."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.spec("SITE-12")
def test_a_start_loads_neither_templates_nor_markdown() -> None:
    code = (
        "import sys, federated_memory.asgi\n"
        "heavy = ('jinja2', 'markdown_it', 'nh3', 'markupsafe', 'federated_memory.pages.handlers')\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
