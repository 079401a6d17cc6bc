"""Run in a network namespace of its own (`unshare --net`): a server, a client on another machine, and a cable between.

The client is in a second namespace, behind a pair of virtual network cards. It follows event streams; then its card
goes down, which nobody tells the server. Prints, as JSON, after how many seconds the server held no stream any more.

    python -m tests.fault.cable ROOT MODULE SECONDS
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.conftest import PATIENCE_SECONDS, RunningServer, start_server

MINE, THEIRS = "10.77.0.1", "10.77.0.2"
_FOLLOW = """
import http.client, json, sys
host, port, path, headers = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
connection = http.client.HTTPConnection(host, port, timeout=600)
connection.request("GET", path, headers=headers)
answer = connection.getresponse()
while b"ready" not in (line := answer.readline()):
    assert line, answer.status
print("ready", flush=True)
while answer.readline():
    pass
"""


def ip(*words: str, of: int | None = None) -> None:
    """Raises: CalledProcessError: this is not allowed here."""
    inside = ["nsenter", "--target", str(of), "--net"] if of is not None else []
    subprocess.run([*inside, "ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def other_machine() -> Iterator[int]:
    """A namespace at the other end of a cable; gives the id of a process in it."""
    with subprocess.Popen(["unshare", "--net", "--kill-child", "sleep", "1000"]) as holder:
        try:
            own = os.readlink("/proc/self/ns/net")
            wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
            ip("link", "set", "lo", "up")
            ip("link", "add", "mine", "type", "veth", "peer", "name", "theirs", "netns", str(holder.pid))
            ip("address", "add", f"{MINE}/24", "dev", "mine")
            ip("link", "set", "mine", "up")
            ip("address", "add", f"{THEIRS}/24", "dev", "theirs", of=holder.pid)
            ip("link", "set", "theirs", "up", of=holder.pid)
            yield holder.pid
        finally:
            holder.kill()


def follow(server: RunningServer, machine: int, path: str, headers: dict[str, str]) -> subprocess.Popen[str]:
    """A client on the other machine, once it is told that it follows."""
    host, port = server.address
    arguments = [sys.executable, "-c", _FOLLOW, host, str(port), path, json.dumps(headers)]
    process = subprocess.Popen(
        ["nsenter", "--target", str(machine), "--net", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def open_streams(server: RunningServer) -> int:
    with server.api(server.admin_token) as admin:
        lines = admin.call("GET", "/metrics").body.decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("federated_memory_open_streams ")).split()[1]))


def wait_for(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main(root: Path, module: str, seconds: float) -> None:
    with other_machine() as machine:
        server = start_server(root, module=module, HOST=MINE, PUBLIC_URL=f"http://{MINE}", PYTHONPATH=os.getcwd())
        followers = []
        try:
            headers = {"Authorization": f"Bearer {server.ai_token}"}
            with server.api(server.ai_token) as api:
                home = api.register("home")
                bound = {**headers, "X-Memory-Binding": home.binding}
                api.call("POST", "/api/v1/rooms", b'{"room": "r"}', X_Memory_Binding=home.binding)
                for path in ("/api/v1/events?keys=*", "/api/v1/events", "/api/v1/rooms/r/events"):
                    followers.append(follow(server, machine, path, bound))
                held = open_streams(server)
                ip("link", "set", "theirs", "down", of=machine)
                cut = time.monotonic()
                is_freed = wait_for(lambda: open_streams(server) == 0, seconds)
                after = time.monotonic() - cut
                status = api.call("GET", "/api/v1/rooms/r", X_Memory_Binding=home.binding).json
            print(json.dumps({
                "held": held, "freed_after": after if is_freed else None, "left": open_streams(server),
                "connections": len(status["members"][0]["sessions"]),
            }))  # fmt: skip
        finally:
            for process in followers:
                process.kill()
            server.stop(9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
