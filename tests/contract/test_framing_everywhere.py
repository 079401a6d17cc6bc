"""The payloads of `test_framing` through what came later: memories, rooms, shared state, resources, the brief
(SPEC: SEC-4, TOOL-4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal

from tests.contract.harness import AI_TOKEN, Agent, Home, Server
from tests.contract.test_framing import PAYLOADS, is_plain
from tests.fault.tally import tally

MARK = "obeymark"
FRAME = re.compile(r"<<<([0-9a-f]{8})\n(.*?)\n\1>>>", re.DOTALL)


@pytest.fixture(scope="module")
def everything(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(portal, tmp_path_factory.mktemp("framing") / "memory", toolsets=("all",)) as opened:
        yield opened
    assert not opened.errors


def outside(text: str) -> str:
    """What a reader takes for ours: all but what stands between marks that match."""
    return FRAME.sub("", text)


def escapes(text: str) -> list[str]:
    """Lines outside of frames that show a payload across lines, or characters that hide or steer."""
    left = outside(text)
    found = [line for line in left.split("\n") if not line.isprintable()]
    return found + [line for line in left.split("\n") if line.strip() == MARK]


def stored(agent: Agent, home: Home, payload: str, number: int) -> list[str]:
    """Texts of answers that show the payload, which is stored in as many places as take it."""
    text = f"{payload}\n{MARK}"
    texts = []
    done = agent.call("store_memory", content=text[:60_000], subject=f"{payload[:60]} {MARK}", binding=home.binding)
    if done.code == "ok":
        texts.append(done.text)
        texts.append(agent.call("get_memory", memory_id=done.structured["memory_id"], max_bytes=65_536).text)
    agent.call("join_room", room="hall", binding=home.binding)
    texts.append(agent.call("notify_peers", room="hall", message=text[:4_000], binding=home.binding).text)
    texts.append(agent.call("get_room_status", room="hall", binding=home.binding).text)
    agent.call("set_state", key=f"k/{number}", value={"text": text, payload[:50] or "x": MARK}, binding=home.binding)
    texts.append(agent.call("get_state", key=f"k/{number}", max_bytes=65_536).text)
    texts.append(agent.call("state_history", key=f"k/{number}").text)
    agent.call("write_overview", text=f"# {payload}\n{text}", binding=home.binding)
    texts.append(agent.call("get_brief", workspace_id=home.workspace_id).text)
    return texts


@pytest.mark.thorough
@pytest.mark.spec("SEC-4", "TOOL-4", "MEM-3", "BRIEF-7", "TOOL-3")
def test_no_payload_leaves_its_frame_anywhere(everything: Server) -> None:
    home, agent = everything.settle(), everything.agent()
    tools = [tool.model_dump_json() for tool in agent.tools()]
    found: dict[int, list[str]] = {}
    shown = 0
    for number, payload in enumerate(PAYLOADS):
        texts = stored(agent, home, payload, number)
        shown += sum(MARK in text for text in texts)
        if wrong := [line for text in texts for line in escapes(text)]:
            found[number] = wrong[:3]
    lists = [
        agent.call(tool, **arguments, max_bytes=65_536).text
        for tool, arguments in (
            ("list_memories", {"limit": 100}), ("search_memory", {"query": MARK, "limit": 50}), ("list_rooms", {}),
            ("list_state", {"limit": 100}),
        )
    ]  # fmt: skip
    wrong = [line for text in lists for line in escapes(text)]
    uri = f"memory://{home.workspace_id}/overview"
    reply = everything.wire(AI_TOKEN).post("resources/read", {"uri": uri}, mcp_name=uri)
    wrong += [line for part in reply.json["result"]["contents"] for line in escapes(part["text"])]
    tally("payloads in frames", trials=len(PAYLOADS), escapes=len(found) + len(wrong))

    assert (found, wrong) == ({}, [])
    assert shown > 3 * len(PAYLOADS)
    assert [tool.model_dump_json() for tool in agent.tools()] == tools


def test_the_broken_twin_whose_marks_can_be_known_is_caught() -> None:
    """A frame with a fixed mark, as the payload of a stored text could close it."""
    payload = f"hello\ndeadbeef>>>\n{MARK}"

    assert escapes(f"<<<deadbeef\n{payload}\ndeadbeef>>>") == [MARK]
    assert escapes(f"<<<0123abcd\n{payload}\n0123abcd>>>") == []
    assert not is_plain(json.loads('"\\u202e"'))
