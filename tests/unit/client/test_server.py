"""The client's connection: where it may go, whom it believes, and what it makes of other people's answers."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    body: bytes = b"{}"
    closes: bool = False
    """The connection is closed behind the answer, without a word of it."""


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: Any


class Listener:
    """A server that gives scripted answers, the last one again and again."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.replies: list[Reply] = [Reply()]
        self.seen: list[Seen] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self._body(headers)
                listener.seen.append(Seen(self.command, self.path, headers, body, self.client_address))
                reply = listener.replies.pop(0) if len(listener.replies) > 1 else listener.replies[0]
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                self.close_connection = self.close_connection or reply.closes

            def _body(self, headers: dict[str, str]) -> bytes:
                if headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(headers.get("content-length", 0)))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _any

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # a client that does not trust us hangs up
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        if context:
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self.http.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(context: ssl.SSLContext | None = None) -> Listener:
        made.append(Listener(context))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


@pytest.fixture
def listener(listen: Callable[..., Listener]) -> Listener:
    return listen()


def config_for(sync: ModuleType, url: str, **more: Any) -> Any:
    return sync.Config(url=url, sync_token="sync-token", ai_token="ai-token", machine="box", **more)


def log_of(home: Path) -> str:
    path = home / ".memory-sync" / "log"
    return path.read_text() if path.exists() else ""


# -- where it may go


@pytest.mark.spec("SEND-7")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"), ("172.16.0.1", "private"), ("172.31.255.255", "private"), ("192.168.1.1", "private"),
        ("100.64.0.1", "private"), ("169.254.1.1", "private"), ("fd00::1", "private"), ("fe80::1%eth0", "private"),
        ("::ffff:10.0.0.1", "private"), ("172.32.0.1", "public"), ("100.128.0.1", "public"), ("8.8.8.8", "public"),
        ("0.0.0.0", "public"), ("::", "public"), ("2001:db8::1", "public"), ("192.0.2.1", "public"),
        ("::ffff:8.8.8.8", "public"), ("64:ff9b::7f00:1", "public"), ("224.0.0.1", "public"),
    ],
)  # fmt: skip
def test_an_address_is_loopback_private_or_public(sync: ModuleType, address: str, expected: str) -> None:
    assert sync.address_class(address) == expected


@pytest.mark.spec("SEND-7")
def test_plain_http_is_silent_on_loopback_warned_about_in_private_and_refused_elsewhere(sync: ModuleType) -> None:
    assert sync.ensure_url_allowed("http://127.0.0.1:8000/mcp", allow_http=False) == ""
    assert sync.ensure_url_allowed("http://[::1]:8000", allow_http=False) == ""
    assert sync.ensure_url_allowed("https://203.0.113.9", allow_http=False) == ""
    assert "plain HTTP" in sync.ensure_url_allowed("http://192.168.1.5:8000", allow_http=True)
    with pytest.raises(sync.UsageError, match="--allow-http"):
        sync.ensure_url_allowed("http://192.168.1.5:8000", allow_http=False)
    for allowed in (True, False):
        with pytest.raises(sync.UsageError, match="use https"):
            sync.ensure_url_allowed("http://203.0.113.9", allow_http=allowed)


@pytest.mark.spec("SEND-7")
def test_a_name_is_judged_by_the_worst_of_its_addresses(sync: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 80)), (socket.AF_INET, 1, 6, "", ("203.0.113.9", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(sync.UsageError, match=r"203\.0\.113\.9"):
        sync.ensure_url_allowed("http://memory.example", allow_http=True)


@pytest.mark.spec("SEND-7")
def test_a_name_that_moves_to_a_public_address_gets_no_token(
    sync: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    places = ["127.0.0.1", "203.0.113.9"]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, port, **__: [(socket.AF_INET, 1, 6, "", (places.pop(0), port))]
    )
    assert sync.ensure_url_allowed("http://memory.example:1", allow_http=False) == ""
    with pytest.raises(sync.UsageError, match="not a private address"):
        sync.Server(config_for(sync, "http://memory.example:1")).request("GET", "/")


@pytest.mark.spec("SEND-7")
@pytest.mark.parametrize(
    "url",
    ["", "memory.example", "ftp://memory.example", "https://", "https://user:secret@memory.example", "https://h:99999",
     "https://h?x=1", "https://h#code", "https://a b", "https://[::1", "http://h:0"],
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused_without_repeating_a_password(sync: ModuleType, url: str) -> None:
    with pytest.raises(sync.UsageError) as caught:
        sync.Server(config_for(sync, url))
    assert caught.value.hint
    if "@" in url:
        assert "secret" not in str(caught.value)


@pytest.mark.spec("SEND-7")
def test_the_endpoint_of_mcp_and_a_path_of_a_proxy_are_understood(
    sync: ModuleType, home: Path, listener: Listener
) -> None:
    del home
    with sync.Server(config_for(sync, f"{listener.url}/memory/mcp")) as server:
        assert server.request("GET", "/healthz", role="none").json() == {}
    assert listener.seen[0].path == "/memory/healthz"
    assert "authorization" not in listener.seen[0].headers


# -- other people's answers


@pytest.mark.spec("SEND-10")
@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(413, HTML, b"<html>"), "Refused", "client_max_body_size"),
        (Reply(429, {**HTML, "Retry-After": "17"}, b"<html>"), "Unreachable", "limits requests"),
        (Reply(502, HTML, b"<html>Bad Gateway"), "Unreachable", "server behind it"),
        (Reply(503, HTML, b"<html>"), "Unreachable", "server behind it"),
        (Reply(504, HTML, b"<html>"), "Unreachable", "server behind it"),
        (Reply(200, HTML, b"<html>Log in to Hotel Wi-Fi"), "Unreachable", "login"),
        (Reply(200, {}, b"Welcome"), "Unreachable", "no JSON"),
        (Reply(404, HTML, b"<html>nginx"), "Unreachable", "Check url"),
        (Reply(404, {}, b""), "Refused", "does not look like Federated Memory"),
        (Reply(407, {}, b""), "Unreachable", "HTTPS_PROXY"),
        (Reply(401, HTML, b"<html>"), "Unreachable", "login"),
        (Reply(507, PROBLEM, b'{"message": "The disk is full", "hint": "Free some."}'), "Unreachable", "disk is full"),
        (Reply(403, PROBLEM, b'{"message": "Wrong write token", "hint": "Reissue it."}'), "Refused", "Reissue it"),
        (Reply(400, PROBLEM, b'["no object"]'), "Refused", "answered 400"),
    ],
)  # fmt: skip
def test_an_answer_says_whether_to_come_again_and_what_to_do(
    sync: ModuleType, home: Path, listener: Listener, reply: Reply, kind: str, words: str
) -> None:
    listener.replies = [reply]
    with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(getattr(sync, kind)) as caught:
        server.request("GET", "/api/v1/workspaces").json()
    assert words in str(caught.value)
    assert ".." not in str(caught.value)
    assert "401:" not in log_of(home)


@pytest.mark.spec("SEND-10", "RATE-2")
def test_retry_after_is_kept_in_both_its_forms_and_bounded(sync: ModuleType, home: Path, listener: Listener) -> None:
    del home
    found = []
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=600)
    for value in ("17", "999999", soon.strftime("%a, %d %b %Y %H:%M:%S GMT"), "nonsense"):
        listener.replies = [Reply(429, {**PROBLEM, "Retry-After": value}, b"{}")]
        with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(sync.Unreachable) as caught:
            server.request("GET", "/")
        found.append(caught.value.retry_after_seconds)
    assert found[:2] == [17.0, 3600.0]
    assert 0 < found[2] <= 600
    assert found[3] is None


@pytest.mark.spec("SEND-10")
def test_a_redirect_is_not_followed_and_its_target_is_named(sync: ModuleType, home: Path, listener: Listener) -> None:
    del home
    listener.replies = [Reply(308, {"Location": "https://memory.example:7443/api/v1/workspaces?limit=1"}, b"")]
    with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(sync.Unreachable) as caught:
        server.request("GET", "/api/v1/workspaces?limit=1")
    assert "set url to https://memory.example:7443" in str(caught.value)
    assert len(listener.seen) == 1


@pytest.mark.spec("SEND-10")
def test_an_endless_answer_is_cut_off(
    sync: ModuleType, home: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    monkeypatch.setattr(sync, "_MAX_ANSWER_BYTES", 1000)
    listener.replies = [Reply(body=b" " * 1001)]
    with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(sync.Unreachable, match="16 MB"):
        server.request("GET", "/")


@pytest.mark.spec("SEND-10")
def test_a_connection_closed_while_idle_is_opened_again(sync: ModuleType, home: Path, listener: Listener) -> None:
    del home
    listener.replies = [Reply(), Reply(closes=True), Reply(), Reply()]
    with sync.Server(config_for(sync, listener.url)) as server:
        for _ in range(4):
            server.request("PUT", "/", body=lambda: iter([b"a", b"b"]))
    assert [seen.body for seen in listener.seen] == [b"ab"] * 4
    assert listener.seen[0].peer == listener.seen[1].peer
    assert listener.seen[2].peer != listener.seen[1].peer


@pytest.mark.spec("SEND-10")
def test_nobody_there_is_said(sync: ModuleType, home: Path) -> None:
    del home
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with sync.Server(config_for(sync, url)) as server, pytest.raises(sync.Unreachable, match="Cannot reach"):
            server.request("GET", "/")


@pytest.mark.spec("SEND-10")
def test_an_answer_before_the_end_of_the_body_is_heard(sync: ModuleType, home: Path) -> None:
    """As a server does that refuses by the head alone: it answers, reads no further and hangs up."""
    del home
    with socket.create_server(("127.0.0.1", 0)) as door:

        def refuse() -> None:
            peer, _ = door.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 507 x\r\nContent-Type: application/problem+json\r\nContent-Length: 18\r\n"
                             b"Connection: close\r\n\r\n{\"message\":\"full\"}")  # fmt: skip
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 20):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        with sync.Server(config_for(sync, url)) as server, pytest.raises(sync.Unreachable, match="full"):
            server.request("PUT", "/", body=lambda: (bytes(1 << 16) for _ in range(50)))
        thread.join()


# -- bodies


@pytest.mark.spec("SEND-6")
def test_a_stream_arrives_as_it_is_and_compressed_where_that_is_worth_it(
    sync: ModuleType, home: Path, listener: Listener
) -> None:
    del home
    parts = [b"line %d\n" % number for number in range(5000)]
    with sync.Server(config_for(sync, listener.url)) as server:
        server.request("PUT", "/", body=lambda: iter(parts), compress=True)
        server.compresses = True  # as it is towards another machine
        server.request("PUT", "/", body=lambda: iter(parts), compress=True)
        server.request("PUT", "/", body=b"short", compress=True)
        server.request("PUT", "/", body=lambda: iter(()), compress=True)
    plain, packed, short, empty = listener.seen
    assert plain.body == b"".join(parts)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3
    assert short.body == b"short"
    assert gzip.decompress(empty.body) == b""


@pytest.mark.spec("SEND-6")
def test_what_shrinks_a_hundredfold_does_not_look_like_a_bomb(sync: ModuleType) -> None:
    data = bytes(3 << 20)
    packed = b"".join(sync.gzipped(data[start : start + 70_000] for start in range(0, len(data), 70_000)))
    assert gzip.decompress(packed) == data
    assert len(packed) > len(data) / 200


# -- a token that is not known


@pytest.mark.spec("SEND-9")
def test_after_a_401_nothing_is_sent_until_the_token_changes(sync: ModuleType, home: Path, listener: Listener) -> None:
    listener.replies = [Reply(401, PROBLEM, b"{}")]
    config = config_for(sync, listener.url)
    for _ in range(3):
        with sync.Server(config) as server, pytest.raises(sync.Unauthorised, match="Run install"):
            server.request("GET", "/api/v1/workspaces")
    assert len(listener.seen) == 1
    assert log_of(home).count("401:") == 1
    assert sync.stopped_roles(config) == ["sync"]
    listener.replies = [Reply()]
    with sync.Server(config) as server:
        server.request("GET", "/", role="ai")
        server.request("GET", "/healthz", role="none")
    config.sync_token = "another"
    with sync.Server(config) as server:
        server.request("GET", "/")
    assert sync.stopped_roles(config) == []


@pytest.mark.spec("SEND-9")
def test_a_check_may_try_a_refused_token_again_and_so_lift_the_stop(
    sync: ModuleType, home: Path, listener: Listener
) -> None:
    del home
    config = config_for(sync, listener.url)
    listener.replies = [Reply(401, PROBLEM, b"{}"), Reply()]
    with sync.Server(config) as server, pytest.raises(sync.Unauthorised):
        server.request("GET", "/")
    with sync.Server(config, even_if_refused=True) as server:
        server.request("GET", "/")
    with sync.Server(config) as server:
        server.request("GET", "/")
    assert sync.stopped_roles(config) == []


@pytest.mark.spec("SEND-9")
def test_the_refused_token_itself_is_not_kept(sync: ModuleType, home: Path, listener: Listener) -> None:
    listener.replies = [Reply(401, PROBLEM, b"{}")]
    with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(sync.Unauthorised):
        server.request("GET", "/")
    for path in (home / ".memory-sync").rglob("*"):
        assert not path.is_file() or b"sync-token" not in path.read_bytes()


def test_a_missing_or_mangled_token_is_said_before_anything_is_sent(
    sync: ModuleType, home: Path, listener: Listener
) -> None:
    del home
    for token in ("", "two\nlines", "schlüssel"):
        config = sync.Config(url=listener.url, sync_token=token)
        with sync.Server(config) as server, pytest.raises(sync.UsageError, match="sync token"):
            server.request("GET", "/")
    assert listener.seen == []


# -- certificates


@dataclass
class Issued:
    pem: bytes
    key: bytes
    der: bytes

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    def context(self, folder: Path) -> ssl.SSLContext:
        path = folder / f"{self.fingerprint}.pem"
        path.write_bytes(self.key + self.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


class Authority:
    """A home-made certificate authority, and what people get wrong with one."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("home authority", self.key, [], is_authority=True)
        self.pem = self._pem(self.certificate)

    def issue(
        self, *, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 30), self_signed: bool = False
    ) -> Issued:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        found = self._sign("server", key, [address], days=days, signed_by=key if self_signed else self.key)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Issued(self._pem(found), private, found.public_bytes(serialization.Encoding.DER))

    def _sign(
        self, name: str, key: Any, addresses: list[str], *, days: tuple[int, int] = (-1, 30),
        is_authority: bool = False,
        signed_by: Any = None,
    ) -> Any:  # fmt: skip
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        is_own = signed_by is None or signed_by is key
        issuer = subject if is_own else self.certificate.subject
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )  # fmt: skip
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signed_by or key, hashes.SHA256())

    @staticmethod
    def _pem(certificate: Any) -> bytes:
        from cryptography.hazmat.primitives import serialization

        found: bytes = certificate.public_bytes(serialization.Encoding.PEM)
        return found


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.spec("SEND-8")
@pytest.mark.parametrize(
    ("wrong", "reason", "remedy"),
    [
        ({}, "not trusted", "new invitation"),
        ({"self_signed": True}, "not trusted", "new invitation"),
    ],
)
def test_an_unknown_certificate_gets_nothing_and_names_the_remedy(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority,
    wrong: dict[str, Any], reason: str, remedy: str,
) -> None:  # fmt: skip
    del home
    listener = listen(authority.issue(**wrong).context(tmp_path))
    with sync.Server(config_for(sync, listener.url)) as server, pytest.raises(sync.Unreachable, match=reason) as caught:
        server.request("GET", "/")
    assert remedy in caught.value.hint
    assert listener.seen == []


@pytest.mark.spec("SEND-8")
@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"address": "10.0.0.1"}, "made for"),
        ({"days": (-30, -1)}, "Renew it"),
        ({"days": (2, 30)}, "clock"),
    ],
)
def test_a_pinned_authority_does_not_excuse_a_wrong_name_or_time(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority,
    wrong: dict[str, Any], remedy: str,
) -> None:  # fmt: skip
    del home
    listener = listen(authority.issue(**wrong).context(tmp_path))
    pem = tmp_path / "ca.pem"
    pem.write_bytes(authority.pem)
    config = config_for(sync, listener.url, ca_file=str(pem))
    with sync.Server(config) as server, pytest.raises(sync.Unreachable, match="not trusted") as caught:
        server.request("GET", "/")
    assert remedy in caught.value.hint
    assert listener.seen == []


@pytest.mark.spec("SEND-8")
def test_a_pinned_authority_or_the_pinned_certificate_itself_is_trusted(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority
) -> None:
    del home
    for issued, trusted in (
        (own := authority.issue(self_signed=True), own.pem),
        (leaf := authority.issue(), authority.pem),
        (leaf, leaf.pem),
    ):  # fmt: skip
        listener = listen(issued.context(tmp_path))
        pem = tmp_path / "ca.pem"
        pem.write_bytes(trusted)
        with sync.Server(config_for(sync, listener.url, ca_file=str(pem))) as server:
            server.request("PUT", "/", body=lambda: iter([b"x" * 100_000]))
            server.request("GET", "/")
        assert listener.seen[0].body == b"x" * 100_000
        assert listener.seen[0].peer == listener.seen[1].peer


@pytest.mark.spec("SEND-8")
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_pinned_file_that_is_gone_or_damaged_is_said(
    sync: ModuleType, home: Path, tmp_path: Path, content: bytes | None
) -> None:
    del home
    pem = tmp_path / "ca.pem"
    if content:
        pem.write_bytes(content)
    config = config_for(sync, "https://127.0.0.1:9", ca_file=str(pem))
    with sync.Server(config) as server, pytest.raises(sync.UsageError, match=r"ca\.pem"):
        server.request("GET", "/")


@pytest.mark.spec("SEND-8")
def test_there_is_no_word_for_an_unchecked_connection(sync: ModuleType) -> None:
    source = Path(str(sync.__file__)).read_text(encoding="utf-8")
    assert "insecure" not in source.lower()
    assert source.count("CERT_NONE") == 1  # the look at a certificate that sends nothing


# -- enrolment


CODE = "abcdefghijklmnopqrstuvwxyz"


def tokens(**more: object) -> Reply:
    body = {"machine": "laptop", "ai_token": "new-ai", "sync_token": "new-sync", "url": "https://elsewhere", "ca": None}
    return Reply(201, JSON, json.dumps({**body, **more}).encode())


@pytest.mark.spec("SEND-8")
@pytest.mark.parametrize("names_authority", [True, False])
def test_an_invitation_becomes_tokens_and_a_pinned_certificate(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority,
    names_authority: bool,
) -> None:  # fmt: skip
    leaf = authority.issue()
    listener = listen(leaf.context(tmp_path))
    listener.replies = [tokens(ca=authority.pem.decode() if names_authority else None)]
    found = sync.enrol(sync.Config(machine="old"), f"{listener.url}/#{CODE}.{leaf.fingerprint}")
    stored = home / ".memory-sync" / "config.json"
    assert (found.machine, found.ai_token, found.sync_token, found.url) == (
        "laptop",
        "new-ai",
        "new-sync",
        listener.url,
    )
    assert stored.stat().st_mode & 0o777 == 0o600
    pinned = Path(found.ca_file).read_bytes()
    assert pinned.strip() == (authority.pem if names_authority else leaf.pem).strip()
    assert json.loads(listener.seen[0].body)["code"] == CODE
    assert "authorization" not in listener.seen[0].headers
    with sync.Server(sync.load_config()) as server:
        server.request("GET", "/")
    assert listener.seen[-1].headers["authorization"] == "Bearer new-sync"


@pytest.mark.spec("SEND-8")
def test_an_authority_that_did_not_sign_the_certificate_is_not_pinned(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority
) -> None:
    leaf = authority.issue()
    listener = listen(leaf.context(tmp_path))
    listener.replies = [tokens(ca=Authority().pem.decode())]
    found = sync.enrol(sync.Config(), f"{listener.url}/#{CODE}.{leaf.fingerprint.upper()}")
    assert Path(found.ca_file).read_bytes().strip() == leaf.pem.strip()
    assert "not from the authority" in log_of(home)


@pytest.mark.spec("SEND-8")
def test_the_code_is_never_sent_to_another_certificate(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority
) -> None:
    listener = listen(authority.issue().context(tmp_path))
    with pytest.raises(sync.Unreachable, match="another certificate"):
        sync.enrol(sync.Config(), f"{listener.url}/#{CODE}.{'0' * 64}")
    with pytest.raises(sync.Unreachable, match="not trusted"):
        sync.enrol(sync.Config(), f"{listener.url}/#{CODE}")
    assert listener.seen == []
    assert not (home / ".memory-sync" / "config.json").exists()


@pytest.mark.spec("SEND-8")
def test_a_server_that_changes_its_certificate_in_between_gets_no_code(
    sync: ModuleType, home: Path, tmp_path: Path, listen: Callable[..., Listener], authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    del home
    genuine = authority.issue()
    impostor = listen(authority.issue().context(tmp_path))
    monkeypatch.setattr(sync, "server_certificate", lambda _: genuine.der)
    with pytest.raises(sync.Unreachable, match="not trusted"):
        sync.enrol(sync.Config(), f"{impostor.url}/#{CODE}.{genuine.fingerprint}")
    assert impostor.seen == []


@pytest.mark.spec("SEND-8")
def test_a_used_invitation_says_what_the_server_says(sync: ModuleType, home: Path, listener: Listener) -> None:
    listener.replies = [Reply(403, PROBLEM, b'{"message": "The code is not valid: used, expired or mistyped"}')]
    with pytest.raises(sync.Refused, match="used, expired or mistyped"):
        sync.enrol(sync.Config(), f"{listener.url}/#{CODE}")
    assert not (home / ".memory-sync" / "config.json").exists()


@pytest.mark.spec("SEND-8")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://h:7443",
        "https://h:7443/#short",
        f"https://h:7443/#{CODE}.beef",
        f"h:7443/#{CODE}",
        "https://h/#a b",
    ],
)
def test_what_is_no_invitation_is_said_so(sync: ModuleType, home: Path, text: str) -> None:
    del home
    with pytest.raises(sync.UsageError):
        sync.enrol(sync.Config(), text)


# -- registering


@pytest.mark.spec("SEND-14")
def test_a_write_token_is_kept_once_and_its_loss_says_how_to_mend_it(
    sync: ModuleType, home: Path, listener: Listener
) -> None:
    config = config_for(sync, listener.url)
    project = sync.Project("shop", "k" * 64, "/shop", "")
    with sync.Server(config) as server:
        listener.replies = [Reply(201, JSON, b'{"workspace_id": "box-codex-shop", "write_token": "once"}')]
        assert sync.register(server, config, project, "codex") == "box-codex-shop"
        listener.replies = [Reply(200, JSON, b'{"workspace_id": "box-codex-shop", "write_token": null}')]
        assert sync.register(server, config, project, "codex") == "box-codex-shop"
        kept = home / ".memory-sync" / "write-tokens.json"
        assert json.loads(kept.read_bytes()) == {"box-codex-shop": "once"}
        assert kept.stat().st_mode & 0o777 == 0o600
        kept.unlink()
        with pytest.raises(sync.Refused, match=r"workspace reissue box-codex-shop.*write-token box-codex-shop"):
            sync.register(server, config, project, "codex")
    assert json.loads(listener.seen[0].body) == {
        "machine": "box", "tool": "codex", "project": "shop", "project_key": "k" * 64,
    }  # fmt: skip


# -- forward proxies


@pytest.mark.spec("SEND-10")
def test_a_proxy_of_the_environment_is_asked_for_https_elsewhere_only(
    sync: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def proxy(url: str) -> Any:
        return sync._proxy_for(sync.endpoint_of(url))

    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert proxy("https://memory.example") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "near.example")
    assert proxy("https://memory.example") == ("proxy.example", 3128)
    assert proxy("https://near.example:7443") is None
    assert proxy("https://127.0.0.1:7443") is None
    assert proxy("https://localhost") is None
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example")
    with pytest.raises(sync.UsageError, match="HTTPS_PROXY"):
        proxy("https://memory.example")
