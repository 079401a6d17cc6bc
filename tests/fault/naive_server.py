"""The broken twins: servers of a few lines that keep files as one would at first, run as `naive_server.py HOW FOLDER`.

`in_place`    writes into the file itself: a crash tears it
`ack_first`   answers, then writes: a crash loses what was acknowledged
`no_sweep`    writes beside and renames, as one should, and never looks for what a crash left
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECE = 16 * 1024


def make_handler(how: str, folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            path = self._path()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if how == "ack_first":
                threading.Thread(target=write_later, args=(path, body), daemon=True).start()
            elif how == "in_place":
                write(path, body)
            else:
                beside = path.with_name(f"{path.name}.{threading.get_ident()}.tmp")
                write(beside, body)
                beside.rename(path)
            self._answer(200, json.dumps({"status": "created"}).encode(), hashlib.sha256(body).hexdigest())

        def do_GET(self) -> None:
            try:
                data = self._path().read_bytes()
            except FileNotFoundError:
                self._answer(404, b"", "")
                return
            self._answer(200, data, hashlib.sha256(data).hexdigest())

        def _path(self) -> Path:
            return folder / unquote(self.path.split("?")[0]).replace("/", "_")

        def _answer(self, status: int, body: bytes, etag: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def write(path: Path, body: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(body), PIECE):
            file.write(body[start : start + PIECE])
        os.fsync(file.fileno())


def write_later(path: Path, body: bytes) -> None:
    time.sleep(0.02)
    write(path, body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(sys.argv[1], Path(sys.argv[2])))
    print(server.server_address[1], flush=True)
    server.serve_forever()
