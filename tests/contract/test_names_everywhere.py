"""Hostile names in every string of every tool and route, found from the tools' schemas and the routes' description.

What is added later is covered by itself. Whatever is answered: nothing beside the root is read or changed, nothing of
another workspace is changed, files appear only where the layout has them, and nothing fails. A part of the corpus of
`tests/vectors` and generated names; `FAULT_FULL=1` (nightly): all of it, and 10,000 for each argument that may name a
file.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.web.openapi.document import document
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, SYNC_TOKEN, Home, Server, Wire
from tests.contract.test_canaries import LEGIT
from tests.contract.test_fuzz import INSIDES
from tests.contract.test_hostile_names import IDS, LINE, PATHS
from tests.fault.tally import tally

FULL = os.environ.get("FAULT_FULL") == "1"
GENERATED = int(os.environ.get("FUZZ_EXAMPLES", "10000" if FULL else "8"))
FROM_THE_CORPUS = 1_000 if FULL else 16
CORPUS = [*dict.fromkeys([*PATHS, *IDS])]
NAMING = re.compile(r"(?:path|name|to|into|.*_?id|key)\Z")
"""Arguments that may end up as a file: they get all that is generated, the others a little of it."""
PLANTED = ("outside.md", "memory/canary.md", "memory/_meta/canary.md", "memory/workspaces/canary.md")
ENDLESS = {"events", "room_events", "mcp_stream", "mcp", "mcp_end"}
CANARY = "canary-outside-5f0e"
PIECES = [
    "..", ".", "/", "//", "\\", "\0", "%2e%2e", "%2f", "%00", "\u2025", "\uff0e", "\uff0f", "\u2215", "\u202e",
    "\u200b", "\ufeff", "\u0301", "e\u0301", "é", "ß", "İ", "ſ", "CON", "aux", "nul.", "COM¹", "lpt9", "~", "$HOME",
    " ", "\t", "\n", "\r\n", "\x1b[0m", ":", "*", "?", '"', "<", "|", ".md", ".MD", ".versions", "knowledge", "_meta",
    "workspaces", "box-claude-home", "box-claude-away", "secret.key", "overview.md", "identity.json", "canary.md", "a",
    "outside.md", "A", "\ud800", "\U000e0041", "\ufffd", "x" * 119, "日本", "../" * 4, "file://", "memory://", ",", "[",
    "-", "--pre=x",
]  # fmt: skip
LAYOUT = re.compile(
    r"memory/(README\.md|INDEX\.md|canary\.md|_meta/[^/]+|_meta/(snapshots|imports|tmp|content)/.*"
    r"|workspaces/canary\.md|workspaces/(?P<id>[a-z0-9_-][a-z0-9._-]{0,63})/("
    r"identity\.json|overview\.md|\.versions/overview\.md/.*|knowledge/(?P<path>.*)"
    r"|memories/\d{4}/\d\d/[a-z0-9._-]+\.md|memories/\.tombstones/[a-z0-9._-]+\.md|(knowledge/)?\.versions/.*"
    r"|sessions/\d{4}/\d\d/(\.revisions/[a-z0-9._-]+/\d+\.jsonl\.gz|[a-z0-9_-][a-z0-9._-]*\.(jsonl\.gz|json))))\Z"
)

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(7_200 if FULL else 240)]


def names(count: int, seed: str) -> Iterator[str]:
    chance = random.Random(seed)
    for _ in range(count):
        parts = [chance.choice(PIECES) for _ in range(chance.randint(1, 6))]
        if chance.random() < 0.2:
            parts.append(chr(chance.randrange(0x2FFFF)))
        if chance.random() < 0.1:
            up = chance.choice(("../", "..\\", "%2e%2e%2f", "..／", "./../", "a/../../", "\u2025/"))
            parts = [up * chance.randint(1, 5), chance.choice(("canary.md", "outside.md", "_meta/canary.md"))]
            yield "".join(parts)
            continue
        if chance.random() < 0.2:
            parts = [chance.choice(CORPUS), *parts[:2]]
        yield "".join(parts) + (".md" if chance.random() < 0.4 else "")


class Guard:
    """Canaries beside everything that is served, and what changed since."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for place in PLANTED:
            (top / place).parent.mkdir(parents=True, exist_ok=True)
            (top / place).write_text(CANARY)
        self.kept = self._kept()

    def _kept(self) -> dict[str, str]:
        """What no request may change."""
        files = (file for file in self.top.rglob("*") if file.is_file() and not file.is_symlink())
        return {
            str(file.relative_to(self.top)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if str(file.relative_to(self.top)) in (*PLANTED, "memory/_meta/secret.key", "memory/_meta/format.json")
            or "box-claude-away" in file.parts
            or self.top / "memory" not in file.parents
        }

    def wrong(self) -> list[str]:
        changed = [f"changed: {name}" for name, digest in self._kept().items() if self.kept.get(name) != digest]
        lost = [f"gone: {name}" for name in self.kept if not (self.top / name).exists()]
        strange = [
            f"made: {place}" for file in self.top.rglob("*")
            if not file.is_dir() and place_of(place := str(file.relative_to(self.top))) and place not in self.kept
        ]  # fmt: skip
        return sorted(changed + lost + strange)


def place_of(place: str) -> bool:
    """Whether no rule of the layout explains a file."""
    found = LAYOUT.match(place)
    path = (found["path"] or "") if found else ""
    return found is None or any(part in ("", ".", "..") for part in path.split("/")[1:])


@dataclass(frozen=True)
class Spot:
    """One string of one tool or route."""

    where: str
    argument: str
    send: Callable[[str], tuple[int, bytes]]

    @property
    def is_naming(self) -> bool:
        return bool(NAMING.match(self.argument)) or self.where.startswith("path of ")


def sweep(spots: list[Spot], guard: Guard, generated: int) -> tuple[int, list[str]]:
    """How many names were sent, and what went wrong."""
    tried, wrong = 0, []
    for spot in spots:
        count = generated if spot.is_naming else min(generated, 100)
        seed = f"{spot.where} {spot.argument}"
        known = CORPUS if len(CORPUS) <= FROM_THE_CORPUS else random.Random(seed).sample(CORPUS, FROM_THE_CORPUS)
        for name in (*known, *names(count, seed)):
            status, body = spot.send(name)
            tried += 1
            text = body.decode("utf-8", "replace")
            is_insider = INSIDES.search(text) and "/client/" not in spot.where  # which are programs
            if status >= 500 or is_insider or CANARY in text:
                wrong.append(f"{spot.where}, {spot.argument}={name!r}: {status} {text[:300]}")
        wrong += [f"{spot.where}, {spot.argument}: {each}" for each in guard.wrong()]
    return tried, wrong


@pytest.fixture(scope="module")
def everything(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(portal, tmp_path_factory.mktemp("names") / "memory", toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


@pytest.fixture(scope="module")
def home(everything: Server) -> Home:
    home, away = everything.settle(), everything.settle("away")
    for one in (home, away):
        http = everything.http(SYNC_TOKEN, x_write_token=one.write_token)
        assert http.put(one.url("/knowledge/a.md"), b"# kept").code == "ok"
        assert http.put(one.url("/overview"), b"# kept").code == "ok"
        assert http.put(one.url("/sessions/s1"), LINE).code == "ok"
    bound = everything.http(AI_TOKEN, x_memory_binding=home.binding)
    bound.post("/api/v1/rooms", {"room": "r"})
    everything.services.core.journal.flush()
    return home


def tool_spots(server: Server, home: Home) -> list[Spot]:
    wires = {token: server.wire(token) for token in (AI_TOKEN, SYNC_TOKEN)}
    found: dict[str, Spot] = {}
    for token, wire in wires.items():
        for tool in server.agent(token).tools():
            known = tool.input_schema["properties"]
            upload = {"workspace_id": home.workspace_id, "write_token": home.write_token}
            legit = {**LEGIT.get(tool.name, {}), **(upload if token == SYNC_TOKEN else {"binding": home.binding})}
            legit |= dict.fromkeys(("wait_seconds", "timeout_seconds"), 0)
            for argument, schema in known.items():
                kinds = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()))}
                if kinds & {"string", "array"} and "enum" not in schema:
                    given = {name: value for name, value in legit.items() if name in known}
                    found[f"{tool.name} {argument}"] = Spot(
                        f"tool {tool.name}", argument, _call(wire, tool.name, given, argument, "string" not in kinds)
                    )
    return list(found.values())


def _call(
    wire: Wire, tool: str, given: dict[str, Any], argument: str, is_list: bool
) -> Callable[[str], tuple[int, bytes]]:
    def send(name: str) -> tuple[int, bytes]:
        reply = wire.call(tool, {**given, argument: [name] if is_list else name})
        return reply.status, reply.body

    return send


PLACES = {"path": "a.md", "session_id": "s1", "key": "k", "room": "r", "name": "spare", "action": "adopt"}
BODIES: dict[str, dict[str, Any]] = {
    "register": {"machine": "m", "tool": "t", "project": "p"}, "store_memory": {"content": "kept"},
    "import_memories": {"workspace_id": "box-claude-home", "memories": []}, "invite": {"machine": "m"},
    "create_token": {"name": "n", "role": "read"}, "set_alias": {"alias": "a", "project": "p"},
    "join_room": {"room": "r"}, "notify_peers": {"message": "m"}, "delegate_task": {"room": "r", "task": "t"},
    "delete_memories": {"dry_run": True}, "submit_result": {"success": True, "output": "o"},
}  # fmt: skip
OPERATIONS: dict[str, dict[str, Any]] = {
    "snapshot": {}, "release": {"name": "n"}, "purge": {"kind": "knowledge", "workspace_id": "none", "key": "a.md"},
    "rename": {"workspace_id": "none", "to": "other"}, "merge": {"workspace_id": "none", "into": "none"},
    "archive": {"workspace_id": "none"},
    "adopt": {"name": "n", "workspace_id": "adopted", "machine": "m", "tool": "t", "project": "p"},
}  # fmt: skip


def route_spots(server: Server, home: Home) -> list[Spot]:
    made, spots = document(), []
    for path, methods in made["paths"].items():
        for method, one in methods.items():
            name = one["operationId"]
            if name in ENDLESS:
                continue
            ask = _ask(server, home, method.upper(), path, BODIES.get(name, {}))
            for parameter in one.get("parameters", ()):
                if parameter["schema"].get("type") in ("string", "array") and "enum" not in parameter["schema"]:
                    spots.append(_spot(ask, parameter["in"], parameter["name"], f"{method.upper()} {path}"))
            spots += [
                _spot(ask, "body", field, f"{method.upper()} {path}")
                for field, schema in _fields(made, one).items()
                if name != "operate" and schema.get("type", "string") in ("string", "array") and "enum" not in schema
            ]
    for action, body in OPERATIONS.items():
        ask = _ask(server, home, "POST", f"/api/v1/operations/{action}", body)
        spots += [_spot(ask, "body", field, f"operation {action}") for field in body if field not in ("kind",)]
    return spots


def _fields(made: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    schema = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if reference := schema.get("$ref"):
        schema = made["components"]["schemas"][reference.rpartition("/")[2]]
    found: dict[str, Any] = schema.get("properties", {})
    return found


Ask = Callable[[str, str, str], tuple[int, bytes]]


def _spot(ask: Ask, kind: str, argument: str, where: str) -> Spot:
    return Spot(f"{kind} of {where}", argument, lambda name: ask(kind, argument, name))


def _ask(server: Server, home: Home, method: str, path: str, body: dict[str, Any]) -> Ask:
    """One request, with the name at its place; each by whom it is for, so that it comes as far as it can."""
    is_for_all = any(part in path for part in ("/rooms", "/tasks", "/state", "/memories", "/knowledge", "/versions"))
    token = ADMIN_TOKEN if "admin" in path or not is_for_all else AI_TOKEN
    token = SYNC_TOKEN if "/sessions" in path else token
    rights = {"x-memory-binding": home.binding} if token == AI_TOKEN else {"x-write-token": home.write_token}

    def ask(kind: str, argument: str, name: str) -> tuple[int, bytes]:
        data = name.encode("utf-8", "surrogatepass")
        places = {**PLACES, "workspace_id": home.workspace_id}
        filled, query, given = path, "", {**rights, "upload-offset": "0"}
        for place in re.findall(r"\{(\w+)\}", path):
            part = places.get(place, "x").encode() if (kind, place) != ("path", argument) else data
            safe = "/" if len(data) % 2 else ""
            filled = filled.replace("{" + place + "}", quote_from_bytes(part, safe=safe))
        if kind == "query":
            query = f"?{argument}={quote_from_bytes(data, safe='')}"
        if kind == "header":
            given[argument.lower()] = re.sub(r"[\r\n\0]", "", name)
        sent = LINE if "/sessions/" in path else b"# kept"
        if "application/json" in str(body) or kind == "body" or body:
            value: Any = [name] if argument in LISTS and kind == "body" else name
            sent = json.dumps({**body, argument: value} if kind == "body" else body).encode()
        if path.startswith("/api/v1/state/"):
            sent = b"1"
        headers = [
            (key.encode(), value.encode("utf-8", "surrogatepass"))
            for key, value in {"authorization": f"Bearer {token}", **given}.items()
        ]
        reply = server.exchange(
            method, (filled + query).encode("ascii"), [*headers, (b"content-length", b"%d" % len(sent))], [sent]
        )
        return reply.status, reply.body

    return ask


LISTS = {"read", "write", "tags", "files", "references", "supersedes", "read_keys", "write_keys", "read_rooms",
         "write_rooms", "memories", "operations"}  # fmt: skip


@pytest.mark.spec("SEC-1", "NAME-1", "NAME-2", "ERR-2")
def test_no_name_in_any_argument_of_any_tool_reaches_outside(everything: Server, home: Home) -> None:
    guard, spots = Guard(everything.root.parent), tool_spots(everything, home)

    tried, wrong = sweep(spots, guard, GENERATED)

    tally("names in tools", trials=tried, escapes=len(wrong))
    print(f"{len(spots)} arguments of tools, {sum(spot.is_naming for spot in spots)} of them name something")
    assert wrong == []
    assert len(spots) > 80


@pytest.mark.spec("SEC-1", "NAME-1", "NAME-2", "ERR-2", "HTTP-9")
def test_no_name_in_any_part_of_any_route_reaches_outside(everything: Server, home: Home) -> None:
    guard, spots = Guard(everything.root.parent), route_spots(everything, home)

    tried, wrong = sweep(spots, guard, GENERATED)

    tally("names in routes", trials=tried, escapes=len(wrong))
    print(f"{len(spots)} strings of routes, {sum(spot.is_naming for spot in spots)} of them name something")
    assert wrong == []
    assert len(spots) > 150


def test_a_server_that_joins_paths_is_found_out(tmp_path: Path) -> None:
    """The broken twin: it puts the name behind a folder and opens what comes out."""
    guard = Guard(tmp_path)
    knowledge = tmp_path / "memory" / "workspaces" / "box-claude-home" / "knowledge"
    knowledge.mkdir(parents=True)

    def read(name: str) -> tuple[int, bytes]:
        try:
            return 200, (knowledge / name).read_bytes()
        except (OSError, ValueError):
            return 404, b""

    def write(name: str) -> tuple[int, bytes]:
        try:
            target = Path(os.path.normpath(knowledge / name))
            if tmp_path in target.parents:
                target.write_bytes(b"x")
        except (OSError, ValueError):
            return 400, b""
        return 200, b""

    _, read_wrong = sweep([Spot("twin", "path", read)], guard, 3_000)
    _, write_wrong = sweep([Spot("twin", "path", write)], guard, 300)

    assert any(CANARY in each for each in read_wrong)
    assert any("made: " in each for each in write_wrong)
