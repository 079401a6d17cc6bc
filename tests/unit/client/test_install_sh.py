"""`install.sh`, run by a real shell: where the client comes from, and where tokens never show."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "client"
SCRIPT = CLIENT / "install.sh"
SHELLS = [shell for shell in ("/bin/dash", "/bin/bash") if os.path.exists(shell)]
AI_TOKEN, SYNC_TOKEN, CODE = "ai-secret-1", "sync-secret-2", "one-use-code-3"
INVITE = "https://127.0.0.1:1/#" + CODE

# Stands for memory_sync.py: writes down what it was given.
RECORDER = """#!/usr/bin/env python3
import json, os, sys
names = ("MCP_MEMORY_TOKEN", "SYNC_TOKEN", "MEMORY_SYNC_INVITE")
with open(os.environ["RECORD"], "w") as file:
    json.dump({"argv": sys.argv[1:], "dir": os.listdir(os.path.dirname(sys.argv[0])),
               "where": sys.argv[0], **{name: os.environ.get(name) for name in names}}, file)
sys.exit(int(os.environ.get("EXIT", "0")))
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose programs write down the arguments that they were started with, in `started`."""
    folder = tmp_path / "machine"
    (folder / "bin").mkdir(parents=True)
    (folder / "tmp").mkdir()
    for name in ("curl", "python3", "mktemp", "rm", "head", "dirname"):
        real = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
        assert real
        shim = folder / "bin" / name
        shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> "{folder}/started"\nexec "{real}" "$@"\n')
        shim.chmod(0o755)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script and the recorder in place of the client."""
    folder = tmp_path / "check out"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    (folder / "memory_sync.py").write_text(RECORDER)
    return folder


def run(
    machine: Path, script: Path | str, *arguments: str, given: str = "", shell: str = SHELLS[0], **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the script: from its file, or, when `script` is its text, piped in as from curl."""
    is_file = isinstance(script, Path)
    command = [shell, str(script), *arguments] if is_file else [shell, "-s", "--", *arguments]
    environment = {"PATH": str(machine / "bin"), "RECORD": str(machine / "record"), "TMPDIR": str(machine / "tmp")}
    return subprocess.run(
        command, input=given if is_file else str(script), capture_output=True, text=True, check=False, timeout=60,
        cwd=machine, env={**environment, "HOME": str(machine), **env},
    )  # fmt: skip


def record(machine: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((machine / "record").read_text())
    return found


def serve(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scheme = "https" if context else "http"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """What a server hands out below `/client`."""
    folder = tmp_path / "server" / "client"
    folder.mkdir(parents=True)
    (folder / "memory_sync.py").write_text(RECORDER)
    (folder / "redaction_rules.json").write_text("{}")
    return folder


@pytest.fixture
def origin(shelf: Path) -> Iterator[str]:
    yield from serve(shelf.parent)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate with its key in one file."""
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
         str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-days", "2", "-subj", "/CN=memory",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return pem


@pytest.fixture
def tls_origin(shelf: Path, certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serve(shelf.parent, context)


def pin_of(certificate: Path) -> str:
    """As `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256` says it."""
    public = subprocess.run(["openssl", "x509", "-in", str(certificate), "-pubkey", "-noout"], capture_output=True, check=True)  # fmt: skip # noqa: E501
    der = base64.b64decode(b"".join(public.stdout.splitlines()[1:-1]))
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.mark.spec("INST-13")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "given", "env"),
    [
        ([AI_TOKEN, "--sync-token", SYNC_TOKEN], "", {}),
        ([AI_TOKEN, f"--sync-token={SYNC_TOKEN}"], "", {}),
        (["-", "--sync-token", "-"], f"{AI_TOKEN}\n{SYNC_TOKEN}\n", {}),
        (["-", "--sync-token", "-"], f"{AI_TOKEN}\n{SYNC_TOKEN}", {}),
        ([], "", {"MCP_MEMORY_TOKEN": AI_TOKEN, "SYNC_TOKEN": SYNC_TOKEN}),
    ],
)
def test_tokens_arrive_by_the_environment_and_never_on_a_command_line(
    machine: Path, checkout: Path, shell: str, arguments: Sequence[str], given: str, env: dict[str, str]
) -> None:
    more = ["--url", "https://memory.example", "--machine", "my laptop's", "--yes", "--client", "codex"]

    done = run(machine, checkout / "install.sh", *more, *arguments, given=given, shell=shell, **env)

    assert (done.returncode, done.stderr) == (0, "")
    found = record(machine)
    assert (found["MCP_MEMORY_TOKEN"], found["SYNC_TOKEN"]) == (AI_TOKEN, SYNC_TOKEN)
    assert found["argv"] == ["install", *more]
    started = (machine / "started").read_text()
    assert "memory_sync.py install" in started
    assert AI_TOKEN not in started
    assert SYNC_TOKEN not in started


@pytest.mark.spec("INST-13")
def test_an_invitation_goes_on_by_the_environment_too(machine: Path, checkout: Path) -> None:
    done = run(machine, checkout / "install.sh", "--invite", INVITE, "--yes")

    assert done.returncode == 0, done.stderr
    assert record(machine)["MEMORY_SYNC_INVITE"] == INVITE
    assert record(machine)["argv"] == ["install", "--yes"]
    assert CODE not in (machine / "started").read_text()


@pytest.mark.spec("INST-13")
@pytest.mark.parametrize("shell", SHELLS)
def test_piped_in_it_fetches_the_client_from_the_server_it_came_from(
    machine: Path, shelf: Path, origin: str, shell: str
) -> None:
    assert shelf.exists()
    (machine / "memory_sync.py").write_text("raise SystemExit('not ours: it only lies in the current directory')")
    text = SCRIPT.read_text().replace("@ORIGIN@", origin)

    done = run(machine, text, AI_TOKEN, "--yes", shell=shell, EXIT="7")

    assert done.returncode == 7, done.stderr
    found = record(machine)
    assert found["argv"] == ["install", "--yes", "--url", origin]
    assert sorted(found["dir"]) == ["memory_sync.py", "redaction_rules.json"]  # type: ignore[call-overload]
    assert str(found["where"]).startswith(str(machine / "tmp"))
    assert list((machine / "tmp").iterdir()) == []


@pytest.mark.spec("INST-13")
def test_a_self_signed_server_is_reached_by_its_pinned_key(
    machine: Path, shelf: Path, tls_origin: str, certificate: Path
) -> None:
    assert shelf.exists()
    invite = f"{tls_origin}/#{CODE}.{'a' * 64}"

    done = run(machine, SCRIPT.read_text(), "--invite", invite, "--pin", pin_of(certificate))

    assert done.returncode == 0, done.stderr
    assert record(machine)["MEMORY_SYNC_INVITE"] == invite
    assert CODE not in (machine / "started").read_text()


@pytest.mark.spec("INST-13")
def test_another_key_than_the_pinned_one_is_not_spoken_to(machine: Path, shelf: Path, tls_origin: str) -> None:
    assert shelf.exists()
    wrong = "sha256//" + base64.b64encode(b"x" * 32).decode()

    for more in (["--pin", wrong], []):
        done = run(machine, SCRIPT.read_text(), "--invite", f"{tls_origin}/#{CODE}", *more)
        assert done.returncode == 6
        assert "cannot be fetched" in done.stderr
    assert not (machine / "record").exists()


@pytest.mark.spec("INST-13")
def test_a_given_certificate_authority_is_used_and_handed_on(
    machine: Path, shelf: Path, tls_origin: str, certificate: Path
) -> None:
    assert shelf.exists()
    done = run(machine, SCRIPT.read_text(), AI_TOKEN, "--url", tls_origin, "--ca-file", str(certificate))

    assert done.returncode == 0, done.stderr
    assert record(machine)["argv"] == ["install", "--url", tls_origin, "--ca-file", str(certificate)]


@pytest.mark.spec("INST-13")
@pytest.mark.parametrize("file", ["memory_sync.py", "redaction_rules.json"])
def test_a_page_of_a_proxy_is_not_run(machine: Path, shelf: Path, origin: str, file: str) -> None:
    (shelf / file).write_text("<html>please log in</html>")

    done = run(machine, SCRIPT.read_text(), AI_TOKEN, "--url", origin)

    assert done.returncode == 6
    assert "a proxy may have answered" in done.stderr
    assert not (machine / "record").exists()


@pytest.mark.thorough
@pytest.mark.spec("INST-13")
@pytest.mark.parametrize("cut", [200, 1500, 4000, 5500])
def test_a_script_that_was_cut_short_runs_nothing(machine: Path, shelf: Path, origin: str, cut: int) -> None:
    assert shelf.exists()
    run(machine, SCRIPT.read_text().replace("@ORIGIN@", origin)[:cut], AI_TOKEN, "--yes")

    assert not (machine / "record").exists()
    assert not (machine / "started").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([AI_TOKEN], 2, "which server"),
        ([AI_TOKEN, "--url", "ftp://x"], 2, "no address of a server"),
        ([AI_TOKEN, "--url"], 2, "--url needs a value"),
        ([AI_TOKEN, "another"], 2, "more than one AI token"),
        (["-", "--url", "http://127.0.0.1:1"], 2, "standard input had no AI token"),
        ([AI_TOKEN, "--url", "http://127.0.0.1:1"], 6, "cannot be fetched"),
    ],
)
def test_what_is_wrong_is_said(machine: Path, arguments: Sequence[str], code: int, said: str) -> None:
    done = run(machine, SCRIPT.read_text(), *arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert "another" not in done.stderr.replace("more than one", "")


def test_without_python_it_says_what_to_install(machine: Path, checkout: Path) -> None:
    (machine / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")

    done = run(machine, checkout / "install.sh", AI_TOKEN)

    assert done.returncode == 1
    assert "Python 3.10 or newer is needed" in done.stderr


def test_both_scripts_know_the_same_options_and_fill_in_the_servers_address() -> None:
    posix, windows = SCRIPT.read_text(), (CLIENT / "install.ps1").read_text()

    for option in ("--pin", "--ca-file", "--url", "--invite", "--sync-token", "--machine", "--client", "--history"):
        assert option in posix
        assert f"'{option}'" in windows
    assert posix.count("@ORIGIN@") == windows.count("@ORIGIN@") == 1
    for name in ("MCP_MEMORY_TOKEN", "SYNC_TOKEN", "MEMORY_SYNC_INVITE"):
        assert f"$env:{name}" in windows
        assert f"export {name}" in posix
    assert windows.isascii()  # Windows PowerShell 5.1 reads a script without a BOM as ANSI
    assert windows.count("{") == windows.count("}")
    assert not re.search(r"&&|\|\||\?\?|-Parallel", windows)  # not known to 5.1
    assert posix.isascii()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", str(SCRIPT)], capture_output=True, text=True, check=False)

    assert done.stdout == ""
