"""What `deploy/` ships, started as it is: nginx with the site file, on free ports, as a process of the test's own."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, wait_until
from tests.e2e.hosts import answers, free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
_AROUND = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
events {{ }}
http {{
    client_body_temp_path {folder}/body 1 2;
    proxy_temp_path {folder}/proxy 1 2;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def need(*programs: str) -> None:
    """Skip, saying why, where one is missing; `.ci/run` installs them all."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def render(file: str, **words: str) -> str:
    """A file of `deploy/` with its words filled in, by the script that the installer uses."""
    command = [str(DEPLOY / "render.sh"), str(DEPLOY / file), *(f"{word}={value}" for word, value in words.items())]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_certificate(folder: Path, *names: str) -> Path:
    """As the installer makes it; the key lies beside it."""
    subprocess.run([str(DEPLOY / "certificate.sh"), str(folder), *names], check=True, capture_output=True, text=True)
    return folder / "server.pem"


@dataclass(frozen=True)
class Proxy:
    """A running nginx with the shipped site."""

    folder: Path
    port: int
    plain_port: int
    certificate: Path

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts this server's certificate and nothing else; names are checked."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def connect(self, host: str = "localhost", source: str = "") -> http.client.HTTPSConnection:
        """Over TLS. `source` is the address to come from, any of 127.0.0.0/8."""
        return http.client.HTTPSConnection(
            host, self.port, timeout=PATIENCE_SECONDS, context=self.context,
            source_address=(source, 0) if source else None,
        )  # fmt: skip

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "",
    ) -> tuple[int, Message, bytes]:
        """One request over a connection of its own, read to its end."""
        with contextlib.closing(self.connect(source=source)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            with connection.getresponse() as answer:
                return answer.status, answer.headers, answer.read()

    @property
    def spooled(self) -> list[Path]:
        """What nginx has ever put on the disk: the files go, the folders that it makes for them stay."""
        return [path for name in ("body", "proxy") for path in (self.folder / name).glob("*")]

    def log(self) -> str:
        return (self.folder / "mcp-memory.access.log").read_text()


@contextlib.contextmanager
def shipped_nginx(
    folder: Path, upstream: str, port: int, edit: Callable[[str], str] = lambda text: text
) -> Iterator[Proxy]:
    """nginx with `deploy/nginx.conf` in front of `upstream` (host:port); `edit` makes a broken twin of the site."""
    need("nginx", "openssl")
    folder.mkdir(parents=True)
    certificate = make_certificate(folder, "localhost", "127.0.0.1")
    plain_port = free_port("127.0.0.1")
    site = render(
        "nginx.conf",
        UPSTREAM=upstream,
        LISTEN=f"listen 127.0.0.1:{port} ssl; listen 127.0.0.1:{plain_port};",
        SERVER_NAMES="localhost 127.0.0.1",
        CERTIFICATE=str(certificate),
        CERTIFICATE_KEY=str(folder / "server.key"),
        LOG_FOLDER=str(folder),
    )
    (folder / "site.conf").write_text(edit(site))
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers cannot reach the test's folder
    config.write_text(_AROUND.format(folder=folder, user=user))
    with subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.PIPE, text=True) as nginx:
        try:
            wait_until(lambda: nginx.poll() is not None or answers("127.0.0.1", port))
            assert nginx.poll() is None, nginx.stderr.read() if nginx.stderr else ""
            yield Proxy(folder, port, plain_port, certificate)
        finally:
            nginx.terminate()
            nginx.wait(PATIENCE_SECONDS)
