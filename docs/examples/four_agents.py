"""Four agents that work together through shared state: one asks, one explores, one summarises, one monitors.

    MCP_MEMORY_URL=http://127.0.0.1:8000 MCP_MEMORY_TOKEN=dev-token python docs/examples/four_agents.py

Each could be a process on a machine of its own: all they share is the server. A question goes through the states
`open`, `exploring`, `explored` and `answered`; every step is a compare-and-set, so that of any number of explorers one
takes a question.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any

from federated_memory.client import AsyncMemoryClient
from federated_memory.errors import Conflict

QUESTIONS = ["How is this project built?", "Where are sessions kept?", "Who may write a workspace?"]


async def registered(role: str) -> AsyncMemoryClient:
    """A client that writes a workspace of its own."""
    memory = AsyncMemoryClient()
    await memory.register(machine="example", tool="four-agents", project=role)
    return memory


async def ask(run: str) -> list[str]:
    """Put the questions where all see them, and wait until each is answered."""
    async with await registered("asks") as memory:
        schema = {"type": "object", "required": ["question", "status"], "properties": {
            "status": {"enum": ["open", "exploring", "explored", "answered"]},
        }}  # fmt: skip
        await memory.state.set_schema(f"{run}/questions/*", schema)
        for number, question in enumerate(QUESTIONS):
            key = f"{run}/questions/{number}"
            await memory.state.set(key, {"question": question, "status": "open"}, if_version=0)
        answers: dict[str, str] = {}
        async for event in memory.subscribe(f"{run}/questions/*"):
            if event.value and event.value["status"] == "answered":
                found = await memory.knowledge.read(event.value["workspace_id"], event.value["path"])
                answers[event.key] = found.text
            if len(answers) == len(QUESTIONS):
                return [answers[key] for key in sorted(answers)]
        raise RuntimeError("the subscription ended before the last answer")


async def take(memory: AsyncMemoryClient, key: str, value: dict[str, Any], version: int) -> int | None:
    """Take a question; None: somebody else did."""
    try:
        return (await memory.state.set(key, {**value, "status": "exploring"}, if_version=version)).version
    except Conflict:
        return None


async def explore(run: str) -> None:
    """Search the memory for what is asked."""
    async with await registered("explores") as memory:
        async for event in memory.subscribe(f"{run}/questions/*"):
            value = event.value
            if not value or value["status"] != "open":
                continue
            version = await take(memory, event.key, value, event.version)
            if version is None:
                continue
            hits = (await memory.search(value["question"], limit=5)).hits
            found = [f"{hit.workspace_id}: {hit.snippet}" for hit in hits]
            await memory.state.set(event.key, {**value, "status": "explored", "found": found}, if_version=version)


async def summarise(run: str) -> None:
    """Write down what was found, as knowledge that stays."""
    async with await registered("summarises") as memory:
        mine = (await memory.register(machine="example", tool="four-agents", project="summarises")).workspace_id
        async for event in memory.subscribe(f"{run}/questions/*"):
            value = event.value
            if not value or value["status"] != "explored":
                continue
            path = f"{run}/{event.key.rsplit('/', 1)[1]}.md"
            lines = [
                f"# {value['question']}",
                "",
                *(f"- {line}" for line in value["found"] or ["Nothing is known yet."]),
            ]
            await memory.knowledge.write(mine, path, "\n".join(lines) + "\n")
            done = {"question": value["question"], "status": "answered", "workspace_id": mine, "path": path}
            await memory.state.set(event.key, done, if_version=event.version)


async def monitor(run: str) -> None:
    """Say what goes on."""
    async with AsyncMemoryClient() as memory:
        async for event in memory.subscribe(f"{run}/*"):
            if event.kind == "change":
                status = event.value["status"] if isinstance(event.value, dict) else event.value
                print(f"{event.version:>6} {event.data['by']} {event.operation} {event.key}: {status}", flush=True)


async def main() -> int:
    run = f"example/{uuid.uuid4().hex[:8]}"
    helpers = [asyncio.create_task(work(run)) for work in (monitor, explore, summarise)]
    asking = asyncio.create_task(ask(run))
    done, _ = await asyncio.wait((asking, *helpers), return_when=asyncio.FIRST_COMPLETED)
    for task in helpers:
        task.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    for task in done:  # a helper that ended did so with an error
        answers = task.result() or []
    for answer in answers:
        print("\n" + answer.strip())
    return 0 if len(answers) == len(QUESTIONS) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
