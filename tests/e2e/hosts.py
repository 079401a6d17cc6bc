"""Hosts of their own, in network namespaces, and nginx with a certificate nobody knows in front of a server.

Needs root, `ip`, `nginx` and `openssl`; whoever lacks one of them is told which.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, wait_until

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        client_max_body_size 0;
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_http_version 1.1;
        location / {{
            proxy_pass {upstream};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Network:
    """This machine's end (`address`) and two hosts that reach it, and each other, over a bridge."""

    address: str
    hosts: tuple[str, str]
    """Names of the namespaces."""

    def enter(self, host: int) -> tuple[str, ...]:
        """What to put before a command so that it runs on that host."""
        return ("ip", "netns", "exec", self.hosts[host])


@contextlib.contextmanager
def two_hosts() -> Iterator[Network]:
    for program in ("ip", "nginx", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    number = os.getpid() % 250 + 1
    bridge, prefix = f"fmbr{number}", f"10.213.{number}"
    names = (f"fm{number}a", f"fm{number}b")
    if subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces need root")
    try:
        _ip("addr", "add", f"{prefix}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for index, name in enumerate(names):
            _ip("netns", "add", name)
            _ip("link", "add", f"{name}0", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", f"{name}0", "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{prefix}.{index + 2}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield Network(f"{prefix}.1", names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def tls_in_front(folder: Path, address: str, port: int, upstream: str) -> Iterator[Path]:
    """nginx with a self-signed certificate for `address`; yields the certificate."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # nginx's worker is another user
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-days", "7", "-subj", "/CN=memory", "-addext", f"subjectAltName=IP:{address}"]
    about += ["-addext", "basicConstraints=critical,CA:FALSE"]  # Codex takes no authority for a server
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
    subprocess.run([*command, *about, *files], check=True, capture_output=True)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, address=address, port=port, upstream=upstream))
    with subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL) as nginx:
        try:
            wait_until(lambda: answers(address, port))
            assert nginx.poll() is None, (folder / "error.log").read_text()
            yield folder / "server.pem"
        finally:
            nginx.terminate()
            nginx.wait(PATIENCE_SECONDS)


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False
