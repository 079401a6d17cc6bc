"""The reference for shared state: bare routes behind a bearer check, and the same before Redis.

    python -m scripts.bench.bare_state CONTROL_FILE TOKEN [REDIS_PORT]

`GET` and `PUT /noop/{key}` do nothing but take and give JSON; `/redis/{key}` also asks Redis, over one connection.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Redis:
    """As much of its protocol as is needed; one command after another, many at once on the way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.waiting: asyncio.Queue[asyncio.Future[bytes | None]] = asyncio.Queue()

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.task = asyncio.create_task(self.read())

    async def call(self, *parts: bytes) -> bytes | None:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(answer)
        self.writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return await answer

    async def read(self) -> None:
        while True:
            answer = await self.waiting.get()
            line = (await self.reader.readline()).rstrip()
            if line.startswith(b"$") and line != b"$-1":
                answer.set_result((await self.reader.readexactly(int(line[1:]) + 2))[:-2])
            else:
                answer.set_result(None if line == b"$-1" else line)


class Routes:
    def __init__(self, token: str, redis: Redis | None) -> None:
        self.digest = hashlib.sha256(token.encode()).digest()
        self.redis = redis

    def refuses(self, request: Request) -> bool:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        return not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self.digest)

    async def get(self, request: Request) -> Response:
        if self.refuses(request):
            return Response(status_code=401)
        value: object = {"text": "x" * 100}
        if self.redis is not None and request.url.path.startswith("/redis/"):
            held = await self.redis.call(b"GET", request.path_params["key"].encode())
            value = orjson.loads(held) if held is not None else None
        return answered({"key": request.path_params["key"], "exists": True, "value": value, "version": 1})

    async def put(self, request: Request) -> Response:
        if self.refuses(request):
            return Response(status_code=401)
        value = orjson.dumps(orjson.loads(await request.body()))
        if self.redis is not None and request.url.path.startswith("/redis/"):
            await self.redis.call(b"SET", request.path_params["key"].encode(), value)
        return answered({"key": request.path_params["key"], "version": 1, "operation": "set"})


def answered(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def main(control_file: str, token: str, redis_port: str = "") -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    redis = Redis(int(redis_port)) if redis_port else None
    routes = Routes(token, redis)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if redis is not None:
            await redis.open()
        temporary = Path(control_file).with_suffix(".tmp")
        temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        temporary.rename(control_file)
        yield

    served = [
        Route(f"/{place}/{{key:path}}", handler, methods=[method])
        for place in ("noop", "redis")
        for method, handler in (("GET", routes.get), ("PUT", routes.put))
    ]
    app = Starlette(routes=served, lifespan=lifespan)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:4])
