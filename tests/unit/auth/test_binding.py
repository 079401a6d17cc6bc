"""Bindings: signed, of one token, for a while (SPEC: BIND-1, BIND-5)."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.auth.binding import Binding, Bindings
from federated_memory.errors import NotBound

KEY = b"k" * 32
FINGERPRINT = "f" * 32


@pytest.fixture
def bindings() -> Bindings:
    return Bindings(KEY, days=30)


def signed(body: bytes) -> str:
    """What only who has the key can make."""
    encoded = base64.urlsafe_b64encode(body).decode().rstrip("=")
    signature = hmac.new(KEY, f"fmb1.{encoded}".encode(), hashlib.sha256).digest()
    return f"fmb1.{encoded}." + base64.urlsafe_b64encode(signature).decode().rstrip("=")


@pytest.mark.spec("BIND-1")
def test_a_binding_names_its_workspace_and_a_nonce_of_its_own(bindings: Bindings) -> None:
    one, two = (bindings.parse(bindings.issue("home", FINGERPRINT), FINGERPRINT) for _ in range(2))

    assert (one.workspace_id, one.fingerprint) == ("home", FINGERPRINT)
    assert one.nonce != two.nonce


@pytest.mark.spec("BIND-5")
@given(
    st.text() | st.text(alphabet=st.characters(categories=["Cs", "Ll"])) | st.text().map(lambda text: "fmb1." + text)
)
def test_no_text_is_a_binding_but_those_that_were_given(text: str) -> None:
    with pytest.raises(NotBound):
        Bindings(KEY, days=30).parse(text, FINGERPRINT)


@pytest.mark.spec("BIND-5")
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b"1", b'["home"]', b'["home", "f", "n"]', b'["home", "f", "n", 1, 2]', b"\xff"]
)
def test_a_signed_body_of_another_form_is_refused(bindings: Bindings, body: bytes) -> None:
    with pytest.raises(NotBound):
        bindings.parse(signed(body), FINGERPRINT)


@pytest.mark.spec("BIND-5")
@pytest.mark.parametrize(
    ("key", "fingerprint"), [(b"another", FINGERPRINT), (KEY, "0" * 32), (KEY, ""), (KEY, FINGERPRINT[:-1])]
)
def test_another_key_or_token_is_refused(key: bytes, fingerprint: str) -> None:
    binding = Bindings(KEY, days=30).issue("home", FINGERPRINT)

    with pytest.raises(NotBound):
        Bindings(key, days=30).parse(binding, fingerprint)


@pytest.mark.spec("BIND-1")
def test_sessions_that_were_not_used_for_long_are_forgotten_first(
    bindings: Bindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federated_memory.auth.binding._MAX_SESSIONS", 3)
    held = Binding("home", FINGERPRINT, "n", 2**40)

    for session in "abcad":
        bindings.keep_for_session(session, held)

    assert [session for session in "abcd" if bindings.of_session(session)] == ["a", "c", "d"]
    assert bindings.of_session(None) is None
    assert bindings.of_session("") is None
