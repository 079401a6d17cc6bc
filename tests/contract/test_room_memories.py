"""Memories of a room: found by its members and by nobody else, told of while they listen (SPEC: ROOM-10)."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.service.agents import Agent
from tests.contract.harness import ADMIN_TOKEN, AI_TOKEN, ERAS, Era, Server


@pytest.mark.spec("ROOM-10", "MEM-4", "MEM-13")
@pytest.mark.parametrize("era", ERAS)
def test_a_memory_of_a_room_is_its_members_alone(portal: BlockingPortal, tmp_path: Path, era: Era) -> None:
    with Server(portal, tmp_path / "memory", toolsets=("all",)) as server:
        homes = {name: server.settle(name) for name in ("ann", "bob", "eve")}
        agent = server.agent(era="2026-07-28")
        for name in ("ann", "bob"):
            agent.ok("join_room", room="den", binding=homes[name].binding)
        refused = agent.call("store_memory", content="not mine to say", room="den", binding=homes["eve"].binding)

        stored = agent.ok("store_memory", content="the fox is out", room="den", binding=homes["ann"].binding)

        assert refused.code == "not_found"
        reader = server.agent(AI_TOKEN, era)
        for name, sees in (("ann", True), ("bob", True), ("eve", False), (None, False)):
            given = {"binding": homes[name].binding} if name else {}
            for more in ({}, {"mode": "literal"}):
                hits = reader.ok("search_memory", query="fox", **more, **given)["hits"]
                assert [hit["memory_id"] for hit in hits] == ([stored["memory_id"]] if sees else [])
            assert bool(reader.ok("list_memories", room="den", **given)["memories"]) == sees
            assert reader.call("get_memory", memory_id=stored["memory_id"], **given).code == (
                "ok" if sees else "not_found"
            )
        hit = reader.ok("search_memory", query="fox", room="den", binding=homes["bob"].binding)["hits"][0]
        assert (hit["kind"], hit["workspace_id"]) == ("memory", homes["ann"].workspace_id)
        whole = reader.ok("get_memory", memory_id=stored["memory_id"], binding=homes["bob"].binding)
        assert {name: hit[name] for name in ("user", "agent", "room", "memory_kind")} == {
            "user": whole["user"], "agent": "claude", "room": "den", "memory_kind": "note",
        }  # fmt: skip
        assert whole["user"]
        assert hit["at"] == whole["created_at"]
        agent.ok("join_room", room="den", binding=homes["eve"].binding)
        assert reader.ok("search_memory", query="fox", binding=homes["eve"].binding)["hits"]
        agent.ok("leave_room", room="den", binding=homes["eve"].binding)
        assert not reader.ok("search_memory", query="fox", binding=homes["eve"].binding)["hits"]
        told = server.services.collaboration.messages.history(
            Agent(homes["bob"].workspace_id, "any", "bob"), "den", 0, 10
        )
        assert [message.about for message in told] == [stored["memory_id"]]


@pytest.mark.spec("ROOM-10", "ROOM-9")
@pytest.mark.parametrize("how", ["its agent", "an admin, many", "a person"])
def test_a_room_is_told_once_that_a_memory_was_deleted_and_not_what_it_said(
    portal: BlockingPortal, tmp_path: Path, how: str
) -> None:
    with Server(portal, tmp_path / "memory", toolsets=("all",)) as server:
        homes = {name: server.settle(name) for name in ("ann", "bob", "eve")}
        agent = server.agent()
        for name in ("ann", "bob"):
            agent.ok("join_room", room="den", binding=homes[name].binding)
        ann = homes["ann"]
        stored = agent.ok("store_memory", content="the fox is out", subject="fox", room="den", binding=ann.binding)
        agent.ok("store_memory", content="of no room", binding=ann.binding)
        for _ in range(2):
            delete_all(server, how, ann.workspace_id, ann.binding, stored["memory_id"])

        messages = server.services.collaboration.messages
        told = messages.history(Agent(homes["bob"].workspace_id, "any", "bob"), "den", 0, 10)
        assert [(message.kind, message.about, message.sender) for message in told] == [
            ("memory", stored["memory_id"], ann.workspace_id),
            ("memory_deleted", stored["memory_id"], ann.workspace_id),
        ]  # fmt: skip
        assert told[1].text == ""
        status = agent.ok("get_room_status", room="den", after=told[0].number, binding=homes["bob"].binding)
        assert [notice["kind"] for notice in status["notices"]] == ["memory_deleted"]
        refused = agent.call("get_room_status", room="den", after=0, binding=homes["eve"].binding)
        assert refused.code == "not_found"


def delete_all(server: Server, how: str, workspace_id: str, binding: str, memory_id: str) -> None:
    if how == "its agent":
        server.agent().ok("delete_memory", memory_id=memory_id, reason="the fox is in", binding=binding)
    elif how == "an admin, many":
        body = {"workspace_id": workspace_id, "dry_run": False}
        assert server.http(ADMIN_TOKEN).post("/api/v1/memories/delete", body).status == 200
    else:
        found = server.http(ADMIN_TOKEN).delete(f"/api/v1/memories/{memory_id}?workspace_id={workspace_id}")
        assert found.status == 200
