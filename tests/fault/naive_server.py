"""The broken twins: servers of a few lines that keep files as one would at first, run as `naive_server.py HOW FOLDER`.

`in_place`    writes into the file itself: a crash tears it
`ack_first`   answers, then writes: a crash loses what was acknowledged
`no_sweep`    writes beside and renames, as one should, and never looks for what a crash left
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECE = 16 * 1024


def make_handler(how: str, folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            path = self._path()
            if how == "ack_first":
                body = b"".join(self._pieces())
                threading.Thread(target=write_later, args=(path, body), daemon=True).start()
                etag = hashlib.sha256(body).hexdigest()
            elif how == "in_place":
                etag = write(path, self._pieces())
            else:
                beside = path.with_name(f"{path.name}.{threading.get_ident()}.tmp")
                etag = write(beside, self._pieces())
                beside.rename(path)
            self._answer(200, json.dumps({"status": "created"}).encode(), etag)

        def _pieces(self) -> Iterator[bytes]:
            left = int(self.headers["Content-Length"])
            while left:
                piece = self.rfile.read(min(left, PIECE))
                left -= len(piece)
                yield piece

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


def write(path: Path, pieces: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
            time.sleep(0.001)  # a disk that takes its time
    return found.hexdigest()


def write_later(path: Path, body: bytes) -> None:
    time.sleep(0.02)
    write(path, [body])


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(sys.argv[1], Path(sys.argv[2])))
    print(server.server_address[1], flush=True)
    server.serve_forever()
