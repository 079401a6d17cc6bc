"""Another machine, as far as a program can tell: a home of its own, and only the programs that it is given."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_TOOLS = (
    "sh", "curl", "head", "tail", "mktemp", "rm", "cat", "chmod", "mkdir", "cp", "mv", "env", "uname", "id", "hostname",
    "dirname", "basename", "grep", "sed", "tr", "cut", "sleep", "ls", "date", "stty", "tty",
)  # fmt: skip


class Machine:
    """Commands run here neither see the developer's home nor reach a service manager, a crontab or an agent."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.home.mkdir(parents=True)
        self.bin.mkdir()
        for name in _TOOLS:
            found = shutil.which(name)
            if found:
                (self.bin / name).symlink_to(found)
        # A symlink into a virtual environment would be another Python: it is run by its own path.
        self.program("python3", f'exec "{sys.executable}" "$@"')
        self.env = {"PATH": str(self.bin), "HOME": str(self.home), "LANG": "C.UTF-8", "TMPDIR": str(folder)}

    def program(self, name: str, text: str) -> None:
        """A program of this machine, made of shell lines."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, *command: str, seconds: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**self.env, **env}, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds,
        )  # fmt: skip


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate for these subject alternative names, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=memory.test", "-addext", f"subjectAltName={','.join(names)}",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextlib.contextmanager
def tls_proxy(port: int, target: tuple[str, int], certificate: Path, key: Path) -> Iterator[None]:
    """What nginx does in front of the server: TLS outside, the same bytes inside."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=_accept, args=(listener, context, target), daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=_serve, args=(plain, context, target), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    """One connection at a time in each direction; closing either side closes both."""
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_side=True) as outside,
        socket.create_connection(target) as inside,
    ):
        answers = threading.Thread(target=_copy, args=(inside, outside), daemon=True)
        answers.start()
        _copy(outside, inside)
        answers.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def readable(root: Path) -> str:
    """Everything that a folder's files hold, for looking for what must not be there."""
    return "".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in sorted(root.rglob("*"))
        if path.is_file() and os.access(path, os.R_OK)
    )
