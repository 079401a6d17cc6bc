"""Bindings: which workspace an AI caller writes (SPEC: BIND-1 to BIND-5).

A binding is a signed handle: workspace, the caller's token, a nonce for this registration, and when it ends. Protocol
versions to 2025-11-25 have sessions, and keep it for the session as well; 2026-07-28 has none, so it is an argument.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from federated_memory.errors import NotBound

_PREFIX = "fmb1"
_MAX_SESSIONS = 20_000
_MAX_PROVEN = 4_096
_REGISTER = "Call register_workspace and pass its `binding`"


@dataclass(frozen=True, slots=True)
class Binding:
    workspace_id: str
    fingerprint: str
    nonce: str
    expires_at: int


class Bindings:
    def __init__(self, key: bytes, *, days: int) -> None:
        self._key = key
        self._seconds = days * 86_400
        self._sessions: OrderedDict[str, Binding] = OrderedDict()
        self._lock = threading.Lock()
        self._proven: dict[str, Binding] = {}

    def issue(self, workspace_id: str, fingerprint: str) -> str:
        binding = Binding(workspace_id, fingerprint, secrets.token_urlsafe(12), int(time.time()) + self._seconds)
        body = _encode(
            json.dumps([binding.workspace_id, binding.fingerprint, binding.nonce, binding.expires_at]).encode()
        )
        return f"{_PREFIX}.{body}.{self._signature(body)}"

    def parse(self, text: str, fingerprint: str) -> Binding:
        """Raises: NotBound: forged, of another token, or expired."""
        binding = self._proven.get(text) or self._prove(text)
        if not hmac.compare_digest(binding.fingerprint, fingerprint):
            raise NotBound("`binding` was given to another token", hint=_REGISTER)
        if binding.expires_at <= time.time():
            raise NotBound("`binding` has expired", hint=_REGISTER)
        return binding

    def _prove(self, text: str) -> Binding:
        """Looked at once: an agent shows the same one with each of its calls."""
        prefix, _, rest = text.partition(".")
        body, _, signature = rest.partition(".")
        if prefix != _PREFIX or not hmac.compare_digest(
            self._signature(body).encode(), signature.encode("utf-8", "replace")
        ):
            raise NotBound("`binding` is not one that this server gave", hint=_REGISTER)
        try:
            binding = Binding(*json.loads(_decode(body)))
        except (ValueError, TypeError, binascii.Error):
            raise NotBound("`binding` is not one that this server gave", hint=_REGISTER) from None
        if len(self._proven) >= _MAX_PROVEN:
            self._proven.clear()
        self._proven[text] = binding
        return binding

    def of_session(self, session: str | None) -> Binding | None:
        """What this MCP session is bound to."""
        with self._lock:
            return self._live(session) if session else None

    def keep_for_session(self, session: str, binding: Binding) -> Binding:
        """What the session is bound to from now on: the binding, unless it is bound to another workspace already."""
        with self._lock:
            held = self._live(session)
            if held is not None and held.workspace_id != binding.workspace_id:
                return held
            self._sessions[session] = binding
            self._sessions.move_to_end(session)
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return binding

    def _live(self, session: str) -> Binding | None:
        held = self._sessions.get(session)
        return held if held is not None and held.expires_at > time.time() else None

    def _signature(self, body: str) -> str:
        return _encode(hmac.new(self._key, f"{_PREFIX}.{body}".encode("utf-8", "replace"), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
