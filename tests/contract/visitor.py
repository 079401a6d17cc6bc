"""A browser's part: cookies, forms with their hidden fields, and what a page shows."""

from __future__ import annotations

import re
from functools import partial
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx2

from tests.contract.harness import ORIGIN, Reply, Server


class Visitor:
    """One browser. It sends what browsers send, so `Origin` with every form."""

    def __init__(self, server: Server, *, address: str = "127.0.0.1", origin: str = ORIGIN) -> None:
        self._server = server
        self._origin = origin
        transport = httpx2.ASGITransport(app=server.asgi, raise_app_exceptions=False, client=(address, 50_000))
        self.client = httpx2.AsyncClient(transport=transport, base_url=origin)
        self.form_token = ""

    def request(self, method: str, path: str, content: str | None = None, **headers: str) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        send = partial(self.client.request, method, path, content=content, headers=given)
        reply = self._server.portal.call(send)
        found = Reply(reply.status_code, dict(reply.headers), reply.content)
        token = re.search(rb'name="form_token" value="([^"]*)"', found.body)
        if token:
            self.form_token = token[1].decode()
        return found

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, **headers)

    def post(self, path: str, /, **fields: str) -> Reply:
        """A form of the last page, sent from where it was shown."""
        fields = {"form_token": self.form_token, **fields}
        return self.request(
            "POST", path, urlencode(fields), origin=self._origin, content_type="application/x-www-form-urlencoded"
        )

    def sign_in(self, token: str, target: str = "") -> Reply:
        self.get("/sign-in")
        return self.post("/sign-in", token=token, next=target)

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self.client.cookies.jar}


def signed_in(server: Server, token: str) -> Visitor:
    visitor = Visitor(server)
    reply = visitor.sign_in(token)
    assert reply.status == 303, reply
    assert visitor.get("/").status == 200
    return visitor


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(reply: Reply) -> str:
    """What a reader sees, without the tags."""
    reader = _Reader()
    reader.feed(reply.body.decode())
    return " ".join("".join(reader.text).split())


def tags(reply: Reply) -> list[tuple[str, dict[str, str]]]:
    reader = _Reader()
    reader.feed(reply.body.decode())
    return reader.tags


def links(reply: Reply) -> list[str]:
    return [unescape(attributes["href"]) for tag, attributes in tags(reply) if tag == "a" and "href" in attributes]
