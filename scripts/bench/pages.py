"""The web pages, as a browser that is signed in asks for them: the processor time that one costs the server.

On a machine that does nothing else this is how long it takes; the note says how long it took here, to the last byte.

A page of the middle of a 100 MB transcript, and everything else on a root of 182 MB (`--large`: 1 GB). Styles
and scripts are fetched once and kept.
"""

import http.client
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode, urlsplit

from scripts.bench.harness import Bench, BenchError, Goal, Options
from scripts.bench.memories import notes
from scripts.bench.processes import Server, our_server
from scripts.bench.resources import Uploader
from scripts.bench.search import INDEX_SECONDS, LARGE, QUICK, SMALL, wait_for_index
from scripts.bench.search_corpus import corpus, words_of
from scripts.gen_corpus import documents, one_transcript
from scripts.quality.metrics import percentile

BUDGET_MS = 50
DOCUMENTS, VERSIONS, LONG_MB, ROUNDS = 300, 12, 100, 30
MEMORIES, _AT_ONCE = 5_000, 500


class Browser:
    """One connection, one visit."""

    def __init__(self, server: Server, token: str) -> None:
        self._host = urlsplit(server.origin).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=120)
        self._cookies: dict[str, str] = {}
        body = self.get("/sign-in").decode()
        field = re.search(r'name="form_token" value="([^"]+)"', body)
        if not field:
            raise BenchError("the sign-in page has no form")
        form = urlencode({"form_token": field[1], "token": token}).encode()
        self.ask("POST", "/sign-in", form, 303)

    def get(self, path: str) -> bytes:
        return self.ask("GET", path, b"", 200)

    def ask(self, method: str, path: str, body: bytes, expected: int) -> bytes:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if method == "POST":
            headers |= {"Origin": f"http://{self._host}", "Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != expected:
            raise BenchError(f"{method} {path}: {answer.status}")
        for value in answer.headers.get_all("set-cookie") or ():
            name, _, rest = value.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        return data


def pages(options: Options) -> Iterator[Goal]:
    sessions = QUICK if options.quick else LARGE if options.large else SMALL
    found = corpus(sessions)
    folder = options.fresh_folder("pages")
    with our_server(folder / "root") as server:
        uploader = Uploader(server)
        for session_id, data in found.sessions():
            uploader.put(session_id, data)
        long_data = one_transcript(1, options.size(LONG_MB, 10))
        uploader.put("long", long_data)
        fill(uploader, options)
        wait_for_index(folder / "root", INDEX_SECONDS)
        server.settle(1.0, INDEX_SECONDS)
        token = str(json.loads((folder / "root" / "_meta" / "control.json").read_text())["token"])
        browser = Browser(server, token)
        label = f"pages {(found.raw_bytes + len(long_data)) / 1e6:.0f} MB"
        wanted = places(uploader.workspace_id, long_data.count(b"\n"), sessions)
        wanted["memory"] = memory_pages(browser, uploader.workspace_id)
        for name, paths in wanted.items():
            first = len(browser.get(paths[0]))
            cpu = server.cpu_ms()
            taken = times(browser, paths)
            spent = (server.cpu_ms() - cpu) / len(taken)
            note = f"took p50 {percentile(taken, 0.5):.1f}, p95 {percentile(taken, 0.95):.1f} ms; {first / 1000:.0f} kB"
            yield Goal(f"{label}/{name}", spent, BUDGET_MS, options.at_full_size(1.0), note=note)


def fill(uploader: Uploader, options: Options) -> None:
    """Documents, one of them with a history, an overview, and memories."""
    where = f"/api/v1/workspaces/{uploader.workspace_id}"
    rights = {"X-Write-Token": uploader.write_token}
    texts = list(documents(1, options.size(DOCUMENTS, 20)))
    for path, text in texts:
        uploader.request("PUT", f"{where}/knowledge/{quote(path)}", text.encode(), rights)
    long_text = "\n\n".join(text for _, text in texts)[:30_000]
    for number in range(VERSIONS):
        changed = long_text.replace("the ", f"the {number} ", 5 * number)
        uploader.request("PUT", f"{where}/knowledge/long.md", changed.encode(), rights)
    uploader.request("PUT", f"{where}/overview", texts[0][1].encode(), rights)
    uploader.request("PUT", f"{where}/knowledge/gone.md", b"# Gone\n", rights)
    uploader.request("DELETE", f"{where}/knowledge/gone.md", b"", rights)
    remembered = list(notes(options.size(MEMORIES, 50)))
    for start in range(0, len(remembered), _AT_ONCE):
        rows = [
            {"content": text, "source": f"bench:{start + at}", "tags": [f"tag{at % 10}"]}
            for at, text in enumerate(remembered[start : start + _AT_ONCE])
        ]
        body = json.dumps({"workspace_id": uploader.workspace_id, "memories": rows}).encode()
        uploader.request("POST", "/api/v1/memories/import", body, {**rights, "Content-Type": "application/json"})


def places(workspace_id: str, lines: int, sessions: int) -> dict[str, list[str]]:
    """Pages by name; several addresses where one would only be remembered."""
    here = f"/w/{workspace_id}"
    words = words_of(corpus(sessions))
    middle = [lines * part // 40 for part in range(1, 40)]
    return {
        "workspaces": ["/"],
        "workspace": [here],
        "knowledge, list": [f"{here}/knowledge"],
        "knowledge, deleted": [f"{here}/deleted"],
        "memories": ["/memories", f"{here}/memories"],
        "memories, by tag and word": [f"/memories?tag=tag{number}&memory_kind=note" for number in range(10)],
        "search, memories alone": [f"/search?q=unique{number:05}x&kind=memory" for number in range(0, 300, 10)],
        "knowledge, 30 kB": [f"{here}/knowledge/long.md?version={number + 1}" for number in range(VERSIONS)],
        "history, two versions of 30 kB": [
            f"{here}/history/long.md?from={number}&to={number + 1}" for number in range(1, VERSIONS)
        ],
        "sessions": [f"{here}/sessions"],
        f"session, {LONG_MB} MB, first page": [f"{here}/sessions/long"],
        f"session, {LONG_MB} MB, at a line": [f"{here}/sessions/long?line={line}" for line in middle],
        "search, a rare word": [f"/search?q={quote(word)}" for word in words.rare],
        "search, a common word": [f"/search?q={quote(word)}" for word in words.common],
        "machines": ["/machines"],
        "admin": ["/admin"],
    }


def memory_pages(browser: Browser, workspace_id: str) -> list[str]:
    """Those that the first page of the list leads to."""
    found = re.findall(rf'href="(/w/{workspace_id}/memories/[^"]+)"', browser.get("/memories").decode())
    return list(dict.fromkeys(found))[:ROUNDS]


def times(browser: Browser, paths: list[str]) -> list[float]:
    """In milliseconds, the addresses in turn; each of them at least once."""
    taken = []
    for number in range(max(ROUNDS, len(paths))):
        started = time.perf_counter()
        browser.get(paths[number % len(paths)])
        taken.append((time.perf_counter() - started) * 1000)
    return taken


BENCHES = (Bench("pages/server time", pages),)
