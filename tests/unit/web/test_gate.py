"""Whose address a request has (SPEC: AUTH-11)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_memory.web.gate import client_address

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"), ipaddress.ip_network("127.0.0.1"))


def address(
    peer: str | None, forwarded: str = "", proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = PROXIES
) -> str:
    scope = {"type": "http", "client": (peer, 50_000) if peer is not None else None}
    return client_address(scope, {b"x-forwarded-for": forwarded.encode("latin-1")} if forwarded else {}, proxies)


@pytest.mark.spec("AUTH-11")
@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("203.0.113.7", "10.0.0.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:443", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8::1", "2a00::7", "2a00::7"),
        ("2001:db8::1", "[2a00::7]", "2001:db8::1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", "198.51.100.1"),
        (None, "198.51.100.1", "198.51.100.1"),
        (None, "", ""),
        ("unknown", "198.51.100.1", "unknown"),
    ],
)
def test_the_nearest_hop_that_is_not_trusted_counts(peer: str | None, forwarded: str, expected: str) -> None:
    assert address(peer, forwarded) == expected


@pytest.mark.spec("AUTH-11")
def test_without_trusted_proxies_the_header_never_counts() -> None:
    for peer in ("127.0.0.1", "::1", "10.0.0.1", "203.0.113.7"):
        assert address(peer, "198.51.100.1", ()) == peer


@pytest.mark.spec("AUTH-11")
@pytest.mark.parametrize("hop", ["fe80::1%eth0", "fe80::1%25x y", "fe80::1%" + "a" * 5_000])
def test_an_address_with_a_scope_is_no_address_of_a_client(hop: str) -> None:
    assert address("10.0.0.1", hop) == "10.0.0.1"


@pytest.mark.spec("AUTH-11")
def test_an_ipv4_proxy_is_trusted_on_a_dual_stack_socket() -> None:
    assert address("::ffff:10.0.0.1", "198.51.100.1") == "198.51.100.1"


@pytest.mark.spec("AUTH-11")
@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_whatever_the_header_says_the_answer_is_an_address_or_the_peer(forwarded: str) -> None:
    found = address("10.0.0.1", forwarded)

    assert found == "10.0.0.1" or ipaddress.ip_address(found)


CLIENTS = st.ip_addresses().filter(
    lambda a: not getattr(a, "ipv4_mapped", None) and not any(a in network for network in PROXIES)
)


@pytest.mark.spec("AUTH-11")
@given(st.lists(st.ip_addresses().map(str)), CLIENTS)
def test_nothing_that_a_client_sends_hides_its_address_from_a_proxy_that_appends(
    forged: list[str], client: object
) -> None:
    """A proxy appends the peer it sees; what stands before that is the client's own story."""
    assert address("10.0.0.1", ", ".join([*forged, str(client)])) == str(client)
