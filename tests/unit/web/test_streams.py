"""Requests under way, ended by their token or by a stop (SPEC: AUTH-4, RUN-4)."""

from __future__ import annotations

import anyio
import pytest

from federated_memory.web.streams import Streams


async def hold(
    streams: Streams, fingerprint: str, ended: list[str], *, is_stream: bool, deadline: float | None
) -> None:
    with streams.opened(fingerprint, deadline) as request:
        request.is_event_stream = is_stream
        await anyio.sleep_forever()
    ended.append(fingerprint)


@pytest.mark.spec("AUTH-4")
def test_a_token_ends_its_own_requests_and_no_others() -> None:
    async def run() -> list[str]:
        streams, ended = Streams(), list[str]()
        streams.start()
        async with anyio.create_task_group() as tasks:
            for fingerprint in ("a", "a", "b"):
                tasks.start_soon(_hold, streams, fingerprint, ended)
            await anyio.wait_all_tasks_blocked()
            assert streams.count == 3
            await anyio.to_thread.run_sync(streams.end, "a")
            await anyio.wait_all_tasks_blocked()
            found = [*ended]
            assert streams.count == 1
            streams.end("b")
        return found

    assert anyio.run(run) == ["a", "a"]


async def _hold(streams: Streams, fingerprint: str, ended: list[str]) -> None:
    await hold(streams, fingerprint, ended, is_stream=False, deadline=None)


@pytest.mark.spec("AUTH-4")
def test_a_request_ends_when_its_token_expires() -> None:
    async def run() -> list[str]:
        streams, ended = Streams(), list[str]()
        await hold(streams, "a", ended, is_stream=True, deadline=anyio.current_time())
        return ended

    assert anyio.run(run) == ["a"]


@pytest.mark.spec("RUN-4")
def test_a_stop_ends_only_what_never_ends_by_itself() -> None:
    async def run() -> list[str]:
        streams, ended = Streams(), list[str]()
        streams.start()
        async with anyio.create_task_group() as tasks:
            for fingerprint, is_stream in (("stream", True), ("upload", False)):
                tasks.start_soon(_hold_kind, streams, fingerprint, ended, is_stream)
            await anyio.wait_all_tasks_blocked()
            streams.end_event_streams()
            await anyio.wait_all_tasks_blocked()
            found = [*ended]
            streams.end("upload")
        return found

    assert anyio.run(run) == ["stream"]


async def _hold_kind(streams: Streams, fingerprint: str, ended: list[str], is_stream: bool) -> None:
    await hold(streams, fingerprint, ended, is_stream=is_stream, deadline=None)


@pytest.mark.spec("AUTH-4")
def test_ending_what_is_not_there_does_nothing() -> None:
    Streams().end("nobody")
