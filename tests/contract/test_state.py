"""Shared state: through the tools in both protocol eras and over HTTP, the same promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, Reply, Server

DOORS = (*ERAS, "http")
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**63 - 1, "", "12", '{"a": 1}', "Über 🙂", [], [None], {},
    {"a": None, "b": [1, {"c": None}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(portal, tmp_path_factory.mktemp("state") / "memory", toolsets=("all",), state_history=5) as opened:
        yield opened
    assert not opened.errors


class Door:
    """One way in, with the same calls and answers as the others."""

    def __init__(self, server: Server, how: str, token: str = AI_TOKEN) -> None:
        self.how = how
        names = {"machine": "box", "tool": "claude", "project": "home"}
        self.workspace_id = server.http(AI_TOKEN).post("/api/v1/workspaces", names).json["workspace_id"]
        self.binding = server.binding_for(token, self.workspace_id)
        if how == "http":
            self.http = server.http(token, x_memory_binding=self.binding)
        else:
            self.agent = server.agent(token, how)  # type: ignore[arg-type]
            self.bound = {"binding": self.binding}

    def _told(self, reply: Reply) -> dict[str, Any]:
        found = dict(reply.json)
        return {"error": found, "status": reply.status} if reply.status >= 400 else found

    def _tool(self, tool: str, **arguments: object) -> dict[str, Any]:
        answer = self.agent.call(tool, **arguments)
        return {"error": answer.structured["error"]} if answer.is_error else answer.structured

    def set(self, key: str, value: object, **options: Any) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.put(f"/api/v1/state/keys/{key}{query(options)}", json.dumps(value)))
        found = self._tool("set_state", key=key, value=value, **options, **self.bound)
        return found["results"][0] if "results" in found else found

    def get(self, key: str) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.get(f"/api/v1/state/keys/{key}"))
        return self._tool("get_state", key=key)

    def delete(self, key: str, **options: Any) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.delete(f"/api/v1/state/keys/{key}{query(options)}"))
        return self._tool("delete_state", key=key, **options, **self.bound)

    def list(self, **options: Any) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.get(f"/api/v1/state/keys{query(options)}"))
        return self._tool("list_state", **options)

    def history(self, key: str, **options: Any) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.get(f"/api/v1/state/history/{key}{query(options)}"))
        return self._tool("state_history", key=key, **options)

    def batch(self, *items: dict[str, Any]) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.post("/api/v1/state/batch", {"operations": items}))
        return self._tool("set_state", items=list(items), **self.bound)

    def schema(self, key: str, schema: object, on_violation: str = "refuse") -> dict[str, Any]:
        if self.how == "http":
            url = f"/api/v1/state/schemas/{key}?on_violation={on_violation}"
            return self._told(self.http.put(url, json.dumps(schema)))
        return self._tool("set_state_schema", key=key, schema=schema, on_violation=on_violation, **self.bound)

    def no_schema(self, key: str) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.delete(f"/api/v1/state/schemas/{key}"))
        return self._tool("set_state_schema", key=key, remove=True, **self.bound)

    def schemas(self, key: str) -> dict[str, Any]:
        if self.how == "http":
            return self._told(self.http.get(f"/api/v1/state/schemas?key={key}"))
        return self._tool("get_state_schema", key=key)


def query(options: dict[str, Any]) -> str:
    return "?" + "&".join(f"{name}={value}" for name, value in options.items()) if options else ""


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, shared: Server) -> Door:
    return Door(shared, request.param)


@pytest.mark.spec("STATE-1", "STATE-2")
def test_any_json_is_kept_as_it_is_and_absent_is_not_null(door: Door) -> None:
    base = f"kinds/{door.how}"
    assert door.get(f"{base}/never") == {"key": f"{base}/never", "exists": False, "version": 0, "truncated": False}

    for number, value in enumerate(VALUES):
        written = door.set(f"{base}/{number}", value)
        found = door.get(f"{base}/{number}")

        assert found["exists"] is True
        assert found["value"] == value
        assert type(found["value"]) is type(value)
        assert found["version"] == written["version"]
        assert found["updated_at"]
        assert (found["updated_by"], found["workspace_id"]) == ("ai", door.workspace_id)


@pytest.mark.spec("STATE-2", "STATE-5")
def test_versions_only_ever_rise_also_over_a_deletion(door: Door) -> None:
    key = f"rise/{door.how}"
    versions = [door.set(key, number)["version"] for number in range(3)]
    deleted = door.delete(key)
    again = door.set(key, "again")

    assert deleted["operation"] == "delete"
    assert [*versions, deleted["version"], again["version"]] == sorted(
        {*versions, deleted["version"], again["version"]}
    )
    assert door.delete(f"{key}/never") == {"key": f"{key}/never", "version": 0, "operation": "none"}


@pytest.mark.spec("STATE-3")
def test_compare_and_set_takes_only_the_version_that_is_there(door: Door) -> None:
    key = f"cas/{door.how}"
    first = door.set(key, 1, if_version=0)["version"]

    twice = door.set(key, 2, if_version=0)["error"]
    assert (twice["code"], twice["version"], twice["key"]) == ("conflict", first, key)
    second = door.set(key, 2, if_version=first)["version"]
    assert door.delete(key, if_version=first)["error"]["code"] == "conflict"
    assert door.delete(key, if_version=second)["operation"] == "delete"
    gone = door.set(key, 3, if_version=second)["error"]
    assert (gone["code"], gone["version"]) == ("conflict", 0)
    assert door.set(key, 3, if_version=-1)["error"]["code"] == "invalid_argument"


@pytest.mark.spec("STATE-1")
def test_lists_page_by_prefix(door: Door) -> None:
    base = f"list/{door.how}"
    for number in range(7):
        door.set(f"{base}/{number}", {"n": number, "none": None})
    door.set(f"{base}x", "beside")

    rows, cursor = [], None
    while True:
        page = door.list(prefix=f"{base}/", limit=3, **({"cursor": cursor} if cursor else {}))
        rows += page["values"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [(row["key"], row["value"]) for row in rows] == [
        (f"{base}/{number}", {"n": number, "none": None}) for number in range(7)
    ]
    assert door.list(prefix=f"{base}/none")["values"] == []
    assert door.list(prefix=f"{base}*")["error"]["code"] == "invalid_argument"
    assert door.list(cursor="x")["error"]["code"] == "invalid_argument"


@pytest.mark.spec("STATE-1")
def test_the_history_tells_what_who_and_when(door: Door) -> None:
    key = f"past/{door.how}"
    for number in range(4):
        door.set(key, number if number else None)
    door.delete(key)

    page = door.history(key, limit=3)
    rest = door.history(key, cursor=page["next_cursor"])

    rows = [*page["versions"], *rest["versions"]]
    assert [(row["operation"], row.get("value", "-")) for row in rows] == [
        ("delete", "-"), ("set", 3), ("set", 2), ("set", 1), ("set", None),
    ]  # fmt: skip
    assert {row["by"] for row in rows} == {"ai"}
    assert {row["workspace_id"] for row in rows} == {door.workspace_id}
    assert rest["next_cursor"] is None
    assert door.history(f"{key}/never")["versions"] == []


@pytest.mark.spec("STATE-4")
def test_a_batch_is_done_whole_or_not_at_all(door: Door) -> None:
    base = f"batch/{door.how}"
    door.set(f"{base}/old", 1)

    done = door.batch({"key": f"{base}/a", "value": 1}, {"key": f"{base}/b", "value": None, "if_version": 0},
                      {"key": f"{base}/old", "delete": True})  # fmt: skip
    assert [row["operation"] for row in done["results"]] == ["set", "set", "delete"]
    assert door.get(f"{base}/b")["value"] is None

    before = door.list(prefix=base)
    assert (
        door.batch({"key": f"{base}/c", "value": 1}, {"key": f"{base}/a", "value": 2, "if_version": 0})["error"]["code"]
        == "conflict"
    )
    assert door.batch({"key": f"{base}/c", "value": 1}, {"key": f"{base}/c", "value": 2})["error"]["code"] == (
        "invalid_argument"
    )
    assert door.batch({"key": f"{base}/c", "value": 1}, {"key": "../c", "value": 2})["error"]["code"] == "invalid_name"
    assert door.list(prefix=base) == before


@pytest.mark.spec("STATE-6")
def test_a_schema_refuses_what_does_not_hold_it_and_says_where_and_why(door: Door) -> None:
    base = f"schema/{door.how}"
    person = {
        "type": "object", "required": ["name"], "additionalProperties": False,
        "properties": {"name": {"$ref": "#/$defs/word"}, "tags": {"type": "array", "uniqueItems": True}},
        "$defs": {"word": {"type": "string", "pattern": "^[a-z]+$"}},
    }  # fmt: skip
    assert door.schema(f"{base}/*", person)["violations"] == []
    door.set(f"{base}/ok", {"name": "ada", "tags": [1, True, {"a": 1}]})

    for value, path, reason in [
        ({"name": "Ada-secret"}, "/name", 'pattern: "^[a-z]+$"'),
        ({"tags": []}, "", 'required: ["name"] missing'),
        ({"name": "ada", "tags": [1, 1.0]}, "/tags", "uniqueItems"),
        ({"name": "ada", "Ada-secret": 1}, "", "additionalProperties"),
        ("Ada-secret", "", 'type: "object"'),
    ]:
        error = door.set(f"{base}/bad", value)["error"]
        assert (error["code"], error["path"]) == ("invalid_argument", path)
        assert error["reason"].startswith(reason)
        assert "Ada-secret" not in json.dumps(error)
    assert door.get(f"{base}/bad")["exists"] is False
    (row,) = door.schemas(f"{base}/anything")["schemas"]
    assert (row["key"], row["state_schema"]) == (f"{base}/*", person)
    door.no_schema(f"{base}/*")
    assert door.schemas(f"{base}/anything")["schemas"] == []
    assert door.no_schema(f"{base}/*")["error"]["code"] == "not_found"
    assert door.set(f"{base}/bad", 1)["version"]


@pytest.mark.spec("STATE-6")
def test_registering_over_values_that_violate_it_is_refused_or_reported_as_asked(door: Door) -> None:
    base = f"over/{door.how}"
    door.set(f"{base}/a", "text")
    door.set(f"{base}/b", 1)

    refused = door.schema(f"{base}/*", {"type": "integer"})["error"]
    assert (refused["code"], refused["key"]) == ("invalid_argument", f"{base}/a")
    assert door.schemas(f"{base}/a")["schemas"] == []
    reported = door.schema(f"{base}/*", {"type": "integer"}, "report")
    assert [(row["key"], row["path"]) for row in reported["violations"]] == [(f"{base}/a", "")]
    assert door.get(f"{base}/a")["value"] == "text"
    assert door.set(f"{base}/a", "text")["error"]["code"] == "invalid_argument"


INVALID_SCHEMAS: list[Any] = [
    {"type": "nothing"}, {"minimum": "1"}, {"$ref": "https://example.org/schema"}, {"$ref": "other.json"},
    {"$ref": "#/$defs/none"}, {"$id": "https://example.org/x"}, {"pattern": "(?=a)"}, {"pattern": "(a)\\1"},
    {"patternProperties": {"(?<!a)b": {}}}, {"$schema": "http://json-schema.org/draft-07/schema#"}, {"properties": 1},
    {"$dynamicRef": "#a"}, {"unevaluatedProperties": False, "allOf": [{"patternProperties": {"a": {}}}]},
]  # fmt: skip


@pytest.mark.spec("STATE-6", "SEC-3")
def test_an_invalid_schema_is_refused(door: Door) -> None:
    deep: dict[str, Any] = {}
    for _ in range(80):
        deep = {"not": deep}
    for schema in [*INVALID_SCHEMAS, deep]:
        assert door.schema(f"invalid/{door.how}", schema)["error"]["code"] == "invalid_argument", schema
    assert door.schema(f"invalid/{door.how}", {"enum": ["x" * 70_000]})["error"]["code"] == "too_large"
    # What only looks like a keyword is a name here.
    assert "error" not in door.schema(f"valid/{door.how}", {"properties": {"$id": {}, "$ref": {"type": "string"}}})


@pytest.mark.spec("STATE-6", "SEC-3")
def test_a_schema_that_would_take_for_ever_is_stopped(door: Door) -> None:
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}
    key = f"forever/{door.how}"
    door.schema(f"{key}/1", {"$ref": "#/$defs/a0", "$defs": {**twice, "a30": True}})
    door.schema(f"{key}/2", {"$ref": "#"})
    door.schema(f"{key}/3", {"pattern": "(a*)*b"})

    assert "steps" in door.set(f"{key}/1", 1)["error"]["reason"]
    assert "without end" in door.set(f"{key}/2", 1)["error"]["reason"]
    assert door.set(f"{key}/3", "a" * 20_000)["error"]["reason"].startswith("pattern")


HOSTILE_KEYS = [
    "a/", "/a", "a//b", ".", "..", "../a", "a/../b", ".a", "-a", "a b", "ä", "a\u200b", "a%", "a*", "a?", "a\\b",
    "a" * 201, "a/" * 100 + "a", "a\n", "a\x00", "con'", '"a"', "a+b", "~a", "a;b",
]  # fmt: skip


@pytest.mark.spec("STATE-1")
def test_hostile_keys_are_refused(door: Door) -> None:
    for key in HOSTILE_KEYS:
        if door.how == "http" and not key.strip("."):
            continue  # clients take these out of a path
        asked = quote(key, safe="") if door.how == "http" else key
        for answer in (door.get(asked), door.set(asked, 1), door.delete(asked), door.history(asked)):
            assert answer["error"]["code"] in ("invalid_name", "invalid_argument"), (key, answer)


@pytest.mark.spec("STATE-1", "STATE-8")
def test_what_is_too_large_or_no_json_is_refused(door: Door, shared: Server) -> None:
    key = f"large/{door.how}"
    deep: list[Any] = []
    for _ in range(70):
        deep = [deep]

    assert door.set(key, "x" * 60_000)["error"]["code"] == "too_large"
    assert door.set(key, deep)["error"]["code"] == "invalid_argument"
    assert door.set(key, "x" * 59_000)["version"]
    assert door.get(key)["exists"] is True
    assert door.set(key, 1, ttl_seconds=0)["error"]["code"] == "invalid_argument"
    assert door.set(key, 1, ttl_seconds=1e12)["error"]["code"] == "invalid_argument"
    if door.how == "http":
        for body in (b"", b"{", b"\xff", b"NaN", b"[1,]", b"'a'", b'"\xed\xa0\x80"', b"[" * 100_000):
            reply = door.http.put(f"/api/v1/state/keys/{key}", body)
            assert reply.status in (400, 413), (body[:10], reply)
        for batch in (b"1", b"{}", b'{"operations": []}', b'{"operations": [1]}', b'{"operations": [{"key": 1}]}',
                      b'{"operations": [{"key": "a", "nothing": 1}]}', b'{"operations": [{"key":"a"}], "b": 1}',
                      b'{"operations": [{"key": "a", "if_version": "1"}]}'):  # fmt: skip
            assert door.http.request("POST", "/api/v1/state/batch", batch).status == 400, batch
        for options in ("if_version=x", "if_version=1.5", "ttl_seconds=x", "ttl_seconds=nan", "ttl_seconds=-1"):
            assert door.http.put(f"/api/v1/state/keys/{key}?{options}", b"1").status == 400
        assert door.http.put(f"/api/v1/state/schemas/{key}?on_violation=x", b"{}").status == 400
    else:
        assert door._tool("set_state", **door.bound)["error"]["code"] == "invalid_argument"
        assert door._tool("set_state_schema", key=key, **door.bound)["error"]["code"] == "invalid_argument"
        assert door._tool("get_state", key=key, max_bytes=1_000)["truncated"] is True
    assert shared.errors == []


@pytest.mark.spec("STATE-8")
def test_who_writes_faster_than_allowed_is_told_when_to_go_on(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", toolsets=("all",), state_writes_per_second=5, state_keys=15) as server:
        door, other = Door(server, "http"), Door(server, "2026-07-28", ADMIN_TOKEN)
        codes = [door.http.put(f"/api/v1/state/keys/k{number}", b"1") for number in range(12)]

        assert [reply.status for reply in codes][:10] == [200] * 10
        limited = next(reply for reply in codes if reply.status == 429)
        assert limited.code == "rate_limited"
        assert int(limited.headers["retry-after"]) >= 1
        items = [{"key": f"o{number}", "value": 1} for number in range(6)]
        assert other.batch(*items)["error"]["code"] == "too_large"
        assert server.services.core.state._keys == server.services.core.state._count()


@pytest.mark.spec("STATE-5")
def test_a_time_to_live_ends_a_value_and_no_set_clock_does(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", toolsets=("all",)) as server:
        door = Door(server, "http")
        shared = server.services.core.state
        version = door.set("lease", "mine", ttl_seconds=60)["version"]
        assert door.get("lease")["expires_at"]

        passed = shared._elapsed()
        shared._elapsed = lambda: passed + 61  # the time passes
        assert door.get("lease") == {"key": "lease", "exists": False, "version": 0, "truncated": False}
        assert door.list()["values"] == []
        assert door.set("lease", "theirs", if_version=version)["error"]["code"] == "conflict"
        assert door.set("lease", "theirs", if_version=0)["version"] > version
        operations = [row["operation"] for row in door.history("lease")["versions"]]
        assert operations == ["set", "expire", "set"]
        door.set("other", 1, ttl_seconds=1)
        shared._elapsed = lambda: passed + 70
        assert shared.expire() == 1
        assert shared._keys == shared._count() == 1


@pytest.mark.spec("STATE-2")
def test_only_what_is_needed_is_kept_and_everything_can_be_resumed(portal: BlockingPortal, tmp_path: Path) -> None:
    with Server(portal, tmp_path / "memory", state_history=3, state_log=20) as server:
        door = Door(server, "http")
        door.set("rare", "kept")
        door.set("gone", 1)
        door.delete("gone")
        for number in range(60):
            door.set("busy", number)
            server.services.core.state.sweep()
        shared = server.services.core.state

        assert [row["value"] for row in door.history("busy")["versions"]][:3] == [59, 58, 57]
        assert len(door.history("busy", limit=100)["versions"]) <= 25
        assert [row["value"] for row in door.history("rare")["versions"]] == ["kept"]
        assert door.history("gone")["versions"] == []
        head = shared.head()
        assert shared.holds_all_after(head - 20)
        assert [change.number for change in shared.after(head - 20)] == list(range(head - 19, head + 1))
        assert not shared.holds_all_after(1)
        assert not shared.holds_all_after(head + 1)


@pytest.mark.spec("STATE-1", "STATE-2")
def test_a_value_is_told_alike_by_tool_and_route(shared: Server) -> None:
    doors = [Door(shared, how) for how in DOORS]
    for number, value in enumerate((*VALUES, "absent", "ends")):
        key = f"alike/{number}"
        if value != "absent":
            doors[0].set(key, value, **({"ttl_seconds": 1_000} if value == "ends" else {}))
        first, *others = (door.get(key) for door in doors)
        assert all(other == first for other in others)
        assert first.get("value") == (value if value != "absent" else None)
        assert ("value" in first) is (value != "absent")
