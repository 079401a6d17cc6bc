"""As systemd for a `.socket` unit: listens on a socket file and a port, and becomes the server that gets both."""

from __future__ import annotations

import fcntl
import os
import socket
import sys

FIRST = 3

listeners = []
for family, address in ((socket.AF_UNIX, os.environ["HAND_OVER"]), (socket.AF_INET, ("127.0.0.1", 0))):
    if family == socket.AF_INET and os.environ.get("HAND_OVER_PORT") == "no":
        continue
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    listeners.append(listener)
count = len(listeners)
high = [fcntl.fcntl(listener.detach(), fcntl.F_DUPFD, FIRST + count) for listener in listeners]
for number, descriptor in enumerate(high, FIRST):
    os.dup2(descriptor, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.executable, [sys.executable, "-m", "federated_memory", "serve"])
