"""`doctor` beside a real server, and through a proxy that buffers."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Callable

import pytest

from federated_memory.operate.streaming import first_event_seconds
from tests.e2e.conftest import RunningServer
from tests.e2e.test_backup import fedmem


@pytest.mark.spec("CLI-21")
def test_doctor_gets_a_stream_and_finds_nothing_wrong(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()

    ran = fedmem(server, "doctor", "--json")

    rows = {row["name"]: row for row in json.loads(ran.stdout)["checks"]}
    assert rows["stream"]["state"] == "ok", ran.stdout
    assert rows["backup"]["state"] == "ok"
    assert rows["index"]["state"] == "ok"


@pytest.mark.spec("CLI-21")
def test_a_proxy_that_answers_whole_is_found_out(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.wait_until_ready()

    class Buffering(http.server.BaseHTTPRequestHandler):
        """The broken twin of a proxy: it would wait for the end of the stream, and so gives up."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            request = urllib.request.Request(server.url + self.path, body, headers, method="POST")
            try:
                urllib.request.urlopen(request, timeout=0.5).read()
            except OSError:
                self.send_error(504)

        def log_message(self, *_: object) -> None:
            pass

    proxy = http.server.HTTPServer(("127.0.0.1", 0), Buffering)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        with pytest.raises((ValueError, OSError)):
            first_event_seconds(f"http://127.0.0.1:{proxy.server_port}", server.admin_token)
    finally:
        proxy.shutdown()
        proxy.server_close()
