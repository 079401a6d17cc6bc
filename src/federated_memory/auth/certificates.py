"""Certificates that another machine is told to trust: fingerprint, key pin, and what a server presents.

Only the one field that a pin is made of is read from the DER form (RFC 5280, section 4.1); verification is OpenSSL's.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from federated_memory.errors import InvalidArgument

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MAX_FILE_BYTES = 1024**2
_TIMEOUT_SECONDS = 5.0
_SEQUENCE, _VERSION = 0x30, 0xA0
_FIELDS_BEFORE_KEY = 5
"""Serial number, signature, issuer, validity, subject."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain that a proxy serves: the server's own certificate (DER) and the last one (PEM)."""

    leaf: bytes
    last_pem: str


def read_chain(path: Path) -> Chain:
    """Raises: InvalidArgument: the file cannot be read, or holds no certificate."""
    try:
        with path.open("rb") as file:
            found = _PEM.findall(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise InvalidArgument(
            f"MEMORY_TLS_CERTIFICATE cannot be read ({error.strerror})", hint="Let the server's user read that file"
        ) from error
    try:
        pems = [pem.decode("ascii") for pem in found]
        leaf = ssl.PEM_cert_to_DER_cert(pems[0])
        public_key_of(leaf)
    except (IndexError, ValueError):
        raise InvalidArgument(
            "MEMORY_TLS_CERTIFICATE holds no certificate", hint="Name the PEM file that the proxy serves"
        ) from None
    return Chain(leaf, pems[-1] + "\n")


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the DER form, 64 hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()


def key_pin(certificate: bytes) -> str:
    """`sha256//…`, as curl's `--pinnedpubkey` takes it: of the certificate's SubjectPublicKeyInfo.

    Raises:
        ValueError: Not the DER form of a certificate.
    """
    return "sha256//" + base64.b64encode(hashlib.sha256(public_key_of(certificate)).digest()).decode()


def public_key_of(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo, DER. Raises: ValueError: not the DER form of a certificate."""
    _, start, _ = _element(certificate, 0, _SEQUENCE)
    _, at, end = _element(certificate, start, _SEQUENCE)
    tag, _, after = _element(certificate, at)
    if tag == _VERSION:  # absent in the certificates of version 1
        at = after
    for _ in range(_FIELDS_BEFORE_KEY):
        at = _element(certificate, at)[2]
    _, _, after = _element(certificate, at, _SEQUENCE)
    if after > end:
        raise ValueError("not a certificate")
    return certificate[at:after]


def _element(data: bytes, at: int, expected: int | None = None) -> tuple[int, int, int]:
    """Tag, start of the content, and end of the DER element at `at`."""
    if at + 2 > len(data):
        raise ValueError("not a certificate")
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise ValueError("not a certificate")
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    if start + length > len(data) or (expected is not None and tag != expected):
        raise ValueError("not a certificate")
    return tag, start, start + length


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server presents (DER), and whether this machine trusts it anyway."""

    certificate: bytes
    is_trusted: bool


def presented_by(origin: str) -> Presented:
    """The certificate of an `https://` origin. Nothing is sent to it.

    Raises:
        OSError: It does not answer, or speaks no TLS.
    """
    parts = urlsplit(origin)
    address = (parts.hostname or "", parts.port or 443)
    try:
        return Presented(_handshake(address, ssl.create_default_context()), True)
    except ssl.SSLCertVerificationError:
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        return Presented(_handshake(address, unverified), False)


def _handshake(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(address, _TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secure,
    ):
        return secure.getpeercert(True) or b""
