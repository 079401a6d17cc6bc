"""Memories of a room: found by its members and by nobody else, told of while they listen (SPEC: ROOM-10)."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from federated_memory.service.agents import Agent
from tests.contract.harness import AI_TOKEN, ERAS, Era, Server


@pytest.mark.spec("ROOM-10", "MEM-13")
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
        agent.ok("join_room", room="den", binding=homes["eve"].binding)
        assert reader.ok("search_memory", query="fox", binding=homes["eve"].binding)["hits"]
        agent.ok("leave_room", room="den", binding=homes["eve"].binding)
        assert not reader.ok("search_memory", query="fox", binding=homes["eve"].binding)["hits"]
        told = server.services.collaboration.messages.history(
            Agent(homes["bob"].workspace_id, "any", "bob"), "den", 0, 10
        )
        assert [message.about for message in told] == [stored["memory_id"]]
