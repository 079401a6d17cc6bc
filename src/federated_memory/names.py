"""Names from outside, parsed once into values (SPEC: NAME-1 to NAME-5).

Every rule looks at the name as given *and* at its compatibility form, and refuses; nothing is ever repaired into a
different name that somebody else may own. A parsed name is safe as a path below a folder on Linux, macOS and Windows.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from fnmatch import fnmatchcase
from typing import NewType

from federated_memory.errors import InvalidArgument, InvalidName

WorkspaceId = NewType("WorkspaceId", str)
SessionId = NewType("SessionId", str)
RoomName = NewType("RoomName", str)
DocumentPath = NewType("DocumentPath", str)
StateKey = NewType("StateKey", str)
ETag = NewType("ETag", str)
"""SHA-256 of the bytes, 64 lower-case hexadecimal digits."""

MAX_ID_CHARACTERS = 64
MAX_PART_BYTES = 120
MAX_PATH_BYTES = 400
SLUG_CHARACTERS = 20

_ID = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]{0,62}[a-z0-9_-])?\Z")
MAX_KEY_CHARACTERS = 200
_KEY_PART = r"[A-Za-z0-9_][A-Za-z0-9._:@-]*"
_KEY = re.compile(rf"{_KEY_PART}(?:/{_KEY_PART})*\Z")
_KEY_GLOB = re.compile(r"[A-Za-z0-9._:@*?/-]+\Z")
_ETAG = re.compile(r"[0-9a-f]{64}\Z")
_NOT_SLUG = re.compile(r"[^a-z0-9._-]+")
_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])\Z")
_FORBIDDEN_CHARACTERS = frozenset('/\\:*?"<>|')
# Categories: control, format (zero-width, bidirectional, tags), surrogate, private use, unassigned, separators.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters and marks that show nothing: grapheme joiner, Hangul fillers, Mongolian and other variation selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800") | {
    chr(c) for low, high in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)) for c in range(low, high + 1)
}


def parse_workspace_id(text: str) -> WorkspaceId:
    """Raises: InvalidName: not 1-64 of `a-z 0-9 . _ -`, a dot at an edge, or a name Windows reserves."""
    return WorkspaceId(_parse_id(text, "workspace id"))


def parse_session_id(text: str) -> SessionId:
    """The id of an agent's native session id: lower-cased, then held to the rules of every id."""
    return SessionId(_parse_id(text.lower() if text.isascii() else text, "session id"))


def parse_memory_id(text: str) -> str:
    """Raises: InvalidName: no memory can have this id."""
    return _parse_id(text, "memory id")


def parse_room_name(text: str) -> RoomName:
    """Raises: InvalidName: as for workspace ids."""
    return RoomName(_parse_id(text, "room name"))


def _parse_id(text: str, what: str) -> str:
    if not _ID.match(text):
        raise InvalidName(
            f"Not a {what}: {shown(text)}",
            hint="Use 1-64 lower-case ASCII letters, digits, `.`, `_` or `-`, with no dot at either end",
        )
    if _is_windows_device(text):
        raise InvalidName(f"Not a {what}: {shown(text)} is reserved by Windows", hint="Choose another id")
    return text


def parse_document_path(text: str) -> DocumentPath:
    """The path of a document below its workspace's `knowledge/`, such as `design/auth.md`.

    Raises:
        InvalidName: Not NFC, not ending in `.md`, over 400 bytes (a part: 120), or a part that is empty, hidden,
            reserved by Windows, or holds a separator, control, invisible or bidirectional character.
    """
    problem = document_path_problem(text)
    if problem:
        raise InvalidName(
            f"Not a document path: {shown(text)}: {problem}",
            hint="Use folders and a file name ending in `.md`, such as `design/auth.md`",
        )
    return DocumentPath(text)


def document_path_problem(text: str) -> str:
    """Why `text` is no document path, or an empty string."""
    try:
        if len(text.encode("utf-8")) > MAX_PATH_BYTES:
            return f"longer than {MAX_PATH_BYTES} bytes"
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    if not unicodedata.is_normalized("NFC", text):
        return "not in Unicode form NFC"
    *folders, name = text.split("/")
    for part in (*folders, name):
        problem = _part_problem(part) or _part_problem(unicodedata.normalize("NFKC", part))
        if problem:
            return problem
    if any(fold(folder).endswith(".md") for folder in folders):
        return "a folder's name ends in `.md`"
    if not name.endswith(".md") or name == ".md":
        return "does not end in `.md`"
    return ""


def _part_problem(part: str) -> str:
    if not part:
        return "an empty part"
    if len(part.encode("utf-8")) > MAX_PART_BYTES:
        return f"a part longer than {MAX_PART_BYTES} bytes"
    if part[0] in ". " or part[-1] in ". ":
        return "a dot or space at the edge of a part"
    for character in part:
        if character in _FORBIDDEN_CHARACTERS:
            return 'one of the characters / \\ : * ? " < > |'
        if character == " ":
            continue
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _INVISIBLE:
            return "a control, invisible or bidirectional character"
    if _is_windows_device(part):
        return "a name that Windows reserves"
    return ""


def _is_windows_device(part: str) -> bool:
    # Windows takes the superscripts 1-3 for digits, ignores the extension and spaces before it.
    stem = part.split(".", 1)[0].rstrip(" ").translate({0xB9: "1", 0xB2: "2", 0xB3: "3"})
    return bool(_WINDOWS_DEVICE.match(stem.lower()))


def parse_state_key(text: str) -> StateKey:
    """The key of a shared value, such as `build/main/status`.

    Raises: InvalidName: not 1-200 ASCII letters, digits and `. _ : @ -`, in parts joined by `/` that begin with a
    letter, a digit or `_`.
    """
    if len(text) > MAX_KEY_CHARACTERS or not _KEY.match(text):
        raise InvalidName(
            f"Not a key: {shown(text)}",
            hint=f"Use up to {MAX_KEY_CHARACTERS} letters, digits and . _ : @ - in parts joined by /, such as "
            "build/main/status; each part begins with a letter, a digit or _",
        )
    return StateKey(text)


def parse_key_glob(text: str) -> str:
    """A key in which `*` stands for any characters (`/` too) and `?` for one. Raises: InvalidName."""
    if len(text) > MAX_KEY_CHARACTERS or not _KEY_GLOB.match(text):
        raise InvalidName(f"Not a glob of keys: {shown(text)}", hint="Use a key, with * or ? where it may vary")
    return text


def is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def glob_matches(glob: str, name: str) -> bool:
    """Whether `*` and `?` in the glob can stand for what the name has there. Linear in their lengths."""
    return glob in ("*", name) or fnmatchcase(name, glob)


def glob_covers(wide: str, narrow: str) -> bool:
    """Whether every name that `narrow` matches is sure to match `wide`. When in doubt: no."""
    if wide in ("*", narrow):
        return True
    if is_glob(narrow):
        stem = wide[:-1]
        return wide.endswith("*") and not is_glob(stem) and narrow.startswith(stem)
    return glob_matches(wide, narrow)


def parse_etag(text: str) -> ETag:
    """Raises: InvalidArgument: not 64 hexadecimal digits."""
    if not _ETAG.match(text):
        raise InvalidArgument("`if_match` is no etag", hint="Pass the `etag` of your last whole read, 64 hex digits")
    return ETag(text)


def etag_of(data: bytes) -> ETag:
    return ETag(hashlib.sha256(data).hexdigest())


def fold(text: str) -> str:
    """The form under which names collide on file systems that ignore case or normalise."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def slug(text: str) -> str:
    """At most 20 characters of an id, the same here and in the client (test vectors: `tests/vectors/slugs.json`).

    Folded to ASCII, lower-cased, runs of other characters to `-`, trimmed. When that changed anything but case, or is
    too long, it ends in `-` and 6 hexadecimal digits of the original's SHA-256, so that different names stay different.

    Raises:
        InvalidArgument: `text` is blank.
    """
    if not text.strip():
        raise InvalidArgument("machine, tool and project must not be blank", hint="Give each a short name")
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    plain = _NOT_SLUG.sub("-", ascii_text).strip("-.")
    if plain == text.lower() and len(plain) <= SLUG_CHARACTERS and not _is_windows_device(plain):
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    head = plain[: SLUG_CHARACTERS - 7].rstrip("-.")
    if _is_windows_device(head):
        head = head.replace(".", "-")  # Windows looks at what stands before the first dot
    return f"{head}-{digest}" if head else digest


def workspace_id_of(machine: str, tool: str, project: str) -> WorkspaceId:
    """The id a workspace gets when its caller names none."""
    return parse_workspace_id(f"{slug(machine)}-{slug(tool)}-{slug(project)}")


def shown(text: str, limit: int = 80) -> str:
    """An untrusted name for a message: one line of printable ASCII in quotes, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return '"' + cut.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def is_seen(character: str) -> bool:
    """Whether a reader sees the character: no control or format character, and nothing else that is invisible."""
    return character.isprintable() and character not in _INVISIBLE
