"""The wheel, installed as a person installs it, serves by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_wheel_installs_and_serves_from_an_empty_home(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--installer", "pip", "--outdir", str(tmp_path), str(REPOSITORY)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True)
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PORT": "0", "MEMORY_MIN_FREE_BYTES": "0"}

    fedmem = [str(tmp_path / "venv" / "bin" / "fedmem"), "serve"]
    with subprocess.Popen(fedmem, env=env, cwd=tmp_path, text=True, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert any(line.startswith("Connect an agent") for line in server.stdout)
        root = tmp_path / ".local" / "share" / "federated-memory"
        url = json.loads((root / "_meta" / "control.json").read_text())["url"]
        with urllib.request.urlopen(f"{url}/healthz") as answer:
            assert answer.status == 200
        assert (root / "README.md").read_text().startswith("# Federated Memory")
        server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
