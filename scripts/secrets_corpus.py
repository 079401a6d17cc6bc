"""Transcript lines with planted secrets, and clean ones, made from a seed.

`planted` writes each secret into a context in which such things come up: shell history, environment dumps, JSON within
JSON, YAML, URLs, diffs, stack traces. The forms of the secrets are written down here once more, apart from the rules.
`clean` is what must stay as it is: generated transcripts of real code and prose, and what only looks like a secret.
"""

import base64
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scripts.corpus import one_transcript

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM = string.ascii_letters + DIGITS
WORD = ALNUM + "_-"
HEX = "0123456789abcdef"
BASE32 = UPPER + "234567"


@dataclass(frozen=True)
class Secret:
    """`name`: what it is kept under; `bare`: it can be told by its own form, wherever it stands."""

    kind: str
    name: str
    value: str
    bare: bool = True


@dataclass(frozen=True)
class Planted:
    kind: str
    context: str
    secret: str
    line: bytes


def secrets(rng: random.Random) -> list[Secret]:
    """One of each kind."""

    def some(alphabet: str, count: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(count))

    def base64_of(count: int) -> str:
        return base64.b64encode(rng.randbytes(count)).decode()

    def part(claims: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    def pem(label: str, count: int) -> str:
        body = base64_of(count)
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"

    jwt = ".".join((part({"alg": "HS256", "typ": "JWT"}), part({"sub": some(DIGITS, 10), "exp": 1}), some(WORD, 43)))
    discord = f"MT{some(ALNUM, 22)}.G{some(WORD, 5)}.{some(WORD, 38)}"
    own = [Secret("federated-memory-token", "MCP_TOKEN", f"fm_{role}_{some(WORD, 43)}") for role in ("ai", "sync")]
    return [
        *own,
        Secret("federated-memory-token", "ADMIN_TOKEN", f"fm_{rng.choice(('admin', 'control'))}_{some(WORD, 43)}"),
        Secret("federated-memory-binding", "binding", f"fmb1.{some(WORD, 90)}.{some(WORD, 43)}"),
        Secret("federated-memory-write-token", "write_token", f"wt_{some(WORD, 43)}"),
        Secret("aws-access-key-id", "AWS_ACCESS_KEY_ID", rng.choice(("AKIA", "ASIA")) + some(BASE32, 16)),
        Secret("aws-secret-key", "AWS_SECRET_ACCESS_KEY", some(ALNUM + "+/", 40), bare=False),
        Secret("gcp-api-key", "GOOGLE_API_KEY", "AIza" + some(WORD, 35)),
        Secret("google-oauth", "client_secret", "GOCSPX-" + some(WORD, 28)),
        Secret("google-oauth", "access_token", "ya29." + some(WORD, 120)),
        Secret("azure-storage-key", "AZURE_STORAGE_CONNECTION_STRING",
               "DefaultEndpointsProtocol=https;AccountName=logs;AccountKey=" + base64_of(64)),
        Secret("azure-sas", "url", "https://logs.blob.core.windows.net/c/b?sv=2024-11-04&se=2026-12-01&sr=b&sp=r&sig="
               + base64_of(32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")),
        Secret("github-token", "GITHUB_TOKEN", rng.choice(("ghp_", "gho_", "ghu_", "ghs_", "ghr_")) + some(ALNUM, 36)),
        Secret("github-token", "GH_TOKEN", f"github_pat_{some(ALNUM, 22)}_{some(ALNUM, 59)}"),
        Secret("gitlab-token", "GITLAB_TOKEN", "glpat-" + some(WORD, 20)),
        Secret("slack-token", "SLACK_BOT_TOKEN", f"xoxb-{some(DIGITS, 12)}-{some(DIGITS, 13)}-{some(ALNUM, 24)}"),
        Secret("slack-webhook", "url",
               f"https://hooks.slack.com/services/T{some(UPPER, 8)}/B{some(UPPER, 10)}/{some(ALNUM, 24)}"),
        Secret("stripe-key", "STRIPE_API_KEY", rng.choice(("sk_live_", "rk_live_")) + some(ALNUM, 99)),
        Secret("twilio-key", "TWILIO_API_KEY", "SK" + some(HEX, 32)),
        Secret("twilio-key", "TWILIO_AUTH_TOKEN", some(HEX, 32), bare=False),
        Secret("sendgrid-key", "SENDGRID_API_KEY", f"SG.{some(WORD, 22)}.{some(WORD, 43)}"),
        Secret("mailgun-key", "MAILGUN_API_KEY", "key-" + some(HEX, 32)),
        Secret("npm-token", "NPM_TOKEN", "npm_" + some(ALNUM, 36)),
        Secret("pypi-token", "TWINE_PASSWORD", "pypi-AgEIcHlwaS5vcmc" + some(WORD, 120)),
        Secret("docker-token", "DOCKERHUB_TOKEN", "dckr_pat_" + some(WORD, 27)),
        Secret("heroku-key", "HEROKU_API_KEY", str(uuid.UUID(int=rng.getrandbits(128), version=4)), bare=False),
        Secret("digitalocean-token", "DIGITALOCEAN_TOKEN", "dop_v1_" + some(HEX, 64)),
        Secret("cloudflare-token", "CLOUDFLARE_API_TOKEN", some(WORD, 40), bare=False),
        Secret("openai-key", "OPENAI_API_KEY", f"sk-proj-{some(WORD, 74)}T3BlbkFJ{some(WORD, 74)}"),
        Secret("openai-key", "OPENAI_API_KEY", f"sk-{some(ALNUM, 20)}T3BlbkFJ{some(ALNUM, 20)}"),
        Secret("anthropic-key", "ANTHROPIC_API_KEY", f"sk-ant-api03-{some(WORD, 93)}AA"),
        Secret("huggingface-token", "HF_TOKEN", "hf_" + some(string.ascii_letters, 34)),
        Secret("telegram-token", "BOT_TOKEN", f"{some('123456789', 10)}:AA{some(WORD, 33)}"),
        Secret("discord-token", "DISCORD_TOKEN", discord, bare=False),
        Secret("discord-webhook", "url", f"https://discord.com/api/webhooks/{some('123456789', 18)}/{some(WORD, 68)}"),
        Secret("shopify-token", "SHOPIFY_TOKEN", "shpat_" + some(HEX, 32)),
        Secret("databricks-token", "DATABRICKS_TOKEN", "dapi" + some(HEX, 32)),
        Secret("atlassian-token", "JIRA_API_TOKEN", f"ATATT3xFfGF0{some(WORD, 170)}={some(HEX.upper(), 8)}"),
        Secret("linear-key", "LINEAR_API_KEY", "lin_api_" + some(ALNUM, 40)),
        Secret("notion-token", "NOTION_TOKEN", "ntn_" + some(DIGITS, 11) + some(ALNUM, 35)),
        Secret("vault-token", "VAULT_TOKEN", "hvs." + some(WORD, 95)),
        Secret("age-secret-key", "SOPS_AGE_KEY", "AGE-SECRET-KEY-1" + some("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
        Secret("private-key", "TLS_KEY", pem(rng.choice(("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY")), 600)),
        Secret("private-key", "SSH_KEY", pem("OPENSSH PRIVATE KEY", 400)),
        Secret("pgp-private-key", "SIGNING_KEY", pem("PGP PRIVATE KEY BLOCK", 900)),
        Secret("jwt", "id_token", jwt),
        Secret("url-password", "DATABASE_URL", f"postgres://app:{some(ALNUM + '!-.', 14)}@db.internal:5432/app"),
        Secret("basic-auth", "header", "Authorization: Basic "
               + base64.b64encode(f"svc:{some(ALNUM, 18)}".encode()).decode()),
        Secret("bearer-token", "header", "Authorization: Bearer " + some(ALNUM, 40)),
        Secret("password", "DB_PASSWORD", some(LOWER, 5) + some(DIGITS, 3) + rng.choice("!#%+") + some(UPPER, 4),
               bare=False),
        Secret("secret", "SESSION_SECRET", some(HEX, 48), bare=False),
        Secret("secret", "api_key", some(ALNUM, 32), bare=False),
        Secret("secret", "clientSecret", some(ALNUM + "~_-", 40), bare=False),
    ]  # fmt: skip


# -- texts that a secret stands in; `name` is what it is kept under

BARE: dict[str, Callable[[Secret], str]] = {
    "prose": lambda s: f"I rotated it, the new one is {s.value} so please use that from now on.",
    "quoted": lambda s: f'client = Client("{s.value}", timeout=30)',
    "backticks": lambda s: f"Use `{s.value}` for the staging deploy.",
    "concatenated": lambda s: f"user=ci;{s.value};region=eu-west-1",
    "colour": lambda s: f"\x1b[1mnew credential\x1b[0m: \x1b[32m{s.value}\x1b[0m\n",
    "escaped newline": lambda s: rf"output was 'first line\n{s.value}\nlast line'",
    "stack trace": lambda s: f'  File "app.py", line 3, in <module>\nValueError: rejected {s.value!r} (401)\n',
    "query": lambda s: f"GET https://api.example.org/v1/items?page=2&auth={s.value}&sort=asc 200",
}
NAMED: dict[str, Callable[[Secret], str]] = {
    "shell history": lambda s: f"  511  cd app\n  512  export {s.name}={s.value}\n  513  make deploy",
    "environment": lambda s: f"HOME=/root\nSHELL=/bin/bash\n{s.name}={s.value}\nLANG=C.UTF-8\n",
    "quoted assignment": lambda s: f"{s.name} = '{s.value}'\nother = 3\n",
    "yaml": lambda s: f'services:\n  app:\n    environment:\n      {s.name}: "{s.value}"\n      DEBUG: "1"\n',
    "yaml name and value": lambda s: f"env:\n  - name: {s.name}\n    value: '{s.value}'\n",
    "json text": lambda s: "$ cat config.json\n" + json.dumps({"region": "eu", s.name: s.value}, indent=2),
    "json twice": lambda s: json.dumps({"status": 200, "body": json.dumps({"data": {s.name: s.value}})}),
    "json three times, in text": lambda s: "got " + json.dumps(json.dumps(json.dumps({s.name: s.value}))) + " back",
    "markdown": lambda s: f"Set this first:\n\n```bash\nexport {s.name}='{s.value}'\n./run.sh\n```\n",
    "diff": lambda s: f"@@ -1,2 +1,2 @@\n-{s.name}=old\n+{s.name}={s.value}\n DEBUG=1\n",
    "numbered": lambda s: "".join(
        f"{number:6d}\u2192{line}\n" for number, line in enumerate(f"A=1\n{s.name}={s.value}\nB=2".split("\n"), 1)
    ),
    "dict repr": lambda s: f"{{'user': 'ci', '{s.name}': '{s.value}', 'retries': 3}}",
    "log": lambda s: f'ts=2026-11-21T03:59:08Z level=debug msg="loaded" {s.name}="{s.value}" took=3ms',
}


def planted(seed: int, count: int) -> Iterator[Planted]:
    """`count` lines with one secret each; every kind comes again before one comes a third time."""
    rng = random.Random(f"planted {seed}")
    for number in range(count):
        if number % 50 == 0:
            kinds = secrets(rng)
            rng.shuffle(kinds)
        secret = kinds[number % 50]
        texts = {**NAMED, **BARE} if secret.bare else NAMED
        context = rng.choice(sorted(texts))
        shape = rng.choice(sorted(SHAPES))
        line = SHAPES[shape](texts[context](secret), secret, rng)
        yield Planted(secret.kind, f"{context} / {shape}", core_of(secret.value), line)


def core_of(value: str) -> str:
    """What must be gone: of a URL or header its secret part."""
    for before in ("AccountKey=", "&sig=", "/services/", "Basic ", "Bearer ", "postgres://app:"):
        if before in value:
            return value.split(before, 1)[1].split("@")[0]
    if "/api/webhooks/" in value:
        return value.rsplit("/", 1)[1]
    return value.split(":", 1)[1] if ":AA" in value else value


def traces_of(item: Planted, line: bytes) -> list[str]:
    """Pieces of the secret that can still be read in a line, however deep JSON holds them."""
    pieces = [part for part in item.secret.split("\n") if not part.startswith("-----")] or [item.secret]
    texts = readings(line.decode("utf-8", "replace"), 6)
    return [piece for piece in pieces if any(piece in text for text in texts)]


def readings(text: str, depth: int) -> list[str]:
    """The text, and again with one level of escapes fewer each."""
    found = [text]
    for _ in range(depth):
        told = text
        for escape, letter in ((r"\/", "/"), (r"\"", '"'), (r"\n", "\n"), (r"\\", "\\")):
            told = told.replace(escape, letter)
        told = "".join(unescaped(part) for part in split_escapes(told))
        if told == text:
            break
        found.append(text := told)
    return found


def split_escapes(text: str) -> Iterator[str]:
    at = 0
    while (start := text.find("\\u00", at)) >= 0:
        yield text[at:start]
        yield text[start : start + 6]
        at = start + 6
    yield text[at:]


def unescaped(part: str) -> str:
    is_escape = part.startswith("\\u00") and len(part) == 6 and all(letter in string.hexdigits for letter in part[4:])
    return chr(int(part[4:], 16)) if is_escape else part


# -- lines of transcripts


def result_line(text: str, _: Secret, rng: random.Random) -> bytes:
    """A tool result as Claude Code keeps it, twice."""
    content = [{"tool_use_id": f"toolu_01{rng.getrandbits(90):x}", "type": "tool_result", "content": text}]
    return dumped({
        "type": "user", "uuid": str(uuid.UUID(int=rng.getrandbits(128))),
        "message": {"role": "user", "content": content},
        "toolUseResult": {"stdout": text, "stderr": "", "interrupted": False},
    })  # fmt: skip


def escaped_line(text: str, secret: Secret, rng: random.Random) -> bytes:
    """Letters of the secret written as escapes, as some JSON writers do."""
    line = result_line(text, secret, rng).decode()
    for piece in {core_of(secret.value).split("\n")[0], core_of(secret.value).split("\n")[-1]}:
        line = line.replace(piece, f"\\u{ord(piece[0]):04x}" + piece[1:])
    return line.replace("/", r"\/").encode()


def arguments_line(text: str, _: Secret, rng: random.Random) -> bytes:
    """A function call of Codex: its arguments are JSON in a string."""
    arguments = json.dumps({"command": ["bash", "-lc", f"cat <<'E'\n{text}\nE"], "workdir": "/srv/app"})
    payload = {
        "type": "function_call",
        "name": "shell",
        "arguments": arguments,
        "call_id": f"call_{rng.getrandbits(60):x}",
    }
    return dumped({"timestamp": "2026-11-21T03:59:08Z", "type": "response_item", "payload": payload})


def structured_line(_: str, secret: Secret, rng: random.Random) -> bytes:
    """The secret as a value of its own, below its name."""
    call = {"name": "set_variable", "args": {secret.name: secret.value}, "id": f"{rng.getrandbits(60):x}"}
    return dumped({"id": "m1", "type": "gemini", "content": "", "toolCalls": [{**call, "status": "success"}]})


def plain_line(text: str, _: Secret, __: random.Random) -> bytes:
    """No JSON at all."""
    return text.replace("\n", " \\n ").encode()


SHAPES: dict[str, Callable[[str, Secret, random.Random], bytes]] = {
    "result": result_line,
    "escaped": escaped_line,
    "arguments": arguments_line,
    "structured": structured_line,
    "plain": plain_line,
}


def dumped(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


# -- what is clean

INNOCENT = (
    "password = getpass()",
    "def login(user: str, password: str, token: str | None = None) -> Session:",
    'password = os.environ["DB_PASSWORD"]',
    "token = request.headers.get('X-Api-Key')",
    "secret_key: ${SECRET_KEY}",
    'export GITHUB_TOKEN="<your token>"',
    "api_key=YOUR_API_KEY_HERE",
    "client = OpenAI(api_key=settings.openai_api_key.get_secret_value())",
    "The password must be at least 8 characters long; the token expires after 30 days.",
    "Bearer authentication sends a token: see RFC 6750. Basic authentication sends a password.",
    '<input type="password" name="password" placeholder="Password" autocomplete="current-password">',
    'curl -H "Authorization: Bearer $TOKEN" https://api.example.org/v1/items',
    "postgres://user:password@localhost:5432/app",
    "max_tokens: 4096, input_tokens=18233, total_tokens: 129331",
    "const token = await getAccessToken(config.auth0.clientId)",
    "if (password.length < 12) throw new Error('password too short');",
    "self.assertEqual(token.type, tokenize.NAME)",
    "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
    "TOKEN=$(cat /run/secrets/token)",
    "passwd: files systemd",
    "PWD=/srv/app OLDPWD=/srv",
    "secretKeyRef: {name: app-secrets, key: database-url}",
    "git clone git@github.com:octo/repo.git && ssh://git@example.org:2222/octo/repo.git",
    "token: str = Field(default='', description='Token of AI clients.')",
    "credentials: include, mode: 'same-origin'",
    "| `password` | string | required | The password of the account |",
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
)


def look_alikes(rng: random.Random) -> str:
    """Random text that nobody would call a secret: ids, digests, images, lock files, minified code."""
    choice = rng.randrange(8)
    if choice == 0:
        return "\n".join(str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(8))
    if choice == 1:
        return "\n".join(f"{rng.getrandbits(160):040x} refs/heads/feature/{rng.randrange(99)}" for _ in range(6))
    if choice == 2:
        return "data:image/png;base64," + base64.b64encode(rng.randbytes(1500)).decode()
    if choice == 3:
        digest = base64.b64encode(rng.randbytes(64)).decode()
        lock = {"version": f"{rng.randrange(9)}.{rng.randrange(20)}.0", "integrity": f"sha512-{digest}",
                "resolved": "https://registry.example.org/left-pad/-/left-pad-1.3.0.tgz"}  # fmt: skip
        return json.dumps({"packages": {"node_modules/left-pad": lock, "node_modules/js-tokens": lock}}, indent=2)
    if choice == 4:
        names = [f"{rng.choice(LOWER)}{rng.choice(ALNUM)}" for _ in range(6)]
        return "".join(
            f"function {n}(e,t){{var r=e.token,n=t.secret||r;return r?{n}(n,{rng.randrange(99)}):e}}" for n in names
        )
    if choice == 5:
        return f"sha256:{rng.getrandbits(256):064x}\nimage: ghcr.io/octo/app@sha256:{rng.getrandbits(256):064x}"
    if choice == 6:
        digest = f"{rng.getrandbits(256):064x}"
        return f'[[package]]\nname = "secrecy"\nchecksum = "{digest}"\n\n--hash=sha256:{digest} \\'
    return "\n".join(rng.sample(INNOCENT, 6))


def clean(seed: int, megabytes: int) -> Iterator[bytes]:
    """Lines without secrets: a generated transcript, with look-alikes after every few of its lines."""
    rng = random.Random(f"clean {seed}")
    blank = Secret("", "", "")
    for number, line in enumerate(one_transcript(seed, megabytes).splitlines()):
        yield line
        if number % 5 == 0:
            yield result_line(look_alikes(rng), blank, rng)
