"""Where webhooks may go."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.destination import NEVER, PRIVATE, refusal, url_fault

ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))
TEN = (ip_network("10.0.0.0/8"), ip_network("fd12::/16"), ip_network("127.0.0.0/8"))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "2a00:1450:4001:82a::200e%eth0"]
)
def test_public_addresses_are_open_to_tls_alone(address: str) -> None:
    """TLS goes anywhere public; without it, nowhere that is not allowed."""
    assert refusal(address, (), secure=True) is None
    assert refusal(address, (), secure=False) is not None
    assert refusal(address, ALL, secure=False) is None


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "127.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
        "240.0.0.1",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "192.88.99.1",
        "3fff::1",
    ],
)
def test_private_addresses_need_to_be_allowed(address: str) -> None:
    """Nothing private is dialled unless its range is allowed; then it is, with TLS or without."""
    assert refusal(address, (), secure=True) is not None
    assert [refusal(address, ALL, secure=secure) for secure in (True, False)] == [None, None]


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "::127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378::",
        "5f00::1",
        "100::1",
        "fd20:ce::254",
        "fec0::1",
        "::ffff:0:127.0.0.1",
        "not an address",
        "",
        "/run/x.sock",
        "0x7f.1",
        "127.1",
    ],
)
def test_some_addresses_are_never_dialled(address: str) -> None:
    """Link-local, metadata, multicast and tunnelled addresses are refused though everything is allowed."""
    assert refusal(address, ALL, secure=True) is not None


def test_a_range_allows_no_other() -> None:
    """Allowing one private range opens that one."""
    assert refusal("10.9.8.7", TEN, secure=False) is None
    assert refusal("::ffff:10.9.8.7", TEN, secure=False) is None
    assert refusal("fd12::5", TEN, secure=False) is None
    assert refusal("192.168.0.1", TEN, secure=True) is not None
    assert refusal("8.8.8.8", TEN, secure=False) is not None


@given(st.ip_addresses())
def test_what_is_refused_stays_refused_in_every_spelling(address: object) -> None:
    """An address is judged by what it is: mapped into IPv6 it fares no better; and what is never dialled never is."""
    ip = ip_address(str(address))
    if ip.version == 4:
        assert refusal(f"::ffff:{ip}", (), secure=True) == refusal(str(ip), (), secure=True)
    if any(ip in network for network in (*NEVER, *PRIVATE) if network.version == ip.version):
        assert refusal(str(ip), (), secure=True) is not None


@pytest.mark.parametrize(
    "url", ["https://crm.example/hook", "http://10.0.0.1:8080/h?x=1", "https://[2606:4700::1111]/"]
)
def test_usable_urls(url: str) -> None:
    """Both schemes, with a host, are endpoints."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "crm.example",
        "ftp://crm.example/",
        "https:///x",
        "https://user:pw@crm.example/",
        "https://user@crm.example/",
        "https://[::1",
        "file:///etc/passwd",
        "https://crm.example:0/",
    ],
)
def test_unusable_urls(url: str) -> None:
    """Other schemes, no host, user information and what is no URL are refused before anything is dialled."""
    assert url_fault(url) is not None
