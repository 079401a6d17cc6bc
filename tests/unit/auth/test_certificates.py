"""Fingerprints and pins, against OpenSSL's own (SPEC: ENROL-7)."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.auth.certificates import fingerprint, key_pin, public_key_of, read_chain
from federated_memory.errors import InvalidArgument

OPENSSL = shutil.which("openssl")
KEYS = {
    "rsa": ["-newkey", "rsa:2048"],
    "p256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "ed25519": ["-newkey", "ed25519"],
}


def openssl(*arguments: str, given_bytes: bytes = b"") -> bytes:
    assert OPENSSL
    return subprocess.run([OPENSSL, *arguments], input=given_bytes, capture_output=True, check=True).stdout


@pytest.fixture(scope="module", params=KEYS)
def certificate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    openssl(
        "req", "-x509", *KEYS[request.param], "-nodes", "-days", "2", "-subj", "/CN=memory.test",
        "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.mark.spec("ENROL-7")
def test_fingerprint_and_pin_are_those_of_openssl(certificate: Path) -> None:
    leaf = read_chain(certificate).leaf
    public = openssl("x509", "-in", str(certificate), "-noout", "-pubkey")
    der = openssl("pkey", "-pubin", "-outform", "DER", given_bytes=public)
    told = openssl("x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256").decode()

    assert fingerprint(leaf) == told.strip().rpartition("=")[2].replace(":", "").lower()
    assert public_key_of(leaf) == der
    assert key_pin(leaf) == "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.mark.spec("ENROL-7")
def test_of_a_chain_the_first_is_the_servers_and_the_last_the_authoritys(certificate: Path, tmp_path: Path) -> None:
    mine = certificate.read_text()
    openssl(
        "req", "-x509", *KEYS["p256"], "-nodes", "-days", "2", "-subj", "/CN=authority",
        "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "ca.pem"),
    )  # fmt: skip
    chain = tmp_path / "chain.pem"
    chain.write_text("# a comment\n" + mine + (tmp_path / "ca.pem").read_text())

    found = read_chain(chain)

    assert found.leaf == ssl.PEM_cert_to_DER_cert(mine)
    assert found.last_pem.strip() == (tmp_path / "ca.pem").read_text().strip()


@pytest.mark.spec("ENROL-7")
@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pem").write_text(text)

    with pytest.raises(InvalidArgument, match="holds no certificate"):
        read_chain(tmp_path / "x.pem")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_chain(tmp_path / "missing.pem")


@pytest.mark.spec("ENROL-7")
@given(st.binary(max_size=80))
def test_bytes_that_are_no_certificate_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        public_key_of(data)


@pytest.mark.spec("ENROL-7")
def test_every_truncated_certificate_is_a_value_error(certificate: Path) -> None:
    whole = read_chain(certificate).leaf

    for length in range(len(whole)):
        with pytest.raises(ValueError, match="not a certificate"):
            public_key_of(whole[:length])
